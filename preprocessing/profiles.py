"""The two procedures that find faces: ``fast``, and ``parity`` with published crops."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.align import five_points, similarity_matrix, warp
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.detect import Detector, DlibDetector, largest_face
from unmasked.preprocessing.tracking import Face, Tracker

# The faces in the next sampled frame, (H, W, 3) uint8 RGB; holds what it has seen of one video.
FindFaces = Callable[[np.ndarray], list[Face]]


def start_video(config: PreprocessConfig, detector: Detector) -> FindFaces:
    """What finds the faces in the sampled frames of one video, which are given to it in order.

    Raises:
        InputError: profile=parity with another detector than dlib's HOG.
    """
    if config.profile == "fast":
        return Tracker(detector, config.max_side_px, everybody=config.faces == "all").faces
    if not isinstance(detector, DlibDetector):
        raise InputError(
            f"profile=parity with the detector {type(detector).__name__}: the published procedure uses "
            "dlib's HOG; set detector=hog or profile=fast"
        )
    return lambda image: published_faces(detector, image, config.size_px, config.scale)


def published_faces(
    detector: DlibDetector, image: np.ndarray, size_px: int = 256, scale: float = 1.3
) -> list[Face]:
    """The one face that the published preprocessing crops from a frame.

    [] where it drops the frame.
    Yan et al., "DeepfakeBench", NeurIPS 2023: dlib's HOG on the whole frame, doubled; the face with the
    largest box; its crop, with red and blue swapped, is searched again, and without a face there the frame
    is lost. (Their 81-point model extends the 68-point one that is used here; points 37, 44, 30, 49, 55
    mean the same in both.)
    """
    face = largest_face(detector.detect_doubled(image))
    if face is None:
        return []
    points = detector.landmarks(image, face.box)
    crop = warp(image, similarity_matrix(five_points(points), size_px, scale), size_px)
    if not detector.detect_doubled(cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)):
        return []
    return [Face(0, face.box, face.score, points)]
