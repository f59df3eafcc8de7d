"""What happens to pictures on their way to a detector.

Nine perturbations at five severities each.
Adding one is adding a function here, marked with the words for its setting and five settings from mild to
strong. Images are (H, W, 3) uint8 RGB and keep their shape. Settings in pixels are pixels of the image that
is changed: a kernel of 3 is more of a crop of 128 px than of a frame of 1080 lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageEnhance

from unmasked.datasets.errors import InputError, did_you_mean
from unmasked.datasets.images import decode_crop

Image = NDArray[np.uint8]
Where = Literal["crop", "frame"]

SEVERITIES = (1, 2, 3, 4, 5)
BLOCK_PX = 16  # a macroblock of H.264
# One published setting each, by the name that others' tables give it: (perturbation, severity).
NAMED = {"jpeg_50": ("jpeg", 3), "blur_3": ("gaussian_blur", 1), "noise_0.02": ("gaussian_noise", 2)}


@dataclass(frozen=True)
class Perturbation:
    """One kind of change and its five settings, from mild to strong."""

    name: str
    change: Callable[..., Any]  # (image, setting, generator) -> image, or (source, target, setting) -> None
    settings: tuple[float, ...]
    words: str  # of a setting, for `str.format`
    of_video: bool = False  # changes a whole file, not an image


PERTURBATIONS: dict[str, Perturbation] = {}


@dataclass(frozen=True)
class Setting:
    """A perturbation at one severity, on the crop or on the frame before the crop is cut."""

    name: str
    severity: int
    where: Where

    @property
    def perturbation(self) -> Perturbation:
        """What it is a setting of."""
        return PERTURBATIONS[self.name]

    @property
    def label(self) -> str:
        """What the column ``perturbation`` says: ``jpeg`` on the crop, ``jpeg@frame``, ``h264``."""
        return self.name if self.where == "crop" or self.perturbation.of_video else f"{self.name}@frame"

    @property
    def value(self) -> float:
        """The setting itself: a quality, a standard deviation, …"""
        return self.perturbation.settings[self.severity - 1]

    def apply(self, image: Image, seed: int, *key: object) -> Image:
        """The image after the perturbation; random draws depend on the arguments and nothing else.

        Args:
            image: (H, W, 3) uint8 RGB; it is not changed in place.
            seed: of the whole run.
            key: which image it is: its video, frame, …
        """
        text = repr((seed, *map(str, key), self.label, self.severity))
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "big"))
        return self.perturbation.change(image, self.value, rng)


def split_label(label: str) -> tuple[str, Where]:
    """Name and place that a label of the predictions' column ``perturbation`` means.

    >>> split_label("jpeg"), split_label("jpeg@frame"), split_label("h264")
    (('jpeg', 'crop'), ('jpeg', 'frame'), ('h264', 'frame'))
    """
    name, _, place = label.partition("@")
    of_video = name in PERTURBATIONS and PERTURBATIONS[name].of_video
    return name, "frame" if place == "frame" or of_video else "crop"


def setting_words(name: str, severity: int) -> str:
    """A severity in words; "" for a perturbation that is not one of ours.

    >>> setting_words("jpeg", 3), setting_words("gaussian_noise", 2), setting_words("fog", 1)
    ('quality 50', 'standard deviation 0.02 x 255', '')
    """
    known = PERTURBATIONS.get(name)
    if known is None or severity not in SEVERITIES:
        return ""
    return known.words.format(known.settings[severity - 1])


def settings_of(names: Iterable[str], severities: Iterable[int] = SEVERITIES) -> list[Setting]:
    """The settings that names mean, in order, each once.

    Args:
        names: ``jpeg`` or ``jpeg@crop`` changes the crop, ``jpeg@frame`` the whole frame, ``h264`` the video;
            ``jpeg:3`` or ``jpeg@frame:3`` has a severity of its own, as a name of `NAMED` has.
        severities: 1 (mild) to 5, for the names that have none of their own.

    Raises:
        InputError: a name, a place or a severity is not known.

    >>> [(found.label, found.severity) for found in settings_of(["jpeg_50", "blur_3@frame", "h264"], [5])]
    [('jpeg', 3), ('gaussian_blur@frame', 1), ('h264', 5)]
    """
    severities = list(severities)
    chosen = []
    for text in names:
        label, colon, own = text.partition(":")
        name, where, published = _parse_name(label)
        for severity in [own] if colon else published or severities:
            if str(severity) not in map(str, SEVERITIES):
                raise InputError(f"severity {severity} of {name} is not known; choose 1 (mild) to 5 (strong)")
            chosen.append(Setting(name, int(severity), where))
    return list(dict.fromkeys(chosen))


def _parse_name(text: str) -> tuple[str, Where, list[int]]:
    """Name, place and, for a published setting, its severity."""
    given, at, place = text.partition("@")
    name, published = (NAMED[given][0], [NAMED[given][1]]) if given in NAMED else (given, [])
    if name not in PERTURBATIONS:
        known = [*PERTURBATIONS, *NAMED]
        meant = did_you_mean(name, known)
        raise InputError(f"perturbation {text!r} is not known{meant}; choose from {', '.join(known)}")
    of_video = PERTURBATIONS[name].of_video
    places = ("frame",) if of_video else ("crop", "frame")
    if at and place not in places:
        allowed = " or ".join(f"{given}@{allowed}" for allowed in places)
        raise InputError(f"perturbation {text!r} has the place {place!r}; write {allowed}")
    return name, "frame" if of_video or place == "frame" else "crop", published


def _register(words: str, *settings: float, of_video: bool = False) -> Callable[[Callable], Callable]:
    """Marks a function as the perturbation of its name."""

    def add(function: Callable) -> Callable:
        name = function.__name__
        PERTURBATIONS[name] = Perturbation(name, function, settings, words, of_video)
        return function

    return add


@_register("quality {:g}", 90, 70, 50, 30, 10)
def jpeg(image: Image, quality: float, rng: np.random.Generator) -> Image:
    """The image after JPEG with 4:2:0 chroma at quality 1 to 100: messengers, web sites."""
    _, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return decode_crop(encoded.tobytes())


@_register("standard deviation {:g} x 255", 0.01, 0.02, 0.04, 0.08, 0.16)
def gaussian_noise(image: Image, std: float, rng: np.random.Generator) -> Image:
    """The image with independent normal noise in every channel: a sensor in poor light.

    ``std`` is a share of the full range: 0.02 is 5.1 levels of 255. Rounded and clipped, not wrapped.
    """
    noise = rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(image + 255 * std * noise), 0, 255).astype(np.uint8)


@_register("kernel {:g} px", 3, 5, 9, 15, 21)
def gaussian_blur(image: Image, kernel_px: float, rng: np.random.Generator) -> Image:
    """The image under a Gaussian kernel of odd side: a lens out of focus.

    The unit is the kernel's side, as published settings give it; its deviation is OpenCV's for that side,
    0.3 ((side - 1) / 2 - 1) + 0.8 px: 0.8 for 3 and 3.5 for 21 (a side of 3 is 1 2 1, of 5 is 1 4 6 4 1).
    """
    side = int(kernel_px)
    return cv2.GaussianBlur(image, (side, side), 0)  # type: ignore[return-value]


@_register("scale {:g}", 0.75, 0.5, 0.35, 0.25, 0.125)
def resize(image: Image, scale: float, rng: np.random.Generator) -> Image:
    """The image made smaller (area) and large again (bicubic): a thumbnail, a small upload."""
    height, width = image.shape[:2]
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (width, height), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


@_register("factor {:g}", 1.2, 1.4, 1.7, 2.0, 2.5)
def brightness(image: Image, factor: float, rng: np.random.Generator) -> Image:
    """The image times a factor, clipped: over-exposure, which loses what is bright."""
    return np.asarray(ImageEnhance.Brightness(Pillow.fromarray(image)).enhance(factor))


@_register("factor {:g}", 0.85, 0.7, 0.55, 0.4, 0.25)
def contrast(image: Image, factor: float, rng: np.random.Generator) -> Image:
    """The image drawn towards its mean grey, 0 being all grey: haze, a screen filmed again."""
    return np.asarray(ImageEnhance.Contrast(Pillow.fromarray(image)).enhance(factor))


@_register("factor {:g}", 0.8, 0.6, 0.4, 0.2, 0.0)
def saturation(image: Image, factor: float, rng: np.random.Generator) -> Image:
    """The image drawn towards its luma, 0 being black and white: a filter, white balance."""
    return np.asarray(ImageEnhance.Color(Pillow.fromarray(image)).enhance(factor))


@_register("{:.0%} of the blocks", 0.02, 0.05, 0.1, 0.2, 0.3)
def block_dropout(image: Image, share: float, rng: np.random.Generator) -> Image:
    """The image with a share of its 16 x 16 px blocks black, at least one: lost packets."""
    rows, columns = (-(-side // BLOCK_PX) for side in image.shape[:2])
    lost = rng.choice(rows * columns, max(1, round(share * rows * columns)), replace=False)
    is_lost = np.zeros(rows * columns, bool)
    is_lost[lost] = True
    mask = is_lost.reshape(rows, columns).repeat(BLOCK_PX, 0).repeat(BLOCK_PX, 1)
    return np.where(mask[: image.shape[0], : image.shape[1], None], np.uint8(0), image)


@_register("CRF {:g}", 23, 30, 35, 40, 45, of_video=True)
def h264(frames: Iterable[Image], target: Path, crf: float, frame_rate: Fraction) -> None:
    """Writes frames as an H.264 video at a constant rate factor: an upload to a video site.

    libx264 with its medium preset and 4:2:0 chroma, without sound; CRF 23 is its default, and 23 and 40 are
    what FaceForensics++ calls c23 and c40. An odd side is continued by a pixel that readers must cut off.

    Args:
        frames: (H, W, 3) uint8 RGB, all of one size, in order.
        target: an .mp4 file.
        crf: 0 to 51, higher is worse.
        frame_rate: frames a second.

    Raises:
        InputError: the frames have different sizes.
    """
    import av

    with av.open(str(target), "w") as container:
        # One thread: with several, the pixels would depend on how many cores there are.
        stream = container.add_stream("libx264", rate=frame_rate, options={"crf": f"{crf:g}", "threads": "1"})
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(frames):
            height, width = image.shape[:2]
            if number == 0:
                stream.height, stream.width = height + height % 2, width + width % 2
                first = image.shape
            if image.shape != first:
                raise InputError(
                    f"frame 0 has {first[1]} x {first[0]} pixels and frame {number} {width} x {height}; an "
                    "H.264 file holds frames of one size: leave h264 out, or the video"
                )
            even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
