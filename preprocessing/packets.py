"""Which packets must be decoded to have certain frames exactly as in a whole decode.

Two kinds are left out: frames that no other frame refers to (most B-frames), and whole groups of pictures
in which no frame is wanted. What a stream must be like for that is checked; others are decoded whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from unmasked.datasets.videos import open_video
from unmasked.preprocessing.nal_units import NOTHING, PacketReader

# Codecs whose decoders know a frame that nothing refers to, and of which `nal_units` tells where a decoder
# can begin: tested to give the same pixels as a whole decode.
_EXACT_CODECS = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4")


@dataclass(frozen=True)
class PacketIndex:
    """The packets of a video stream in decoding order, read without decoding."""

    pts: tuple[int, ...]  # presentation times, in units of the stream's time base
    is_key: tuple[bool, ...]  # a decoder can begin here, by the picture's own header
    is_whole: bool  # all have a time, none is damaged or to be thrown away, headers never change
    codec: str

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def is_exact(self) -> bool:
        """True if frames can be told by their times, so that packets may be left out."""
        return (
            self.is_whole
            and self.codec in _EXACT_CODECS
            and len(self.pts) > 0
            and self.is_key[0]
            and len(set(self.pts)) == len(self.pts)
        )


def read_index(path: Path, stream_index: int) -> PacketIndex:
    """The packets of a stream; one for each frame in nearly every format.

    Where the file is damaged the index ends with the damaged packet, which decoding will meet again.
    """
    pts: list[int] = []
    is_key: list[bool] = []
    is_whole = True
    with open_video(path) as container:
        stream = container.streams[stream_index]
        codec = stream.codec_context.name
        reader = PacketReader(codec, stream.codec_context.extradata)
        headers: bytes | None = None  # of the first packet; every later start must bring the same
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                content = reader.read(memoryview(packet)) if is_whole else NOTHING
                pts.append(-1 if packet.pts is None else packet.pts)
                is_key.append(content.is_start)
                headers = content.parameters if headers is None else headers
                is_same = content.parameters == headers or not (content.is_start or content.parameters)
                is_whole &= is_same and not (content.is_unusual or _is_odd(packet))
        except (av.FFmpegError, OSError):
            pts.append(-1)
            is_key.append(False)
            is_whole = False
        return PacketIndex(tuple(pts), tuple(is_key), is_whole, codec)


def _is_odd(packet: av.Packet) -> bool:
    """True if a packet cannot be left out or told by its time: damaged, hidden, or with new headers."""
    has_headers = packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change")
    return packet.pts is None or packet.is_corrupt or packet.is_discard or has_headers


def needed_packets(index: PacketIndex, wanted: Sequence[int]) -> set[int]:
    """Positions, in decoding order, of the packets that frames at times ``wanted`` need.

    A frame depends on its group of pictures up to itself; one that is shown before the group's key frame
    (an open group) on the group before too.

    Args:
        index: an index that `PacketIndex.is_exact`.
        wanted: presentation times out of ``index.pts``.

    >>> closed = PacketIndex((0, 2, 1, 3, 5, 4), (True, False, False) * 2, True, "h264")
    >>> needed_packets(closed, [5]), needed_packets(closed, [1])
    ({3, 4}, {0, 1, 2})
    """
    positions = {pts: position for position, pts in enumerate(index.pts)}
    keys = [position for position, is_key in enumerate(index.is_key) if is_key]
    begins = list(_group_begins(index, keys))
    needed: set[int] = set()
    for time in wanted:
        position = positions[time]
        group = begins[position]
        if group > 0 and time < index.pts[keys[group]]:
            group -= 1
        needed.update(range(keys[group], position + 1))
    return needed


def _group_begins(index: PacketIndex, keys: Sequence[int]) -> Iterator[int]:
    """For each packet the number of its group of pictures."""
    group = -1
    for position in range(len(index)):
        group += group + 1 < len(keys) and keys[group + 1] == position
        yield group
