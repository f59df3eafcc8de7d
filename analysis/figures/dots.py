"""Histograms of scores, dots with intervals, and training curves.

Every display, here and in the other files of this folder, stores its numbers: ``plot(ax=None)`` draws them,
keeps the artists under names that end in an underscore and returns the display; ``table()`` gives them for
a CSV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.display import (
    CHANCE,
    FAINT,
    NARROW,
    PHONE,
    SOFT,
    Display,
    label_as_percent,
    legend_below,
    line_style,
    new_axes,
    shorten_name,
    write_beside,
)
from unmasked.evaluation.records import Measures, Results
from unmasked.evaluation.wording import NOT_ENOUGH, ends, number, rule_name, value_text
from unmasked.fairness.records import AuditResults, GroupScores, OperatingPoint
from unmasked.fairness.verdicts import title

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

HIGH = 0.85  # of a row's room that the highest bar takes
LETTER = 4.7  # points that a letter of the counts is wide
# The rate that is drawn of groups: the tested metric whose gap it has, its class, and its name.
GROUP_RATES = {
    "fpr": ("fpr", "real", "Real called fake (FPR)"),
    "fnr": ("tpr", "fake", "Fakes missed (FNR)"),
    "tpr": ("tpr", "fake", "Fakes found (TPR)"),
}


@dataclass(frozen=True)
class Scores:
    """How many reals and fakes of one dataset or group score in each bin.

    ``edges`` is one longer.
    """

    name: str
    edges: Sequence[float]
    real: Sequence[float]
    fake: Sequence[float]
    colour: str = ""  # of the fakes; that of fakes if empty


@dataclass
class ScoreDisplay(Display):
    """How scores of reals and fakes spread, a row a dataset or group, beside the threshold.

    Attributes:
        rows: from top to bottom.
        threshold: above it a video is called fake; NaN for none.
        level: what was counted.
        heading: above the axes; the name of a single row.
    """

    rows: Sequence[Scores]
    threshold: float = nan
    level: str = "video"
    heading: str = ""

    @classmethod
    def from_groups(
        cls, scores: Sequence[GroupScores], threshold: float, colours: Mapping[str, str]
    ) -> ScoreDisplay:
        """The ``scores`` of an attribute in an audit."""
        edges = {one["group"]: one["edges"] for one in scores}
        found = {(one["group"], int(one["label"])): one["counts"] for one in scores}
        nobody = {group: [0] * (len(at) - 1) for group, at in edges.items()}
        rows = []
        for group, at in edges.items():
            real, fake = (found.get((group, label), nobody[group]) for label in (0, 1))
            rows.append(Scores(group, at, real, fake, colours.get(group, "#000000")))
        return cls(rows, threshold, heading="Scores: real outlined, fake filled")

    def table(self) -> pd.DataFrame:
        """How many reals and fakes score in each bin."""
        bins = {"score_from": lambda row: row.edges[:-1], "score_to": lambda row: row.edges[1:]}
        bins |= {"real": lambda row: row.real, "fake": lambda row: row.fake}
        parts = [
            pd.DataFrame({"of": row.name} | {key: list(of(row)) for key, of in bins.items()})
            for row in self.rows
        ]
        return pd.concat(parts, ignore_index=True)

    def plot(self, ax: Axes | None = None) -> ScoreDisplay:
        """Draws the share of each class in each bin, so that unequal class sizes compare."""
        several = len(self.rows) > 1
        self.ax_ = ax or (new_axes(PHONE, 1.9 + 0.5 * len(self.rows)) if several else new_axes(NARROW, 2.6))
        self.steps_: list[Artist] = []
        shares = [[_shares(row.real), _shares(row.fake)] for row in self.rows]
        room = max((float(one.max(initial=0)) for pair in shares for one in pair), default=0) / HIGH or 1.0
        feet = [room * (len(self.rows) - 1 - place) for place in range(len(self.rows))]
        beside: list[tuple[float, str]] = []
        for row, foot, (real, fake) in zip(self.rows, feet, shares, strict=True):
            counts = [f"{np.sum(found):,.0f}" for found in (row.real, row.fake)]
            names = [
                kind if several else f"{kind} (n = {n})"
                for kind, n in zip(("real", "fake"), counts, strict=True)
            ]
            colour = row.colour or group_colours(["fake"])["fake"]
            if real.any():
                style: dict[str, Any] = {"color": "#1d2329", "linewidth": 1.1, "label": names[0]}
                self.steps_.append(self.ax_.stairs(foot + real, row.edges, baseline=foot, **style))
            if fake.any():
                style = {"fill": True, "color": colour, "alpha": 0.45, "linewidth": 0, "label": names[1]}
                self.steps_.append(self.ax_.stairs(foot + fake, row.edges, baseline=foot, **style))
            if several:
                beside.append((foot + 0.25 * room, " + ".join(counts)))
        if not isnan(self.threshold):
            label = f"threshold {self.threshold:.2f}"
            self.threshold_ = self.ax_.axvline(
                self.threshold, color="black", lw=1.2, ls=(0, (4, 3)), label=label
            )
        self.ax_.set(xlim=(0, 1), ylim=(-0.02 * room, room * len(self.rows)), xlabel="score, P(fake)")
        if several:
            places = [foot + 0.25 * room for foot in feet]
            self.ax_.set_yticks(places, [shorten_name(row.name, 22) for row in self.rows], fontsize=9)
            self.ax_.tick_params(axis="y", length=0)
            beside.append((room * (len(self.rows) + 0.08), "real + fake"))
            for line, text in beside:
                write_beside(self.ax_, line, text, reach=6 + LETTER * max(len(one) for _, one in beside))
        else:
            self.ax_.set_ylabel(f"share of {self.level}s")
        self.ax_.set_title(self.heading or self.rows[0].name, fontsize=10, loc="left", pad=14)
        legend_below(self.ax_)
        return self


@dataclass(frozen=True)
class Dot:
    """One row of a `DotDisplay`: a value in [0, 1] with its interval, NaN where undefined."""

    label: str
    value: float
    low: float = nan
    high: float = nan
    n: str = ""  # what it rests on, in words
    colour: str = ""  # chosen by the label if empty
    is_reference: bool = False  # drawn as a diamond: what the others are compared with
    is_compared: bool = True  # drawn hollow if not: too little data for a comparison
    block: str = ""  # the rows under one heading

    @property
    def text(self) -> str:
        """The dot in words."""
        where = f"{self.block}, {self.label}" if self.block else self.label
        return f"{where}: {value_text(self.value, [self.low, self.high])}"


@dataclass
class DotDisplay(Display):
    """Values with intervals in rows, one under the other, in blocks where the dots name some.

    Attributes:
        dots: from top to bottom, those of a block together.
        quantity: what the axis shows, with its unit.
        chance: where a line stands that dots are seen beside; NaN for nowhere.
        chance_label: what the line is.
        bands: block -> from where to where it is shaded.
        expected: block -> what was to be expected of its values.
        n_of: what stands above the numbers on the right; below the labels if empty.
        heading: above the axes.
        end: of the axis.
    """

    dots: Sequence[Dot]
    quantity: str
    chance: float = nan
    chance_label: str = "chance"
    bands: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)
    n_of: str = ""
    heading: str = ""
    end: float = 1.0

    @classmethod
    def from_matrix(cls, results: Results) -> DotDisplay:
        """The cross-dataset matrix of `evaluate`: video AUC on each dataset."""
        colours = group_colours(row["test"] for row in results["matrix"])
        dots = []
        for row in results["matrix"]:
            n = results["datasets"][row["test"]]["n"]
            known = row["train"] in results["datasets"]
            is_source = row["train"] == row["test"]
            label = row["test"] + (" (trained on)" if known and is_source else "")
            size = f"{n['real_videos']} real + {n['fake_videos']} fake videos"
            colour = colours[row["test"]]
            dots.append(Dot(label, row["auc"], *ends(row["ci"]), size, colour, is_source))
        return cls(dots, "video AUC", 0.5)

    @classmethod
    def from_methods(cls, results: Results, name: str) -> DotDisplay:
        """Video AUC of each manipulation method of a dataset against the dataset's reals."""
        dots = [
            Dot(
                method,
                block["video"]["auc"],
                *ends(block["video"]["auc_ci"]),
                f"{block['n']['fake_videos']} fake videos",
            )
            for method, block in results["datasets"][name]["methods"].items()
        ]
        return cls(dots, "video AUC", 0.5)

    @classmethod
    def from_audit(
        cls, audit: AuditResults, rate: str, colours: Mapping[str, Mapping[str, str]] | None = None
    ) -> DotDisplay:
        """A rate of every group of an audit beside everybody's.

        Shaded: how far chance alone spreads groups.

        Args:
            audit: `Audit.to_dict`, or its JSON.
            rate: a key of `GROUP_RATES` that the audit's groups have.
            colours: attribute -> group -> colour; chosen for an attribute that is absent.
        """
        metric, label, name = GROUP_RATES[rate]
        everybody: Measures = audit["overall"]
        overall = everybody[rate]
        dots: list[Dot] = []
        bands = {}
        for attribute, found in audit["attributes"].items():
            chosen = (colours or {}).get(attribute) or group_colours(
                entry["group"] for entry in found["groups"]
            )
            for entry in found["groups"]:
                support: Measures = entry["support"]
                dots.append(_group_dot(entry, rate, support[f"{label}_videos"], chosen, title(attribute)))
            floors = [test["null_floor"] for test in found["tests"] if test["metric"] == metric]
            if floors and not isnan(floors[0]) and not isnan(overall):
                # As wide as the gap even where the overall rate is near 0 or 1.
                left = min(max(0.0, overall - floors[0] / 2), max(0.0, 1.0 - floors[0]))
                bands[title(attribute)] = (left, left + floors[0])
        quantity = f"share of {label} videos, 95 % interval"
        all_label = f"all: {100 * overall:.0f} %"
        return cls(dots, quantity, overall, all_label, bands, n_of="videos", heading=name)

    @classmethod
    def from_points(
        cls, points: Sequence[OperatingPoint], attribute: str, rate: str, colours: Mapping[str, str]
    ) -> DotDisplay:
        """A rate of an attribute's groups at each of the ``operating_points`` of an audit."""
        _, label, name = GROUP_RATES[rate]
        dots: list[Dot] = []
        expected = {}
        for point in points:
            block = _threshold_name(point)
            entries: Sequence[Measures] = point["attributes"][attribute]
            dots += [_group_dot(one, rate, one[f"{label}_videos"], colours, block) for one in entries]
            kind, _, share = point["rule"].partition(":")
            expected[block] = float(share) if kind == rate else nan
        quantity = f"share of {label} videos, 95 % interval"
        return cls(dots, quantity, expected=expected, n_of="videos", heading=name)

    def table(self) -> pd.DataFrame:
        """A row for each dot; with blocks also their shading and what was to be expected."""
        frame = pd.DataFrame(
            [(dot.block, dot.label, dot.value, dot.low, dot.high, dot.n) for dot in self.dots],
            columns=["block", "row", self.quantity, "low", "high", "n"],
        )
        if not any(dot.block for dot in self.dots):
            return frame.drop(columns="block")
        if self.expected:
            frame["expected"] = frame["block"].map(self.expected)
        if self.bands:
            pairs = {name: self.bands.get(name, (nan, nan)) for name in frame["block"].unique()}
            for side, column in enumerate(("band_low", "band_high")):
                frame[column] = [pairs[name][side] for name in frame["block"]]
        return frame

    def plot(self, ax: Axes | None = None) -> DotDisplay:
        """Draws a point and its interval for each row; a row without a value says so."""
        blocks = list(dict.fromkeys(dot.block for dot in self.dots if dot.block))
        size = (PHONE, 1.0 + 0.25 * (len(self.dots) + 1.15 * len(blocks))) if blocks else (5.2, 0.9)
        self.ax_ = ax or new_axes(size[0], size[1] + (0 if blocks else 0.5 * max(len(self.dots), 1)))
        self.points_: list[Artist] = []
        self.intervals_: list[Artist] = []
        self.expected_: list[Artist] = []
        self.bands_: list[Artist] = []
        colours = group_colours(dot.label for dot in self.dots)
        rows: list[tuple[float, str, bool]] = []
        line = -1.0
        for place, dot in enumerate(self.dots):
            if dot.block and (not place or self.dots[place - 1].block != dot.block):
                line += 1.15 if place else 1.0
                rows.append((line, dot.block, True))
                self._draw_block(dot.block, line)
            line += 1.0
            name = shorten_name(dot.label, 22 if self.n_of else 32)  # narrow figures stand side by side
            text = f"{name}\n{dot.n}" if dot.n and not self.n_of else name
            rows.append((line, text, False))
            self._draw(line, dot, dot.colour or colours[dot.label])
        self._label(rows, line)
        return self

    def _draw_block(self, block: str, line: float) -> None:
        count = sum(dot.block == block for dot in self.dots)
        if block in self.bands:
            left, right = self.bands[block]
            shape = self.ax_.fill_betweenx(
                [line + 0.55, line + count + 0.45], left, right, color="#e3e7ea", lw=0, zorder=0
            )
            self.bands_.append(shape)
        x = self.expected.get(block, nan)
        if not isnan(x):
            span = [line + 0.5, line + count + 0.5]
            style: dict[str, Any] = {"color": "black", "lw": 1.2, "ls": (0, (2, 2)), "zorder": 4}
            (mark,) = self.ax_.plot([x, x], span, **style)
            self.expected_.append(mark)

    def _draw(self, row: float, dot: Dot, colour: str) -> None:
        if self.n_of:
            write_beside(self.ax_, row, dot.n)
        if isnan(dot.value):
            self.ax_.text(0.02, row, NOT_ENOUGH, va="center", style="italic", color=SOFT, fontsize=9)
            return
        shade = colour if dot.is_compared else FAINT
        if not isnan(dot.low):
            (interval,) = self.ax_.plot([dot.low, dot.high], [row, row], color=shade, linewidth=2.2)
            self.intervals_.append(interval)
        face = shade if dot.is_compared else "white"
        style: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": shade, "clip_on": False}
        style |= {"marker": "D" if dot.is_reference else "o", "markersize": 7, "linestyle": "", "zorder": 3}
        (point,) = self.ax_.plot([dot.value], [row], **style)
        self.points_.append(point)
        if self.n_of:
            return
        # Beside the interval, on the side that has room; above the dot where neither has.
        low, high = (dot.value, dot.value) if isnan(dot.low) else (dot.low, dot.high)
        x, offset, sides = dot.value, (0, 5), ("center", "bottom")
        if high < 0.85:
            x, offset, sides = high, (7, 0), ("left", "center")
        elif low > 0.15:
            x, offset, sides = low, (-7, 0), ("right", "center")
        label = self.ax_.annotate(
            f"{dot.value:.2f}", (x, row), offset, textcoords="offset points", fontsize=9
        )
        label.set(ha=sides[0], va=sides[1])

    def _label(self, rows: list[tuple[float, str, bool]], last: float) -> None:
        if not isnan(self.chance):
            self.chance_ = self.ax_.axvline(self.chance, **CHANCE)
            place: dict[str, Any] = {"transform": self.ax_.get_xaxis_transform(), "va": "bottom"}
            self.ax_.text(self.chance, 1.01, self.chance_label, ha="center", color=SOFT, fontsize=8, **place)
        self.ax_.set(xlim=(-0.02 * self.end, 1.02 * self.end), ylim=(last + 0.6, -0.6), xlabel=self.quantity)
        self.ax_.set_yticks([line for line, _, _ in rows], [text for _, text, _ in rows], fontsize=9)
        for tick, (_, _, is_heading) in zip(self.ax_.get_yticklabels(), rows, strict=True):
            tick.set_fontweight("bold" if is_heading else "normal")
        if self.n_of:
            write_beside(self.ax_, -0.85, self.n_of)
            self.ax_.spines["left"].set_visible(False)
            self.ax_.tick_params(length=0)
            self.ax_.set_title(self.heading, fontsize=10, loc="left", pad=16, fontweight="bold")
            label_as_percent(self.ax_.xaxis, self.quantity, self.end)
        self.ax_.grid(visible=False, axis="y")


