"""The one door through which video files are opened, whoever made them.

FFmpeg takes a name for an address: ``http:/host/a.mp4`` is fetched, ``pipe:0`` reads the terminal,
``clip%03d.png`` many files, and a playlist or a list called ``a.mp4`` names others to open. So the file is
opened here and FFmpeg is handed its bytes without a name; formats that point to other files are refused by
content, and a request for a second file is refused whatever the format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from unmasked.datasets.regular_files import open_regular

# FFmpeg's demuxers that read one file and nothing else, by their names there. Pictures and sound are among
# them so that a file with a wrong suffix is described as what it is.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,h263,h261,vvc,av1,obu,ivf,"
    "flv,live_flv,asf,ogg,nut,mxf,dv,rm,gif,apng,mjpeg,mjpeg_2000,yuv4mpegpipe,amv,wtv,vc1,dirac,nsv,"
    "png_pipe,jpeg_pipe,bmp_pipe,webp_pipe,wav,mp3,aac,flac"
)

# Tags that are no UTF-8 must not make a video unreadable. From PyAV 19 on they never do.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class RefusedFormat(ValueError):
    """A file of a format that is not opened as a video; the message says so."""


@contextmanager
def open_video(path: str | os.PathLike[str] | BinaryIO) -> Iterator[InputContainer]:
    """The container of a video file, for reading.

    Args:
        path: an ordinary file, or a stream that can be read and sought.

    Raises:
        RefusedFormat: a playlist, a list of files, or another format outside `FORMATS`.
        OSError: no such file, not an ordinary one (`regular_files.NotAFile`), or FFmpeg cannot read it
            (its errors are OSErrors or ValueErrors).
    """
    stream = open_regular(path) if isinstance(path, (str, os.PathLike)) else path
    with stream:
        try:
            with _open(stream) as container:
                yield container
        except av.FFmpegError as error:
            if isinstance(error, (OSError, ValueError)):
                raise
            # "Not yet implemented" and the like, which are neither.
            raise RefusedFormat(f"FFmpeg cannot read it ({error.strerror})") from error


def _open(stream: BinaryIO) -> InputContainer:
    try:
        return av.open(
            _Nameless(stream),
            "r",
            container_options={"format_whitelist": FORMATS, "protocol_whitelist": "none"},
            io_open=_refuse_second_file,
            **_METADATA,
        )
    except av.error.ArgumentError as error:
        raise RefusedFormat("not a video format that is read here, such as mp4, mkv or avi") from error


def main_stream(streams: Sequence[VideoStream]) -> VideoStream | None:
    """The video stream with the most pixels, the first of equals.

    None if all are cover pictures or data.
    """
    shown = [stream for stream in streams if stream.codec_context is not None and not _is_cover(stream)]
    return max(shown, key=lambda stream: stream.width * stream.height, default=None)


class _Nameless:
    """A stream for FFmpeg that tells it no name, by which it would choose a format or open neighbours."""

    name = "video"

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read
        self.seek = stream.seek
        self.tell = stream.tell
        self.close = stream.close


def _refuse_second_file(url: str, flags: int, options: dict[str, Any]) -> BinaryIO:
    raise PermissionError("the file asks for another file to be opened")


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)
