"""Each group's rates at each transferred threshold, and its ROC curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from unmasked.analysis.figures.group_rates import FAINT, bare, new_axes, on_the_right, share_axis
from unmasked.evaluation.wording import is_missing, metric_text, number, rule_name
from unmasked.fairness.verdicts import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATES = {"fpr": ("real", "Real called fake (FPR)"), "tpr": ("fake", "Fakes found (TPR)")}
APART = 0.8  # of the room of a threshold that its groups take


@dataclass
class ThresholdRates:
    """One rate of an attribute's groups at several thresholds, as numbers; `plot` draws them.

    Attributes:
        attribute: whose groups.
        rate: a key of `RATES`.
        names: of the thresholds, in words.
        targets: the rate that each threshold was fitted for; NaN where it was fitted for another thing.
        groups: group -> a {"value", "low", "high", "n", "compared"} for each threshold.
        colours: group -> colour.
    """

    attribute: str
    rate: str
    names: list[str]
    targets: list[float]
    groups: dict[str, list[dict[str, float]]]
    colours: Mapping[str, str]
    ax_: Axes | None = field(default=None, repr=False)
    figure_: Figure | None = field(default=None, repr=False)

    @classmethod
    def from_points(
        cls, points: Sequence[Mapping[str, Any]], attribute: str, rate: str, colours: Mapping[str, str]
    ) -> ThresholdRates:
        """The numbers out of ``operating_points`` of an audit."""
        label, _ = RATES[rate]
        groups: dict[str, list[dict[str, float]]] = {}
        for point in points:
            for entry in point["attributes"][attribute]:
                low, high = entry[f"{rate}_ci"]
                found = {"value": number(entry[rate]), "low": number(low), "high": number(high)}
                found |= {"n": entry[f"{label}_videos"], "compared": rate in entry.get("compared", RATES)}
                groups.setdefault(entry["group"], []).append(found)
        names = [f"{rule_name(point['rule'])}: {point['value']:.3g}" for point in points]
        return cls(attribute, rate, names, [_target(point, rate) for point in points], groups, colours)

    def plot(self, ax: Axes | None = None) -> ThresholdRates:
        """Draws a row for each group below each threshold; a tick marks what was aimed at. Returns itself."""
        room = len(self.groups) + 1
        if ax is None:
            ax = new_axes(0.9 + 0.2 * room * len(self.names))
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        rows: list[tuple[float, str]] = []
        for place, (name, target) in enumerate(zip(self.names, self.targets, strict=True)):
            # Above its groups and inside the axes, where a long name takes no room from them.
            ax.text(0, place * room, name, fontsize=8.5, fontweight="bold", va="center", zorder=5)
            if not np.isnan(target):
                span = [place * room + 0.5, (place + 1) * room - 0.5]
                ax.plot([target, target], span, color="black", lw=1.2, ls=(0, (2, 2)), zorder=4)
            for line, (group, found) in enumerate(self.groups.items(), start=place * room + 1):
                rows.append((line, f"{group}"))
                self._draw(ax, line, found[place], self.colours.get(group, "black"))
        self._dress(ax, rows, room * len(self.names))
        return self

    def _draw(self, ax: Axes, line: float, found: Mapping[str, float], colour: str) -> None:
        on_the_right(ax, line, f"{found['n']:,.0f}")
        if np.isnan(found["value"]):
            ax.text(0.01, line, "not enough data", fontsize=8, style="italic", color=FAINT, va="center")
            return
        shade = colour if found["compared"] else FAINT
        if not np.isnan(found["low"]):
            ax.plot([found["low"], found["high"]], [line, line], color=shade, lw=2, solid_capstyle="butt")
        face = colour if found["compared"] else "white"
        ax.plot([found["value"]], [line], "o", ms=6, mfc=face, mec=shade, mew=1.5, zorder=3, clip_on=False)

    def _dress(self, ax: Axes, rows: list[tuple[float, str]], end: float) -> None:
        label, name = RATES[self.rate]
        ax.set_xlim(-0.015, 1.015)
        ax.set_ylim(end - 0.4, -0.9)
        ax.set_yticks([line for line, _ in rows], [text for _, text in rows], fontsize=8.5)
        on_the_right(ax, -0.75, "videos")
        share_axis(ax.xaxis, f"share of {label} videos, 95 % interval")
        ax.set_title(name, fontsize=10, loc="left", pad=10, fontweight="bold")
        bare(ax)
        ax.spines["left"].set_visible(False)


@dataclass
class GroupRoc:
    """How many fakes each group's threshold finds for the reals it calls fake; `plot` draws it.

    Attributes:
        attribute: whose groups.
        curves: group -> ((K,) FPR, (K,) TPR) at the edges of the histogram of its scores.
        names: group -> what the legend says.
        colours: group -> colour.
    """

    attribute: str
    curves: dict[str, tuple[np.ndarray, np.ndarray]]
    names: dict[str, str]
    colours: Mapping[str, str]
    ax_: Axes | None = field(default=None, repr=False)
    figure_: Figure | None = field(default=None, repr=False)

    @classmethod
    def from_scores(
        cls,
        scores: Sequence[Mapping[str, Any]],
        groups: Sequence[Mapping[str, Any]],
        attribute: str,
        colours: Mapping[str, str],
    ) -> GroupRoc:
        """The curves out of the histograms of an attribute; exact at their edges; none of one class."""
        counted = {
            (one["group"], one["label"]): np.asarray(one["counts"], dtype=np.float64) for one in scores
        }
        curves, names = {}, {}
        for entry in groups:
            group = entry["group"]
            found = [counted.get((group, label), np.zeros(1)) for label in (0, 1)]
            if any(counts.sum() == 0 for counts in found):
                continue
            fpr, tpr = (np.append(0, np.cumsum(counts[::-1]) / counts.sum()) for counts in found)
            curves[group] = (fpr, tpr)
            auc = "" if is_missing(entry["auc"]) else f", AUC {metric_text(entry, 'auc')}"
            support = entry["support"]
            n = f"{support['real_videos']:,} + {support['fake_videos']:,}"
            names[group] = f"{group}{auc}\n{n} videos"
        return cls(attribute, curves, names, colours)

    def plot(self, ax: Axes | None = None) -> GroupRoc:
        """Draws a curve for each group and chance as the diagonal. Returns itself."""
        if ax is None:
            ax = new_axes(2.9 + 0.3 * len(self.curves))
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        ax.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=(0, (4, 3)), label="chance")
        for group, (fpr, tpr) in self.curves.items():
            ax.plot(fpr, tpr, color=self.colours.get(group, "black"), lw=1.8, label=self.names[group])
        ax.set_xlim(-0.01, 1.01)
        ax.set_ylim(-0.01, 1.01)
        share_axis(ax.xaxis, "real videos called fake (FPR)")
        share_axis(ax.yaxis, "fakes found (TPR)")
        ax.set_title(f"ROC by {title(self.attribute)}", fontsize=9.5, loc="left", fontweight="bold")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.17), fontsize=8, frameon=False, borderpad=0)
        bare(ax, "both")
        return self


def _target(point: Mapping[str, Any], rate: str) -> float:
    kind, _, share = str(point["rule"]).partition(":")
    return float(share) if kind == rate else float("nan")
