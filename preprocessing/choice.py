"""Which faces are the video's: the largest for longest, or the manipulated one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.detect import area
from unmasked.preprocessing.tracking import Face
from unmasked.preprocessing.video import Frame, Unreadable, read_frames

MASK_LEVEL = 16  # of 255; what compression leaves in the black of a mask video is below
SHARE_MIN = 0.25  # of the mask in a face's box, on average, for the face to be the manipulated one


def rank_by_size(frames: Sequence[Sequence[Face]]) -> list[int]:
    """Tracks by their area summed over the sampled frames, largest first.

    Large and persistent wins.

    Args:
        frames: the faces in each sampled frame.
    """
    total: dict[int, float] = {}
    for face in chain.from_iterable(frames):
        total[face.track] = total.get(face.track, 0.0) + area(face.box)
    return sorted(total, key=lambda track: (-total[track], track))


def rank_by_mask(shares: Sequence[dict[int, float]]) -> list[int]:
    """Tracks that the mask covers, by their share of it over sampled frames, largest first.

    Args:
        shares: in each frame and for each track there, the share of the mask in the face's box; NaN where
            the frame has no mask.

    >>> rank_by_mask([{0: 0.02, 1: 0.9}, {0: 0.01}, {1: float("nan")}])
    [1]
    """
    seen: dict[int, list[float]] = {}
    for frame in shares:
        for track, share in frame.items():
            seen.setdefault(track, []).append(share)
    known = {track: [share for share in all_ if share == share] for track, all_ in seen.items()}
    covered = {track: found for track, found in known.items() if found and np.mean(found) >= SHARE_MIN}
    return sorted(covered, key=lambda track: (-sum(covered[track]), track))


class Mask:
    """The manipulation mask of a video or image, read frame by frame beside it.

    Args:
        root: folder that ``path`` is relative to.
        path: of the mask: a video, image or sequence like the one that it belongs to.
        kind: video, image or sequence.
        config: how many frames are sampled.
    """

    def __init__(self, root: Path, path: str, kind: str, config: PreprocessConfig) -> None:
        self._frames = read_frames(
            root, path, kind, wanted=config.frames_per_video, max_pixels=config.max_pixels
        )
        self._frame: Frame | None = None

    def shares(self, index: int, shape: tuple[int, int], faces: Sequence[Face]) -> dict[int, float]:
        """By track the share of the mask's area, in [0, 1], that lies in the face's box.

        NaN without mask.

        Args:
            index: of the frame, never less than the time before.
            shape: height and width of the frame; the mask may have another size.
            faces: the faces in the frame.

        Raises:
            Unreadable: the mask cannot be read.
        """
        mask = self._at(index)
        if mask is None or not mask.any():
            return {face.track: float("nan") for face in faces}
        scale = np.divide(mask.shape[::-1], shape[::-1])
        return {face.track: float(_mask_in_box(mask, face, scale).sum() / mask.sum()) for face in faces}

    def _at(self, index: int) -> np.ndarray | None:
        """(H, W) bool, where the frame was manipulated; None if the mask has no such frame."""
        try:
            while self._frame is None or self._frame.index < index:
                self._frame = next(self._frames)
        except StopIteration:
            return None
        except Unreadable as error:
            raise Unreadable(error.status, f"the manipulation mask: {error.reason}") from error
        if self._frame.index != index or self._frame.image is None:
            return None
        return self._frame.image.max(axis=2) > MASK_LEVEL


def _mask_in_box(mask: np.ndarray, face: Face, scale: np.ndarray) -> np.ndarray:
    """The part of the mask in the face's box."""
    left, top, right, bottom = np.multiply(face.box, (*scale, *scale)).round().astype(int).clip(0)
    return mask[top:bottom, left:right]
