"""Two runs: paired differences against scikit-learn, what is unlike, and what cannot be compared."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.compare import compare, read_run, reading
from unmasked.evaluation.evaluate import evaluate

VIDEOS = 120


def predictions(effect: float, seed: int = 0, dataset: str = "A", **columns) -> pd.DataFrame:
    """Videos are equally hard for every detector; detectors differ in the effect and a little noise."""
    label = np.arange(VIDEOS) % 2
    hard = np.random.default_rng(99).normal(0, 1, VIDEOS)
    logit = effect * label + hard + np.random.default_rng(seed).normal(0, 0.2, VIDEOS)
    names = [f"v{number:03d}" for number in range(VIDEOS)]
    rows = pd.DataFrame(
        {"dataset": dataset, "video": names, "label": label, "score": 1 / (1 + np.exp(-logit))}
    )
    return rows.assign(**columns)


def run_folder(folder, table, *, seed=0, threshold=None, weights="abc", recipe="r1"):
    """A run's folder as training, prediction and evaluation leave it."""
    folder.mkdir(parents=True)
    write_frame(table.assign(detector="UCF", checkpoint=weights), folder / "predictions.parquet")
    card = {
        "architecture": "ucf",
        "sha256": weights,
        "preprocessing": {"size_px": 256},
        "training_data": {"datasets": ["A"], "recipe": [recipe]},
        "selection": {"rule": "source validation"},
        "config": {"seed": seed, "model": {"width": 1.0}},
        "versions": {"torch": "2.15.0"},
    }
    (folder / "detector.json").write_text(json.dumps(card))
    (folder / "config.yaml").write_text(f"seed: {seed}\nmodel:\n  width: 1.0\n")
    (folder / "environment.json").write_text(json.dumps({"python": "3.11.7", "packages": {"numpy": "2.0"}}))
    if threshold is not None:
        (folder / "thresholds.json").write_text(
            json.dumps({"threshold": {"value": threshold, "rule": "eer"}})
        )
    return folder


@pytest.fixture
def files(tmp_path):
    def write(table, name):
        write_frame(table, tmp_path / name)
        return read_run(tmp_path / name)

    return write


def test_differences_are_those_of_scikit_learn_and_their_intervals_know_the_pairs(files):
    better, worse = predictions(2.0, 1), predictions(1.2, 2)
    found = compare(files(better, "a.csv"), files(worse, "b.csv"), n_boot=500)["datasets"]["A"]
    auc = found["metrics"]["auc"]
    expected = [roc_auc_score(rows["label"], rows["score"]) for rows in (better, worse)]
    assert [auc["a"], auc["b"]] == pytest.approx(expected, abs=1e-12)
    assert auc["difference"] == pytest.approx(expected[0] - expected[1], abs=1e-12)
    low, high = auc["difference_ci"]
    assert 0 < low < auc["difference"] < high
    # Alone, their intervals overlap: without the pairing nothing could be said.
    assert auc["a_ci"][0] < auc["b_ci"][1]
    assert found["readings"]["auc"] == "a is better"
    assert found["n"]["shared_videos"] == VIDEOS


def test_each_side_has_the_interval_that_evaluate_gives_it(files):
    # Some people are known: resamples of both runs together were drawn in another order.
    identity = [f"p{number // 8}" if number < 60 else None for number in range(VIDEOS)]
    runs = [files(predictions(effect, identity=identity), f"{effect}.csv") for effect in (2.0, 1.0)]
    block = compare(*runs, n_boot=200)["datasets"]["A"]["metrics"]
    for side, one in zip("ab", runs, strict=True):
        expected = evaluate(one.scored.predictions, n_boot=200)["datasets"]["A"]["video"]
        for name in ("auc", "ap", "eer", "fpr", "tpr"):
            assert block[name][side] == expected[name]
            assert block[name][f"{side}_ci"] == expected[f"{name}_ci"]


