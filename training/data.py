"""From a faces table to batches: what training needs is checked here, before the first step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from unmasked.datasets.blending import BLENDED, self_blended
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import VIDEO, CropDataset, evenly_sampled, loader, method_classes, usable
from unmasked.datasets.samplers import KIND, Batches, InOrder, PairSampler
from unmasked.datasets.transforms import RandomJpeg
from unmasked.fairness.groups import UNKNOWN, check_values, group_columns, ordered
from unmasked.training.group_losses import TrainingGroups
from unmasked.ucf.config import UCFConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingTables:
    """Crops to train on, crops to select on, and the classes of the method head ("real" first).

    ``val`` holds the test split where an oracle selects; ``groups`` are of the rows of ``train``, where
    training looks at them.
    """

    train: pd.DataFrame
    val: pd.DataFrame
    methods: list[str]
    groups: TrainingGroups | None = None

    def summary(self) -> dict[str, object]:
        """What the tables hold, for a checkpoint's card."""
        both = pd.concat([self.train, self.val])
        counts = {}
        for split, faces in (("train", self.train), ("val", self.val)):
            videos = faces.drop_duplicates(VIDEO)
            counts[split] = {
                "crops": len(faces),
                "videos": len(videos),
                "videos_by_method": {
                    str(method): int(count) for method, count in videos["method"].value_counts().items()
                },
            }
        return {
            "datasets": sorted(both["dataset"].unique()),
            "compression": sorted(both["compression"].dropna().unique()),
            "recipe": sorted(both["recipe"].dropna().unique()) if "recipe" in both else [],
            **counts,
        }


def training_tables(faces: pd.DataFrame, config: UCFConfig) -> TrainingTables:
    """The rows of the splits train and val that will be used; of test instead of val for an oracle.

    Raises:
        InputError: a split has no crop, or lacks reals or fakes, or the fakes are of one method only, or
            groups are asked for that the training rows do not have.
    """
    crops = usable(faces)
    if crops.empty:
        raise InputError(
            f"none of the {len(faces)} rows of the faces table has a crop (status ok); "
            "run `unmasked preprocess` and look at its statuses"
        )
    train = _of_split(crops, "train", config.data.frames_per_video)
    selects = "test" if config.training.selection == "oracle" else "val"
    val = _of_split(crops, selects, config.data.val_frames_per_video)
    if config.data.fakes != "dataset":
        train = _with_self_blended(train, only=config.data.fakes == "self_blended")
        # Selection sees the data set's own fakes; self-blended ones stand in where it has none.
        val = val if (val["label"] == 1).any() else _with_self_blended(val, only=True)
    for split, rows in (("train", train), (selects, val)):
        _check_both_labels(split, rows)
    _check_methods(train, config)
    if config.shuffle_labels:
        train, val = shuffled_labels(train, config.seed), shuffled_labels(val, config.seed + 1)
    return TrainingTables(train, val, method_classes(train), training_groups(train, config))


def training_groups(train: pd.DataFrame, config: UCFConfig) -> TrainingGroups | None:
    """The groups of the training rows where a loss or the balance of pairs needs them, else None.

    Rows of which nobody said whose face it is are the group "unknown", with a warning.

    Raises:
        InputError: none were named, the column is absent or empty, or has one group or more than 50.
    """
    settings = config.data
    users = [f"loss.robust={config.loss.robust}"] if config.loss.robust not in ("none", "cvar") else []
    users += ["data.balance=group_class"] if settings.balance != "none" else []
    if not users:
        if settings.groups:
            raise InputError(
                f"data.groups={settings.groups!r} is used by nothing; set loss.robust=nested_cvar, group_dro "
                "or reweighted, or data.balance=group_class, or leave it out"
            )
        return None
    if not settings.groups:
        raise InputError(
            f"{users[0]} needs to know whose face a crop shows; name a column of the faces table, such as "
            "data.groups=gender or data.groups='gender * skin_tone'"
        )
    column = group_columns(train, [settings.groups]).iloc[:, 0]
    known = column[column != UNKNOWN]
    check_values(str(column.name), known.to_numpy())
    if len(known) < len(column):
        logger.warning(
            "%d of %d training crops do not say %s; they count as a group called unknown",
            *(len(column) - len(known), len(column), column.name),
        )
    names = ordered(column.tolist())
    codes = pd.Categorical(column, categories=names).codes.astype(np.int64)
    return TrainingGroups(str(column.name), names, codes, train["label"].to_numpy(np.int64))


