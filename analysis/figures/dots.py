"""Histograms of scores, dots with intervals, and training curves.

Every display, here and in the other files of this folder, stores its numbers: ``plot(ax=None)`` draws them,
keeps the artists under names that end in an underscore and returns the display; ``table()`` gives them for
a CSV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unmasked.analysis.figures.display import (
    CHANCE,
    NARROW,
    SOFT,
    Display,
    legend_below,
    line_style,
    new_axes,
)
from unmasked.analysis.html.page import group_colours
from unmasked.evaluation.wording import NOT_ENOUGH, ends, number

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


@dataclass
class ScoreDisplay(Display):
    """How the scores of one dataset's reals and fakes are spread, beside the threshold.

    Attributes:
        name: the dataset.
        edges: (B + 1,) of the bins, score from 0 to 1.
        real, fake: (B,) counts.
        threshold: where "fake" begins, NaN for none.
        level: what was counted.
    """

    name: str
    edges: Sequence[float]
    real: Sequence[float]
    fake: Sequence[float]
    threshold: float = nan
    level: str = "video"

    def table(self) -> pd.DataFrame:
        """How many reals and fakes score in each bin."""
        return pd.DataFrame(
            {
                "dataset": self.name,
                "score_from": self.edges[:-1],
                "score_to": self.edges[1:],
                "real": self.real,
                "fake": self.fake,
            }
        )

    def plot(self, ax: Axes | None = None) -> ScoreDisplay:
        """Draws the share of each class in each bin, so that unequal class sizes compare."""
        self.ax_ = ax or new_axes(NARROW, 2.6)
        self.steps_: list[Artist] = []
        colours = group_colours(["real", "fake"])
        for kind, counts, hatch in (("real", self.real, ""), ("fake", self.fake, "////")):
            total = float(np.sum(counts))
            if not total:
                continue
            drawn = self.ax_.stairs(
                np.asarray(counts) / total,
                self.edges,
                fill=True,
                facecolor=(colours[kind], 0.35),
                edgecolor=colours[kind],
                linewidth=1.4,
                hatch=hatch,
                label=f"{kind} (n = {int(total)})",
            )
            self.steps_.append(drawn)
        if not isnan(self.threshold):
            label = f"threshold {self.threshold:.2f}"
            self.threshold_ = self.ax_.axvline(self.threshold, color="black", linewidth=1.2, label=label)
        self.ax_.set(xlim=(0, 1), ylim=(0, None))
        self.ax_.set_title(self.name, fontsize=10)
        self.ax_.set_xlabel("score, P(fake)")
        self.ax_.set_ylabel(f"share of {self.level}s")
        legend_below(self.ax_)
        return self


@dataclass(frozen=True)
class Dot:
    """One row of a `DotDisplay`: a value in [0, 1] with its interval, NaN where undefined."""

    label: str
    value: float
    low: float = nan
    high: float = nan
    n: str = ""  # what it rests on, in words
    colour_of: str = ""  # the group or dataset whose colour it has; its own label if empty
    is_reference: bool = False  # drawn filled black-edged: what the others are compared with


@dataclass
class DotDisplay(Display):
    """Values with intervals in rows, one under the other.

    Attributes:
        dots: from top to bottom.
        quantity: what the axis shows, with its unit.
        chance: where a coin would stand, NaN for nowhere.
    """

    dots: Sequence[Dot]
    quantity: str
    chance: float = nan
    chance_label: str = "chance"

    @classmethod
    def from_matrix(cls, results: Mapping[str, Any]) -> DotDisplay:
        """The cross-dataset matrix of `evaluate`: video AUC on each dataset."""
        dots = []
        for row in results["matrix"]:
            n = results["datasets"][row["test"]]["n"]
            known = row["train"] in results["datasets"]
            label = f"{row['test']}" + (" (trained on)" if known and row["train"] == row["test"] else "")
            size = f"{n['real_videos']} real + {n['fake_videos']} fake videos"
            low, high = ends(row["ci"])
            is_source = row["train"] == row["test"]
            dots.append(Dot(label, number(row["auc"]), low, high, size, row["test"], is_source))
        return cls(dots, "video AUC", 0.5)

    @classmethod
    def from_methods(cls, results: Mapping[str, Any], name: str) -> DotDisplay:
        """Video AUC of each manipulation method of a dataset against the dataset's reals."""
        dots = []
        for method, block in results["datasets"][name]["methods"].items():
            low, high = ends(block["video"]["auc_ci"])
            size = f"{block['n']['fake_videos']} fake videos"
            dots.append(Dot(method, number(block["video"]["auc"]), low, high, size))
        return cls(dots, "video AUC", 0.5)

    def table(self) -> pd.DataFrame:
        """A row for each dot."""
        rows = [(dot.label, dot.value, dot.low, dot.high, dot.n) for dot in self.dots]
        return pd.DataFrame(rows, columns=["row", self.quantity, "low", "high", "n"])

    def plot(self, ax: Axes | None = None) -> DotDisplay:
        """Draws a point and its interval for each row; a row without a value says so."""
        self.ax_ = ax or new_axes(5.2, 0.9 + 0.5 * max(len(self.dots), 1))
        self.points_: list[Artist] = []
        self.intervals_: list[Artist] = []
        colours = group_colours(dot.colour_of or dot.label for dot in self.dots)
        if not isnan(self.chance):
            self.chance_ = self.ax_.axvline(self.chance, **CHANCE)
            self.ax_.text(
                self.chance,
                1.01,
                self.chance_label,
                transform=self.ax_.get_xaxis_transform(),
                ha="center",
                va="bottom",
                color=CHANCE["color"],
                fontsize=8,
            )
        for row, dot in enumerate(self.dots):
            self._draw(row, dot, colours[dot.colour_of or dot.label])
        self.ax_.set(xlim=(-0.02, 1.02), ylim=(len(self.dots) - 0.4, -0.6), xlabel=self.quantity)
        labels = [f"{dot.label}\n{dot.n}" if dot.n else dot.label for dot in self.dots]
        self.ax_.set_yticks(range(len(self.dots)), labels, fontsize=9)
        self.ax_.grid(visible=False, axis="y")
        return self

    def _draw(self, row: int, dot: Dot, colour: str) -> None:
        if isnan(dot.value):
            self.ax_.text(0.02, row, NOT_ENOUGH, va="center", style="italic", color=SOFT, fontsize=9)
            return
        if not isnan(dot.low):
            (interval,) = self.ax_.plot(
                [dot.low, dot.high], [row, row], color=colour, linewidth=2.5, alpha=0.8
            )
            self.intervals_.append(interval)
        marker = "D" if dot.is_reference else "o"
        (point,) = self.ax_.plot(
            dot.value, row, marker=marker, color=colour, markersize=8, markeredgecolor="white"
        )
        self.points_.append(point)
        # Beside the interval, on the side that has room.
        right = (dot.value if isnan(dot.high) else dot.high) < 0.85
        x = (dot.high if right else dot.low) if not isnan(dot.low) else dot.value
        offset, side = ((7, 0), "left") if right else ((-7, 0), "right")
        self.ax_.annotate(
            f"{dot.value:.2f}", (x, row), offset, textcoords="offset points", ha=side, va="center", fontsize=9
        )


