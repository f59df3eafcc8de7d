"""Error rates by group at every stored threshold: the effect of each choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unmasked.evaluation.thresholds import Threshold
from unmasked.fairness.records import GroupAtThreshold, OperatingPoint
from unmasked.fairness.result import Audit, rows_of
from unmasked.fairness.statistics.estimates import Decisions, estimates, generator, group_codes

RATES = ("fpr", "tpr")
PARITY = Threshold(0.5, "fixed", note="what the published benches use, whatever the detector")


def add_half(thresholds: Sequence[Threshold]) -> list[Threshold]:
    """The thresholds, and 0.5 where none of them is."""
    return [*thresholds, *([] if any(each.value == PARITY.value for each in thresholds) else [PARITY])]


def operating_points(audit: Audit, thresholds: Sequence[Threshold]) -> list[OperatingPoint]:
    """FPR and TPR of every group of an audit's attributes at each threshold.

    "unknown" and groups below the minimum support are listed as well.
    """
    names = list(audit.support.index.unique(0))
    return [
        {
            "rule": each.rule,
            "value": each.value,
            "fitted_on": each.fitted_on,
            "level": each.level,
            "note": each.note,
            "attributes": {name: _by_group(audit, name, each.value) for name in names},
        }
        for each in thresholds
    ]


def _by_group(audit: Audit, attribute: str, threshold: float) -> list[GroupAtThreshold]:
    support, in_gap = audit.support.loc[attribute], audit.in_gap.loc[attribute]
    value, low, high = _measure(audit, attribute, threshold)
    return [
        {
            "group": group,
            "fpr": float(value[place, 0]),
            "fpr_ci": [float(low[place, 0]), float(high[place, 0])],
            "tpr": float(value[place, 1]),
            "tpr_ci": [float(low[place, 1]), float(high[place, 1])],
            "real_videos": int(support["real_videos"].iloc[place]),
            "fake_videos": int(support["fake_videos"].iloc[place]),
            "compared": [name for name in RATES if in_gap[name].iloc[place]],
        }
        for place, group in enumerate(support.index)
    ]


def _measure(audit: Audit, attribute: str, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(J, 2) FPR and TPR of each group at a threshold, and both ends of their intervals."""
    if threshold == audit.settings.threshold:  # the audit's own: it has them
        frames = (audit.by_group, *audit.by_group_ci)
        value, low, high = (frame.loc[attribute, list(RATES)].to_numpy() for frame in frames)
        return value, low, high
    rows, groups = rows_of(audit)
    names = list(audit.support.loc[attribute].index)
    found = estimates(
        Decisions(rows.label, rows.cluster, group_codes(groups[attribute].to_numpy(), names)),
        [rows.score],
        [threshold],
        RATES,
        groups=len(names),
        n_boot=audit.settings.resamples(len(rows)),
        rng=generator(audit.settings, attribute),  # the audit's, so that its threshold has one interval
    )
    ends = [found[name].limits() for name in RATES]
    value = np.column_stack([found[name].value[0] for name in RATES])
    return value, np.column_stack([low for low, _ in ends]), np.column_stack([high for _, high in ends])
