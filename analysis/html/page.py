"""The shell of every HTML page and what its text is made of.

Reads without a network and JavaScript.
Figures are SVG placed in the page and tables are plain HTML, so that a page prints, can be mailed, and is
still readable in twenty years.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from unmasked.evaluation.wording import NOT_ENOUGH, is_missing

# Signs that no page may hold, or that turn the text after them round: in names, shown as their codes.
UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

TEMPLATES = Path(__file__).parent / "templates"
HATCHED = "background: repeating-linear-gradient(135deg, #f1f3f5 0 6px, #e2e6ea 6px 8px); color: #56616c"
# Vermillion over white, light enough for black letters at its darkest.
TINT = (213, 94, 0)
DARKEST = 0.55
NAME_CHARACTERS_MAX = 32  # of a group's name on one line; a longer one would push columns off the page
INTERVAL = re.compile(r"\[[−+]?\d[\d.]*, [−+]?\d[\d.]*\]")
# What is kept on one line, and the parts of a page in which nothing is looked for.
UNBROKEN = re.compile(
    rf'<(svg|style|code)\b.*?</\1>|<span class="interval">[^<]*|<[^>]*>|'
    rf"(?P<kept>{INTERVAL.pattern}|\bp = [\d.]+)",
    re.DOTALL,
)
# What messages put between backticks, to be typed; and the parts of a page in which there is none.
TYPED = re.compile(r"<(svg|style|pre|code)\b.*?</\1>|<[^>]*>|`(?P<typed>[^`<>]+)`", re.DOTALL)

Format = str | Callable[[Any], str]
Kind = Literal["good", "warning", "bad", "note"]


class Absent(Markup):
    """A part that has nothing in it: what was not looked at, and how to do so.

    A page lists all of these in one place at its end.
    """

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """One part of a page; ``id`` is its anchor, ``html`` its finished body.

    A folded one shows its title and ``gist``, a plain sentence, until it is opened.
    """

    id: str
    title: str
    html: Markup
    is_folded: bool = False
    gist: str = ""


def render_page(
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    footer: str = "",
    first: Markup | None = None,
) -> str:
    """A complete HTML document with its style sheet inlined and a table of contents.

    Args:
        title: plain text, shown as the heading and in the browser's tab.
        sections: in reading order; their ids are unique. `Absent` ones come last, as a list.
        subtitle: one plain line under the heading.
        footer: plain text or Markup at the end.
        first: `first_screen`, above all parts.

    Raises:
        ValueError: two sections share an id.
    """
    ids = [section.id for section in sections]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ValueError(f"the section id {twice[0]!r} is given twice; every section needs its own anchor")
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))  # our own style sheet  # nosec B704
    page = environment().get_template("page.html")
    text = page.render(
        title=title,
        sections=[section for section in sections if not isinstance(section.html, Absent)],
        absent=[section for section in sections if isinstance(section.html, Absent)],
        subtitle=subtitle,
        footer=footer,
        style=style,
        first=first,
    )
    text = TYPED.sub(lambda found: f"<code>{found['typed']}</code>" if found["typed"] else found[0], text)
    text = UNSEEN.sub(lambda sign: sign[0].encode("unicode_escape").decode("ascii"), text)
    return UNBROKEN.sub(_keep_together, text)


@cache
def environment() -> Environment:
    """The Jinja environment of the templates.

    Escapes everything, and an unknown name is an error.
    """
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def fill_template(name: str, **values: Any) -> Markup:
    """A template filled in."""
    return Markup(environment().get_template(name).render(**values))  # Jinja escapes values  # nosec B704


@dataclass(frozen=True)
class KeyNumber:
    """A number of the first screen: value, what it is, interval and count behind it."""

    value: str
    what: str
    support: str


def first_screen(
    *,
    tested: str,
    verdict: Markup,
    numbers: Sequence[KeyNumber],
    picture: Markup,
    decision: str,
    caution: str,
    notes: Markup = Markup(""),
) -> Markup:
    """What a reader sees before anything is opened or scrolled.

    Args:
        tested: what was tested, on what, at which threshold.
        verdict: a `callout`.
        numbers: the three that matter; none where they stand in the verdict.
        picture: a figure of them against chance and the source.
        decision: a sentence for whoever has to decide.
        caution: what must not be concluded.
        notes: what is wrong with the run itself, if anything.
    """
    return fill_template(
        "first.html",
        tested=tested,
        verdict=verdict,
        numbers=numbers,
        picture=picture,
        decision=decision,
        caution=caution,
        notes=notes,
    )


def place_side_by_side(parts: Sequence[Markup]) -> Markup:
    """Figures or small tables in a row that breaks where the page is narrow; nothing for none."""
    return Markup('<div class="row">{}</div>').format(Markup("").join(parts)) if parts else Markup("")


def join_parts(parts: Sequence[str]) -> Markup:
    """Finished fragments below one another; empty ones leave no trace."""
    filled = [part for part in parts if part]
    if len(filled) == 1 and isinstance(filled[0], Absent):
        return filled[0]
    return Markup("\n").join(map(Markup, filled))  # finished HTML of ours  # nosec B704


def heading(level: int, text: str) -> Markup:
    """A heading of that level."""
    return Markup("<h{0}>{1}</h{0}>").format(level, text)


def paragraph(text: str | Markup) -> Markup:
    """A paragraph."""
    return Markup("<p>{}</p>").format(text)


def aside(text: str | Markup) -> Markup:
    """A paragraph that explains, in a lighter colour; nothing for no text."""
    return Markup('<p class="soft">{}</p>').format(text) if text else Markup("")


def absent_note(what: str, how: str | Markup) -> Absent:
    """The line that stands where a part was not measured: what is missing, how to make it."""
    return Absent(Markup('<p class="soft">{} {}</p>').format(what, how))


def code(text: str) -> Markup:
    """Something to type."""
    return Markup("<code>{}</code>").format(text)


def bullets(items: Sequence[str | Markup]) -> Markup:
    """A list, or a paragraph where there is one item; nothing for none."""
    if len(items) < 2:
        return paragraph(items[0]) if items else Markup("")
    return Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(item) for item in items))


def details(summary: str, body: Markup) -> Markup:
    """Something to fold out, which needs no script."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, body) if body else Markup("")


