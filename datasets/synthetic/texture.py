"""A person's colours, painted once into an atlas: skin, brows, lips, beard, eyes, hair, cloth, teeth."""

from __future__ import annotations

import cv2
import numpy as np

from unmasked.datasets.synthetic.anatomy import (
    ATLAS,
    AXIS_Z,
    CLOTH_TILE,
    EYE_TILE,
    HAIR_TILE,
    MOUTH_TILE,
    SKIN_TILE,
    TEETH_TILE,
    TONGUE_TILE,
    Anatomy,
    hairline,
    load_anatomy,
    skin_pixel,
)
from unmasked.datasets.synthetic.landmarks import VERTICES
from unmasked.datasets.synthetic.people import Person

# The published Monk Skin Tone scale (Ellis Monk, skintone.google), tones 1 to 10, sRGB.
MONK_HEX = (
    "f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420",
)  # fmt: skip


def monk_colour(tone: int) -> np.ndarray:
    """(3,) sRGB in [0, 255] of a Monk tone 1 to 10.

    >>> monk_colour(10)
    array([41., 36., 32.])
    """
    code = MONK_HEX[tone - 1]
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], float)


def skin_albedo(tone: int) -> np.ndarray:
    """(3,) linear-light albedo of a Monk tone, a little warmer than the chart, which has no blood in it.

    >>> skin_albedo(10).round(3)
    array([0.018, 0.013, 0.009], dtype=float32)
    """
    tones = (1, 3, 5, 7, 9, 10)
    green = np.interp(tone, tones, (0.80, 0.80, 0.86, 0.97, 0.94, 0.88))
    blue = np.interp(tone, tones, (0.68, 0.70, 0.82, 0.95, 0.88, 0.76))
    return linear(monk_colour(tone)) * np.array([1, green, blue], np.float32)


def _white(person: Person) -> np.float32:
    """How white eyes and teeth are painted: less where the camera opens up for dark skin."""
    return np.float32(np.clip(skin_albedo(person.skin_tone).mean() / 0.4, 0, 1) ** 0.22)


def paint_atlas(person: Person) -> np.ndarray:
    """(H, W, 4) float32 atlas: linear-light albedo RGB in [0, 1], then gloss in [0, 1]."""
    rng = np.random.default_rng(person.seed)
    atlas = np.zeros((*ATLAS, 4), np.float32)
    hair = paint_hair(person, HAIR_TILE[2:], rng)
    _tile(atlas, HAIR_TILE)[:] = hair
    _tile(atlas, SKIN_TILE)[:] = _paint_skin(person, load_anatomy(), hair, rng)
    _tile(atlas, EYE_TILE)[:] = _paint_eye(person, rng)
    _tile(atlas, CLOTH_TILE)[:] = _paint_cloth(person, rng)
    _tile(atlas, MOUTH_TILE)[:] = (*linear(np.array([120, 38, 36])), 0.1)
    _tile(atlas, TONGUE_TILE)[:] = (*linear(np.array([170, 78, 76])), 0.4)
    _tile(atlas, TEETH_TILE)[:] = _paint_teeth(person, rng)
    return atlas


def linear(colour: np.ndarray) -> np.ndarray:
    """sRGB in [0, 255] as linear light in [0, 1] (a power of 2.2)."""
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


def _tile(atlas: np.ndarray, tile: tuple[int, int, int, int]) -> np.ndarray:
    row, column, height, width = tile
    return atlas[row : row + height, column : column + width]


def _blob(position: np.ndarray, centre: tuple[float, float, float], radius: tuple[float, ...]) -> np.ndarray:
    """(H, W) Gaussian around a place on the average head, metres."""
    squares = [((position[i] - centre[i]) / radius[i]) ** 2 for i in range(len(radius))]
    return np.exp(-0.5 * sum(squares)).astype(np.float32)


