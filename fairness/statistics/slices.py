"""One attribute measured: support, metrics, intervals and chance gaps of each of its groups."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from unmasked.evaluation.wording import units
from unmasked.fairness.groups import UNKNOWN, ordered
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.metrics import (
    BOTH,
    METRICS,
    count_units,
    needs,
    rates,
    score_metrics,
    sum_by,
)
from unmasked.fairness.statistics.resampling import (
    bootstrap_counts,
    score_interval,
    strata,
)
from unmasked.fairness.statistics.score_tables import (
    Levels,
    bootstrapped,
    cross_auc,
    cut,
    exact_cross_auc,
    metrics_of,
)
from unmasked.fairness.statistics.shuffling import Shuffled, shuffle

# Groups whose every pair gets a cross-group AUC; a crossing of more has too many pairs to read.
CROSS_AUC_GROUPS = 12
SUPPORT = (
    "real_videos",
    "fake_videos",
    "real_frames",
    "fake_frames",
    "clusters",
    "real_clusters",
    "fake_clusters",
)


@dataclass(frozen=True)
class Rows:
    """The rows of an audit, each array (N,).

    ``cluster`` and ``video`` are codes from 0; ``frames`` is how many frames are behind a row.
    """

    label: np.ndarray
    score: np.ndarray
    cluster: np.ndarray
    video: np.ndarray
    frames: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Slice:
    """An attribute's groups, in reading order. The frames have one row for each group."""

    attribute: str
    support: pd.DataFrame  # columns SUPPORT
    counts: np.ndarray  # (groups, 4) outcomes, columns metrics.COUNTS
    values: pd.DataFrame  # columns METRICS, as are those of the frames below
    variance: pd.DataFrame  # sampling variance, by bootstrap over units
    low: pd.DataFrame
    high: pd.DataFrame
    in_gap: pd.DataFrame  # boolean: has the group the support that the metric needs
    excluded: list[dict[str, str]]
    shuffled: Shuffled
    cross_auc: list[dict[str, Any]]  # fakes of one group against reals of another, see `_cross_auc`


def measure(rows: Rows, groups: pd.Series, settings: Settings, levels: Levels | None = None) -> Slice:
    """The slice of the rows by one column of group names; ``levels`` are those of all rows, if at hand."""
    levels = cut(rows.label, rows.score) if levels is None else levels
    names = ordered(groups.unique().tolist())
    of_row = pd.Categorical(groups, categories=names).codes.astype(np.int64)
    # A person is one unit in each group; only "unknown" can share people with another group.
    unit, pairs = pd.factorize(of_row * (int(rows.cluster.max(initial=0)) + 1) + rows.cluster)
    of_unit = pairs // (int(rows.cluster.max(initial=0)) + 1)
    counts = count_units(rows.label, rows.score > settings.threshold, unit, len(of_unit))
    support = _support(rows, of_row, names)
    rng = _generator(settings, str(groups.name))
    values, variance, drawn = [], [], []
    for code, kept in enumerate(_members(of_row, len(names))):
        value, spread, histograms = _estimate(
            _Part(rows.label[kept], rows.score[kept], unit[kept], levels.cell[kept]),
            counts[of_unit == code],
            levels,
            settings,
            rng,
        )
        values.append(value)
        variance.append(spread)
        drawn.append(histograms)
    table = pd.DataFrame(values, index=names, columns=list(METRICS))
    spread_table = pd.DataFrame(variance, index=names, columns=list(METRICS))
    low, high = _intervals(table, spread_table, support, settings)
    enough = _enough(support, settings)
    in_gap = _in_gap(enough)
    return Slice(
        attribute=str(groups.name),
        support=support,
        counts=sum_by(counts, of_unit, len(names)),
        values=table,
        variance=spread_table,
        low=low,
        high=high,
        in_gap=in_gap,
        excluded=_excluded(support, settings),
        shuffled=shuffle(levels, unit, of_unit, counts, in_gap, settings, rng),
        cross_auc=_cross_auc(rows, of_row, np.stack(drawn), levels, support, enough, settings),
    )


def rows_behind(support: pd.DataFrame, settings: Settings) -> dict[str, np.ndarray]:
    """How many rows of each class a rate counts, (J,) each: videos, or frames."""
    kind = "videos" if settings.level == "video" else "frames"
    return {name: support[f"{name}_{kind}"].to_numpy() for name in BOTH}


def units_behind(support: pd.DataFrame, metric: str) -> np.ndarray:
    """How many units of resampling a metric rests on: those that hold the class it needs (the rarer one)."""
    of_class = [support[f"{name}_clusters"].to_numpy() for name in needs(metric)]
    return np.min(of_class, axis=0).astype(np.float64)


def counted_rows(support: pd.DataFrame, metric: str, settings: Settings) -> np.ndarray:
    """How many rows of the classes that a metric needs each group has."""
    rows = rows_behind(support, settings)
    return np.sum([rows[name] for name in needs(metric)], axis=0).astype(np.float64)


@dataclass(frozen=True)
class _Part:
    """The rows of one group, each array (N,)."""

    label: np.ndarray
    score: np.ndarray
    unit: np.ndarray
    cell: np.ndarray


def _members(of_row: np.ndarray, size: int) -> list[np.ndarray]:
    """Row numbers of each group, in one pass over the rows."""
    order = np.argsort(of_row.astype(np.int16), kind="stable")
    return np.split(order, np.cumsum(np.bincount(of_row, minlength=size))[:-1])


