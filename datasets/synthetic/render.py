"""Clips of one person: geometry, light, camera; frames with the face points and the face mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from unmasked.datasets.synthetic.anatomy import (
    ambient_light,
    centred,
    follows_head,
    load_anatomy,
    visible_from,
)
from unmasked.datasets.synthetic.backdrop import paint_backdrop
from unmasked.datasets.synthetic.head import EYE, SKIN, TONGUE, load_head
from unmasked.datasets.synthetic.landmarks import VERTICES
from unmasked.datasets.synthetic.motion import ACTIONS, POSE, expression_track
from unmasked.datasets.synthetic.people import Person
from unmasked.datasets.synthetic.raster import Fragments, interpolate, rasterise, vertex_normals
from unmasked.datasets.synthetic.texture import paint_atlas, skin_albedo
from unmasked.datasets.synthetic.wardrobe import dress, hidden_scalp

CAMERA_M = 1.1  # from the face: close enough for a little perspective
FACE_SHARE = 0.50  # width of the face, jaw to jaw, as a share of the frame
EYE_LINE = 0.46  # height of the eyes in the frame, from above
PIVOT = np.array([0.0, -0.10, -0.09], np.float32)  # where the head turns on the neck, metres


@dataclass(frozen=True)
class Clip:
    """A rendered clip of T frames, H = W pixels.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB.
        points: (T, 68, 2) float32 iBUG points in frame pixels (x, y), projected from fixed mesh vertices;
            hidden ones too.
        face_mask: (T, H, W) uint8, 255 where the face from brows to chin is seen (eyes and mouth
            included; not hair, ears, neck), soft at its border.
        mouth_open: (T,) float32, 0 closed to 1 wide open.
    """

    frames: np.ndarray
    points: np.ndarray
    face_mask: np.ndarray
    mouth_open: np.ndarray


@dataclass(frozen=True)
class _Portrait:
    """A person ready to move: one mesh of head and wardrobe, its texture, its occlusion."""

    vertices: np.ndarray  # (N, 3)
    triangles: np.ndarray  # (F, 3)
    uv: np.ndarray  # (F, 3, 2)
    follows: np.ndarray  # (N, 1)
    jaw: np.ndarray  # (N, 1)
    face: np.ndarray  # (N,)
    ambient: np.ndarray  # (N,)
    wet: np.ndarray  # (N, 1) 1 for eyes, which mirror the light
    material: np.ndarray  # (F,) uint8 1 for the head, 2 and on for each piece it wears
    atlas: np.ndarray  # (H, W, 4)
    width_m: float


@dataclass(frozen=True)
class _Light:
    direction: np.ndarray  # (3,) towards the light
    colour: np.ndarray  # (3,)
    ambient: np.ndarray  # (3,)
    fill: np.ndarray  # (3,) from the other side


def render_clip(
    person: Person, *, frames: int, size_px: int = 320, seed: int, expression: np.ndarray | None = None
) -> Clip:
    """A clip of a person; the same arguments give the same bytes.

    Args:
        frames: T.
        size_px: height and width of the frames; 320 gives faces about 145 px wide.
        seed: of light, backdrop, camera noise and, without `expression`, of the motion.
        expression: (T, 58) from `expression_track`, to move like another clip.
    """
    track = expression_track(frames, seed) if expression is None else np.asarray(expression, np.float32)
    if track.shape != (frames, len(ACTIONS) + len(POSE)):
        raise ValueError(
            f"expression has shape {track.shape}, allowed is ({frames}, {len(ACTIONS) + len(POSE)}): "
            "make it with expression_track"
        )
    rng = np.random.default_rng([seed, 7])
    portrait = _portrait(person)
    light = _draw_light(rng)
    gain = np.float32((0.30 / skin_albedo(person.skin_tone).mean()) ** 0.34)
    shadow = _shadow(light.direction, portrait, rng)
    backdrop = paint_backdrop(size_px, rng) * light.ambient.mean() / gain**0.6 * 2.2

    # Noise is drawn once, and each frame shows another window of it.
    grain = 1.6 * rng.standard_normal((2 * size_px, 2 * size_px, 3), dtype=np.float32) + np.float32(0.5)

    posed = _pose(portrait, track)
    screen = _project(posed, track, portrait.width_m, size_px)
    images = np.empty((frames, size_px, size_px, 3), np.uint8)
    masks = np.empty((frames, size_px, size_px), np.uint8)
    for index in range(frames):
        image, mask = _shade(portrait, posed[index], screen[index], light, shadow, backdrop)
        top, left = rng.integers(0, size_px, 2)
        images[index] = _expose(image, gain, grain[top : top + size_px, left : left + size_px])
        masks[index] = mask
    points = screen[:, list(VERTICES), :2]
    return Clip(images, points, masks, _mouth_open(points))


@lru_cache(maxsize=64)
def _portrait(person: Person) -> _Portrait:
    head, anatomy = load_head(), load_anatomy()
    rest = centred(head.neutral(dict(person.phenotype), dict(person.changes)))
    rest[:, 1] -= _neck_stretch(anatomy.vertices[:, 1])
    pieces = dress(person, rest)
    sizes = np.cumsum([len(rest)] + [len(piece.vertices) for piece in pieces])
    vertices = np.concatenate([rest] + [piece.vertices for piece in pieces])
    kept = ~hidden_scalp(person)
    triangles = np.concatenate(
        [head.triangles[kept]]
        + [piece.triangles + start for piece, start in zip(pieces, sizes, strict=False)]
    ).astype(np.int32)
    extra = np.zeros(len(vertices) - len(rest), np.float32)
    face = anatomy.face.copy()
    inner = np.unique(head.triangles[head.part != SKIN])
    face[inner] = np.maximum(face[inner], 1.0)
    ambient = ambient_light(vertices, triangles)
    # At rest the mouth is shut and all is dark in it; open, some light falls in.
    tongue = np.unique(head.triangles[head.part == TONGUE])
    ambient[tongue] = np.maximum(ambient[tongue], 0.25)
    eye = np.unique(head.triangles[head.part == EYE])
    ambient[eye] = np.maximum(ambient[eye], 0.25)
    teeth = slice(sizes[0], sizes[2])
    ambient[teeth] = np.maximum(ambient[teeth], 0.8)
    jaw = rest[[VERTICES[0], VERTICES[16]], 0]
    return _Portrait(
        vertices=vertices,
        triangles=triangles,
        uv=np.concatenate([anatomy.uv[kept]] + [piece.uv for piece in pieces]),
        follows=np.concatenate([follows_head(rest)] + [piece.follows for piece in pieces])[:, None],
        jaw=np.concatenate([np.zeros(len(rest), np.float32)] + [piece.jaw for piece in pieces])[:, None],
        face=np.concatenate([face, extra]),
        ambient=ambient,
        wet=np.isin(np.arange(len(vertices)), eye)[:, None].astype(np.float32),
        material=np.repeat(
            np.arange(1, len(pieces) + 2, dtype=np.uint8),
            [kept.sum()] + [len(piece.triangles) for piece in pieces],
        ),
        atlas=paint_atlas(person),
        width_m=float(jaw[1] - jaw[0]),
    )


def _neck_stretch(height: np.ndarray) -> np.ndarray:
    """(V,) metres by which the neck's open end goes down, to hide it in the collar."""
    share = np.clip((-0.119 - height) / 0.026, 0, 1)
    return (0.05 * share).astype(np.float32)


