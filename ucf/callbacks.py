"""What happens around training: the best detector is kept, metrics are written, limits are held."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from unmasked.datasets.files import atomic_path, write_text
from unmasked.ucf import checkpoint
from unmasked.ucf.module import UCFModule

SELECTION_RULE = "highest video AUC on the source's validation split, ties by frame AUC; never the test split"


class KeepBest(pl.Callback):
    """Writes the detector after each validation that is better than all before.

    Args:
        path: of the weights.
        card: of what is known before training; what the selection saw is added.
    """

    def __init__(self, path: Path, card: dict[str, Any]) -> None:
        self.path, self.card = path, card
        self.best: dict[str, Any] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compares and, if better, writes."""
        assert isinstance(pl_module, UCFModule)
        if self.best is not None and _rank(pl_module.record) <= _rank(self.best):
            return
        self.best = dict(pl_module.record)
        if trainer.is_global_zero:
            selection = {"rule": SELECTION_RULE, "split": "val", **self.best}
            checkpoint.save(pl_module.model, self.path, {**self.card, "selection": selection})

    def state_dict(self) -> dict[str, Any]:
        """The best validation so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from it."""
        self.best = state_dict["best"]


class WriteMetrics(pl.Callback):
    """Keeps the record of every validation, and writes them as JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history: list[dict[str, Any]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds a line. The file is rewritten, so that a resumed training leaves no line twice."""
        assert isinstance(pl_module, UCFModule)
        self.history.append(dict(pl_module.record))
        if trainer.is_global_zero:
            write_text(self.path, "".join(json.dumps(record) + "\n" for record in self.history))

    def state_dict(self) -> dict[str, Any]:
        """All records so far."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from them."""
        self.history = list(state_dict["history"])


class KeepLast(pl.Callback):
    """Writes the state of training at the end of each epoch, for resuming; the old one stays until then."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes it: weights, optimiser, schedule, loop counters, the state of the callbacks."""
        if trainer.world_size > 1:  # every process must take part, and they must agree on the name
            beside = self.path.with_name(f".{self.path.name}")
            trainer.save_checkpoint(beside)
            if trainer.is_global_zero:
                beside.replace(self.path)
            return
        with atomic_path(self.path) as temporary:
            trainer.save_checkpoint(temporary)


class HoldLimits(pl.Callback):
    """Ends training after its last step, or after so many minutes, with a last validation."""

    def __init__(self, max_minutes: float | None, clock: Callable[[], float]) -> None:
        self.max_minutes, self.clock = max_minutes, clock
        self.before_s = 0.0
        self.started_s = clock()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self.started_s = self.clock()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Looks at both limits. Lightning validates when it is told to stop, but not after a last epoch."""
        assert isinstance(pl_module, UCFModule)
        if self.max_minutes is not None:
            # One clock for all processes: they must stop in the same step, at the same learning rate.
            pl_module.time_share = trainer.strategy.broadcast(self.elapsed_s() / (60 * self.max_minutes))
        if pl_module.time_share >= 1 or trainer.global_step >= pl_module.total_steps:
            trainer.should_stop = True

    def elapsed_s(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self.before_s + self.clock() - self.started_s

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far."""
        return {"elapsed_s": self.elapsed_s()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from them."""
        self.before_s = float(state_dict["elapsed_s"])


def _rank(record: dict[str, Any]) -> tuple[float, float]:
    return record["val/video_auc"], record["val/frame_auc"]
