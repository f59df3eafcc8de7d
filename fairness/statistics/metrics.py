"""Counts behind the metrics of groups.

The metrics themselves are those of `unmasked.evaluation.metrics`.
A count table has one row per unit of resampling and the columns tn, fp, fn, tp; its rows are summed for a
group or a permutation alike, so that thousands of them are one matrix product. A row is called fake when
``score > threshold``. Undefined is NaN, never 0: a group without fakes has no TPR.
"""

from __future__ import annotations

import numpy as np

from unmasked.evaluation.counts import Confusion, confusion_terms
from unmasked.evaluation.metrics import METRICS, from_counts, group_metrics

COUNTS = ("tn", "fp", "fn", "tp")
BOTH = ("real", "fake")

# Elements of one block of a resampled array: some 100 MB whatever the size of the table.
BLOCK = 4_000_000


def needs(metric: str) -> tuple[str, ...]:
    """The classes ("real", "fake") that a group must have enough of for this metric.

    >>> needs("fpr"), needs("auc")
    (('real',), ('real', 'fake'))
    """
    return tuple(BOTH[label] for label in METRICS[metric].needs)


def count_rows(label: np.ndarray, score: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """(N, 4) int64, one 1 in each row: which outcome of `COUNTS` it is."""
    return confusion_terms(label, score, threshold).T.astype(np.int64)


def count_units(label: np.ndarray, flagged: np.ndarray, unit: np.ndarray, size: int) -> np.ndarray:
    """(size, 4) counts of each unit, columns `COUNTS`; ``flagged`` (N,) is called fake."""
    # tn, fp, fn, tp are 0 to 3, so unit 5's false positives are counted in cell 5 * 4 + 1.
    outcome = 2 * label + flagged
    return np.bincount(unit * 4 + outcome, minlength=4 * size).reshape(size, 4)


def sum_by(values: np.ndarray, codes: np.ndarray, size: int) -> np.ndarray:
    """(size, K) sums of the rows of (N, K) whole numbers by code; codes below 0 are left out."""
    kept = codes >= 0
    columns = values[kept].T
    return np.stack(
        [np.bincount(codes[kept], weights=column, minlength=size) for column in columns], axis=1
    ).astype(np.int64)


def rates(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The group metrics at a threshold from counts (..., 4), each (...); NaN where undefined.

    >>> float(rates(np.array([9, 1, 5, 15]))["tpr"])
    0.75
    """
    confusion = Confusion(*np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0))
    return from_counts(group_metrics(), {"threshold": (confusion,)})
