"""What is where on the average head: texture coordinates, hairline, face region, eyes.

Everything here is fixed for the mesh, so it is worked out once a process on the average adult and holds for
every person, whose vertices are the same ones moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unmasked.datasets.synthetic.head import EYE, EYE_CAVITY, MOUTH, SKIN, TONGUE, load_head
from unmasked.datasets.synthetic.landmarks import VERTICES
from unmasked.datasets.synthetic.raster import interpolate, rasterise, vertex_normals

# The texture atlas, sizes in pixels. Skin and hair are unrolled around the head; the rest are small tiles
# to the right of them: (row, column, height, width).
AROUND = 640
ATLAS = (992, 832)
SKIN_TILE = (0, 0, 640, 700)
HAIR_TILE = (644, 0, 348, 700)
EYE_TILE = (4, 712, 112, 112)
CLOTH_TILE = (132, 712, 112, 112)
MOUTH_TILE = (260, 712, 40, 40)
TONGUE_TILE = (310, 712, 40, 40)
TEETH_TILE = (360, 712, 60, 112)
UP_RANGE_M = (-0.19, 0.19)  # the skin tile's bottom and top rows

AXIS_Z = -0.075  # the head's vertical axis lies this far behind the eyes
# Where hair begins, metres above the eyes, by the angle from straight ahead in degrees.
_HAIRLINE = (
    (0, 30, 48, 58, 66, 74, 84, 98, 112, 130, 180),
    (0.076, 0.074, 0.063, 0.044, 0.024, 0.008, 0.026, 0.012, -0.02, -0.045, -0.06),
)


@dataclass(frozen=True)
class Anatomy:
    """Facts of the average head; V vertices, F triangles.

    Metres from the middle between the eyes.

    Attributes:
        vertices: (V, 3) float32.
        angle: (V,) degrees around the vertical axis, 0 = ahead, positive to the viewer's right.
        uv: (F, 3, 2) float32 atlas pixels of the triangles' corners.
        face: (V,) 0 to 1, softly inside the face from brows to chin.
        follows: (V,) 0 to 1, how much the head's turning moves it; 0 at the bottom of the neck.
        eyes: (2, 4) centre and radius of the eyeballs, metres; the viewer's left first.
        position_map: (3, H, W) float32 position of each texel of the skin tile.
    """

    vertices: np.ndarray
    angle: np.ndarray
    uv: np.ndarray
    face: np.ndarray
    follows: np.ndarray
    eyes: np.ndarray
    position_map: np.ndarray


@lru_cache(maxsize=1)
def load_anatomy() -> Anatomy:
    """The average head's facts, worked out once a process (under a second)."""
    head = load_head()
    vertices = centre_on_eyes(head.neutral_vertices({"gender": 0.5, "age": 0.69}, {}))
    eyes = _eyes(vertices, head.triangles[head.part == EYE])
    angle = np.degrees(np.arctan2(vertices[:, 0], vertices[:, 2] - AXIS_Z)).astype(np.float32)
    up = unrolled_height(vertices)
    uv = _texture_coordinates(vertices, angle, up, eyes)
    return Anatomy(
        vertices=vertices,
        angle=angle,
        uv=uv,
        face=_face_region(vertices, angle),
        follows=head_share(vertices),
        eyes=eyes,
        position_map=_position_map(vertices, uv, head.triangles, head.part == SKIN),
    )


def centre_on_eyes(vertices: np.ndarray) -> np.ndarray:
    """The same vertices with the origin between the corners of the eyes."""
    corners = vertices[[VERTICES[i] for i in (36, 39, 42, 45)]]
    return (vertices - corners.mean(0)).astype(np.float32)


def head_share(vertices: np.ndarray) -> np.ndarray:
    """(V,) 0 to 1: how much of the head's turning reaches each height of the neck."""
    share = np.clip((vertices[:, 1] + 0.165) / 0.075, 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)


def hairline(angle: np.ndarray) -> np.ndarray:
    """Metres of the average hairline above the eyes, for degrees from straight ahead."""
    return np.interp(np.abs(angle), *_HAIRLINE)


def unrolled_height(vertices: np.ndarray) -> np.ndarray:
    """(V,) metres along the head's outline: height, above the temples the way to the crown."""
    radius = np.hypot(vertices[:, 0], vertices[:, 2] - AXIS_Z)
    return vertices[:, 1] + 0.75 * np.clip(0.085 - radius, 0, None) * np.clip(
        (vertices[:, 1] - 0.05) / 0.04, 0, 1
    )


def skin_pixel(angle: np.ndarray, up: np.ndarray, tile: tuple[int, int, int, int] = SKIN_TILE) -> np.ndarray:
    """(..., 2) atlas x and y of a place on the unrolled head, given degrees and metres."""
    row, column, height, _ = tile
    low, high = UP_RANGE_M
    x = column + (angle / 360 + 0.5) * AROUND
    y = row + (high - up) / (high - low) * (height - 1)
    return np.stack([x, y], axis=-1).astype(np.float32)


def ambient_light(vertices: np.ndarray, triangles: np.ndarray, directions: int = 32) -> np.ndarray:
    """(V,) cosine-weighted share of the sky that each vertex sees; a little more from above."""
    index = np.arange(directions) + 0.5
    height = 1 - 2 * index / directions
    turn = np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - height**2)
    sky = np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], axis=1)
    normals = vertex_normals(vertices, triangles)
    seen, total = np.zeros(len(vertices)), np.zeros(len(vertices))
    for direction in sky:
        weight = np.clip(normals @ direction, 0, None) * (1 + 0.35 * direction[1])
        total += weight
        seen += weight * visibility_from(direction, vertices, triangles, normals)
    return (seen / np.maximum(total, 1e-6)).astype(np.float32)


