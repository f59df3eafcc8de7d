"""How rates move as videos are changed.

A panel for each rate, a line for each dataset or group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.display import (
    CHANCE,
    DASHES,
    MARKERS,
    NARROW,
    PHONE,
    Display,
    legend_below,
    new_panels,
)
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import ends, number

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

RATES = {
    "auc": "AUC",
    "fpr": "reals called\nfake (FPR)",
    "tpr": "fakes found\n(TPR)",
    "fnr": "fakes missed\n(FNR)",
}
RUN_RATES = ("auc", "fpr", "tpr")
SOLID_DASHES = [dash for dash in DASHES if dash != ":"]  # dots are for what is too small to be compared
APART = 0.07  # of the step from one severity to the next, so that bars do not cover each other


@dataclass(frozen=True)
class Line:
    """One rate of one dataset or group over severity.

    ``points`` has the columns severity, value, low, high; severity 0 is untouched, NaN is undefined.
    """

    name: str
    rate: str
    points: pd.DataFrame
    n: str = ""  # videos
    colour: str = ""  # chosen by the name if empty
    is_compared: bool = True  # dotted if not: too little data for a comparison


@dataclass
class RobustnessDisplay(Display):
    """Rates over the severity of one perturbation, a panel for each rate.

    Attributes:
        title: the perturbation, in words.
        lines: those of a rate together.
        numbers: what stands in the CSV.
    """

    title: str
    lines: Sequence[Line]
    numbers: pd.DataFrame

    @classmethod
    def from_records(cls, title: str, records: Sequence[Measures]) -> RobustnessDisplay:
        """AUC, FPR and TPR at the stored threshold under a perturbation, a line a dataset.

        All records are of one perturbation and have a severity, which starts at 1. Intervals are of the
        change since severity 0.
        """
        datasets = list(dict.fromkeys(str(record["dataset"]) for record in records))
        lines = []
        for rate in RUN_RATES:
            for name in datasets:
                own = sorted(
                    (record for record in records if record["dataset"] == name),
                    key=lambda one: one["severity"],
                )
                start = clean_rate(own[0], rate)
                points = [(0, start, start, start)]
                for record in own:
                    low, high = (clean_rate(record, rate) + end for end in ends(record[f"{rate}_change_ci"]))
                    points.append((record["severity"], number(record[rate]), low, high))
                lines.append(Line(name, rate, _points(points), f"{own[0]['videos']}"))
        return cls(title, lines, pd.DataFrame(list(map(_numbers, records))))

    @classmethod
    def from_entries(
        cls,
        entries: Sequence[Measures],
        title: str,
        sizes: Mapping[str, float],
        colours: Mapping[str, str],
    ) -> RobustnessDisplay:
        """One rate of an attribute's groups from the ``perturbations`` of an audit.

        Where the clean rates can be told (value minus change), they are drawn at severity 0.
        """
        severities = sorted({float(entry["severity"]) for entry in entries})
        lines = []
        for group in dict.fromkeys(entry["group"] for entry in entries):
            found = {float(one["severity"]): one for one in entries if one["group"] == group}
            first = next(iter(found.values()))
            start = number(first["value"]) - number(first.get("change"))
            points = [] if 0.0 in severities else [(0.0, start, nan, nan)]
            for severity in severities:
                one = found.get(severity, {})
                points.append((severity, number(one.get("value")), *ends(one.get("ci"))))
            n = sizes.get(group, nan)
            lines.append(
                Line(
                    group,
                    str(first["metric"]),
                    _points(points),
                    "" if isnan(n) else f"{n:,.0f}",
                    colours.get(group, ""),
                    all(one.get("compared", True) for one in found.values()),
                )
            )
        parts = [line.points.assign(group=line.name, rate=line.rate) for line in lines]
        return cls(title, lines, pd.concat(parts, ignore_index=True))

    def table(self) -> pd.DataFrame:
        """A row for each dataset and severity, or each group and severity."""
        return self.numbers

    def series(self, name: str, rate: str) -> pd.DataFrame:
        """Columns severity, value, low, high of a line."""
        return next(line.points for line in self.lines if (line.name, line.rate) == (name, rate))

    def plot(self) -> RobustnessDisplay:
        """Draws the panels above each other, each point with its interval."""
        rates = list(dict.fromkeys(line.rate for line in self.lines))
        steps = sorted({float(step) for line in self.lines for step in line.points["severity"]})
        names = list(dict.fromkeys(line.name for line in self.lines))
        size = (NARROW, 4.4) if len(rates) > 1 else (PHONE, 2.7)
        self.axes_ = new_panels(size[0], size[1] + 0.17 * len(names), len(rates))
        self.ax_ = self.axes_[-1]
        self.lines_: list[Artist] = []
        self.bars_: list[Artist] = []
        for axes, rate in zip(self.axes_, rates, strict=True):
            self._panel(axes, rate, steps)
        self.axes_[0].set_title(self.title[:1].upper() + self.title[1:], fontsize=10)
        self.ax_.set_xticks(range(len(steps)), ["none" if step == 0 else f"{step:g}" for step in steps])
        self.ax_.set_xlabel("severity")
        legend_below(self.ax_)
        return self

    def _panel(self, axes: Axes, rate: str, steps: Sequence[float]) -> None:
        own = [line for line in self.lines if line.rate == rate]
        colours = group_colours(line.name for line in own)
        for position, one in enumerate(own):
            colour = one.colour or colours[one.name]
            x = np.array([steps.index(float(step)) for step in one.points["severity"]], dtype=np.float64)
            x += APART * (position - (len(own) - 1) / 2)
            dash = SOLID_DASHES[position % len(SOLID_DASHES)] if one.is_compared else ":"
            style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 1.6, "markersize": 4.5}
            style |= {"marker": MARKERS[position % len(MARKERS)], "clip_on": False}
            low, high = (np.clip(one.points[end], 0, 1) for end in ("low", "high"))
            label = f"{one.name} (n = {one.n})" if one.n else one.name
            (line,) = axes.plot(x, one.points["value"], label=label, **style)
            self.lines_.append(line)
            self.bars_.append(axes.vlines(x, low, high, color=colour, lw=1.2, alpha=0.6))
        if rate == "auc":
            axes.axhline(0.5, **CHANCE)
        # The same for every perturbation, so that figures compare.
        axes.set(ylim=(-0.02, 1.02), ylabel=RATES.get(rate, rate))
        axes.yaxis.label.set_fontsize(8.5)


def clean_rate(record: Measures, rate: str) -> float:
    """The rate of the same videos untouched."""
    if f"{rate}_clean" in record:
        return number(record[f"{rate}_clean"])
    value, change = number(record[rate]), number(record[f"{rate}_change"])
    return value if isnan(change) else value - change


def _points(points: Sequence[tuple[float, float, float, float]]) -> pd.DataFrame:
    return pd.DataFrame(points, columns=["severity", "value", "low", "high"])


def _numbers(record: Measures) -> dict[str, object]:
    """A row of the CSV: the rates, and the paired change with its interval."""
    row = {key: record[key] for key in ("dataset", "perturbation", "where", "severity", "setting")}
    row |= {"videos": record["videos"], "threshold": record["threshold"]}
    for rate in RUN_RATES:
        row |= {f"{rate}_clean": clean_rate(record, rate), rate: number(record[rate])}
        row[f"{rate}_change"] = number(record[f"{rate}_change"])
        row[f"{rate}_change_low"], row[f"{rate}_change_high"] = ends(record[f"{rate}_change_ci"])
    return row
