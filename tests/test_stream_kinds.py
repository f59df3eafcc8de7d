"""Sampled frames of every kind of stream that FFmpeg writes here equal those of a whole decode, bit by bit.

The whole decode is FFmpeg's own, in a loop of three lines; the pictures are tiny.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from unmasked.preprocessing.packets import read_index
from unmasked.preprocessing.video import FewerFrames, read_video, sample_indices

FRAMES = 44
WIDE = {"size": (96, 192), "frames": 90}  # in which a wave of intra refresh takes its time
SLOWER = [n * n // 4 + n for n in range(FRAMES)]  # times of a variable rate, in 1/25 s
SIZE = (48, 64)


def x264(parameters="", **options):
    known = "log-level=none:threads=1:scenecut=0"
    return ("libx264", {"x264-params": f"{known}:{parameters}" if parameters else known, **options})


def x265(parameters):
    return ("libx265", {"x265-params": f"log-level=none:pools=none:frame-threads=1:{parameters}"})


# Name -> file name, (encoder, its options), and what differs: pix_fmt, times, flags of the container.
KINDS = {
    # H.264
    "h264 mp4, default": ("a.mp4", x264("keyint=12"), {}),
    "h264 mp4, no B-frames": ("a.mp4", x264("keyint=12:bframes=0"), {}),
    "h264 mp4, intra refresh": ("a.mp4", x264("keyint=12:bframes=0:intra-refresh=1"), WIDE),
    "h264 mp4, intra refresh with B-frames": ("a.mp4", x264("keyint=16:bframes=2:intra-refresh=1"), WIDE),
    "h264 mkv, intra refresh": ("a.mkv", x264("keyint=12:bframes=0:intra-refresh=1"), WIDE),
    "h264 ts, intra refresh": ("a.ts", x264("keyint=12:bframes=0:intra-refresh=1"), WIDE),
    "h264 mp4, open groups": ("a.mp4", x264("keyint=12:bframes=3:open-gop=1"), {}),
    "h264 mkv, open groups": ("a.mkv", x264("keyint=12:bframes=3:open-gop=1"), {}),
    "h264 ts, open groups": ("a.ts", x264("keyint=12:bframes=3:open-gop=1"), {}),
    "h264 mp4, many references": ("a.mp4", x264("keyint=20:bframes=3:ref=8"), {}),
    "h264 mp4, B-pyramid": ("a.mp4", x264("keyint=20:bframes=5:b-pyramid=normal:b-adapt=0"), {}),
    "h264 mp4, strict pyramid": ("a.mp4", x264("keyint=20:bframes=5:b-pyramid=strict:b-adapt=0"), {}),
    "h264 mp4, one key frame": ("a.mp4", x264("keyint=infinite:bframes=2"), {}),
    "h264 mp4, all intra": ("a.mp4", x264("keyint=1"), {}),
    "h264 mp4, slices": ("a.mp4", x264("keyint=12:slices=3"), {}),
    "h264 mp4, CAVLC baseline": ("a.mp4", x264("keyint=12:cabac=0:bframes=0:weightp=0"), {}),
    "h264 mp4, interlaced": ("a.mp4", x264("keyint=12:tff=1:bframes=2"), {}),
    "h264 ts, interlaced": ("a.ts", x264("keyint=12:tff=1:bframes=2"), {}),
    "h264 mp4, fake interlaced": ("a.mp4", x264("keyint=12:fake-interlaced=1"), {}),
    "h264 mp4, 4:4:4": ("a.mp4", x264("keyint=12"), {"pix_fmt": "yuv444p"}),
    "h264 mp4, 4:2:2, 10 bits": ("a.mp4", x264("keyint=12"), {"pix_fmt": "yuv422p10le"}),
    "h264 mp4, lossless": ("a.mp4", x264("keyint=12:qp=0"), {}),
    "h264 RGB": ("a.mkv", ("libx264rgb", {"g": "12"}), {"pix_fmt": "rgb24"}),
    "h264 mov": ("a.mov", x264("keyint=12"), {}),
    "h264 avi": ("a.avi", x264("keyint=12:bframes=0"), {}),
    "h264 flv": ("a.flv", x264("keyint=12"), {}),
    "h264 ts": ("a.ts", x264("keyint=12"), {}),
    "h264 mkv": ("a.mkv", x264("keyint=12"), {}),
    "h264 raw": ("a.h264", x264("keyint=12:repeat-headers=1"), {}),
    "h264 3gp": ("a.3gp", x264("keyint=12:bframes=0"), {}),
    "h264 mp4, headers repeated": ("a.mp4", x264("keyint=12:repeat-headers=1"), {}),
    "h264 mp4, in fragments": ("a.mp4", x264("keyint=12"), {"movflags": "frag_keyframe+empty_moov"}),
    "h264 mp4, index first": ("a.mp4", x264("keyint=12"), {"movflags": "faststart"}),
    "h264 mp4, negative times": ("a.mp4", x264("keyint=12"), {"movflags": "negative_cts_offsets"}),
    "h264 mp4, no edit list": ("a.mp4", x264("keyint=12"), {"use_editlist": "0"}),
    "h264 mp4, times from 1 s": ("a.mp4", x264("keyint=12"), {"times": [25 + n for n in range(FRAMES)]}),
    "h264 mp4, times from -1 s": ("a.mp4", x264("keyint=12"), {"times": [n - 25 for n in range(FRAMES)]}),
    "h264 mp4, variable rate": (
        "a.mp4",
        x264("keyint=12"),
        {"times": SLOWER},
    ),
    "h264 mkv, variable rate": (
        "a.mkv",
        x264("keyint=12"),
        {"times": SLOWER},
    ),
    # HEVC
    "hevc mp4": ("a.mp4", x265("keyint=12:bframes=3:open-gop=0"), {}),
    "hevc mp4, open groups": ("a.mp4", x265("keyint=12:bframes=3:open-gop=1"), {}),
    "hevc mp4, intra refresh": ("a.mp4", x265("keyint=12:bframes=0:intra-refresh=1"), WIDE),
    "hevc mp4, temporal layers": ("a.mp4", x265("keyint=24:bframes=3:temporal-layers=3:b-adapt=0"), {}),
    "hevc mp4, pyramid": ("a.mp4", x265("keyint=24:bframes=7:b-pyramid=1:b-adapt=0"), {}),
    "hevc mkv, 10 bits": ("a.mkv", x265("keyint=12:bframes=2"), {"pix_fmt": "yuv420p10le"}),
    "hevc ts": ("a.ts", x265("keyint=12:bframes=3:open-gop=1"), {}),
    # MPEG-1, -2, -4 and their kin
    "mpeg1 mpg": ("a.mpg", ("mpeg1video", {"g": "12", "bf": "2"}), {}),
    "mpeg1 mkv": ("a.mkv", ("mpeg1video", {"g": "12", "bf": "2"}), {}),
    "mpeg2 mpg": ("a.mpg", ("mpeg2video", {"g": "12", "bf": "2"}), {}),
    "mpeg2 ts": ("a.ts", ("mpeg2video", {"g": "12", "bf": "2"}), {}),
    "mpeg2 mp4": ("a.mp4", ("mpeg2video", {"g": "12", "bf": "2"}), {}),
    "mpeg2 mkv, interlaced": ("a.mkv", ("mpeg2video", {"g": "12", "flags": "+ildct+ilme"}), {}),
    "mpeg2 mkv, no B-frames": ("a.mkv", ("mpeg2video", {"g": "12"}), {}),
    "mpeg4 mp4": ("a.mp4", ("mpeg4", {"g": "12"}), {}),
    "mpeg4 mp4, B-frames": ("a.mp4", ("mpeg4", {"g": "12", "bf": "2"}), {}),
    "mpeg4 avi": ("a.avi", ("mpeg4", {"g": "12"}), {}),
    "mpeg4 avi, B-frames": ("a.avi", ("mpeg4", {"g": "12", "bf": "2"}), {}),
    "mpeg4 mkv, four vectors, quarter pixels": ("a.mkv", ("mpeg4", {"g": "12", "flags": "+mv4+qpel"}), {}),
    "msmpeg4 v3 avi": ("a.avi", ("msmpeg4", {"g": "12"}), {}),
    "msmpeg4 v2 avi": ("a.avi", ("msmpeg4v2", {"g": "12"}), {}),
    "wmv1 asf": ("a.wmv", ("wmv1", {"g": "12"}), {}),
    "wmv2 asf": ("a.wmv", ("wmv2", {"g": "12"}), {}),
    "flv1 flv": ("a.flv", ("flv", {"g": "12"}), {}),
    "h263p avi": ("a.avi", ("h263p", {"g": "12"}), {}),
    "rv20 rm": ("a.rm", ("rv20", {"g": "12"}), {}),
    "svq1 mov": ("a.mov", ("svq1", {"g": "12"}), {"pix_fmt": "yuv410p"}),
    "snow mkv": ("a.mkv", ("snow", {"g": "12", "strict": "-2"}), {}),
    # VP8, VP9, AV1
    "vp8 webm, hidden frames": (
        "a.webm",
        ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "8"}),
        {},
    ),
    "vp8 mkv": ("a.mkv", ("libvpx", {"g": "12", "deadline": "realtime", "cpu-used": "8"}), {}),
    "vp9 webm, hidden frames": (
        "a.webm",
        ("libvpx-vp9", {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}),
        {},
    ),
    "vp9 mp4": ("a.mp4", ("libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}), {}),
    "vp9 ivf": ("a.ivf", ("libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}), {}),
    "av1 mp4": (
        "a.mp4",
        ("libsvtav1", {"g": "12", "preset": "12"}),
        {"size": (64, 64)},
    ),
    # Intra only and lossless
    "mjpeg avi": ("a.avi", ("mjpeg", {}), {"pix_fmt": "yuvj420p"}),
    "mjpeg mov": ("a.mov", ("mjpeg", {}), {"pix_fmt": "yuvj422p"}),
    "prores mov": ("a.mov", ("prores_ks", {}), {"pix_fmt": "yuv422p10le"}),
    "ffv1 mkv": ("a.mkv", ("ffv1", {}), {}),
    "ffv1 avi, across frames": ("a.avi", ("ffv1", {"g": "12", "context": "1"}), {}),
    "huffyuv avi": ("a.avi", ("huffyuv", {}), {"pix_fmt": "yuv422p"}),
    "ffvhuff avi": ("a.avi", ("ffvhuff", {}), {}),
    "utvideo avi": ("a.avi", ("utvideo", {}), {}),
    "png mov": ("a.mov", ("png", {}), {"pix_fmt": "rgb24"}),
    "qtrle mov": ("a.mov", ("qtrle", {"g": "12"}), {"pix_fmt": "rgb24"}),
    "zmbv avi": ("a.avi", ("zmbv", {"g": "12"}), {"pix_fmt": "bgr0"}),
    "jpeg2000 mkv": ("a.mkv", ("jpeg2000", {}), {}),
    "rawvideo avi": ("a.avi", ("rawvideo", {}), {}),
    "magicyuv avi": ("a.avi", ("magicyuv", {}), {"pix_fmt": "yuv420p"}),
    "cinepak avi": ("a.avi", ("cinepak", {"g": "12"}), {"pix_fmt": "rgb24"}),
    "gif": ("a.gif", ("gif", {}), {"pix_fmt": "rgb8"}),
    "apng": ("a.apng", ("apng", {}), {"pix_fmt": "rgb24"}),
    "dv avi": ("a.avi", ("dvvideo", {}), {"size": (576, 720), "frames": 6}),
    "h263 3gp": ("a.3gp", ("h263", {"g": "12"}), {"size": (144, 176), "frames": 20}),
}


def write_kind(path, codec, options, differences):
    """A video of drifting noise, which later pictures are predicted from."""
    height, width = differences.get("size", SIZE)
    frames = differences.get("frames", FRAMES)
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    noise = noise.repeat(max(8, height // 8), 0).repeat(max(8, width // 8), 1)
    muxer = {name: differences[name] for name in ("movflags", "use_editlist") if name in differences}
    with av.open(str(path), "w", options=muxer) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = height, width
        stream.pix_fmt = differences.get("pix_fmt", "yuv420p")
        stream.codec_context.thread_count = 1
        for index in range(frames):
            shown = np.ascontiguousarray(noise[index : index + height, 2 * index :][:, :width])
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts = differences["times"][index] if "times" in differences else index
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def whole_decode(path):
    """Every frame as FFmpeg decodes it, by number."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        aspect = float(stream.sample_aspect_ratio or 1)  # DV and H.263 have pixels that are not square
    if abs(aspect - 1) < 0.01:
        return images
    height, width = images[0].shape[:2]
    size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return [cv2.resize(image, size) for image in images]


