"""Writing a synthetic corpus: in parallel, resumable, same bytes for the same settings."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.synthetic.config import VERSION, SyntheticConfig
from unmasked.datasets.synthetic.plan import Unit, plan

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
Records = list[dict[str, Any]]

_STAGE = "synthetic videos"


def write_corpus(
    config: SyntheticConfig,
    out: str | os.PathLike[str],
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> Path:
    """Writes the corpus into the folder ``out`` and returns the folder.

    The folder then holds ``FaceForensics++``, ``Celeb-DF-v2``, ``WildDeepfake`` and ``AI-Face`` in the
    layouts of the real datasets, ``config.json`` (what was asked for) and ``truth.json`` (what was planted).
    A corpus that is there already is left as it is; one that was interrupted is completed.

    Args:
        config: what to write.
        out: a new or empty folder, or one with a corpus of the same configuration.
        workers: processes; 1 works in this one.
        progress: called as ``progress(stage, done, total)`` with videos as the unit.

    Raises:
        InputError: the folder holds something else, or `anny` is needed and not installed.
    """
    out = Path(out)
    if _is_claimed(config, out) and (out / "truth.json").is_file():
        return out
    report = progress or (lambda stage, done, total: None)
    report("head model", 0, 1)
    _prepare_renderer()
    report("head model", 1, 1)
    from unmasked.datasets.synthetic.people import draw_people

    write_json(out / "config.json", _identity(config))
    units = plan(config, draw_people)
    total = sum(unit.videos for unit in units)
    missing = [unit for unit in units if not _marker(out, unit).is_file()]
    done = total - sum(unit.videos for unit in missing)
    report(_STAGE, done, total)
    for unit in _write_units(missing, config, out, workers):
        done += unit.videos
        report(_STAGE, done, total)
    _finish(config, out, units)
    return out


def _finish(config: SyntheticConfig, out: Path, units: list[Unit]) -> None:
    """Writes the datasets' lists and, last of all, what was planted."""
    from unmasked.datasets.synthetic.layouts import write_lists

    records: Records = [
        record for unit in units for record in json.loads(_marker(out, unit).read_text("utf-8"))
    ]
    write_lists(out, units, records)
    people = {person.name: asdict(person) for unit in units for person in unit.people}
    videos = [{key: value for key, value in record.items() if key != "ai_face"} for record in records]
    write_json(out / "truth.json", {**_identity(config), "people": people, "videos": videos})


def _write_units(units: list[Unit], config: SyntheticConfig, out: Path, workers: int) -> Iterator[Unit]:
    """Each unit, as soon as it is written."""
    if workers <= 1 or len(units) <= 1:
        for unit in units:
            _write(unit, config, out)
            yield unit
        return
    # Not forked: the caller may hold threads (a progress bar, torch) that a fork would freeze.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(units)), mp_context=context) as pool:
        waiting = {pool.submit(_write, unit, config, out): unit for unit in units}
        try:
            for future in as_completed(waiting):
                future.result()
                yield waiting[future]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _write(unit: Unit, config: SyntheticConfig, out: Path) -> None:
    """Writes a unit, then the marker that says so; runs in a worker process."""
    import cv2

    from unmasked.datasets.synthetic.units import write_unit

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        # One thread a worker; and sums in another order would round differently.
        with threadpool_limits(1):
            records = write_unit(unit, config, out)
    finally:
        cv2.setNumThreads(threads)
    write_json(_marker(out, unit), records)


def _marker(out: Path, unit: Unit) -> Path:
    return out / ".units" / f"{unit.key}.json"


def _identity(config: SyntheticConfig) -> dict[str, Any]:
    return {"digest": config.digest, "version": VERSION, "config": config.model_dump(mode="json")}


def _is_claimed(config: SyntheticConfig, out: Path) -> bool:
    """True if the folder holds this very corpus, in part or whole.

    Raises:
        InputError: it holds another corpus, or files that are none.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the corpus")
    if not out.is_dir() or not any(out.iterdir()):
        return False
    try:
        found = json.loads((out / "config.json").read_text("utf-8"))
        digest, fields = found["digest"], found["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"folder {out} is not empty and holds no synthetic corpus (no config.json); "
            "give an empty or new folder"
        ) from error
    if digest == config.digest:
        return True
    wanted = config.model_dump(mode="json")
    differing = [
        f"{name} {fields.get(name)!r}, now {wanted[name]!r}"
        for name in wanted
        if fields.get(name) != wanted[name]
    ]
    reason = "; ".join(differing) or "another version of the generator"
    raise InputError(
        f"folder {out} holds a corpus of another configuration ({reason}); "
        f"delete that folder or give another one for the corpus"
    )


def _prepare_renderer() -> None:
    """Makes the head model that all workers read, once, before there are any."""
    from unmasked.datasets.synthetic.head import load_head

    try:
        load_head()
    except ModuleNotFoundError as error:
        if error.name != "anny":
            raise
        raise InputError(
            "the package anny, which the synthetic people are made with, is not installed; "
            'run pip install -e ".[demo]" in the checkout'
        ) from error
