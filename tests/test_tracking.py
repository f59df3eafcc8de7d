"""Faces keep their track while they move, are searched for only where they were, and are not lost."""

from __future__ import annotations

import numpy as np
import pytest

from unmasked.preprocessing.align import FIVE_POINTS, template
from unmasked.preprocessing.detect import Detection
from unmasked.preprocessing.tracking import (
    BOX_CENTRE_PX,
    BOX_SIDE_PX,
    FACES_MAX,
    REFRESH,
    Tracker,
    is_plausible,
    is_same_face,
    is_same_scene,
    likely_box,
    search_around,
    settled_points,
)

BACKDROP = np.random.default_rng(0).integers(0, 90, (45, 80, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)


class Squares:
    """Takes squares of full brightness in one of the three channels for faces, from 80 px on."""

    def __init__(self, score=1.0):
        self.score = score
        self.searched = []

    def detect(self, image):
        self.searched.append(image.shape[:2])
        found = []
        for channel in range(3):
            rows, columns = np.nonzero(image[:, :, channel] > 200)
            if len(rows):
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                if min(box[2] - box[0], box[3] - box[1]) >= 80:
                    found.append(Detection(tuple(map(float, box)), self.score))
        return found

    def landmarks(self, image, box):
        centre, sides = np.mean([box[:2], box[2:]], axis=0), np.subtract(box[2:], box[:2])
        points = np.full((68, 2), centre)
        points[list(FIVE_POINTS)] = (template() - BOX_CENTRE_PX) / BOX_SIDE_PX * sides + centre
        return points


def scene(*squares, backdrop=BACKDROP):
    """A 1280 x 720 frame with squares (channel, left, top, side)."""
    image = backdrop.copy()
    for channel, left, top, side in squares:
        image[top : top + side, left : left + side, channel] = 255
    return image


def tracks_of(tracker, frames):
    return [
        {face.track: tuple(round(side) for side in face.box) for face in tracker.faces(f)} for f in frames
    ]


def test_a_moving_face_keeps_its_track_and_only_its_surroundings_are_searched():
    detector = Squares()
    frames = [scene((0, 200 + 40 * step, 200, 200)) for step in range(6)]
    seen = tracks_of(Tracker(detector), frames)
    for step, faces in enumerate(seen):
        assert list(faces) == [0]
        np.testing.assert_allclose(faces[0], (200 + 40 * step, 200, 400 + 40 * step, 400), atol=4)
    whole, *around = detector.searched
    assert whole == (360, 640)
    assert all(max(size) <= 201 for size in around)


def test_a_face_that_jumps_is_found_by_a_search_of_the_whole_frame_and_keeps_its_track_if_near():
    frames = [scene((0, 200, 200, 200)), scene((0, 380, 200, 200)), scene((0, 900, 400, 200))]
    seen = tracks_of(Tracker(Squares()), frames)
    assert [list(faces) for faces in seen] == [[0], [0], [1]]  # the last jump is too far for one person


def test_a_face_that_jumps_half_out_of_its_surroundings_is_found_without_searching_the_whole_frame():
    """Each such frame was searched at up to twice its size: 3 s of CPU for a phone clip of five seconds."""
    detector = Squares()
    frames = [scene((0, 100 + 250 * step, 200, 200)) for step in range(4)]
    assert [list(faces) for faces in tracks_of(Tracker(detector), frames)] == [[0]] * 4
    assert max(map(max, detector.searched[1:])) <= 401


def test_a_lost_face_is_not_looked_for_finer_than_it_was_until_newcomers_are_looked_for():
    detector = Squares()
    frames = [scene((0, 200, 200, 200))] + [scene()] * REFRESH
    tracks_of(Tracker(detector), frames[:-1])
    assert max(map(max, detector.searched)) <= 1024  # the reduced frame with a border around it
    tracker = Tracker(detector)
    tracks_of(tracker, frames)
    assert (1440, 2560) in detector.searched


class Leaning(Squares):
    """Points that are drawn halfway to where a wrong box would have them, as of dlib's 68-point model."""

    def __init__(self, truth):
        super().__init__()
        self.truth, self.calls = truth, 0

    def landmarks(self, image, box):
        self.calls += 1
        return super().landmarks(image, np.mean([self.truth, box], axis=0))


def test_points_are_found_again_from_the_box_that_they_imply():
    truth = np.array([100.0, 100, 300, 300])
    off = np.add(truth, (30, 20, 60, 50)).tolist()
    detector = Leaning(truth)
    points, box = settled_points(detector, None, off)
    right = Squares().landmarks(None, truth)
    first = Leaning(truth).landmarks(None, off)
    assert abs(points - right).max() < 0.3 * abs(first - right).max()
    np.testing.assert_allclose(box, truth, atol=20)
    assert detector.calls == 3
    settled = Leaning(truth)
    settled_points(settled, None, truth.tolist())
    assert settled.calls == 1  # their box is the one that they were found from


def test_a_detection_keeps_the_side_that_the_face_had_unless_it_has_clearly_grown():
    assert likely_box((0, 0, 120, 120), (5, 5, 105, 105)) == (10, 10, 110, 110)
    assert likely_box((0, 0, 140, 140), (5, 5, 105, 105)) == (0, 0, 140, 140)
    assert likely_box((0, 0, 140, 140), None) == (0, 0, 140, 140)


def test_points_of_detectors_with_boxes_of_another_kind_are_left_as_they_are():
    """Of boxes around the whole head, points were found again in ever smaller ones."""

    class Whole(Squares):
        def landmarks(self, image, box):
            points = np.full((68, 2), np.mean([box[:2], box[2:]], axis=0))
            points[list(FIVE_POINTS)] = template() / 256 * np.subtract(box[2:], box[:2]) + box[:2]
            return points

    [face] = Tracker(Whole()).faces(scene((0, 200, 200, 200)))
    expected = template() / 256 * np.subtract(face.box[2:], face.box[:2]) + face.box[:2]
    np.testing.assert_allclose(face.points[list(FIVE_POINTS)], expected)


def test_a_face_that_shrinks_below_what_the_reduced_frame_shows_is_not_lost():
    frames = [scene((0, 500, 300, side)) for side in (170, 120, 80, 60, 44)]
    assert [list(faces) for faces in tracks_of(Tracker(Squares()), frames)] == [[0]] * 5


def test_a_small_face_alone_is_found_by_the_finer_searches_of_the_first_frame():
    detector = Squares()
    [faces] = tracks_of(Tracker(detector), [scene((0, 500, 300, 42))])
    np.testing.assert_allclose(faces[0], (500, 300, 542, 342), atol=2)
    assert detector.searched == [(360, 640), (720, 1280), (1440, 2560)]


def test_two_people_keep_their_tracks_and_never_swap():
    frames = [scene((0, 200 + 30 * step, 100, 200), (1, 800 - 30 * step, 400, 180)) for step in range(8)]
    for step, faces in enumerate(tracks_of(Tracker(Squares()), frames)):
        assert faces[0][0] == pytest.approx(200 + 30 * step, abs=4)
        assert faces[1][0] == pytest.approx(800 - 30 * step, abs=4)


def test_a_face_that_is_gone_for_a_while_comes_back_to_its_track():
    here, empty = scene((0, 200, 200, 200)), scene()
    seen = tracks_of(Tracker(Squares()), [here, empty, empty, here])
    assert [list(faces) for faces in seen] == [[0], [], [], [0]]


def test_a_newcomer_is_noticed_at_the_latest_when_the_whole_frame_is_searched_again():
    frames = [scene((0, 100, 200, 200))] + [scene((0, 100, 200, 200), (1, 800, 200, 240))] * REFRESH
    seen = tracks_of(Tracker(Squares()), frames)
    assert list(seen[0]) == [0]
    assert sorted(seen[REFRESH]) == [0, 1]


def test_a_cut_begins_new_tracks_even_where_the_face_stays_in_place():
    other = np.random.default_rng(9).integers(0, 90, (45, 80, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    frames = [scene((0, 200, 200, 120)), scene((0, 200, 200, 120), backdrop=255 - other)]
    frames[1][:, :, 1:] = 255 - other[:, :, 1:]
    frames[1] = np.minimum(frames[1], 199)
    frames[1][200:320, 200:320, 0] = 255
    assert [list(faces) for faces in tracks_of(Tracker(Squares()), frames)] == [[0], [1]]


def test_a_face_that_was_lost_before_a_cut_is_not_looked_for_for_ever():
    detector = Squares()
    tracker = Tracker(detector)
    both = scene((0, 100, 200, 200), (1, 800, 200, 200))
    tracks_of(tracker, [both, scene((0, 100, 200, 200))])
    other = np.minimum(scene((0, 100, 200, 200))[::-1], 199)
    other[300:500, 300:500, 0] = 255
    tracks_of(tracker, [other])
    detector.searched.clear()
    tracks_of(tracker, [other, other])
    assert all(max(size) <= 201 for size in detector.searched)


def test_everybody_is_looked_for_when_all_faces_are_wanted():
    frame = scene((0, 100, 100, 300), (1, 700, 300, 100))
    assert len(Tracker(Squares(), everybody=True).faces(frame)) == 2
    assert len(Tracker(Squares()).faces(frame)) == 1  # 100 px are 50 in the reduced frame


def test_a_doubtful_score_is_believed_where_a_face_was_and_nowhere_else():
    detector = Squares()
    tracker = Tracker(detector)
    frame = scene((0, 200, 200, 200))
    assert tracks_of(tracker, [frame])[0].keys() == {0}
    detector.score = -0.2
    assert tracks_of(tracker, [frame])[0].keys() == {0}
    assert tracks_of(Tracker(detector), [frame]) == [{}]
    detector.score = -0.4
    assert tracks_of(tracker, [frame]) == [{}]


def test_a_crowd_is_cut_to_its_largest_faces():
    class Crowd(Squares):
        def detect(self, image):
            sides = range(10, 10 + 2 * FACES_MAX)
            return [
                Detection((40.0 * n, 0.0, 40.0 * n + side, float(side)), 1.0) for n, side in enumerate(sides)
            ]

    faces = Tracker(Crowd()).faces(np.zeros((640, 640, 3), np.uint8))
    assert sorted(face.box[3] for face in faces) == list(range(10 + FACES_MAX, 10 + 2 * FACES_MAX))


@pytest.mark.parametrize("box", [(0, 0, 30, 30), (1250, 690, 1310, 750), (400, 300, 800, 700)])
def test_a_search_around_a_box_gives_boxes_in_frame_pixels(box):
    side = round(box[2] - box[0])
    image = scene((0, max(0, box[0]), max(0, box[1]), side))
    expected = np.clip(box, 0, (1280, 720, 1280, 720))
    found = search_around(Squares(), image, tuple(map(float, box)))
    if min(expected[2] - expected[0], expected[3] - expected[1]) * min(2, 100 / side) >= 82:
        np.testing.assert_allclose(found[0].box, expected, atol=5)
    else:
        assert found == []


def test_points_must_lie_in_the_frame_and_look_like_a_face():
    face = np.zeros((68, 2)) + 150
    face[list(FIVE_POINTS)] = template() + 20
    assert is_plausible(face, (300, 300))
    assert not is_plausible(face - 400, (300, 300))  # outside
    scrambled = face.copy()
    scrambled[list(FIVE_POINTS)] = scrambled[list(FIVE_POINTS)[::-1]] * (1, 0.2)
    assert not is_plausible(scrambled, (300, 300))
    assert not is_plausible(np.full((68, 2), 50.0), (300, 300))  # all in one place


def test_growth_and_shift_between_frames_have_limits():
    before = (100.0, 100.0, 200.0, 200.0)
    assert is_same_face(before, (180.0, 100.0, 280.0, 200.0))
    assert not is_same_face(before, (210.0, 100.0, 310.0, 200.0))
    assert not is_same_face(before, (180.0, 180.0, 360.0, 360.0))


def test_one_scene_is_told_from_another():
    rng = np.random.default_rng(0)
    one, other = rng.normal(100, 40, (2, 24, 32))
    assert is_same_scene(one, one + rng.normal(0, 20, one.shape))
    assert not is_same_scene(one, other)
    assert not is_same_scene(one, one[:, :20])
    assert is_same_scene(np.full((4, 4), 7.0), np.full((4, 4), 9.0))
    assert not is_same_scene(np.full((4, 4), 7.0), np.full((4, 4), 90.0))
