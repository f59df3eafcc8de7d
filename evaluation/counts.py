"""Metrics from counts: one implementation for one score column and for many resamples.

Ranking metrics read a curve: ``fp`` and ``tp``, shape (T + 1,) or (T + 1, R), are how many real and fake
rows score at least the t-th highest distinct score; row 0 is zero and the last row holds the class totals.
Threshold metrics read a `Confusion`. Both may be fractional or of any trailing shape; results have the
trailing shape, float64, NaN where undefined.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PARTIAL_AUC_FPR = 0.10
# Of the ECE and of every reliability diagram; Guo et al. 2017.
CALIBRATION_BINS = 15


class Confusion(NamedTuple):
    """Counts of each outcome of `score > threshold`; positive = fake."""

    tn: Array
    fp: Array
    fn: Array
    tp: Array


def ratio(numerator: Any, denominator: Any) -> Array:
    """Element-wise quotient; NaN where the denominator is zero."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out


def area_under_roc(fp: Array, tp: Array) -> Array:
    """Trapezoidal area under the ROC curve, which gives ties half a point."""
    doubled = np.einsum("t...,t...->...", fp[1:] - fp[:-1], tp[1:] + tp[:-1])
    return ratio(doubled / 2, fp[-1] * tp[-1])


def partial_area_under_roc(fp: Array, tp: Array, fpr_max: float = PARTIAL_AUC_FPR) -> Array:
    """Area left of ``fpr_max``, rescaled: chance is 0.5, perfect is 1 (McClish 1989)."""
    # Rows beyond fpr_max in every resample add nothing.
    rate = ratio(fp, fp[-1])
    beyond = (rate.reshape(len(rate), -1) >= fpr_max).all(axis=1)
    stop = int(np.argmax(beyond)) + 1 if beyond.any() else len(rate)
    rate, height = rate[:stop], ratio(tp[:stop], tp[-1])
    width = rate[1:] - rate[:-1]
    inside = np.clip(fpr_max - rate[:-1], 0.0, width)
    share = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
    rise = (height[1:] - height[:-1]) * share
    area = (inside * (height[:-1] + rise / 2)).sum(axis=0)
    least, most = fpr_max**2 / 2, fpr_max
    return np.where(fp[-1] * tp[-1] > 0, 0.5 * (1 + (area - least) / (most - least)), np.nan)


def average_precision(fp: Array, tp: Array) -> Array:
    """Sum of precision x recall step over the distinct scores, not interpolated."""
    step = tp[1:] - tp[:-1]
    flagged = tp[1:] + fp[1:]
    precision = np.divide(tp[1:], flagged, out=np.zeros_like(flagged), where=flagged > 0)
    area = ratio(np.einsum("t...,t...->...", step, precision), tp[-1])
    return np.where(fp[-1] > 0, area, np.nan)


def equal_error_rate(fp: Array, tp: Array) -> Array:
    """FPR where the ROC curve crosses FPR = FNR, interpolated between the curve's points."""
    real, fake = fp[-1], tp[-1]
    # FNR - FPR in whole counts, exact in float64: falls from +real * fake to -real * fake.
    difference = (fake - tp) * real - fp * fake
    after = np.argmax(difference <= 0, axis=0)[None]
    before = np.maximum(after - 1, 0)
    d0, d1 = np.take_along_axis(difference, before, 0)[0], np.take_along_axis(difference, after, 0)[0]
    fp0, fp1 = np.take_along_axis(fp, before, 0)[0], np.take_along_axis(fp, after, 0)[0]
    crossing = fp0 + ratio(d0, d0 - d1) * (fp1 - fp0)
    return np.where(fake > 0, ratio(crossing, real), np.nan)


def tpr_at_fpr(fp: Array, tp: Array, fpr_max: float) -> Array:
    """Highest TPR that a threshold reaches without exceeding ``fpr_max``; not interpolated."""
    allowed = np.floor(fpr_max * fp[-1] + 1e-9)
    last = (fp <= allowed).sum(axis=0)[None] - 1
    hits = np.take_along_axis(tp, last, 0)[0]
    return np.where(fp[-1] > 0, ratio(hits, tp[-1]), np.nan)


def balanced_accuracy(c: Confusion) -> Array:
    """Mean of the shares of fakes and of reals that are called right."""
    return (ratio(c.tp, c.tp + c.fn) + ratio(c.tn, c.tn + c.fp)) / 2


def matthews_correlation(c: Confusion) -> Array:
    """Correlation of label and decision."""
    spread = (c.tp + c.fp) * (c.tp + c.fn) * (c.tn + c.fp) * (c.tn + c.fn)
    return ratio(c.tp * c.tn - c.fp * c.fn, np.sqrt(spread))


def levels_of(score: Array) -> tuple[Array, NDArray[np.int64]]:
    """The distinct scores from high to low, (T,), and for each row which of them it has, (N,)."""
    ascending, level = np.unique(score, return_inverse=True)
    return ascending[::-1], (len(ascending) - 1 - level).astype(np.int64)


def curve(label: NDArray[np.int64], score: Array) -> tuple[Array, Array, Array]:
    """The distinct scores from high to low, (T,), and the curve's ``fp`` and ``tp``, (T + 1,)."""
    distinct, level = levels_of(score)
    real, fake = (
        np.bincount(level[label == which], minlength=len(distinct)).astype(np.float64) for which in (0, 1)
    )
    return distinct, cumulate(real), cumulate(fake)


def cumulate(counts: Array) -> Array:
    """(T, ...) counts at each level -> (T + 1, ...) counts down to it, from zero."""
    return np.concatenate([np.zeros((1, *counts.shape[1:])), np.cumsum(counts, axis=0)])


def confusion_terms(label: NDArray[np.int64], score: Array, threshold: float | Array) -> Array:
    """One row for each of `Confusion`'s outcomes, (4, N), 1 where the sample has it."""
    flagged, fake = score > threshold, label == 1
    outcomes = (~fake & ~flagged, ~fake & flagged, fake & ~flagged, fake & flagged)
    return np.stack(outcomes).astype(np.float64)


def probability_terms(label: NDArray[np.int64], score: Array) -> Iterator[Array]:
    """Rows (N,): 1, squared error, log loss, and for each bin of the score its errors.

    That is label - score where the score is in the bin, else 0. One row after the other: all 18 of two
    million scores at once would take 300 MB.
    """
    yield np.ones(len(score))
    yield (score - label) ** 2
    smallest = np.finfo(np.float64).eps  # keeps a confident mistake finite, as scikit-learn does
    yield -np.log(np.clip(np.where(label == 1, score, 1 - score), smallest, 1.0))
    bin_of, error = calibration_bin(score), label - score
    for which in range(CALIBRATION_BINS):
        yield np.where(bin_of == which, error, 0.0)


def calibration_bin(score: Array) -> NDArray[np.int64]:
    """(N,) which of the equal bins of [0, 1] a score is in; the last one holds 1 as well."""
    return np.minimum((score * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
