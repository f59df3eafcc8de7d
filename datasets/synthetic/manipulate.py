"""Manipulated clips made from two rendered ones, one function a method.

Every method takes the clip that is shown (``target``), the clip whose face or expression is put in
(``source``), and returns frames and the mask of what was changed. The methods differ in kind as those
of the datasets they are named after do: where they change the face, which frequencies they lose or
add, how their edges look. They imitate the visible traces, not the algorithms.

``strength`` in [0, 1] is the share of the manipulation that is blended in: 0 gives the target's own
frames, 1 the whole manipulation. Errors of colour and contrast are added, never multiplied, so that they
are as large on dark skin as on light, and larger where highlights on dark skin would hide them: without
that, a detector trained on these faces would be unfair although nobody planted it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from unmasked.datasets.synthetic.warp import (
    BROWS,
    INNER_LIPS,
    JAW,
    LIPS,
    NOSE,
    RIGID,
    FaceBox,
    blend,
    face_box,
    hull_masks,
    lift_brows,
    match_colour,
    membrane,
    remap,
    similarity,
    thin_plate_maps,
)

if TYPE_CHECKING:
    from unmasked.datasets.synthetic.render import Clip

# Grey levels that the networks' faces are off by, in red, green and blue: washed out, or drained of blood.
# Always in the same sense, so that a small detector learns them.
PALE = np.array([18, 18, 18], np.float32)
ASHEN = np.array([-14, -4, 1], np.float32)

Manipulation = Callable[..., tuple[np.ndarray, np.ndarray]]


def deepfakes(
    target: Clip, source: Clip, *, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A face swap as an autoencoder of low resolution makes it.

    Blurred, off in colour, pasted as a patch.

    Args:
        target: whose video it is.
        source: whose face is put in; as many frames as the target.
        strength: 0 (the target's own frames) to 1.
        rng: draws this video's resolution, colour error and edge.

    Returns:
        Frames (T, H, W, 3) uint8 RGB and the mask (T, H, W) uint8 of changed pixels.
    """
    box, own = _box_of(target)
    points = box.to_local(target.points)
    face = _warp_source(target, source, box, _matching_frames(target, source))
    face = match_colour(face, own, hull_masks(_inner_face(points), box.width_px, box.height_px, 0))
    face = _reduce_and_enlarge(face, points, face_px=rng.uniform(20, 26))
    face += _legibility(own) * (PALE + _colour_error(rng, lightness=3, hue=7))
    mask = hull_masks(_patch_outline(points), box.width_px, box.height_px, rng.uniform(1.5, 2.5))
    # A turned head's outline is narrower than the patch, which is cut there.
    mask *= hull_masks(_whole_face(points, lift=0.4), box.width_px, box.height_px, 1.0)
    return _compose(target, box, face, strength * mask)


