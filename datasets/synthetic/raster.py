"""A z-buffer rasteriser in numpy: which triangle each pixel sees, and where in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_SLACK = 1e-4  # triangles reach this share over their edges, so that neighbours leave no gap


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

    All triangles are cut into their pixel rows at once, the rows into pixels; no Python loop. Depth is
    resolved to 1/65536 of its range, and among equals the later triangle wins.

    Args:
        points: (V, 3) float32: x to the right and y down in pixels, depth z (greater is nearer).
        triangles: (F, 3) vertex indices, counter-clockwise in a frame with y up.
        size: height and width in pixels. Pixel (row, column) has its centre at x=column, y=row.
    """
    height, width = size
    which, y, edges, depth = _rows(points, triangles, height)
    # Each weight w(x) = slope * x + base is positive on a half-line; the row is where the three meet.
    slope, base = edges[:, :3], edges[:, 3:]
    slope = np.where(np.abs(slope) < 1e-9, np.float32(1e-9), slope)
    cross = (np.float32(-_SLACK) - base) / slope
    from_left = np.where(slope > 0, cross, 0)
    from_right = np.where(slope < 0, cross, width - 1)
    low = np.maximum(np.maximum(from_left[:, 0], from_left[:, 1]), np.maximum(from_left[:, 2], 0))
    high = np.minimum(np.minimum(from_right[:, 0], from_right[:, 1]), np.minimum(from_right[:, 2], width - 1))
    first = np.ceil(np.minimum(low, width)).astype(np.int32)  # slivers reach far beyond what an int32 holds
    counts = np.maximum(np.floor(np.maximum(high, -1)).astype(np.int32) - first + 1, 0)

    row = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    start = np.cumsum(counts, dtype=np.int32) - counts
    x = np.arange(len(row), dtype=np.int32) + (first - start)[row]
    pixel = (y * np.int32(width))[row] + x
    z = depth[row, 0] * x + depth[row, 1]
    # A 16-bit integer sorts in linear time. With repeated indices the last assignment stays: nearest last.
    low_z, high_z = (z.min(), z.max()) if len(z) else (0, 1)
    order = np.argsort(((z - low_z) * (65535 / max(high_z - low_z, 1e-9))).astype(np.uint16), kind="stable")
    nearest = np.full(height * width, -1, np.int32)
    nearest[pixel[order]] = order
    covered = np.flatnonzero(nearest >= 0)
    chosen = nearest[covered]
    row, x = row[chosen], x[chosen].astype(np.float32)
    return Fragments(covered, which[row], slope[row] * x[:, None] + base[row])


def _rows(
    points: np.ndarray, triangles: np.ndarray, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The pixel rows of all triangles that face the viewer, R rows.

    Returns:
        (R,) triangle; (R,) y; (R, 6) slopes and bases in x of the three weights; (R, 2) those of depth.
    """
    x0, x1, x2 = (points[triangles[:, i], 0] for i in range(3))
    y0, y1, y2 = (points[triangles[:, i], 1] for i in range(3))
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    top = np.maximum(np.ceil(np.minimum(np.minimum(y0, y1), y2)), 0).astype(np.int32)
    bottom = np.minimum(np.floor(np.maximum(np.maximum(y0, y1), y2)), height - 1).astype(np.int32)
    seen = np.flatnonzero((area < -1e-4) & (bottom >= top))
    top, counts = top[seen], (bottom - top + 1)[seen]

    x0, x1, x2, y0, y1, y2, area = (value[seen] for value in (x0, x1, x2, y0, y1, y2, area))
    a1, b1 = (y2 - y0) / area, (x0 - x2) / area
    a2, b2 = (y0 - y1) / area, (x1 - x0) / area
    c1, c2 = -a1 * x0 - b1 * y0, -a2 * x0 - b2 * y0
    z0, z1, z2 = (points[triangles[seen, i], 2] for i in range(3))
    table = np.stack(
        [
            *(-a1 - a2, a1, a2, 1 - c1 - c2, c1, c2, -b1 - b2, b1, b2),
            *(a1 * (z1 - z0) + a2 * (z2 - z0), z0 + c1 * (z1 - z0) + c2 * (z2 - z0)),
            b1 * (z1 - z0) + b2 * (z2 - z0),
        ],
        axis=1,
    ).astype(np.float32)  # slopes in x, constants, slopes in y; the same of depth
    which = np.repeat(np.arange(len(seen), dtype=np.int32), counts)
    start = np.cumsum(counts, dtype=np.int32) - counts
    y = np.arange(len(which), dtype=np.int32) + (top - start)[which]
    rows = table[which]
    at = y.astype(np.float32)
    rows[:, 3:6] += rows[:, 6:9] * at[:, None]
    rows[:, 10] += rows[:, 11] * at
    return seen[which], y, rows[:, :6], rows[:, 9:11]


def interpolate(fragments: Fragments, corner_values: np.ndarray) -> np.ndarray:
    """(P, A) values at the fragments, given (F, 3, A) values at the triangles' corners."""
    corner = corner_values[fragments.triangle]
    weight = fragments.weight
    value = weight[:, :1] * corner[:, 0]
    value += weight[:, 1:2] * corner[:, 1]
    value += weight[:, 2:] * corner[:, 2]
    return value


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
