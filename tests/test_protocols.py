"""Protocols: the right rows against each other, gaps against scikit-learn, and what is asked of whom."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from unmasked.datasets.errors import InputError
from unmasked.evaluation.collection import Scored, Training
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.protocols import Protocol, by_condition, check_names, load_protocols, run_protocols
from unmasked.evaluation.thresholds import Threshold

METHODS = ("Deepfakes", "FaceSwap")


def table(seed: int, dataset: str, effect: float, videos: int = 80, **columns) -> pd.DataFrame:
    """Two frames a video; reals and two methods; each identity has reals and fakes."""
    rng = np.random.default_rng(seed)
    number = np.arange(videos)
    label = number % 2
    logit = effect * label + rng.normal(0, 1, videos)
    rows = pd.DataFrame(
        {
            "dataset": dataset,
            "video": [f"v{index:03d}" for index in number],
            "label": label,
            "method": np.where(label == 0, "real", np.where(number % 4 == 1, *METHODS)),
            "identity": [f"p{index // 4}" for index in number],
            "score": 1 / (1 + np.exp(-logit)),
        }
    )
    rows = rows.loc[rows.index.repeat(2)].reset_index(drop=True)
    return rows.assign(score=np.clip(rows["score"] + rng.normal(0, 0.01, len(rows)), 0, 1), **columns)


def scored(predictions: pd.DataFrame, name: str = "ucf", **training) -> Scored:
    return Scored(name, name, predictions, (f"{name}.csv",), Training(**training))


def auc_of(rows: pd.DataFrame) -> float:
    videos = rows.groupby(["dataset", "video"]).agg({"label": "first", "score": "mean"})
    return roc_auc_score(videos["label"], videos["score"])


def asked(kind: str, *detectors: Scored, **options):
    return run_protocols(detectors, [Protocol(protocol=kind, **options)], n_boot=200)


@pytest.fixture(scope="module")
def both() -> pd.DataFrame:
    return pd.concat([table(0, "A", 2.5), table(1, "B", 0.5)], ignore_index=True)


def test_every_detector_is_tested_on_every_dataset_and_its_own_is_the_reference(both):
    detectors = [scored(both, name, datasets=(name,)) for name in "AB"] + [scored(both, "none")]
    rows = asked("cross_dataset", *detectors)
    assert [(row["detector"], row["train"], row["test"]) for row in rows] == [
        *(("A", "A", "A"), ("A", "A", "B"), ("B", "B", "B"), ("B", "B", "A")),
        *(("none", "not stated", "A"), ("none", "not stated", "B")),
    ]
    assert [row["is_reference"] for row in rows] == [True, False, True, False, False, False]
    on = {name: auc_of(both[both["dataset"] == name]) for name in "AB"}
    for row in rows:
        assert row["auc"] == pytest.approx(on[row["test"]], abs=1e-12)
        assert row["auc_ci"][0] <= row["auc"] <= row["auc_ci"][1]
        assert (row["real_videos"], row["fake_videos"]) == (40, 40)
    assert rows[1]["gap"] == pytest.approx(on["A"] - on["B"])
    assert 0 < rows[1]["gap_ci"][0] < rows[1]["gap"] < rows[1]["gap_ci"][1]
    assert rows[3]["gap"] == pytest.approx(-rows[1]["gap"])
    assert np.isnan([rows[4]["gap"], *rows[4]["gap_ci"]]).all()


def test_the_matrix_and_the_protocol_give_the_same_numbers(both):
    detector = scored(both, datasets=("A",))
    point = Threshold(0.6, "given")
    rows = run_protocols(
        [detector], [Protocol(protocol="cross_dataset")], thresholds={"ucf": point}, n_boot=200
    )
    results = evaluate(both, source="A", threshold=point, n_boot=200)
    for row, cell in zip(rows, results["matrix"], strict=True):
        video = results["datasets"][row["test"]]["video"]
        assert (row["test"], row["auc"], row["auc_ci"]) == (cell["test"], cell["auc"], cell["ci"])
        assert (row["gap"], row["gap_ci"]) == (cell["gap_to_source"], cell["gap_ci"])
        assert (row["fpr"], row["tpr"]) == (video["fpr"], video["tpr"])
        assert (row["fpr_ci"], row["tpr_ci"]) == (video["fpr_ci"], video["tpr_ci"])
        assert row["threshold"]["rule"] == "given"


def test_a_method_that_was_left_out_stands_against_those_trained_on(both):
    rows_of_a = both[both["dataset"] == "A"]
    for training in ({"held_out": ("FaceSwap",)}, {"methods": ("Deepfakes",)}):
        seen, unseen = asked("leave_one_method_out", scored(both, datasets=("A",), **training))
        assert seen["is_reference"]
        assert seen["train"] == unseen["train"] == "A without FaceSwap"
        assert (seen["test"], unseen["test"]) == ("A: methods trained on", "A: FaceSwap")
        expected = [auc_of(rows_of_a[rows_of_a["method"] != other]) for other in ("FaceSwap", "Deepfakes")]
        assert [seen["auc"], unseen["auc"]] == pytest.approx(expected, abs=1e-12)
        assert unseen["gap"] == pytest.approx(expected[0] - expected[1], abs=1e-12)
        assert unseen["paired"]  # the reals are the same
        assert unseen["fake_videos"] == 20


def test_images_of_a_generator_are_a_method_that_was_left_out(both):
    """A set of fakes alone stands against the reals of the source; its "v001" is not the source's."""
    a = both[both["dataset"] == "A"]
    made = table(3, "made", 0.2)
    made = made[made["label"] == 1].assign(method="StyleGAN2-ADA")
    detector = scored(pd.concat([both, made]), datasets=("A",), methods=METHODS)
    seen, unseen = asked("leave_one_method_out", detector)
    assert seen["is_reference"]
    assert (seen["train"], unseen["test"]) == ("A without StyleGAN2-ADA", "made: StyleGAN2-ADA")
    expected = auc_of(a), auc_of(pd.concat([a[a["label"] == 0], made]))
    assert (seen["auc"], unseen["auc"]) == pytest.approx(expected, abs=1e-12)
    assert unseen["gap"] == pytest.approx(expected[0] - expected[1], abs=1e-12)
    assert unseen["paired"]
    assert (unseen["real_videos"], unseen["fake_videos"]) == (40, 40)
    known = scored(pd.concat([a, made]), datasets=("A",), methods=(*METHODS, "StyleGAN2-ADA"))
    assert asked("leave_one_method_out", known) == []


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"datasets": ("A",)},
        {"datasets": ("A",), "methods": METHODS},
        {"datasets": ("Z",), "held_out": ("x",)},
    ],
)
def test_nothing_is_said_of_a_left_out_method_where_none_is_known(both, training):
    assert asked("leave_one_method_out", scored(both, **training)) == []