def table(
    frame: pd.DataFrame,
    *,
    formats: Mapping[str, Format] | None = None,
    caption: str = "",
    highlight: pd.Series | pd.DataFrame | None = None,
) -> Markup:
    """An accessible HTML table; it scrolls sideways where the screen is too narrow.

    Args:
        frame: the columns in order; the first column heads its rows. The index is not shown.
            Cells that are Markup are placed as they are; their column must be of objects.
        formats: column -> format specification (``".3f"``) or function of the value to text.
            A missing number is shown as "not enough data", any other missing value as a dash.
        caption: what the table says, with n where it applies.
        highlight: boolean, aligned with the frame: a Series marks rows, a DataFrame single cells.

    >>> "0.912" in table(pd.DataFrame({"dataset": ["A"], "AUC": [0.9123]}), formats={"AUC": ".3f"})
    True
    """
    formats = formats or {}
    numeric = {name: _is_numeric(frame[name], formats.get(name)) for name in frame.columns}
    head = "".join(
        f'<th scope="col"{_class("number" if numeric[name] else "")}>{escape(name)}</th>' for name in frame
    )
    rows = []
    for position in range(len(frame)):
        cells = [
            _cell(
                frame[name].iloc[position],
                formats.get(name),
                numeric=numeric[name],
                heading=number == 0,
                marked=_is_marked(highlight, position, name),
                label=str(name),
            )
            for number, name in enumerate(frame.columns)
        ]
        whole = isinstance(highlight, pd.Series) and bool(highlight.iloc[position])
        rows.append(f"<tr{_class('highlight' if whole else '')}>{''.join(cells)}</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    label = html.escape(caption or "Table", quote=True)
    return Markup(  # every cell, heading and caption is escaped above  # nosec B704
        f'<div class="scroll" tabindex="0" role="group" aria-label="{label}"><table>{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def record_table(
    rows: Sequence[Mapping[str, Any]],
    *,
    caption: str,
    formats: Mapping[str, str] | None = None,
    marked: Sequence[bool] = (),
) -> Markup:
    """A table of records with the same keys.

    Whole numbers get their thousands apart, Markup stays as it is.

    Args:
        rows: heading -> value, at least one.
        caption: what the table says.
        formats: heading -> format of numbers that are not whole.
        marked: which rows are highlighted.
    """
    frame = pd.DataFrame(list(rows), dtype=object)  # objects keep Markup and whole numbers as they are
    whole = {
        name: "," for name in frame if all(isinstance(value, (int, np.integer)) for value in frame[name])
    }
    highlight = pd.Series(list(marked), dtype=bool) if len(marked) else None
    return table(frame, caption=caption, formats=whole | dict(formats or {}), highlight=highlight)


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
    """A table whose cells are darker where the value is higher.

    Colour only repeats the number.

    Args:
        rows: (name, a cell for each column but the first).
        columns: headings, the first over the names of the rows.
        caption: what it shows.
    """
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in columns)
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            name, Markup("").join(_heat_cell(cell, of) for cell, of in zip(cells, columns[1:], strict=True))
        )
        for name, cells in rows
    )
    return Markup(
        '<div class="scroll" tabindex="0" role="group" aria-label="{0}"><table><caption>{0}</caption>'
        "<thead><tr>{1}</tr></thead><tbody>{2}</tbody></table></div>"
    ).format(escape(caption), head, body)


