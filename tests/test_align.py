"""The alignment equals the published one, and is the least-squares similarity on any points."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmasked.preprocessing.align import FIVE_POINTS, similarity_matrix, template, warp


def lstsq_similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity as ordinary least squares: x' = a x - b y + tx, y' = b x + a y + ty."""
    x, y = points.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    design = np.vstack([np.column_stack([x, -y, one, zero]), np.column_stack([y, x, zero, one])])
    a, b, tx, ty = np.linalg.lstsq(design, target.T.ravel(), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


def mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def test_matrices_equal_the_published_ones(shared):
    cases = json.loads((shared / "reference" / "align_reference.json").read_text())["cases"]
    assert len(cases) >= 20
    for case in cases:
        np.testing.assert_allclose(similarity_matrix(case["points"]), case["matrix"], atol=1e-3)


def test_template_is_the_published_one_at_256_px_and_scale_1_3():
    published = [
        (96.8696, 120.4331),
        (158.8251, 120.0904),
        (128.0443, 155.6687),
        (102.5922, 191.9393),
        (153.8987, 191.6556),
    ]
    np.testing.assert_allclose(template(), published, atol=1e-4)
    assert FIVE_POINTS == (37, 44, 30, 49, 55)


@pytest.mark.parametrize(("size_px", "scale"), [(256, 1.3), (224, 1.0), (112, 1.8)])
def test_matrix_is_the_least_squares_similarity_of_random_points(size_px, scale):
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = rng.normal(500, 200, (5, 2))
        expected = lstsq_similarity(points, template(size_px, scale))
        np.testing.assert_allclose(similarity_matrix(points, size_px, scale), expected, rtol=1e-8, atol=1e-8)


def test_mirrored_points_are_rotated_never_reflected():
    points = template() * (-1, 1)
    matrix = similarity_matrix(points)
    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(matrix, lstsq_similarity(points, template()), atol=1e-8)


@given(
    angle=st.floats(-np.pi, np.pi),
    zoom=st.floats(0.05, 20),
    shift_x=st.floats(-3000, 3000),
    shift_y=st.floats(-3000, 3000),
)
def test_any_similarity_is_recovered_exactly(angle, zoom, shift_x, shift_y):
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    expected = np.array([[cos, -sin, shift_x], [sin, cos, shift_y]])
    inverse = np.linalg.inv(np.vstack([expected, (0, 0, 1)]))[:2]
    points = mapped(inverse, template())  # the points in a frame which `expected` maps to the template
    matrix = similarity_matrix(points)
    np.testing.assert_allclose(mapped(matrix, points), template(), atol=1e-6)
    np.testing.assert_allclose(matrix[:, :2], expected[:, :2], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.full((5, 2), 7.0), "all five points lie at"),
        (np.zeros((4, 2)), "give five"),
        (np.array([[np.nan, 0], [1, 2], [3, 4], [5, 6], [7, 8]]), "give five"),
    ],
)
def test_points_without_a_similarity_are_refused(points, words):
    with pytest.raises(ValueError, match=words):
        similarity_matrix(points)


def test_warp_moves_pixels_as_the_matrix_says_and_is_black_outside():
    image = np.full((40, 40, 3), 200, np.uint8)
    image[10, 20] = (250, 0, 0)
    crop = warp(image, np.array([[1.0, 0, 5], [0, 1, -2]]), 64)
    assert crop.shape == (64, 64, 3)
    assert crop[8, 25].tolist() == [250, 0, 0]
    assert crop[:, :5].max() == 0
    assert crop[38:].max() == 0
    assert crop[0, 5:45].min() > 150


def test_warp_interpolates_linearly_between_pixels():
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    crop = warp(ramp, np.array([[1.0, 0, 0.5], [0, 1, 0]]), 20)
    assert crop[5, 10].tolist() == [95, 95, 95]


def test_five_points_of_a_face_land_on_the_template_of_its_crop():
    frame = np.zeros((300, 400, 3), np.uint8)
    points = template() * 0.6 + (150, 60)
    for x, y in points.round().astype(int):
        frame[y - 1 : y + 2, x - 1 : x + 2] = 255
    crop = warp(frame, similarity_matrix(points)).max(axis=2)
    for x, y in template():
        assert crop[round(y), round(x)] > 128
