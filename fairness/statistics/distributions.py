"""What the scores of each group look like: histograms by class, and calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd

from unmasked.evaluation.calibration import reliability
from unmasked.fairness.groups import order_groups
from unmasked.fairness.records import GroupReliability, GroupScores

BINS = 20


def score_histograms(label: np.ndarray, score: np.ndarray, names: pd.Series) -> list[GroupScores]:
    """How many rows of each group and class have a score in each of 20 bins of equal width.

    For every group and class; empty ones too, since an absent class is a finding.
    """
    found, of_row = _codes(names)
    place = (of_row * 2 + label) * BINS + np.minimum((score * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=len(found) * 2 * BINS).reshape(len(found), 2, BINS)
    edges = np.linspace(0, 1, BINS + 1).round(6).tolist()
    return [
        {"group": group, "label": label_of, "edges": edges, "counts": counts[code, label_of].tolist()}
        for code, group in enumerate(found)
        for label_of in (0, 1)
    ]


def calibration(label: np.ndarray, score: np.ndarray, names: pd.Series) -> list[GroupReliability]:
    """`evaluation.calibration.reliability` of each group, with the bins of the ECE.

    A calibrated score of 0.8 is right about 8 of 10 times, in every group. Bins without rows are left out.
    The share of fakes is the dataset's, so only differences between groups speak about the detector.
    """
    found, of_row = _codes(names)
    return [
        {"group": group, **reliability(label[of_row == code], score[of_row == code])}
        for code, group in enumerate(found)
    ]


def _codes(names: pd.Series) -> tuple[list[str], np.ndarray]:
    found = order_groups(names.unique().tolist())
    return found, pd.Categorical(names, categories=found).codes.astype(np.int64)
