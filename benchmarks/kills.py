"""Ends a command by SIGKILL and SIGTERM in turn at random moments; compares with a whole run.

    python benchmarks/kills.py [--work preprocess|train|torchrun] [--kills 40] [--seed 0] [--minutes M]

`train` trains a narrow UCF, `torchrun` the same in two processes (gloo on a CPU). Prints one line a signal,
and last whether the results are identical byte for byte. After --minutes no further signal is sent: the run
is finished and compared. Exit code 1 if results differ, or if SIGTERM gave another exit code than 143 or no
sentence that says how to go on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import av
import cv2
import numpy as np
import pandas as pd

FRAMES, SIDE_PX = 40, 240
COMMAND = (sys.executable, "-m", "unmasked.app.cli")
# The exit codes that are right. SIGTERM is the system's to answer while Python itself is still starting.
# 0: all was done.
ENDS = {signal.SIGKILL: (-signal.SIGKILL, 0), signal.SIGTERM: (143, 0, -signal.SIGTERM)}


class Work(ABC):
    """A command that goes on where it was ended."""

    goes_on = ("the same command goes on from here",)
    ends: ClassVar = ENDS

    @abstractmethod
    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """The command in a process of its own; it goes on where ``out`` says it was."""

    @abstractmethod
    def kept(self, out: Path) -> int:
        """How much is done: videos, or steps whose state is stored."""

    @abstractmethod
    def is_finished(self, out: Path) -> bool:
        """True if nothing is left to do."""

    def digests(self, out: Path) -> dict[str, str]:
        """SHA-256 of every file below a folder, hidden ones too."""
        files = [path for path in out.rglob("*") if path.is_file()]
        return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def faults(self, number: int, code: int, said: str) -> list[str]:
        """What is wrong with an end."""
        found = [] if code in self.ends[number] else [f"exit code {code}"]
        if "Traceback" in said:
            found.append("a traceback")
        if code == 143 and not said.rstrip().endswith(self.goes_on):
            found.append("no sentence")
        return found


class Preprocessing(Work):
    """Crops of ``videos`` small videos by two workers."""

    def __init__(self, folder: Path, seed: int, videos: int = 40) -> None:
        self.manifest = folder / "manifest.csv"
        write_videos(folder / "videos", videos, seed).to_csv(self.manifest, index=False)

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """See `Work`."""
        return launch(
            "preprocess", f"manifest={self.manifest}", f"out={out}", "frames_per_video=8", "workers=2"
        )

    def kept(self, out: Path) -> int:
        """See `Work`."""
        return sum(1 for _ in out.glob("parts/**/*.json"))

    def is_finished(self, out: Path) -> bool:
        """See `Work`."""
        return (out / "faces.parquet").exists() and (out / "unused.csv").exists()  # the last that is written


class Training(Work):
    """A narrow UCF over drawn faces."""

    goes_on = (
        "go on with resume=true",
        *("the same command begins again", "begin again with the same command"),  # while libraries are loaded
    )

    def __init__(self, folder: Path, seed: int) -> None:
        self.faces = folder / "faces.parquet"
        write_faces(folder, seed)

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """See `Work`."""
        return launch(*self._arguments(out))

    def _arguments(self, out: Path) -> list[str]:
        keys = ["train", "--config", "ucf/demo", f"faces={self.faces}", f"out={out}", "model.width=0.0625"]
        keys += ["model.size_px=64", "training.batch_pairs=2", "training.epochs=4"]
        keys += ["training.val_every_steps=25", "training.save_every_steps=10"]
        return [*keys, *(["resume=true"] if self._last(out).is_file() else [])]

    def _last(self, out: Path) -> Path:
        return out / "checkpoints" / "last.ckpt"

    def kept(self, out: Path) -> int:
        """See `Work`."""
        return self._state(out)["global_step"] if self._last(out).is_file() else 0

    def is_finished(self, out: Path) -> bool:
        """See `Work`."""
        return self._last(out).is_file() and not (out / ".unfinished").exists()

    def digests(self, out: Path) -> dict[str, str]:
        """Of the detector, its card, the metrics, and of weights and optimiser in the last state."""
        import torch

        found = {
            name: hashlib.sha256((out / name).read_bytes()).hexdigest()
            for name in ("detector.safetensors", "detector.json", "metrics.jsonl")
        }
        state = self._state(out)  # it also holds seconds
        optimiser = [group for one in state["optimizer_states"] for group in one["state"].values()]
        for place, tensors in enumerate((state["state_dict"], *optimiser)):
            for name, value in tensors.items():
                content = value.numpy().tobytes() if torch.is_tensor(value) else repr(value).encode()
                found[f"last.ckpt {place} {name}"] = hashlib.sha256(content).hexdigest()
        return found

    def _state(self, out: Path) -> dict[str, object]:
        import torch

        return torch.load(self._last(out), weights_only=True, map_location="cpu")


class LaunchedTraining(Training):
    """The same in two processes of torchrun, which hands on a signal that they have got already."""

    ends: ClassVar = {**ENDS, signal.SIGTERM: (1, 0, -signal.SIGTERM)}  # torchrun's own

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.codes, self.script = folder / "codes", folder / "recorded.py"
        self.script.write_text(RECORDED)

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """See `Work`."""
        shutil.rmtree(self.codes, ignore_errors=True)
        self.codes.mkdir()
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        return launch(str(self.script), *self._arguments(out), command=command, codes=str(self.codes))

    def faults(self, number: int, code: int, said: str) -> list[str]:
        """Of the launcher's end its exit code; of each process that had begun its own and the sentence."""
        found = [] if code in self.ends[number] else [f"exit code {code}"]
        codes = {path.name: path.read_text() for path in self.codes.iterdir()}
        if number == signal.SIGTERM:
            found += [
                f"rank {rank}: {text}" for rank, text in codes.items() if text not in ("begun", "143", "0")
            ]
            if "143" in codes.values() and not any(words in said for words in self.goes_on):
                found.append("no sentence")
        return found


