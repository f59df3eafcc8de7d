"""One manifest row to its rows of the faces table and its crops; what a worker process does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.align import FIVE_POINTS, similarity_matrix, warp
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.detect import Box, Detection, Detector, choose_face, find_faces
from unmasked.preprocessing.detectors.build import build_detector
from unmasked.preprocessing.faces import BOX, MATRIX, POINTS
from unmasked.preprocessing.video import FewerFrames, Frame, Unreadable, read_frames

Row = dict[str, Any]  # the columns of the faces table that are measured here


@dataclass(frozen=True)
class Task:
    """A video, image or sequence to be cropped, and where its crops go."""

    root: str
    path: str  # POSIX, relative to root
    kind: str
    folder: str  # POSIX, of the crops, relative to the faces table
    workdir: str  # where the worker writes the crops


def make_worker(
    config: PreprocessConfig, detector: Callable[[], Detector] | None = None
) -> Callable[[Task], list[Row]]:
    """The function that a worker process applies to its tasks; models are loaded once, here.

    Args:
        config: see `PreprocessConfig`.
        detector: builds the detector; None is the configured one.
    """
    cv2.setNumThreads(1)  # the parallelism is over videos
    built = detector() if detector else build_detector(config.detector)
    return partial(_work, config=config, detector=built)


def extract(task: Task, config: PreprocessConfig, detector: Detector) -> tuple[list[Row], dict[str, bytes]]:
    """The rows of every sampled frame, failures too, and the encoded crops by file name.

    A file that gives no frame is one row with frame -1. Nothing is written.
    """
    try:
        try:
            return _extract(task, config, detector)
        except FewerFrames as error:
            return _extract(task, config, detector, error.count)
    except Unreadable as error:
        return [failure(error.status, error.reason)], {}


def failure(status: str, reason: str, *, frame: int = -1, time_s: float = float("nan")) -> Row:
    """The row of a frame, or of a whole file (frame -1), that gave no crop."""
    return {"frame": frame, "time_s": time_s, "face": 0, "status": status, "reason": reason or None}


def _work(task: Task, *, config: PreprocessConfig, detector: Detector) -> list[Row]:
    rows, crops = extract(task, config, detector)
    folder = Path(task.workdir)
    try:
        # Without parents: the worker of a killed run must not bring back the folder that another has swept.
        folder.mkdir(exist_ok=True)
        for name, encoded in crops.items():
            (folder / name).write_bytes(encoded)
    except OSError as error:
        raise InputError(
            f"crops cannot be written to {folder} ({error}); free space or give another out="
        ) from error
    return rows


def _extract(
    task: Task, config: PreprocessConfig, detector: Detector, frame_count: int = 0
) -> tuple[list[Row], dict[str, bytes]]:
    rows: list[Row] = []
    crops: dict[str, bytes] = {}
    previous: Box | None = None
    frames = read_frames(
        Path(task.root),
        task.path,
        task.kind,
        wanted=config.frames_per_video,
        max_pixels=config.max_pixels,
        frame_count=frame_count,
    )
    for frame in frames:
        if frame.image is None:
            rows.append(failure(frame.status, frame.reason, frame=frame.index, time_s=frame.time_s))
            continue
        face = choose_face(find_faces(detector, frame.image, config.max_side_px), previous)
        if face is None:
            rows.append(failure("no_face", "", frame=frame.index, time_s=frame.time_s))
            continue
        previous = face.box
        row, crop = _crop(frame, face, detector, config)
        name = f"{frame.index:05d}_{row['face']}.{'png' if config.crop_format == 'png' else 'jpg'}"
        crops[name] = encode(crop, config)
        rows.append({**row, "crop": f"{task.folder}/{name}"})
    return rows, crops


def _crop(
    frame: Frame, face: Detection, detector: Detector, config: PreprocessConfig
) -> tuple[Row, np.ndarray]:
    """The row of a found face, without its crop's path, and the (size_px, size_px, 3) RGB crop."""
    assert frame.image is not None
    points = detector.landmarks(frame.image, face.box)[list(FIVE_POINTS)]
    matrix = similarity_matrix(points, config.size_px, config.scale)
    crop = warp(frame.image, matrix, config.size_px)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    row = {
        "frame": frame.index,
        "time_s": frame.time_s,
        "face": 0,  # one track a video
        **dict(zip(BOX, map(float, face.box), strict=True)),
        **dict(zip(POINTS, points.ravel().tolist(), strict=True)),
        **dict(zip(MATRIX, matrix.ravel().tolist(), strict=True)),
        "detector_score": face.score,
        "size_px": (face.box[2] - face.box[0] + face.box[3] - face.box[1]) / 2,
        "blur": float(
            cv2.Laplacian(grey, cv2.CV_64F).var()
        ),  # low is blurred; of the crop, in grey levels squared
        "status": "ok",
    }
    return row, crop


def encode(crop: np.ndarray, config: PreprocessConfig) -> bytes:
    """The bytes of a PNG or JPEG file of an (H, W, 3) uint8 RGB crop."""
    if config.crop_format == "png":
        # Level 1: level 9 takes ten times as long for a tenth fewer bytes.
        suffix, options = ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]
    else:
        suffix, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality]
    written, encoded = cv2.imencode(suffix, cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), options)
    assert written, "OpenCV cannot encode a crop that we made"
    return encoded.tobytes()
