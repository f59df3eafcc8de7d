"""Decoded video frames as players show them.

Upright, with square pixels, for an ordinary screen.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from numpy.typing import NDArray

from unmasked.datasets.images import Picture

# Pixels up to 1 % from square are left alone: they come from rounded headers.
SQUARE_TOLERANCE = 0.01
ASPECT_MAX = 8  # a header that says more is taken for damaged
# Cd/m2: the peak of HDR as it is graded and of the screen that it is shown on (ITU-R BT.2390-10, 5.4).
HDR_PEAK, SDR_PEAK = 1000.0, 100.0
SDR_GAMMA = 2.4  # ITU-R BT.1886
_HDR = {int(ColorTrc.ARIB_STD_B67): "HLG", int(ColorTrc.SMPTE2084): "PQ"}
# Linear BT.2020 to linear BT.709 (ITU-R BT.2087), and the luminance of BT.2020 (ITU-R BT.2100).
_TO_BT709 = np.array(
    [(1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)], np.float32
)
_LUMINANCE = np.array([(0.2627, 0.6780, 0.0593)], np.float32)
_MATRIX = Type.DISPLAYMATRIX
_STEPS = 4096  # of tone curves, evenly spaced in the square root of light
# SMPTE ST 2084.
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128


def shown_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height once pixels are square.

    The side that is too short is enlarged, none is reduced.

    Args:
        width: stored, in pixels.
        height: stored, in pixels.
        aspect: width of a pixel over its height; None or 0 where the file does not say.

    >>> shown_size(240, 480, Fraction(2)), shown_size(720, 576, Fraction(1, 2)), shown_size(9, 9, None)
    ((480, 480), (720, 1152), (9, 9))
    """
    ratio = float(aspect or 1)
    if abs(ratio - 1) <= SQUARE_TOLERANCE or not 1 / ASPECT_MAX <= ratio <= ASPECT_MAX:
        return width, height
    return (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))


