"""Metrics of each group of score columns, with resamples of whole units behind them.

The engine under everything that is said of groups: an audit, a change, a stratum, another threshold. Columns
of scores that belong to the same rows (two detectors; before and after) are resampled together, so that what
they share cancels in their difference. Equal rows, groups and generator give equal numbers, whatever metrics
and thresholds are asked for beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unmasked.evaluation.counts import Array
from unmasked.evaluation.intervals import (
    CONFIDENCE,
    Sample,
    behind,
    metric_interval,
    resample_together,
    seed_by_name,
)
from unmasked.evaluation.metrics import METRICS, all_metrics
from unmasked.fairness.settings import Settings


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

    metric: str
    value: np.ndarray  # (K, J)
    drawn: np.ndarray  # (K, J, B) the same in each bootstrap resample
    units: np.ndarray  # (J,) units of resampling that the metric rests on
    rows: np.ndarray  # (J,) rows of the classes it needs

    def of(self, groups: Sequence[int]) -> Estimates:
        """Those of some of the groups, by position."""
        kept = list(groups)
        value, drawn = self.value[:, kept], self.drawn[:, kept]
        return Estimates(self.metric, value, drawn, self.units[kept], self.rows[kept])

    def limits(self, column: int = 0, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
        """(J,) lower and (J,) upper limits of one score column, see `intervals.metric_interval`."""
        groups = zip(self.value[column], self.drawn[column], self.units, self.rows, strict=True)
        found = [metric_interval(self.metric, *one, confidence=confidence) for one in groups]
        low, high = np.array(found, dtype=np.float64).reshape(-1, 2).T
        return low, high


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
        metrics: of `evaluation.metrics.METRICS`.
        groups: J; a group without rows has NaN.
        n_boot: bootstrap resamples of units, inside strata of equal class composition.
        rng: source of randomness; `generator` for the groups of an audit.
    """
    value = {name: np.empty((len(scores), groups)) for name in metrics}
    drawn = {name: np.empty((len(scores), groups, n_boot)) for name in metrics}
    size = {name: np.empty((2, groups), dtype=np.int64) for name in metrics}
    for code, member in enumerate(_members(decisions.group, groups)):
        label = decisions.label[member]
        unit, units = number_units(decisions.unit[member])
        samples = [
            Sample(label, np.asarray(score, dtype=np.float64)[member], unit, units) for score in scores
        ]
        cuts = [cut[member] if isinstance(cut, np.ndarray) and cut.ndim else cut for cut in thresholds]
        found = resample_together(samples, cuts, n_boot=n_boot, seed=rng, only=metrics)
        for column, (sample, cut) in enumerate(zip(samples, cuts, strict=True)):
            values = all_metrics(sample.label, sample.score, cut, metrics)
            for name in metrics:
                value[name][column, code] = values[name]
                drawn[name][column, code] = found[column][name]
        for name in metrics:
            size[name][:, code] = behind(name, samples[0])
    return {name: Estimates(name, value[name], drawn[name], *size[name]) for name in metrics}


def generator(settings: Settings, name: str) -> np.random.Generator:
    """The randomness of an attribute, or of a dataset as `evaluate` has it.

    Seeded by name: an attribute's figures do not depend on which others are audited with it.
    """
    return np.random.default_rng(seed_by_name(settings.random_state, name))


def group_codes(groups: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N,) position of each row's group among the names, -1 where it is none of them."""
    return pd.Index(list(names), dtype=object).get_indexer(np.asarray(groups, dtype=object)).astype(np.int64)


def number_units(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """(N,) whole numbers numbered anew from 0, in their order, and how many there are.

    As `np.unique` has it, without sorting: of 7, 2, 7 the numbers 2 and 7 are present, and are first and
    second.

    >>> number_units(np.array([7, 2, 7]))
    (array([1, 0, 1]), 2)
    """
    present = np.bincount(codes) > 0
    return (np.cumsum(present) - 1)[codes], int(np.count_nonzero(present))


def classes(metric: str) -> list[int]:
    """The labels, 0 and 1, that a metric needs rows of."""
    return list(METRICS[metric].needs)


def _members(group: np.ndarray, size: int) -> list[np.ndarray]:
    """Row numbers of each group, in one pass over the rows.

    Groups 1, 0, -1, 1 of two groups: sorted, rows 2, 1, 0, 3, cut where a group ends into [1] and [0, 3].
    """
    order = np.argsort(group.astype(np.int16), kind="stable")
    inside = order[np.count_nonzero(group < 0) :]
    return np.split(inside, np.cumsum(np.bincount(group[group >= 0], minlength=size))[:-1])
