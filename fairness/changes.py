"""Change of a gap: from the source to a target, from one detector to another, from clean to perturbed.

Two gaps measured on the same videos err together, two on different people do not; the interval of their
difference must know which. Limits of both gaps are the audit's own (`resampling.gap_interval`), joined by
the method of variance estimates recovery, whose correlation is that of one bootstrap over both, or zero
(Zou 2007, "Toward using confidence intervals to compare correlations", equation 15).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.fairness.estimates import Decisions, Estimates, estimates
from unmasked.fairness.groups import UNKNOWN, ordered
from unmasked.fairness.metrics import METRICS, needs
from unmasked.fairness.resampling import gap, gap_interval

MIN_CLUSTERS = 10


@dataclass(frozen=True)
class Change:
    """How much a value or a gap moved, ``after - before``, with a 95 % interval; NaN is undefined."""

    before: float
    after: float
    low: float
    high: float
    groups: tuple[str, ...] = ()  # those compared in both
    note: str = ""  # why it is undefined, or not quite the gap of the audit

    @property
    def change(self) -> float:
        """``after - before``: below 0 where it shrank."""
        return self.after - self.before

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high)."""
        return self.low, self.high


def paired_gap_change(
    label: np.ndarray,
    score_a: np.ndarray,
    score_b: np.ndarray,
    groups: np.ndarray,
    cluster: np.ndarray,
    *,
    threshold_a: float | np.ndarray = 0.5,
    threshold_b: float | np.ndarray = 0.5,
    metric: str = "fpr",
    compared: Sequence[str] | None = None,
    min_clusters: int = MIN_CLUSTERS,
    n_boot: int = 2000,
    random_state: int = 0,
) -> Change:
    """The gap under b minus the gap under a, on the same rows: two detectors, before and after, …

    Args:
        label: (N,) 0 = real, 1 = fake.
        score_a, score_b: (N,) P(fake), or decisions 0 and 1.
        groups: (N,) group names; "unknown" is left out.
        cluster: (N,) person or video of each row, of any type: the unit of resampling.
        threshold_a, threshold_b: a row is called fake when its score exceeds it; arrays (N,) give each
            row its own, as thresholds by group do.
        metric: one of `metrics.METRICS`; the gap is the largest minus the smallest among the groups.
        compared: the groups in the gap; None takes all with at least ``min_clusters`` units in the
            class(es) that the metric needs.
        min_clusters: see ``compared``.
        n_boot: bootstrap resamples.
        random_state: seed.

    Returns:
        A `Change`, NaN with a note where fewer than two groups can be compared.

    Raises:
        InputError: lengths differ, or the metric is unknown.
    """
    rows, names = _paired_rows(label, groups, cluster, (score_a, score_b), metric)
    names = _compared(rows, names, metric, compared, min_clusters)
    if len(names) < 2:
        return _too_few(names)
    found = estimates(
        _among(rows, groups, names),
        (score_a, score_b),
        (threshold_a, threshold_b),
        metric,
        groups=len(names),
        n_boot=n_boot,
        rng=np.random.default_rng(random_state),
    )
    before, after = (_gap_of(found, column) for column in (0, 1))
    correlation = _correlation(_spread(found, 0), _spread(found, 1))
    low, high = recovered(before, after, correlation)
    return Change(before[0], after[0], low, high, tuple(names))


def paired_change(
    label: np.ndarray,
    score_a: np.ndarray,
    score_b: np.ndarray,
    cluster: np.ndarray,
    *,
    threshold_a: float | np.ndarray = 0.5,
    threshold_b: float | np.ndarray = 0.5,
    metric: str = "balanced_accuracy",
    n_boot: int = 2000,
    random_state: int = 0,
) -> Change:
    """The metric over all rows under b minus that under a: the utility price of a change.

    Args are those of `paired_gap_change`.
    """
    everyone = np.full(len(label), "everyone", dtype=object)
    rows, _ = _paired_rows(label, everyone, cluster, (score_a, score_b), metric)
    found = estimates(
        rows,
        (score_a, score_b),
        (threshold_a, threshold_b),
        metric,
        groups=1,
        n_boot=n_boot,
        rng=np.random.default_rng(random_state),
    )
    limits = [found.intervals(column) for column in (0, 1)]
    before, after = (
        (float(found.value[column, 0]), float(limits[column][0][0]), float(limits[column][1][0]))
        for column in (0, 1)
    )
    low, high = recovered(before, after, _correlation(found.drawn[0, 0], found.drawn[1, 0]))
    return Change(before[0], after[0], low, high)


