"""Curves over all thresholds: ROC and DET with their bands, and precision-recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.display import (
    CHANCE,
    Display,
    axes_above_legend,
    line_label,
    line_style,
)
from unmasked.analysis.figures.labels import name_lines
from unmasked.evaluation.records import Measures, Results
from unmasked.evaluation.wording import ends
from unmasked.fairness.records import GroupResults, GroupScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND_ALPHA = 0.14
# Where a DET plot may begin and what its axes name, as rates.
DET_STARTS = (0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
DET_TICKS = (0.0001, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
DET_END = 0.95
NO_BAND: dict[str, list[float]] = {"fpr": [], "tpr": [], "low": [], "high": []}


@dataclass
class RocDisplay(Display):
    """ROC curves of the datasets.

    ``{NAME: {"fpr", "tpr", "threshold", "band", "auc", "low", "high", …}}``.

    Attributes:
        curves: the points, the band if there is one, and what the legend says of them, with ``real`` and
            ``fake`` counts; a dataset of one class has no points.
        level: what a row is, for the axes.
        colours: of the curves; chosen for those that are absent.
    """

    curves: dict[str, dict[str, Any]]
    level: str = "video"
    colours: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_results(cls, curves: Mapping[str, Any], results: Results, level: str = "video") -> RocDisplay:
        """From the points of `evaluation.curves.curves` and the numbers of `evaluate`."""
        stored = _collect_curves(curves, results, level, "roc", "auc")
        for name, curve in stored.items():
            curve["band"] = curves[name][level].get("band", NO_BAND)
        return cls(stored, level)

    @classmethod
    def from_groups(
        cls,
        scores: Sequence[GroupScores],
        groups: Sequence[GroupResults],
        colours: Mapping[str, str],
    ) -> RocDisplay:
        """From the ``scores`` of an attribute in an audit: exact at the edges of its histograms.

        A group without one of the classes has no curve.
        """
        counted = {
            (one["group"], one["label"]): np.asarray(one["counts"], dtype=np.float64) for one in scores
        }
        edges = {one["group"]: one["edges"] for one in scores}
        curves = {}
        for entry in groups:
            group = entry["group"]
            found = [counted.get((group, label), np.zeros(1)) for label in (0, 1)]
            if any(counts.sum() == 0 for counts in found):
                continue
            fpr, tpr = (np.append(0, np.cumsum(counts[::-1]) / counts.sum()) for counts in found)
            low, high = ends(entry["auc_ci"])
            curve = {"fpr": fpr, "tpr": tpr, "threshold": edges[group][::-1], "band": NO_BAND}
            curve |= {"auc": entry["auc"], "low": low, "high": high}
            support = entry["support"]
            curves[group] = curve | {"real": support["real_videos"], "fake": support["fake_videos"]}
        return cls(curves, colours=colours)

    def table(self) -> pd.DataFrame:
        """The points of the curves, and those of their bands with the interval of the TPR."""
        parts = []
        for name, curve in self.curves.items():
            points = {key: curve[key] for key in ("fpr", "tpr", "threshold")}
            parts.append(pd.DataFrame({"dataset": name, "series": "curve", **points}))
            parts.append(pd.DataFrame({"dataset": name, "series": "band", **curve["band"]}))
        return _concatenate(parts, ["dataset", "series", "fpr", "tpr", "threshold", "low", "high"])

    def plot(self, ax: Axes | None = None, **line: Any) -> RocDisplay:
        """Draws the bands, the curves and the line of chance; ``line`` goes to every curve."""
        self.ax_ = ax or axes_above_legend(len(self.curves))
        self.lines_, self.bands_ = [], []
        colours = group_colours(self.curves) | dict(self.colours)
        for position, (name, curve) in enumerate(self.curves.items()):
            band = curve["band"]
            style = line_style(colours[name], position) | line
            label = line_label(name, "AUC", curve["auc"], curve["low"], curve["high"])
            label += f", n = {curve['real']:,} + {curve['fake']:,}" if len(curve["fpr"]) else ""
            if len(band["fpr"]):
                shape = self.ax_.fill_between(
                    band["fpr"], band["low"], band["high"], color=colours[name], alpha=BAND_ALPHA, lw=0
                )
                self.bands_.append(shape)
            (drawn,) = self.ax_.plot(curve["fpr"], curve["tpr"], label=label, **style)
            self.lines_.append(drawn)
        (self.chance_,) = self.ax_.plot([0, 1], [0, 1], label="chance: AUC 0.50", **CHANCE)
        self.ax_.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        self.ax_.set_xlabel(f"share of real {self.level}s called fake (FPR)")
        self.ax_.set_ylabel(f"share of fake {self.level}s found (TPR)")
        name_lines(self.ax_, [*self.lines_, self.chance_])
        return self


@dataclass
class DetDisplay(Display):
    """Detection error trade-off: misses over false alarms, both axes in normal deviates.

    Martin et al. (1997). Scores that are normally distributed in both classes give a straight line; the
    corner of few errors, where a detector is used, takes as much room as the rest.

    Attributes:
        curves: as of `RocDisplay`.
        level: what a row is, for the axes.
    """

    curves: dict[str, dict[str, Any]]
    level: str = "video"

    @classmethod
    def from_results(cls, curves: Mapping[str, Any], results: Results, level: str = "video") -> DetDisplay:
        """From the points of `evaluation.curves.curves` and the numbers of `evaluate`."""
        stored = RocDisplay.from_results(curves, results, level).curves
        for name, curve in stored.items():
            block = _block(results, name, level)
            low, high = ends(block.get("eer_ci"))
            curve |= {"eer": block.get("eer", nan), "low": low, "high": high}
        return cls(stored, level)

    def table(self) -> pd.DataFrame:
        """FPR and FNR of the points and of the bands, as rates; the deviates are their probits."""
        points = RocDisplay(self.curves, self.level).table()
        points.insert(3, "fnr", 1 - points.pop("tpr"))
        points["low"], points["high"] = 1 - points["high"], 1 - points["low"]
        return points

    @property
    def start(self) -> float:
        """The least rate shown: below half an error of the largest class there is nothing to see."""
        largest = max((max(curve["real"], curve["fake"]) for curve in self.curves.values()), default=1)
        return max((rate for rate in DET_STARTS if rate <= 0.5 / max(largest, 1)), default=DET_STARTS[0])

    def plot(self, ax: Axes | None = None, **line: Any) -> DetDisplay:
        """Draws the bands, the curves and chance; points beyond the axes are at their edge."""
        self.ax_ = ax or axes_above_legend(len(self.curves))
        self.lines_, self.bands_ = [], []
        colours = group_colours(self.curves)
        for position, (name, curve) in enumerate(self.curves.items()):
            band = curve["band"]
            style = line_style(colours[name], position) | line
            label = line_label(name, "EER", curve["eer"], curve["low"], curve["high"])
            if len(band["fpr"]):
                x = self._deviate(band["fpr"])
                low, high = (self._deviate(1 - np.asarray(band[key])) for key in ("high", "low"))
                shape = self.ax_.fill_between(x, low, high, color=colours[name], alpha=BAND_ALPHA, lw=0)
                self.bands_.append(shape)
            x, y = self._deviate(curve["fpr"]), self._deviate(1 - np.asarray(curve["tpr"]))
            (drawn,) = self.ax_.plot(x, y, label=label, **style)
            self.lines_.append(drawn)
        rates = np.linspace(1 - DET_END, DET_END, 50)
        chance = self._deviate(rates), self._deviate(1 - rates)
        (self.chance_,) = self.ax_.plot(*chance, label="chance", **CHANCE)
        self._label_axes()
        name_lines(self.ax_, [*self.lines_, self.chance_])
        return self

    def _label_axes(self) -> None:
        ticks = [rate for rate in DET_TICKS if rate >= self.start]
        names = [f"{100 * rate:g}" for rate in ticks]
        limits = self._deviate([self.start, DET_END])
        self.ax_.set(xlim=limits, ylim=limits, aspect="equal")
        self.ax_.set_xticks(self._deviate(ticks), names)
        self.ax_.set_yticks(self._deviate(ticks), names)
        self.ax_.set_xlabel(f"real {self.level}s called fake, % (FPR)")
        self.ax_.set_ylabel(f"fake {self.level}s missed, % (FNR)")

    def _deviate(self, rate: Any) -> np.ndarray:
        from scipy.special import ndtri

        return ndtri(np.clip(rate, self.start, DET_END))


@dataclass
class PrecisionRecallDisplay(Display):
    """Precision-recall curves: ``{NAME: {"recall", "precision", "ap", "low", "high", …}}``."""

    curves: dict[str, dict[str, Any]]
    level: str = "video"

    @classmethod
    def from_results(
        cls, curves: Mapping[str, Any], results: Results, level: str = "video"
    ) -> PrecisionRecallDisplay:
        """From the points of `evaluation.curves.curves` and the numbers of `evaluate`."""
        return cls(_collect_curves(curves, results, level, "pr", "ap"), level)

    def table(self) -> pd.DataFrame:
        """The points of the curves, with the share of fakes that chance has."""
        parts = [
            pd.DataFrame(
                {
                    "dataset": name,
                    "recall": curve["recall"],
                    "precision": curve["precision"],
                    "chance": _share(curve["fake"], curve["real"] + curve["fake"]),
                }
            )
            for name, curve in self.curves.items()
        ]
        return _concatenate(parts, ["dataset", "recall", "precision", "chance"])

    def plot(self, ax: Axes | None = None, **line: Any) -> PrecisionRecallDisplay:
        """Draws the curves, each with its own chance line, the share of fakes."""
        self.ax_ = ax or axes_above_legend(len(self.curves))
        self.lines_, self.chances_ = [], []
        colours = group_colours(self.curves)
        for position, (name, curve) in enumerate(self.curves.items()):
            style = line_style(colours[name], position) | line
            share = _share(curve["fake"], curve["real"] + curve["fake"])
            label = line_label(name, "AP", curve["ap"], curve["low"], curve["high"])
            label += f", chance {share:.2f}"
            (drawn,) = self.ax_.plot(curve["recall"], curve["precision"], label=label, **style)
            self.lines_.append(drawn)
            self.chances_.append(self.ax_.axhline(share, **(CHANCE | {"color": colours[name]})))
        self.ax_.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        self.ax_.set_xlabel(f"share of fake {self.level}s found (recall)")
        self.ax_.set_ylabel("share of “fake” calls that are right (precision)")
        name_lines(self.ax_, self.lines_)
        return self


def _collect_curves(
    curves: Mapping[str, Any], results: Results, level: str, shape: str, metric: str
) -> dict[str, dict[str, Any]]:
    """By dataset the points of a curve, the metric that sums it up with its interval, and the counts."""
    stored = {}
    for name in _order_datasets(curves, results):
        part = curves[name][level]
        block = _block(results, name, level)
        low, high = ends(block.get(f"{metric}_ci"))
        stored[name] = {**part[shape], metric: block.get(metric, nan), "low": low, "high": high, **part["n"]}
    return stored


def _order_datasets(curves: Mapping[str, Any], results: Results) -> list[str]:
    """The datasets in the order of the matrix: the one that was trained on comes first."""
    place = {row["test"]: position for position, row in enumerate(results["matrix"])}
    return sorted(curves, key=lambda name: (place.get(name, len(place)), name))


def _block(results: Results, name: str, level: str) -> Measures:
    """The metrics of a dataset at a level; none where it was not evaluated."""
    blocks: Measures = results["datasets"].get(name, {})
    return blocks.get(level, {})


def _share(part: float, whole: float) -> float:
    return part / whole if whole else nan


def _concatenate(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """One table; parts without rows would make pandas guess at types."""
    filled = [part.reindex(columns=columns).astype(object) for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns)
