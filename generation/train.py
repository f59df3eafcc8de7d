"""Training of a generator: real faces in; generator, discriminator and record out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.seed import isolate_rng
from torch.utils.data import Sampler

from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_text
from unmasked.datasets.images import UnreadableImage, open_image
from unmasked.datasets.loading import CropDataset, loader, usable_rows
from unmasked.datasets.samplers import Draw
from unmasked.generation.boards import Look
from unmasked.generation.config import GeneratorConfig, Training
from unmasked.generation.features import Extractor, units_of
from unmasked.generation.module import GeneratorModule
from unmasked.generation.processes import share
from unmasked.preprocessing.parts import card_of_crops
from unmasked.training import checkpoint
from unmasked.training.callbacks import HoldLimits, KeepLast, StopOnSignal
from unmasked.training.config import TrainingConfig
from unmasked.training.handle import Detector
from unmasked.training.launch import placement
from unmasked.training.residual import Critic
from unmasked.training.train import (
    UNFINISHED,
    check_resume,
    explain_full_disk,
    quiet_trainer,
    quieten_lightning,
    seed_everything,
)

METHOD = "StyleGAN2-ADA"
STYLEGAN2 = Detector("stylegan2", "unmasked.generation.stylegan2")  # for its checkpoint; it scores nothing
FILE = "generator.safetensors"


@dataclass(frozen=True)
class Trained:
    """What training left.

    Attributes:
        generator: ``generator.safetensors``, the averaged weights, with its card beside it.
        discriminator: the folder of a checkpoint that `unmasked predict` takes.
        history: the record of each look: step, p, r_t, losses, distances.
    """

    generator: Path
    discriminator: Path
    history: list[dict[str, Any]]


class Together(DDPStrategy):
    """Lightning's processes without DistributedDataParallel: see `processes`."""

    def configure_ddp(self) -> None:
        """Leaves the module as it is: one seed made equal weights everywhere."""


class Stream(Sampler[list[Draw]]):
    """Batches of rows without end: each pass in another order, and no batch is short.

    Args:
        rows: how many there are.
        batch: rows in a batch.
        steps: batches of the whole training.
        seed: of the orders.
        start: batches that a resumed training has had.

    Of several processes each draws its share of every batch.
    """

    def __init__(self, rows: int, batch: int, *, steps: int, seed: int, start: int = 0) -> None:
        self.rows, self.batch, self.steps, self.seed, self.start = rows, batch, steps, seed, start

    def __len__(self) -> int:
        """Batches of the whole training, however many are left out of a resumed one."""
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        known: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))
        for step in range(self.start, self.steps):
            draws = []
            for place in range(step * self.batch, (step + 1) * self.batch):
                epoch, row = divmod(place, self.rows)
                if epoch != known[0]:
                    known = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.rows)
                draws.append(Draw(int(known[1][row])))
            yield draws[share()]


def real_rows(faces: pd.DataFrame, split: str = "train") -> pd.DataFrame:
    """The crops of real faces of a split of a faces table.

    Raises:
        InputError: there are none.
    """
    crops = usable_rows(faces)
    found = crops[(crops["label"] == 0) & (crops["split"] == split)].reset_index(drop=True)
    if found.empty:
        kinds = crops.groupby(["split", "label"], dropna=False).size()
        there = ", ".join(f"{n} of split {key[0]} and label {key[1]}" for key, n in kinds.items())
        raise InputError(
            f"the faces table has no crop of a real face in the split {split}; it has {there or 'no crop'}: "
            "give a table with reals (label 0) there; `unmasked scan` gives splits, by split=train or "
            "split_seed=0, to a set that has none"
        )
    return found


def check_sizes(paths: Sequence[Path], size_px: int) -> None:
    """Raises InputError for images that are no squares, or smaller than what is to be made."""
    unfit = []
    for path in paths:
        try:
            with open_image(path) as image:
                width, height = image.size
        except (OSError, UnreadableImage) as error:
            raise InputError(
                f"crop {path} cannot be read ({error}); run `unmasked preprocess` again"
            ) from error
        if width != height or width < size_px:
            unfit.append(f"{path.name} is {width} x {height}")
    if unfit:
        raise InputError(
            f"{len(unfit)} of {len(paths)} crops are no squares of {size_px} px or more ({unfit[0]} px): "
            "give a smaller network.size_px, or crops of `unmasked preprocess size_px=…`"
        )


