"""Gaps that move: from one dataset to another, under perturbation, and through mitigation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from unmasked.analysis.figures.group_rates import FAINT, bare, new_axes, share_axis
from unmasked.evaluation.wording import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONG_NAME = 10  # letters, beyond which a legend has one column
RATES = {"fpr": "real called fake (FPR)", "tpr": "fakes found (TPR)", "fnr": "fakes missed (FNR)"}


@dataclass
class PerturbationLines:
    """One rate of each group as a perturbation grows, as numbers; `plot` draws a line for each group.

    Attributes:
        name: what is drawn, in words.
        rate: metric on the upright axis.
        severities: ascending; 0 is unperturbed, where it is known.
        groups: group -> a (value, low, high) for each severity.
        sizes: group -> number of videos, NaN unknown.
        colours: group -> colour.
        few: groups too small to be compared, whose lines are dotted.
    """

    name: str
    rate: str
    severities: list[float]
    groups: dict[str, list[tuple[float, float, float]]]
    sizes: Mapping[str, float]
    colours: Mapping[str, str]
    few: set[str] = field(default_factory=set)
    ax_: Axes | None = field(default=None, repr=False)
    figure_: Figure | None = field(default=None, repr=False)

    @classmethod
    def from_entries(
        cls,
        entries: Sequence[Mapping[str, Any]],
        name: str,
        sizes: Mapping[str, float],
        colours: Mapping[str, str],
    ) -> PerturbationLines:
        """The numbers out of ``perturbations`` of one dataset, perturbation, attribute and metric.

        Where the clean rates can be told (value minus change), they are drawn at severity 0.
        """
        severities = sorted({float(entry["severity"]) for entry in entries})
        groups: dict[str, list[tuple[float, float, float]]] = {}
        for group in dict.fromkeys(entry["group"] for entry in entries):
            found = {float(one["severity"]): one for one in entries if one["group"] == group}
            first = next(iter(found.values()))
            clean = number(first["value"]) - number(first.get("change"))
            points = [(clean, float("nan"), float("nan"))]
            for severity in severities:
                one = found.get(severity)
                limits = one["ci"] if one else [None, None]
                points.append((number(one["value"] if one else None), number(limits[0]), number(limits[1])))
            groups[group] = points if 0.0 not in severities else points[1:]
        axis = severities if 0.0 in severities else [0.0, *severities]
        few = {one["group"] for one in entries if not one.get("compared", True)}
        return cls(name, str(entries[0]["metric"]), axis, groups, sizes, colours, few)

    def plot(self, ax: Axes | None = None) -> PerturbationLines:
        """Draws the lines with their 95 % intervals, set a little apart. Returns itself."""
        if ax is None:
            ax = new_axes(2.5 + 0.17 * len(self.groups))
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        place = np.arange(len(self.severities), dtype=np.float64)
        for turn, (group, points) in enumerate(self.groups.items()):
            shifted = place + 0.07 * (turn - (len(self.groups) - 1) / 2)
            value, low, high = np.array(points).T
            colour = self.colours.get(group, "black")
            n = self.sizes.get(group, float("nan"))
            name = group if np.isnan(n) else f"{group}, n = {n:,.0f}"
            style = "o:" if group in self.few else "o-"
            ax.plot(shifted, value, style, color=colour, ms=4, lw=1.6, label=name)
            ax.vlines(shifted, low, high, color=colour, lw=1.2, alpha=0.6)
        ax.set_xticks(place, ["none" if one == 0 else f"{one:g}" for one in self.severities], fontsize=8)
        ax.set_xlabel("severity", fontsize=8.5)
        ax.set_ylim(-0.02, 1.02)
        share_axis(ax.yaxis, RATES.get(self.rate, self.rate))
        ax.set_title(self.name, fontsize=9.5, loc="left", fontweight="bold")
        columns = 1 if max(map(len, self.groups), default=0) > LONG_NAME else 2
        place_below: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.2), "ncols": columns}
        ax.legend(fontsize=8, frameon=False, borderpad=0, **place_below)
        bare(ax, "both")
        return self


@dataclass
class FairnessUtility:
    """What mitigation buys and costs: gap against balanced accuracy, before and after; `plot` draws it.

    Attributes:
        gap: what the horizontal axis is, in words.
        utility: what the upright axis is, in words.
        methods: name -> {"gap", "utility"} after.
        before: {"gap", "utility"} of the detector as it is.
        bad: names that lower the gap by making everybody worse off.
    """

    gap: str
    utility: str
    methods: dict[str, dict[str, float]]
    before: dict[str, float]
    bad: set[str]
    ax_: Axes | None = field(default=None, repr=False)
    figure_: Figure | None = field(default=None, repr=False)

    def plot(self, ax: Axes | None = None) -> FairnessUtility:
        """Draws an arrow from before to after for each method, numbered as in the table. Returns itself."""
        if ax is None:
            ax = new_axes(2.9)
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        start = (self.before["gap"], self.before["utility"])
        for end, places, bad in self._places():
            arrow = {"arrowstyle": "->", "color": FAINT, "lw": 1.2, "shrinkA": 5, "shrinkB": 8}
            if end != start:
                ax.annotate("", xy=end, xytext=start, arrowprops=arrow)
            face, ink = ("white", "#0072B2") if bad else ("#0072B2", "white")
            box = {"boxstyle": "round,pad=0.3,rounding_size=0.8", "fc": face, "ec": "#0072B2"}
            ax.annotate(places, end, ha="center", va="center", fontsize=8, color=ink, bbox=box, zorder=4)
        ax.plot(*start, "s", ms=8, color="black", zorder=3)
        ax.annotate("as it is", start, xytext=(8, 0), textcoords="offset points", va="center", fontsize=8.5)
        ax.plot(0, 0.5, "x", ms=8, mew=2, color="black")
        text = f"calls everything fake: {percent(0.5)}"
        ax.annotate(text, (0, 0.5), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8)
        self._dress(ax)
        return self

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
        bare(ax, "both")
