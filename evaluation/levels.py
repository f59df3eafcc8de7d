"""The numbers of one dataset: every metric with its interval, of frames and of videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.table_reading import is_of_predict
from unmasked.evaluation import delong, metrics
from unmasked.evaluation.abstention import Band, abstention
from unmasked.evaluation.calibration import Calibration, calibration_effects, reliability
from unmasked.evaluation.counts import Array
from unmasked.evaluation.doubts import videos_with_several_faces
from unmasked.evaluation.intervals import (
    Sample,
    interleave,
    intervals,
    intervals_of,
    resample,
    resample_together,
)
from unmasked.evaluation.likelihood import LikelihoodRatio, likelihood_effect
from unmasked.evaluation.metrics import Aggregation, video_scores
from unmasked.evaluation.reading import reading
from unmasked.evaluation.records import (
    AppliedThreshold,
    DatasetResults,
    LevelResults,
    MethodResults,
    Numbers,
    Sizes,
)
from unmasked.evaluation.thresholds import Threshold

HALF = Threshold(value=0.5, rule="fixed at 0.5, fitted on nothing", level="any")
UNITS = {True: "identity", False: "video"}


@dataclass(frozen=True)
class Applied:
    """What is applied to a dataset as it was fitted elsewhere, and how its numbers are made."""

    threshold: Threshold | None = None
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)  # further ones, by name
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)  # by kind
    band: Band | None = None
    likelihood: LikelihoodRatio | None = None
    aggregation: Aggregation = "mean"
    n_boot: int = 2000

    @property
    def operating_point(self) -> Threshold:
        """The threshold, or 0.5 where none is stored."""
        return self.threshold or HALF


def dataset_numbers(rows: pd.DataFrame, applied: Applied, seed: list[int]) -> tuple[DatasetResults, Array]:
    """A dataset's block in ``metrics.json``, and its video AUC in each resample."""
    videos = video_scores(rows, applied.aggregation)
    sample = sample_of(videos)
    is_folded = metrics.FRAMES_SCORED in rows
    frame = _undefined() if is_folded else level_numbers(rows, applied, seed)[0]
    video, draws = level_numbers(videos, applied, seed)
    _add_video_numbers(video, sample, applied, seed)
    methods: dict[str, MethodResults] = {}
    fakes = videos["method"][videos["label"] == 1].dropna() if "method" in videos else pd.Series(dtype=object)
    for method in sorted(fakes.unique()):
        chosen = videos[(videos["label"] == 0) | (videos["method"] == method)]
        numbers, _ = level_numbers(chosen, applied, seed)
        methods[method] = {"video": numbers, "n": sizes(chosen), "reason": reason(chosen)}
    block: DatasetResults = {
        "frame": frame,
        "video": video,
        "n": sizes(videos),
        "reason": reason(videos),
        "reading": reading(sample, video, applied.operating_point.value, is_own=is_of_predict(rows)),
        "aggregations": _aggregations(rows, applied.n_boot, seed),
        "methods": methods,
    }
    if not is_folded:
        block["bench"] = {
            "acc": metrics.accuracy(rows["label"], rows["score"]),
            "auc": metrics.auc(rows["label"], rows["score"]),
            "eer": metrics.bench_equal_error_rate(rows["label"], rows["score"]),
            "ap": metrics.average_precision(rows["label"], rows["score"]),
            "video_auc": metrics.bench_video_auc(rows["label"], rows["score"], rows["video"]),
        }
    return block, draws


def _undefined() -> LevelResults:
    """Metrics that are not known, as those of frames that were averaged while they were read."""
    names, nan = metrics.METRICS, float("nan")
    return cast(LevelResults, interleave(dict.fromkeys(names, nan), dict.fromkeys(names, (nan, nan))))


def level_numbers(rows: pd.DataFrame, applied: Applied, seed: list[int]) -> tuple[LevelResults, Array]:
    """Every metric with its interval on frames or videos, and the AUC in each resample."""
    sample, cut = sample_of(rows), applied.operating_point.value
    draws = resample(sample, cut, n_boot=applied.n_boot, seed=np.random.default_rng(seed))
    values = metrics.all_metrics(sample.label, sample.score, cut)
    numbers = cast(LevelResults, interleave(values, intervals_of(sample, values, draws)))
    if delong.is_defined(sample):
        numbers["auc_ci_delong"] = list(delong.interval(sample.label, sample.score))
    outcome = metrics.confusion(sample.label, sample.score, cut)
    numbers["confusion"] = {name: int(count) for name, count in outcome._asdict().items()}
    if applied.threshold is not None:
        both = {"stored": applied.threshold, "half": HALF}
        found = _point_numbers(sample, both, applied.n_boot, seed)
        numbers["at_threshold"], numbers["at_half"] = found["stored"], found["half"]
    if applied.thresholds:
        numbers["at_thresholds"] = _point_numbers(sample, applied.thresholds, applied.n_boot, seed)
    return numbers, draws["auc"]


def sample_of(rows: pd.DataFrame) -> Sample:
    """Frames or videos with what is resampled whole."""
    return Sample.of(rows["label"], rows["score"], clusters_of(rows))


