"""Mean maps in one face frame, and whether those of two groups differ.

All crops are aligned by five points, so that a cell of the map is the same part of the face in each. Every
map counts alike, as shares of its own sum, and every person counts once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from unmasked.analysis.explain.checks import CELLS, cell_means
from unmasked.evaluation.levels import clusters_of, named_by_dataset
from unmasked.fairness.groups import UNKNOWN, group_columns, order_groups
from unmasked.fairness.statistics.resampling import holm

Array = NDArray[np.float64]

PEOPLE_MIN = 5  # of each group, to be compared
PERMUTATIONS = 2000
LEVEL = 0.05


@dataclass(frozen=True)
class MeanMap:
    """The mean map of a kind of crops.

    Attributes:
        dataset: which.
        of: "all", or the attribute and group, or "method".
        name: of the group or method.
        people: how many maps it is the mean of, one a person.
        cells: (side, side) shares of the map, in percent of its sum.
    """

    dataset: str
    of: str
    name: str
    people: int
    cells: Array


class GroupDifference(BaseModel):
    """Whether a detector looks elsewhere on people of one group than of another.

    Attributes:
        dataset, kind: which crops: "real" or "fake".
        attribute, groups, people: who was compared, and how many of each.
        p: of no difference anywhere (permutation of people, largest of all cells).
        p_adjusted: the same, corrected for all comparisons (Holm).
        difference: (side, side) mean of the first group less that of the second, in percent of a map's sum.
        p_cells: (side, side) of each cell, corrected for all cells.
        reason: why it was not tested; then p is NaN.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    kind: str
    attribute: str
    groups: tuple[str, str]
    people: tuple[int, int]
    p: float = float("nan")
    p_adjusted: float = float("nan")
    difference: list[list[float]] = []
    p_cells: list[list[float]] = []
    reason: str = ""

    @property
    def is_found(self) -> bool:
        """True if the two differ somewhere, corrected for cells and comparisons."""
        return self.p_adjusted <= LEVEL


def map_cells(maps: NDArray[np.float32]) -> Array:
    """(N, cells) maps (N, H, W) as percent of their sum; 0 where they hold nothing."""
    cells = cell_means(maps)
    total = np.abs(cells).sum(axis=1, keepdims=True)
    return 100 * np.divide(cells, total, out=np.zeros_like(cells), where=total > 0)


def mean_maps(rows: pd.DataFrame, cells: Array, by: Sequence[str] = ()) -> Iterator[MeanMap]:
    """The mean map of each dataset's methods, reals among them, and of each group's fakes.

    Args:
        rows: N crops: dataset, video, label, method, identity if known, and the attributes.
        cells: (N, C) see `map_cells`.
        by: attributes, as of `group_columns`.
    """
    groups = group_columns(rows, by) if by else pd.DataFrame(index=rows.index)
    for dataset in rows["dataset"].unique():
        here = (rows["dataset"] == dataset).to_numpy()
        chosen = [("method", str(name), rows["method"] == name) for name in _methods(rows[here])]
        chosen += [
            (f"{kind}s by {attribute}", name, (groups[attribute] == name) & (rows["label"] == label))
            for attribute in groups
            for label, kind in enumerate(("real", "fake"))
            for name in order_groups(list(groups.loc[here, attribute].unique()))
        ]
        for of, name, is_of in chosen:
            if (mask := here & is_of.to_numpy()).any():
                own = _by_person(rows[mask], cells[mask])[0]
                yield MeanMap(str(dataset), of, name, len(own), _square(own.mean(axis=0)))


def group_differences(
    rows: pd.DataFrame, cells: Array, by: Sequence[str], *, seed: int = 0
) -> list[GroupDifference]:
    """Every two groups of every attribute, reals and fakes of each dataset by themselves.

    Arguments are those of `mean_maps`. Groups that nobody is in, or whose group is not known, are left out.
    """
    groups = group_columns(rows, by)
    found = []
    for dataset in rows["dataset"].unique():
        for label, kind in enumerate(("real", "fake")):
            here = ((rows["dataset"] == dataset) & (rows["label"] == label)).to_numpy()
            for attribute in groups:
                names = [n for n in order_groups(list(groups.loc[here, attribute].unique())) if n != UNKNOWN]
                for pair in combinations(names, 2):
                    mask = here & groups[attribute].isin(pair).to_numpy()
                    own, first = _by_person(rows[mask], cells[mask])
                    is_first = (groups.loc[mask, attribute] == pair[0]).to_numpy()[first]
                    people = (int(is_first.sum()), int((~is_first).sum()))
                    known: dict[str, Any] = {
                        "dataset": str(dataset),
                        "kind": kind,
                        "attribute": str(attribute),
                    }
                    known |= {"groups": pair, "people": people}
                    if min(people) < PEOPLE_MIN:
                        known["reason"] = f"fewer than {PEOPLE_MIN} people of a group"
                    else:
                        known |= compare(own, is_first, seed=seed)
                    found.append(GroupDifference(**known))
    adjusted = holm(np.array([one.p for one in found]))
    return [one.model_copy(update={"p_adjusted": float(p)}) for one, p in zip(found, adjusted, strict=True)]


def compare(
    cells: Array, is_first: NDArray[np.bool_], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> dict[str, object]:
    """The difference of two groups' mean maps, its p-value, and that of each cell.

    Each cell's difference is measured in standard deviations of that cell over all people, which no
    permutation changes; a permutation's largest cell is what the cells are held against (Westfall & Young
    1993), so that 256 cells cost no more than one.

    Args:
        cells: (people, C).
        is_first: (people,) True in the first group.
        permutations: of who is in which group.
        seed: of these.
    """
    spread = cells.std(axis=0)
    scaled = np.divide(cells, spread, out=np.zeros_like(cells), where=spread > 1e-12)
    generator = np.random.default_rng(seed)
    draws = np.stack([is_first, *(generator.permutation(is_first) for _ in range(permutations))])
    first = is_first.sum()
    weights = np.where(draws, 1 / first, -1 / (len(is_first) - first))
    size = np.abs(weights @ scaled)  # (1 + permutations, C), the first is what was seen
    # Rounding must not make a permutation that is what was seen smaller than it.
    largest = size.max(axis=1) * (1 + 1e-9)
    p_cells = (largest[:, None] >= size[0]).mean(axis=0)
    return {
        "p": float(p_cells.min()),
        "difference": _square(weights[0] @ cells).tolist(),
        "p_cells": _square(p_cells).tolist(),
    }


def _by_person(rows: pd.DataFrame, cells: Array) -> tuple[Array, NDArray[np.int64]]:
    """(people, C) the mean map of each person, and the first row of each."""
    _, first, person = np.unique(clusters_of(named_by_dataset(rows)), return_index=True, return_inverse=True)
    sums = np.zeros((len(first), cells.shape[1]))
    np.add.at(sums, person, cells)
    return sums / np.bincount(person)[:, None], first


def _methods(rows: pd.DataFrame) -> list[str]:
    ordered = rows.sort_values("label", kind="stable")["method"].dropna().unique()
    return [str(one) for one in ordered]


def _square(cells: Array) -> Array:
    side = round(np.sqrt(len(cells)))
    assert side <= CELLS
    return cells.reshape(side, side)
