"""DeLong's interval and test for AUC, for rows that are independent of each other.

DeLong, DeLong and Clarke-Pearson (1988), Comparing the areas under two or more correlated ROC curves; by
sorting, as in Sun and Xu (2014), O(N log N). Only where each cluster is one row: rows of one video or of
one person are not independent, and the interval would be too narrow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from unmasked.evaluation.counts import Array
from unmasked.evaluation.intervals import CONFIDENCE, Sample
from unmasked.evaluation.metrics import check_arrays


def is_defined(sample: Sample) -> bool:
    """True if each cluster is one row, and each class has at least two."""
    alone = len(sample.label) == len(np.unique(sample.cluster))
    return alone and min(sample.clusters_by_class()) >= 2


def covariance(label: ArrayLike, *scores: ArrayLike) -> tuple[Array, Array]:
    """AUCs (K,) of K detectors on the same rows, and the covariance (K, K) of these estimates.

    NaN if a class has fewer than two rows.

    >>> auc, spread = covariance([0, 1, 0, 0, 1, 1, 0, 1, 0], [.21, .32, .63, .35, .92, .79, .82, .99, .04])
    >>> round(float(auc[0]), 4), round(float(spread[0, 0]), 5)
    (0.8, 0.02875)
    """
    pairs = [check_arrays(label, score) for score in scores]
    fake = pairs[0][0] == 1
    m, n = int(fake.sum()), int((~fake).sum())
    if min(m, n) < 2:
        return np.full(len(pairs), np.nan), np.full((len(pairs), len(pairs)), np.nan)
    table = np.stack([score for _, score in pairs])  # (K, N)
    # How much of the other class each row outranks, ties as half: DeLong's structural components.
    above = np.stack([_share_below(row[~fake], row[fake]) for row in table])  # (K, m)
    below = np.stack([1 - _share_below(row[fake], row[~fake]) for row in table])  # (K, n)
    spread = np.atleast_2d(np.cov(above)) / m + np.atleast_2d(np.cov(below)) / n
    return above.mean(axis=1), spread


def interval(label: ArrayLike, score: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of an AUC, AUC ± z sqrt(variance), cut to [0, 1].

    NaN if a class has fewer than two rows. Where the variance is 0 (no pair, or every pair, is out of
    order) the interval is a point, which claims too much: see `intervals.intervals_of`.

    >>> low, high = interval([0, 1, 0, 0, 1, 1, 0, 1, 0], [.21, .32, .63, .35, .92, .79, .82, .99, .04])
    >>> round(low, 5), high
    (0.46767, 1.0)
    """
    auc, spread = covariance(label, score)
    half = float(ndtri((1 + confidence) / 2) * np.sqrt(spread[0, 0]))
    low, high = np.clip([auc[0] - half, auc[0] + half], 0.0, 1.0)
    return float(low), float(high)


def difference(
    label: ArrayLike, score_a: ArrayLike, score_b: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[float, tuple[float, float], float]:
    """AUC of a minus AUC of b on the same rows, its interval, and the p-value.

    The p-value is of no difference.
    p is NaN where the difference has no variance, as for equal rankings.
    """
    auc, spread = covariance(label, score_a, score_b)
    value = float(auc[0] - auc[1])
    error = float(np.sqrt(max(0.0, spread[0, 0] + spread[1, 1] - 2 * spread[0, 1])))
    half = float(ndtri((1 + confidence) / 2)) * error
    p = 2 * float(ndtr(-abs(value) / error)) if error > 0 else float("nan")
    return value, (value - half, value + half), p


def _share_below(values: Array, score: Array) -> Array:
    """Of the values, the share that lies below each score, those equal to it as half."""
    values = np.sort(values)
    sides = np.searchsorted(values, score, "left") + np.searchsorted(values, score, "right")
    return sides / (2 * len(values))
