"""Detectors by the name that a configuration gives them: one file each in this folder, but for HOG."""

from __future__ import annotations

import importlib

from unmasked.preprocessing.detect import Detector, DlibDetector


def build_detector(name: str) -> Detector:
    """The detector called ``name``: hog, mmod or mtcnn.

    Raises:
        InputError: what it needs is not installed.
    """
    if name == "hog":
        return DlibDetector()
    module = importlib.import_module(f"unmasked.preprocessing.detectors.{name}")
    return module.build()
