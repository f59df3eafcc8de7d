"""Small videos of a bright square, and a detector that takes the square for a face.

Light on purpose: worker processes import it. A blue video makes the wicked detectors misbehave.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pandas as pd

from unmasked.preprocessing.align import FIVE_POINTS, template
from unmasked.preprocessing.detect import Box, Detection

GREY, BLUE = (60, 60, 60), (0, 0, 200)


def square_frame(index: int, *, size_px: int = 96, colour: Sequence[int] = GREY) -> np.ndarray:
    """(size_px, size_px, 3) uint8 RGB: a white square that moves to the right, 2 px a frame."""
    image = np.full((size_px, size_px, 3), colour, np.uint8)
    left = 8 + 2 * index % (size_px // 2)
    image[20 : 20 + size_px // 3, left : left + size_px // 3] = 255
    return image


def write_video(
    path: Path,
    frames: int = 12,
    *,
    draw: Callable[[int], np.ndarray] = square_frame,
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    **options: str,
) -> Path:
    """A video of ``draw(0), draw(1), …`` at 25 fps, or with time stamps ``times`` in 1/25 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = draw(0).shape[:2]
        stream.bit_rate = 4_000_000
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(draw(index)), format="rgb24")
            frame.pts = times[index] if times else index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def manifest_of(root: Path, paths: Sequence[str], kind: str = "video", **columns: object) -> pd.DataFrame:
    """A manifest with a row for each path, all real and in the test split."""
    rows = {
        "dataset": "squares",
        "root": str(root),
        "kind": kind,
        "label": 0,
        "method": "real",
        "split": "test",
    }
    videos = [path.rsplit(".", 1)[0] for path in paths]
    return pd.DataFrame({"video": videos, "path": list(paths), **rows, **columns})


class SquareDetector:
    """Finds the white square; its five points lie in it as the template's lie in the crop."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        rows, columns = np.nonzero(image.min(axis=2) > 180)
        if not len(rows):
            return []
        return [Detection((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), 1.5)]

    def landmarks(self, image: np.ndarray, box: Box) -> np.ndarray:
        points = np.zeros((68, 2))
        points[list(FIVE_POINTS)] = template() / 256 * (box[2] - box[0], box[3] - box[1]) + box[:2]
        return points


class SlowSquareDetector(SquareDetector):
    """Takes 30 ms a frame, so that a test can interrupt it."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        time.sleep(0.03)
        return super().detect(image)


class HangingDetector(SquareDetector):
    """Never comes back from a blue frame."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        if is_blue(image):
            time.sleep(3600)
        return super().detect(image)


class DyingDetector(SquareDetector):
    """Takes its process down at a blue frame, as a fault in native code does."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        if is_blue(image):
            os._exit(11)
        return super().detect(image)


class RaisingDetector(SquareDetector):
    """Raises at a blue frame."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        if is_blue(image):
            raise ArithmeticError("blue is too much")
        return super().detect(image)


def is_blue(image: np.ndarray) -> bool:
    """Whether the first pixel is blue."""
    red, _, blue = image[0, 0].astype(int)
    return blue - red > 80