def recovered(
    before: tuple[float, float, float], after: tuple[float, float, float], correlation: float
) -> tuple[float, float]:
    """95 % limits of after - before from both estimates' (value, low, high) and their correlation.

    >>> [round(limit, 3) for limit in recovered((0.2, 0.1, 0.3), (0.5, 0.4, 0.6), 0.0)]
    [0.159, 0.441]
    """
    a, low_a, high_a = before
    b, low_b, high_b = after
    down = (b - low_b) ** 2 + (high_a - a) ** 2 - 2 * correlation * (b - low_b) * (high_a - a)
    up = (high_b - b) ** 2 + (a - low_a) ** 2 - 2 * correlation * (high_b - b) * (a - low_a)
    low, high = b - a - np.sqrt(max(down, 0.0)), b - a + np.sqrt(max(up, 0.0))
    return max(-1.0, float(low)), min(1.0, float(high))


def _paired_rows(
    label: np.ndarray, groups: np.ndarray, cluster: np.ndarray, scores: Sequence[np.ndarray], metric: str
) -> tuple[Decisions, list[str]]:
    """The rows with codes for units and groups, and the groups' names."""
    if metric not in METRICS:
        raise InputError(f"metric {metric!r} is not known; choose one of {', '.join(METRICS)}")
    lengths = {"groups": len(groups), "cluster": len(cluster)}
    lengths |= {name: len(score) for name, score in zip(("score_a", "score_b"), scores, strict=True)}
    for name, length in lengths.items():
        if length != len(label):
            raise InputError(f"{name} has {length} values but label has {len(label)}; give one for every row")
    names = ordered([str(name) for name in pd.unique(np.asarray(groups, dtype=object)) if name != UNKNOWN])
    unit = pd.factorize(np.asarray(cluster, dtype=object))[0].astype(np.int64)
    rows = Decisions(np.asarray(label, dtype=np.int64), unit, group_codes(groups, names))
    return rows, names


def group_codes(groups: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N,) position of each row's group among the names, -1 where it is none of them."""
    return pd.Categorical(np.asarray(groups, dtype=object), categories=list(names)).codes.astype(np.int64)


def _among(rows: Decisions, groups: np.ndarray, names: Sequence[str]) -> Decisions:
    return Decisions(rows.label, rows.unit, group_codes(groups, names))


def _compared(
    rows: Decisions, names: list[str], metric: str, compared: Sequence[str] | None, min_clusters: int
) -> list[str]:
    """The groups in the gap: those named, or those with the units that the metric needs."""
    if compared is not None:
        return [name for name in names if name in set(map(str, compared))]
    enough = []
    for code, name in enumerate(names):
        member = rows.group == code
        held = [
            len(np.unique(rows.unit[member & (rows.label == {"real": 0, "fake": 1}[which])]))
            for which in needs(metric)
        ]
        if min(held) >= min_clusters:
            enough.append(name)
    return enough


def _too_few(names: Sequence[str]) -> Change:
    undefined = float("nan")
    found = f"only {names[0]} has" if names else "no group has"
    note = f"not enough data: {found} the videos to be compared in both"
    return Change(undefined, undefined, undefined, undefined, tuple(names), note)


def _gap_of(found: Estimates, column: int) -> tuple[float, float, float]:
    """(gap, low, high) among the groups in one score column."""
    value = found.value[column]
    limits = gap_interval(value, found.variance[column], found.units, found.rows)
    return float(gap(value)), *_unfolded(float(gap(value)), *limits)


def _unfolded(value: float, low: float, high: float) -> tuple[float, float]:
    """The limits of a gap, with a lower one that was cut off at 0 put where the upper one mirrors it.

    A gap is the absolute value of a difference and never below its truth when that is 0; a change measured
    from the cut limit covered 91 % where 95 are promised.
    """
    return (low, high) if low > 0 else (min(0.0, 2 * value - high), high)


def _spread(found: Estimates, column: int) -> np.ndarray:
    """(B,) the difference between the groups that are furthest apart in the sample, in each resample.

    The gap itself would not do: near zero it is folded, and loses its correlation.
    """
    value = found.value[column]
    return found.drawn[column, np.nanargmax(value)] - found.drawn[column, np.nanargmin(value)]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two statistics over the same resamples; 0 where one does not vary."""
    if not (np.var(a) > 0 and np.var(b) > 0):
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
