"""How two runs differ: each resample draws the videos once and scores both runs on them.

A run is the predictions of one detector, or of several trainings of it with different seeds. Videos that
both runs scored are drawn together, so what makes a video hard for both cancels; videos that only one
scored are drawn on their own. Seeds are a level of their own: each resample draws seeds, then videos.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation import metrics
from unmasked.evaluation.counts import Array
from unmasked.evaluation.intervals import (
    Sample,
    behind,
    difference_interval,
    drawn_mean,
    intervals,
    intervals_of,
    resample_together,
    seed_by_name,
)
from unmasked.evaluation.levels import sample_of
from unmasked.evaluation.metrics import METRICS, Aggregation, video_scores
from unmasked.evaluation.records import AcrossSeeds, Paired, PairedMetric, SeedMetric

Level = Literal["frame", "video"]
Run: TypeAlias = pd.DataFrame | Sequence[pd.DataFrame]
KEYS = ("dataset", "video")


def paired_difference(
    predictions_a: Run,
    predictions_b: Run,
    *,
    same_videos: bool = True,
    thresholds: tuple[float, float] = (0.5, 0.5),
    level: Level = "video",
    aggregation: Aggregation = "mean",
    only: Collection[str] | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> Paired:
    """Metrics of two runs and their differences, a minus b, each with its interval.

    ``n`` has videos_a, videos_b, shared_videos, seeds_a and seeds_b. Several seeds are the mean of their
    metrics, and the interval holds what seeds add.

    Args:
        predictions_a: rows of the predictions table that the comparison is about (see
            `predictions.evaluated_rows`), at one compression and perturbation; a list has a table a seed.
        predictions_b: the same of the other run.
        same_videos: True compares two detectors, or two conditions, on the videos that both have, and leaves
            out others. False compares two sets of videos (two datasets, two methods); what they
            share, such as the reals, is still drawn together.
        thresholds: the operating points of a and b.
        level: whether a row is a ``video`` or a ``frame``.
        aggregation: how frame scores become a video score.
        only: which of `METRICS`; None takes all.
        n_boot, seed: of the resampling.

    Raises:
        InputError: there is no shared video where they should be the same, or a video has two labels.
    """
    only = list(METRICS) if only is None else only
    runs = [_tables(predictions_a), _tables(predictions_b)]
    left_out = ""
    if same_videos:
        runs, left_out = _select_shared_videos(runs)
    shared = _keys(runs[0][0]).intersection(_keys(runs[1][0]))
    scored = [
        video_scores(table, aggregation) if level == "video" else table for run in runs for table in run
    ]
    samples = joint_samples(scored)
    first = len(runs[0])
    cuts = [thresholds[0]] * first + [thresholds[1]] * len(runs[1])
    drawn = resample_together(samples, cuts, n_boot=n_boot, seed=seed, only=only)
    values = [
        metrics.all_metrics(sample.label, sample.score, cut)
        for sample, cut in zip(samples, cuts, strict=True)
    ]
    sides = [
        _side(samples[part], values[part], drawn[part], [seed, number])
        for number, part in enumerate((slice(first), slice(first, None)))
    ]
    for side, table, cut, run in zip(sides, (scored[0], scored[-1]), thresholds, runs, strict=True):
        if len(run) == 1:
            side.ci = _own_intervals(table, cut, only, n_boot, seed)
    return {
        "metrics": {name: _difference(sides, name, _has_same_scores(samples)) for name in only},
        "paired": bool(len(shared)),
        "n": {
            "videos_a": len(_keys(runs[0][0])),
            "videos_b": len(_keys(runs[1][0])),
            "shared_videos": len(shared),
            "seeds_a": first,
            "seeds_b": len(runs[1]),
        },
        "left_out": left_out,
    }


def across_seeds(
    predictions: Sequence[pd.DataFrame],
    *,
    thresholds: Sequence[float] | None = None,
    only: Collection[str] | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> AcrossSeeds:
    """Metrics of videos under trainings that differ in their seed.

    Mean, interval over seeds and videos, spread. Each resample draws seeds, then videos, the same videos for
    all seeds, since all were tested on them. With one seed there is no ``sd``, and the interval holds for
    that training only.

    Args:
        predictions: a predictions table a seed; see `paired_difference`.
        thresholds: the operating point of each; 0.5 if not given.
        only, n_boot, seed: see `paired_difference`.
    """
    only = list(METRICS) if only is None else only
    (tables,), left_out = _select_shared_videos([_tables(predictions)])
    scored = [video_scores(table) for table in tables]
    samples = joint_samples(scored)
    cuts = list(thresholds or [0.5] * len(samples))
    drawn = resample_together(samples, cuts, n_boot=n_boot, seed=seed, only=only)
    values = [
        metrics.all_metrics(sample.label, sample.score, cut)
        for sample, cut in zip(samples, cuts, strict=True)
    ]
    side = _side(samples, values, drawn, [seed, 0])
    several = len(samples) > 1
    if not several:
        side.ci = _own_intervals(scored[0], cuts[0], only, n_boot, seed)
    found: dict[str, SeedMetric] = {}
    for name in only:
        each = [value[name] for value in values]
        sd = float(np.std(each, ddof=1)) if several else float("nan")
        found[name] = {"mean": side.value[name], "ci": list(side.ci[name]), "sd": sd, "each": each}
    return {
        "seeds": len(samples),
        "videos": len(_keys(tables[0])),
        "metrics": found,
        "left_out": left_out,
    }


def joint_samples(scored: Sequence[pd.DataFrame]) -> list[Sample]:
    """Samples of tables of frames or videos, with one coding of what is resampled whole.

    That is the identity where any of the tables knows it, else the video; both within their dataset.

    Raises:
        InputError: a video has two labels.
    """
    every = pd.concat([_named_rows(table) for table in scored], ignore_index=True)
    video = every.groupby(list(KEYS), sort=False, observed=True)
    spread = video["label"].agg(["min", "max"])
    mixed = spread.index[spread["min"] != spread["max"]]
    if len(mixed):
        raise InputError(
            f"video {mixed[0][1]!r} of {mixed[0][0]} is real in one run and fake in another; give both runs "
            "the labels of one manifest"
        )
    # One table may know who is shown where another does not: the first that knows speaks for all.
    identity = video["identity"].transform("first")
    unit = every["video"].astype(str).where(identity.isna(), identity.astype(str))
    names = pd.MultiIndex.from_arrays([every["dataset"].astype(str), identity.notna(), unit])
    # All tables are coded as one, then cut apart again: a cluster has the same number in each.
    cluster, found = pd.factorize(names)
    samples, start = [], 0
    for table in scored:
        codes = cluster[start : start + len(table)].astype(np.int64)
        label, score = metrics.check_arrays(table["label"], table["score"])
        samples.append(Sample(label, score, codes, len(found)))
        start += len(table)
    return samples


def _named_rows(table: pd.DataFrame) -> pd.DataFrame:
    identity = table["identity"] if "identity" in table else pd.Series(pd.NA, index=table.index)
    return table[[*KEYS, "label"]].assign(identity=identity.astype(object))


def _tables(run: Run) -> list[pd.DataFrame]:
    return [run] if isinstance(run, pd.DataFrame) else list(run)


def _keys(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[list(KEYS)].astype(object).drop_duplicates())


def _select_shared_videos(runs: list[list[pd.DataFrame]]) -> tuple[list[list[pd.DataFrame]], str]:
    """The tables with the videos that all of them have, and in words what was left out."""
    keys = [_keys(table) for run in runs for table in run]
    shared = keys[0]
    for others in keys[1:]:
        shared = shared.intersection(others)
    if not len(shared):
        raise InputError(
            "the runs have no video in common (equal dataset and video); compare predictions on the same "
            "videos, or compare two sets of videos with same_videos=False"
        )
    # Of all videos that any run has, those that not every run has.
    lost = len(keys[0].append(keys[1:]).unique()) - len(shared)
    kept = [
        [
            table[pd.MultiIndex.from_frame(table[list(KEYS)].astype(object)).isin(shared)].reset_index(
                drop=True
            )
            for table in run
        ]
        for run in runs
    ]
    return kept, f"{lost} videos that not every run has" if lost else ""


@dataclass
class _Side:
    """Of one run: a sample for its sizes, the mean of its seeds' metrics, their resamples, intervals."""

    sample: Sample
    value: dict[str, float]
    draws: dict[str, Array]
    ci: dict[str, tuple[float, float]]


