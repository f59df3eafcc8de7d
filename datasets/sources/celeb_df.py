"""Celeb-DF v2: 590 celebrity videos, 300 other YouTube videos, 5,639 face swaps.

Paper: Li et al., "Celeb-DF: A Large-scale Challenging Dataset for DeepFake Forensics", CVPR 2020.
Licence: the Celeb-DF terms of use; non-commercial research, on request.

    <root>/
        List_of_testing_videos.txt                          "<1 = real, 0 = fake> <folder>/<name>.mp4"
        Celeb-real/[videos/]id<a>_<n>.mp4                   video n of celebrity a
        Celeb-synthesis/[videos/]id<a>_id<b>_<n>.mp4        the same video with the face of celebrity b
        YouTube-real/[videos/]<n>.mp4                       a person each

The test split is the official list; train is everything else, in all three folders, and never overlaps it.
There is no official validation split. **In the list 1 means real**, the opposite of the label here.
Counts are those of the README of the release; version 1 has the same layout (see `celeb_df_v1`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
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

NAME = "Celeb-DF-v2"
PAPER = "https://arxiv.org/abs/1909.12962"
LICENCE = "Celeb-DF terms of use (non-commercial research)"
REQUEST = "https://github.com/yuezunli/celeb-deepfakeforensics"
LAYOUT = "Celeb-real, Celeb-synthesis, YouTube-real and List_of_testing_videos.txt"

FOLDERS = {"Celeb-real": 0, "YouTube-real": 0, "Celeb-synthesis": 1}  # folder -> label
SCENARIOS = ("FaceSwap", "FaceReenact", "TalkingFace")  # folders that Celeb-DF++ alone has
TEST_LIST = "List_of_testing_videos.txt"
OFFICIAL = {
    "Celeb-real train": 482,
    "Celeb-real test": 108,
    "YouTube-real train": 230,
    "YouTube-real test": 70,
    "Celeb-synthesis train": 5299,
    "Celeb-synthesis test": 340,
}


# The length of its test list tells a version: the layout and the names do not.
_TEST_VIDEOS = {518: 2, 100: 1}


def matches(root: Path) -> bool:
    """True if the folder looks like Celeb-DF, and not like its version 1."""
    return version(root) == 2


def scan(root: Path, *, notes: list[str] | None = None) -> pd.DataFrame:
    """The manifest of all videos in the three folders.

    Args:
        root: the folder with Celeb-real, Celeb-synthesis and YouTube-real.
        notes: where sentences about missing and left-out videos are appended.

    Raises:
        InputError: the test list is absent, unreadable, or contradicts the folders; or there is no video.
    """
    return scan_as(NAME, root, [] if notes is None else notes)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Videos found by folder and split, against the official number of each."""
    return count_by(folders(manifest) + " " + manifest["split"], OFFICIAL)


def version(root: Path) -> int | None:
    """1 or 2 by the length of the test list, else by the folder's name; None for no Celeb-DF."""
    if all(_folder(root, name) is None for name in ("Celeb-real", "Celeb-synthesis")):
        return None
    if any((root / "Celeb-synthesis" / name).is_dir() for name in SCENARIOS):
        return None
    path = root / TEST_LIST
    lines = path.read_bytes().decode(errors="replace").split("\n") if path.is_file() else []
    length = sum(bool(line.strip()) for line in lines)
    named_one = re.search(r"v(?:ersion)?[-_ ]?1(?!\d)", root.resolve().name, re.IGNORECASE)
    return _TEST_VIDEOS.get(length, 1 if named_one else 2)


def scan_as(name: str, root: Path, notes: list[str]) -> pd.DataFrame:
    """What `scan` gives, for either version."""
    videos = _videos(root)
    if videos.empty:
        raise InputError(
            f"{root} has the folders of {name} but no video; the videos belong in Celeb-real, "
            f"Celeb-synthesis and YouTube-real, or videos/ in each, and are available from {REQUEST}"
        )
    listed = read_test_list(root)
    videos["split"] = pd.Series("train", videos.index, TEXT).mask(videos["name"].isin(listed), "test")
    if absent := sorted(set(listed) - set(videos["name"])):
        notes.append(f"in the test list but not there: {len(absent)} ({first_names(absent)})")
    notes += [f"folder {folder} is not there" for folder in FOLDERS if _folder(root, folder) is None]
    notes += left_out_note(root, videos["path"], VIDEO_SUFFIXES)
    return as_manifest(_rows(videos), name, root)


