"""What decisions cost: answers withheld, and gaps between groups narrowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.display import (
    DASHES,
    FAINT,
    MARKERS,
    PHONE,
    Display,
    axes_above_legend,
    legend_below,
    new_axes,
)
from unmasked.evaluation.records import Abstention, Results
from unmasked.evaluation.wording import ends, number, percent

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


@dataclass
class RiskCoverageDisplay(Display):
    """How often answers are wrong, as fewer videos get one.

    ``{NAME: the "abstention" of `evaluate`}``.
    Geifman and El-Yaniv (2017). From right to left the videos on which the detector is least sure are left
    without an answer; a line that does not fall says that the detector does not know when it is wrong.
    """

    abstentions: dict[str, Abstention]

    @classmethod
    def from_results(cls, results: Results) -> RiskCoverageDisplay:
        """The datasets of `evaluate` that have the key, in the order of the matrix."""
        videos = {row["test"]: results["datasets"][row["test"]]["video"] for row in results["matrix"]}
        return cls({name: video["abstention"] for name, video in videos.items() if "abstention" in video})

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

    def _point(self, block: Abstention, colour: str, marker: str) -> None:
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


@dataclass
class TradeOffDisplay(Display):
    """What mitigation buys and costs: gap against balanced accuracy, before and after.

    `plot` draws it.

    Attributes:
        gap: what the horizontal axis is, in words.
        utility: what the upright axis is, in words.
        methods: name -> {"gap", "utility"} after.
        before: {"gap", "utility"} of the detector as it is.
        bad: names that lower the gap by making everybody worse off.
        changes: name -> 95 % intervals {"gap", "utility"} of the changes, [low, high], where known.
    """

    gap: str
    utility: str
    methods: dict[str, dict[str, float]]
    before: dict[str, float]
    bad: set[str]
    changes: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def front(self) -> list[tuple[float, float]]:
        """(gap, utility) that no other point beats in both, from the fairest on: the Pareto front.

        The detector as it is is one of the points; remedies that level down are none.
        """
        points = [self.before, *(found for name, found in self.methods.items() if name not in self.bad)]
        found: list[tuple[float, float]] = []
        for gap, utility in sorted((one["gap"], -one["utility"]) for one in points):
            if not np.isnan([gap, utility]).any() and (not found or -utility > found[-1][1]):
                found.append((gap, -utility))
        return found

    def table(self) -> pd.DataFrame:
        """A row for the detector as it is and one for each method."""
        rows = {"as it is": self.before} | self.methods
        return pd.DataFrame(
            [(name, found["gap"], found["utility"], name in self.bad) for name, found in rows.items()],
            columns=["remedy", self.gap, self.utility, "levelling_down"],
        )

    def plot(self, ax: Axes | None = None) -> TradeOffDisplay:
        """Draws an arrow from before to after for each method, numbered as in the table."""
        self.ax_ = ax = ax or new_axes(PHONE, 2.9)
        start = (self.before["gap"], self.before["utility"])
        for end, places, bad in self._places():
            arrow = {"arrowstyle": "->", "color": FAINT, "lw": 1.2, "shrinkA": 5, "shrinkB": 8}
            if end != start:
                ax.annotate("", xy=end, xytext=start, arrowprops=arrow)
            face, ink = ("white", "#0072B2") if bad else ("#0072B2", "white")
            box = {"boxstyle": "round,pad=0.3,rounding_size=0.8", "fc": face, "ec": "#0072B2"}
            ax.annotate(places, end, ha="center", va="center", fontsize=8, color=ink, bbox=box, zorder=4)
        for end, across, upright in self._bars(start):
            ax.errorbar(*end, xerr=across, yerr=upright, fmt="none", ecolor=FAINT, lw=0.8, zorder=1)
        front = self.front()
        if len(front) > 1:
            # A step: between two points nothing was shown that is better than the worse of them.
            (self.front_,) = ax.step(
                *zip(*front, strict=True), where="post", color="#D55E00", lw=1.2, zorder=2
            )
            ax.annotate(
                "nothing is better in both",
                front[-1],
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                color="#D55E00",
            )
        ax.plot(*start, "s", ms=8, color="black", zorder=3)
        # Beside its square, or below it where the numbers of remedies that change little stand.
        is_taken = any(
            abs(end[0] - start[0]) < 0.1 and abs(end[1] - start[1]) < 0.04 for end, _, _ in self._places()
        )
        above_or_below = 34 if start[1] < 0.62 else -16  # below a low one stands what calls everything fake
        offset = (0, above_or_below) if is_taken else (8, 0)
        side = "center" if is_taken else "left"
        ax.annotate(
            "as it is", start, xytext=offset, textcoords="offset points", va="center", ha=side, fontsize=8.5
        )
        ax.plot(0, 0.5, "x", ms=8, mew=2, color="black")
        text = f"calls everything fake: {percent(0.5)}"
        ax.annotate(text, (0, 0.5), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8)
        self._dress(ax)
        return self

    def _bars(
        self, start: tuple[float, float]
    ) -> list[tuple[tuple[float, float], list[list[float]], list[list[float]]]]:
        """Where each method is and how far its intervals reach each way, none below a gap of 0."""
        found = []
        for name, limits in self.changes.items():
            end = self.methods[name]["gap"], self.methods[name]["utility"]
            ends = [
                [max(0.0, start[0] + one) for one in limits["gap"]],
                [start[1] + one for one in limits["utility"]],
            ]
            if np.isnan([*end, *ends[0], *ends[1]]).any():
                continue
            reach = [
                [[max(0.0, at - low)], [max(0.0, high - at)]]
                for at, (low, high) in zip(end, ends, strict=True)
            ]
            found.append((end, reach[0], reach[1]))
        return found

    def _places(self) -> list[tuple[tuple[float, float], str, bool]]:
        """(where, "1, 3", levelling down) of the methods; those that would cover each other share a label."""
        found: list[tuple[tuple[float, float], list[str], bool]] = []
        for place, (name, after) in enumerate(self.methods.items(), start=1):
            end, bad = (after["gap"], after["utility"]), name in self.bad
            if np.isnan(end).any():
                continue
            for there, places, as_bad in found:
                if bad == as_bad and abs(end[0] - there[0]) < 0.02 and abs(end[1] - there[1]) < 0.03:
                    places.append(str(place))
                    break
            else:
                found.append((end, [str(place)], bad))
        return [(end, ", ".join(places), bad) for end, places, bad in found]

    def _dress(self, ax: Axes) -> None:
        gaps = [self.before["gap"], *(found["gap"] for found in self.methods.values())]
        widest = max([gap for gap in gaps if not np.isnan(gap)] + [0.1])
        step = 0.05 if widest < 0.2 else 0.1 if widest < 0.5 else 0.25
        ticks = np.arange(0, widest * 1.1 + step, step)
        ax.set_xticks(ticks, [f"{100 * tick:.0f}" for tick in ticks], fontsize=8)
        ax.set_xlim(-0.04 * ticks[-1], ticks[-1])
        ax.set_ylim(0.44, 1.02)
        ax.set_yticks(
            [0.5, 0.6, 0.7, 0.8, 0.9, 1.0], ["50 %", "60 %", "70 %", "80 %", "90 %", "100 %"], fontsize=8
        )
        ax.set_xlabel(f"{self.gap}, points: less is fairer", fontsize=8.5)
        ax.set_ylabel(self.utility, fontsize=8.5)
        ax.set_title("Fairness against usefulness", fontsize=9.5, loc="left", fontweight="bold")
