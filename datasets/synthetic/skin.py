"""A person's face on the unrolled head: skin, creases, lips, brows, lashes, beard, hair."""

from __future__ import annotations

import cv2
import numpy as np

from unmasked.datasets.synthetic.anatomy import AXIS_Z, Anatomy, hairline, skin_pixel
from unmasked.datasets.synthetic.landmarks import VERTICES
from unmasked.datasets.synthetic.paint import (
    blend,
    blob,
    blur,
    noise,
    smooth_curve,
    stretched_noise,
    strokes,
    to_linear,
)
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
    """(3,) linear-light albedo of a Monk tone, a little warmer than the chart.

    >>> skin_albedo(10).round(3)
    array([0.018, 0.012, 0.008], dtype=float32)
    """
    tones = (1, 3, 5, 7, 9, 10)
    green = np.interp(tone, tones, (0.80, 0.80, 0.86, 0.97, 0.94, 0.88))
    blue = np.interp(tone, tones, (0.68, 0.70, 0.82, 0.95, 0.88, 0.76))
    return to_linear(monk_colour(tone)) * np.array([1, green, blue], np.float32)


def exposure(tone: int) -> np.float32:
    """How far the camera opens up for a Monk tone.

    More for dark skin, though not the whole way.

    >>> bool(exposure(10) > 1 > exposure(1))
    True
    """
    return np.float32((0.30 / skin_albedo(tone).mean()) ** 0.38)


def non_skin_factor(tone: int) -> np.float32:
    """Factor in (0, 1] for what is not skin, against overexposure on dark skin."""
    return np.float32(np.minimum(1, exposure(tone) ** -0.65))


def paint_skin(person: Person, anatomy: Anatomy, hair: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 4) float32 skin tile: linear-light albedo, then gloss; `hair` is the hair tile."""
    position = anatomy.position_map
    sides = np.concatenate([np.abs(position[:1]), position[1:]])  # both halves of the face at x > 0
    canvas = _bare_skin(person, sides, rng)
    _paint_spots(canvas, person, sides, rng)
    _paint_creases(canvas, person, rng)
    _paint_lips(canvas, person, anatomy, rng)
    if person.gender == "male":
        _paint_beard(canvas, person, sides, rng)
    _paint_brows(canvas, person, rng)
    _paint_lashes(canvas, person, anatomy)
    _paint_scalp(canvas, hair_edge(person, position), person, hair, rng)
    return np.clip(canvas, 0.002, 1)


def hair_edge(person: Person, position: np.ndarray) -> np.ndarray:
    """Metres above this person's own hairline, for (3, ...) positions on the average head."""
    x, y, z = position
    angle = np.degrees(np.arctan2(x, z - AXIS_Z))
    rng = np.random.default_rng([person.seed, 2])
    # Higher or lower, a peak in the middle, corners at the temples.
    peak, corner = rng.uniform(-0.004, 0.008), rng.uniform(0, 0.012) * (2 if person.gender == "male" else 1)
    own = rng.normal(0, 0.003) - peak * np.exp(-((angle / 12) ** 2))
    own = own + corner * np.exp(-(((np.abs(angle) - 36) / 12) ** 2))
    edge = y - hairline(angle) - own * (np.abs(angle) < 75)
    if person.hair_style in ("receding", "bald"):
        edge = np.minimum(edge, np.maximum(-0.05 - z, 0.05 - y) * 0.8)
    return edge.astype(np.float32)


