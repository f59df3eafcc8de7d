"""Intervals that know that frames of one video, and videos of one person, are not independent.

Whole clusters are drawn with replacement, within strata of the classes they hold (real only, fake only,
both), so every resample has both classes. Nothing is sorted again: a resample is a weight for each cluster,
and its counts are one product of those weights with a table of counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from unmasked.evaluation import counts
from unmasked.evaluation.counts import Array, Confusion
from unmasked.evaluation.metrics import METRICS, checked

CONFIDENCE = 0.95
# Curves of resamples keep at most so many distinct scores, at quantiles of each class. Scores within a step
# count as tied, which moves an AUC by about 1e-6, AP and EER by 1e-4, a TPR at a low FPR by 1e-3 at most;
# estimates themselves are never rounded.
MAX_LEVELS = 4096
# The class whose rows a rate is a share of.
RATE_OF = {"fpr": 0, "fnr": 1, "tpr": 1, "recall": 1}
# Numbers in the largest array of a block of resamples: 16 MB.
BLOCK_SIZE = 1 << 21


@dataclass(frozen=True)
class Sample:
    """Scored rows with the cluster that each belongs to, coded 0 to C - 1."""

    label: NDArray[np.int64]  # (N,)
    score: Array  # (N,)
    cluster: NDArray[np.int64]  # (N,)
    clusters: int  # C

    @classmethod
    def of(cls, label: ArrayLike, score: ArrayLike, cluster: ArrayLike) -> Sample:
        """A sample from arrays; ``cluster`` (N,) holds any values that can be sorted."""
        label, score = checked(label, score)
        names, codes = np.unique(np.asarray(cluster), return_inverse=True)
        return cls(label, score, codes.astype(np.int64), len(names))

    def holds(self, which: int) -> NDArray[np.bool_]:
        """(C,) whether a cluster has rows of class ``which``."""
        return np.bincount(self.cluster[self.label == which], minlength=self.clusters) > 0

    def clusters_by_class(self) -> tuple[int, int]:
        """How many clusters hold reals, and how many hold fakes."""
        return int(self.holds(0).sum()), int(self.holds(1).sum())


def resample(
    sample: Sample,
    threshold: float = 0.5,
    *,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    only: Collection[str] = tuple(METRICS),
) -> dict[str, Array]:
    """Each metric of ``only`` in each of ``n_boot`` resamples of the clusters, (n_boot,).

    The same seed gives the same resamples, whatever is asked of them. Metrics are those of
    `unmasked.evaluation.metrics.METRICS`; NaN in resamples where one is undefined.
    """
    return resample_together([sample], [threshold], n_boot=n_boot, seed=seed, only=only)[0]


def resample_together(
    samples: Sequence[Sample],
    thresholds: Sequence[float],
    *,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    only: Collection[str] = tuple(METRICS),
) -> list[dict[str, Array]]:
    """`resample` for samples that share clusters: in each resample they are of the same clusters.

    Args:
        samples: with one coding of clusters; one that a sample has no rows of is absent from it. Clusters
            are drawn within strata of the classes that they hold in each of the samples.
        thresholds: one for each sample.
        n_boot, seed, only: see `resample`.
    """
    tables = [_Tables.of(sample, cut, only) for sample, cut in zip(samples, thresholds, strict=True)]
    results = [{name: np.empty(n_boot) for name in only} for _ in samples]
    block = max(1, BLOCK_SIZE // max(1, *(table.widest for table in tables)))
    done = 0
    for weights in _weights(samples, n_boot, block, seed):
        rows = slice(done, done + weights.shape[1])
        for table, result in zip(tables, results, strict=True):
            values = table.metrics(weights)
            for name in only:
                result[name][rows] = values[name]
        done = rows.stop
    return results


def resampled_sums(
    sample: Sample, terms: Array, *, n_boot: int = 2000, seed: int | np.random.Generator = 0
) -> Array:
    """Sums of each of the terms (K, N) over the rows of each resample of `resample`, (K, n_boot)."""
    table = _sum_table(sample, terms)
    block = max(1, BLOCK_SIZE // max(1, sample.clusters))
    parts = [table @ weights for weights in _weights([sample], n_boot, block, seed)]
    return np.concatenate([np.empty((len(terms), 0)), *parts], axis=1)


def intervals(
    sample: Sample,
    threshold: float = 0.5,
    *,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    only: Collection[str] = tuple(METRICS),
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric of ``only``; see `resample` and `intervals_of`."""
    return intervals_of(sample, resample(sample, threshold, n_boot=n_boot, seed=seed, only=only))


