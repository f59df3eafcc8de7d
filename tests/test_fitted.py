"""What is fitted on the source: from its calibration rows only, stored, and the same when read again."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.evaluation.abstention import fit_band
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.fitted import Fitted, fit_on_source, read_fitted, store_in_card
from unmasked.evaluation.metrics import false_positive_rate, log_loss, video_scores
from unmasked.evaluation.thresholds import RULES

DIGEST = "ab" * 32


def part(dataset: str, split: str, seed: int, effect: float = 2.0, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = np.arange(60) % 2
    logit = effect * (label - 0.5) + shift + rng.normal(0, 1, 60)
    table = pd.DataFrame({"dataset": dataset, "video": [f"{split}/{index}" for index in range(60)]})
    table = table.assign(label=label, split=split, score=1 / (1 + np.exp(-logit)), checkpoint=DIGEST)
    return table.loc[np.repeat(np.arange(60), 2)].reset_index(drop=True).assign(frame=[0, 1] * 60, face=0)


@pytest.fixture(scope="module")
def predictions():
    parts = [part("A", "val", 0), part("A", "test", 1), part("B", "test", 2, shift=1.5), part("B", "val", 3)]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def fitted(predictions):
    return fit_on_source(predictions, dataset="A")


def test_everything_is_fitted_on_the_sources_calibration_videos_alone(predictions, fitted):
    only = predictions[(predictions["dataset"] == "A") & (predictions["split"] == "val")]
    assert fit_on_source(only) == fitted
    assert set(fitted.thresholds) == set(RULES)
    assert (
        fitted.threshold
        == fitted.thresholds["eer"]
        == fit_on_source(predictions, ("eer",), dataset="A").threshold
    )
    assert set(fitted.other_thresholds) == set(RULES) - {"eer"}
    videos = video_scores(only)
    words = "A, val split"
    assert fitted.band == fit_band(videos["label"], videos["score"], fitted.threshold.value, fitted_on=words)
    assert {one.fitted_on for one in fitted.calibrations.values()} == {words}
    for rule, limit in (("fpr:0.10", 0.10), ("fpr:0.05", 0.05), ("fpr:0.01", 0.01)):
        fpr = false_positive_rate(videos["label"], videos["score"], fitted.thresholds[rule].value)
        assert fpr == fitted.thresholds[rule].fpr <= limit


def test_perturbed_rows_are_not_fitted_on(predictions, fitted):
    perturbed = predictions.assign(perturbation="jpeg", severity=1, score=1 - predictions["score"])
    clean = predictions.assign(perturbation="none", severity=0)
    assert fit_on_source(pd.concat([clean, perturbed]), dataset="A") == fitted


def test_results_show_what_the_stored_does_elsewhere(predictions, fitted):
    found = evaluate(
        predictions,
        threshold=fitted.threshold,
        thresholds=fitted.other_thresholds,
        calibrations=fitted.calibrations,
        band=fitted.band,
        n_boot=100,
        source="A",
    )
    video = found["datasets"]["B"]["video"]
    rows = predictions[(predictions["dataset"] == "B") & (predictions["split"] == "test")]
    videos = video_scores(rows)
    point = video["at_thresholds"]["fpr:0.05"]
    realised = false_positive_rate(videos["label"], videos["score"], fitted.thresholds["fpr:0.05"].value)
    assert point["fpr"] == pytest.approx(realised)
    assert (
        point["fitted_fpr"] == fitted.thresholds["fpr:0.05"].fpr < 0.06 < point["fpr"]
    )  # B's scores are shifted
    after = log_loss(videos["label"], fitted.calibrations["temperature"](videos["score"]))
    assert video["calibration"]["temperature"]["after"]["log_loss"] == pytest.approx(after)
    assert video["calibration"]["isotonic"]["fitted_on"] == "A, val split"
    assert video["abstention"]["band"] == [fitted.band.low, fitted.band.high]
    assert video["abstention"]["fpr"] > 0.05
    assert "calibration" not in found["datasets"]["B"]["frame"]
    counted = video["confusion"]
    assert sum(counted.values()) == 60
    assert counted["fp"] / (counted["fp"] + counted["tn"]) == pytest.approx(video["fpr"])


def test_delong_stands_beside_the_bootstrap_where_videos_are_single(predictions):
    # Near an AUC of 1 the bootstrap's interval is another one on purpose, see `intervals.metric_interval`.
    noise = np.random.default_rng(5).random(predictions["video"].nunique())
    of_video = predictions["video"].map(dict(zip(predictions["video"].unique(), noise, strict=True)))
    predictions = predictions.assign(score=0.5 * predictions["score"] + 0.5 * of_video)
    found = evaluate(predictions, n_boot=300)["datasets"]["A"]
    assert 0.6 < found["video"]["auc"] < 0.88
    assert found["video"]["auc_ci_delong"] == pytest.approx(found["video"]["auc_ci"], abs=0.04)
    assert "auc_ci_delong" not in found["frame"]
    shared = predictions.assign(identity=[f"p{row // 8}" for row in range(len(predictions))])
    assert "auc_ci_delong" not in evaluate(shared, n_boot=0)["datasets"]["A"]["video"]


def test_each_way_to_a_video_score_has_its_auc(predictions):
    found = evaluate(predictions, n_boot=100)["datasets"]["A"]
    assert set(found["aggregations"]) == {"mean", "median", "top_k_mean"}
    assert found["aggregations"]["mean"]["auc"] == found["video"]["auc"]
    assert found["aggregations"]["mean"]["auc_ci"] == found["video"]["auc_ci"]
    assert sum(found["video"]["reliability"]["n"]) == 60


def test_json_and_back_is_the_same(tmp_path, fitted):
    write_json(tmp_path / "thresholds.json", fitted.to_dict())
    assert read_fitted(tmp_path / "thresholds.json") == fitted


def test_a_file_of_one_threshold_is_enough(tmp_path):
    write_json(tmp_path / "thresholds.json", {"threshold": {"value": 0.3}})
    found = read_fitted(tmp_path / "thresholds.json")
    assert found.threshold.value == 0.3
    assert (found.thresholds, found.calibrations, found.band, found.other_thresholds) == ({}, {}, None, {})


def test_the_card_of_the_checkpoint_keeps_what_was_fitted_for_it(tmp_path, predictions, fitted):
    card = tmp_path / "detector.json"
    write_json(card, {"sha256": DIGEST, "width": 1.0, "thresholds": {}})
    store_in_card(fitted, card, predictions)
    assert read_fitted(card) == fitted
    entries = json.loads(card.read_text(encoding="utf-8"))
    assert (entries["sha256"], entries["width"]) == (DIGEST, 1.0)


@pytest.mark.parametrize("digest", ["cd" * 32, None])
def test_thresholds_are_not_stored_with_other_weights(tmp_path, predictions, fitted, digest):
    card = tmp_path / "detector.json"
    write_json(card, {"sha256": DIGEST})
    before = card.read_text(encoding="utf-8")
    with pytest.raises(InputError, match="stored only with the weights that they were fitted for"):
        store_in_card(fitted, card, predictions.assign(checkpoint=digest))
    assert card.read_text(encoding="utf-8") == before


def test_what_is_no_card_is_refused(tmp_path, predictions, fitted):
    with pytest.raises(InputError, match=r"give the detector\.json that training wrote"):
        store_in_card(fitted, tmp_path / "detector.json", predictions)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"threshold": 0.5}', '{"threshold": {"value": 0.5}, "abstention": {"low": 1}}'],
)
def test_what_holds_no_threshold_is_refused_with_its_path(tmp_path, content):
    path = tmp_path / "thresholds.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"thresholds file .*thresholds\.json .*; give the thresholds\.json"):
        read_fitted(path)
    with pytest.raises(InputError, match=r"absent\.json does not exist; give the thresholds\.json"):
        read_fitted(tmp_path / "absent.json")


@pytest.mark.parametrize("name", ["thresholds", "calibrations"])
def test_a_list_in_place_of_thresholds_by_name_is_refused(tmp_path, name):
    # Fuzzing found it: a traceback.
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({"threshold": {"value": 0.5}, name: [1]}))
    with pytest.raises(InputError, match="stored by name"):
        read_fitted(path)


def test_a_split_of_one_class_gives_the_thresholds_that_need_no_other(predictions):
    reals = predictions[(predictions["label"] == 0) & (predictions["split"] == "val")]
    found = fit_on_source(reals, ["fpr:0.10"], dataset="A")
    assert (found.calibrations, found.band) == ({}, None)
    assert Fitted.from_dict(found.to_dict()).threshold.fpr == found.threshold.fpr
    with pytest.raises(InputError, match="no rule is given"):
        fit_on_source(predictions, [], dataset="A")
