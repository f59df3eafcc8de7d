"""Thumbnails of sampled frames with the box and the five points of a face drawn in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from unmasked.datasets.manifest import MANIFEST
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.faces import BOX, POINTS
from unmasked.preprocessing.parts import Item, items
from unmasked.preprocessing.video import FewerFrames, Unreadable, read_frames

THUMB_PX = (144, 108)  # width, height that a thumbnail fits into
MARK, SHADE = "#F0E442", "#000000"  # seen on skin of any tone

Key = tuple[str, str, str]  # dataset, video, compression ("" for none)


class FrameReader:
    """The frames that rows of a faces table were found in, read from their files once more.

    Only files that preprocessing could read are opened, so none hangs or crashes here.

    Args:
        faces: valid under `unmasked.preprocessing.faces.FACES`, all of it.
        manifest: what the faces table was made from.
    """

    def __init__(self, faces: pd.DataFrame, manifest: pd.DataFrame) -> None:
        self._items = {item.key: item for item in items(MANIFEST.validate(manifest))}
        read = faces[faces["status"].isin(["ok", "no_face"])]
        sampled = faces[faces["frame"] >= 0]
        self._readable = set(keys_of(read))
        # As many as preprocessing sampled: the same count gives the same indices.
        self._wanted = sampled.groupby(pd.Series(keys_of(sampled), index=sampled.index))["frame"].nunique()

    def thumbnails(self, rows: pd.DataFrame) -> list[Image.Image | None]:
        """A drawn thumbnail for each row; None where no frame could be read."""
        keys = keys_of(rows)
        shown: dict[tuple[Key, int], tuple[Image.Image, float]] = {}
        for key in dict.fromkeys(keys):
            if key in self._readable and key in self._items:
                for index, image in _frames(self._items[key], int(self._wanted[key])).items():
                    shown[key, index] = image
        records = rows.to_dict("records")
        return [
            draw_row(*shown[key, row["frame"]], row) if (key, row["frame"]) in shown else None
            for key, row in zip(keys, records, strict=True)
        ]


def keys_of(rows: pd.DataFrame) -> list[Key]:
    """The key of each row's video."""
    columns = rows[["dataset", "video", "compression"]].astype(object)
    return list(columns.where(columns.notna(), "").itertuples(index=False, name=None))


def draw_row(thumbnail: Image.Image, factor: float, row: Mapping[str, Any]) -> Image.Image:
    """A thumbnail with the box and points of a row, if it has any.

    Args:
        thumbnail: of the row's frame.
        factor: pixels of the thumbnail for one of the frame.
        row: of a faces table.
    """
    image = thumbnail.copy()
    if row["status"] != "ok":
        return image
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = (factor * row[name] for name in BOX)
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=SHADE)
    draw.rectangle((left, top, right, bottom), outline=MARK)
    points = factor * np.array([row[name] for name in POINTS]).reshape(5, 2)
    for x, y in points:
        draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=MARK, outline=SHADE)
    return image


def _frames(item: Item, wanted: int) -> dict[int, tuple[Image.Image, float]]:
    """Thumbnail and its factor by frame index."""
    try:
        return _read(item, wanted)
    except FewerFrames as error:
        return _read(item, wanted, error.count)
    except Unreadable:  # it has gone since
        return {}


def _read(item: Item, wanted: int, frame_count: int = 0) -> dict[int, tuple[Image.Image, float]]:
    limit = PreprocessConfig.model_fields["max_pixels"].default
    frames = read_frames(
        Path(item.root), item.path, item.kind, wanted=wanted, max_pixels=limit, frame_count=frame_count
    )
    return {frame.index: _thumbnail(frame.image) for frame in frames if frame.image is not None}


def _thumbnail(pixels: np.ndarray) -> tuple[Image.Image, float]:
    image = Image.fromarray(pixels)
    factor = min(THUMB_PX[0] / image.width, THUMB_PX[1] / image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR), factor
