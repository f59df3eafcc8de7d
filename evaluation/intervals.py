"""Intervals for dependent rows: frames of one video, videos of one person.

Whole clusters are drawn with replacement, within strata of the classes they hold (real only, fake only,
both), so every resample has both classes. Nothing is sorted again: a resample is a weight for each cluster,
and its counts are one product of those weights with a table of counts.

Each kind of metric has one interval (`metric_interval`), wherever it is shown: a share of one class Wilson's,
on the effective number of rows that the resamples' variance implies; what varies as a share does, such as a
Brier score, `_score_interval`; the TPR at an FPR that of `tpr_at_fpr_interval`; every other metric the
expanded percentiles of its resamples.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

from unmasked.evaluation import counts
from unmasked.evaluation.counts import Array, Confusion
from unmasked.evaluation.metrics import (
    METRICS,
    Kind,
    all_metrics,
    check_arrays,
    from_counts,
    one_value,
)
from unmasked.evaluation.records import Numbers

CONFIDENCE = 0.95
# Curves of resamples keep at most so many distinct scores, at quantiles of each class. Scores within a step
# count as tied, which moves an AUC by about 1e-6, AP and EER by 1e-4, a TPR at a low FPR by 1e-3 at most;
# estimates themselves are never rounded.
MAX_LEVELS = 4096
# How many effective errors the prior of `wilson_interval` is worth.
PRIOR_EVENTS = 2.0
# Rows that each bin of the calibration error needs on average before it has a lower end above 0.
ROWS_PER_BIN = 4
# Resamples that differ by less are equal but for rounding.
NO_SPREAD = 1e-12
# From so many clusters on, those of one row are drawn by kind where that leaves a quarter: see `_merged`.
MANY_CLUSTERS = 5_000
# Numbers in the largest array of a block of resamples: 16 MB.
BLOCK_SIZE = 1 << 21
# Where a kind's steps of the score end, as shares of a class: closer at the top, for TPR at a low FPR.
STEPS = np.unique(np.concatenate([np.linspace(0, 1, 121), np.linspace(0.95, 1, 51)]))


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
        label, score = check_arrays(label, score)
        names, codes = np.unique(np.asarray(cluster), return_inverse=True)
        return cls(label, score, codes.astype(np.int64), len(names))

    def has_class(self, which: int) -> NDArray[np.bool_]:
        """(C,) True where a cluster has rows of class ``which``."""
        return self._classes[which]

    @cached_property
    def _classes(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        real, fake = (
            np.bincount(self.cluster[self.label == which], minlength=self.clusters) > 0 for which in (0, 1)
        )
        return real, fake

    def clusters_by_class(self) -> tuple[int, int]:
        """How many clusters hold reals, and how many hold fakes."""
        return int(self.has_class(0).sum()), int(self.has_class(1).sum())


def seed_by_name(seed: int, *names: str) -> list[int]:
    """The seed of a dataset's resamples, or of whatever else has that name.

    The same in every command, and whatever others are in the table.
    """
    return [seed, *(zlib.crc32(str(name).encode("utf-8")) for name in names)]


def resample(
    sample: Sample,
    threshold: float = 0.5,
    *,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    only: Collection[str] | None = None,
) -> dict[str, Array]:
    """Each metric of ``only`` (None: all) in each resample of the clusters, (n_boot,).

    The same seed gives the same resamples, whatever is asked of them. Metrics are those of
    `unmasked.evaluation.metrics.METRICS`; NaN in resamples where one is undefined.
    """
    return resample_together([sample], [threshold], n_boot=n_boot, seed=seed, only=only)[0]


def resample_together(
    samples: Sequence[Sample],
    thresholds: Sequence[float | Array],
    *,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    only: Collection[str] | None = None,
) -> list[dict[str, Array]]:
    """`resample` for samples that share clusters.

    In each resample they are of the same clusters.

    Args:
        samples: with one coding of clusters; one that a sample has no rows of is absent from it. Clusters
            are drawn within strata of the classes that they hold in each of the samples.
        thresholds: one for each sample, or (N,) where each of its rows has its own.
        n_boot, seed, only: see `resample`.
    """
    only = list(METRICS) if only is None else list(only)
    merged = _merged(samples, thresholds, only)
    tables = [_Tables.of(sample, cut, only, merged) for sample, cut in zip(samples, thresholds, strict=True)]
    results = [{name: np.empty(n_boot) for name in only} for _ in samples]
    block = max(1, BLOCK_SIZE // max(1, *(table.widest for table in tables)))
    done = 0
    for weights in _weights(samples, n_boot, block, seed, merged):
        rows = slice(done, done + weights.shape[1])
        for table, result in zip(tables, results, strict=True):
            values = table.metrics(weights)
            for name in only:
                result[name][rows] = values[name]
        done = rows.stop
    return results


def weighted_metrics(
    sample: Sample, weights: Array, threshold: float = 0.5, only: Collection[str] | None = None
) -> dict[str, Array]:
    """Each metric of ``only`` (None: all) with clusters counted ``weights`` (C, R) times.

    Returns:
        By name (R,), exact to the levels of `MAX_LEVELS`.
    """
    return _Tables.of(sample, threshold, list(METRICS) if only is None else list(only)).metrics(weights)


def resampled_sums(
    sample: Sample,
    terms: Array | sparse.csr_array,
    *,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
) -> Array:
    """Sums (K, n_boot) of each of the terms (K, N) over the rows of each resample."""
    table, merged = _sum_table(sample, terms), _merged([sample], [], [])
    table = table if merged is None else (table @ merged.table).tocsr()
    block = max(1, BLOCK_SIZE // max(1, table.shape[1]))
    parts = [table @ weights for weights in _weights([sample], n_boot, block, seed, merged)]
    return np.concatenate([np.empty((table.shape[0], 0)), *parts], axis=1)


def intervals(
    sample: Sample,
    threshold: float = 0.5,
    *,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    only: Collection[str] | None = None,
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric of ``only`` (None: all).

    See `resample` and `intervals_of`.
    """
    drawn = resample(sample, threshold, n_boot=n_boot, seed=seed, only=only)
    return intervals_of(sample, all_metrics(sample.label, sample.score, threshold, only), drawn)


