"""How far two sets of images are apart, by their features: FID, KID, precision and recall.

Fréchet distance: Heusel et al., arxiv.org/abs/1706.08500; without limit of rows: Chong and Forsyth,
arxiv.org/abs/1911.07023; kernel distance: Bińkowski et al., arxiv.org/abs/1801.01401; precision and recall:
Kynkäänniemi et al., arxiv.org/abs/1904.06991. Rows are read in blocks, so that features may lie in a file
that is larger than the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy import linalg, special

from unmasked.datasets.errors import InputError

Array = Any  # (n, d) of floats: an array, one that lies in a file, or a `Subset`
BLOCK = 1024  # rows that are looked at together
SIZES = 15  # of the line that is extrapolated, as in the paper
SPLITS = 4  # into halves, for the floor
NEIGHBOURS = 3
MANIFOLD_ROWS = 10_000  # at most so many of a set for precision and recall, as in the paper
CONFIDENCE = 0.95


@dataclass
class Moments:
    """Mean and scatter of the rows so far.

    The scatter is kept as a factor F with F.T @ F = sum of (x - mean)(x - mean).T, of at most d rows. It is
    never squared, so digits of a large mean are not lost, and what is kept does not grow with the rows.

    Attributes:
        n: rows.
        mean: (d,).
        factor: (k, d), k <= d where rows were many.
    """

    n: int
    mean: NDArray[np.float64]
    factor: NDArray[np.float64]

    @classmethod
    def of(cls, features: Array) -> Moments:
        """Of (n, d) rows.

        Raises:
            InputError: fewer than two rows, or values that are not finite.
        """
        if features.ndim != 2 or len(features) < 2:
            raise InputError(f"features of shape {features.shape}: give two rows (n, d) or more")
        found = cls(0, np.zeros(features.shape[1]), np.zeros((0, features.shape[1])))
        for rows in blocks(features):
            found.add(rows)
        return found

    def add(self, rows: NDArray[np.float64]) -> None:
        """Takes (n, d) more rows in."""
        if not np.isfinite(rows).all():
            raise InputError("features hold values that are not finite; look at the images or the weights")
        n, mean = len(rows), rows.mean(0)
        # What the means of both parts add to the scatter is one more row.
        apart = np.sqrt(self.n * n / (self.n + n)) * (mean - self.mean)
        stacked = np.concatenate([self.factor, rows - mean, apart[None]])
        if len(stacked) > stacked.shape[1]:
            stacked = linalg.qr(stacked, mode="r", check_finite=False)[0][: stacked.shape[1]]
        self.mean = self.mean + (mean - self.mean) * n / (self.n + n)
        self.n, self.factor = self.n + n, stacked

    def distance(self, other: Moments) -> float:
        """The squared Fréchet distance of the two normal laws.

        Tr (S1 S2)^{1/2} is the sum of the singular values of F1 F2.T: no root of a matrix, and exact where
        rows are fewer than columns.
        """
        one, two = (side.factor / math.sqrt(side.n - 1) for side in (self, other))
        shared = linalg.svdvals(one @ two.T, check_finite=False).sum()
        means = np.sum((self.mean - other.mean) ** 2)
        return float(means + np.sum(one**2) + np.sum(two**2) - 2 * shared)


def blocks(features: Array) -> Iterator[NDArray[np.float64]]:
    """The rows of (n, d) features, `BLOCK` at a time, in float64."""
    for start in range(0, len(features), BLOCK):
        yield np.asarray(features[start : start + BLOCK], np.float64)


def frechet_distance(a: Array, b: Array) -> float:
    """Squared Fréchet distance of normal laws fitted to two sets; 0 is equal, lower is better.

    |m1 - m2|² + Tr S1 + Tr S2 - 2 Tr (S1 S2)^{1/2}, S with n - 1. It grows as n shrinks (by a constant / n
    once n > d), so only numbers of the same n and of the same extractor compare.

    Args:
        a, b: (n, d) and (m, d) features.

    Raises:
        InputError: other numbers of columns, fewer than two rows, or values that are not finite.

    >>> frechet_distance(np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]]))
    1.0
    """
    check_alike(a, b)
    return Moments.of(a).distance(Moments.of(b))


def check_alike(a: Array, b: Array) -> None:
    """Raises InputError where two sets of features are not of one extractor."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(
            f"features of shapes {a.shape} and {b.shape}; give (n, d) and (m, d), of one extractor"
        )


