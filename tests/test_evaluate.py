"""The layout of metrics.json, its numbers against scikit-learn, the matrix, thresholds and curves."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as oracle

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.evaluation import evaluate as module
from unmasked.evaluation.curves import curves, score_histogram
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.fitted import fit_on_source
from unmasked.evaluation.levels import clusters_of
from unmasked.evaluation.metrics import METRICS
from unmasked.evaluation.tables import matrix_table
from unmasked.evaluation.thresholds import Threshold


def simulated(seed: int, dataset: str, effect: float, videos: int = 60, frames: int = 5, split: str = "test"):
    """Scores of a detector of that strength; two videos an identity, two methods of forgery."""
    rng = np.random.default_rng(seed)
    number = np.arange(videos)
    label = (number // 2) % 2
    shared = rng.normal(0, 0.7, videos) + effect * label - effect / 2
    table = pd.DataFrame(
        {
            "dataset": dataset,
            "video": [f"{split}/{index:03d}" for index in number],
            "label": label,
            "method": np.where(label == 0, "real", np.where(number % 2, "Deepfakes", "FaceSwap")),
            "split": split,
            "identity": [f"{split}-{index // 4}" for index in number],
        }
    )
    table = table.loc[table.index.repeat(frames)].reset_index(drop=True)
    table["frame"] = np.tile(np.arange(frames), videos)
    logit = np.repeat(shared, frames) + rng.normal(0, 0.7, len(table))
    return table.assign(score=1 / (1 + np.exp(-logit)))


@pytest.fixture(scope="module")
def predictions():
    return pd.concat(
        [
            simulated(0, "FF++", 3.0),
            simulated(1, "FF++", 3.0, split="val"),
            simulated(2, "Celeb-DF", 1.0),
            simulated(3, "Wild", 0.0),
        ]
    )


@pytest.fixture(scope="module")
def results(predictions):
    return evaluate(predictions, source="FF++", n_boot=300)


def test_frame_and_video_numbers_equal_scikit_learn(predictions, results):
    for name in ("FF++", "Celeb-DF", "Wild"):
        frames = predictions[(predictions["dataset"] == name) & (predictions["split"] == "test")]
        videos = frames.groupby("video").agg({"label": "first", "score": "mean"})
        for level, rows in (("frame", frames), ("video", videos)):
            found = results["datasets"][name][level]
            assert found["auc"] == pytest.approx(
                oracle.roc_auc_score(rows["label"], rows["score"]), abs=1e-12
            )
            ap = oracle.average_precision_score(rows["label"], rows["score"])
            assert found["ap"] == pytest.approx(ap, abs=1e-12)
            accuracy = oracle.accuracy_score(rows["label"], rows["score"] > 0.5)
            assert found["accuracy"] == pytest.approx(accuracy, abs=1e-12)


def test_every_metric_stands_with_its_interval_around_it(results):
    for block in results["datasets"].values():
        for level in ("frame", "video"):
            for name in METRICS:
                low, high = block[level][f"{name}_ci"]
                assert low <= block[level][name] <= high or name == "ece", (level, name)


def test_sizes_are_counted(results):
    n = {"frames": 300, "videos": 60, "real_videos": 30, "fake_videos": 30, "identities": 15}
    n |= {"clusters": 15, "real_clusters": 15, "fake_clusters": 15, "unit": "identity"}
    assert results["datasets"]["FF++"]["n"] == n


def test_each_method_is_held_against_all_reals(predictions, results):
    rows = predictions[
        (predictions["dataset"] == "Celeb-DF") & predictions["method"].isin(["real", "FaceSwap"])
    ]
    videos = rows.groupby("video").agg({"label": "first", "score": "mean"})
    methods = results["datasets"]["Celeb-DF"]["methods"]
    assert set(methods) == {"Deepfakes", "FaceSwap"}
    expected = oracle.roc_auc_score(videos["label"], videos["score"])
    assert methods["FaceSwap"]["video"]["auc"] == pytest.approx(expected)
    assert methods["FaceSwap"]["n"]["fake_videos"] == 15


def test_validation_rows_are_not_evaluated_and_it_is_said(results):
    assert results["settings"]["rows"] == [
        "rows of the test split are evaluated (900 of 1200)",
        "FF++: its 60 videos of the test split are evaluated; left out: 60 videos (300 rows) of val",
    ]


def test_the_matrix_starts_with_the_source_and_measures_the_gap_from_it(results):
    rows = results["matrix"]
    assert [row["test"] for row in rows] == ["FF++", "Celeb-DF", "Wild"]
    assert {row["train"] for row in rows} == {"FF++"}
    assert (rows[0]["gap_to_source"], rows[0]["gap_ci"]) == (0.0, [0.0, 0.0])
    for row in rows[1:]:
        assert row["gap_to_source"] == pytest.approx(rows[0]["auc"] - row["auc"])
        assert 0 < row["gap_ci"][0] < row["gap_to_source"] < row["gap_ci"][1]
        assert row["paired"] is False
    assert rows[2]["ci"][0] < 0.5 < rows[2]["ci"][1]  # no signal was planted in Wild


def test_a_dataset_has_the_same_interval_whatever_else_is_in_the_table(predictions, results):
    alone = evaluate(predictions[predictions["dataset"] == "Wild"], n_boot=300)
    assert alone["datasets"]["Wild"] == results["datasets"]["Wild"]
    assert np.isnan(alone["matrix"][0]["gap_to_source"])


def test_an_absent_source_leaves_the_gap_unknown_and_is_said(predictions):
    found = evaluate(predictions[predictions["dataset"] == "Wild"], source="FF++", n_boot=0)
    assert np.isnan(found["matrix"][0]["gap_to_source"])
    assert "no row is of the source FF++" in found["settings"]["rows"][-1]


def test_results_survive_json(results, tmp_path):
    write_json(tmp_path / "metrics.json", results)
    read = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert read["datasets"]["Wild"]["video"]["auc"] == results["datasets"]["Wild"]["video"]["auc"]
    assert read["settings"]["threshold"]["value"] == 0.5
    assert read["settings"]["selection_rule"] == "not stated"


def test_a_stored_threshold_moves_accuracy_and_shows_both(predictions):
    threshold = fit_on_source(predictions, ("fpr:0.10",)).threshold
    assert threshold.fitted_on == "FF++, val split"
    found = evaluate(
        predictions, threshold=threshold, thresholds={"half": Threshold(0.5, "given")}, n_boot=50
    )
    video = found["datasets"]["Celeb-DF"]["video"]
    rows = (
        predictions[predictions["dataset"] == "Celeb-DF"]
        .groupby("video")
        .agg({"label": "first", "score": "mean"})
    )
    expected = oracle.accuracy_score(rows["label"], rows["score"] > threshold.value)
    assert video["accuracy"] == video["at_threshold"]["accuracy"] == pytest.approx(expected)
    assert (video["at_threshold"]["rule"], video["at_threshold"]["value"]) == ("fpr:0.10", threshold.value)
    assert video["fpr_ci"] == video["at_threshold"]["fpr_ci"]
    expected = oracle.accuracy_score(rows["label"], rows["score"] > 0.5)
    assert (
        video["at_half"]["accuracy"] == video["at_thresholds"]["half"]["accuracy"] == pytest.approx(expected)
    )
    assert found["settings"]["threshold"]["fitted_on"] == "FF++, val split"


def test_a_bare_number_is_a_threshold(predictions):
    found = evaluate(predictions, threshold=0.3, n_boot=0)
    assert found["datasets"]["Wild"]["video"]["at_threshold"]["rule"] == "given"
    with pytest.raises(InputError, match="between 0 and 1"):
        evaluate(predictions, threshold=3, n_boot=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dataset": "Wild"}, "split, which FF\\+\\+ has; dataset 'Wild'"),
        ({"split": "dev"}, "no dataset has"),
    ],
)
def test_a_threshold_without_calibration_rows_is_refused(predictions, options, said):
    with pytest.raises(InputError, match=said):
        fit_on_source(predictions, **options)


def test_one_class_in_one_dataset_is_undefined_with_a_reason(predictions):
    fakes = predictions[(predictions["dataset"] != "Wild") | (predictions["label"] == 1)]
    block = evaluate(fakes, n_boot=50)["datasets"]["Wild"]
    assert np.isnan(block["video"]["auc"])
    assert not np.isnan(block["video"]["tpr"])
    assert block["reason"] == "holds only fakes; AUC, AP and EER need reals as well"


def test_a_dataset_with_one_real_video_has_numbers_but_no_intervals(predictions):
    wild = predictions[predictions["dataset"] == "Wild"]
    first_real = wild.loc[wild["label"] == 0, "video"].iloc[0]
    block = evaluate(wild[(wild["label"] == 1) | (wild["video"] == first_real)], n_boot=50)["datasets"][
        "Wild"
    ]
    assert not np.isnan(block["video"]["auc"])
    assert np.isnan(block["video"]["auc_ci"]).all()
    assert "an interval needs two of each" in block["reason"]


@pytest.mark.parametrize(("label", "rate"), [(0, "fpr"), (1, "tpr")])
def test_a_table_of_one_class_has_the_rate_of_that_class_and_no_auc(predictions, label, rate):
    """A set of reals alone is what false alarms are measured on; it was refused."""
    rows = predictions[predictions["label"] == label]
    found = evaluate(rows, n_boot=50)
    for name, of_dataset in rows.groupby("dataset"):
        video = found["datasets"][name]["video"]
        scores = of_dataset.groupby("video")["score"].mean()
        assert video[rate] == pytest.approx((scores > 0.5).mean())
        assert not np.isnan(video[f"{rate}_ci"]).any()
        assert np.isnan([video["auc"], video[("tpr", "fpr")[label]]]).all()
    assert any(note.startswith(f"only {('reals', 'fakes')[label]}") for note in found["settings"]["rows"])


def test_datasets_of_one_class_each_are_refused(predictions):
    apart = predictions[(predictions["dataset"] == "Wild") == (predictions["label"] == 1)]
    with pytest.raises(InputError, match="within a dataset; it has Celeb-DF, FF\\+\\+, Wild"):
        evaluate(apart)


def test_scores_of_two_detectors_are_refused(predictions):
    both = pd.concat([predictions.assign(detector=name) for name in ("ucf", "xception")])
    with pytest.raises(InputError, match="2 detectors \\(ucf, xception\\); evaluate one at a time"):
        evaluate(both)


def test_an_outsiders_four_columns_are_enough():
    table = simulated(5, "D", 2.0)[["dataset", "video", "label", "score"]]
    found = evaluate(table, n_boot=50)
    block = found["datasets"]["D"]
    assert block["n"]["identities"] is None
    assert (block["n"]["clusters"], block["n"]["unit"]) == (60, "video")
    assert block["methods"] == {}
    assert found["settings"]["detector"] == "not stated"


def test_what_is_resampled_is_the_identity_where_known_else_the_video():
    rows = pd.DataFrame({"video": ["a", "b", "c", "c"], "identity": ["x", "x", None, None]})
    assert clusters_of(rows).tolist() == [0, 0, 3, 3]


def test_the_numbers_of_the_bench_stand_apart(predictions, results):
    frames = predictions[predictions["dataset"] == "Wild"]
    bench = results["datasets"]["Wild"]["bench"]
    assert bench["auc"] == pytest.approx(oracle.roc_auc_score(frames["label"], frames["score"]))
    assert set(bench) == {"acc", "auc", "eer", "ap", "video_auc"}


def test_the_table_in_words_has_a_row_a_dataset_and_says_what_it_rests_on(results):
    lines = matrix_table(results).body().splitlines()
    assert lines[2].startswith("| FF++ | FF++ | 30 + 30 | ")
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert "Checkpoint selection: not stated" in lines[-1]
    assert "score > 0.5" in lines[-1]


def test_missing_numbers_are_shown_as_not_enough_data(predictions):
    found = evaluate(predictions[predictions["dataset"] == "Wild"], n_boot=0)
    assert "not enough data" in matrix_table(found).body()


def test_curves_keep_their_area_when_thinned(predictions, results):
    block = results["datasets"]["Celeb-DF"]["frame"]
    found = curves(predictions)["Celeb-DF"]["frame"]
    fpr, tpr = np.array(found["roc"]["fpr"]), np.array(found["roc"]["tpr"])
    assert len(fpr) <= 200
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert oracle.auc(fpr, tpr) == pytest.approx(block["auc"], abs=0.005)
    assert found["n"] == {"real": 150, "fake": 150}
    assert found["pr"]["recall"][-1] == 1.0
    assert found["pr"]["precision"][-1] == 0.5


def test_short_curves_are_whole(predictions):
    rows = (
        predictions[predictions["dataset"] == "Wild"]
        .groupby("video")
        .agg({"label": "first", "score": "mean"})
    )
    fpr, tpr, _ = oracle.roc_curve(rows["label"], rows["score"], drop_intermediate=False)
    found = curves(predictions)["Wild"]["video"]["roc"]
    assert found["fpr"] == pytest.approx(fpr)
    assert found["tpr"] == pytest.approx(tpr)


def test_a_dataset_of_one_class_has_no_curve(predictions):
    found = curves(predictions[predictions["label"] == 1])["Wild"]["video"]
    assert found["roc"]["fpr"] == found["pr"]["recall"] == []


def test_histograms_count_every_video_once(predictions):
    found = score_histogram(predictions)["FF++"]
    assert sum(found["real"]) == sum(found["fake"]) == 30
    assert len(found["edges"]) == len(found["real"]) + 1 == 21


def test_a_source_of_one_class_gives_no_gap(predictions):
    only = predictions[(predictions["dataset"] != "FF++") | (predictions["label"] == 1)]
    found = evaluate(only, source="FF++", n_boot=20)
    assert all(np.isnan(row["gap_to_source"]) for row in found["matrix"])
    assert module.NOT_STATED not in {row["train"] for row in found["matrix"]}
