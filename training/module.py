"""A detector as a LightningModule.

Training steps, validation, Adam with its schedule and phases.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from unmasked.datasets.errors import InputError
from unmasked.datasets.transforms import augment, normalise
from unmasked.evaluation.metrics import auc, video_scores
from unmasked.training.config import OptimiserConfig, TrainedConfig
from unmasked.training.data import TrainingData
from unmasked.training.detector import Losses, Phase, Step
from unmasked.training.group_losses import GroupDRO, TrainingGroups, build
from unmasked.training.handle import Detector
from unmasked.training.phases import freeze, hold_frozen, parameter_groups, phase_at, rate_of

logger = logging.getLogger(__name__)

METRIC_PREFIX = {"source": "val", "oracle": "oracle"}  # what selects is seen in every metric's name
PATHS_SHOWN = 8
MARK = "unmasked"  # in a state, the version that wrote it; 0.1 wrote none
ALL = Phase(1.0, {"": 1.0})


class DivergedError(InputError):
    """A loss is not finite: a bad choice of settings for a search, the end of a training."""


def learning_rate_factor(progress: float, config: OptimiserConfig) -> float:
    """The learning rate as a share of its highest value.

    Args:
        progress: share of training that is done, in [0, 1].
        config: ``none`` stays at 1 after the warm-up; ``cosine`` falls to ``floor``, and starts again after
            each ``cycle``, if given; ``one_cycle`` rises from 1/25 over the first 0.3 (or ``warmup``, if
            given) and falls to 0.

    >>> learning_rate_factor(0.5, OptimiserConfig(schedule="cosine"))
    0.5
    """
    one_cycle = config.schedule == "one_cycle"
    warmup = (config.warmup or 0.3) if one_cycle else config.warmup
    start = 1 / 25 if one_cycle else config.floor
    if progress < warmup:
        return start + (1 - start) * progress / warmup
    if config.schedule == "none":
        return 1.0
    falling, floor = min(1.0, (progress - warmup) / (1 - warmup)), 0.0 if one_cycle else config.floor
    if config.schedule == "cosine" and config.cycle:
        # A step that begins a cycle must not end the one before it, whatever the last bit of the division.
        falling = ((progress - warmup) / config.cycle + 1e-9) % 1
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * falling))


def validation_metrics(scored: pd.DataFrame, selection: str) -> dict[str, float]:
    """Frame and video AUC of scored crops, under the names that say which split selects."""
    prefix, videos = METRIC_PREFIX[selection], video_scores(scored)
    return {
        f"{prefix}/frame_auc": auc(scored["label"], scored["score"]),
        f"{prefix}/video_auc": auc(videos["label"], videos["score"]),
    }


class DetectorModule(pl.LightningModule):
    """Trains a detector.

    Batches are those of a `CropDataset`: of pairs, first the reals, then their fakes; of single crops in
    validation.
    Randomness within a batch depends on the seed, the step and the batch's place in the step only, so a
    resumed training draws what an uninterrupted one would, and one process that accumulates two batches
    draws what two processes would.

    Args:
        detector: what is trained.
        config: how.
        classes: names of the methods, "real" first.
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
        detector: Detector,
        config: TrainedConfig,
        classes: list[str],
        *,
        train_faces: pd.DataFrame,
        val_faces: pd.DataFrame,
        total_steps: int,
        groups: TrainingGroups | None = None,
    ) -> None:
        super().__init__()
        self.detector, self.config = detector, config
        self.train_faces, self.val_faces = train_faces, val_faces
        self.total_steps = total_steps
        self.time_share = 0.0  # of the allowed minutes; a callback keeps it
        self.record: dict[str, Any] = {}
        self.scored = val_faces.iloc[:0]
        self.model = detector.build(config, classes)
        if config.model.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.phases = detector.phases(self.model, config)
        self._phase: int | None = None
        name = detector.part("TRAINED", "__call__")
        self._forward = getattr(self.model, name)
        self.robust = build(config.loss, groups)
        if isinstance(self.robust, GroupDRO):
            self.robust.shared = self._summed
        self._totals: Losses = {}
        self._batches = 0
        self._throughput = (time.monotonic(), 0)
        self._scored: list[tuple[Tensor, Tensor]] = []
        self._unchecked: deque[tuple[Losses, Tensor, int]] = deque()

    @property
    def progress(self) -> float:
        """Share of the training that is done.

        Where minutes run out before steps do, of the minutes.
        """
        return max(self.global_step / self.total_steps, self.time_share)

    @property
    def loss_names(self) -> list[str]:
        """What the detector calls its losses, "overall" first; none before the first batch."""
        return list(self._totals)

    @property
    def learning_rate(self) -> float:
        """The highest of the rates that act now."""
        groups = self.optimizers().param_groups  # type: ignore[union-attr]
        return max(float(group["lr"]) for group in groups)

    def configure_optimizers(self) -> Any:
        """Adam over all weights, frozen ones too, with a schedule stepped after every batch."""
        settings, phases = self.config.optimiser, self.phases or [ALL]
        groups = parameter_groups(self.model, phases)
        optimiser = torch.optim.Adam(
            [{"params": parameters} for parameters, _ in groups],
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            fused=True,
        )

        def factor(step: int, rates: tuple[float, ...]) -> float:
            # Where minutes run out before steps do, the rate follows the clock, and still ends low.
            progress = max(step / self.total_steps, self.time_share)
            return learning_rate_factor(progress, settings) * rates[phase_at(progress, phases)]

        factors: list[Callable[[int], float]] = [partial(factor, rates=rates) for _, rates in groups]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factors)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train(self, mode: bool = True) -> DetectorModule:
        """Training mode for all but what is frozen; Lightning calls it whenever it likes."""
        super().train(mode)
        if mode and (frozen := self._frozen()):
            hold_frozen(self.model, frozen)
        return self

    def on_fit_start(self) -> None:
        """Compiles the training pass, where that was asked for and pays."""
        if not self.config.training.compile:
            return
        if self.device.type == "cuda":
            name = self.detector.part("TRAINED", "forward")
            self._forward = torch.compile(getattr(self.model, name))
        else:
            logger.warning("training.compile=true acts on GPUs only; training goes on uncompiled")

    def on_train_start(self) -> None:
        """Starts the clock of the throughput."""
        self._throughput = (time.monotonic(), 0)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Begins the next phase, if it is time for it; what is frozen stays in evaluation mode."""
        if self.phases and (number := phase_at(self.progress, self.phases)) != self._phase:
            self._phase = number
            if self.trainer.world_size == 1:  # several processes agreed at the start on what has gradients
                freeze(self.model, self.phases[number])
            self.train()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Drops the gradients of frozen weights, which several processes have computed together."""
        if self.phases:
            frozen = self._frozen()
            for parameter in self.model.parameters():
                if id(parameter) in frozen:
                    parameter.grad = None

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Draws the batch's random numbers while it is on the CPU: a GPU need not be waited for."""
        draw = self.detector.part("draw")
        if not self.trainer.training or draw is None:
            return batch
        seed = self._batch_seed(self.trainer.fit_loop.batch_idx + 1)  # counted up after this hook
        generator = torch.Generator().manual_seed(seed)
        return {**batch, "drawn": draw(batch, self.config, generator)}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss to train on, of one batch."""
        seed = self._batch_seed(batch_idx)
        torch.manual_seed(seed)  # dropout
        draws = torch.Generator(self.device).manual_seed(seed)
        images = self._laid_out(augment(batch["image"], self.config.augment, draws))
        step = Step(
            images=images,
            labels=batch["label"],
            methods=batch["method_index"],
            rows=batch["row"],
            drawn=batch.get("drawn", {}),
            model=self.model,
            forward=self._forward,
            robust=self.robust,
        )
        losses = self.detector.objective(step, self.config)
        reported = {name: loss.detach() for name, loss in losses.items()}  # keeps no graph alive
        self._unchecked.append((reported, batch["row"], self.global_step + 1))
        # A GPU is not waited for: it is asked for a loss while it works on the next batch.
        self.check_finite(newest=0 if self.device.type == "cpu" else 1)
        self._log_step(reported, len(images))
        return losses["overall"]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Scores a batch by the lean path."""
        logits = self.model(self._laid_out(normalise(batch["image"])))
        self._scored.append((batch["row"], logits.float().softmax(1)[:, 1]))

    def on_validation_epoch_end(self) -> None:
        """Frame and video AUC on the split that selects, into the log and ``record``."""
        self.check_finite()
        row = self._gathered(torch.cat([rows for rows, _ in self._scored]))
        score = self._gathered(torch.cat([scores for _, scores in self._scored]))
        self._scored = []
        # Processes that ran out of rows repeat some: one score a row.
        row, first = np.unique(row, return_index=True)
        self.scored = self.val_faces.iloc[row].assign(score=score[first])
        metrics = validation_metrics(self.scored, self.config.training.selection)
        self.log_dict(metrics, sync_dist=False)  # every process has the same ones, of all scores
        batches = max(self._batches, 1)
        self.record = {
            "epoch": self.current_epoch + 1,
            "step": self.global_step,
            **{f"train/{name}": float(total) / batches for name, total in self._totals.items()},
            "lr": self.learning_rate,
            **metrics,
        }
        self._totals = {name: torch.zeros((), device=self.device) for name in self._totals}
        self._batches = 0
        self._throughput = (time.monotonic(), 0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration, for an equal resume, and what is not validated yet."""
        self.check_finite()
        checkpoint["config"] = self.config.model_dump_json()
        checkpoint[MARK] = version("unmasked")
        checkpoint["since_validation"] = {"totals": self._totals, "batches": self._batches}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on from there."""
        stored = checkpoint["since_validation"]
        self._totals, self._batches = stored["totals"], stored["batches"]
        # Lightning keeps the loader's state under the name of its class, which was another one in 0.1.
        earlier = next((name for name in checkpoint if name.endswith("Data")), TrainingData.__qualname__)
        checkpoint.setdefault(TrainingData.__qualname__, checkpoint[earlier])
        self._number_all_weights(checkpoint["optimizer_states"][0])

    def check_finite(self, newest: int = 0) -> None:
        """Raises InputError with the batch's crops if a loss is no finite number.

        Args:
            newest: so many batches are left for the next time.
        """
        while len(self._unchecked) > newest:
            losses, rows, step = self._unchecked.popleft()
            if not bool(torch.isfinite(losses["overall"])):
                raise DivergedError(self._not_finite(losses, rows, step))

    def _batch_seed(self, batch_idx: int) -> int:
        """Seed of all draws for a batch, except those of its loader."""
        place = self.global_rank + self.trainer.world_size * (batch_idx % self.config.optimiser.accumulate)
        sequence = np.random.SeedSequence([self.config.seed, self.global_step, place])
        return int(sequence.generate_state(1)[0])

    def _frozen(self) -> set[int]:
        """``id`` of each weight that does not move now."""
        phase = ALL if self._phase is None else self.phases[self._phase]
        return {
            id(parameter)
            for name, parameter in self.model.named_parameters()
            if not parameter.requires_grad or not rate_of(name, phase)
        }

    def _number_all_weights(self, state: dict[str, Any]) -> None:
        """Renumbers the weights of an optimiser of 0.1, which held only those that had gradients."""
        moving = [number for number, value in enumerate(self.model.parameters()) if value.requires_grad]
        stored = [group["params"] for group in state["param_groups"]]
        if not self.phases and stored == [list(range(len(moving)))]:
            state["param_groups"][0]["params"] = list(range(sum(1 for _ in self.model.parameters())))
            state["state"] = {moving[number]: value for number, value in state["state"].items()}

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
        parts = ", ".join(name for name, loss in losses.items() if not bool(torch.isfinite(loss)))
        crops = list(dict.fromkeys(self.train_faces["crop"].iloc[rows.tolist()]))
        more = f" and {len(crops) - PATHS_SHOWN} more" if len(crops) > PATHS_SHOWN else ""
        return (
            f"loss is not a finite number in step {step} ({parts}); the batch was "
            f"{', '.join(crops[:PATHS_SHOWN])}{more}. Look at these crops, lower optimiser.lr, or set "
            "optimiser.gradient_clip=1"
        )

    def _log_step(self, losses: Losses, images: int) -> None:
        zero = torch.zeros(())
        self._totals = {
            name: self._totals.get(name, zero).to(self.device) + loss for name, loss in losses.items()
        }
        self._batches += 1
        since, seen = self._throughput
        seen += images * self.trainer.world_size
        self._throughput = (since, seen)
        is_last_of_step = (self.trainer.fit_loop.batch_idx + 1) % self.config.optimiser.accumulate == 0
        if is_last_of_step and (self.global_step + 1) % self.config.training.log_every_steps == 0:
            self.log_dict({f"train/{name}": loss for name, loss in losses.items()})
            self.log("train/lr", self.learning_rate)
            self.log("train/images_per_s", seen / max(time.monotonic() - since, 1e-9))
