"""Predictions in, ``metrics.json`` out: every metric with its interval, by dataset, level and method."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation import counts, metrics
from unmasked.evaluation.counts import Array
from unmasked.evaluation.intervals import (
    CONFIDENCE,
    Sample,
    intervals,
    intervals_of,
    percentile_interval,
    resample,
)
from unmasked.evaluation.metrics import Aggregation, video_scores
from unmasked.evaluation.predictions import evaluated_rows, validated
from unmasked.evaluation.thresholds import Threshold, fit

LEVELS = ("frame", "video")
HALF = Threshold(value=0.5, rule="fixed at 0.5, fitted on nothing", level="any")
NOT_STATED = "not stated"
UNITS = {True: "identity", False: "video"}


def evaluate(
    predictions: pd.DataFrame,
    *,
    threshold: Threshold | float | None = None,
    thresholds: Mapping[str, Threshold] | None = None,
    n_boot: int = 2000,
    seed: int = 0,
    source: str | None = None,
    aggregation: Aggregation = "mean",
    selection_rule: str | None = None,
) -> dict[str, Any]:
    """Everything that is written to ``metrics.json``; numbers are floats, NaN where undefined.

    ``{"datasets": {NAME: {"frame": {...}, "video": {...}, "n": {...}, "methods": {METHOD: {"video": {...},
    "n": {...}}}, "bench": {...}, "reason": ""}}, "matrix": [...], "settings": {...}}``. A level holds each
    metric of `METRICS` under its name and its 95 % interval under ``<name>_ci``. ``bench`` holds the five
    numbers as DeepfakeBench computes them, for comparison with its tables only.

    Args:
        predictions: the predictions table of one detector.
        threshold: the stored operating point; accuracy and the other metrics that need a threshold are
            then at it, again under ``at_threshold`` with what it is, and at 0.5 under ``at_half``.
            Without it they are at ``score > 0.5``.
        thresholds: further operating points by name, reported under ``at_thresholds``.
        n_boot: resamples behind each interval; 0 leaves intervals NaN.
        seed: of the resampling. A dataset's intervals do not depend on which others are in the table.
        source: the dataset that the detector was trained on; the generalization gap is measured from it.
        aggregation: how frame scores become a video score.
        selection_rule: how the checkpoint was chosen, in words; it belongs under every number.

    Raises:
        InputError: the table is not valid, holds several detectors, or no dataset has both classes.
    """
    rows, notes = evaluated_rows(validated(predictions))
    _check_one_detector(rows)
    _check_classes(rows)
    points = _operating_points(threshold, thresholds)
    if source is not None and source not in set(rows["dataset"]):
        notes.append(f"no row is of the source {source}: the gap to it is not known")
    blocks: dict[str, Any] = {}
    draws: dict[str, Array] = {}
    for name, of_dataset in rows.groupby("dataset", sort=True):
        # Seeded by name: the same resamples with or without the other datasets.
        rng_seed = [seed, zlib.crc32(str(name).encode())]
        blocks[str(name)], draws[str(name)] = _dataset(of_dataset, points, aggregation, n_boot, rng_seed)
    settings = {
        "threshold": points["threshold"].to_dict() if "threshold" in points else HALF.to_dict(),
        "decision": "fake when score > threshold",
        "n_boot": n_boot,
        "seed": seed,
        "confidence": CONFIDENCE,
        "unit": "identity where known, else video; resampled whole, stratified by class",
        "aggregation": aggregation,
        "rows": notes,
        "source": source or NOT_STATED,
        "selection_rule": selection_rule or NOT_STATED,
        "gap": "AUC on the source minus AUC here, independent intervals; positive = worse here",
        **{key: _only_value(rows, key) for key in ("detector", "checkpoint")},
    }
    return {"datasets": blocks, "matrix": _matrix(blocks, draws, source), "settings": settings}


def fit_threshold(
    predictions: pd.DataFrame,
    rule: str = "eer",
    *,
    dataset: str | None = None,
    split: str = "val",
    level: str = "video",
    aggregation: Aggregation = "mean",
) -> Threshold:
    """The threshold of a rule on a dataset's calibration rows; see `thresholds.fit`.

    Args:
        predictions: a predictions table with a split column.
        rule: ``eer``, ``youden`` or ``fpr:x``.
        dataset: the source dataset; may be left out where only one has rows of the split.
        split: the calibration split; never the one that is reported.
        level: whether a row is a ``video`` or a ``frame``.
        aggregation: how frame scores become a video score.

    Raises:
        InputError: no such rows, several datasets to choose from, or a class that the rule needs is absent.
    """
    rows = validated(predictions)
    marked = rows[rows["split"] == split] if "split" in rows else rows.iloc[:0]
    if "perturbation" in marked:
        marked = marked[marked["perturbation"].isna() | marked["perturbation"].isin(["", "none"])]
    found = sorted(marked["dataset"].unique())
    if dataset is None and len(found) == 1:
        dataset = found[0]
    if dataset not in found:
        given = f"dataset {dataset!r}" if dataset else "no source dataset is named; it"
        raise InputError(
            f"a threshold is fitted on rows of the {split!r} split, which {', '.join(found) or 'no dataset'} "
            f"has; {given} was given. Name one of these as the source, predict the source's {split!r} split "
            "as well, or give a stored threshold"
        )
    marked = marked[marked["dataset"] == dataset]
    _check_one_detector(marked)
    scored = video_scores(marked, aggregation) if level == "video" else marked
    return fit(scored["label"], scored["score"], rule, fitted_on=f"{dataset}, {split} split", level=level)


def markdown_table(results: Mapping[str, Any]) -> str:
    """The cross-dataset matrix of `evaluate` as a Markdown table, with what the numbers rest on below it."""
    settings = results["settings"]
    head = ["trained on", "tested on", "real + fake videos", "video AUC", "gap to source"]
    head += ["frame AUC", "video AP", "video EER", "accuracy", "FPR", "TPR"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in results["matrix"]:
        block = results["datasets"][row["test"]]
        video, n = block["video"], block["n"]
        cells = [row["train"], row["test"], f"{n['real_videos']} + {n['fake_videos']}"]
        cells += [_with_interval(row["auc"], row["ci"]), _with_interval(row["gap_to_source"], row["gap_ci"])]
        cells += [_with_interval(block["frame"]["auc"], block["frame"]["auc_ci"])]
        cells += [_with_interval(video[key], video[f"{key}_ci"]) for key in ("ap", "eer")]
        cells += [_with_interval(video[key], video[f"{key}_ci"]) for key in ("accuracy", "fpr", "tpr")]
        lines.append("| " + " | ".join(cells) + " |")
    threshold = settings["threshold"]
    where = f" on {threshold['fitted_on']}" if threshold["fitted_on"] else ""
    lines += [
        "",
        f"In brackets: {settings['confidence']:.0%} interval, {settings['n_boot']} resamples of the "
        f"{settings['unit']}. Accuracy, FPR and TPR at score > {threshold['value']:.4g} "
        f"(rule: {threshold['rule']}{where}). Checkpoint selection: {settings['selection_rule']}. "
        f"Video score: {settings['aggregation']} of its frames. Gap: {settings['gap']}.",
    ]
    return "\n".join(lines) + "\n"


def _check_one_detector(rows: pd.DataFrame) -> None:
    for name in ("detector", "checkpoint"):
        found = sorted(rows[name].dropna().unique()) if name in rows else []
        if len(found) > 1:
            raise InputError(
                f"the predictions table holds the scores of {len(found)} {name}s ({', '.join(found[:5])}); "
                f"evaluate one at a time: keep the rows of one {name}"
            )


def _check_classes(rows: pd.DataFrame) -> None:
    held = rows.groupby("dataset")["label"].nunique()
    if held.max() >= 2:
        return
    which = "fakes" if rows["label"].iloc[0] == 1 else "reals"
    if rows["label"].nunique() == 1:
        raise InputError(
            f"the predictions table holds only {which}; AUC needs both reals (label 0) and fakes (label 1). "
            "Add the scores of the other class"
        )
    raise InputError(
        "no dataset of the predictions table holds both reals (label 0) and fakes (label 1), and AUC needs "
        f"both within a dataset; it has {', '.join(map(str, held.index))}. Give them one dataset name if "
        "they belong together"
    )


def _operating_points(
    threshold: Threshold | float | None, others: Mapping[str, Threshold] | None
) -> dict[str, Threshold]:
    """The stored threshold under ``threshold``, and others under ``at:<name>``."""
    points = {f"at:{name}": point for name, point in (others or {}).items()}
    if isinstance(threshold, (int, float)):
        threshold = Threshold.from_dict({"value": threshold, "rule": "given", "level": "any"})
    if threshold is not None:
        points["threshold"] = threshold
    return points


def _dataset(
    rows: pd.DataFrame,
    points: Mapping[str, Threshold],
    aggregation: Aggregation,
    n_boot: int,
    seed: list[int],
) -> tuple[dict[str, Any], Array]:
    """A dataset's block, and its video AUC in each resample."""
    videos = video_scores(rows, aggregation)
    block: dict[str, Any] = {}
    block["frame"], _ = _level(rows, points, n_boot, seed)
    block["video"], draws = _level(videos, points, n_boot, seed)
    block["n"] = _sizes(videos)
    block["reason"] = _reason(videos)
    block["methods"] = {}
    fakes = videos["method"][videos["label"] == 1].dropna() if "method" in videos else pd.Series(dtype=object)
    for method in sorted(fakes.unique()):
        chosen = videos[(videos["label"] == 0) | (videos["method"] == method)]
        numbers, _ = _level(chosen, points, n_boot, seed)
        block["methods"][method] = {"video": numbers, "n": _sizes(chosen), "reason": _reason(chosen)}
    block["bench"] = {
        "acc": metrics.accuracy(rows["label"], rows["score"]),
        "auc": metrics.auc(rows["label"], rows["score"]),
        "eer": metrics.bench_equal_error_rate(rows["label"], rows["score"]),
        "ap": metrics.average_precision(rows["label"], rows["score"]),
        "video_auc": metrics.bench_video_auc(rows["label"], rows["score"], rows["video"]),
    }
    return block, draws


