"""Preprocesses 300 damaged videos and says what became of each kind.

    python benchmarks/preprocessing_damage.py [--count 300] [--seed 0] [SOURCE ...]

The damaged videos are made out of the files given, or of synthetic ones. Exit code 1 if one of them crashed a
worker, hung, stopped the run or has no row, or if the intact ones among them were harmed.
"""

from __future__ import annotations

import argparse
import re
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pandas as pd
from kills import write_videos

from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.run import preprocess

CONFIG = PreprocessConfig(frames_per_video=4, budget_s=60, memory_gb=2.0)
INTACT_EVERY = 25
SUFFIXES = {"wrong extension": ".png", "endless GIF": ".gif", "audio only": ".m4a"}

Damage = Callable[[bytes, np.random.Generator], bytes]


def main() -> None:
    """Damages, preprocesses and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", type=Path, metavar="SOURCE")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if report(Path(folder), options.sources, options.count, options.seed) else 1)


def report(folder: Path, sources: Sequence[Path], count: int, seed: int) -> bool:
    """True if every damaged video cost itself alone; prints statuses by kind of damage."""
    if not sources:
        write_videos(folder / "sources", 4, seed)
        sources = sorted((folder / "sources").glob("*.mp4"))
    manifest = write_damaged(folder / "in", sources, count, seed)
    started_s = time.monotonic()
    faces = preprocess(manifest, folder / "out", CONFIG)
    print(f"{count} damaged videos in {time.monotonic() - started_s:.0f} s")
    files = faces.groupby("video", sort=False).agg(
        kind=("method", "first"), statuses=("status", lambda each: ", ".join(sorted(set(each))))
    )
    print(files.groupby(["kind", "statuses"]).size().rename("files").to_string())
    gave_up = faces[faces["status"].isin(["crashed", "over_budget"])]
    for row in gave_up.itertuples():
        print(f"{row.video} ({row.method}): {row.status}: {row.reason}")
    has_rows = set(files.index) == set(manifest["video"])
    harmed = files[(files["kind"] == "intact") & ~files["statuses"].isin(["ok", "no_face", "no_face, ok"])]
    print(
        f"every video has rows: {has_rows}; crashed or over budget: {gave_up['video'].nunique()}; "
        f"intact ones harmed: {len(harmed)}"
    )
    return has_rows and not len(harmed) and not (gave_up["status"] == "crashed").any()


def write_damaged(folder: Path, sources: Sequence[Path], count: int, seed: int) -> pd.DataFrame:
    """A manifest of ``count`` damaged and intact videos, the kind of damage as method."""
    folder.mkdir(parents=True)
    kinds = [*DAMAGES, "intact"]
    rows = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        source = sources[number % len(sources)]
        kind = "intact" if number % INTACT_EVERY == 0 else kinds[number % (len(kinds) - 1)]
        suffix = SUFFIXES.get(kind, source.suffix)
        content = source.read_bytes()
        damaged = content if kind == "intact" else DAMAGES[kind](content, rng)
        (folder / f"{number}{suffix}").write_bytes(damaged)
        rows.append((f"{number}", f"{number}{suffix}", kind))
    common = {"dataset": "damaged", "root": str(folder), "kind": "video", "label": 0, "split": "test"}
    return pd.DataFrame(rows, columns=["video", "path", "method"]).assign(**common)


def truncate(content: bytes, rng: np.random.Generator) -> bytes:
    """Ends anywhere."""
    return content[: rng.integers(1, len(content))]


def flip_bits(content: bytes, rng: np.random.Generator) -> bytes:
    """Up to 200 bits anywhere."""
    changed = bytearray(content)
    for position in rng.integers(0, len(content), rng.integers(1, 200)):
        changed[position] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def remove_header(content: bytes, rng: np.random.Generator) -> bytes:
    """Begins anywhere."""
    return content[rng.integers(1, len(content)) :]


def overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    """A block of noise in the middle."""
    start = int(rng.integers(0, len(content)))
    return content[:start] + rng.bytes(5000) + content[start + 5000 :]


def one_frame(content: bytes, rng: np.random.Generator) -> bytes:
    """A video of a single frame."""
    return encode_clip("mp4", "libx264", [rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)])


def huge_header(content: bytes, rng: np.random.Generator) -> bytes:
    """A GIF, or a video of JPEGs, whose headers say 20,000 x 20,000 pixels."""
    if rng.random() < 0.5:
        return b"GIF89a" + struct.pack("<HHBBB", 20_000, 20_000, 0x80, 0, 0) + gif_frames(1, 20_000)
    video = bytearray(encode_clip("avi", "mjpeg", [np.zeros((64, 64, 3), np.uint8)] * 5))
    header = video.index(b"strf") + 12
    video[header : header + 8] = struct.pack("<ii", 20_000, 20_000)
    for start in re.finditer(rb"\xff\xc0\x00\x11\x08", bytes(video)):
        video[start.end() : start.end() + 4] = struct.pack(">HH", 20_000, 20_000)
    return bytes(video)


def endless_gif(content: bytes, rng: np.random.Generator) -> bytes:
    """A GIF that repeats for ever and has 100,000 frames of one pixel's change."""
    loop = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 500, 500, 0x80, 0, 0) + gif_frames(100_000, 1, loop)


def gif_frames(count: int, side_px: int, extension: bytes = b"") -> bytes:
    """A palette of two colours and ``count`` frames, each with the data of one pixel."""
    pixel = b"\x02\x02\x44\x01\x00"
    frame = b"!\xf9\x04\x04\x04\x00\x00\x00," + struct.pack("<HHHHB", 0, 0, side_px, side_px, 0) + pixel
    return b"\0\0\0\xff\xff\xff" + extension + frame * count + b";"


def audio_only(content: bytes, rng: np.random.Generator) -> bytes:
    """Sound without a picture."""
    return sound("ipod", "aac")


def no_video_stream(content: bytes, rng: np.random.Generator) -> bytes:
    """An MP4 or Matroska file that holds sound alone."""
    return sound("mp4", "aac") if rng.random() < 0.5 else sound("matroska", "aac")


def encode_clip(container_format: str, codec: str, images: Sequence[np.ndarray]) -> bytes:
    """A video file of (H, W, 3) uint8 images."""
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=container_format) as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        return Path(file.name).read_bytes()


def sound(container_format: str, codec: str) -> bytes:
    """A file of half a second of silence."""
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=container_format) as container:
            stream = container.add_stream(codec, rate=16_000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return Path(file.name).read_bytes()


DAMAGES: dict[str, Damage] = {
    "truncated": truncate,
    "bit-flipped": flip_bits,
    "beheaded": remove_header,
    "overwritten": overwrite,
    "wrong extension": lambda content, rng: content,
    "zero bytes": lambda content, rng: b"",
    "zeros only": lambda content, rng: bytes(len(content)),
    "text": lambda content, rng: b"<html>404 Not Found</html>\n" * 50,
    "no video stream": no_video_stream,
    "one frame": one_frame,
    "20,000 x 20,000 header": huge_header,
    "endless GIF": endless_gif,
    "audio only": audio_only,
}

if __name__ == "__main__":
    main()
