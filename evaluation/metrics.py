"""Detection metrics as functions of labels and scores, and video scores.

Everywhere: ``label`` (N,) is 0 = real, 1 = fake; ``score`` (N,) is P(fake) in [0, 1]; a row is called fake
when ``score > threshold``. Results are floats, NaN where undefined (a class that is needed is absent).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from unmasked.datasets.errors import InputError
from unmasked.evaluation import counts
from unmasked.evaluation.counts import Array, Confusion, ratio

Aggregation = Literal["mean", "median", "top_k_mean", "worst_face"]
TOP_K = 5
# What belongs to one crop and says nothing about its video.
CROP_COLUMNS = ("frame", "face", "time_s", "crop", "score")

# How many crops are behind a row, where `folding.fold_frames` has made one of each video.
FRAMES_SCORED = "frames_scored"

Kind = Literal["ranking", "threshold", "probability"]
Function: TypeAlias = Callable[..., float]


@dataclass(frozen=True)
class Metric:
    """How a metric is computed, read and given an interval.

    Tables, pages and files take it from here.
    """

    name: str  # in files
    title: str  # for readers
    kind: Kind  # reads the order of scores, decisions at a threshold, or scores as probabilities
    function: Function  # of (label, score), and of the threshold where the kind is that
    # The same of many resamples at once: of (fp, tp), of a `Confusion`, or of the sums of
    # `counts.probability_terms`. Without it resamples are computed one by one, a thousand times slower.
    vectorised: Callable[..., Array] | None = None
    higher_is_better: bool | None = True  # None: neither, as a share of rows called fake is
    minimum: float = 0.0
    maximum: float = 1.0
    rate_of: int | None = None  # the class that it is a share of, 0 real or 1 fake; see `intervals`
    # What its resamples do that percentiles would get wrong: see `intervals.metric_interval`.
    # "share": a mean of numbers from 0 to 1, whose noise vanishes at both ends, as a share's does.
    # "biased": a sum over bins of absolute values, as the ECE is.
    # "paired": a person who is drawn twice is compared with himself, his fake with his own real.
    resamples: Literal["as they are", "share", "skewed", "biased", "paired"] = "as they are"
    fpr_max: float | None = None  # of a TPR at the threshold of an FPR: `intervals.tpr_at_fpr_interval`
    by_group: bool = True  # False where groups of another size or mix cannot be compared by it

    @property
    def needs(self) -> tuple[int, ...]:
        """The classes, 0 and 1, that it needs rows of."""
        return (0, 1) if self.rate_of is None else (self.rate_of,)


METRICS: dict[str, Metric] = {}


def metric(
    name: str, title: str, kind: Kind, vectorised: Callable[..., Array] | None = None, **facts: Any
) -> Callable[[Function], Function]:
    """Registers the function below it in `METRICS`.

    It then stands in every table, page and file.
    Args are the fields of `Metric`.
    """

    def registered(function: Function) -> Function:
        METRICS[name] = Metric(name, title, kind, function, vectorised, **facts)
        return function

    return registered


def from_counts(names: Collection[str], given: Mapping[Kind, tuple[Any, ...]]) -> dict[str, Array]:
    """The vectorised metrics among the names, in the shape of the counts.

    Args:
        names: of `METRICS`.
        given: by kind what ``vectorised`` takes; metrics of a kind that is absent are left out.
    """
    chosen = [METRICS[name] for name in names]
    return {
        one.name: one.vectorised(*given[one.kind]) for one in chosen if one.vectorised and one.kind in given
    }


def all_metrics(
    label: ArrayLike, score: ArrayLike, threshold: float | Array = 0.5, only: Collection[str] | None = None
) -> dict[str, float]:
    """Every metric of `METRICS` by name, or those of ``only``."""
    label, score = check_arrays(label, score)
    names = list(METRICS) if only is None else list(only)
    counted: dict[Kind, Callable[[], tuple[Any, ...]]] = {
        "ranking": lambda: counts.curve(label, score)[1:],
        "threshold": lambda: (Confusion(*counts.confusion_terms(label, score, threshold).sum(axis=1)),),
        "probability": lambda: (np.array([row.sum() for row in counts.probability_terms(label, score)]),),
    }
    kinds = {METRICS[name].kind for name in names if METRICS[name].vectorised}
    values = from_counts(names, {kind: counted[kind]() for kind in kinds})
    return {
        name: float(values[name]) if name in values else one_value(name, label, score, threshold)
        for name in names
    }


def one_value(name: str, label: NDArray[np.int64], score: Array, threshold: float | Array) -> float:
    """A metric by its own function."""
    one = METRICS[name]
    return float(one.function(label, score, *([threshold] if one.kind == "threshold" else [])))


def at_threshold(label: ArrayLike, score: ArrayLike, threshold: float) -> dict[str, float]:
    """The metrics that depend on a threshold, from accuracy to TPR, by name."""
    return all_metrics(label, score, threshold, threshold_metrics())


def threshold_metrics() -> list[str]:
    """Names of the metrics that depend on a threshold."""
    return [name for name, one in METRICS.items() if one.kind == "threshold"]


def group_metrics() -> list[str]:
    """Names of the metrics that groups are compared by."""
    return [name for name, one in METRICS.items() if one.by_group]


@metric("auc", "AUC", "ranking", counts.area_under_roc, resamples="paired")
def auc(label: ArrayLike, score: ArrayLike) -> float:
    """Probability that a random fake scores above a random real, ties counting half.

    Range [0, 1], higher is better, 0.5 is chance; NaN if a class is absent. The area under the ROC curve.

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    return _one("auc", label, score)


