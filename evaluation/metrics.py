"""Detection metrics as pure functions of labels and scores, and video scores from frame scores.

Everywhere: ``label`` (N,) is 0 = real, 1 = fake; ``score`` (N,) is P(fake) in [0, 1]; a row is called fake
when ``score > threshold``. Results are floats, NaN where undefined (a class that is needed is absent).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from unmasked.datasets.errors import InputError
from unmasked.evaluation import counts
from unmasked.evaluation.counts import Array, Confusion

Aggregation = Literal["mean", "median", "top_k_mean"]
TOP_K = 5
# What belongs to one crop and says nothing about its video.
CROP_COLUMNS = ("frame", "face", "time_s", "crop", "score")


@dataclass(frozen=True)
class Metric:
    """What a reader needs to know to read a value."""

    title: str
    higher_is_better: bool
    minimum: float = 0.0
    maximum: float = 1.0


METRICS: dict[str, Metric] = {
    "auc": Metric("AUC", True),
    "partial_auc": Metric("partial AUC (FPR ≤ 10 %)", True),
    "ap": Metric("AP", True),
    "eer": Metric("EER", False),
    "tpr_at_fpr_10": Metric("TPR at FPR 10 %", True),
    "tpr_at_fpr_5": Metric("TPR at FPR 5 %", True),
    "tpr_at_fpr_1": Metric("TPR at FPR 1 %", True),
    "accuracy": Metric("accuracy", True),
    "balanced_accuracy": Metric("balanced accuracy", True),
    "precision": Metric("precision", True),
    "recall": Metric("recall", True),
    "f1": Metric("F1", True),
    "mcc": Metric("MCC", True, minimum=-1.0),
    "fpr": Metric("FPR", False),
    "fnr": Metric("FNR", False),
    "tpr": Metric("TPR", True),
    "brier": Metric("Brier score", False),
    "log_loss": Metric("log loss", False, maximum=float("inf")),
    "ece": Metric("ECE", False),
}


def all_metrics(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> dict[str, float]:
    """Every metric of `METRICS` by name."""
    label, score = checked(label, score)
    _, fp, tp = counts.curve(label, score)
    sums = counts.probability_terms(label, score).sum(axis=1)
    values = {name: float(function(fp, tp)) for name, function in counts.RANKING.items()}
    values |= at_threshold(label, score, threshold)
    values |= {name: float(function(sums)) for name, function in counts.PROBABILITY.items()}
    return {name: values[name] for name in METRICS}


def at_threshold(label: ArrayLike, score: ArrayLike, threshold: float) -> dict[str, float]:
    """The metrics that depend on a threshold, from accuracy to TPR, by name."""
    outcome = confusion(label, score, threshold)
    return {name: float(function(outcome)) for name, function in counts.THRESHOLD.items()}


def auc(label: ArrayLike, score: ArrayLike) -> float:
    """Probability that a random fake scores above a random real, ties counting half.

    Range [0, 1], higher is better, 0.5 is chance; NaN if a class is absent. The area under the ROC curve.

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    return _ranked(counts.area_under_roc, label, score)


def partial_auc(label: ArrayLike, score: ArrayLike, fpr_max: float = counts.PARTIAL_AUC_FPR) -> float:
    """Area under the ROC curve up to ``fpr_max``, rescaled so that 0.5 is chance and 1 perfect.

    McClish (1989). Higher is better; NaN if a class is absent. It looks only at thresholds that raise few
    false alarms, where a detector is used.

    >>> round(partial_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], fpr_max=0.5), 4)
    0.6667
    """
    label, score = checked(label, score)
    _, fp, tp = counts.curve(label, score)
    return float(counts.partial_area_under_roc(fp, tp, fpr_max))


