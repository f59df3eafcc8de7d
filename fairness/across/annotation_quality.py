"""How far the groups themselves can be trusted, and what their mistakes do to each gap.

Almost all demographic annotations were made by a model. Three questions: do the frames of a video agree, do
two sources agree, and how much of a gap would be left if more of the annotations were wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.intervals import percentile_interval
from unmasked.fairness.across.changes import is_in_gap
from unmasked.fairness.groups import UNKNOWN, order_groups
from unmasked.fairness.records import Agreement, Conflicts, NoisyGap
from unmasked.fairness.result import Audit, rows_of
from unmasked.fairness.statistics.comparisons import TESTED
from unmasked.fairness.statistics.estimates import group_codes
from unmasked.fairness.statistics.metrics import count_rows, rates, sum_by
from unmasked.fairness.statistics.resampling import gap
from unmasked.fairness.statistics.resampling import kinds as kinds_of

NOISES = (0.02, 0.05, 0.1, 0.2)
N_DRAWS = 500
N_BOOT = 2000


def conflicts(votes: pd.DataFrame) -> list[Conflicts]:
    """How many videos have frames that disagree on a group, by attribute.

    Args:
        votes: ``video, attribute, value, votes``: a row for each value that frames of a video were given.

    Returns:
        For each attribute: videos with at least two annotated frames (no entry where there is none), those
        whose frames disagree, their share, the share of frames that are not of their video's most frequent
        value, and the conflicting videos counted by the values that meet there, most frequent first.
    """
    found: list[Conflicts] = []
    for attribute, rows in votes.groupby("attribute", sort=False):
        by_video = rows.groupby("video", sort=False)["votes"].agg(["sum", "max", "size"])
        by_video = by_video[by_video["sum"] > 1]
        if by_video.empty:
            continue
        split = by_video[by_video["size"] > 1]
        inside = rows[rows["video"].isin(split.index)]
        met = inside.groupby("video")["value"].agg(
            lambda values: " / ".join(order_groups([str(value) for value in values]))
        )
        frames = int(by_video["sum"].sum())
        found.append(
            {
                "attribute": str(attribute),
                "videos": len(by_video),
                "conflicting": len(split),
                "share": len(split) / len(by_video),
                "frames_against": float((by_video["sum"] - by_video["max"]).sum() / frames),
                "pairs": {str(pair): int(count) for pair, count in met.value_counts().head(5).items()},
            }
        )
    return found


def agreement(
    ours: pd.Series, theirs: pd.Series, *, n_boot: int = N_BOOT, random_state: int = 0
) -> Agreement:
    """How far two sources say the same of the same videos.

    Args:
        ours, theirs: (V,) group of each video, "unknown" where the source does not say; one entry for
            each video, in the same order.
        n_boot: bootstrap resamples of videos, behind the intervals.
        random_state: seed.

    Returns:
        Of the videos known to both, the share that agree, and Cohen's kappa, (share - by chance) /
        (1 - by chance): 1 is agreement, 0 what two sources with these margins would show if they were
        unrelated; NaN where both know one group only.

    Raises:
        InputError: the lengths differ, or no video is known to both.
    """
    if len(ours) != len(theirs):
        raise InputError(f"one source has {len(ours)} videos and the other {len(theirs)}; give the same ones")
    known = (ours != UNKNOWN).to_numpy() & (theirs != UNKNOWN).to_numpy()
    if not known.any():
        raise InputError(
            f"no video has a group of {ours.name!r} in both sources; give one of the same videos"
        )
    names = order_groups([*ours[known], *theirs[known]])
    codes = group_codes(ours[known].to_numpy(), names), group_codes(theirs[known].to_numpy(), names)
    size, videos = len(names), int(known.sum())
    # The confusion table row by row; a resample of videos is one multinomial draw of its cells.
    cells = np.bincount(codes[0] * size + codes[1], minlength=size * size)
    drawn = np.random.default_rng(random_state).multinomial(videos, cells / videos, size=n_boot)
    share, kappa = _agreement_rates(cells.reshape(1, size, size))
    shares, kappas = _agreement_rates(drawn.reshape(-1, size, size))
    table = cells.reshape(size, size)
    return {
        "attribute": str(ours.name),
        "videos": videos,
        "share": float(share[0]),
        "share_ci": list(percentile_interval(shares)),
        "kappa": float(kappa[0]),
        "kappa_ci": list(percentile_interval(kappas)),
        "confusion": {
            mine: {other: int(table[row, column]) for column, other in enumerate(names)}
            for row, mine in enumerate(names)
        },
    }


def _agreement_rates(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share that agree and kappa of (B, J, J) counts, each (B,)."""
    total = tables.sum(axis=(1, 2))
    share = np.trace(tables, axis1=1, axis2=2) / total
    chance = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / total.astype(np.float64) ** 2
    certain = chance >= 1
    return share, np.where(certain, np.nan, (share - chance) / np.where(certain, 1, 1 - chance))


def symmetric_confusion(groups: int, noise: float) -> np.ndarray:
    """(J, J) chance that a group is annotated as another.

    Wrong with chance ``noise``, each alike.

    >>> symmetric_confusion(2, 0.1).tolist()
    [[0.9, 0.1], [0.1, 0.9]]
    """
    wrong = np.full((groups, groups), noise / max(groups - 1, 1))
    np.fill_diagonal(wrong, 1 - noise)
    return wrong


