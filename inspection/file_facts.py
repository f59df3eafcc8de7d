"""What a file says of itself: format, size, encoder, dates.

Facts, and no evidence: anyone can write them.
Read in a process of its own within a budget, as decoding is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from unmasked.inspection.records import Facts
from unmasked.preprocessing.pool import Budget, run_tasks

# Of a container's or stream's notes, and of EXIF by number: who made the file, when, with what.
TAGS = ("encoder", "software", "comment", "title", "creation_time", "make", "model", "description", "date")
EXIF = {271: "make", 272: "model", 305: "software", 306: "date", 270: "description"}
LONGEST = 200  # characters of a note


def file_facts(files: Sequence[Path], budget: Budget) -> dict[Path, Facts]:
    """The facts of each file; of one that cannot be read none."""
    asked = [str(file) for file in files]
    found = {Path(done.task): done.result for done in run_tasks(asked, make_reader, workers=1, budget=budget)}
    return {file: found.get(file) or Facts() for file in files}


def make_reader() -> Callable[[str], Facts]:
    """The function that a worker process applies to a path."""
    return read_facts


def read_facts(path: str) -> Facts:
    """The facts of one file; empty where it cannot be read, which decoding says in words."""
    from unmasked.datasets.images import DAMAGED, UnreadableImage

    try:
        return _picture(path)
    except (UnreadableImage, *DAMAGED):
        pass
    try:
        return _video(path)
    except (OSError, ValueError):
        return Facts()


def _picture(path: str) -> Facts:
    from unmasked.datasets.images import open_image

    with open_image(path) as image:
        exif = image.getexif()
        notes = {name: _plain(exif[tag]) for tag, name in EXIF.items() if exif.get(tag)}
        frames = getattr(image, "n_frames", 1)
        pixels = image.width * image.height * frames
        return Facts(
            format=image.format or "",
            width_px=image.width,
            height_px=image.height,
            frames=frames,
            bits_per_pixel=8 * Path(path).stat().st_size / pixels if pixels else None,
            notes=notes,
        )


def _video(path: str) -> Facts:
    from unmasked.datasets.videos import main_stream, open_video

    with open_video(Path(path)) as container:
        stream = main_stream(container.streams.video)
        if stream is None:
            return Facts(format=container.format.name)
        tags = {**container.metadata, **stream.metadata}
        notes = {name.lower(): _plain(tags[name]) for name in tags if name.lower() in TAGS}
        duration_s = float(container.duration / 1e6) if container.duration else None
        rate = float(stream.average_rate) if stream.average_rate else None
        frames = stream.frames or (round(duration_s * rate) if duration_s and rate else 0)
        pixels = stream.width * stream.height * frames
        bits = (
            stream.bit_rate * duration_s if stream.bit_rate and duration_s else 8 * Path(path).stat().st_size
        )
        return Facts(
            format=container.format.name,
            codec=stream.codec_context.name,
            width_px=stream.width,
            height_px=stream.height,
            frames=frames or None,
            frames_per_s=rate,
            duration_s=duration_s,
            bits_per_pixel=bits / pixels if pixels else None,
            notes=notes,
        )


def _plain(value: object) -> str:
    """The text on one line, without signs that steer a terminal, cut where it is long."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", str(value)).strip()[:LONGEST]