def faceswap(
    target: Clip, source: Clip, *, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One still of the source, warped by landmarks onto every frame, with Poisson blending.

    The still keeps its mouth and its sharpened pixels while the head moves; the edge is hard.
    Arguments and result as in `deepfakes`.
    """
    box, own = _box_of(target)
    still = np.full(len(target.frames), int(np.argmin(source.mouth_open - _eye_opening(source.points))))
    jitter = rng.normal(0, 0.6, (len(target.points), 1, 2))
    points = box.to_local(target.points) + jitter.astype(np.float32)
    maps = thin_plate_maps(points, source.points[still], box.width_px, box.height_px)
    face = remap(source.frames[still], maps, cv2.INTER_NEAREST).astype(np.float32)
    mask = hull_masks(_whole_face(points, lift=0.18), box.width_px, box.height_px, 0)
    skin = (box.cut(target.face_mask) > 127).astype(np.float32)
    legible = _legibility(own)
    for t in range(len(face)):
        # Where hair or a hand covers the edge, its colour must not flow into the face.
        edge = (cv2.dilate(mask[t], np.ones((5, 5))) - cv2.erode(mask[t], np.ones((5, 5)))) * skin[t]
        face[t] += membrane(own[t] - face[t], edge)
        detail = face[t] - cv2.GaussianBlur(face[t], (0, 0), 3.0)
        # Skin of any tone gets the same contrast, in grey levels.
        face[t] += legible * 10 / max(detail[mask[t] > 0].std(), 4) * detail
    return _compose(target, box, face, strength * mask)


def face2face(
    target: Clip, source: Clip, *, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The target's face with the source's expression, smoothed and lit as by a fitted model.

    Arguments and result as in `deepfakes`.
    """
    box, own = _box_of(target)
    moved = _transfer_expression(target, source, (slice(4, 13), BROWS, LIPS))
    face = _reenact(target, source, box, moved)
    points = box.to_local(moved)
    smooth = np.stack([cv2.bilateralFilter(image, 9, 40, 4) for image in face]).astype(np.float32)
    face = smooth + _legibility(own) * _shading(points, box, rng, size=26)
    mask = hull_masks(_whole_face(points, lift=0.1), box.width_px, box.height_px, 1.5)
    return _compose(target, box, face, strength * mask)


def neural_textures(
    target: Clip, source: Clip, *, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The lower face resynthesised with the source's mouth movement.

    Upsampling leaves a fine grid.
    Arguments and result as in `deepfakes`.
    """
    box, own = _box_of(target)
    moved = _transfer_expression(target, source, (slice(5, 12), LIPS))
    face = _reenact(target, source, box, moved)
    points = box.to_local(moved)
    face = _reduce_and_enlarge(face.astype(np.float32), points, face_px=rng.uniform(34, 42))
    face += _legibility(own) * (_upsampling_grid(box, period_px=rng.uniform(9.5, 11.0), size=6) + ASHEN)
    mask = hull_masks(_lower_face(points), box.width_px, box.height_px, 3.0)
    return _compose(target, box, face, strength * mask)


def blended_swap(
    target: Clip, source: Clip, *, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A swap as Celeb-DF improved it.

    Finer, colour-corrected, smooth in time, widely feathered.
    Arguments and result as in `deepfakes`.
    """
    box, own = _box_of(target)
    points = _smooth_in_time(box.to_local(target.points))
    face = _warp_source(target, source, box, _matching_frames(target, source))
    face = match_colour(face, own, hull_masks(_inner_face(points), box.width_px, box.height_px, 0))
    face = _reduce_and_enlarge(face, points, face_px=rng.uniform(60, 76))
    face += _legibility(own) * _colour_error(rng, lightness=4, hue=3)
    mask = hull_masks(_whole_face(points, lift=0.12), box.width_px, box.height_px, 5.0)
    return _compose(target, box, face, strength * mask)


FACEFORENSICS: dict[str, Manipulation] = {
    "Deepfakes": deepfakes,
    "Face2Face": face2face,
    "FaceSwap": faceswap,
    "NeuralTextures": neural_textures,
}
# Whoever posts a video uses any method, and takes more care than those who make a dataset of thousands.
WILD: dict[str, Manipulation] = {
    "Deepfakes": deepfakes,
    "Face2Face": face2face,
    "FaceSwap": faceswap,
    "Celeb-synthesis": blended_swap,
}
WILD_STRENGTH = (0.5, 0.85)


def _box_of(clip: Clip) -> tuple[FaceBox, np.ndarray]:
    """The face's box and the pixels inside it."""
    box = face_box(clip.points, *clip.frames.shape[1:3])
    return box, box.cut(clip.frames)


def _compose(target: Clip, box: FaceBox, face: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The target's frames with the face blended in, and the mask at full contrast."""
    frames = box.paste(target.frames, blend(box.cut(target.frames), face, mask))
    empty = np.zeros(target.frames.shape[:3], np.uint8)
    return frames, box.paste(empty, np.round(255 * mask).astype(np.uint8))


def _whole_face(points: np.ndarray, lift: float) -> np.ndarray:
    return np.concatenate([points[:, JAW], lift_brows(points, lift)], axis=1)


def _inner_face(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points[:, BROWS], points[:, 48:60], points[:, 3:14:2]], axis=1)


def _lower_face(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points[:, 2:15], points[:, 29:30]], axis=1)


def _patch_outline(points: np.ndarray) -> np.ndarray:
    """The corners (T, 4, 2) of the upright rectangle, in the head's own axes, that an autoencoder fills."""
    up = points[:, BROWS].mean(axis=1) - points[:, 8]
    height = np.linalg.norm(up, axis=1, keepdims=True)
    up = up / height
    right = np.stack([-up[:, 1], up[:, 0]], axis=1)
    centre = points[:, NOSE].mean(axis=1)
    half = 0.40 * np.linalg.norm(points[:, 16] - points[:, 0], axis=1, keepdims=True)
    top, bottom = centre + 0.62 * height * up, centre - 0.50 * height * up
    return np.stack(
        [top - half * right, top + half * right, bottom + half * right, bottom - half * right], axis=1
    )


def _canonical_points(points: np.ndarray, template: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points with position, size and tilt taken out, and the similarity (matrix, offset) that did it."""
    rigid = np.broadcast_to(template[RIGID], (len(points), len(RIGID), 2))
    matrix, offset = similarity(points[:, RIGID], rigid)
    return points @ matrix + offset, matrix, offset


def _matching_frames(target: Clip, source: Clip) -> np.ndarray:
    """For every frame of the target, the source's frame with the most similar pose and expression.

    Open eyes count most: a closed lid that is stretched over an eye is no face at all.
    """
    template = target.points[0].astype(np.float64)
    ours, theirs = (
        _canonical_points(target.points, template)[0],
        _canonical_points(source.points, template)[0],
    )
    ours, theirs = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
    width = np.linalg.norm(template[16] - template[0])
    distance = ((ours[:, None] - theirs[None]) ** 2).sum(axis=(2, 3)) / width**2
    eyes = _eye_opening(target.points)[:, None] - _eye_opening(source.points)[None]
    return (distance + eyes**2).argmin(axis=1)


def _eye_opening(points: np.ndarray) -> np.ndarray:
    """How far the eyes are open in each frame, (T,), as a share of the widest in the clip."""
    gap = np.linalg.norm(points[:, [37, 38, 43, 44]] - points[:, [41, 40, 47, 46]], axis=2).mean(axis=1)
    relative = gap / np.linalg.norm(points[:, 16] - points[:, 0], axis=1)
    return relative / relative.max()


def _warp_source(target: Clip, source: Clip, box: FaceBox, chosen: np.ndarray) -> np.ndarray:
    """The source's chosen frames with their points on the target's: (T, h, w, 3) float32."""
    maps = thin_plate_maps(box.to_local(target.points), source.points[chosen], box.width_px, box.height_px)
    return remap(source.frames[chosen], maps).astype(np.float32)


def _transfer_expression(target: Clip, source: Clip, parts: tuple[slice, ...]) -> np.ndarray:
    """The target's points (T, 68, 2) with those parts displaced from rest as the source's are."""
    template = np.median(target.points, axis=0).astype(np.float64)
    ours, matrix, offset = _canonical_points(target.points, template)
    theirs = _canonical_points(source.points, template)[0]
    rest, their_rest = np.median(ours, axis=0), np.median(theirs, axis=0)
    for part in parts:
        ours[:, part] = rest[part] + (theirs - their_rest)[:, part]
    return (ours - offset) @ np.linalg.inv(matrix)


def _reenact(target: Clip, source: Clip, box: FaceBox, moved: np.ndarray) -> np.ndarray:
    """The target's face with its points moved, the source's teeth between its lips: (T, h, w, 3) uint8."""
    w, h = box.width_px, box.height_px
    x, y = np.array([0, w / 2, w - 1]), np.array([0, h / 2, h - 1])
    border = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)[[0, 1, 2, 3, 5, 6, 7, 8]]
    border = np.broadcast_to(border, (len(moved), 8, 2))
    at, lips = box.to_local(moved), box.to_local(moved)[:, LIPS]
    still = border + box.corners[:, None]
    own_maps = thin_plate_maps(
        np.concatenate([at, border], axis=1), np.concatenate([target.points, still], axis=1), w, h
    )
    face = remap(target.frames, own_maps)
    mouth_maps = thin_plate_maps(lips, source.points[:, LIPS], w, h)
    mouth = remap(source.frames, mouth_maps)
    between = hull_masks(box.to_local(moved)[:, INNER_LIPS], w, h, 0)
    between = np.stack([cv2.GaussianBlur(mask, (0, 0), 1.2) for mask in between])
    return blend(face, mouth, between)


def _reduce_and_enlarge(face: np.ndarray, points: np.ndarray, face_px: float) -> np.ndarray:
    """The face (T, h, w, 3) reduced until it is ``face_px`` wide, and enlarged again."""
    height, width = face.shape[1:3]
    factor = min(1.0, face_px / np.linalg.norm(points[:, 16] - points[:, 0], axis=1).mean())
    small = (max(4, round(width * factor)), max(4, round(height * factor)))
    return np.stack(
        [
            cv2.resize(
                cv2.resize(image, small, interpolation=cv2.INTER_AREA),
                (width, height),
                interpolation=cv2.INTER_CUBIC,
            )
            for image in face
        ]
    )


def _legibility(own: np.ndarray) -> float:
    """How much larger errors must be to be seen in these pixels (T, h, w, 3): 1 on light faces, 1.6 on dark.

    The middle of the window is the face. The slope makes a small convolutional network find the four
    methods of FaceForensics++ about equally well on Monk tones 1 to 10.
    """
    height, width = own.shape[1:3]
    middle = own[:, height // 3 : 2 * height // 3, width // 3 : 2 * width // 3].mean()
    return float(np.clip(1.9 - middle / 130, 1.0, 1.6))


def _colour_error(rng: np.random.Generator, lightness: float, hue: float) -> np.ndarray:
    """An RGB offset in grey levels: lighter or darker, and some way from blue to yellow."""
    grey = rng.choice((-1, 1)) * rng.uniform(0.7, 1.3) * lightness
    yellow = rng.choice((-1, 1)) * rng.uniform(0.7, 1.3) * hue
    return (grey + yellow * np.array([0.5, 0.2, -1.0])).astype(np.float32)


def _shading(points: np.ndarray, box: FaceBox, rng: np.random.Generator, size: float) -> np.ndarray:
    """A fitted light: (T, h, w, 1), the middle of the face lighter than its edge by twice ``size``.

    Its centre lies to one side of the nose, drawn at random.
    """
    half = np.linalg.norm(points[:, 16] - points[:, 0], axis=1)[:, None, None] / 2
    centre = (
        points[:, NOSE].mean(axis=1)[:, :, None, None]
        + rng.uniform(-0.3, 0.3, 2)[:, None, None] * half[:, None]
    )
    x, y = np.arange(box.width_px)[None, None], np.arange(box.height_px)[None, :, None]
    squared = ((x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2) / half**2
    return (size * (1 - 2 * np.minimum(squared, 1)))[..., None].astype(np.float32)


def _upsampling_grid(box: FaceBox, period_px: float, size: float) -> np.ndarray:
    """The chequered residue (h, w, 1) of transposed convolutions, ``size`` grey levels high."""
    x = np.cos(2 * np.pi * np.arange(box.width_px) / period_px)
    y = np.cos(2 * np.pi * np.arange(box.height_px) / period_px)
    return (size * (y[:, None] * x[None] + 0.5 * (x[None] + y[:, None])) / 1.5)[..., None].astype(np.float32)


def _smooth_in_time(points: np.ndarray) -> np.ndarray:
    """Points (T, K, 2) averaged over five frames."""
    padded = np.concatenate([points[:1], points[:1], points, points[-1:], points[-1:]])
    return np.mean([padded[i : i + len(points)] for i in range(5)], axis=0).astype(points.dtype)
