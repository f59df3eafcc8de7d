"""The shell of every HTML page: one file that reads without a network and without JavaScript.

Figures are matplotlib SVG placed in the page and tables are plain HTML, so that a page prints, can be
mailed, and is still readable in twenty years.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from unmasked.evaluation.wording import NOT_ENOUGH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"
INTERVAL = re.compile(r"\[[−+]?\d[\d.]*, [−+]?\d[\d.]*\]")

# Okabe & Ito, "Color Universal Design" (2008): distinct for every common kind of colour vision.
PALETTE = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
    "yellow": "#F0E442",
}
_FIXED = {
    "real": "blue",
    "fake": "vermillion",
    "FaceForensics++": "blue",
    "Celeb-DF-v2": "vermillion",
    "WildDeepfake": "green",
    "AI-Face": "purple",
    "Deepfakes": "vermillion",
    "Face2Face": "green",
    "FaceSwap": "purple",
    "NeuralTextures": "orange",
    "FaceShifter": "sky",
    "female": "purple",
    "male": "green",
    "light": "orange",
    "medium": "sky",
    "dark": "blue",
    "child": "orange",
    "youth": "sky",
    "young": "sky",
    "adult": "green",
    "middle": "purple",
    "senior": "vermillion",
    "asian": "orange",
    "black": "blue",
    "white": "green",
    "others": "purple",
    "unknown": "black",
}

Format = str | Callable[[Any], str]
Kind = Literal["good", "warning", "bad", "note"]


@dataclass(frozen=True)
class Section:
    """One part of a page; ``id`` is its anchor, ``html`` its finished body."""

    id: str
    title: str
    html: Markup


def render_page(title: str, sections: Sequence[Section], *, subtitle: str = "", footer: str = "") -> str:
    """A complete HTML document with its style sheet inlined and a table of contents.

    Args:
        title: plain text, shown as the heading and in the browser's tab.
        sections: in reading order; their ids are unique.
        subtitle: one plain line under the heading.
        footer: plain text or Markup at the end.

    Raises:
        ValueError: two sections share an id.
    """
    ids = [section.id for section in sections]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ValueError(f"the section id {twice[0]!r} is given twice; every section needs its own anchor")
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    page = environment(TEMPLATES).get_template("page.html")
    return page.render(title=title, sections=sections, subtitle=subtitle, footer=footer, style=style)


@cache
def environment(folder: Path) -> Environment:
    """The Jinja environment of a template folder: escapes everything, and an unknown name is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


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
                marked=_marked(highlight, position, name),
            )
            for number, name in enumerate(frame.columns)
        ]
        whole = isinstance(highlight, pd.Series) and bool(highlight.iloc[position])
        rows.append(f"<tr{_class('highlight' if whole else '')}>{''.join(cells)}</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    label = html.escape(caption or "Table", quote=True)
    return Markup(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def svg(figure: Figure, alt: str, *, caption: str | Markup = "") -> Markup:
    """The figure as SVG inside the page, with the same bytes for the same figure; closes it.

    Letters stay text, so that they can be searched and read aloud; ``alt`` says what the picture shows.
    """
    return svg_inside(svg_document(figure), alt, caption=caption)


def svg_document(figure: Figure) -> str:
    """The figure as an SVG file's text, the same for the same figure; closes it. Letters stay text."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "unmasked"}):
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata=metadata)
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close(figure)
    return buffer.getvalue()


def svg_inside(document: str, alt: str, *, caption: str | Markup = "") -> Markup:
    """What `svg_document` gave, placed in the page; ``alt`` says what the picture shows."""
    return figure_html(_inline_svg(document, alt), caption)


def image(
    picture: bytes | np.ndarray, alt: str, *, caption: str | Markup = "", quality: int | None = None
) -> Markup:
    """A picture inside the page, base64-encoded.

    Args:
        picture: the bytes of a PNG or JPEG file, or pixels (H, W, 3) or (H, W) uint8 in RGB order.
        alt: what it shows, for who cannot see it.
        caption: shown under it.
        quality: JPEG quality 1 to 95 for pixels; None keeps them exact as PNG. Photographs are some
            ten times smaller as JPEG.
    """
    encoded = picture if isinstance(picture, bytes) else _encoded(picture, quality)
    mime = "image/png" if encoded.startswith(b"\x89PNG") else "image/jpeg"
    source = f"data:{mime};base64,{base64.b64encode(encoded).decode('ascii')}"
    element = Markup('<img class="picture" src="{}" alt="{}">').format(source, alt)
    return figure_html(element, caption)


def figure_html(content: Markup, caption: str | Markup = "") -> Markup:
    """A figure element around finished content, with an optional caption."""
    below = Markup("<figcaption>{}</figcaption>").format(caption) if caption else Markup("")
    return Markup('<figure><div class="scroll">{}</div>{}</figure>').format(content, below)


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


def group_colour(name: str) -> str:
    """The colour that a group, dataset or method has in every figure, as ``#rrggbb``.

    Names of the datasets and demographics we know are fixed by hand; any other name gets a colour
    that depends on the name alone. Two unknown names may share one: see `group_colours`.

    >>> group_colour("fake")
    '#D55E00'
    """
    if name in _FIXED:
        return PALETTE[_FIXED[name]]
    choices = [colour for key, colour in PALETTE.items() if key not in ("yellow", "black")]
    return choices[zlib.crc32(str(name).encode("utf-8")) % len(choices)]


def group_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each of the names shown together, distinct up to eight.

    Known names keep theirs; the others move to the next free colour, in alphabetical order.
    """
    ordered = list(dict.fromkeys(map(str, names)))
    chosen: dict[str, str] = {}
    for name in sorted(ordered, key=lambda name: (name not in _FIXED, name)):
        wanted = group_colour(name)
        free = [colour for colour in PALETTE.values() if colour not in chosen.values()]
        chosen[name] = wanted if wanted in free or not free else free[0]
    return {name: chosen[name] for name in ordered}


def mark_intervals(text: str) -> Markup:
    """Text of a cell, escaped, whose intervals are set softer and on one line."""
    return Markup(INTERVAL.sub(r'<span class="interval">\g<0></span>', str(escape(text))))


def _is_numeric(values: pd.Series, chosen: Format | None) -> bool:
    return isinstance(chosen, str) or (pd.api.types.is_numeric_dtype(values) and values.dtype != bool)


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _marked(highlight: pd.Series | pd.DataFrame | None, position: int, name: str) -> bool:
    if not isinstance(highlight, pd.DataFrame) or name not in highlight:
        return False
    return bool(highlight[name].iloc[position])


def _cell(value: Any, chosen: Format | None, *, numeric: bool, heading: bool, marked: bool) -> str:
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
    tag, scope = ("th", ' scope="row"') if heading else ("td", "")
    return f"<{tag}{scope}{_class(' '.join(names))}>{text}</{tag}>"


def _inline_svg(text: str, alt: str) -> Markup:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Ids are unique in a page only if they carry the figure's own mark.
    mark = hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]
    text = re.sub(r'\bid="([^"]+)"', rf'id="s{mark}-\1"', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>s{mark}-", text)
    width = re.search(r'\bwidth="([\d.]+)pt"', text)
    size_px = round(float(width.group(1)) * 4 / 3) if width else 640
    opening = re.match(r"<svg[^>]*>", text)
    assert opening is not None
    view = re.search(r'viewBox="[^"]*"', opening.group(0))
    assert view is not None
    head = (
        f'<svg class="plot" style="--w: {size_px}px" {view.group(0)} '
        f'role="img" aria-labelledby="s{mark}-alt">'
        f'<title id="s{mark}-alt">{html.escape(alt)}</title>'
    )
    body = text[opening.end() :].replace("xlink:href", "href")
    return Markup(head + body.strip())


def _encoded(pixels: np.ndarray, quality: int | None) -> bytes:
    from PIL import Image

    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels are {pixels.dtype}; give uint8 between 0 and 255")
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    if quality is None:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