def train(
    faces: pd.DataFrame,
    crops_root: Path,
    config: GeneratorConfig,
    out: Path,
    *,
    judge: Detector,
    extractor: Extractor | None = None,
    resume: bool = False,
    callbacks: Sequence[pl.Callback] = (),
) -> Trained:
    """Trains a generator on the reals of a faces table, against a discriminator.

    Writes into ``out``: ``generator.safetensors`` and ``generator.json``, ``discriminator/``, ``samples/``,
    ``metrics.jsonl``, ``checkpoints/last.ckpt`` and ``tensorboard/``. Uses GPUs if there are some, and the
    processes of ``torchrun`` or SLURM if these started it.

    Args:
        faces: see `preprocessing.faces`; only crops of reals of the split train are used.
        crops_root: folder that the crops' paths are relative to.
        config: how.
        out: the run's folder.
        judge: the detector whose network is the discriminator: a `Critic`.
        extractor: whose features' distance is looked at on the way; none is where there is none.
        resume: go on from ``checkpoints/last.ckpt``.
        callbacks: further ones, for progress.

    Raises:
        InputError: there are no reals, or they are too small; there is nothing to resume, or it was trained
            otherwise; a loss is not a finite number.
    """
    reals, settings, network = real_rows(faces), config.training, config.network
    check_sizes(crop_paths(reals["crop"].unique(), crops_root), network.size_px)
    last = out / "checkpoints" / "last.ckpt"
    start = check_resume(last, config) if resume else 0
    state = KeepLast(last, every_steps=settings.save_every_steps)
    where = places(settings)
    with isolate_rng(), quieten_lightning():
        seed_everything(config.seed)
        crops = CropDataset(
            reals, crops_root, size_px=network.size_px, methods=["real"], cache_mb=config.cache_mb
        )
        critic_settings = {"size_px": network.size_px, "base": network.base, "most": network.most}
        judge_config = judge.config.model_validate({"model": critic_settings})
        critic = judge.build(judge_config, ["real", METHOD])
        assert isinstance(critic, Critic)
        module = GeneratorModule(critic, config)
        card = generator_card(config, reals, card_of_crops(reals, crops_root))

        def keep(step: int) -> None:
            module.averaged.settle()
            complete = {**card, "step": step}
            checkpoint.save(STYLEGAN2, module.averaged, out / FILE, complete)
            judging = {**complete, "config": judge_config.model_dump(mode="json")}
            checkpoint.save(judge, module.critic, out / "discriminator" / checkpoint.NAME, judging)

        look = Look(out, crops, config, units=units_of(reals), keep=keep, extractor=extractor)
        trainer = pl.Trainer(
            **where,
            precision=settings.precision,
            max_epochs=-1,
            max_steps=settings.max_steps,
            limit_val_batches=0,
            callbacks=[
                *callbacks,
                HoldLimits(settings.max_minutes, time.monotonic),
                look,
                StopOnSignal(state),
                state,
            ],
            **quiet_trainer(out, start),
        )
        batches = Stream(len(crops), settings.batch, steps=settings.max_steps, seed=config.seed, start=start)
        with explain_full_disk(out, last):
            if trainer.is_global_zero:
                write_text(out / UNFINISHED, "")
            trainer.fit(module, loader(crops, batches), ckpt_path=last if resume else None, weights_only=True)
            if trainer.is_global_zero:
                (out / UNFINISHED).unlink(missing_ok=True)
    return Trained(out / FILE, out / "discriminator", look.history)


def places(settings: Training) -> dict[str, Any]:
    """The Trainer's devices and strategy, as `launch.placement`.

    Raises:
        InputError: as there; or the processes cannot have equal shares of a batch.
    """
    where = placement(TrainingConfig(devices=settings.devices, precision=settings.precision))
    processes = int(where["devices"]) * int(where["num_nodes"])
    if settings.batch % processes:
        raise InputError(
            f"training.batch={settings.batch} cannot be shared by {processes} processes; give a multiple of "
            f"{processes}, best of {4 * processes}"
        )
    return {**where, "strategy": Together() if processes > 1 else "auto"}


def generator_card(config: GeneratorConfig, reals: pd.DataFrame, crops: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a generator; ``crops`` as of `card_of_crops`."""
    return {
        "method_classes": ["real", METHOD],
        "size_px": config.network.size_px,
        "config": config.model_dump(mode="json"),
        "training_data": {
            "datasets": sorted(reals["dataset"].unique()),
            "images": len(reals),
            "videos": int(reals.groupby(["dataset", "video"]).ngroups),
            "passes": math.ceil(config.training.max_steps * config.training.batch / len(reals)),
        },
        **crops,
        "versions": {name: version(name) for name in ("unmasked", "torch", "pytorch-lightning")},
    }