def show(frame: av.VideoFrame, aspect: Fraction | None, reformatter: VideoReformatter) -> Picture:
    """The frame as a player shows it, and what was done for that.

    HDR is brought to an ordinary screen by the tone curve of ITU-R BT.2390; see `tone_mapped`.

    Args:
        frame: decoded.
        aspect: as in `shown_size`.
        reformatter: kept from frame to frame, since each starts threads of its own.

    Raises:
        av.FFmpegError, ValueError: a pixel format that FFmpeg cannot convert.
    """
    done = []
    transfer = _HDR.get(int(frame.color_trc))
    image: NDArray[np.uint8]
    if transfer:
        wide = reformatter.reformat(frame, format="rgb48le").to_ndarray()
        image = tone_mapped(
            wide.astype(np.uint16, copy=False),
            transfer,
            is_wide=frame.color_primaries == ColorPrimaries.BT2020,
        )
        done.append(f"tone-mapped from {transfer}")
    else:
        image = reformatter.reformat(frame, format="rgb24").to_ndarray()  # type: ignore[assignment]
    size = shown_size(frame.width, frame.height, aspect)
    if size != (frame.width, frame.height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
        done.append(f"pixels of {Fraction(aspect or 1)} made square")
    upright = _upright(image, frame, done)
    return Picture(np.ascontiguousarray(upright), "; ".join(done))


def turned(image: NDArray[np.uint8], matrix: tuple[int, ...]) -> NDArray[np.uint8]:
    """The image after the turn and mirroring nearest to a display matrix.

    Itself where there is none.

    Args:
        image: (H, W, C).
        matrix: a, b, u, c, d, v, x, y, w of ISO/IEC 14496-12: a point (x, y) is shown at
            (a x + c y, b x + d y), y downwards.

    >>> turned(np.array([[[1], [2]]], np.uint8), (0, 1, 0, -1, 0, 0, 0, 0, 1)).ravel().tolist()  # clockwise
    [1, 2]
    """
    a, b, _, c, d = matrix[:5]
    shown = image
    if abs(a) + abs(d) >= abs(b) + abs(c):
        flip_x, flip_y = a < 0, d < 0
    else:
        # OpenCV's copies take an eighth of the time of NumPy's, which go by single bytes.
        shown = cv2.transpose(image)  # type: ignore[assignment]
        flip_x, flip_y = c < 0, b < 0
    if flip_x or flip_y:
        # In place where it is our own copy: new memory costs more than the turn.
        own = None if shown is image else shown
        shown = cv2.flip(shown, -1 if flip_x and flip_y else int(flip_x), dst=own)  # type: ignore[assignment]
    return image if shown is image else shown.reshape(*shown.shape[:2], image.shape[2])


def tone_mapped(image: NDArray[np.uint16], transfer: str, *, is_wide: bool) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB for an ordinary screen of an HDR image: BT.709 colours, gamma 2.4.

    Light is computed as for a screen of 1,000 cd/m2 (HLG: ITU-R BT.2100 with its system gamma of 1.2); the
    largest of the three channels is brought below 100 cd/m2 by the curve of ITU-R BT.2390, the others in
    proportion, so that hues are kept.

    Args:
        image: (H, W, 3) RGB, 0 to 65535.
        transfer: HLG or PQ.
        is_wide: True if its primaries are those of BT.2020.
    """
    light = _light_of_code(transfer)[image]  # (H, W, 3) float32, 1 = HDR_PEAK
    if transfer == "HLG":
        luminance = cv2.transform(light, _LUMINANCE)
        light = light * np.power(luminance, 0.2).reshape(*luminance.shape[:2], 1)
    largest = np.minimum(light.max(axis=2, keepdims=True), 1)
    gain = _tone_curve()[(np.sqrt(largest) * (_STEPS - 1)).astype(np.int32)]
    light = light * gain
    if is_wide:
        light = cv2.transform(light, _TO_BT709)  # type: ignore[assignment]
    return (np.power(np.clip(light, 0, 1), 1 / SDR_GAMMA) * 255 + 0.5).astype(np.uint8)


def _upright(image: NDArray[np.uint8], frame: av.VideoFrame, done: list[str]) -> NDArray[np.uint8]:
    """The image turned and mirrored by the frame's display matrix, as phones and editors write it."""
    # By key: what iterating gives is another thing from PyAV 19 on.
    beside: Any = frame.side_data
    matrix = beside.get(_MATRIX)
    if matrix is None:
        return image
    upright = turned(image, struct.unpack("=9i", bytes(matrix)[:36]))
    if upright is not image:
        done.append("turned by display matrix")
    return upright


@lru_cache(maxsize=2)
def _light_of_code(transfer: str) -> NDArray[np.float32]:
    """(65536,) the light of each code, 1 = HDR_PEAK; of HLG the scene's, before its system gamma."""
    signal = np.arange(65536) / 65535
    if transfer == "PQ":
        return np.minimum(_light_of_pq(signal) / HDR_PEAK, 10).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073  # ITU-R BT.2100, table 5
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


@lru_cache(maxsize=1)
def _tone_curve() -> NDArray[np.float32]:
    """(_STEPS,) what light is multiplied by, so that SDR_PEAK is 1: ITU-R BT.2390-10, 5.4.1, from black 0."""
    light = np.maximum(np.linspace(0, 1, _STEPS), 1e-4) ** 2 * HDR_PEAK
    top = _pq_of_light(np.array(HDR_PEAK))
    signal, largest = _pq_of_light(light) / top, _pq_of_light(np.array(SDR_PEAK)) / top
    knee = 1.5 * largest - 0.5
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee)
    spline += (-2 * t**3 + 3 * t**2) * largest
    mapped = _light_of_pq(np.where(signal < knee, signal, spline) * top)
    return (mapped / light * HDR_PEAK / SDR_PEAK).astype(np.float32)


def _light_of_pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cd/m2 of a PQ signal in [0, 1]."""
    power = signal ** (1 / _M2)
    return 10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def _pq_of_light(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """The PQ signal, in [0, 1], of cd/m2."""
    power = (light / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
