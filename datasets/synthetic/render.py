"""Clips of one person: light, camera and frames, with face points and face mask."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from unmasked.datasets.synthetic.anatomy import visibility_from
from unmasked.datasets.synthetic.backdrop import paint_backdrop
from unmasked.datasets.synthetic.landmarks import VERTICES
from unmasked.datasets.synthetic.motion import ACTIONS, POSE, expression_track
from unmasked.datasets.synthetic.people import Person
from unmasked.datasets.synthetic.portrait import Portrait, load_portrait, pose
from unmasked.datasets.synthetic.raster import Fragments, interpolate, rasterise, vertex_normals
from unmasked.datasets.synthetic.skin import exposure

CAMERA_M = 1.1  # from the eyes: close enough for a little perspective
FACE_SHARE = 0.50  # width of the jaw's outline as a share of the frame's
EYE_LINE = 0.46  # height of the eyes in the frame, from above


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
class Light:
    """One lamp or window with a soft edge, and the light of the room.

    Attributes:
        direction: (3,) unit vector towards the lamp.
        key, fill, sky: (3,) linear RGB of the lamp, of the wall opposite, of the room.
    """

    direction: np.ndarray
    key: np.ndarray
    fill: np.ndarray
    sky: np.ndarray


def render_clip(
    person: Person, *, frames: int, size_px: int = 320, seed: int, expression: np.ndarray | None = None
) -> Clip:
    """A clip of a person; the same arguments give the same bytes.

    Args:
        frames: T.
        size_px: height and width of the frames; 320 gives faces about 160 px wide.
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
    portrait = load_portrait(person)
    light = _draw_light(rng)
    shadow = _shadow(light, portrait, rng)
    gain = exposure(person.skin_tone)
    backdrop = paint_backdrop(size_px, rng) * (2.2 * light.sky.mean() / gain ** np.float32(0.6))
    # Noise is drawn once, and each frame shows another window of it.
    grain = 1.6 * rng.standard_normal((2 * size_px, 2 * size_px, 3), dtype=np.float32) + np.float32(0.5)

    posed = pose(portrait, track[:, : len(ACTIONS)], track[:, len(ACTIONS) : len(ACTIONS) + 3])
    screen = _project(posed, track[:, len(ACTIONS) + 3 :], portrait.width_m, size_px)
    images = np.empty((frames, size_px, size_px, 3), np.uint8)
    masks = np.empty((frames, size_px, size_px), np.uint8)
    for index in range(frames):
        lit = _vertex_light(vertex_normals(posed[index], portrait.triangles), portrait, light, shadow)
        image, masks[index] = _shade(portrait, screen[index], lit, light.key, backdrop)
        top, left = rng.integers(0, size_px, 2)
        images[index] = _expose(image, gain, grain[top : top + size_px, left : left + size_px])
    points = screen[:, list(VERTICES), :2]
    return Clip(images, points, masks, _mouth_opening(points))


def _draw_light(rng: np.random.Generator) -> Light:
    side, up = np.radians(rng.uniform(-50, 50)), np.radians(rng.uniform(18, 50))
    direction = np.array([np.sin(side) * np.cos(up), np.sin(up), np.cos(side) * np.cos(up)])
    warm = rng.uniform(-1, 1) * np.array([0.07, 0.0, -0.09])
    room = rng.uniform(0.34, 0.5)
    return Light(
        direction=direction.astype(np.float32),
        key=((1.05 - room) * 1.15 * (1 + warm)).astype(np.float32),
        fill=(rng.uniform(0.05, 0.16) * (1 - warm)).astype(np.float32),
        sky=(room * (1 - 0.5 * warm)).astype(np.float32),
    )


def _shadow(light: Light, portrait: Portrait, rng: np.random.Generator, samples: int = 6) -> np.ndarray:
    """(N, 1) 0 in the shade to 1 in the light; seen from a few places of the lamp, for a soft edge."""
    normals = vertex_normals(portrait.vertices, portrait.triangles)
    total = np.zeros(len(normals), np.float32)
    for _ in range(samples):
        towards = light.direction + 0.10 * rng.standard_normal(3)
        towards /= np.linalg.norm(towards)
        total += visibility_from(towards, portrait.vertices, portrait.triangles, normals)
    return total[:, None] / samples


def _project(posed: np.ndarray, camera: np.ndarray, width_m: float, size_px: int) -> np.ndarray:
    """(T, N, 3) float32 pixel x, y and depth; `camera` is (T, 3) shift_x, shift_y, zoom."""
    shift_x, shift_y, zoom = (camera[:, i, None] for i in range(3))
    scale = FACE_SHARE * size_px / width_m * (1 + zoom) * CAMERA_M / (CAMERA_M - posed[..., 2])
    x = size_px * (0.5 + shift_x) + scale * posed[..., 0]
    y = size_px * (EYE_LINE + shift_y) - scale * posed[..., 1]
    return np.stack([x, y, posed[..., 2]], axis=-1).astype(np.float32)


