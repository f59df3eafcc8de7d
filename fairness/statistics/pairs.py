"""Which groups differ in a rate: every pair in standard errors, against chance.

A gap, the largest rate minus the smallest, has the noise of the smallest group: eleven people of a third
group hide a difference between hundreds of women and men. Here each pair is measured by its own standard
error, and the largest over all pairs is held against the largest that shuffled groups show. Of any group's
rate the arcsine of the root is taken (Anscombe 1948), whose standard error does not depend on the rate, so
that the long tail of a group of ten does not raise the bar for all others. And a pair that can show more
counts more (`GAIN`): a third group of 30 would otherwise raise the bar for hundreds of women and men.

The interval of a pair's difference, what chance shows of it, and the verdict come from one critical value:
the interval excludes 0 exactly where the difference is above chance and the test rejects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import ndtri

# Two sums of the same numbers in another order differ in the last bits.
TIE = 1e-9
# A pair whose variance is e times smaller has so much more of z² (weighted maxima, as Holm 1979 weighs
# p-values). 0 would weigh all pairs alike; 2 finds hardly any difference of a group of ten any more.
GAIN = 0.5
# Pairs of one block: permutations x pairs that are held in memory at a time.
BLOCK = 4_000_000


@dataclass(frozen=True)
class PairTest:
    """The test of one rate among J groups.

    Attributes:
        names: of the groups.
        share: (J,) rate of each group, its units weighed by `resampling.precision_weights`.
        weight: (J,) the sum of these weights: how many independent rows the group is worth.
        null: (B,) the largest pair's `score` in each permutation, from high to low.
        p_pairs: (J, J) p-value of each pair, corrected for the search over pairs (step-down maxima).
    """

    names: Sequence[str]
    share: np.ndarray
    weight: np.ndarray
    null: np.ndarray = field(repr=False)
    p_pairs: np.ndarray = field(repr=False)

    @cached_property
    def angle(self) -> np.ndarray:
        """(J,) the groups' rates on the scale on which they are compared."""
        return _angles(self.share, self.weight)

    @cached_property
    def error(self) -> np.ndarray:
        """(J,) standard error of each angle."""
        return _errors(self.weight)

    @cached_property
    def z(self) -> np.ndarray:
        """(J, J) difference of each two groups in standard errors, row minus column."""
        error = np.hypot(self.error[:, None], self.error[None, :])
        return (self.angle[:, None] - self.angle[None, :]) / error

    @cached_property
    def bonus(self) -> np.ndarray:
        """(J, J) what is added to each pair's z² before pairs are compared; 0 for two groups."""
        first, second = np.triu_indices(len(self.share), 1)
        found = np.zeros((len(self.share), len(self.share)))
        found[first, second] = found[second, first] = _bonus(self.weight, first, second)
        return found

    @property
    def p_value(self) -> float:
        """p-value of the pair that differs most, corrected for the search over pairs."""
        return float(self.p_pairs[self.widest])

    @property
    def widest(self) -> tuple[int, int]:
        """The pair that differs most for its size, the group with the higher rate first."""
        score = np.where(self.z >= 0, self.z**2 + self.bonus, -np.inf)
        np.fill_diagonal(score, -np.inf)
        high, low = np.unravel_index(int(np.argmax(score)), score.shape)
        return int(high), int(low)

    def pairs_below(self, level: float) -> list[tuple[int, int]]:
        """The pairs whose p-value is below ``level``, by it, each with the higher rate first."""
        found = np.argwhere((self.p_pairs < level) & (self.z > 0))
        pairs = [(int(high), int(low)) for high, low in found]
        return sorted(pairs, key=lambda pair: (self.p_pairs[pair], -self.z[pair]))

    def critical(self, level: float, high: int, low: int) -> float:
        """The z above which this pair differs most and has a p-value below ``level``.

        Infinite with too few permutations.
        """
        allowed = int(np.ceil(level * (1 + len(self.null)))) - 2
        if not 0 <= allowed < len(self.null):
            return np.inf
        return float(np.sqrt(max(0.0, self.null[allowed] - self.bonus[high, low])))

    def limits(self, high: int, low: int, critical: float) -> tuple[float, float]:
        """Limits of the difference of two groups' rates, each ``critical`` standard errors away.

        Both groups move towards each other (and apart), each by its share of the variance. The lower limit
        is above 0 exactly where z is above ``critical``; the limits hold the estimate and stay in [-1, 1].
        """
        moved = _moves(self.error[high], self.error[low], critical)
        estimate = float(self.share[high] - self.share[low])
        lower = _rate(self.angle[high] - moved[0]) - _rate(self.angle[low] + moved[1])
        upper = _rate(self.angle[high] + moved[0]) - _rate(self.angle[low] - moved[1])
        return min(float(lower), estimate), max(float(upper), estimate)

    def chance(self, high: int, low: int, critical: float) -> float:
        """The difference of two groups at z = ``critical``: chance does not go beyond.

        As far from 0 as the estimate is where their z are equal: above chance and significant are the same.
        """
        common = self._common_angle(high, low)

        def apart(z: float) -> float:
            up, down = _moves(self.error[high], self.error[low], z)
            return float(_rate(common + up) - _rate(common - down))

        estimate, told = float(self.share[high] - self.share[low]), apart(float(self.z[high, low]))
        scale = estimate / told if told > 0 and estimate > 0 else 1.0
        return min(1.0, apart(critical) * scale)

    def detectable(self, high: int, low: int, critical: float, power: float = 0.8) -> float:
        """The difference of two groups that so large a share of studies like this one find.

        One group is taken to have the rate that both have together, the other a rate above or below it:
        the larger of the two differences. NaN where no rate is far enough away.
        """
        common = self._common_angle(high, low)
        # Of groups of one size z moves in steps: a power goes with the middle of the step that is too small.
        above = self.null[self.null > critical**2 + self.bonus[high, low] + 2 * TIE]
        if len(above):
            critical = (critical + float(np.sqrt(above[-1] - self.bonus[high, low]))) / 2
        needed = (critical + ndtri(power)) * float(np.hypot(self.error[high], self.error[low]))
        others = [angle for angle in (common - needed, common + needed) if 0 <= angle <= np.pi / 2]
        return max((abs(_rate(angle) - _rate(float(common))) for angle in others), default=np.nan)

    def _common_angle(self, high: int, low: int) -> float:
        """The angle of both groups together."""
        return float(np.average(self.angle[[high, low]], weights=self.error[[high, low]] ** -2))