@dataclass
class TrainingDisplay(Display):
    """How values developed over training: ``series`` maps a name to its (position, value) pairs.

    Attributes:
        series: NaN and missing values are left out.
        quantity: the vertical axis.
        position: the horizontal axis, ``epoch`` or ``step``.
        limits: of the vertical axis; None fits them to the values.
    """

    series: dict[str, list[tuple[float, float]]]
    quantity: str
    position: str = "epoch"
    limits: tuple[float, float] | None = None

    @classmethod
    def from_records(
        cls,
        records: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        quantity: str,
        *,
        position: str = "epoch",
        limits: tuple[float, float] | None = None,
    ) -> TrainingDisplay:
        """From the records of ``metrics.jsonl``; names that no record has are left out."""
        series = {}
        for name in names:
            found = [(record.get(position), number(record.get(name))) for record in records]
            pairs = [(float(at), value) for at, value in found if at is not None and not isnan(value)]
            if pairs:
                series[name] = pairs
        return cls(series, quantity, position, limits)

    def table(self) -> pd.DataFrame:
        """Every value with where in the training it was."""
        rows = [(name, *pair) for name, pairs in self.series.items() for pair in pairs]
        return pd.DataFrame(rows, columns=["series", self.position, self.quantity])

    def plot(self, ax: Axes | None = None, **line: Any) -> TrainingDisplay:
        """Draws a line for each series."""
        self.ax_ = ax or new_axes(4.6, 3.1)
        self.lines_ = []
        colours = group_colours(self.series)
        for n, (name, pairs) in enumerate(self.series.items()):
            style = line_style(colours[name], n) | line
            if len(pairs) <= 40:
                style = {"marker": "o", "markersize": 3.5} | style
            (drawn,) = self.ax_.plot(*zip(*pairs, strict=True), label=name, **style)
            self.lines_.append(drawn)
        if self.limits:
            self.ax_.set_ylim(*self.limits)
        self.ax_.set(xlabel=self.position, ylabel=self.quantity)
        self.ax_.locator_params(axis="x", integer=True)
        if self.series:
            self.ax_.legend(fontsize=8, frameon=False)
        return self
