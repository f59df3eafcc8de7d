"""What a detector looks at, and how it sees its inputs: Grad-CAM grid, t-SNE scatter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.display import LEGEND_LINE, MARKERS, Display, new_axes, shorten_name

NAME_LINES = 3  # of a row


@dataclass(frozen=True)
class CamRow:
    """One kind of picture, n of them.

    Attributes:
        name: dataset and method, on two lines where there are several datasets.
        pictures, overlays: (n, H, W, 3) uint8.
        score: (n,) P(fake).
        blank: (n,) bool, see `CamResult`.
    """

    name: str
    pictures: np.ndarray
    overlays: np.ndarray
    score: np.ndarray
    blank: np.ndarray


@dataclass
class CamGridDisplay(Display):
    """Pictures over their Grad-CAM overlays, a row for the reals and for each method.

    Attributes:
        rows: what is drawn.
        doubt: why the maps cannot be read, in words; "" where they can.
    """

    rows: Sequence[CamRow]
    doubt: str = ""

    def plot(self, ax: Any = None) -> CamGridDisplay:
        """Draws the grid into one axes, with names at the left and P(fake) under each overlay."""
        columns = max(len(row.pictures) for row in self.rows)
        self.ax_ = ax or new_axes(1.7 + 1.15 * columns, 2.55 * len(self.rows))
        self.images_: list[Any] = []
        self.labels_: list[Any] = []
        self.scores_: list[Any] = []
        for number, row in enumerate(self.rows):
            top = number * 2.25  # a tile is 1 x 1; under two of them stands the score
            lines = row.name.split("\n")[:NAME_LINES]
            name = "\n".join(shorten_name(line, 16) for line in lines)
            self.labels_.append(self.ax_.text(-0.12, top + 1, name, ha="right", va="center", fontsize=10))
            for column, tiles in enumerate(zip(row.pictures, row.overlays, strict=True)):
                for offset, tile in enumerate(tiles):
                    extent = (column, column + 0.96, top + offset + 0.96, top + offset)
                    self.images_.append(self.ax_.imshow(tile, extent=extent, interpolation="bilinear"))
                middle = column + 0.48
                text = f"P(fake) {row.score[column]:.2f}{', no map' if row.blank[column] else ''}"
                self.scores_.append(
                    self.ax_.text(middle, top + 2.08, text, ha="center", va="center", fontsize=8)
                )
        self.ax_.set(xlim=(0, columns), ylim=(2.25 * len(self.rows), 0), aspect="equal")
        if self.doubt:
            said = f"Grad-CAM: {self.doubt}"
            self.ax_.set_title("\n".join(wrap(said, 18 * (columns + 1))), fontsize=9, loc="left")
        self.ax_.set_axis_off()
        return self


@dataclass
class MeanMapDisplay(Display):
    """Mean maps over the mean face, and where two groups' differ.

    Attributes:
        picture: (H, W, 3) uint8 the mean of all crops.
        averaged: what `explain` found: title, means and differences.
    """

    picture: np.ndarray
    averaged: Mapping[str, Any]

    def table(self) -> pd.DataFrame:
        """A row for each cell of each mean map and difference, counted from the top left."""
        parts = []
        for one in self.averaged["means"]:
            parts.append({"kind": one["of"], "name": one["name"]} | _cell_columns(one, "cells"))
        for one in self.averaged["differences"]:
            name = f"{one['groups'][0]} minus {one['groups'][1]}, {one['kind']}s"
            parts.append({"kind": "difference", "name": name} | _cell_columns(one, "difference"))
        return pd.concat(map(pd.DataFrame, parts), ignore_index=True)

    def plot(self, ax: Any = None) -> MeanMapDisplay:
        """Draws a row for each dataset: methods, then groups, then what differs between groups."""
        rows: dict[str, list[tuple[str, np.ndarray, np.ndarray | None]]] = {}
        for one in self.averaged["means"]:
            if one["name"] == "unknown":
                continue
            title = f"{shorten_name(one['name'], 18)}\n{shorten_name(one['of'], 20)}\n{one['people']} people"
            rows.setdefault(f"{one['dataset']}\nmean maps", []).append((title, np.array(one["cells"]), None))
        for one in self.averaged["differences"]:
            if one["difference"]:
                first, second = one["groups"]
                title = (
                    f"{shorten_name(f'{first} − {second}', 18)}\n{one['kind']}s\np = {one['p_adjusted']:.2g}"
                )
                pair = np.array(one["difference"]), np.array(one["p_cells"]) <= 0.05
                rows.setdefault(f"{one['dataset']}\ndifferences", []).append((title, *pair))
        columns = max(map(len, rows.values()), default=1)
        self.ax_ = ax or new_axes(1.3 + 1.25 * columns, 0.4 + 1.7 * len(rows))
        far = max(
            (np.abs(cells).max() for line in rows.values() for _, cells, mark in line if mark is not None),
            default=1,
        )
        self.images_: list[Any] = []
        for number, (name, line) in enumerate(rows.items()):
            top = 1.42 * number
            lines = "\n".join(shorten_name(part, 16) for part in name.split("\n"))
            self.ax_.text(-0.1, top + 0.48, lines, ha="right", va="center", fontsize=8)
            for column, (title, cells, mark) in enumerate(line):
                extent = (column, column + 0.94, top + 0.94, top)
                grey = self.picture.mean(axis=2)
                self.ax_.imshow(grey, extent=extent, cmap="gray", vmin=0, vmax=255)
                colours, scale = ("inferno", (0, cells.max())) if mark is None else ("PuOr", (-far, far))
                drawn: dict[str, Any] = {"cmap": colours, "vmin": scale[0], "vmax": scale[1], "alpha": 0.6}
                self.images_.append(self.ax_.imshow(cells, extent=extent, interpolation="bilinear", **drawn))
                self.ax_.text(column + 0.47, top + 0.98, title, ha="center", va="top", fontsize=6.5)
                side = 0.94 / len(cells)
                for y, x in np.argwhere(mark) if mark is not None else ():
                    place = (column + x * side, top + y * side)
                    self.ax_.add_patch(_cell_outline(place, side))
        said = (
            "mean maps: yellow most, each by its own largest cell.\n"
            "differences: brown where the first group has more, violet the second; outlined: p ≤ 0.05 there"
        )
        self.ax_.text(0, 1.42 * len(rows) + 0.05, said, ha="left", va="top", fontsize=7)
        self.ax_.set(xlim=(0, columns), ylim=(1.42 * len(rows) + 0.3, 0), aspect="equal")
        self.ax_.set_axis_off()
        return self


def _cell_columns(one: Mapping[str, Any], values: str) -> dict[str, Any]:
    cells = np.array(one[values], np.float64).reshape(-1, max(1, len(one[values])))
    row, column = np.indices(cells.shape)
    return {"dataset": one["dataset"], "row": row.ravel(), "column": column.ravel(), "value": cells.ravel()}


def _cell_outline(place: tuple[float, float], side: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(place, side, side, fill=False, edgecolor="black", linewidth=0.5)


@dataclass
class MethodGridDisplay(Display):
    """Pictures above the maps of several methods, each with what its tests found.

    Attributes:
        pictures: (n, H, W, 3) uint8.
        rows: of each method its name, its overlays (n, H, W, 3) and the outcome of its tests.
        labels: what each picture is, and P(fake); none are written if not given.
    """

    pictures: np.ndarray
    rows: Sequence[tuple[str, np.ndarray, str]]
    labels: Sequence[str] = ()

    def plot(self, ax: Any = None) -> MethodGridDisplay:
        """Draws the grid into one axes, with names and outcomes at the left."""
        first = "what it is, and P(fake)" if self.labels else ""
        tiles = [("the picture", self.pictures, first), *self.rows]
        columns = max(len(self.pictures), 3)  # the words below need as much room
        self.ax_ = ax or new_axes(2.9 + 1.15 * columns, 0.3 + 1.2 * len(tiles))
        self.names_ = []
        for number, (name, overlays, outcome) in enumerate(tiles):
            said = "\n".join([name, *wrap(outcome, 34)])
            self.names_.append(self.ax_.text(-0.1, number + 0.48, said, ha="right", va="center", fontsize=8))
            for column, tile in enumerate(overlays):
                extent = (column, column + 0.96, number + 0.96, number)
                self.ax_.imshow(tile, extent=extent, interpolation="bilinear")
        for column, label in enumerate(self.labels):
            self.ax_.text(column + 0.48, -0.04, label, ha="center", va="bottom", fontsize=8)
        said = (
            "yellow speaks for fake, light blue for real where told apart; grey: no map, as said at the left"
        )
        self.ax_.text(
            0, len(tiles) + 0.05, "\n".join(wrap(said, 18 * columns)), ha="left", va="top", fontsize=8
        )
        top = -0.2 if self.labels else 0
        self.ax_.set(xlim=(0, columns), ylim=(len(tiles) + 0.3, top), aspect="equal")
        self.ax_.set_axis_off()
        return self


def strip(row: CamRow, *, size_px: int = 112) -> np.ndarray:
    """A row of the grid as pixels (2 size, n size, 3) uint8: pictures above, overlays below."""
    return np.vstack([side_by_side(tiles, size_px=size_px) for tiles in (row.pictures, row.overlays)])


def side_by_side(tiles: np.ndarray, *, size_px: int = 112) -> np.ndarray:
    """Pictures (n, H, W, 3) uint8 as one, (size, n size, 3), with white between them."""
    from PIL import Image

    inner = size_px - 4
    sheet = np.full((size_px, len(tiles) * size_px, 3), 255, np.uint8)
    for column, pixels in enumerate(tiles):
        small = Image.fromarray(pixels).resize((inner, inner), Image.Resampling.LANCZOS)
        sheet[2 : 2 + inner, column * size_px + 2 : column * size_px + 2 + inner] = np.asarray(small)
    return sheet


@dataclass
class EmbeddingDisplay(Display):
    """t-SNE points coloured by a label.

    Attributes:
        points: (N, 2).
        label: (N,) text: real or fake, method, dataset, group.
        title: what the colours show.
        placed: (M, 2) new crops among them, of no label; None without any.
    """

    points: np.ndarray
    label: np.ndarray
    title: str = ""
    placed: np.ndarray | None = None

    def table(self) -> pd.DataFrame:
        """A row for each point, new ones last, which are labelled "new"."""
        new = np.empty((0, 2)) if self.placed is None else self.placed
        x, y = np.concatenate([np.asarray(self.points), new]).T
        return pd.DataFrame({"x": x, "y": y, "label": [*self.label, *["new"] * len(new)]})

    def plot(self, ax: Any = None, **scatter: Any) -> EmbeddingDisplay:
        """Draws the points. The axes have no scale: only who is near whom can be read."""
        self.scatters_: list[Any] = []
        label = np.asarray(self.label).astype(str)
        self.ax_ = ax or new_axes(4.4, 4.2 + LEGEND_LINE * len(set(label)))
        # "real" first, so that it has one place in every legend.
        names = sorted(set(label), key=lambda name: (name != "real", name))
        colours = group_colours(names)
        for number, name in enumerate(names):
            of_name = label == name
            style = {"s": 16, "alpha": 0.75, "linewidths": 0} | scatter
            drawn = self.ax_.scatter(
                *np.asarray(self.points)[of_name].T,
                color=colours[name],
                marker=MARKERS[number % len(MARKERS)],
                label=f"{shorten_name(str(name), 16)} (n = {int(of_name.sum())})",
                **style,
            )
            self.scatters_.append(drawn)
        if self.placed is not None and len(self.placed):
            name = f"new files (n = {len(self.placed)})"
            new: dict[str, Any] = {"color": "black", "marker": "*", "s": 60, "linewidths": 0, "zorder": 3}
            self.scatters_.append(self.ax_.scatter(*self.placed.T, label=name, **new))
        self.ax_.set(xticks=[], yticks=[], title=self.title, xlabel="t-SNE, no unit", ylabel="t-SNE, no unit")
        columns = 1 if max(map(len, names), default=0) > 16 else 2
        self.ax_.legend(loc="upper left", bbox_to_anchor=(0, -0.08), ncols=columns, fontsize=8, frameon=False)
        return self
