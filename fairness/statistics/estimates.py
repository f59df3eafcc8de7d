"""Metrics of each group of one or several score columns, with the draws of one cluster bootstrap for all.

The small engine under everything that compares audits: a change, a stratum, another threshold. Columns of
scores that belong to the same rows (two detectors; before and after) are resampled together, so that what
they share cancels in their difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from unmasked.fairness.statistics.metrics import (
    BOTH,
    RATES,
    count_rows,
    needs,
    rates,
    resampled_score_metrics,
    score_metrics,
    sum_by,
)
from unmasked.fairness.statistics.resampling import (
    bootstrap_counts,
    bootstrap_weights,
    score_interval,
    strata,
)

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

    def of(self, groups: Sequence[int]) -> Estimates:
        """Those of some of the groups, by position."""
        kept = list(groups)
        return Estimates(self.value[:, kept], self.drawn[:, kept], self.units[kept], self.rows[kept])

    def intervals(self, column: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(J,) lower and (J,) upper 95 % limits of one score column, see `resampling.score_interval`."""
        return score_interval(self.value[column], self.variance[column], self.units, self.rows)


def estimates(
    decisions: Decisions,
    scores: Sequence[np.ndarray],
    thresholds: Sequence[float | np.ndarray],
    metrics: Sequence[str],
    *,
    groups: int,
    n_boot: int,
    rng: np.random.Generator,
) -> dict[str, Estimates]:
    """Each metric of every group in every score column.

    Args:
        decisions: the rows; the same for all columns.
        scores: K arrays (N,) of P(fake).
        thresholds: K numbers, or arrays (N,) where each row has a threshold of its own.
        metrics: of `metrics.METRICS`.
        groups: J; a group without rows has NaN.
        n_boot: bootstrap resamples of units, inside strata of equal class composition.
        rng: source of randomness.
    """
    of_group = [
        _of_group(decisions, code, scores, thresholds, metrics, n_boot=n_boot, rng=rng)
        for code in range(groups)
    ]
    found = {}
    for name in metrics:
        value, drawn, units, rows = zip(*(each[name] for each in of_group), strict=True)
        found[name] = Estimates(
            value=np.stack(value, axis=1),
            drawn=np.stack(drawn, axis=1),
            units=np.array(units, dtype=np.float64),
            rows=np.array(rows, dtype=np.float64),
        )
    return found


def _of_group(
    decisions: Decisions,
    code: int,
    scores: Sequence[np.ndarray],
    thresholds: Sequence[float | np.ndarray],
    metrics: Sequence[str],
    *,
    n_boot: int,
    rng: np.random.Generator,
) -> dict[str, tuple[np.ndarray, np.ndarray, int, int]]:
    """By metric: (K,) values, (K, B) draws, units and rows that hold what it needs."""
    member = decisions.group == code
    label = decisions.label[member]
    unit = np.unique(decisions.unit[member], return_inverse=True)[1].reshape(-1)
    columns = [np.asarray(score, dtype=np.float64)[member] for score in scores]
    cuts: list[Any] = [cut[member] if isinstance(cut, np.ndarray) and cut.ndim else cut for cut in thresholds]
    size = int(unit.max(initial=-1)) + 1
    pairs = zip(columns, cuts, strict=True)
    counts = [sum_by(count_rows(label, score, cut), unit, size) for score, cut in pairs]
    stratum = strata(counts[0])  # labels are shared, so the strata are
    # (B, 4K): a unit brings its outcomes under every score column along.
    summed = np.split(
        bootstrap_counts(np.concatenate(counts, axis=1), stratum, n_boot, rng), len(scores), axis=1
    )
    value: list[dict[str, Any]] = [rates(each.sum(axis=0)) for each in counts]
    drawn = [rates(each) for each in summed]
    found = {}
    if ranking := [name for name in metrics if name not in RATES]:
        weights = bootstrap_weights(stratum, min(n_boot, SCORE_RESAMPLES), rng)
        value = [each | score_metrics(label, score) for each, score in zip(value, columns, strict=True)]
        drawn = [
            each | (resampled_score_metrics(label, score, unit, weights) if size else _undefined(ranking))
            for each, score in zip(drawn, columns, strict=True)
        ]
    for name in metrics:
        held = [counts[0][:, 2 * fake : 2 * fake + 2].sum(axis=1) for fake in classes(name)]
        found[name] = (
            np.array([each[name] for each in value], dtype=np.float64),
            np.stack([each[name] for each in drawn]),
            min(int((rows > 0).sum()) for rows in held),
            int(sum(rows.sum() for rows in held)),
        )
    return found


def group_codes(groups: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N,) position of each row's group among the names, -1 where it is none of them."""
    return pd.Index(list(names), dtype=object).get_indexer(np.asarray(groups, dtype=object)).astype(np.int64)


def classes(metric: str) -> list[int]:
    """The labels, 0 and 1, that a metric needs rows of."""
    return [BOTH.index(name) for name in needs(metric)]


def _undefined(names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: np.full(1, np.nan) for name in names}
