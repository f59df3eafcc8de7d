"""Faces followed over sampled frames, each searched for only where it was last."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from unmasked.preprocessing.align import five_points, similarity_matrix, template
from unmasked.preprocessing.detect import (
    FACE_MIN_PX,
    Box,
    Detection,
    Detector,
    DlibDetector,
    area,
    find_faces,
    overlap,
    side_px,
)

# Side of a face in the image that it is searched in: the detectors see faces from 80 px, and cost grows with
# the square.
SEARCHED_FACE_PX = 100
# Sides of the searched square in sides of the face: near where it was; where it is not there, further off.
SURROUNDINGS = (1.6, 4.0)
# A score that is believed where a face was before; elsewhere the detector's own threshold of 0 holds.
SCORE_MIN = -0.3
IOU_SAME_FACE_MIN = 0.3
SHIFTS_MAX = (1.0, 1.6)  # between sampled frames, in sides of the face, in each of them
GROWTH_MAX = 1.6  # between sampled frames
# dlib's HOG box in an aligned crop of 256 px: the median centre and side in 190 frames of six videos.
BOX_CENTRE_PX, BOX_SIDE_PX = np.array((128.8, 154.0)), 146.0
# Overlap of the box that points were found from with the one that they imply, from which they are final.
SAME_BOX_MIN = 0.86
# Overlap of a face with where it was from which it lay well within what was searched.
UNMOVED_MIN = 0.5
STEP = 1.3  # between sides of detectors' boxes; less says nothing about the face
REFRESH = 8  # sampled frames after which the whole frame is searched for newcomers
PATIENCE = 3  # frames in which the whole frame is searched for a face that was lost
FACES_MAX = 8  # in one frame, the largest
CORRELATION_MIN = 0.4  # of two frames of one scene, at a few hundred pixels
# Of the five points to the template in a crop of 256 px: 13 px at most in 1,400 faces of 46 real videos.
RESIDUAL_MAX_PX = 24.0


class Face(NamedTuple):
    """A face in one frame, and the track that it belongs to."""

    track: int
    box: Box
    score: float
    points: np.ndarray  # (68, 2) float64 x, y in frame pixels


class Tracker:
    """The faces of a video's sampled frames in order.

    Those of one person bear one track number.
    A track ends where the scene cuts or its face is not found again. One tracker for each video.

    Args:
        detector: see `Detector`.
        max_side_px: the whole frame is searched reduced to this longer side, and finer where that finds none.
        everybody: search for newcomers at twice that size, not only for faces that could be the main one.
    """

    def __init__(self, detector: Detector, max_side_px: int = 640, *, everybody: bool = False) -> None:
        self._detector = detector
        self._max_side_px = max_side_px * (2 if everybody else 1)
        self._everybody = everybody
        self._boxes: dict[int, Box] = {}  # of the tracks that go on, where they were last
        self._missed: dict[int, int] = {}  # sampled frames since then
        self._tracks = self._frames = 0
        self._scene: np.ndarray | None = None

    def faces(self, image: np.ndarray) -> list[Face]:
        """The faces in the next (H, W, 3) uint8 RGB frame, at most `FACES_MAX`, ordered by track."""
        if self._is_cut(image):
            self._boxes, self._missed = {}, {}
        found = self._follow(image)
        if not found or self._is_looking():
            found = self._search(image, found, self._max_side_px)
        elif self._frames % REFRESH == 0:
            found = self._search(image, found, self._newcomer_side_px(image, found))
        self._frames += 1
        faces = []
        for track, detection in sorted(found.items()):
            seen = self._refine(image, detection, self._boxes.get(track))
            points, box = self._points(image, seen, self._boxes.get(track))
            if is_plausible(points, image.shape[:2]):
                self._boxes[track], self._missed[track] = box, 0
                faces.append(Face(track, seen.box, seen.score, points))
        return faces

    def _refine(self, image: np.ndarray, face: Detection, before: Box | None) -> Detection:
        """The detection in the published procedure's box, where that is found."""
        if not isinstance(self._detector, DlibDetector):
            return face
        if face.is_published and before is not None and overlap(face.box, before) >= UNMOVED_MIN:
            return face
        # At the edge of what was searched a window of another size may have been the better one.
        around = usual_box(self._detector.landmarks(image, face.box)) or face.box
        again = self._detector.detect_near(image, around, SURROUNDINGS[0])
        same = [one for one in again if one.is_published and overlap(one.box, face.box) >= IOU_SAME_FACE_MIN]
        return max(same, key=lambda one: one.score, default=face)

    def _points(self, image: np.ndarray, face: Detection, before: Box | None) -> tuple[np.ndarray, Box]:
        """The points of a detected face, and the box that it is followed by."""
        # Other detectors' boxes have their own relation to the points.
        if not isinstance(self._detector, DlibDetector):
            return self._detector.landmarks(image, face.box), face.box
        if not face.is_published:
            return settled_points(self._detector, image, likely_box(face.box, before))
        points = self._detector.landmarks(image, face.box)
        usual = usual_box(points)  # its side has no steps
        return points, usual if usual and overlap(usual, face.box) >= 1 / STEP**2 else face.box

    def _is_cut(self, image: np.ndarray) -> bool:
        """True if this frame belongs to another scene than the last one."""
        before, self._scene = self._scene, _thumbnail(image)
        return before is not None and not is_same_scene(before, self._scene)

    def _is_looking(self) -> bool:
        """True if a track was lost not long ago."""
        return any(0 < missed <= PATIENCE for missed in self._missed.values())

    def _follow(self, image: np.ndarray) -> dict[int, Detection]:
        """The detection that continues each track; tracks without one are counted as missed.

        A track that is lost for longer is not looked for here any more; a search of the whole frame may
        still find its face in its place.
        """
        found: dict[int, Detection] = {}
        near = [track for track in self._boxes if self._missed[track] <= PATIENCE]
        # All are looked for near by before one is looked for further off, where others may be.
        for surroundings, shift_max in zip(SURROUNDINGS, SHIFTS_MAX, strict=True):
            for track in [track for track in near if track not in found]:
                box = self._boxes[track]
                seen = self._search_near(image, box, surroundings)
                same = [
                    face
                    for face in seen
                    if face.score >= SCORE_MIN
                    and is_same_face(box, face.box, shift_max)
                    and _is_new(face, found)
                ]
                if same:
                    found[track] = max(same, key=lambda face: overlap(face.box, self._boxes[track]))
        for track in self._boxes.keys() - found.keys():
            self._missed[track] += 1
        return found

    def _search_near(self, image: np.ndarray, box: Box, surroundings: float) -> list[Detection]:
        if isinstance(self._detector, DlibDetector) and surroundings == SURROUNDINGS[0]:
            return self._detector.detect_near(image, box, surroundings)
        return search_around(self._detector, image, box, surroundings)

    def _newcomer_side_px(self, image: np.ndarray, found: dict[int, Detection]) -> int:
        """Longer side of the image in which a newcomer as large as the largest face is seen."""
        if self._everybody:
            return self._max_side_px
        largest_px = max(side_px(face.box) for face in found.values())
        return min(self._max_side_px, round(max(image.shape[:2]) * SEARCHED_FACE_PX / largest_px))

    def _search(
        self, image: np.ndarray, found: dict[int, Detection], max_side_px: int
    ) -> dict[int, Detection]:
        """``found`` and what a search of the whole frame adds: lost faces and newcomers."""
        found = dict(found)
        is_fine = not found  # finer searches cost ten times as much: only where there is no face yet
        # And not finer than what shows the scene's smallest face, unless it is time to look for newcomers.
        sides = [side_px(box) for box in self._boxes.values()] if self._frames % REFRESH else []
        finest = GROWTH_MAX * FACE_MIN_PX / min(sides) if sides else 2.0
        for face in find_faces(self._detector, image, max_side_px, is_fine=is_fine, finest=finest):
            if _is_new(face, found):
                found[self._track_of(face, found)] = face
        largest = sorted(found, key=lambda track: area(found[track].box), reverse=True)[:FACES_MAX]
        return {track: found[track] for track in largest}

    def _track_of(self, face: Detection, found: dict[int, Detection]) -> int:
        """The lost track that the face continues, or the number of a new one."""
        lost = [track for track, box in self._boxes.items() if track not in found]
        same = [track for track in lost if is_same_face(self._boxes[track], face.box)]
        if same:
            return max(same, key=lambda track: overlap(self._boxes[track], face.box))
        self._tracks += 1
        return self._tracks - 1


