"""One attribute measured: each group's support, metrics, intervals and chance gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from unmasked.evaluation.intervals import Sample, metric_interval, resampled_sums
from unmasked.evaluation.metrics import group_metrics
from unmasked.evaluation.wording import count_text
from unmasked.fairness.groups import CROSS, UNKNOWN, order_groups
from unmasked.fairness.records import AgainstOthers, CrossAuc, Excluded, ShrunkRate
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.estimates import Decisions, Estimates, estimates, generator, number_units
from unmasked.fairness.statistics.metrics import BOTH, count_units, needs, sum_by
from unmasked.fairness.statistics.resampling import kinds, weigh
from unmasked.fairness.statistics.score_tables import Levels, cross_auc, cut, exact_cross_auc
from unmasked.fairness.statistics.shrinkage import shrink
from unmasked.fairness.statistics.shuffling import COLUMNS_OF, TESTED_OF, Shuffled, shuffle

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

    ``cluster`` and ``video`` are codes from 0; ``frames`` is how many frames are behind a row. ``whole`` is
    what is resampled where groups play no part, None where that is the cluster: a person who is annotated
    with two groups is one cluster in each of them, and one whole.
    """

    label: np.ndarray
    score: np.ndarray
    cluster: np.ndarray
    video: np.ndarray
    frames: np.ndarray
    whole: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Slice:
    """An attribute's groups, in reading order. The frames have one row for each group."""

    attribute: str
    support: pd.DataFrame  # columns SUPPORT
    counts: np.ndarray  # (groups, 4) outcomes, columns metrics.COUNTS
    values: pd.DataFrame  # a column a metric, as in the frames below
    low: pd.DataFrame
    high: pd.DataFrame
    estimates: dict[str, Estimates]  # the same with the resamples behind it
    in_gap: pd.DataFrame  # boolean: has the group the support that the metric needs
    excluded: list[Excluded]
    shuffled: Shuffled
    cross_auc: list[CrossAuc]  # fakes of one group against reals of another, see `_cross_auc`
    against_others: list[AgainstOthers]  # the same against the reals of all others together
    shrunk: list[ShrunkRate]  # of a crossed attribute


def measure(
    rows: Rows, groups: pd.Series, settings: Settings, levels: Levels | None = None, seed: str | None = None
) -> Slice:
    """The slice of the rows by one column of group names.

    Args:
        rows: of the audit.
        groups: (N,) name of each row's group.
        settings: of the audit.
        levels: those of all rows, if at hand.
        seed: whose randomness; the attribute's if not given.
    """
    levels = cut(rows.label, rows.score) if levels is None else levels
    names = order_groups(groups.unique().tolist())
    of_row = pd.Categorical(groups, categories=names).codes.astype(np.int64)
    # A person is one unit in each group; only "unknown" can share people with another group. Cluster 7 of
    # 1,000 in group 2 is 2,007 before it is numbered from 0.
    stride = int(rows.cluster.max(initial=0)) + 1
    unit, pairs = pd.factorize(of_row * stride + rows.cluster)
    of_unit = pairs // stride
    counts = count_units(rows.label, rows.score > settings.threshold, unit, len(of_unit))
    support = _support(rows, of_row, names)
    seed_name = str(groups.name) if seed is None else seed
    rng = generator(settings, seed_name)
    metrics = group_metrics()
    found = estimates(
        Decisions(rows.label, rows.cluster, of_row),
        [rows.score],
        [settings.threshold],
        metrics,
        groups=len(names),
        # Over all rows as many as `evaluate` draws.
        n_boot=settings.resamples(len(rows)) if seed is None else settings.n_boot,
        rng=rng,
    )
    ends = {name: one.limits() for name, one in found.items()}
    enough = _has_enough(support, settings)
    in_gap = _is_in_gap(enough)
    crossed, others = _cross_auc(rows, of_row, levels, found["auc"], support, enough, settings, rng)
    return Slice(
        attribute=str(groups.name),
        support=support,
        counts=sum_by(counts, of_unit, len(names)),
        values=pd.DataFrame({name: found[name].value[0] for name in metrics}, index=names),
        low=pd.DataFrame({name: ends[name][0] for name in metrics}, index=names),
        high=pd.DataFrame({name: ends[name][1] for name in metrics}, index=names),
        estimates=found,
        in_gap=in_gap,
        excluded=_excluded_groups(support, settings),
        # Its own randomness: the tests are the same however many resamples intervals have.
        shuffled=shuffle(
            levels, unit, of_unit, counts, in_gap, settings, generator(settings, f"{seed_name}, shuffled")
        ),
        cross_auc=crossed,
        against_others=others,
        shrunk=_shrunk_rates(counts, of_unit, names) if CROSS in str(groups.name) else [],
    )


def _shrunk_rates(counts: np.ndarray, of_unit: np.ndarray, names: list[str]) -> list[ShrunkRate]:
    """FPR and TPR of every crossed group that has the class, with `shrink`; raw: units weighed alike."""
    rows, of_kind = kinds(counts)
    found: list[ShrunkRate] = []
    for kind, columns in COLUMNS_OF.items():
        weight, called = (values[of_kind] for values in weigh(rows, of_kind, list(columns)))
        held, units = (
            np.bincount(of_unit, weight, len(names)),
            np.bincount(of_unit[weight > 0], None, len(names)),
        )
        kept = [at for at in np.flatnonzero(held > 0) if names[at] != UNKNOWN]
        if len(kept) < 2:
            continue
        share = np.bincount(of_unit, called, len(names))[kept] / held[kept]
        one = shrink([names[at] for at in kept], share, held[kept])
        found += [
            {
                "group": names[at],
                "metric": TESTED_OF[kind],
                "raw": float(share[place]),
                "main_effects": float(one.main_effects[place]),
                "shrunk": float(one.value[place]),
                "shrunk_ci": [float(one.low[place]), float(one.high[place])],
                "shrinkage": float(one.shrinkage[place]),
                "units": int(units[at]),
            }
            for place, at in enumerate(kept)
        ]
    return found


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


