"""Geometry and blending of faces.

The box around a face, thin-plate warps, masks, membranes.
Everything works on whole clips, frame by frame, in the face's own box only. Points are the 68 of iBUG:
0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-59 outer lips, 60-67 inner lips.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

JAW, BROWS, NOSE = slice(0, 17), slice(17, 27), slice(27, 36)
LIPS, INNER_LIPS = slice(48, 68), slice(60, 68)
# Points that speech and smiles hardly move: the bridge of the nose, its base, the corners of the eyes.
RIGID = [27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45]

_GRID_PX = 8


@dataclass(frozen=True)
class FaceBox:
    """A window of constant size that follows the face through a clip.

    Attributes:
        corners: (T, 2) int, x and y of the upper left corner; the window lies inside the frame.
        width_px: a multiple of 8, as is ``height_px``.
    """

    corners: np.ndarray
    width_px: int
    height_px: int

    def cut(self, images: np.ndarray) -> np.ndarray:
        """(T, H, W, ...) -> (T, h, w, ...), the windows, copied."""
        h, w = self.height_px, self.width_px
        return np.stack(
            [image[y : y + h, x : x + w] for image, (x, y) in zip(images, self.corners, strict=True)]
        )

    def paste(self, images: np.ndarray, patches: np.ndarray) -> np.ndarray:
        """A copy of the images (T, H, W, ...) with the windows replaced by patches (T, h, w, ...)."""
        result = images.copy()
        for image, patch, (x, y) in zip(result, patches, self.corners, strict=True):
            image[y : y + self.height_px, x : x + self.width_px] = patch
        return result

    def to_local(self, points: np.ndarray) -> np.ndarray:
        """Points (T, K, 2) in frame pixels, in the pixels of the window."""
        return (points - self.corners[:, None]).astype(np.float32)


def face_box(points: np.ndarray, height_px: int, width_px: int, margin: float = 0.2) -> FaceBox:
    """The window around the points (T, 68, 2) and the forehead, with a margin in face heights."""
    lifted = np.concatenate([points, lift_brows(points, 0.3)], axis=1)
    low, high = lifted.min(axis=1), lifted.max(axis=1)
    extent = (high - low).max(axis=0) + 2 * margin * (high - low)[:, 1].max()
    limit = np.array([width_px, height_px]) // _GRID_PX * _GRID_PX
    size = np.minimum(np.ceil(extent / _GRID_PX).astype(int) * _GRID_PX, limit)
    corners = np.round((low + high - size) / 2).astype(int)
    corners = np.clip(corners, 0, np.array([width_px, height_px]) - size)
    return FaceBox(corners, int(size[0]), int(size[1]))


def lift_brows(points: np.ndarray, lift: float) -> np.ndarray:
    """The brows (T, 10, 2) moved up by ``lift`` times the distance from brows to chin."""
    brows = points[:, BROWS]
    return brows + lift * (brows.mean(axis=1, keepdims=True) - points[:, 8:9])


def similarity(from_points: np.ndarray, to_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares similarities that take points (T, K, 2) to points (T, K, 2).

    Returns:
        Matrices (T, 2, 2), scale times rotation, and offsets (T, 1, 2): ``p @ matrix + offset``.
    """
    from_mean, to_mean = from_points.mean(axis=1, keepdims=True), to_points.mean(axis=1, keepdims=True)
    # In the plane a similarity is one complex factor.
    a = (from_points - from_mean) @ np.array([1, 1j])
    b = (to_points - to_mean) @ np.array([1, 1j])
    factor = (np.conj(a) * b).sum(axis=1) / (np.abs(a) ** 2).sum(axis=1)
    matrix = np.stack([factor.real, factor.imag, -factor.imag, factor.real], axis=-1).reshape(-1, 2, 2)
    return matrix, to_mean - from_mean @ matrix