def test_compressions_are_compared_on_the_videos_that_have_both():
    clean = table(0, "A", 2.0, compression="c23")
    clean["video"] = "manipulated/c23/videos/" + clean["video"]
    rng = np.random.default_rng(5)
    hard = clean.assign(
        compression="c40",
        video=clean["video"].str.replace("c23", "c40"),
        score=np.clip(clean["score"] * 0.5 + rng.uniform(0, 0.5, len(clean)), 0, 1),
    )
    fewer = hard[~hard["video"].str.endswith(("v000", "v001"))]
    detector = scored(pd.concat([clean, fewer], ignore_index=True), datasets=("A",), compression=("c23",))
    before, after = asked("compression_shift", detector)
    kept = clean[~clean["video"].str.endswith(("v000", "v001"))]
    assert (before["test"], after["test"]) == ("A (c23)", "A (c40)")
    assert before["auc"] == pytest.approx(auc_of(kept), abs=1e-12)
    assert after["auc"] == pytest.approx(auc_of(fewer), abs=1e-12)
    assert after["gap"] == pytest.approx(auc_of(kept) - auc_of(fewer), abs=1e-12)
    assert after["paired"]
    assert before["real_videos"] == after["real_videos"] == 39
    # and the other protocols take them for two conditions, the one trained on first
    rows = asked("cross_dataset", detector)
    assert [(row["train"], row["test"]) for row in rows] == [("A (c23)", "A (c23)"), ("A (c23)", "A (c40)")]
    assert rows[0]["is_reference"]


def test_the_same_scores_at_both_compressions_have_no_gap():
    clean = table(0, "A", 1.5, compression="c23")
    same = pd.concat([clean, clean.assign(compression="c40")], ignore_index=True)
    _, after = asked("compression_shift", scored(same))
    assert (after["gap"], after["gap_ci"]) == (0.0, [0.0, 0.0])


