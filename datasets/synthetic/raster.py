"""A z-buffer rasteriser in plain numpy: which triangle does each pixel see, and where in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Fragments(NamedTuple):
    """What is seen, a row a covered pixel, P rows.

    Attributes:
        pixel: (P,) int64, row * width + column.
        triangle: (P,) int64, index of the nearest triangle.
        weight: (P, 3) float32, barycentric weights of its corners.
    """

    pixel: np.ndarray
    triangle: np.ndarray
    weight: np.ndarray


def rasterise(points: np.ndarray, triangles: np.ndarray, size: tuple[int, int]) -> Fragments:
    """The front-most triangle at each pixel centre; triangles seen from behind are left out.

    All bounding boxes are enumerated at once, so the time goes with their total area; meshes whose
    triangles are a few pixels wide suit it.

    Args:
        points: (V, 3) float32: x to the right and y down in pixels, depth z (greater is nearer).
        triangles: (F, 3) vertex indices, counter-clockwise in a frame with y up.
        size: height and width in pixels. Pixel (row, column) has its centre at x=column, y=row.
    """
    height, width = size
    corner = points[triangles]  # (F, 3, 3)
    x, y = corner[..., 0], corner[..., 1]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    left = np.maximum(np.ceil(x.min(1)), 0).astype(np.int32)
    top = np.maximum(np.ceil(y.min(1)), 0).astype(np.int32)
    columns = np.minimum(np.floor(x.max(1)), width - 1).astype(np.int32) - left + 1
    rows = np.minimum(np.floor(y.max(1)), height - 1).astype(np.int32) - top + 1
    seen = np.flatnonzero((area < -1e-6) & (columns > 0) & (rows > 0))

    left, top, columns, rows, area = (a[seen] for a in (left, top, columns, rows, area))
    counts = columns * rows
    start = np.cumsum(counts) - counts
    which = np.repeat(np.arange(len(seen), dtype=np.int32), counts)
    offset = np.arange(len(which), dtype=np.int32) - start.astype(np.int32)[which]
    row = offset // columns[which]
    px = offset - row * columns[which] + left[which]
    py = row + top[which]

    # Weights 1 and 2 are affine in the pixel: w = a * px + b * py + c, relative to corner 0.
    ax, ay = x[seen], y[seen]
    inverse = 1.0 / area
    grow1 = np.stack([(ay[:, 2] - ay[:, 0]) * inverse, (ax[:, 0] - ax[:, 2]) * inverse], 1)
    grow2 = np.stack([(ay[:, 0] - ay[:, 1]) * inverse, (ax[:, 1] - ax[:, 0]) * inverse], 1)
    dx, dy = px - ax[which, 0], py - ay[which, 0]
    w1 = grow1[which, 0] * dx + grow1[which, 1] * dy
    w2 = grow2[which, 0] * dx + grow2[which, 1] * dy
    w0 = 1 - w1 - w2
    slack = np.float32(-1e-4)  # a hair's breadth, so that neighbours leave no gap
    inside = np.flatnonzero((w0 >= slack) & (w1 >= slack) & (w2 >= slack))

    weight = np.stack([w0[inside], w1[inside], w2[inside]], axis=1)
    triangle = seen[which[inside]]
    pixel = py[inside].astype(np.int64) * width + px[inside]
    depth = np.einsum("pc,pc->p", weight, corner[triangle, :, 2])
    # With repeated indices the last assignment stays, so nearest goes last.
    order = np.argsort(depth, kind="stable")
    nearest = np.full(height * width, -1, np.int64)
    nearest[pixel[order]] = order
    pixel = np.flatnonzero(nearest >= 0)
    chosen = nearest[pixel]
    return Fragments(pixel, triangle[chosen], weight[chosen])


def interpolate(fragments: Fragments, corner_values: np.ndarray) -> np.ndarray:
    """(P, A) values at the fragments, given (F, 3, A) values at the triangles' corners."""
    return np.einsum("pc,pca->pa", fragments.weight, corner_values[fragments.triangle])


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals, area-weighted over the faces around each vertex: (V, 3) -> (V, 3)."""
    corner = vertices[triangles]
    face = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normal = np.stack(
        [
            np.bincount(triangles.ravel(), np.repeat(face[:, axis], 3), minlength=len(vertices))
            for axis in range(3)
        ],
        axis=1,
    )
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return (normal / np.maximum(length, 1e-12)).astype(np.float32)
