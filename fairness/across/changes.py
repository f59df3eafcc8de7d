"""Change of a gap: to a target, between detectors, before and after a mitigation.

On the same videos both gaps err together, and the change is measured far more surely than either; on
different people they do not. `unmasked.fairness.statistics.differences` says how the intervals are made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.metrics import group_metrics
from unmasked.fairness.groups import UNKNOWN, order_groups
from unmasked.fairness.result import Audit, rows_of
from unmasked.fairness.statistics.comparisons import TESTED
from unmasked.fairness.statistics.differences import (
    Change,
    gap_change,
    paired_gap_difference,
    paired_value_differences,
    undefined_change,
)
from unmasked.fairness.statistics.estimates import (
    Decisions,
    Estimates,
    classes,
    estimates,
    generator,
    group_codes,
)

MIN_CLUSTERS = 10
COLUMNS = ("attribute", "metric", "gap_source", "gap_target", "change", "low", "high", "groups", "note")


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
    """The gap under b minus the gap under a, on the same rows.

    Two detectors, before and after, …

    Args:
        label: (N,) 0 = real, 1 = fake.
        score_a, score_b: (N,) P(fake), or decisions 0 and 1.
        groups: (N,) group names; "unknown" is left out.
        cluster: (N,) person or video of each row, of any type: the unit of resampling.
        threshold_a, threshold_b: a row is called fake when its score exceeds it; arrays (N,) give each
            row its own, as thresholds by group do.
        metric: one of `evaluation.metrics.METRICS`; the gap is the largest minus the smallest of the groups.
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
    names = _compared_groups(rows, names, metric, compared, min_clusters)
    if len(names) < 2:
        return undefined_change(names)
    found = estimates(
        _rows_among(rows, groups, names),
        (score_a, score_b),
        (threshold_a, threshold_b),
        [metric],
        groups=len(names),
        n_boot=n_boot,
        rng=np.random.default_rng(random_state),
    )
    return paired_gap_difference(found[metric], names)


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
        [metric],
        groups=1,
        n_boot=n_boot,
        rng=np.random.default_rng(random_state),
    )
    return paired_value_differences(found[metric])[0]


def _paired_rows(
    label: np.ndarray, groups: np.ndarray, cluster: np.ndarray, scores: Sequence[np.ndarray], metric: str
) -> tuple[Decisions, list[str]]:
    """The rows with codes for units and groups, and the groups' names."""
    if metric not in group_metrics():
        raise InputError(f"metric {metric!r} is not known; choose one of {', '.join(group_metrics())}")
    lengths = {"groups": len(groups), "cluster": len(cluster)}
    lengths |= {name: len(score) for name, score in zip(("score_a", "score_b"), scores, strict=True)}
    for name, length in lengths.items():
        if length != len(label):
            raise InputError(f"{name} has {length} values but label has {len(label)}; give one for every row")
    names = order_groups(
        [str(name) for name in pd.unique(np.asarray(groups, dtype=object)) if name != UNKNOWN]
    )
    unit = pd.factorize(np.asarray(cluster, dtype=object))[0].astype(np.int64)
    rows = Decisions(np.asarray(label, dtype=np.int64), unit, group_codes(groups, names))
    return rows, names


def _rows_among(rows: Decisions, groups: np.ndarray, names: Sequence[str]) -> Decisions:
    return Decisions(rows.label, rows.unit, group_codes(groups, names))


def _compared_groups(
    rows: Decisions, names: list[str], metric: str, compared: Sequence[str] | None, min_clusters: int
) -> list[str]:
    """The groups in the gap: those named, or those with the units that the metric needs."""
    if compared is not None:
        return [name for name in names if name in set(map(str, compared))]
    enough = []
    for code, name in enumerate(names):
        member = rows.group == code
        held = [len(np.unique(rows.unit[member & (rows.label == label)])) for label in classes(metric)]
        if min(held) >= min_clusters:
            enough.append(name)
    return enough