@metric(
    "partial_auc",
    "partial AUC (FPR ≤ 10 %)",
    "ranking",
    counts.partial_area_under_roc,
    resamples="skewed",
    by_group=False,
)
def partial_auc(label: ArrayLike, score: ArrayLike, fpr_max: float = counts.PARTIAL_AUC_FPR) -> float:
    """Area under the ROC curve up to ``fpr_max``, rescaled: 0.5 is chance, 1 perfect.

    McClish (1989). Higher is better; NaN if a class is absent. It looks only at thresholds that raise few
    false alarms, where a detector is used.

    >>> round(partial_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], fpr_max=0.5), 4)
    0.6667
    """
    label, score = check_arrays(label, score)
    _, fp, tp = counts.curve(label, score)
    return float(counts.partial_area_under_roc(fp, tp, fpr_max))


@metric("ap", "AP", "ranking", counts.average_precision, resamples="skewed", by_group=False)
def average_precision(label: ArrayLike, score: ArrayLike) -> float:
    """Mean precision over the recall steps, fakes positive; chance is the share of fakes.

    AP = sum over thresholds of (R_k - R_{k-1}) P_k. Range [0, 1], higher is better; NaN if a class is
    absent. It moves with the share of fakes, so it is not comparable between datasets.

    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    return _one("ap", label, score)


@metric("eer", "EER", "ranking", counts.equal_error_rate, higher_is_better=False, resamples="share")
def equal_error_rate(label: ArrayLike, score: ArrayLike) -> float:
    """Error rate at the threshold where false positives and negatives are equally frequent.

    Range [0, 1], lower is better, 0.5 is chance; NaN if a class is absent. Equal scores are one point of
    the ROC curve; the crossing with FPR = FNR is interpolated linearly between points.

    >>> equal_error_rate([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.5
    """
    return _one("eer", label, score)


def tpr_at_fpr(label: ArrayLike, score: ArrayLike, fpr_max: float) -> float:
    """Highest share of fakes found when at most ``fpr_max`` of the reals are called fake.

    Range [0, 1], higher is better; NaN if a class is absent. Not interpolated: a threshold reaches it.
    The threshold is chosen on the data it is judged on, so this is a ceiling; see `thresholds.fit`.

    >>> tpr_at_fpr([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.1)
    0.5
    """
    label, score = check_arrays(label, score)
    _, fp, tp = counts.curve(label, score)
    return float(counts.tpr_at_fpr(fp, tp, fpr_max))


for _percent in (10, 5, 1):
    metric(
        f"tpr_at_fpr_{_percent}",
        f"TPR at FPR {_percent} %",
        "ranking",
        partial(counts.tpr_at_fpr, fpr_max=_percent / 100),
        fpr_max=_percent / 100,
        by_group=False,
    )(partial(tpr_at_fpr, fpr_max=_percent / 100))


def confusion(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> Confusion:
    """How many rows fall on each outcome of ``score > threshold``: tn, fp, fn, tp.

    >>> [int(count) for count in confusion([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])]
    [1, 1, 1, 1]
    """
    label, score = check_arrays(label, score)
    return Confusion(*counts.confusion_terms(label, score, threshold).sum(axis=1))


@metric(
    "accuracy",
    "accuracy",
    "threshold",
    lambda c: ratio(c.tp + c.tn, c.tp + c.tn + c.fp + c.fn),
    resamples="share",
)
def accuracy(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of rows called right, in [0, 1]; NaN without rows.

    Always calling the larger class scores high.

    >>> accuracy([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    return _one("accuracy", label, score, threshold)


@metric("balanced_accuracy", "balanced accuracy", "threshold", counts.balanced_accuracy, resamples="share")
def balanced_accuracy(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Mean of TPR and 1 - FPR, in [0, 1], 0.5 is chance; NaN if a class is absent.

    >>> balanced_accuracy([0, 0, 0, 1], [0.1, 0.4, 0.35, 0.2])
    0.5
    """
    return _one("balanced_accuracy", label, score, threshold)


@metric("precision", "precision", "threshold", lambda c: ratio(c.tp, c.tp + c.fp), by_group=False)
def precision(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of fakes among the rows called fake, in [0, 1]; NaN if none is called fake.

    >>> precision([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return _one("precision", label, score, threshold)


@metric("recall", "recall", "threshold", lambda c: ratio(c.tp, c.tp + c.fn), rate_of=1, by_group=False)
def recall(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of the fakes that are called fake (TPR), in [0, 1]; NaN without fakes.

    >>> recall([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return _one("recall", label, score, threshold)


@metric("f1", "F1", "threshold", lambda c: ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn), by_group=False)
def f1(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn), in [0, 1].

    NaN where that is 0 / 0.

    >>> f1([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return _one("f1", label, score, threshold)


@metric("mcc", "MCC", "threshold", counts.matthews_correlation, minimum=-1.0, by_group=False)
def matthews_correlation(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Correlation of label and decision, in [-1, 1], 0 is chance.

    NaN if either has one value only.

    >>> matthews_correlation([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.8])
    1.0
    """
    return _one("mcc", label, score, threshold)


@metric("fpr", "FPR", "threshold", lambda c: ratio(c.fp, c.fp + c.tn), higher_is_better=False, rate_of=0)
def false_positive_rate(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of the reals that are called fake, in [0, 1], lower is better; NaN without reals.

    >>> false_positive_rate([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return _one("fpr", label, score, threshold)


@metric("fnr", "FNR", "threshold", lambda c: ratio(c.fn, c.fn + c.tp), higher_is_better=False, rate_of=1)
def false_negative_rate(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of the fakes that are called real, in [0, 1], lower is better; NaN without fakes.

    >>> false_negative_rate([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return _one("fnr", label, score, threshold)


@metric("tpr", "TPR", "threshold", lambda c: ratio(c.tp, c.tp + c.fn), rate_of=1)
def true_positive_rate(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """`recall` under its other name."""
    return recall(label, score, threshold)


@metric(
    "selection_rate",
    "selection rate",
    "threshold",
    lambda c: ratio(c.tp + c.fp, c.tp + c.tn + c.fp + c.fn),
    higher_is_better=None,
    resamples="share",
)
def selection_rate(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Share of rows called fake, in [0, 1]; NaN without rows. It follows the share of fakes.

    >>> selection_rate([0, 0, 1, 1], [0.1, 0.6, 0.35, 0.8])
    0.5
    """
    return _one("selection_rate", label, score, threshold)


@metric(
    "brier",
    "Brier score",
    "probability",
    lambda sums: ratio(sums[1], sums[0]),
    higher_is_better=False,
    resamples="share",
)
def brier_score(label: ArrayLike, score: ArrayLike) -> float:
    """Mean squared distance of score and label, in [0, 1], lower is better; NaN without rows.

    >>> brier_score([0, 1], [0.5, 0.5])
    0.25
    """
    return _one("brier", label, score)


@metric(
    "log_loss",
    "log loss",
    "probability",
    lambda sums: ratio(sums[2], sums[0]),
    higher_is_better=False,
    maximum=float("inf"),
    resamples="skewed",
    by_group=False,
)
def log_loss(label: ArrayLike, score: ArrayLike) -> float:
    """Mean of -log(probability given to the true class), nats, lower is better.

    NaN without rows.
    Probabilities are at least 2.2e-16, so one certain mistake costs 36 and not infinity.

    >>> round(log_loss([0, 1], [0.5, 0.5]), 4)
    0.6931
    """
    return _one("log_loss", label, score)


# |sum of (label - score)| in a bin = its size x the distance between its mean label and mean score
@metric(
    "ece",
    "ECE",
    "probability",
    lambda sums: ratio(np.abs(sums[3:]).sum(axis=0), sums[0]),
    higher_is_better=False,
    resamples="biased",
)
def expected_calibration_error(label: ArrayLike, score: ArrayLike) -> float:
    """Mean distance between score and share of fakes, over 15 equal bins of the score.

    ECE = sum over bins of (n_b / n) |mean label - mean score|. Range [0, 1], lower is better; NaN without
    rows. With few rows in a bin it is above 0 for a calibrated detector too.

    >>> expected_calibration_error([0, 1, 1, 1], [0.75, 0.75, 0.75, 0.75])
    0.0
    """
    return _one("ece", label, score)


def bench_equal_error_rate(label: ArrayLike, score: ArrayLike) -> float:
    """DeepfakeBench's EER: the FPR at the ROC point where FPR and FNR are closest.

    Not interpolated.
    For comparison with its tables only. NaN if a class is absent (the bench crashes there).

    >>> bench_equal_error_rate([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.5
    """
    label, score = check_arrays(label, score)
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
    label, score = check_arrays(label, score)
    if not len(label):
        return float("nan")
    folder, _ = pd.factorize(np.array([str(path).rsplit("/", 1)[-1] for path in video]))
    # Added up in order, as the bench does: where means tie, the rounding decides which is higher.
    frames, fakes, total = (np.bincount(folder, weights) for weights in (None, label, score))
    return auc((fakes / frames).astype(int), total / frames)


def video_scores(predictions: pd.DataFrame, how: Aggregation = "mean", top_k: int = TOP_K) -> pd.DataFrame:
    """One row for each video.

    Its score, the number of crops behind it, and what it has in all its rows.

    Args:
        predictions: rows of scored crops. A video is a (dataset, video), at one compression where that
            is given; all its faces and frames count alike.
        how: mean, median, or the mean of the ``top_k`` highest scores (all, where there are fewer); or
            worst_face, the highest of the means of its faces: one fake face among others is found.
        top_k: how many scores count under ``top_k_mean``.

    Returns:
        Columns dataset, video, label, score, frames, and every other column (group columns, method,
        identity, …) with the video's first known value; those of a single crop are left out.
    """
    if how not in get_args(Aggregation):
        raise InputError(f"video score {how!r} is not known; choose {', '.join(get_args(Aggregation))}")
    if how == "worst_face":
        predictions, how = rows_of_worst_face(predictions), "mean"
    keys = [name for name in ("dataset", "video", "compression") if name in predictions]
    others = [name for name in predictions if name not in (*keys, *CROP_COLUMNS, FRAMES_SCORED)]
    grouped = predictions.groupby(keys, sort=False, dropna=False, observed=True)
    if how == "top_k_mean":
        highest = predictions.sort_values("score", ascending=False, kind="stable")
        highest = highest.groupby(keys, sort=False, dropna=False, observed=True).head(top_k)
        score = highest.groupby(keys, sort=False, dropna=False, observed=True)["score"].mean()
    else:
        score = grouped["score"].agg(how)
    videos = grouped[others].first()
    videos["score"] = mean_without_rounding_error(score, grouped["score"].min(), grouped["score"].max())
    videos["frames"] = grouped[FRAMES_SCORED].sum() if FRAMES_SCORED in predictions else grouped.size()
    first = ["dataset", "video", "label", "score", "frames"]
    videos = videos.reset_index()
    return videos[first + [name for name in videos if name not in first]]


def rows_of_worst_face(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of each video's face that seems most fake: the one with the highest mean score.

    A face is a track, as preprocessing numbers them: the same person in all frames. Of equal means the first
    face counts. Under each perturbation, and by each detector, the face is chosen anew. A table without a
    column face is returned as it is.
    """
    if "face" not in predictions or predictions["face"].nunique() < 2:
        return predictions
    names = ("dataset", "video", "compression", "detector", "perturbation", "severity")
    video = predictions.groupby([name for name in names if name in predictions], dropna=False, observed=True)
    code, face = video.ngroup(), predictions["face"]
    mean = predictions["score"].groupby([code, face]).transform("mean")
    is_worst = mean == mean.groupby(code).transform("max")
    chosen = face.where(is_worst).groupby(code).transform("first")  # of equal means the first
    return predictions[face == chosen]


def mean_without_rounding_error(mean: pd.Series, lowest: pd.Series, highest: pd.Series) -> pd.Series:
    """Means of scores to twelve digits, so that means that are equal are equal numbers.

    0.1, 0.2, 0.3 add up to 0.6000000000000001 and 0.2, 0.2, 0.2 to that as well or to 0.6, by the order and
    number of the terms: a detector that always says the same would rank videos by their length.

    Args:
        mean: of any scores in [0, 1].
        lowest, highest: of the same scores; where they are equal they are the mean.
    """
    value = mean.to_numpy(dtype=np.float64)
    # 0.123 has its first digit at 10^-1. Up to 10^22 a power of ten is exact, and so is what follows.
    exponent = np.floor(np.log10(np.maximum(value, 1e-10)))
    scale = 10.0 ** (11 - exponent)
    # Below it there is too little for rounding errors to matter, and an order to keep.
    rounded = np.where(value < 1e-10, value, np.round(value * scale) / scale)
    return mean.where(lowest == highest, rounded).where(lowest < highest, lowest)


def check_arrays(label: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.int64], Array]:
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


def check_classes(
    label: ArrayLike, score: ArrayLike, what: str, rows: str = "", needed: Sequence[int] = (0, 1)
) -> tuple[NDArray[np.int64], Array, int, int]:
    """Labels and scores to fit on, see `check_arrays`, and how many reals and fakes there are.

    Raises:
        InputError: a class that ``what`` needs is absent; ``rows`` says which rows these are.
    """
    label, score = check_arrays(label, score)
    counted = [int((label == which).sum()) for which in (0, 1)]
    if not all(counted[which] for which in needed):
        wanted = " and ".join(("real", "fake")[which] for which in needed)
        raise InputError(
            f"{what} needs {wanted} rows; {rows or 'the calibration set'} has {counted[0]} real and "
            f"{counted[1]} fake. Give a calibration split that has them"
        )
    return label, score, counted[0], counted[1]


def _one(name: str, label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """A metric from its vectorised form."""
    return all_metrics(label, score, threshold, (name,))[name]
