"""What commands that train share: their faces table, and progress on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl

from unmasked.app.progress import Reporter
from unmasked.datasets.errors import InputError
from unmasked.preprocessing.faces import FACES


def training_faces(path: Path, datasets: Sequence[str]) -> pd.DataFrame:
    """A faces table, or the rows of some datasets in it.

    Raises:
        InputError: a dataset has no training rows, or several have some and none was chosen.
    """
    faces = FACES.read(path)
    names = sorted(faces.loc[faces["split"] == "train", "dataset"].unique())
    for dataset in datasets:
        if dataset not in names:
            raise InputError(
                f"dataset {dataset!r} has no training rows in {path}; "
                f"datasets with some are {', '.join(names) or 'none'}"
            )
    if not datasets and len(names) > 1:
        raise InputError(
            f"{path} has training rows of {', '.join(names)}; choose one with dataset=…, or several that are "
            f"trained on together with dataset=[{','.join(names[:2])}]"
        )
    return faces[faces["dataset"].isin(list(datasets))].reset_index(drop=True) if datasets else faces


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
