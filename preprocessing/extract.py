"""What a worker does: one manifest row to its crops and rows of the faces table."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.align import (
    box_matrix,
    cut,
    five_points,
    padded_share,
    similarity_matrix,
    whole_matrix,
)
from unmasked.preprocessing.choice import Mask, rank_by_mask, rank_by_size
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.detect import Detector, area, side_px
from unmasked.preprocessing.detectors.build import build_detector
from unmasked.preprocessing.faces import BOX, MATRIX, POINTS
from unmasked.preprocessing.profiles import start_video
from unmasked.preprocessing.tracking import Face
from unmasked.preprocessing.video import FewerFrames, Frame, Unreadable, read_frames

_PNG_OPTIONS = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
]

# A file is a face crop already where, in the median over its frames, this share of what would be cut out lies
# outside the picture, and the square is larger than the picture. Real videos reach 0.21 in single frames.
PADDED_MAX = 0.3
ALREADY_CROPPED = (
    "the face fills the picture, so that {:.0%} of its crop would be empty; crops=as_is uses such pictures "
    "as they are, crops=cut (with border=reflect) cuts them nevertheless"
)
_SIDE = "side"  # of the square that is cut out, in longer sides of the picture; not written

Row = dict[str, Any]  # the columns of the faces table that are measured here


@dataclass(frozen=True)
class Task:
    """A video, image or sequence to be cropped, and where its crops go."""

    root: str
    path: str  # POSIX, relative to root
    kind: str
    folder: str  # POSIX, of the crops, relative to the faces table
    workdir: str  # where the worker writes the crops
    mask: str = ""  # POSIX, relative to root: the manipulation mask that decides which face is kept
    crops: str = "cut"  # see `unmasked.preprocessing.config.crops_of`
    frames: tuple[int, ...] = ()  # indices of those that are looked at; none samples them as configured


def make_worker(
    config: PreprocessConfig, detector: Callable[[], Detector] | None = None
) -> Callable[[Task], list[Row]]:
    """The function that a worker process applies to its tasks; models are loaded once, here.

    Args:
        config: see `PreprocessConfig`.
        detector: builds the detector; None is the configured one.
    """
    cv2.setNumThreads(1)  # the parallelism is over videos
    built = (
        detector()
        if detector
        else build_detector(config.detector, config.landmarks, own_boxes=config.framing == "box")
    )
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
        # Without parents: the worker of a killed run must not bring back the folder that another run has
        # removed.
        folder.mkdir(exist_ok=True)
        for name, encoded in crops.items():
            with open(folder / name, "wb") as stream:
                stream.write(encoded)
                stream.flush()
                os.fsync(stream.fileno())  # the part that says that it is there must not outlive it
    except OSError as error:
        raise InputError(
            f"crops cannot be written to {folder} ({error}); free space or give another out="
        ) from error
    return rows


@dataclass(frozen=True)
class _Sampled:
    """A sampled frame: its row should no face be kept, and by track the faces in it."""

    nothing: Row
    faces: list[Face]
    cuts: dict[int, tuple[Row, bytes]]  # rows without file name, encoded crops


def _extract(
    task: Task, config: PreprocessConfig, detector: Detector, frame_count: int = 0
) -> tuple[list[Row], dict[str, bytes]]:
    faces_in = start_video(config, detector)
    mask = (
        Mask(Path(task.root), task.mask, task.kind, config) if task.mask and task.crops != "as_is" else None
    )
    sampled: list[_Sampled] = []
    weights: list[dict[int, float]] = []
    whole: list[tuple[Row, bytes]] = []
    frames = read_frames(
        Path(task.root),
        task.path,
        task.kind,
        wanted=task.frames or config.frames_per_video,
        gap_s=config.gap_s,
        max_pixels=config.max_pixels,
        frame_count=frame_count,
        decode_all=config.profile == "parity",
    )
    for frame in frames:
        nothing = failure(
            "no_face" if frame.image is not None else frame.status,
            frame.reason,
            frame=frame.index,
            time_s=frame.time_s,
        )
        nothing["conversion"] = frame.conversion or None
        faces = faces_in(frame.image) if frame.image is not None else []
        if task.crops == "as_is" and frame.image is not None:
            whole.append(_signed_whole(frame, faces, config))
            continue
        cuts = {face.track: _crop(frame, face, config) for face in faces}
        sampled.append(_Sampled(nothing, faces, cuts))
        if mask is not None and frame.image is not None:
            weights.append(mask.shares(frame.index, frame.image.shape[:2], faces))
    if task.crops == "as_is":
        return _as_is(sampled, whole, task, config)
    ranking = rank_by_size([frame.faces for frame in sampled]) if mask is None else rank_by_mask(weights)
    rows, crops = _keep(sampled, ranking, task, config)
    sides = [row.pop(_SIDE) for row in rows if _SIDE in row]
    return _noticed(rows, crops, sides) if task.crops == "auto" else (rows, crops)


def _noticed(
    rows: list[Row], crops: dict[str, bytes], sides: list[float]
) -> tuple[list[Row], dict[str, bytes]]:
    """Rows and crops as they are; without crops, and with a status that says so, where the file is a crop."""
    kept = [row for row in rows if row["status"] == "ok"]
    if not kept or np.median([row["padded"] for row in kept]) < PADDED_MAX or np.median(sides) < 1:
        return rows, crops
    for row in kept:
        row.update(status="already_cropped", crop=None, reason=ALREADY_CROPPED.format(row["padded"]))
    return rows, {}


def _as_is(
    failed: list[_Sampled], whole: list[tuple[Row, bytes]], task: Task, config: PreprocessConfig
) -> tuple[list[Row], dict[str, bytes]]:
    """Rows and crops of frames that are resized whole, in order, and rows of those that could not be read."""
    suffix = "png" if config.crop_format == "png" else "jpg"
    rows = [frame.nothing for frame in failed]
    crops: dict[str, bytes] = {}
    for row, encoded in whole:
        name = f"{row['frame']:05d}_0.{suffix}"
        crops[name] = encoded
        rows.append({**row, "face": 0, "crop": f"{task.folder}/{name}"})
    return sorted(rows, key=lambda row: row["frame"]), crops


def _keep(
    sampled: list[_Sampled], ranking: list[int], task: Task, config: PreprocessConfig
) -> tuple[list[Row], dict[str, bytes]]:
    """Rows and crops by file name: of every frame the first-ranked track that is in it, or all of them."""
    rows: list[Row] = []
    crops: dict[str, bytes] = {}
    suffix = "png" if config.crop_format == "png" else "jpg"
    for frame in sampled:
        present = [number for number, track in enumerate(ranking) if track in frame.cuts]
        others = 0 if config.faces == "all" else len(frame.cuts) - 1
        for number in present if config.faces == "all" else present[:1]:
            row, encoded = frame.cuts[ranking[number]]
            name = f"{row['frame']:05d}_{number}.{suffix}"
            crops[name] = encoded
            rows.append({**row, "face": number, "crop": f"{task.folder}/{name}", "others": others})
        if not present:
            reason = "the mask covers none of the faces" if frame.cuts else None
            rows.append({**frame.nothing, "reason": reason or frame.nothing["reason"]})
    return rows, crops


def _crop(frame: Frame, face: Face, config: PreprocessConfig) -> tuple[Row, bytes]:
    """The row of a found face, without its number and its crop's path, and the encoded crop."""
    assert frame.image is not None
    if config.framing == "box":
        matrix = box_matrix(face.box, config.size_px, config.scale)
    else:
        matrix = similarity_matrix(five_points(face.points), config.size_px, config.scale)
    crops = "cut" if config.border == "black" else "cut_reflect"
    row, encoded = _read_measurements(frame, matrix, crops, config)
    side_px_cut = config.size_px / np.hypot(*matrix[:, 0])
    row[_SIDE] = float(side_px_cut / max(frame.image.shape[:2]))
    return {**row, **_of_face(face)}, encoded


