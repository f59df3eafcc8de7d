"""Pictures and videos come as players and browsers show them, and what was done for that is said."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from preprocessing_fakes import square_frame, write_video

from unmasked.datasets.images import decode_image
from unmasked.preprocessing.display import tone_mapped, turned
from unmasked.preprocessing.truncation import is_cut_short
from unmasked.preprocessing.video import read_image, read_video

IDENTITY = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
CORNERS = np.array([[[1], [2]], [[3], [4]]], np.uint8)  # each corner can be told
# a, b, c, d of the matrix -> where the corners 1 2 / 3 4 are shown.
TURNS = {
    "as it is": ((1, 0, 0, 1), [[1, 2], [3, 4]]),
    "mirrored": ((-1, 0, 0, 1), [[2, 1], [4, 3]]),
    "upside down mirrored": ((1, 0, 0, -1), [[3, 4], [1, 2]]),
    "half a turn": ((-1, 0, 0, -1), [[4, 3], [2, 1]]),
    "clockwise": ((0, 1, -1, 0), [[3, 1], [4, 2]]),
    "counter-clockwise": ((0, -1, 1, 0), [[2, 4], [1, 3]]),
    "transposed": ((0, 1, 1, 0), [[1, 3], [2, 4]]),
    "transposed the other way": ((0, -1, -1, 0), [[4, 2], [3, 1]]),
}


def frames_of(path, wanted=4):
    return list(read_video(path, wanted=wanted, max_pixels=1 << 22))


@pytest.mark.parametrize("name", TURNS)
def test_all_eight_display_matrices_are_honoured(name):
    (a, b, c, d), expected = TURNS[name]
    assert turned(CORNERS, (a, b, 0, c, d, 0, 0, 0, 1))[..., 0].tolist() == expected


@pytest.mark.parametrize("name", ["mirrored", "upside down mirrored", "half a turn", "transposed"])
def test_a_mirrored_video_is_shown_mirrored(tmp_path, name):
    """A mirroring matrix was taken for a half turn: faces upside down, status ok."""
    (a, b, c, d), expected = TURNS[name]
    path = write_video(
        tmp_path / "a.mp4", 2, draw=lambda _: CORNERS.repeat(32, 0).repeat(32, 1).repeat(3, 2) * 60
    )
    content = path.read_bytes()
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    at = content.index(IDENTITY, content.index(b"tkhd"))
    path.write_bytes(content[:at] + matrix + content[at + len(IDENTITY) :])
    frame = frames_of(path)[0]
    shown = np.rint(frame.image[16::32, 16::32].mean(axis=2) / 60).astype(int)
    assert shown.tolist() == expected
    assert frame.conversion == "turned by display matrix"


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(2), (96, 192)), (Fraction(1, 2), (192, 96))])
def test_pixels_that_are_not_square_are_stretched(tmp_path, aspect, size):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 96
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for index in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(square_frame(index), format="rgb24")))
        container.mux(stream.encode())
    frame = frames_of(path)[0]
    assert frame.image.shape == (*size, 3)
    assert frame.conversion == f"pixels of {aspect} made square"


def hdr_code(light, transfer):
    """The signal, 0 to 65535, of the light of a grey in cd/m2: SMPTE ST 2084, or HLG on a screen of 1,000."""
    if transfer == "PQ":
        y = (light / 10_000) ** (2610 / 16384)
        signal = ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)
    else:
        scene = (light / 1000) ** (1 / 1.2)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        signal = np.where(
            scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
        )
    return np.rint(signal * 65535).astype(np.uint16)


@pytest.mark.parametrize("transfer", ["HLG", "PQ"])
def test_dim_light_keeps_its_brightness_and_bright_light_is_compressed(transfer):
    """Below the knee of BT.2390 (some 25 cd/m2) light is kept on a screen of 100 cd/m2; 1,000 is white."""
    light = np.array([1.0, 5, 20, 100, 400, 1000])
    image = hdr_code(light, transfer)[None, :, None].repeat(3, 2)
    shown = tone_mapped(image, transfer, is_wide=True)[0]
    assert (np.ptp(shown.astype(int), axis=1) <= 1).all()  # greys stay grey
    grey = 255 * (light / 100) ** (1 / 2.4)
    np.testing.assert_allclose(shown[:3, 1], grey[:3], atol=2)
    assert 150 < shown[3, 1] < 230
    assert shown[3, 1] < shown[4, 1] < shown[5, 1]
    assert shown[5, 1] >= 254


def test_hdr_video_is_tone_mapped_and_said(shared):
    case = shared / "cases" / "11-hdr"
    plain = frames_of(case / "fake" / "plain.mp4")
    for name, word in (("hlg", "HLG"), ("pq", "PQ")):
        frames = frames_of(case / "real" / f"{name}.mp4")
        assert {frame.conversion for frame in frames} == {f"tone-mapped from {word}"}
        difference = abs(frames[0].image.astype(int) - plain[0].image.astype(int))
        assert difference.mean() < 7
        assert abs(frames[0].image.std() - plain[0].image.std()) < 7  # was 39 instead of 59: washed out


def test_the_shared_cases_show_what_players_show(shared):
    cases = shared / "cases"
    plain = frames_of(cases / "10-mirrored-display-matrix" / "fake" / "plain.mp4")[0].image.astype(int)
    upright = frames_of(cases / "10-mirrored-display-matrix" / "real" / "mirror_by_matrix.mp4")[0].image
    assert abs(upright - plain).mean() < 1
    stretched = frames_of(cases / "12-anamorphic" / "real" / "sar2.mp4")[0].image
    assert abs(stretched - plain).mean() < 2
    for name in ("gray8", "gray16"):
        [frame] = read_image(cases / "13-grey16" / f"{name}.png", max_pixels=1 << 22)
        assert set(np.unique(frame.image)) >= {88, 134, 58, 172}
    cut = list(read_video(cases / "24-truncated-mkv" / "fake" / "trunc.mkv", wanted=8, max_pixels=1 << 22))
    assert [frame.index for frame in cut] == [0, 2, 5, 8, 10, 13, 16, 19]
    assert [frame.status for frame in cut] == ["ok"] * 2 + ["decode_error"] * 6
    assert "cut short after frame 4" in cut[-1].reason


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi", "a.mp4"])
def test_frames_lost_at_a_cut_are_said_in_every_container(tmp_path, name):
    """A cut Matroska file was a whole video of fewer frames."""
    codec = {"a.webm": "libvpx", "a.avi": "mpeg4"}.get(name, "libx264")
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_video(tmp_path / name, 20, draw=lambda index: noise[index], codec=codec, **options)
    assert not is_cut_short(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5])
    assert is_cut_short(path)
    frames = frames_of(path, 5)
    assert [frame.index for frame in frames] == [0, 4, 9, 14, 19]
    statuses = [frame.status for frame in frames]
    assert statuses == sorted(statuses, reverse=True)
    assert statuses.count("ok") >= 1
    assert statuses.count("decode_error") >= 2


def test_of_several_video_streams_the_largest_is_read(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(3)]
        for stream, side_px in zip(streams, (32, 96, 64), strict=True):
            stream.width = stream.height = side_px
            stream.pix_fmt = "yuv420p"
        for index in range(3):
            for stream in streams:
                shown = square_frame(index, size_px=stream.width)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    assert frames_of(path)[0].image.shape == (96, 96, 3)


# Images


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_sixteen_bit_greys_keep_their_level():
    """Pillow clips them to white."""
    levels = np.array([[0, 58, 88, 134, 172, 255]], np.uint16) * 257
    for content in (cv2.imencode(".png", levels)[1].tobytes(), encoded(Image.fromarray(levels))):
        picture = decode_image(content)
        assert picture.pixels[0, :, 0].tolist() == [0, 58, 88, 134, 172, 255]
        assert picture.conversion == "16 bits to 8"


def test_sixteen_bit_colours_keep_their_level():
    levels = np.array([[[10, 58, 88], [134, 172, 250]]], np.uint16) * 257
    picture = decode_image(cv2.imencode(".png", levels)[1].tobytes())
    assert picture.pixels[0].tolist() == [[88, 58, 10], [250, 172, 134]]  # OpenCV writes BGR


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_show_white_not_what_is_hidden_there(mode):
    image = Image.new("RGBA", (4, 1), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 128))
    content = encoded(image.convert(mode) if mode != "P" else image.quantize(8))
    picture = decode_image(content)
    assert picture.pixels[0, 0].tolist() == [0, 0, 0]
    assert picture.pixels[0, 3].tolist() == [255, 255, 255]
    assert abs(int(picture.pixels[0, 1, 0]) - 127) <= 1
    assert picture.conversion == "transparency over white"


def test_an_opaque_alpha_channel_changes_nothing():
    picture = decode_image(encoded(Image.fromarray(square_frame(0)).convert("RGBA")))
    assert np.array_equal(picture.pixels, square_frame(0))
    assert picture.conversion == ""


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_of_an_animation_the_first_frame_is_shown_and_said(kind):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    picture = decode_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert abs(picture.pixels[5, 5].astype(int) - (255, 0, 0)).max() <= 4
    assert picture.conversion.startswith("first of 3 frames")


def test_cmyk_becomes_rgb_and_is_said():
    picture = decode_image(encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95))
    assert abs(picture.pixels[5, 5].astype(int) - (255, 0, 0)).max() <= 6
    assert picture.conversion == "CMYK without profile"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_honoured(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(CORNERS[..., 0].repeat(16, 0).repeat(16, 1) * 60)
    shown = decode_image(encoded(image, "PNG", exif=exif)).pixels[8::16, 8::16, 0] // 60
    expected = {
        1: [[1, 2], [3, 4]], 2: [[2, 1], [4, 3]], 3: [[4, 3], [2, 1]], 4: [[3, 4], [1, 2]],
        5: [[1, 3], [2, 4]], 6: [[3, 1], [4, 2]], 7: [[4, 2], [3, 1]], 8: [[2, 4], [1, 3]],
    }  # fmt: skip
    assert shown.tolist() == expected[orientation]
