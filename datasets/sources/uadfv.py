"""UADFV: 49 YouTube videos and 49 face swaps made of them.

Paper: Yang, Li and Lyu, "Exposing Deep Fakes Using Inconsistent Head Poses", ICASSP 2019.
Licence: none is published; for research, from the authors.

    <root>/
        real/[videos/]<n>.mp4
        fake/[videos/]<n>_fake.mp4                  the same video with another face

There is no official split: all is test, or is split by video and the fake made of it (``split_seed=0``). Who
is shown is not published, so ``identity`` is missing.
"""

from __future__ import annotations

import re
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
    left_out_note,
    list_files,
)
from unmasked.datasets.tables import TEXT

NAME = "UADFV"
PAPER = "https://arxiv.org/abs/1811.00661"
LICENCE = "none published; research"
REQUEST = "https://arxiv.org/abs/1811.00661"
LAYOUT = "real/0000.mp4 and fake/0000_fake.mp4"

OFFICIAL = {"real": 49, "fake": 49}
_FAKE = re.compile(r"^\d{4}_fake\.", re.IGNORECASE)


def matches(root: Path) -> bool:
    """True if the folder has real videos, and fakes named as in UADFV."""
    fakes = [name for place in _places(root, "fake") for name in list_files(place, VIDEO_SUFFIXES)]
    return (root / "real").is_dir() and bool(fakes) and all(map(_FAKE.match, fakes))


def scan(root: Path, *, split: str | None = "test", notes: list[str] | None = None) -> pd.DataFrame:
    """The manifest of all videos.

    Args:
        root: the folder with real and fake.
        split: of all videos; None leaves it missing.
        notes: where fakes without their real video are counted.

    Raises:
        InputError: there is no video.
    """
    notes = [] if notes is None else notes
    rows = [
        (f"{place.relative_to(root).as_posix()}/{name}", label)
        for label, folder in enumerate(("real", "fake"))
        for place in _places(root, folder)
        for name in list_files(place, VIDEO_SUFFIXES)
    ]
    if not rows:
        raise InputError(f"{root} has no video in real and fake; expected {LAYOUT}")
    videos = pd.DataFrame(rows, columns=["path", "label"]).astype({"path": TEXT})
    stem = videos["path"].str.rsplit("/", n=1).str[-1].str.replace(SUFFIX, "", regex=True)
    target = stem.str.replace(r"_fake$", "", regex=True).where(videos["label"] == 1)
    if orphans := sorted(set(target.dropna()) - set(stem[videos["label"] == 0])):
        notes.append(f"real videos of a fake that are not there: {len(orphans)} ({first_names(orphans)})")
    notes += left_out_note(root, videos["path"], VIDEO_SUFFIXES)
    method = videos["label"].map({0: "real", 1: "FakeApp"})
    return as_manifest(
        videos.assign(kind="video", method=method, split=split, target_video=target), NAME, root
    )


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Videos found by label, against the official number of each."""
    return count_by(manifest["label"].map({0: "real", 1: "fake"}), OFFICIAL)


def _places(root: Path, folder: str) -> tuple[Path, Path]:
    return root / folder, root / folder / "videos"
