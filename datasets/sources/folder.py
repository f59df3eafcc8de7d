"""Any folder sorted into real and fake: images, videos, or both.

The shapes of many small public sets (140k real and fake faces, deepfake-and-real-images, …):

    <root>/{real,fake}/…                    one split, ``test`` unless told otherwise
    <root>/{train,val,test}/{real,fake}/…   valid and validation are val; the order of the two is free
    <root>/{training_real,training_fake}/…  (Yonsei's real and fake faces)

`unmasked.datasets.scan` finds all of these under folders that hold one folder each, too
(``real_vs_fake/real-vs-fake/train/real``).

A folder is real if it is called real, original, genuine, authentic or pristine (or ``training_real``), and
fake if it is called fake, manipulated, deepfake, synthetic, generated, altered or forged; case does not
matter. Files in neither, or in both, are left out and reported.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from unmasked.datasets.archives import IMAGE_SUFFIXES
from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import VIDEO_SUFFIXES, Count, as_manifest, count_by, kinds, named, walk_files
from unmasked.datasets.manifest import SPLITS
from unmasked.datasets.tables import TEXT

NAME = "folder"
PAPER = ""
LICENCE = "your own"
REQUEST = ""
LAYOUT = "folders real/ and fake/, optionally in train/, val/ and test/"
OFFICIAL: dict[str, int] = {}

REAL = ("real", "original", "genuine", "authentic", "pristine")
FAKE = ("fake", "manipulated", "deepfake", "synthetic", "generated", "altered", "forged")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def matches(root: Path) -> bool:
    """Whether the folder, or one of its split folders, has both a real and a fake folder."""
    folders = _folders(root)
    splits = [path for path in folders if path.name.lower() in SPLIT_NAMES]
    inside = [path for split in splits for path in _folders(split)]
    labels = {_label(path.name) for path in (*folders, *inside)}
    return {0, 1} <= labels


def scan(
    root: Path,
    *,
    dataset: str = "",
    split: str | None = "test",
    method: str = "fake",
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """The manifest of all images and videos below a real or fake folder.

    Args:
        root: the folder.
        dataset: the dataset's name; that of the folder if empty.
        split: the split of files that are in no split folder; None leaves it missing.
        method: the method of fakes.
        notes: where left-out files are counted.

    Raises:
        InputError: the split is unknown, or no file is in a real or fake folder.
    """
    notes = [] if notes is None else notes
    if split not in (*SPLITS, None):
        raise InputError(f"split {split!r} is unknown; it is one of {', '.join(SPLITS)}")
    paths = pd.Series(walk_files(root, (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)), dtype=TEXT)
    # Thousands of files share a folder: decide by folder, then look the files up.
    folder = paths.str.rpartition("/")[0] if len(paths) else paths
    labels = {name: _label_of_path(name) for name in folder.unique()}
    label = folder.map(labels).astype("float64")
    if not label.notna().any():
        raise InputError(
            f"{root} has no image or video in a folder called real or fake; expected {LAYOUT}, or give a "
            "table with the columns path and label (source=table)"
        )
    if (left := label.isna()).any():
        notes.append(
            f"in neither a real nor a fake folder, left out: {int(left.sum())} ({named(paths[left])})"
        )
    splits = {name: _split_of_path(name, split) for name in labels}
    rows = pd.DataFrame({"path": paths, "kind": kinds(paths), "label": label, "split": folder.map(splits)})
    rows["method"] = pd.Series("real", rows.index, TEXT).mask(label == 1, method)
    return as_manifest(rows[~left], dataset or root.resolve().name, root)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Files found by split and label."""
    words = manifest["label"].map({0: "real", 1: "fake"})
    return count_by(manifest["split"] + " " + words, {})


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _label(folder: str) -> int | None:
    """1 for a name that says fake, 0 for real, None for neither or both."""
    words = {word.removesuffix("s") for word in re.split(r"[^a-z]+", folder.lower())}
    real, fake = bool(words & set(REAL)), bool(words & set(FAKE))
    return int(fake) if real != fake else None


def _label_of_path(folder: str) -> int | None:
    found = {label for part in folder.split("/") if (label := _label(part)) is not None}
    return found.pop() if len(found) == 1 else None


def _split_of_path(folder: str, default: str | None) -> str | None:
    words = [word for part in folder.lower().split("/") for word in re.split(r"[^a-z]+", part)]
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), default)
