"""What a head wears: meshes of hair, teeth and garment, built around a face at rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from unmasked.datasets.synthetic.anatomy import (
    AXIS_Z,
    CLOTH_TILE,
    HAIR_TILE,
    TEETH_TILE,
    head_share,
    load_anatomy,
    skin_pixel,
    unrolled_height,
)
from unmasked.datasets.synthetic.head import SKIN, load_head
from unmasked.datasets.synthetic.landmarks import VERTICES
from unmasked.datasets.synthetic.people import Person
from unmasked.datasets.synthetic.raster import vertex_normals
from unmasked.datasets.synthetic.skin import hair_edge

# How far the hair stands off the scalp, metres.
_THICKNESS_M = {
    "long": 0.011, "bob": 0.012, "bun": 0.007, "short": 0.012, "crop": 0.004, "curly": 0.022,
    "receding": 0.006, "bald": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A mesh of N vertices and F triangles.

    Attributes:
        vertices: (N, 3) float32 metres from the middle between the eyes.
        triangles: (F, 3) int.
        uv: (F, 3, 2) atlas pixels.
        follows: (N,) 0 to 1, how much the head's turning moves it.
        jaw: (N,) 0 to 1, how much the jaw's opening moves it.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    follows: np.ndarray
    jaw: np.ndarray


def hidden_scalp(person: Person) -> np.ndarray:
    """(F,) bool, the head's triangles that this person's hair always covers."""
    head = load_head()
    if person.hair_style == "bald":
        return np.zeros(len(head.triangles), bool)
    edge = _cap_edge(person)
    return (head.part == SKIN) & (edge[head.triangles] > 0.06).all(axis=1)


def _cap_edge(person: Person) -> np.ndarray:
    """(V,) metres above the hairline; ears never."""
    rest = load_anatomy().vertices
    edge = hair_edge(person, rest.T)
    edge[(np.abs(rest[:, 0]) > 0.077) & (rest[:, 1] < 0.03) & (rest[:, 2] > -0.13)] = -1
    return edge


def dress(person: Person, face: np.ndarray) -> list[Piece]:
    """Everything around the head whose (V, 3) vertices at rest are given."""
    rng = np.random.default_rng([person.seed, 1])
    pieces = [_teeth(face, upper=True), _teeth(face, upper=False), _garment(face)]
    if person.hair_style != "bald":
        cap = _hair_cap(person, face, rng)
        # Its inner side is seen where hair stands off a head that is turned away.
        pieces += [cap, replace(cap, triangles=cap.triangles[:, ::-1], uv=cap.uv[:, ::-1])]
    if person.hair_style in ("long", "bob"):
        pieces.append(_curtain(person, face, rng))
    if person.hair_style == "bun":
        pieces.append(_bun(face))
    return pieces


def _grid(rows: int, columns: int) -> np.ndarray:
    """(2 (rows-1) (columns-1), 3) triangles of a grid, facing the side from which columns run to the right
    while rows run down."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    right, below = corner + 1, corner + columns
    return np.concatenate([np.stack([corner, below, right], 1), np.stack([right, below, below + 1], 1)])


def _piece(surface: np.ndarray, uv: np.ndarray, follows: np.ndarray | None = None, jaw: float = 0.0) -> Piece:
    """A (rows, columns, 3) surface with (rows, columns, 2) texture coordinates as a piece."""
    rows, columns, _ = surface.shape
    triangles = _grid(rows, columns)
    vertices = surface.reshape(-1, 3).astype(np.float32)
    return Piece(
        vertices=vertices,
        triangles=triangles,
        uv=uv.reshape(-1, 2)[triangles].astype(np.float32),
        follows=head_share(vertices) if follows is None else follows,
        jaw=np.full(len(vertices), jaw, np.float32),
    )


def _tile_grid(tile: tuple[int, int, int, int], rows: int, columns: int) -> np.ndarray:
    row, column, height, width = tile
    x, y = np.meshgrid(np.linspace(0, width - 1, columns), np.linspace(0, height - 1, rows))
    return np.stack([column + x, row + y], axis=-1)


