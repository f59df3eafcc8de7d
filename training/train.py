"""Training: faces table in, best detector on source validation out."""

from __future__ import annotations

import errno
import logging
import random
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pydantic import BaseModel, ValidationError
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.utilities.seed import isolate_rng

from unmasked.analysis.explain.tensorboard import quieten_writer_thread
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_text
from unmasked.preprocessing.parts import card_of_crops
from unmasked.training.boards import Boards, EventLogger
from unmasked.training.callbacks import (
    HoldLimits,
    KeepBest,
    KeepLast,
    StopOnSignal,
    WriteMetrics,
    selection_of,
)
from unmasked.training.checkpoint import NAME, read_training_state
from unmasked.training.config import DetectorConfig, TrainedConfig
from unmasked.training.data import TrainingData
from unmasked.training.handle import Detector
from unmasked.training.launch import is_first_process, placement
from unmasked.training.module import MARK, METRIC_PREFIX, DetectorModule
from unmasked.training.tables import TrainingTables, training_tables

# What a resumed training may change: how long it goes on, and how it is carried out.
MAY_CHANGE = (
    *("max_steps", "max_minutes", "epochs", "patience", "devices", "deterministic", "compile"),
    *("log_every_steps", "save_every_steps", "val_batch"),
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Follows the detector's name in the card, and so in predictions, metrics, tables, figures and reports.
ORACLE = " (oracle selection)"
UNFINISHED = ".unfinished"  # a file in a run's folder while its training runs, and after it was stopped


@dataclass(frozen=True)
class TrainResult:
    """What training left.

    Attributes:
        checkpoint: ``detector.safetensors``, the best by ``selection``; its card lies beside it.
        last: the state at the end of training, for resuming.
        history: the record of each validation: epoch, step, mean losses since the last one, AUCs.
        selection: the rule, and the record of the validation that it chose.
    """

    checkpoint: Path
    last: Path
    history: list[dict[str, Any]]
    selection: dict[str, Any]


def train(
    faces: pd.DataFrame,
    crops_root: Path,
    config: TrainedConfig,
    out: Path,
    *,
    detector: Detector,
    resume: bool = False,
    callbacks: Sequence[pl.Callback] = (),
) -> TrainResult:
    """Trains a detector on train and val of a faces table (train and test for an oracle).

    Writes into ``out``: ``detector.safetensors`` and ``detector.json`` (after every validation that is the
    best so far), ``checkpoints/last.ckpt``, ``metrics.jsonl`` and ``tensorboard/``. Uses GPUs if there are
    some, and the processes of ``torchrun`` or SLURM if these started it. Python's, numpy's and torch's
    generators are seeded, and given back as they were.

    Args:
        faces: see `preprocessing.faces`; rows of other splits and rows without a crop are left out.
        crops_root: folder that the crops' paths are relative to.
        config: how.
        out: the run's folder.
        detector: what is trained.
        resume: go on from ``checkpoints/last.ckpt``; the configuration must be the same but for its length.
        callbacks: further Lightning callbacks, for progress.

    Raises:
        InputError: a split lacks crops, reals or fakes; a crop cannot be read; there is nothing to resume
            or it was trained otherwise; a loss is not a finite number; the detector's module breaks the
            contract.
    """
    tables = training_tables(faces, config)
    if check := detector.part("check"):
        check(tables.train, config)
    last = Path(out) / "checkpoints" / "last.ckpt"
    resumed_step = check_resume(last, config) if resume else 0
    settings = config.training
    card = training_card(detector, tables, config, card_of_crops(tables.train, Path(crops_root)))
    best = KeepBest(Path(out) / NAME, card, selection=settings.selection, count=settings.keep_best)
    metrics = WriteMetrics(Path(out) / "metrics.jsonl")
    keep = [
        Boards(config),  # before the detector is written: what fails in the first validation leaves none
        best,
        metrics,
        *_early_stopping(config),
        HoldLimits(settings.max_minutes, time.monotonic),
    ]
    state = KeepLast(last, every_steps=settings.save_every_steps, accumulate=config.optimiser.accumulate)
    keep += [StopOnSignal(state), state]
    with isolate_rng(), quieten_lightning():
        seed_everything(config.seed)
        trainer = _trainer(config, Path(out), [*callbacks, *keep], resumed_step)
        data = TrainingData(detector, tables, Path(crops_root), config, replicas=trainer.world_size)
        steps = settings.epochs * data.steps_of_epoch
        module = DetectorModule(
            detector,
            config,
            tables.methods,
            train_faces=tables.train,
            val_faces=tables.val,
            total_steps=min(steps, settings.max_steps or steps),
            groups=tables.groups,
        )
        if (initialise := detector.part("initialise")) and not resume:
            initialise(module.model, config)
        with explain_full_disk(Path(out), last):
            unfinished = Path(out) / UNFINISHED
            if trainer.is_global_zero:
                write_text(unfinished, "")
            trainer.fit(module, datamodule=data, ckpt_path=last if resume else None, weights_only=True)
            if trainer.is_global_zero:
                unfinished.unlink(missing_ok=True)
    assert best.best is not None
    return TrainResult(best.path, last, metrics.history, selection_of(best.best, settings.selection))


def check_nothing_is_lost(out: Path) -> None:
    """Raises InputError where a stopped training left, or may have left, a state.

    Of several processes the first one looks: it also says in the folder that a training has begun.
    """
    last = Path(out) / "checkpoints" / "last.ckpt"
    if not (is_first_process() and last.is_file()):
        return
    state = read_training_state(last)
    if (Path(out) / UNFINISHED).is_file():
        what = "of a training that was stopped"
    elif MARK not in state:
        what = "of a training by an earlier version, which does not say whether it was finished"
    else:
        return
    raise InputError(
        f"{last} is the state {what}, after step {state['global_step']}; go on with resume=true, or "
        "begin again with restart=true or in another out=…"
    )


def training_card(
    detector: Detector, tables: TrainingTables, config: DetectorConfig, crops: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of a detector before it is trained; ``crops`` as of `card_of_crops`."""
    is_oracle = isinstance(config, TrainedConfig) and config.training.selection == "oracle"
    start = detector.part("start")
    return {
        **({"detector": detector.title + ORACLE} if is_oracle else {}),
        "method_classes": tables.methods,
        "size_px": config.model.size_px,
        "training_data": tables.summary(),
        **crops,
        "labels_shuffled": config.shuffle_labels,
        **({"start": start(config)} if start else {}),
        "config": config.model_dump(mode="json"),
        "versions": {name: version(name) for name in ("unmasked", "torch", "pytorch-lightning")},
    }


def _early_stopping(config: TrainedConfig) -> list[pl.Callback]:
    if config.training.patience is None:
        return []
    metric = f"{METRIC_PREFIX[config.training.selection]}/video_auc"
    return [EarlyStopping(metric, mode="max", patience=config.training.patience)]


def _trainer(config: TrainedConfig, out: Path, callbacks: list[pl.Callback], resumed_step: int) -> pl.Trainer:
    settings, accumulate = config.training, config.optimiser.accumulate
    where = placement(settings)
    return pl.Trainer(
        **where,
        precision=settings.precision,
        deterministic=settings.deterministic,
        sync_batchnorm=settings.sync_batchnorm,
        max_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        # The Trainer counts batches here, and steps of the optimiser in max_steps.
        val_check_interval=settings.val_every_steps and settings.val_every_steps * accumulate,
        check_val_every_n_epoch=None if settings.val_every_steps else 1,
        gradient_clip_val=config.optimiser.gradient_clip or None,
        accumulate_grad_batches=accumulate,
        callbacks=callbacks,
        # As seldom as the module logs, or each step between would repeat the last values.
        **quiet_trainer(out, resumed_step) | {"log_every_n_steps": settings.log_every_steps},
    )


def quiet_trainer(out: Path, resumed_step: int) -> dict[str, Any]:
    """The Trainer's arguments that no setting changes; callbacks keep states."""
    return {
        "logger": EventLogger(out, name="tensorboard", version="", purge_step=resumed_step),
        "log_every_n_steps": 1,  # the module decides which steps it logs
        "default_root_dir": out,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,  # our own samplers share crops and pairs out
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def check_resume(last: Path, config: BaseModel) -> int:
    """Steps in the state to resume, if it was trained with the same configuration."""
    if not last.is_file():
        raise InputError(f"there is nothing to resume: {last} does not exist; train without resume first")
    stored = read_training_state(last)
    # Settings that are newer than the state have the values that it was trained with: their defaults.
    try:
        before = type(config).model_validate_json(stored.get("config") or "").model_dump(mode="json")
    except ValidationError as error:
        raise InputError(
            f"{last} does not say how it was trained; begin again with restart=true, or in another out=…"
        ) from error
    now = config.model_dump(mode="json")
    differing = sorted(
        f"{section}.{key}" if key else section
        for section, key in _differences(before, now)
        if not (section == "training" and key in MAY_CHANGE)
    )
    if differing:
        raise InputError(
            f"{last} was trained with other values of {', '.join(differing)}; resume with the same "
            "configuration, or train into another folder"
        )
    return int(stored["global_step"])


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for section in before.keys() | now.keys():
        one, other = before.get(section), now.get(section)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from ((section, key) for key in one.keys() | other.keys() if one.get(key) != other.get(key))
        elif one != other:
            yield section, ""


@contextmanager
def explain_full_disk(out: Path, last: Path) -> Iterator[None]:
    """Says what was written and what to do, instead of where in a writer the disk was full."""
    try:
        with quieten_writer_thread():
            yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        stands = "no state to resume from was written before: make room and begin again with the same command"
        if last.is_file():
            stands = (
                f"{last} stands, and so does the best detector so far: make room and go on with resume=true"
            )
        raise InputError(
            f"training stopped, for {out} cannot be written to ({error.strerror}); {stands}"
        ) from error


def seed_everything(seed: int) -> None:
    """Seeds Python's, numpy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries that draw from it
    torch.manual_seed(seed)


@contextmanager
def quieten_lightning() -> Iterator[None]:
    """Keeps back Lightning's banners and advice; errors and our own messages pass."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for module in ("pytorch_lightning", "lightning_fabric", "torch", "tensorboard"):
                warnings.filterwarnings("ignore", module=rf"{module}(\..*)?$")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
