"""AI-Face: 1.6 million real and generated face images with predicted demographics.

Version 2; version 1 is read as well.
Paper: Lin et al., "AI-Face: A Million-Scale Demographically Annotated AI-Generated Face Dataset and Fairness
Benchmark", CVPR 2025.
Licence: CC BY-NC-ND 4.0, annotations on request with a signed agreement.

    <root>/
        train.csv, test.csv                 one row an image: path, label (1 = fake), demographics
        AI_Face_imagesV2/…                  the images, wherever the paths of the CSV files lead

The split is that of the file's name; there is no validation split. v2 annotates skin tone (Monk scale), v1
race. Images that the CSV files list and the disk lacks are left out and reported, and so are images that no
CSV file lists; images that are fake by the CSV file and lie in a folder called real are kept as listed, and
counted. Most images are of a person each; frames of videos carry the video's identity.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from unmasked.datasets.annotations import read_annotations
from unmasked.datasets.archives import IMAGE_SUFFIXES
from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import Count, as_manifest, count_by, first_names, list_files, walk_files
from unmasked.datasets.manifest import DEMOGRAPHICS, SPLITS
from unmasked.datasets.tables import HEADER_ROWS, TEXT

NAME = "AI-Face"
PAPER = "https://arxiv.org/abs/2406.00783"
LICENCE = "CC BY-NC-ND 4.0, on request"
REQUEST = "https://github.com/Purdue-M2/AI-Face-FairnessBench"
LAYOUT = "train.csv and test.csv with a column 'Image Path', and the images"

OFFICIAL = {
    "AI-Face v2 real": 400_885,
    "AI-Face v2 fake": 1_245_660,
    "AI-Face v1 real": 866_096,
    "AI-Face v1 fake": 1_245_660,
}
# The code book is known by a column that only its version has.
_VERSIONS = {"Skin Tone": "ai_face_v2", "Ground Truth Race": "ai_face_v1"}
# Folders of the video sets that frames were taken from, by the key that annotations give them.
_METHODS = {
    name.lower(): name
    for name in (
        "Deepfakes",
        "Face2Face",
        "FaceSwap",
        "NeuralTextures",
        "FaceShifter",
        "DeepFakeDetection",
        "Celeb-synthesis",
    )
}
_REAL_VIDEOS = ("youtube", "actors", "celeb-real")
_FAMILY = r"(?:^|/)(?:deepfakes|GANs|DMs)/(?P<method>[^/]+)/"


def matches(root: Path) -> bool:
    """True if the folder holds annotation files of AI-Face."""
    return bool(_annotation_files(root))


def scan(root: Path, *, notes: list[str] | None = None) -> pd.DataFrame:
    """The manifest of all annotated images, demographics included.

    Args:
        root: the folder with train.csv and test.csv, and the images below it.
        notes: where absent and repeated images are counted.

    Raises:
        InputError: a file's name says no split, a code is unknown, the intersection column contradicts the
            others, or no listed image is there.
    """
    notes = [] if notes is None else notes
    rows = pd.concat(
        [_read_annotated(path, book) for path, book in _annotation_files(root)], ignore_index=True
    )
    on_disk = walk_files(root, IMAGE_SUFFIXES)
    rows["path"] = _found_paths(rows["path"], on_disk)
    absent = rows["path"].isna()
    if absent.all():
        raise InputError(
            f"none of the {len(rows)} images that the CSV files in {root} list is there (the first is "
            f"{rows['listed'].iloc[0]!r}); unpack the images below {root}: they are available from {REQUEST}"
        )
    if absent.any():
        notes.append(f"listed but not there: {int(absent.sum())} ({first_names(rows.loc[absent, 'listed'])})")
    rows = _keep_once(rows[~absent], notes)
    if len(rows) < len(on_disk):
        extra = sorted(set(on_disk) - set(rows["path"]))
        notes.append(f"images in no CSV file, left out: {len(extra)} ({first_names(extra)})")
    odd = rows["path"].str.contains(r"(?:^|/)real/", case=False) & (rows["label"] == 1)
    if odd.any():
        notes.append(
            f"fake by the CSV file, in a folder called real: {int(odd.sum())} "
            f"({first_names(rows.loc[odd, 'path'])}); ask the authors which is right"
        )
    return as_manifest(_manifest_rows(rows), NAME, root)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Images found by version and label, against the official numbers, then by split."""
    part = manifest["annotation"] + " " + np.where(manifest["label"] == 1, "fake", "real")
    versions = manifest["annotation"].unique()
    official = {name: count for name, count in OFFICIAL.items() if name.rsplit(" ", 1)[0] in versions}
    return [*count_by(part, official), *count_by(manifest["split"], {})]


