"""Celeb-DF++: the reals of Celeb-DF v2, and fakes of 22 methods in three scenarios.

Paper: Li et al., "Celeb-DF++: A Large-scale Challenging Video DeepFake Benchmark for Generalizable
Forensics", arXiv 2507.18015. Licence: the Celeb-DF terms of use; non-commercial research, on request.

    <root>/
        List_of_testing_videos.txt                  "<1 = real, 0 = fake> <path below the root>.mp4"
        Celeb-real/[videos/]id<a>_<n>.mp4           video n of celebrity a
        YouTube-real/[videos/]<n>.mp4               a person each
        Celeb-synthesis/<scenario>/<method>/id<a>_id<b>_<n>.mp4
                                                    scenario: FaceSwap, FaceReenact, TalkingFace

The test split is the official list; everything else is train, and there is no official validation split
(``val_from_train=0.1``). **In the list 1 means real**, the opposite of the label here. The same name stands
in every method, so that only the whole path tells a fake. Which celebrity a name puts first is taken from
Celeb-DF v2. Official counts by method are not stated here, since the release that they would be of is not.
"""

from __future__ import annotations

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
    walk_files,
)
from unmasked.datasets.sources import celeb_df
from unmasked.datasets.tables import TEXT

NAME = "Celeb-DF++"
PAPER = "https://arxiv.org/abs/2507.18015"
LICENCE = celeb_df.LICENCE
REQUEST = "https://github.com/OUC-VAS/Celeb-DF-PP"
LAYOUT = "Celeb-real, YouTube-real, Celeb-synthesis/<scenario>/<method> and List_of_testing_videos.txt"

OFFICIAL: dict[str, int] = {}
_NAME = r"^(?P<target>id\d+)(?:_(?P<source>id\d+))?_(?P<number>\d+)$"


def matches(root: Path) -> bool:
    """True if Celeb-synthesis holds folders of scenarios, as in Celeb-DF++ alone."""
    return any((root / "Celeb-synthesis" / name).is_dir() for name in celeb_df.SCENARIOS)


def scan(root: Path, *, notes: list[str] | None = None) -> pd.DataFrame:
    """The manifest of all videos in the three folders.

    Args:
        root: the folder with Celeb-real, YouTube-real and Celeb-synthesis.
        notes: where sentences about missing and left-out videos are appended.

    Raises:
        InputError: the test list is absent, unreadable, or contradicts the folders; or there is no video.
    """
    notes = [] if notes is None else notes
    paths = pd.Series(
        [
            f"{folder}/{path}"
            for folder in celeb_df.FOLDERS
            if (root / folder).is_dir()
            for path in walk_files(root / folder, VIDEO_SUFFIXES)
        ],
        dtype=TEXT,
    )
    if paths.empty:
        raise InputError(f"{root} has the folders of {NAME} but no video; they are available from {REQUEST}")
    listed = read_test_list(root)
    videos = _rows(paths)
    videos["split"] = pd.Series("train", paths.index, TEXT).mask(_key(paths).isin(listed), "test")
    if absent := sorted(set(listed) - set(_key(paths))):
        notes.append(f"in the test list but not there: {len(absent)} ({first_names(absent)})")
    notes += [f"folder {name} is not there" for name in celeb_df.FOLDERS if not (root / name).is_dir()]
    return as_manifest(videos, NAME, root)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Videos found by folder or method, and split; official counts are not known."""
    folder = manifest["video"].str.split("/").str[0]
    return count_by(folder.where(manifest["label"] == 0, manifest["method"]) + " " + manifest["split"], {})


def read_test_list(root: Path) -> dict[str, int]:
    """The official test videos.

    Path below the root without suffix and ``videos/`` -> label, 1 = fake.

    Raises:
        InputError: the list is absent, has another form, or gives a folder the wrong label.
    """
    as_published = {name: name for name in celeb_df.FOLDERS}
    listed = list(celeb_df.listed_videos(root, REQUEST, as_published))
    keys = _key(pd.Series([f"{folder}/{video}" for folder, video, _ in listed], dtype=TEXT))
    return dict(zip(keys, (label for _, _, label in listed), strict=True))


def _key(paths: pd.Series) -> pd.Series:
    return paths.str.replace(SUFFIX, "", regex=True).str.replace("/videos/", "/", regex=False)


def _rows(paths: pd.Series) -> pd.DataFrame:
    parts = _key(paths).str.split("/")
    stem, folder = parts.str[-1], parts.str[0]
    is_fake = folder == "Celeb-synthesis"
    ids = stem.str.extract(_NAME).astype(TEXT)
    return pd.DataFrame(
        {
            "path": paths,
            "kind": "video",
            "label": is_fake.astype("int64"),
            # Celeb-synthesis/<scenario>/<method>/<name>; without a scenario it is version 2's method.
            "method": parts.str[-2]
            .where(is_fake & (parts.str.len() > 2), "Celeb-synthesis")
            .mask(~is_fake, "real"),
            "identity": ("youtube_" + stem).where(folder == "YouTube-real", ids["target"]),
            "source_video": ids["source"].where(is_fake),
            "target_video": (ids["target"] + "_" + ids["number"]).where(is_fake),
        }
    )
