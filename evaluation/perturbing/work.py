"""Perturbed crops of a faces table.

Made in threads, in a fixed order, while earlier ones are scored.
A crop is read once for all its perturbations. For those of the whole frame the video is decoded again, the
frame perturbed, and the crop cut with the matrix that the faces table holds: nothing is detected again, so
that scores change with the pixels and not with where a detector finds the face.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from unmasked.datasets.crops import crop_paths
from unmasked.datasets.loading import READERS, fit_to_size, read_whole, sample_evenly
from unmasked.evaluation.perturbing.registry import Setting
from unmasked.evaluation.perturbing.units import Batch, Made, Perturbed, Unit


def plan_units(crops: pd.DataFrame, root: Path, perturbed: Perturbed, size_px: int) -> list[Unit]:
    """The work that makes every perturbed crop, in the order in which it is to be done.

    Args:
        crops: rows of a faces table that have crops, numbered from 0.
        root: folder that the crops' paths are relative to.
        perturbed: see `Perturbed`.
        size_px: side of the detector's images; crops are perturbed as they are stored, then resized.

    Raises:
        InputError: a video that is needed is not there or not in the manifest, a crop has no matrix, or
            nothing can be perturbed as asked.
    """
    chosen = crops.assign(_row=np.arange(len(crops)))
    chosen = sample_evenly(chosen, perturbed.per_video)
    numbered = list(enumerate(perturbed.settings))
    of_crop = [(number, setting) for number, setting in numbered if setting.where == "crop"]
    of_frame = [(number, setting) for number, setting in numbered if setting.where == "frame"]
    units = []
    if of_crop:
        keys = chosen[["_row", "dataset", "video", "frame", "face"]].itertuples(index=False, name=None)
        for (row, *key), path in zip(keys, crop_paths(chosen["crop"], root), strict=True):
            make = partial(_settings_of_crop, row, path, key, of_crop, perturbed.seed, size_px)
            units.append(Unit(len(of_crop), make))
    if of_frame:
        # Reads videos: only what perturbs whole frames needs those libraries.
        from unmasked.evaluation.perturbing.frames import frame_units

        units += frame_units(chosen, root, of_frame, perturbed, size_px)
    return units


def batches(units: Sequence[Unit], batch_size: int) -> Iterator[Batch]:
    """Yields rows (N,), settings (N,) and images (N, size_px, size_px, 3), in order of units."""
    batch: list[Made] = []
    for made in _make_in_order(units, batch_size):
        batch.append(made)
        if len(batch) == batch_size:
            yield _stack_batch(batch)
            batch = []
    if batch:
        yield _stack_batch(batch)


def _stack_batch(batch: Sequence[Made]) -> Batch:
    rows, settings, images = zip(*batch, strict=True)
    return np.array(rows), np.array(settings), np.stack(images)


def _make_in_order(units: Iterable[Unit], ahead: int) -> Iterator[Made]:
    """The crops of all units in order; threads work on the next ``ahead`` crops meanwhile, and no further."""
    waiting: deque[tuple[int, Future[list[Made]]]] = deque()
    upcoming, count = iter(units), 0
    with ThreadPoolExecutor(READERS) as pool:
        try:
            while True:
                while (count < ahead or len(waiting) < READERS) and (unit := next(upcoming, None)):
                    waiting.append((unit.count, pool.submit(unit.make)))
                    count += unit.count
                if not waiting:
                    return
                made, future = waiting.popleft()
                yield from future.result()
                count -= made
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _settings_of_crop(
    row: int,
    path: Path,
    key: Sequence[object],
    settings: Sequence[tuple[int, Setting]],
    seed: int,
    size_px: int,
) -> list[Made]:
    image = read_whole(path)
    return [
        Made(row, number, fit_to_size(setting.apply(image, seed, *key), size_px))
        for number, setting in settings
    ]
