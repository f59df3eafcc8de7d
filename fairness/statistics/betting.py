"""Evidence that may be looked at every week: bets against two groups having the same rate.

Somebody who bets on the difference of the next person of one group and the next of the other cannot be
expected to gain while both groups have one rate. Capital of 20 is reached with a chance of 1 in 20 at most,
ever, however often one looks (Ville's inequality; Chugg et al., "Auditing fairness by betting", NeurIPS
2023). The capital, the e-value, is multiplied from look to look; no look costs anything.
"""

from __future__ import annotations

import numpy as np

# Shares of the capital that are put on the difference, either way. The capital is spread over all of them
# alike, so nothing has to be chosen, and the best of them is never more than a factor of 16 ahead.
BETS = np.outer([-1, 1], [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9]).ravel()
ENOUGH = 20.0  # 1 / 0.05


def add_people(
    log_capital: np.ndarray, first: np.ndarray, second: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(16,) log capital of each of `BETS` after new people of both groups.

    People are bet on in as many steps as the smaller group has people, with the mean of the larger group's
    share of them at each. Nothing is kept for later: a change over time that meets both groups alike is no
    difference. A group without anybody new leaves everything as it is.

    Args:
        log_capital: (16,) before; zeros at the start.
        first, second: (n,) and (m,) in [0, 1]: of each person the share of rows with the error.
        rng: shuffles people, whose order in a table may say how they scored.
    """
    steps = min(len(first), len(second))
    if not steps:
        return log_capital
    means = [
        np.array([part.mean() for part in np.array_split(rng.permutation(group), steps)])
        for group in (first, second)
    ]
    return log_capital + np.log1p(np.outer(BETS, means[0] - means[1])).sum(axis=1)


def e_value(log_capital: np.ndarray) -> float:
    """The capital: from 1; above 20 with a chance of at most 5 % if nothing differs."""
    return float(np.exp(np.clip(log_capital, None, 600)).mean())


def adjust_e_values(values: np.ndarray) -> np.ndarray:
    """e-values of several pairs, corrected for their number.

    A mean of e-values is an e-value whatever their dependence. The least mean over all sets that a pair is in
    is above 20 for a pair without a difference in 5 % of families at most (closed tests; Vovk and Wang 2021).

    >>> adjust_e_values(np.array([100.0, 1.0, 1.0])).tolist()
    [34.0, 1.0, 1.0]
    """
    order = np.sort(values)
    found = np.empty(len(values))
    for place, value in enumerate(values):
        others = np.delete(order, int(np.searchsorted(order, value)))
        # Of sets of each size the one of the smallest others has the least mean.
        means = (value + np.concatenate([[0.0], np.cumsum(others)])) / np.arange(1, len(values) + 1)
        found[place] = means.min()
    return found
