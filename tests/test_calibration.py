"""Calibration against scikit-learn, its promise on the rows it was fitted on, and what it must not do."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.evaluation import metrics
from unmasked.evaluation.calibration import (
    KINDS,
    Calibration,
    calibration_effects,
    fit_calibration,
    reliability,
)
from unmasked.evaluation.intervals import Sample

# Scores on a grid, so that ties are common.
rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def overconfident(seed: int, n: int = 400, times: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn with the probabilities of logits, and scores of logits so many times as large."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    return label, 1 / (1 + np.exp(-times * logit))


def test_the_temperature_is_the_inverse_slope_of_a_logistic_regression_without_intercept():
    label, score = overconfident(0)
    logit = np.log(score / (1 - score))[:, None]
    slope = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logit, label).coef_[0, 0]
    assert fit_calibration(label, score).parameter == pytest.approx(1 / slope, rel=1e-4)


def test_no_other_temperature_has_a_lower_log_loss():
    label, score = overconfident(1)
    logit = np.log(score / (1 - score))
    best = minimize_scalar(
        lambda slope: log_loss(label, 1 / (1 + np.exp(-slope * logit))), bounds=(0, 5), method="bounded"
    )
    found = fit_calibration(label, score)
    assert log_loss(label, found(score)) == pytest.approx(best.fun, abs=1e-9)


def test_isotonic_equals_scikit_learn_also_between_and_beyond_its_rows():
    label, score = overconfident(2)
    score = score.round(2)
    expected = IsotonicRegression(out_of_bounds="clip").fit(score, label)
    grid = np.linspace(0, 1, 301)
    found = fit_calibration(label, score, "isotonic")
    np.testing.assert_allclose(found(grid), expected.predict(grid), atol=1e-12)


def test_what_was_planted_is_found_and_repaired_on_other_rows():
    label, score = overconfident(3, n=4000)
    other_label, other = overconfident(4, n=4000)
    before = metrics.expected_calibration_error(other_label, other)
    found = fit_calibration(label, score)
    assert found.parameter == pytest.approx(3, rel=0.1)
    for kind in KINDS:
        after = fit_calibration(label, score, kind)(other)
        assert metrics.expected_calibration_error(other_label, after) < 0.4 * before
        assert metrics.log_loss(other_label, after) < metrics.log_loss(other_label, other)


@given(rows)
@settings(max_examples=40, deadline=None)
def test_fitted_rows_never_get_worse(pairs):
    label, score = np.array(pairs).T
    score = score / 20
    temperature, isotonic = (fit_calibration(label, score, kind) for kind in KINDS)
    assert metrics.log_loss(label, temperature(score)) <= metrics.log_loss(label, score) + 1e-9
    assert metrics.brier_score(label, isotonic(score)) <= metrics.brier_score(label, score) + 1e-12


@given(rows, rows)
@settings(max_examples=40, deadline=None)
def test_a_temperature_keeps_the_order_and_isotonic_reverses_none(fitted, applied):
    label, score = np.array(fitted).T
    grid = np.unique(np.array(applied).T[1] / 20)
    for kind in KINDS:
        found = fit_calibration(label, score / 20, kind)(grid)
        assert ((found >= 0) & (found <= 1)).all()
        assert (np.diff(found) >= 0).all()


def test_a_temperature_leaves_the_auc_and_accuracy_at_half():
    label, score = overconfident(5)
    after = fit_calibration(label, score)(score)
    assert metrics.auc(label, after) == metrics.auc(label, score)
    assert metrics.accuracy(label, after) == metrics.accuracy(label, score)


@pytest.mark.parametrize("kind", KINDS)
def test_json_and_back_is_the_same_calibration(tmp_path, kind):
    label, score = overconfident(6, n=60)
    found = fit_calibration(label, score, kind, fitted_on="A, val split")
    write_json(tmp_path / "calibration.json", asdict(found))
    again = Calibration.from_dict(json.loads((tmp_path / "calibration.json").read_text(encoding="utf-8")))
    assert again == found
    np.testing.assert_array_equal(again(score), found(score))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": "platt", "parameter": 1.0},
        {"kind": "temperature", "parameter": -1.0},
        {"kind": "temperature", "parameter": {"score": [0.1], "probability": [0.1]}},
        {"kind": "isotonic", "parameter": {"score": [0.4, 0.1], "probability": [0.1, 0.2]}},
        {"kind": "isotonic", "parameter": {"score": [0.4], "probability": [1.2]}},
        {"kind": "isotonic", "parameter": 2.0},
        {"kind": "temperature", "parameter": 1.0, "colour": "red"},
    ],
)
def test_what_is_not_a_calibration_is_refused(fields):
    with pytest.raises(InputError, match="is not a stored calibration"):
        Calibration.from_dict(fields)


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(InputError, match="choose temperature or isotonic"):
        fit_calibration([0, 1], [0.1, 0.9], "platt")
    with pytest.raises(InputError, match="A, val split has 2 real and 0 fake"):
        fit_calibration([0, 0], [0.1, 0.9], fitted_on="A, val split")


def test_few_rows_certainties_and_ends_of_the_range_are_admitted():
    apart = fit_calibration([0, 1] * 30, [0.2, 0.8] * 30)
    assert "end of its range: no row is on the wrong side of 0.5" in apart.note
    assert fit_calibration(*overconfident(7)).note == ""
    few = fit_calibration([0, 1], [0.2, 0.8], "isotonic").note
    assert "fewer than 20 of a class" in few
    assert "exactly 0 or 1" in few


def test_certain_scores_stay_finite():
    found = fit_calibration([0, 1, 0, 1], [0.0, 1.0, 1.0, 0.4])
    assert np.isfinite(found([0.0, 1.0])).all()
    assert np.isfinite(found.parameter)


def test_losses_before_and_after_stand_with_their_intervals():
    label, score = overconfident(8, n=200)
    sample = Sample.of(label, score, np.arange(200))
    fitted = {kind: fit_calibration(label, score, kind, fitted_on="A") for kind in KINDS}
    found = calibration_effects(sample, fitted, n_boot=100)
    assert set(found) == set(KINDS)
    entry = found["temperature"]
    assert entry["before"]["brier"] == metrics.brier_score(label, score)
    assert entry["after"]["log_loss"] == metrics.log_loss(label, fitted["temperature"](score))
    for when in ("before", "after"):
        assert entry[when]["brier_ci"][0] < entry[when]["brier"] < entry[when]["brier_ci"][1]
    assert calibration_effects(sample, {}) == {}


def test_reliability_counts_every_row_once_and_has_the_calibration_error():
    label, score = overconfident(9)
    found = reliability(label, score)
    n = np.array(found["n"])
    assert n.sum() == 400
    gap = np.abs(np.array(found["score"]) - np.array(found["share_fake"]))
    assert (n * gap).sum() / 400 == pytest.approx(metrics.expected_calibration_error(label, score))
    for low, share, high in zip(found["low"], found["share_fake"], found["high"], strict=True):
        assert 0 <= low <= share <= high <= 1
    # Wilson's interval for 0 of 10 (Newcombe 1998): 0 to 0.2775.
    nothing = reliability(np.zeros(10, int), np.full(10, 0.3))
    assert (nothing["low"], nothing["high"][0]) == ([0.0], pytest.approx(0.2775, abs=1e-4))
