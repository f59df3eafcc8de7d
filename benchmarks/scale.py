"""Predictions of many frames: CPU seconds and peak memory of `evaluate` and `fairness`.

    python benchmarks/scale.py --out FOLDER [--rows 20000000] [--whole]

Writes a table of so many rows (32 frames a video, ten videos of each person, two datasets) in pieces, and
runs both commands with videos_only=true, each in a process of its own; --whole runs them without it too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FRAMES, VIDEOS_OF_PERSON, PIECE = 32, 10, 1 << 14


def main() -> None:
    """Makes the table where it is not there yet, and measures both commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--verbs", default="evaluate,fairness")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / f"{options.rows}.parquet"
    if not table.exists():
        write_table(table, options.rows // FRAMES)
    print(f"{options.rows:,} rows of {options.rows // FRAMES:,} videos, {table.stat().st_size >> 20} MB")
    for verb in options.verbs.split(","):
        more = ["by=[gender]"] if verb == "fairness" else []
        for how in (["videos_only=true"], [])[: 1 + options.whole]:
            out = options.out / f"{verb}_{options.rows}{'' if how else '_whole'}"
            command = [verb, f"predictions={table}", f"out={out}", "overwrite=true", *more, *how]
            measure([sys.executable, "-m", "unmasked.app.cli", *command], " ".join([verb, *how]))


def write_table(path: Path, videos: int) -> None:
    """A table as `unmasked predict` writes it; scores of one video are alike, and of a person no more."""
    rng = np.random.default_rng(0)
    part = path.with_suffix(".part")
    writer: pq.ParquetWriter | None = None
    for start in range(0, videos, PIECE):
        video = np.arange(start, min(start + PIECE, videos))
        label, person = video % 2, video // VIDEOS_OF_PERSON
        logit = rng.normal(1.2 * label - 0.6, 1)[:, None] + rng.normal(0, 0.7, (len(video), FRAMES))
        columns = {
            "dataset": np.where(person % 5 == 0, "DFD", "DFDC"),
            "video": np.char.mod("clip/%07d", video),
            "label": label,
            "method": np.where(label == 1, "swap", "real"),
            "split": np.full(len(video), "test"),
            "identity": np.char.mod("p%06d", person),
            "detector": np.full(len(video), "ucf"),
            "checkpoint": np.full(len(video), "ab" * 32),
            "gender": np.where(person % 2 == 1, "female", "male"),
        }
        table = pa.table({name: np.repeat(column, FRAMES) for name, column in columns.items()})
        frames = np.tile(np.arange(FRAMES) * 10, len(video))
        table = table.append_column("frame", pa.array(frames))
        table = table.append_column("score", pa.array(1 / (1 + np.exp(-logit.ravel()))))
        writer = writer or pq.ParquetWriter(part, table.schema)
        writer.write_table(table)
    assert writer is not None, "no video"
    writer.close()
    part.replace(path)


def measure(command: list[str], title: str) -> None:
    """Runs a command and prints what it took."""
    start_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read() if process.stderr else ""
    _, status, used = os.wait4(process.pid, 0)
    print(
        f"  {title}: CPU {used.ru_utime + used.ru_stime:.0f} s, wall {time.perf_counter() - start_s:.0f} s, "
        f"peak {used.ru_maxrss / 1024:.0f} MB{'' if status == 0 else ', FAILED: ' + errors[-500:]}",
        flush=True,
    )


if __name__ == "__main__":
    main()
