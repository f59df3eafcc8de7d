"""What a video AUC says of the detector, in one sentence: chance, perfect, reversed, …"""

from __future__ import annotations

import numpy as np

from unmasked.evaluation.intervals import Sample
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import interval_text

LOOK = "look whether score is P(fake) and label 1 is fake"


def reading(sample: Sample, numbers: Measures, threshold: float) -> str:
    """The sentence for videos with these metrics; "" where a class is absent.

    Args:
        sample: the videos.
        numbers: at least ``auc``, ``auc_ci`` and ``accuracy`` at the threshold.
        threshold: the operating point.
    """
    auc, (low, high) = numbers["auc"], numbers["auc_ci"]
    limits = interval_text([low, high], "{:.3f}".format)
    if np.isnan(auc):
        return ""
    if sample.score.min() == sample.score.max():
        return f"a constant detector: every video scores {sample.score[0]:.4g}, so it tells none apart"
    if auc in (0.0, 1.0):
        return _no_error_text(auc, (low, high), numbers["accuracy"], threshold)
    if np.isnan(low):
        return f"AUC {auc:.3f} without an interval, as there are too few videos: chance is not ruled out"
    if low <= 0.5 <= high:
        return f"not told from chance: the interval of its AUC, {limits}, holds 0.5"
    if high < 0.5:
        return f"worse than chance: reals tend to score above fakes (AUC {auc:.3f}); {LOOK}"
    return f"better than chance: the interval of its AUC lies above 0.5: {limits}"


def _no_error_text(auc: float, interval: tuple[float, float], accuracy: float, threshold: float) -> str:
    low, high = interval
    if auc == 0.0:
        most = "" if np.isnan(high) else f"; with so many videos, an AUC of up to {high:.3f} is possible"
        return f"a reversed detector: every real scores above every fake{most}; {LOOK}"
    least = "" if np.isnan(low) else f"; with so many videos, an AUC of down to {low:.3f} is possible"
    cut = "" if accuracy == 1.0 else f"; yet accuracy at score > {threshold:.4g} is {accuracy:.3f}"
    return f"a perfect ranking: every fake scores above every real{least}{cut}"
