"""The figures of a page, each drawn once.

For the page, and as an SVG file with its numbers as CSV; on request as a PDF file, too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.html.pictures import pdf_document, place_svg, svg_document
from unmasked.datasets.csv_files import csv_text
from unmasked.datasets.documents import write_json
from unmasked.datasets.files import write_bytes, write_text
from unmasked.datasets.locks import folder_lock

INDEX = "index.json"
logger = logging.getLogger(__name__)


class Drawable(Protocol):
    """A display that can also give its numbers."""

    def plot(self) -> Any:
        """Draws; what it returns has the drawing under ``figure_``."""

    def table(self) -> pd.DataFrame:
        """The numbers that are drawn."""


@dataclass(frozen=True)
class Drawing:
    """A drawn figure: name, SVG, numbers, what it shows, text below it, and its PDF."""

    name: str
    document: str
    table: pd.DataFrame
    alt: str
    caption: str = ""
    pdf: bytes = b""

    @property
    def html(self) -> Markup:
        """The figure inside the page, under the id ``figure-NAME``."""
        return place_svg(self.document, self.alt, name=self.name, caption=self.caption)


@dataclass
class Gallery:
    """The figures of one page under the names of their files; ``has_pdf`` asks for PDF files."""

    drawings: dict[str, Drawing] = field(default_factory=dict)
    has_pdf: bool = False

    def draw(self, name: str, display: Drawable, alt: str, caption: str = "") -> Markup:
        """Draws a display and returns the figure inside the page.

        Args:
            name: of its files, without an ending; a number is added where it is taken.
            display: its numbers are in ``NAME.csv``.
            alt: what it shows, for readers who cannot see it.
            caption: shown under it.
        """
        free, again = name, 2
        while free in self.drawings:
            free, again = f"{name}-{again}", again + 1
        figure = display.plot().figure_
        pdf = pdf_document(figure) if self.has_pdf else b""
        self.drawings[free] = Drawing(free, svg_document(figure), display.table(), alt, caption, pdf)
        return self.drawings[free].html

    def html(self, name: str) -> Markup:
        """The figure of that name inside the page; nothing where it was not drawn."""
        return self.drawings[name].html if name in self.drawings else Markup("")

    def of_kind(self, kind: str) -> list[Markup]:
        """The figures of a kind that there is one of for each dataset or perturbation."""
        return [one.html for name, one in self.drawings.items() if name.startswith(f"{kind}_")]

    def write(self, folder: Path, page: str) -> None:
        """Writes SVG, CSV and perhaps PDF of each figure; removes the page's old ones.

        ``index.json`` in the folder says which files were written for which page, with their SHA-256. Only
        files that it names, that no page has any more and that nobody has changed since are removed.

        Args:
            folder: of the figures.
            page: name of the page's file.
        """
        files: dict[str, str | bytes] = {}
        for name, drawing in self.drawings.items():
            files[f"{name}.svg"] = drawing.document
            files[f"{name}.csv"] = csv_text(drawing.table)
            if drawing.pdf:
                files[f"{name}.pdf"] = drawing.pdf
        folder.mkdir(parents=True, exist_ok=True)
        with folder_lock(folder):  # `fairness` and `report` may write their pages at the same time
            index = _read_index(folder / INDEX)
            before = index.pop(page, {})
            kept = {*files, *(name for written in index.values() for name in written)}
            for name, content in files.items():
                if isinstance(content, bytes):
                    write_bytes(folder / name, content)
                else:
                    write_text(folder / name, content)
            for name, digest in before.items():
                path = folder / name
                is_plain = Path(name).name == name and path.is_file() and not path.is_symlink()
                if name not in kept and is_plain and _digest(path.read_bytes()) == digest:
                    path.unlink()
            index[page] = {name: _digest((folder / name).read_bytes()) for name in files}
            write_json(folder / INDEX, index)


SLUG_CHARACTERS_MAX = 60  # names of files end at 255 bytes, and several slugs may stand in one


def slug(name: str) -> str:
    """A name as part of a file's name.

    >>> slug("FaceForensics++, c23")
    'FaceForensics-c23'
    """
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "unnamed"
    if len(plain) <= SLUG_CHARACTERS_MAX:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{plain[: SLUG_CHARACTERS_MAX - 9]}-{digest}"


def _read_index(path: Path) -> dict[str, dict[str, str]]:
    """page -> file -> SHA-256; empty where the index is absent or damaged, so that nothing is removed."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(page): {str(name): str(digest) for name, digest in files.items()}
            for page, files in found.items()
        }
    except (ValueError, AttributeError):
        logger.warning("%s cannot be read, so figures of earlier runs are left in its folder", path)
        return {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
