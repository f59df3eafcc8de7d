"""The similarity transform from a face's five points to the template, and the crop.

The template and the choice of points are those of the published preprocessing (Yan et al.,
"DeepfakeBench", NeurIPS 2023 Datasets and Benchmarks), so that crops can be compared with published ones.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from unmasked.datasets.images import fit_to_size

# Parts of the 68-point model, 0-based: two upper eyelid points, the nose tip, and two lip points beside
# the mouth's corners. The corners would be 48 and 54; the published crops use 49 and 55, and a detector
# trained on those sees a face that is shifted if we "correct" it.
FIVE_POINTS = (37, 44, 30, 49, 55)

# Two eyes, nose tip, two mouth corners in the 112 x 112 crop of ArcFace (Deng et al., CVPR 2019, its
# 96 x 112 template moved 8 px to the right).
TEMPLATE_PX = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
TEMPLATE_SIZE_PX = 112


def five_points(points: np.ndarray) -> np.ndarray:
    """(5, 2) the points that a face is aligned by, of the 68, or of the five that there are."""
    return points if len(points) == len(FIVE_POINTS) else points[list(FIVE_POINTS)]


def template(size_px: int = 256, scale: float = 1.3) -> np.ndarray:
    """(5, 2) float64, where the five points lie in a crop of ``size_px`` (x, y).

    Args:
        size_px: side of the square crop.
        scale: 1 is the tight ArcFace crop; 1.3 leaves 30 % more room around the face.

    >>> template()[2].round(4).tolist()
    [128.0443, 155.6687]
    """
    return (TEMPLATE_PX * size_px / TEMPLATE_SIZE_PX + size_px * (scale - 1) / 2) / scale


def similarity_matrix(points: np.ndarray, size_px: int = 256, scale: float = 1.3) -> np.ndarray:
    """(2, 3) float64 similarity from frame pixels to crop pixels, by least squares.

    Rotation, uniform scale and shift, no reflection (Umeyama, PAMI 1991). In the plane this is linear
    regression in complex numbers, ``w = a z + b``: the argument of ``a`` is the rotation, its modulus the
    scale.

    Args:
        points: (5, 2) x, y in frame pixels, in the order of `FIVE_POINTS`.
        size_px: side of the square crop.
        scale: room around the face, see `template`.

    Raises:
        ValueError: not five finite points, or all five in one place.

    >>> bool(np.allclose(similarity_matrix(template()), [[1, 0, 0], [0, 1, 0]]))
    True
    """
    points = np.asarray(points, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(
            f"points have shape {points.shape} or are not finite; give five (x, y) in frame pixels"
        )
    z = points[:, 0] + 1j * points[:, 1]
    w_mean, w_centred = _complex_template(size_px, scale)
    z_mean = z.sum() / 5
    z_centred = z - z_mean
    spread = np.vdot(z_centred, z_centred).real
    if spread == 0:
        raise ValueError(
            f"all five points lie at {points[0].tolist()}; a similarity needs two different points"
        )
    a = np.vdot(z_centred, w_centred) / spread
    b = w_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


@lru_cache(maxsize=16)
def _complex_template(size_px: int, scale: float) -> tuple[complex, np.ndarray]:
    """The mean of the template's points as complex numbers, and the (5,) points less the mean."""
    w = template(size_px, scale) @ (1, 1j)
    return complex(w.mean()), w - w.mean()


def box_matrix(box: tuple[float, float, float, float], size_px: int = 256, scale: float = 1.0) -> np.ndarray:
    """(2, 3) float64, the map from a box to the square that it is stretched to.

    The box is left, top, right, bottom. ``scale`` is the room around it, as in `template`.

    >>> box_matrix((10, 20, 74, 148), 128).tolist()
    [[2.0, 0.0, -19.5], [0.0, 1.0, -20.0]]
    """
    (left, top), (right, bottom) = box[:2], box[2:]
    width, height = scale * (right - left), scale * (bottom - top)
    matrix = whole_matrix(width, height, size_px)
    matrix[:, 2] -= np.diag(matrix[:, :2]) * ((left + right - width) / 2, (top + bottom - height) / 2)
    return matrix


def whole_matrix(width: float, height: float, size_px: int = 256) -> np.ndarray:
    """(2, 3) float64, the map from a whole image to the square that it is resized to.

    Pixels are counted by their middles, as resizing does.
    """
    x, y = size_px / width, size_px / height
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])


def cut(image: np.ndarray, matrix: np.ndarray, size_px: int, crops: str = "cut") -> np.ndarray:
    """(size_px, size_px, 3) crop of an (H, W, 3) image, made as a row's ``crops`` says.

    Args:
        image: uint8.
        matrix: (2, 3) frame pixels -> crop pixels; not used for ``as_is``.
        size_px: side of the square crop.
        crops: ``cut``, ``cut_reflect`` (the picture mirrored where it ends) or ``as_is`` (resized whole).
    """
    if crops == "as_is":
        return fit_to_size(image, size_px)
    return warp(image, matrix, size_px, border="reflect" if crops == "cut_reflect" else "black")


def padded_share(matrix: np.ndarray, shape: tuple[int, ...], size_px: int = 256) -> float:
    """Share of a crop's pixels, in [0, 1], that lie outside the picture.

    On a grid of 64 x 64 of them.

    Args:
        matrix: (2, 3) frame pixels -> crop pixels.
        shape: height and width of the picture.
        size_px: side of the square crop.

    >>> padded_share(np.array([[1.0, 0, 128], [0, 1, 0]]), (256, 256))
    0.5
    """
    places = (np.arange(64) + 0.5) * size_px / 64 - 0.5
    for tried in (places[[0, -1]], places):  # all are inside if the four outermost are
        grid = np.stack(np.meshgrid(tried, tried), axis=-1).reshape(-1, 2)  # (N, 2) x, y in the crop
        points = (grid - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        outside = (points < -0.5) | (points > np.array(shape[1::-1]) - 0.5)
        if not outside.any():
            return 0.0
    return float(outside.any(axis=1).mean())


def warp(
    image: np.ndarray, matrix: np.ndarray, size_px: int = 256, *, border: str = "black"
) -> NDArray[np.uint8]:
    """(size_px, size_px, C) crop of an (H, W, C) image: bilinear.

    Args:
        image: uint8, any channel order.
        matrix: (2, 3) frame pixels -> crop pixels, from `similarity_matrix`.
        size_px: side of the square crop.
        border: black, or reflect for the picture mirrored where it ends.
    """
    return cv2.warpAffine(  # type: ignore[return-value]
        image,
        matrix,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101 if border == "reflect" else cv2.BORDER_CONSTANT,
        borderValue=0,
    )
