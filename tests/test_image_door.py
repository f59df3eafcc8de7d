"""Files of strangers are decoded through one door: by content, within limits, and nothing else is opened."""

from __future__ import annotations

import ast
import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from preprocessing_fakes import square_frame, write_video

from unmasked.datasets.audit.hashing import read_small
from unmasked.datasets.audit.headers import read_headers
from unmasked.datasets.errors import InputError
from unmasked.datasets.images import (
    FORMATS,
    TooLarge,
    UnreadableImage,
    decode_crop,
    decode_image,
    image_format,
    open_image,
    read_pixels,
)
from unmasked.datasets.loading import read_crop
from unmasked.datasets.regular_files import NotAFile, open_regular, read_regular
from unmasked.datasets.videos import open_video
from unmasked.preprocessing.video import Unreadable, read_image, read_sequence, read_video

ROOT = Path(__file__).parents[1]
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n%%EndComments\nshowpage\n%%EOF\n"


def encoded(image, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


# One door


def test_nothing_but_the_two_doors_opens_images_and_videos():
    """A second door would be one without an allow-list."""
    doors = {"datasets/images.py", "datasets/videos.py"}
    forbidden = {
        ("Image", "open"), ("Pillow", "open"), ("PIL", "open"), ("cv2", "imread"), ("cv2", "imdecode"),
        ("cv2", "imreadmulti"), ("cv2", "VideoCapture"), ("plt", "imread"), ("imageio", "imread"),
    }  # fmt: skip
    layers = ("datasets", "preprocessing", "evaluation", "fairness", "analysis", "ucf", "app")
    found = []
    for path in (path for layer in layers for path in (ROOT / layer).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
            is_writing = any(isinstance(arg, ast.Constant) and arg.value == "w" for arg in call.args)
            is_video = (owner, call.func.attr) == ("av", "open") and not is_writing
            if name not in doors and (is_video or (owner, call.func.attr) in forbidden):
                found.append(f"{name}:{call.lineno}")
    assert found == []


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_on_the_list_is_told_by_content_and_decoded(kind):
    whole = encoded(square_frame(0), kind, **({"quality": 95} if kind in ("JPEG", "AVIF", "WEBP") else {}))
    assert image_format(whole[:64]) == kind
    difference = decode_image(whole).pixels.astype(int) - square_frame(0)
    assert abs(difference).mean() < 3
    assert np.array_equal(decode_crop(whole).shape, (96, 96, 3))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (POSTSCRIPT, "PostScript"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"8BPS\0\1" + bytes(40), "Photoshop"),
        (struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(40), "HEIC"),
        (b"P6 2 2 255 " + bytes(12), "cannot identify"),
        (b"", "cannot identify|zero bytes"),
    ],
)
def test_other_formats_are_refused_by_name_whatever_the_file_is_called(tmp_path, monkeypatch, content, words):
    monkeypatch.setattr("unmasked.datasets.images.has_heif", lambda: False)  # the extra may be installed
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=words), open_image(path):
        pass
    for decode in (decode_image, decode_crop):
        with pytest.raises(UnreadableImage):
            decode(content)
    assert read_small(path) is None
    with pytest.raises(InputError, match="not an intact image"):
        read_crop(path, 32)
    if content:
        with pytest.raises(Unreadable, match=words):
            list(read_image(path, max_pixels=1 << 20))


