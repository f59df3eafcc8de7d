"""Whether a video file ends before the end that its own structure states.

A download or copy that stopped.
FFmpeg reads such a file to its end without a word where the container has no list of frames (Matroska), so
that a video of 5 frames would look like a whole one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from av.container import InputContainer
from av.video.stream import VideoStream

from unmasked.datasets.regular_files import open_regular

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_BOXES_MAX = 100_000  # of an MP4 file in fragments


def is_cut_short(path: Path) -> bool:
    """True if a Matroska, AVI or MP4 file is shorter than its outermost elements say they are."""
    with open_regular(path) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        head = stream.read(12)
        end: Callable[[BinaryIO, int], int] | None = None
        if head.startswith(_EBML):
            end = _end_of_segment
        elif head[:4] == b"RIFF" and head[8:] == b"AVI ":
            end = _end_of_riff
        elif head[4:8] == b"ftyp":
            end = _end_of_boxes
        return end is not None and end(stream, size_bytes) > size_bytes


def announced_frames(container: InputContainer, stream: VideoStream, found: int) -> int:
    """How many frames a file that `is_cut_short` had, by the length and rate in its header.

    Above ``found``.

    Args:
        container: of the file.
        stream: its video.
        found: frames that are there.
    """
    rate = stream.average_rate or stream.guessed_rate
    told = round(container.duration / 1e6 * float(rate)) if container.duration and rate else 0
    return max(stream.frames, told, found + 1)


def _end_of_segment(stream: BinaryIO, size_bytes: int) -> int:
    """Where a Matroska file should end; 0 where it does not say, as live recordings do not."""
    stream.seek(4)
    header_bytes = _number(stream)
    if header_bytes is None:
        return 0
    stream.seek(header_bytes, os.SEEK_CUR)
    if stream.read(4) != _SEGMENT:
        return 0
    content_bytes = _number(stream)
    return 0 if content_bytes is None else stream.tell() + content_bytes


def _number(stream: BinaryIO) -> int | None:
    """The length of an EBML element (RFC 8794, 4); None where it is unknown."""
    first = stream.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> extra)]) + stream.read(extra), "big")
    return None if value == (1 << 7 * (extra + 1)) - 1 else value


def _end_of_riff(stream: BinaryIO, size_bytes: int) -> int:
    """Where an AVI file should end: after its RIFF lists, of which one over a gigabyte has several."""
    end = 0
    while end < size_bytes:
        stream.seek(end)
        head = stream.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # never closed by what recorded it
            break
        end += 8 + length + length % 2 if end + 8 + length < size_bytes else 8 + length
    return end


def _end_of_boxes(stream: BinaryIO, size_bytes: int) -> int:
    """Where an MP4 file should end: after its outermost boxes (ISO/IEC 14496-12, 4.2)."""
    end = 0
    for _ in range(_BOXES_MAX):
        stream.seek(end)
        head = stream.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if len(head) < 8 or length < 8:  # to the end of the file, or no box
            break
        end += length
        if end >= size_bytes:
            break
    return end
