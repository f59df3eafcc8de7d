"""A person ready to move: a mesh of head and wardrobe, with texture, posed by frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unmasked.datasets.synthetic.anatomy import ambient_light, centre_on_eyes, head_share, load_anatomy
from unmasked.datasets.synthetic.head import EYE, SKIN, TONGUE, Head, load_head
from unmasked.datasets.synthetic.landmarks import VERTICES
from unmasked.datasets.synthetic.motion import ACTIONS
from unmasked.datasets.synthetic.people import Person
from unmasked.datasets.synthetic.texture import paint_atlas
from unmasked.datasets.synthetic.wardrobe import dress, hidden_scalp

PIVOT = np.array([0.0, -0.10, -0.09], np.float32)  # where the head turns on the neck, metres


@dataclass(frozen=True)
class Portrait:
    """One person's mesh: the head's V vertices, then those of the wardrobe.

    N and F triangles in all.

    Attributes:
        vertices: (N, 3) float32 metres, at rest.
        triangles: (F, 3) int32.
        uv: (F, 3, 2) float32 atlas pixels of the corners.
        material: (F,) uint8, 1 for the head, 2 and on for each thing it wears.
        follows: (N, 1) 0 to 1, how much the head's turning moves it.
        jaw: (N, 1) 0 to 1, how much the jaw's opening moves it, beside the facial actions.
        face: (N, 1) 0 to 1, softly inside the face from brows to chin.
        ambient: (N, 1) 0 to 1, the share of the sky it sees.
        wet: (N, 1) 1 for eyes, which mirror the light.
        atlas: (H, W, 4) float32 texture.
        width_m: from side to side of the jaw's outline.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    follows: np.ndarray
    jaw: np.ndarray
    face: np.ndarray
    ambient: np.ndarray
    wet: np.ndarray
    atlas: np.ndarray
    width_m: float


@lru_cache(maxsize=64)
def load_portrait(person: Person) -> Portrait:
    """The person's portrait (about 0.3 s), kept for the next clips."""
    head, anatomy = load_head(), load_anatomy()
    rest = centre_on_eyes(head.neutral_vertices(dict(person.phenotype), dict(person.changes)))
    # The neck's open end goes down into the collar.
    rest[:, 1] -= 0.05 * np.clip((-0.119 - anatomy.vertices[:, 1]) / 0.026, 0, 1)
    pieces = dress(person, rest)
    vertices = np.concatenate([rest, *(piece.vertices for piece in pieces)])
    starts = np.cumsum([len(rest), *(len(piece.vertices) for piece in pieces)])[:-1]
    kept = ~hidden_scalp(person)
    parts = [piece.triangles + start for piece, start in zip(pieces, starts, strict=True)]
    triangles = np.concatenate([head.triangles[kept], *parts]).astype(np.int32)

    worn = np.zeros(len(vertices) - len(rest), np.float32)
    worn[: starts[2] - starts[0]] = 1  # the teeth, which come first, belong to the face
    wet = np.zeros(len(vertices), np.float32)
    wet[_vertices_of(head, EYE)] = 1
    outline = rest[[VERTICES[0], VERTICES[16]], 0]
    return Portrait(
        vertices=vertices,
        triangles=triangles,
        uv=np.concatenate([anatomy.uv[kept], *(piece.uv for piece in pieces)]),
        material=np.repeat(
            np.arange(1, len(pieces) + 2, dtype=np.uint8), [kept.sum(), *(len(part) for part in parts)]
        ),
        follows=np.concatenate([head_share(rest), *(piece.follows for piece in pieces)])[:, None],
        jaw=np.concatenate([0 * rest[:, 0], *(piece.jaw for piece in pieces)])[:, None],
        face=np.concatenate([_whole_face(head, anatomy.face), worn])[:, None],
        ambient=_ambient(vertices, triangles, head, teeth=slice(starts[0], starts[2]))[:, None],
        wet=wet[:, None],
        atlas=paint_atlas(person),
        width_m=float(outline[1] - outline[0]),
    )


def pose(portrait: Portrait, actions: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(T, N, 3) float32 vertices after the facial actions and the turn of the head.

    Args:
        actions: (T, 52) amounts of ACTIONS.
        turn: (T, 3) yaw, pitch, roll in radians.
    """
    head = load_head()
    count = len(head.template)
    posed = np.repeat(portrait.vertices[None], len(actions), axis=0)
    posed[:, :count] += (actions @ head.actions.reshape(len(ACTIONS), -1)).reshape(-1, count, 3)
    opens = ACTIONS.index("jawOpen")
    posed += portrait.jaw * (actions[:, opens, None, None] * head.actions[opens, VERTICES[8]])
    turned = (posed - PIVOT) @ _rotations(turn).transpose(0, 2, 1) + PIVOT
    return posed + portrait.follows * (turned - posed)


def _rotations(turn: np.ndarray) -> np.ndarray:
    """(T, 3) yaw, pitch, roll -> (T, 3, 3) float32; roll is applied first, then pitch, then yaw."""
    zero, one = np.zeros(len(turn)), np.ones(len(turn))
    (cy, cp, cr), (sy, sp, sr) = np.cos(turn).T, np.sin(turn).T

    def matrix(*entries: np.ndarray) -> np.ndarray:
        return np.stack(entries, axis=-1).reshape(-1, 3, 3)

    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_x = matrix(one, zero, zero, zero, cp, sp, zero, -sp, cp)
    about_z = matrix(cr, -sr, zero, sr, cr, zero, zero, zero, one)
    return (about_y @ about_x @ about_z).astype(np.float32)


def _vertices_of(head: Head, part: int) -> np.ndarray:
    return np.unique(head.triangles[head.part == part])


def _whole_face(head: Head, skin: np.ndarray) -> np.ndarray:
    """(V,) the face's region with eyes and mouth, which have no skin."""
    face = skin.copy()
    face[np.unique(head.triangles[head.part != SKIN])] = 1
    return face


def _ambient(vertices: np.ndarray, triangles: np.ndarray, head: Head, teeth: slice) -> np.ndarray:
    ambient = ambient_light(vertices, triangles)
    # At rest the mouth is shut and no light falls on what is in it.
    for part, least in ((TONGUE, 0.25), (EYE, 0.25)):
        inside = _vertices_of(head, part)
        ambient[inside] = np.maximum(ambient[inside], least)
    ambient[teeth] = np.maximum(ambient[teeth], 0.8)
    return ambient
