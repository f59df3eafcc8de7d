"""Does a training in bfloat16 follow the same curve as one in float32, as far as seeds do?

A small UCF is trained on one dataset of the synthetic corpus, with each seed in both precisions: the same
starting weights, pairs and draws. Differences between the two are set beside those between float32
trainings of different seeds, which are what another start alone does.

    python benchmarks/ucf_precision.py faces=FACES.parquet [out=runs/precision] [seeds=6] [steps=150]

Each run is kept in ``out``; a benchmark that was interrupted goes on. Intervals are Student's t over seeds
(95 %).
"""

from __future__ import annotations

import json
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from unmasked.app.config import load
from unmasked.app.detectors import find
from unmasked.datasets.documents import write_json
from unmasked.preprocessing.faces import FACES
from unmasked.training.train import train
from unmasked.ucf.config import UCFConfig

DEFAULTS = {"out": "runs/precision", "seeds": 6, "steps": 150, "train": "FaceForensics++"}
POINTS = 6  # of each curve
PRECISIONS = ("32-true", "bf16-mixed")
SHOWN = {
    "train/overall": "overall loss",
    "train/common": "real-or-fake loss",
    "val/frame_auc": "validation AUC, frames",
    "val/video_auc": "validation AUC, videos",
}


def main() -> None:
    """Trains what is not there yet and prints the table."""
    given = {**DEFAULTS, **dict(argument.split("=", 1) for argument in sys.argv[1:])}
    faces = FACES.read(given["faces"])
    faces = faces[faces["dataset"] == given["train"]]
    steps, records = int(given["steps"]), []
    for seed in range(int(given["seeds"])):
        for precision in PRECISIONS:
            folder = Path(given["out"]) / f"{precision}-{seed}"
            stored = folder / "history.json"
            if not stored.is_file():
                write_json(stored, _run(faces, Path(given["faces"]).parent, folder, seed, precision, steps))
            for record in json.loads(stored.read_text()):
                records.append({"seed": seed, "precision": precision, **record})
    _print_table(pd.DataFrame(records))


def _run(
    faces: pd.DataFrame, root: Path, folder: Path, seed: int, precision: str, steps: int
) -> list[dict[str, float]]:
    overrides = [
        f"seed={seed}",
        f"training.max_steps={steps}",
        f"training.val_every_steps={steps // POINTS}",
        f"training.precision={precision}",
        "data.val_frames_per_video=10",
    ]
    began = time.process_time()
    result = train(faces, root, load(UCFConfig, Path("ucf/demo"), overrides), folder, detector=find("ucf"))
    print(seed, precision, f"{time.process_time() - began:.0f} CPU s", result.history[-1], flush=True)
    return result.history


def _print_table(records: pd.DataFrame) -> None:
    print("| what | steps | float32 | bfloat16 − float32, same seed | spread of it | float32, two seeds |")
    print("|---|---|---|---|---|---|")
    for name, title in SHOWN.items():
        for step, at in records.groupby("step"):
            by_precision = at.pivot(index="seed", columns="precision", values=name)
            exact = by_precision["32-true"].to_numpy()
            moved = by_precision["bf16-mixed"].to_numpy() - exact
            half = stats.t.ppf(0.975, len(moved) - 1) * moved.std(ddof=1) / np.sqrt(len(moved))
            seeds = [first - second for first, second in combinations(exact, 2)]
            print(
                f"| {title} | {step} | {exact.mean():.3f} | {moved.mean():+.3f} "
                f"[{moved.mean() - half:+.3f}, {moved.mean() + half:+.3f}] | "
                f"{_rms(moved):.3f} | {_rms(seeds):.3f} |"
            )


def _rms(differences: np.ndarray | list[float]) -> float:
    """Root of the mean square of differences."""
    return float(np.sqrt(np.mean(np.square(differences))))


if __name__ == "__main__":
    main()
