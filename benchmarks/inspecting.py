"""What `unmasked inspect` and `unmasked verify` say of odd files, and how long they take.

    python benchmarks/inspecting.py files=FOLDER checkpoint=RUN [performance=RUN] [out=cases] [parts=...]

`files` is a folder with a `manifest.csv` of faces (columns file, kind, label). Parts:

- `odd`: ten real videos, twenty pictures and some twenty made files, a line each: verdict, reasons, seconds;
- `verify`: twenty of these cases again, in other processes with another number of threads; then twenty with
  something changed, a line each, with the word that names it;
- `speed`: a video of 10 s and 720 lines, by stage, beside `preprocess` and `predict` alone in one run.

Exit code 1 where a case is not verified, or a change is not named.
"""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

COMMAND = (sys.executable, "-m", "unmasked.app.cli")
IDENTITY = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
TWO_HOURS_S = 7200
# How a file is looked at -> frames between others at most (None: as it comes), and whether maps are made.
WHOMEVER = "as it comes, but closer at whomever"  # also at people whom their mean calls fake
WAYS = {
    "frames spread evenly": (0, False),
    "as it comes": (None, False),
    WHOMEVER: (None, False),
    "and maps": (None, True),
}
STAGES = ("file_facts", "crop_files", "score_faces", "find_places", "write_maps", "render_case")
Frames = list[np.ndarray]


def write_video(path: Path, frames: Frames, codec: str = "libx264", **options: str) -> None:
    """Frames (H, W, 3) uint8 RGB at 25 a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = (side // 2 * 2 for side in frames[0].shape[:2])
        stream.pix_fmt = options.pop("pix_fmt", "yuv420p")
        stream.codec_context.options = {name.replace("_", "-"): value for name, value in options.items()}
        for frame in frames:
            image = np.ascontiguousarray(frame[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_hdr(path: Path, frames: Frames, transfer: str) -> None:
    """Ten bits, marked as HLG or PQ."""
    said = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:log-level=none"
    write_video(path, frames, "libx265", pix_fmt="yuv420p10le", x265_params=said)


def write_long(path: Path, frames: Frames) -> None:
    """The same packets again and again, for two hours."""
    once = path.with_suffix(".once.mp4")
    write_video(once, frames, bf="0", g=str(len(frames)))
    with av.open(str(once)) as source, av.open(str(path), "w") as target:
        given = source.streams.video[0]
        stream = target.add_stream_from_template(given)
        packets = [packet for packet in source.demux(given) if packet.size]
        step = int(1 / (25 * given.time_base))
        again = [(packet.pts, packet.is_keyframe, bytes(packet)) for packet in packets]
        for turn in range(TWO_HOURS_S * 25 // len(again)):
            for number, (_, is_key, content) in enumerate(again):
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.is_keyframe = stream, given.time_base, is_key
                packet.pts = packet.dts = (turn * len(again) + number) * step
                target.mux(packet)
    once.unlink()


def turn_by_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Puts a display matrix into the track header, as phones do."""
    content = path.read_bytes()
    at = content.index(IDENTITY, content.index(b"tkhd"))
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:at] + matrix + content[at + len(IDENTITY) :])


def read_video(path: Path, count: int = 75) -> Frames:
    """The first frames of a video."""
    with av.open(str(path)) as container:
        frames = zip(range(count), container.decode(video=0), strict=False)
        return [frame.to_ndarray(format="rgb24") for _, frame in frames]


def chosen(files: Path, kind: str, label: str, count: int, seed: int = 0) -> list[Path]:
    """Files of a kind, of as many datasets as there are."""
    with open(files / "manifest.csv", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if (row["kind"], row["label"]) == (kind, label)]
    random.Random(seed).shuffle(rows)  # nosec B311
    by_set: dict[str, list[str]] = {}
    for row in rows:
        by_set.setdefault(row["dataset"], []).append(row["file"])
    taken: list[Path] = []
    while len(taken) < count and any(by_set.values()):
        for names in by_set.values():
            if names and len(taken) < count:
                taken.append(files / names.pop())
    return taken


