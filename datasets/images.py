"""The one door through which image files are opened and decoded, whoever made them.

Formats are told by content and only those of `FORMATS` are decoded: left to itself, Pillow hands a
PostScript file called ``a.png`` to Ghostscript, which is a programming language. The size is read from the
header before anything is decoded, and only ordinary files are opened.
"""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from unmasked.datasets.regular_files import NotAFile, open_regular, read_regular

# Decoders that run in this process, on the bytes that they are given, and open nothing else.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "AVIF")
MAX_PIXELS = 8192 * 8192
BACKGROUND = (255, 255, 255)  # of transparent pictures, as browsers show them

# What Pillow's decoders raise on damaged files.
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, struct.error, IndexError, KeyError, TypeError)

_HEAD_BYTES = 64
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Formats that are known and not read, to be named to whoever brings one.
_REFUSED = {
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"<svg": "SVG",
    b"<?xml": "SVG or XML",
}
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


class UnreadableImage(ValueError):
    """An image that cannot be decoded: of another format, damaged, or no file.

    The message says which.
    """


class TooLarge(UnreadableImage):
    """An image with more pixels than are decoded."""


@dataclass(frozen=True)
class Picture:
    """A decoded image, and what was done to show it, in words; "" for nothing."""

    pixels: NDArray[np.uint8]  # (H, W, 3) RGB, upright
    conversion: str = ""


def image_format(head: bytes) -> str:
    """The format, out of `FORMATS` or HEIF, of a file that begins with ``head``.

    Args:
        head: the first 64 bytes, or all of a shorter file.

    Raises:
        UnreadableImage: another format, which is named where it is known, or none.

    >>> image_format(b"GIF89a")
    'GIF'
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM"):
        return "BMP"
    if head[4:8] == b"ftyp":
        brands = [head[start : start + 4] for start in range(8, min(len(head), _box_end(head)), 4)]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if any(brand in _HEIC_BRANDS for brand in brands):
            if has_heif():
                return "HEIF"
            raise UnreadableImage(
                f"HEIC, which the installed libraries do not read; {_CONVERT}, or pip install unmasked[heic]"
            )
    name = next((name for mark, name in _REFUSED.items() if head.lstrip().startswith(mark)), "")
    if name:
        raise UnreadableImage(f"{name}, which is not decoded here; {_CONVERT}")
    raise UnreadableImage("cannot identify image file")


_CONVERT = "convert it to PNG or JPEG"


@lru_cache
def has_heif() -> bool:
    """True if HEIC pictures can be read, by the extra `heic`; Pillow knows them from then on."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False)
    return True


