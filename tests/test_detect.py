"""The search over sizes finds small and tight faces; boxes are in frame pixels; one face is followed."""

from __future__ import annotations

import csv
import importlib.util

import numpy as np
import pytest
from PIL import Image

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.align import FIVE_POINTS, similarity_matrix
from unmasked.preprocessing.detect import (
    Detection,
    DlibDetector,
    area,
    find_faces,
    landmark_model,
    largest_face,
    overlap,
)
from unmasked.preprocessing.tracking import Tracker


class PickyDetector:
    """Sees the white square only where its side is within limits; notes the sizes that it was shown."""

    def __init__(self, low_px, high_px=10_000, border_px=0):
        self.low_px, self.high_px, self.border_px = low_px, high_px, border_px
        self.searched = []

    def detect(self, image):
        self.searched.append(image.shape[:2])
        rows, columns = np.nonzero(image.min(axis=2) > 128)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        away = min(*box[:2], image.shape[1] - box[2], image.shape[0] - box[3])
        if self.low_px <= box[2] - box[0] <= self.high_px and away >= self.border_px:
            return [Detection(box, 1.0)]
        return []


def square(height, width, box):
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def test_a_large_face_is_found_in_the_reduced_frame_alone():
    detector = PickyDetector(80)
    box = (600, 300, 1000, 700)
    [face] = find_faces(detector, square(1080, 1920, box), 640)
    assert detector.searched == [(360, 640)]
    np.testing.assert_allclose(face.box, box, atol=2)


@pytest.mark.parametrize(
    ("side_px", "searched"),
    [
        (150, [(360, 640), (720, 1280)]),
        (70, [(360, 640), (720, 1280), (1440, 2560)]),
        (44, [(360, 640), (720, 1280), (1440, 2560), (2160, 3840)]),
    ],
)
def test_a_small_face_is_found_by_a_finer_search(side_px, searched):
    detector = PickyDetector(80)
    box = (900, 500, 900 + side_px, 500 + side_px)
    [face] = find_faces(detector, square(1080, 1920, box), 640)
    assert detector.searched == searched
    np.testing.assert_allclose(face.box, box, atol=2)


def test_a_small_frame_is_searched_as_it_is_and_then_enlarged():
    detector = PickyDetector(80)
    box = (100, 60, 160, 120)
    [face] = find_faces(detector, square(240, 320, box), 640)
    assert detector.searched == [(240, 320), (480, 640)]
    np.testing.assert_allclose(face.box, box, atol=1)


def test_a_tight_crop_is_found_once_it_has_a_border():
    detector = PickyDetector(80, border_px=40)
    image = square(200, 160, (4, 4, 156, 196))
    [face] = find_faces(detector, image, 640)
    assert detector.searched[-1] == (320, 256)  # 30 % on each side
    np.testing.assert_allclose(face.box, (4, 4, 156, 196), atol=1)


def test_no_face_is_an_empty_list_after_all_searches():
    detector = PickyDetector(10_000)
    assert find_faces(detector, square(300, 300, (0, 0, 50, 50)), 640) == []
    assert len(detector.searched) == 3


def test_the_largest_face_is_the_one_with_the_largest_box_whatever_its_score():
    small, large = Detection((0, 0, 50, 50), 3.0), Detection((100, 100, 200, 190), 0.1)
    assert largest_face([small, large]) is large
    assert largest_face([]) is None


def test_a_face_below_the_detectors_threshold_is_not_believed_by_itself():
    class Doubtful:
        def detect(self, image):
            return [Detection((0, 0, 90, 90), -0.1), Detection((100, 100, 190, 190), 0.0)]

    [face] = find_faces(Doubtful(), np.zeros((300, 300, 3), np.uint8))
    assert face.score == 0


def test_overlap_equals_a_count_of_pixels():
    rng = np.random.default_rng(0)
    for _ in range(30):
        boxes = []
        masks = []
        for _ in range(2):
            left, top, width, height = rng.integers(1, 20, 4)
            boxes.append((left, top, left + width, top + height))
            mask = np.zeros((40, 40), bool)
            mask[top : top + height, left : left + width] = True
            masks.append(mask)
        expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        assert overlap(*boxes) == pytest.approx(expected)


def test_the_landmark_model_is_located_without_importing_its_package():
    assert landmark_model().stat().st_size > 50_000_000


