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
from unmasked.analysis.figures.display import CHANCE, NARROW, PHONE, Display, legend_below, new_axes
from unmasked.evaluation import records
from unmasked.evaluation.calibration import reliability
from unmasked.evaluation.metrics import expected_calibration_error
from unmasked.evaluation.records import Results
from unmasked.evaluation.wording import number
from unmasked.fairness.records import GroupReliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        """Draws shares with intervals over mean scores, and the diagonal of perfect calibration."""
        width = NARROW if len(self.curves) == 1 else PHONE
        self.ax_ = ax or new_axes(width, width + 0.4 + 0.17 * len(self.curves))
        (self.diagonal_,) = self.ax_.plot([0, 1], [0, 1], label="calibrated", **CHANCE)
        self.bars_, self.points_ = [], []
        most = max((int(one.count.max(initial=0)) for one in self.curves.values()), default=0)
        chosen = group_colours(["fake"]) if len(self.curves) == 1 else group_colours(self.curves)
        for name, one in self.curves.items():
            colour = self.colours.get(name) or chosen.get(name, chosen.get("fake", "black"))
            label = f"n = {int(one.count.sum()):,}"
            if len(self.curves) > 1:
                label = f"{name}, {label}"
                self.ax_.plot(one.score, one.share, color=colour, lw=1.2, alpha=0.8)
            style: dict[str, Any] = {"color": colour, "linewidth": 1, "alpha": 0.6, "markersize": 2.5}
            reach = np.stack([one.share - one.low, one.high - one.share])
            is_known = np.isfinite(reach).all()
            label += ", 95 % intervals" if is_known else ""
            label += "" if isnan(one.error) else f", ECE {one.error:.3f}"
            bars = self.ax_.errorbar(
                one.score, one.share, yerr=reach if is_known else None, fmt="o", label=label, **style
            )
            # As large as there are rows: a bin of one row is a dot that says little.
            sizes = 14 + 90 * one.count / max(most, 1)
            points = self.ax_.scatter(one.score, one.share, s=sizes, color=colour, clip_on=False, zorder=3)
            self.bars_.append(bars)
            self.points_.append(points)
        self.ax_.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        self.ax_.set_title(self.heading or next(iter(self.curves), ""), fontsize=10)
        self.ax_.set_xlabel("mean score, P(fake)")
        self.ax_.set_ylabel("share of fakes")
        legend_below(self.ax_)
        return self