def test_a_run_compared_with_itself_is_equal(files):
    run = files(predictions(1.0), "a.csv")
    results = compare(run, run, n_boot=100)
    assert set(results["datasets"]["A"]["readings"].values()) == {"equal"}
    assert results["differences"] == []


def test_runs_that_differ_by_chance_are_not_called_different(files):
    found = compare(files(predictions(1.0, 1), "a.csv"), files(predictions(1.0, 2), "b.csv"), n_boot=500)
    assert found["datasets"]["A"]["readings"]["auc"] == f"no difference that {VIDEOS} videos show"


def test_only_videos_of_both_are_compared_and_the_others_are_named(files):
    both = predictions(1.5, 1)
    results = compare(
        files(both.iloc[10:], "a.csv"), files(both.iloc[:-6].assign(team="x"), "b.csv"), n_boot=50
    )
    kept = both.iloc[10:-6]
    auc = results["datasets"]["A"]["metrics"]["auc"]
    assert auc["a"] == pytest.approx(roc_auc_score(kept["label"], kept["score"]), abs=1e-12)
    data = results["data"]["A"]
    assert (data["shared"], data["only_a"], data["only_b"]) == (VIDEOS - 16, 6, 10)
    assert data["videos_only_b"] == [f"v{number:03d}" for number in range(10)]


def test_a_dataset_that_only_one_run_scored_is_named_and_left_out(files):
    a = pd.concat([predictions(1.0), predictions(1.0, dataset="B")])
    results = compare(files(a, "a.csv"), files(predictions(1.0, 3), "b.csv"), n_boot=50)
    assert list(results["datasets"]) == ["A"]
    assert (results["data"]["B"]["only_a"], results["data"]["B"]["shared"]) == (VIDEOS, 0)


def test_each_run_is_read_at_its_own_stored_threshold(tmp_path):
    tables = predictions(1.5, 1), predictions(1.5, 2)
    runs = [
        read_run(run_folder(tmp_path / name, table, threshold=cut))
        for name, table, cut in zip("ab", tables, (0.3, 0.7), strict=True)
    ]
    metrics = compare(*runs, n_boot=50)["datasets"]["A"]["metrics"]
    for side, table, cut in zip("ab", tables, (0.3, 0.7), strict=True):
        real = table[table["label"] == 0]
        assert metrics["fpr"][side] == pytest.approx((real["score"] > cut).mean(), abs=1e-12)
    assert compare(*runs, n_boot=200)["datasets"]["A"]["readings"]["fpr"] == "a is higher"


def test_what_is_unlike_is_listed_and_what_is_alike_counted(tmp_path):
    a = run_folder(tmp_path / "a", predictions(1.5, 1), threshold=0.4)
    b = run_folder(tmp_path / "b", predictions(1.5, 2), threshold=0.5, seed=7, weights="def", recipe="r2")
    results = compare(read_run(a), read_run(b), n_boot=20)
    unlike = {(row["section"], row["key"]): (row["a"], row["b"]) for row in results["differences"]}
    assert unlike == {
        ("weights", "sha256"): ("abc", "def"),
        ("threshold", "value"): ("0.4", "0.5"),
        ("preprocessing", "recipe"): ("r1", "r2"),
        ("config", "seed"): ("0", "7"),
    }
    assert results["equal"] > 5
    assert results["unknown"] == []


def test_what_no_file_says_is_unknown_and_not_equal(tmp_path, files):
    a = read_run(run_folder(tmp_path / "a", predictions(1.5, 1), threshold=0.4))
    results = compare(a, files(predictions(1.5, 2), "b.csv"), n_boot=20)
    (sentence,) = results["unknown"]
    assert sentence == (
        "b (b) has no detector.json of these weights, config.yaml, environment.json, thresholds.json"
    )
    assert {"section": "config", "key": "seed", "a": "0", "b": "–"} in results["differences"]


