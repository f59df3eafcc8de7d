"""The cross-dataset matrix as a heat map: trained on each row, tested on each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from unmasked.analysis.figures.display import Display, new_axes, shorten_name
from unmasked.evaluation.records import CollectionResults, ProtocolRow, Results
from unmasked.evaluation.wording import NOT_ENOUGH, ends, value_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COLOURS = "cividis"  # even in brightness, and the same for every kind of colour vision
CHANCE_AUC = 0.5


@dataclass(frozen=True)
class Cell:
    """Video AUC of one detector on one dataset, NaN where undefined."""

    row: str
    column: str
    value: float
    low: float
    high: float
    real: int
    fake: int
    is_source: bool  # tested where it was trained


@dataclass
class MatrixDisplay(Display):
    """AUC for each pair of training and test dataset; one row if there is one detector."""

    cells: Sequence[Cell]

    @classmethod
    def from_results(cls, results: Results | CollectionResults) -> MatrixDisplay:
        """From ``protocols`` of metrics.json, else from its matrix."""
        found = cross_dataset(results)
        if "matrix" in results and not found:
            own, cells = cast(Results, results), []
            for one in own["matrix"]:
                n, name = own["datasets"][one["test"]]["n"], one["train"]
                value = (one["auc"], *ends(one["ci"]), n["real_videos"], n["fake_videos"])
                cells.append(Cell(name, one["test"], *value, name == one["test"]))
            return cls(cells)
        return cls(
            [
                Cell(
                    name,
                    row["test"],
                    row["auc"],
                    *ends(row["auc_ci"]),
                    row["real_videos"],
                    row["fake_videos"],
                    row["is_reference"],
                )
                for name, row in zip(_row_names(found), found, strict=True)
            ]
        )

    @property
    def rows(self) -> list[str]:
        """The detectors, from top to bottom."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        """The test datasets, from left to right."""
        return list(dict.fromkeys(cell.column for cell in self.cells))

    def table(self) -> pd.DataFrame:
        """A row for each pair."""
        rows = [
            (cell.row, cell.column, cell.value, cell.low, cell.high, cell.real, cell.fake)
            for cell in self.cells
        ]
        names = ["train", "test", "auc", "low", "high", "real_videos", "fake_videos"]
        return pd.DataFrame(rows, columns=names)

    def plot(self, ax: Axes | None = None) -> MatrixDisplay:
        """Draws the cells with value and interval; a frame marks where it was trained."""
        rows, columns = self.rows, self.columns
        left, wide = (
            max(len(line) for name in names for line in name.split("\n")) for names in (rows, columns)
        )
        # As wide as the names are: 0.075 inches a letter.
        width = 0.6 + 0.075 * left + max(0.95, 0.1 + 0.075 * wide) * len(columns)
        self.ax_ = ax or new_axes(width, 1.35 + 0.62 * len(rows))
        values = np.full((len(rows), len(columns)), np.nan)
        for cell in self.cells:
            values[rows.index(cell.row), columns.index(cell.column)] = cell.value
        self.image_ = self.ax_.imshow(values, cmap=COLOURS, vmin=CHANCE_AUC, vmax=1, aspect="auto")
        self.texts_: list[Artist] = []
        self.frames_: list[Artist] = []
        for cell in self.cells:
            self._draw(cell, rows.index(cell.row), columns.index(cell.column))
        self.ax_.set_xticks(range(len(columns)), [shorten_name(name, 24) for name in columns], fontsize=9)
        self.ax_.set_yticks(range(len(rows)), [_shorten_lines(name) for name in rows], fontsize=9)
        self.ax_.set(xlabel="tested on", ylabel="trained on")
        self.ax_.tick_params(length=0)
        self.ax_.grid(visible=False)
        self.ax_.spines[:].set_visible(False)
        bar = self.figure_.colorbar(
            self.image_, ax=self.ax_, location="bottom", shrink=0.5, aspect=30, ticks=[0.5, 0.75, 1]
        )
        bar.ax.set_xticklabels(["0.50: guessing", "0.75", "1"], fontsize=8)
        bar.set_label("video AUC", fontsize=8)
        return self

    def _draw(self, cell: Cell, row: int, column: int) -> None:
        from matplotlib.patches import Rectangle

        if isnan(cell.value):
            text, colour = "\n".join(NOT_ENOUGH.rsplit(" ", 1)), "black"
        else:
            text = value_text(cell.value, [cell.low, cell.high]).replace(" ", "\n", 1)
            colour = "black" if cell.value > 0.75 else "white"
        self.texts_.append(
            self.ax_.text(column, row, text, ha="center", va="center", color=colour, fontsize=8.5)
        )
        if cell.is_source:
            frame = Rectangle(
                (column - 0.47, row - 0.45), 0.94, 0.9, fill=False, edgecolor="#D55E00", linewidth=2.2
            )
            self.frames_.append(self.ax_.add_patch(frame))


def _shorten_lines(name: str) -> str:
    return "\n".join(map(shorten_name, name.split("\n")))


def cross_dataset(results: Results | CollectionResults, level: str = "video") -> list[ProtocolRow]:
    """The pairs of the cross-dataset protocol at a level; empty where none was made."""
    return [
        row
        for row in results.get("protocols", [])
        if row["protocol"] == "cross_dataset" and row["level"] == level
    ]


def _row_names(rows: Sequence[ProtocolRow]) -> list[str]:
    """What a row is called: what it was trained on, and what else tells detectors apart."""
    names = [row["train"] for row in rows]
    if len({row["detector"] for row in rows}) > 1:
        return [f"{row['detector']}\n{name}" for name, row in zip(names, rows, strict=True)]
    return names
