"""Frames decoded from the needed packets alone equal those of a whole decode, pixel by pixel."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmasked.preprocessing.packets import PacketIndex, needed_packets, read_index
from unmasked.preprocessing.video import read_video, sample_indices

CODECS = {
    "h264": ("a.mp4", "libx264", {"x264-params": "keyint=12:bframes=3:scenecut=0"}),
    "h264 with open groups": (
        "a.mp4",
        "libx264",
        {"x264-params": "keyint=12:bframes=3:open-gop=1:scenecut=0"},
    ),
    "h264, B-frames referred to": (
        "a.mkv",
        "libx264",
        {"x264-params": "keyint=30:bframes=5:b-pyramid=normal"},
    ),
    "hevc with open groups": (
        "a.mp4",
        "libx265",
        {"x265-params": "keyint=12:bframes=3:open-gop=1:log-level=none:pools=1:frame-threads=1"},
    ),
    "mpeg4": ("a.mp4", "mpeg4", {"bf": "2", "g": "12"}),
    "mpeg2": ("a.mp4", "mpeg2video", {"bf": "2", "g": "12"}),
    "mpeg1 without times": ("a.mpg", "mpeg1video", {"bf": "2", "g": "12"}),
    "vp9": ("a.webm", "libvpx-vp9", {"g": "12", "cpu-used": "8", "deadline": "realtime"}),
}


def write_moving(path, codec, options, frames=60):
    """A video of drifting noise, which later frames are predicted from."""
    picture = (
        np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for index in range(frames):
            shown = np.ascontiguousarray(picture[index : index + 96, 2 * (index % 40) :][:, :96])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module", params=CODECS)
def moving(request, tmp_path_factory):
    name, codec, options = CODECS[request.param]
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    return write_moving(tmp_path_factory.mktemp("moving") / name, codec, options)


@pytest.mark.parametrize("wanted", [1, 2, 4, 9, 32])
def test_sampled_frames_equal_those_of_a_whole_decode(moving, wanted):
    whole, needed = (
        list(read_video(moving, wanted=wanted, max_pixels=1 << 20, decode_all=decode_all))
        for decode_all in (True, False)
    )
    assert [frame.index for frame in needed] == sample_indices(60, wanted)
    for expected, frame in zip(whole, needed, strict=True):
        assert (frame.index, frame.status) == (expected.index, "ok")
        assert frame.time_s == pytest.approx(expected.time_s, abs=1e-9)
        assert np.array_equal(frame.image, expected.image)


def test_groups_without_a_wanted_frame_are_not_decoded(tmp_path):
    path = write_moving(tmp_path / "a.mp4", "libx264", CODECS["h264"][2])
    index = read_index(path, 0)
    assert index.is_exact
    assert len(index) == 60
    needed = needed_packets(index, [sorted(index.pts)[0], sorted(index.pts)[59]])
    assert len(needed) <= 1 + 12


def test_damage_in_a_packet_that_is_not_needed_costs_nothing(tmp_path):
    path = write_moving(tmp_path / "a.mp4", "libx264", CODECS["h264"][2])
    with av.open(str(path)) as container:
        offsets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position in range(26, 34):  # the third group of pictures has no sampled frame
        start, size = offsets[position]
        content[start + 6 : start + size] = bytes(size - 6)
    path.write_bytes(content)
    frames = list(read_video(path, wanted=2, max_pixels=1 << 20))
    assert [(frame.index, frame.status) for frame in frames] == [(0, "ok"), (59, "ok")]


def test_damage_in_a_needed_packet_is_met_as_in_a_whole_decode(tmp_path):
    path = write_moving(tmp_path / "a.mp4", "libx264", CODECS["h264"][2])
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(len(content) // 3, len(content) // 2, 40):
        content[at] ^= 0xFF
    path.write_bytes(content)
    whole, needed = (
        list(read_video(path, wanted=20, max_pixels=1 << 20, decode_all=decode_all))
        for decode_all in (True, False)
    )
    assert [frame.index for frame in needed] == [frame.index for frame in whole]
    for expected, frame in zip(whole, needed, strict=True):
        if expected.status == "ok" and frame.status == "ok":
            assert frame.image.shape == expected.image.shape
        assert frame.status in ("ok", "decode_error")


@pytest.mark.parametrize(
    "spoiled",
    [
        {"pts": (0, 1, 1)},
        {"is_key": (False, True, False)},
        {"is_whole": False},
        {"codec": "gif"},
        {"pts": (), "is_key": ()},
    ],
    ids=["equal times", "no key frame first", "damaged", "other codec", "empty"],
)
def test_streams_whose_frames_cannot_be_told_apart_are_decoded_whole(spoiled):
    known = {"pts": (0, 1, 2), "is_key": (True, False, False), "is_whole": True, "codec": "h264"}
    assert PacketIndex(**known).is_exact
    assert not PacketIndex(**{**known, **spoiled}).is_exact


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_a_frame_needs_its_group_up_to_itself_and_no_later_packet(keys, data):
    keys[0] = True
    index = PacketIndex(tuple(range(len(keys))), tuple(keys), True, "h264")
    wanted = data.draw(st.lists(st.integers(0, len(keys) - 1), min_size=1, unique=True))
    needed = needed_packets(index, wanted)
    for position in wanted:
        begin = max(key for key in range(position + 1) if keys[key])
        assert set(range(begin, position + 1)) <= needed
    assert max(needed) == max(wanted)
