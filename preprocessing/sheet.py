"""A contact sheet of a faces table: one picture to check preprocessing by eye."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path
from unmasked.datasets.images import UnreadableImage, read_pixels
from unmasked.preprocessing.overlay import THUMB_PX, FrameReader

TILE_PX = 144
FRAME_PX = 5
GAP_PX = 4
MARGIN_PX = 16
HEADING_PX = 24
TITLE_PX = 64
MIN_COLUMNS = 6  # so that the title fits

# Okabe and Ito's colours, which colour-blind people tell apart.
REAL, FAKE, FAILED = "#0072B2", "#D55E00", "#666666"
PAPER, INK, TILE = "#FFFFFF", "#222222", "#C8C8C8"


@dataclass(frozen=True)
class _Strip:
    """Tiles under one heading: a video's sampled frames, or the images of a dataset."""

    heading: str
    rows: pd.DataFrame


def contact_sheet(
    faces: pd.DataFrame,
    folder: Path,
    path: Path,
    *,
    manifest: pd.DataFrame | None = None,
    columns: int = 12,
    limit: int = 300,
) -> Path:
    """The path of a PNG with sampled crops by video, and grey tiles that name failures.

    Above each crop stands the frame it was cut from, with the face's box and points, where ``manifest``
    says which files to open. A crop's border says its label: blue real, orange fake. Where there are more
    than ``limit`` frames, videos are picked evenly through the table, and all failures of the picked ones
    are counted in their headings.

    Args:
        faces: valid under `unmasked.preprocessing.faces.FACES`.
        folder: of the faces table; crop paths are relative to it.
        path: of the PNG, written whole or not at all.
        manifest: what the table was made from; None shows crops only.
        columns: tiles in a row; a video shows as many of its frames, spread evenly.
        limit: tiles in all.

    Raises:
        InputError: the table has no rows.
    """
    if faces.empty:
        raise InputError(
            "the faces table has no rows, so there is nothing to show; run `unmasked preprocess`"
        )
    strips = _strips(faces, columns, limit)
    columns = min(columns, max(MIN_COLUMNS, *(len(strip.rows) for strip in strips)))
    reader = FrameReader(faces, manifest) if manifest is not None else None
    cell_px = TILE_PX + GAP_PX + (THUMB_PX[1] if reader else 0)
    width = 2 * MARGIN_PX + columns * (TILE_PX + GAP_PX) - GAP_PX
    lines = [-(-len(strip.rows) // columns) for strip in strips]
    height = TITLE_PX + sum(HEADING_PX + count * cell_px for count in lines) + MARGIN_PX
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_title(draw, faces)
    top = TITLE_PX
    for strip, count in zip(strips, lines, strict=True):
        text = _fit_text(draw, strip.heading, _font(13), width - 2 * MARGIN_PX)
        draw.text((MARGIN_PX, top + 5), text, fill=INK, font=_font(13))
        top += HEADING_PX
        for position, cell in enumerate(_cells(strip, Path(folder), reader, cell_px - GAP_PX)):
            line, column = divmod(position, columns)
            sheet.paste(cell, (MARGIN_PX + column * (TILE_PX + GAP_PX), top + line * cell_px))
        top += count * cell_px
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return Path(path)


def _cells(strip: _Strip, folder: Path, reader: FrameReader | None, height_px: int) -> Iterator[Image.Image]:
    """For each row its crop, below the thumbnail of its frame if there is one."""
    thumbnails = reader.thumbnails(strip.rows) if reader else [None] * len(strip.rows)
    for row, thumbnail in zip(strip.rows.to_dict("records"), thumbnails, strict=True):
        cell = Image.new("RGB", (TILE_PX, height_px), PAPER)
        cell.paste(_tile(row, folder), (0, height_px - TILE_PX))
        if thumbnail is not None:
            space = height_px - TILE_PX - thumbnail.height
            cell.paste(thumbnail, ((TILE_PX - thumbnail.width) // 2, space))
        yield cell


def _strips(faces: pd.DataFrame, columns: int, limit: int) -> list[_Strip]:
    """One strip a video; what has a single row (images) shares a strip with its dataset's others."""
    strips = []
    for dataset, rows in faces.groupby("dataset", observed=True, sort=False):
        videos = rows.groupby(["video", rows["compression"].fillna("")], observed=True, sort=False)
        is_single = videos["frame"].transform("size") == 1
        for (video, compression), frames in rows[~is_single].groupby(
            ["video", rows["compression"].fillna("")], observed=True, sort=False
        ):
            heading = " · ".join(filter(None, (str(dataset), str(video), str(compression), _counts(frames))))
            strips.append(_Strip(heading, _spread_rows(frames, columns)))
        if is_single.any():
            images = rows[is_single]
            strips.append(_Strip(f"{dataset} · images · {_counts(images)}", images))
    return _limit_strips(strips, columns, limit)


def _limit_strips(strips: list[_Strip], columns: int, limit: int) -> list[_Strip]:
    """Fewer strips, and fewer tiles in those of images, so that at most ``limit`` tiles are left."""
    total = sum(len(strip.rows) for strip in strips)
    if total <= limit:
        return strips
    kept = max(1, min(len(strips), limit // columns))
    picked = [strips[int(position)] for position in np.linspace(0, len(strips) - 1, kept)]
    each = max(columns, limit // kept)
    return [_Strip(strip.heading, _spread_rows(strip.rows, each)) for strip in picked]


def _spread_rows(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    if len(rows) <= count:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, count).astype(int)]


def _counts(rows: pd.DataFrame) -> str:
    found = int((rows["status"] == "ok").sum())
    labels = {0: "real", 1: "fake"}
    kinds = [labels[label] for label in sorted(rows["label"].dropna().unique())]
    named = "/".join([*kinds, *(["label unknown"] if rows["label"].isna().any() else [])])
    return f"{named} · a face in {found} of {len(rows)}"


def _draw_title(draw: ImageDraw.ImageDraw, faces: pd.DataFrame) -> None:
    found = int((faces["status"] == "ok").sum())
    videos = faces.groupby(["dataset", "video"], observed=True).ngroups
    share = f"{found} faces in {len(faces)} sampled frames ({found / len(faces):.1%})"
    title = f"{share} of {videos} videos and images"
    draw.text((MARGIN_PX, 10), title, fill=INK, font=_font(17))
    left = MARGIN_PX
    for colour, text in ((REAL, "real"), (FAKE, "fake"), (FAILED, "no crop: the tile says why")):
        draw.rectangle((left, 40, left + 12, 52), outline=colour, width=FRAME_PX)
        draw.text((left + 18, 38), text, fill=INK, font=_font(13))
        left += 40 + round(draw.textlength(text, font=_font(13)))


def _tile(row: dict, folder: Path) -> Image.Image:
    """(TILE_PX, TILE_PX) crop in a border of its label's colour, or a grey tile with the status."""
    crop = _crop(row, folder)
    if crop is None:
        status = row["status"] if row["status"] != "ok" else "crop file cannot be read"
        return _grey_tile(str(status).replace("_", " "), int(row["frame"]))
    # Nobody knows the label of some files; a colour of either class would claim it.
    border = INK if pd.isna(row["label"]) else FAKE if row["label"] == 1 else REAL
    tile = Image.new("RGB", (TILE_PX, TILE_PX), border)
    inside = TILE_PX - 2 * FRAME_PX
    tile.paste(crop.resize((inside, inside), Image.Resampling.BILINEAR), (FRAME_PX, FRAME_PX))
    return tile


def _crop(row: dict, folder: Path) -> Image.Image | None:
    if row["status"] != "ok":
        return None
    try:
        return Image.fromarray(read_pixels(folder / row["crop"]))
    except (UnreadableImage, OSError):
        return None


def _grey_tile(status: str, frame: int) -> Image.Image:
    tile = Image.new("RGB", (TILE_PX, TILE_PX), TILE)
    draw = ImageDraw.Draw(tile)
    draw.rectangle((0, 0, TILE_PX - 1, TILE_PX - 1), outline=FAILED, width=FRAME_PX)
    where = "whole file" if frame < 0 else f"frame {frame}"
    for text, height in ((status, TILE_PX / 2 - 10), (where, TILE_PX / 2 + 10)):
        draw.text((TILE_PX / 2, height), text, fill=INK, font=_font(13), anchor="mm")
    return tile


def _fit_text(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont, width: int) -> str:
    """The text, shortened in the middle to the width."""
    keep = len(text)
    shown = text
    while draw.textlength(shown, font=font) > width and keep > 10:
        keep -= 4
        shown = f"{text[: keep // 2]} … {text[-keep // 2 :]}"
    return shown


def _font(size_px: int) -> ImageFont.ImageFont:
    return ImageFont.load_default(size_px)  # type: ignore[return-value]
