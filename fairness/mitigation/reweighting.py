"""Weights that make group and class independent in training.

For scikit-learn, give them as ``sample_weight``. For torch, draw rows by
`unmasked.datasets.samplers.BalancedSampler`, or pairs by `PairSampler(groups=…)`; UCF's training does
so with ``data.balance=group_class`` and takes weights with ``loss.robust=reweighted``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def equal_weights(*columns: Any) -> np.ndarray:
    """(N,) n / (K n_c) for a row of cell c: every cell weighs the same, and weights average 1.

    Args:
        columns: (N,) each; a cell is a combination of their values that occurs, such as group and class.
            K is the number of cells.

    >>> equal_weights(["a", "a", "a", "b"], [0, 0, 0, 0]).round(3).tolist()
    [0.667, 0.667, 0.667, 2.0]
    """
    cell = _codes(*columns)
    size = np.bincount(cell)
    return len(cell) / ((size > 0).sum() * size[cell])


def _codes(*columns: Any) -> np.ndarray:
    """(N,) the number of each row's combination of values."""
    table = pd.DataFrame({number: np.asarray(column) for number, column in enumerate(columns)})
    return table.groupby(list(table), sort=True, observed=True, dropna=False).ngroup().to_numpy()