def shuffled_labels(faces: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table with label and method permuted among its videos; each video keeps one label.

    The new ones are dealt out evenly: among the videos of each true method they are as frequent as among
    all, to within a video. A plain permutation would leave chance shares of true fakes among the new ones,
    and traces as strong as these would be learned from them. A detector that is trained on the table has
    nothing to learn, so over many seeds its AUC on true labels is 0.5.
    """
    rng = np.random.default_rng(seed)
    videos = faces.groupby(VIDEO, sort=False, dropna=False)
    number = videos.ngroup().to_numpy()
    first = videos.head(1)
    method = pd.factorize(first["method"])[0]
    by_method = np.lexsort((rng.random(len(first)), method))
    size = np.bincount(method)
    rank = np.empty(len(first))
    rank[by_method] = np.arange(len(first)) - np.repeat(np.cumsum(size) - size, size)
    evenly = np.argsort((rank + rng.random(len(size))[method]) / size[method])
    order = np.empty(len(first), int)
    order[by_method] = evenly
    # The video of number i gets what the video of number order[i] had.
    columns = {name: first[name].to_numpy()[order][number] for name in ("label", "method")}
    return faces.assign(**{name: pd.Series(values, faces.index) for name, values in columns.items()})


class UCFData(pl.LightningDataModule):
    """Loaders of pairs for training and of single crops for validation, a share for every process."""

    def __init__(self, tables: TrainingTables, crops_root: Path, config: UCFConfig) -> None:
        super().__init__()
        self.tables, self.crops_root, self.config = tables, crops_root, config
        self._train: CropDataset | None = None
        self._val: CropDataset | None = None
        self._done: dict[str, int] | None = None

    def state_dict(self) -> dict[str, int]:
        """How many batches of which epoch are done."""
        assert self.trainer is not None
        return {"epoch": self.trainer.current_epoch, "batches": self.trainer.fit_loop.batch_idx + 1}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on after them."""
        self._done = state_dict

    def setup(self, stage: str) -> None:
        """Reads the crops, if they fit into memory."""
        settings = self.config.data
        jpeg = RandomJpeg(self.config.augment) if self.config.augment.jpeg else None
        self._train = self._dataset(self.tables.train, settings.cache_mb, jpeg)
        used_mb = 0 if self._train.images is None else self._train.images.nbytes >> 20
        self._val = self._dataset(self.tables.val, max(0, settings.cache_mb - used_mb), None)

    def train_dataloader(self) -> DataLoader:
        """Batches of P pairs: P reals, then P fakes."""
        assert self._train is not None
        assert self.trainer is not None
        pairs = PairSampler(
            self.tables.train,
            self.config.training.batch_pairs,
            pairing=self.config.data.pairing,
            groups=self._balanced_groups(),
            accumulate=self.config.optimiser.accumulate,
            seed=self.config.seed,
            rank=self.trainer.global_rank,
            replicas=self.trainer.world_size,
        )
        batches = Batches(
            pairs,
            self.config.training.batch_pairs,
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

    def _balanced_groups(self) -> NDArray[np.int64] | None:
        groups = self.tables.groups
        return None if groups is None or self.config.data.balance == "none" else groups.codes

    def _dataset(self, faces: pd.DataFrame, cache_mb: int, jpeg: RandomJpeg | None) -> CropDataset:
        return CropDataset(
            faces,
            self.crops_root,
            size_px=self.config.model.size_px,
            methods=self.tables.methods,
            cache_mb=cache_mb,
            transform=jpeg,
        )


def _of_split(crops: pd.DataFrame, split: str, per_video: int | None) -> pd.DataFrame:
    rows = crops[crops["split"] == split].reset_index(drop=True)
    if rows.empty:
        found = ", ".join(sorted(crops["split"].unique()))
        raise InputError(
            f"no crop belongs to the split {split!r}; the faces table has {found}. "
            "Training needs train and val: give a manifest with both"
        )
    return evenly_sampled(rows, per_video)


def _with_self_blended(faces: pd.DataFrame, *, only: bool) -> pd.DataFrame:
    """The rows, without their fakes if ``only``, and a fake to be made of each real one."""
    kept = faces[faces["label"] == 0] if only else faces
    return pd.concat([kept.assign(**{BLENDED: False}), self_blended(faces)], ignore_index=True)


def _check_both_labels(split: str, rows: pd.DataFrame) -> None:
    for label, kind in KIND.items():
        if not (rows["label"] == label).any():
            advice = ", or make them with data.fakes=self_blended" if label else ""
            raise InputError(
                f"split {split!r} has {len(rows)} crops, none of them {kind}; UCF needs reals and fakes "
                f"in train and in the split that selects: add {kind} videos to the manifest{advice}"
            )


def _check_methods(rows: pd.DataFrame, config: UCFConfig) -> None:
    """One method makes the specific head learn what the common one does: nothing is told apart.

    Not checked where self-blended fakes alone were asked for, or where the specific loss is off.
    """
    methods = method_classes(rows)[1:]
    if len(methods) == 1 and config.loss.specific and config.data.fakes != "self_blended":
        raise InputError(
            f"all fakes of the split 'train' are of one method, {methods[0]}; UCF tells what methods have in "
            "common from what is specific to each, and needs two or more: add fakes of another method, or "
            "self-blended ones with data.fakes=both, or train without that head by loss.specific=0"
        )
