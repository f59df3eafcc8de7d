"""Preprocessing side by side with the published procedure.

Cost, agreement, scaling, kills, damage.
    python benchmarks/preprocessing.py --videos FOLDER [--limit N] [--sections real,hard,workers]

Prints all of it in one run. Costs are CPU seconds of one process, threads included, shown as ratios of one
run on one machine; only the throughput of two workers is in wall-clock time and wants a machine to itself.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import dlib
import numpy as np
import pandas as pd
from hard_clips import SETS, make_clips
from kills import Preprocessing
from kills import compare as compare_killed
from preprocessing_damage import report as report_damaged

from unmasked.datasets.synthetic.config import SyntheticConfig
from unmasked.datasets.synthetic.corpus import write_corpus
from unmasked.preprocessing.align import FIVE_POINTS, similarity_matrix, warp
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.detect import DlibDetector, landmark_model, overlap
from unmasked.preprocessing.extract import Row, Task, extract
from unmasked.preprocessing.faces import BOX, MATRIX
from unmasked.preprocessing.run import preprocess
from unmasked.preprocessing.video import sample_indices

SECTIONS = ("real", "hard", "workers", "scale", "kills", "damage")
SUFFIXES = (".mp4", ".mpg", ".avi", ".mov", ".webm", ".mkv")
LARGE_PX = 720  # of the shorter side
SIZE_PX = 256
FRAMES = 32
SHEET = 20
CORNERS = np.array([(0, 0, 1), (SIZE_PX, 0, 1), (0, SIZE_PX, 1), (SIZE_PX, SIZE_PX, 1)])


@dataclass
class Video:
    """What both procedures made of one video."""

    name: str
    is_large: bool
    plain_s: float = 0.0
    fast_s: float = 0.0
    decode_s: float = 0.0
    plain_frames: int = 0  # in which the plain procedure keeps a face
    missed: int = 0  # of those, in which fast finds none, or another one
    distances_px: tuple[float, ...] = ()  # crop corners, the farthest of four, one for each frame
    only_fast: tuple[bytes, ...] = ()  # crops of frames that the plain procedure drops


def main() -> None:
    """Runs the sections that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="folder of real videos, searched in depth")
    parser.add_argument("--limit", type=int, default=0, help="so many of them, evenly spread; 0 = all")
    parser.add_argument(
        "--sets", default=",".join(SETS), help="hard clips that were tuned on, and that were not"
    )
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--most", type=int, default=1000, help="synthetic videos of the section scale")
    parser.add_argument("--out", type=Path, help="folder for what is made; a temporary one if absent")
    parser.add_argument("--run", nargs=2, type=int, help="videos and workers: the run that is measured")
    options = parser.parse_args()
    sections = options.sections.split(",")
    if unknown := set(sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if {"real", "hard"} & {*sections} and not options.videos and not options.run:
        parser.error("the sections real and hard need --videos FOLDER; leave them out with --sections")
    out = options.out or Path(tempfile.mkdtemp(prefix="unmasked-benchmark-"))
    out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    if options.run:
        one_run(out, *options.run)
        return
    works: dict[str, Callable[[], object]] = {
        "real": lambda: real(videos_in(options.videos), options.limit, out),
        "hard": lambda: hard(videos_in(options.videos), options.sets.split(","), out),
        "workers": lambda: workers(out),
        "scale": lambda: scale(out, options.most),
        "kills": lambda: kills(fresh(out / "kills")),
        "damage": lambda: report_damaged(fresh(out / "damage"), [], count=300, seed=0),
    }
    for section in sections:
        print(f"\n== {section}", flush=True)
        works[section]()


def kills(folder: Path) -> None:
    """Twenty signals over a run that goes on."""
    compare_killed(Preprocessing(folder, seed=0), folder, kills=20, seed=0)


def fresh(folder: Path) -> Path:
    """The folder, emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def videos_in(folder: Path) -> list[Path]:
    """The videos of a folder, searched in depth."""
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]


def hard(paths: Sequence[Path], sets: Sequence[str], out: Path) -> None:
    """Cost and agreement on clips that are made hard, one of each kind; see `hard_clips`."""
    for which in sets:
        clips = make_clips(paths, out / "hard", which)
        if not clips:
            print(f"{which}: no video is large and long enough to make hard clips of")
            continue
        compare_all(clips, which, out)


def real(paths: list[Path], limit: int, out: Path) -> None:
    """Cost and agreement on real videos, and a sheet of the faces that only fast finds."""
    if limit:
        paths = [paths[index] for index in sample_indices(len(paths), limit)]
    compare_all(paths, "real", out)


def compare_all(paths: Sequence[Path], which: str, out: Path) -> None:
    """A line for each video, sums by size, and a sheet of the faces that only fast finds."""
    detector, config = DlibDetector(), PreprocessConfig(frames_per_video=FRAMES, size_px=SIZE_PX)
    extract(task_of(paths[0]), config, detector)  # the landmark model comes into memory
    videos = []
    for path in paths:
        videos.append(compare(path, config, detector))
        print(one_line(videos[-1]), flush=True)
    for title, chosen in (
        ("720p and above", [video for video in videos if video.is_large]),
        ("below 720p", [video for video in videos if not video.is_large]),
    ):
        if chosen:
            print_group(f"{which}, {title}", chosen)
    crops = [crop for video in videos for crop in video.only_fast]
    if crops:
        picked = [crops[index] for index in sample_indices(len(crops), SHEET)]
        print(f"faces that only fast finds, to look at: {sheet(picked, out / f'only_fast_{which}.png')}")


def compare(path: Path, config: PreprocessConfig, detector: DlibDetector) -> Video:
    """One video by both procedures and a bare decode, one after the other."""
    plain_s, plain = time_call(lambda: plain_procedure(path))
    fast_s, (rows, crops) = time_call(lambda: extract(task_of(path), config, detector))
    decode_s, shorter_px = time_call(lambda: bare_decode(path, max(row["frame"] for row in rows)))
    found = {row["frame"]: row for row in rows if row["status"] == "ok"}
    kept = {frame: crop for frame, crop in plain.items() if crop is not None}
    same = [frame for frame in kept if frame in found and is_same(found[frame], kept[frame])]
    return Video(
        name=path.name,
        is_large=shorter_px >= LARGE_PX,
        plain_s=plain_s,
        fast_s=fast_s,
        decode_s=decode_s,
        plain_frames=len(kept),
        missed=len(kept) - len(same),
        distances_px=tuple(corner_distance_px(found[frame], kept[frame]) for frame in same),
        only_fast=tuple(crops[Path(row["crop"]).name] for frame, row in found.items() if frame not in kept),
    )


def time_call(work: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds of this process, all threads, and what the work returned."""
    start_s = time.process_time()
    result = work()
    return time.process_time() - start_s, result


@dataclass(frozen=True)
class PlainCrop:
    """What the plain procedure makes of a frame."""

    box: tuple[float, float, float, float]
    matrix: np.ndarray  # (2, 3) frame -> crop pixels


def plain_procedure(path: Path) -> dict[int, PlainCrop | None]:
    """The published procedure by dlib and OpenCV alone.

    For each sampled frame its crop, or None.
    Every frame decoded; dlib's HOG on the doubled frame; the largest box; 68 points; the crop; a second
    detection and 68 points on the crop with red and blue swapped; a PNG. Models are loaded beforehand.
    """
    detect, points_of = _plain_models()
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    sampled = {int(position) for position in np.linspace(0, count - 1, FRAMES)}
    crops: dict[int, PlainCrop | None] = {}
    for index in range(count):
        is_read, frame = capture.read()
        if not is_read:
            break
        if index in sampled:
            crops[index] = _plain_crop(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), detect, points_of)
    return crops


