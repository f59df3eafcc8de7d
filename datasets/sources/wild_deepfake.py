"""WildDeepfake: 7,314 face sequences from 707 videos found on the internet.

Paper: Zi et al., "WildDeepfake: A Challenging Real-World Dataset for Deepfake Detection", ACM MM 2020.
Licence: research only, after signing the agreement form.

    <root>/{real,fake}_{train,test}/<n>.tar.gz              folders of PNG files inside: a face sequence each
    ("real train" in the README, real_train in the release: both are read)

A file's name is the frame's number in its video. Faces are cropped already. The archives are read in place
(``<archive>!<folder>``); folders that were unpacked beside them are read as well, and preferred. An archive
that cannot be trusted is refused and reported, and the rest is read. Who is shown is not published, so
``identity`` is missing, and so is the method: fakes carry the dataset's name.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from unmasked.datasets.archives import (
    ARCHIVE_SUFFIXES,
    IMAGE_SUFFIXES,
    ArchiveError,
    sequence_members,
)
from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import Count, as_manifest, count_by, walk_files
from unmasked.datasets.tables import TEXT

NAME = "WildDeepfake"
PAPER = "https://arxiv.org/abs/2101.01456"
LICENCE = "research only, agreement form"
REQUEST = "https://github.com/OpenTAI/wild-deepfake"
LAYOUT = "{real,fake}_{train,test}/*.tar.gz of image folders"

# The authors publish the total; the parts are what others count in the release, and add up to it.
OFFICIAL = {"real train": 3409, "real test": 396, "fake train": 3099, "fake test": 410}

_FOLDER = re.compile(r"^(?P<label>real|fake)[_\- ](?P<split>train|test)$", re.IGNORECASE)


def matches(root: Path) -> bool:
    """True if the folder looks like WildDeepfake."""
    return bool(_folders(root))


def scan(root: Path, *, notes: list[str] | None = None) -> pd.DataFrame:
    """The manifest of all face sequences, a row each, kind ``sequence``.

    Args:
        root: the folder with real_train, real_test, fake_train and fake_test.
        notes: where refused archives and missing folders are named.

    Raises:
        InputError: not one sequence can be read.
    """
    notes = [] if notes is None else notes
    folders = _folders(root)
    frames = [_unpacked_rows(root, folder, split, label) for folder, split, label in folders]
    frames += [_archived_rows(root, folder, split, label, notes) for folder, split, label in folders]
    sequences = pd.concat(frames, ignore_index=True)
    if sequences.empty:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(
            f"{root} has the folders of {NAME} but no image sequence that can be read{reasons}; "
            f"real_train/0.tar.gz and the like are available from {REQUEST}"
        )
    twice = sequences.duplicated("video")
    if twice.any():
        notes.append(
            f"archived and unpacked as well, the unpacked ones are read: {int(twice.sum())} sequences"
        )
    there = {(split, label) for _, split, label in folders}
    absent = [
        f"{word}_{split}"
        for label, word in ((0, "real"), (1, "fake"))
        for split in ("train", "test")
        if (split, label) not in there
    ]
    notes += [f"folder {name} is not there" for name in absent]
    return as_manifest(sequences[~twice].assign(kind="sequence"), NAME, root)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Sequences found by label and split, against the official number of each."""
    words = manifest["label"].map({0: "real", 1: "fake"})
    return count_by(words + " " + manifest["split"], OFFICIAL)


def _folders(root: Path) -> list[tuple[str, str, int]]:
    """(folder name, split, label) of each."""
    found = ((path.name, _FOLDER.match(path.name)) for path in sorted(root.iterdir()) if path.is_dir())
    return [
        (name, match["split"].lower(), int(match["label"].lower() == "fake"))
        for name, match in found
        if match
    ]


def _unpacked_rows(root: Path, folder: str, split: str, label: int) -> pd.DataFrame:
    images = pd.Series(walk_files(root / folder, IMAGE_SUFFIXES), dtype=TEXT)
    inside = images.str.rpartition("/")[0].drop_duplicates() if len(images) else images
    paths = (folder + "/" + inside).str.rstrip("/")
    return _rows(paths, paths, split, label)


def _archived_rows(root: Path, folder: str, split: str, label: int, notes: list[str]) -> pd.DataFrame:
    paths, videos = [], []
    for archive in walk_files(root / folder, ARCHIVE_SUFFIXES):
        try:
            inside = list(sequence_members(root / folder / archive))
        except ArchiveError as error:
            notes.append(str(error))
            continue
        if not inside:
            notes.append(f"archive {root / folder / archive} holds no image")
        stem = re.sub(r"\.(tar\.gz|tgz|tar)$", "", archive, flags=re.IGNORECASE)
        # An archive n.tar.gz that holds n/… unpacks to n/…: the sequence has one name either way.
        own = stem.rsplit("/", 1)[-1]
        nested = all(name == own or name.startswith(f"{own}/") for name in inside)
        base = f"{folder}/{stem}"[: -len(own) - 1] if nested else f"{folder}/{stem}"
        paths += [f"{folder}/{archive}!{name}" for name in inside]
        videos += [f"{base}/{name}".removesuffix("/.") for name in inside]
    return _rows(pd.Series(paths, dtype=TEXT), pd.Series(videos, dtype=TEXT), split, label)


def _rows(paths: pd.Series, videos: pd.Series, split: str, label: int) -> pd.DataFrame:
    method = NAME if label else "real"
    return pd.DataFrame({"path": paths, "video": videos, "label": label, "method": method, "split": split})
