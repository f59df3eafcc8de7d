"""Manifest to faces: every video in parallel, resumable, one row for every sampled frame."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Protocol

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import MANIFEST
from unmasked.preprocessing.config import PreprocessConfig, crops_of, recipe, recipe_hash
from unmasked.preprocessing.detect import Detector
from unmasked.preprocessing.extract import Row, Task, failure, make_worker
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.lost import is_among
from unmasked.preprocessing.made import write_faces
from unmasked.preprocessing.parts import Item, Parts, is_in_shard, items
from unmasked.preprocessing.pool import Budget, Outcome, cores, run_tasks
from unmasked.preprocessing.provenance import MANIFEST_DIGEST, manifest_digests

STAGE = "faces"
CHUNK = 256  # videos whose rows are held as dicts at a time
# Columns of a manifest that do not go on into the faces table: its files, and names that are measured here.
_NOT_KEPT = {"path", "root", "mask"} | (set(FACES.columns) - set(MANIFEST.columns) - {MANIFEST_DIGEST})

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """A `preprocessing.pool.Pool` of tasks, or what stands before several."""

    def run(self, tasks: Sequence[Task], /) -> Iterator[Outcome[Task, list[Row]]]:
        """Yields the outcome of every task."""


def preprocess(
    manifest: pd.DataFrame,
    out: Path,
    config: PreprocessConfig | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    detector: Callable[[], Detector] | None = None,
    pool: Runner | None = None,
) -> pd.DataFrame:
    """The faces table, also written to ``out/faces.parquet``, crops under ``out/crops``.

    A run that was stopped goes on where it was; one that finds everything done only writes the table
    again, with the manifest's present labels and annotations. Videos that were missing, over their budget
    or crashed are tried again.

    With ``config.shard`` only that shard's videos are made and only their rows returned; the table is
    written by the call without it, or by one with ``config.merge``, which makes no crops at all.

    Args:
        manifest: valid under `unmasked.datasets.manifest.MANIFEST`, at least one row.
        out: folder; it must be empty or hold crops of the same recipe.
        config: settings; None is the default ones.
        progress: called with ("faces", videos done, videos in all).
        detector: picklable, builds the detector in each process; None is the configured one.
        pool: whose processes apply what `worker_maker` makes of the same config and detector, for who calls
            this again and again; None starts processes, and ends them.

    Raises:
        InputError: the manifest is not valid or empty, ``out`` holds crops of another recipe or a table
            with videos that the manifest lacks, or is being filled by another run, or there is nothing to
            merge for some videos.
    """
    config = config or PreprocessConfig()
    manifest = MANIFEST.validate(manifest)
    if manifest.empty:
        raise InputError("the manifest has no rows; scan a folder that holds videos or images")
    if config.merge and config.shard:
        raise InputError(f"shard={config.shard} with merge=true; merge joins all shards, so leave shard out")
    known = recipe(config, "" if detector is None else _name(detector))
    todo = items(manifest, with_mask=config.faces == "mask")
    is_ours = [is_in_shard(item, config.shard) for item in todo]
    manifest, todo = manifest[is_ours].reset_index(drop=True), list(compress(todo, is_ours))
    parts = Parts(Path(out), known, config.shard)
    try:
        if not config.shard:
            _check_table(manifest, Path(out) / "faces.parquet")
        _make(todo, parts, config, detector, pool, progress or (lambda stage, done, total: None))
        faces = _assemble(manifest, todo, parts)
        return FACES.validate(faces) if config.shard else write_faces(faces, Path(out) / "faces.parquet")
    finally:
        parts.close()


def worker_maker(
    config: PreprocessConfig, detector: Callable[[], Detector] | None = None
) -> Callable[[], Callable[[Task], list[Row]]]:
    """What makes the work of a `Pool`'s processes, as those that `preprocess` starts.

    Args are those of `preprocess`.
    """
    known = recipe_hash(recipe(config, "" if detector is None else _name(detector)))
    return partial(make_checked_worker, config, detector, known)


def _check_table(manifest: pd.DataFrame, path: Path) -> None:
    """Refuses to write a faces table over one with videos that the manifest lacks.

    Raises:
        InputError: they would be lost.
    """
    if not path.is_file():
        return
    try:
        there = FACES.read(path)[["dataset", "video", "compression"]].drop_duplicates()
    except InputError:
        return  # damaged, so that there is nothing to lose
    gone = there[~is_among(there, manifest)]
    if len(gone):
        raise InputError(
            f"{path} has {len(gone)} of {len(there)} videos that the manifest lacks (first: "
            f"{'/'.join(gone.iloc[0][['dataset', 'video']])}), and they would be lost from it; give another "
            "out= and put both tables together with `unmasked join`, or delete the table to leave them out"
        )


def _make(
    todo: list[Item],
    parts: Parts,
    config: PreprocessConfig,
    detector: Callable[[], Detector] | None,
    pool: Runner | None,
    report: Callable[[str, int, int], None],
) -> None:
    """Puts every item in place that is not there yet."""
    missing = [item for item in todo if not parts.is_done(item, even_if_transient=config.merge)]
    if config.merge and missing:
        named = ", ".join("/".join(item.key[:2]) for item in missing[:3])
        raise InputError(
            f"{len(missing)} of {len(todo)} videos have not been made yet (first: {named}); run their "
            "shards, or the same call without merge, which makes them here"
        )
    done = len(todo) - len(missing)
    report(STAGE, done, len(todo))
    by_workdir = {str(parts.workdir(item)): item for item in missing}
    tasks = [
        Task(
            item.root,
            item.path,
            item.kind,
            f"crops/{item.folder}",
            workdir,
            item.mask,
            crops_of(item.key[0], config),
        )
        for workdir, item in by_workdir.items()
    ]
    for outcome in crop_files(tasks, config, detector, pool):
        item = by_workdir[outcome.task.workdir]
        if outcome.result is None:
            logger.warning("%s: %s %s: %s", *item.key[:2], outcome.status, outcome.reason)
        parts.put(item, rows_of(outcome))
        done += 1
        report(STAGE, done, len(todo))


def crop_files(
    tasks: Sequence[Task],
    config: PreprocessConfig,
    detector: Callable[[], Detector] | None = None,
    pool: Runner | None = None,
) -> Iterator[Outcome[Task, list[Row]]]:
    """Yields what became of each task, on the configured engine.

    Args:
        tasks: files, and folders for their crops, whose parents are there.
        config: as of `preprocess`.
        detector: as of `preprocess`.
        pool: as of `preprocess`.
    """
    if pool is not None:
        return pool.run(tasks)
    make = worker_maker(config, detector)
    budget = Budget(config.budget_s, config.memory_gb * 2**30)
    if config.engine == "ray":
        from unmasked.preprocessing.ray_pool import run_tasks_on_ray

        return run_tasks_on_ray(tasks, make, workers=config.workers, budget=budget)
    return run_tasks(tasks, make, workers=config.workers or cores(), budget=budget)


def make_checked_worker(
    config: PreprocessConfig, detector: Callable[[], Detector] | None, expected: str
) -> Callable[[Task], list[Row]]:
    """What `make_worker` makes, if this machine gives the same crops as the one that asks.

    Raises:
        InputError: another recipe holds here, since other versions are installed.
    """
    here = recipe(config, "" if detector is None else _name(detector))
    if recipe_hash(here) != expected:
        raise InputError(
            f"machine {socket.gethostname()} would make other crops than the one that started the run, with "
            f"{here['versions']}; install the same versions on all machines"
        )
    return make_worker(config, detector)


def rows_of(outcome: Outcome[Task, list[Row]]) -> list[Row]:
    """The measured rows of a file: the one that says why, where there are no others."""
    return outcome.result if outcome.result is not None else [failure(outcome.status, outcome.reason)]


def faces_table(described: pd.DataFrame, found: Sequence[list[Row]], recipe: str) -> pd.DataFrame:
    """The measured rows of files, each beside what is known of its file; valid under `FACES`.

    Args:
        described: a row a file: dataset, video, kind and other columns of a manifest.
        found: the rows of each file.
        recipe: hash of that of the crops.
    """
    position = [number for number, rows in enumerate(found) for _ in rows]
    measured = pd.DataFrame([row for rows in found for row in rows])
    described = described.iloc[position].reset_index(drop=True)
    return FACES.validate(pd.concat([described, measured.assign(recipe=recipe)], axis=1))


def _assemble(manifest: pd.DataFrame, todo: list[Item], parts: Parts) -> pd.DataFrame:
    """The measured rows of each video, as they were put in place, beside its manifest row."""
    manifest = manifest.assign(**{MANIFEST_DIGEST: manifest_digests(manifest)})
    kept = [name for name in manifest if name not in _NOT_KEPT]
    tables = []
    for start in range(0, len(todo), CHUNK):  # a table takes a tenth of the memory of its rows as dicts
        found = [parts.rows(item) for item in todo[start : start + CHUNK]]
        tables.append(faces_table(manifest[kept].iloc[start : start + CHUNK], found, parts.recipe))
    return pd.concat(tables, ignore_index=True) if tables else FACES.empty()


def _name(detector: Callable[[], Detector]) -> str:
    return f"{detector.__module__}.{getattr(detector, '__qualname__', type(detector).__qualname__)}"
