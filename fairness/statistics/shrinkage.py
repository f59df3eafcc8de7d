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
from scipy.special import xlogy

from unmasked.fairness.groups import CROSS

# What residuals may be, in radians of the arcsine scale: at a rate of 0.15, 0.2 is 13 to 17 points. Without
# this bound two by two groups, whose only residual is one number, could have any.
SCALE = 0.2
# Their standard deviations, the closer the smaller: among groups of thousands a hundredth is much.
SPREADS = 4 * SCALE * np.linspace(0, 1, 25) ** 2
# Angles at which a group is looked at, so many standard errors of its own rate to either side.
ANGLES, REACH = 200, 8.0
SWEEPS = 3


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

    On the scale of the arcsine of the root main effects have a flat prior, residuals a normal one whose
    standard deviation is half-normal (`SCALE`), and events are binomial. The posterior is averaged over that
    standard deviation, so an interval counts that it is not known; given it, the other groups' events are
    put into a normal law for each group (expectation propagation, Minka 2001), and its own events count as
    they are: near a rate of 0, a normal law of them covers 91 %. Rates and main effects are medians.
    Intervals hold on average over groups: one that is unlike all others is pulled too far. In [0, 1], from 0
    where no event was seen and to 1 where all were events.

    Args:
        names: J groups such as "female × dark", all of the same attributes.
        share: (J,) rate of each.
        weight: (J,) how many independent rows each is worth, above 0.
    """
    effects = _main_effects([name.split(CROSS) for name in names])
    events = _Events.of(share, weight)
    main, kept, density, logs = _given_spreads(events, effects)
    logs = logs - (SPREADS / SCALE) ** 2 / 2
    chance = np.exp(logs - logs.max()) * np.gradient(SPREADS)
    chance /= chance.sum()
    mixed = np.einsum("s,sjg->jg", chance, density)
    low, middle, high = (_quantile(events.at, mixed, level) for level in (0.025, 0.5, 0.975))
    # Whom nothing happened to may be people to whom it never does.
    low, high = np.where(share <= 0, 0.0, low), np.where(share >= 1, 1.0, high)
    return Shrunk(_median(main, chance), middle, low, high, np.clip(1 - chance @ kept, 0, 1))


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


@dataclass(frozen=True)
class _Events:
    """What was seen of each group.

    Attributes:
        angle, variance: (J,) Anscombe's arcsine of its rate, and the variance of that.
        at: (J, G) evenly spaced angles around it, between those of the rates 0 and 1.
        log_likely: (J, G) log of how likely the events are at each, but for a constant.
    """

    angle: np.ndarray
    variance: np.ndarray
    at: np.ndarray
    log_likely: np.ndarray

    @classmethod
    def of(cls, share: np.ndarray, weight: np.ndarray) -> _Events:
        angle, variance = np.arcsin(np.sqrt((share * weight + 0.375) / (weight + 0.75))), 1 / (4 * weight + 2)
        reach = REACH * np.sqrt(variance)
        at = np.linspace(np.maximum(angle - reach, 0), np.minimum(angle + reach, np.pi / 2), ANGLES, axis=1)
        rate, events, others = np.sin(at) ** 2, (share * weight)[:, None], ((1 - share) * weight)[:, None]
        # Events at a rate of 0, and none at a rate of 1, are impossible.
        return cls(angle, variance, at, xlogy(events, rate) + xlogy(others, 1 - rate))


def _given_spreads(
    events: _Events, effects: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """If residuals have each of `SPREADS` (S).

    (S, J) main effects, (S, J) share kept, (S, J, G) densities, (S,) log likelihood.
    """
    # A normal law of this angle and variance stands for a group's events among others.
    shape = (len(SPREADS), len(events.angle))
    angle, variance = np.broadcast_to(events.angle, shape), np.broadcast_to(events.variance, shape)
    for _ in range(SWEEPS):
        main, centre, error, kept, log = _posterior(angle, variance, effects)
        # Everybody else: the group's own events are taken out.
        precision = np.maximum(1 / error - 1 / variance, 1e-6)
        others = (centre / error - angle / variance) / precision
        density = events.at - others[..., None]
        density *= density
        density *= -0.5 * precision[..., None]
        density += events.log_likely
        highest = density.max(axis=-1)
        density -= highest[..., None]
        np.exp(density, out=density)
        total = density.sum(axis=-1)
        mean = np.einsum("sjg,jg->sj", density, events.at) / total
        moment = np.einsum("sjg,jg->sj", density, events.at**2) / total - mean**2
        both = 1 / precision + variance
        own = highest + np.log(total) + 0.5 * np.log(precision)
        log += (own + 0.5 * (np.log(both) + (angle - others) ** 2 / both)).sum(axis=1)
        variance = 1 / np.clip(1 / np.maximum(moment, 1e-12) - precision, 0.1, 1e9)
        angle = mean + variance * precision * (mean - others)
    return main, kept, density / total[..., None], log


def _posterior(
    angle: np.ndarray, variance: np.ndarray, effects: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of angles of such variances, both (S, J): main effects, mean, its variance and share kept, (S, J).

    And (S,) log likelihood.
    """
    total = variance + SPREADS[:, None] ** 2
    weighed = effects / total[..., None]
    information = effects.T @ weighed
    covariance = np.linalg.inv(information)
    main = np.einsum("jk,skl,sil,si->sj", effects, covariance, weighed, angle, optimize=True)
    left = angle - main
    kept = SPREADS[:, None] ** 2 / total
    # Its own sampling error, and that of the main effects where it leans on them.
    of_main = np.einsum("jk,skl,jl->sj", effects, covariance, effects, optimize=True)
    error = kept * variance + (1 - kept) ** 2 * of_main
    log = -0.5 * (np.log(total) + left**2 / total).sum(axis=1) - 0.5 * np.linalg.slogdet(information)[1]
    return main, main + kept * left, error, kept, log


def _quantile(at: np.ndarray, density: np.ndarray, level: float) -> np.ndarray:
    """(J,) rates at a level of densities over angles, both (J, G)."""
    below = np.cumsum(density, axis=1)
    below = (below - density / 2) / below[:, -1:]
    return _rates(np.array([np.interp(level, *one) for one in zip(below, at, strict=True)]))


def _median(angle: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """(J,) rates of the medians of angles (S, J) that have such chances (S,)."""
    order = np.argsort(angle, axis=0)
    return _quantile(np.take_along_axis(angle, order, axis=0).T, chance[order].T, 0.5)


def _rates(angle: np.ndarray) -> np.ndarray:
    return np.sin(np.clip(angle, 0, np.pi / 2)) ** 2
