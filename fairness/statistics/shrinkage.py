"""Rates of small crossed groups, pulled towards what their attributes say one by one.

A dozen dark-skinned old women say little of themselves; all women, all old and all dark-skinned people say
more. The rate of a crossed group is taken as main effects of its attributes plus a residual of its own, whose
spread over groups is learnt from all of them (Fay and Herriot 1979; small-area estimation). A group keeps as
much of its own rate as its people can carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from unmasked.fairness.groups import CROSS

# What residuals may be, in radians of the arcsine scale: at a rate of 0.15, 0.2 is 13 to 17 points. Without
# this bound two by two groups, whose only residual is one number, could have any.
SCALE = 0.2
GRID = np.linspace(0, 4 * SCALE, 81)
Z_GRID = 400


@dataclass(frozen=True)
class Shrunk:
    """The groups' rates, each array (J,).

    ``shrinkage`` is the share of the way from the raw rate to ``main_effects``.
    """

    main_effects: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    shrinkage: np.ndarray


def shrink(names: Sequence[str], share: np.ndarray, weight: np.ndarray) -> Shrunk:
    """Shrunk rates of crossed groups with 95 % intervals.

    On the scale of the arcsine of the root the sampling variance of a group is known from its weight, main
    effects have a flat prior, residuals a normal one whose standard deviation is half-normal (`SCALE`). The
    posterior is averaged over that standard deviation, so an interval counts that it is not known. Intervals
    hold on average over groups: one that is unlike all others is pulled too far. In [0, 1].

    Args:
        names: J groups such as "female × dark", all of the same attributes.
        share: (J,) rate of each.
        weight: (J,) how many independent rows each is worth, above 0.
    """
    effects = _main_effects([name.split(CROSS) for name in names])
    # A rate of 0 or 1 in a few rows is no certainty: Anscombe's arcsine has the same variance there.
    angle = np.arcsin(np.sqrt((share * weight + 0.375) / (weight + 0.75)))
    variance = 1 / (4 * weight + 2)
    parts = [_given_spread(angle, variance, effects, spread) for spread in GRID]
    main, centre, error, kept, logs = (np.array(values) for values in zip(*parts, strict=True))
    logs = logs - (GRID / SCALE) ** 2 / 2
    chance = np.exp(logs - logs.max())
    chance /= chance.sum()
    low, middle, high = _quantiles(centre, error, chance, (0.025, 0.5, 0.975))
    return Shrunk(_rates(chance @ main), middle, low, high, np.clip(1 - chance @ kept, 0, 1))


def _main_effects(parts: list[list[str]]) -> np.ndarray:
    """(J, K) independent columns of an additive model: a constant, and each value but the first of each."""
    columns = [np.ones(len(parts))]
    for values in zip(*parts, strict=True):
        columns += [np.array(values) == value for value in dict.fromkeys(values)][1:]
    matrix = np.array(columns, dtype=np.float64).T
    # Where cells are empty, columns can repeat one another.
    kept: list[int] = []
    for column in range(matrix.shape[1]):
        if np.linalg.matrix_rank(matrix[:, [*kept, column]]) > len(kept):
            kept.append(column)
    return matrix[:, kept]


def _given_spread(
    angle: np.ndarray, variance: np.ndarray, effects: np.ndarray, spread: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """If residuals have this spread: main effects, posterior mean and error, share kept, log likelihood."""
    total = variance + spread**2
    weighed = effects / total[:, None]
    information = effects.T @ weighed
    covariance = np.linalg.inv(information)
    main = effects @ (covariance @ (weighed.T @ angle))
    left = angle - main
    kept = spread**2 / total
    # Its own sampling error, and that of the main effects where it leans on them.
    error = kept * variance + (1 - kept) ** 2 * np.einsum("jk,kl,jl->j", effects, covariance, effects)
    log = -0.5 * (np.log(total).sum() + np.linalg.slogdet(information)[1] + (left**2 / total).sum())
    return main, main + kept * left, np.sqrt(error), kept, float(log)


def _quantiles(
    centre: np.ndarray, error: np.ndarray, chance: np.ndarray, levels: Sequence[float]
) -> list[np.ndarray]:
    """Rates at levels of each group's mixture of normals, (J,) each; 0 or 1 beyond the scale."""
    low, high = (centre - 5 * error).min(axis=0), (centre + 5 * error).max(axis=0)
    at = low + (high - low) * np.linspace(0, 1, Z_GRID)[:, None]  # (grid, J)
    below = np.einsum("s,sgj->gj", chance, ndtr((at[None] - centre[:, None]) / error[:, None]))
    found = [
        [np.interp(level, one, grid) for one, grid in zip(below.T, at.T, strict=True)] for level in levels
    ]
    return [_rates(np.array(values)) for values in found]


def _rates(angle: np.ndarray) -> np.ndarray:
    return np.sin(np.clip(angle, 0, np.pi / 2)) ** 2
