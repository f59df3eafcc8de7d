"""Thresholds against their rules on every possible cut, their notes, and their way through JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.evaluation.metrics import false_positive_rate, recall
from unmasked.evaluation.thresholds import RULES, Threshold, fit

rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=2, max_size=40).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def rates(label, score, value):
    return false_positive_rate(label, score, value), recall(label, score, value)


@given(rows, st.sampled_from((*RULES, "fnr:0.10")))
def test_no_other_threshold_serves_the_rule_better(pairs, rule):
    label, score = np.array(pairs).T
    score = score / 12
    found = fit(label, score, rule)
    fpr, tpr = rates(label, score, found.value)
    assert (fpr, tpr) == pytest.approx((found.fpr, found.tpr))
    others = [rates(label, score, cut) for cut in (-0.1, *np.unique(score))]
    if rule == "eer":
        assert abs(fpr - (1 - tpr)) <= min(abs(f - (1 - t)) for f, t in others) + 1e-9
    elif rule == "youden":
        assert tpr - fpr >= max(t - f for f, t in others) - 1e-9
    elif rule.startswith("fnr:"):
        assert 1 - tpr <= 0.10 + 1e-12
        assert fpr == pytest.approx(min(f for f, t in others if 1 - t <= 0.10 + 1e-12))
    else:
        limit = float(rule.removeprefix("fpr:"))
        assert fpr <= limit
        assert tpr == pytest.approx(max(t for f, t in others if f <= limit))


def test_a_threshold_stands_halfway_between_the_scores_it_parts():
    assert fit([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.8], "eer").value == 0.5


def test_a_threshold_parts_scores_that_have_no_number_between_them():
    low = 0.3
    high = float(np.nextafter(low, 1))
    found = fit([0, 1], [low, high], "eer")
    assert rates([0, 1], [low, high], found.value) == (0.0, 1.0)


def test_a_target_fpr_needs_no_fakes():
    found = fit(np.zeros(100, dtype=int), np.arange(100) / 100, "fpr:0.05")
    assert found.value == pytest.approx(0.945)
    assert (found.n, found.n_fake, found.fpr) == (100, 0, 0.05)
    assert np.isnan(found.tpr)


def test_a_target_fnr_needs_no_reals():
    found = fit(np.ones(100, dtype=int), np.arange(100) / 100, "fnr:0.05")
    assert found.value == pytest.approx(0.045)
    assert found.tpr == 0.95
    assert np.isnan(found.fpr)
    assert "below the lowest fake score" in fit([1, 1], [0.4, 0.6], "fnr:0.05").note


def test_too_few_reals_for_a_target_are_admitted():
    note = fit([0] * 12 + [1] * 5, np.linspace(0, 1, 17), "fpr:0.01").note
    assert "FPR of 1% needs at least 100 real rows and there were 12" in note
    assert "up to 22%" in note  # 1 - 0.05 ** (1 / 12)
    assert "fewer than 20" in fit([0, 1] * 12, np.linspace(0, 1, 24), "eer").note
    assert fit([0, 1] * 100, np.linspace(0, 1, 200), "fpr:0.01").note == ""
    assert fit([0, 1] * 100, np.linspace(0, 1, 200), "youden").note == ""


@pytest.mark.parametrize("n_fake", [0, 3])
def test_json_and_back_is_the_same_threshold(tmp_path, n_fake):
    label = [0] * 20 + [1] * n_fake
    found = fit(label, np.linspace(0, 1, len(label)), "fpr:0.10", fitted_on="A, val split", level="frame")
    write_json(tmp_path / "threshold.json", found.to_dict())
    again = Threshold.from_dict(json.loads((tmp_path / "threshold.json").read_text(encoding="utf-8")))
    assert again.to_dict() == pytest.approx(found.to_dict(), nan_ok=True)


def test_a_bare_value_is_enough_of_a_stored_threshold():
    found = Threshold.from_dict({"value": 0.3})
    assert (found.value, found.rule, found.n) == (0.3, "given", 0)


@pytest.mark.parametrize("fields", [{}, {"value": "high"}, {"value": 0.5, "colour": "red"}, {"value": None}])
def test_what_is_not_a_threshold_is_refused(fields):
    with pytest.raises(InputError, match="is not a stored threshold"):
        Threshold.from_dict(fields)


def test_a_threshold_outside_the_scores_is_refused():
    with pytest.raises(InputError, match="outside the scores' range"):
        Threshold.from_dict({"value": 1.5})


@pytest.mark.parametrize("rule", ["f1", "fpr:", "fpr:5", "fpr:-0.1", "tpr:0.5"])
def test_an_unknown_rule_is_refused_with_those_that_exist(rule):
    with pytest.raises(InputError, match="choose eer, youden, fpr:x or fnr:x"):
        fit([0, 1], [0.1, 0.9], rule)


@pytest.mark.parametrize(
    ("label", "rule"), [([1, 1], "fpr:0.05"), ([0, 0], "fnr:0.05"), ([0, 0], "eer"), ([1, 1], "youden")]
)
def test_a_rule_without_the_class_it_needs_is_refused(label, rule):
    with pytest.raises(InputError, match="Give a calibration split that has them"):
        fit(label, [0.1, 0.9], rule, fitted_on="A, val split")
