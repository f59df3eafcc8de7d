"""Training progress for the terminal."""

from __future__ import annotations

import pytorch_lightning as pl

from unmasked.app.progress import Reporter


def progress_callback(reporter: Reporter) -> pl.Callback:
    """A Lightning callback that reports optimiser steps and says each validation's result."""
    return _Progress(reporter)


class _Progress(pl.Callback):
    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        total = int(trainer.estimated_stepping_batches)
        self.reporter("training steps", min(trainer.global_step, total), total)

    def on_validation_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.sanity_checking:
            return
        value = trainer.callback_metrics.get("val/video_auc")
        if value is not None:
            self.reporter.say(f"  step {trainer.global_step}: validation video AUC {float(value):.3f}")
