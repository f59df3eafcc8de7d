"""How a detector fares as videos are changed on their way: curves over severity, for each perturbation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unmasked.analysis.figures.display import (
    CHANCE,
    MARKERS,
    NARROW,
    Display,
    legend_below,
    line_style,
    new_panels,
)
from unmasked.analysis.html.page import group_colours
from unmasked.evaluation.wording import ends, number

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

RATES = {"auc": "AUC", "fpr": "reals called\nfake (FPR)", "tpr": "fakes found\n(TPR)"}
BAND_ALPHA = 0.16


@dataclass
class RobustnessDisplay(Display):
    """AUC, FPR and TPR at the stored threshold over the severity of one perturbation, a line a dataset.

    Attributes:
        title: the perturbation, in words.
        records: of `evaluation.perturbing.drift`, all of this perturbation and with a severity, which starts
            at 1; 0 is the clean value.
    """

    title: str
    records: Sequence[Mapping[str, Any]]

    def table(self) -> pd.DataFrame:
        """A row for each dataset and severity: the rates, and the paired change with its interval."""
        rows = []
        for record in self.records:
            row = {key: record[key] for key in ("dataset", "perturbation", "where", "severity", "setting")}
            row |= {"videos": record["videos"], "threshold": record["threshold"]}
            for rate in RATES:
                row |= {f"{rate}_clean": clean(record, rate), rate: number(record[rate])}
                row[f"{rate}_change"] = number(record[f"{rate}_change"])
                row[f"{rate}_change_low"], row[f"{rate}_change_high"] = ends(record[f"{rate}_change_ci"])
            rows.append(row)
        return pd.DataFrame(rows)

    def series(self, dataset: str, rate: str) -> pd.DataFrame:
        """Columns severity, value, low, high of a line; the interval is of the change since severity 0."""
        chosen = sorted(
            (record for record in self.records if record["dataset"] == dataset),
            key=lambda record: record["severity"],
        )
        start = clean(chosen[0], rate)
        rows = [(0, start, start, start)]
        for record in chosen:
            low, high = (clean(record, rate) + end for end in ends(record[f"{rate}_change_ci"]))
            rows.append((record["severity"], number(record[rate]), low, high))
        return pd.DataFrame(rows, columns=["severity", "value", "low", "high"])

    def plot(self) -> RobustnessDisplay:
        """Draws three panels above each other, with the band of the paired change."""
        datasets = list(dict.fromkeys(str(record["dataset"]) for record in self.records))
        self.axes_ = new_panels(NARROW, 4.4 + 0.16 * len(datasets), len(RATES))
        self.ax_ = self.axes_[-1]
        self.lines_: list[Artist] = []
        self.bands_: list[Artist] = []
        for axes, rate in zip(self.axes_, RATES, strict=True):
            self._panel(axes, rate, datasets)
        self.axes_[0].set_title(self.title[:1].upper() + self.title[1:], fontsize=10)
        steps = sorted({0, *(int(record["severity"]) for record in self.records)})
        self.ax_.set_xticks(steps, ["none", *map(str, steps[1:])])
        self.ax_.set_xlabel("severity")
        legend_below(self.ax_)
        return self

    def _panel(self, axes: Axes, rate: str, datasets: Sequence[str]) -> None:
        colours = group_colours(datasets)
        for position, name in enumerate(datasets):
            points = self.series(name, rate)
            videos = next(record["videos"] for record in self.records if record["dataset"] == name)
            style = line_style(colours[name], position) | {"linewidth": 1.7, "markersize": 4.5}
            low, high = (np.clip(points[end], 0, 1) for end in ("low", "high"))
            band = axes.fill_between(
                points["severity"], low, high, color=colours[name], alpha=BAND_ALPHA, lw=0
            )
            (line,) = axes.plot(
                points["severity"],
                points["value"],
                marker=MARKERS[position % len(MARKERS)],
                label=f"{name} (n = {videos})",
                clip_on=False,
                **style,
            )
            self.bands_.append(band)
            self.lines_.append(line)
        if rate == "auc":
            axes.axhline(0.5, **CHANCE)
        # The same for every perturbation, so that figures compare.
        axes.set(ylim=(0, 1), ylabel=RATES[rate])
        axes.yaxis.label.set_fontsize(8.5)


def clean(record: Mapping[str, Any], rate: str) -> float:
    """The rate of the same videos untouched."""
    if f"{rate}_clean" in record:
        return number(record[f"{rate}_clean"])
    value, change = number(record[rate]), number(record[f"{rate}_change"])
    return value if isnan(change) else value - change