def callout(kind: Kind, body: str | Markup, *, title: str = "") -> Markup:
    """A boxed verdict. Colour only supports the words: ``title`` and ``body`` say it all.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in ("good", "warning", "bad", "note"):
        raise ValueError(f"callout kind {kind!r} is unknown; choose good, warning, bad or note")
    heading = Markup('<span class="kind">{}</span>').format(title) if title else Markup("")
    is_block = isinstance(body, Markup) and body.lstrip().startswith("<")
    block = body if is_block else Markup("<p>{}</p>").format(body)
    return Markup('<div class="callout {}" role="note">{}{}</div>').format(kind, heading, block)


def swatch(colour: str, text: str | Markup) -> Markup:
    """A group's name behind a square in its colour."""
    square = Markup(
        '<span aria-hidden="true" style="display: inline-block; width: .7em; height: .7em; '
        'margin-right: .4em; background: {}"></span>'
    ).format(colour)
    is_short = len(escape(text).striptags()) <= NAME_CHARACTERS_MAX
    style = "white-space: nowrap" if is_short else "display: inline-block; min-width: 12em"
    return Markup('<span style="{}">{}{}</span>').format(style, square, text)


def mark_intervals(text: str) -> Markup:
    """Text of a cell, escaped, whose intervals are set softer and on one line."""
    return Markup(  # escaped before  # nosec B704
        INTERVAL.sub(r'<span class="interval">\g<0></span>', str(escape(text)))
    )


def _keep_together(match: re.Match[str]) -> str:
    kept = match["kept"]
    return f'<span class="line">{kept}</span>' if kept else match[0]


def _is_numeric(values: pd.Series, chosen: Format | None) -> bool:
    return isinstance(chosen, str) or (pd.api.types.is_numeric_dtype(values) and values.dtype != bool)


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _is_marked(highlight: pd.Series | pd.DataFrame | None, position: int, name: str) -> bool:
    if not isinstance(highlight, pd.DataFrame) or name not in highlight:
        return False
    return bool(highlight[name].iloc[position])


def _cell(
    value: Any, chosen: Format | None, *, numeric: bool, heading: bool, marked: bool, label: str
) -> str:
    missing = value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))
    if isinstance(value, Markup):
        text: str = value
    elif missing:
        text = NOT_ENOUGH if numeric else "–"
    elif chosen is not None:
        text = escape(chosen(value) if callable(chosen) else format(value, chosen))
    else:
        text = escape(f"{value:,}" if isinstance(value, (int, np.integer)) and numeric else value)
    text = mark_intervals(text)
    names = [
        name for name, holds in (("number", numeric), ("missing", missing), ("highlight", marked)) if holds
    ]
    # On a phone a row is a card, and each cell says what it is.
    tag, more = ("th", ' scope="row"') if heading else ("td", f' data-of="{escape(label)}"' if label else "")
    return f"<{tag}{more}{_class(' '.join(names))}>{text}</{tag}>"


def _heat_cell(cell: Cell, of: str) -> Markup:
    lines = Markup("<br>").join(cell.below.split("\n"))
    below = Markup('<br><span style="white-space: nowrap; font-size: .88em">{}</span>').format(lines)
    style = HATCHED if cell.greyed else _shade(cell.share)
    return Markup('<td data-of="{}" style="{}">{}{}</td>').format(
        of, style, mark_intervals(cell.text), below if cell.below else ""
    )


def _shade(share: float | None) -> str:
    if share is None or is_missing(share):
        return ""
    strength = DARKEST * min(max(share, 0.0), 1.0)
    red, green, blue = (round(255 + strength * (tint - 255)) for tint in TINT)
    # Light in both schemes, so that its ink is dark in both.
    return f"background: #{red:02x}{green:02x}{blue:02x}; color: #1d2329"
