"""UCF as a LightningModule: a training step on pairs, validation by the lean path, Adam and its schedule."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from unmasked.datasets.errors import InputError
from unmasked.datasets.transforms import augmented, normalised
from unmasked.evaluation.metrics import auc, video_scores
from unmasked.training.group_losses import GroupDRO, TrainingGroups, build
from unmasked.ucf.config import OptimiserConfig, UCFConfig
from unmasked.ucf.losses import Losses, Orders, draw_orders, ucf_losses
from unmasked.ucf.model import UCF

logger = logging.getLogger(__name__)

LOSSES = ("overall", "common", "specific", "reconstruction", "contrastive")
METRIC_PREFIX = {"source": "val", "oracle": "oracle"}  # what selects is seen in every metric's name
PATHS_SHOWN = 8


class DivergedError(InputError):
    """A loss is not a finite number: to a search a bad choice of settings, to a training its end."""


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
    Randomness within a batch depends on the seed, the step and the batch's place in the step only, so a
    resumed training draws what an uninterrupted one would, and one process that accumulates two batches
    draws what two processes would.

    Args:
        config: how.
        method_classes: names of the classes of the method head, "real" first.
        train_faces, val_faces: the tables behind the batches' ``row``.
        total_steps: optimiser steps of the whole training, for the schedule.
        groups: of the training rows, where a loss looks at them.

    Attributes:
        record: of the last validation; its metrics are named ``val/…``, or ``oracle/…`` where the test split
            selects.
        scored: the crops of the last validation with their ``score``.
    """

    def __init__(
        self,
        config: UCFConfig,
        method_classes: list[str],
        *,
        train_faces: pd.DataFrame,
        val_faces: pd.DataFrame,
        total_steps: int,
        groups: TrainingGroups | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.train_faces, self.val_faces = train_faces, val_faces
        self.total_steps = total_steps
        self.time_share = 0.0  # of the allowed minutes; a callback keeps it
        self.record: dict[str, Any] = {}
        self.scored = val_faces.iloc[:0]
        settings = config.model
        self.model = UCF(
            settings.width,
            len(method_classes),
            head_dropout=settings.head_dropout,
            decoder_dropout=settings.decoder_dropout,
        )
        if settings.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self._forward_pairs = self.model.forward_pairs
        self.robust = build(config.loss, groups)
        if isinstance(self.robust, GroupDRO):
            self.robust.shared = self._summed
        self._totals = dict.fromkeys(LOSSES, torch.zeros(()))
        self._batches = 0
        self._throughput = (time.monotonic(), 0)
        self._scored: list[tuple[Tensor, Tensor]] = []
        self._unchecked: deque[tuple[Losses, Tensor, int]] = deque()

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

    def on_fit_start(self) -> None:
        """Compiles the training pass, where that was asked for and pays."""
        if not self.config.training.compile:
            return
        if self.device.type == "cuda":
            self._forward_pairs = torch.compile(self.model.forward_pairs)
        else:
            logger.warning("training.compile=true acts on GPUs only; training goes on uncompiled")

    def on_train_start(self) -> None:
        """Starts the clock of the throughput."""
        self._throughput = (time.monotonic(), 0)

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Draws the batch's permutations while it is on the CPU: a GPU need not be waited for."""
        if not self.trainer.training:
            return batch
        seed = self._batch_seed(self.trainer.fit_loop.batch_idx + 1)  # counted up after this hook
        generator = torch.Generator().manual_seed(seed)
        orders = draw_orders(batch["method_index"], self.config.loss.mixing_probability, generator)
        return {**batch, "orders": dict(vars(orders))}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The weighted sum of the four losses of a batch of pairs."""
        seed = self._batch_seed(batch_idx)
        torch.manual_seed(seed)  # dropout
        draws = torch.Generator(self.device).manual_seed(seed)
        images = self._laid_out(augmented(batch["image"], self.config.augment, draws))
        orders = Orders(**batch["orders"])
        output = self._forward_pairs(images, orders.mixing)
        losses = ucf_losses(
            output,
            images,
            batch["label"],
            batch["method_index"],
            orders=orders,
            config=self.config.loss,
            # Each logit is of the image that its common features came from, not of the one in its place.
            aggregate=self.robust and partial(self.robust, rows=batch["row"][orders.mixing]),
        )
        reported = Losses(*(getattr(losses, name).detach() for name in LOSSES))  # keeps no graph alive
        self._unchecked.append((reported, batch["row"], self.global_step + 1))
        # A GPU is not waited for: it is asked for a loss while it works on the next batch.
        self.check_finite(newest=0 if self.device.type == "cpu" else 1)
        self._log_step(reported, len(images))
        return losses.overall

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Scores a batch by the lean path."""
        logits = self.model(self._laid_out(normalised(batch["image"])))
        self._scored.append((batch["row"], logits.float().softmax(1)[:, 1]))

    def on_validation_epoch_end(self) -> None:
        """Frame and video AUC on the split that selects, into the log and ``record``."""
        self.check_finite()
        row = self._gathered(torch.cat([rows for rows, _ in self._scored]))
        score = self._gathered(torch.cat([scores for _, scores in self._scored]))
        self._scored = []
        # Processes that ran out of rows repeat some: one score a row.
        row, first = np.unique(row, return_index=True)
        scored = self.val_faces.iloc[row].assign(score=score[first])
        self.scored = scored
        videos = video_scores(scored)
        prefix = METRIC_PREFIX[self.config.training.selection]
        metrics = {
            f"{prefix}/frame_auc": auc(scored["label"], scored["score"]),
            f"{prefix}/video_auc": auc(videos["label"], videos["score"]),
        }
        self.log_dict(metrics, sync_dist=False)  # every process has the same ones, of all scores
        batches = max(self._batches, 1)
        self.record = {
            "epoch": self.current_epoch + 1,
            "step": self.global_step,
            **{f"train/{name}": float(total) / batches for name, total in self._totals.items()},
            "lr": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
            **metrics,
        }
        self._totals = dict.fromkeys(LOSSES, torch.zeros((), device=self.device))
        self._batches = 0
        self._throughput = (time.monotonic(), 0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration, so that it is resumed with the same one, and what is not validated yet."""
        self.check_finite()
        checkpoint["config"] = self.config.model_dump_json()
        checkpoint["since_validation"] = {"totals": self._totals, "batches": self._batches}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on from there."""
        stored = checkpoint["since_validation"]
        self._totals, self._batches = stored["totals"], stored["batches"]

    def check_finite(self, newest: int = 0) -> None:
        """Raises InputError with the batch's crops if a loss is no finite number.

        Args:
            newest: so many batches are left for the next time.
        """
        while len(self._unchecked) > newest:
            losses, rows, step = self._unchecked.popleft()
            if not bool(torch.isfinite(losses.overall)):
                raise DivergedError(self._not_finite(losses, rows, step))

    def _batch_seed(self, batch_idx: int) -> int:
        """Of all draws on the way of a batch but those of its loader."""
        place = self.global_rank + self.trainer.world_size * (batch_idx % self.config.optimiser.accumulate)
        sequence = np.random.SeedSequence([self.config.seed, self.global_step, place])
        return int(sequence.generate_state(1)[0])

    def _laid_out(self, images: Tensor) -> Tensor:
        if self.config.model.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images.contiguous()

    def _summed(self, values: Tensor) -> Tensor:
        """Summed over all processes."""
        if self.trainer.world_size == 1:
            return values
        gathered = self.all_gather(values)  # (processes, …)
        assert isinstance(gathered, Tensor)
        return gathered.sum(0)

    def _gathered(self, values: Tensor) -> np.ndarray:
        gathered = self.all_gather(values)
        assert isinstance(gathered, Tensor)
        return gathered.flatten().cpu().numpy()

    def _not_finite(self, losses: Losses, rows: Tensor, step: int) -> str:
        parts = ", ".join(name for name in LOSSES if not bool(torch.isfinite(getattr(losses, name))))
        crops = list(dict.fromkeys(self.train_faces["crop"].iloc[rows.tolist()]))
        more = f" and {len(crops) - PATHS_SHOWN} more" if len(crops) > PATHS_SHOWN else ""
        return (
            f"loss is not a finite number in step {step} ({parts}); the batch was "
            f"{', '.join(crops[:PATHS_SHOWN])}{more}. Look at these crops, lower optimiser.lr, or set "
            "optimiser.gradient_clip=1"
        )

    def _log_step(self, losses: Losses, images: int) -> None:
        for name in LOSSES:
            self._totals[name] = self._totals[name].to(self.device) + getattr(losses, name)
        self._batches += 1
        since, seen = self._throughput
        seen += images * self.trainer.world_size
        self._throughput = (since, seen)
        is_last_of_step = (self.trainer.fit_loop.batch_idx + 1) % self.config.optimiser.accumulate == 0
        if is_last_of_step and (self.global_step + 1) % self.config.training.log_every_steps == 0:
            self.log_dict({f"train/{name}": getattr(losses, name) for name in LOSSES})
            self.log("train/lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
            self.log("train/images_per_s", seen / max(time.monotonic() - since, 1e-9))
