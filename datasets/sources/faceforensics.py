"""FaceForensics++: 1,000 YouTube videos, several manipulations, three compressions.

Paper: Rössler et al., "FaceForensics++: Learning to Detect Manipulated Facial Images", ICCV 2019.
Licence: the FaceForensics terms of use; non-commercial research, on request.

    <root>/
        train.json, val.json, test.json                   pairs of ids, from dataset/splits of the repository
        original_sequences/youtube/{raw,c23,c40}/videos/<id>.mp4
        manipulated_sequences/<method>/{raw,c23,c40}/videos/<target>_<source>.mp4
        manipulated_sequences/<method>/masks/videos/<target>_<source>.mp4        not for FaceShifter
        …/{raw,c23,c40}/{frames,images,faces}/<id or target_source>/*.png        read where videos/ is absent

A pair [a, b] of a split holds the real videos a and b and the fakes a_b and b_a. A split is never guessed:
videos that the split files do not name are left out and reported. The four methods of the paper are read;
FaceShifter, added later, where it is asked for (``methods=[FaceShifter]``, or ``all``). DeepFakeDetection
and its actors, which lie in the same tree, are a source of their own (``source=deepfakedetection``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import (
    SUFFIX,
    VIDEO_SUFFIXES,
    Count,
    as_manifest,
    count_by,
    first_names,
    list_files,
)
from unmasked.datasets.manifest import SPLITS
from unmasked.datasets.tables import TEXT

NAME = "FaceForensics++"
PAPER = "https://arxiv.org/abs/1901.08971"
LICENCE = "FaceForensics terms of use (non-commercial research)"
REQUEST = "https://github.com/ondyari/FaceForensics"
LAYOUT = "original_sequences/youtube/{raw,c23,c40}/videos and manipulated_sequences/<method>/…"

COMPRESSIONS = ("raw", "c23", "c40")
# The four of the benchmark. FaceShifter was added later and is read only where asked for.
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
MORE_METHODS = ("FaceShifter",)
FRAMES = ("frames", "images", "faces")  # of videos that were cut into pictures, a folder each
UNSPLIT = ("manipulated_sequences/DeepFakeDetection", "original_sequences/actors")
_VIDEOS = {"train": 720, "val": 140, "test": 140}
# Videos of each folder and split, in each compression.
OFFICIAL = {
    f"{folder} {split}": count
    for folder in ("youtube", *METHODS, *MORE_METHODS)
    for split, count in _VIDEOS.items()
}


def matches(root: Path) -> bool:
    """True if the folder looks like FaceForensics++."""
    methods = [f"manipulated_sequences/{method}" for method in (*METHODS, *MORE_METHODS)]
    return any((root / folder).is_dir() for folder in ("original_sequences/youtube", *methods))


def scan(
    root: Path,
    *,
    compression: Sequence[str] | str = (),
    methods: Sequence[str] | str = METHODS,
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """The manifest of the videos that the split files name.

    Args:
        root: the folder with ``original_sequences`` and ``manipulated_sequences``.
        compression: only these of raw, c23, c40; all that are there if empty.
        methods: folders of ``manipulated_sequences`` to read; ``all`` is all five.
        notes: where sentences about missing and left-out videos are appended.

    Raises:
        InputError: a method or compression is unknown, a split file is absent, unreadable, or overlaps
            another, or there is no video.
    """
    notes = [] if notes is None else notes
    compressions = chosen_names("compression", compression, COMPRESSIONS) or COMPRESSIONS
    every = (*METHODS, *MORE_METHODS)
    wanted = every if "all" in (methods, *methods) else chosen_names("method", methods, every)
    videos = _videos(root, compressions, wanted)
    if videos.empty:
        raise InputError(
            f"{root} has the folders of {NAME} but no video in {', '.join(compressions)}; the videos belong "
            f"in original_sequences/youtube/c23/videos and the like, and are available from {REQUEST}"
        )
    splits = read_splits(root)
    videos["split"] = videos["stem"].map(splits)
    _report(root, videos, splits, wanted, notes)
    return as_manifest(_rows(root, videos.dropna(subset=["split"])), NAME, root)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Videos found by compression, folder and split, against the official number of each."""
    folder = manifest["video"].str.extract(r"_sequences/([^/]+)/")[0]
    parts = manifest["compression"] + " " + folder + " " + manifest["split"]
    expected = ("youtube", *METHODS, *(method for method in MORE_METHODS if (folder == method).any()))
    official = {
        f"{level} {name} {split}": OFFICIAL[f"{name} {split}"]
        for level in COMPRESSIONS
        if (manifest["compression"] == level).any()
        for name in expected
        for split in SPLITS
    }
    return count_by(parts, official)


