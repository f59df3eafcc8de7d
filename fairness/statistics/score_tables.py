"""Ranking and calibration metrics of many resamples, from counts by class and level.

Rows are counted in cells: a class and one of some 250 levels of the score, cut by rank and at the edges of
the calibration bins. That is fine enough for a variance, and a resample of a million rows is one vector of
500 counts. Values that are reported themselves come from every distinct score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unmasked.evaluation.counts import calibration_bin, levels_of, ratio
from unmasked.evaluation.intervals import Sample, weighted_metrics
from unmasked.fairness.statistics.resampling import random_tables

LEVELS = 250


@dataclass(frozen=True)
class Levels:
    """The rows of an audit by cell: the reals' levels, high to low, then the fakes'."""

    cell: np.ndarray  # (N,)
    size: int  # levels; there are twice as many cells
    cells: Sample  # one row a cell, with the mean score of its level; each a cluster
    rank: np.ndarray  # (N,) 0 for the highest of the distinct scores
    ranks: int

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.cell)


def cut(label: np.ndarray, score: np.ndarray, levels: int = LEVELS) -> Levels:
    """The levels of a set of scores."""
    distinct, rank = levels_of(score)
    by_rank = np.arange(len(distinct)) * levels // len(distinct) if len(distinct) > levels else None
    bins = calibration_bin(distinct)
    # A new level begins where the rank's or the bin does.
    coarse = np.arange(len(distinct)) if by_rank is None else by_rank
    begins = (np.diff(coarse, prepend=coarse[:1]) != 0) | (np.diff(bins, prepend=bins[:1]) != 0)
    level = np.cumsum(begins)
    size = int(level[-1]) + 1
    cell = level[rank] + size * label
    # One score for a level, or a real and a fake that are tied would not be.
    mean = np.bincount(level[rank], weights=score, minlength=size) / np.bincount(level[rank], minlength=size)
    cells = Sample(np.repeat([0, 1], size), np.tile(mean, 2), np.arange(2 * size), 2 * size)
    return Levels(
        cell=cell,
        size=size,
        cells=cells,
        rank=rank,
        ranks=len(distinct),
    )


def metrics_of(
    counts: np.ndarray, levels: Levels, names: Sequence[str], threshold: float = 0.5
) -> dict[str, np.ndarray]:
    """Metrics of shuffled groups, each (R,), from their counts by cell (R, 2 size).

    NaN if undefined.
    """
    return weighted_metrics(levels.cells, counts.T, threshold, names)


def permute_cells(
    cell: np.ndarray,
    unit: np.ndarray,
    codes: np.ndarray,
    stratum: np.ndarray,
    size: int,
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(n, J, cells) counts of each group after shuffling group labels inside each stratum.

    Units of one row in the same cell are interchangeable, and whole cells of them are dealt at once.

    Args:
        cell: (N,) cell of each row.
        unit: (N,) unit of each row, 0 … C-1.
        codes: (C,) group of each unit, 0 … J-1, every one of them present.
        stratum: (C,) class composition of each unit.
        size: the number of cells.
        n: permutations.
        rng: source of randomness.
    """
    groups = int(codes.max()) + 1
    total = np.zeros((n, groups, size))
    for part in _strata(cell, unit, stratum, size):
        sizes = np.bincount(codes[part.member], minlength=groups)
        # How many of each group's labels fall on units of several rows, and which of these get them.
        of_several = rng.multivariate_hypergeometric(sizes, len(part.several), size=n)
        if len(part.several):
            for number, labels in enumerate(of_several):
                shuffled = rng.permutation(np.repeat(np.arange(groups), labels))
                place = shuffled[part.unit] * size + part.cell
                total[number] += np.bincount(place, minlength=groups * size).reshape(groups, size)
        present = np.flatnonzero(part.alone)
        tables = random_tables(part.alone[present], sizes - of_several, rng)
        for kind, taken in zip(present, tables, strict=True):
            total[:, :, kind] += taken
    return total


@dataclass(frozen=True)
class _Stratum:
    """The units of one class composition: those of one row by cell, the others one by one."""

    member: np.ndarray  # (C,) boolean
    alone: np.ndarray  # (cells,) units of a single row
    several: np.ndarray  # units of several rows
    cell: np.ndarray  # (M,) cell of each of their rows
    unit: np.ndarray  # (M,) place of its unit in `several`


def _strata(cell: np.ndarray, unit: np.ndarray, stratum: np.ndarray, size: int) -> Iterator[_Stratum]:
    single = np.bincount(unit, minlength=len(stratum)) == 1
    for code in np.unique(stratum):
        member = stratum == code
        several = np.flatnonzero(member & ~single)
        place = np.full(len(stratum), -1)
        place[several] = np.arange(len(several))
        rows = place[unit] >= 0
        yield _Stratum(
            member=member,
            alone=np.bincount(cell[(member & single)[unit]], minlength=size),
            several=several,
            cell=cell[rows],
            unit=place[unit[rows]],
        )


def cross_auc(counts: np.ndarray, levels: Levels) -> np.ndarray:
    """(J, J, R): how often a fake of group g scores above a real of group h, ties half.

    Args:
        counts: (J, R, 2 size) counts by cell of each group.
        levels: of the cells.
    """
    real, fake = counts[..., : levels.size], counts[..., levels.size :]
    # Reals below a level, and half of those on it.
    below = real.sum(axis=-1, keepdims=True) - np.cumsum(real, axis=-1) + real / 2
    won = np.matmul(fake.transpose(1, 0, 2), below.transpose(1, 2, 0))  # (R, J, size) @ (R, size, J)
    pairs = fake.sum(axis=-1).T[:, :, None] * real.sum(axis=-1).T[:, None, :]
    return ratio(won, pairs).transpose(1, 2, 0)


def exact_cross_auc(label: np.ndarray, codes: np.ndarray, groups: int, levels: Levels) -> np.ndarray:
    """(J, J) as `cross_auc`, from every distinct score; negative codes count nowhere."""
    fake = (label == 1) & (codes >= 0)
    pairs, won = np.zeros((2, groups, groups))
    n_fake = np.bincount(codes[fake], minlength=groups)
    for group in range(groups):
        real = np.bincount(levels.rank[(label == 0) & (codes == group)], minlength=levels.ranks)
        below = real.sum() - np.cumsum(real) + real / 2
        won[:, group] = np.bincount(codes[fake], weights=below[levels.rank[fake]], minlength=groups)
        pairs[:, group] = n_fake * real.sum()
    return ratio(won, pairs)