def _plain_crop(
    image: np.ndarray, detect: dlib.fhog_object_detector, points_of: dlib.shape_predictor
) -> PlainCrop | None:
    boxes = detect(image, 1)
    if not boxes:
        return None
    box = max(boxes, key=lambda box: box.width() * box.height())
    parts = points_of(image, box).parts()
    matrix = similarity_matrix(np.array([(parts[i].x, parts[i].y) for i in FIVE_POINTS]), SIZE_PX)
    crop = cv2.cvtColor(warp(image, matrix, SIZE_PX), cv2.COLOR_RGB2BGR)
    again = detect(crop, 1)
    if not again:
        return None
    points_of(crop, again[0])
    cv2.imencode(".png", crop)
    return PlainCrop((box.left(), box.top(), box.right() + 1, box.bottom() + 1), matrix)


_MODELS: list[tuple[dlib.fhog_object_detector, dlib.shape_predictor]] = []


def _plain_models() -> tuple[dlib.fhog_object_detector, dlib.shape_predictor]:
    """Loaded once: the published procedure loads them for each video, which is not counted against it."""
    if not _MODELS:
        _MODELS.append((dlib.get_frontal_face_detector(), dlib.shape_predictor(str(landmark_model()))))
    return _MODELS[0]


def bare_decode(path: Path, last: int) -> int:
    """Decodes all frames up to ``last`` on one thread; returns the shorter side in pixels."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for index, _ in enumerate(container.decode(stream)):
            if index == last:
                break
        return min(stream.width, stream.height)


def task_of(path: Path) -> Task:
    """The task of a video that is kept in memory."""
    return Task(root=str(path.parent), path=path.name, kind="video", folder="crops", workdir="")


def is_same(row: Row, plain: PlainCrop) -> bool:
    """True if both boxes are of one face."""
    return overlap(tuple(row[name] for name in BOX), plain.box) >= 0.3


def corner_distance_px(row: Row, plain: PlainCrop) -> float:
    """Largest distance of the two crops' corners, in pixels of the plain crop."""
    ours = np.array([row[name] for name in MATRIX]).reshape(2, 3)
    back = np.linalg.inv(np.vstack([plain.matrix, (0, 0, 1)]))
    moved = ours @ back @ CORNERS.T
    return float(np.linalg.norm(moved - CORNERS[:, :2].T, axis=0).max())


