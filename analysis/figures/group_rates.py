"""A dot for every group: its rate, its interval, its size, and how far chance alone spreads groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unmasked.analysis.html.page import group_colours
from unmasked.evaluation.wording import number
from unmasked.fairness.verdicts import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# The rate that is drawn, the tested metric whose gap it has, and the class whose videos it counts.
PANELS = {
    "fpr": ("fpr", "real", "Real called fake (FPR)"),
    "fnr": ("tpr", "fake", "Fakes missed (FNR)"),
}
FAINT = "#8a949d"
SOFT = "#56616c"
WIDTH_IN = 3.7  # as wide as a phone shows without scrolling


@dataclass
class GroupRates:
    """One rate of every group of an audit, as numbers; `plot` draws them.

    Attributes:
        rate: a key of `PANELS`.
        overall: the rate over all rows.
        groups: attribute -> group -> {"value", "low", "high", "n", "compared"}, in reading order.
        band: attribute -> width of the gap that chance alone exceeds in 1 of 20 audits; NaN unknown.
        colours: attribute -> group -> colour; of an attribute that is absent, chosen by `group_colours`.
    """

    rate: str
    overall: float
    groups: dict[str, dict[str, dict[str, Any]]]
    band: dict[str, float]
    colours: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ax_: Axes | None = field(default=None, repr=False)
    figure_: Figure | None = field(default=None, repr=False)

    @classmethod
    def from_audit(
        cls, audit: Mapping[str, Any], rate: str, colours: Mapping[str, Mapping[str, str]] | None = None
    ) -> GroupRates:
        """The numbers out of `Audit.to_dict` (or its JSON)."""
        metric, label, _ = PANELS[rate]
        groups: dict[str, dict[str, dict[str, Any]]] = {}
        band = {}
        for attribute, found in audit["attributes"].items():
            groups[attribute] = {
                entry["group"]: {
                    "value": number(entry[rate]),
                    "low": number(entry[f"{rate}_ci"][0]),
                    "high": number(entry[f"{rate}_ci"][1]),
                    "n": entry["support"][f"{label}_videos"],
                    "compared": rate in entry["compared"],
                }
                for entry in found["groups"]
            }
            floors = [number(test["null_floor"]) for test in found["tests"] if test["metric"] == metric]
            band[attribute] = floors[0] if floors else float("nan")
        return cls(rate, number(audit["overall"][rate]), groups, band, colours or {})

    def plot(self, ax: Axes | None = None) -> GroupRates:
        """Draws a row for each group; groups too small to compare are hollow. Returns itself."""
        lines = sum(len(groups) + 1 for groups in self.groups.values())
        if ax is None:
            ax = new_axes(0.9 + 0.25 * lines)
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        rows: list[tuple[float, str, bool]] = []
        line = 0.0
        for attribute, groups in self.groups.items():
            rows.append((line, title(attribute), True))
            self._draw_band(ax, attribute, line + 0.55, line + len(groups) + 0.45)
            colours = self.colours.get(attribute) or group_colours(groups)
            for group, found in groups.items():
                line += 1
                rows.append((line, group, False))
                self._draw_group(ax, line, found, colours[group])
            line += 1.15
        self._dress(ax, rows, line)
        return self

    def _draw_band(self, ax: Axes, attribute: str, top: float, bottom: float) -> None:
        half = self.band[attribute] / 2
        if np.isnan(half) or np.isnan(self.overall):
            return
        # As wide as the gap even where the overall rate is near 0 or 1.
        left = min(max(0.0, self.overall - half), max(0.0, 1.0 - 2 * half))
        ax.fill_betweenx([top, bottom], left, left + 2 * half, color="#e3e7ea", lw=0, zorder=0)

    def _draw_group(self, ax: Axes, line: float, found: Mapping[str, Any], colour: str) -> None:
        value = found["value"]
        on_the_right(ax, line, f"{found['n']:,}")
        if np.isnan(value):
            ax.text(0.01, line, "not enough data", va="center", fontsize=8.5, style="italic", color=FAINT)
            return
        shade = colour if found["compared"] else FAINT
        if not np.isnan(found["low"]):
            ax.plot([found["low"], found["high"]], [line, line], color=shade, lw=2, solid_capstyle="butt")
        face = colour if found["compared"] else "white"
        ax.plot([value], [line], "o", ms=7, mfc=face, mec=shade, mew=1.5, zorder=3, clip_on=False)

    def _dress(self, ax: Axes, rows: list[tuple[float, str, bool]], end: float) -> None:
        _, label, name = PANELS[self.rate]
        if not np.isnan(self.overall):
            ax.axvline(self.overall, color="black", lw=1, ls=(0, (4, 3)), zorder=1)
            ax.text(
                self.overall,
                -0.75,
                f"all: {100 * self.overall:.0f} %",
                fontsize=8.5,
                ha="left" if self.overall < 0.85 else "right",
            )
        on_the_right(ax, -0.75, "videos")
        ax.set_xlim(-0.015, 1.015)
        ax.set_ylim(end - 0.4, -0.6)
        ax.set_yticks([line for line, _, _ in rows], [text for _, text, _ in rows], fontsize=9)
        for tick, (_, _, heading) in zip(ax.get_yticklabels(), rows, strict=True):
            tick.set_fontweight("bold" if heading else "normal")
        share_axis(ax.xaxis, f"share of {label} videos, 95 % interval")
        ax.set_title(name, fontsize=10, loc="left", pad=16, fontweight="bold")
        bare(ax)
        ax.spines["left"].set_visible(False)


def bare(ax: Axes, grid: Literal["x", "y", "both"] = "x") -> None:
    """Axes with as little ink as needed: a faint grid, no ticks, no frame above and on the right."""
    ax.tick_params(length=0)
    ax.grid(axis=grid, color="#edf0f2", lw=0.8, zorder=-1)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def new_axes(height_in: float, width_in: float = WIDTH_IN) -> Axes:
    """Empty axes as wide as a phone shows without scrolling."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained").add_subplot()


def on_the_right(ax: Axes, line: float, text: str) -> None:
    """How many videos are behind a row, right of the axes and clear of its last dot."""
    place: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    ax.annotate(text, (1, line), xytext=(34, 0), ha="right", va="center", fontsize=8, color=SOFT, **place)


def share_axis(axis: Axis, label: str) -> None:
    """An axis from 0 to 100 %."""
    axis.set_ticks(np.linspace(0, 1, 5), ["0", "25", "50", "75", "100 %"], fontsize=8)
    axis.set_label_text(label, fontsize=8.5)
