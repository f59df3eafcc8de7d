"""Crops scored on a Ray cluster: each process there holds the detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unmasked.app.detectors import load
from unmasked.datasets.errors import InputError
from unmasked.evaluation.inference import Precision
from unmasked.evaluation.predict import STAGE, Progress, scorer_of_files
from unmasked.preprocessing.pool import Budget
from unmasked.preprocessing.ray_pool import run_tasks_on_ray

BATCHES = 8  # of a task: what is done again where a machine is lost

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Brief:
    """What a process needs to score; the same on all machines.

    Args:
        checkpoint: path that every machine sees.
        detector: import path or file of the user's own module, where the checkpoint is of one.
        sha256: of the weights that are asked for.
        size_px: side of the detector's images.
        device: as of `predict`; Ray counts the CPUs alone.
        precision: as of `predict`.
    """

    checkpoint: Path
    detector: str
    sha256: str
    size_px: int
    device: str
    precision: Precision


@dataclass(frozen=True)
class Part:
    """Batches of crop files, and the place of the first one."""

    first: int
    batches: tuple[tuple[Path, ...], ...]


def score_on_ray(
    batches: Sequence[Sequence[Path]],
    brief: Brief,
    *,
    workers: int = 0,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> list[Scores]:
    """The scores of each batch, in order; the cluster is that of `run_tasks_on_ray`.

    Args:
        batches: paths that every machine sees.
        brief: who scores how.
        workers: processes; 0 = one for each CPU of the cluster.
        budget: of a part of `BATCHES` batches; None sets no limit.
        progress: as of `predict`.

    Raises:
        InputError: Ray is not installed; a machine lacks a folder, has other weights under that path, cannot
            read a crop, or ended at the same crops `ray_pool.TRIES` times.
    """
    parts = [
        Part(first, tuple(tuple(batch) for batch in batches[first : first + BATCHES]))
        for first in range(0, len(batches), BATCHES)
    ]
    found: dict[int, list[Scores]] = {}
    done, total = 0, sum(map(len, batches))
    make = partial(_make_work, brief)
    for outcome in run_tasks_on_ray(parts, make, workers=workers, budget=budget or Budget()):
        if outcome.result is None:
            raise InputError(
                f"crops from {outcome.task.batches[0][0]} on could not be scored on the cluster "
                f"({outcome.status}: {outcome.reason}); look at that machine, or leave engine=local"
            )
        found[outcome.task.first] = outcome.result
        done += sum(map(len, outcome.task.batches))
        if progress is not None:
            progress(STAGE, done, total)
    return [scores for first in sorted(found) for scores in found[first]]


def _make_work(brief: Brief) -> Callable[[Part], list[Scores]]:
    model, card = load(brief.checkpoint, brief.detector)
    if card["sha256"] != brief.sha256:
        raise InputError(
            f"a machine of the Ray cluster has other weights under {brief.checkpoint} "
            f"({card['sha256'][:12]}, not {brief.sha256[:12]}); let all machines see the same file"
        )
    score = scorer_of_files(model, brief.size_px, brief.device, brief.precision)
    return lambda part: score(part.batches)
