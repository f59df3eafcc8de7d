"""Hard clips made of a folder's videos: what phones record in poor light, by hand, and from afar.

Two sets of different videos: one to tune on, one to judge by. Each kind is one function from a frame and its
moment to a picture of 1920 x 1080 (or 1080 x 1920), and is encoded as phones encode.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from unmasked.preprocessing.video import sample_indices

SETS = ("tuning", "judging")
WIDTH, HEIGHT = 1920, 1080
FRAMES = 150
SOURCE_PX_MIN = 450  # shorter side of a video that a clip is made of
RATE = 30
TICKS = 90_000  # a second
_UPRIGHT = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
_QUARTER_TURN = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)  # clockwise
Picture = np.ndarray  # (H, W, 3) uint8 RGB


def dark(frame: Picture, moment: float, rng: np.random.Generator) -> Picture:
    """A sixth of the light, and the sensor's noise."""
    shown = place(frame, 900, (WIDTH / 2, HEIGHT / 2))
    noise = np.empty((HEIGHT // 2, WIDTH // 2, 3), np.int16)
    cv2.randn(noise, 0, 5)
    noisy = shown.astype(np.int16) // 6 + cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    return noisy.clip(0, 255).astype(np.uint8)


def shaken(frame: Picture, moment: float, rng: np.random.Generator) -> Picture:
    """A hand that trembles, with the blur of a fifteenth of a second."""
    x, y = 90 * np.sin(11 * moment) + rng.normal(0, 8), 50 * np.sin(17 * moment + 1) + rng.normal(0, 8)
    shown = place(frame, 700, (WIDTH / 2 + x, HEIGHT / 2 + y))
    return cv2.blur(shown, (9, 3))


def turned(frame: Picture, moment: float, rng: np.random.Generator) -> Picture:
    """A head or a phone that leans 25 degrees to either side."""
    return place(frame, 700, (WIDTH / 2, HEIGHT / 2), degrees=25 * np.sin(1.3 * moment))


def small(frame: Picture, moment: float, rng: np.random.Generator) -> Picture:
    """A person at the far end of a room, who goes from side to side."""
    return place(frame, 200, (WIDTH / 2 + 400 * np.sin(0.8 * moment), HEIGHT * 0.4))


def near(frame: Picture, moment: float, rng: np.random.Generator) -> Picture:
    """Somebody who comes near and goes away again, through half the picture."""
    side_px = 520 + 260 * np.sin(1.5 * moment)
    return place(frame, side_px, (WIDTH / 2 + 500 * np.sin(0.9 * moment), HEIGHT / 2))


def phone(frame: Picture, moment: float, rng: np.random.Generator) -> Picture:
    """Held upright: stored lying, to be turned by the header; see `make_clip` for the rest."""
    upright = place(frame, 800, (HEIGHT / 2 + 40 * np.sin(3 * moment), WIDTH * 0.4), size=(HEIGHT, WIDTH))
    return np.rot90(upright)  # counter-clockwise, as the header's quarter turn undoes


KINDS: dict[str, Callable[[Picture, float, np.random.Generator], Picture]] = {
    kind.__name__: kind for kind in (dark, shaken, turned, small, near, phone)
}


def make_clips(videos: Sequence[Path], out: Path, which: str) -> list[Path]:
    """The clips of a set, one of each kind, made where they are not there yet.

    Args:
        videos: what they are made of; every second one is for tuning, the others for judging.
        out: folder.
        which: one of `SETS`.
    """
    large = [path for path in sorted(videos) if is_source(path)]
    sources = large[SETS.index(which) :: len(SETS)]
    sources = [sources[index] for index in sample_indices(len(sources), len(KINDS))]
    if not sources:
        return []
    clips = []
    for number, kind in enumerate(KINDS):
        clip = out / f"{which}_{kind}_{sources[number % len(sources)].stem}.mp4"
        if not clip.exists():
            make_clip(sources[number % len(sources)], clip, kind)
        clips.append(clip)
    return clips


def is_source(path: Path) -> bool:
    """True if a video is large and long enough."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return min(stream.width, stream.height) >= SOURCE_PX_MIN and stream.frames >= 100


def make_clip(source: Path, clip: Path, kind: str) -> None:
    """Writes one clip.

    H.264 with B-frames; as a phone writes it HEVC of 10 bits without B-frames, frames at uneven times,
    turned by the header.
    """
    is_phone = kind == "phone"
    rng = np.random.default_rng(0)
    part = clip.with_suffix(".part.mp4")
    clip.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(part), "w") as container:
        stream = container.add_stream("libx265" if is_phone else "libx264", rate=RATE)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuv420p10le" if is_phone else "yuv420p"
        stream.options = {"preset": "superfast" if is_phone else "veryfast", "crf": "25", "g": "60"}
        if is_phone:
            stream.options |= {"x265-params": "bframes=0:log-level=none:pools=none"}
        stream.codec_context.time_base = Fraction(1, TICKS)
        pts = 0
        for frame in frames_of(source):
            moment = pts / TICKS
            picture = np.ascontiguousarray(KINDS[kind](frame, moment, rng))
            encoded = av.VideoFrame.from_ndarray(picture, format="rgb24")
            encoded.pts, encoded.time_base = pts, Fraction(1, TICKS)
            container.mux(stream.encode(encoded))
            pts += int(rng.integers(2000, 4500)) if is_phone else TICKS // RATE
        container.mux(stream.encode())
    if is_phone:
        content = part.read_bytes()
        at = content.index(_UPRIGHT, content.index(b"tkhd"))
        part.write_bytes(content[:at] + _QUARTER_TURN + content[at + len(_UPRIGHT) :])
    part.replace(clip)


def frames_of(source: Path) -> Iterator[Picture]:
    """The first frames of a video, the square in the middle of each."""
    with av.open(str(source)) as container:
        for _, frame in zip(range(FRAMES), container.decode(video=0), strict=False):
            image = frame.to_ndarray(format="rgb24")
            side = min(image.shape[:2])
            top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
            yield image[top : top + side, left : left + side]


def place(
    frame: Picture,
    side_px: float,
    centre: tuple[float, float],
    *,
    degrees: float = 0.0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Picture:
    """A square picture of ``side_px`` on a blurred, enlarged copy of itself."""
    small_one = cv2.GaussianBlur(cv2.resize(frame, (size[0] // 20, size[1] // 20)), (0, 0), 4)
    background = cv2.resize(small_one, size, interpolation=cv2.INTER_CUBIC)
    middle = frame.shape[0] / 2
    factor = side_px / frame.shape[0]
    reduced = frame
    if factor < 0.6:  # by areas first: warping alone would alias
        reduced = cv2.resize(frame, (round(side_px), round(side_px)), interpolation=cv2.INTER_AREA)
        middle, factor = reduced.shape[0] / 2, 1.0
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees, factor)
    matrix[:, 2] += np.array(centre) - middle
    return cv2.warpAffine(reduced, matrix, size, dst=background, borderMode=cv2.BORDER_TRANSPARENT)
