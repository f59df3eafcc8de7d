"""Error rates by group at every stored threshold: the effect of each choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unmasked.evaluation.thresholds import Threshold
from unmasked.fairness.across.changes import rows_of
from unmasked.fairness.result import Audit
from unmasked.fairness.statistics.estimates import Decisions, estimates, generator, group_codes

RATES = ("fpr", "tpr")
PARITY = Threshold(0.5, "fixed", note="what the published benches use, whatever the detector")


def add_half(thresholds: Sequence[Threshold]) -> list[Threshold]:
    """The thresholds, and 0.5 where none of them is."""
    return [*thresholds, *([] if any(each.value == PARITY.value for each in thresholds) else [PARITY])]


def operating_points(audit: Audit, thresholds: Sequence[Threshold]) -> list[dict[str, Any]]:
    """FPR and TPR of every group of an audit's attributes at each threshold.

    Returns:
        For each threshold ``{"rule", "value", "fitted_on", "level", "note", "attributes"}``, the last being
        attribute -> a list of ``{"group", "fpr", "fpr_ci", "tpr", "tpr_ci", "real_videos", "fake_videos"}``.
        "unknown" and groups below the minimum support are listed as well; ``"compared"`` names the rates
        of which the group has enough.
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


def _by_group(audit: Audit, attribute: str, threshold: float) -> list[dict[str, Any]]:
    rows, groups = rows_of(audit)
    names = list(audit.support.loc[attribute].index)
    found = estimates(
        Decisions(rows.label, rows.cluster, group_codes(groups[attribute].to_numpy(), names)),
        [rows.score],
        [threshold],
        RATES,
        groups=len(names),
        n_boot=audit.settings.resamples(len(rows)),
        rng=generator(audit.settings, attribute),  # the audit's, so that one threshold has one interval
    )
    limits = {name: found[name].limits() for name in RATES}
    entries = []
    for place, group in enumerate(names):
        support = audit.support.loc[(attribute, group)]
        entry: dict[str, Any] = {"group": group}
        for name in RATES:
            low, high = limits[name]
            entry[name] = float(found[name].value[0, place])
            entry[f"{name}_ci"] = [float(low[place]), float(high[place])]
        entry |= {kind: int(support[kind]) for kind in ("real_videos", "fake_videos")}
        entry["compared"] = [name for name in RATES if audit.in_gap.loc[(attribute, group), name]]
        entries.append(entry)
    return entries
