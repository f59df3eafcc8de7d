"""Ends `unmasked preprocess` by SIGKILL and SIGTERM in turn at random moments; compares with a whole run.

    python benchmarks/preprocessing_kills.py [--kills 40] [--videos 40] [--seed 0]

Prints one line a signal, and last whether tables and crops are identical byte for byte. Exit code 1 if they
are not, or if SIGTERM gave another exit code than 143 or no sentence that says how to go on.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pandas as pd

FRAMES, SIDE_PX = 40, 240
# The exit codes that are right. SIGTERM is the system's to answer while Python itself is still starting.
ENDS = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGTERM: (143, 0, -signal.SIGTERM)}  # 0: all was done


def main() -> None:
    """Runs the comparison with the numbers given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if compare(Path(folder), options.kills, options.videos, options.seed) else 1)


def compare(folder: Path, kills: int, videos: int, seed: int) -> bool:
    """True if a run killed ``kills`` times ends as one that was not; prints what happens."""
    manifest = folder / "manifest.csv"
    write_videos(folder / "videos", videos, seed).to_csv(manifest, index=False)
    started_s = time.monotonic()
    whole = folder / "whole"
    start(manifest, whole).communicate()
    whole_s = time.monotonic() - started_s
    print(f"uninterrupted: {videos} videos in {whole_s:.1f} s, {len(digests(whole))} files")
    killed, rng, landed = folder / "killed", np.random.default_rng(seed), 0
    is_equal, is_well_ended = True, True
    while landed < kills:
        if (killed / "faces.parquet").exists():  # got through before its moment came: once more from nothing
            is_equal &= ends_equal(manifest, killed, whole)
            shutil.rmtree(killed)
        before, process = parts(killed), start(manifest, killed)
        # Most moments are counted from the first video on: half of a short run is its start.
        while landed % 8 > 1 and process.poll() is None and parts(killed) == before:
            time.sleep(0.01)
        moment_s = float(rng.uniform(0, whole_s / 4))
        try:
            process.wait(moment_s)
        except subprocess.TimeoutExpired:
            landed += 1
            number = (signal.SIGKILL, signal.SIGTERM)[landed % 2]
            process.send_signal(number)
            said = process.communicate()[1].decode()
            is_right = process.returncode in ENDS[number] and ("Traceback" not in said)
            if process.returncode == 143:
                is_right &= said.rstrip().endswith("the same command goes on from here")
            is_well_ended &= is_right
            print(
                f"{landed:2d} {number.name}: exit code {process.returncode}{'' if is_right else ' WRONG'}, "
                f"{parts(killed) - before} videos more, {parts(killed)} of {videos} done",
                flush=True,
            )
            if not is_right:
                print(said)
    is_equal &= ends_equal(manifest, killed, whole)
    print(
        f"{kills} kills, resumed: tables and crops {'identical' if is_equal else 'DIFFERENT'} byte for byte; "
        f"exit codes and sentences {'right' if is_well_ended else 'WRONG'}"
    )
    return is_equal and is_well_ended


def parts(folder: Path) -> int:
    """How many videos are done."""
    return sum(1 for _ in folder.glob("parts/**/*.json"))


def ends_equal(manifest: Path, killed: Path, whole: Path) -> bool:
    """True if a killed and resumed run's folder equals that of an uninterrupted run."""
    process = start(manifest, killed)
    process.communicate()
    return process.returncode == 0 and digests(killed) == digests(whole)


def start(manifest: Path, out: Path) -> subprocess.Popen[bytes]:
    """A run in a process of its own."""
    command = [sys.executable, "-m", "unmasked.app.cli", "preprocess", f"manifest={manifest}", f"out={out}"]
    command += ["frames_per_video=8", "workers=2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, hidden ones too."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_videos(folder: Path, count: int, seed: int) -> pd.DataFrame:
    """A manifest of ``count`` videos of a drawn face in noise; every fifth shows none."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        with av.open(str(folder / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = SIDE_PX
            stream.pix_fmt = "yuv420p"
            for index in range(FRAMES):
                image = drawn_face(rng, 0 if number % 5 == 4 else 60 + index // 4)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        rows.append((f"{number}", f"{number}.mp4"))
    common = {"dataset": "drawn", "root": str(folder), "kind": "video", "label": 0, "method": "real"}
    return pd.DataFrame(rows, columns=["video", "path"]).assign(**common, split="test")


def drawn_face(rng: np.random.Generator, radius_px: int) -> np.ndarray:
    """(SIDE_PX, SIDE_PX, 3) uint8: a drawn oval face that dlib takes for a face."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    image = rng.integers(60, 90, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    if not radius_px:
        return image
    u, v = (x - SIDE_PX / 2) / radius_px, (y - SIDE_PX / 2) / radius_px
    image[u**2 + (v / 1.3) ** 2 < 1] = (225, 190, 165)
    for side in (-1, 1):
        image[((u - 0.4 * side) / 0.2) ** 2 + ((v + 0.3) / 0.1) ** 2 < 1] = (40, 30, 30)
        image[(abs(u - 0.4 * side) < 0.25) & (abs(v + 0.55) < 0.06)] = (70, 45, 35)
    image[(abs(u) < 0.14) & (abs(v - 0.22) < 0.05)] = (150, 100, 90)
    image[(u / 0.4) ** 2 + ((v - 0.65) / 0.12) ** 2 < 1] = (140, 50, 60)
    return image


if __name__ == "__main__":
    main()