def _paint_skin(person: Person, anatomy: Anatomy, hair: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    position = anatomy.position_map
    mirrored = np.abs(position[:1])
    sides = np.concatenate([mirrored, position[1:]])  # both halves of the face at x > 0
    shape = position.shape[1:]
    tone = skin_albedo(person.skin_tone)
    depth = np.float32(np.clip(1 - person.skin_tone / 12, 0.25, 1))  # blood shows through light skin more

    skin = np.ones((*shape, 3), np.float32) * tone
    red = 0.25 * _blob(sides, (0.043, -0.035, -0.01), (0.017, 0.016)) + 0.28 * _blob(
        sides, (0.0, -0.04, 0.035), (0.012, 0.012, 0.012)
    )
    red += 0.2 * _blob(sides, (0.088, -0.015, -0.085), (0.012, 0.03, 0.03))
    red += 0.05 * noise(shape, 28, rng) + 0.035 * noise(shape, 8, rng)
    socket = _blob(sides, (0.031, 0.004, 0.0), (0.019, 0.013)) + 0.5 * _blob(
        sides, (0.028, -0.016), (0.013, 0.006)
    )
    years = np.clip((person.age_years - 18) / 57, 0, 1)
    dark = (0.14 + 0.14 * years) * socket
    if person.gender == "female":
        lid = _blob(sides, (0.032, 0.0075), (0.013, 0.0035))
        dark = dark + rng.uniform(0.1, 0.45) * lid
    skin *= 1 + depth * red[..., None] * np.array([0.25, -0.55, -0.5], np.float32)
    skin *= 1 - dark[..., None] * np.array([0.7, 1.0, 0.9], np.float32)
    pores = 0.022 * noise(shape, 1.6, rng) + 0.02 * noise(shape, 3.5, rng) + 0.03 * noise(shape, 60, rng)
    skin *= (1 + (1 + 0.6 * years) * pores)[..., None]

    gloss = (
        0.35
        + 0.3 * _blob(sides, (0.0, -0.02, 0.03), (0.014, 0.04, 0.02))
        + 0.15 * _blob(sides, (0.0, 0.05, 0.0), (0.03, 0.015, 0.03))
    )
    canvas = np.concatenate([skin, gloss[..., None]], axis=2)
    _paint_spots(canvas, person, sides, rng)
    _paint_wrinkles(canvas, person, rng)
    _paint_lips(canvas, person, anatomy, rng)
    _paint_beard(canvas, person, sides, rng)
    _paint_brows(canvas, person, anatomy, rng)
    _paint_lashes(canvas, person, anatomy)
    _paint_scalp(canvas, person, anatomy, hair, rng)
    return np.clip(canvas, 0.002, 1)


def _blend(canvas: np.ndarray, mask: np.ndarray, colour: np.ndarray, gloss: float | None = None) -> None:
    canvas[..., :3] += mask[..., None] * (colour - canvas[..., :3])
    if gloss is not None:
        canvas[..., 3] += mask * (np.float32(gloss) - canvas[..., 3])


def _at(anatomy: Anatomy, points: list[int]) -> np.ndarray:
    """(N, 2) texels of iBUG points."""
    place = anatomy.vertices[[VERTICES[i] for i in points]]
    angle = np.degrees(np.arctan2(place[:, 0], place[:, 2] - AXIS_Z))
    return skin_pixel(angle, place[:, 1])


def _strokes(shape: tuple[int, int], start: np.ndarray, end: np.ndarray, thickness: int = 1) -> np.ndarray:
    """(H, W) float32 0 to 1: anti-aliased straight strokes between (N, 2) texels."""
    mask = np.zeros(shape, np.uint8)
    lines = np.stack([start, end], axis=1)
    cv2.polylines(mask, list(np.rint(lines * 16).astype(np.int32)), False, 255, thickness, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def _paint_spots(canvas: np.ndarray, person: Person, sides: np.ndarray, rng: np.random.Generator) -> None:
    shape = canvas.shape[:2]
    place = np.clip(
        _blob(sides, (0.03, -0.028), (0.024, 0.016)) + _blob(sides, (0, -0.02), (0.02, 0.02)), 0, 1
    )
    place *= sides[2] > -0.06
    grains = noise(shape, 3.2, rng)
    freckles = np.clip((grains - 1.6 + 0.7 * person.freckles) * 2, 0, 1) * place * min(1.0, person.freckles)
    aged = np.clip((noise(shape, 7, rng) - 1.9) * 2, 0, 1) * np.clip((person.age_years - 50) / 40, 0, 1)
    darker = canvas[..., :3] * np.array([0.62, 0.45, 0.36], np.float32)
    _blend(canvas, 0.75 * freckles + 0.5 * aged, darker)
    for _ in range(int(rng.poisson(1.2))):
        x, y = int(rng.uniform(200, 440)), int(rng.uniform(240, 560))
        mole = np.zeros(shape, np.uint8)
        cv2.circle(mole, (x * 8, y * 8), int(rng.uniform(6, 16)), 255, -1, cv2.LINE_AA, 3)
        _blend(canvas, 0.75 * mole.astype(np.float32) / 255, canvas[..., :3] * 0.3)


def _paint_wrinkles(canvas: np.ndarray, person: Person, rng: np.random.Generator) -> None:
    strength = np.clip((person.age_years - 30) / 45, 0, 1)
    if strength == 0:
        return
    shape = canvas.shape[:2]
    lines = np.zeros(shape, np.float32)

    def crease(angles: np.ndarray, ups: np.ndarray, thickness: int, weight: float) -> None:
        texels = skin_pixel(angles, ups)
        lines[:] = np.maximum(lines, weight * _strokes(shape, texels[:-1], texels[1:], thickness))

    along = np.linspace(-1, 1, 25)
    for up in (0.036, 0.044, 0.053):
        wave = 0.0012 * np.interp(along, np.linspace(-1, 1, 7), rng.normal(0, 1, 7))
        reach = rng.uniform(22, 30)
        crease(reach * along + rng.normal(0, 2), up + wave + 0.002 * along**2, 1, rng.uniform(0.5, 1))
    half = np.linspace(0, 1, 12)
    for side in (-1, 1):
        for tilt in rng.normal((-0.35, 0.0, 0.35), 0.1):
            crease(side * (36 + 8 * half), 0.001 + tilt * 0.014 * half, 1, rng.uniform(0.4, 0.8))
        crease(side * (9 + 12 * half), -0.038 - 0.034 * half**1.4, 2, 0.6)
        crease(side * (5 + 20 * half), -0.017 - 0.005 * np.sin(np.pi * half), 1, 0.6)
        crease(side * (15 + 2 * half), -0.078 - 0.02 * half, 1, 0.4)
    soft = 0.22 * lines + 0.6 * cv2.GaussianBlur(lines, (0, 0), 1.6)
    canvas[..., :3] *= 1 - np.clip(soft * strength, 0, 1)[..., None] * np.array([0.4, 0.5, 0.5], np.float32)


def _paint_lips(canvas: np.ndarray, person: Person, anatomy: Anatomy, rng: np.random.Generator) -> None:
    shape = canvas.shape[:2]
    outline = _at(anatomy, list(range(48, 60)))
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.rint(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 1.6)
    tone = skin_albedo(person.skin_tone)
    rose = linear(np.array([188, 84, 84])) * (0.12 + 0.88 * np.clip(tone.mean() / 0.5, 0, 1) ** 0.7)
    share = float(np.clip(0.52 * person.lip, 0.2, 0.85))
    colour = (1 - share) * tone * np.array([0.85, 0.6, 0.58]) + share * rose
    texture = 1 + 0.08 * stretched_noise(shape, (14, 1.6), rng)
    _blend(
        canvas,
        soft,
        colour.astype(np.float32) * texture[..., None],
        gloss=0.75 if person.gender == "female" else 0.5,
    )
    corners = _at(anatomy, [48, 60, 61, 62, 63, 64, 54])
    crease = cv2.GaussianBlur(_strokes(shape, corners[:-1], corners[1:], 2), (0, 0), 0.8)
    canvas[..., :3] *= 1 - 0.6 * crease[..., None]


def _paint_beard(canvas: np.ndarray, person: Person, sides: np.ndarray, rng: np.random.Generator) -> None:
    if person.gender == "female":
        return
    shape = canvas.shape[:2]
    x, y, z = sides
    chin = np.clip((-0.074 - 0.18 * np.clip(0.03 - x, 0, None) - y) / 0.008, 0, 1)
    cheek_line = np.interp(x, (0.0, 0.024, 0.05, 0.068), (-0.05, -0.06, -0.052, -0.02)).astype(np.float32)
    jaw = np.clip((cheek_line - y) / 0.012, 0, 1)
    moustache = (
        np.clip((-0.0475 - y) / 0.004, 0, 1)
        * np.clip((y + 0.082) / 0.006, 0, 1)
        * np.clip((0.029 - x) / 0.006, 0, 1)
    )
    area = np.maximum(np.where(x > 0.026, jaw, chin), moustache)
    if person.beard == "moustache":
        area = moustache
    under = np.clip((y + 0.124) / 0.012, 0, 1) * np.clip((z + 0.075) / 0.02, 0, 1)
    lips = np.clip(1 - _blob(sides, (0, -0.0745), (0.019, 0.0065)) * 1.6, 0, 1)
    area = cv2.GaussianBlur((area * under * lips).astype(np.float32), (0, 0), 3)
    density = {"none": 0.10, "stubble": 0.38, "moustache": 0.85, "full": 0.9}[person.beard]
    strands = np.clip(
        0.8 + 0.4 * stretched_noise(shape, (6, 1.6), rng) + 0.2 * noise(shape, 1.4, rng), 0, 1.3
    )
    colour = (
        0.8
        * linear(np.array(person.hair_colour))
        * (1 + 0.15 * stretched_noise(shape, (8, 2), rng))[..., None]
    )
    _blend(canvas, np.clip(area * density * strands, 0, 0.95), np.clip(colour, 0, 1), gloss=0.1)


def _paint_brows(canvas: np.ndarray, person: Person, anatomy: Anatomy, rng: np.random.Generator) -> None:
    shape = canvas.shape[:2]
    colour = 0.6 * linear(np.array(person.hair_colour)) + 0.4 * linear(np.array([40, 28, 22]))
    arch = rng.uniform(0.003, 0.0065)
    lift = rng.normal(0, 0.0008)
    mask = np.zeros(shape, np.float32)
    for side in (-1, 1):
        along = np.sort(rng.beta(1.15, 1.0, 170))
        x = 0.0115 + 0.043 * along
        rise = (
            arch * np.sin(np.pi * np.clip(along * 0.85, 0, 1) ** 1.4)
            - 0.004 * np.clip(along - 0.7, 0, 1) / 0.3
        )
        thick = 0.0031 * person.brow * np.interp(along, (0, 0.2, 0.6, 1), (0.5, 1, 0.8, 0.15))
        y = 0.0185 + lift + rise + thick * rng.uniform(-0.6, 0.6, len(along))
        z = np.interp(x, (0.007, 0.026, 0.035, 0.051, 0.056), (0.018, 0.015, 0.012, 0.0, -0.004))
        length = 0.0035 * rng.uniform(0.7, 1.3, len(along))
        lean = np.interp(along, (0, 0.3, 1), (1.1, 0.45, -0.25)) + rng.normal(0, 0.15, len(along))
        ends = []
        for step in (0.0, 1.0):
            px, py = x + step * length * np.cos(lean), y + step * length * np.sin(lean)
            ends.append(skin_pixel(side * np.degrees(np.arctan2(px, z - AXIS_Z)), py))
        mask = np.maximum(mask, _strokes(shape, *ends))
    mask = np.clip(0.75 * mask + 0.75 * cv2.GaussianBlur(mask, (0, 0), 1.6), 0, 1) * min(
        1.0, 0.72 + 0.2 * person.brow
    )
    _blend(canvas, 0.92 * mask, colour.astype(np.float32), gloss=0.1)


def _paint_lashes(canvas: np.ndarray, person: Person, anatomy: Anatomy) -> None:
    shape = canvas.shape[:2]
    made_up = person.gender == "female"
    dark = linear(np.array([22, 16, 14]))
    for upper, lower in (((36, 37, 38, 39), (36, 41, 40, 39)), ((42, 43, 44, 45), (42, 47, 46, 45))):
        for points, weight, rise in ((upper, 0.95 if made_up else 0.7, 1.0), (lower, 0.35, 0.0)):
            texels = _curve(_at(anatomy, list(points)))
            texels[:, 1] -= rise
            line = _strokes(shape, texels[:-1], texels[1:], 2 if made_up and rise else 1)
            line = np.clip(0.7 * line + 0.6 * cv2.GaussianBlur(line, (0, 0), 1.2), 0, 1)
            _blend(canvas, weight * line, dark)


def _curve(texels: np.ndarray) -> np.ndarray:
    """(25, 2) a smooth curve through four points: the cubic through them."""
    at = np.linspace(0, 1, len(texels))
    fine = np.linspace(0, 1, 25)
    return np.stack([np.polyval(np.polyfit(at, texels[:, i], 3), fine) for i in (0, 1)], axis=1)


def _paint_scalp(
    canvas: np.ndarray, person: Person, anatomy: Anatomy, hair: np.ndarray, rng: np.random.Generator
) -> None:
    """Hair on the skin from the ragged hairline on, the same strands as on the cap that begins behind it."""
    shape = canvas.shape[:2]
    above = hair_edge(person, anatomy.position_map) / 0.009 + 0.25
    ragged = (
        above + 0.35 * stretched_noise(shape, (12, 1.8), rng) + 0.15 * stretched_noise(shape, (20, 9), rng)
    )
    cover = {"bald": 0.16, "crop": 0.85, "receding": 0.9}.get(person.hair_style, 1.0)
    same = cv2.resize(hair, shape[::-1], interpolation=cv2.INTER_LINEAR)
    mask = np.clip(ragged, 0, 1) * np.float32(cover)
    _blend(canvas, mask, same[..., :3])
    canvas[..., 3] += mask * (same[..., 3] - canvas[..., 3])


def hair_edge(person: Person, position: np.ndarray) -> np.ndarray:
    """Metres above this person's hairline, for (3, ...) positions on the average head."""
    x, y, z = position
    angle = np.degrees(np.arctan2(x, z - AXIS_Z))
    rng = np.random.default_rng([person.seed, 2])
    # Everyone's own hairline: higher or lower, a peak in the middle, corners at the temples.
    peak, corner = rng.uniform(-0.004, 0.008), rng.uniform(0, 0.012) * (2 if person.gender == "male" else 1)
    own = rng.normal(0, 0.003) - peak * np.exp(-((angle / 12) ** 2))
    own = own + corner * np.exp(-(((np.abs(angle) - 36) / 12) ** 2))
    edge = y - hairline(angle) - own * (np.abs(angle) < 75)
    if person.hair_style in ("receding", "bald"):
        edge = np.minimum(edge, np.maximum(-0.05 - z, 0.05 - y) * 0.8)
    return edge.astype(np.float32)


def paint_hair(person: Person, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W, 4) strands that run down, or curls."""
    colour = linear(np.array(person.hair_colour))
    if person.hair_style == "curly":
        strands = 0.3 * noise(shape, 5, rng) + 0.25 * noise(shape, 2.5, rng)
    elif person.hair_style == "crop":
        strands = 0.2 * noise(shape, 1.5, rng) + 0.1 * noise(shape, 12, rng)
    else:
        strands = sum(
            a * stretched_noise(shape, (h, w), rng)
            for a, h, w in ((0.22, 160, 9), (0.2, 110, 3.5), (0.16, 60, 1.5))
        )
    shade = np.clip(1 + strands, 0.3, 1.9)
    gloss = np.clip(0.42 + 0.25 * strands, 0.05, 0.8)
    return np.concatenate([np.clip(colour * shade[..., None], 0.003, 1), gloss[..., None]], axis=2).astype(
        np.float32
    )


def _paint_eye(person: Person, rng: np.random.Generator) -> np.ndarray:
    _, _, height, width = EYE_TILE
    grid = np.linspace(-1, 1, width)
    x, y = np.meshgrid(grid, -np.linspace(-1, 1, height))
    radius, turn = np.hypot(x, y), np.arctan2(y, x)
    tile = np.empty((height, width, 4), np.float32)
    veins = 0.03 * noise((height, width), 5, rng)
    white = (
        0.85
        * _white(person)
        * linear(np.array([228, 220, 214]))
        * (1 - 0.05 * np.clip(radius, 0, 1) + veins)[..., None]
    )
    fibres = np.interp(turn, np.linspace(-np.pi, np.pi, 60), rng.normal(0, 0.16, 60))
    iris = 0.44
    iris_colour = (
        linear(np.array(person.eye_colour))
        * (1 + fibres + 0.5 * np.exp(-((radius - 0.23) ** 2) / 0.006))[..., None]
    )
    limbus = np.clip((radius - iris + 0.09) / 0.09, 0, 1)[..., None]
    iris_colour *= 1 - 0.7 * limbus
    in_iris = np.clip((iris - radius) / 0.035 + 0.5, 0, 1)[..., None]
    in_pupil = np.clip((0.17 - radius) / 0.03 + 0.5, 0, 1)[..., None]
    tile[..., :3] = white + in_iris * (iris_colour - white)
    tile[..., :3] += in_pupil * (0.004 - tile[..., :3])
    for at_x, at_y, size, glint in ((-0.13, 0.16, 0.065, 0.9), (0.12, -0.12, 0.05, 0.12)):
        spot = np.clip((size - np.hypot(x - at_x, y - at_y)) / 0.03 + 0.5, 0, 1)[..., None]
        tile[..., :3] += spot * glint * (0.9 * _white(person) - tile[..., :3])
    tile[..., 3] = 1.0
    return np.clip(tile, 0, 1)


def _paint_cloth(person: Person, rng: np.random.Generator) -> np.ndarray:
    _, _, height, width = CLOTH_TILE
    shape = (height, width)
    weave = 0.05 * noise(shape, 1.5, rng) + 0.08 * noise(shape, 20, rng)
    colour = linear(np.array(person.cloth_colour)) * (1 + weave)[..., None]
    return np.concatenate([np.clip(colour, 0, 1), np.full((*shape, 1), 0.05)], axis=2).astype(np.float32)


def _paint_teeth(person: Person, rng: np.random.Generator) -> np.ndarray:
    _, _, height, width = TEETH_TILE
    x = np.linspace(-4, 4, width)
    # Front teeth are wider; a dark seam between each two.
    seam = np.exp(-(((x + 0.5) % 1 - 0.5) ** 2) / 0.004)
    shade = (0.82 - 0.35 * np.abs(x / 4) ** 1.5) * (1 - 0.45 * seam)
    rows = np.interp(np.linspace(0, 1, height), (0, 0.25, 1), (0.75, 1, 0.95))
    white = _white(person) * linear(np.array([232, 222, 204]) + rng.normal(0, 4, 3))
    tile = np.empty((height, width, 4), np.float32)
    tile[..., :3] = white * (rows[:, None] * shade[None])[..., None]
    tile[..., 3] = 0.6
    return np.clip(tile, 0, 1)
