"""What a generator's training shows: samples at fixed z, distances, losses, p."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from unmasked.datasets.files import atomic_path, write_text
from unmasked.datasets.loading import CropDataset
from unmasked.datasets.samplers import Draw
from unmasked.generation.config import GeneratorConfig
from unmasked.generation.features import BATCH, Extractor
from unmasked.generation.fid import floor, frechet_distance, kernel_distance
from unmasked.generation.module import GeneratorModule
from unmasked.generation.stylegan2 import sample

COLUMNS = 8  # of the grid, and rows
LOOK_SEED = 20_000  # of z that no other seed of a user is likely to be


def grid(images: Tensor, columns: int = COLUMNS) -> NDArray[np.uint8]:
    """(rows R, columns R, 3) one picture of (N, 3, R, R) uint8 images, row by row."""
    rows = [images[start : start + columns] for start in range(0, len(images) - columns + 1, columns)]
    lines = [torch.cat(list(row), dim=2) for row in rows]  # (3, R, columns R)
    return torch.cat(lines, dim=1).permute(1, 2, 0).numpy()


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Writes an RGB picture as PNG, whole or not at all."""
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


class Look(pl.Callback):
    """Looks at what the averaged generator makes: at the start, on the way, at the end.

    Args:
        out: gets ``samples/step-….png`` and ``metrics.jsonl``.
        crops: the reals.
        config: of the training.
        units: (crops,) whose each crop is, or of which video.
        keep: writes the generator, given the step.
        extractor: of the features behind the distance.

    Attributes:
        history: the record of each look.
    """

    def __init__(
        self,
        out: Path,
        crops: CropDataset,
        config: GeneratorConfig,
        *,
        units: NDArray[np.str_],
        keep: Callable[[int], None],
        extractor: Extractor | None,
    ) -> None:
        self.out, self.crops, self.config, self.units = out, crops, config, units
        self.keep, self.extractor = keep, extractor
        self.history: list[dict[str, Any]] = []
        self._reals: NDArray[np.float64] | None = None
        self._floor: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks before the first step."""
        if trainer.is_global_zero and not trainer.global_step:
            self._look(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks, if it is time or the training ends with this step."""
        is_due = trainer.global_step % self.config.training.look_every_steps == 0 or trainer.should_stop
        if trainer.is_global_zero and is_due:
            self._look(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """All records so far."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from them."""
        self.history = list(state_dict["history"])

    def _look(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, GeneratorModule)
        step = trainer.global_step
        picture = grid(sample(module.averaged, range(COLUMNS**2), LOOK_SEED).cpu())
        write_picture(self.out / "samples" / f"step-{step:07d}.png", picture)
        losses = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/")
        }
        images = step * self.config.training.batch
        record = {"step": step, "images": images, "p": module.ada.p, "r_t": module.ada.r_t, **losses}
        record.update(self._distances(module))
        self.history.append(record)
        lines = [json.dumps(one).replace("NaN", "null") + "\n" for one in self.history]
        write_text(self.out / "metrics.jsonl", "".join(lines))
        self.keep(step)
        if isinstance(trainer.logger, TensorBoardLogger):
            writer = trainer.logger.experiment
            writer.add_image("samples", picture, step, dataformats="HWC")
            for name in ("frechet", "kid"):
                if name in record:
                    writer.add_scalar(f"distance/{name}", record[name], step)

    def _distances(self, module: GeneratorModule) -> dict[str, Any]:
        """Distance of samples to the reals, with the floor; empty without an extractor."""
        if self.extractor is None:
            return {}
        count = self.config.training.look_images
        rows = np.linspace(0, len(self.crops) - 1, min(count, len(self.crops))).astype(int)
        units = self.units[rows]
        if self._reals is None:
            self._reals = self._features(
                lambda part: self.crops[[Draw(int(row)) for row in part]]["image"], rows
            )
        fakes = self._features(lambda part: sample(module.averaged, part, LOOK_SEED).cpu(), np.arange(count))
        kernel = kernel_distance(self._reals, fakes, units_a=units)
        if not self._floor:
            found = floor(self._reals, self._reals, units_a=units)
            self._floor = {"floor_frechet": found.frechet, "floor_kid": found.kid, "floor_n": found.n}
        return {
            "extractor": self.extractor.name,
            "n_reals": len(self._reals),
            "n_fakes": count,
            "frechet": frechet_distance(self._reals, fakes),
            "kid": kernel.value,
            "kid_ci": [kernel.low, kernel.high],
            **self._floor,
        }

    def _features(self, images: Callable[[Any], Tensor], places: NDArray[np.int64]) -> NDArray[np.float64]:
        assert self.extractor is not None
        parts = []
        with torch.inference_mode():
            for start in range(0, len(places), BATCH):
                given = images(places[start : start + BATCH].tolist())
                parts.append(self.extractor.features(given).double().numpy())
        return np.concatenate(parts)
