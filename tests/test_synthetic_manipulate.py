from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from unmasked.datasets.synthetic.manipulate import FACEFORENSICS, blended_swap
from unmasked.datasets.synthetic.warp import (
    blend,
    face_box,
    hull_masks,
    match_colour,
    membrane,
    remap,
    similarity,
    thin_plate_maps,
)

METHODS = {**FACEFORENSICS, "Celeb-synthesis": blended_swap}


LEFT_EYE = np.array([-0.19, -0.1])


def face_points() -> np.ndarray:
    """68 points of an upright frontal face of unit height, (68, 2)."""
    angle = np.linspace(0, np.pi, 17)
    jaw = np.stack([-0.42 * np.cos(angle), 0.05 + 0.5 * np.sin(angle)], axis=1)
    brow = np.stack([np.linspace(-0.32, -0.08, 5), -0.2 - 0.04 * np.sin(np.linspace(0, np.pi, 5))], axis=1)
    nose = np.concatenate(
        [
            np.stack([np.zeros(4), np.linspace(-0.1, 0.12, 4)], axis=1),
            np.stack([np.linspace(-0.08, 0.08, 5), np.full(5, 0.17)], axis=1),
        ]
    )
    ring = np.linspace(np.pi, 3 * np.pi, 7)[:-1]
    eye = np.stack([0.075 * np.cos(ring), 0.035 * np.sin(ring)], axis=1)
    outer, inner = np.linspace(np.pi, 3 * np.pi, 13)[:-1], np.linspace(np.pi, 3 * np.pi, 9)[:-1]
    lips = [np.stack([0.15 * np.cos(outer), 0.3 + 0.06 * np.sin(outer)], axis=1)]
    lips.append(np.stack([0.11 * np.cos(inner), 0.3 + 0.02 * np.sin(inner)], axis=1))
    mirrored = brow[::-1] * (-1, 1)
    return np.concatenate([jaw, brow, mirrored, nose, eye + LEFT_EYE, eye - LEFT_EYE * (1, -1), *lips])


def drawn_clip(seed: int, *, frames: int = 4, size_px: int = 160, skin: int = 150) -> SimpleNamespace:
    """A drawn face that moves and speaks, with the attributes of a rendered clip."""
    rng = np.random.default_rng(seed)
    height = 0.55 * size_px
    opening = 0.5 + 0.5 * np.sin(np.arange(frames) + rng.uniform(0, 6))
    points = np.repeat(face_points()[None], frames, axis=0)
    points[:, 55:60, 1] += 0.05 * opening[:, None]
    points[:, 65:68, 1] += 0.05 * opening[:, None]
    points[:, 6:11, 1] += 0.04 * opening[:, None]
    path = np.cumsum(rng.normal(0, 0.004, (frames, 1, 2)), axis=0)
    points = ((points * rng.uniform(0.95, 1.05, 2) + path) * height + size_px / 2).astype(np.float32)
    tint = rng.normal(0, 6, 3)
    texture = cv2.GaussianBlur(rng.normal(0, 30, (size_px, size_px, 3)), (0, 0), 1.2)
    images, masks = [], []
    for each in points:
        image = np.full((size_px, size_px, 3), rng.integers(60, 90), float)
        oval = cv2.fitEllipse(np.concatenate([each[:17], 2 * each[27:28] - each[8:9]]))
        mask = cv2.ellipse(np.zeros((size_px, size_px), np.uint8), oval, 255, -1)
        image[mask > 0] = (skin + tint + texture)[mask > 0]
        for part, darker in (
            (slice(36, 42), 40),
            (slice(42, 48), 40),
            (slice(48, 60), 30),
            (slice(60, 68), 55),
        ):
            cv2.fillPoly(image, [np.round(each[part]).astype(np.int32)], (skin - darker,) * 3)
        images.append(np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8))
        masks.append(mask)
    return SimpleNamespace(
        frames=np.stack(images),
        points=points,
        face_mask=np.stack(masks),
        mouth_open=opening.astype(np.float32),
    )


@pytest.fixture(scope="module")
def pair() -> tuple[SimpleNamespace, SimpleNamespace]:
    return drawn_clip(1), drawn_clip(2)