def _signed_whole(frame: Frame, faces: list[Face], config: PreprocessConfig) -> tuple[Row, bytes]:
    """The row and crop of a frame that is a crop already; its face is measured where one is found."""
    assert frame.image is not None
    height, width = frame.image.shape[:2]
    row, encoded = _read_measurements(frame, whole_matrix(width, height, config.size_px), "as_is", config)
    face = max(faces, key=lambda face: area(face.box), default=None)
    return ({**row, **_of_face(face)} if face else row), encoded


def _of_face(face: Face) -> Row:
    points = five_points(face.points)
    return {
        **dict(zip(BOX, map(float, face.box), strict=True)),
        **dict(zip(POINTS, points.ravel().tolist(), strict=True)),
        "detector_score": face.score,
        "size_px": side_px(face.box),
    }


def _read_measurements(
    frame: Frame, matrix: np.ndarray, crops: str, config: PreprocessConfig
) -> tuple[Row, bytes]:
    """The columns that every crop has, and the encoded crop."""
    assert frame.image is not None
    crop = cut(frame.image, matrix, config.size_px, crops)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    row = {
        "frame": frame.index,
        "time_s": frame.time_s,
        **dict(zip(MATRIX, matrix.ravel().tolist(), strict=True)),
        "padded": padded_share(matrix, frame.image.shape, config.size_px) if crops != "as_is" else 0.0,
        "crops": crops,
        "conversion": frame.conversion or None,
        "blur": float(
            cv2.Laplacian(grey, cv2.CV_64F).var()
        ),  # low is blurred; of the crop, in grey levels squared
        "status": "ok",
    }
    return row, encode(crop, config)


def encode(crop: np.ndarray, config: PreprocessConfig) -> bytes:
    """The bytes of a PNG or JPEG file of an (H, W, 3) uint8 RGB crop."""
    if config.crop_format == "png":
        # An eighth larger than level 9 with all filters tried, in a fortieth of the time.
        suffix, options = ".png", _PNG_OPTIONS
    else:
        suffix, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality]
    written, encoded = cv2.imencode(suffix, cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), options)
    assert written, "OpenCV cannot encode a crop that we made"
    return encoded.tobytes()
