"""Gaps within strata (method, compression, face size, blur) beside the pooled gap.

Pooling can hide a gap (one method fails one group, the next method the other) or make one up (a group has
more of the hard videos). Strata of a quantity are thirds of the dataset's videos. All this is a search, not
part of the audit's declared family: its p-values are adjusted (Holm) over all levels that are looked at.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import pandas as pd

from unmasked.evaluation.metrics import METRICS
from unmasked.fairness.groups import UNKNOWN
from unmasked.fairness.records import Pooled, Stratified, StratumLevel
from unmasked.fairness.result import Audit
from unmasked.fairness.selection import Selection
from unmasked.fairness.statistics.comparisons import ALPHA, TESTED
from unmasked.fairness.statistics.estimates import Decisions, Estimates, classes, estimates, group_codes
from unmasked.fairness.statistics.metrics import BOTH, count_rows, needs, sum_by
from unmasked.fairness.statistics.resampling import gap, gap_interval, holm
from unmasked.fairness.statistics.resampling import strata as class_mix
from unmasked.fairness.statistics.shuffling import COLUMNS_OF, permute_class
from unmasked.fairness.statistics.slices import Settings

QUANTITIES = {  # by -> column, unit, names of its thirds
    "face_size": ("size_px", "px", ("small", "medium", "large")),
    "blur": ("blur", "", ("most blurred", "middle", "sharpest")),
}
MAX_LEVELS = 50
FEWEST_ROWS = 3


@dataclass(frozen=True)
class Stratification:
    """The levels that rows are divided into."""

    by: str
    level: np.ndarray  # (N,) codes, -1 for rows of no level
    names: list[str]
    metrics: tuple[str, ...]  # those of the classes that are divided


def strata(selection: Selection, audit: Audit) -> list[Stratified]:
    """Gaps of an audit within each level of its strata, and what pooling did to them.

    Args:
        selection: the audit's rows, with any of the columns method, compression, size_px and blur.
        audit: the audit of these rows.

    Returns:
        An entry for each stratification, attribute and metric. ``averaged`` is the mean of the levels'
        gaps, which does not cancel; ``standardised`` the gap of rates that weigh every level alike, which
        does not depend on who has how many videos of which level; NaN where a group lacks a level.
        ``simpson`` says that the pooled gap misleads: in every level the order of its groups is
        ``reversed``, or a level has a gap that ``cancels`` against others.
    """
    entries = [
        _entry(selection, audit, divided, attribute, metric)
        for divided in stratifications(selection)
        for attribute in audit.support.index.unique(0)
        for metric in divided.metrics
    ]
    levels = [level for entry in entries for level in entry["levels"]]
    adjusted = holm(np.array([level["p_value"] for level in levels], dtype=np.float64))
    for level, p_value in zip(levels, adjusted, strict=True):
        level["p_adjusted"] = float(p_value)
    return [_add_averages(entry) for entry in entries]


def stratifications(selection: Selection) -> Iterator[Stratification]:
    """What the rows can be divided by: two levels at least, each named."""
    table, label = selection.table, selection.rows.label
    if "method" in table:
        # The reals were made by no method.
        yield from _named_levels("method", table["method"].where(label == 1), ("tpr",))
    if "compression" in table:
        yield from _named_levels("compression", table["compression"], TESTED)
    for by, (column, unit, names) in QUANTITIES.items():
        if column in table and pd.api.types.is_numeric_dtype(table[column]):
            yield from _split_in_thirds(by, table[column], unit, names)


def _named_levels(by: str, values: pd.Series, metrics: tuple[str, ...]) -> Iterator[Stratification]:
    codes, names = pd.factorize(values.astype(object), sort=True)
    if 2 <= len(names) <= MAX_LEVELS:
        yield Stratification(by, codes, [str(name) for name in names], metrics)


def _split_in_thirds(
    by: str, values: pd.Series, unit: str, names: tuple[str, ...]
) -> Iterator[Stratification]:
    known = values.notna().to_numpy()
    number = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if known.sum() < FEWEST_ROWS:
        return
    # Edges are values that occur; those on an edge belong below it.
    edges = np.quantile(number[known], [1 / 3, 2 / 3], method="inverted_cdf")
    # Thirds 0, 1, 2; where values are tied a third may be empty, and codes are numbered anew below.
    codes = np.where(known, np.searchsorted(edges, number, side="left"), -1)
    present = np.unique(codes[known])
    if len(present) < 2:
        return
    low, high = (f"{edge:.3g}" for edge in edges)
    limits = (f"up to {low}", f"{low} to {high}", f"above {high}")
    titles = [f"{names[code]} ({f'{limits[code]} {unit}'.strip()})" for code in present]
    codes = np.where(known, np.searchsorted(present, codes), -1)
    yield Stratification(by, codes, titles, TESTED)


def _entry(
    selection: Selection, audit: Audit, divided: Stratification, attribute: str, metric: str
) -> Stratified:
    test = audit.tests[(audit.tests["attribute"] == attribute) & (audit.tests["metric"] == metric)].iloc[0]
    names = [name for name in audit.support.loc[attribute].index if name != UNKNOWN]
    codes = group_codes(selection.groups[attribute].to_numpy(), names)
    seed = zlib.crc32(f"{divided.by} {attribute} {metric}".encode())
    rng = np.random.default_rng([audit.settings.random_state, seed])
    levels: list[StratumLevel] = []
    for code, name in enumerate(divided.names):
        inside = (divided.level == code) & (codes >= 0)
        found = _level(selection, inside, codes, names, metric, audit.settings, rng)
        levels.append(cast(StratumLevel, {"level": name} | found))
    return {
        "by": divided.by,
        "attribute": attribute,
        "metric": metric,
        "pooled": {
            "gap": float(test["gap"]),
            "worst_group": test["worst_group"],
            "best_group": test["best_group"],
            "p_value": float(test["p_value"]),
            "verdict": test["verdict"],
        },
        "levels": levels,
        # What follows needs the other entries: see `_add_averages`.
        "averaged": float("nan"),
        "standardised": float("nan"),
        "reversed": False,
        "cancels": False,
        "simpson": False,
        "note": "",
    }


def _level(
    selection: Selection,
    inside: np.ndarray,
    codes: np.ndarray,
    names: list[str],
    metric: str,
    settings: Settings,
    rng: np.random.Generator,
) -> dict[str, object]:
    """The gap in one level, among the groups with the support that the audit asks for."""
    rows = selection.rows
    needed = inside & np.isin(rows.label, classes(metric))
    found: dict[str, object] = {"n": len(np.unique(rows.video[needed]))}
    kept = [
        code
        for code in range(len(names))
        if _has_support(selection, inside & (codes == code), metric, settings)
    ]
    if len(kept) < 2:
        undefined = float("nan")
        nothing = {"gap": undefined, "gap_ci": [undefined, undefined], "p_value": undefined}
        return found | nothing | {"worst_group": None, "groups": {}}
    # Groups 0 and 3 of four are kept: theirs become codes 0 and 1.
    member = needed & np.isin(codes, kept)
    group = np.searchsorted(kept, codes[member])
    decisions = Decisions(rows.label[member], rows.cluster[member], group)
    measured = estimates(
        decisions,
        [rows.score[member]],
        [settings.threshold],
        [metric],
        groups=len(kept),
        n_boot=settings.n_boot,
        rng=rng,
    )[metric]
    return (
        found
        | _gap(measured, [names[code] for code in kept])
        | _test(decisions, rows.score[member], [names[code] for code in kept], metric, settings, rng)
    )


def _gap(measured: Estimates, names: list[str]) -> dict[str, object]:
    value = measured.value[0]
    return {
        "gap": float(gap(value)),
        "gap_ci": list(gap_interval(value, partial(measured.limits, 0))),
        "groups": dict(zip(names, map(float, value), strict=True)),
    }


def _test(
    rows: Decisions,
    score: np.ndarray,
    names: list[str],
    metric: str,
    settings: Settings,
    rng: np.random.Generator,
) -> dict[str, object]:
    """The test of every pair of groups among the units of the level, and who is worst of all."""
    # A person is one unit in each group; only videos of disagreeing annotation are several.
    # Unit 7 of 100 in group 2 is 207, so that 207 // 100 is its group.
    size = int(rows.unit.max()) + 1
    pairs, unit = np.unique(rows.group * size + rows.unit, return_inverse=True)
    counts = sum_by(count_rows(rows.label, score, settings.threshold), unit.reshape(-1), len(pairs))
    columns = [column for name in needs(metric) for column in COLUMNS_OF[name]]
    _, test = permute_class(counts, pairs // size, class_mix(counts), columns, names, settings, rng)
    high, low = test.widest
    worst = low if METRICS[metric].higher_is_better else high
    return {"p_value": test.p_value, "worst_group": names[worst] if test.z[high, low] > 0 else None}


def _has_support(selection: Selection, member: np.ndarray, metric: str, settings: Settings) -> bool:
    for name in needs(metric):
        held = member & (selection.rows.label == BOTH.index(name))
        if len(np.unique(selection.rows.cluster[held])) < settings.min_clusters:
            return False
        if int(selection.rows.frames[held].sum()) < settings.min_samples:
            return False
    return True


def _add_averages(entry: Stratified) -> Stratified:
    """The entry with its averages, and with what pooling did."""
    levels = [level for level in entry["levels"] if not np.isnan(level["gap"])]
    if len(levels) > 1:
        entry["averaged"] = float(np.mean([level["gap"] for level in levels]))
    entry["standardised"] = _standardised_gap(levels)
    entry["reversed"] = _is_reversed(entry["pooled"], levels, entry["metric"])
    shown = [level for level in levels if level["p_adjusted"] < ALPHA]
    entry["cancels"] = bool(
        shown
        and entry["pooled"]["verdict"] != "disparity"
        and len(levels) > 1
        and entry["averaged"] > entry["pooled"]["gap"]
    )
    entry["simpson"] = entry["reversed"] or entry["cancels"]
    entry["note"] = _note(entry, len(levels), shown)
    return entry


def _standardised_gap(levels: list[StratumLevel]) -> float:
    """The gap of the groups' rates, each the mean over all levels, among groups that are in every level."""
    if len(levels) < 2:
        return float("nan")
    everywhere = set.intersection(*(set(level["groups"]) for level in levels))
    means = [np.mean([level["groups"][name] for level in levels]) for name in sorted(everywhere)]
    return float(gap(np.array(means, dtype=np.float64)))


def _is_reversed(pooled: Pooled, levels: list[StratumLevel], metric: str) -> bool:
    """True if the group that is worst of all when pooled is better than the best one in every level."""
    worst, best = pooled["worst_group"] or "", pooled["best_group"] or ""
    both = [level["groups"] for level in levels if worst in level["groups"] and best in level["groups"]]
    sign = 1 if METRICS[metric].higher_is_better else -1
    return len(both) > 1 and all(sign * (rate[worst] - rate[best]) > 0 for rate in both)


def _note(entry: Stratified, defined: int, shown: list[StratumLevel]) -> str:
    by, pooled = entry["by"].replace("_", " "), entry["pooled"]
    if entry["reversed"]:
        return (
            f"Pooled, {pooled['worst_group']} does worse than {pooled['best_group']}; within every level of "
            f"{by} it is the other way round (Simpson's paradox): the groups have different shares of the "
            "hard levels."
        )
    if entry["cancels"]:
        where = ", ".join(f"{level['level']} (worst: {level['worst_group']})" for level in shown)
        return (
            f"A gap was shown within {where}, and none when all are pooled: it cancels or is diluted there."
        )
    if defined < 2:
        return "Fewer than two levels have enough videos of two groups."
    return ""