def clusters_of(rows: pd.DataFrame) -> np.ndarray:
    """(N,) codes of what is resampled whole: the identity where it is known, else the video."""
    video, _ = pd.factorize(rows["video"])
    if "identity" not in rows:
        return video
    identity, names = pd.factorize(rows["identity"])
    return np.where(identity >= 0, identity, len(names) + video)


def named_by_dataset(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with their dataset in the names: "7" of two sets is two people."""
    of = rows["dataset"].astype(str) + "\n"
    named = rows.assign(video=of + rows["video"].astype(str))
    if "identity" not in named:
        return named
    known = named["identity"].notna()
    return named.assign(identity=(of + named["identity"].astype(object).astype(str)).where(known))


def sizes(videos: pd.DataFrame) -> Sizes:
    """How many frames, videos of each class, identities and clusters there are."""
    fake = int(videos["label"].sum())
    known = videos["identity"].notna() if "identity" in videos else pd.Series(False, index=videos.index)
    unit = UNITS[bool(known.all())] if known.all() or not known.any() else "identity where known, else video"
    real_clusters, fake_clusters = sample_of(videos).clusters_by_class()
    return {
        "frames": int(videos["frames"].sum()),
        "videos": len(videos),
        "real_videos": len(videos) - fake,
        "fake_videos": fake,
        "identities": int(videos["identity"].nunique()) if known.any() else None,
        "clusters": len(np.unique(clusters_of(videos))),
        "real_clusters": real_clusters,
        "fake_clusters": fake_clusters,
        "unit": unit,
    }


def reason(videos: pd.DataFrame) -> str:
    """Why numbers or intervals are NaN, "" where none is for lack of rows."""
    if videos["label"].nunique() < 2:
        which, other = ("fakes", "reals") if videos["label"].iloc[0] == 1 else ("reals", "fakes")
        return f"holds only {which}; AUC, AP and EER need {other} as well"
    real, fake = sample_of(videos).clusters_by_class()
    if min(real, fake) < 2:
        return (
            f"{real} real and {fake} fake to resample (videos or identities); an interval needs two of each"
        )
    return ""


def check_one_detector(rows: pd.DataFrame) -> None:
    """Raises InputError where a table holds the scores of several detectors or checkpoints."""
    for name in ("detector", "checkpoint"):
        found = sorted(rows[name].dropna().unique()) if name in rows else []
        if len(found) > 1:
            raise InputError(
                f"the predictions table holds the scores of {len(found)} {name}s ({', '.join(found[:5])}); "
                f"evaluate one at a time: keep the rows of one {name}"
            )


def _add_video_numbers(video: LevelResults, sample: Sample, applied: Applied, seed: list[int]) -> None:
    """Adds what only videos have: reliability, and what a stored calibration and band do here."""
    video["reliability"] = reliability(sample.label, sample.score)
    if applied.calibrations:
        video["calibration"] = calibration_effects(
            sample, applied.calibrations, n_boot=applied.n_boot, seed=seed
        )
    if applied.band is not None:
        video["abstention"] = abstention(
            sample, applied.band, applied.operating_point.value, n_boot=applied.n_boot, seed=seed
        )
    _add_likelihood(video, sample, applied, seed)


def _add_likelihood(video: LevelResults, sample: Sample, applied: Applied, seed: list[int]) -> None:
    if applied.likelihood is not None and len(set(sample.label.tolist())) == 2:
        video["likelihood"] = likelihood_effect(sample, applied.likelihood, n_boot=applied.n_boot, seed=seed)


def _aggregations(rows: pd.DataFrame, n_boot: int, seed: list[int]) -> dict[str, Numbers]:
    """The AUC of videos under each way from frame scores to a video score."""
    found: dict[str, Numbers] = {}
    for how in get_args(Aggregation):
        is_known = how == "mean" or metrics.FRAMES_SCORED not in rows
        if not is_known or (how == "worst_face" and not videos_with_several_faces(rows)):
            continue
        sample = sample_of(video_scores(rows, how))
        interval = intervals(sample, n_boot=n_boot, seed=np.random.default_rng(seed), only=("auc",))["auc"]
        found[how] = {"auc": metrics.auc(sample.label, sample.score), "auc_ci": list(interval)}
    return found


def _point_numbers(
    sample: Sample, points: Mapping[str, Threshold], n_boot: int, seed: list[int]
) -> dict[str, AppliedThreshold]:
    """What stored thresholds do here: their facts, and realised rates with intervals."""
    names, cuts = metrics.threshold_metrics(), [point.value for point in points.values()]
    rng = np.random.default_rng(seed)
    drawn = resample_together([sample] * len(cuts), cuts, n_boot=n_boot, seed=rng, only=names)
    found: dict[str, AppliedThreshold] = {}
    for (name, point), draws in zip(points.items(), drawn, strict=True):
        values = metrics.at_threshold(sample.label, sample.score, point.value)
        facts = {"value": point.value, "rule": point.rule, "fitted_on": point.fitted_on, "note": point.note}
        promised = {"fitted_fpr": point.fpr, "fitted_tpr": point.tpr}
        numbers: Any = {**facts, **promised, **interleave(values, intervals_of(sample, values, draws))}
        found[name] = numbers
    return found