def compare_pairs(
    names: Sequence[str],
    share: np.ndarray,
    weight: np.ndarray,
    shuffled_share: np.ndarray,
    shuffled_weight: np.ndarray,
) -> PairTest:
    """The test of all pairs, from the groups as they are and shuffled.

    Args:
        names: of the groups.
        share, weight: (J,) see `PairTest`.
        shuffled_share, shuffled_weight: (B, J) the same in each permutation.
    """
    first, second = np.triu_indices(len(share), 1)
    observed = _scores(share, weight, first, second)
    order = np.argsort(-observed, kind="stable")
    first, second, observed = first[order], second[order], observed[order]
    largest, above = np.empty(len(shuffled_share)), np.zeros(len(order))
    size = max(1, BLOCK // len(order))
    for start in range(0, len(largest), size):
        block = slice(start, start + size)
        drawn = _scores(shuffled_share[block], shuffled_weight[block], first, second)
        largest[block] = drawn.max(axis=1)
        if len(share) == 3:
            # If one pair differs, only one of the other two can be alike: each is tested as if alone.
            drawn[:, 0] = largest[block]
        else:
            # Step-down (Westfall and Young 1993): a pair is held against those that differ no more than it.
            drawn = np.maximum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]
        above += (drawn >= observed - TIE).sum(axis=0)
    p_values = np.maximum.accumulate((1 + above) / (1 + len(largest)))
    p_pairs = np.ones((len(share), len(share)))
    p_pairs[first, second] = p_pairs[second, first] = p_values
    # `critical` asks for what is above it: a tie is not.
    return PairTest(list(names), share, weight, np.sort(largest)[::-1] + TIE, p_pairs)


def _scores(share: np.ndarray, weight: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(…, P) by which pairs of groups are compared: z², and more for pairs that can show more."""
    angle, variance = _angles(share, weight), _errors(weight) ** 2
    apart = angle[..., first] - angle[..., second]
    return apart**2 / (variance[..., first] + variance[..., second]) + _bonus(weight, first, second)


def _bonus(weight: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(…, P) `GAIN` times the log of each pair's information, against the mean of all pairs."""
    variance = _errors(weight) ** 2
    information = 1 / (variance[..., first] + variance[..., second])
    return GAIN * np.log(information / information.mean(axis=-1, keepdims=True))


def z_between(share: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(…) difference of two groups in standard errors, the first of (2, …) minus the second."""
    angle, error = _angles(share, weight), _errors(weight)
    return (angle[0] - angle[1]) / np.hypot(error[0], error[1])


def _angles(share: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Arcsine of the root of each rate, of `weight` rows, as Anscombe has it."""
    return np.arcsin(np.sqrt((share * weight + 0.375) / (weight + 0.75)))


def _errors(weight: np.ndarray) -> np.ndarray:
    """Standard error of `_angles`."""
    return 1 / np.sqrt(4 * weight + 2)


def _moves(high: float, low: float, critical: float) -> tuple[float, float]:
    """How far each of two angles moves until they are ``critical`` standard errors nearer or further."""
    both = float(np.hypot(high, low))
    if np.isinf(critical):
        return np.inf, np.inf
    return critical * high**2 / both, critical * low**2 / both


def _rate(angle: float) -> float:
    """The rate of an angle; 0 or 1 beyond them."""
    return float(np.sin(np.clip(angle, 0, np.pi / 2)) ** 2)