def _vertex_light(normal: np.ndarray, portrait: Portrait, light: Light, shadow: np.ndarray) -> np.ndarray:
    """(N, 5) float32: diffuse RGB, sheen, share of the face.

    The mesh is about as fine as the pixels, so light is worked out at its vertices and interpolated.
    """
    towards = (normal @ light.direction)[:, None]
    # Light reaches a little past the terminator, red furthest: a cheap stand-in for scattering in skin.
    wrap = np.array([0.30, 0.18, 0.14], np.float32)
    key = np.clip((towards + wrap) / (1 + wrap), 0, None) * (0.25 + 0.75 * shadow) * light.key
    opposite = np.array([-light.direction[0], 0.1, 0.6], np.float32)
    fill = np.clip(normal @ opposite, 0, None)[:, None] * portrait.ambient * light.fill
    sky = portrait.ambient * (0.85 + 0.3 * normal[:, 1:2]) * light.sky
    halfway = light.direction + np.array([0, 0, 1], np.float32)
    shine = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1)[:, None]
    sheen = shadow * (0.10 * shine**14 + portrait.wet * 0.15 * shine**50)
    return np.concatenate([key + fill + sky, sheen, portrait.face], axis=1, dtype=np.float32)


def _shade(
    portrait: Portrait, screen: np.ndarray, lit: np.ndarray, key: np.ndarray, backdrop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One frame in linear light, (H, W, 3) float32, and its face mask, (H, W) uint8."""
    size = backdrop.shape[0]
    seen = rasterise(screen, portrait.triangles, (size, size))
    at = interpolate(seen, np.concatenate([lit[portrait.triangles], portrait.uv], axis=2))
    texel = _sample(portrait.atlas, at[:, 5:7])
    image = backdrop.reshape(-1, 3).copy()
    image[seen.pixel] = texel[:, :3] * at[:, :3] + (texel[:, 3] * at[:, 3])[:, None] * key
    image = _smooth_outlines(image.reshape(size, size, 3), portrait.material, seen)

    mask = np.zeros(size * size, np.float32)
    mask[seen.pixel] = 255 * np.clip(at[:, 4], 0, 1)
    soft = cv2.GaussianBlur(mask.reshape(size, size), (0, 0), 0.006 * size)
    return image, np.rint(soft).astype(np.uint8)


def _smooth_outlines(image: np.ndarray, material: np.ndarray, seen: Fragments) -> np.ndarray:
    """The image, blended with its own blur where two materials meet: cheap anti-aliasing."""
    size = image.shape[0]
    label = np.zeros(size * size, np.uint8)
    label[seen.pixel] = material[seen.triangle]
    label = label.reshape(size, size)
    around = np.ones((3, 3), np.uint8)
    edge = (cv2.dilate(label, around) != cv2.erode(label, around)).astype(np.float32)
    share = cv2.GaussianBlur(edge, (0, 0), 0.7)[..., None]
    return image + share * (cv2.GaussianBlur(image, (0, 0), 0.9) - image)


def _sample(atlas: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(P, 4) atlas values at (P, 2) places, bilinear."""
    columns = 4096  # OpenCV wants sides below 2^15
    rows = -(-len(uv) // columns)
    padded = np.zeros((rows * columns, 2), np.float32)
    padded[: len(uv)] = uv
    x, y = padded.reshape(rows, columns, 2).transpose(2, 0, 1)
    texels = cv2.remap(atlas, x, y, cv2.INTER_LINEAR)
    return texels.reshape(-1, atlas.shape[2])[: len(uv)]


def _expose(image: np.ndarray, gain: np.float32, grain: np.ndarray) -> np.ndarray:
    """A camera: a slightly soft lens, highlights that roll off, sensor noise; sRGB uint8."""
    bright = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.55), np.float32) * gain
    coded = 255 * np.sqrt(bright / (1 + np.float32(0.18) * bright))  # sRGB is close to a power of 1 / 2.1
    return np.clip(coded + grain, 0, 255).astype(np.uint8)


def _mouth_opening(points: np.ndarray) -> np.ndarray:
    gap = np.linalg.norm(points[:, 62] - points[:, 66], axis=1)
    width = np.linalg.norm(points[:, 60] - points[:, 64], axis=1)
    return np.clip(gap / np.maximum(0.75 * width, 1e-6), 0, 1).astype(np.float32)