def one_line(video: Video) -> str:
    """A video's figures."""
    distances = np.percentile(video.distances_px, (50, 95)) if video.distances_px else []
    distance = (
        " and ".join(f"{distance:.1f}" for distance in distances) + " px" if len(distances) else "no face"
    )
    return (
        f"{video.name[:40]:40} plain/fast {video.plain_s / video.fast_s:5.1f}   "
        f"fast/decode {video.fast_s / video.decode_s:5.2f}   same {video.plain_frames - video.missed}/"
        f"{video.plain_frames}   corners {distance}   only fast {len(video.only_fast)}"
    )


def print_group(title: str, videos: Sequence[Video]) -> None:
    """The figures of several videos: ratios of sums, and medians of the videos' ratios."""
    plain, fast, decode = (
        np.array([getattr(video, name) for video in videos]) for name in ("plain_s", "fast_s", "decode_s")
    )
    distances = np.concatenate([video.distances_px for video in videos])
    frames, missed = sum(video.plain_frames for video in videos), sum(video.missed for video in videos)
    print(f"\n{title}: {len(videos)} videos, CPU seconds")
    print(f"  plain {plain.sum():.1f}, fast {fast.sum():.2f}, bare decode {decode.sum():.2f}")
    print(f"  plain / fast   {plain.sum() / fast.sum():5.1f} in all, {np.median(plain / fast):5.1f} median")
    print(f"  fast / decode  {fast.sum() / decode.sum():5.2f} in all, {np.median(fast / decode):5.2f} median")
    print(f"  same face in {(frames - missed) / frames:.2%} of {frames} frames in which plain keeps one")
    print(
        f"  crop corners, farthest of four: median {np.median(distances):.2f} px, "
        f"95th percentile {np.percentile(distances, 95):.2f} px of {SIZE_PX}"
    )
    print(f"  frames in which only fast finds a face: {sum(len(video.only_fast) for video in videos)}")


