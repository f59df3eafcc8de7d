"""parity crops what the published procedure crops, fast the same faces; a chosen face is the one kept."""

from __future__ import annotations

from functools import lru_cache

import cv2
import dlib
import numpy as np
import pytest
from preprocessing_fakes import SquareDetector, manifest_of, square_frame, write_video
from pydantic import ValidationError

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.align import FIVE_POINTS, similarity_matrix, warp
from unmasked.preprocessing.choice import rank_by_mask, rank_by_size
from unmasked.preprocessing.config import PreprocessConfig, recipe, recipe_hash
from unmasked.preprocessing.detect import Detection, DlibDetector
from unmasked.preprocessing.extract import Task, extract
from unmasked.preprocessing.faces import MATRIX
from unmasked.preprocessing.profiles import published_faces
from unmasked.preprocessing.run import preprocess
from unmasked.preprocessing.tracking import Face

PEOPLE = {"left": (0, (20, 30)), "right": (1, (190, 60))}  # channel and corner; 100 and 80 px


class TwoSquares(SquareDetector):
    """Takes a red square and a green one for faces."""

    def detect(self, image):
        found = []
        for channel in (0, 1):
            rows, columns = np.nonzero((image[:, :, channel] > 170) & (image[:, :, 1 - channel] < 100))
            if len(rows) > 400:
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                found.append(Detection(tuple(map(float, box)), 1.0))
        return found


def two_people(index, *, sides=(100, 80), right_from=0):
    image = np.full((192, 320, 3), 20, np.uint8)
    image[30 : 30 + sides[0], 20 : 20 + sides[0], 0] = 255
    if index >= right_from:
        image[60 : 60 + sides[1], 190 : 190 + sides[1], 1] = 255
    return image


def mask_of_the_right(index):
    image = np.zeros((192, 320, 3), np.uint8)
    image[70:130, 200:260] = 255
    return image


def rows_of(root, *, mask="", **settings):
    config = PreprocessConfig(frames_per_video=4, size_px=64, **settings)
    task = Task(str(root), "a.mp4", "video", "crops/v", "work", mask)
    rows, crops = extract(task, config, TwoSquares())
    assert sorted(crops) == sorted(row["crop"].rsplit("/", 1)[1] for row in rows if row["status"] == "ok")
    return rows


def test_the_largest_face_is_kept_and_its_track_is_number_0(tmp_path):
    write_video(tmp_path / "a.mp4", 8, draw=two_people)
    rows = rows_of(tmp_path)
    assert [(row["frame"], row["face"], row["status"]) for row in rows] == [
        (i, 0, "ok") for i in (0, 2, 4, 7)
    ]
    assert all(row["box_left"] == pytest.approx(20, abs=3) for row in rows)


def test_who_is_there_for_longer_wins_over_who_is_larger_for_a_moment(tmp_path):
    write_video(tmp_path / "a.mp4", 16, draw=lambda index: two_people(index, sides=(80, 100), right_from=15))
    rows = rows_of(tmp_path)
    assert [row["face"] for row in rows] == [0, 0, 0, 0]
    assert all(row["box_left"] == pytest.approx(20, abs=3) for row in rows)


def test_all_faces_have_a_row_each_and_keep_their_number(tmp_path):
    write_video(tmp_path / "a.mp4", 8, draw=two_people)
    rows = rows_of(tmp_path, faces="all")
    assert [(row["frame"], row["face"]) for row in rows] == [(i, n) for i in (0, 2, 4, 7) for n in (0, 1)]
    for row in rows:
        assert row["box_left"] == pytest.approx((20, 190)[row["face"]], abs=3)
        assert row["crop"] == f"crops/v/{row['frame']:05d}_{row['face']}.png"


def test_the_manipulated_face_is_kept_though_another_is_larger(tmp_path):
    write_video(tmp_path / "a.mp4", 8, draw=two_people)
    write_video(tmp_path / "mask.mp4", 8, draw=mask_of_the_right)
    rows = rows_of(tmp_path, faces="mask", mask="mask.mp4")
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert all(row["box_left"] == pytest.approx(190, abs=3) for row in rows)


def test_a_mask_of_half_the_size_covers_the_same_face(tmp_path):
    write_video(tmp_path / "a.mp4", 8, draw=two_people)
    write_video(tmp_path / "mask.mp4", 8, draw=lambda index: mask_of_the_right(index)[::2, ::2])
    rows = rows_of(tmp_path, faces="mask", mask="mask.mp4")
    assert all(row["box_left"] == pytest.approx(190, abs=3) for row in rows)


def test_a_mask_that_covers_nobody_keeps_nobody_and_says_so(tmp_path):
    write_video(tmp_path / "a.mp4", 8, draw=two_people)
    write_video(tmp_path / "mask.mp4", 8, draw=lambda index: np.zeros((192, 320, 3), np.uint8))
    rows = rows_of(tmp_path, faces="mask", mask="mask.mp4")
    assert {(row["status"], row["reason"]) for row in rows} == {
        ("no_face", "the mask covers none of the faces")
    }


def test_a_mask_that_cannot_be_read_is_said_and_no_face_is_guessed(tmp_path):
    write_video(tmp_path / "a.mp4", 8, draw=two_people)
    [row] = rows_of(tmp_path, faces="mask", mask="gone.mp4")
    assert (row["frame"], row["status"]) == (-1, "missing_file")
    assert row["reason"].startswith("the manipulation mask: ")


