"""Figures and pictures inside a page: SVG with its letters as text, photographs as base64."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
import sys
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from unmasked.analysis.figures.display import DRAWING, NO_FORMULAS, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Of a figure inside a page. Fonts and joins are in the page's style sheet.
UNNEEDED = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<!--.*?-->",
        r"<metadata>.*?</metadata>",
        r"<style\b.*?</style>",
        r"\s*font-family: [^;\"]*;?",
        r' transform="rotate\(-?0 [^)]*\)"',
    )
]


def svg_document(figure: Figure) -> str:
    """The figure as an SVG file's text, always the same; closes it. Letters stay text."""
    import matplotlib as mpl

    buffer = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "unmasked", **NO_FORMULAS}
    with DRAWING, mpl.rc_context(settings):
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        save_figure(figure, buffer, format="svg", metadata=metadata)
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close(figure)
    return buffer.getvalue()


def pdf_document(figure: Figure) -> bytes:
    """The figure as a PDF file for a paper, always the same; fonts are embedded."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with DRAWING, mpl.rc_context({"pdf.fonttype": 42, **NO_FORMULAS}):
        save_figure(figure, buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()


def place_svg(document: str, alt: str, *, name: str, caption: str | Markup = "") -> Markup:
    """What `svg_document` gave, placed in the page under the id ``figure-NAME``.

    Args:
        document: the SVG file's text.
        alt: what the picture shows, for readers who cannot see it.
        name: of the figure, once a page; all ids in the figure begin with it.
        caption: shown under it.
    """
    return figure_html(_inline_svg(document, alt, name), caption)


def image(
    picture: bytes | np.ndarray, alt: str, *, caption: str | Markup = "", quality: int | None = None
) -> Markup:
    """A picture inside the page, base64-encoded.

    Args:
        picture: the bytes of a PNG or JPEG file, or pixels (H, W, 3) or (H, W) uint8 in RGB order.
        alt: what it shows, for readers who cannot see it.
        caption: shown under it.
        quality: JPEG quality 1 to 95 for pixels; None keeps them exact as PNG. Photographs are some
            ten times smaller as JPEG.
    """
    encoded = picture if isinstance(picture, bytes) else _encode(picture, quality)
    mime = "image/png" if encoded.startswith(b"\x89PNG") else "image/jpeg"
    source = f"data:{mime};base64,{base64.b64encode(encoded).decode('ascii')}"
    element = Markup('<img class="picture" src="{}" alt="{}">').format(source, alt)
    return figure_html(element, caption)


def figure_html(content: Markup, caption: str | Markup = "") -> Markup:
    """A figure element around finished content, with an optional caption."""
    below = Markup("<figcaption>{}</figcaption>").format(caption) if caption else Markup("")
    return Markup(  # by the keyboard, too, where a phone is too narrow
        '<figure><div class="scroll" tabindex="0" role="group" aria-label="Figure">{}</div>{}</figure>'
    ).format(content, below)


def _inline_svg(text: str, alt: str, name: str) -> Markup:
    text = text[text.index("<svg") :]
    own = f"figure-{name}"
    width = re.search(r'\bwidth="([\d.]+)pt"', text)
    size_px = round(float(width.group(1)) * 4 / 3) if width else 640
    opening = re.match(r"<svg[^>]*>", text)
    assert opening is not None
    view = re.search(r'viewBox="[^"]*"', opening.group(0))
    assert view is not None
    head = (
        f'<svg id="{own}" class="plot" style="--w: {size_px}px" {view.group(0)} '
        f'role="img" aria-labelledby="{own}-alt">'
        f'<title id="{own}-alt">{html.escape(alt)}</title>'
    )
    body = _shorten(text[opening.end() :].replace("xlink:href", "href"), name)
    return Markup(head + body)  # matplotlib escapes the texts of its SVG  # nosec B704


def _shorten(body: str, name: str) -> str:
    """The inside of a figure with half of its bytes; fonts are in the style sheet."""
    for unneeded in UNNEEDED:
        body = unneeded.sub("", body)
    # matplotlib's ids are unique in a page only if they carry the figure's own; most are used by nothing.
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', body))
    key = f"f{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    short = {one: f"{key}-{number}" for number, one in enumerate(sorted(used))}
    body = re.sub(r' id="([^"]+)"', lambda found: _id_attribute(short.get(found[1])), body)
    body = re.sub(r'(url\(#|href="#)([^")]+)', lambda found: found[1] + short[found[2]], body)
    body = re.sub(r"(?:'[^'<>]+', )+sans-serif", "'DejaVu Sans',sans-serif", body)  # after "font: bold"
    # Coordinates alone: what stands between tags is read.
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"\d+\.\d{3,}", _two_decimals, tag[0]), body)
    body = re.sub(r">\s+<", "><", body.strip())
    body = re.sub(r' d="[^"]*"', lambda found: " ".join(found[0].split()).join((" ", "")), body)
    return _drop_empty_groups(body)


def _two_decimals(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _id_attribute(name: str | None) -> str:
    return f' id="{name}"' if name else ""


def _drop_empty_groups(body: str) -> str:
    """Without groups that have no attribute; what is in them stays."""
    kept: list[str] = []
    is_plain: list[bool] = []  # of the groups that are open
    for part in re.split(r"(<g\b[^>]*>|</g>)", re.sub(r"<g\b[^>]*/>", "", body)):
        dropped = part == "<g>"
        if part.startswith("<g"):
            is_plain.append(dropped)
        elif part == "</g>":
            dropped = is_plain.pop()
        kept += [] if dropped else [part]
    return "".join(kept)


def _encode(pixels: np.ndarray, quality: int | None) -> bytes:
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
