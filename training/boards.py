"""What a training shows in TensorBoard, beside the losses and rates that the module logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from unmasked.analysis.explain.tensorboard import log_grid, log_hyperparameters, log_scores, log_settings
from unmasked.datasets.samplers import Draw
from unmasked.evaluation.metrics import video_scores
from unmasked.training.callbacks import KeepBest
from unmasked.training.config import TrainedConfig
from unmasked.training.detector import Pictures
from unmasked.training.module import METRIC_PREFIX, DetectorModule

# Columns of the hparams tab beside the network's settings; all settings are in the text tab.
COMPARED = (
    *("optimiser.lr", "optimiser.weight_decay", "optimiser.schedule", "training.batch_pairs"),
    *("training.batch_images", "training.epochs", "training.max_steps", "training.precision"),
    *("augment.recipe", "augment.noise", "data.fakes", "data.pairing", "data.balance", "seed"),
)
COMPARED_SECTIONS = ("model.", "loss.")
BEST = ("video_auc", "frame_auc", "step")


class EventLogger(TensorBoardLogger):
    """Lightning's logger without the epoch, a flat line that would come first."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Scalars at a step."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)


class Boards(pl.Callback):
    """Shows scores, calibration, the detector's pictures, settings, results of all runs."""

    def __init__(self, config: TrainedConfig) -> None:
        self.config = config
        self._images: Tensor | None = None
        self._has_begun = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The configuration as text."""
        if writer := _writer(trainer):
            log_settings(writer, flatten_keys(self.config))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """The configuration as a line of the hparams tab, as soon as the losses have names."""
        assert isinstance(pl_module, DetectorModule)
        if not self._has_begun and (writer := _writer(trainer)):
            log_hyperparameters(writer, self._compared_settings(), self._results(pl_module))
        self._has_begun = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Precision and recall, calibration, and the detector's pictures of validation crops."""
        assert isinstance(pl_module, DetectorModule)
        writer = _writer(trainer)
        if writer is None:
            return
        prefix, step = METRIC_PREFIX[self.config.training.selection], trainer.global_step
        videos = video_scores(pl_module.scored)
        for level, scored in (("frame", pl_module.scored), ("video", videos)):
            log_scores(writer, scored["label"], scored["score"], name=f"{prefix}/{level}", step=step)
        if draw := pl_module.detector.part("pictures"):
            pictures: Pictures = draw(pl_module.model, self._pictured(trainer, pl_module))
            log_grid(writer, pictures.rows, pictures.titles, name=f"{prefix}/{pictures.name}", step=step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What the selected detector reached, for the hparams tab."""
        assert isinstance(pl_module, DetectorModule)
        kept = [callback for callback in trainer.callbacks if isinstance(callback, KeepBest)]  # type: ignore[attr-defined]
        best = kept[0].best if kept else None
        writer = _writer(trainer)
        if writer is None or best is None:
            return
        prefix = METRIC_PREFIX[self.config.training.selection]
        values = {**best, **{name: best[f"{prefix}/{name}"] for name in BEST[:2]}}
        results = {f"{prefix}_best/{name}": values[name] for name in BEST}
        metrics = self._results(pl_module)
        log_hyperparameters(
            writer, self._compared_settings(), metrics, results=results, step=trainer.global_step
        )

    def _compared_settings(self) -> dict[str, Any]:
        settings = flatten_keys(self.config)
        return {
            key: settings[key] for key in settings if key in COMPARED or key.startswith(COMPARED_SECTIONS)
        }

    def _results(self, module: DetectorModule) -> list[str]:
        """What the selected detector reached, and the last value of what is logged all the way."""
        prefix = METRIC_PREFIX[self.config.training.selection]
        levels = [f"{prefix}/{name}" for name in BEST[:2]]
        losses = [f"train/{name}" for name in module.loss_names]
        return [*(f"{prefix}_best/{name}" for name in BEST), *levels, *losses]

    def _pictured(self, trainer: pl.Trainer, module: DetectorModule) -> Tensor:
        """(N, 3, H, W) uint8 of the rows that the detector chooses; the same ones in every validation."""
        if self._images is None:
            rows = module.detector.part("pictured")(module.val_faces)
            loader = trainer.val_dataloaders
            assert isinstance(loader, DataLoader)
            self._images = loader.dataset[[Draw(row) for row in rows]]["image"]
        return self._images.to(module.device)


def flatten_keys(config: TrainedConfig) -> dict[str, Any]:
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


def _writer(trainer: pl.Trainer) -> SummaryWriter | None:
    """TensorBoard's writer in the one process that has it."""
    logger = trainer.logger
    return logger.experiment if trainer.is_global_zero and isinstance(logger, TensorBoardLogger) else None