@dataclass
class TrainingDisplay(Display):
    """How values developed over training.

    ``series`` maps a name to its (position, value) pairs.

    Attributes:
        series: NaN and missing values are left out.
        quantity: the vertical axis.
        position: the horizontal axis, ``epoch`` or ``step``.
        limits: of the vertical axis; None fits them to the values.
    """

    series: dict[str, list[tuple[float, float]]]
    quantity: str
    position: str = "epoch"
    limits: tuple[float, float] | None = None

    @classmethod
    def from_records(
        cls,
        records: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        quantity: str,
        *,
        position: str = "epoch",
        limits: tuple[float, float] | None = None,
    ) -> TrainingDisplay:
        """From the records of ``metrics.jsonl``; names that no record has are left out."""
        series = {}
        for name in names:
            found = [(record.get(position), number(record.get(name))) for record in records]
            pairs = [(float(at), value) for at, value in found if at is not None and not isnan(value)]
            if pairs:
                series[name] = pairs
        return cls(series, quantity, position, limits)

    def table(self) -> pd.DataFrame:
        """Every value with where in the training it was."""
        rows = [(name, *pair) for name, pairs in self.series.items() for pair in pairs]
        return pd.DataFrame(rows, columns=["series", self.position, self.quantity])

    def plot(self, ax: Axes | None = None, **line: Any) -> TrainingDisplay:
        """Draws a line for each series."""
        self.ax_ = ax or new_axes(4.6, 3.1)
        self.lines_ = []
        colours = group_colours(self.series)
        for n, (name, pairs) in enumerate(self.series.items()):
            style = line_style(colours[name], n) | line
            if len(pairs) <= 40:
                style = {"marker": "o", "markersize": 3.5} | style
            (drawn,) = self.ax_.plot(*zip(*pairs, strict=True), label=name, **style)
            self.lines_.append(drawn)
        if self.limits:
            self.ax_.set_ylim(*self.limits)
        self.ax_.set(xlabel=self.position, ylabel=self.quantity)
        self.ax_.locator_params(axis="x", integer=True, min_n_ticks=1)
        if self.series:
            self.ax_.legend(fontsize=8, frameon=False)
        return self


def _group_dot(entry: Measures, rate: str, n: int, colours: Mapping[str, str], block: str) -> Dot:
    compared = rate in entry.get("compared", GROUP_RATES)
    colour = colours.get(entry["group"], "#000000")
    value, (low, high) = number(entry[rate]), ends(entry[f"{rate}_ci"])
    return Dot(entry["group"], value, low, high, f"{n:,}", colour, is_compared=compared, block=block)


def _threshold_name(point: OperatingPoint) -> str:
    name = rule_name(str(point["rule"]))
    return name if name.startswith("fixed at") else f"{name}: {point['value']:.3f}"


def _shares(counts: Sequence[float]) -> np.ndarray:
    found = np.asarray(counts, dtype=np.float64)
    return found / max(found.sum(), 1)
