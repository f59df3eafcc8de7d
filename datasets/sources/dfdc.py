"""DFDC: the Deepfake Detection Challenge.

It has 119,154 training clips, 4,000 validation clips and 5,000 test clips.
Paper: Dolhansky et al., "The DeepFake Detection Challenge (DFDC) Dataset", arXiv 2006.07397.
Licence: the DFDC terms of use; on request, with an AWS account for the download.

    <root>/
        [train/]dfdc_train_part_<0..49>/{metadata.json, <name>.mp4}
        validation/{labels.csv, <name>.mp4}
        test/{metadata.json or labels.csv, <name>.mp4 or videos/<name>.mp4}
        train_sample_videos/{metadata.json, <name>.mp4}      Kaggle's 400, read where no part is there

    metadata.json   {"<name>.mp4": {"label": "FAKE", "split": "train", "original": "<name>.mp4"}}, in test
                    {"<name>.mp4": {"is_fake": 1, …}}
    labels.csv      filename,label (1 = fake)

The folder decides the split. Names are ten random letters and say nothing; who is shown is not published, so
``identity`` is missing. ``target_video`` is the original that a training fake was made of. Videos that the
labels do not name, or name and the disk lacks, are left out and reported. The paper gives the sizes of train
(119,154 clips, 100,000 of them fake) and validation; test is the 5,000 clips of the release, which are half
of the 10,000 that the challenge was decided on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from unmasked.datasets.tables import TEXT, read_frame

NAME = "DFDC"
PAPER = "https://arxiv.org/abs/2006.07397"
LICENCE = "DFDC terms of use"
REQUEST = "https://ai.meta.com/datasets/dfdc/"
LAYOUT = "dfdc_train_part_<n>/metadata.json, and test/ with metadata.json or labels.csv"

OFFICIAL = {"train": 119_154, "val": 4_000, "test": 5_000}
SAMPLE = "train_sample_videos"
_PART = re.compile(r"^dfdc_train_part_\d+$", re.IGNORECASE)
_SPLITS = {"validation": "val", "val": "val", "test": "test"}
_LABELS = {"fake": 1, "real": 0, "1": 1, "0": 0, "1.0": 1, "0.0": 0}


def matches(root: Path) -> bool:
    """True if the folder holds a training part, the sample, or a test folder with labels."""
    return any(True for _ in _folders(root))


def scan(root: Path, *, notes: list[str] | None = None) -> pd.DataFrame:
    """The manifest of all clips with a label.

    Args:
        root: the folder with train, validation and test, or with the parts themselves.
        notes: where absent and unlabelled clips are counted.

    Raises:
        InputError: there is no clip with a label, or a label is not understood.
    """
    notes = [] if notes is None else notes
    clips = [_clips(root, folder, split, notes) for folder, split in _folders(root)]
    rows = pd.concat(clips, ignore_index=True)
    if rows.empty:
        raise InputError(
            f"{root} has the folders of {NAME} but no video that their labels name; unpack the .zip files so "
            f"that dfdc_train_part_0/metadata.json lies beside its videos; they are available from {REQUEST}"
        )
    twice = (
        rows.assign(is_test=rows["split"] != "test").sort_values("is_test", kind="stable").duplicated("stem")
    )
    if (twice := twice.reindex(rows.index)).any():
        notes.append(
            f"of a name that is there already, left out (test is kept): {int(twice.sum())} "
            f"({first_names(rows.loc[twice, 'path'])})"
        )
    parts = {int(name) for name in rows["path"].str.extract(r"dfdc_train_part_(\d+)/")[0].dropna().unique()}
    if parts and (absent := sorted({*range(50)} - parts)):
        notes.append(
            f"training parts that are not there: {len(absent)} of 50 ({first_names(map(str, absent))})"
        )
    return as_manifest(rows[~twice].drop(columns="stem"), NAME, root)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Clips found by split, against the official number of each."""
    official = {f"{split} clips": count for split, count in OFFICIAL.items()}
    return count_by(manifest["split"] + " clips", official)


def _folders(root: Path) -> Iterator[tuple[Path, str]]:
    """Each folder with labels, and its split."""
    inside = sorted(path for base in (root, root / "train") if base.is_dir() for path in base.iterdir())
    # A part that was unpacked into a folder of its own name lies one deeper.
    parts = [where for path in inside if _PART.match(path.name) for where in (path, path / path.name)]
    parts = [path for path in parts if (path / "metadata.json").is_file()]
    yield from ((path, "train") for path in parts)
    if not parts and (root / SAMPLE / "metadata.json").is_file():
        yield root / SAMPLE, "train"
    for name, split in _SPLITS.items():
        if _label_file(root / name) is not None:
            yield root / name, split


def _label_file(folder: Path) -> Path | None:
    """The labels of a folder: metadata.json, else labels.csv."""
    if (folder / "metadata.json").is_file():
        return folder / "metadata.json"
    path = folder / "labels.csv"
    if not path.is_file():
        return None
    with open(path, encoding="utf-8-sig", errors="replace") as stream:
        return path if stream.readline().replace(" ", "").startswith("filename,label") else None


def _clips(root: Path, folder: Path, split: str, notes: list[str]) -> pd.DataFrame:
    path = _label_file(folder)
    assert path is not None
    labels = _read_labels(path)
    place = next(
        (where for where in (folder, folder / "videos") if list_files(where, VIDEO_SUFFIXES)), folder
    )
    names = pd.Series(list_files(place, VIDEO_SUFFIXES), dtype=TEXT)
    relative = folder.relative_to(root).as_posix()
    if unlabelled := [name for name in names if name not in labels]:
        notes.append(
            f"{relative}: not in {path.name}, left out: {len(unlabelled)} ({first_names(unlabelled)})"
        )
    if absent := sorted(set(labels) - set(names)):
        notes.append(f"{relative}: in {path.name} but not there: {len(absent)} ({first_names(absent)})")
    names = names[names.isin(list(labels))].reset_index(drop=True)
    label = pd.Series([labels[name][0] for name in names], dtype="int64")
    original = pd.Series([labels[name][1] for name in names], dtype=TEXT).str.replace(SUFFIX, "", regex=True)
    return pd.DataFrame(
        {
            "path": place.relative_to(root).as_posix() + "/" + names,
            "stem": names.str.replace(SUFFIX, "", regex=True),
            "kind": "video",
            "label": label,
            "method": label.map({0: "real", 1: NAME}).astype(TEXT),
            "split": split,
            "target_video": original.where(label == 1),
        }
    )


def _read_labels(path: Path) -> dict[str, tuple[int, str | None]]:
    """File name -> label, 1 = fake, and the original's file name where it is told."""
    if path.suffix == ".csv":
        table = read_frame(path, text=("filename", "label"))
        if not {"filename", "label"} <= set(table):
            raise InputError(f"{path} has the columns {', '.join(table)}; it needs filename and label")
        entries = {
            name: {"label": label} for name, label in zip(table["filename"], table["label"], strict=True)
        }
    else:
        try:
            entries = json.loads(path.read_text(encoding="utf-8-sig"))
            entries = {name: dict(entry) for name, entry in entries.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} is not an object of file names and their labels ({error}); use the one of {REQUEST}"
            ) from error
    return {name: (_label(entry, name, path), entry.get("original")) for name, entry in entries.items()}


def _label(entry: dict[str, Any], name: str, path: Path) -> int:
    stated = entry.get("label", entry.get("is_fake"))
    label = _LABELS.get(str(stated).lower())
    if label is None:
        raise InputError(f"{path} calls {name} {stated!r}; it must be REAL or FAKE, or is_fake 0 or 1")
    return label