def test_methods_are_tested_one_by_one_against_all_reals(both):
    rows = asked("by_method", scored(both, datasets=("A",)))
    assert [row["test"] for row in rows] == [f"{name}: {method}" for name in "AB" for method in METHODS]
    for row in rows:
        name, method = row["test"].split(": ")
        whole = both[both["dataset"] == name]
        one = whole[(whole["label"] == 0) | (whole["method"] == method)]
        assert row["auc"] == pytest.approx(auc_of(one), abs=1e-12)
        assert row["gap"] == pytest.approx(auc_of(whole) - auc_of(one), abs=1e-12)
        assert row["gap_ci"][0] <= row["gap"] <= row["gap_ci"][1]


def test_pairing_makes_the_interval_of_a_gap_narrower_than_independence_would(both):
    row = asked("by_method", scored(both), test=("A",))[0]
    whole, one = (row["auc_ci"][1] - row["auc_ci"][0]), row["gap_ci"][1] - row["gap_ci"][0]
    assert one < whole


def test_a_protocol_may_be_kept_to_datasets_methods_and_frames(both):
    detectors = [scored(both, name, datasets=(name,)) for name in "AB"]
    (row,) = asked(
        "cross_dataset", *detectors, train=("A",), test=("B",), level="frame", methods=("FaceSwap",)
    )
    rows = both[(both["dataset"] == "B") & both["method"].isin(["real", "FaceSwap"])]
    assert row["auc"] == pytest.approx(roc_auc_score(rows["label"], rows["score"]), abs=1e-12)
    assert (row["detector"], row["level"], row["fake_videos"]) == ("A", "frame", 20)


def test_only_test_rows_count_and_one_class_is_no_test(both):
    val = both.assign(split="val", video="val/" + both["video"], score=0.5)
    one_class = table(3, "C", 1.0)
    rows = pd.concat(
        [both.assign(split="test"), val, one_class[one_class["label"] == 1].assign(split="test")],
        ignore_index=True,
    )
    found = asked("cross_dataset", scored(rows, datasets=("A",)))
    assert [row["test"] for row in found] == ["A", "B"]
    assert found[0]["auc"] == pytest.approx(auc_of(both[both["dataset"] == "A"]), abs=1e-12)


def test_without_a_threshold_there_are_no_rates(both):
    row = asked("cross_dataset", scored(both))[0]
    assert row["threshold"] is None
    assert np.isnan([row["fpr"], row["tpr"], *row["fpr_ci"], *row["tpr_ci"]]).all()


def test_rows_without_a_compression_are_a_condition_of_their_own():
    rows = pd.concat([table(0, "A", 1.0, compression=level) for level in ("c23", "c40", None)])
    assert list(by_condition(rows)) == ["A (c23)", "A (c40)", "A (compression not stated)"]
    assert list(by_condition(rows[rows["compression"] == "c23"])) == ["A"]
    assert list(by_condition(rows[rows["compression"] == "c23"], always=True)) == ["A (c23)"]


def test_the_shipped_protocols_are_the_four_in_order():
    kinds = ["cross_dataset", "leave_one_method_out", "compression_shift", "by_method"]
    assert [protocol.protocol for protocol in load_protocols(["all"])] == kinds
    assert [protocol.protocol for protocol in load_protocols(["protocols/by_method"])] == ["by_method"]
    assert load_protocols([]) == []


def test_a_protocol_of_ones_own_is_read_and_a_wrong_one_refused(tmp_path, both):
    path = tmp_path / "mine.yaml"
    path.write_text("protocol: cross_dataset\ntest: [B]\n")
    (mine,) = load_protocols([path])
    assert mine.test == ("B",)
    check_names([mine], [scored(both)])
    path.write_text("protocol: cross_dataset\ntest: [Celeb]\n")
    with pytest.raises(InputError, match="names the test dataset 'Celeb'; the predictions have A, B"):
        check_names(load_protocols([path]), [scored(both)])
    for text, said in (
        ("protocol: cross\n", "protocol: Input should be 'cross_dataset'"),
        ("protocol: by_method\nfoo: 1\n", "foo: Extra inputs"),
        ("[", "cannot be read|not valid YAML"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            load_protocols([path])
    with pytest.raises(InputError, match=r"protocols/by_metod does not exist \(is 'by_method' meant\?\)"):
        load_protocols(["by_metod"])