def _bare_skin(person: Person, sides: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shape = sides.shape[1:]
    blood = np.float32(np.clip(1 - person.skin_tone / 12, 0.25, 1))  # shows through light skin more
    red = 0.25 * blob(sides, (0.043, -0.035), (0.017, 0.016))
    red += 0.28 * blob(sides, (0.0, -0.04, 0.035), (0.012, 0.012, 0.012))
    red += 0.2 * blob(sides, (0.088, -0.015, -0.085), (0.012, 0.03, 0.03))
    red += 0.05 * noise(shape, 28, rng) + 0.035 * noise(shape, 8, rng)

    years = np.clip((person.age_years - 18) / 57, 0, 1)
    socket = blob(sides, (0.031, 0.004), (0.019, 0.013)) + 0.5 * blob(sides, (0.028, -0.016), (0.013, 0.006))
    dark = (0.14 + 0.14 * years) * socket
    if person.gender == "female":
        dark = dark + rng.uniform(0.1, 0.45) * blob(sides, (0.032, 0.0075), (0.013, 0.0035))
    pores = 0.022 * noise(shape, 1.6, rng) + 0.02 * noise(shape, 3.5, rng) + 0.03 * noise(shape, 60, rng)

    skin = skin_albedo(person.skin_tone) * (1 + (1 + 0.6 * years) * pores)[..., None]
    skin = skin * (1 + blood * red[..., None] * np.array([0.25, -0.55, -0.5], np.float32))
    skin = skin * (1 - dark[..., None] * np.array([0.7, 1.0, 0.9], np.float32))
    gloss = 0.35 + 0.3 * blob(sides, (0.0, -0.02, 0.03), (0.014, 0.04, 0.02))
    gloss += 0.15 * blob(sides, (0.0, 0.05, 0.0), (0.03, 0.015, 0.03))
    return np.concatenate([skin, gloss[..., None]], axis=2, dtype=np.float32)


def _paint_spots(canvas: np.ndarray, person: Person, sides: np.ndarray, rng: np.random.Generator) -> None:
    """Freckles over cheeks and nose, spots of age, a mole or two."""
    shape = canvas.shape[:2]
    place = blob(sides, (0.03, -0.028), (0.024, 0.016)) + blob(sides, (0, -0.02), (0.02, 0.02))
    place = np.clip(place, 0, 1) * (sides[2] > -0.06) * min(1.0, person.freckles)
    freckles = np.clip((noise(shape, 3.2, rng) - 1.6 + 0.7 * person.freckles) * 2, 0, 1) * place
    aged = np.clip((noise(shape, 7, rng) - 1.9) * 2, 0, 1) * np.clip((person.age_years - 50) / 40, 0, 1)
    blend(canvas, 0.75 * freckles + 0.5 * aged, canvas[..., :3] * np.array([0.62, 0.45, 0.36]))
    for _ in range(int(rng.poisson(1.2))):
        x, y, radius = int(rng.uniform(200, 440)), int(rng.uniform(240, 560)), int(rng.uniform(6, 16))
        mole = np.zeros(shape, np.uint8)
        cv2.circle(mole, (x * 8, y * 8), radius, 255, -1, cv2.LINE_AA, 3)  # eighths of a pixel
        blend(canvas, 0.75 * mole.astype(np.float32) / 255, canvas[..., :3] * 0.3)


def _paint_creases(canvas: np.ndarray, person: Person, rng: np.random.Generator) -> None:
    """Forehead lines, crow's feet, folds beside the nose, lines under eyes and mouth; from 30 years on."""
    strength = float(np.clip((person.age_years - 30) / 45, 0, 1))
    if strength == 0:
        return
    shape = canvas.shape[:2]
    lines = np.zeros(shape, np.float32)

    def crease(angle: np.ndarray, up: np.ndarray, thickness: int, weight: float) -> None:
        at = skin_pixel(angle, up)
        np.maximum(lines, weight * strokes(shape, at[:-1], at[1:], thickness=thickness), out=lines)

    along = np.linspace(-1, 1, 25)
    for up in (0.036, 0.044, 0.053):
        wave = 0.0012 * np.interp(along, np.linspace(-1, 1, 7), rng.normal(0, 1, 7))
        angle = rng.uniform(22, 30) * along + rng.normal(0, 2)
        crease(angle, up + wave + 0.002 * along**2, 1, rng.uniform(0.5, 1))
    half = np.linspace(0, 1, 12)
    for side in (-1, 1):
        for tilt in rng.normal((-0.35, 0.0, 0.35), 0.1):
            crease(side * (36 + 8 * half), 0.001 + tilt * 0.014 * half, 1, rng.uniform(0.4, 0.8))
        crease(side * (9 + 12 * half), -0.038 - 0.034 * half**1.4, 2, 0.6)
        crease(side * (5 + 20 * half), -0.017 - 0.005 * np.sin(np.pi * half), 1, 0.6)
        crease(side * (15 + 2 * half), -0.078 - 0.02 * half, 1, 0.4)
    soft = np.clip(strength * (0.22 * lines + 0.6 * blur(lines, 1.6)), 0, 1)
    canvas[..., :3] *= 1 - soft[..., None] * np.array([0.4, 0.5, 0.5], np.float32)


def _paint_lips(canvas: np.ndarray, person: Person, anatomy: Anatomy, rng: np.random.Generator) -> None:
    shape = canvas.shape[:2]
    mask = np.zeros(shape, np.uint8)
    outline = np.rint(_texels(anatomy, range(48, 60)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA, 4)

    tone = skin_albedo(person.skin_tone)
    rose = to_linear((188, 84, 84)) * (0.12 + 0.88 * np.clip(tone.mean() / 0.5, 0, 1) ** 0.7)
    share = float(np.clip(0.52 * person.lip, 0.2, 0.85))
    colour = (1 - share) * tone * np.array([0.85, 0.6, 0.58]) + share * rose
    folds = 1 + 0.08 * stretched_noise(shape, (14, 1.6), rng)
    gloss = 0.75 if person.gender == "female" else 0.5
    blend(canvas, blur(mask.astype(np.float32) / 255, 1.6), colour * folds[..., None], gloss)

    between = _texels(anatomy, (48, 60, 61, 62, 63, 64, 54))
    line = blur(strokes(shape, between[:-1], between[1:], thickness=2), 0.8)
    canvas[..., :3] *= 1 - 0.6 * line[..., None]


def _paint_beard(canvas: np.ndarray, person: Person, sides: np.ndarray, rng: np.random.Generator) -> None:
    """Beard, moustache, stubble, or the shadow that shaving leaves."""
    shape = canvas.shape[:2]
    x, y, z = sides
    chin = np.clip((-0.074 - 0.18 * np.clip(0.03 - x, 0, None) - y) / 0.008, 0, 1)
    jaw = np.clip((np.interp(x, (0.0, 0.024, 0.05, 0.068), (-0.05, -0.06, -0.052, -0.02)) - y) / 0.012, 0, 1)
    lip = np.clip((-0.0475 - y) / 0.004, 0, 1) * np.clip((y + 0.082) / 0.006, 0, 1)
    lip = lip * np.clip((0.029 - x) / 0.006, 0, 1)
    area = lip if person.beard == "moustache" else np.maximum(np.where(x > 0.026, jaw, chin), lip)
    area = area * np.clip((y + 0.121) / 0.012, 0, 1) * np.clip((z + 0.06) / 0.03, 0, 1)  # not the neck
    area = area * np.clip(1 - 1.6 * blob(sides, (0, -0.0745), (0.019, 0.0065)), 0, 1)  # nor the lips
    area = blur(area.astype(np.float32), 3)

    thick = person.beard in ("full", "moustache")
    density = {"none": 0.10, "stubble": 0.38}.get(person.beard, 0.9)
    strands = 0.2 * stretched_noise(shape, (6, 1.6), rng) + 0.1 * noise(shape, 1.4, rng)
    strands = np.clip(strands + (1.0 if thick else 0.85), 0, 1.3)
    shade = np.clip(0.8 + 0.16 * stretched_noise(shape, (8, 2), rng), 0.3, 1.4)[..., None]
    # A beard is never as white as hair, and less so on dark skin, through which it is seen.
    hair = 0.7 * non_skin_factor(person.skin_tone) * to_linear(person.hair_colour)
    colour = hair + 0.3 * skin_albedo(person.skin_tone)
    blend(canvas, np.clip(area * density * strands, 0, 0.9), colour * shade, 0.1)


def _paint_brows(canvas: np.ndarray, person: Person, rng: np.random.Generator) -> None:
    """170 hairs a side along an arch, upright at the nose and lying down towards the temple."""
    shape = canvas.shape[:2]
    arch, lift = rng.uniform(0.003, 0.0065), rng.normal(0, 0.0008)
    mask = np.zeros(shape, np.float32)
    for side in (-1, 1):
        along = np.sort(rng.beta(1.15, 1.0, 170))
        x = 0.0115 + 0.043 * along
        rise = arch * np.sin(np.pi * np.clip(along * 0.85, 0, 1) ** 1.4)
        rise -= 0.004 * np.clip(along - 0.7, 0, 1) / 0.3
        thick = 0.0031 * person.brow * np.interp(along, (0, 0.2, 0.6, 1), (0.5, 1, 0.8, 0.15))
        y = 0.0185 + lift + rise + thick * rng.uniform(-0.6, 0.6, len(along))
        z = np.interp(x, (0.007, 0.026, 0.035, 0.051, 0.056), (0.018, 0.015, 0.012, 0.0, -0.004))
        length = 0.0035 * rng.uniform(0.7, 1.3, len(along))
        lean = np.interp(along, (0, 0.3, 1), (1.1, 0.45, -0.25)) + rng.normal(0, 0.15, len(along))
        start, end = (
            skin_pixel(side * np.degrees(np.arctan2(px, z - AXIS_Z)), py)
            for px, py in ((x, y), (x + length * np.cos(lean), y + length * np.sin(lean)))
        )
        mask = np.maximum(mask, strokes(shape, start, end))
    colour = 0.6 * non_skin_factor(person.skin_tone) * to_linear(person.hair_colour) + 0.4 * to_linear(
        (40, 28, 22)
    )
    cover = 0.92 * min(1.0, 0.72 + 0.2 * person.brow)
    blend(canvas, cover * np.clip(0.75 * mask + 0.75 * blur(mask, 1.6), 0, 1), colour, gloss=0.1)


def _paint_lashes(canvas: np.ndarray, person: Person, anatomy: Anatomy) -> None:
    shape = canvas.shape[:2]
    made_up = person.gender == "female"
    upper, lower = (0.95 if made_up else 0.7), 0.35
    lids = {
        (36, 37, 38, 39): upper,
        (42, 43, 44, 45): upper,
        (36, 41, 40, 39): lower,
        (42, 47, 46, 45): lower,
    }
    for points, weight in lids.items():
        at = smooth_curve(_texels(anatomy, points))
        at[:, 1] -= weight > lower  # a texel above the upper lid's rim
        line = strokes(shape, at[:-1], at[1:], thickness=2 if made_up and weight > lower else 1)
        line = np.clip(0.7 * line + 0.6 * blur(line, 1.2), 0, 1)
        blend(canvas, weight * line, to_linear((22, 16, 14)))


def _paint_scalp(
    canvas: np.ndarray, edge: np.ndarray, person: Person, hair: np.ndarray, rng: np.random.Generator
) -> None:
    """Hair on the skin from the ragged hairline on, the same strands as on the cap that begins behind it."""
    shape = canvas.shape[:2]
    ragged = 0.35 * stretched_noise(shape, (12, 1.8), rng) + 0.15 * stretched_noise(shape, (20, 9), rng)
    cover = {"bald": 0.16, "crop": 0.85, "receding": 0.9}.get(person.hair_style, 1.0)
    mask = np.clip(edge / 0.009 + 0.25 + ragged, 0, 1) * np.float32(cover)
    same = cv2.resize(hair, shape[::-1], interpolation=cv2.INTER_LINEAR)
    canvas += mask[..., None] * (same - canvas)


def _texels(anatomy: Anatomy, points: range | tuple[int, ...]) -> np.ndarray:
    """(N, 2) places of iBUG points on the skin tile."""
    place = anatomy.vertices[[VERTICES[i] for i in points]]
    return skin_pixel(np.degrees(np.arctan2(place[:, 0], place[:, 2] - AXIS_Z)), place[:, 1])
