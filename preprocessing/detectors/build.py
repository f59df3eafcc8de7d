"""Detectors by the name in a configuration: one file each in this folder, except HOG."""

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
