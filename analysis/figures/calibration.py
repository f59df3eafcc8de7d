"""Whether scores are probabilities: the share of fakes among crops of about the same score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from unmasked.analysis.figures.display import CHANCE, NARROW, Display, legend_below, new_axes
from unmasked.analysis.html.page import group_colours
from unmasked.evaluation.calibration import reliability
from unmasked.evaluation.metrics import expected_calibration_error
from unmasked.evaluation.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass
class CalibrationDisplay(Display):
    """Reliability diagram (DeGroot and Fienberg 1983), with the bins of `expected_calibration_error`.

    Attributes:
        name: what was scored.
        score: (B,) mean score of each bin that has rows.
        share: (B,) share of fakes in it.
        low, high: (B,) its 95 % interval; of `from_scores` Wilson's, as if rows were independent.
        count: (B,) rows.
        error: `expected_calibration_error` of all rows.
    """

    name: str
    score: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.int64]
    error: float

    @classmethod
    def from_scores(cls, label: ArrayLike, score: ArrayLike, name: str = "") -> CalibrationDisplay:
        """The diagram of (N,) labels, 1 = fake, and scores in [0, 1]."""
        found = reliability(label, score)
        mean, share, low, high = (np.array(found[key]) for key in ("score", "share_fake", "low", "high"))
        error = expected_calibration_error(label, score)
        return cls(name, mean, share, low, high, np.array(found["n"], dtype=np.int64), error)

    @classmethod
    def from_results(cls, results: Mapping[str, Any], name: str) -> CalibrationDisplay:
        """The diagram of a dataset's videos, from the ``reliability`` of `evaluate`."""
        video = results["datasets"][name]["video"]
        found = video["reliability"]
        score, share, low, high = (
            np.array([number(value) for value in found[key]])
            for key in ("score", "share_fake", "low", "high")
        )
        count = np.array(found["n"], dtype=np.int64)
        return cls(name, score, share, low, high, count, number(video["ece"]))

    def table(self) -> pd.DataFrame:
        """A row for each bin."""
        bins = {"score": self.score, "share_fake": self.share, "low": self.low, "high": self.high}
        return pd.DataFrame({"of": self.name, **bins, "n": self.count})

    def plot(self, ax: Axes | None = None) -> CalibrationDisplay:
        """Draws shares with their intervals over mean scores, and the diagonal of perfect calibration."""
        self.ax_ = ax or new_axes(NARROW, NARROW + 0.5)
        colour = group_colours(["fake"])["fake"]
        (self.diagonal_,) = self.ax_.plot([0, 1], [0, 1], label="calibrated", **CHANCE)
        self.bars_ = self.ax_.errorbar(
            self.score,
            self.share,
            yerr=np.stack([self.share - self.low, self.high - self.share]),
            fmt="o",
            color=colour,
            linewidth=1,
            alpha=0.6,
            markersize=2.5,
            label=f"n = {int(self.count.sum())}, 95 % intervals, ECE {self.error:.3f}",
        )
        # As large as there are rows: a bin of one row is a dot that says little.
        sizes = 14 + 90 * self.count / max(self.count.max(initial=0), 1)
        self.points_ = self.ax_.scatter(
            self.score, self.share, s=sizes, color=colour, clip_on=False, zorder=3
        )
        self.ax_.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        self.ax_.set_title(self.name, fontsize=10)
        self.ax_.set_xlabel("mean score, P(fake)")
        self.ax_.set_ylabel("share of fakes")
        legend_below(self.ax_)
        return self
