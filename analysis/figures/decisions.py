"""What becomes of decisions: thresholds that are applied elsewhere, and answers that are withheld."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unmasked.analysis.figures.display import (
    DASHES,
    MARKERS,
    NARROW,
    Display,
    axes_above_legend,
    legend_below,
    new_axes,
)
from unmasked.analysis.html.page import group_colours
from unmasked.evaluation.wording import ends, number

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

LEAST_FPR_SHOWN = 0.2


@dataclass(frozen=True)
class Realised:
    """What one threshold does on one dataset; NaN where undefined or not known."""

    rule: str  # how the threshold was chosen, in few words
    dataset: str
    threshold: float
    expected: float  # what the rule allows, else the rate where it was chosen
    value: float
    low: float
    high: float
    n: int


@dataclass
class TransferDisplay(Display):
    """Rates that stored thresholds have on each dataset, beside what was to be expected.

    Attributes:
        realised: rules from top to bottom, the datasets of each in one order.
        rate: ``fpr`` or ``tpr``.
    """

    realised: Sequence[Realised]
    rate: str = "fpr"

    def table(self) -> pd.DataFrame:
        """A row for each rule and dataset."""
        columns = ["rule", "dataset", "threshold", "expected", self.rate, "low", "high", "n"]
        rows = [
            (one.rule, one.dataset, one.threshold, one.expected, one.value, one.low, one.high, one.n)
            for one in self.realised
        ]
        return pd.DataFrame(rows, columns=columns)

    def plot(self, ax: Axes | None = None) -> TransferDisplay:
        """Draws for each rule what was to be expected, and a dot with its interval for each dataset."""
        rules = list(dict.fromkeys(found.rule for found in self.realised))
        datasets = list(dict.fromkeys(found.dataset for found in self.realised))
        height = 1.1 + len(rules) * (0.17 * len(datasets) + 0.14) + 0.18 * len(datasets)
        self.ax_ = ax or new_axes(NARROW + 0.4, height)
        self.points_: list[Artist] = []
        self.expected_: list[Artist] = []
        colours = group_colours(datasets)
        for found in self.realised:
            place = datasets.index(found.dataset)
            y = rules.index(found.rule) + (place - (len(datasets) - 1) / 2) * 0.8 / len(datasets)
            self._draw(found, y, colours[found.dataset], MARKERS[place % len(MARKERS)])
        for row, rule in enumerate(rules):
            self._draw_expected(row, rule)
        self.ax_.set_xlim(-0.01, self._end())
        self.ax_.set_ylim(len(rules) - 0.5, -0.5)
        self.ax_.set_yticks(range(len(rules)), rules, fontsize=8.5)
        self.ax_.grid(visible=False, axis="y")
        for edge in range(1, len(rules)):
            self.ax_.axhline(edge - 0.5, color="#d9dfe4", linewidth=0.8)
        names = {"fpr": "share of real videos called fake", "tpr": "share of fake videos found"}
        self.ax_.set_xlabel(names[self.rate])
        legend_below(self.ax_)
        return self

    def _draw(self, found: Realised, y: float, colour: str, marker: str) -> None:
        if isnan(found.value):
            return
        if not isnan(found.low):
            self.ax_.plot([found.low, found.high], [y, y], color=colour, linewidth=2, alpha=0.8)
        style: dict[str, Any] = {"marker": marker, "color": colour, "markersize": 6, "zorder": 3}
        style |= {"markeredgecolor": "white", "linestyle": "", "clip_on": False}
        (point,) = self.ax_.plot(found.value, y, label=f"{found.dataset} (n = {found.n})", **style)
        self.points_.append(point)

    def _draw_expected(self, row: int, rule: str) -> None:
        x = next(found.expected for found in self.realised if found.rule == rule)
        if isnan(x):
            return
        (mark,) = self.ax_.plot(
            [x, x], [row - 0.46, row + 0.46], color="black", linewidth=1.6, label="expected"
        )
        self.expected_.append(mark)

    def _end(self) -> float:
        if self.rate == "tpr":
            return 1.01
        reached = [value for found in self.realised for value in (found.value, found.high, found.expected)]
        highest = max([value for value in reached if not isnan(value)], default=0.0)
        return min(1.01, max(LEAST_FPR_SHOWN, ceil(highest * 20) / 20) + 0.01)


@dataclass
class RiskCoverageDisplay(Display):
    """How often answers are wrong, as fewer videos get one: ``{NAME: the "abstention" of `evaluate`}``.

    Geifman and El-Yaniv (2017). From right to left the videos on which the detector is least sure are left
    without an answer; a line that does not fall says that the detector does not know when it is wrong.
    """

    abstentions: dict[str, dict[str, Any]]

    @classmethod
    def from_results(cls, results: Mapping[str, Any]) -> RiskCoverageDisplay:
        """The datasets of `evaluate` that have the key, in the order of the matrix."""
        order = [row["test"] for row in results["matrix"]]
        found = {name: results["datasets"][name]["video"].get("abstention") for name in order}
        return cls({name: block for name, block in found.items() if block})

    def table(self) -> pd.DataFrame:
        """The points of the curves, then that of the band with its intervals."""
        rows: list[dict[str, Any]] = []
        for name, block in self.abstentions.items():
            curve = block["curve"]
            rows += [
                {"dataset": name, "series": "curve", "coverage": x, "risk": y}
                for x, y in zip(curve["coverage"], curve["risk"], strict=True)
            ]
            limits = dict(zip(("coverage_low", "coverage_high"), ends(block["coverage_ci"]), strict=True))
            limits |= dict(zip(("risk_low", "risk_high"), ends(block["risk_ci"]), strict=True))
            point = {"coverage": block["coverage"], "risk": block["risk"]}
            rows.append({"dataset": name, "series": "band", **point, **limits})
        names = ["coverage", "risk", "coverage_low", "coverage_high", "risk_low", "risk_high"]
        return pd.DataFrame(rows, columns=["dataset", "series", *names])

    def plot(self, ax: Axes | None = None, **line: Any) -> RiskCoverageDisplay:
        """Draws a line for each dataset, and its point under the stored band with both intervals."""
        self.ax_ = ax or axes_above_legend(len(self.abstentions))
        self.lines_: list[Artist] = []
        self.points_: list[Any] = []
        colours = group_colours(self.abstentions)
        for position, (name, block) in enumerate(self.abstentions.items()):
            colour, dash = colours[name], DASHES[position % len(DASHES)]
            style = {"color": colour, "linestyle": dash, "linewidth": 2} | line
            curve = block["curve"]
            risk = number(block.get("risk_all"))
            label = name if isnan(risk) else f"{name}: {100 * risk:.0f} % wrong if all are answered"
            (drawn,) = self.ax_.plot(curve["coverage"], curve["risk"], label=label, **style)
            self.lines_.append(drawn)
            self._point(block, colour, MARKERS[position % len(MARKERS)])
        self.ax_.set(xlim=(0, 1.01), ylim=(-0.01, self._end()))
        self.ax_.set_xlabel("share of videos that get an answer (coverage)")
        self.ax_.set_ylabel("share of answers that are wrong (risk)")
        legend_below(self.ax_)
        return self

    def _point(self, block: Mapping[str, Any], colour: str, marker: str) -> None:
        x, y = number(block["coverage"]), number(block["risk"])
        if isnan(x) or isnan(y):
            return
        bars: dict[str, Any] = {}
        for key, value in (("xerr", x), ("yerr", y)):
            low, high = ends(block["coverage_ci" if key == "xerr" else "risk_ci"])
            reach = [[max(value - low, 0)], [max(high - value, 0)]]
            bars[key] = None if np.isnan(reach).any() else reach
        style: dict[str, Any] = {
            "fmt": marker,
            "color": colour,
            "markersize": 8,
            "markeredgecolor": "black",
            "capsize": 3,
        }
        self.points_.append(self.ax_.errorbar(x, y, **bars, **style, zorder=4))

    def _end(self) -> float:
        """A round end of the risk axis above all that is drawn."""
        drawn = [value for block in self.abstentions.values() for value in block["curve"]["risk"]]
        drawn += [value for block in self.abstentions.values() for value in ends(block["risk_ci"])]
        known = [value for value in map(number, drawn) if not isnan(value)]
        return min(1.01, max(0.1, ceil(max(known, default=0.0) * 20) / 20 + 0.01))