def average_precision(label: ArrayLike, score: ArrayLike) -> float:
    """Mean precision over the recall steps, fakes positive; chance is the share of fakes.

    AP = sum over thresholds of (R_k - R_{k-1}) P_k. Range [0, 1], higher is better; NaN if a class is
    absent. It moves with the share of fakes, so it is not comparable between datasets.

    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    return _ranked(counts.average_precision, label, score)


def equal_error_rate(label: ArrayLike, score: ArrayLike) -> float:
    """Error rate at the threshold where false positives and false negatives are equally frequent.

    Range [0, 1], lower is better, 0.5 is chance; NaN if a class is absent. Equal scores are one point of
    the ROC curve; the crossing with FPR = FNR is interpolated linearly between points.

    >>> equal_error_rate([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.5
    """
    return _ranked(counts.equal_error_rate, label, score)


def tpr_at_fpr(label: ArrayLike, score: ArrayLike, fpr_max: float) -> float:
    """Highest share of fakes found by a threshold that accuses at most ``fpr_max`` of the reals.

    Range [0, 1], higher is better; NaN if a class is absent. Not interpolated: a threshold reaches it.
    The threshold is chosen on the data it is judged on, so this is a ceiling; see `thresholds.fit`.

    >>> tpr_at_fpr([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.1)
    0.5
    """
    label, score = checked(label, score)
    _, fp, tp = counts.curve(label, score)
    return float(counts.tpr_at_fpr(fp, tp, fpr_max))


def confusion(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> Confusion:
    """How many rows fall on each outcome of ``score > threshold``: tn, fp, fn, tp.

    >>> [int(count) for count in confusion([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])]
    [1, 1, 1, 1]
    """
    label, score = checked(label, score)
    return Confusion(*counts.confusion_terms(label, score, threshold).sum(axis=1))


def accuracy(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of rows called right, in [0, 1]; NaN without rows. Always calling the larger class scores high.

    >>> accuracy([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    return at_threshold(label, score, threshold)["accuracy"]


def balanced_accuracy(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Mean of TPR and 1 - FPR, in [0, 1], 0.5 is chance; NaN if a class is absent.

    >>> balanced_accuracy([0, 0, 0, 1], [0.1, 0.4, 0.35, 0.2])
    0.5
    """
    return at_threshold(label, score, threshold)["balanced_accuracy"]


def precision(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of fakes among the rows called fake, in [0, 1]; NaN if none is called fake.

    >>> precision([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return at_threshold(label, score, threshold)["precision"]


def recall(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of the fakes that are called fake (TPR), in [0, 1]; NaN without fakes.

    >>> recall([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return at_threshold(label, score, threshold)["recall"]


def f1(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn), in [0, 1]; NaN where that is 0 / 0.

    >>> f1([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return at_threshold(label, score, threshold)["f1"]


def matthews_correlation(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Correlation of label and decision, in [-1, 1], 0 is chance; NaN if either has one value only.

    >>> matthews_correlation([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.8])
    1.0
    """
    return at_threshold(label, score, threshold)["mcc"]


def false_positive_rate(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of the reals that are called fake, in [0, 1], lower is better; NaN without reals.

    >>> false_positive_rate([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return at_threshold(label, score, threshold)["fpr"]


def false_negative_rate(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of the fakes that are called real, in [0, 1], lower is better; NaN without fakes.

    >>> false_negative_rate([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return at_threshold(label, score, threshold)["fnr"]


def brier_score(label: ArrayLike, score: ArrayLike) -> float:
    """Mean squared distance of score and label, in [0, 1], lower is better; NaN without rows.

    >>> brier_score([0, 1], [0.5, 0.5])
    0.25
    """
    return _summed("brier", label, score)


def log_loss(label: ArrayLike, score: ArrayLike) -> float:
    """Mean of -log(probability given to the true class), nats, lower is better; NaN without rows.

    Probabilities are at least 2.2e-16, so one certain mistake costs 36 and not infinity.

    >>> round(log_loss([0, 1], [0.5, 0.5]), 4)
    0.6931
    """
    return _summed("log_loss", label, score)


def expected_calibration_error(label: ArrayLike, score: ArrayLike) -> float:
    """Mean distance between score and share of fakes, over 15 equal bins of the score.

    ECE = sum over bins of (n_b / n) |mean label - mean score|. Range [0, 1], lower is better; NaN without
    rows. With few rows in a bin it is above 0 for a calibrated detector too.

    >>> expected_calibration_error([0, 1, 1, 1], [0.75, 0.75, 0.75, 0.75])
    0.0
    """
    return _summed("ece", label, score)


def bench_equal_error_rate(label: ArrayLike, score: ArrayLike) -> float:
    """DeepfakeBench's EER: the FPR at the ROC point where FPR and FNR are closest; not interpolated.

    For comparison with its tables only. NaN if a class is absent (the bench crashes there).

    >>> bench_equal_error_rate([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.5
    """
    label, score = checked(label, score)
    _, fp, tp = counts.curve(label, score)
    if not fp[-1] or not tp[-1]:
        return float("nan")
    # scikit-learn's roc_curve, which the bench calls, leaves out points with equal steps on both sides.
    corner = np.r_[True, (np.diff(fp, 2) != 0) | (np.diff(tp, 2) != 0), True]
    fpr, fnr = fp[corner] / fp[-1], 1 - tp[corner] / tp[-1]
    return float(fpr[np.argmin(np.abs(fnr - fpr))])


def bench_video_auc(label: ArrayLike, score: ArrayLike, video: Sequence[str]) -> float:
    """DeepfakeBench's video AUC, wrong where methods reuse a folder name; for comparison only.

    The bench takes the last part of the path for the video, so `Deepfakes/000_003` and
    `FaceSwap/000_003` become one video. ``video`` (N,) holds paths without the frame.

    >>> bench_video_auc([0, 1, 1], [0.5, 0.4, 0.8], ["youtube/000", "Deepfakes/000_003", "FaceSwap/000_003"])
    1.0
    """
    label, score = checked(label, score)
    if not len(label):
        return float("nan")
    folder, _ = pd.factorize(np.array([str(path).rsplit("/", 1)[-1] for path in video]))
    # Added up in order, as the bench does: where means tie, the rounding decides which is higher.
    frames, fakes, total = (np.bincount(folder, weights) for weights in (None, label, score))
    return auc((fakes / frames).astype(int), total / frames)


def video_scores(predictions: pd.DataFrame, how: Aggregation = "mean", top_k: int = TOP_K) -> pd.DataFrame:
    """One row for each video: its score, the number of crops behind it, and what it has in all its rows.

    Args:
        predictions: rows of scored crops. A video is a (dataset, video), at one compression where that
            is given; all its faces and frames count alike.
        how: mean, median, or the mean of the ``top_k`` highest scores (all, where there are fewer).
        top_k: how many scores count under ``top_k_mean``.

    Returns:
        Columns dataset, video, label, score, frames, and every other column (group columns, method,
        identity, …) with the video's first known value; those of a single crop are left out.
    """
    if how not in ("mean", "median", "top_k_mean"):
        raise InputError(f"video score {how!r} is not known; choose mean, median or top_k_mean")
    keys = [name for name in ("dataset", "video", "compression") if name in predictions]
    others = [name for name in predictions if name not in (*keys, *CROP_COLUMNS)]
    grouped = predictions.groupby(keys, sort=False, dropna=False, observed=True)
    if how == "top_k_mean":
        highest = predictions.sort_values("score", ascending=False, kind="stable")
        highest = highest.groupby(keys, sort=False, dropna=False, observed=True).head(top_k)
        score = highest.groupby(keys, sort=False, dropna=False, observed=True)["score"].mean()
    else:
        score = grouped["score"].agg(how)
    videos = grouped[others].first()
    # A rounded mean of equal scores is not that score, and which side it falls on depends on their number:
    # a detector that always says the same would rank videos by their length.
    videos["score"] = score.clip(grouped["score"].min(), grouped["score"].max())
    videos["frames"] = grouped.size()
    first = ["dataset", "video", "label", "score", "frames"]
    videos = videos.reset_index()
    return videos[first + [name for name in videos if name not in first]]


def checked(label: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.int64], Array]:
    """Labels and scores as (N,) int64 and float64 arrays.

    Raises:
        InputError: lengths differ, a label is not 0 or 1, or a score is NaN or outside [0, 1].
    """
    raw, score = np.asarray(label), np.asarray(score, dtype=np.float64)
    if raw.ndim != 1 or raw.shape != score.shape:
        raise InputError(f"label has shape {raw.shape} and score {score.shape}; give two (N,) arrays")
    if not np.isin(raw, (0, 1)).all():
        raise InputError(f"label holds {raw[~np.isin(raw, (0, 1))][0]}; allowed are 0 (real) and 1 (fake)")
    wrong = ~((score >= 0) & (score <= 1))
    if wrong.any():
        raise InputError(f"score holds {score[wrong][0]}; it must be P(fake) between 0 and 1")
    return raw.astype(np.int64), score


def _ranked(function: Any, label: ArrayLike, score: ArrayLike) -> float:
    label, score = checked(label, score)
    _, fp, tp = counts.curve(label, score)
    return float(function(fp, tp))


def _summed(name: str, label: ArrayLike, score: ArrayLike) -> float:
    label, score = checked(label, score)
    return float(counts.PROBABILITY[name](counts.probability_terms(label, score).sum(axis=1)))
