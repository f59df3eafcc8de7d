"""What the frames of a video say together about who is shown."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from unmasked.datasets.manifest import DEMOGRAPHICS

_OF_ROWS = ("key", "frame", "path", "dataset", "label", "annotation")


def attributes_of(annotations: pd.DataFrame) -> list[str]:
    """The columns of annotations that are about people: the usual four, then groups of the file's own."""
    others = [str(name) for name in annotations if name not in (*_OF_ROWS, *DEMOGRAPHICS)]
    return [*DEMOGRAPHICS, *others]


class Decided(NamedTuple):
    """One value of each attribute a unit, and where the votes differed."""

    values: pd.DataFrame  # (U, attributes and annotation), a row a unit
    conflicts: dict[str, int]  # attribute -> units whose votes differ
    undecided: dict[str, int]  # attribute -> those left missing
    differing: (
        pd.DataFrame
    )  # a row a unit in conflict, attribute and value: unit, attribute, value, votes, taken


def decide(votes: pd.DataFrame, unit: np.ndarray, units: int, *, by_majority: bool) -> Decided:
    """The value of each attribute that all votes of a unit share, or most of them.

    Args:
        votes: (N, …) with the attributes and ``annotation``; a missing value is no vote.
        unit: (N,) which unit each vote is about, -1 for none.
        units: how many there are.
        by_majority: where votes differ, the most frequent value (missing on a tie); otherwise missing.
    """
    values, conflicts, undecided, differing = {}, {}, {}, []
    for attribute in attributes_of(votes):
        value, words = pd.factorize(votes[attribute])
        cast = (value >= 0) & (unit >= 0)
        pair, count = np.unique(unit[cast] * max(1, len(words)) + value[cast], return_counts=True)
        of_unit, of_value = pair // max(1, len(words)), pair % max(1, len(words))
        different = np.bincount(of_unit, minlength=units)  # values that each unit has votes for
        most = np.zeros(units, dtype=np.int64)
        np.maximum.at(most, of_unit, count)
        leading = count == most[of_unit]
        alone = np.bincount(of_unit[leading], minlength=units) == 1
        settled = (different == 1) | (by_majority & alone)
        taken = leading & settled[of_unit]
        winner = np.full(units, -1)
        winner[of_unit[taken]] = of_value[taken]
        values[attribute] = (
            pd.Series(words).reindex(winner).set_axis(range(units)).astype(votes[attribute].dtype)
        )
        conflicts[attribute] = int((different > 1).sum())
        undecided[attribute] = int(((different > 0) & ~settled).sum())
        told = different[of_unit] > 1
        differing.append(
            pd.DataFrame(
                {"unit": of_unit[told], "value": of_value[told], "votes": count[told], "taken": taken[told]}
            )
            .assign(attribute=attribute)
            .assign(
                value=lambda rows, words=words: pd.Series(words).reindex(rows["value"]).astype(str).to_numpy()
            )
        )
    first = pd.Series(votes["annotation"].to_numpy(), unit)[lambda each: ~each.index.duplicated()]
    values["annotation"] = first.reindex(range(units)).astype(votes["annotation"].dtype)
    return Decided(pd.DataFrame(values), conflicts, undecided, pd.concat(differing, ignore_index=True))