def _garment(face: np.ndarray) -> Piece:
    """A pullover: rings from a round collar over the shoulders to below the frame."""
    anatomy = load_anatomy()
    neck = face[(np.abs(anatomy.vertices[:, 1] + 0.115) < 0.015) & (anatomy.vertices[:, 2] < -0.02)]
    half_width = (neck[:, 0].max() - neck[:, 0].min()) / 2
    middle_z = (neck[:, 2].max() + neck[:, 2].min()) / 2
    half_depth = (neck[:, 2].max() - neck[:, 2].min()) / 2
    # Height, half width, half depth, and how much lower the front is; from the inside of the collar outwards.
    profile = np.array(
        [
            (-0.200, 0.98 * half_width, 0.98 * half_depth, 0.020),
            (-0.140, 1.00 * half_width, 1.00 * half_depth, 0.020),
            (-0.128, 1.08 * half_width, 1.06 * half_depth, 0.020),
            (-0.127, 1.16 * half_width, 1.14 * half_depth, 0.020),
            (-0.136, 1.28 * half_width, 1.24 * half_depth, 0.018),
            (-0.144, 0.100, 0.075, 0.014),
            (-0.152, 0.135, 0.085, 0.010),
            (-0.168, 0.170, 0.092, 0.006),
            (-0.190, 0.192, 0.096, 0.0),
            (-0.240, 0.205, 0.105, 0.0),
            (-0.340, 0.212, 0.115, 0.0),
        ]
    )
    turn = np.linspace(-np.pi, np.pi, 41)
    height, wide, deep, drop = (profile[:, i : i + 1] for i in range(4))
    front = (1 + np.cos(turn)) / 2
    surface = np.stack([wide * np.sin(turn), height - drop * front, middle_z + deep * np.cos(turn)], axis=-1)
    piece = _piece(surface, _tile_grid(CLOTH_TILE, *surface.shape[:2]))
    return replace(piece, follows=0.15 * piece.follows)


def _teeth(face: np.ndarray, *, upper: bool) -> Piece:
    left, right = face[VERTICES[60]], face[VERTICES[64]]
    lip = face[VERTICES[62 if upper else 66]]
    half = 0.42 * np.linalg.norm(right - left)
    along = np.linspace(-1, 1, 13)
    # The gum side first for the upper row; the lower row hangs the other way round.
    height = np.array([0.005, 0.0, -0.0035]) if upper else np.array([0.001, -0.003, -0.008])
    x = (left[0] + right[0]) / 2 + half * along
    z = lip[2] - (0.0065 if upper else 0.0085) - 0.9 * half * along**2
    surface = np.stack(
        [
            np.broadcast_to(x, (3, 13)),
            np.broadcast_to(lip[1] + height[:, None], (3, 13)),
            np.broadcast_to(z, (3, 13)),
        ],
        axis=-1,
    )
    uv = _tile_grid(TEETH_TILE, 3, 13)
    return _piece(surface, uv if upper else uv[::-1], jaw=0.0 if upper else 1.0)


def _hair_cap(person: Person, face: np.ndarray, rng: np.random.Generator) -> Piece:
    """The scalp's own triangles, divided and lifted along their normals; the border stays on the skin."""
    head, anatomy = load_head(), load_anatomy()
    inside = (head.part == SKIN) & (_cap_edge(person)[head.triangles] > 0.006).all(axis=1)
    normals = vertex_normals(face, head.triangles)
    every = np.concatenate([anatomy.vertices, face, normals], axis=1)
    every, triangles = _divide(every, head.triangles[inside])
    rest, vertices, normals = np.split(every, 3, axis=1)

    angle = np.degrees(np.arctan2(rest[:, 0], rest[:, 2] - AXIS_Z))[triangles]
    across = (angle.max(1) - angle.min(1)) > 180
    angle = np.where(across[:, None] & (angle < 0), angle + 360, angle)
    uv = skin_pixel(angle, unrolled_height(rest)[triangles], HAIR_TILE)

    lift = _hair_lift(person, rest, rng)
    lift[_border(triangles)] = 0.0006
    vertices = (vertices + lift[:, None] * normals).astype(np.float32)
    return Piece(vertices, triangles, uv, head_share(vertices), np.zeros(len(vertices), np.float32))


