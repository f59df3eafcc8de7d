"""Brushes: noise, blobs, strokes and blending on a float canvas."""

from __future__ import annotations

import cv2
import numpy as np


def to_linear(colour: np.ndarray | tuple[int, int, int]) -> np.ndarray:
    """sRGB in [0, 255] as linear light in [0, 1], by a power of 2.2; float32.

    >>> to_linear((255, 0, 255))
    array([1., 0., 1.], dtype=float32)
    """
    return (np.asarray(colour, np.float32) / 255) ** np.float32(2.2)


def noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 smooth noise, about unit variance, with grains `cell` pixels wide."""
    return stretched_noise(shape, (cell, cell), rng)


def stretched_noise(
    shape: tuple[int, int], cell: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """(H, W) float32 smooth noise with grains cell[0] pixels high and cell[1] wide."""
    small = [max(2, int(np.ceil(side / grain)) + 1) for side, grain in zip(shape, cell, strict=True)]
    grains = rng.standard_normal(small).astype(np.float32)
    return cv2.resize(grains, shape[::-1], interpolation=cv2.INTER_CUBIC)


def blob(position: np.ndarray, centre: tuple[float, ...], radius: tuple[float, ...]) -> np.ndarray:
    """(H, W) float32 Gaussian of the (3, H, W) positions around a place; 2 or 3 axes, metres."""
    squares = np.zeros(position.shape[1:], np.float32)
    for axis in range(len(radius)):
        squares += ((position[axis] - np.float32(centre[axis])) / np.float32(radius[axis])) ** 2
    return np.exp(np.float32(-0.5) * squares)


def blend(canvas: np.ndarray, mask: np.ndarray, colour: np.ndarray, gloss: float | None = None) -> None:
    """Lays a colour, (3,) or (H, W, 3), over the (H, W, 4) canvas in place, by the mask."""
    mask = mask.astype(np.float32)
    canvas[..., :3] += mask[..., None] * (colour.astype(np.float32) - canvas[..., :3])
    if gloss is not None:
        canvas[..., 3] += mask * (np.float32(gloss) - canvas[..., 3])


def strokes(shape: tuple[int, int], start: np.ndarray, end: np.ndarray, *, thickness: int = 1) -> np.ndarray:
    """(H, W) float32 in [0, 1]: anti-aliased strokes between two (N, 2) arrays of x, y."""
    mask = np.zeros(shape, np.uint8)
    lines = np.rint(np.stack([start, end], axis=1) * 16).astype(np.int32)  # sixteenths of a pixel
    cv2.polylines(mask, list(lines), False, 255, thickness, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """The image after a Gaussian blur."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def smooth_curve(points: np.ndarray, count: int = 25) -> np.ndarray:
    """(count, 2) along the cubic through four points, (4, 2)."""
    at, fine = np.linspace(0, 1, len(points)), np.linspace(0, 1, count)
    return np.stack([np.polyval(np.polyfit(at, points[:, i], 3), fine) for i in (0, 1)], axis=1)
