"""All that is to be measured on a GPU, in under ten minutes.

    python benchmarks/gpu.py [device=cuda|cpu] [size=full|tiny] [out=FOLDER]

Prints three tables: UCF's inference and training step against a plain implementation, with memory and the
share of the card's bfloat16 rate (`ucf_step.py`); trainings of one length in each number format, compiled,
deterministic (twice: are the weights the same?) and with shared batch statistics, with their time and the
AUC of their validation split; and scores in bfloat16 against those in float32. ``device=cpu size=tiny`` runs
all of it in minutes on a processor, which says that the script works, and nothing about a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from unmasked.evaluation.metrics import auc, video_scores

DEFAULTS = {"device": "cuda", "size": "full", "out": ""}
SIZES = {  # of pictures, width, identities of a split, pairs of a batch, steps, what `ucf_step.py` measures
    "full": (256, 1.0, 64, 16, 150, ("rounds=5", "batches=1,16,64,256", "training=16,64")),
    "tiny": (
        64,
        0.125,
        6,
        4,
        3,
        ("rounds=1", "batches=2", "training=4", "width=0.125", "size_px=64", "threads=1"),
    ),
}
TRAININGS = {
    "float32": (),
    "bfloat16": ("training.precision=bf16-mixed",),
    "float16": ("training.precision=16-mixed",),
    "bfloat16, compiled": ("training.precision=bf16-mixed", "training.compile=true"),
    "deterministic": ("training.deterministic=true",),
    "deterministic, again": ("training.deterministic=true",),
    "shared batch statistics": ("training.sync_batchnorm=true",),
}


def main() -> None:
    """Runs the three parts one after the other."""
    given = {**DEFAULTS, **dict(argument.split("=", 1) for argument in sys.argv[1:])}
    size_px, width, identities, pairs, steps, measured = SIZES[given["size"]]
    folder = Path(given["out"] or tempfile.mkdtemp(prefix="unmasked-gpu-"))
    environment = dict(os.environ)
    if given["device"] == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    print("== inference and training step", flush=True)
    script = str(Path(__file__).with_name("ucf_step.py"))
    subprocess.run([sys.executable, script, *measured], env=environment, check=False)
    faces = write_faces(folder, identities, size_px)
    common = (
        f"faces={faces}",
        f"model.size_px={size_px}",
        f"model.width={width}",
        f"training.batch_pairs={pairs}",
        f"training.max_steps={steps}",
        "training.epochs=1000",
        f"training.val_every_steps={steps}",
    )
    print(f"\n== trainings of {steps} steps of {2 * pairs} images\n| training | s | AUC, val | weights |")
    print("|---|---|---|---|", flush=True)
    for title, settings in TRAININGS.items():
        run = folder / title.replace(", ", "_").replace(" ", "_")
        found = unmasked(("train", "detector=ucf", f"out={run}", *common, *settings), environment)
        print(f"| {title} | {found or ' | '.join(result_of(run, faces, given['device'], environment))} |")
    print(
        "\n== scores of the float32 training\n| precision | crops a second | AUC, val | largest difference |"
    )
    print("|---|---|---|---|", flush=True)
    compare_precisions(folder, faces, given["device"], environment)


def unmasked(arguments: tuple[str, ...], environment: dict[str, str]) -> str:
    """Runs a command; returns why it was refused, "" if it was not."""
    command = [sys.executable, "-m", "unmasked.app.cli", *arguments]
    start_s = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    SECONDS.append(time.perf_counter() - start_s)
    lines = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else f"refused: {lines[-1] if lines else done.returncode}"


SECONDS: list[float] = []  # of each command


def result_of(run: Path, faces: Path, device: str, environment: dict[str, str]) -> list[str]:
    """The seconds of a training, the AUC of its validation split, and a digest of its weights."""
    seconds = SECONDS[-1]
    card = json.loads((run / "detector.json").read_text())
    scores = score(run, faces, "fp32", device, environment)
    return [f"{seconds:.0f}", f"{video_auc(scores):.4f}", card["sha256"][:8]]


def compare_precisions(folder: Path, faces: Path, device: str, environment: dict[str, str]) -> None:
    """A row for each number format of `predict`."""
    whole = score(folder / "float32", faces, "fp32", device, environment)
    for precision in ("fp32", "bf16"):
        scores = score(folder / "float32", faces, precision, device, environment)
        difference = np.abs(scores["score"].to_numpy() - whole["score"].to_numpy()).max()
        rate = len(scores) / SECONDS[-1]
        print(f"| {precision} | {rate:.0f} (start included) | {video_auc(scores):.4f} | {difference:.4f} |")


def score(run: Path, faces: Path, precision: str, device: str, environment: dict[str, str]) -> pd.DataFrame:
    """The predictions of a run's detector for the validation split."""
    out = run / f"{precision}.parquet"
    given = (f"checkpoint={run}", f"faces={faces}", f"out={out}", "splits=[val]", f"precision={precision}")
    if refused := unmasked(("predict", *given, f"device={device}", "overwrite=true"), environment):
        raise SystemExit(refused)
    return pd.read_parquet(out)


def video_auc(scores: pd.DataFrame) -> float:
    """AUC of videos."""
    videos = video_scores(scores)
    return auc(videos["label"], videos["score"])


def write_faces(folder: Path, identities: int, size_px: int) -> Path:
    """A faces table of smooth pictures; in fakes a square in the middle is blurred or made grainy."""
    rng = np.random.default_rng(0)
    (folder / "crops").mkdir(parents=True, exist_ok=True)
    rows = []
    for split in ("train", "val"):
        for identity in range(identities):
            base = cv2.resize(rng.uniform(40, 215, (4, 4, 3)).astype(np.float32), (size_px, size_px))
            for method in ("real", "Deepfakes", "Face2Face"):
                for frame in range(4):
                    image = base + rng.normal(0, 6, base.shape).astype(np.float32)
                    inside = (slice(size_px // 4, 3 * size_px // 4),) * 2
                    if method == "Deepfakes":
                        image[inside] = cv2.GaussianBlur(image[inside], (7, 7), 3)
                    elif method == "Face2Face":
                        image[inside] += rng.normal(0, 14, image[inside].shape)
                    name, video = f"{split}{identity:03d}", f"{method}-{split}{identity:03d}"
                    crop = f"crops/{video}-{frame}.png"
                    cv2.imwrite(str(folder / crop), image.clip(0, 255).astype(np.uint8))
                    rows.append(
                        {
                            "dataset": "Squares",
                            "video": name if method == "real" else video,
                            "kind": "video",
                            "label": int(method != "real"),
                            "method": method,
                            "split": split,
                            "identity": name,
                            "target_video": None if method == "real" else name,
                            "compression": "c23",
                            "frame": 10 * frame,
                            "face": 0,
                            "crop": crop,
                            "status": "ok",
                        }
                    )
    pd.DataFrame(rows).to_parquet(folder / "faces.parquet")
    return folder / "faces.parquet"


if __name__ == "__main__":
    main()
