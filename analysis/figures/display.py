"""What every figure shares.

Axes that no global list keeps alive, line styles, labels, a legend below.
"""

from __future__ import annotations

import functools
import io
import re
import threading
import warnings
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unmasked.datasets.errors import printable
from unmasked.evaluation.wording import value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LONGEST = 100  # letters in a line of a figure
WIDTH, HEIGHT = 5.6, 4.2  # inches; a page scales them down, never up
NARROW = 3.05  # inches: as wide as a phone shows without scrolling
PHONE = 3.7  # inches: the same where letters are small
LEGEND_LINE = 0.18  # inches
LEGEND_DROP = 0.55  # inches below the axes, past ticks and label
SOFT = "#56616c"
FAINT = "#8a949d"
DRAWING = threading.RLock()  # matplotlib's settings are of the whole process, and two threads would mix them
NO_FORMULAS: dict[Any, Any] = {"text.parse_math": False}
CHANCE: dict[str, Any] = {"color": SOFT, "linestyle": "--", "linewidth": 1.0}
# Dashes tell lines apart that colour alone does not.
DASHES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (7, 2)))
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")


class Display:
    """What every display shares: where it was drawn, and that names are drawn as they are.

    A group called ``$x_{$`` is text; matplotlib would read a formula, and end.
    """

    ax_: Axes

    def __init_subclass__(cls, **settings: Any) -> None:
        """Draws whatever a subclass plots without formulas."""
        super().__init_subclass__(**settings)
        if plot := cls.__dict__.get("plot"):
            setattr(cls, "plot", _draw_without_formulas(plot))  # noqa: B010

    @property
    def figure_(self) -> Figure:
        """The figure that `plot` drew on."""
        figure = self.ax_.get_figure(root=True)
        assert figure is not None
        return figure


def _draw_without_formulas(plot: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plot)
    def drawn(*arguments: Any, **settings: Any) -> Any:
        import matplotlib as mpl

        with DRAWING, mpl.rc_context(NO_FORMULAS):
            display = plot(*arguments, **settings)
            _show_signs(display.figure_)
            return display

    return drawn


def _show_signs(figure: Figure) -> None:
    """Writes signs that no file may hold as their codes, and cuts what is too long."""
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator

    for text in figure.findobj(Text):
        text.set_text(_drawable(text.get_text()))
    for axis in [one for axes in figure.axes for one in (axes.xaxis, axes.yaxis)]:
        if isinstance(axis.get_major_locator(), FixedLocator):
            named = [text.get_text() for text in axis.get_ticklabels()]
            if (shown := [*map(_drawable, named)]) != named:
                axis.set_ticklabels(shown)


def _drawable(text: str) -> str:
    return "\n".join(shorten_name(line, LONGEST) for line in text.split("\n"))


def save_figure(figure: Figure, file: Path | io.BytesIO | io.StringIO, **how: Any) -> None:
    """Saves a figure cut to what is drawn; letters that no font has are boxes there.

    A browser that shows an SVG file has them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        # One small picture beside long words: it is drawn as it was placed.
        warnings.filterwarnings("ignore", message="constrained_layout not applied", category=UserWarning)
        figure.savefig(file, bbox_inches="tight", **how)


def new_axes(width: float = WIDTH, height: float = HEIGHT) -> Axes:
    """An empty axes, ``width`` x ``height`` inches, on a figure outside pyplot's global list."""
    return new_panels(width, height, 1)[0]


def new_panels(width: float, height: float, rows: int, columns: int = 1) -> list[Axes]:
    """Axes above and beside each other on one figure, row by row.

    They share the horizontal axis, and those of a row the vertical one.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=True, sharey="row", squeeze=False).ravel())
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#d9dfe4", linewidth=0.6)
        axes.set_axisbelow(True)
    return panels


def axes_above_legend(entries: int) -> Axes:
    """Axes that stay as large however many lines the legend below them has."""
    return new_axes(HEIGHT + 0.6, HEIGHT + LEGEND_LINE * max(0, entries - 3))


def legend_below(axes: Axes) -> None:
    """The legend under the axes, where it covers nothing; what is drawn often is named once."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None
    below = axes.transAxes + ScaledTranslation(0, -LEGEND_DROP, figure.dpi_scale_trans)
    longest = min(64, int(14 * figure.get_figwidth()) - 6)  # letters of one line
    handles, labels = axes.get_legend_handles_labels()
    named: dict[str, Any] = {}
    for handle, label in zip(handles, labels, strict=True):
        named.setdefault(shorten_name(label, longest), handle)
    axes.legend(
        named.values(),
        named.keys(),
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=below,
        fontsize=8.5,
        frameon=False,
        borderaxespad=0,
    )


def shorten_name(name: str, longest: int = 32) -> str:
    """A name in one line that leaves the axes their room: a long one without its middle.

    >>> shorten_name("real videos called fake", 12)
    'real vi…fake'
    """
    name = printable(re.sub(r"[^\S\xa0]+", " ", name).strip())
    if len(name) <= longest:
        return name
    end = longest // 3
    return f"{name[: longest - end - 1].rstrip()}…{name[-end:].lstrip()}"


def line_style(colour: str, position: int) -> dict[str, Any]:
    """How the line at a position among others is drawn."""
    return {"color": colour, "linestyle": DASHES[position % len(DASHES)], "linewidth": 2}


def line_label(name: str, metric: str, value: float, low: float, high: float) -> str:
    """What a legend says of a line: its metric with the interval.

    >>> line_label("A", "AUC", 0.913, 0.85, 0.96)
    'A: AUC 0.91 [0.85, 0.96]'
    """
    shown = value_text(value, [low, high])
    return f"{name}: {shown}" if isnan(value) else f"{name}: {metric} {shown}"


def write_beside(axes: Axes, line: float, text: str, reach: float = 34) -> None:
    """Text right of the axes at the height of a row; it ends ``reach`` points from them."""
    place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    axes.annotate(
        text, (1, line), xytext=(reach, 0), ha="right", va="center", fontsize=8, color=SOFT, **place
    )


def label_as_percent(axis: Axis, label: str, end: float = 1.0) -> None:
    """Names an axis of shares from 0 to ``end`` and gives it ticks in per cent, at most six."""
    step = next(step for step in (0.05, 0.1, 0.25) if end <= 5 * step)
    ticks = np.arange(0, end + 1e-9, step)
    names = [f"{100 * tick:.0f}" for tick in ticks]
    axis.set_ticks(ticks, [*names[:-1], f"{names[-1]} %"], fontsize=8)
    axis.set_label_text(label, fontsize=8.5)
