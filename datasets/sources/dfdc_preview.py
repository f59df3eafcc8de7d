"""DFDC preview: 5,244 clips of paid actors, real and swapped by two methods.

Paper: Dolhansky et al., "The Deepfake Detection Challenge (DFDC) Preview Dataset", arXiv 1910.08854.
Licence: the DFDC terms of use; on request.

    <root>/
        dataset.json        {"<path below root>": {"label": "fake", "set": "train", "target_id": 1003254,
                             "swapped_id": 1255229, "augmentations": […]}}
        original_videos/<actor>/<actor>_<scene>_<n>.mp4
        method_A/<actor>/<actor>_<scene>/<swapped>_<actor>_<scene>_<n>.mp4        and method_B

``set`` is the official split into train and test; there is no validation split. ``identity`` is the actor of
the clip, ``source_video`` the actor whose face was put in, ``target_video`` the original clip. Counts by
label are those of the Celeb-DF paper (1,131 real, 4,113 fake), by split those of this set's own paper
(4,464 train, 780 test); both add up to 5,244, while the abstract rounds to 5,000 and a table says 5,214.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import VIDEO_SUFFIXES, Count, as_manifest, count_by, first_names, left_out_note
from unmasked.datasets.tables import TEXT

NAME = "DFDC-preview"
PAPER = "https://arxiv.org/abs/1910.08854"
LICENCE = "DFDC terms of use"
REQUEST = "https://ai.meta.com/datasets/dfdc/"
LAYOUT = "dataset.json, original_videos, method_A and method_B"

FOLDERS = {"original_videos": 0, "method_A": 1, "method_B": 1}  # folder -> label
OFFICIAL = {"real": 1131, "fake": 4113}
OFFICIAL_SPLIT = {"train": 4464, "test": 780}
_CLIP = r"/(?:(?P<swapped>\d+)_)?(?P<clip>(?P<actor>\d+)_[A-Za-z]+_[^/]+?)\.[^./]+$"


def matches(root: Path) -> bool:
    """True if the folder looks like the DFDC preview."""
    return any((root / name).is_dir() for name in ("method_A", "method_B")) and (
        (root / "dataset.json").is_file() or (root / "original_videos").is_dir()
    )


def scan(root: Path, *, notes: list[str] | None = None) -> pd.DataFrame:
    """The manifest of the clips that dataset.json names.

    Args:
        root: the folder with dataset.json.
        notes: where absent and unlisted clips are counted.

    Raises:
        InputError: dataset.json is absent, damaged, contradicts the folders, or names no clip that is there.
    """
    notes = [] if notes is None else notes
    listed = _read_list(root)
    there = listed["path"].map(lambda path: (root / path).is_file()).to_numpy(dtype=bool)
    if not there.any():
        raise InputError(
            f"none of the {len(listed)} clips that {root / 'dataset.json'} lists is there; original_videos, "
            f"method_A and method_B belong beside it, and are available from {REQUEST}"
        )
    if (~there).any():
        absent = listed.loc[~there, "path"]
        notes.append(f"in dataset.json but not there: {len(absent)} ({first_names(absent)})")
    notes += left_out_note(root, listed["path"], VIDEO_SUFFIXES)
    return as_manifest(_rows(listed[there]), NAME, root)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Clips found by label, then by split, against the official numbers."""
    words = manifest["label"].map({0: "real", 1: "fake"})
    return [*count_by(words, OFFICIAL), *count_by(manifest["split"], OFFICIAL_SPLIT)]


def _read_list(root: Path) -> pd.DataFrame:
    path = root / "dataset.json"
    if not path.is_file():
        raise InputError(
            f"{root} has no dataset.json, which says what is training and what is test; it comes with the "
            f"clips, from {REQUEST}"
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
        rows = [_entry(name, entry) for name, entry in entries.items()]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"{path} is not the list of clips ({error!r}); use the one of {REQUEST}") from error
    listed = pd.DataFrame(rows, columns=["path", "label", "split", "swapped"]).astype({"path": TEXT})
    expected = listed["path"].str.split("/").str[0].map(FOLDERS)
    wrong = (listed["label"] != expected) | ~listed["split"].isin(["train", "val", "test"])
    if wrong.any():
        row = listed[wrong].iloc[0]
        raise InputError(
            f"{path}: {row['path']} is {'fake' if row['label'] else 'real'} in set {row['split']!r}; "
            "original_videos is real, method_A and method_B are fake, and set is train or test"
        )
    return listed


def _entry(name: str, entry: dict[str, Any]) -> tuple[str, int, str, str | None]:
    swapped = entry.get("swapped_id")
    label = {"real": 0, "fake": 1}[str(entry["label"]).strip().lower()]
    split = str(entry["set"]).strip().lower()
    return name.replace("\\", "/"), label, split, None if swapped in (None, "") else str(swapped)


def _rows(listed: pd.DataFrame) -> pd.DataFrame:
    is_fake = listed["label"] == 1
    folder, actor = (listed["path"].str.split("/").str[part] for part in (0, 1))
    name = listed["path"].str.extract(_CLIP).astype(TEXT)
    # The actor has a folder; a fake's name says as well whose face was put in, if dataset.json does not.
    swapped = listed["swapped"].astype(TEXT).fillna(name["swapped"])
    return pd.DataFrame(
        {
            "path": listed["path"],
            "kind": "video",
            "label": listed["label"].astype("int64"),
            "method": pd.Series(np.where(is_fake, folder, "real"), listed.index, TEXT),
            "split": listed["split"],
            "identity": actor,
            "source_video": swapped.where(is_fake),  # the actor; which of the clips is not recorded
            "target_video": name["clip"].where(is_fake),
        }
    )