def made(method: str, pair: tuple, strength: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return METHODS[method](*pair, strength=strength, rng=np.random.default_rng(seed))


def test_similarity_recovers_a_known_rotation_scale_and_shift():
    points = np.random.default_rng(0).normal(size=(1, 6, 2))
    angle, scale, shift = 0.7, 1.8, np.array([3.0, -2.0])
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix, offset = similarity(points, scale * points @ rotation + shift)
    np.testing.assert_allclose(matrix[0], scale * rotation, atol=1e-12)
    np.testing.assert_allclose(offset[0, 0], shift, atol=1e-12)


def test_thin_plate_map_between_equal_points_is_the_identity():
    points = np.random.default_rng(0).uniform(5, 60, (2, 12, 2))
    maps = thin_plate_maps(points, points, 64, 72)
    assert maps.shape == (2, 72, 64, 2)
    np.testing.assert_allclose(maps[0, 10, 20], (20, 10), atol=1e-4)


def test_thin_plate_map_reads_each_point_from_where_it_was_asked():
    rng = np.random.default_rng(1)
    at = np.stack(np.meshgrid(np.arange(12, 64, 16), np.arange(12, 64, 16)), axis=-1).reshape(1, -1, 2)
    read = at + rng.uniform(-3, 3, at.shape)
    maps = thin_plate_maps(at, read, 72, 72)
    found = np.array([maps[0, y, x] for x, y in at[0]])
    np.testing.assert_allclose(found, read[0], atol=0.35)


def test_warp_by_a_translation_moves_the_picture():
    image = np.random.default_rng(2).integers(0, 255, (1, 64, 64, 3), dtype=np.uint8)
    at = np.random.default_rng(3).uniform(8, 56, (1, 9, 2))
    moved = remap(image, thin_plate_maps(at, at + np.array([4, 2]), 64, 64))
    difference = np.abs(moved[0, 8:50, 8:50].astype(int) - image[0, 10:52, 12:54])
    assert np.median(difference) <= 1


def test_membrane_continues_a_constant_and_a_slope():
    x = np.broadcast_to(np.linspace(-10, 10, 64, dtype=np.float32), (64, 64))
    known = np.zeros((64, 64), np.float32)
    known[:6], known[-6:], known[:, :6], known[:, -6:] = 1, 1, 1, 1
    constant = membrane(np.full((64, 64, 3), 7.0, np.float32), known)
    np.testing.assert_allclose(constant, 7, atol=1e-3)
    slope = membrane(np.dstack([x, x, x]), known)[..., 0]
    assert np.corrcoef(slope[20:44, 20:44].ravel(), x[20:44, 20:44].ravel())[0, 1] > 0.95


def test_blend_at_zero_and_one_gives_target_and_patch():
    target, patch = np.full((1, 2, 2, 3), 10, np.uint8), np.full((1, 2, 2, 3), 300.0)
    np.testing.assert_array_equal(blend(target, patch, np.zeros((1, 2, 2))), target)
    np.testing.assert_array_equal(blend(target, patch, np.ones((1, 2, 2))), np.full_like(target, 255))


def test_matched_colour_takes_over_mean_and_spread():
    rng = np.random.default_rng(0)
    patch, reference = rng.normal(90, 12, (2, 30, 30, 3)), rng.normal(140, 15, (2, 30, 30, 3))
    matched = match_colour(patch, reference, np.ones((2, 30, 30)))
    np.testing.assert_allclose(matched.mean(axis=(0, 1, 2)), reference.mean(axis=(0, 1, 2)), atol=0.1)
    np.testing.assert_allclose(matched.std(axis=(0, 1, 2)), reference.std(axis=(0, 1, 2)), atol=0.1)


def test_feathered_mask_lies_inside_the_hull():
    square = np.array([[[10, 10], [40, 10], [40, 40], [10, 40]]], np.float32)
    hard, soft = hull_masks(square, 56, 56, 0), hull_masks(square, 56, 56, 3)
    assert soft[0, 25, 25] == pytest.approx(1, abs=1e-3)
    assert soft[hard == 0].max() < 0.1


def test_face_box_holds_all_points_and_lies_in_the_frame(pair):
    box = face_box(pair[0].points, 160, 160)
    local = box.to_local(pair[0].points)
    assert local.min() >= 0
    assert (local < (box.width_px, box.height_px)).all()
    assert (box.corners >= 0).all()
    assert (box.corners + np.array([box.width_px, box.height_px]) <= 160).all()


def test_face_that_leaves_the_frame_is_still_manipulated(pair):
    target = SimpleNamespace(**{**vars(pair[0]), "points": pair[0].points + np.array([60, 45])})
    for method in METHODS:
        frames, _ = made(method, (target, pair[1]))
        assert frames.shape == target.frames.shape


@pytest.mark.parametrize("method", METHODS)
def test_without_strength_the_frames_are_the_targets_own(method, pair):
    frames, mask = made(method, pair, strength=0.0)
    np.testing.assert_array_equal(frames, pair[0].frames)
    assert not mask.any()


@pytest.mark.parametrize("method", METHODS)
def test_only_what_the_mask_marks_is_changed(method, pair):
    frames, mask = made(method, pair)
    assert frames.dtype == mask.dtype == np.uint8
    changed = (frames != pair[0].frames).any(axis=-1)
    assert changed[mask > 127].mean() > 0.8
    # A mask below half a grey level is written as 0 and changes a pixel by at most one.
    np.testing.assert_allclose(frames[mask == 0].astype(int), pair[0].frames[mask == 0].astype(int), atol=1)


@pytest.mark.parametrize("method", METHODS)
def test_half_the_strength_changes_half_as_much(method, pair):
    real = pair[0].frames.astype(float)
    whole, half = (np.abs(made(method, pair, strength)[0] - real).sum() for strength in (1.0, 0.5))
    assert half / whole == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_pixels(method, pair):
    np.testing.assert_array_equal(made(method, pair, seed=3)[0], made(method, pair, seed=3)[0])


def test_inputs_are_left_as_they_were(pair):
    before = pair[0].frames.copy(), pair[0].points.copy()
    for method in METHODS:
        made(method, pair)
    np.testing.assert_array_equal(pair[0].frames, before[0])
    np.testing.assert_array_equal(pair[0].points, before[1])


def fine_detail(frames: np.ndarray, mask: np.ndarray) -> float:
    """Energy of the highest frequencies well inside the mask."""
    inside = np.stack([cv2.erode(each, np.ones((9, 9))) for each in (mask > 200).astype(np.uint8)]) > 0
    grey = frames.astype(np.float32).mean(axis=-1)
    return float(np.stack([cv2.Laplacian(each, cv2.CV_32F) for each in grey])[inside].std())


def test_deepfakes_are_blurred_and_faceswaps_are_sharpened(pair):
    blurred, mask = made("Deepfakes", pair)
    assert fine_detail(blurred, mask) < 0.5 * fine_detail(pair[0].frames, mask)
    sharp, mask = made("FaceSwap", pair)
    assert fine_detail(sharp, mask) > 1.2 * fine_detail(pair[0].frames, mask)


def test_neural_textures_change_the_lower_face_only(pair):
    _, mask = made("NeuralTextures", pair)
    for each, points in zip(mask, pair[0].points, strict=True):
        assert not each[: int(points[29, 1]) - 2].any()
        assert each[int(points[57, 1]), int(points[57, 0])] > 200


def test_faceswap_shows_one_still(pair):
    frames, _ = made("FaceSwap", pair)
    mouths = [
        image[int(p[66, 1]), int(p[66, 0])].mean() for image, p in zip(frames, pair[0].points, strict=True)
    ]
    assert np.ptp(mouths) < 60


@pytest.mark.parametrize("method", METHODS)
def test_traces_are_at_least_as_large_on_dark_skin_as_on_light(method):
    changes = {}
    for skin in (70, 190):
        clips = drawn_clip(1, skin=skin), drawn_clip(1, skin=skin)
        frames, mask = made(method, clips)
        changes[skin] = np.abs(frames.astype(float) - clips[0].frames)[mask > 200].mean()
    # Up to 1.6 times, to outweigh the highlights that hide them on dark skin.
    assert 0.9 < changes[70] / changes[190] < 1.7