def test_masks_of_a_manifest_are_used_only_where_they_are_asked_for(tmp_path):
    write_video(tmp_path / "a.mp4", 8, draw=two_people)
    write_video(tmp_path / "mask.mp4", 8, draw=mask_of_the_right)
    manifest = manifest_of(tmp_path, ["a.mp4"], mask="mask.mp4")
    for faces, left in (("largest", 20), ("mask", 190)):
        config = PreprocessConfig(frames_per_video=2, size_px=64, workers=1, faces=faces)
        table = preprocess(manifest, tmp_path / faces, config, detector=TwoSquares)
        np.testing.assert_allclose(table["box_left"], left, atol=3)


def faces_of(*sizes):
    return [Face(track, (0.0, 0.0, side, side), 1.0, np.zeros((68, 2))) for track, side in sizes]


def test_tracks_rank_by_area_summed_over_frames():
    frames = [faces_of((0, 10), (1, 8)), faces_of((1, 8)), faces_of((2, 11))]
    assert rank_by_size(frames) == [1, 2, 0]  # 128, 121, 100
    assert rank_by_size([[], []]) == []


def test_tracks_that_the_mask_does_not_cover_are_no_candidates():
    shares = [{0: 0.05, 1: 0.8}, {0: 0.1, 2: 0.9}, {1: 0.7}, {0: float("nan")}]
    assert rank_by_mask(shares) == [1, 2]


# The published procedure


@pytest.mark.parametrize(
    "changed",
    [{"size_px": 128}, {"scale": 1.0}, {"faces": "all"}, {"crop_format": "jpeg"}, {"detector": "mmod"}],
)
def test_parity_with_other_settings_than_the_published_is_refused(changed):
    name = next(iter(changed))
    with pytest.raises(ValidationError, match=f"{name}=.* is not what profile=parity does"):
        PreprocessConfig(profile="parity", **changed)


def test_parity_needs_the_detector_of_the_published_procedure(tmp_path):
    write_video(tmp_path / "a.mp4", 2)
    task = Task(str(tmp_path), "a.mp4", "video", "c", "w")
    with pytest.raises(InputError, match=r"SquareDetector.*detector=hog"):
        extract(task, PreprocessConfig(profile="parity"), SquareDetector())


def test_profile_and_choice_of_faces_are_part_of_the_recipe():
    hashes = {
        recipe_hash(recipe(PreprocessConfig(**settings)))
        for settings in ({}, {"profile": "parity"}, {"faces": "mask"}, {"faces": "all"})
    }
    assert len(hashes) == 4
    assert recipe(PreprocessConfig(profile="parity")) == recipe(
        PreprocessConfig(profile="parity", max_side_px=320)
    )


def test_parity_drops_a_frame_whose_crop_shows_the_detector_no_face():
    class OnlyOnce(DlibDetector):
        def __init__(self):
            self.searched = []

        def detect_doubled(self, image):
            self.searched.append(image.copy())
            return [Detection((10, 10, 90, 90), 1.0)] if len(self.searched) == 1 else []

        def landmarks(self, image, box):
            return SquareDetector().landmarks(image, box)

    detector = OnlyOnce()
    image = square_frame(0, size_px=100, colour=(250, 10, 10))
    assert published_faces(detector, image) == []
    assert detector.searched[1].shape == (256, 256, 3)
    assert detector.searched[1][-1, -1].tolist() in ([10, 10, 250], [0, 0, 0])  # red and blue are swapped


@lru_cache
def plain_matrices(path, wanted):
    """Oracle: OpenCV and dlib as they come, in the order of the published procedure."""
    detect, model = dlib.get_frontal_face_detector(), DlibDetector()._predictor
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    matrices = {}
    for index in range(count):
        image = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
        if index not in {int(position) for position in np.linspace(0, count - 1, wanted)}:
            continue
        boxes = detect(image, 1)
        if not boxes:
            continue
        parts = model(image, max(boxes, key=lambda box: box.width() * box.height())).parts()
        matrix = similarity_matrix(np.array([(parts[i].x, parts[i].y) for i in FIVE_POINTS]))
        if detect(cv2.cvtColor(warp(image, matrix), cv2.COLOR_RGB2BGR), 1):
            matrices[index] = (matrix, warp(image, matrix))
    return matrices


REAL = ["faces/edtalk/real/expression_source.mp4", "faces/grid/real/bbaf2n.mpg"]


@pytest.mark.parametrize("path", REAL)
def test_parity_gives_the_pixels_of_the_plain_procedure(shared, path):
    expected = plain_matrices(shared / path, 4)
    task = Task(str(shared), path, "video", "c", "w")
    rows, crops = extract(task, PreprocessConfig(profile="parity", frames_per_video=4), DlibDetector())
    found = {row["frame"]: row for row in rows if row["status"] == "ok"}
    assert sorted(found) == sorted(expected)
    for index, (matrix, crop) in expected.items():
        assert np.array_equal([found[index][name] for name in MATRIX], matrix.ravel())
        encoded = np.frombuffer(crops[f"{index:05d}_0.png"], np.uint8)
        assert np.array_equal(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), crop)


@pytest.mark.parametrize("path", REAL)
def test_fast_crops_the_faces_of_the_plain_procedure(shared, path):
    expected = plain_matrices(shared / path, 4)
    task = Task(str(shared), path, "video", "c", "w")
    rows, _ = extract(task, PreprocessConfig(frames_per_video=4), DlibDetector())
    found = {row["frame"]: np.array([row[name] for name in MATRIX]) for row in rows if row["status"] == "ok"}
    corners = np.array([(0, 0, 1), (256, 0, 1), (0, 256, 1), (256, 256, 1)])
    distances = []
    for index, (matrix, _) in expected.items():
        back = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))
        moved = found[index].reshape(2, 3) @ back @ corners.T
        distances.append(np.linalg.norm(moved - corners[:, :2].T, axis=0).max())
    assert np.median(distances) < 4
    assert max(distances) < 20