def measured_confusion(entry: Agreement, names: Sequence[str]) -> np.ndarray:
    """(J, J) shares of an `agreement`.

    The chance that who is one group to us is another to them.
    A group that the agreement does not hold is taken to stay as it is.
    """
    counts = np.array(
        [[entry["confusion"].get(mine, {}).get(other, 0) for other in names] for mine in names], np.float64
    )
    empty = counts.sum(axis=1) == 0
    counts[empty] = np.eye(len(names))[empty]
    return counts / counts.sum(axis=1, keepdims=True)


class Kinds(NamedTuple):
    """People (or videos) of one group with equal outcomes, which are interchangeable."""

    group: np.ndarray  # (K,) codes
    counts: np.ndarray  # (K, 4) outcomes of each of them
    units: np.ndarray  # (K,) how many they are


def noisy_gaps(
    audit: Audit,
    attribute: str,
    confusions: Sequence[np.ndarray],
    names: Sequence[str],
    *,
    draws: int = N_DRAWS,
    metrics: Sequence[str] = TESTED,
) -> list[NoisyGap]:
    """Each gap with the group of every person (or video) drawn again, as each confusion says.

    Args:
        audit: whose gaps; the groups compared are those it compares, its threshold is kept.
        attribute: one of its attributes.
        confusions: (J, J) chance that a person of group row is annotated as column; rows add up to 1.
        names: the J groups of the confusions.
        draws: how often all groups are drawn.
        metrics: those of `metrics.rates`.

    Returns:
        For each confusion and metric that two groups can be compared on, the noise (expected share of people
        under another group), the gap of the audit, and mean and 95 % range over the draws of the
        difference between the two groups that are furthest apart in the audit, below 0 where their order
        is turned around, and the share of draws that keep it. Two groups of equal size under symmetric
        noise e keep (1 - 2 e) of their difference on average; the gap itself would not do, as chance
        alone widens a small one.
    """
    kinds = _kinds(audit, attribute, names)
    clean = rates(_draw_outcomes(kinds, np.eye(len(names)), 1, np.random.default_rng())[0])
    seed = [audit.settings.random_state, zlib.crc32(attribute.encode("utf-8"))]
    found: list[NoisyGap] = []
    for confusion in confusions:
        drawn = rates(_draw_outcomes(kinds, confusion, draws, np.random.default_rng(seed)))
        noise = float(kinds.units @ (1 - np.diag(confusion)[kinds.group]) / kinds.units.sum())
        for metric in metrics:
            compared = np.array([is_in_gap(audit, attribute, name, metric) for name in names])
            if compared.sum() < 2:
                continue
            value = np.where(compared, clean[metric], np.nan)
            apart = drawn[metric][:, np.nanargmax(value)] - drawn[metric][:, np.nanargmin(value)]
            entry = {"attribute": attribute, "metric": metric, "noise": noise, "gap": float(gap(value))}
            found.append(cast(NoisyGap, entry | _summary(apart[~np.isnan(apart)])))
    return found


def _kinds(audit: Audit, attribute: str, names: Sequence[str]) -> Kinds:
    rows, groups = rows_of(audit)
    codes = group_codes(groups[attribute].to_numpy(), names)
    kept = codes >= 0
    # (group, cluster), then (group, kind of outcome), as one number each: equal people are counted, not kept.
    clusters = int(rows.cluster.max()) + 1
    pairs, unit = np.unique(codes[kept] * clusters + rows.cluster[kept], return_inverse=True)
    counted = count_rows(rows.label[kept], rows.score[kept], audit.settings.threshold)
    distinct, of_unit = kinds_of(sum_by(counted, unit.reshape(-1), len(pairs)))
    kind, units = np.unique(pairs // clusters * len(distinct) + of_unit, return_counts=True)
    return Kinds(kind // len(distinct), distinct[kind % len(distinct)], units)


def _summary(apart: np.ndarray) -> dict[str, float]:
    if not len(apart):
        return dict.fromkeys(("gap_mean", "gap_low", "gap_high", "order_kept"), float("nan"))
    low, high = percentile_interval(apart)
    return {
        "gap_mean": float(apart.mean()),
        "gap_low": low,
        "gap_high": high,
        "order_kept": float((apart > 0).mean()),
    }


def _draw_outcomes(kinds: Kinds, confusion: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, J, 4) outcomes of each group after every unit's group is drawn from its row of the confusion.

    How many of a kind go where is multinomial, so that a million people cost no more than their kinds.
    """
    total = np.zeros((draws, len(confusion), kinds.counts.shape[1]))
    for group, outcome, units in zip(*kinds, strict=True):
        moved = rng.multinomial(units, confusion[group], size=draws)  # (draws, J)
        total += moved[:, :, None] * outcome
    return total


def sensitivity(audit: Audit, noises: Sequence[float] = NOISES, *, draws: int = N_DRAWS) -> list[NoisyGap]:
    """`noisy_gaps` of every attribute under symmetric noise of each strength.

    Raises:
        InputError: a strength outside 0 to 1.
    """
    if wrong := [noise for noise in noises if not 0 <= noise < 1]:
        raise InputError(
            f"noise {wrong[0]} is not a share of mistakes; give values of at least 0 and below 1"
        )
    found: list[NoisyGap] = []
    for attribute in audit.support.index.unique(0):
        names = [name for name in audit.support.loc[attribute].index if name != UNKNOWN]
        confusions = [symmetric_confusion(len(names), noise) for noise in noises]
        found += noisy_gaps(audit, attribute, confusions, names, draws=draws)
    return [{**entry, "noise": round(entry["noise"], 9)} for entry in found]