def _is_in_gap(enough: pd.DataFrame) -> pd.DataFrame:
    """For each group and metric: is the support there that the metric needs."""
    of_class = {name: enough[name].to_numpy() for name in BOTH}
    columns = {name: np.all([of_class[one] for one in needs(name)], axis=0) for name in group_metrics()}
    return pd.DataFrame(columns, index=enough.index)


def _has_enough(support: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """For each group and class: enough units, enough frames, and somebody said who they are."""
    return pd.DataFrame(
        {
            name: (support[f"{name}_clusters"] >= settings.min_clusters)
            & (support[f"{name}_frames"] >= settings.min_samples)
            & (support.index != UNKNOWN)
            for name in BOTH
        }
    )


def _excluded_groups(support: pd.DataFrame, settings: Settings) -> list[Excluded]:
    """Which group is left out of which gaps, and why, in words."""
    found: list[Excluded] = []
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
                few = count_text(int(count), settings.unit)
                reasons.append(f"{few} with {name} material, {settings.min_clusters} needed")
            if frames < settings.min_samples:
                reasons.append(
                    f"{frames} {name} {'frame' if frames == 1 else 'frames'}, {settings.min_samples} needed"
                )
            if frames == 0:
                reasons = [f"no {name} material"]
            if reasons:
                metrics = f"{metrics} and metrics that need both classes"
                found.append({"group": str(group), "metrics": metrics, "reason": "; ".join(reasons)})
    return found


def _cross_auc(
    rows: Rows,
    of_row: np.ndarray,
    levels: Levels,
    own: Estimates,
    support: pd.DataFrame,
    enough: pd.DataFrame,
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[list[CrossAuc], list[AgainstOthers]]:
    """AUC of one group's fakes against another's reals, with intervals, among groups with enough of both.

    And against the reals of all others together.

    Within-group AUC can be perfect in every group while one threshold fits none of them; this cannot.
    Background-positive, subgroup-negative AUC and its mirror in Borkan et al. 2019. ``own`` are the groups'
    own AUCs, which a group against itself has.
    """
    kept = np.flatnonzero(enough.all(axis=1))
    if not 2 <= len(kept) <= CROSS_AUC_GROUPS:
        return [], []
    place = np.full(len(support), -1)
    place[kept] = np.arange(len(kept))
    value = exact_cross_auc(rows.label, place[of_row], len(kept), levels)
    drawn = np.stack([_drawn_cells(rows, of_row == code, levels, settings, rng) for code in kept])
    apart = cross_auc(drawn, levels)
    chosen = support.iloc[kept]
    own_low, own_high = own.limits()
    names = [str(name) for name in chosen.index]
    found: list[CrossAuc] = []
    for fake in range(len(kept)):
        for real in range(len(kept)):
            clusters = min(chosen["fake_clusters"].iloc[fake], chosen["real_clusters"].iloc[real])
            ends = metric_interval("auc", value[fake, real], apart[fake, real], int(clusters), 0)
            if fake == real:
                ends = own_low[kept[fake]], own_high[kept[fake]]
            found.append(
                {
                    "positives_of": names[fake],
                    "negatives_of": names[real],
                    "auc": float(value[fake, real]),
                    "auc_ci": [float(end) for end in ends],
                }
            )
    reals = np.bincount(place[of_row][(rows.label == 0) & (place[of_row] >= 0)], minlength=len(kept))
    drawn_reals = drawn[..., : levels.size].sum(axis=-1)  # (J, B)
    both = _against_others(value[..., None], reals[:, None]), _against_others(apart, drawn_reals)
    others: list[AgainstOthers] = []
    for at, (auc, resampled) in enumerate(zip(*both, strict=True)):
        real_units = chosen["real_clusters"].sum() - chosen["real_clusters"].iloc[at]
        units = int(min(chosen["fake_clusters"].iloc[at], real_units))
        low, high = metric_interval("auc", float(auc[0]), resampled, units, 0)
        others.append({"group": names[at], "auc": float(auc[0]), "auc_ci": [float(low), float(high)]})
    return found, others


def _against_others(apart: np.ndarray, reals: np.ndarray) -> np.ndarray:
    """(J, B) AUC of each group's fakes against all others' reals: pairs of groups, weighed by their reals.

    Args:
        apart: (J, J, B) of each group's fakes against each group's reals.
        reals: (J, B) how many there are.
    """
    weight = np.where(np.eye(len(apart), dtype=bool)[..., None], 0.0, reals[None].astype(np.float64))
    return (weight * np.nan_to_num(apart)).sum(axis=1) / weight.sum(axis=1)


def _drawn_cells(
    rows: Rows, member: np.ndarray, levels: Levels, settings: Settings, rng: np.random.Generator
) -> np.ndarray:
    """(n_boot, cells) rows of one group on each level of the score, real and fake, in each resample."""
    sample = Sample(rows.label[member], rows.score[member], *number_units(rows.cluster[member]))
    cell = levels.cell[member]
    shape = (2 * levels.size, len(cell))
    at = sparse.coo_array((np.ones(len(cell)), (cell, np.arange(len(cell)))), shape=shape).tocsr()
    return resampled_sums(sample, at, n_boot=settings.resamples(len(rows)), seed=rng).T
