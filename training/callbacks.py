"""What happens around training: keeping the best, writing metrics, keeping limits."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from unmasked.datasets.errors import InterruptedBySignal
from unmasked.datasets.files import atomic_path, sync_file, write_text
from unmasked.training import checkpoint
from unmasked.training.module import METRIC_PREFIX, DetectorModule

SAME_SIGNAL_S = 2.0
SELECTION_RULE = {
    "source": "highest video AUC on the source's validation split, ties by frame AUC; never the test split",
    "oracle": "ORACLE: highest video AUC on the source's test split, ties by frame AUC; numbers on that "
    "split are those of a choice made with its answers, which no user of a detector has",
}


def selection_of(record: dict[str, Any], selection: str) -> dict[str, Any]:
    """What a card says about the choice of a detector."""
    split = {"source": "val", "oracle": "test"}[selection]
    return {"rule": SELECTION_RULE[selection], "split": split, "is_oracle": selection == "oracle", **record}


class KeepBest(pl.Callback):
    """Writes the detector after each validation that is better, and the next best ones.

    Args:
        path: of the weights of the best one; the others are ``checkpoints/step-….safetensors`` beside it.
        card: of what is known before training; what the selection saw is added.
        selection: ``source`` or ``oracle``.
        count: how many are kept, the best one included.
    """

    def __init__(
        self, path: Path, card: dict[str, Any], *, selection: str = "source", count: int = 1
    ) -> None:
        self.path, self.card = path, card
        self.selection, self.count = selection, count
        self.ranking: list[dict[str, Any]] = []  # best first

    @property
    def best(self) -> dict[str, Any] | None:
        """The record of the best validation so far."""
        return self.ranking[0] if self.ranking else None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compares and, if it is among the best, writes."""
        assert isinstance(pl_module, DetectorModule)
        record = dict(pl_module.record)
        # A stable sort: of two that are equal the earlier one is the better one.
        ranking = sorted([*self.ranking, record], key=self._rank, reverse=True)
        kept, dropped = ranking[: self.count], ranking[self.count :]
        if trainer.is_global_zero and record in kept:
            card = {**self.card, "selection": selection_of(record, self.selection)}
            if self.count > 1:
                checkpoint.save(pl_module.detector, pl_module.model, self._path(record), card)
            if record is kept[0]:
                checkpoint.save(pl_module.detector, pl_module.model, self.path, card)
            for other in dropped:
                for suffix in (".safetensors", ".json"):
                    self._path(other).with_suffix(suffix).unlink(missing_ok=True)
        self.ranking = kept

    def state_dict(self) -> dict[str, Any]:
        """The best validations so far."""
        return {"ranking": self.ranking}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from them."""
        self.ranking = list(state_dict["ranking"])

    def _path(self, record: dict[str, Any]) -> Path:
        return self.path.parent / "checkpoints" / f"step-{record['step']:07d}.safetensors"

    def _rank(self, record: dict[str, Any]) -> tuple[float, float]:
        prefix = METRIC_PREFIX[self.selection]
        return record[f"{prefix}/video_auc"], record[f"{prefix}/frame_auc"]


class WriteMetrics(pl.Callback):
    """Keeps the record of every validation, and writes them as JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history: list[dict[str, Any]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds a line. The file is rewritten, so that a resumed training leaves no line twice."""
        assert isinstance(pl_module, DetectorModule)
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
    """Writes the state of training every so many steps and after each epoch.

    The old one stays until then.
    It holds weights, optimiser, schedule, loop counters, how far the sampler is, and the state of the
    callbacks, of which this one must be the last. A state is never written between a step and the
    validation that follows it: who resumes from it would go on without that validation.
    """

    def __init__(self, path: Path, *, every_steps: int, accumulate: int = 1) -> None:
        self.path, self.every_steps, self.accumulate = path, every_steps, accumulate
        self.is_due = False
        self.written_step = -1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes it, if it is time and no validation follows."""
        is_step = (batch_idx + 1) % self.accumulate == 0
        if is_step and trainer.global_step % self.every_steps == 0 and not trainer.is_last_batch:
            self.is_due = True
        if self.is_due and is_step and not trainer.is_last_batch and not _is_validation_next(trainer):
            self._write(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes it, if it was time before this validation."""
        if self.is_due:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes it."""
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        self.is_due = False
        if trainer.world_size > 1:  # every process must take part, and they must agree on the name
            beside = self.path.with_name(f".{self.path.name}")
            trainer.save_checkpoint(beside)
            if trainer.is_global_zero:
                sync_file(beside)
                beside.replace(self.path)
            self.written_step = trainer.global_step
            return
        with atomic_path(self.path) as temporary:
            trainer.save_checkpoint(temporary)
        self.written_step = trainer.global_step


def _is_validation_next(trainer: pl.Trainer) -> bool:
    """True if the Trainer validates after the batch that just ended."""
    loop = trainer.fit_loop
    in_all_epochs = trainer.check_val_every_n_epoch is None
    batches = (loop.total_batch_idx if in_all_epochs else loop.batch_idx) + 1
    return trainer.should_stop or trainer.is_last_batch or batches % int(trainer.val_check_batch or 1) == 0


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
        """Checks both limits; Lightning validates when told to stop, except after a last epoch."""
        module: Any = pl_module  # whatever is trained has these two
        if self.max_minutes is not None:
            # One clock for all processes: they must stop in the same step, at the same learning rate.
            module.time_share = trainer.strategy.broadcast(self.elapsed_s() / (60 * self.max_minutes))
        if module.time_share >= 1 or trainer.global_step >= module.total_steps:
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


class StopOnSignal(pl.Callback):
    """Ends training on SIGTERM or SIGINT as soon as its state is written.

    A second signal ends it at once; among several processes only after a moment, for a launcher hands on
    what a terminal or SLURM has sent to them already. A step goes on to its end, and so does a validation:
    its result belongs to the state. Lightning would end with exit code 0 and say nothing.

    Args:
        keep: writes the state; it comes after this one in the list of callbacks.
    """

    def __init__(self, keep: KeepLast) -> None:
        self.keep = keep
        self.number: int | None = None
        self.repeated_until_s = -math.inf
        self.same_s = 0.0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the signals over from Lightning."""
        self.same_s = SAME_SIGNAL_S if trainer.world_size > 1 else 0.0
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)
            }

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Asks for the state, where any process was told to stop."""
        is_told = self.number is not None
        if trainer.world_size > 1:  # they must stop in the same step
            is_told = trainer.strategy.reduce_boolean_decision(is_told, all=False)
            self.number = self.number or (signal.SIGTERM if is_told else None)
        if is_told:
            self.keep.is_due = True

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Ends training where the state of the last step is written."""
        if self.number is not None and self.keep.written_step == trainer.global_step:
            raise InterruptedBySignal(self.number, self._message())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the signals back."""
        self._give_back()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Gives the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: Any) -> None:
        if self.number is None:
            self.number, self.repeated_until_s = number, time.monotonic() + self.same_s
        elif time.monotonic() >= self.repeated_until_s:
            raise InterruptedBySignal(number, self._message())

    def _message(self) -> str:
        assert self.number is not None
        name, step = signal.Signals(self.number).name, self.keep.written_step
        if not self.keep.path.is_file():
            return f"stopped by {name}; no state was written yet: begin again with the same command"
        reached = f" of step {step}" if step >= 0 else ""
        return f"stopped by {name}; the state{reached} is in {self.keep.path}: go on with resume=true"