def sheet(crops: Sequence[bytes], path: Path) -> Path:
    """A PNG of encoded crops, five in a row."""
    tiles = [cv2.imdecode(np.frombuffer(crop, np.uint8), cv2.IMREAD_COLOR) for crop in crops]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 5)
    rows = [np.hstack(tiles[start : start + 5]) for start in range(0, len(tiles), 5)]
    cv2.imwrite(str(path), np.vstack(rows))
    return path


def workers(out: Path) -> None:
    """Throughput of two worker processes against one, on synthetic videos.

    start-up is not counted.
    The cores that each run had say whether the machine was free: two workers can use two.
    """
    synthetic_copies(out, 1)  # the corpus is made before anything is measured
    rates, cores, costs_s = {}, {}, {}
    for count in (1, 2):
        few, many = (measured_run(out, videos, count) for videos in (12, 132))
        wall_s, cpu_s = many["wall_s"] - few["wall_s"], many["cpu_s"] - few["cpu_s"]
        rates[count], cores[count], costs_s[count] = 120 / wall_s, cpu_s / wall_s, cpu_s / 120
    print(
        f"\ntwo workers against one: {rates[2] / rates[1]:.2f} times the throughput (120 videos, wall clock)"
    )
    print(f"  cores that were had: {cores[1]:.2f} and {cores[2]:.2f}")
    print(f"  CPU a video, two against one: {costs_s[2] / costs_s[1]:.2f}")


def scale(out: Path, most: int) -> None:
    """CPU seconds for each further video, and peak memory, from 10 videos to ``most``."""
    print(f"from 10 to {most} synthetic videos, one worker")
    before, before_s = 0, 0.0
    for count in dict.fromkeys((10, min(100, most), most)):
        run = measured_run(out, count, 1)
        further_ms = 1000 * (run["cpu_s"] - before_s) / (count - before)
        print(
            f"  {count:5} videos: {further_ms:6.1f} ms CPU for each further one"
            f"{' (the start included)' if not before else ''}, peak of the worker {run['worker_mb']:.0f} MB, "
            f"of the parent {run['parent_mb']:.0f} MB",
            flush=True,
        )
        before, before_s = count, run["cpu_s"]


def measured_run(out: Path, videos: int, workers: int) -> dict[str, float]:
    """Wall and CPU seconds and peak memory of one process over ``videos`` copies."""
    command = [sys.executable, __file__, "--out", str(out), "--run", str(videos), str(workers)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def one_run(out: Path, videos: int, workers: int) -> None:
    """Preprocesses copies of synthetic videos and prints what it took, as JSON."""
    copies = synthetic_copies(out, videos)
    config = PreprocessConfig(frames_per_video=8, workers=workers)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        start_s = time.perf_counter()
        faces = preprocess(copies, Path(folder) / "faces", config)
        wall_s = time.perf_counter() - start_s
    here, there = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    measured = {
        "wall_s": wall_s,
        "cpu_s": here.ru_utime + here.ru_stime + there.ru_utime + there.ru_stime,
        "worker_mb": there.ru_maxrss / 1024,
        "parent_mb": here.ru_maxrss / 1024,
        "found": float((faces["status"] == "ok").mean()),
    }
    print(json.dumps(measured))


def synthetic_copies(out: Path, count: int) -> pd.DataFrame:
    """A manifest of ``count`` links to the videos of a small synthetic corpus, made once."""
    config = SyntheticConfig(
        ff_train=2,
        ff_val=2,
        ff_test=2,
        celeb_test=2,
        celeb_train=0,
        celeb_youtube=0,
        wild_train=0,
        wild_test=2,
    )
    originals = sorted(write_corpus(config, out / "corpus").rglob("FaceForensics++/**/*.mp4"))
    folder = out / "copies"
    folder.mkdir(exist_ok=True)
    names = [f"{number:04d}.mp4" for number in range(count)]
    for number, name in enumerate(names):
        if not (folder / name).exists():
            (folder / name).hardlink_to(originals[number % len(originals)])
    return pd.DataFrame(
        {
            "dataset": "copies",
            "video": [Path(name).stem for name in names],
            "root": str(folder),
            "path": names,
            "kind": "video",
            "label": 0,
            "method": "real",
            "split": "test",
        }
    )


if __name__ == "__main__":
    main()
