"""What a file says of itself: format, size, encoder, dates.

Facts, and no evidence: anyone can write them.
Read by the process that decodes, within its budget, and confined as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from unmasked.inspection.credentials import plain, read_credentials
from unmasked.inspection.records import Facts
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.detect import Detector
from unmasked.preprocessing.extract import Row, Task
from unmasked.preprocessing.pool import Budget, Pool, cores
from unmasked.preprocessing.run import worker_maker

ExaminerPool = Pool[Any, Any]  # of paths to facts, and of tasks to rows

# Of a container's or stream's notes, and of EXIF by number: who made the file, when, with what.
TAGS = ("encoder", "software", "comment", "title", "creation_time", "make", "model", "description", "date")
EXIF = {271: "make", 272: "model", 305: "software", 306: "date", 270: "description"}


def file_facts(files: Sequence[Path], pool: ExaminerPool) -> dict[Path, Facts]:
    """The facts of each file; of one that cannot be read none."""
    found = {Path(str(done.task)): done.result for done in pool.run([str(file) for file in files])}
    return {file: facts if isinstance(facts := found.get(file), Facts) else Facts() for file in files}


def examiner_pool(config: PreprocessConfig, detector: Callable[[], Detector] | None = None) -> ExaminerPool:
    """The confined processes that read facts and find faces; ``stop()`` ends them.

    One for both: to start a process costs as much as to look at a few frames.

    Args:
        config: how faces are found, and the budget of a file.
        detector: as of `preprocessing.run.preprocess`.
    """
    make = partial(_make_worker, worker_maker(config, detector))
    budget = Budget(config.budget_s, config.memory_gb * 2**30)
    return Pool(make, workers=config.workers or cores(), budget=budget)


def facts_pool(config: PreprocessConfig) -> ExaminerPool:
    """A process that reads facts alone, where faces are looked for on other machines."""
    budget = Budget(config.budget_s, config.memory_gb * 2**30)
    return Pool(_make_reader, workers=1, budget=budget)


def _make_worker(make_cropper: Callable[[], Callable[[Task], list[Row]]]) -> Callable[[Any], Any]:
    return partial(_work, crop=make_cropper())


def _make_reader() -> Callable[[Any], Any]:
    return read_facts


def _work(task: Task | str, *, crop: Callable[[Task], list[Row]]) -> list[Row] | Facts:
    """The facts of the file at a path, or the faces of a task."""
    return read_facts(task) if isinstance(task, str) else crop(task)


def read_facts(path: str) -> Facts:
    """The facts of one file; empty where it cannot be read, which decoding says in words."""
    facts = _said_by_file(path)
    try:
        return facts.model_copy(update={"credentials": read_credentials(path)})
    except (OSError, ValueError, TypeError, AttributeError):  # a store that is not made as it should be
        return facts


def _said_by_file(path: str) -> Facts:
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
        notes = {name: plain(exif[tag]) for tag, name in EXIF.items() if exif.get(tag)}
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
        notes = {name.lower(): plain(tags[name]) for name in tags if name.lower() in TAGS}
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