def sampled(path, wanted):
    try:
        return list(read_video(path, wanted=wanted, max_pixels=1 << 22))
    except FewerFrames as error:
        return list(read_video(path, wanted=wanted, max_pixels=1 << 22, frame_count=error.count))


def test_there_are_sixty_kinds():
    assert len(KINDS) >= 60


@pytest.mark.parametrize("kind", KINDS)
def test_sampled_frames_equal_a_whole_decode(tmp_path, kind):
    """H.264 with periodic intra refresh gave torn faces with status ok."""
    name, (codec, options), differences = KINDS[kind]
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    path = write_kind(tmp_path / name, codec, options, differences)
    whole = whole_decode(path)
    lost = 25 if kind == "h264 mp4, times from -1 s" else 2  # an edit list hides what is before 0
    assert len(whole) >= differences.get("frames", FRAMES) - lost
    for wanted in (3, 7, 12):
        frames = sampled(path, wanted)
        assert [frame.index for frame in frames] == sample_indices(len(whole), wanted)
        assert {frame.status for frame in frames} == {"ok"}
        for frame in frames:
            assert np.array_equal(frame.image, whole[frame.index]), (frame.index, wanted)
    with suppress(FewerFrames):  # in the middle alone, so that all before could be left out
        [middle] = read_video(path, wanted=[len(whole) - 3], max_pixels=1 << 22)
        assert np.array_equal(middle.image, whole[len(whole) - 3])


@pytest.mark.parametrize("kind", ["h264 mp4, default", "h264 mkv", "h264 ts", "hevc mp4", "mpeg2 ts"])
def test_usual_streams_are_still_sought_in(tmp_path, kind):
    """Most of their packets are left out; to decode all would take ten times as long."""
    name, (codec, options), differences = KINDS[kind]
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    index = read_index(write_kind(tmp_path / name, codec, options, differences), 0)
    assert sum(index.is_key) >= 3
    assert index.is_exact


@pytest.mark.parametrize(
    "kind", ["h264 mp4, intra refresh", "h264 ts, intra refresh", "hevc mp4, intra refresh"]
)
def test_recovery_points_are_no_beginnings(tmp_path, kind):
    name, (codec, options), differences = KINDS[kind]
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    path = write_kind(tmp_path / name, codec, options, differences)
    with av.open(str(path)) as container:
        flagged = sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size)
    assert sum(read_index(path, 0).is_key) == 1
    assert flagged >= 1
