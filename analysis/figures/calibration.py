"""Whether scores are probabilities: the share of fakes among crops of similar score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.display import (
    CHANCE,
    NARROW,
    PHONE,
    Display,
    legend_below,
    new_axes,
    new_panels,
    shorten_name,
)
from unmasked.evaluation import records
from unmasked.evaluation.calibration import reliability
from unmasked.evaluation.metrics import expected_calibration_error
from unmasked.evaluation.records import Results
from unmasked.evaluation.wording import number
from unmasked.fairness.records import GroupReliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes


TOGETHER = 2  # curves that share axes
COLUMNS, PANEL = 3, 1.25  # panels beside each other, and inches of a row of them


@dataclass(frozen=True)
class Reliability:
    """Score, share of fakes, 95 % interval and count of each bin with rows, each (B,).

    ``error`` is the expected calibration error of all rows; it and the intervals are NaN where not known.
    """

    score: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.int64]
    error: float = nan

    @property
    def has_intervals(self) -> bool:
        """True if both ends of every bin are known."""
        return bool(np.isfinite([self.low, self.high]).all())

    @classmethod
    def from_bins(cls, bins: records.Reliability, error: float = nan) -> Reliability:
        """What `evaluation.calibration.reliability` gave, or its JSON.

        Bins without rows are left out.
        """
        unknown = [nan] * len(bins["n"])
        limits = bins.get("low", unknown), bins.get("high", unknown)
        given = bins["n"], bins["score"], bins["share_fake"], *limits
        n, *columns = (np.array(each, np.float64) for each in given)
        kept = (n > 0) & np.isfinite(columns[0]) & np.isfinite(columns[1])
        score, share, low, high = (column[kept] for column in columns)
        return cls(score, share, low, high, n[kept].astype(np.int64), error)


@dataclass
class CalibrationDisplay(Display):
    """Reliability diagram (DeGroot and Fienberg 1983).

    The share of fakes over the score, a curve for each.

    Attributes:
        curves: what was scored -> its bins.
        colours: of the curves; chosen for those that are absent.
        heading: above the axes; the name of a single curve if empty.
    """

    curves: dict[str, Reliability]
    colours: Mapping[str, str] = field(default_factory=dict)
    heading: str = ""

    @classmethod
    def from_scores(cls, label: ArrayLike, score: ArrayLike, name: str = "") -> CalibrationDisplay:
        """The diagram of (N,) labels, 1 = fake, and scores in [0, 1], as if rows were independent."""
        error = expected_calibration_error(np.asarray(label, np.float64), np.asarray(score, np.float64))
        return cls({name: Reliability.from_bins(reliability(label, score), error)})

    @classmethod
    def from_results(cls, results: Results, name: str) -> CalibrationDisplay:
        """The diagram of a dataset's videos, from the ``reliability`` of `evaluate`."""
        video = results["datasets"][name]["video"]
        return cls({name: Reliability.from_bins(video["reliability"], number(video["ece"]))})

    @classmethod
    def from_groups(
        cls, calibration: Sequence[GroupReliability], colours: Mapping[str, str]
    ) -> CalibrationDisplay:
        """The ``calibration`` of an attribute in an audit; groups without rows are left out."""
        curves = {one["group"]: Reliability.from_bins(one) for one in calibration}
        return cls({name: one for name, one in curves.items() if len(one.count)}, colours, "Calibration")

    def table(self) -> pd.DataFrame:
        """A row for each bin."""
        parts = [
            pd.DataFrame(
                {
                    "of": name,
                    "score": one.score,
                    "share_fake": one.share,
                    "low": one.low,
                    "high": one.high,
                    "n": one.count,
                }
            )
            for name, one in self.curves.items()
        ]
        return pd.concat(parts, ignore_index=True)

    def plot(self, ax: Axes | None = None) -> CalibrationDisplay:
        """Draws shares with intervals over mean scores, and the diagonal of perfect calibration.

        More than `TOGETHER` curves have a panel each, since lines that cross cannot be followed.
        """
        self.bars_: list[Any] = []
        self.points_: list[Any] = []
        colours = dict.fromkeys(self.curves, group_colours(["fake"])["fake"])
        if len(self.curves) > 1:
            colours = group_colours(self.curves)
        colours |= {name: colour for name, colour in self.colours.items() if colour}
        if ax is None and len(self.curves) > TOGETHER:
            return self._plot_panels(colours)
        width = NARROW if len(self.curves) == 1 else PHONE
        self.ax_ = ax or new_axes(width, width + 0.4 + 0.17 * len(self.curves))
        (self.diagonal_,) = self.ax_.plot([0, 1], [0, 1], label="calibrated", **CHANCE)
        for name, one in self.curves.items():
            label = f"n = {int(one.count.sum()):,}"
            if len(self.curves) > 1:
                label = f"{name}, {label}"
            label += ", 95 % intervals" if one.has_intervals else ""
            label += "" if isnan(one.error) else f", ECE {one.error:.3f}"
            self._draw_curve(self.ax_, one, colours[name], label)
        self.ax_.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        self.ax_.set_title(self.heading or next(iter(self.curves), ""), fontsize=10)
        self.ax_.set_xlabel("mean score, P(fake)")
        self.ax_.set_ylabel("share of fakes")
        legend_below(self.ax_)
        return self

    def _plot_panels(self, colours: Mapping[str, str]) -> CalibrationDisplay:
        """A panel for each curve, all on one scale, with its name and number of rows above it."""
        rows = -(-len(self.curves) // COLUMNS)
        panels = new_panels(PHONE, 0.7 + PANEL * rows, rows, COLUMNS)
        for axes, (name, one) in zip(panels, self.curves.items(), strict=False):
            axes.plot([0, 1], [0, 1], **CHANCE)
            self._draw_curve(axes, one, colours[name], "")
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            axes.set_title(f"{shorten_name(name, 18)}\nn = {int(one.count.sum()):,}", fontsize=7.5)
            axes.tick_params(labelsize=7)
        for axes in panels[len(self.curves) :]:
            axes.set_visible(False)
        for axes in panels[max(0, len(self.curves) - COLUMNS) : len(self.curves)]:
            axes.tick_params(labelbottom=True)  # nothing is below it, in the last row or above a gap
        self.ax_ = panels[0]
        has_intervals = any(one.has_intervals for one in self.curves.values())
        limits = ", lines: 95 % intervals" if has_intervals else ""
        self.figure_.suptitle(self.heading, fontsize=10)
        self.figure_.supxlabel(f"mean score, P(fake)\ndashed: calibrated{limits}", fontsize=8)
        self.figure_.supylabel("share of fakes", fontsize=8)
        return self

    def _draw_curve(self, axes: Axes, one: Reliability, colour: str, label: str) -> None:
        if len(self.curves) > 1:
            axes.plot(one.score, one.share, color=colour, lw=1.2, alpha=0.8)
        style: dict[str, Any] = {"color": colour, "linewidth": 1, "alpha": 0.6, "markersize": 2.5}
        reach = np.stack([one.share - one.low, one.high - one.share]) if one.has_intervals else None
        bars = axes.errorbar(one.score, one.share, yerr=reach, fmt="o", label=label, **style)
        # As large as there are rows: a bin of one row is a dot that says little.
        most = max((int(each.count.max(initial=0)) for each in self.curves.values()), default=0)
        largest = 90 if len(self.curves) <= TOGETHER else 30
        sizes = largest / 6 + largest * one.count / max(most, 1)
        self.bars_.append(bars)
        self.points_.append(
            axes.scatter(one.score, one.share, s=sizes, color=colour, clip_on=False, zorder=3)
        )
