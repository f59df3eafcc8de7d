"""Self-blended images: fakes made of real crops alone, to learn blending itself.

After Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images" (CVPR 2022): two views of one
crop, one with other colours or sharpness, are blended under a deformed and softened mask of the face. What
is left to see is a border and a mismatch of statistics, as in face swaps, and no generator's own traces.
Written from the paper's description. Not the same: the paper's mask is the hull of 81 landmarks found in
each image; a faces table has five points, so the outline of an average face is laid onto them. The ranges
of the changes are ours.

Half of the fakes show their background restyled. So that this does not tell the label, the real crops that
are trained on beside them are restyled as often: `real_image`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.images import UnreadableImage, open_image

SELF_BLENDED = "self_blended"  # the method's name
BLENDED = "is_self_blended"  # the column that says which rows are to be blended when they are fetched

# Shares of a crop's side, aligned as published (scale 1.3): the five points, and the outline of the mean of
# 209 real faces, mirrored onto itself: jaw from temple to temple, brows, and a forehead two thirds up
# to where hair begins.
POINTS = np.array([(0.378, 0.470), (0.620, 0.469), (0.500, 0.608), (0.401, 0.750), (0.601, 0.749)])
JAW = np.array(
    [
        *((0.228, 0.497), (0.233, 0.568), (0.243, 0.638), (0.254, 0.711), (0.277, 0.779), (0.316, 0.837)),
        *((0.371, 0.883), (0.432, 0.921), (0.500, 0.932), (0.568, 0.921), (0.629, 0.883), (0.684, 0.837)),
        *((0.723, 0.779), (0.746, 0.711), (0.757, 0.638), (0.767, 0.568), (0.772, 0.497)),
    ]
)
BROWS = np.array(
    [(0.281, 0.440), (0.317, 0.409), (0.365, 0.401), (0.635, 0.401), (0.683, 0.409), (0.719, 0.440)]
)
FOREHEAD = np.array([(0.270, 0.330), (0.360, 0.245), (0.500, 0.215), (0.640, 0.245), (0.730, 0.330)])
MOUTH = np.array([(0.310, 0.700), (0.380, 0.810), (0.500, 0.840), (0.620, 0.810), (0.690, 0.700)])
NOSE = np.array([(0.330, 0.600), (0.500, 0.540), (0.670, 0.600)])
OUTLINES = (
    np.concatenate([JAW, FOREHEAD]),  # the whole face
    np.concatenate([JAW, BROWS]),  # without the forehead
    np.concatenate([BROWS, MOUTH]),  # brows, eyes, nose and mouth
    np.concatenate([JAW[3:14], NOSE]),  # mouth and chin
)
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # of the source in the face; the paper's

# Largest changes, ours.
POINT_SHIFT = 0.02  # of the outline's points, in shares of the crop's side
WAVE = 0.025  # of the elastic deformation, in the same
MOVE = (0.03, 0.015)  # of the source, along x and y, in the same
RESIZE = 0.05
SOFTENING = (0.004, 0.03)  # deviation of each of the mask's blurs, in the same
SHIFT = 20 / 255  # of each colour
HUE_DEG, SATURATION, VALUE = 12.0, 0.15, 0.15
LIGHT = 0.15
CHANCE = 0.4  # of each change of colour
CUT = 0.95  # what counts as inside of the mask between its blurs


def self_blended_rows(faces: pd.DataFrame) -> pd.DataFrame:
    """The real rows of a faces table once more, as fakes to be made of their own crops.

    Their method is ``self_blended_rows``, their videos are new ones whose source and target is the real one;
    `unmasked.datasets.loading.CropDataset` makes the images, other ones with each draw.

    Raises:
        InputError: there are no real rows.
    """
    reals = faces[faces["label"] == 0]
    if reals.empty:
        raise InputError(
            f"none of the {len(faces)} rows is real; self-blended images are made of real crops: add some"
        )
    own = reals["video"]
    return reals.assign(
        label=1,
        method=SELF_BLENDED,
        video=f"{SELF_BLENDED}/" + own.astype(str),
        source_video=own,
        target_video=own,
        **{BLENDED: True},
    )


def face_points(faces: pd.DataFrame, crops_root: Path) -> NDArray[np.float64]:
    """(N, 5, 2) x, y of the five points in each crop, as shares of its side.

    Frame points go through the matrix of the crop; the side is read from one crop of each recipe. Rows
    that lack any of these have the points of the template that crops are aligned to.
    """
    columns = [f"point{index}_{axis}" for index in range(5) for axis in "xy"]
    matrix = [f"m{row}{column}" for row in range(2) for column in range(3)]
    template = np.broadcast_to(POINTS, (len(faces), 5, 2)).copy()
    if not {*columns, *matrix, "recipe"} <= set(faces):
        return template
    points = faces[columns].to_numpy(np.float64).reshape(-1, 5, 2)
    matrices = faces[matrix].to_numpy(np.float64).reshape(-1, 2, 3)
    sides = faces["recipe"].map(
        {
            recipe: _side_px(*crop_paths(rows["crop"].iloc[:1], crops_root))
            for recipe, rows in faces.groupby("recipe")
        }
    )
    shares = np.einsum("nij,npj->npi", matrices[:, :, :2], points) + matrices[:, None, :, 2]
    shares /= sides.to_numpy(np.float64)[:, None, None]
    usable = (np.abs(shares - 0.5) < 1).all(axis=(1, 2))  # False where anything is missing
    return np.where(usable[:, None, None], shares, template)


def self_blended_image(
    image: NDArray[np.uint8], points: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A fake made of a real (H, W, 3) RGB crop; see `blend`."""
    return blend(image, points, rng)[0]