def _support(rows: Rows, of_row: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Videos, frames and units of each group by class, columns `SUPPORT`."""
    size = len(names)

    def distinct(codes: np.ndarray, member: np.ndarray | slice) -> np.ndarray:
        stride = int(codes.max(initial=0)) + 1
        pairs = pd.unique(of_row[member] * stride + codes[member])
        return np.bincount(pairs // stride, minlength=size)

    found = {"clusters": distinct(rows.cluster, slice(None))}
    for name, label in (("real", 0), ("fake", 1)):
        member = rows.label == label
        frames = np.bincount(of_row[member], weights=rows.frames[member], minlength=size)
        found[f"{name}_videos"] = distinct(rows.video, member)
        found[f"{name}_frames"] = frames.astype(np.int64)
        found[f"{name}_clusters"] = distinct(rows.cluster, member)
    return pd.DataFrame(found, index=names)[list(SUPPORT)]


def _estimate(
    part: _Part, counts: np.ndarray, levels: Levels, settings: Settings, rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, float], np.ndarray]:
    """Each metric of one group, its sampling variance, and the resampled counts by score level.

    ``counts`` has a row for each of the group's units, in the order of their codes.
    """
    value = {name: float(item) for name, item in rates(counts.sum(axis=0)).items()}
    value |= score_metrics(part.label, part.score)
    stratum = strata(counts)
    drawn = rates(bootstrap_counts(counts, stratum, settings.n_boot, rng))
    repeats = settings.scored(levels.rows, settings.n_boot)
    unit = np.unique(part.unit, return_inverse=True)[1]
    histograms = bootstrapped(part.cell, unit, stratum, 2 * levels.size, repeats, rng)
    drawn |= metrics_of(histograms, levels)
    return value, {name: float(np.var(drawn[name])) for name in METRICS}, histograms


def _intervals(
    values: pd.DataFrame, variance: pd.DataFrame, support: pd.DataFrame, settings: Settings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    units = np.stack([units_behind(support, name) for name in METRICS], axis=1)
    rows = np.stack([counted_rows(support, name, settings) for name in METRICS], axis=1)
    limits = score_interval(values.to_numpy(), variance.to_numpy(), units, rows)
    low, high = (pd.DataFrame(limit, index=values.index, columns=values.columns) for limit in limits)
    return low, high


def _in_gap(enough: pd.DataFrame) -> pd.DataFrame:
    """For each group and metric: is the support there that the metric needs."""
    of_class = {name: enough[name].to_numpy() for name in BOTH}
    columns = {name: np.all([of_class[one] for one in needs(name)], axis=0) for name in METRICS}
    return pd.DataFrame(columns, index=enough.index)


def _enough(support: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """For each group and class: enough units, enough frames, and somebody said who they are."""
    return pd.DataFrame(
        {
            name: (support[f"{name}_clusters"] >= settings.min_clusters)
            & (support[f"{name}_frames"] >= settings.min_samples)
            & (support.index != UNKNOWN)
            for name in BOTH
        }
    )


def _excluded(support: pd.DataFrame, settings: Settings) -> list[dict[str, str]]:
    """Which group is left out of which gaps, and why, in words."""
    noun = units(settings.unit)
    found = []
    for group, row in support.iterrows():
        if group == UNKNOWN:
            found.append(
                {"group": str(group), "metrics": "all", "reason": "the annotation does not say who they are"}
            )
            continue
        for name, metrics in (("real", "FPR"), ("fake", "TPR")):
            count, frames = row[f"{name}_clusters"], row[f"{name}_frames"]
            reasons = []
            if count < settings.min_clusters:
                reasons.append(f"{count} {noun} with {name} material, {settings.min_clusters} needed")
            if frames < settings.min_samples:
                reasons.append(f"{frames} {name} frames, {settings.min_samples} needed")
            if frames == 0:
                reasons = [f"no {name} material"]
            if reasons:
                metrics = f"{metrics} and metrics that need both classes"
                found.append({"group": str(group), "metrics": metrics, "reason": "; ".join(reasons)})
    return found


def _cross_auc(
    rows: Rows,
    of_row: np.ndarray,
    drawn: np.ndarray,
    levels: Levels,
    support: pd.DataFrame,
    enough: pd.DataFrame,
    settings: Settings,
) -> list[dict[str, Any]]:
    """AUC of one group's fakes against another's reals, with intervals, among groups with enough of both.

    Within-group AUC can be perfect in every group while one threshold fits none of them; this cannot.
    Background-positive, subgroup-negative AUC and its mirror in Borkan et al. 2019.
    """
    kept = np.flatnonzero(enough.all(axis=1))
    if not 2 <= len(kept) <= CROSS_AUC_GROUPS:
        return []
    place = np.full(len(support), -1)
    place[kept] = np.arange(len(kept))
    value = exact_cross_auc(rows.label, place[of_row], len(kept), levels)
    variance = cross_auc(drawn[kept], levels).var(axis=-1)
    chosen, behind = support.iloc[kept], rows_behind(support, settings)
    clusters = np.minimum.outer(chosen["fake_clusters"].to_numpy(), chosen["real_clusters"].to_numpy())
    low, high = score_interval(
        value, variance, clusters, np.add.outer(behind["fake"][kept], behind["real"][kept])
    )
    names = [str(name) for name in chosen.index]
    return [
        {
            "positives_of": names[fake],
            "negatives_of": names[real],
            "auc": float(value[fake, real]),
            "auc_ci": [float(low[fake, real]), float(high[fake, real])],
        }
        for fake in range(len(kept))
        for real in range(len(kept))
    ]


def _generator(settings: Settings, attribute: str) -> np.random.Generator:
    # Seeded by name, so that an attribute's figures do not depend on which others are audited with it.
    return np.random.default_rng([settings.random_state, zlib.crc32(attribute.encode("utf-8"))])
