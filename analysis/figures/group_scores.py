"""How each group's scores lie, and whether a score means the same for each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from unmasked.analysis.figures.group_rates import FAINT, bare, new_axes, on_the_right, share_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HIGH = 0.85  # of a row's room that the highest bar takes


@dataclass
class ScoreRidges:
    """Histograms of scores by group and class; `plot` draws reals as outlines, fakes filled.

    Attributes:
        attribute: whose groups.
        counts: group -> label (0 real, 1 fake) -> (edges (K + 1,), counts (K,)).
        threshold: above it a video is called fake.
        colours: group -> colour.
    """

    attribute: str
    counts: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]
    threshold: float
    colours: Mapping[str, str]
    ax_: Axes | None = field(default=None, repr=False)
    figure_: Figure | None = field(default=None, repr=False)

    @classmethod
    def from_scores(
        cls, scores: Sequence[Mapping[str, Any]], attribute: str, threshold: float, colours: Mapping[str, str]
    ) -> ScoreRidges:
        """The numbers out of ``scores`` of an attribute."""
        counts: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
        for one in scores:
            pair = (np.asarray(one["edges"], dtype=np.float64), np.asarray(one["counts"], dtype=np.float64))
            counts.setdefault(one["group"], {})[int(one["label"])] = pair
        return cls(attribute, counts, threshold, colours)

    def plot(self, ax: Axes | None = None) -> ScoreRidges:
        """Draws a row for each group, each class scaled to its own total. Returns itself."""
        if ax is None:
            ax = new_axes(0.9 + 0.55 * len(self.counts))
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        tallest = max(
            (_shares(counts).max() for one in self.counts.values() for _, counts in one.values()), default=0
        )
        for place, (group, found) in enumerate(self.counts.items()):
            foot = len(self.counts) - 1 - place
            colour = self.colours.get(group, "black")
            for label, (edges, counts) in sorted(found.items()):
                height = foot + HIGH * _shares(counts) / (tallest or 1)
                if label:
                    ax.stairs(height, edges, baseline=foot, fill=True, color=colour, alpha=0.45, lw=0)
                else:
                    ax.stairs(height, edges, baseline=foot, color="#1d2329", lw=1.1)
            n = [f"{found[label][1].sum():,.0f}" if label in found else "0" for label in (0, 1)]
            on_the_right(ax, foot + 0.25, f"{n[0]} + {n[1]}")
        self._dress(ax)
        return self

    def _dress(self, ax: Axes) -> None:
        ax.axvline(self.threshold, color="black", lw=1, ls=(0, (4, 3)))
        feet = range(len(self.counts))[::-1]
        ax.set_yticks([foot + 0.25 for foot in feet], list(self.counts), fontsize=9)
        ax.set_xlim(0, 1)
        ax.set_ylim(-0.05, len(self.counts))
        ax.set_xticks(np.linspace(0, 1, 5), ["0", "0.25", "0.5", "0.75", "1"], fontsize=8)
        ax.set_xlabel("score: 0 real, 1 fake", fontsize=8.5)
        ax.set_title(
            "Scores: real outlined, fake filled",
            fontsize=9.5,
            loc="left",
            pad=14,
            fontweight="bold",
        )
        on_the_right(ax, len(self.counts) + 0.08, "real + fake")
        bare(ax)
        ax.spines["left"].set_visible(False)


@dataclass
class GroupCalibration:
    """How many of the videos with a score are fakes, by group; `plot` draws it against the score.

    Attributes:
        attribute: whose groups.
        curves: group -> ((K,) mean score, (K,) share of fakes, (K,) n).
        colours: group -> colour.
    """

    attribute: str
    curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    colours: Mapping[str, str]
    ax_: Axes | None = field(default=None, repr=False)
    figure_: Figure | None = field(default=None, repr=False)

    @classmethod
    def from_calibration(
        cls, calibration: Sequence[Mapping[str, Any]], attribute: str, colours: Mapping[str, str]
    ) -> GroupCalibration:
        """The numbers out of ``calibration`` of an attribute; empty bins are left out."""
        curves = {}
        for one in calibration:
            score, share, n = (np.array(one[name], dtype=np.float64) for name in ("score", "share_fake", "n"))
            kept = (n > 0) & np.isfinite(score) & np.isfinite(share)
            if kept.any():
                curves[one["group"]] = (score[kept], share[kept], n[kept])
        return cls(attribute, curves, colours)

    def plot(self, ax: Axes | None = None) -> GroupCalibration:
        """Draws a line for each group, a dot's area its number of videos. Returns itself."""
        if ax is None:
            ax = new_axes(2.9 + 0.17 * len(self.curves))
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        ax.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=(0, (4, 3)), label="a score that means what it says")
        most = max((n.max() for _, _, n in self.curves.values()), default=1)
        for group, (score, share, n) in self.curves.items():
            colour = self.colours.get(group, "black")
            ax.plot(score, share, color=colour, lw=1.2, alpha=0.8)
            ax.scatter(
                score,
                share,
                s=8 + 60 * n / most,
                color=colour,
                label=f"{group}, n = {n.sum():,.0f}",
                zorder=3,
            )
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(-0.03, 1.03)
        share_axis(ax.yaxis, "of these, are fakes")
        ax.set_xticks(np.linspace(0, 1, 5), ["0", "0.25", "0.5", "0.75", "1"], fontsize=8)
        ax.set_xlabel("mean score", fontsize=8.5)
        ax.set_title("Calibration", fontsize=9.5, loc="left", fontweight="bold")
        legend = ax.legend(
            loc="upper left", bbox_to_anchor=(0, -0.17), fontsize=8, frameon=False, borderpad=0
        )
        for handle in legend.legend_handles[1:]:
            handle.set_sizes([30])  # type: ignore[union-attr]
        bare(ax, "both")
        return self


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / max(counts.sum(), 1)
