"""Sampled frames of a video, an image or an image sequence, whatever state the file is in.

What cannot be read is said, never skipped: a file that gives nothing raises `Unreadable` with a status of
the faces table, a frame that is lost comes as a `Frame` without image.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from unmasked.datasets.archives import (
    ArchiveError,
    archive_file,
    frame_indices,
    is_image,
    natural_key,
    read_member_images,
    sequence_frames,
    split_sequence_path,
)
from unmasked.datasets.file_kinds import is_cut_off
from unmasked.datasets.images import Picture, TooLarge, UnreadableImage, decode_image, size_words
from unmasked.datasets.regular_files import NotAFile, is_special, read_regular
from unmasked.datasets.videos import main_stream, open_video
from unmasked.preprocessing.display import show, shown_size
from unmasked.preprocessing.faces import frame_numbers
from unmasked.preprocessing.packets import PacketIndex, needed_packets, read_index
from unmasked.preprocessing.truncation import announced_frames, is_cut_short

FILLED_MAX = 2000  # gaps in a video that more frames are sampled for


class Unreadable(Exception):
    """A file that gives no frame at all, with the status its row gets and the reason in words."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class FewerFrames(Exception):
    """The file ended, undamaged, before the announced frames; ``count`` is what it has."""

    def __init__(self, count: int) -> None:
        super().__init__(f"the file has {count} frames, fewer than it announces")
        self.count = count


@dataclass(frozen=True)
class Frame:
    """One sampled frame: an image, or the status and the reason why there is none."""

    index: int  # in the video, from 0
    time_s: float  # since the first frame; NaN for images
    image: np.ndarray | None  # (H, W, 3) uint8 RGB, as players show it
    status: str = "ok"
    reason: str = ""
    conversion: str = ""  # what was done to show it so, in words


def sample_indices(frame_count: int, wanted: int) -> list[int]:
    """``wanted`` indices spread evenly from the first frame to the last.

    Every frame once if there are fewer.

    >>> sample_indices(100, 4), sample_indices(3, 32)
    ([0, 33, 66, 99], [0, 1, 2])
    """
    if frame_count <= wanted:
        return list(range(frame_count))
    return [int(position) for position in np.linspace(0, frame_count - 1, wanted)]