@dataclass(frozen=True)
class Interval:
    """A number with its interval; NaN where there is not enough data."""

    value: float
    low: float
    high: float


def kernel_distance(
    a: Array, b: Array, *, units_a: NDArray | None = None, units_b: NDArray | None = None
) -> Interval:
    """Unbiased squared kernel distance (KID); 0 on average for one law, so it may be negative.

    Mean of k(x, x') and of k(y, y') over pairs of rows of different units, minus twice the mean of k(x, y),
    with k = (x·y / d + 1)³. Frames of one video are alike, so pairs of them would add a distance that is
    none. The interval is a jackknife's, which leaves one unit out at a time.

    Args:
        a, b: (n, d) and (m, d) features.
        units_a, units_b: (n,) and (m,) to which unit each row belongs; each to its own if not given.

    Raises:
        InputError: as of `frechet_distance`.
    """
    check_alike(a, b)
    one, two = _Pairs.of(a, units_a), _Pairs.of(b, units_b)
    across_a, across_b = _sums_across(a, b, one.unit, two.unit)
    across = across_a.sum()
    n, m = len(a), len(b)
    value = one.mean() + two.mean() - 2 * across / (n * m)
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing is left without the only unit: NaN
        left_a = one.means_without() + two.mean() - 2 * (across - across_a) / ((n - one.size) * m)
        left_b = one.mean() + two.means_without() - 2 * (across - across_b) / (n * (m - two.size))
        variance = sum((len(left) - 1) * np.var(left) for left in (left_a, left_b))
    fewest = min(len(left_a), len(left_b))
    reach = -special.stdtrit(max(fewest - 1, 1), (1 - CONFIDENCE) / 2) * math.sqrt(variance)
    reach = reach if fewest > 2 else math.nan
    return Interval(float(value), float(value - reach), float(value + reach))


@dataclass(frozen=True)
class _Pairs:
    """Sums of the kernel over pairs of rows of different units of one set."""

    unit: NDArray[np.int64]  # (n,) of each row, from 0
    size: NDArray[np.int64]  # (units,) rows
    touching: NDArray[np.float64]  # (units,) over pairs whose first row is of the unit

    @classmethod
    def of(cls, x: Array, units: NDArray | None) -> _Pairs:
        unit = np.arange(len(x)) if units is None else np.unique(units, return_inverse=True)[1]
        size = np.bincount(unit)
        touching = np.zeros(len(size))
        for first in range(0, len(x), BLOCK):
            for second in range(0, len(x), BLOCK):
                rows, columns = slice(first, first + BLOCK), slice(second, second + BLOCK)
                kernel = _kernel(x[rows], x[columns])
                kernel[unit[rows, None] == unit[None, columns]] = 0
                touching += np.bincount(unit[rows], kernel.sum(1), minlength=len(size))
        return cls(unit, size, touching)

    def mean(self) -> float:
        pairs = self.size.sum() ** 2 - (self.size**2).sum()
        return self.touching.sum() / pairs if pairs else math.nan

    def means_without(self) -> NDArray[np.float64]:
        """(units,) the mean over all other units' rows."""
        left = self.size.sum() - self.size
        pairs = left**2 - ((self.size**2).sum() - self.size**2)
        sums = self.touching.sum() - 2 * self.touching
        return np.divide(sums, pairs, out=np.full(len(left), math.nan), where=pairs > 0)