def _level(
    rows: pd.DataFrame, points: Mapping[str, Threshold], n_boot: int, seed: list[int]
) -> tuple[dict[str, Any], Array]:
    """Every metric with its interval on rows that are frames or videos, and the AUC in each resample."""
    sample = Sample.of(rows["label"], rows["score"], clusters_of(rows))
    operating = points.get("threshold", HALF)
    draws = resample(sample, operating.value, n_boot=n_boot, seed=np.random.default_rng(seed))
    values = metrics.all_metrics(sample.label, sample.score, operating.value)
    numbers: dict[str, Any] = _interleaved(values, intervals_of(sample, draws))
    if "threshold" in points:
        numbers["at_threshold"] = _at(sample, operating, n_boot, seed)
        numbers["at_half"] = _at(sample, HALF, n_boot, seed)
    others = {name[3:]: point for name, point in points.items() if name.startswith("at:")}
    if others:
        numbers["at_thresholds"] = {name: _at(sample, point, n_boot, seed) for name, point in others.items()}
    return numbers, draws["auc"]


def _at(sample: Sample, point: Threshold, n_boot: int, seed: list[int]) -> dict[str, Any]:
    """What a stored threshold does here: its facts, and realised rates with intervals."""
    names = tuple(counts.THRESHOLD)
    found = intervals(sample, point.value, n_boot=n_boot, seed=np.random.default_rng(seed), only=names)
    values = metrics.at_threshold(sample.label, sample.score, point.value)
    facts = {"value": point.value, "rule": point.rule, "fitted_on": point.fitted_on, "note": point.note}
    return {**facts, **_interleaved(values, found)}