def intervals_of(
    sample: Sample, values: Mapping[str, float], resamples: Mapping[str, Array]
) -> dict[str, tuple[float, float]]:
    """The interval of each metric of ``resamples`` whose value in the sample is given.

    See `metric_interval`, and of a TPR at an FPR `tpr_at_fpr_interval`.
    NaN where a class that is present has fewer than two clusters.
    """
    present = [number for number in sample.clusters_by_class() if number]
    if not present or min(present) < 2:
        return {name: (float("nan"), float("nan")) for name in resamples}
    found = {}
    for name, drawn in resamples.items():
        fpr_max = METRICS[name].fpr_max
        if fpr_max is not None and len(drawn):
            found[name] = tpr_at_fpr_interval(sample, fpr_max)
        else:
            found[name] = metric_interval(name, values[name], drawn, *behind(name, sample))
    return found


def interleave(values: Mapping[str, float], intervals: Mapping[str, Sequence[float]]) -> Numbers:
    """A block of metrics: each value, then its interval.

    >>> interleave({"auc": 0.9}, {"auc": (0.8, 1.0)})
    {'auc': 0.9, 'auc_ci': [0.8, 1.0]}
    """
    block: Numbers = {}
    for name, value in values.items():
        block[name] = value
        block[f"{name}_ci"] = list(intervals[name])
    return block