def read_splits(root: Path) -> dict[str, str]:
    """The split of each video named in train.json, val.json and test.json.

    Id or target_source -> split.

    Raises:
        InputError: all three are absent, one is not a list of pairs, or an id is in two of them.
    """
    files = {split: _split_file(root, split) for split in SPLITS}
    if not any(files.values()):
        raise InputError(
            f"{root} has no train.json, val.json and test.json, which say what is training and what is test; "
            f"put the three files of dataset/splits from {REQUEST} there"
        )
    split_of: dict[str, str] = {}
    for split, path in files.items():
        for a, b in _pairs(path) if path else []:
            for name in (a, b, f"{a}_{b}", f"{b}_{a}"):
                if split_of.setdefault(name, split) != split:
                    raise InputError(
                        f"{path}: video {name} is also in {split_of[name]}.json, so that training would see "
                        f"test videos; use the three files of dataset/splits from {REQUEST}"
                    )
    return split_of


def chosen_names(what: str, wanted: Sequence[str] | str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The wanted names as a tuple.

    Raises:
        InputError: one of them is not known.
    """
    names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in names:
        if name not in known:
            raise InputError(f"{what} {name!r} is not one of {NAME}; it has {', '.join(known)}")
    return names


def _videos(root: Path, compressions: Sequence[str], methods: Sequence[str]) -> pd.DataFrame:
    folders = ["original_sequences/youtube", *(f"manipulated_sequences/{method}" for method in methods)]
    rows = [
        (f"{folder}/{level}/{name}", folder.rsplit("/", 1)[1], level, kind)
        for folder in folders
        for level in compressions
        for name, kind in _videos_or_frames(root / folder / level)
    ]
    videos = pd.DataFrame(rows, columns=["path", "folder", "compression", "kind"], dtype=TEXT)
    stem = videos["path"].str.rsplit("/", n=1).str[1]
    videos["stem"] = stem.where(videos["kind"] == "sequence", stem.str.replace(SUFFIX, "", regex=True))
    return videos


def _videos_or_frames(folder: Path) -> list[tuple[str, str]]:
    """(path below the folder, kind) of its videos, else of its folders of frames."""
    videos = [(f"videos/{name}", "video") for name in list_files(folder / "videos", VIDEO_SUFFIXES)]
    if videos:
        return videos
    place = next((name for name in FRAMES if (folder / name).is_dir()), None)
    if place is None:
        return []
    return [
        (f"{place}/{each.name}", "sequence") for each in sorted((folder / place).iterdir()) if each.is_dir()
    ]


def _rows(root: Path, videos: pd.DataFrame) -> pd.DataFrame:
    is_real = videos["folder"] == "youtube"
    target, source = (videos["stem"].str.split("_").str[part] for part in (0, 1))
    masks = {
        f"manipulated_sequences/{method}/masks/videos/{name}"
        for method in videos.loc[~is_real, "folder"].unique()
        for name in list_files(root / "manipulated_sequences" / method / "masks" / "videos", VIDEO_SUFFIXES)
    }
    mask = videos["path"].str.replace(r"/(?:raw|c23|c40)/videos/", "/masks/videos/", regex=True)
    return pd.DataFrame(
        {
            "path": videos["path"],
            "kind": videos["kind"],
            "label": (~is_real).astype("int64"),
            "method": videos["folder"].mask(is_real, "real"),
            "split": videos["split"],
            "identity": target,
            "source_video": source.mask(is_real),
            "target_video": target.mask(is_real),
            "compression": videos["compression"],
            "mask": mask.where(mask.isin(masks) & ~is_real),
        }
    )


def _report(
    root: Path, videos: pd.DataFrame, splits: dict[str, str], methods: Sequence[str], notes: list[str]
) -> None:
    outside = videos[videos["split"].isna()]
    for (folder, level), stems in outside.groupby(["folder", "compression"])["stem"]:
        notes.append(f"{level} {folder}, in no split file and left out: {len(stems)} ({first_names(stems)})")
    ids = {name for name in splits if "_" not in name}
    pairs = set(splits) - ids
    for (folder, level), stems in videos.groupby(["folder", "compression"])["stem"]:
        if absent := sorted((ids if folder == "youtube" else pairs) - set(stems)):
            notes.append(
                f"{level} {folder}, in a split file but not there: {len(absent)} ({first_names(absent)})"
            )
    notes += [
        f"{folder} is there and is left out; source=deepfakedetection reads it"
        for folder in UNSPLIT
        if (root / folder).is_dir()
    ]
    for method in (*METHODS, *MORE_METHODS):
        if method not in methods and (root / "manipulated_sequences" / method).is_dir():
            notes.append(f"{method} is there and is left out; methods=[…,{method}] reads it")


def _split_file(root: Path, split: str) -> Path | None:
    places = (root, root / "splits", root / "dataset" / "splits")
    return next((place / f"{split}.json" for place in places if (place / f"{split}.json").is_file()), None)


def _pairs(path: Path) -> list[tuple[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        return [(_id(a), _id(b)) for a, b in content]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path} is not a list of pairs of video ids ({error}); use the file of dataset/splits from "
            f"{REQUEST}"
        ) from error


def _id(value: object) -> str:
    """The id of a video; saved as a number, it has lost its zeros."""
    return f"{value:03d}" if isinstance(value, int) else str(value)