def _interleaved(
    values: Mapping[str, float], found: Mapping[str, tuple[float, float]]
) -> dict[str, float | list[float]]:
    result: dict[str, float | list[float]] = {}
    for name, value in values.items():
        result[name] = value
        result[f"{name}_ci"] = list(found[name])
    return result


def clusters_of(rows: pd.DataFrame) -> np.ndarray:
    """(N,) codes of what is resampled whole: the identity where it is known, else the video."""
    video, _ = pd.factorize(rows["video"])
    if "identity" not in rows:
        return video
    identity, names = pd.factorize(rows["identity"])
    return np.where(identity >= 0, identity, len(names) + video)


def _sizes(videos: pd.DataFrame) -> dict[str, Any]:
    fake = int(videos["label"].sum())
    known = videos["identity"].notna() if "identity" in videos else pd.Series(False, index=videos.index)
    unit = UNITS[bool(known.all())] if known.all() or not known.any() else "identity where known, else video"
    return {
        "frames": int(videos["frames"].sum()),
        "videos": len(videos),
        "real_videos": len(videos) - fake,
        "fake_videos": fake,
        "identities": int(videos["identity"].nunique()) if known.any() else None,
        "clusters": len(np.unique(clusters_of(videos))),
        "unit": unit,
    }


def _reason(videos: pd.DataFrame) -> str:
    """Why numbers or intervals are NaN, "" where none is for lack of rows."""
    if videos["label"].nunique() < 2:
        which, other = ("fakes", "reals") if videos["label"].iloc[0] == 1 else ("reals", "fakes")
        return f"holds only {which}; AUC, AP and EER need {other} as well"
    sample = Sample.of(videos["label"], videos["score"], clusters_of(videos))
    real, fake = sample.clusters_by_class()
    if min(real, fake) < 2:
        return (
            f"{real} real and {fake} fake to resample (videos or identities); an interval needs two of each"
        )
    return ""


def _matrix(
    blocks: Mapping[str, Any], draws: Mapping[str, Array], source: str | None
) -> list[dict[str, Any]]:
    """A row for each tested dataset, the source first: video AUC and how far it falls behind the source's."""
    rows = []
    for name in sorted(blocks, key=lambda name: (name != source, name)):
        video = blocks[name]["video"]
        gap, gap_ci = float("nan"), (float("nan"), float("nan"))
        if name == source:
            gap, gap_ci = (0.0, (0.0, 0.0)) if not np.isnan(video["auc"]) else (gap, gap_ci)
        elif source is not None and source in blocks:
            gap = blocks[source]["video"]["auc"] - video["auc"]
            both = np.concatenate([video["auc_ci"], blocks[source]["video"]["auc_ci"]])
            if not np.isnan(both).any():
                gap_ci = percentile_interval(draws[source] - draws[name])
        rows.append(
            {
                "train": source or NOT_STATED,
                "test": name,
                "level": "video",
                "auc": video["auc"],
                "ci": list(video["auc_ci"]),
                "gap_to_source": gap,
                "gap_ci": list(gap_ci),
                "paired": False,
            }
        )
    return rows


def _only_value(rows: pd.DataFrame, name: str) -> str:
    known = rows[name].dropna() if name in rows else pd.Series(dtype=object)
    return str(known.iloc[0]) if len(known) else NOT_STATED


def _with_interval(value: float, interval: list[float]) -> str:
    if np.isnan(value):
        return "not enough data"
    low, high = interval
    return f"{value:.3f}" if np.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
