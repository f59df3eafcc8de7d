"""A million rows, from files to an audited manifest: seconds by stage, and peak memory.

    python benchmarks/datasets_scale.py [--rows 1000000] [--most-seconds 60] [--most-gb 2]

Writes a table of frames (half real, half swapped, 32 of each video), the files that it lists, and an
annotation file in the layout of AI-Face v2, of which a part has no row and some frames disagree. Then, in a
process of its own: scan (every file is looked for), validate (written as Parquet, read again, checked),
join, and the identities' audit. Exits with 1 where a limit is exceeded. The files are empty links to one.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

FRAMES = 32  # of a video
LINKS = 50_000  # names of one file; file systems allow some 65,000
FOLDERS = 1000
HEADER = ["Image Path", "Predicted Gender", "Predicted Age", "Skin Tone", "Target"]
HEADER += ["Skin Tone Group", "Intersection"]


def main() -> int:
    """Prepares files in one process, measures in another, and says whether limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--most-seconds", type=float, default=60)
    parser.add_argument("--most-gb", type=float, default=2)
    parser.add_argument("--folder", type=Path, help="files to use again; made here if absent")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(arguments.measure, arguments.most_seconds, arguments.most_gb)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "corpus"
        if not (folder / "manifest.csv").exists():
            print(f"writing {arguments.rows} files below {folder} …", flush=True)
            prepare(folder, arguments.rows)
        limits = [f"--most-seconds={arguments.most_seconds}", f"--most-gb={arguments.most_gb}"]
        return subprocess.run([sys.executable, __file__, f"--measure={folder}", *limits]).returncode


def measure(folder: Path, most_seconds: float, most_gb: float) -> int:
    """Runs the stages on prepared files and prints what each took."""
    from unmasked.datasets.audit.overlaps import overlaps
    from unmasked.datasets.demographics import join_files
    from unmasked.datasets.manifest import MANIFEST
    from unmasked.datasets.scan import scan

    seconds: dict[str, float] = {}
    with _time_call("scan", seconds):
        manifest = scan(folder / "manifest.csv", "table").manifest
    with _time_call("validate", seconds):
        MANIFEST.write(manifest, folder / "written.parquet")
        manifest = MANIFEST.read(folder / "written.parquet")
    with _time_call("join", seconds):
        manifest, (report,) = join_files(manifest, [folder / "annotations.csv"])
    with _time_call("audit", seconds):
        found = overlaps(manifest)
    print(f"rows {len(manifest)}; {report}")
    print(f"values on both sides of a border: {len(found.shared)}")
    total, peak_gb = sum(seconds.values()), _peak_gb()
    print(f"total {total:.1f} s (at most {most_seconds:g}), peak {peak_gb:.2f} GB (at most {most_gb:g})")
    return int(total > most_seconds or peak_gb > most_gb)


def prepare(folder: Path, rows: int) -> None:
    """Writes the corpus: files, manifest.csv and annotations.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = _frames(rows)
    _link_files(folder, frames["path"])
    annotated = _annotations(frames)
    annotated.to_csv(folder / "annotations.csv", index=False)
    frames.drop(columns="video").to_csv(folder / "manifest.csv", index=False)


def _frames(rows: int) -> pd.DataFrame:
    """A row a frame: path, label, method, split, identity, source_video, target_video and number of video."""
    row = np.arange(rows)
    video = row // FRAMES
    fake = video % 2 == 1
    target = video // 2
    # A face from another person of the same split, but for one in a thousand.
    source = (target * 7921 + 5 + (target % 1000 == 4)) % max(1, rows // FRAMES // 2)
    name = pd.Series(target).map("{:06d}".format)
    other = pd.Series(source).map("{:06d}".format)
    stem = ("youtube_" + name).mask(fake, "Deepfakes_" + name + "_" + other)
    frame = pd.Series(row % FRAMES * 10 + 1).astype(str)
    group = pd.Series(video % FOLDERS).map("{:03d}".format)
    return pd.DataFrame(
        {
            "path": "deepfakes/ff++/" + group + "/0_" + stem + "_" + frame + ".png",
            "label": fake.astype(int),
            "method": np.where(fake, "Deepfakes", "real"),
            "split": np.where(target % 5 == 0, "test", "train"),
            "identity": name,
            "source_video": other.where(fake),
            "target_video": name.where(fake),
            "video": video,
        }
    )


def _annotations(frames: pd.DataFrame) -> pd.DataFrame:
    """AI-Face v2's columns for the frames of 95 % of the videos; one frame in twenty says another tone."""
    rng = np.random.default_rng(0)
    videos = int(frames["video"].max()) + 1
    gender, age = rng.integers(0, 2, videos), rng.integers(0, 5, videos)
    tone = rng.integers(1, 11, videos)
    kept = frames[frames["video"] % 20 != 0]
    video = kept["video"].to_numpy()
    tones = np.where(rng.random(len(kept)) < 0.05, rng.integers(1, 11, len(kept)), tone[video])
    group = np.digitize(tones, [4, 7])
    intersection = 3 * gender[video] + group
    path = "AI_Face_imagesV2/" + kept["path"]
    columns = [path, gender[video], age[video], tones, kept["label"], group, intersection]
    return pd.DataFrame(dict(zip(HEADER, columns, strict=True)))


def _link_files(folder: Path, paths: pd.Series) -> None:
    for parent in sorted({path.rsplit("/", 1)[0] for path in paths}):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    target = ""
    for number, path in enumerate(paths):
        if number % LINKS == 0:
            target = f"{folder}/one_{number}"
            Path(target).write_bytes(b"0")
        os.link(target, f"{folder}/{path}")


@contextmanager
def _time_call(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    start, start_cpu = time.perf_counter(), time.process_time()
    yield
    seconds[stage] = time.perf_counter() - start
    cpu = time.process_time() - start_cpu  # what a busy machine does not stretch
    print(
        f"{stage:10s} {seconds[stage]:6.1f} s ({cpu:.1f} s CPU), peak so far {_peak_gb():.2f} GB", flush=True
    )


def _peak_gb() -> float:
    """Largest resident memory of this process so far, in GB (10^9 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    sys.exit(main())
