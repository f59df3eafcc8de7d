"""Intervals that know that frames of one video, and videos of one person, are not independent.

Whole clusters are drawn with replacement, within strata of the classes they hold (real only, fake only,
both), so every resample has both classes. Nothing is sorted again: a resample is a weight for each cluster,
and its counts are one product of those weights with a table of counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

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
    results = {name: np.empty(n_boot) for name in only}
    # Only what is asked for is counted.
    ranked = _level_table(sample) if not set(only).isdisjoint(counts.RANKING) else None
    outcomes = _sum_table(sample, counts.confusion_terms(sample.label, sample.score, threshold))
    terms = _sum_table(sample, counts.probability_terms(sample.label, sample.score))
    widest = max(sample.clusters, ranked.shape[0] if ranked is not None else 0)
    done = 0
    for weights in _weights(sample, n_boot, max(1, BLOCK_SIZE // max(widest, 1)), seed):
        block = slice(done, done + weights.shape[1])
        values = _block_metrics(weights, ranked, outcomes, terms)
        for name in only:
            results[name][block] = values[name]
        done = block.stop
    return results


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
    """Percentile intervals from the resamples of a sample.

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
        low, high = percentile_interval(values)
        if low == high:
            low, high = _widened(low, name, sample)
        result[name] = (low, high)
    return result


def _widened(value: float, name: str, sample: Sample) -> tuple[float, float]:
    """The interval of a metric that has the same value in every resample."""
    metric, per_class = METRICS[name], sample.clusters_by_class()
    n = per_class[RATE_OF[name]] if name in RATE_OF else min(number for number in per_class if number)
    reach = metric.maximum - metric.minimum
    if not np.isfinite(reach):
        return value, value
    surest = ((1 - CONFIDENCE) / 2) ** (1 / n) * reach
    low = metric.minimum + surest if value == metric.maximum else value
    high = metric.maximum - surest if value == metric.minimum else value
    return low, high


def percentile_interval(values: Array, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The central part of the resampled values; NaN if more than a tenth of them is undefined.

    >>> percentile_interval(np.arange(101.0), confidence=0.5)
    (25.0, 75.0)
    """
    defined = values[~np.isnan(values)]
    if len(defined) < 0.9 * len(values) or not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _weights(sample: Sample, n_boot: int, block: int, seed: int | np.random.Generator) -> Iterator[Array]:
    """Blocks (C, R) of how often each cluster is drawn in each resample; no block size changes them."""
    kind = sample.holds(0) + 2 * sample.holds(1).astype(np.int64)
    strata = [members for value in (1, 2, 3) if len(members := np.flatnonzero(kind == value))]
    generators = np.random.default_rng(seed).spawn(len(strata))
    for start in range(0, n_boot, block):
        size = min(block, n_boot - start)
        weights = np.zeros((sample.clusters, size))
        for members, generator in zip(strata, generators, strict=True):
            drawn = generator.integers(0, len(members), size=(size, len(members)))
            cell = drawn * size + np.arange(size)[:, None]  # (R, members) -> position in (members, R)
            weights[members] = np.bincount(cell.ravel(), minlength=len(members) * size).reshape(-1, size)
        yield weights


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


def _sum_table(sample: Sample, terms: Array) -> Array:
    """(K, N) terms of rows -> (K, C) sums over the rows of each cluster."""
    return np.stack([np.bincount(sample.cluster, weights=term, minlength=sample.clusters) for term in terms])


def _block_metrics(
    weights: Array, ranked: sparse.csr_array | None, outcomes: Array, terms: Array
) -> dict[str, Array]:
    values: dict[str, Array] = {}
    if ranked is not None:
        real, fake = np.split(ranked @ weights, 2)  # (2 T, C) @ (C, R) -> two of (T, R)
        fp, tp = counts.cumulated(real), counts.cumulated(fake)
        values |= {name: function(fp, tp) for name, function in counts.RANKING.items()}
    outcome = Confusion(*(outcomes @ weights))
    values |= {name: function(outcome) for name, function in counts.THRESHOLD.items()}
    sums = terms @ weights
    values |= {name: function(sums) for name, function in counts.PROBABILITY.items()}
    return values
