"""Celeb-DF v1: 158 celebrity videos, 250 other YouTube videos, 795 face swaps.

The videos show 13 celebrities.
Paper: Li et al., "Celeb-DF: A New Dataset for DeepFake Forensics", arXiv 1909.12962 (its first versions).
Licence: the Celeb-DF terms of use; non-commercial research, on request.

    <root>/
        List_of_testing_videos.txt                          100 of "<1 = real, 0 = fake> <folder>/<name>.mp4"
        Celeb-real/[videos/]id<a>_<n>.mp4                   video n of celebrity a
        Celeb-synthesis/[videos/]id<a>_id<b>_<n>.mp4        the same video with the face of celebrity b
        YouTube-real/[videos/]<n>.mp4                       a person each

The layout is that of version 2, told apart by the length of the test list: 100 videos here, 518 there; with
neither, by a folder name that says v1. Counts by folder are those of the first README of the repository; how
the 100 test videos fall into the folders is not published apart from the list itself.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from unmasked.datasets.listing import Count, count_by
from unmasked.datasets.sources import celeb_df

NAME = "Celeb-DF-v1"
PAPER = celeb_df.PAPER
LICENCE = celeb_df.LICENCE
REQUEST = celeb_df.REQUEST
LAYOUT = f"{celeb_df.LAYOUT} of 100 videos"

OFFICIAL = {"Celeb-real": 158, "YouTube-real": 250, "Celeb-synthesis": 795}
OFFICIAL_TEST = 100


def matches(root: Path) -> bool:
    """True if the folder looks like version 1 of Celeb-DF."""
    return celeb_df.version(root) == 1


def scan(root: Path, *, notes: list[str] | None = None) -> pd.DataFrame:
    """The manifest of all videos in the three folders; arguments as in `celeb_df.scan`."""
    return celeb_df.scan_as(NAME, root, [] if notes is None else notes)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Videos found by folder, and test videos, against the official numbers."""
    found = int((manifest["split"] == "test").sum())
    return [*count_by(celeb_df.folders(manifest), OFFICIAL), Count("test", found, OFFICIAL_TEST)]