def metric_interval(
    name: str, value: float, drawn: Array, clusters: int, rows: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The interval of a metric, the one that is shown everywhere.

    NaN with fewer than two clusters.

    Args:
        name: a share of one class (`Metric.rate_of`) has `wilson_interval`; what varies as a share does, as
            an AUC, `_score_interval`; AP, partial AUC and log loss, whose resamples are skewed, Student's on
            the scale of the logit (Boyd, Eng and Page 2013) or logarithm; every other metric
            `bounded_interval`, shifted by the bias where resamples add one, as to the ECE (`_shift_biased`)
            or to the AUC of people who hold reals and fakes. Its ends hold the value.
        value: in the sample.
        drawn: (n_boot,) in each resample.
        clusters, rows: see `behind`.
        confidence: at another than 95 % the ends of `bounded_interval` are as much further or nearer as
            Student's quantile is: far out, a few resamples would decide.
    """
    metric = METRICS[name]
    if clusters < 2 or np.isnan(value):
        return float("nan"), float("nan")
    if metric.rate_of is not None:
        if not len(drawn) or np.isnan(drawn).mean() > 0.1:
            return float("nan"), float("nan")
        ends = wilson_interval(value, np.nanvar(drawn), clusters, rows, confidence=confidence)
        return float(ends[0]), float(ends[1])
    low, high = bounded_interval(drawn, clusters, metric.minimum, metric.maximum)
    if np.isnan(low):
        return low, high
    bias = float(np.nanmean(drawn)) - value
    # Of independent reals and fakes an AUC's resamples are centred on it, but for what is left of chance.
    is_independent = metric.resamples == "paired" and not _is_shown(bias, drawn)
    if np.nanstd(drawn) > NO_SPREAD:
        if metric.resamples == "share" or is_independent:
            return _score_interval(value, drawn, clusters, confidence)
        if metric.resamples == "skewed" and metric.minimum < value < metric.maximum:
            return _skewed_interval(value, drawn, clusters, confidence, metric.maximum)
    if metric.resamples == "biased":
        low, high = _shift_biased(low, high, bias, rows)
        low, high = np.clip([low, high], metric.minimum, metric.maximum).tolist()
    elif metric.resamples == "paired" and not is_independent:
        # The sample's value lies as far above the truth as the resamples lie above the value. Without the
        # second half of the shift the interval would hold the expected value and not the truth.
        low, high = np.clip([low - 2 * bias, high - 2 * bias], metric.minimum, metric.maximum).tolist()
    low, high = min(low, value), max(high, value)
    if confidence != CONFIDENCE:
        levels = (1 + np.array([confidence, CONFIDENCE])) / 2
        wanted, usual = special.stdtrit(clusters - 1, levels)
        low, high = (value + (end - value) * float(wanted / usual) for end in (low, high))
        low, high = max(metric.minimum, low), min(metric.maximum, high)
    return low, high


def describe_intervals() -> str:
    """Which interval each metric of the registry has, in words for ``metrics.json``."""
    kinds: dict[str, list[str]] = {}
    for one in METRICS.values():
        kind = "at an FPR" if one.fpr_max else one.resamples if one.rate_of is None else "rate"
        kinds.setdefault(kind, []).append(one.title)
    named = {kind: ", ".join(titles) for kind, titles in kinds.items()}
    return (
        f"{named['rate']}: Wilson's, on the effective number of rows. {named['at an FPR']}: Wilson's of the "
        "fakes and the range of the threshold, joined by MOVER (Zou and Donner 2008). "
        f"{named['share']}, {named['paired']}: Wilson's, on the number of rows that resamples imply. "
        f"{named['skewed']}: Student's on the scale of the logit, or logarithm. {named['paired']} of people "
        f"who are in both classes: percentiles less twice the bias. {named['biased']}: percentiles less the "
        "bias of its bins. Every other: percentiles of the resamples, widened for few clusters (Hesterberg "
        "2015). Where no resample differs, as no error "
        "is made: the exact bound for that many clusters (Clopper and Pearson 1934)"
    )


def _shift_biased(low: float, high: float, bias: float, rows: int) -> tuple[float, float]:
    """The ends of a calibration error's percentiles, less the bias of its bins, which resamples misjudge.

    Both ends move by the bias by which resamples lie above the value, and by that of the value itself, which
    resamples only hint at. A bin's error is the absolute value of a mean. Where the bin is not off, noise s
    alone makes it sqrt(2 / π) s; resamples add noise of r s and show sqrt(1 + r²) - 1 of that, 0.41 at most,
    as r² is (m - 1) / m in a bin of m rows. The lower end allows for bins none of which is off, and once more
    for the bias shown: there a value without its bias varies more than its resamples do, by 1.96 (1.14 -
    0.75) / (0.33 sqrt(B)) times the bias shown, 0.6 to 1 for 15 to 5 bins that weigh alike. A bin that is off
    by twice its noise has a fifth of the bias that it shows: the upper end allows for half of what is shown.

    With fewer than `ROWS_PER_BIN` rows in a bin the bias is larger than what is to be measured: the lower end
    is 0, and the upper one allows for all of the bias.
    """
    shown = max(0.0, bias)
    part = np.sqrt(2 - min(1.0, counts.CALIBRATION_BINS / rows)) - 1
    bias = shown / part if part > 0 else np.inf
    if rows < ROWS_PER_BIN * counts.CALIBRATION_BINS:
        return 0.0, high - shown - bias
    return low - shown - bias - shown, high - shown - shown / 2


def _is_shown(bias: float, drawn: Array) -> bool:
    """True if a bias is more than five standard errors of the resamples' mean."""
    return abs(bias) > 5 * float(np.nanstd(drawn)) / np.sqrt(max(1, len(drawn)))


def _score_interval(value: float, drawn: Array, clusters: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval of what varies as a share does, on the number of rows that resamples imply.

    A share of n rows has the variance v (1 - v) / n, so the resamples' variance says what n would be. The
    ends lie where the value is Student's quantile away if the noise is that of the end: further out on the
    side of 0.5. Of few clusters percentiles covered 86 to 92 % for a selection rate and a Brier score, and
    the logit's interval 100 % for an AUC.
    """
    effective = value * (1 - value) / (np.nanvar(drawn) * clusters / (clusters - 1))
    quantile = special.stdtrit(clusters - 1, (1 + confidence) / 2)
    low, high = _wilson_ends(np.asarray(value), np.asarray(effective), np.asarray(quantile))
    return min(float(low), value), max(float(high), value)


def _wilson_ends(value: Array, effective: Array, quantile: Array) -> tuple[Array, Array]:
    """Ends of the interval of shares of so many rows (Wilson 1927), in [0, 1]."""
    squared = quantile**2 / effective
    centre = (value + squared / 2) / (1 + squared)
    half = quantile / (1 + squared) * np.sqrt(value * (1 - value) / effective + squared / (4 * effective))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _skewed_interval(
    value: float, drawn: Array, clusters: int, confidence: float, maximum: float
) -> tuple[float, float]:
    """Student's interval of log(value / (1 - value)), or of log(value) without a limit, carried back.

    Its standard error is that of the value times the slope of the scale, 1 / (value * (1 - value)) or 1 /
    value: logits of the resamples would have none where some of them are 1.
    """
    slope = 1 / value if np.isinf(maximum) else 1 / (value * (1 - value))
    spread = np.nanstd(drawn) * slope * np.sqrt(clusters / (clusters - 1))
    reach = special.stdtrit(clusters - 1, (1 + confidence) / 2) * spread * np.array([-1, 1])
    low, high = value * np.exp(reach) if np.isinf(maximum) else special.expit(special.logit(value) + reach)
    return float(low), float(high)


def wilson_interval(
    value: ArrayLike,
    variance: ArrayLike,
    clusters: ArrayLike,
    rows: ArrayLike,
    *,
    confidence: float | Array = CONFIDENCE,
) -> tuple[Array, Array]:
    """Wilson's interval on the effective number of rows by a cluster bootstrap's variance.

    A percentile interval of a rate that is 0 or 1 in the sample has width 0, as if a dozen videos could
    prove perfection. Here the design effect, rows / n_eff with n_eff = value (1 - value) / variance, is
    estimated with `PRIOR_EVENTS` events worth of the belief that the rows of a cluster are copies: without
    a single error it is the number of rows in a cluster, so that clusters are what counts, and with many it
    is what the data say. Student's t with clusters - 1 degrees of freedom replaces the normal quantile.
    Without an error, or without a right answer, the far end is the exact bound for so many clusters
    (Clopper and Pearson 1934), as in `bounded_interval`.

    Args:
        value: a share of rows, in [0, 1]; this and the others may be arrays of one shape.
        variance: of the share over resamples of whole clusters.
        clusters, rows: how many the share is of.
        confidence: how often the interval is to hold the truth.

    Returns:
        Lower and upper limit in [0, 1]; NaN where value is, or with fewer than two clusters.
    """
    value, variance, clusters, rows = (
        np.asarray(item, dtype=np.float64) for item in (value, variance, clusters, rows)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = _effective_rows(value, variance, clusters, rows)
        quantile = special.stdtrit(clusters - 1, (1 + np.asarray(confidence)) / 2)
        low, high = _wilson_ends(value, effective, quantile)
        surest = ((1 - np.asarray(confidence)) / 2) ** (1 / clusters)
        low, high = np.where(value == 1, surest, low), np.where(value == 0, 1 - surest, high)
        # Rounding may put the end of a share of 0 at 6e-17.
        low, high = np.minimum(low, value), np.maximum(high, value)
    undefined = np.isnan(value) | (clusters < 2)
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def _effective_rows(value: Array, variance: Array, clusters: Array, rows: Array) -> Array:
    """How many independent rows would vary as much; see `wilson_interval`."""
    spread = value * (1 - value)
    # A bootstrap over m clusters has (m - 1) / m of the variance.
    effective = np.clip(spread / (variance * clusters / (clusters - 1)), 0, rows)
    effective = np.where(spread > 0, effective, rows)
    events = np.minimum(value, 1 - value) * effective
    design = (events * rows / effective + PRIOR_EVENTS * rows / clusters) / (events + PRIOR_EVENTS)
    return rows / design


def tpr_at_fpr_interval(
    sample: Sample, fpr_max: float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The interval of `metrics.tpr_at_fpr`, which knows that few reals set the threshold.

    No resample has a real above the highest one, so percentiles would take the threshold for known: of 60
    reals at an FPR of 1 % they cover 60 to 75 %. Here two intervals are joined by their reaches (MOVER, Zou
    and Donner 2008): Wilson's of the share of fakes above the sample's threshold, and the TPR at both ends
    of the true threshold's interval. Of n reals a binomial number lies above the true threshold, with a
    chance of ``fpr_max`` each; the ends are where that number has a mid-P (Lancaster 1961) of 2.5 %. n is
    the effective number of reals, as for Wilson's interval.

    The lower end is 0 where the true threshold may lie above every real: with fewer than about
    300 independent reals at 1 %, 60 at 5 %, 30 at 10 %. NaN with fewer than two clusters of either class.
    """
    if min(sample.clusters_by_class()) < 2:
        return float("nan"), float("nan")
    fake, real = sample.score[sample.label == 1], np.sort(sample.score[sample.label == 0])[::-1]
    cut = real[int(np.floor(fpr_max * len(real) + 1e-9))]
    design = len(real) / _independent_rows(sample, 0, sample.score >= cut)[-1]
    number, tail = len(real) / design, (1 - confidence) / 2

    def chance(count: float) -> float:
        """Of at most so many effective reals above the true threshold."""
        inside = special.betainc(max(number - count, 1e-9), max(count, 0) + 1, 1 - fpr_max)
        return 0.0 if count < 0 else float(inside)

    def mid_p(count: int) -> float:
        return (chance(count / design) + chance(count / design - 1)) / 2

    counted = range(len(real) + 1)
    fewest, most = bisect_right(counted, tail, key=mid_p), bisect_left(counted, 1 - tail, key=mid_p) - 1
    value, variance, clusters, _ = _independent_rows(sample, 1, sample.score > cut)
    own = [float(end) for end in wilson_interval(value, variance, clusters, len(fake), confidence=confidence)]
    least = float((fake >= real[fewest - 1]).mean()) if fewest else 0.0
    largest = float((fake > real[most]).mean()) if most < len(real) else 1.0
    low = value - math.hypot(value - own[0], value - min(least, value))
    high = value + math.hypot(own[1] - value, max(largest, value) - value)
    return max(0.0, low), min(1.0, high)


def _independent_rows(sample: Sample, which: int, hit: NDArray[np.bool_]) -> tuple[float, float, int, float]:
    """Of the share of hits in a class: value, variance over resamples, clusters, effective rows."""
    member = sample.label == which
    share = float(hit[member].mean())
    # To first order a cluster adds the sum of its rows' distances from the share.
    apart = np.bincount(sample.cluster[member], hit[member] - share)
    variance = float((apart**2).sum()) / np.count_nonzero(member) ** 2
    clusters = sample.clusters_by_class()[which]
    with np.errstate(invalid="ignore", divide="ignore"):
        sizes = (np.asarray(float(size)) for size in (share, variance, clusters, np.count_nonzero(member)))
        effective = float(_effective_rows(*sizes))
    return share, variance, clusters, effective


def bounded_interval(
    values: Array, clusters: int, minimum: float = 0.0, maximum: float = 1.0
) -> tuple[float, float]:
    """`percentile_interval`; where no resample differs, the exact one of so many clusters.

    Where all clusters say the same (no error was made; three of four rows are right in each of four people),
    the bootstrap would claim certainty. The interval is then that of a share of n independent clusters
    (Clopper and Pearson 1934), which no mean of n values within these limits spreads more than: without an
    error 0.025^(1/n) from the opposite limit. Of an AUC n is the smaller class: for an AUC of 1, n pairs of
    clusters are all in order with a probability of AUC^n at most.

    >>> low, high = bounded_interval(np.zeros(100), 12)
    >>> low, round(high, 4)
    (0.0, 0.2646)
    >>> low, high = bounded_interval(np.full(100, 0.75), 4)
    >>> round(low, 3), round(high, 3)
    (0.194, 0.994)
    >>> low, high = bounded_interval(np.full(100, 0.78), 4, maximum=np.inf)
    >>> bool(np.isnan(low) and np.isnan(high))
    True
    """
    low, high = percentile_interval(values, clusters=clusters)
    reach = maximum - minimum
    if not high - low < NO_SPREAD:
        return low, high
    if not np.isfinite(reach):  # a loss without an upper limit has no exact interval
        return np.nan, np.nan
    least, most = exact_interval(np.clip((low - minimum) / reach, 0, 1) * clusters, clusters)
    return float(minimum + least * reach), float(minimum + most * reach)


def exact_interval(hits: float, n: int) -> tuple[float, float]:
    """The exact interval of a share, after ``hits`` of ``n`` (Clopper and Pearson 1934).

    >>> low, high = exact_interval(0, 12)
    >>> low, round(high, 4)
    (0.0, 0.2646)
    """
    tail = (1 - CONFIDENCE) / 2
    low = special.betaincinv(hits, n - hits + 1, tail) if hits > 0 else 0.0
    high = special.betaincinv(hits + 1, n - hits, 1 - tail) if hits < n else 1.0
    return float(low), float(high)


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
    """(n_boot,) mean over trainings with different seeds; each resample draws the seeds.

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


def behind(name: str, sample: Sample) -> tuple[int, int]:
    """How many clusters and rows a metric rests on.

    Of a rate those of its class; else the clusters of the smaller class, as of 60 real and 6 fake videos the
    6 decide how sure an AUC is.
    """
    metric, per_class = METRICS[name], sample.clusters_by_class()
    if metric.rate_of is not None:
        return per_class[metric.rate_of], int((sample.label == metric.rate_of).sum())
    return min((number for number in per_class if number), default=0), len(sample.label)


def percentile_interval(
    values: Array, confidence: float = CONFIDENCE, clusters: int | None = None
) -> tuple[float, float]:
    """The central part of the resampled values; NaN if more than a tenth of them is undefined.

    NaN also with fewer than two clusters: one person tells nothing of others, and resamples of him alone
    are all alike.

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
    is_alone = clusters is not None and clusters < 2
    if is_alone or len(defined) < 0.9 * len(values) or not len(defined):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    if clusters is not None:
        tail = float(special.ndtr(np.sqrt(clusters / (clusters - 1)) * special.stdtrit(clusters - 1, tail)))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class _Merged:
    """Clusters of one row that are alike, drawn together; each other cluster by itself."""

    score: Array  # (N,) steps of the score
    table: sparse.csr_array  # (C, D), column d averages the clusters of kind d
    size: NDArray[np.int64]  # (D,) how many clusters each kind has
    stratum: NDArray[np.int64]  # (D,)


def _merged(
    samples: Sequence[Sample], thresholds: Sequence[float | Array], only: Sequence[str]
) -> _Merged | None:
    """Kinds of clusters of a table with many single images; None where there are too few to matter.

    Ten images of one class on one step of the score are drawn 0, 1, 2, … times together, not one by one: of
    a million images some 700 kinds are drawn. Of one sample a kind is a class and a step of `STEPS`,
    whatever is asked and at whatever threshold, so that the same seed gives the same resamples. Of several
    samples together, steps would be too many, and a kind is what the thresholds say of a cluster; where
    other metrics are asked for, nothing is merged.
    """
    first = samples[0]
    several = len(samples) > 1 or any(np.ndim(cut) for cut in thresholds)
    if first.clusters < MANY_CLUSTERS or any(METRICS[name].vectorised is None for name in only):
        return None
    if several and any(METRICS[name].kind != "threshold" for name in only):
        return None
    if any(not np.array_equal(first.cluster, other.cluster) for other in samples[1:]):
        return None
    single = np.bincount(first.cluster, minlength=first.clusters) == 1
    score = first.score
    if several:
        called = [sample.score > cut for sample, cut in zip(samples, thresholds, strict=True)]
        kind = np.ravel_multi_index(
            (first.label, *np.array(called, dtype=np.int64)), (2,) * (1 + len(samples))
        )
    else:
        score = _coarsen(first, STEPS)
        kind = 2 * score.astype(np.int64) + first.label
    of_cluster = -1 - np.arange(first.clusters)  # every other cluster is a kind of its own
    alone = single[first.cluster]
    of_cluster[first.cluster[alone]] = kind[alone]
    names, code = np.unique(of_cluster, return_inverse=True)
    if 4 * (len(names) - np.count_nonzero(~single)) > np.count_nonzero(single):
        return None
    size = np.bincount(code, minlength=len(names))
    shape = (first.clusters, len(names))
    table = sparse.coo_array((1 / size[code], (np.arange(first.clusters), code)), shape=shape).tocsr()
    stratum = np.zeros(len(names), dtype=np.int64)
    stratum[code] = first.has_class(0) + 2 * first.has_class(1)
    return _Merged(score, table, size, stratum)


def _weights(
    samples: Sequence[Sample],
    n_boot: int,
    block: int,
    seed: int | np.random.Generator,
    merged: _Merged | None = None,
) -> Iterator[Array]:
    """Blocks (C, R) of how often each cluster, or kind, is drawn in each resample; no block changes them."""
    kind = np.zeros(samples[0].clusters, dtype=np.int64)
    for number, sample in enumerate(samples):
        kind = 4 * kind + sample.has_class(0) + 2 * sample.has_class(1)
        if number % 16 == 15:  # numbered anew in the same order, 0 still absent: 32 samples would overflow
            kind = np.searchsorted(np.union1d(kind, [0]), kind)
    if merged is not None:
        kind = merged.stratum
    strata = [np.flatnonzero(kind == value) for value in np.unique(kind[kind > 0])]
    generators = np.random.default_rng(seed).spawn(len(strata))
    for start in range(0, n_boot, block):
        size = min(block, n_boot - start)
        weights = np.zeros((len(kind), size))
        for members, generator in zip(strata, generators, strict=True):
            if merged is not None:
                weights[members] = _drawn_kinds(merged.size[members], size, generator)
                continue
            drawn = generator.integers(0, len(members), size=(size, len(members)))
            # Resample 1 of 3 drew member 2: cell 2 * 3 + 1 of a table that bincount fills row by row.
            cell = drawn * size + np.arange(size)[:, None]  # (R, members) -> position in (members, R)
            weights[members] = np.bincount(cell.ravel(), minlength=len(members) * size).reshape(-1, size)
        yield weights


def _drawn_kinds(clusters: NDArray[np.int64], size: int, generator: np.random.Generator) -> Array:
    """(D, R) how often clusters of each kind are drawn, as often in all as there are clusters."""
    # One number for a kind takes as long as drawing some ten clusters.
    large, small = np.flatnonzero(clusters > 10), np.flatnonzero(clusters <= 10)
    total, of_large = int(clusters.sum()), np.zeros(size, dtype=np.int64)
    weights = np.zeros((len(clusters), size))
    if len(large):
        of_large = generator.binomial(total, clusters[large].sum() / total, size=size)
        weights[large] = generator.multinomial(of_large, clusters[large] / clusters[large].sum()).T
    if len(small):
        number = total - of_large
        kind = np.repeat(np.arange(len(small)), clusters[small])  # of each cluster
        drawn = kind[generator.integers(0, len(kind), size=int(number.sum()))]
        cell = drawn * size + np.repeat(np.arange(size), number)
        weights[small] = np.bincount(cell, minlength=len(small) * size).reshape(-1, size)
    return weights


@dataclass(frozen=True)
class _Tables:
    """What is summed over clusters for the metrics that are asked for; nothing else is counted."""

    sample: Sample
    threshold: float | Array  # of all rows, or (N,) of each
    only: Sequence[str]
    ranked: sparse.csr_array | None  # (2 T, C)
    outcomes: sparse.csr_array | None  # (4, C)
    terms: sparse.csr_array | None  # (3 + bins, C)
    widest: int

    @classmethod
    def of(
        cls, sample: Sample, threshold: float | Array, only: Sequence[str], merged: _Merged | None = None
    ) -> _Tables:
        kinds = {METRICS[name].kind for name in only if METRICS[name].vectorised}
        steps = None if merged is None else merged.score
        ranked = _level_table(sample, steps) if "ranking" in kinds else None
        outcomes = terms = None
        if "threshold" in kinds:
            outcomes = _sum_table(sample, counts.confusion_terms(sample.label, sample.score, threshold))
        if "probability" in kinds:
            terms = _sum_table(sample, counts.probability_terms(sample.label, sample.score))
        if merged is not None:
            ranked, outcomes, terms = (
                None if table is None else (table @ merged.table).tocsr()
                for table in (ranked, outcomes, terms)
            )
        columns = sample.clusters if merged is None else len(merged.size)
        widest = max(columns, 0 if ranked is None else ranked.shape[0])
        return cls(sample, threshold, only, ranked, outcomes, terms, widest)

    def metrics(self, weights: Array) -> dict[str, Array]:
        """Metrics of the resamples with these weights (C, R), each (R,)."""
        given: dict[Kind, tuple[Any, ...]] = {}
        if self.ranked is not None:
            real, fake = np.split(self.ranked @ weights, 2)  # (2 T, C) @ (C, R) -> two of (T, R)
            given["ranking"] = counts.cumulate(real), counts.cumulate(fake)
        if self.outcomes is not None:
            given["threshold"] = (Confusion(*(self.outcomes @ weights)),)
        if self.terms is not None:
            given["probability"] = (self.terms @ weights,)
        values = from_counts(self.only, given)
        slow = [name for name in self.only if METRICS[name].vectorised is None]
        return values | {name: self._one_by_one(name, weights) for name in slow}

    def _one_by_one(self, name: str, weights: Array) -> Array:
        """(R,) a metric of the rows that each resample repeats."""
        found = np.full(weights.shape[1], np.nan)
        for number, times in enumerate(weights.T.astype(np.int64)):
            rows = np.repeat(np.arange(len(self.sample.label)), times[self.sample.cluster])
            if len(rows):
                cut = self.threshold[rows] if isinstance(self.threshold, np.ndarray) else self.threshold
                found[number] = one_value(name, self.sample.label[rows], self.sample.score[rows], cut)
        return found


def _level_table(sample: Sample, score: Array | None = None) -> sparse.csr_array:
    """(2 T, C): rows of each cluster at each level, high to low; reals in the first T, fakes after."""
    if score is None:
        score = sample.score
        if len(np.unique(score)) > MAX_LEVELS:
            score = _coarsen(sample, np.linspace(0, 1, MAX_LEVELS // 2))
    distinct, level = counts.levels_of(score)
    row = level + len(distinct) * sample.label
    shape = (2 * len(distinct), sample.clusters)
    return sparse.coo_array((np.ones(len(row)), (row, sample.cluster)), shape=shape).tocsr()


def _coarsen(sample: Sample, shares: Array) -> Array:
    """Scores replaced by the number of a step; steps end at these shares of the reals, and of the fakes."""
    edges = [
        np.quantile(sample.score[sample.label == which], shares, method="inverted_cdf")
        for which in (0, 1)
        if (sample.label == which).any()
    ]
    return np.searchsorted(np.unique(np.concatenate(edges)), sample.score).astype(np.float64)


def _sum_table(sample: Sample, terms: Iterable[Array] | sparse.csr_array) -> sparse.csr_array:
    """(K, N) terms of rows -> (K, C) sums over the rows of each cluster.

    Sparse although small: the product with a block of weights then stays in this thread, where BLAS would
    start others for it, and wait for them on a machine that is busy.
    """
    if sparse.issparse(terms):
        of_cluster = (np.ones(len(sample.cluster)), (np.arange(len(sample.cluster)), sample.cluster))
        return (terms @ sparse.coo_array(of_cluster, shape=(len(sample.cluster), sample.clusters))).tocsr()
    sums = (np.bincount(sample.cluster, weights=term, minlength=sample.clusters) for term in terms)
    # Row by row, as most of what is summed is 0 and need not be held.
    return sparse.vstack([sparse.csr_array(row[None]) for row in sums], format="csr")