def read_test_list(root: Path) -> dict[str, int]:
    """The official test videos: ``<folder>/<name>`` without suffix -> label, 1 = fake.

    Raises:
        InputError: see `listed_videos`.
    """
    listed = listed_videos(root, REQUEST, {name.lower(): name for name in FOLDERS}, str.lower)
    return {
        f"{folder}/{video.rsplit('/', 1)[-1].rsplit('.', 1)[0]}": label for folder, video, label in listed
    }


def listed_videos(
    root: Path, request: str, folders: Mapping[str, str], spelling: Callable[[str], str] = str
) -> Iterator[tuple[str, str, int]]:
    """(folder as published, path below it, label with 1 = fake) of each line of the test list.

    Args:
        root: the folder with the list.
        request: where it is to be had.
        folders: those that may be in the list, by how `spelling` spells them.
        spelling: of a folder in the list.

    Raises:
        InputError: the list is absent, has another form, or gives a folder the wrong label.
    """
    path = root / TEST_LIST
    if not path.is_file():
        raise InputError(
            f"{root} has no {TEST_LIST}, so that training and test videos cannot be told apart; it comes "
            f"with the videos, from {request}"
        )
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        stated, _, name = line.strip().partition(" ")
        folder, _, video = name.strip().replace("\\", "/").partition("/")
        canonical = folders.get(spelling(folder))
        if stated not in ("0", "1") or canonical is None or not video:
            raise InputError(f"{path} line {number} is {line!r}; it must be like '1 YouTube-real/00170.mp4'")
        label = 1 - int(stated)  # 1 means real in this list
        if label != FOLDERS[canonical]:
            raise InputError(
                f"{path} line {number} calls {name} {'fake' if label else 'real'}, which its folder "
                "contradicts; in this list 1 means real and 0 fake: restore the original file"
            )
        yield canonical, video, label


def folders(manifest: pd.DataFrame) -> pd.Series:
    """The folder of each row, spelled as published."""
    folder = manifest["video"].str.split("/").str[0].str.lower()
    return folder.map({name.lower(): name for name in FOLDERS})


def _folder(root: Path, name: str) -> Path | None:
    """The folder of that name in whatever case (YouTube-real also goes by Youtube-real)."""
    if (root / name).is_dir():
        return root / name
    return next(
        (path for path in root.iterdir() if path.name.lower() == name.lower() and path.is_dir()), None
    )


def _videos(root: Path) -> pd.DataFrame:
    rows = []
    for folder in FOLDERS:
        where = _folder(root, folder)
        for place in (where, where / "videos") if where else ():
            prefix = place.relative_to(root).as_posix()
            rows += [(f"{prefix}/{name}", folder, name) for name in list_files(place, VIDEO_SUFFIXES)]
    videos = pd.DataFrame(rows, columns=["path", "folder", "name"], dtype=TEXT)
    videos["stem"] = videos["name"].str.replace(SUFFIX, "", regex=True)
    videos["name"] = videos["folder"] + "/" + videos["stem"]
    return videos


def _rows(videos: pd.DataFrame) -> pd.DataFrame:
    is_fake = videos["folder"] == "Celeb-synthesis"
    ids = videos["stem"].str.extract(r"^(?P<target>id\d+)(?:_(?P<source>id\d+))?_(?P<number>\d+)$")
    own = "youtube_" + videos["stem"]  # each of YouTube-real is a person of its own
    return pd.DataFrame(
        {
            "path": videos["path"],
            "kind": "video",
            "label": is_fake.astype("int64"),
            "method": pd.Series("real", videos.index, TEXT).mask(is_fake, "Celeb-synthesis"),
            "split": videos["split"],
            "identity": own.where(videos["folder"] == "YouTube-real", ids["target"]),
            "source_video": ids["source"].where(is_fake),  # the celebrity; the clip is not recorded
            "target_video": (ids["target"] + "_" + ids["number"]).where(is_fake),
        }
    )