def _draw_light(rng: np.random.Generator) -> _Light:
    side, up = np.radians(rng.uniform(-50, 50)), np.radians(rng.uniform(18, 50))
    direction = np.array([np.sin(side) * np.cos(up), np.sin(up), np.cos(side) * np.cos(up)])
    warm = rng.uniform(-1, 1) * np.array([0.07, 0.0, -0.09])
    ambient = rng.uniform(0.34, 0.5)
    return _Light(
        direction=direction.astype(np.float32),
        colour=((1.05 - ambient) * 1.15 * (1 + warm)).astype(np.float32),
        ambient=(ambient * (1 - 0.5 * warm)).astype(np.float32),
        fill=(rng.uniform(0.05, 0.16) * (1 - warm)).astype(np.float32),
    )


def _shadow(direction: np.ndarray, portrait: _Portrait, rng: np.random.Generator) -> np.ndarray:
    """(N,) 0 in the shade to 1 in the light, over a handful of directions for a soft edge."""
    total = np.zeros(len(portrait.vertices), np.float32)
    normals = vertex_normals(portrait.vertices, portrait.triangles)
    samples = 6
    for _ in range(samples):
        towards = direction + 0.10 * rng.standard_normal(3)
        towards /= np.linalg.norm(towards)
        total += visible_from(towards, portrait.vertices, portrait.triangles, normals)
    return total / samples


