"""What commands that train share: nested settings as arguments, and their progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl

from unmasked.app.progress import Reporter


def dotlist(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested settings as ``section.key=value``, which `unmasked.app.config.load` takes."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += dotlist(value, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}={'null' if value is None else value}")
    return found


def progress_callback(reporter: Reporter, at_start: Callable[[], None]) -> pl.Callback:
    """A Lightning callback that reports optimiser steps and says each validation's result.

    Of several processes the first one does so.

    Args:
        reporter: where.
        at_start: called when everything is checked and training begins.
    """
    return _Progress(reporter, at_start)


class _Progress(pl.Callback):
    def __init__(self, reporter: Reporter, at_start: Callable[[], None]) -> None:
        self.reporter, self.at_start = reporter, at_start

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.at_start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if not trainer.is_global_zero:
            return
        total = int(trainer.estimated_stepping_batches)
        self.reporter("training steps", min(trainer.global_step, total), total)

    def on_validation_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        for name, value in trainer.callback_metrics.items():
            if name.endswith("/video_auc"):  # val/…, or oracle/… where the test split selects
                self.reporter.say(f"  step {trainer.global_step}: {name} {float(value):.3f}")