def compare(
    source: Audit, target: Audit, *, paired: bool = False, metrics: Sequence[str] = TESTED
) -> pd.DataFrame:
    """How each gap changed between two audits, a row for each shared attribute and metric.

    The gaps are those among the groups that both audits compare; where that leaves one out, the note says
    so, as the gaps are then not those of the audits.

    Args:
        source, target: two audits, each at its own threshold; of audits within levels of a control feature,
            the pooled ones.
        paired: the same videos in both, row by row (two detectors, before and after); otherwise they are
            taken for different people (two datasets).
        metrics: of `evaluation.metrics.METRICS`.

    Returns:
        Columns `COLUMNS`; low and high are 95 % limits of the change, NaN where it is undefined.

    Raises:
        InputError: no attribute is in both, or paired audits are not of the same rows.
    """
    source, target = (audit if audit.pooled is None else audit.pooled for audit in (source, target))
    shared = [name for name in source.support.index.unique(0) if name in target.support.index.unique(0)]
    if not shared:
        listed = [", ".join(each.support.index.unique(0)) for each in (source, target)]
        raise InputError(
            f"the audits have no attribute in common: one is by {listed[0]}, the other by {listed[1]}; "
            "audit both by the same attributes"
        )
    rows = [
        {"attribute": attribute, "metric": metric, **_row(change, source, target, attribute, metric)}
        for attribute in shared
        for metric, change in _changes(source, target, attribute, paired, metrics).items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _changes(
    source: Audit, target: Audit, attribute: str, paired: bool, metrics: Sequence[str]
) -> dict[str, Change]:
    """The change of each metric's gap by one attribute."""
    names = order_groups([name for name in source.support.loc[attribute].index if name != UNKNOWN])
    if paired:
        _check_same_rows(source, target, attribute)
        both = _measure([source, target], attribute, names, metrics)
    else:
        one, other = (_measure([audit], attribute, names, metrics) for audit in (source, target))
    found = {}
    for metric in metrics:
        kept = [
            place
            for place, name in enumerate(names)
            if all(is_in_gap(audit, attribute, name, metric) for audit in (source, target))
        ]
        compared = [names[place] for place in kept]
        if len(kept) < 2:
            found[metric] = undefined_change(compared)
        elif paired:
            found[metric] = paired_gap_difference(both[metric].of(kept), compared)
        else:
            found[metric] = gap_change(one[metric].of(kept), other[metric].of(kept), compared)
    return found


def _measure(
    audits: list[Audit], attribute: str, names: list[str], metrics: Sequence[str]
) -> dict[str, Estimates]:
    """The metrics of the groups under each audit's scores; the rows are the first one's."""
    first = audits[0]
    rows, groups = rows_of(first)
    return estimates(
        Decisions(rows.label, rows.cluster, group_codes(groups[attribute].to_numpy(), names)),
        [rows_of(audit)[0].score for audit in audits],
        [audit.settings.threshold for audit in audits],
        metrics,
        groups=len(names),
        n_boot=first.settings.resamples(len(rows)),
        rng=generator(first.settings, attribute),
    )


def is_in_gap(audit: Audit, attribute: str, group: str, metric: str) -> bool:
    """True if an audit compares a group on a metric; False for one that it does not know."""
    return (attribute, group) in audit.in_gap.index and bool(audit.in_gap.loc[(attribute, group), metric])


def _check_same_rows(source: Audit, target: Audit, attribute: str) -> None:
    (rows_a, groups_a), (rows_b, groups_b) = rows_of(source), rows_of(target)
    if len(rows_a) != len(rows_b):
        raise InputError(
            f"paired audits are of the same rows, but one has {len(rows_a)} and the other {len(rows_b)}; "
            "audit the videos that both have, or compare them unpaired"
        )
    same = np.array_equal(rows_a.label, rows_b.label) and np.array_equal(rows_a.cluster, rows_b.cluster)
    if not (same and np.array_equal(groups_a[attribute].to_numpy(), groups_b[attribute].to_numpy())):
        raise InputError(
            f"paired audits are of the same rows, but labels, videos or {attribute} differ; give both tables "
            "in the same order, or compare them unpaired"
        )


def _row(change: Change, source: Audit, target: Audit, attribute: str, metric: str) -> dict[str, object]:
    left_out = [
        name
        for name in source.support.loc[attribute].index.union(target.support.loc[attribute].index)
        if name not in change.groups
        and any(is_in_gap(audit, attribute, name, metric) for audit in (source, target))
    ]
    note = change.note
    if left_out and not note:
        note = f"among {', '.join(change.groups)} only: {', '.join(left_out)} cannot be compared in both"
    return {
        "gap_source": change.before,
        "gap_target": change.after,
        "change": change.change,
        "low": change.low,
        "high": change.high,
        "groups": list(change.groups),
        "note": note,
    }
