"""Ranking and calibration metrics of many resamples at once, from counts by class and score level.

Rows are counted in cells: a class and one of some 250 levels of the score, cut by rank and at the edges of
the calibration bins. That is fine enough for a variance, and a resample of a million rows is one vector of
500 counts. Values that are reported themselves come from every distinct score (`metrics.score_metrics`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from unmasked.evaluation.counts import CALIBRATION_BINS, RANKING, cumulated, levels_of, ratio
from unmasked.fairness.metrics import BLOCK, SCORE_METRICS

LEVELS = 250


@dataclass(frozen=True)
class Levels:
    """The rows of an audit by cell; cells are the levels of the reals, high to low, then of the fakes."""

    cell: np.ndarray  # (N,)
    size: int  # levels; there are twice as many cells
    residual: np.ndarray  # (2 size,) mean of label - score in a cell, 0 if empty
    squared: np.ndarray  # (2 size,) mean of its square
    bin_of: np.ndarray  # (2 size,) calibration bin
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
    bins = np.minimum((distinct * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    # A new level begins where the rank's or the bin does.
    coarse = np.arange(len(distinct)) if by_rank is None else by_rank
    begins = (np.diff(coarse, prepend=coarse[:1]) != 0) | (np.diff(bins, prepend=bins[:1]) != 0)
    level = np.cumsum(begins)
    size = int(level[-1]) + 1
    cell = level[rank] + size * label
    rows = np.maximum(np.bincount(cell, minlength=2 * size), 1)
    bin_of = np.zeros(size, dtype=np.int64)
    bin_of[level] = bins
    return Levels(
        cell=cell,
        size=size,
        residual=np.bincount(cell, weights=label - score, minlength=2 * size) / rows,
        squared=np.bincount(cell, weights=(label - score) ** 2, minlength=2 * size) / rows,
        bin_of=np.tile(bin_of, 2),
        rank=rank,
        ranks=len(distinct),
    )


def metrics_of(counts: np.ndarray, levels: Levels) -> dict[str, np.ndarray]:
    """`SCORE_METRICS` of resamples, each (R,), from their counts by cell (R, 2 size); NaN if undefined."""
    fp, tp = curves(counts, levels)
    total = counts.sum(axis=1)
    in_bin = np.zeros((2 * levels.size, CALIBRATION_BINS))
    in_bin[np.arange(2 * levels.size), levels.bin_of] = levels.residual
    values = {name: RANKING[name](fp, tp) for name in ("auc", "eer")}
    values["brier"] = ratio(counts @ levels.squared, total)
    values["ece"] = ratio(np.abs(counts @ in_bin).sum(axis=1), total)
    return {name: values[name] for name in SCORE_METRICS}


def curves(counts: np.ndarray, levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    """``fp`` and ``tp``, each (size + 1, R): reals and fakes at or above each level."""
    real, fake = counts[:, : levels.size].T, counts[:, levels.size :].T
    return cumulated(real), cumulated(fake)


def bootstrapped(
    cell: np.ndarray, unit: np.ndarray, stratum: np.ndarray, size: int, n: int, rng: np.random.Generator
) -> np.ndarray:
    """(n, cells) counts by cell of units drawn with replacement inside each stratum.

    Args:
        cell: (N,) cell of each row.
        unit: (N,) unit of each row, 0 … C-1.
        stratum: (C,) class composition of each unit.
        size: the number of cells.
        n: resamples.
        rng: source of randomness.
    """
    if len(unit) == len(stratum):
        # A row is a unit: units in the same cell are interchangeable, and whole cells can be drawn.
        drawn = np.zeros((n, size))
        of_row = stratum[unit]
        for code in np.unique(of_row):
            rows = np.bincount(cell[of_row == code], minlength=size)
            drawn += rng.multinomial(int(rows.sum()), rows / rows.sum(), size=n)
        return drawn
    ones = np.ones(len(cell))
    table = sparse.csr_matrix((ones, (cell, unit)), shape=(size, len(stratum)))
    members = [np.flatnonzero(stratum == code) for code in np.unique(stratum)]
    step = max(1, BLOCK // len(stratum))
    blocks = []
    for first in range(0, n, step):
        weight = np.zeros((min(step, n - first), len(stratum)))
        for row in weight:
            for member in members:
                row[member] = np.bincount(rng.integers(len(member), size=len(member)), minlength=len(member))
        blocks.append((table @ weight.T).T)
    return np.concatenate(blocks)


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
    """(J, J) as `cross_auc`, from every distinct score; rows with a negative code count nowhere."""
    fake = (label == 1) & (codes >= 0)
    pairs, won = np.zeros((2, groups, groups))
    n_fake = np.bincount(codes[fake], minlength=groups)
    for group in range(groups):
        real = np.bincount(levels.rank[(label == 0) & (codes == group)], minlength=levels.ranks)
        below = real.sum() - np.cumsum(real) + real / 2
        won[:, group] = np.bincount(codes[fake], weights=below[levels.rank[fake]], minlength=groups)
        pairs[:, group] = n_fake * real.sum()
    return ratio(won, pairs)
