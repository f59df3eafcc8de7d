"""Pairs of a real and a fake, and batches of them: first the reals, then their fakes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch.utils.data import Dataset, Sampler, default_collate

from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import CropDataset

logger = logging.getLogger(__name__)

VIDEO = ["dataset", "video", "compression"]
Pair = tuple[int, int]


def evenly_sampled(faces: pd.DataFrame, per_video: int | None) -> pd.DataFrame:
    """At most ``per_video`` crops of each video, evenly spread over its frames, first and last included.

    Not the first ones: they would show a second of the video.
    """
    if per_video is None:
        return faces
    ordered = faces.sort_values([*VIDEO, "frame", "face"], kind="stable")
    videos = ordered.groupby(VIDEO, sort=False, dropna=False)
    position, count = videos.cumcount(), videos["frame"].transform("size")
    # Row i of n is kept if it is the nearest one to some point of linspace(0, n - 1, per_video).
    kept = pd.Series(True, index=ordered.index)
    for n in count[count > per_video].unique():
        chosen = np.linspace(0, n - 1, per_video).round().astype(int)
        kept[count == n] = position[count == n].isin(chosen)
    return ordered[kept].sort_index().reset_index(drop=True)


class PairSampler(Sampler[Pair]):
    """Pairs of row numbers (real, fake): every fake once an epoch, in an order of its own each epoch.

    Where several processes train, each draws its own share. The last batch is filled up with fakes
    from the beginning of the order, so that all batches of all processes are whole.

    Args:
        faces: training rows; both labels.
        batch_pairs: pairs in a batch of one process.
        pairing: ``random`` draws any real crop (as published), ``source`` one of the video that the fake
            was made from, and any where that video has no crop.
        seed: same seed and epoch, same pairs.
        rank, replicas: this process among how many.
    """

    def __init__(
        self,
        faces: pd.DataFrame,
        batch_pairs: int,
        *,
        pairing: Literal["random", "source"] = "random",
        seed: int = 0,
        rank: int = 0,
        replicas: int = 1,
    ) -> None:
        self.reals = np.flatnonzero(faces["label"] == 0)
        self.fakes = np.flatnonzero(faces["label"] == 1)
        self.sources = _source_rows(faces, self.reals) if pairing == "source" else None
        self.seed, self.rank, self.replicas = seed, rank, replicas
        whole = batch_pairs * replicas
        self.total = -(-len(self.fakes) // whole) * whole
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass; the Lightning Trainer calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.total // self.replicas

    def __iter__(self) -> Iterator[Pair]:
        rng = np.random.default_rng([self.seed, self.epoch])
        fakes = np.resize(rng.permutation(self.fakes), self.total)
        reals = self.reals[rng.integers(len(self.reals), size=self.total)]
        draws = rng.random(self.total)
        for position in range(self.rank, self.total, self.replicas):
            fake, real = int(fakes[position]), int(reals[position])
            if self.sources is not None and len(rows := self.sources[fake]):
                real = int(rows[int(draws[position] * len(rows))])
            yield real, fake


class PairDataset(Dataset[tuple[dict[str, Any], dict[str, Any]]]):
    """A real item and a fake item for a pair of row numbers."""

    def __init__(self, crops: CropDataset) -> None:
        self.crops = crops

    def __getitem__(self, pair: Pair) -> tuple[dict[str, Any], dict[str, Any]]:
        real, fake = pair
        return self.crops[real], self.crops[fake]


def collate_pairs(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """A batch of P pairs: (2P, …) tensors, rows 0 to P - 1 the reals, row P + i the fake of row i."""
    reals, fakes = zip(*pairs, strict=True)
    return default_collate([*reals, *fakes])


def _source_rows(faces: pd.DataFrame, reals: np.ndarray) -> dict[int, np.ndarray]:
    """Rows of real crops for every fake row: those of the video into which its face was put."""
    if "target_video" not in faces or faces.loc[faces["label"] == 1, "target_video"].isna().all():
        raise InputError(
            "pairing by source needs the column target_video, which these faces do not have; "
            "set data.pairing=random"
        )
    by_video: dict[tuple[str, str], list[int]] = {}
    for row in reals:
        name = str(faces["video"].iat[row])
        for named in {name, PurePosixPath(name).name}:
            by_video.setdefault((faces["dataset"].iat[row], named), []).append(int(row))
    sources = {}
    for row in np.flatnonzero(faces["label"] == 1):
        key = (faces["dataset"].iat[row], str(faces["target_video"].iat[row]))
        sources[int(row)] = np.array(by_video.get(key, []), dtype=np.int64)
    missing = sum(len(rows) == 0 for rows in sources.values())
    if missing == len(sources):
        raise InputError(
            "no fake's target_video is among the real videos of the training split; set data.pairing=random"
        )
    if missing:
        logger.warning(
            "%d of %d fakes have no crop of their source: any real is drawn", missing, len(sources)
        )
    return sources
