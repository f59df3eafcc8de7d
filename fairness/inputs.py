"""What an audit is given, checked: labels, scores, clusters and the threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.metrics import check_arrays
from unmasked.evaluation.records import StoredThreshold
from unmasked.evaluation.thresholds import Threshold


def operating_point(threshold: float | Threshold) -> tuple[float, StoredThreshold | None]:
    """A threshold's value, and the fitted rule behind it where there is one.

    Raises:
        InputError: neither a number nor a fitted rule, or a number that no score is above or below.
    """
    if isinstance(threshold, Threshold):
        return float(threshold.value), threshold.to_dict()
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.number)):
        raise InputError(
            f"threshold {threshold!r} is neither a number nor a fitted rule; fit one on the source with "
            "evaluation.thresholds.fit(label, score, 'fpr:0.05') and give what it returns"
        )
    if not -1e-9 <= threshold <= 1:
        raise InputError(f"threshold {threshold} is outside the scores' range; give one between 0 and 1")
    return float(threshold), None


def check_rows(y_true: Any, y_score: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as arrays; raises InputError where they cannot be audited."""
    if len(y_true) != len(y_score):
        raise InputError(
            f"y_score has {len(y_score)} values but y_true has {len(y_true)}; give one for every row"
        )
    label, score = check_arrays(y_true, y_score)
    if not len(label):
        raise InputError("y_true holds no row; an audit needs real or fake rows")
    if np.isin(score, (0, 1)).all():
        raise InputError(
            "y_score holds only 0 and 1, which are decisions; give P(fake), any value between 0 and 1"
        )
    return label, score


def cluster_codes(values: Any, n_rows: int) -> np.ndarray:
    """(N,) code of each row's unit, from 0; without units every row is one of its own."""
    if values is None:
        return np.arange(n_rows)
    if len(values) != n_rows:
        raise InputError(f"clusters has {len(values)} values but y_true has {n_rows}; give one for every row")
    codes, _ = pd.factorize(np.asarray(values, dtype=object), use_na_sentinel=True)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise InputError(f"clusters is missing in row {row}; give the video where the person is not known")
    return codes.astype(np.int64)
