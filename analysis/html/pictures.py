"""Figures and pictures inside a page: SVG with its letters as text, photographs as base64."""

from __future__ import annotations

import base64
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
    return Markup('<figure><div class="scroll">{}</div>{}</figure>').format(content, below)


def _inline_svg(text: str, alt: str, name: str) -> Markup:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # matplotlib's ids are unique in a page only if they carry the figure's own.
    own = f"figure-{name}"
    text = re.sub(r'\bid="([^"]+)"', rf'id="{own}-\1"', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{own}-", text)
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
    body = text[opening.end() :].replace("xlink:href", "href")
    return Markup(head + body.strip())  # matplotlib escapes the texts of its SVG  # nosec B704


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