def visibility_from(
    direction: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, normals: np.ndarray
) -> np.ndarray:
    """(V,) 1 where a far light reaches the vertex, else 0, by a depth map of 160 px."""
    size = 160
    side = np.cross((0.3, 0.9, 0.1), direction)
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(direction, side), direction]).T.astype(np.float32)
    turned = vertices @ axes
    low = turned.min(0)
    step = (turned.max(0) - low)[:2].max() / (size - 3)
    x, y = (turned[:, 0] - low[0]) / step + 1, size - 2 - (turned[:, 1] - low[1]) / step
    points = np.stack([x, y, turned[:, 2]], axis=1).astype(np.float32)
    seen = rasterise(points, triangles, (size, size))
    depth = np.full(size * size, -np.inf, np.float32)
    depth[seen.pixel] = interpolate(seen, points[triangles][..., 2:])[:, 0]
    # Looked up a little off the surface, or the map's coarse steps would shade the surface itself.
    off = turned + 1.5 * step * (normals @ axes)
    column = np.clip(np.rint((off[:, 0] - low[0]) / step + 1), 0, size - 1).astype(int)
    row = np.clip(np.rint(size - 2 - (off[:, 1] - low[1]) / step), 0, size - 1).astype(int)
    return (off[:, 2] >= depth[row * size + column] - 1.0 * step).astype(np.float32)


def _eyes(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    used = vertices[np.unique(triangles)]
    eyes = []
    for sign in (-1, 1):
        side = used[used[:, 0] * sign > 0]
        low, high = side.min(0), side.max(0)
        radius = (high[1] - low[1]) / 2
        eyes.append([*(low + high)[:2] / 2, high[2] - radius, radius])
    return np.array(eyes, np.float32)


def _texture_coordinates(
    vertices: np.ndarray, angle: np.ndarray, up: np.ndarray, eyes: np.ndarray
) -> np.ndarray:
    head = load_head()
    corner_angle = angle[head.triangles]
    # A triangle across the seam behind the head goes on past +180 degrees.
    across = (corner_angle.max(1) - corner_angle.min(1)) > 180
    corner_angle = np.where(across[:, None] & (corner_angle < 0), corner_angle + 360, corner_angle)
    uv = skin_pixel(corner_angle, up[head.triangles])

    corner = vertices[head.triangles]
    at_eye = head.part == EYE
    eye = eyes[(corner[at_eye, 0, 0] > 0).astype(int)]
    flat = (corner[at_eye][..., :2] - eye[:, None, :2]) / eye[:, None, 3:]
    uv[at_eye] = _tile_coordinates(EYE_TILE, (flat[..., 0] + 1) / 2, (1 - flat[..., 1]) / 2)
    for part, tile in ((MOUTH, MOUTH_TILE), (TONGUE, TONGUE_TILE)):
        inside = corner[head.part == part]
        depth = (0.03 - inside[..., 2]) / 0.11
        uv[head.part == part] = _tile_coordinates(tile, 0.5 + inside[..., 0] / 0.09, depth)
    cavity = head.part == EYE_CAVITY
    uv[cavity] = skin_pixel(angle[head.triangles[cavity]], up[head.triangles[cavity]])
    return uv


def _tile_coordinates(tile: tuple[int, int, int, int], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row, column, height, width = tile
    return np.stack(
        [column + np.clip(x, 0, 1) * (width - 1), row + np.clip(y, 0, 1) * (height - 1)], axis=-1
    ).astype(np.float32)


def _face_region(vertices: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Softly 1 inside the outline of jaw and brows, measured on the unrolled head."""
    import cv2

    outline = [VERTICES[i] for i in (*range(17), *range(26, 16, -1))]
    flat = np.stack([angle, vertices[:, 1] * 900], axis=1)  # a degree is about 1.1 mm at the face
    hull = cv2.convexHull(flat[outline])
    inside = np.array([cv2.pointPolygonTest(hull, (float(x), float(y)), True) for x, y in flat])
    return np.clip(inside / 8 + 0.35, 0, 1).astype(np.float32)


def _position_map(
    vertices: np.ndarray, uv: np.ndarray, triangles: np.ndarray, skin: np.ndarray
) -> np.ndarray:
    import cv2

    _, _, height, width = SKIN_TILE
    corner = vertices[triangles[skin]]
    flat = uv[skin].reshape(-1, 2)
    outward = np.hypot(corner[..., 0], corner[..., 2] - AXIS_Z).reshape(-1, 1)
    points = np.concatenate([flat, outward], axis=1).astype(np.float32)
    # Without shared vertices, so that the seam's triangles may lie at other places than their neighbours.
    seen = rasterise(points, np.arange(len(points)).reshape(-1, 3), (height, width))
    position = np.zeros((height * width, 3), np.float32)
    position[seen.pixel] = interpolate(seen, corner)
    filled = np.zeros(height * width, np.uint8)
    filled[seen.pixel] = 1
    # Empty texels (the poles) take the nearest filled one.
    _, label = cv2.distanceTransformWithLabels(
        1 - filled.reshape(height, width), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(label.max() + 1, np.int64)
    nearest[label.ravel()[filled > 0]] = np.flatnonzero(filled)
    return position[nearest[label]].transpose(2, 0, 1).copy()