def real_image(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A real (H, W, 3) RGB crop beside self-blended ones: restyled as a whole half the time."""
    if rng.random() < 0.5:
        return image
    return _bytes(restyle(image.astype(np.float32) / np.float32(255), rng))


def blend(
    image: NDArray[np.uint8], points: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A self-blended image, and the (H, W) share in [0, 1] of the source in each pixel.

    Args:
        image: (H, W, 3) uint8 RGB, square.
        points: (5, 2), as `face_points` gives them.
        rng: all is drawn from it.
    """
    source = target = image.astype(np.float32) / np.float32(255)
    if rng.random() < 0.5:
        source = restyle(source, rng)
    else:
        target = restyle(target, rng)
    mask = face_mask(points, len(image), rng)
    matrix = _draw_affine(len(image), rng)
    size = (len(image), len(image))
    source = cv2.warpAffine(source, matrix, size, borderMode=cv2.BORDER_REFLECT_101)  # type: ignore[assignment]
    mask = cv2.warpAffine(mask, matrix, size)  # type: ignore[assignment]
    share = mask * np.float32(rng.choice(RATIOS))
    return _bytes(source * share[..., None] + target * (1 - share[..., None])), share


def face_mask(points: NDArray[np.float64], size_px: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(size_px, size_px) in [0, 1]: a part of the face, deformed, with a soft border.

    The hull of an outline is waved elastically, blurred, cut to where it is still 1, and blurred again: a
    first blur wider than the second makes it smaller, a narrower one larger, as in the paper.
    """
    outline = (
        OUTLINES[rng.integers(len(OUTLINES))] @ _template_to_points(points)[:2]
        + _template_to_points(points)[2]
    )
    outline = outline + rng.uniform(-POINT_SHIFT, POINT_SHIFT, outline.shape)
    hull = cv2.convexHull(np.rint(outline * size_px).astype(np.int32))
    mask = cv2.fillConvexPoly(np.zeros((size_px, size_px), np.float32), hull, 1.0)
    mask = _wave_mask(mask, rng)  # type: ignore[arg-type]
    first, second = rng.uniform(*SOFTENING, size=2) * size_px
    inside = (cv2.GaussianBlur(mask, (0, 0), first) > CUT).astype(np.float32)
    return cv2.GaussianBlur(inside, (0, 0), second)  # type: ignore[return-value]


def restyle(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """An (H, W, 3) RGB image in [0, 1], recoloured, and sharper or of lower resolution."""
    if rng.random() < CHANCE:
        image = image + rng.uniform(-SHIFT, SHIFT, 3).astype(np.float32)
    if rng.random() < CHANCE:
        image = _recolour(image.clip(0, 1), rng)
    if rng.random() < CHANCE:
        contrast, brightness = 1 + rng.uniform(-LIGHT, LIGHT), rng.uniform(-LIGHT, LIGHT)
        image = image * np.float32(contrast) + np.float32(brightness)
    image = image.clip(0, 1)
    if rng.random() < 0.5:
        smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
        return (image + np.float32(rng.uniform(0.3, 1.0)) * (image - smooth)).clip(0, 1)
    size = image.shape[1::-1]
    factor = int(rng.integers(2, 5))
    small = cv2.resize(image, (size[0] // factor, size[1] // factor), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _recolour(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    hue = (hue + np.float32(rng.uniform(-HUE_DEG, HUE_DEG))) % 360
    saturation = (saturation * np.float32(1 + rng.uniform(-SATURATION, SATURATION))).clip(0, 1)
    value = (value * np.float32(1 + rng.uniform(-VALUE, VALUE))).clip(0, 1)
    return cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB)  # type: ignore[return-value]


def _wave_mask(mask: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The mask with each pixel taken from a place that a smooth random field of 6 x 6 nodes names."""
    size_px = len(mask)
    nodes = rng.uniform(-WAVE, WAVE, (6, 6, 2)).astype(np.float32) * size_px
    field = cv2.resize(nodes, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[:size_px, :size_px].astype(np.float32)
    return cv2.remap(mask, columns + field[..., 0], rows + field[..., 1], cv2.INTER_LINEAR)  # type: ignore[return-value]


def _draw_affine(size_px: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(2, 3) resize about the centre, each axis by its own factor, and a shift."""
    factors = 1 + rng.uniform(-RESIZE, RESIZE, 2)
    shift = rng.uniform(-1, 1, 2) * MOVE * size_px + (1 - factors) * size_px / 2
    return np.array([[factors[0], 0, shift[0]], [0, factors[1], shift[1]]])


def _template_to_points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 2), the affine map of rows (x, y, 1) that brings the template onto the points, least squares."""
    return np.linalg.lstsq(np.column_stack([POINTS, np.ones(5)]), points, rcond=None)[0]


def _bytes(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(image * 255).clip(0, 255).astype(np.uint8)


def _side_px(path: Path) -> int:
    try:
        with open_image(path) as image:
            return image.height
    except (UnreadableImage, OSError) as error:
        raise InputError(
            f"crop {path} is not an intact image ({error}); delete it and run `unmasked preprocess` again"
        ) from error
