"""The per-group metrics: rates from count tables, ranking and calibration from weighted scores.

Formulas are those of `unmasked.evaluation.counts`, the one place that defines them. A count table has one
row per unit of resampling and the columns tn, fp, fn, tp; its rows are summed for a group, a bootstrap
resample or a permutation alike, so that thousands of them are one matrix product. A row is called fake when
``score > threshold``. Undefined is NaN, never 0: a group without fakes has no TPR.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unmasked.evaluation.counts import RANKING, THRESHOLD, Confusion, confusion_terms, levels_of, ratio

COUNTS = ("tn", "fp", "fn", "tp")
RATES = ("fpr", "fnr", "tpr", "selection_rate", "accuracy", "balanced_accuracy")
SCORE_METRICS = ("auc", "eer", "brier")
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
}
# The class a metric needs support in; every other metric needs both.
NEEDS: Mapping[str, tuple[str, ...]] = {"fpr": ("real",), "fnr": ("fake",), "tpr": ("fake",)}
BOTH = ("real", "fake")

# Elements of one block of a resampled array: some 100 MB whatever the size of the table.
BLOCK = 4_000_000


def needs(metric: str) -> tuple[str, ...]:
    """The classes ("real", "fake") that a group must have enough of for this metric.

    >>> needs("fpr"), needs("auc")
    (('real',), ('real', 'fake'))
    """
    return NEEDS.get(metric, BOTH)


def count_rows(label: np.ndarray, score: np.ndarray, threshold: float) -> np.ndarray:
    """(N, 4) int64, one 1 in each row: which outcome of `COUNTS` it is."""
    return confusion_terms(label, score, threshold).T.astype(np.int64)


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


def score_metrics(
    label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """AUC, EER (interpolated) and Brier score for B sets of row weights at once.

    Args:
        label: (N,) 0 = real, 1 = fake.
        score: (N,) P(fake).
        weight: (B, N) how often each row counts; None counts each once (B = 1).

    Returns:
        ``auc``, ``eer`` and ``brier``, each (B,). AUC and EER are NaN where a class has no weight.
    """
    weight = np.ones((1, len(label))) if weight is None else weight
    if not len(label):
        return {name: np.full(len(weight), np.nan) for name in SCORE_METRICS}
    _, level = levels_of(score)
    order = np.argsort(level, kind="stable")
    starts = np.flatnonzero(np.diff(level[order], prepend=-1))
    fake, squared = label[order].astype(np.float64), (score - label)[order] ** 2
    size = max(1, BLOCK // len(label))
    blocks = []
    for first in range(0, len(weight), size):
        block = np.asarray(weight[first : first + size], dtype=np.float64)[:, order]
        values = {name: RANKING[name](*_curves(fake, starts, block)) for name in ("auc", "eer")}
        blocks.append(values | {"brier": ratio(block @ squared, block.sum(axis=1))})
    return {name: np.concatenate([values[name] for values in blocks]) for name in SCORE_METRICS}


def _curves(fake: np.ndarray, starts: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``fp`` and ``tp`` (T + 1, B) as `evaluation.counts` reads them; rows are sorted by falling score."""
    curves = []
    for member in (1 - fake, fake):
        steps = np.add.reduceat(weight * member, starts, axis=1).T  # (B, N) -> (T, B)
        curves.append(np.pad(np.cumsum(steps, axis=0), ((1, 0), (0, 0))))
    return curves[0], curves[1]
