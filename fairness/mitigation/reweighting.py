"""Weights that make group and class independent in training.

For scikit-learn, give them as ``sample_weight``. For torch, draw rows by
`unmasked.datasets.samplers.BalancedSampler`, or pairs by `PairSampler(groups=…)`; UCF's training does
so with ``data.balance=group_class`` and takes weights with ``loss.robust=reweighted``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError


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


def independence_weights(groups: Any, label: Any) -> np.ndarray:
    """(N,) n_g n_y / (n n_gy): group and class become independent, and keep their own shares.

    Kamiran and Calders (2012), "Data preprocessing techniques for classification without discrimination",
    section 5.3. What is expected of a cell if group and class were independent, over what is there.

    Args:
        groups: (N,) group of each row.
        label: (N,) class of each row.

    Raises:
        InputError: a group lacks a class: no weight makes up for rows that are not there.

    >>> independence_weights(["a", "a", "b", "a", "b", "b"], [0, 0, 0, 1, 1, 1]).tolist()
    [0.75, 0.75, 1.5, 1.5, 0.75, 0.75]
    """
    group, kind = _codes(groups), _codes(label)
    cells = pd.crosstab(group, kind)
    if (cells == 0).any(axis=None):
        names = sorted(
            set(map(str, np.asarray(groups)[np.isin(group, cells.index[(cells == 0).any(axis=1)])]))
        )
        raise InputError(
            f"{', '.join(names)} have rows of one class only; no weight makes up for that: add the other, or "
            "leave the group out"
        )
    n_g, n_y = np.bincount(group), np.bincount(kind)
    return n_g[group] * n_y[kind] / (len(group) * cells.to_numpy()[group, kind])


def _codes(*columns: Any) -> np.ndarray:
    """(N,) the number of each row's combination of values."""
    table = pd.DataFrame({number: np.asarray(column) for number, column in enumerate(columns)})
    return table.groupby(list(table), sort=True, observed=True, dropna=False).ngroup().to_numpy()
