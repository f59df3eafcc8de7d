"""The per-group metrics: rates from count tables, ranking and calibration from weighted scores.

Formulas are those of `unmasked.evaluation.counts`, the one place that defines them. A count table has one
row per unit of resampling and the columns tn, fp, fn, tp; its rows are summed for a group, a bootstrap
resample or a permutation alike, so that thousands of them are one matrix product. A row is called fake when
``score > threshold``. Undefined is NaN, never 0: a group without fakes has no TPR.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unmasked.evaluation.counts import (
    CALIBRATION_BINS,
    RANKING,
    THRESHOLD,
    Confusion,
    confusion_terms,
    curve,
    levels_of,
    ratio,
)

COUNTS = ("tn", "fp", "fn", "tp")
RATES = ("fpr", "fnr", "tpr", "selection_rate", "accuracy", "balanced_accuracy")
SCORE_METRICS = ("auc", "eer", "brier", "ece")
METRICS = RATES + SCORE_METRICS

TITLES: Mapping[str, str] = {
    "fpr": "FPR",
    "fnr": "FNR",
    "tpr": "TPR",
    "selection_rate": "selection rate",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "eer": "EER",
    "brier": "Brier score",
    "ece": "calibration error",
}
# Whether more is better; None: neither, as a selection rate follows the share of fakes.
HIGHER_IS_BETTER: Mapping[str, bool | None] = {
    "fpr": False,
    "fnr": False,
    "tpr": True,
    "selection_rate": None,
    "accuracy": True,
    "balanced_accuracy": True,
    "auc": True,
    "eer": False,
    "brier": False,
    "ece": False,
}
# The class a metric needs support in; every other metric needs both.
NEEDS: Mapping[str, tuple[str, ...]] = {"fpr": ("real",), "fnr": ("fake",), "tpr": ("fake",)}
BOTH = ("real", "fake")

# Elements of one block of a resampled array: some 100 MB whatever the size of the table.
BLOCK = 4_000_000
# Points of a resampled curve.
THRESHOLDS = 250


def needs(metric: str) -> tuple[str, ...]:
    """The classes ("real", "fake") that a group must have enough of for this metric.

    >>> needs("fpr"), needs("auc")
    (('real',), ('real', 'fake'))
    """
    return NEEDS.get(metric, BOTH)


def count_rows(label: np.ndarray, score: np.ndarray, threshold: float) -> np.ndarray:
    """(N, 4) int64, one 1 in each row: which outcome of `COUNTS` it is."""
    return confusion_terms(label, score, threshold).T.astype(np.int64)


def count_units(label: np.ndarray, flagged: np.ndarray, unit: np.ndarray, size: int) -> np.ndarray:
    """(size, 4) counts of each unit, columns `COUNTS`; ``flagged`` (N,) is what was called fake."""
    outcome = 2 * label + flagged
    return np.bincount(unit * 4 + outcome, minlength=4 * size).reshape(size, 4)


def sum_by(values: np.ndarray, codes: np.ndarray, size: int) -> np.ndarray:
    """(size, K) sums of the rows of (N, K) whole numbers that share a code; codes below 0 are left out."""
    kept = codes >= 0
    columns = values[kept].T
    return np.stack(
        [np.bincount(codes[kept], weights=column, minlength=size) for column in columns], axis=1
    ).astype(np.int64)


def rates(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics in `RATES` from counts (..., 4), each (...), in [0, 1]; NaN where a denominator is 0.

    fpr = share of the real called fake; tpr = share of the fake called fake; fnr = 1 - tpr;
    selection_rate = share called fake; accuracy = share called right;
    balanced_accuracy = (tpr + 1 - fpr) / 2.

    >>> float(rates(np.array([9, 1, 5, 15]))["tpr"])
    0.75
    """
    confusion = Confusion(*np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0))
    values = {name: THRESHOLD[name](confusion) for name in RATES if name in THRESHOLD}
    values["selection_rate"] = ratio(confusion.tp + confusion.fp, sum(confusion))
    return {name: values[name] for name in RATES}


def score_metrics(label: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """AUC, EER (interpolated), Brier score and ECE; AUC and EER are NaN where a class is absent.

    ECE is the mean over rows of |mean label - mean score| in 15 bins of equal width: range [0, 1], 0 is
    perfect, and it is biased upwards in small groups.

    Args:
        label: (N,) 0 = real, 1 = fake.
        score: (N,) P(fake).
    """
    if not len(label):
        return dict.fromkeys(SCORE_METRICS, float("nan"))
    _, fp, tp = curve(label, score)
    residual = label - score
    bins = np.minimum((score * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    apart = np.abs(np.bincount(bins, weights=residual)).sum()
    return {
        "auc": float(RANKING["auc"](fp, tp)),
        "eer": float(RANKING["eer"](fp, tp)),
        "brier": float(np.mean(residual**2)),
        "ece": float(apart / len(label)),
    }


def resampled_score_metrics(
    label: np.ndarray,
    score: np.ndarray,
    unit: np.ndarray,
    weight: np.ndarray,
    thresholds: int | None = THRESHOLDS,
) -> dict[str, np.ndarray]:
    """`score_metrics` for B sets of weights of the units at once.

    Args:
        label: (N,) 0 = real, 1 = fake.
        score: (N,) P(fake).
        unit: (N,) which of the C units each row belongs to.
        weight: (B, C) how often each unit counts.
        thresholds: the curve's resolution, by rank: enough for a variance, and bounded for a million
            rows. None takes every distinct score.

    Returns:
        `SCORE_METRICS`, each (B,).
    """
    distinct, level = levels_of(score)
    size = len(distinct)
    if thresholds is not None and size > thresholds:
        level, size = level * thresholds // size, thresholds
    members = [label == 0, label == 1]
    units = weight.shape[1]
    squared = np.bincount(unit, weights=(score - label) ** 2, minlength=units)
    bins = np.minimum((score * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    apart = np.bincount(
        unit * CALIBRATION_BINS + bins, weights=label - score, minlength=units * CALIBRATION_BINS
    ).reshape(units, CALIBRATION_BINS)
    rows = np.bincount(unit, minlength=units)
    step = max(1, BLOCK // size)
    blocks = []
    for first in range(0, len(weight), step):
        block = np.asarray(weight[first : first + step], dtype=np.float64)
        fp, tp = (_curves(unit[member], level[member], block, size) for member in members)
        values = {name: RANKING[name](fp, tp) for name in ("auc", "eer")}
        values["brier"] = ratio(block @ squared, block @ rows)
        values["ece"] = ratio(np.abs(block @ apart).sum(axis=1), block @ rows)
        blocks.append(values)
    return {name: np.concatenate([values[name] for values in blocks]) for name in SCORE_METRICS}


def _curves(unit: np.ndarray, level: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """(size + 1, B) weighted rows of one class at or above each level, as `evaluation.counts` reads them."""
    units = weight.shape[1]
    if units * size <= BLOCK:
        table = np.bincount(unit * size + level, minlength=units * size).reshape(units, size)
        counted = weight @ table.astype(np.float64)  # (B, C) @ (C, levels)
    else:
        counted = np.stack([np.bincount(level, weights=row[unit], minlength=size) for row in weight])
    return np.pad(np.cumsum(counted, axis=1).T, ((1, 0), (0, 0)))