def _side(
    samples: Sequence[Sample],
    values: Sequence[dict[str, float]],
    drawn: Sequence[dict[str, Array]],
    seed: list[int],
) -> _Side:
    """A run of one seed or several; ``seed`` is that of the drawing of seeds."""
    # Every metric draws the same seeds.
    draws = {
        name: drawn_mean([found[name] for found in drawn], np.random.default_rng([*seed, 1]))
        for name in drawn[0]
    }
    mean = {name: float(np.mean([value[name] for value in values])) for name in drawn[0]}
    ends = intervals_of(samples[0], mean, draws)
    if len(samples) > 1:  # each seed has a threshold of its own at an FPR
        ends |= {name: (float("nan"), float("nan")) for name in draws if METRICS[name].fpr_max is not None}
    return _Side(samples[0], mean, draws, ends)


def _own_intervals(
    rows: pd.DataFrame, cut: float, only: Collection[str], n_boot: int, seed: int
) -> dict[str, tuple[float, float]]:
    """The intervals that `evaluate` gives these frames or videos, by metric.

    Resamples of two runs are drawn together, in other strata: their differences alone are of those.
    """
    named = seed_by_name(seed, *rows["dataset"].unique())
    return intervals(sample_of(rows), cut, n_boot=n_boot, seed=np.random.default_rng(named), only=only)


def _difference(sides: Sequence[_Side], name: str, identical: bool) -> PairedMetric:
    a, b = sides
    fewest = min(behind(name, side.sample)[0] for side in sides)
    draws = a.draws[name], b.draws[name]
    # Equal scores of equal videos differ by nothing, for sure; the no-error bound would widen even that.
    interval = (0.0, 0.0)
    if not identical or np.isnan(a.ci[name]).any():
        interval = difference_interval(draws, (a.ci[name], b.ci[name]), fewest)
    return {
        "a": a.value[name],
        "a_ci": list(a.ci[name]),
        "b": b.value[name],
        "b_ci": list(b.ci[name]),
        "difference": a.value[name] - b.value[name],
        "difference_ci": list(interval),
    }


def _has_same_scores(samples: Sequence[Sample]) -> bool:
    first = samples[0]
    return all(
        np.array_equal(first.score, other.score) and np.array_equal(first.cluster, other.cluster)
        for other in samples[1:]
    )
