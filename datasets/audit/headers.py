"""What a file's header tells: format, codec, resolution, bit rate, length."""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unmasked.datasets.archives import is_image, split_sequence_path

COLUMNS = ("format", "codec", "width_px", "height_px", "bit_rate", "size_bytes", "frames", "jpeg_quality")
# archived: a sequence inside a tar archive, which would have to be unpacked whole.
STATUSES = ("ok", "missing", "unreadable", "archived")

_LUMINANCE_MEAN = 57.625  # of the table in annex K of the JPEG standard, which the IJG's quality scales

# What PyAV and Pillow raise on damaged files.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError)


def read_headers(
    rows: pd.DataFrame, *, progress: Callable[[int, int], None] | None = None, workers: int | None = None
) -> pd.DataFrame:
    """The headers of the files of manifest rows, a row each, with their index.

    Args:
        rows: manifest rows: path, root, kind.
        progress: called with how many files are read, and of how many.
        workers: threads; one for each core where None.

    Returns:
        ``format`` (suffix of the file, or of a sequence's images), ``codec``, ``width_px``, ``height_px``,
        ``bit_rate`` (bits a second of a video, bits a pixel of images), ``size_bytes``, ``frames``,
        ``jpeg_quality`` (1 to 100, by the luminance table), each missing where unknown; and
        ``status``. A damaged file keeps its format and size.
    """
    tasks = list(zip(rows["root"].astype(object), rows["path"], rows["kind"], strict=True))
    found: list[dict[str, Any]] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        warnings.simplefilter("ignore")  # Pillow's, of large images and damaged notes
        for header in pool.map(_header, tasks, chunksize=64):
            found.append(header)
            if progress is not None and len(found) % 1000 == 0:
                progress(len(found), len(tasks))
    return pd.DataFrame(found, index=rows.index, columns=[*COLUMNS, "status"])


def _header(task: tuple[Any, str, str]) -> dict[str, Any]:
    root, name, kind = task
    path = Path(root if isinstance(root, str) else ".") / name
    if kind == "sequence" and split_sequence_path(name)[1] is not None:
        return {"status": "archived"}
    known: dict[str, Any] = {"format": path.suffix.lower().lstrip(".")}
    try:
        facts = path.stat()
    except OSError:
        return known | {"status": "missing"}
    known["size_bytes"] = facts.st_size
    # A pipe called a.mp4 would be waited for without end.
    if not (stat.S_ISDIR if kind == "sequence" else stat.S_ISREG)(facts.st_mode):
        return known | {"status": "unreadable"}
    read = {"video": _video, "image": _image, "sequence": _sequence}[kind]
    try:
        return known | read(path) | {"status": "ok"}
    except _DAMAGED:  # PyAV's errors are among them
        return known | {"status": "unreadable"}


def _video(path: Path) -> dict[str, Any]:
    from unmasked.datasets.videos import main_stream, open_video

    with open_video(path) as container:
        stream = main_stream(container.streams.video)
        if stream is None:
            raise ValueError(f"{path} has no video stream")
        duration_s = container.duration / 1e6 if container.duration else 0.0
        rate = float(stream.average_rate or 0)
        return {
            "codec": stream.codec_context.name,
            "width_px": stream.width,
            "height_px": stream.height,
            "bit_rate": 8 * path.stat().st_size / duration_s if duration_s else None,
            "frames": stream.frames or round(duration_s * rate) or None,
        }


def _image(path: Path) -> dict[str, Any]:
    from unmasked.datasets.images import open_image

    size_bytes = path.stat().st_size
    with open_image(path) as image:
        width, height = image.size
        return {
            "codec": str(image.format).lower(),
            "width_px": width,
            "height_px": height,
            "bit_rate": 8 * size_bytes / (width * height) if width * height else None,
            "frames": 1,
            "jpeg_quality": _jpeg_quality(getattr(image, "quantization", None)),
        }


def _jpeg_quality(tables: dict[int, Any] | None) -> float | None:
    """The IJG library's quality whose luminance table has this mean; None without tables."""
    if not tables:
        return None
    scale = 100 * float(np.mean(next(iter(tables.values())))) / _LUMINANCE_MEAN
    return float(np.clip((200 - scale) / 2 if scale <= 100 else 5000 / scale, 1, 100).round())


def _sequence(folder: Path) -> dict[str, Any]:
    names = sorted(entry.name for entry in os.scandir(folder) if is_image(entry.name) and entry.is_file())
    if not names:
        raise ValueError(f"{folder} has no image")
    suffixes = Counter(name.rsplit(".", 1)[-1].lower() for name in names)
    sizes = [(folder / name).stat().st_size for name in names]
    first = _image(folder / names[0])
    pixels = first["width_px"] * first["height_px"]
    return first | {
        "format": suffixes.most_common(1)[0][0],
        "size_bytes": sum(sizes),
        "bit_rate": 8 * sum(sizes) / (len(sizes) * pixels) if pixels else None,
        "frames": len(names),
    }
