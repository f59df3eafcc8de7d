"""What a training of UCF shows in TensorBoard, beside the losses and rates that the module logs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from unmasked.analysis.tensorboard import log_grid, log_hyperparameters, log_scores, log_settings
from unmasked.datasets.samplers import Draw, PairSampler
from unmasked.datasets.transforms import normalised
from unmasked.evaluation.metrics import video_scores
from unmasked.training.callbacks import KeepBest
from unmasked.training.module import LOSSES, METRIC_PREFIX, UCFModule
from unmasked.ucf.config import UCFConfig
from unmasked.ucf.model import UCF, PairOutput

PAIRS_SHOWN = 4
# An image's content under its own fingerprint, and under the one of the other column's image.
COLUMNS = ("real", "self", "by fake's print", "fake", "self", "by real's print")
# Columns of the hparams tab; all settings are in the text tab.
COMPARED = (
    *("optimiser.lr", "optimiser.weight_decay", "optimiser.schedule", "training.batch_pairs"),
    *("training.epochs", "training.max_steps", "training.precision", "model.width", "model.size_px"),
    *("model.imagenet", "loss.common", "loss.specific", "loss.reconstruction", "loss.contrastive"),
    *("loss.mixing_probability", "augment.recipe", "augment.noise", "data.fakes", "data.pairing", "seed"),
)
BEST = ("video_auc", "frame_auc", "step")


class Boards(pl.Callback):
    """Shows scores, calibration, reconstructions, the configuration, and its results beside other runs'."""

    def __init__(self, config: UCFConfig) -> None:
        self.config = config
        self._images: Tensor | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The configuration as text and as a line of the hparams tab, still without results."""
        if writer := _writer(trainer):
            log_settings(writer, dotted(self.config))
            log_hyperparameters(writer, self._compared(), self._results())

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Precision and recall, calibration, and what the decoder paints of fixed validation pairs."""
        assert isinstance(pl_module, UCFModule)
        writer = _writer(trainer)
        if writer is None:
            return
        prefix, step = METRIC_PREFIX[self.config.training.selection], trainer.global_step
        videos = video_scores(pl_module.scored)
        for level, scored in (("frame", pl_module.scored), ("video", videos)):
            log_scores(writer, scored["label"], scored["score"], name=f"{prefix}/{level}", step=step)
        images = self._pairs(trainer, pl_module).to(pl_module.device)
        output = _painted(pl_module.model, images)
        log_grid(writer, _grid(images, output), COLUMNS, name=f"{prefix}/reconstructions", step=step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What the selected detector reached, for the hparams tab."""
        assert isinstance(pl_module, UCFModule)
        kept = [callback for callback in trainer.callbacks if isinstance(callback, KeepBest)]  # type: ignore[attr-defined]
        best = kept[0].best if kept else None
        writer = _writer(trainer)
        if writer is None or best is None:
            return
        prefix = METRIC_PREFIX[self.config.training.selection]
        values = {**best, **{name: best[f"{prefix}/{name}"] for name in BEST[:2]}}
        results = {f"{prefix}_best/{name}": values[name] for name in BEST}
        log_hyperparameters(
            writer, self._compared(), self._results(), results=results, step=trainer.global_step
        )

    def _compared(self) -> dict[str, Any]:
        settings = dotted(self.config)
        return {key: settings[key] for key in COMPARED}

    def _results(self) -> list[str]:
        """What the selected detector reached, and the last value of what is logged all the way."""
        prefix = METRIC_PREFIX[self.config.training.selection]
        levels = [f"{prefix}/{name}" for name in BEST[:2]]
        return [*(f"{prefix}_best/{name}" for name in BEST), *levels, *(f"train/{name}" for name in LOSSES)]

    def _pairs(self, trainer: pl.Trainer, module: UCFModule) -> Tensor:
        """(2 P, 3, H, W) uint8: P reals, then P fakes; the same ones in every validation."""
        if self._images is None:
            pairs = shown_pairs(module.val_faces)
            rows = [real for real, _ in pairs] + [fake for _, fake in pairs]
            loader = trainer.val_dataloaders
            assert isinstance(loader, DataLoader)
            self._images = loader.dataset[[Draw(row) for row in rows]]["image"]
        return self._images


def dotted(config: UCFConfig) -> dict[str, Any]:
    """Every setting by its dotted key."""
    return {
        key: value
        for section, values in config.model_dump(mode="json").items()
        for key, value in (
            {f"{section}.{name}": value for name, value in values.items()}.items()
            if isinstance(values, dict)
            else [(section, values)]
        )
    }


def shown_pairs(faces: pd.DataFrame, count: int = PAIRS_SHOWN) -> list[tuple[int, int]]:
    """Rows (real, fake), the real one of the fake's source video if there is one; first one of each method.

    Args:
        faces: reals and fakes.
        count: how many at most.
    """
    pairs = list(PairSampler(faces, 1, pairing="source", seed=0))
    methods = faces["method"].to_numpy()
    first = {methods[fake]: (real, fake) for real, fake in reversed(pairs)}
    chosen = [first[method] for method in sorted(first)]
    return (chosen + [pair for pair in pairs if pair not in chosen])[:count]


def _writer(trainer: pl.Trainer) -> SummaryWriter | None:
    """TensorBoard's writer in the one process that has it."""
    logger = trainer.logger
    return logger.experiment if trainer.is_global_zero and isinstance(logger, TensorBoardLogger) else None


@torch.no_grad()
def _painted(model: UCF, images: Tensor) -> PairOutput:
    was_training = model.training
    try:
        return model.eval().forward_pairs(normalised(images))
    finally:
        model.train(was_training)


def _grid(images: Tensor, output: PairOutput) -> NDArray[np.uint8]:
    """(P, 6, H, W, 3) uint8 in the order of COLUMNS."""
    real, fake = images.chunk(2)
    painted = (output.self_real, output.cross_real, output.self_fake, output.cross_fake)
    self_real, cross_real, self_fake, cross_fake = (
        ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8) for image in painted
    )
    rows = torch.stack([real, self_real, cross_real, fake, self_fake, cross_fake], dim=1)
    return rows.permute(0, 1, 3, 4, 2).cpu().numpy()  # (P, 6, 3, H, W) -> (P, 6, H, W, 3)