def settled_points(detector: Detector, image: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """The points of the face in ``box``, and the box that such points usually have.

    Detectors' boxes come in steps of a fifth and lie up to a sixth off, and the 68-point model then errs. So
    it is run again from the box that belongs to its first points, where that is another.
    """
    points = detector.landmarks(image, box)
    for _ in range(2):
        usual = usual_box(points)
        if usual is None or overlap(box, usual) >= SAME_BOX_MIN:
            break
        points, box = detector.landmarks(image, usual), usual
    return points, usual_box(points) or box


def likely_box(now: Box, before: Box | None) -> Box:
    """A detection with the side that the face had before, unless it clearly changed."""
    if before is None or not 1 / STEP < side_px(before) / side_px(now) < STEP:
        return now
    x, y, half = (now[0] + now[2]) / 2, (now[1] + now[3]) / 2, side_px(before) / 2
    return (x - half, y - half, x + half, y + half)


def usual_box(points: np.ndarray) -> Box | None:
    """The box that dlib's HOG usually gives a face with these (68, 2) points.

    None if all points are one.
    """
    five = five_points(points)
    if np.ptp(five, axis=0).max() == 0:
        return None
    matrix = similarity_matrix(five)
    x, y = np.linalg.solve(matrix[:, :2], BOX_CENTRE_PX - matrix[:, 2])
    half = BOX_SIDE_PX / np.hypot(*matrix[:, 0]) / 2
    return (x - half, y - half, x + half, y + half)


def search_around(
    detector: Detector, image: np.ndarray, box: Box, surroundings: float = SURROUNDINGS[0]
) -> list[Detection]:
    """The faces in a square around ``box``, at the size that suits it, in image pixels."""
    reach = side_px(box) * surroundings / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    height, width = image.shape[:2]
    left, top = max(0, round(x - reach)), max(0, round(y - reach))
    part = image[top : min(height, round(y + reach)), left : min(width, round(x + reach))]
    if min(part.shape[:2]) < 2:
        return []
    factor = min(2.0, SEARCHED_FACE_PX / side_px(box))
    size = (max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor)))
    while part.shape[0] >= 2 * size[1] and part.shape[1] >= 2 * size[0]:  # by halves: a fifth of the time
        half = (part.shape[1] // 2, part.shape[0] // 2)
        part = cv2.resize(part[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
    searched = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)
    shift = np.array((left, top, left, top))
    return [
        Detection(tuple((np.array(face.box) / factor + shift).tolist()), face.score)
        for face in detector.detect(searched)
    ]


def is_same_face(before: Box, now: Box, shift_max: float = SHIFTS_MAX[0]) -> bool:
    """True if a face can have moved and grown so between two sampled frames of one scene.

    >>> is_same_face((0, 0, 10, 10), (4, 0, 14, 10)), is_same_face((0, 0, 10, 10), (20, 0, 30, 10))
    (True, False)
    """
    if overlap(before, now) >= IOU_SAME_FACE_MIN:
        return True
    growth = side_px(now) / side_px(before)
    shift = np.hypot(now[0] + now[2] - before[0] - before[2], now[1] + now[3] - before[1] - before[3]) / 2
    return bool(shift <= shift_max * side_px(before) and 1 / GROWTH_MAX <= growth <= GROWTH_MAX)


def is_plausible(points: np.ndarray, shape: tuple[int, int]) -> bool:
    """True if points can be a face's.

    Most of them in the frame, the five near the template once aligned.

    Args:
        points: (68, 2) or (5, 2) x, y in frame pixels.
        shape: height and width of the frame.
    """
    inside = ((points >= 0) & (points < shape[::-1])).all(axis=1)
    five = five_points(points)
    if inside.mean() < 0.5 or np.ptp(five, axis=0).max() == 0:
        return False
    matrix = similarity_matrix(five)
    aligned = five @ matrix[:, :2].T + matrix[:, 2]
    return bool(np.sqrt(((aligned - template()) ** 2).sum(axis=1).mean()) <= RESIDUAL_MAX_PX)


def is_same_scene(before: np.ndarray, now: np.ndarray) -> bool:
    """True if two thumbnails of one shape look alike; another shape is another scene."""
    if before.shape != now.shape:
        return False
    if min(before.std(), now.std()) < 1:  # a flat picture correlates with nothing
        return bool(abs(before - now).mean() < 16)
    return bool(np.corrcoef(before.ravel(), now.ravel())[0, 1] >= CORRELATION_MIN)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """A few hundred grey pixels of an image, picked: to average would cost more than the search."""
    step = max(1, min(image.shape[:2]) // 24)
    return image[step // 2 :: step, step // 2 :: step].mean(axis=2)


def _is_new(face: Detection, found: dict[int, Detection]) -> bool:
    return all(overlap(face.box, other.box) < IOU_SAME_FACE_MIN for other in found.values())
