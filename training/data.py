"""From tables to batches.

Single crops or pairs, as the detector's settings or its own sampler have it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import CropDataset, loader
from unmasked.datasets.samplers import (
    BalancedSampler,
    Batches,
    InOrder,
    NaturalSampler,
    PairSampler,
    RowSampler,
    WholeBatches,
)
from unmasked.datasets.transforms import RandomJpeg
from unmasked.training.config import PairConfig, TrainedConfig
from unmasked.training.group_losses import TrainingGroups
from unmasked.training.handle import Detector
from unmasked.training.tables import TrainingTables


class DealtSampler(RowSampler, Protocol):
    """A sampler of one process's rows or pairs; the engine sets which process."""

    rank: int


class TrainingData(pl.LightningDataModule):
    """Loaders for training, and of single crops for validation, a share for every process.

    Args:
        detector: may have a sampler of its own.
        tables: what is trained on, and what selects.
        crops_root: folder that the crops' paths are relative to.
        config: how.
        replicas: processes.
    """

    def __init__(
        self,
        detector: Detector,
        tables: TrainingTables,
        crops_root: Path,
        config: TrainedConfig,
        *,
        replicas: int = 1,
    ) -> None:
        super().__init__()
        self.tables, self.crops_root, self.config = tables, crops_root, config
        sample = detector.part("sampler", row_sampler)
        self.sampler: DealtSampler = sample(
            tables.train, config, groups=self._balanced_groups(), replicas=replicas
        )
        self._train: CropDataset | None = None
        self._val: CropDataset | None = None
        self._done: dict[str, int] | None = None

    @property
    def steps_of_epoch(self) -> int:
        """Steps of the optimiser."""
        return steps_of_epoch(self.sampler, self.config)

    def state_dict(self) -> dict[str, Any]:
        """How many batches of which epoch are done, and which videos were set aside."""
        assert self.trainer is not None
        done = {"epoch": self.trainer.current_epoch, "batches": self.trainer.fit_loop.batch_idx + 1}
        held_out = self.tables.held_out
        return {**done, "held_out": held_out.sha256 if held_out else "", "tables": self.tables.digest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on after them.

        Raises:
            InputError: the faces table holds other crops than before, or others would be set aside.
        """
        held_out = self.tables.held_out
        if state_dict.get("held_out", "") != (held_out.sha256 if held_out else ""):
            raise InputError(
                "the faces table has changed: data.val_from_train sets other videos aside than before, and "
                "some of them were trained on; resume with the same table, or train into another folder"
            )
        if state_dict.get("tables", self.tables.digest) != self.tables.digest:
            raise InputError(
                "the faces table has changed: the state was trained on other crops than those that it holds "
                "now; resume with the same table, or train into another folder"
            )
        self._done = {name: state_dict[name] for name in ("epoch", "batches")}

    def setup(self, stage: str) -> None:
        """Reads the crops, if they fit into memory."""
        settings = self.config.data
        jpeg = RandomJpeg(self.config.augment) if self.config.augment.jpeg else None
        self._train = self._dataset(self.tables.train, settings.cache_mb, jpeg)
        used_mb = 0 if self._train.images is None else self._train.images.nbytes >> 20
        self._val = self._dataset(self.tables.val, max(0, settings.cache_mb - used_mb), None)

    def train_dataloader(self) -> DataLoader:
        """Batches of B crops, or of P pairs: P reals, then P fakes."""
        assert self._train is not None
        assert self.trainer is not None
        self.sampler.rank = self.trainer.global_rank
        batches = Batches(
            self.sampler,
            self.config.training.entries,
            seed=self.config.seed,
            rank=self.trainer.global_rank,
        )
        # The Trainer sets later epochs itself, but makes the first iterator of a resumed run before that.
        batches.set_epoch(self.trainer.current_epoch)
        if self._done is not None:
            batches.resume(**self._done)
            batches.set_epoch(self.trainer.current_epoch)
        return loader(self._train, batches, workers=self.config.data.workers, seed=self.config.seed)

    def val_dataloader(self) -> DataLoader:
        """Batches of single crops; where rows do not divide among processes, some are repeated."""
        assert self._val is not None
        assert self.trainer is not None
        rows = InOrder(len(self._val), rank=self.trainer.global_rank, replicas=self.trainer.world_size)
        # A list, which no epoch changes: every validation sees the same images.
        batches = list(Batches(rows, self.config.training.val_batch, seed=self.config.seed))
        return loader(self._val, batches, workers=self.config.data.workers, seed=self.config.seed)

    def _balanced_groups(self) -> TrainingGroups | None:
        return self.tables.groups if self.config.data.balance == "group_class" else None

    def _dataset(self, faces: pd.DataFrame, cache_mb: int, jpeg: RandomJpeg | None) -> CropDataset:
        return CropDataset(
            faces,
            self.crops_root,
            size_px=self.config.model.size_px,
            methods=self.tables.methods,
            cache_mb=cache_mb,
            transform=jpeg,
        )


def row_sampler(
    faces: pd.DataFrame, config: TrainedConfig, *, groups: TrainingGroups | None = None, replicas: int = 1
) -> DealtSampler:
    """The sampler of a detector that has none of its own.

    Of pairs or of single crops, as its settings are.

    Args:
        faces: training rows; both labels.
        config: how.
        groups: of the rows, where they are to be seen equally often.
        replicas: processes.
    """
    training, accumulate = config.training, config.optimiser.accumulate
    if isinstance(config, PairConfig):
        return PairSampler(
            faces,
            training.entries,
            pairing=config.data.pairing,
            groups=None if groups is None else groups.codes,
            accumulate=accumulate,
            seed=config.seed,
            replicas=replicas,
        )
    rows: RowSampler = NaturalSampler(len(faces), seed=config.seed)
    if groups is not None:
        named = faces.assign(**{groups.attribute: np.array(groups.names, object)[groups.codes]})
        rows = BalancedSampler(named, groups=[groups.attribute], seed=config.seed)
    elif config.data.balance == "class":
        rows = BalancedSampler(faces, seed=config.seed)
    return WholeBatches(rows, training.entries, accumulate=accumulate, replicas=replicas)


def steps_of_epoch(sampler: RowSampler, config: TrainedConfig) -> int:
    """Steps of the optimiser in a pass of a sampler, the last one whole or not."""
    return -(-len(sampler) // (config.training.entries * config.optimiser.accumulate))
