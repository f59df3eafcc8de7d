"""What became of the rows that a command was given: used, or left out for a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from unmasked.evaluation.predictions import choose_test_split, is_perturbed


@dataclass
class RowCount:
    """Rows given, and those left out by reason; what remains is used.

    >>> count = RowCount(given=10)
    >>> count.leave_out({"no score": 2, "of split train": 3})
    >>> count.used, count.text()
    (5, '10 given, 5 used; left out: 2 no score, 3 of split train')
    """

    given: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """Rows that a number is of."""
        return self.given - sum(self.left_out.values())

    def leave_out(self, counted: Mapping[str, int]) -> None:
        """Adds rows that were left out, by reason."""
        for reason, count in counted.items():
            if count:
                self.left_out[reason] = self.left_out.get(reason, 0) + int(count)

    def text(self) -> str:
        """The counts in a line."""
        listed = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        return f"{self.given} given, {self.used} used" + (f"; left out: {listed}" if listed else "")


def left_out_rows(predictions: pd.DataFrame) -> dict[str, int]:
    """How many rows `evaluated_rows` leaves out, by reason."""
    moved = is_perturbed(predictions).to_numpy()
    kept, _ = choose_test_split(predictions, ~moved)
    counted = {"of perturbed crops": int(moved.sum())} if moved.any() else {}
    lost = ~moved & ~np.asarray(kept)
    if lost.any():
        by_split = predictions.loc[lost, "split"].value_counts()
        counted |= {f"of split {name}": int(by_split[name]) for name in sorted(by_split.index)}
        counted["without a split"] = int(lost.sum() - by_split.sum())
    return counted
