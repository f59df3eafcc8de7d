"""Numbers with their intervals in words, templates, and figures in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from markupsafe import Markup

from unmasked.analysis.figures.display import ends
from unmasked.analysis.figures.dots import Dot
from unmasked.analysis.html.page import NOT_ENOUGH, environment
from unmasked.evaluation.wording import number

TEMPLATES = Path(__file__).parent / "templates"


def valued(value: float, low: float, high: float) -> str:
    """A value with its interval on one line.

    >>> valued(0.913, 0.85, 0.96).replace(chr(160), " ")
    '0.91 [0.85, 0.96]'
    """
    if isnan(value):
        return NOT_ENOUGH
    # Spaces that do not break keep an interval on one line.
    return (
        f"{value:.2f}"
        if isnan(low)
        else f"{value:.2f}\N{NO-BREAK SPACE}[{low:.2f},\N{NO-BREAK SPACE}{high:.2f}]"
    )


def of(block: Mapping[str, Any], key: str) -> str:
    """The value under a key of a block of metrics, with the interval beside it."""
    return valued(number(block[key]), *ends(block.get(f"{key}_ci")))


def two_lines(value: float, low: float, high: float, places: int = 2) -> str | Markup:
    """A value and below it its interval, for narrow columns."""
    if isnan(value):
        return NOT_ENOUGH
    if isnan(low):
        return signed(value, places)
    shown = (signed(number, places) for number in (value, low, high))
    # A dash between two numbers of which one has a sign cannot be read.
    between = " to " if low < 0 else "–"
    return Markup('{}<br><span class="interval">{}{between}{}</span>').format(*shown, between=between)


def signed(value: float, places: int) -> str:
    """A number with a minus that is one, and none before zero.

    >>> signed(-0.002, 2), signed(-0.12, 2)
    ('0.00', '−0.12')
    """
    text = f"{value:.{places}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def two_lines_of(block: Mapping[str, Any], key: str, places: int = 2) -> str | Markup:
    """`two_lines` of the value under a key of a block of metrics."""
    return two_lines(number(block.get(key)), *ends(block.get(f"{key}_ci")), places)


def change(value: float, low: float, high: float) -> str | Markup:
    """A difference of two rates in points of 100, with its sign, and below it its interval.

    >>> change(0.114, float("nan"), float("nan"))
    '+11'
    """
    if isnan(value):
        return NOT_ENOUGH
    shown = points(value)
    if isnan(low):
        return shown
    return Markup('{}<br><span class="interval">{} to {}</span>').format(shown, points(low), points(high))


def points(value: float) -> str:
    """A difference of two rates in points of 100, with its sign.

    >>> points(-0.043), points(0.0)
    ('−4', '0')
    """
    rounded = round(100 * value)
    return "0" if rounded == 0 else f"{rounded:+d}".replace("-", "−")


def told(dots: Sequence[Dot]) -> str:
    """Dots for who cannot see them."""
    return "; ".join(f"{dot.label}: {valued(dot.value, dot.low, dot.high)}" for dot in dots)


def side_by_side(drawn: Sequence[Markup]) -> Markup:
    """Figures in a row that breaks where the page is narrow."""
    return Markup('<div class="row">{}</div>').format(Markup("").join(drawn))


def rendered(name: str, **values: Any) -> Markup:
    """A template of this layer, filled in."""
    return Markup(environment(TEMPLATES).get_template(name).render(**values))
