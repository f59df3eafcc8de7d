"""dlib's CNN detector (King, arXiv:1502.00046): slow, and better in profile."""

from __future__ import annotations

import dlib
import numpy as np

from unmasked.preprocessing.detect import Box, Detection, Detector, DlibDetector, model_file

WEIGHTS_FILE = "mmod_human_face_detector.dat"
SIDE_MIN_PX = 40  # of an image: half a face; dlib fails on some that are smaller


class MmodDetector:
    """Faces from 80 px; the points are those of `DlibDetector`.

    Seconds for a large frame without a GPU.

    Raises:
        InputError: the weights or the 68-point model are not installed.
    """

    def __init__(self, *, with_points: bool = True) -> None:
        self._network = dlib.cnn_face_detection_model_v1(str(model_file(WEIGHTS_FILE)))
        self._dlib = DlibDetector(with_points=with_points)

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The faces in an (H, W, 3) uint8 RGB image; 0 is the lowest score."""
        if min(image.shape[:2]) < SIDE_MIN_PX:
            return []
        found = [(face.rect, face.confidence) for face in self._network(np.ascontiguousarray(image), 0)]
        return [
            Detection((box.left(), box.top(), box.right() + 1, box.bottom() + 1), float(score))
            for box, score in found
        ]

    def landmarks(self, image: np.ndarray, box: Box) -> np.ndarray:
        """(68, 2) float64 x, y of the face in ``box``; points may lie outside the image."""
        return self._dlib.landmarks(image, box)


def build(*, with_points: bool = True) -> Detector:
    """The detector, its weights loaded."""
    return MmodDetector(with_points=with_points)
