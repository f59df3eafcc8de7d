"""Scores of people over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from unmasked.analysis.figures.colours import PALETTE
from unmasked.analysis.figures.display import (
    CHANCE,
    MARKERS,
    WIDTH,
    Display,
    legend_below,
    line_style,
    new_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = tuple(PALETTE[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky"))


@dataclass
class TimelineDisplay(Display):
    """The score of each sampled frame, a line a person.

    Attributes:
        lines: name -> (times in seconds, or places where there are none; scores P(fake)).
        threshold: the stored one.
        band: low and high between which nothing is answered; None where there is none.
        unit: what the horizontal axis shows.
    """

    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    threshold: float
    band: tuple[float, float] | None = None
    unit: str = "time, seconds"

    def table(self) -> pd.DataFrame:
        """Rows of person, time and score."""
        rows = [(name, *point) for name, line in self.lines.items() for point in zip(*line, strict=True)]
        return pd.DataFrame(rows, columns=["person", "time", "score"])

    def plot(self, ax: Axes | None = None, **settings: Any) -> TimelineDisplay:
        """Draws the lines, the threshold and the band; ``settings`` go to every line."""
        self.ax_ = ax if ax is not None else new_axes(WIDTH, 2.6)
        if self.band is not None:
            label = "not answered between these"
            self.band_ = self.ax_.axhspan(*self.band, color="#e2e6ea", zorder=0, label=label)
        self.threshold_ = self.ax_.axhline(
            self.threshold, **CHANCE, label=f"threshold {self.threshold:.3f}: fake above"
        )
        self.lines_ = []
        for number, (name, (times, scores)) in enumerate(self.lines.items()):
            style = line_style(COLOURS[number % len(COLOURS)], number)
            marker = {"marker": MARKERS[number % len(MARKERS)], "markersize": 4, "label": name}
            self.lines_ += self.ax_.plot(times, scores, **{**style, **marker, **settings})
        self.ax_.set(xlabel=self.unit, ylabel="score, P(fake)", ylim=(-0.03, 1.03))
        legend_below(self.ax_)
        return self