def _hair_lift(person: Person, rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) metres that the hair stands off the scalp at places on the average head."""
    rise = np.clip((hair_edge(person, rest.T) - 0.006) / 0.03, 0, 1)
    lift = _THICKNESS_M[person.hair_style] * rise * (2 - rise) + 0.0006
    crown = np.clip((rest[:, 1] - 0.03) / 0.08, 0, 1)
    if person.hair_style == "short":
        quiff = rng.uniform(0, 1.0) * np.clip(rest[:, 2] + 0.08, 0, 0.08) / 0.08
        side = rng.choice((-1.0, 1.0)) * rest[:, 0] / 0.07
        lift *= 0.45 + 0.7 * crown * (1 + quiff) + 0.15 * crown * side
    elif person.hair_style in ("long", "bob", "bun"):
        # A parting: a furrow from the forehead to the crown.
        at = rng.uniform(-0.025, 0.025)
        furrow = np.exp(-(((rest[:, 0] - at) / 0.006) ** 2)) * (rest[:, 2] > -0.09)
        lift *= (1 - 0.75 * furrow) * (0.75 + 0.45 * crown)
    rough = {"curly": 0.22, "short": 0.12}.get(person.hair_style, 0.05)
    return lift * (1 + rough * rng.standard_normal(len(rest)).clip(-1.5, 1.5))


def _divide(values: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each triangle as four, with new vertices half-way along its sides: values (N, A) and triangles."""
    used, compact = np.unique(triangles, return_inverse=True)
    compact = compact.reshape(-1, 3)
    sides = np.sort(np.stack([compact, np.roll(compact, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
    sides, which = np.unique(sides, axis=0, return_inverse=True)
    old = values[used]
    middle = len(used) + which.reshape(-1, 3)  # half-way from corner i to corner i + 1
    (a, b, c), (ab, bc, ca) = compact.T, middle.T
    quarters = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    triangles = np.concatenate([np.stack(quarter, axis=1) for quarter in quarters])
    return np.concatenate([old, old[sides].mean(axis=1)]), triangles


def _border(triangles: np.ndarray) -> np.ndarray:
    """Vertices on sides that belong to one triangle only."""
    sides = np.sort(np.stack([triangles, np.roll(triangles, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
    sides, counts = np.unique(sides, axis=0, return_counts=True)
    return np.unique(sides[counts == 1])


def _curtain(person: Person, face: np.ndarray, rng: np.random.Generator) -> Piece:
    """Hair that hangs from temple to temple behind the head."""
    anatomy = load_anatomy()
    band = face[(np.abs(anatomy.vertices[:, 1] - 0.04) < 0.015) & (np.abs(anatomy.vertices[:, 0]) < 0.08)]
    half_width = np.abs(band[:, 0]).max() + 0.011
    back = AXIS_Z - band[:, 2].min() + 0.011
    long = person.hair_style == "long"
    bottom = -rng.uniform(0.17, 0.23) if long else -rng.uniform(0.085, 0.125)
    columns, rows = 61, 18
    first = np.radians(rng.uniform(62, 80))
    angle = np.linspace(-np.pi, np.pi, columns) * (np.pi - first) / np.pi + np.pi
    down = np.linspace(0, 1, rows)[:, None]
    top = 0.078 + 0.015 * np.clip(-np.cos(angle), 0, 1)
    ragged = 0.006 * rng.standard_normal(columns) * (1.2 if long else 0.8)
    height = top + (bottom + ragged - top) * down
    swell = np.interp(height, (-0.23, -0.12, -0.05, 0.02, 0.055, 0.08), (1.18, 1.06, 1.06, 1.02, 0.96, 0.8))
    if not long:
        swell = swell + 0.06 * np.sin(np.pi * down**1.5) - 0.05 * down**4
    wave = 1 + 0.018 * np.interp(angle, np.linspace(0, 2 * np.pi, 24), rng.standard_normal(24)) * down**0.5
    curl = rng.choice((0.006, 0.012, 0.028))
    wave = wave + curl * down**0.5 * np.sin(rng.uniform(14, 22) * down + rng.uniform(0, 6) + 5 * angle)
    outer = swell * wave
    # The sheet is folded round its front edges and comes back inside, so that it has a body.
    depth = np.clip((np.minimum(angle, 2 * np.pi - angle) - first) / 0.5, 0.08, 1)
    inner = (1 - np.where(height > 0.0, 0.1, 0.26) * depth) * outer
    angle = np.concatenate([angle, angle[::-2], angle[:1]])
    radius = np.concatenate([outer, inner[:, ::-2], outer[:, :1]], axis=1)
    height = np.concatenate([height, height[:, ::-2], height[:, :1]], axis=1)
    x = half_width * radius * np.sin(angle)
    z = AXIS_Z + np.where(np.cos(angle) < 0, back, 0.07) * radius * np.cos(angle)
    surface = np.stack([x, height, z], axis=-1)
    degrees = np.degrees(angle) - 180  # no seam inside the sheet
    uv = skin_pixel(np.broadcast_to(degrees, height.shape), np.clip(height, -0.185, 0.185), HAIR_TILE)
    return _piece(surface, uv)


def _bun(face: np.ndarray) -> Piece:
    top = face[:, 1].max()
    rows, columns = 12, 25
    polar, turn = np.meshgrid(
        np.linspace(0.01, np.pi - 0.01, rows), np.linspace(-np.pi, np.pi, columns), indexing="ij"
    )
    radius = 0.037 * (1 + 0.06 * np.sin(5 * turn + 6 * polar))
    surface = np.stack(
        [
            1.1 * radius * np.sin(polar) * np.sin(turn),
            top + 0.008 + radius * np.cos(polar),
            AXIS_Z - 0.04 + radius * np.sin(polar) * np.cos(turn),
        ],
        axis=-1,
    )
    uv = skin_pixel(np.degrees(turn), 0.18 - 0.1 * polar / np.pi, HAIR_TILE)
    return _piece(surface, uv, follows=np.ones(rows * columns, np.float32))
