"""The uncertain band on every possible cut, risk over coverage against a plain loop, and their edges."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.evaluation.abstention import Band, abstention, fit_band, risk_coverage
from unmasked.evaluation.intervals import Sample

rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=2, max_size=40).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def simulated(seed: int, n: int = 400, effect: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    return label, 1 / (1 + np.exp(-(effect * (label - 0.5) + rng.normal(size=n))))


@given(rows, st.sampled_from([0.0, 0.05, 0.2]))
@settings(deadline=None)
def test_neither_class_is_wrong_more_often_than_allowed_and_no_band_is_narrower(pairs, error_max):
    label, score = np.array(pairs).T
    score = score / 12
    band = fit_band(label, score, error_max=error_max)
    real, fake = score[label == 0], score[label == 1]
    assert (real > band.high).mean() <= error_max + 1e-12
    assert (fake <= band.low).mean() <= error_max + 1e-12
    if band.low < band.high:
        for cut in np.unique(score):  # any cut further inward breaks the promise
            if (score > cut).sum() > (score > band.high).sum():
                assert (real > cut).mean() > error_max + 1e-12
            if (score <= cut).sum() > (score <= band.low).sum():
                assert (fake <= cut).mean() > error_max + 1e-12


@pytest.mark.parametrize(("threshold", "expected"), [(0.45, 0.45), (0.95, 0.65), (0.1, 0.4)])
def test_the_band_is_empty_at_the_threshold_where_one_cut_serves_both(threshold, expected):
    # One real may stand above, one fake below: any cut from 0.4 to 0.65 does.
    band = fit_band([0, 0, 0, 1, 1, 1], [0.1, 0.3, 0.5, 0.6, 0.7, 0.9], threshold, error_max=0.4)
    assert (band.low, band.high) == pytest.approx((expected, expected))


def test_a_small_calibration_split_is_admitted_for_both_classes():
    note = fit_band([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.8]).note
    assert "FPR of 5% needs at least 20 real rows" in note
    assert "FNR of 5% needs at least 20 fake rows" in note
    assert fit_band(*simulated(0)).note == ""


@pytest.mark.parametrize("label", [[0, 0], [1, 1]])
def test_a_band_without_a_class_is_refused(label):
    with pytest.raises(InputError, match="needs real and fake rows; A has"):
        fit_band(label, [0.1, 0.9], fitted_on="A")


def test_json_and_back_is_the_same_band(tmp_path):
    band = fit_band(*simulated(1), fitted_on="A, val split")
    write_json(tmp_path / "band.json", asdict(band))
    assert Band.from_dict(json.loads((tmp_path / "band.json").read_text(encoding="utf-8"))) == band
    assert Band.from_dict({"low": 0.4, "high": 0.6}).rule == "given"


@pytest.mark.parametrize("fields", [{"low": 0.6, "high": 0.4}, {"low": -1, "high": 0.4}, {"low": 0.1}])
def test_what_is_not_a_band_is_refused(fields):
    with pytest.raises(InputError, match="band"):
        Band.from_dict(fields)


def test_rates_of_a_band_are_as_counted_by_hand():
    label = [0, 0, 0, 0, 1, 1, 1, 1]
    score = [0.1, 0.2, 0.5, 0.9, 0.1, 0.5, 0.8, 0.9]
    found = abstention(Sample.of(label, score, np.arange(8)), Band(0.3, 0.7), n_boot=200)
    assert found["coverage"] == 6 / 8
    assert found["risk"] == 2 / 6
    assert found["risk_all"] == 3 / 8  # 0.5 is not called fake at 0.5
    assert (found["fpr"], found["fnr"]) == (0.25, 0.25)
    for name in ("coverage", "risk", "risk_all", "fpr", "fnr"):
        low, high = found[f"{name}_ci"]
        assert low <= found[name] <= high


def test_withholding_answers_lowers_the_risk_and_the_promise_holds_on_like_data():
    band = fit_band(*simulated(2))
    label, score = simulated(3, n=4000)
    found = abstention(Sample.of(label, score, np.arange(4000)), band, n_boot=100)
    assert found["risk"] < found["risk_all"]
    assert found["fpr"] == pytest.approx(0.05, abs=0.03)
    assert found["fnr"] == pytest.approx(0.05, abs=0.03)


def test_a_band_that_leaves_no_answer_has_no_risk():
    label, score = simulated(4)
    found = abstention(Sample.of(label, score, np.arange(400)), Band(0.0, 1.0), n_boot=50)
    assert found["coverage"] == 0
    assert np.isnan([found["risk"], *found["risk_ci"]]).all()


def test_no_error_among_the_answers_is_not_certainty():
    label = np.repeat([0, 1], 20)
    found = abstention(Sample.of(label, label * 0.9, np.arange(40)), Band(0.4, 0.6), n_boot=50)
    assert found["fpr_ci"] == pytest.approx([0.0, 1 - 0.025 ** (1 / 20)])


def test_risk_over_coverage_equals_a_plain_loop():
    label, score = simulated(5, n=50)
    order = np.argsort(-np.abs(score - 0.5))
    wrong = ((score > 0.5) != (label == 1))[order]
    risk = [wrong[:k].mean() for k in range(1, 51)]
    curve, aurc = risk_coverage(label, score)
    assert curve["risk"] == pytest.approx(risk)
    assert curve["coverage"] == pytest.approx(np.arange(1, 51) / 50)
    assert aurc == pytest.approx(np.mean(risk))


def test_ties_are_the_mean_over_their_orders():
    rng = np.random.default_rng(0)
    label, score = np.array([1, 0, 1, 1, 0, 1]), np.array([0.9, 0.7, 0.7, 0.3, 0.7, 0.45])
    found = risk_coverage(label, score)[1]
    jittered = [risk_coverage(label, score + rng.uniform(-1e-9, 1e-9, 6))[1] for _ in range(4000)]
    assert found == pytest.approx(np.mean(jittered), abs=0.005)


def test_a_constant_detector_is_as_risky_at_every_coverage():
    curve, aurc = risk_coverage([0, 1, 1, 1], np.full(4, 0.7))
    assert set(curve["risk"]) == {0.25}
    assert aurc == 0.25


def test_sureness_is_measured_from_the_threshold():
    # At 0.2, a score of 0.6 is halfway to certain and 0.1 too.
    curve, _ = risk_coverage([1, 0], [0.6, 0.1], threshold=0.2)
    assert curve["risk"] == [0.0, 0.0]
    assert risk_coverage([0, 1], [1.0, 0.5], threshold=1.0)[0]["risk"] == [1.0, 0.5]


def test_long_curves_are_thinned_and_keep_their_ends():
    label, score = simulated(6, n=1000)
    curve, _ = risk_coverage(label, score)
    assert len(curve["risk"]) == 101
    assert (curve["coverage"][0], curve["coverage"][-1]) == (0.001, 1.0)
    assert curve["risk"][-1] == np.mean((score > 0.5) != (label == 1))


def test_no_rows_have_no_curve():
    curve, aurc = risk_coverage([], [])
    assert curve == {"coverage": [], "risk": []}
    assert np.isnan(aurc)