def fill_gaps(indices: Sequence[int], times_s: Sequence[float], gap_s: float) -> list[int]:
    """``indices`` and, evenly within each gap of more than ``gap_s`` seconds, more of them.

    Where a video is longer than `FILLED_MAX` gaps, they are longer: a header can announce any length.

    >>> fill_gaps([0, 100, 200], [0.0, 4.0, 24.0], 10.0), fill_gaps([0, 1], [0.0, 60.0], 10.0)
    ([0, 100, 150, 200], [0, 1])
    """
    # Not more frames than are bounded, whatever length is announced.
    allowed_s = max(gap_s, (times_s[-1] - times_s[0]) / FILLED_MAX) if times_s else gap_s
    filled = set(indices)
    for first, last, gap in zip(indices, indices[1:], np.diff(times_s), strict=False):
        if gap > allowed_s:
            step = max(1, int((last - first) * allowed_s / gap + 1e-9))  # whole frames
            parts = -(-(last - first) // step)
            filled.update(first + (last - first) * part // parts for part in range(1, parts))
    return sorted(filled)


def read_frames(
    root: Path,
    path: str,
    kind: str,
    *,
    wanted: int | Collection[int],
    max_pixels: int,
    gap_s: float = 0.0,
    frame_count: int = 0,
    decode_all: bool = False,
) -> Iterator[Frame]:
    """Yields the sampled frames of a manifest row in order.

    Args:
        root: folder that ``path`` is relative to.
        path: POSIX path of the file, or ``<archive>!<folder>`` for a sequence.
        kind: video, image or sequence.
        wanted: how many frames, or the indices of the wanted ones; an image is one.
        max_pixels: larger frames are not decoded.
        gap_s: of a video, see `read_video`.
        frame_count: how many frames a video has, where that is known; 0 asks the file.
        decode_all: decode every frame of a video up to the last wanted one, see `read_video`.

    Raises:
        Unreadable: no frame can be had.
        FewerFrames: a video announced more frames than it has; call again with its ``count``.
    """
    if kind == "sequence":
        return read_sequence(root, path, wanted=wanted, max_pixels=max_pixels)
    if kind == "image":
        return read_image(root / path, max_pixels=max_pixels)
    return read_video(
        root / path,
        wanted=wanted,
        max_pixels=max_pixels,
        gap_s=gap_s,
        frame_count=frame_count,
        decode_all=decode_all,
    )


def read_image(path: Path, *, max_pixels: int) -> Iterator[Frame]:
    """Yields the one frame of an image file, turned upright by its EXIF orientation.

    Raises:
        Unreadable: the file is absent, damaged, or larger than ``max_pixels``.
    """
    _check_file(path)
    picture = _decode_image_file(path, max_pixels)
    yield Frame(0, float("nan"), picture.pixels, conversion=picture.conversion)


def read_sequence(
    root: Path, path: str, *, wanted: int | Collection[int], max_pixels: int
) -> Iterator[Frame]:
    """Yields sampled images of a sequence; the frame index is the number in the image's name.

    Raises:
        Unreadable: the archive or folder is absent, damaged, or holds no image.
    """
    archive, folder = split_sequence_path(path)
    if not _is_there(root / archive):
        raise Unreadable("missing_file", f"{root / path} does not exist")
    if folder is None:
        yield from _read_folder(root / path, wanted, max_pixels)
        return
    if is_special(archive_file(root / archive)):
        raise Unreadable("decode_error", f"{archive} is not an ordinary file")
    try:
        indices = sequence_frames(root, path)
        number_of = dict(zip(indices, frame_numbers(indices), strict=True))
        numbers = _chosen(list(number_of.values()), wanted)
        found = {index for index, number in number_of.items() if number in numbers}
        for index, encoded in read_member_images(root, path, found):
            yield _frame(number_of[index], float("nan"), partial(_decode_image, encoded, max_pixels))
    except (ArchiveError, OSError) as error:
        raise Unreadable("decode_error", str(error)) from error


def _read_folder(folder: Path, wanted: int | Collection[int], max_pixels: int) -> Iterator[Frame]:
    """Yields sampled images of a folder; one that cannot be read costs its frame alone."""
    try:
        names = sorted((name for name in os.listdir(folder) if is_image(name)), key=natural_key)
    except OSError as error:
        raise Unreadable("decode_error", f"{folder.name} cannot be listed ({_words(error)})") from error
    if not names:
        raise Unreadable("decode_error", f"{folder.name} has no image")
    numbers = frame_numbers(frame_indices(names))
    chosen = _chosen(numbers, wanted)
    for number, name in zip(numbers, names, strict=True):
        if number in chosen:
            yield _frame(number, float("nan"), partial(_decode_image_file, folder / name, max_pixels))


def _chosen(numbers: Sequence[int], wanted: int | Collection[int]) -> set[int]:
    """The numbers of the wanted images of a sequence."""
    if not isinstance(wanted, int):
        return set(wanted)
    return {numbers[position] for position in sample_indices(len(numbers), wanted)}


def read_video(
    path: Path,
    *,
    wanted: int | Collection[int],
    max_pixels: int,
    gap_s: float = 0.0,
    frame_count: int = 0,
    decode_all: bool = False,
) -> Iterator[Frame]:
    """Yields sampled frames of a video file in one pass that stops at the last of them.

    Packets that no wanted frame depends on are not decoded, where that gives the same pixels and a frame
    can be told by its time stamp; damage in them is not met.

    Args:
        path: a file of a format in `unmasked.datasets.videos.FORMATS`; of several video streams the one with
            the most pixels is read.
        wanted: how many frames are sampled, see `sample_indices`, or the indices of the wanted ones.
        max_pixels: larger frames are not decoded.
        gap_s: how many seconds two sampled frames lie apart at most, see `fill_gaps`; 0 as far as they lie.
        frame_count: how many frames the video has, where that is known; 0 asks the file.
        decode_all: decode every frame up to the last one.

    Raises:
        Unreadable: the file is absent, empty, no video, or larger than ``max_pixels``.
        FewerFrames: it ended early without damage, and ``frame_count`` was not given.
    """
    _check_file(path)
    reformatter = VideoReformatter()  # one for all frames: each starts threads of its own
    with _open_video(path, max_pixels) as (container, stream):
        aspect = stream.sample_aspect_ratio
        packets = read_index(path, stream.index)
        is_cut = is_cut_short(path)
        announced = announced_frames(container, stream, len(packets)) if is_cut else stream.frames
        announced = frame_count or announced or len(packets)
        if not announced:
            raise Unreadable("decode_error", f"{path.name} holds no frame")
        pending = sample_indices(announced, wanted) if isinstance(wanted, int) else sorted(wanted)
        if gap_s and isinstance(wanted, int):
            pending = fill_gaps(pending, _frame_times(stream, packets, pending), gap_s)
        is_listed = (
            packets.is_exact and announced == len(packets) and (not pending or pending[-1] < announced)
        )
        if is_listed and not decode_all:
            for index, time_s, frame in _decode_needed(container, stream, packets, pending):
                yield _frame(index, time_s, partial(_shown, frame, "", aspect, reformatter, max_pixels))
                pending = pending[1:]
    if not pending:
        return
    count, damage = 0, ""
    with _open_video(path, max_pixels) as (container, stream):
        for index, time_s, decoded, fault in _decode(container, stream):
            count, damage = index + 1, damage or fault
            if index == pending[0]:
                yield _frame(index, time_s, partial(_shown, decoded, fault, aspect, reformatter, max_pixels))
                pending = pending[1:]
                if not pending:
                    return
    if count == 0:
        raise Unreadable("decode_error", f"{path.name}: no frame could be decoded")
    if not (frame_count or damage or is_cut):
        raise FewerFrames(count)
    for index in pending:
        reason = f"{path.name} is damaged or cut short after frame {count - 1}"
        yield Frame(index, float("nan"), None, "decode_error", reason)


def frame_rate(path: Path, *, max_pixels: int) -> Fraction:
    """Frames a second of a video file, on average; 25 where it does not say.

    Raises:
        Unreadable: as `read_video`.
    """
    _check_file(path)
    with _open_video(path, max_pixels) as (_, stream):
        return stream.average_rate or Fraction(25)


def _check_file(path: Path) -> None:
    if is_special(path):
        raise Unreadable("decode_error", f"{path.name} is a pipe, socket or device, not an ordinary file")
    if not os.path.isfile(path):  # unlike Path.is_file without an error for a name that is too long
        raise Unreadable("missing_file", f"{_printable(path)} does not exist")
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise Unreadable("missing_file", str(error)) from error
    if size_bytes == 0:
        raise Unreadable("decode_error", f"{path.name} has zero bytes")


@contextmanager
def _open_video(path: Path, max_pixels: int) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its main video stream."""
    with ExitStack() as stack:
        try:
            container = stack.enter_context(open_video(path))
        except (av.FFmpegError, OSError, ValueError) as error:
            cut = f"{path.name} is cut off: the index (moov) of the MP4 is missing; get the whole file"
            words = cut if is_cut_off(path) else f"{path.name} cannot be opened as a video ({_words(error)})"
            raise Unreadable("decode_error", words) from error
        stream = main_stream(container.streams.video)
        if stream is None:
            raise Unreadable("decode_error", f"{path.name} has no video stream")
        width, height = shown_size(stream.width, stream.height, stream.sample_aspect_ratio)
        if width * height > max_pixels:
            raise Unreadable("too_large", size_words(width, height, max_pixels))
        # One thread: the parallelism is over videos, in processes.
        stream.codec_context.thread_count = 1
        # Frames may grow behind the header; decoders pad them, hence the factor.
        stream.codec_context.options = {"max_pixels": str(2 * max_pixels)}
        yield container, stream


def _frame_times(stream: VideoStream, packets: PacketIndex, indices: Sequence[int]) -> list[float]:
    """Seconds of frames: by their packets where these can be told apart, else by the frame rate."""
    rate = float(stream.average_rate or 25)
    if not packets.is_exact or not indices or indices[-1] >= len(packets) or stream.time_base is None:
        return [index / rate for index in indices]
    shown = sorted(packets.pts)
    return [float(shown[index] * stream.time_base) for index in indices]


def _decode(
    container: InputContainer, stream: VideoStream
) -> Iterator[tuple[int, float, av.VideoFrame | None, str]]:
    """Yields (index, time_s, frame, fault); a packet that cannot be decoded counts as one lost frame."""
    start_s = float("nan")
    for index, (decoded, fault) in enumerate(_decode_packets(container, stream)):
        time_s = _time_s(decoded, index, stream)
        start_s = time_s if index == 0 else start_s
        yield index, time_s - start_s, decoded, fault


def _decode_packets(
    container: InputContainer, stream: VideoStream
) -> Iterator[tuple[av.VideoFrame | None, str]]:
    """Yields every frame and what is wrong with it, "" for nothing."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            yield None, _words(error)
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except (av.FFmpegError, OSError, ValueError) as error:
            yield None, _words(error)
            continue
        for frame in frames:
            yield frame, "the frame is damaged" if frame.is_corrupt else ""


def _decode_needed(
    container: InputContainer, stream: VideoStream, packets: PacketIndex, wanted: Sequence[int]
) -> Iterator[tuple[int, float, av.VideoFrame]]:
    """Yields (index, time_s, frame) of the wanted frames in order, up to the first that is wrong.

    Args:
        container: at its beginning.
        stream: the stream that ``packets`` is of.
        packets: an index that is exact.
        wanted: indices of frames in the order in which they are shown.
    """
    shown = sorted(packets.pts)
    expected = deque((index, shown[index]) for index in wanted)
    times = {pts for _, pts in expected}
    # The first packet too: its notes say which encoder's mistakes the decoder is to make good.
    needed = needed_packets(packets, sorted(times)) | {0}
    last = max(needed)
    context, seconds = stream.codec_context, float(stream.time_base or 0)
    position = -1
    try:
        for packet in container.demux(stream):
            position += packet.size > 0
            if packet.size and position <= last and position not in needed:
                continue
            context.skip_frame = "DEFAULT" if packet.pts in times else "NONREF"
            # Behind the last needed packet the decoder is emptied: it holds frames back to put them in order.
            for frame in context.decode(packet if position <= last else None):
                if frame.pts not in times:
                    continue
                index, pts = expected[0]
                if frame.pts != pts or frame.is_corrupt:
                    return
                yield index, (pts - shown[0]) * seconds, frame
                expected.popleft()
            if position > last:
                return
    except (av.FFmpegError, OSError):
        return


def _frame(index: int, time_s: float, decode: Callable[[], Picture]) -> Frame:
    """The frame with the picture that ``decode`` gives, or with the status and reason that it raises."""
    try:
        picture = decode()
    except Unreadable as error:
        return Frame(index, time_s, None, error.status, error.reason)
    return Frame(index, time_s, picture.pixels, conversion=picture.conversion)


def _shown(
    decoded: av.VideoFrame | None,
    fault: str,
    aspect: Fraction | None,
    reformatter: VideoReformatter,
    max_pixels: int,
) -> Picture:
    """The frame as players show it."""
    if decoded is None or fault:
        raise Unreadable("decode_error", fault)
    width, height = shown_size(decoded.width, decoded.height, aspect)
    if width * height > max_pixels:
        raise Unreadable("too_large", size_words(width, height, max_pixels))
    try:
        return show(decoded, aspect, reformatter)
    except (av.FFmpegError, ValueError) as error:
        raise Unreadable("decode_error", _words(error)) from error


def _time_s(decoded: av.VideoFrame | None, index: int, stream: VideoStream) -> float:
    if decoded is not None and decoded.time is not None:
        return float(decoded.time)
    return index / float(stream.average_rate) if stream.average_rate else float("nan")


def _read(path: Path) -> bytes:
    """The bytes of an image file."""
    try:
        return read_regular(path)
    except NotAFile as error:
        raise Unreadable("decode_error", f"{path.name} is not read ({error})") from error
    except OSError as error:
        raise Unreadable("decode_error", f"{path.name} cannot be read ({_words(error)})") from error


def _decode_image_file(path: Path, max_pixels: int) -> Picture:
    return _decode_image(_read(path), max_pixels)


def _decode_image(encoded: bytes, max_pixels: int) -> Picture:
    """The image as browsers show it."""
    try:
        return decode_image(encoded, max_pixels)
    except TooLarge as error:
        raise Unreadable("too_large", str(error)) from error
    except UnreadableImage as error:
        raise Unreadable("decode_error", f"the image cannot be decoded ({error})") from error


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or a NUL in it
        return False


def _printable(path: Path) -> str:
    return str(path).encode("unicode_escape").decode() if "\0" in str(path) else str(path)


def _words(error: Exception) -> str:
    """The error in one line, without the memory addresses and paths that make equal runs differ."""
    if isinstance(error, av.FFmpegError):
        return error.strerror or type(error).__name__
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r" at 0x[0-9a-f]+", "", re.sub(r"<_io\.BytesIO object[^>]*>", "file", first))