def test_a_card_of_other_weights_is_not_believed(tmp_path):
    folder = run_folder(tmp_path / "a", predictions(1.0))
    write_frame(predictions(1.0).assign(checkpoint="other"), folder / "predictions.parquet")
    assert read_run(folder).card == {}


def test_compressions_are_compared_apart_also_where_one_run_has_only_one(files):
    both = pd.concat([predictions(1.5, 1, compression="c23"), predictions(0.5, 2, compression="c40")])
    results = compare(files(both, "a.csv"), files(predictions(1.5, 3, compression="c40"), "b.csv"), n_boot=20)
    assert list(results["datasets"]) == ["A (c40)"]
    assert results["data"]["A (c23)"]["only_a"] == VIDEOS


def test_runs_without_a_shared_video_are_refused(files):
    a, b = files(predictions(1.0), "a.csv"), files(predictions(1.0, dataset="B"), "b.csv")
    with pytest.raises(
        InputError, match="no video in common: a scored 120 videos of A, and b 120 videos of B"
    ):
        compare(a, b)


def test_a_video_that_is_real_in_one_run_and_fake_in_the_other_is_refused(files):
    flipped = predictions(1.0)
    flipped["label"] = 1 - flipped["label"]
    with pytest.raises(InputError, match="video 'v000' of A is real in one run and fake in another"):
        compare(files(predictions(1.0), "a.csv"), files(flipped, "b.csv"))


def test_a_folder_of_several_detectors_is_refused(tmp_path):
    for name in "xy":
        write_frame(predictions(1.0, detector=name), tmp_path / f"{name}.csv")
    with pytest.raises(
        InputError, match=r"of 2 detectors: x.csv \(x\), y.csv \(y\); give the folder or the file"
    ):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "difference", "interval", "said"),
    [
        ("auc", 0.1, (0.05, 0.2), "a is better"),
        ("auc", -0.1, (-0.2, -0.05), "b is better"),
        ("eer", 0.1, (0.05, 0.2), "b is better"),
        ("fpr", 0.1, (0.05, 0.2), "a is higher"),
        ("tpr", -0.1, (-0.2, -0.05), "b is higher"),
        ("auc", 0.1, (-0.05, 0.2), "no difference that 40 videos show"),
        ("auc", 0.1, (0.0, 0.2), "no difference that 40 videos show"),
        ("auc", 0.0, (0.0, 0.0), "equal"),
        ("auc", float("nan"), (float("nan"), float("nan")), "not enough data"),
    ],
)
def test_a_difference_is_read_by_its_interval_and_the_metrics_direction(name, difference, interval, said):
    assert reading(name, {"difference": difference, "difference_ci": interval}, 40) == said


def test_a_run_whose_ranking_is_upside_down_names_the_keys_that_turn_it_round(files):
    right = predictions(2.0, 1)
    wrong = right.assign(score=1 - right["score"])
    found = compare(files(right, "a.csv"), files(wrong, "b.csv"), n_boot=0)["datasets"]["A"]["reversed"]
    assert found["a"] == ""
    assert found["b"].startswith("worse than chance")
    assert "score_of=real turns it round" in found["b"]


def test_pictures_are_called_pictures(tmp_path):
    """`compare` spoke of videos where `evaluate` speaks of pictures."""
    table = pd.DataFrame({"video": [f"{i}.jpg" for i in range(20)], "label": [0, 1] * 10})
    for name, low in (("a", 0.1), ("b", 0.2)):
        table.assign(score=np.linspace(low, low + 0.7, 20)).to_csv(tmp_path / f"{name}.csv", index=False)
    keys = (f"a={tmp_path / 'a.csv'}", f"b={tmp_path / 'b.csv'}", f"out={tmp_path / 'o'}", "n_boot=20")
    ended = CliRunner().invoke(app, ["compare", *keys])
    assert ended.exit_code == 0, ended.output
    assert "20 pictures that both scored" in ended.output
    for said in (ended.output, (tmp_path / "o" / "compare.md").read_text()):
        assert "video" not in said