def _annotation_files(root: Path) -> list[tuple[Path, str]]:
    """The CSV files at the root, or in its folder ``dataset``, with the name of their code book."""
    found = []
    for folder in (root, root / "dataset"):
        for name in list_files(folder, (".csv",)):
            try:
                header = set(pd.read_csv(folder / name, nrows=0).columns)
            except (ValueError, OSError):
                continue  # not a table of ours; reading it is not asked for
            book = next((book for column, book in _VERSIONS.items() if column in header), None)
            if book and "Image Path" in header:
                found.append((folder / name, book))
    return found


def _read_annotated(path: Path, book: str) -> pd.DataFrame:
    split = next((split for split in SPLITS if split in path.stem.lower()), None)
    if split is None:
        raise InputError(
            f"{path} has no split in its name; call it train.csv, val.csv or test.csv, as published"
        )
    rows = read_annotations(path, book)
    if rows["label"].isna().any():
        row = HEADER_ROWS + int(np.flatnonzero(rows["label"].isna())[0])
        raise InputError(f"{path}: column 'Target' is empty in row {row}; it must be 0 (real) or 1 (fake)")
    return rows.assign(split=split, listed=rows["path"])


def _found_paths(listed: pd.Series, on_disk: list[str]) -> pd.Series:
    """The path below the root of each listed image, missing where there is none.

    The paths are relative to a folder that only their authors have: as many leading folders are dropped
    from all of them as makes the most match.
    """
    there = pd.Index(on_disk)
    best, tail = listed.where(listed.isin(there)), listed
    while tail.str.contains("/").any() and best.notna().sum() < len(listed):
        tail = tail.str.replace(r"^[^/]*/+", "", regex=True)
        candidate = tail.where(tail.isin(there))
        if candidate.notna().sum() > best.notna().sum():
            best = candidate
    return best


def _keep_once(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Each image once; one that is in several splits stays in test, so that no test image is trained on."""
    order = rows["split"].map({"test": 0, "val": 1, "train": 2})
    repeated = (
        rows.assign(order=order).sort_values("order", kind="stable").duplicated("path").reindex(rows.index)
    )
    if repeated.any():
        notes.append(f"rows that repeat an image, kept once and in test if there: {int(repeated.sum())}")
    return rows[~repeated]


def _manifest_rows(rows: pd.DataFrame) -> pd.DataFrame:
    family = rows["path"].str.extract(_FAMILY)["method"]
    key = rows["key"].str.rsplit("/", n=1)
    folder, video = key.str[0], key.str[1]
    # A fake in a folder of real videos has none of their methods, and a family is not one.
    method = folder.map(_METHODS).fillna(family.mask(folder.isin(_REAL_VIDEOS))).fillna("fake")
    of_video = folder.isin([*_METHODS, *_REAL_VIDEOS])
    return pd.DataFrame(
        {
            "path": rows["path"],
            "kind": "image",
            "label": rows["label"].astype("int64"),
            "method": method.mask(rows["label"] == 0, "real"),
            "split": rows["split"],
            "identity": video.str.split("_").str[0].where(of_video),
            **{attribute: rows[attribute] for attribute in DEMOGRAPHICS},
            "annotation": rows["annotation"].astype(TEXT),
        }
    )
