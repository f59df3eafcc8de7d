"""The boxes of dlib's search of a whole frame, from a search near a face.

dlib's HOG looks at windows of 72 px, one every 8 px, in a pyramid of pictures: the doubled frame, and then
each 5/6 of the one before. Its boxes come in these steps, and the 68 points depend on the box that they are
found from. A patch of one of these pictures that begins where a cell begins has the same windows. If it
begins at a multiple of 48 px, so has the next picture of its own pyramid.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

WINDOW_PX, CELL_PX, CELL_START_PX = 72, 8, 5  # windows begin at 8 n + 5
RATIO = 5 / 6
CORNER_STEP_PX = 48  # 48 and 5/6 of it are multiples of a cell
LEVELS = 2  # of the patch's pyramid that have the frame's windows
# dlib's own maps between two pictures: (x + 0.3) / RATIO and, to the doubled frame, 2 (x + DOUBLING).
SHIFT_PX, DOUBLING_PX = 0.3, np.array((1.25, 0.75))
# Of a Gaussian, in pixels squared: dlib's pictures are interpolated again and again, and are softer.
BLUR_VARIANCE = 0.4


class Patch(NamedTuple):
    """A part of one picture of the frame's pyramid."""

    pixels: np.ndarray  # (h, w, 3) uint8 RGB
    level: int  # 0 is the doubled frame
    corner: np.ndarray  # (2,) x, y of its first pixel, in that picture


def cut_patch(image: np.ndarray, box: tuple[float, float, float, float], surroundings: float) -> Patch:
    """The patch around ``box`` in which the two windows nearest to its size are searched.

    Args:
        image: (H, W, 3) uint8, the frame.
        box: of a face, in frame pixels.
        surroundings: side of the patch in sides of the face, at least.
    """
    corners = np.array(box).reshape(2, 2)
    side = np.ptp(corners, axis=0).mean()
    frame = np.array(image.shape[1::-1])
    sizes = _sizes(*image.shape[1::-1])
    level = int(np.log(max(1.0, 2 * side / WINDOW_PX)) / -np.log(RATIO))
    level = min(level, len(sizes) - 1)
    scale = (frame - 1) / (sizes[level] - 1)  # frame pixels a pixel of the picture
    centre, reach = corners.mean(axis=0) / scale, side / scale * surroundings / 2
    first = np.clip(centre - reach, 0, sizes[level] - 1) // CORNER_STEP_PX * CORNER_STEP_PX
    last = np.clip(np.ceil(centre + reach), first + 1, sizes[level])
    first, size = first.astype(int), (last - first).astype(int)
    return Patch(_sample(image, first, size, scale), level, first)


def frame_box(patch: Patch, corners: np.ndarray) -> tuple[tuple[float, float, float, float], bool]:
    """A detection in the patch as the search of the whole frame gives it.

    Args:
        patch: that was searched.
        corners: (2, 2) x, y of the first and the last pixel of dlib's box in the patch.

    Returns:
        The box in frame pixels, and True if it is one of the whole search's windows.
    """
    within = 0
    while np.ptp(corners[:, 0]) > WINDOW_PX * 1.1:  # up to the picture in which it is a window
        corners, within = (corners - SHIFT_PX) * RATIO, within + 1
    is_window = within < LEVELS
    if is_window:
        cells = np.rint((corners - CELL_START_PX) / CELL_PX)
        corners = cells * CELL_PX + CELL_START_PX
    corners = corners + patch.corner * RATIO**within
    for _ in range(patch.level + within):
        corners = corners / RATIO + SHIFT_PX
    (left, top), (right, bottom) = np.rint(corners / 2 - DOUBLING_PX).tolist()
    return (left, top, right + 1, bottom + 1), is_window


@lru_cache(maxsize=16)
def _sizes(width: int, height: int) -> list[np.ndarray]:
    """Width and height of each picture of a frame's pyramid that is larger than a window."""
    sizes = [2 * np.array((width, height))]
    while (sizes[-1] * 5 // 6).min() > WINDOW_PX:
        sizes.append(sizes[-1] * 5 // 6)
    return sizes


def _sample(image: np.ndarray, first: np.ndarray, size: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """``size`` pixels from ``first`` on of the frame reduced by ``scale`` in x and y."""
    begin = np.maximum(0, (first * scale).astype(int) - 4)
    end = ((first + size) * scale).astype(int) + 5
    part = image[begin[1] : end[1], begin[0] : end[0]]
    halved = 1
    while scale.max() >= 2 * halved and min(part.shape[:2]) > 1:  # by areas, a fifth of the time of one step
        half = (part.shape[1] // 2, part.shape[0] // 2)
        part = cv2.resize(part[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
        halved *= 2
    shift = (first * scale - begin - (halved - 1) / 2) / halved
    matrix = np.array([(scale[0] / halved, 0, shift[0]), (0, scale[1] / halved, shift[1])])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    sampled = cv2.warpAffine(part, matrix, tuple(size.tolist()), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cv2.GaussianBlur(sampled, (5, 5), BLUR_VARIANCE**0.5)
