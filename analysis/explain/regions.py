"""Parts of a picture that go together: regions of an aligned face, or a grid of cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unmasked.preprocessing.align import template

REGIONS = ("background", "hair", "jaw", "cheeks", "brows", "eyes", "nose", "mouth")


def face_regions(size_px: int, scale: float = 1.3) -> NDArray[np.int64]:
    """(size, size) which of `REGIONS` each pixel of an aligned crop belongs to.

    All crops are aligned by five points, so that the parts of the face lie where the template has them, give
    or take what faces differ. Their outlines are ellipses and lines, in units of the distance of the eyes.

    Args:
        size_px: side of the crop.
        scale: room around the face, as of `align.template`.
    """
    left, right, nose, mouth_left, mouth_right = template(size_px, scale)
    eye = np.linalg.norm(right - left)
    between, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    y, x = np.mgrid[:size_px, :size_px] + 0.5

    def ellipse(centre: np.ndarray, width: float, height: float) -> NDArray[np.bool_]:
        return ((x - centre[0]) / (width * eye)) ** 2 + ((y - centre[1]) / (height * eye)) ** 2 <= 1

    middle = (between + mouth) / 2
    face = ellipse(middle, 1.05, 1.45)
    brow_line = between[1] - 0.6 * eye
    found = np.zeros((size_px, size_px), np.int64)
    head = ellipse(middle - [0, 0.35 * eye], 1.3, 1.9)
    for name, mask in (
        ("hair", head & (y < middle[1])),
        ("cheeks", face & (y < mouth[1])),
        ("hair", face & (y < brow_line)),
        ("jaw", face & (y >= mouth[1])),
        ("brows", ellipse(left - [0, 0.4 * eye], 0.45, 0.16) | ellipse(right - [0, 0.4 * eye], 0.45, 0.16)),
        ("eyes", ellipse(left, 0.38, 0.2) | ellipse(right, 0.38, 0.2)),
        ("nose", ellipse((between + 2 * nose) / 3, 0.27, 0.55)),
        ("mouth", ellipse(mouth, 0.55, 0.28)),
    ):
        found[mask] = REGIONS.index(name)
    return found


def grid(size_px: int, cells: int = 8) -> NDArray[np.int64]:
    """(size, size) the number of each pixel's cell, ``cells`` to a side.

    >>> grid(4, 2).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    """
    place = np.arange(size_px) * cells // size_px
    return place[:, None] * cells + place
