"""A person's colours, painted once: the skin, and tiles for hair, eyes, cloth, mouth."""

from __future__ import annotations

import numpy as np

from unmasked.datasets.synthetic.anatomy import (
    ATLAS,
    CLOTH_TILE,
    EYE_TILE,
    HAIR_TILE,
    MOUTH_TILE,
    SKIN_TILE,
    TEETH_TILE,
    TONGUE_TILE,
    load_anatomy,
)
from unmasked.datasets.synthetic.paint import noise, stretched_noise, to_linear
from unmasked.datasets.synthetic.people import Person
from unmasked.datasets.synthetic.skin import non_skin_factor, paint_skin

_IRIS, _PUPIL = 0.44, 0.17  # radii, as shares of the eyeball's


def paint_atlas(person: Person) -> np.ndarray:
    """(H, W, 4) float32 atlas: linear-light albedo RGB in [0, 1], then gloss in [0, 1]."""
    rng = np.random.default_rng(person.seed)
    atlas = np.zeros((*ATLAS, 4), np.float32)
    dimmed = np.array([*[non_skin_factor(person.skin_tone)] * 3, 1], np.float32)
    hair = dimmed * _paint_hair(person, rng)
    _tile(atlas, HAIR_TILE)[:] = hair
    _tile(atlas, SKIN_TILE)[:] = paint_skin(person, load_anatomy(), hair, rng)
    _tile(atlas, EYE_TILE)[:] = dimmed * _paint_eye(person, rng)
    _tile(atlas, CLOTH_TILE)[:] = dimmed * _paint_cloth(person, rng)
    _tile(atlas, MOUTH_TILE)[:] = (*to_linear((120, 38, 36)), 0.1)
    _tile(atlas, TONGUE_TILE)[:] = (*to_linear((170, 78, 76)), 0.4)
    _tile(atlas, TEETH_TILE)[:] = dimmed * _paint_teeth(rng)
    return atlas


def _tile(atlas: np.ndarray, tile: tuple[int, int, int, int]) -> np.ndarray:
    row, column, height, width = tile
    return atlas[row : row + height, column : column + width]


def _add_gloss(colour: np.ndarray, gloss: np.ndarray | float) -> np.ndarray:
    """(H, W, 3) and (H, W) or a number -> (H, W, 4) float32."""
    shine = np.broadcast_to(np.asarray(gloss, np.float32), colour.shape[:2])
    return np.dstack([np.clip(colour, 0.002, 1), shine]).astype(np.float32)


def _paint_hair(person: Person, rng: np.random.Generator) -> np.ndarray:
    """Strands that run down from the crown, or curls, or stubble."""
    shape = HAIR_TILE[2:]
    if person.hair_style == "curly":
        strands = 0.3 * noise(shape, 5, rng) + 0.25 * noise(shape, 2.5, rng)
    elif person.hair_style == "crop":
        strands = 0.2 * noise(shape, 1.5, rng) + 0.1 * noise(shape, 12, rng)
    else:
        strands = 0.22 * stretched_noise(shape, (160, 9), rng)
        strands += 0.2 * stretched_noise(shape, (110, 3.5), rng)
        strands += 0.16 * stretched_noise(shape, (60, 1.5), rng)
    shade = np.clip(1 + strands, 0.3, 1.9)
    return _add_gloss(
        to_linear(person.hair_colour) * shade[..., None], np.clip(0.42 + 0.25 * strands, 0.05, 0.8)
    )


def _paint_eye(person: Person, rng: np.random.Generator) -> np.ndarray:
    """The front of an eyeball: sclera, iris with fibres and a dark rim, pupil, a glint of the window."""
    _, _, height, width = EYE_TILE
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(1, -1, height))
    radius, turn = np.hypot(x, y)[..., None], np.arctan2(y, x)
    veins = 0.03 * noise((height, width), 5, rng)[..., None]
    white = 0.85 * to_linear((228, 220, 214)) * (1 - 0.05 * np.clip(radius, 0, 1) + veins)

    fibres = np.interp(turn, np.linspace(-np.pi, np.pi, 60), rng.normal(0, 0.16, 60))[..., None]
    iris = to_linear(person.eye_colour) * (1 + fibres + 0.5 * np.exp(-((radius - 0.23) ** 2) / 0.006))
    iris = iris * (1 - 0.7 * np.clip((radius - _IRIS + 0.09) / 0.09, 0, 1))
    colour = white + np.clip((_IRIS - radius) / 0.035 + 0.5, 0, 1) * (iris - white)
    colour = colour + np.clip((_PUPIL - radius) / 0.03 + 0.5, 0, 1) * (0.004 - colour)
    for at_x, at_y, size, strength in ((-0.13, 0.16, 0.065, 0.9), (0.12, -0.12, 0.05, 0.12)):
        spot = np.clip((size - np.hypot(x - at_x, y - at_y)) / 0.03 + 0.5, 0, 1)[..., None]
        colour = colour + strength * spot * (0.9 - colour)
    return _add_gloss(colour, 0.4)


def _paint_cloth(person: Person, rng: np.random.Generator) -> np.ndarray:
    shape = CLOTH_TILE[2:]
    weave = 0.05 * noise(shape, 1.5, rng) + 0.08 * noise(shape, 20, rng)
    return _add_gloss(to_linear(person.cloth_colour) * (1 + weave)[..., None], 0.05)


def _paint_teeth(rng: np.random.Generator) -> np.ndarray:
    """Eight teeth, the middle ones brightest, with a dark seam between each two."""
    _, _, height, width = TEETH_TILE
    x = np.linspace(-4, 4, width)
    seam = np.exp(-(((x + 0.5) % 1 - 0.5) ** 2) / 0.004)
    across = (0.82 - 0.35 * np.abs(x / 4) ** 1.5) * (1 - 0.45 * seam)
    down = np.interp(np.linspace(0, 1, height), (0, 0.25, 1), (0.75, 1, 0.95))
    white = to_linear(np.array([232, 222, 204]) + rng.normal(0, 4, 3))
    return _add_gloss(white * (down[:, None] * across)[..., None], 0.6)
