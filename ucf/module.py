"""UCF as a LightningModule: a training step on pairs, validation by the lean path, Adam and its schedule."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from unmasked.datasets.errors import InputError
from unmasked.datasets.transforms import augmented, normalised
from unmasked.evaluation.metrics import auc, video_scores
from unmasked.ucf.config import OptimiserConfig, UCFConfig
from unmasked.ucf.losses import Losses, draw_orders, ucf_losses
from unmasked.ucf.model import UCF

LOSSES = ("overall", "common", "specific", "reconstruction", "contrastive")
PATHS_SHOWN = 8


def learning_rate_factor(progress: float, config: OptimiserConfig) -> float:
    """The learning rate as a share of its highest value.

    Args:
        progress: share of training that is done, in [0, 1].
        config: ``none`` stays at 1 after the warm-up; ``cosine`` falls to 0; ``one_cycle`` rises from 1/25
            over the first 0.3 (or ``warmup``, if given) and falls to 0.

    >>> learning_rate_factor(0.5, OptimiserConfig(schedule="cosine"))
    0.5
    """
    one_cycle = config.schedule == "one_cycle"
    warmup = (config.warmup or 0.3) if one_cycle else config.warmup
    start = 1 / 25 if one_cycle else 0.0
    if progress < warmup:
        return start + (1 - start) * progress / warmup
    if config.schedule == "none":
        return 1.0
    falling = min(1.0, (progress - warmup) / (1 - warmup))
    return 0.5 * (1 + math.cos(math.pi * falling))


class UCFModule(pl.LightningModule):
    """Trains a UCF.

    Batches are those of a `CropDataset`: of pairs, first the reals, then their fakes; of single crops in
    validation.
    Randomness within a step depends on seed, step and process only, so a resumed training draws what
    an uninterrupted one would.

    Args:
        config: how.
        method_classes: names of the classes of the method head, "real" first.
        train_faces, val_faces: the tables behind the batches' ``row``.
        total_steps: optimiser steps of the whole training, for the schedule.
    """

    def __init__(
        self,
        config: UCFConfig,
        method_classes: list[str],
        *,
        train_faces: pd.DataFrame,
        val_faces: pd.DataFrame,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.train_faces, self.val_faces = train_faces, val_faces
        self.total_steps = total_steps
        self.time_share = 0.0  # of the allowed minutes; a callback keeps it
        self.record: dict[str, Any] = {}  # of the last validation
        settings = config.model
        self.model = UCF(
            settings.width,
            len(method_classes),
            head_dropout=settings.head_dropout,
            decoder_dropout=settings.decoder_dropout,
        )
        if settings.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self._totals = dict.fromkeys(LOSSES, torch.zeros(()))
        self._steps = 0
        self._since = time.monotonic()
        self._scored: list[tuple[Tensor, Tensor]] = []

    def configure_optimizers(self) -> Any:
        """Adam with the configured schedule, stepped after every batch."""
        settings = self.config.optimiser
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.Adam(
            parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )

        def factor(step: int) -> float:
            # Where minutes run out before steps do, the rate follows the clock, and still ends low.
            return learning_rate_factor(max(step / self.total_steps, self.time_share), settings)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The weighted sum of the four losses of a batch of pairs."""
        seed = int(
            np.random.SeedSequence([self.config.seed, self.global_step, self.global_rank]).generate_state(1)[
                0
            ]
        )
        torch.manual_seed(seed)  # dropout
        draws = torch.Generator(self.device).manual_seed(seed)
        images = self._laid_out(augmented(batch["image"], self.config.augment, draws))
        orders = draw_orders(
            batch["method_index"], self.config.loss.mixing_probability, torch.Generator().manual_seed(seed)
        )
        output = self.model.forward_pairs(images, orders.mixing.to(self.device))
        losses = ucf_losses(
            output,
            images,
            batch["label"],
            batch["method_index"],
            orders=orders,
            config=self.config.loss,
        )
        self._check_finite(losses, batch["row"])
        self._log_step(losses, len(images))
        return losses.overall

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Scores a batch by the lean path."""
        logits = self.model(self._laid_out(normalised(batch["image"])))
        self._scored.append((batch["row"], logits.float().softmax(1)[:, 1]))

    def on_validation_epoch_end(self) -> None:
        """Frame and video AUC on the source's validation split, into the log and ``record``."""
        row = self._gathered(torch.cat([rows for rows, _ in self._scored]))
        score = self._gathered(torch.cat([scores for _, scores in self._scored]))
        self._scored = []
        # Processes that ran out of rows repeat some: one score a row.
        row, first = np.unique(row, return_index=True)
        scored = self.val_faces.iloc[row].assign(score=score[first])
        videos = video_scores(scored)
        metrics = {
            "val/frame_auc": auc(scored["label"], scored["score"]),
            "val/video_auc": auc(videos["label"], videos["score"]),
        }
        self.log_dict(metrics, rank_zero_only=True, sync_dist=False)
        steps = max(self._steps, 1)
        self.record = {
            "epoch": self.current_epoch + 1,
            "step": self.global_step,
            **{f"train/{name}": float(total) / steps for name, total in self._totals.items()},
            "lr": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
            **metrics,
        }
        self._totals = dict.fromkeys(LOSSES, torch.zeros((), device=self.device))
        self._steps = 0
        self._since = time.monotonic()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the configuration into the state, so that it is resumed with the same one."""
        checkpoint["config"] = self.config.model_dump_json()

    def _laid_out(self, images: Tensor) -> Tensor:
        if self.config.model.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images.contiguous()

    def _gathered(self, values: Tensor) -> np.ndarray:
        gathered = self.all_gather(values)
        assert isinstance(gathered, Tensor)
        return gathered.flatten().cpu().numpy()

    def _check_finite(self, losses: Losses, rows: Tensor) -> None:
        if bool(torch.isfinite(losses.overall)):
            return
        parts = ", ".join(name for name in LOSSES if not bool(torch.isfinite(getattr(losses, name))))
        crops = list(dict.fromkeys(self.train_faces["crop"].iloc[rows.tolist()]))
        more = f" and {len(crops) - PATHS_SHOWN} more" if len(crops) > PATHS_SHOWN else ""
        raise InputError(
            f"loss is not a finite number in step {self.global_step + 1} ({parts}); the batch was "
            f"{', '.join(crops[:PATHS_SHOWN])}{more}. Look at these crops, lower optimiser.lr, or set "
            "optimiser.gradient_clip=1"
        )

    def _log_step(self, losses: Losses, images: int) -> None:
        for name in LOSSES:
            self._totals[name] = self._totals[name].to(self.device) + getattr(losses, name).detach()
        self._steps += 1
        if (self.global_step + 1) % self.config.training.log_every_steps == 0:
            elapsed = time.monotonic() - self._since
            self.log_dict({f"train/{name}": getattr(losses, name).detach() for name in LOSSES})
            self.log("train/lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
            self.log(
                "train/images_per_s", images * self._steps * self.trainer.world_size / max(elapsed, 1e-9)
            )