@contextmanager
def open_image(source: bytes | BinaryIO | str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Pillow's image of encoded bytes or of a file, its header read and nothing decoded yet.

    Pillow warns of large images and damaged notes; callers have limits of their own and may ignore it.
    What its decoders raise on damage (`DAMAGED`) passes through when the caller decodes.

    Raises:
        UnreadableImage: a format that is not decoded here, a damaged header, or no ordinary file.
        OSError: there is no such file, or it may not be read.
    """
    if isinstance(source, (str, os.PathLike)):
        try:
            stream: BinaryIO = open_regular(source)
        except NotAFile as error:
            raise UnreadableImage(str(error)) from error
    else:
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
    with stream:
        head = stream.read(_HEAD_BYTES)
        if not head:
            raise UnreadableImage("zero bytes")
        known = image_format(head)
        stream.seek(0)
        try:
            image = Image.open(stream, formats=[known])
        except Image.DecompressionBombError as error:
            raise TooLarge(str(error)) from error
        except DAMAGED as error:
            raise UnreadableImage(_words(error)) from error
        with image:
            yield image


def decode_image(encoded: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """The image as browsers and players show it.

    Upright, over white where transparent, at 8 bits.
    Of an animation the first frame. CMYK is converted without its profile.

    Args:
        encoded: the bytes of an image file.
        max_pixels: larger images are not decoded; told by the header.

    Raises:
        UnreadableImage: it cannot be decoded.
        TooLarge: it has more than ``max_pixels``.
    """
    with warnings.catch_warnings(), open_image(encoded) as image:
        warnings.simplefilter("ignore")  # Pillow's, of damaged notes in a file
        _check_size(image.width, image.height, max_pixels)
        done = []
        try:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                done.append(f"first of {frames} frames")
            upright = _eight_bits(_upright(image, done), done)
            if upright.has_transparency_data:
                upright = _over_background(upright, done)
            elif upright.mode == "CMYK":
                done.append("CMYK without profile")
            return Picture(np.asarray(upright.convert("RGB")), "; ".join(done))
        except Image.DecompressionBombError as error:
            raise TooLarge(str(error)) from error
        except DAMAGED as error:
            raise UnreadableImage(_words(error)) from error


def decode_crop(encoded: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of an encoded image.

    PNG and JPEG without transparency by OpenCV, which is faster.

    Raises:
        UnreadableImage, TooLarge: as `decode_image`.
    """
    known = image_format(encoded[:_HEAD_BYTES])
    is_plain = known == "JPEG" or (known == "PNG" and encoded[25:26] in (b"\0", b"\2"))
    if not is_plain or b"tRNS" in encoded[:1024]:
        return decode_image(encoded, max_pixels).pixels
    _check_size(*_plain_size(encoded, known), max_pixels)
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise UnreadableImage("not an intact image") from error
    if image is None:
        raise UnreadableImage("not an intact image")
    return image  # type: ignore[return-value]


def read_pixels(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of an image file, see `decode_crop`.

    Raises:
        UnreadableImage, TooLarge: it cannot be decoded, or is no ordinary file.
        OSError: there is no such file, or it may not be read.
    """
    try:
        encoded = read_regular(path)
    except NotAFile as error:
        raise UnreadableImage(str(error)) from error
    if not encoded:
        raise UnreadableImage("zero bytes")
    return decode_crop(encoded, max_pixels)


def fit_to_size(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """An (H, W, 3) image as (size_px, size_px, 3): itself, reduced by area or bicubic."""
    if image.shape[:2] == (size_px, size_px):
        return image
    shrinks = image.shape[0] * image.shape[1] > size_px * size_px
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (size_px, size_px), interpolation=interpolation)  # type: ignore[return-value]


def size_words(width: int, height: int, max_pixels: int) -> str:
    """Why an image of this size is not decoded, in words."""
    return f"a frame has {width} x {height} pixels, more than max_pixels={max_pixels}"


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooLarge(size_words(width, height, max_pixels))


def _plain_size(encoded: bytes, known: str) -> tuple[int, int]:
    """Width and height of a PNG or JPEG by its header; (0, 0) where it has none and cannot be decoded."""
    if known == "PNG":
        return struct.unpack(">II", encoded[16:24]) if len(encoded) >= 24 else (0, 0)
    at = 2
    while at + 9 <= len(encoded) and encoded[at] == 0xFF:
        marker = encoded[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header
            height, width = struct.unpack_from(">HH", encoded, at + 5)
            return width, height
        elif 0xD0 <= marker <= 0xD8 or marker == 0x01:  # without a length
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", encoded, at + 2)[0])
    return 0, 0


def _upright(image: Image.Image, done: list[str]) -> Image.Image:
    """The image turned by its EXIF orientation; as it is where that cannot be read."""
    try:
        orientation = image.getexif().get(0x0112, 1)
        turned = ImageOps.exif_transpose(image)
    except DAMAGED:  # of the EXIF data; viewers then show the picture as it is
        image.load()
        return image
    if orientation in range(2, 9):
        done.append("turned by EXIF")
    return turned


def _eight_bits(image: Image.Image, done: list[str]) -> Image.Image:
    """A grey image of more than 8 bits at 8; Pillow would clip it to white."""
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("grey levels outside 0 to 65535")
        done.append("16 bits to 8")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("grey levels as floating point numbers, whose white is not stated")
    return image


def _over_background(image: Image.Image, done: list[str]) -> Image.Image:
    """A transparent image over `BACKGROUND`; one that is opaque everywhere without a word."""
    clear = image.convert("RGBA")
    if clear.getchannel("A").getextrema() == (255, 255):
        return clear.convert("RGB")
    done.append("transparency over white")
    return Image.alpha_composite(Image.new("RGBA", clear.size, (*BACKGROUND, 255)), clear)


def _box_end(head: bytes) -> int:
    return int.from_bytes(head[:4], "big")


def _words(error: Exception) -> str:
    """The error in one line, without the memory addresses that make equal runs differ."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r" at 0x[0-9a-f]+", "", re.sub(r"<_io\.\w+ object[^>]*>|<_io\.\w+ [^>]*>", "file", first))