def test_an_absent_landmark_model_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install face-recognition-models"):
        landmark_model()


def test_dlib_sees_no_face_in_noise():
    image = np.random.default_rng(0).integers(0, 255, (160, 160, 3), dtype=np.uint8)
    assert find_faces(DlibDetector(), image) == []


def test_a_black_picture_is_not_searched(monkeypatch):
    """Clips that begin black took a second of processor time for each such frame of 1080 lines."""
    detector = DlibDetector(with_points=False)
    monkeypatch.setattr(detector, "_run", lambda *_: pytest.fail("searched"))
    codec_noise = np.random.default_rng(0).integers(16, 20, (1080, 1920, 3), dtype=np.uint8)
    assert find_faces(detector, codec_noise) == []


@pytest.fixture
def photographs(shared):
    """Twelve portraits of different sources."""
    with open(shared / "faces" / "manifest.csv", newline="") as stream:
        files = [row["file"] for row in csv.DictReader(stream) if row["kind"] == "image"]
    chosen = [name for name in files if name.startswith(("deepface", "ffhq"))][:: len(files) // 24][:12]
    return [np.asarray(Image.open(shared / "faces" / name).convert("RGB")) for name in chosen]


def test_faces_have_the_boxes_of_the_published_procedure(photographs):
    """Oracle: dlib as it comes, one upsampling of the whole photograph, largest box."""
    dlib = pytest.importorskip("dlib")
    plain = dlib.get_frontal_face_detector()
    detector = DlibDetector()
    is_same, distances = [], []
    for image in photographs[:8]:
        largest = max(plain(image, 1), key=lambda box: box.width() * box.height())
        parts = detector._predictor(image, largest).parts()
        expected = similarity_matrix(np.array([(parts[i].x, parts[i].y) for i in FIVE_POINTS]))
        face = max(Tracker(detector).faces(image), key=lambda face: area(face.box))
        box = (largest.left(), largest.top(), largest.right() + 1, largest.bottom() + 1)
        is_same.append(np.abs(np.subtract(face.box, box)).max() <= 1)
        ours = similarity_matrix(face.points[list(FIVE_POINTS)])
        corners = np.array([(0, 0, 1), (256, 0, 1), (0, 256, 1), (256, 256, 1)])
        back = np.linalg.inv(np.vstack([expected, (0, 0, 1)]))
        distances.append(np.linalg.norm(ours @ back @ corners.T - corners[:, :2].T, axis=0).max())
    assert np.mean(is_same) >= 0.75
    assert np.median(distances) < 0.1
    assert max(distances) < 20


def test_a_face_that_moved_has_the_box_of_the_published_procedure(photographs):
    """It was found by a search around where it had been, whose boxes come in other steps."""
    dlib = pytest.importorskip("dlib")
    detector = DlibDetector()
    tracker, face = Tracker(detector), np.asarray(Image.fromarray(photographs[0]).resize((300, 300)))
    for left, top in ((30, 20), (110, 60)):
        image = np.full((400, 480, 3), 90, np.uint8)
        image[top : top + 300, left : left + 300] = face
        [published] = dlib.get_frontal_face_detector()(image, 1)
        [found] = tracker.faces(image)
        expected = (published.left(), published.top(), published.right() + 1, published.bottom() + 1)
        np.testing.assert_allclose(found.box, expected, atol=1)


@pytest.mark.parametrize("box", [(-300, -40, -200, 60), (620, 460, 900, 740), (0, 0, 640, 480), (0, 0, 1, 1)])
def test_a_face_may_be_looked_for_beyond_the_picture(box):
    image = np.zeros((480, 640, 3), np.uint8)
    assert DlibDetector(with_points=False).detect_near(image, box, 1.6) == []


def test_a_rotated_portrait_gives_an_upright_crop(photographs):
    detector = DlibDetector()
    image = photographs[0]
    turned = np.asarray(Image.fromarray(image).rotate(12, resample=Image.Resampling.BILINEAR))
    angles = []
    for shown in (image, turned):
        points = detector.landmarks(shown, largest_face(find_faces(detector, shown)).box)[list(FIVE_POINTS)]
        matrix = similarity_matrix(points)
        angles.append(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    assert angles[1] - angles[0] == pytest.approx(12, abs=3)
