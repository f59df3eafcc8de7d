"""FaceForensics++ as it was repacked on Kaggle (c23).

A folder for each method, and no split files.
Paper: Rössler et al., "FaceForensics++: Learning to Detect Manipulated Facial Images", ICCV 2019.
Licence: the FaceForensics terms of use; non-commercial research, on request. The repack is not the authors'.

    <root>/                                             FaceForensics++_C23
        original/<id>.mp4
        {Deepfakes,Face2Face,FaceSwap,NeuralTextures,FaceShifter}/<target>_<source>.mp4
        DeepFakeDetection/<target>_<source>__<scene>__<code>.mp4
        csv/                                            lists of the repacker, not read

The official split is taken from train.json, val.json and test.json (dataset/splits of the repository) where
these are put at the root; without them it is not known, and all is test or is split by shares. The originals
of DeepFakeDetection are not in the repack: its fakes are left out and counted, unless ``methods`` names it.
"""

from __future__ import annotations

import re
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
from unmasked.datasets.sources import deepfakedetection, faceforensics
from unmasked.datasets.tables import TEXT

NAME = "FaceForensics++ repacked"
PAPER = faceforensics.PAPER
LICENCE = faceforensics.LICENCE
REQUEST = faceforensics.REQUEST
LAYOUT = "original, Deepfakes, Face2Face, FaceSwap, NeuralTextures side by side, with videos in each"

METHODS = (*faceforensics.METHODS, *faceforensics.MORE_METHODS)
DFD = "DeepFakeDetection"
OFFICIAL = dict.fromkeys(("original", *METHODS), 1000)
_LEVEL = re.compile(r"(?:^|[^a-z0-9])(raw|c23|c40)(?:[^a-z0-9]|$)", re.IGNORECASE)


def matches(root: Path) -> bool:
    """True if originals and at least two methods lie side by side with videos in them."""
    present = [name for name in METHODS if list_files(root / name, VIDEO_SUFFIXES)]
    return (root / "original").is_dir() and len(present) >= 2


def scan(
    root: Path,
    *,
    methods: Sequence[str] | str = METHODS,
    split: str | None = "test",
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """The manifest of the originals and the fakes of each method.

    Args:
        root: the folder with ``original`` and the methods.
        methods: folders to read; ``all`` takes DeepFakeDetection as well.
        split: of all videos where no split files are there; None leaves it missing.
        notes: where sentences about missing and left-out videos are appended.

    Raises:
        InputError: a method is unknown, a split file is damaged, or there is no video.
    """
    notes = [] if notes is None else notes
    every = (*METHODS, DFD)
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    names = every if "all" in names else names
    if unknown := [name for name in names if name not in every]:
        raise InputError(f"method {unknown[0]!r} is not one of {NAME}; it has all, {', '.join(every)}")
    rows = [
        (f"{folder}/{name}", folder)
        for folder in ("original", *names)
        for name in list_files(root / folder, VIDEO_SUFFIXES)
    ]
    if not rows:
        raise InputError(f"{root} has the folders of {NAME} but no video in {', '.join(names)}")
    videos = pd.DataFrame(rows, columns=["path", "folder"], dtype=TEXT)
    if DFD not in names and (count := len(list_files(root / DFD, VIDEO_SUFFIXES))):
        notes.append(
            f"{DFD} is there, without its originals, and is left out: {count}; methods=[all] reads it"
        )
    manifest = _rows(videos)
    manifest["split"] = _splits(root, manifest, split, notes)
    found = _LEVEL.search(root.resolve().name)
    manifest["compression"] = pd.Series(found[1].lower() if found else pd.NA, manifest.index, dtype=TEXT)
    return as_manifest(manifest.drop(columns="stem"), faceforensics.NAME, root)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Videos found by folder, against the official number of each."""
    folder = manifest["video"].str.split("/").str[0]
    return count_by(folder, {name: count for name, count in OFFICIAL.items() if (folder == name).any()})


def _rows(videos: pd.DataFrame) -> pd.DataFrame:
    stem = videos["path"].str.rsplit("/", n=1).str[1].str.replace(SUFFIX, "", regex=True)
    is_real, is_dfd = videos["folder"] == "original", videos["folder"] == DFD
    ids = stem.str.extract(r"^(?P<target>\d{3})(?:_(?P<source>\d{3}))?$").astype(TEXT)
    actors = stem.str.extract(deepfakedetection._NAME).astype(TEXT)
    target = ids["target"].mask(is_dfd, "actor_" + actors["target"])
    source = ids["source"].mask(is_dfd, "actor_" + actors["source"])
    return pd.DataFrame(
        {
            "path": videos["path"],
            "stem": stem,
            "kind": "video",
            "label": (~is_real).astype("int64"),
            "method": videos["folder"].mask(is_real, "real"),
            "identity": target,
            "source_video": source.mask(is_real),
            "target_video": target.mask(is_real | is_dfd),
        }
    )


def _splits(root: Path, rows: pd.DataFrame, split: str | None, notes: list[str]) -> pd.Series:
    if not any((root / f"{name}.json").is_file() for name in SPLITS):
        notes.append(
            "no train.json, val.json and test.json is there: the official split is not known; they are in "
            f"dataset/splits of {REQUEST}, and belong into {root.name}"
        )
        return pd.Series(split, rows.index, dtype=TEXT)
    known = faceforensics.read_splits(root)
    found = rows["stem"].map(known).astype(TEXT)
    if (outside := found.isna()).any():
        notes.append(
            f"in no split file, so in the split of what nothing says: {int(outside.sum())} "
            f"({first_names(rows.loc[outside, 'path'])})"
        )
    return found.fillna(split) if split else found
