"""DeepFakeDetection (DFD).

363 videos of 28 paid actors, and 3,068 face swaps between them.
Origin: Dufour and Gully, "Contributing Data to Deepfake Detection Research", Google AI blog, September 2019;
there is no paper. Licence: the FaceForensics terms of use, with which it is distributed; on request.

    <root>/                                                                  the tree of FaceForensics++
        original_sequences/actors/{raw,c23,c40}/videos/<actor>__<scene>.mp4
        manipulated_sequences/DeepFakeDetection/{raw,c23,c40}/videos/<target>_<source>__<scene>__<code>.mp4
        manipulated_sequences/DeepFakeDetection/masks/videos/<target>_<source>__<scene>__<code>.mp4

In a tree that holds FaceForensics++ as well, this one is read where asked for: ``source=deepfakedetection``.
There is no official split: all is test, or is split by actor (``split_seed=0``). Since every actor
was swapped with many others, a split by actor leaves out the fakes of two actors from different splits.
"""

from __future__ import annotations

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
from unmasked.datasets.sources import faceforensics
from unmasked.datasets.sources.faceforensics import COMPRESSIONS
from unmasked.datasets.tables import TEXT

NAME = "DeepFakeDetection"
PAPER = "https://blog.research.google/2019/09/contributing-data-to-deepfake-detection.html"
LICENCE = faceforensics.LICENCE
REQUEST = faceforensics.REQUEST
LAYOUT = "original_sequences/actors/{raw,c23,c40}/videos and manipulated_sequences/DeepFakeDetection/…"

REAL, FAKE = "original_sequences/actors", "manipulated_sequences/DeepFakeDetection"
OFFICIAL = {"actors": 363, "DeepFakeDetection": 3068}  # in each compression
_NAME = r"^(?P<target>\d+)(?:_(?P<source>\d+))?__(?P<scene>.+?)(?:__[A-Z0-9]{8})?$"


def matches(root: Path) -> bool:
    """True if the folder holds DeepFakeDetection and not FaceForensics++ as well."""
    return holds(root) and not faceforensics.matches(root)


def holds(root: Path) -> bool:
    """True if the folder holds DeepFakeDetection, perhaps in the tree of FaceForensics++."""
    return (root / REAL).is_dir() or (root / FAKE).is_dir()


def scan(
    root: Path,
    *,
    compression: Sequence[str] | str = (),
    split: str | None = "test",
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """The manifest of the actors' videos and the swaps.

    Args:
        root: the folder with ``original_sequences`` and ``manipulated_sequences``.
        compression: only these of raw, c23, c40; all that are there if empty.
        split: of all videos; None leaves it missing.
        notes: where sentences about missing folders and odd names are appended.

    Raises:
        InputError: a compression is unknown, or there is no video.
    """
    notes = [] if notes is None else notes
    compressions = faceforensics.chosen_names("compression", compression, COMPRESSIONS) or COMPRESSIONS
    rows = [
        (f"{folder}/{level}/videos/{name}", folder, level)
        for folder in (REAL, FAKE)
        for level in compressions
        for name in list_files(root / folder / level / "videos", VIDEO_SUFFIXES)
    ]
    if not rows:
        raise InputError(
            f"{root} has the folders of {NAME} but no video in {', '.join(compressions)}; the videos belong "
            f"in {REAL}/c23/videos and {FAKE}/c23/videos, and are available from {REQUEST}"
        )
    videos = pd.DataFrame(rows, columns=["path", "folder", "compression"], dtype=TEXT)
    notes += [f"folder {folder} is not there" for folder in (REAL, FAKE) if not (root / folder).is_dir()]
    return as_manifest(_rows(root, videos, notes).assign(split=split), NAME, root)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Videos found by compression and folder, against the official number of each."""
    folder = manifest["video"].str.extract(r"_sequences/([^/]+)/")[0]
    levels = [level for level in COMPRESSIONS if (manifest["compression"] == level).any()]
    official = {f"{level} {name}": count for level in levels for name, count in OFFICIAL.items()}
    return count_by(manifest["compression"] + " " + folder, official)


def _rows(root: Path, videos: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    stem = videos["path"].str.rsplit("/", n=1).str[1].str.replace(SUFFIX, "", regex=True)
    is_fake = videos["folder"] == FAKE
    parts = stem.str.extract(_NAME).astype(TEXT)
    odd = parts["target"].isna() | (parts["source"].notna() != is_fake)
    if odd.any():
        notes.append(f"named unlike the others, actors unknown: {int(odd.sum())} ({first_names(stem[odd])})")
    parts = parts.mask(odd)
    masks = {
        f"{FAKE}/masks/videos/{name}" for name in list_files(root / FAKE / "masks/videos", VIDEO_SUFFIXES)
    }
    mask = FAKE + "/masks/videos/" + videos["path"].str.rsplit("/", n=1).str[1]
    return pd.DataFrame(
        {
            "path": videos["path"],
            "kind": "video",
            "label": is_fake.astype("int64"),
            "method": pd.Series("real", videos.index, TEXT).mask(is_fake, NAME),
            "identity": parts["target"],
            "source_video": parts["source"].where(is_fake),  # the actor; which of the videos is not recorded
            "target_video": (parts["target"] + "__" + parts["scene"]).where(is_fake),
            "compression": videos["compression"],
            "mask": mask.where(is_fake & mask.isin(masks)),
        }
    )