def test_heic_is_read_where_the_extra_is_installed():
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed (the extra heic)")
    whole = io.BytesIO()
    heif.from_pillow(Image.fromarray(square_frame(0))).save(whole, quality=95)
    assert image_format(whole.getvalue()[:64]) == "HEIF"
    difference = decode_image(whole.getvalue()).pixels.astype(int) - square_frame(0)
    assert abs(difference).mean() < 3
    for cut in (40, len(whole.getvalue()) // 2):
        with pytest.raises(UnreadableImage):
            decode_image(whole.getvalue()[:cut])


# Nothing started, nothing else opened

WATCHED = """
import sys, os
from pathlib import Path
root = Path(sys.argv[1])
import numpy, cv2, PIL.Image, av, pandas
from unmasked.datasets.images import read_pixels, open_image, UnreadableImage
from unmasked.datasets.audit.hashing import read_small
from unmasked.datasets.audit.headers import read_headers
from unmasked.preprocessing.video import Unreadable, FewerFrames, read_image, read_video
PIL.Image.init()
seen = []
def watch(event, arguments):
    if event.startswith(("subprocess.", "socket.", "os.exec", "os.posix_spawn", "os.system", "os.fork")):
        seen.append((event, str(arguments)[:200]))
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.fsdecode(arguments[0])
        if not path.startswith((str(root), sys.prefix, sys.base_prefix)) and "unmasked" not in path:
            seen.append((event, path))
sys.addaudithook(watch)
read = 0
for path in sorted(root.iterdir()):
    for action in (
        lambda: list(read_image(path, max_pixels=1 << 22)),
        lambda: list(read_video(path, wanted=3, max_pixels=1 << 22)),
        lambda: read_pixels(path),
        lambda: read_small(path),
    ):
        try:
            read += action() is not None
        except (Unreadable, UnreadableImage, FewerFrames, OSError):
            pass
    rows = pandas.DataFrame({"root": [str(root)] * 2, "path": [path.name] * 2, "kind": ["image", "video"]})
    read_headers(rows, workers=1)
print("READ", read)
print("SEEN", seen)
"""


def write_hostile(folder, port):
    """Files that ask their decoder for programs, other files and the network."""
    folder.mkdir()
    for name in ("a.png", "a.jpg", "a.mp4"):
        (folder / name).write_bytes(POSTSCRIPT)
    secret = write_video(folder.parent / "secret.mp4", 3)
    url = f"http://127.0.0.1:{port}/x.mp4"
    (folder / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{secret}'\n")
    (folder / "play.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n")
    (folder / "play.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"
    )
    (folder / "dash.mp4").write_text(
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'><Period>"
        f"<AdaptationSet><Representation id='1'><BaseURL>{url}</BaseURL></Representation></AdaptationSet>"
        "</Period></MPD>"
    )
    (folder / "sdp.mp4").write_text(
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n"
    )
    (folder / "a.svg").write_text(f"<svg xmlns='http://www.w3.org/2000/svg'><image href='{url}'/></svg>")
    write_video(folder / "good.mp4", 3)
    Image.fromarray(square_frame(0)).save(folder / "good.png")


def test_hostile_files_start_no_program_and_open_nothing_else(tmp_path):
    """A PostScript file called a.png was handed to Ghostscript, which ran what it says."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    write_hostile(tmp_path / "files", server.getsockname()[1])
    programs, marker = tmp_path / "bin", tmp_path / "was-run"
    programs.mkdir()
    for name in ("gs", "gswin64c", "convert", "rsvg-convert", "djpeg"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path / "files")],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "READ 5" in done.stdout, done.stdout  # the video one way, the picture four ways
    assert "SEEN []" in done.stdout, done.stdout
    assert not marker.exists()
    with pytest.raises(BlockingIOError):
        server.accept()
    server.close()


@pytest.mark.parametrize(
    "name",
    ["a:b.mp4", "concat:q.mp4", "pipe:0", "clip%03d.mp4", "file:a.mp4", "data:a.mp4", "-", "cache:x|y.mp4"],
)
def test_a_name_is_never_taken_for_an_address(tmp_path, name):
    whole = write_video(tmp_path / "plain.mp4", 3)
    if os.name == "nt":
        pytest.skip("such names are not possible here")
    odd = whole.rename(tmp_path / name)
    frames = list(read_video(odd, wanted=3, max_pixels=1 << 20))
    assert [frame.status for frame in frames] == ["ok"] * 3


def test_a_video_called_as_a_web_address_is_a_file(tmp_path):
    odd = tmp_path / "http:" / "127.0.0.1:1" / "x.mp4"
    write_video(odd, 3)
    assert len(list(read_video(odd, wanted=3, max_pixels=1 << 20))) == 3


def test_a_playlist_is_refused_in_words(tmp_path):
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile 'b.mp4'\n")
    write_video(tmp_path / "b.mp4", 3)
    with pytest.raises(Unreadable, match="not a video format that is read here"):
        list(read_video(tmp_path / "a.mp4", wanted=3, max_pixels=1 << 20))


def test_a_movie_that_refers_to_another_file_does_not_open_it(tmp_path):
    """QuickTime data references: the sample data stand in another file."""
    write_video(tmp_path / "b.mov", 3)
    content = (tmp_path / "b.mov").read_bytes()
    reference = b"alis\0\0\0\0"
    content = content.replace(b"url \0\0\0\1", reference)
    (tmp_path / "a.mov").write_bytes(content)
    with open_video(tmp_path / "a.mov") as container:
        assert len(container.streams.video) == 1


# Not files


@pytest.fixture(params=["pipe", "socket", "device", "folder"])
def special(request, tmp_path):
    path = tmp_path / "a.png"
    if request.param == "pipe":
        os.mkfifo(path)
        yield path
    elif request.param == "socket":
        listening = socket.socket(socket.AF_UNIX)
        os.chdir(tmp_path)  # names of sockets are short
        listening.bind("a.png")
        os.chdir(ROOT)
        yield path
        listening.close()
    elif request.param == "device":
        path.symlink_to("/dev/zero")
        yield path
    else:
        path.mkdir()
        yield path


@pytest.mark.skipif(os.name == "nt", reason="no such files here")
def test_what_is_no_ordinary_file_is_refused_and_never_waited_for(special, tmp_path):
    """A pipe called a.png was waited for without end, /dev/zero was read without end."""
    for read in (open_regular, read_regular):
        with pytest.raises((NotAFile, IsADirectoryError)):
            read(special)
    with pytest.raises((UnreadableImage, OSError)):
        read_pixels(special)
    assert read_small(special) is None
    with pytest.raises(InputError):
        read_crop(special, 32)
    for read in (read_image, lambda path, max_pixels: read_video(path, wanted=1, max_pixels=max_pixels)):
        with pytest.raises(Unreadable):
            list(read(special, max_pixels=1 << 20))
    if not special.is_dir():
        Image.fromarray(square_frame(0)).save(tmp_path / "b.png")
        frames = list(read_sequence(tmp_path.parent, tmp_path.name, wanted=9, max_pixels=1 << 20))
        assert [frame.status for frame in frames] == ["decode_error", "ok"]


def test_a_nul_in_a_name_is_refused():
    with pytest.raises(NotAFile):
        open_regular("a\0b.png")
    with pytest.raises(InputError):
        read_crop("a\0b.png", 32)
    with pytest.raises(Unreadable, match="does not exist"):
        list(read_video(Path("a\0b.mp4"), wanted=1, max_pixels=1 << 20))


# Bombs


def bomb(kind, side_px):
    """A small file whose header announces a large picture."""
    if kind == "PNG":

        def chunk(name, data):
            body = name + data
            return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

        header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
        packed = zlib.compress(bytes(100_000), 9)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    whole = bytearray(encoded(square_frame(0), kind))
    if kind == "JPEG":
        at = whole.index(b"\xff\xc0")
        struct.pack_into(">HH", whole, at + 5, side_px, side_px)
    elif kind == "GIF":
        struct.pack_into("<HH", whole, 6, side_px, side_px)
    elif kind == "BMP":
        struct.pack_into("<ii", whole, 18, side_px, side_px)
    return bytes(whole)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
@pytest.mark.parametrize("side_px", [20_000, 65_535])
def test_a_header_that_announces_a_huge_picture_is_refused_before_decoding(kind, side_px):
    """124 KB unpacked to 6.6 GB; sides of 65,535 ended in OpenCV's own exception."""
    content = bomb(kind, side_px)
    for decode in (decode_image, decode_crop):
        with pytest.raises(TooLarge):
            decode(content)


def test_a_crop_that_is_a_bomb_is_an_input_error(tmp_path):
    (tmp_path / "a.png").write_bytes(bomb("PNG", 40_000))
    with pytest.raises(InputError, match="40000 x 40000"):
        read_crop(tmp_path / "a.png", 32)


def test_opencv_and_pillow_agree_on_crops():
    image = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    content = encoded(image, "PNG")
    assert np.array_equal(decode_crop(content), image)
    assert np.array_equal(decode_image(content).pixels, image)
    written, jpeg = cv2.imencode(".jpg", image)
    assert written
    assert np.array_equal(decode_crop(jpeg.tobytes()), cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB))


def test_random_bytes_behind_a_right_beginning_never_raise_anything_else():
    rng = np.random.default_rng(0)
    for kind in FORMATS:
        whole = encoded(square_frame(0), kind)
        for _ in range(30):
            content = bytearray(whole)
            for at in rng.integers(12, len(content), 12):
                content[at] = rng.integers(256)
            for decode in (decode_image, decode_crop):
                with suppress(UnreadableImage):
                    decode(bytes(content), 1 << 22)


def test_headers_of_a_pipe_are_unreadable_and_not_waited_for(tmp_path):
    import pandas as pd

    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    os.mkfifo(tmp_path / "a.mp4")
    os.mkfifo(tmp_path / "a.png")
    rows = pd.DataFrame({"root": [str(tmp_path)] * 2, "path": ["a.mp4", "a.png"], "kind": ["video", "image"]})
    assert read_headers(rows)["status"].tolist() == ["unreadable", "unreadable"]
