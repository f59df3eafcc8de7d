"""What pixels beside the face give away: the edge of a picture, its corners, traces of JPEG's blocks."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.datasets.archives import is_image, split_sequence_path
from unmasked.datasets.images import UnreadableImage, read_pixels

COLUMNS = ("edge", "corners", "blocks")
SIDES = ("top", "bottom", "left", "right")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
EDGE_PX = 2  # lines of a side that are looked at
ALONG = 16  # values along a side, and along the sides of a corner
CORNER_PX = 64  # of a corner in pixels; the other view of it is a quarter of the picture's sides
_BLOCK = 8  # pixels of a block of JPEG
_LEVELS_MIN = 1.0


def read_pixel_facts(
    paths: pd.Series, *, progress: Callable[[int, int], None] | None = None, workers: int | None = None
) -> pd.DataFrame:
    """What the pixels of picture files show beside the face, a row each, with the index of the paths.

    Args:
        paths: of pictures; a missing one has no facts.
        progress: called with how many are read, and of how many.
        workers: threads; one for each core where None.

    Returns:
        ``edge`` and ``corners``: float32 vectors (see `edge_of`, `corners_of`); ``blocks``: how much larger
        steps between 8-pixel blocks are than steps within them, 1 for none. Missing where unreadable.
    """
    found: list[dict[str, Any]] = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for facts in pool.map(_facts, paths, chunksize=16):
            found.append(facts)
            if progress is not None and len(found) % 500 == 0:
                progress(len(found), len(paths))
    return pd.DataFrame(found, index=paths.index, columns=list(COLUMNS))


def picture_of(root: object, name: str, kind: str) -> str | None:
    """The picture file that shows a manifest row: an image, or the first of a folder; None for others."""
    path = Path(root if isinstance(root, str) else ".") / name
    if kind == "sequence" and split_sequence_path(name)[1] is None and path.is_dir():
        names = [entry.name for entry in os.scandir(path) if is_image(entry.name) and entry.is_file()]
        return str(path / min(names)) if names else None
    return str(path) if kind == "image" else None


def edge_of(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(4 * (16 + 1),) of each side: levels along its outermost 2 pixels, and how much they vary (logarithm).

    >>> edge_of(np.full((40, 60), 7, np.float32)).reshape(4, 17)[:, [0, 15, 16]].tolist()[0]
    [7.0, 7.0, 0.0]
    """
    parts = []
    for line in (grey[:EDGE_PX], grey[-EDGE_PX:], grey[:, :EDGE_PX].T, grey[:, -EDGE_PX:].T):
        parts += [_shrink(line.mean(axis=0)[None], ALONG, 1)[0], [np.log1p(line.std(axis=1).mean())]]
    return np.concatenate(parts).astype(np.float32)


def corners_of(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(4 * 4 * 16 * 16,) levels of the corners and their detail.

    The corners are taken in pixels and as shares of the picture: a mark may keep its size or grow with it.
    """
    height, width = grey.shape
    views = []
    for tall, wide in (
        (min(CORNER_PX, height // 2), min(CORNER_PX, width // 2)),
        (height // 4, width // 4),
    ):
        for rows in (slice(0, tall), slice(height - tall, height)):
            for columns in (slice(0, wide), slice(width - wide, width)):
                small = _shrink(grey[rows, columns], ALONG, ALONG)
                views.append(np.stack([small, small - cv2.blur(small, (5, 5))]))
    # view, corner, kind, y, x -> corner first, so that a place in the vector tells the corner
    return np.stack(views).reshape(2, 4, -1).swapaxes(0, 1).ravel().astype(np.float32)


def place_of(column: str, position: int) -> str:
    """Where a value of a vector lies, in words.

    >>> place_of("edge", 0), place_of("corners", 4095)
    ('top', 'bottom right')
    """
    places, size = (SIDES, ALONG + 1) if column == "edge" else (CORNERS, 4 * ALONG * ALONG)
    return places[position // size]


def blockiness(grey: NDArray[np.float32]) -> float:
    """Mean step across the borders of 8-pixel blocks, divided by that within them; 1 where alike.

    NaN for a picture of fewer than two blocks.
    """
    ratios = []
    for image in (grey, grey.T):
        steps = np.abs(np.diff(image, axis=1)).mean(axis=0)
        at_border = np.arange(len(steps)) % _BLOCK == _BLOCK - 1
        if at_border.any():
            ratios.append((steps[at_border].mean() + _LEVELS_MIN) / (steps[~at_border].mean() + _LEVELS_MIN))
    return float(np.mean(ratios)) if len(ratios) == 2 else float("nan")


def _facts(path: object) -> dict[str, Any]:
    if not isinstance(path, str):
        return {}
    try:
        grey = cv2.cvtColor(read_pixels(path), cv2.COLOR_RGB2GRAY).astype(np.float32)
    except (UnreadableImage, OSError):
        return {}
    if min(grey.shape) < ALONG:
        return {}
    return {"edge": edge_of(grey), "corners": corners_of(grey), "blocks": blockiness(grey)}


def _shrink(values: NDArray[np.float32], wide: int, tall: int) -> NDArray[np.float32]:
    return cv2.resize(values.astype(np.float32), (wide, tall), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
