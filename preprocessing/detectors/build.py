"""Detectors by the name in a configuration: one file each in this folder, except HOG."""

from __future__ import annotations

import importlib

from unmasked.preprocessing.detect import Detector, DlibDetector


def build_detector(name: str, landmarks: str = "dlib", *, own_boxes: bool = False) -> Detector:
    """The detector called ``name``: hog, mmod or mtcnn.

    Args:
        name: of the detector.
        landmarks: dlib's 68 points, or mtcnn: its five, without the 68-point model.
        own_boxes: give MTCNN's boxes as they are, and not as dlib's HOG would draw them.

    Raises:
        InputError: what it needs is not installed.
    """
    with_points = landmarks == "dlib"
    if name == "hog":
        found: Detector = DlibDetector(with_points=with_points)
    else:
        module = importlib.import_module(f"unmasked.preprocessing.detectors.{name}")
        found = module.build(with_points=with_points)
    if with_points and not own_boxes:
        return found
    from unmasked.preprocessing.detectors.mtcnn import FivePoints, OwnBoxes

    with_five = found if with_points else FivePoints(found)
    return OwnBoxes(found, with_five) if own_boxes else with_five
