"""What the sources share: files under a root, names of videos, counts, rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from unmasked.datasets.archives import IMAGE_SUFFIXES, is_utf8
from unmasked.datasets.errors import printable
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.tables import TEXT

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v")
LISTED_FROM = 10  # paths in a folder from which on the folder is listed
SUFFIX = r"\.(?:[A-Za-z][A-Za-z0-9]{1,4}|3gp)$"  # of a file; clip.0001 and v1.25 have none
# A manifest whose split is still to be filled in.
UNSPLIT = replace(
    MANIFEST, columns={**MANIFEST.columns, "split": replace(MANIFEST.columns["split"], nullable=True)}
)


class Count(NamedTuple):
    """How many videos or images one part of a dataset has here, and how many officially."""

    part: str
    found: int
    official: int | None  # None where no official count is known


# Why something below a root cannot be one of its files.
UNLISTABLE = "a folder that cannot be listed"
NOT_A_FILE = "no file but a pipe, a socket, a device or a link that leads nowhere"
NOT_UTF8 = "a name that is not UTF-8; rename it"
REACHED_TWICE = "a link to a folder that is below the root anyway"


@dataclass
class Walk:
    """What lies below a folder.

    Every file that can be read, and everything else with the reason why not.
    Paths are POSIX and relative to the folder, sorted; hidden files and folders are in ``hidden``.
    """

    files: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # path -> reason, one of the constants above


def walk(root: Path) -> Walk:
    """Everything below a folder. Links to folders are followed, each folder once.

    Folders that lie below the root themselves come before those that a link leads to: the files of ``real``
    are not found as ``fake/loop`` because a link called so leads there.
    """
    found, seen, links = Walk(), {_identity(os.fspath(root))}, [("", os.fspath(root))]
    while links:
        waiting: list[tuple[str, str]] = []
        for prefix, folder in links:
            # The root itself, or a link whose folder was reached by another way in the meantime.
            if prefix and (identity := _identity(folder)) in seen:
                found.refused[prefix.rstrip("/")] = REACHED_TWICE
                continue
            seen.add(_identity(folder) if not prefix else identity)
            waiting += _walk_into(folder, prefix, found, seen)
        links = sorted(waiting)
    found.files.sort()
    found.hidden.sort()
    return found


def list_files(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Sorted names of the files in one folder that end in a suffix; none if it is absent.

    What `walk` would refuse (pipes, names that are not UTF-8) is left out here as well.
    """
    if not folder.is_dir():
        return []
    wanted = tuple(suffixes)
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if _is_wanted(entry.name, wanted) and is_utf8(entry.name) and _is_file(entry)
            )
    except PermissionError:
        return []  # `unmasked.datasets.scan` says which folders these are


def walk_files(root: Path, suffixes: Iterable[str]) -> list[str]:
    """Sorted POSIX paths, relative to root, of all files below it that end in a suffix.

    Links to folders are followed, each folder once. Hidden files and folders are left out.
    """
    wanted = tuple(suffixes)
    return [path for path in walk(root).files if path.lower().endswith(wanted)]


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _walk_into(folder: str, prefix: str, found: Walk, seen: set[tuple[int, int]]) -> list[tuple[str, str]]:
    """Adds what is below one folder without following a link; returns the links to folders."""
    links: list[tuple[str, str]] = []
    waiting = [(prefix, folder)]
    while waiting:
        prefix, folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            found.refused[prefix.rstrip("/") or "."] = UNLISTABLE
            continue
        for entry in listed:
            path = prefix + entry.name
            if not is_utf8(entry.name):
                found.refused[path] = NOT_UTF8
            elif entry.name.startswith("."):
                found.hidden.append(path)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                links.append((f"{path}/", entry.path))
            elif entry.is_dir(follow_symlinks=False):
                seen.add(_identity(entry.path))
                waiting.append((f"{path}/", entry.path))
            elif _is_file(entry):
                found.files.append(path)
            else:
                found.refused[path] = NOT_A_FILE
    return links


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads round in a circle
        return False


def video_names(paths: pd.Series) -> pd.Series:
    """Paths without suffix; where two files differ in their suffix only, both keep it."""
    names = paths.str.replace(SUFFIX, "", regex=True)
    return names.mask(names.duplicated(keep=False), paths)


def kinds(paths: pd.Series) -> pd.Series:
    """video, image or sequence, by suffix; a path without a known suffix is a sequence."""
    lower = paths.str.lower()
    result = pd.Series("sequence", index=paths.index, dtype=TEXT)
    return result.mask(lower.str.endswith(VIDEO_SUFFIXES), "video").mask(
        lower.str.endswith(IMAGE_SUFFIXES), "image"
    )


def is_there(paths: pd.Series, folder: Path) -> pd.Series:
    """Whether there is something at each path below the folder.

    Folders of many of the paths are listed once, which is quicker than asking for each path; what a listing
    does not settle (links, names that differ in case) is asked for.
    """
    there = np.zeros(len(paths), dtype=bool)
    parents = paths.str.replace(r"/*[^/]*$", "", regex=True)
    names = paths.str.replace(r"^.*/", "", regex=True)
    for parent, rows in parents.groupby(parents, sort=False).indices.items():
        if len(rows) >= LISTED_FROM and not str(parent).startswith("/"):
            there[rows] = names.iloc[rows].isin(_names_in(folder / str(parent)))
    base = os.fspath(folder)
    for row in np.flatnonzero(~there):
        there[row] = os.path.exists(os.path.join(base, paths.iloc[row]))
    return pd.Series(there, index=paths.index)


def as_manifest(rows: pd.DataFrame, dataset: str | pd.Series, root: Path) -> pd.DataFrame:
    """The rows, valid under MANIFEST and sorted by path; video is made of path unless given.

    A split may be missing where no official one is known: `unmasked.datasets.scan` fills it in.
    """
    rows = rows.assign(dataset=dataset, root=str(root.resolve()))
    rows["path"] = rows["path"].astype(TEXT)
    if "video" not in rows:
        rows["video"] = video_names(rows["path"])
    return UNSPLIT.validate(rows.sort_values("path"))


def left_out_note(
    root: Path, read: Iterable[str], suffixes: Iterable[str], skip: Iterable[str] = ()
) -> list[str]:
    """A note on the files below root that end in a suffix and were not read.

    None if all of them were.

    Args:
        root: the dataset's folder.
        read: paths of the files that were read, relative to root.
        suffixes: of the files that count.
        skip: folders, relative to root, whose files do not count: masks, other datasets.
    """
    known, apart = set(read), tuple(f"{folder}/" for folder in skip)
    extra = [path for path in walk_files(root, suffixes) if path not in known and not path.startswith(apart)]
    return [f"in no place of the layout, left out: {len(extra)} ({first_names(extra)})"] if extra else []


def count_by(parts: pd.Series, official: Mapping[str, int]) -> list[Count]:
    """Counts of each part, official parts first in their order, then whatever else was found."""
    found = parts.value_counts()
    others = [part for part in sorted(found.index) if part not in official]
    return [Count(part, int(found.get(part, 0)), official.get(part)) for part in [*official, *others]]


def first_names(items: Iterable[str], most: int = 3) -> str:
    """The first few of the items, for a message.

    >>> first_names(["a", "b", "c", "d"])
    'a, b, c, …'
    """
    listed = list(items)
    return ", ".join(map(printable, listed[:most])) + (", …" if len(listed) > most else "")


def _names_in(folder: Path) -> list[str]:
    """The names in a folder that are no links; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if not entry.is_symlink()]
    except OSError:
        return []


def _is_wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not name.startswith(".")