def intervals_of(sample: Sample, resamples: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    """Percentile intervals from the resamples of a sample, widened for few clusters (`percentile_interval`).

    NaN where a class that is present has fewer than two clusters, or where more than a tenth of the
    resamples are undefined. Where every resample sits on the metric's limit (no error was made), the
    bootstrap would claim certainty: the other end is then the bound for that many clusters without an
    error, 0.025^(1/n) from the opposite limit (Clopper and Pearson 1934). There n counts the clusters of
    the class that the rate is of, else of the smaller class: for an AUC of 1, n pairs of clusters are all
    in order with a probability of AUC^n at most.
    """
    present = [number for number in sample.clusters_by_class() if number]
    if not present or min(present) < 2:
        return {name: (float("nan"), float("nan")) for name in resamples}
    result = {}
    for name, values in resamples.items():
        metric, n = METRICS[name], clusters_behind(name, sample)
        result[name] = bounded_interval(values, n, metric.minimum, metric.maximum)
    return result


def bounded_interval(
    values: Array, clusters: int, minimum: float = 0.0, maximum: float = 1.0
) -> tuple[float, float]:
    """`percentile_interval`, with the bound for no error where all values are equal to a finite limit.

    >>> low, high = bounded_interval(np.zeros(100), 12)
    >>> low, round(high, 4)
    (0.0, 0.2646)
    """
    low, high = percentile_interval(values, clusters=clusters)
    reach = maximum - minimum
    if low != high or not np.isfinite(reach):
        return low, high
    surest = ((1 - CONFIDENCE) / 2) ** (1 / clusters) * reach
    return (minimum + surest if low == maximum else low), (maximum - surest if low == minimum else high)


def difference_interval(
    draws: tuple[Array, Array], own: Sequence[Sequence[float]], clusters: int
) -> tuple[float, float]:
    """The interval of the first metric minus the second; NaN where either has none.

    Args:
        draws: both in each resample, (n_boot,).
        own: the interval of each. Where neither varies, as no error is made, they are as far apart as the
            ends of these.
        clusters: the fewer of those behind either.
    """
    if np.isnan(own).any():
        return float("nan"), float("nan")
    low, high = percentile_interval(draws[0] - draws[1], clusters=clusters)
    if low == high and all(np.ptp(values) == 0 for values in draws):
        low, high = own[0][0] - own[1][1], own[0][1] - own[1][0]
    return float(low), float(high)


def drawn_mean(values: Sequence[Array], seed: int | np.random.Generator) -> Array:
    """Mean over trainings with different seeds in each resample, which draws the seeds, (n_boot,).

    Of K seeds, K - 1 are drawn with replacement: drawing K would make the spread of the mean too small by
    (K - 1) / K (Rao and Wu 1988). One seed says nothing about seeds and is taken as it is.

    Args:
        values: for each seed (n_boot,) a metric in each resample of the same videos.
        seed: of the drawing.
    """
    table = np.stack(values)  # (K, n_boot)
    number, n_boot = table.shape
    if number == 1:
        return table[0]
    chosen = np.random.default_rng(seed).integers(0, number, size=(number - 1, n_boot))
    return np.take_along_axis(table, chosen, axis=0).mean(axis=0)


def clusters_behind(name: str, sample: Sample) -> int:
    """How many clusters a metric rests on: those of the class a rate is of, else of the smaller class."""
    per_class = sample.clusters_by_class()
    return per_class[RATE_OF[name]] if name in RATE_OF else min(number for number in per_class if number)


def percentile_interval(
    values: Array, confidence: float = CONFIDENCE, clusters: int | None = None
) -> tuple[float, float]:
    """The central part of the resampled values; NaN if more than a tenth of them is undefined.

    Args:
        values: (n_boot,) a metric in each resample.
        confidence: share of the values that is inside.
        clusters: n that were resampled. Resamples of n spread as if the variance were divided by n and not
            n - 1, and a normal quantile ignores that it is estimated: the interval reaches to the
            quantile Φ(sqrt(n / (n - 1)) t(n - 1)) instead (Hesterberg 2015, expanded percentiles).

    >>> percentile_interval(np.arange(101.0), confidence=0.5)
    (25.0, 75.0)
    """
    defined = values[~np.isnan(values)]
    if len(defined) < 0.9 * len(values) or not len(defined):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    if clusters is not None and clusters > 1:
        tail = float(stats.norm.cdf(np.sqrt(clusters / (clusters - 1)) * stats.t.ppf(tail, clusters - 1)))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _weights(
    samples: Sequence[Sample], n_boot: int, block: int, seed: int | np.random.Generator
) -> Iterator[Array]:
    """Blocks (C, R) of how often each cluster is drawn in each resample; no block size changes them."""
    clusters = samples[0].clusters
    kind = np.zeros(clusters, dtype=np.int64)
    for sample in samples:
        kind = 4 * kind + sample.holds(0) + 2 * sample.holds(1)
    strata = [np.flatnonzero(kind == value) for value in np.unique(kind[kind > 0])]
    generators = np.random.default_rng(seed).spawn(len(strata))
    for start in range(0, n_boot, block):
        size = min(block, n_boot - start)
        weights = np.zeros((clusters, size))
        for members, generator in zip(strata, generators, strict=True):
            drawn = generator.integers(0, len(members), size=(size, len(members)))
            cell = drawn * size + np.arange(size)[:, None]  # (R, members) -> position in (members, R)
            weights[members] = np.bincount(cell.ravel(), minlength=len(members) * size).reshape(-1, size)
        yield weights


@dataclass(frozen=True)
class _Tables:
    """What is summed over clusters for the metrics that are asked for; nothing else is counted."""

    only: Collection[str]
    ranked: sparse.csr_array | None  # (2 T, C)
    outcomes: sparse.csr_array | None  # (4, C)
    terms: sparse.csr_array | None  # (3 + bins, C)
    widest: int

    @classmethod
    def of(cls, sample: Sample, threshold: float, only: Collection[str]) -> _Tables:
        ranked = outcomes = terms = None
        if not counts.RANKING.keys().isdisjoint(only):
            ranked = _level_table(sample)
        if not counts.THRESHOLD.keys().isdisjoint(only):
            outcomes = _sum_table(sample, counts.confusion_terms(sample.label, sample.score, threshold))
        if not counts.PROBABILITY.keys().isdisjoint(only):
            terms = _sum_table(sample, counts.probability_terms(sample.label, sample.score))
        widest = max(sample.clusters, 0 if ranked is None else ranked.shape[0])
        return cls(only, ranked, outcomes, terms, widest)

    def metrics(self, weights: Array) -> dict[str, Array]:
        """Metrics of the resamples with these weights (C, R), each (R,)."""
        values: dict[str, Array] = {}
        if self.ranked is not None:
            real, fake = np.split(self.ranked @ weights, 2)  # (2 T, C) @ (C, R) -> two of (T, R)
            fp, tp = counts.cumulated(real), counts.cumulated(fake)
            values |= {name: counts.RANKING[name](fp, tp) for name in self.only if name in counts.RANKING}
        if self.outcomes is not None:
            outcome = Confusion(*(self.outcomes @ weights))
            values |= {name: rate(outcome) for name, rate in counts.THRESHOLD.items()}
        if self.terms is not None:
            sums = self.terms @ weights
            values |= {name: mean(sums) for name, mean in counts.PROBABILITY.items()}
        return values


def _level_table(sample: Sample) -> sparse.csr_array:
    """(2 T, C): rows of each cluster at each level, high to low; reals in the first T, fakes after."""
    score = sample.score
    if len(np.unique(score)) > MAX_LEVELS:
        score = _coarse(sample)
    distinct, level = counts.levels_of(score)
    row = level + len(distinct) * sample.label
    shape = (2 * len(distinct), sample.clusters)
    return sparse.coo_array((np.ones(len(row)), (row, sample.cluster)), shape=shape).tocsr()


def _coarse(sample: Sample) -> Array:
    """Scores replaced by the number of a step; steps are even in rank among reals, and among fakes."""
    shares = np.linspace(0, 1, MAX_LEVELS // 2)
    edges = [
        np.quantile(sample.score[sample.label == which], shares, method="inverted_cdf")
        for which in (0, 1)
        if (sample.label == which).any()
    ]
    return np.searchsorted(np.unique(np.concatenate(edges)), sample.score).astype(np.float64)


def _sum_table(sample: Sample, terms: Array) -> sparse.csr_array:
    """(K, N) terms of rows -> (K, C) sums over the rows of each cluster.

    Sparse although small: the product with a block of weights then stays in this thread, where BLAS would
    start others for it, and wait for them on a machine that is busy.
    """
    sums = [np.bincount(sample.cluster, weights=term, minlength=sample.clusters) for term in terms]
    return sparse.csr_array(np.stack(sums))
