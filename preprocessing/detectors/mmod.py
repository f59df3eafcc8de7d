"""dlib's CNN detector (max-margin object detection, King, arXiv:1502.00046): slow, and surer in profile."""

from __future__ import annotations

import dlib
import numpy as np

from unmasked.preprocessing.detect import Detection, Detector, DlibDetector, model_file

WEIGHTS_FILE = "mmod_human_face_detector.dat"


class MmodDetector(DlibDetector):
    """Faces from 80 px like `DlibDetector`, whose 68-point model it shares; seconds for a large frame.

    Raises:
        InputError: the weights or the 68-point model are not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._network = dlib.cnn_face_detection_model_v1(str(model_file(WEIGHTS_FILE)))

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The faces in an (H, W, 3) uint8 RGB image; a score of 0 is the detector's own threshold."""
        return [
            Detection(
                (found.rect.left(), found.rect.top(), found.rect.right() + 1, found.rect.bottom() + 1),
                float(found.confidence),
            )
            for found in self._network(np.ascontiguousarray(image), 0)
        ]


def build() -> Detector:
    """The detector, its weights loaded."""
    return MmodDetector()