def _sums_across(
    a: Array, b: Array, unit_a: NDArray[np.int64], unit_b: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of k(x, y) by the unit of x, and by that of y."""
    by_a, by_b = np.zeros(unit_a.max() + 1), np.zeros(unit_b.max() + 1)
    for first in range(0, len(a), BLOCK):
        for second in range(0, len(b), BLOCK):
            rows, columns = slice(first, first + BLOCK), slice(second, second + BLOCK)
            kernel = _kernel(a[rows], b[columns])
            by_a += np.bincount(unit_a[rows], kernel.sum(1), minlength=len(by_a))
            by_b += np.bincount(unit_b[columns], kernel.sum(0), minlength=len(by_b))
    return by_a, by_b


def _kernel(x: Array, y: Array) -> NDArray[np.float64]:
    return (np.asarray(x, np.float64) @ np.asarray(y, np.float64).T / x.shape[1] + 1) ** 3


def precision_recall(reals: Array, fakes: Array, *, seed: int = 0) -> tuple[float, float]:
    """Shares of fakes near the reals, and of reals near the fakes; both in [0, 1].

    A row is among a set's neighbours if it is nearer to some row of it than that row's third nearest one.
    Precision falls where fakes look wrong, recall where they show only some of what there is.

    Args:
        reals, fakes: (n, d) and (m, d) features; of more than `MANIFOLD_ROWS` so many are drawn.
        seed: of that.
    """
    check_alike(reals, fakes)
    rng = np.random.default_rng(seed)
    if min(len(reals), len(fakes)) <= NEIGHBOURS:
        return math.nan, math.nan
    one, two = (np.asarray(_draw(side, MANIFOLD_ROWS, rng)[:], np.float64) for side in (reals, fakes))
    return _share_inside(one, two), _share_inside(two, one)


@dataclass(frozen=True)
class Subset:
    """Some rows of features that lie in a file; only what is looked at is read."""

    features: Array
    rows: NDArray[np.int64]

    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, d)."""
        return len(self.rows), self.features.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> Array:
        return self.features[self.rows[part]]


def _draw(features: Array, count: int, rng: np.random.Generator) -> Subset:
    """So many rows at random, or all of them where they are fewer."""
    rows = rng.choice(len(features), min(count, len(features)), replace=False)
    return Subset(features, np.sort(rows))


def _share_inside(of: NDArray[np.float64], rows: NDArray[np.float64]) -> float:
    """Share of rows that lie in the balls around the rows of a set."""
    # The nearest row of a row is the row itself.
    near = [np.partition(_squared(block, of), NEIGHBOURS, axis=1)[:, NEIGHBOURS] for block in blocks(of)]
    radius = np.concatenate(near)
    inside = [(_squared(block, of) <= radius).any(1) for block in blocks(rows)]
    return float(np.concatenate(inside).mean())


def _squared(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)


def extrapolate(a: Array, b: Array, *, seed: int = 0) -> float:
    """The Fréchet distance for infinitely many rows; NaN below 2 d rows.

    A straight line through the distances of `SIZES` random shares s of both sets, in 1 / s, taken to 0.
    """
    check_alike(a, b)
    n, d = min(len(a), len(b)), a.shape[1]
    if n < 2 * d:
        return math.nan
    rng = np.random.default_rng(seed)
    shares = np.linspace(max(0.2, (d + 1) / n), 1, SIZES)
    found = [_distance_of_share(a, b, share, rng) for share in shares]
    return float(np.polyfit(1 / shares, found, 1)[1])


def _distance_of_share(a: Array, b: Array, share: float, rng: np.random.Generator) -> float:
    return frechet_distance(*(_draw(side, max(2, round(share * len(side))), rng) for side in (a, b)))


class Floor(BaseModel):
    """What two halves of the reals are apart: the least that a perfect generator would reach.

    Attributes:
        n: rows in a half.
        frechet, kid: means over `SPLITS` random halvings; of videos, where several rows are of one.
        frechet_of_sets: of the two sets, with as many rows a side, to compare with.
    """

    n: int
    frechet: float
    kid: float
    frechet_of_sets: float


def floor(a: Array, b: Array, *, units_a: NDArray | None = None, seed: int = 0) -> Floor:
    """The distance of two halves of ``a``, and that of ``a`` and ``b`` at the same size.

    Args:
        a, b: (n, d) features of reals, and of what is held against them.
        units_a: (n,) whole units go to one half.
        seed: of the halves.

    Raises:
        InputError: fewer than two units, or four rows.
    """
    units = np.arange(len(a)) if units_a is None else np.unique(units_a, return_inverse=True)[1]
    count = int(units.max(initial=-1)) + 1
    if count < 2 or len(a) < 4:
        raise InputError(f"{len(a)} reals of {count} videos cannot be halved; give more")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(SPLITS):
        is_first = (rng.permutation(count) < count / 2)[units]
        one, two = (Subset(a, np.flatnonzero(half)) for half in (is_first, ~is_first))
        if min(len(one), len(two)) > 1:
            sets = _draw(a, len(one), rng), _draw(b, len(one), rng)
            pair = frechet_distance(one, two), kernel_distance(one, two).value, frechet_distance(*sets)
            found.append((min(len(one), len(two)), *pair))
    n, frechet, kid, sets_apart = np.mean(found, axis=0).tolist()
    return Floor(n=round(n), frechet=frechet, kid=kid, frechet_of_sets=sets_apart)


class Distance(BaseModel):
    """Everything that is known of how far two sets are apart.

    Attributes:
        d: numbers of a feature.
        n_a, n_b: images.
        units_a, units_b: what they are of: people, videos, or images where nothing is known.
        frechet: see `frechet_distance`.
        frechet_infinite: see `extrapolate`.
        kid, kid_ci: see `kernel_distance`.
        precision, recall: see `precision_recall`.
        floor: see `Floor`.
        warnings: sentences.
    """

    d: int
    n_a: int
    n_b: int
    units_a: int
    units_b: int
    frechet: float
    frechet_infinite: float
    kid: float
    kid_ci: tuple[float, float]
    precision: float
    recall: float
    floor: Floor
    warnings: list[str]


def compare(
    a: Array,
    b: Array,
    *,
    units: tuple[NDArray, NDArray] | None = None,
    below_d: bool = False,
    seed: int = 0,
) -> Distance:
    """How far the features of two sets are apart, by every measure.

    Args:
        a, b: (n, d) features of the reals, and (m, d) of what is held against them.
        units: of the rows of both; each row its own if not given.
        below_d: give the Fréchet distance of fewer rows than columns, with a warning.
        seed: of halves, sizes and of rows drawn for precision and recall.

    Raises:
        InputError: fewer rows than columns and not `below_d`; see `frechet_distance` and `floor`.
    """
    check_alike(a, b)
    d, fewest = a.shape[1], min(len(a), len(b))
    warning = few_rows(fewest, d)
    if warning and not below_d:
        raise InputError(
            f"{warning}. Give {d} or more of both; or below_d=true, for KID, precision and recall, and a "
            "Fréchet distance that says so"
        )
    warnings = [warning] if warning else []
    if not warning and fewest // 2 < d:
        warnings.append(
            f"a half of the reals has fewer than {d} images: the floor's Fréchet distance is high"
        )
    units_a, units_b = units or (np.arange(len(a)), np.arange(len(b)))
    kernel = kernel_distance(a, b, units_a=units_a, units_b=units_b)
    precision, recall = precision_recall(a, b, seed=seed)
    return Distance(
        d=d,
        n_a=len(a),
        n_b=len(b),
        units_a=len(np.unique(units_a)),
        units_b=len(np.unique(units_b)),
        frechet=frechet_distance(a, b),
        frechet_infinite=extrapolate(a, b, seed=seed),
        kid=kernel.value,
        kid_ci=(kernel.low, kernel.high),
        precision=precision,
        recall=recall,
        floor=floor(a, b, units_a=units_a, seed=seed),
        warnings=warnings,
    )


def few_rows(n: int, d: int) -> str:
    """What is wrong with fewer rows than columns; "" where nothing is.

    >>> few_rows(100, 64)
    ''
    """
    if n >= d:
        return ""
    return (
        f"{n} images are fewer than the {d} numbers of a feature: the Fréchet distance is then mostly the "
        "sample's own error; KID does not suffer from it"
    )
