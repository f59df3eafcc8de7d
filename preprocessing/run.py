"""Manifest to faces: every video in parallel, resumable, one row for every sampled frame."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import MANIFEST
from unmasked.preprocessing.config import PreprocessConfig, recipe
from unmasked.preprocessing.detect import Detector
from unmasked.preprocessing.extract import Row, Task, failure, make_worker
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.parts import Item, Parts, items
from unmasked.preprocessing.pool import Outcome, cores, run_tasks

STAGE = "faces"
# Columns of a manifest that do not go on into the faces table: its files, and names that are measured here.
_NOT_KEPT = {"path", "root", "mask"} | (set(FACES.columns) - set(MANIFEST.columns))

_log = logging.getLogger(__name__)


def preprocess(
    manifest: pd.DataFrame,
    out: Path,
    config: PreprocessConfig | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    detector: Callable[[], Detector] | None = None,
) -> pd.DataFrame:
    """The faces table, also written to ``out/faces.parquet`` with the crops under ``out/crops``.

    A run that was stopped goes on where it was; one that finds everything done only writes the table
    again, with the manifest's present labels and annotations. Videos that were missing, over their budget
    or crashed are tried again.

    Args:
        manifest: valid under `unmasked.datasets.manifest.MANIFEST`, at least one row.
        out: folder; it must be empty or hold crops of the same recipe.
        config: settings; None is the default ones.
        progress: called with ("faces", videos done, videos in all).
        detector: picklable, builds the detector in each process; None is dlib's.

    Raises:
        InputError: the manifest is not valid or empty, or ``out`` holds crops of another recipe.
    """
    config = config or PreprocessConfig()
    manifest = MANIFEST.validate(manifest)
    if manifest.empty:
        raise InputError("the manifest has no rows; scan a folder that holds videos or images")
    known = recipe(config) if detector is None else recipe(config, _name(detector))
    parts = Parts(Path(out), known)
    todo = items(manifest)
    rows = {item: found for item in todo if (found := parts.find(item)) is not None}
    report = progress or (lambda stage, done, total: None)
    report(STAGE, len(rows), len(todo))
    try:
        missing = [item for item in todo if item not in rows]
        for item, found in _process(missing, parts, config, detector):
            rows[item] = found
            report(STAGE, len(rows), len(todo))
    finally:
        parts.close()
    faces = _assemble(manifest, [rows[item] for item in todo], parts.recipe)
    return FACES.write(faces, Path(out) / "faces.parquet")


def _process(
    missing: list[Item],
    parts: Parts,
    config: PreprocessConfig,
    detector: Callable[[], Detector] | None,
) -> Iterator[tuple[Item, list[Row]]]:
    """Yields (item, rows) as they are done, each put in place before it is yielded."""
    by_workdir = {str(parts.workdir(item)): item for item in missing}
    tasks = [
        Task(item.root, item.path, item.kind, f"crops/{item.folder}", workdir)
        for workdir, item in by_workdir.items()
    ]
    outcomes = run_tasks(
        tasks,
        partial(make_worker, config, detector),
        workers=config.workers or cores(),
        budget_s=config.budget_s,
    )
    for outcome in outcomes:
        item = by_workdir[outcome.task.workdir]
        rows = _rows(outcome, item)
        parts.put(item, rows)
        yield item, rows


def _rows(outcome: Outcome[Task, list[Row]], item: Item) -> list[Row]:
    if outcome.result is None:
        _log.warning("%s: %s %s: %s", *item.key[:2], outcome.status, outcome.reason)
        return [failure(outcome.status, outcome.reason)]
    return outcome.result


def _assemble(manifest: pd.DataFrame, rows: list[list[Row]], recipe: str) -> pd.DataFrame:
    """The measured rows of each video beside its manifest row."""
    measured = pd.DataFrame([row for found in rows for row in found])
    measured["recipe"] = recipe
    kept = [name for name in manifest if name not in _NOT_KEPT]
    position = [index for index, found in enumerate(rows) for _ in found]
    described = manifest.loc[position, kept].reset_index(drop=True)
    return pd.concat([described, measured], axis=1)


def _name(detector: Callable[[], Detector]) -> str:
    return f"{detector.__module__}.{getattr(detector, '__qualname__', type(detector).__qualname__)}"
