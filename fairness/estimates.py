"""Metrics of each group of one or several score columns, with the draws of one cluster bootstrap for all.

The small engine under everything that compares audits: a change, a stratum, another threshold. Columns of
scores that belong to the same rows (two detectors; before and after) are resampled together, so that what
they share cancels in their difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmasked.fairness.metrics import (
    METRICS,
    RATES,
    count_rows,
    needs,
    rates,
    resampled_score_metrics,
    score_metrics,
    sum_by,
)
from unmasked.fairness.resampling import bootstrap_counts, bootstrap_weights, score_interval, strata

# As in `slices`: ranking metrics need the scores of every resample.
SCORE_RESAMPLES = 200


@dataclass(frozen=True)
class Decisions:
    """The rows that are compared, each array (N,): who is shown, in which unit, real or fake.

    ``group`` holds codes from 0, -1 for rows that belong to no compared group.
    """

    label: np.ndarray
    unit: np.ndarray
    group: np.ndarray

    def kept(self, code: int) -> Decisions:
        """The rows of one group, under code 0."""
        rows = self.group == code
        return Decisions(self.label[rows], self.unit[rows], np.zeros(int(rows.sum()), dtype=np.int64))


@dataclass(frozen=True)
class Estimates:
    """One metric of J groups in K score columns."""

    value: np.ndarray  # (K, J)
    drawn: np.ndarray  # (K, J, B) the same in each bootstrap resample
    units: np.ndarray  # (J,) units of resampling that hold what the metric needs
    rows: np.ndarray  # (J,) rows of the classes it needs

    @property
    def variance(self) -> np.ndarray:
        """(K, J) sampling variance; NaN where a resample lacks a class."""
        return self.drawn.var(axis=2)

    def intervals(self, column: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(J,) lower and (J,) upper 95 % limits of one score column, see `resampling.score_interval`."""
        return score_interval(self.value[column], self.variance[column], self.units, self.rows)


def estimates(
    decisions: Decisions,
    scores: Sequence[np.ndarray],
    thresholds: Sequence[float | np.ndarray],
    metric: str,
    *,
    groups: int,
    n_boot: int,
    rng: np.random.Generator,
) -> Estimates:
    """One metric of every group in every score column.

    Args:
        decisions: the rows; the same for all columns.
        scores: K arrays (N,) of P(fake).
        thresholds: K numbers, or arrays (N,) where each row has a threshold of its own.
        metric: one of `metrics.METRICS`.
        groups: J; a group without rows has NaN.
        n_boot: bootstrap resamples of units, inside strata of equal class composition.
        rng: source of randomness.
    """
    assert metric in METRICS
    values, drawn, units, rows = [], [], [], []
    for code in range(groups):
        member = decisions.group == code
        of_group = decisions.kept(code)
        columns = [np.asarray(score, dtype=np.float64)[member] for score in scores]
        cuts = [cut[member] if isinstance(cut, np.ndarray) and cut.ndim else cut for cut in thresholds]
        found = _of_group(of_group, columns, cuts, metric, n_boot, rng)
        values.append(found[0])
        drawn.append(found[1])
        needed = [of_group.label == {"real": 0, "fake": 1}[name] for name in needs(metric)]
        units.append(min(len(np.unique(of_group.unit[rows_of])) for rows_of in needed))
        rows.append(sum(int(rows_of.sum()) for rows_of in needed))
    return Estimates(
        value=np.stack(values, axis=1),
        drawn=np.stack(drawn, axis=1),
        units=np.array(units, dtype=np.float64),
        rows=np.array(rows, dtype=np.float64),
    )


def _of_group(
    rows: Decisions,
    scores: list[np.ndarray],
    thresholds: list[float | np.ndarray],
    metric: str,
    n_boot: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """(K,) values and (K, B) draws of one group."""
    repeats = n_boot if metric in RATES else min(n_boot, SCORE_RESAMPLES)
    if not len(rows.label):
        return np.full(len(scores), np.nan), np.full((len(scores), repeats), np.nan)
    unit = np.unique(rows.unit, return_inverse=True)[1].reshape(-1)
    size = int(unit.max()) + 1
    pairs = zip(scores, thresholds, strict=True)
    counts = [sum_by(count_rows(rows.label, score, cut), unit, size) for score, cut in pairs]
    stratum = strata(counts[0])  # labels are shared, so the strata are
    if metric in RATES:
        value = np.array([rates(each.sum(axis=0))[metric] for each in counts], dtype=np.float64)
        # (C, 4K): a unit brings its outcomes under every score column along.
        summed = bootstrap_counts(np.concatenate(counts, axis=1), stratum, repeats, rng)
        parts = np.split(summed, len(scores), axis=1)
        return value, np.stack([rates(part)[metric] for part in parts])
    weights = bootstrap_weights(stratum, repeats, rng)
    value = np.array([score_metrics(rows.label, score)[metric] for score in scores])
    drawn = [resampled_score_metrics(rows.label, score, unit, weights)[metric] for score in scores]
    return value, np.stack(drawn)
