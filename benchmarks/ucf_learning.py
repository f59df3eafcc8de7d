"""Does disentanglement help? UCF against its own encoder trained on real or fake alone.

Both arms have the same encoder, projection and head, the same starting weights, pairs, augmentation, steps,
optimiser and schedule, and are selected on the same validation split; the plain arm has no second encoder,
decoder or method head, and no loss but the common one. Nothing starts from ImageNet's weights. Trained on
one dataset of the synthetic corpus, tested on its test split and on those of all other datasets.

    python benchmarks/ucf_learning.py faces=FACES.parquet [out=runs/learning] [seeds=5]
                                      [train=FaceForensics++] [config=ucf/demo]

Each run is kept in ``out``; a benchmark that was interrupted goes on. Intervals are Student's t over seeds
(95 %): they say how much trainings differ, not how the result would do on other people.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy import stats
from torch import Tensor, nn

from unmasked.app.config import load as load_config
from unmasked.app.detectors import find
from unmasked.datasets.documents import write_json
from unmasked.datasets.transforms import augment
from unmasked.evaluation.metrics import auc, video_scores
from unmasked.evaluation.predict import predict
from unmasked.preprocessing.faces import FACES
from unmasked.training.checkpoint import load
from unmasked.training.module import DetectorModule
from unmasked.training.train import train
from unmasked.ucf.config import UCFConfig

DEFAULTS = {"out": "runs/learning", "seeds": 5, "train": "FaceForensics++", "config": "ucf/demo"}
LEVELS = ("frame", "video")


class Plain(DetectorModule):
    """Trains encoder, projection and head by the common loss alone."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Cross-entropy of real and fake, on the same images with the same draws."""
        import torch

        seed = self._batch_seed(batch_idx)
        torch.manual_seed(seed)
        draws = torch.Generator(self.device).manual_seed(seed)
        images = self._laid_out(augment(batch["image"], self.config.augment, draws))
        return nn.functional.cross_entropy(self.model(images), batch["label"])


ARMS = {"ucf": DetectorModule, "plain": Plain}


def main() -> None:
    """Trains what is not there yet and prints the table."""
    given = {**DEFAULTS, **dict(argument.split("=", 1) for argument in sys.argv[1:])}
    root = Path(given["faces"]).parent
    faces = FACES.read(given["faces"])
    settings = load_config(UCFConfig, Path(given["config"]))
    rows = []
    for seed in range(int(given["seeds"])):
        for arm in ARMS:
            folder = Path(given["out"]) / f"{arm}-{seed}"
            stored = folder / "auc.json"
            if not stored.is_file():
                write_json(stored, _run(arm, faces, root, settings, seed, given["train"], folder))
            rows.append({"arm": arm, "seed": seed, **json.loads(stored.read_text())})
    _print_table(pd.DataFrame(rows), given["train"])


def _run(
    arm: str, faces: pd.DataFrame, root: Path, settings: UCFConfig, seed: int, source: str, folder: Path
) -> dict[str, float]:
    config = settings.model_copy(update={"seed": seed})
    ucf = find("ucf")
    with patch("unmasked.training.train.DetectorModule", ARMS[arm]):
        result = train(faces[faces["dataset"] == source], root, config, folder, detector=ucf)
    model, card = load(ucf, result.checkpoint)
    test = faces[faces["split"] == "test"]
    scored = predict(model, test, root, size_px=card["size_px"], detector=arm)
    aucs = {}
    for dataset, frames in scored.groupby("dataset"):
        videos = video_scores(frames)
        aucs[f"{dataset} frame"] = auc(frames["label"], frames["score"])
        aucs[f"{dataset} video"] = auc(videos["label"], videos["score"])
    print(arm, seed, {name: round(value, 4) for name, value in aucs.items()}, flush=True)
    return aucs


def _print_table(runs: pd.DataFrame, source: str) -> None:
    names = sorted(
        (name for name in runs if " " in name), key=lambda name: (not name.startswith(source), name)
    )
    print("\n| test split, level | UCF | plain | UCF − plain |\n|---|---|---|---|")
    for name in names:
        by_arm = runs.pivot(index="seed", columns="arm", values=name)
        cells = [_mean(by_arm["ucf"], 1), _mean(by_arm["plain"], 1), _mean(by_arm["ucf"] - by_arm["plain"])]
        print(f"| {name} | {' | '.join(cells)} |")


def _mean(values: pd.Series, highest: float = np.inf) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    low, high = values.mean() - half, min(values.mean() + half, highest)
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
