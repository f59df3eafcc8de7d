"""Differences of two values or gaps, with intervals that respect their correlation.

Both have limits of their own (`intervals.metric_interval`, `resampling.gap_interval`), which are joined by
the method of variance estimates recovery. Its correlation is that of one bootstrap over both where they are
of the same videos, and 0 where they are of different people (Zou 2007, "Toward using confidence intervals
to compare correlations", equation 15).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from unmasked.fairness.statistics.estimates import Estimates
from unmasked.fairness.statistics.resampling import gap, gap_interval


@dataclass(frozen=True)
class Change:
    """How far a value or gap moved, ``after - before``, with a 95 % interval or NaN."""

    before: float
    after: float
    low: float
    high: float
    groups: tuple[str, ...] = ()  # those compared in both
    note: str = ""  # why it is undefined, or not quite the gap of the audit
    before_ci: tuple[float, float] = (float("nan"), float("nan"))  # of a gap: 0 is in it where none is shown

    @property
    def change(self) -> float:
        """``after - before``: below 0 where it shrank."""
        return self.after - self.before

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high)."""
        return self.low, self.high


def gap_change(source: Estimates, target: Estimates, names: Sequence[str]) -> Change:
    """The gap on the target minus the gap on the source, measured on different people.

    Args:
        source, target: one metric of the same groups, one score column each.
        names: the groups' names, at least two.
    """
    before, after = _gap_of(source, 0), _gap_of(target, 0)
    low, high = recover_limits(before, after, 0.0)
    return Change(before[0], after[0], low, high, tuple(names))


def paired_gap_difference(found: Estimates, names: Sequence[str]) -> Change:
    """The gap in the second score column minus that in the first, on the same rows."""
    before, after = _gap_of(found, 0), _gap_of(found, 1)
    low, high = recover_limits(before, after, _correlation(_spread(found, 0), _spread(found, 1)))
    return Change(before[0], after[0], low, high, tuple(names), before_ci=before[1:])


def paired_value_differences(found: Estimates) -> list[Change]:
    """For each group, its value in the second score column minus that in the first.

    Both are of the same rows.
    """
    (low_a, high_a), (low_b, high_b) = found.limits(0), found.limits(1)
    changes = []
    for group, (a, b) in enumerate(found.value.T):
        before, after = (a, low_a[group], high_a[group]), (b, low_b[group], high_b[group])
        low, high = recover_limits(before, after, _correlation(found.drawn[0, group], found.drawn[1, group]))
        changes.append(Change(float(a), float(b), low, high))
    return changes


def recover_limits(
    before: tuple[float, float, float], after: tuple[float, float, float], correlation: float
) -> tuple[float, float]:
    """95 % limits of after - before, from both (value, low, high) and their correlation.

    >>> [round(limit, 3) for limit in recover_limits((0.2, 0.1, 0.3), (0.5, 0.4, 0.6), 0.0)]
    [0.159, 0.441]
    """
    a, low_a, high_a = before
    b, low_b, high_b = after
    down = (b - low_b) ** 2 + (high_a - a) ** 2 - 2 * correlation * (b - low_b) * (high_a - a)
    up = (high_b - b) ** 2 + (a - low_a) ** 2 - 2 * correlation * (high_b - b) * (a - low_a)
    low, high = b - a - np.sqrt(np.maximum(down, 0.0)), b - a + np.sqrt(np.maximum(up, 0.0))
    return float(np.maximum(low, -1.0)), float(np.minimum(high, 1.0))


def undefined_change(names: Sequence[str]) -> Change:
    """An undefined change, as fewer than two groups (``names``) can be compared."""
    undefined = float("nan")
    found = f"only {names[0]} has" if names else "no group has"
    note = f"not enough data: {found} the videos to be compared in both"
    return Change(undefined, undefined, undefined, undefined, tuple(names), note)


def _gap_of(found: Estimates, column: int) -> tuple[float, float, float]:
    """(gap, low, high) among the groups in one score column."""
    value = found.value[column]
    if (found.units < 2).all():
        return float(gap(value)), float("nan"), float("nan")
    limits = gap_interval(value, partial(found.limits, column))
    return float(gap(value)), *_unfold_limits(float(gap(value)), *limits)


def _unfold_limits(value: float, low: float, high: float) -> tuple[float, float]:
    """The limits of a gap, with a lower one that was cut off at 0 put where the upper one mirrors it.

    A gap is the absolute value of a difference and never below its truth when that is 0; a change measured
    from the cut limit covered 91 % where 95 are promised.
    """
    return (low, high) if low > 0 else (float(np.minimum(0.0, 2 * value - high)), high)


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
