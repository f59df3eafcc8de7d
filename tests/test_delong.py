"""DeLong's variance against every pair, against the jackknife, and against the resampling of videos."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from unmasked.evaluation import delong
from unmasked.evaluation.intervals import Sample, intervals


def simulated(seed: int, n: int = 80, decimals: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and the scores of two detectors that err on the same rows, with ties."""
    rng = np.random.default_rng(seed)
    label = (np.arange(n) % 3 == 0).astype(int)
    hard = rng.normal(size=n)
    a, b = (norm.cdf(effect * label + hard + rng.normal(0, 0.5, n)).round(decimals) for effect in (1.2, 0.6))
    return label, a, b


def by_pairs(label: np.ndarray, *scores: np.ndarray) -> np.ndarray:
    """The covariance as DeLong writes it, over all pairs of a fake and a real."""
    above, below = [], []
    for score in scores:
        order = (np.sign(score[label == 1][:, None] - score[label == 0][None]) + 1) / 2
        above.append(order.mean(axis=1))
        below.append(order.mean(axis=0))
    return np.cov(above) / len(above[0]) + np.cov(below) / len(below[0])


@pytest.mark.parametrize("seed", range(5))
def test_variance_and_covariance_equal_those_over_all_pairs(seed):
    label, a, b = simulated(seed, decimals=1)
    auc, spread = delong.covariance(label, a, b)
    assert auc == pytest.approx([roc_auc_score(label, a), roc_auc_score(label, b)], abs=1e-12)
    np.testing.assert_allclose(spread, by_pairs(label, a, b), atol=1e-14)


def test_variance_equals_the_jackknife_that_leaves_out_one_row_of_each_class_in_turn():
    label, a, _ = simulated(1, n=40)
    left_out = np.array([roc_auc_score(np.delete(label, row), np.delete(a, row)) for row in range(40)])
    total = 0.0
    for which in (0, 1):
        values = left_out[label == which]
        total += (len(values) - 1) / len(values) * ((values - roc_auc_score(label, a)) ** 2).sum()
    assert delong.covariance(label, a)[1][0, 0] == pytest.approx(total, abs=1e-12)


def test_a_published_example_is_reproduced():
    # Worked example of the roc_comparison code: AUC 0.8, variance 0.02875, interval [0.46767194, 1].
    label = [0, 1, 0, 0, 1, 1, 0, 1, 0]
    score = [0.21, 0.32, 0.63, 0.35, 0.92, 0.79, 0.82, 0.99, 0.04]
    auc, spread = delong.covariance(label, score)
    assert (auc[0], spread[0, 0]) == pytest.approx((0.8, 0.02875), abs=1e-12)
    assert delong.interval(label, score) == pytest.approx((0.46767194, 1.0), abs=1e-8)


def test_the_resampling_of_single_rows_agrees():
    label, a, _ = simulated(2, n=300)
    drawn = intervals(Sample.of(label, a, np.arange(300)), only=("auc",))["auc"]
    assert delong.interval(label, a) == pytest.approx(drawn, abs=0.012)


def test_a_difference_has_the_interval_and_the_p_of_its_z():
    label, a, b = simulated(3)
    value, (low, high), p = delong.difference(label, a, b)
    spread = by_pairs(label, a, b)
    z = value / np.sqrt(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1])
    assert value == pytest.approx(roc_auc_score(label, a) - roc_auc_score(label, b))
    assert p == pytest.approx(2 * norm.sf(abs(z)))
    assert (low > 0 or high < 0) == (p < 0.05)
    assert np.isnan(delong.difference(label, a, a)[2])


def test_one_row_of_a_class_has_no_variance():
    auc, spread = delong.covariance([0, 1, 1], [0.1, 0.2, 0.3])
    assert np.isnan([*auc, *spread.ravel()]).all()
    assert np.isnan(delong.interval([0, 1, 1], [0.1, 0.2, 0.3])).all()


def test_rows_of_one_video_are_not_for_delong():
    label, score = [0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]
    assert delong.is_defined(Sample.of(label, score, [0, 1, 2, 3]))
    assert not delong.is_defined(Sample.of(label, score, [0, 0, 1, 2]))
    assert not delong.is_defined(Sample.of([0, 1, 1], score[:3], [0, 1, 2]))