def thin_plate_maps(at: np.ndarray, read: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """Smooth maps for ``cv2.remap``.

    The pixel at ``at[k]`` reads from ``read[k]`` (Bookstein 1989).
    The spline is evaluated on a grid of 8 px and interpolated, which costs a hundredth of every pixel.

    Args:
        at: (T, K, 2) points in the window of the result.
        read: (T, K, 2) points in the image that is read.

    Returns:
        (T, height_px, width_px, 2) float32, where each pixel reads from.
    """
    centre, scale = np.array([width_px, height_px]) / 2, float(width_px)
    nodes_x = np.arange(_GRID_PX / 2 - 0.5, width_px, _GRID_PX)
    nodes_y = np.arange(_GRID_PX / 2 - 0.5, height_px, _GRID_PX)
    nodes = np.stack(np.meshgrid(nodes_x, nodes_y), axis=-1).reshape(-1, 2)
    knots = (at - centre) / scale
    weights = _thin_plate_weights(knots, (read - at).astype(np.float64)).astype(np.float32)  # (T, K + 3, 2)
    nodes = (nodes - centre) / scale
    kernel = _kernel(nodes[None].astype(np.float32), knots.astype(np.float32))  # (T, G, K)
    plane = np.concatenate([np.ones((len(nodes), 1)), nodes], axis=1).astype(np.float32)
    shift = kernel @ weights[:, :-3] + plane @ weights[:, -3:]
    shift = shift.reshape(len(at), len(nodes_y), len(nodes_x), 2)
    identity = np.stack(np.meshgrid(np.arange(width_px), np.arange(height_px)), axis=-1).astype(np.float32)
    size = (width_px, height_px)
    return np.stack([cv2.resize(field, size, interpolation=cv2.INTER_LINEAR) + identity for field in shift])


def remap(images: np.ndarray, maps: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Each image (T, H, W, 3) read through its map (T, h, w, 2), mirrored beyond the border."""
    return np.stack(
        [
            cv2.remap(image, each[..., 0], each[..., 1], interpolation, borderMode=cv2.BORDER_REFLECT)
            for image, each in zip(images, maps, strict=True)
        ]
    )


def hull_masks(outlines: np.ndarray, width_px: int, height_px: int, feather_px: float) -> np.ndarray:
    """Soft masks (T, h, w) in [0, 1] of the convex hulls of points (T, K, 2).

    The edge falls from one to zero inside the hull, over about three times ``feather_px``.
    """
    masks = np.zeros((len(outlines), height_px, width_px), np.float32)
    for mask, points in zip(masks, outlines, strict=True):
        hull = cv2.convexHull(np.round(points).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 1.0, lineType=cv2.LINE_AA if feather_px else cv2.LINE_8)
        if feather_px:
            cv2.GaussianBlur(mask, (0, 0), feather_px, dst=mask)
            np.clip(2 * mask - 1, 0, 1, out=mask)
    return masks


def blend(target: np.ndarray, patch: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``target + mask * (patch - target)``, (T, h, w, 3) uint8; mask (T, h, w) in [0, 1]."""
    target = target.astype(np.float32)
    mixed = target + mask[..., None] * (patch.astype(np.float32) - target)
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def match_colour(patch: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The patch (T, h, w, 3) with the reference's mean and spread per channel in the mask.

    One correction serves the whole clip: a correction a frame would flicker.
    """
    inside = mask > 0.5
    ours, theirs = patch[inside].astype(np.float32), reference[inside].astype(np.float32)
    gain = np.clip(theirs.std(axis=0) / np.maximum(ours.std(axis=0), 1), 0.5, 1.6)
    return (patch - ours.mean(axis=0)) * gain + theirs.mean(axis=0)


def membrane(difference: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Differences (h, w, 3), continued smoothly from where ``known`` (h, w) is one.

    A push-pull pyramid (Gortler et al. 1996); added to pasted pixels it is Poisson blending up to the
    solver (Perez et al. 2003), at a hundredth of the cost.
    """
    weighted = np.dstack([difference * known[..., None], known]).astype(np.float32)
    pyramid: list[np.ndarray] = [weighted]
    while min(pyramid[-1].shape[:2]) > 2:
        pyramid.append(np.asarray(cv2.pyrDown(pyramid[-1])))
    filled = pyramid[-1][..., :3] / np.maximum(pyramid[-1][..., 3:], 1e-6)
    for level in reversed(pyramid[:-1]):
        share = np.minimum(level[..., 3:] * 4, 1)
        coarse = cv2.resize(filled, level.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        filled = coarse + share * (level[..., :3] / np.maximum(level[..., 3:], 1e-6) - coarse)
    return filled


def _thin_plate_weights(knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weights (T, K + 3, 2) of the spline through values (T, K, 2) at knots (T, K, 2)."""
    count, k = knots.shape[:2]
    system = np.zeros((count, k + 3, k + 3))
    system[:, :k, :k] = _kernel(knots, knots)
    # A little slack keeps points that lie almost on one another (closed lips) from folding the plate.
    system[:, range(k), range(k)] += 1e-4
    system[:, :k, k] = system[:, k, :k] = 1
    system[:, :k, k + 1 :] = knots
    system[:, k + 1 :, :k] = knots.transpose(0, 2, 1)
    right = np.zeros((count, k + 3, 2))
    right[:, :k] = values
    return np.linalg.solve(system, right)


def _kernel(points: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """``r² log r²`` between points (T or 1, G, 2) and knots (T, K, 2): (T, G, K)."""
    squared = (
        (points**2).sum(axis=-1)[..., None]
        + (knots**2).sum(axis=-1)[:, None]
        - 2 * points @ knots.transpose(0, 2, 1)
    )
    squared = np.maximum(squared, 1e-9)
    return squared * np.log(squared)