# Keeps the exit code of each process, which torchrun does not hand on after a signal.
RECORDED = """
import os
from pathlib import Path

from unmasked.app.cli import main

code = Path(os.environ["CODES"]) / os.environ["RANK"]
try:
    main()
except SystemExit as ended:
    code.write_text(str(ended.code or 0))
    raise
"""
WORKS = {"preprocess": Preprocessing, "train": Training, "torchrun": LaunchedTraining}


def main() -> None:
    """Runs the comparison with what is given on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", choices=list(WORKS), default="preprocess")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = WORKS[options.work](Path(folder), options.seed)
        given = {"kills": options.kills, "seed": options.seed, "minutes": options.minutes}
        sys.exit(0 if compare(work, Path(folder), **given) else 1)


def compare(work: Work, folder: Path, *, kills: int, seed: int, minutes: float = float("inf")) -> bool:
    """True if a run ended ``kills`` times gives what an uninterrupted one gives; prints what happens.

    After ``minutes`` it is ended no more.
    """
    whole, killed = folder / "whole", folder / "killed"
    started_s = time.monotonic()
    work.start(whole).communicate()
    whole_s = time.monotonic() - started_s
    things = len(work.digests(whole))
    print(f"uninterrupted: {work.kept(whole)} in {whole_s:.1f} s, {things} things compared", flush=True)
    rng, landed, is_well_ended, is_equal = np.random.default_rng(seed), 0, True, True
    while landed < kills and time.monotonic() - started_s < 60 * minutes:
        if work.is_finished(killed):  # got through before its moment came: once more from nothing
            is_equal &= work.digests(killed) == work.digests(whole)
            print(f"done before the next signal: {'identical' if is_equal else 'DIFFERENT'}", flush=True)
            shutil.rmtree(killed)
        before, process = work.kept(killed), work.start(killed)
        # Most moments are counted from the first thing that is kept on: half of a short run is its start.
        while landed % 8 > 1 and process.poll() is None and work.kept(killed) == before:
            time.sleep(0.05)  # a state is read each time
        try:
            process.wait(float(rng.uniform(0, whole_s / 4)))
        except subprocess.TimeoutExpired:
            landed += 1
            number = (signal.SIGKILL, signal.SIGTERM)[landed % 2]
            for one in family(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(one, number)
            said = process.communicate()[1].decode()
            wrong = work.faults(number, process.returncode, said)
            is_well_ended &= not wrong
            after = work.kept(killed)
            print(
                f"{landed:2d} {number.name}: exit code {process.returncode}, kept {before}, then {after}"
                + "".join(f" WRONG: {fault}" for fault in wrong),
                flush=True,
            )
            if wrong:
                print(said)
    while not work.is_finished(killed):
        process = work.start(killed)
        said = process.communicate()[1].decode()
        if process.returncode:
            print(f"the last run ended with exit code {process.returncode}: {said}")
            return False
    is_equal &= work.digests(killed) == work.digests(whole)
    print(
        f"{landed} kills, resumed: results {'identical' if is_equal else 'DIFFERENT'} byte for byte; "
        f"exit codes and sentences {'right' if is_well_ended else 'WRONG'}"
    )
    return is_equal and is_well_ended


def family(process: int) -> list[int]:
    """A process and all that it has started, as a scheduler or a machine that is lost ends them."""
    children = Path(f"/proc/{process}/task/{process}/children")
    with suppress(OSError):
        return [process, *(one for child in children.read_text().split() for one in family(int(child)))]
    return [process]


def launch(*arguments: str, command: list[str] | None = None, codes: str = "") -> subprocess.Popen[bytes]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [*(command or COMMAND), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "CODES": codes},
    )


def write_faces(folder: Path, seed: int) -> None:
    """A faces table of drawn faces, fakes of two methods with a blurred mouth, and its crops."""
    from unmasked.preprocessing.faces import FACES

    rng, rows = np.random.default_rng(seed), []
    (folder / "crops").mkdir(parents=True)
    for split, people in (("train", 8), ("val", 3)):
        for person in range(people):
            for label, method in enumerate(("real", "one", "two")):
                for frame in range(4):
                    image = cv2.resize(drawn_face(rng, 70 + frame), (64, 64))
                    if label:
                        image[36:56, 16:48] = cv2.blur(image[36:56, 16:48], (3 + 4 * label, 3))
                    name = f"crops/{split}{person}-{method}-{frame}.png"
                    cv2.imwrite(str(folder / name), image)
                    rows.append(
                        {"dataset": "drawn", "video": f"{method}/{split}{person}", "kind": "video",
                         "label": int(label > 0), "method": method, "split": split,
                         "identity": f"{split}{person}",
                         "frame": frame, "face": 0, "status": "ok", "crop": name}
                    )  # fmt: skip
    FACES.write(FACES.validate(pd.DataFrame(rows)), folder / "faces.parquet")


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
