"""Frames written as H.264 video, and the traces that posting a video leaves."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

import av
import cv2
import numpy as np

from unmasked.datasets.files import atomic_path
from unmasked.datasets.videos import open_video

FRAMES_A_SECOND = 25


def write_video(path: str | os.PathLike[str], frames: np.ndarray, crf: int) -> None:
    """Writes frames (T, H, W, 3) uint8 RGB as an MP4, whole or not at all.

    Same frames, same bytes.

    Args:
        path: ends in ``.mp4``.
        frames: H and W are even.
        crf: the rate factor of x264; FaceForensics++ uses 23 and 40.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        _encode(stream, frames, crf)


def reupload(frames: np.ndarray, *, scale: float, crf: int) -> np.ndarray:
    """The frames (T, H, W, 3) uint8 after being reduced, compressed and enlarged again."""
    height, width = frames.shape[1:3]
    small = (round(width * scale / 2) * 2, round(height * scale / 2) * 2)
    stream = io.BytesIO()
    _encode(
        stream, np.stack([cv2.resize(frame, small, interpolation=cv2.INTER_AREA) for frame in frames]), crf
    )
    stream.seek(0)
    with open_video(stream) as container:
        container.streams.video[0].codec_context.thread_count = 1
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in decoded])


def _encode(stream: BinaryIO | io.BytesIO, frames: np.ndarray, crf: int) -> None:
    with av.open(stream, "w", format="mp4") as container:
        # Threads would write their number into the bytes; macroblock-tree rate control reads memory that it
        # did not set, so that one encode in some hundreds differs from the others (x264 165).
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "mbtree": "0"}
        video = container.add_stream("libx264", rate=FRAMES_A_SECOND, options=options)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        for pixels in frames:
            container.mux(
                video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"))
            )
        container.mux(video.encode(None))
