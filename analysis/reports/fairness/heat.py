"""A table whose cells are shaded by their value and hatched where too little is behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from unmasked.analysis.html.page import mark_intervals
from unmasked.evaluation.wording import is_missing

HATCHED = "background: repeating-linear-gradient(135deg, #f1f3f5 0 6px, #e2e6ea 6px 8px); color: #56616c"
# Vermillion over white, light enough for black letters at its darkest.
TINT = (213, 94, 0)
DARKEST = 0.55


@dataclass(frozen=True)
class Cell:
    """A cell of a `heat_table`.

    Attributes:
        text: the value in words.
        below: what it rests on, smaller; may have several lines.
        share: how dark the cell is, 0 to 1; None is white.
        greyed: too little data: hatched, and said so by the caller.
    """

    text: str
    below: str = ""
    share: float | None = None
    greyed: bool = False


def heat_table(
    rows: Sequence[tuple[str | Markup, Sequence[Cell]]], columns: Sequence[str], caption: str
) -> Markup:
    """A table whose cells are darker where the value is higher; colour only repeats the number.

    Args:
        rows: (name, a cell for each column but the first).
        columns: headings, the first over the names of the rows.
        caption: what it shows.
    """
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in columns)
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(name, Markup("").join(map(_cell, cells)))
        for name, cells in rows
    )
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{0}"><table><caption>{0}</caption>'
        "<thead><tr>{1}</tr></thead><tbody>{2}</tbody></table></div>"
    ).format(escape(caption), head, body)


def _cell(cell: Cell) -> Markup:
    lines = Markup("<br>").join(cell.below.split("\n"))
    below = Markup('<br><span style="white-space: nowrap; font-size: .88em">{}</span>').format(lines)
    style = HATCHED if cell.greyed else _shade(cell.share)
    return Markup('<td style="{}">{}{}</td>').format(
        style, mark_intervals(cell.text), below if cell.below else ""
    )


def _shade(share: float | None) -> str:
    if share is None or is_missing(share):
        return ""
    strength = DARKEST * min(max(share, 0.0), 1.0)
    red, green, blue = (round(255 + strength * (tint - 255)) for tint in TINT)
    return f"background: #{red:02x}{green:02x}{blue:02x}"
