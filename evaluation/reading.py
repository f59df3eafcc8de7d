"""What a video AUC says of the detector, in one sentence: chance, perfect, reversed, …"""

from __future__ import annotations

import numpy as np

from unmasked.evaluation import metrics
from unmasked.evaluation.intervals import Sample, intervals
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import interval_text

LOOK = "if score is P(real), score_of=real turns it round; if label 1 is real, one_means=real does"


def reading(sample: Sample, numbers: Measures, threshold: float, *, is_own: bool = False) -> str:
    """The sentence for videos with these metrics; "" where a class is absent.

    Args:
        sample: the videos.
        numbers: at least ``auc``, ``auc_ci`` and ``accuracy`` at the threshold.
        threshold: the operating point.
        is_own: the scores are of `unmasked predict`, and cannot be the other way round.
    """
    look = "" if is_own else f"; {LOOK}"
    auc, (low, high) = numbers["auc"], numbers["auc_ci"]
    limits = interval_text([low, high], "{:.3f}".format)
    if np.isnan(auc):
        return ""
    if sample.score.min() == sample.score.max():
        return f"a constant detector: every video scores {sample.score[0]:.4g}, so it tells none apart"
    if auc in (0.0, 1.0):
        return _no_error_text(sample, auc, (low, high), numbers["accuracy"], threshold, look)
    if np.isnan(low):
        return f"AUC {auc:.3f} without an interval, as {_too_few(sample)}: chance is not ruled out"
    if low <= 0.5 <= high:
        return f"not told from chance: the interval of its AUC, {limits}, holds 0.5"
    if high < 0.5:
        return f"worse than chance: reals tend to score above fakes (AUC {auc:.3f}){look}"
    return f"better than chance: the interval of its AUC lies above 0.5: {limits}"


def reversal(sample: Sample, *, is_own: bool = False) -> str:
    """The sentence for videos of which reals score above fakes, beyond chance; "" for others."""
    auc = metrics.auc(sample.label, sample.score)
    if not auc < 0.5:
        return ""
    limits = list(intervals(sample, only=("auc",))["auc"])
    said = reading(sample, {"auc": auc, "auc_ci": limits, "accuracy": np.nan}, 0.5)
    return "" if LOOK not in said else said.removesuffix(f"; {LOOK}") if is_own else said


def _no_error_text(
    sample: Sample, auc: float, interval: tuple[float, float], accuracy: float, threshold: float, look: str
) -> str:
    low, high = interval
    order = "every fake scores above every real" if auc == 1.0 else "every real scores above every fake"
    look = "" if auc == 1.0 else look
    if np.isnan(low):
        return f"{order}, but {_too_few(sample)}: chance is not ruled out{look}"
    if low <= 0.5 <= high:
        real, fake = np.bincount(sample.label, minlength=2)
        return f"{order}, but of {real} real and {fake} fake videos: chance is not ruled out{look}"
    if auc == 0.0:
        return (
            f"a reversed detector: {order}; with so many videos, an AUC of up to {high:.3f} is possible{look}"
        )
    cut = "" if accuracy == 1.0 else f"; yet accuracy at score > {threshold:.4g} is {accuracy:.3f}"
    return f"a perfect ranking: {order}; with so many videos, an AUC of down to {low:.3f} is possible{cut}"


def _too_few(sample: Sample) -> str:
    """Why there is no interval: fewer than two people or videos of a class."""
    if sample.clusters == 1 and len(sample.label) > 1:
        return "all videos are of one person"
    real, fake = sample.clusters_by_class()
    return f"there are {real} real and {fake} fake to resample (people or videos), and two of each are needed"