def make_odd(files: Path, out: Path) -> None:
    """Writes the made files into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    first, second = chosen(files, "video", "0", 8)[1::5][:2]
    one, other = read_video(first), read_video(second)
    photo = Image.open(chosen(files, "image", "0", 1)[0]).convert("RGB")
    write_video(out / "no face.mp4", [np.roll(_clouds(), 3 * number, 1) for number in range(50)])
    cv2.imwrite(str(out / "drawing.png"), _sketch(photo))
    cv2.imwrite(str(out / "cartoon.png"), _cartoon(photo))
    photo.resize((3840, 3840 * photo.height // photo.width)).save(out / "photo 4K.jpg")
    photo.save(out / "photo.avif")
    photo.save(out / "photo strongly compressed.jpg", quality=5)
    photo.resize((photo.width // 6, photo.height // 6)).resize(photo.size).save(out / "photo blurred.png")
    photo.save(out / "photo named video.mp4", format="JPEG")
    try:
        from pillow_heif import from_pillow

        from_pillow(photo).save(out / "photo.heic")
    except ImportError:
        (out / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(2000))
    small = [Image.fromarray(frame) for frame in one[:40:2]]
    small[0].save(out / "animated.gif", save_all=True, append_images=small[1:])
    sides = [[cv2.resize(frame, (480, 480)) for frame in frames] for frames in (one, other)]
    write_video(out / "two people.mp4", [np.hstack(pair) for pair in zip(*sides, strict=False)])
    faces = [
        np.asarray(Image.open(path).convert("RGB").resize((500, 500)))
        for path in chosen(files, "image", "0", 5)[1:]
    ]
    tiled = np.vstack([np.hstack(faces[:2]), np.hstack(faces[2:4])])
    Image.fromarray(tiled).save(out / "four people.png")
    write_video(out / "strongly compressed.mp4", one, crf="48")
    write_video(out / "upright.mp4", one)
    for name, matrix in (("rotated", (0, 1, -1, 0)), ("mirrored", (-1, 0, 0, 1))):
        frames = [np.ascontiguousarray(np.rot90(frame)) for frame in one] if name == "rotated" else one
        write_video(out / f"{name} phone.mp4", frames)
        turn_by_matrix(out / f"{name} phone.mp4", *matrix)
    write_hdr(out / "hdr hlg.mp4", one, "arib-std-b67")
    write_hdr(out / "hdr pq.mp4", one, "smpte2084")
    write_long(out / "two hours.mp4", [cv2.resize(frame, (480, 480)) for frame in one[:50]])
    whole = (out / "upright.mp4").read_bytes()
    (out / "truncated, index lost.mp4").write_bytes(whole[: len(whole) // 2])
    with av.open(str(out / "upright.mp4")) as source, av.open(str(out / "truncated.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    whole = (out / "truncated.mkv").read_bytes()
    (out / "truncated.mkv").write_bytes(whole[: len(whole) // 2])
    (out / "text.mp4").write_text("not a video\n" * 40, encoding="utf-8")
    (out / "empty.mp4").write_bytes(b"")
    with av.open(str(out / "sound only.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


def _clouds() -> np.ndarray:
    grain = np.random.default_rng(0).integers(0, 255, (9, 16, 3), dtype=np.uint8)
    return cv2.resize(grain, (640, 360))


def _sketch(photo: Image.Image) -> np.ndarray:
    """Pencil on paper: lines where the picture changes."""
    grey = cv2.cvtColor(np.asarray(photo), cv2.COLOR_RGB2GRAY)
    return cv2.divide(grey, 255 - cv2.GaussianBlur(255 - grey, (21, 21), 0), scale=256)


def _cartoon(photo: Image.Image) -> np.ndarray:
    """Few flat colours with black lines."""
    pixels = cv2.cvtColor(np.asarray(photo), cv2.COLOR_RGB2BGR)
    flat = cv2.medianBlur(pixels, 9) // 40 * 40 + 20
    lines = cv2.adaptiveThreshold(
        cv2.medianBlur(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), 7),
        255,
        cv2.ADAPTIVE_THRESH_MEAN_C,
        cv2.THRESH_BINARY,
        9,
        3,
    )
    return cv2.bitwise_and(flat, flat, mask=lines)


def examine_all(
    files: list[Path], out: Path, given: dict[str, str]
) -> Iterator[tuple[Path, object, float, float]]:
    """Each file with its case, seconds and processor seconds."""
    from unmasked.app.examiner import load_examiner
    from unmasked.app.verbs.inspect import Config
    from unmasked.inspection.examine import CLOSER, crop_config, examine

    performance = Path(given["performance"]) if "performance" in given else None
    examiner = load_examiner(Path(given["checkpoint"]), performance=performance)
    for file in files:
        began, spent = time.perf_counter(), _processor_s()
        folder = out / file.name
        shutil.rmtree(folder, ignore_errors=True)
        keys = Config(file=file, checkpoint=given["checkpoint"])
        config = crop_config(keys, examiner.card.get("crops") or {}, workers=1)
        (case,) = examine({file: folder}, examiner, config, closer=CLOSER)
        yield file, case, time.perf_counter() - began, _processor_s() - spent


def _processor_s() -> float:
    """Processor seconds of this process, of those that it has started, and of those that have ended."""
    ticks = 0
    for one in _family(os.getpid()):
        with suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [one for child in path.read_text().split() for one in _family(int(child))]
    return found


def odd(files: Path, out: Path, given: dict[str, str]) -> bool:
    """Prints the table of verdicts."""
    made = out / "made"
    if not (made / "sound only.mp4").is_file():
        make_odd(files, made)
    groups = {
        "real video": chosen(files, "video", "0", 10),
        "fake video": chosen(files, "video", "1", 2),
        "real picture": chosen(files, "image", "0", 10),
        "fake picture": chosen(files, "image", "1", 10),
        "made": sorted(made.iterdir()),
    }
    copies = out / "files"
    copies.mkdir(parents=True, exist_ok=True)
    for name, group in groups.items():
        # Under names of their own, for files of two datasets may share one.
        paths = [copies / f"{name} {number:02d}{path.suffix}" for number, path in enumerate(group)]
        if name == "made":
            paths = group
        else:
            for path, copy in zip(group, paths, strict=True):
                shutil.copy(path, copy)
        for file, case, clock_s, spent_s in examine_all(paths, out / "cases", given):
            found = case.finding
            codes = " ".join(dict.fromkeys(one.code for one in found.reasons)) or "–"
            score = "–" if found.score is None else f"{found.score:.2f}"
            print(
                f"{name} | {file.name} | {found.verdict} | {score} | {codes} | {found.people} | "
                f"{case.sampled.frames} | {clock_s:.1f} s | {spent_s:.1f} s",
                flush=True,
            )
    print(f"memory at most: {_memory_gb():.2f} GiB here, {_memory_gb(of_children=True):.2f} in a child")
    return True


def _memory_gb(*, of_children: bool = False) -> float:
    who = resource.RUSAGE_CHILDREN if of_children else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_maxrss / 2**20


def verify(files: Path, out: Path, given: dict[str, str]) -> bool:
    """Prints whether unchanged cases are verified, and whether changes are named."""
    run = Path(given["checkpoint"])
    found = sorted(path.parent for path in (out / "cases").rglob("case.json"))
    scored = [path for path in found if (path / "crops").is_dir()]
    step = max(1, len(scored) // 14)
    again = (scored[::step][:14] + [path for path in found if path not in scored])[:20]
    with ThreadPoolExecutor(2) as two:
        same = sum(two.map(_is_verified, again, range(len(again))))
        print(
            f"unchanged: {same} of {len(again)} verified, each in its own process with 2 or 3 threads",
            flush=True,
        )
        changes = list(CHANGES) * 2
        cases = [scored[(3 * number) % len(scored)] for number in range(len(changes))]
        rooms = [out / f"changed-{number}" for number in range(len(changes))]
        named = sum(two.map(partial(_is_named, run), changes, cases, rooms))
    print(f"changed: {named} of {len(changes)} named with the right word")
    return same == len(again) and named == len(changes)


def _is_verified(case: Path, number: int) -> bool:
    done = _verify(case, threads=2 + number % 2)
    if done.returncode:
        print(f"NOT VERIFIED {case.name}: {done.stdout[-400:]}{done.stderr[-200:]}", flush=True)
    return done.returncode == 0


def _is_named(run: Path, what: str, case: Path, room: Path) -> bool:
    """True if a change of a copy of a case is named with the right word."""
    change, word = CHANGES[what]
    shutil.rmtree(room, ignore_errors=True)
    copy = room / "cases" / case.name
    shutil.copytree(case, copy)
    fields = json.loads((copy / "case.json").read_text(encoding="utf-8"))
    source = (case / fields["source"]["path"]).resolve()
    (room / "files").mkdir()
    shutil.copy(source, room / "files" / source.name)
    shutil.copytree(run, room / "run", ignore=shutil.ignore_patterns("tensorboard", "figures", "explain"))
    file = room / "files" / source.name
    change(copy, file, room / "run")
    keys = [f"checkpoint={room / 'run'}"]
    keys += [f"performance={room / 'run'}"] if fields["run"] else []
    done = _verify(copy, str(file), *keys, threads=1)
    is_right = done.returncode == 1 and f"differs: {word}" in done.stdout
    said = "named" if is_right else "WRONG " + done.stdout[-300:] + done.stderr[-300:]
    print(f"changed: {what}: {said}", flush=True)
    shutil.rmtree(room)
    return is_right


def _verify(case: Path, *arguments: str, threads: int) -> subprocess.CompletedProcess[str]:
    said = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [*COMMAND, "verify", str(case), *arguments]
    return subprocess.run(command, env={**os.environ, **said}, capture_output=True, text=True, check=False)


def _flip(path: Path, place: int = -20) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def _weights(run: Path) -> Path:
    return next(path for path in run.iterdir() if path.stem == "detector" and path.suffix != ".json")


def _edit(case: Path, change: Callable[[dict], object]) -> None:
    fields = json.loads((case / "case.json").read_text(encoding="utf-8"))
    change(fields)
    (case / "case.json").write_text(json.dumps(fields), encoding="utf-8")


# What is changed -> how, by case, file and run; the word that must name it.
CHANGES: dict[str, tuple[Callable[[Path, Path, Path], object], str]] = {
    "a byte of the file": (lambda case, file, run: _flip(file), "input"),
    "a byte of the weights": (lambda case, file, run: _flip(_weights(run), -3000), "weights"),
    "a byte of case.json": (lambda case, file, run: _flip(case / "case.json", 200), "case.json"),
    "the threshold": (
        lambda case, file, run: _edit(case, lambda f: f["thresholds"]["threshold"].update(value=0.99)),
        "case.json",
    ),
    "a crop": (lambda case, file, run: _flip(min((case / "crops").iterdir())), "crops/"),
    "the verdict": (
        lambda case, file, run: _edit(case, lambda f: f["finding"].update(verdict="not judged")),
        "case.json",
    ),
    "the time line": (lambda case, file, run: _flip(case / "timeline.csv"), "timeline.csv"),
    "the page": (lambda case, file, run: _flip(case / "case.html"), "case.html"),
    "the card": (lambda case, file, run: _flip(run / "detector.json"), "card"),
    "a crop taken away": (lambda case, file, run: min((case / "crops").iterdir()).unlink(), "crops/"),
}


def speed(files: Path, out: Path, given: dict[str, str]) -> bool:
    """Prints seconds by stage of a 10 s video with 720 lines, and the ratio to preprocess and predict."""
    import pandas as pd

    from unmasked.app.examiner import load_examiner
    from unmasked.evaluation.predict import predict
    from unmasked.inspection import examine as examining
    from unmasked.inspection import looks
    from unmasked.inspection.maps import draw_maps
    from unmasked.preprocessing.config import PreprocessConfig
    from unmasked.preprocessing.run import preprocess

    video = out / "ten seconds.mp4"
    if not video.is_file():
        frames = read_video(chosen(files, "video", "0", 8)[1], 250)
        turns = [*frames, *frames[::-1]] * (250 // (2 * len(frames)) + 1)
        write_video(video, [_to_720(frame) for frame in turns[:250]])
    performance = Path(given["performance"]) if "performance" in given else None
    examiner = load_examiner(Path(given["checkpoint"]), performance=performance)
    config = PreprocessConfig(faces="all", workers=1)
    rows = [
        {"dataset": "one", "video": "0", "path": video.name, "root": str(video.parent), "kind": "video"}
        | {"label": None, "method": None, "split": "test"}
    ]
    ratios: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(int(given.get("turns", 5))):
        work = out / f"alone-{turn}"
        began = _processor_s()
        faces = preprocess(pd.DataFrame(rows), work, config)
        cropped = _processor_s()
        predict(examiner.model, faces, work, size_px=examiner.card["size_px"], detector="one")
        alone = _processor_s() - began
        shutil.rmtree(work)
        for name, (closer, has_maps) in WAYS.items():
            closer = examining.CLOSER if closer is None else closer
            stages: dict[str, float] = {}
            kept = {stage: getattr(examining, stage) for stage in STAGES}
            spared = looks._not_yet_fake
            one = replace(examiner, draw=partial(draw_maps, examiner.model) if has_maps else None)
            try:
                for stage, function in kept.items():
                    setattr(examining, stage, _timed(stage, function, stages))
                if name == WHOMEVER:
                    looks._not_yet_fake = lambda scored, fitted: scored
                began_again = _processor_s()
                (case,) = examining.examine({video: out / "speed"}, one, config, closer=closer)
                whole = _processor_s() - began_again
            finally:
                looks._not_yet_fake = spared
                for stage, function in kept.items():
                    setattr(examining, stage, function)
            shutil.rmtree(out / "speed")
            ratios[name].append(whole / alone)
            said = ", ".join(f"{stage} {value:.2f}" for stage, value in stages.items())
            rest = whole - sum(stages.values())
            print(
                f"turn {turn}, {name}: alone {alone:.2f} s (faces {cropped - began:.2f}), inspect "
                f"{whole:.2f} s ({said}, rest {rest:.2f}), ratio {whole / alone:.3f}; {case.sampled.between} "
                f"frames between; {case.finding.verdict}",
                flush=True,
            )
    for name, found in ratios.items():
        print(f"ratio, {name}: median of {len(found)}: {np.median(found):.3f} (processor seconds)")
    return True


def _timed(name: str, function: Callable[..., object], stages: dict[str, float]) -> Callable[..., object]:
    def run(*arguments: object, **keys: object) -> object:
        began = _processor_s()
        try:
            found = function(*arguments, **keys)
            return iter(list(found)) if isinstance(found, Iterator) else found  # all of it is timed
        finally:
            stages[name] = stages.get(name, 0.0) + _processor_s() - began

    return run


def _to_720(frame: np.ndarray) -> np.ndarray:
    """1280 x 720, the picture in the middle."""
    scaled = cv2.resize(frame, (frame.shape[1] * 720 // frame.shape[0], 720))[:, :1280]
    left = (1280 - scaled.shape[1]) // 2
    return cv2.copyMakeBorder(scaled, 0, 0, left, 1280 - scaled.shape[1] - left, cv2.BORDER_REPLICATE)


PARTS = {"odd": odd, "verify": verify, "speed": speed}


def main() -> int:
    """Runs the parts that were asked for."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    out = Path(given.get("out", "inspecting"))
    out.mkdir(parents=True, exist_ok=True)
    asked = given.get("parts", ",".join(PARTS)).split(",")
    done = [PARTS[part](Path(given["files"]), out, given) for part in asked]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
