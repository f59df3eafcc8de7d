"""Audits within levels of control features, beside the pooled one.

As `MetricFrame`'s ``control_features``.
A gap may only reflect that groups differ in something else: one group's videos are more compressed, say.
Within a level of that something the comparison is fair, and a gap that is there when pooled and nowhere
within levels (Simpson's paradox) is not about the people.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.fairness.groups import MAX_GROUPS, UNKNOWN, as_columns, order_groups
from unmasked.fairness.result import Audit, audit_rows
from unmasked.fairness.statistics.comparisons import judge_tests
from unmasked.fairness.statistics.slices import Rows, Settings
from unmasked.fairness.verdicts import sentences


def control_columns(control_features: Any, n_rows: int, attributes: pd.Index) -> pd.DataFrame:
    """Control features as a table of level names; raises InputError where they cannot be used."""
    controls = as_columns(control_features, n_rows, "control_feature")
    for name in controls.columns:
        if name in attributes:
            raise InputError(
                f"{name!r} is both a sensitive and a control feature: its groups cannot be compared within "
                "itself; give it as one of the two"
            )
        if (controls[name] == UNKNOWN).all():
            raise InputError(f"control feature {name!r} is unknown in every row; give the levels to audit")
    cells = len(controls.drop_duplicates())
    if cells > MAX_GROUPS:
        raise InputError(
            f"control_features have {cells} levels together; at most {MAX_GROUPS} can be audited one by one"
        )
    return controls


def audit_within(rows: Rows, groups: pd.DataFrame, controls: pd.DataFrame, pooled: Audit) -> Audit:
    """The audit at every level of the control features; ``pooled`` is the one of all rows.

    Every frame has the control features as its first index levels, `tests` as its first columns, as
    `MetricFrame` has them; a group that is absent from a level has NaN there. All levels' tests are one
    family. Rows whose level is unknown are in the pooled audit only.
    """
    names = list(controls.columns)
    levels: dict[tuple[str, ...], Audit] = {}
    known = (controls != UNKNOWN).all(axis=1)
    found = controls[known].drop_duplicates()
    orders = [order_groups(found[name].tolist()) for name in names]
    for values in sorted(
        found.itertuples(index=False, name=None),
        key=lambda values: [order.index(value) for order, value in zip(orders, values, strict=True)],
    ):
        member = (controls.to_numpy() == np.array(values, dtype=object)).all(axis=1)
        levels[values] = audit_rows(_subset(rows, member), groups[member], pooled.settings)
    levels = _one_family(levels, pooled.settings)
    return _stack_audits(levels, names, pooled, controls)


def _subset(rows: Rows, member: np.ndarray) -> Rows:
    return Rows(
        label=rows.label[member],
        score=rows.score[member],
        cluster=pd.factorize(rows.cluster[member])[0].astype(np.int64),
        video=pd.factorize(rows.video[member])[0].astype(np.int64),
        frames=rows.frames[member],
        whole=None if rows.whole is None else rows.whole[member],
    )


def _one_family(levels: dict[tuple[str, ...], Audit], settings: Settings) -> dict[tuple[str, ...], Audit]:
    """The same audits with Holm's correction over the tests of all levels."""
    audits = levels.values()
    tests = judge_tests(
        pd.concat([audit.tests for audit in audits], ignore_index=True),
        [pairs for audit in audits for pairs in audit._pair_tests],
        settings,
    )
    parts, first = {}, 0
    for values, audit in levels.items():
        own = tests.iloc[first : first + len(audit.tests)].reset_index(drop=True)
        first += len(audit.tests)
        parts[values] = replace(audit, tests=own, verdicts=sentences(own, audit.by_group, settings))
    return parts


def _stack_audits(
    levels: dict[tuple[str, ...], Audit], names: list[str], pooled: Audit, controls: pd.DataFrame
) -> Audit:
    index = pd.MultiIndex.from_tuples(levels, names=names)

    def stack(frames: list[pd.DataFrame]) -> pd.DataFrame:
        keys = index if len(names) > 1 else index.get_level_values(0)
        return pd.concat(frames, keys=keys, names=names)

    def by_group(frames: list[pd.DataFrame], fill: Any = np.nan) -> pd.DataFrame:
        return stack([frame.reindex(pooled.by_group.index, fill_value=fill) for frame in frames])

    def overall(rows: list[pd.Series]) -> pd.DataFrame:
        keys = index if len(names) > 1 else index.get_level_values(0)
        return pd.DataFrame(rows).set_axis(keys, axis=0)

    audits = list(levels.values())
    columns = [dict(zip(names, values, strict=True)) for values in levels]
    tests = [audit.tests.assign(pooled_gap=pooled.tests["gap"].to_numpy()) for audit in audits]
    return replace(
        pooled,
        overall=overall([audit.overall for audit in audits]),
        by_group=by_group([audit.by_group for audit in audits]),
        overall_ci=[overall([audit.overall_ci[side] for audit in audits]) for side in (0, 1)],
        by_group_ci=[by_group([audit.by_group_ci[side] for audit in audits]) for side in (0, 1)],
        support=by_group([audit.support for audit in audits], 0),
        overall_support=overall([audit.overall_support for audit in audits]),
        in_gap=by_group([audit.in_gap for audit in audits], False),
        excluded=_label_levels([audit.excluded for audit in audits], columns),
        tests=_label_levels(tests, columns),
        null_floor=stack([audit.null_floor for audit in audits]),
        verdicts=[
            f"{_level_text(level)}: {sentence}"
            for level, audit in zip(columns, audits, strict=True)
            for sentence in audit.verdicts
        ],
        control_levels=names,
        pooled=pooled,
        levels=list(zip(columns, audits, strict=True)),
        _controls=controls,
    )


def _label_levels(frames: list[pd.DataFrame], levels: list[dict[str, str]]) -> pd.DataFrame:
    """Frames under each other, the control features as first columns."""
    parts = []
    for frame, level in zip(frames, levels, strict=True):
        part = frame.copy()
        for place, (name, value) in enumerate(level.items()):
            part.insert(place, name, value)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _level_text(level: dict[str, str]) -> str:
    return "Within " + ", ".join(f"{name} {value}" for name, value in level.items())
