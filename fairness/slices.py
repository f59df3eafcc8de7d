"""One attribute measured: support, metrics, intervals and chance gaps of each of its groups."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unmasked.fairness.groups import UNKNOWN, ordered
from unmasked.fairness.metrics import (
    BOTH,
    METRICS,
    SCORE_METRICS,
    count_rows,
    needs,
    rates,
    resampled_score_metrics,
    score_metrics,
    sum_by,
)
from unmasked.fairness.resampling import (
    bootstrap_counts,
    bootstrap_weights,
    gap,
    permuted_codes,
    permuted_rates,
    score_interval,
    strata,
)
from unmasked.fairness.wording import units

# Ranking metrics need the scores of every resample: fewer resamples, whose variance is all that is used.
SCORE_RESAMPLES = 200
SCORE_WORK = 100_000_000  # resamples x rows
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
class Settings:
    """How an audit was made; `audit` documents each field."""

    threshold: float = 0.5
    n_boot: int = 2000
    n_perm: int = 2000
    margin: float = 0.03
    min_clusters: int = 10
    min_samples: int = 100
    random_state: int = 0
    unit: str = "cluster"  # what is resampled: cluster, video or identity
    level: str = "row"  # what a rate counts: row, frame or video


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
    values: pd.DataFrame  # columns METRICS, as are those of the frames below
    variance: pd.DataFrame  # sampling variance, by bootstrap over units
    low: pd.DataFrame
    high: pd.DataFrame
    in_gap: pd.DataFrame  # boolean: has the group the support that the metric needs
    excluded: list[dict[str, str]]
    null: dict[str, np.ndarray]  # metric -> gaps under permuted group labels; empty where not comparable


def measure(rows: Rows, groups: pd.Series, settings: Settings) -> Slice:
    """The slice of the rows by one column of group names."""
    names = ordered(groups.tolist())
    of_row = pd.Categorical(groups, categories=names).codes.astype(np.int64)
    # A person is one unit in each group; only "unknown" can share people with another group.
    pairs, unit = np.unique(np.stack([of_row, rows.cluster]), axis=1, return_inverse=True)
    unit, of_unit = unit.reshape(-1), pairs[0]
    counts = sum_by(count_rows(rows.label, rows.score, settings.threshold), unit, len(of_unit))
    support = pd.DataFrame(
        [_support(rows, of_row == code) for code in range(len(names))], index=names, columns=list(SUPPORT)
    )
    rng = _generator(settings, str(groups.name))
    values, variance = [], []
    for code in range(len(names)):
        kept = of_row == code
        value, spread = _estimate(
            rows.label[kept], rows.score[kept], unit[kept], counts[of_unit == code], settings, rng
        )
        values.append(value)
        variance.append(spread)
    table = pd.DataFrame(values, index=names, columns=list(METRICS))
    spread_table = pd.DataFrame(variance, index=names, columns=list(METRICS))
    low, high = _intervals(table, spread_table, support, rows_behind(support, settings))
    enough = _enough(support, settings)
    in_gap = pd.DataFrame({name: enough[list(needs(name))].all(axis=1) for name in METRICS})
    null = _null_gaps(rows, unit, of_unit, counts, in_gap, settings, rng)
    return Slice(
        attribute=str(groups.name),
        support=support,
        values=table,
        variance=spread_table,
        low=low,
        high=high,
        in_gap=in_gap,
        excluded=_excluded(support, settings),
        null=null,
    )


def rows_behind(support: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """How many rows of each class a rate counts: videos, or frames."""
    kind = "videos" if settings.level == "video" else "frames"
    return pd.DataFrame({name: support[f"{name}_{kind}"] for name in BOTH})


def units_behind(support: pd.DataFrame, metric: str) -> np.ndarray:
    """How many units of resampling a metric rests on: those that hold the class it needs (the rarer one)."""
    return support[[f"{name}_clusters" for name in needs(metric)]].min(axis=1).to_numpy(dtype=np.float64)


def counted_rows(support: pd.DataFrame, metric: str, settings: Settings) -> np.ndarray:
    """How many rows of the classes that a metric needs each group has."""
    return rows_behind(support, settings)[list(needs(metric))].sum(axis=1).to_numpy(dtype=np.float64)


def _support(rows: Rows, kept: np.ndarray) -> dict[str, int]:
    found: dict[str, int] = {"clusters": len(np.unique(rows.cluster[kept]))}
    for name, label in (("real", 0), ("fake", 1)):
        member = kept & (rows.label == label)
        found[f"{name}_videos"] = len(np.unique(rows.video[member]))
        found[f"{name}_frames"] = int(rows.frames[member].sum())
        found[f"{name}_clusters"] = len(np.unique(rows.cluster[member]))
    return found


def _estimate(
    label: np.ndarray,
    score: np.ndarray,
    unit: np.ndarray,
    counts: np.ndarray,
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[dict[str, float], dict[str, float]]:
    """Each metric of one group and its sampling variance; ``counts`` has a row for each of its units."""
    value = {name: float(item) for name, item in rates(counts.sum(axis=0)).items()}
    value |= score_metrics(label, score)
    stratum = strata(counts)
    drawn = rates(bootstrap_counts(counts, stratum, settings.n_boot, rng))
    repeats = _score_resamples(len(label), settings.n_boot)
    code = np.unique(unit, return_inverse=True)[1]
    drawn |= resampled_score_metrics(label, score, code, bootstrap_weights(stratum, repeats, rng))
    return value, {name: float(np.var(drawn[name])) for name in METRICS}


def _intervals(
    values: pd.DataFrame, variance: pd.DataFrame, support: pd.DataFrame, rows: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    low, high = {}, {}
    for name in METRICS:
        behind = rows[list(needs(name))].sum(axis=1).to_numpy()
        low[name], high[name] = score_interval(
            values[name].to_numpy(), variance[name].to_numpy(), units_behind(support, name), behind
        )
    return pd.DataFrame(low, index=values.index), pd.DataFrame(high, index=values.index)


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


def _null_gaps(
    rows: Rows,
    unit: np.ndarray,
    of_unit: np.ndarray,
    counts: np.ndarray,
    in_gap: pd.DataFrame,
    settings: Settings,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Gaps of each metric after shuffling who belongs to which group, among the groups that it compares."""
    found: dict[str, np.ndarray] = {}
    by_groups: dict[tuple[bool, ...], list[str]] = {}
    for name in METRICS:
        by_groups.setdefault(tuple(in_gap[name]), []).append(name)
    for compared, names in by_groups.items():
        kept = np.flatnonzero(compared)
        if len(kept) < 2:
            found |= dict.fromkeys(names, np.zeros(0))
            continue
        member = np.isin(of_unit, kept)
        codes = np.searchsorted(kept, of_unit[member])
        shuffled = permuted_rates(counts[member], codes, settings.n_perm, rng)
        if set(names) & set(SCORE_METRICS):
            inside = member[unit]
            place = (np.cumsum(member) - 1)[unit[inside]]
            shuffled |= _permuted_scores(
                rows.label[inside],
                rows.score[inside],
                place,
                codes,
                strata(counts[member]),
                settings.n_perm,
                rng,
            )
        found |= {name: gap(shuffled[name]) for name in names}
    return found


def _permuted_scores(
    label: np.ndarray,
    score: np.ndarray,
    unit: np.ndarray,
    codes: np.ndarray,
    stratum: np.ndarray,
    n_perm: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """The ranking metrics of each group under permutations, each (permutations, groups)."""
    repeats = _score_resamples(len(label), n_perm)
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in SCORE_METRICS}
    for block in permuted_codes(codes, stratum, repeats, rng):
        by_group = [
            resampled_score_metrics(label, score, unit, block == code) for code in range(codes.max() + 1)
        ]
        for name in SCORE_METRICS:
            blocks[name].append(np.stack([values[name] for values in by_group], axis=1))
    return {name: np.concatenate(items) for name, items in blocks.items()}


def _score_resamples(n_rows: int, wanted: int) -> int:
    return int(min(wanted, SCORE_RESAMPLES, max(50, SCORE_WORK // max(n_rows, 1))))


def _generator(settings: Settings, attribute: str) -> np.random.Generator:
    # Seeded by name, so that an attribute's figures do not depend on which others are audited with it.
    return np.random.default_rng([settings.random_state, zlib.crc32(attribute.encode("utf-8"))])
