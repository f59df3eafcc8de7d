"""What a packet of compressed video is, by its own bytes.

Whether a decoder can begin there.
Containers flag packets as key frames that are none in this sense: the recovery points of H.264 streams with
periodic intra refresh, where a picture is whole only many frames later, or whatever a damaged index says. So
the picture's own header is read. Codecs that are not known here never say that a decoder can begin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# NAL unit types of H.264 (ITU-T H.264, table 7-1) and HEVC (ITU-T H.265, table 7-1).
_H264_SLICES, _H264_IDR = frozenset((1, 2, 5)), frozenset((5,))
_H264_PARAMETERS, _H264_ENDS = frozenset((7, 8, 13, 15)), frozenset((10, 11))
_HEVC_SLICES, _HEVC_RANDOM_ACCESS = frozenset(range(32)), frozenset(range(16, 22))
_HEVC_PARAMETERS, _HEVC_ENDS = frozenset((32, 33, 34)), frozenset((36, 37))


@dataclass(frozen=True)
class Content:
    """What a packet holds."""

    is_start: bool  # its picture is decoded the same by a decoder that has seen nothing before
    parameters: bytes = b""  # the headers that later pictures depend on, one after the other
    is_unusual: bool = False  # ends the sequence, or is of a layer that makes "nothing refers to it" untrue


NOTHING = Content(False)


class PacketReader:
    """Reads the packets of one stream.

    Args:
        codec: FFmpeg's name.
        extradata: the stream's headers from the container.
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._codec = codec
        self._length_bytes = _length_bytes(codec, extradata or b"")

    @property
    def is_known(self) -> bool:
        """True if packets of this codec are understood."""
        return self._codec in ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4")

    def read(self, packet: bytes | memoryview) -> Content:
        """What a packet holds; `NOTHING` where it is not understood."""
        if self._codec in ("h264", "hevc"):
            return self._nal_content(bytes(packet))
        if self._codec in ("mpeg1video", "mpeg2video"):
            return _mpeg_content(bytes(packet), is_second=self._codec == "mpeg2video")
        return _mpeg4_content(bytes(packet)) if self._codec == "mpeg4" else NOTHING

    def _nal_content(self, packet: bytes) -> Content:
        """IDR pictures of H.264, random access pictures of HEVC, whose leading pictures need more."""
        is_avc = self._codec == "h264"
        slices, starts = (_H264_SLICES, _H264_IDR) if is_avc else (_HEVC_SLICES, _HEVC_RANDOM_ACCESS)
        headers, ends = (_H264_PARAMETERS, _H264_ENDS) if is_avc else (_HEVC_PARAMETERS, _HEVC_ENDS)
        found: list[bool] = []
        parameters: list[bytes] = []
        is_unusual = False
        for begin, end in self._units(packet):
            kind = packet[begin] & 31 if is_avc else packet[begin] >> 1 & 63
            if kind in slices:
                found.append(kind in starts)
            elif kind in headers:
                parameters.append(packet[begin:end].rstrip(b"\0"))
            # A picture that its own temporal layer does not refer to may be referred to by a higher one.
            is_layered = not is_avc and kind in slices and end - begin > 1 and packet[begin + 1] & 7 > 1
            is_unusual |= kind in ends or is_layered
        return Content(bool(found) and all(found), b"\0".join(parameters), is_unusual)

    def _units(self, packet: bytes) -> Iterator[tuple[int, int]]:
        """Begin and end of each NAL unit that has a byte."""
        if not self._length_bytes:
            yield from _start_codes(packet)
            return
        at = 0
        while at + self._length_bytes < len(packet):
            begin = at + self._length_bytes
            at = begin + int.from_bytes(packet[at:begin], "big")
            if at > begin:
                yield begin, min(at, len(packet))


def _length_bytes(codec: str, extradata: bytes) -> int:
    """Of the lengths before NAL units (ISO/IEC 14496-15); 0 where start codes stand between them."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and (extradata[0] or extradata[1] or extradata[2] > 1):
        return (extradata[21] & 3) + 1
    return 0


def _start_codes(packet: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of what follows each 00 00 01."""
    at = packet.find(b"\0\0\1")
    while at >= 0:
        begin = at + 3
        at = packet.find(b"\0\0\1", begin)
        end = at if at >= 0 else len(packet)
        if end > begin:
            yield begin, end


def _mpeg_content(packet: bytes, *, is_second: bool) -> Content:
    """I pictures that are whole frames and have a sequence header before them (ISO/IEC 11172-2, 13818-2).

    The sequence header resets the quantizer matrices, which other pictures may have changed. So may
    extensions of a picture itself, which are not told from harmless ones: they count as `parameters`.
    """
    has_header = False
    parameters: list[bytes] = []
    is_start: bool | None = None
    for begin, end in _start_codes(packet):
        kind = packet[begin]
        if kind == 0xB3:
            has_header = True
            parameters.append(packet[begin:end])
        elif kind == 0x00 and end - begin > 2:  # a picture; its type is three bits behind ten of time
            is_intra = packet[begin + 2] >> 3 & 7 == 1
            is_start = has_header and is_intra and is_start is not False
        elif kind == 0xB5 and end - begin > 3 and packet[begin + 1] >> 4 == 8:
            is_start = is_start if packet[begin + 3] & 3 == 3 else False  # a field
        elif kind == 0xB5 and packet[begin + 1] >> 4 == 3:  # quantizer matrices
            parameters.append(packet[begin:end])
        elif 0x01 <= kind <= 0xAF:  # the slices follow
            break
    if is_second and is_start is None:
        return NOTHING
    return Content(bool(is_start), b"\0".join(parameters))


def _mpeg4_content(packet: bytes) -> Content:
    """I pictures alone in their packets (ISO/IEC 14496-2)."""
    kinds: list[int] = []
    parameters: list[bytes] = []
    for begin, end in _start_codes(packet):
        kind = packet[begin]
        if 0x20 <= kind <= 0x2F:
            parameters.append(packet[begin:end].rstrip(b"\0"))
        elif kind == 0xB6 and end - begin > 1:
            kinds.append(packet[begin + 1] >> 6)
    return Content(kinds == [0], b"\0".join(parameters))
