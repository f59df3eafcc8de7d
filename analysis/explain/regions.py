"""Parts of a picture that go together: regions of an aligned face, or a grid of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.preprocessing.align import template
from unmasked.preprocessing.faces import MATRIX, POINTS

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


def region_shares(maps: NDArray[np.float32], scale: float = 1.3) -> list[dict[str, object]]:
    """By region its share of the maps, of the picture, and the ratio of the two.

    The densest first. A map counts by what is above 0, as shares of its own sum.

    Args:
        maps: (N, H, W) of aligned crops.
        scale: room around the face, see `align.template`.
    """
    regions = face_regions(maps.shape[-1], scale).ravel()
    area = np.bincount(regions, minlength=len(REGIONS)) / len(regions)
    positive = np.maximum(maps.reshape(len(maps), -1).astype(np.float64), 0)
    total = positive.sum(axis=1)
    each = [
        np.bincount(regions, one / whole, len(REGIONS))
        for one, whole in zip(positive, total, strict=True)
        if whole
    ]
    share = np.mean(each, axis=0) if each else np.full(len(REGIONS), np.nan)
    found = [
        {
            "region": name,
            "share": float(of_map),
            "area": float(of_picture),
            "density": float(of_map / of_picture),
        }
        for name, of_map, of_picture in zip(REGIONS, share, area, strict=True)
        if of_picture
    ]
    return sorted(found, key=lambda one: -float(str(one["density"])))


def crop_scale(rows: pd.DataFrame, side_px: int) -> float:
    """The room around the face that crops were cut with; 1.3 where that is not known.

    See `align.template`.

    Args:
        rows: of a faces table, with the five points and the matrix.
        side_px: side of these crops as they were cut.
    """
    if rows.empty or not {*POINTS, *MATRIX} <= set(rows) or rows[[*POINTS, *MATRIX]].isna().any(axis=None):
        return 1.3
    eyes = rows[[*POINTS[:4]]].to_numpy(np.float64).reshape(-1, 2, 2)
    matrix = rows[[*MATRIX]].to_numpy(np.float64).reshape(-1, 2, 3)[:, :, :2]
    between = np.einsum("nij,nj->ni", matrix, eyes[:, 1] - eyes[:, 0])
    left, right, *_ = template(side_px, 1.0)
    # The distance of the eyes in a crop shrinks as the room around the face grows.
    return float(np.linalg.norm(right - left) / np.median(np.linalg.norm(between, axis=1)))


def grid(size_px: int, cells: int = 8) -> NDArray[np.int64]:
    """(size, size) the number of each pixel's cell, ``cells`` to a side.

    >>> grid(4, 2).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    """
    place = np.arange(size_px) * cells // size_px
    return place[:, None] * cells + place