def _pose(portrait: _Portrait, track: np.ndarray) -> np.ndarray:
    """(T, N, 3) vertices after the facial actions and the turn of the head."""
    head = load_head()
    actions = track[:, : len(ACTIONS)]
    count = len(head.template)
    moved = (actions @ head.actions.reshape(len(ACTIONS), -1)).reshape(len(track), count, 3)
    posed = np.repeat(portrait.vertices[None], len(track), axis=0)
    posed[:, :count] += moved
    opening = head.actions[ACTIONS.index("jawOpen"), VERTICES[8]]
    posed += portrait.jaw * (actions[:, ACTIONS.index("jawOpen"), None, None] * opening)

    yaw, pitch, roll = (track[:, len(ACTIONS) + i] for i in range(3))
    turned = (posed - PIVOT) @ _rotations(yaw, pitch, roll).transpose(0, 2, 1) + PIVOT
    return posed + portrait.follows * (turned - posed)


def _rotations(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """(T, 3, 3) float32: roll first, then pitch, then yaw."""
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(*rows: np.ndarray) -> np.ndarray:
        return np.stack(rows, axis=-1).reshape(-1, 3, 3)

    cy, sy, cp, sp, cr, sr = *_cs(yaw), *_cs(pitch), *_cs(roll)
    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_x = matrix(one, zero, zero, zero, cp, sp, zero, -sp, cp)
    about_z = matrix(cr, -sr, zero, sr, cr, zero, zero, zero, one)
    return (about_y @ about_x @ about_z).astype(np.float32)


def _cs(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.cos(angle), np.sin(angle)


def _project(posed: np.ndarray, track: np.ndarray, width_m: float, size_px: int) -> np.ndarray:
    """(T, N, 3) float32 pixel x, y and depth, with the camera CAMERA_M before the eyes."""
    shift_x, shift_y, zoom = (track[:, len(ACTIONS) + 3 + i, None] for i in range(3))
    scale = FACE_SHARE * size_px / width_m * (1 + zoom) * CAMERA_M / (CAMERA_M - posed[..., 2])
    x = size_px * (0.5 + shift_x) + scale * posed[..., 0]
    y = size_px * (EYE_LINE + shift_y) - scale * posed[..., 1]
    return np.stack([x, y, posed[..., 2]], axis=-1).astype(np.float32)


def _shade(
    portrait: _Portrait,
    posed: np.ndarray,
    screen: np.ndarray,
    light: _Light,
    shadow: np.ndarray,
    backdrop: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """One frame in linear light, (H, W, 3) float32, and its face mask, (H, W) uint8."""
    size = backdrop.shape[0]
    triangles = portrait.triangles
    seen = rasterise(screen, triangles, (size, size))
    # The mesh is about as fine as the pixels, so light is worked out at its vertices and interpolated.
    lit = _irradiance(vertex_normals(posed, triangles), portrait, light, shadow)
    corner = np.concatenate([lit[triangles], portrait.uv], axis=2)
    at = interpolate(seen, corner)
    texel = _sample(portrait.atlas, at[:, 5:7])
    colour = texel[:, :3] * at[:, :3] + (texel[:, 3] * at[:, 3])[:, None] * light.colour

    image = backdrop.reshape(-1, 3).copy()
    image[seen.pixel] = colour
    image = _smooth_outlines(image.reshape(size, size, 3), portrait.material, seen)
    mask = np.zeros(size * size, np.float32)
    mask[seen.pixel] = np.clip(at[:, 4], 0, 1) * 255
    blurred = cv2.GaussianBlur(mask.reshape(size, size), (0, 0), 0.006 * size)
    return image, np.rint(blurred).astype(np.uint8)


def _smooth_outlines(image: np.ndarray, material: np.ndarray, seen: Fragments) -> np.ndarray:
    """The image, blended with its own blur where two materials meet: cheap anti-aliasing."""
    size = image.shape[0]
    label = np.zeros(size * size, np.uint8)
    label[seen.pixel] = material[seen.triangle]
    label = label.reshape(size, size)
    kernel = np.ones((3, 3), np.uint8)
    edge = (cv2.dilate(label, kernel) != cv2.erode(label, kernel)).astype(np.float32)
    share = cv2.GaussianBlur(edge, (0, 0), 0.7)[..., None]
    image += share * (cv2.GaussianBlur(image, (0, 0), 0.9) - image)
    return image


def _irradiance(normal: np.ndarray, portrait: _Portrait, light: _Light, shadow: np.ndarray) -> np.ndarray:
    """(N, 5) float32 at the vertices: diffuse RGB, sheen, share of the face."""
    ambient, shadow = portrait.ambient[:, None], shadow[:, None]
    towards = (normal @ light.direction)[:, None]
    # Light reaches a little past the terminator, red furthest: a cheap stand-in for scattering in skin.
    wrap = np.array([0.30, 0.18, 0.14], np.float32)
    key = np.clip((towards + wrap) / (1 + wrap), 0, None) * (0.25 + 0.75 * shadow) * light.colour
    opposite = np.array([-light.direction[0], 0.1, 0.6], np.float32)
    fill = np.clip(normal @ opposite, 0, None)[:, None] * ambient * light.fill
    sky = ambient * (0.85 + 0.3 * normal[:, 1:2]) * light.ambient
    halfway = light.direction + np.array([0, 0, 1], np.float32)
    shine = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1)[:, None]
    sheen = shadow * (0.10 * shine**14 + portrait.wet * 0.15 * shine**50)
    return np.concatenate([key + fill + sky, sheen, portrait.face[:, None]], axis=1, dtype=np.float32)


def _sample(atlas: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(P, 4) atlas values at (P, 2) places, bilinear."""
    columns = 4096  # OpenCV wants sides below 2^15
    rows = -(-len(uv) // columns)
    padded = np.zeros((rows * columns, 2), np.float32)
    padded[: len(uv)] = uv
    texels = cv2.remap(atlas, padded.reshape(rows, columns, 2), None, cv2.INTER_LINEAR)
    return texels.reshape(-1, atlas.shape[2])[: len(uv)]


def _expose(image: np.ndarray, gain: np.float32, grain: np.ndarray) -> np.ndarray:
    """A camera: a slightly soft lens, highlights that roll off, sensor noise; sRGB uint8."""
    bright = cv2.GaussianBlur(image, (0, 0), 0.55)
    bright *= gain
    bright /= 1 + np.float32(0.18) * bright
    coded = np.sqrt(bright)  # sRGB is close to a power of 1 / 2.1
    coded *= np.float32(255)
    coded += grain
    return np.clip(coded, 0, 255, out=coded).astype(np.uint8)


def _mouth_open(points: np.ndarray) -> np.ndarray:
    gap = np.linalg.norm(points[:, 62] - points[:, 66], axis=1)
    width = np.linalg.norm(points[:, 60] - points[:, 64], axis=1)
    return np.clip(gap / np.maximum(0.75 * width, 1e-6), 0, 1).astype(np.float32)
