"""Any folder of images or videos.

Sorted into real and fake, by generator, by split, or not at all.
The shapes of many public sets (140k real and fake faces, deepfake-and-real-images, ForenSynths, …):

    <root>/{real,fake}/…                        one split, ``test`` unless told otherwise
    <root>/{train,val,test}/{real,fake}/…       Validation, valid, dev are val; the order of the two is free
    <root>/{training_real,training_fake}/…      (Yonsei's real and fake faces)
    <root>/[split/]<generator>/[…/]{0_real,1_fake}/…    the folder below the split is the fakes' method
    <root>/[split/]fake/<generator>/…           the folder below fake is, where it is not numbered
    <root>/…                                    neither: labels are missing, and that is said

`unmasked.datasets.scan` finds all of these under folders that hold one folder each, too
(``real_vs_fake/real-vs-fake/train/real``). A single video or image is a root of its own.

A folder is real or fake if one of its words is a word for it in `unmasked.datasets.vocabulary`: real,
original, genuine, …; fake, manipulated, deepfake, …; case does not matter. Where any folder says so, files
in neither, or in both, are left out and reported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from unmasked.datasets.archives import IMAGE_SUFFIXES
from unmasked.datasets.errors import InputError, nearest_name
from unmasked.datasets.listing import (
    VIDEO_SUFFIXES,
    Count,
    as_manifest,
    first_names,
    kinds,
    walk_files,
)
from unmasked.datasets.manifest import SPLITS
from unmasked.datasets.tables import TEXT
from unmasked.datasets.vocabulary import label_of, plain, split_of

NAME = "folder"
PAPER = ""
LICENCE = "your own"
# Names of folders that one letter or two turn into something else.
SPLIT_FOLDERS = ("train", "training", "test", "testing", "valid", "validation")
HELD_OUT = ("holdout", "heldout", "eval", "evaluation", "unseen", "hidden")
WORDS_BESIDE_SPLITS = ("text",)  # whole words that are one letter from a split's: text to picture
GENERATORS_MAX = 20  # more folders below fake/ are of people or videos
REQUEST = ""
LAYOUT = "folders real/ and fake/, optionally in train/, val/ and test/ or in a folder for each generator"
OFFICIAL: dict[str, int] = {}

MEDIA = (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)
NESTED_MAX = 5  # folders above real/ and fake/


def matches(root: Path) -> bool:
    """True if the folder, or one of its split folders, has both a real and a fake folder."""
    folders = _folders(root)
    splits = [path for path in folders if split_of(path.name)]
    inside = [path for split in splits for path in _folders(split)]
    labels = {label_of(path.name) for path in (*folders, *inside)}
    return {0, 1} <= labels


def is_nested(root: Path) -> bool:
    """True if folders further down hold a real and a fake folder each."""
    return any(True for _ in _pairs(root, NESTED_MAX))


def has_media(root: Path) -> bool:
    """True if there is any image or video below the folder, or the file is one."""
    if root.is_file():
        return root.name.lower().endswith(MEDIA)
    return any(
        name.lower().endswith(MEDIA) and not name.startswith(".")
        for _, _, names in os.walk(root)
        for name in names
    )


def scan(
    root: Path,
    *,
    dataset: str = "",
    split: str | None = "test",
    method: str = "",
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """The manifest of all files below a real or fake folder, or of all without labels.

    Args:
        root: the folder, or one image or video.
        dataset: the dataset's name; that of the folder if empty.
        split: the split of files that are in no split folder; None leaves it missing.
        method: the method of fakes; that of their generator's folder, or ``fake``, if empty.
        notes: where left-out files are counted.

    Raises:
        InputError: the split is unknown, or there is no image or video.
    """
    notes = [] if notes is None else notes
    if split not in (*SPLITS, None):
        raise InputError(f"split {split!r} is unknown; it is one of {', '.join(SPLITS)}")
    base = root.parent if root.is_file() else root
    found = [root.name] if root.is_file() else walk_files(root, MEDIA)
    if not found:
        raise InputError(
            f"{root} has no image or video ({', '.join(MEDIA)}); expected {LAYOUT}, or give a table with the "
            "columns path and label (source=table)"
        )
    paths = pd.Series(found, dtype=TEXT)
    # Thousands of files share a folder: decide by folder, then look the files up.
    folder = paths.str.rpartition("/")[0]
    labels = {name: _label_of_path(name) for name in folder.unique()}
    label = folder.map(labels).astype("float64")
    if label.notna().any():
        if (left := label.isna()).any():
            notes.append(
                f"in neither a real nor a fake folder, left out: {int(left.sum())} "
                f"({first_names(paths[left])})"
            )
    else:
        left = pd.Series(False, paths.index)
        notes.append(
            f"no folder is called real or fake: the labels of all {len(paths)} are missing. They can be "
            "scored; a table with the columns path and label (source=table) gives labels"
        )
        if {"0", "1"} <= set(folder.str.split("/").explode()):
            notes.append(
                "NOTE: folders called 0 and 1 are not taken for labels, for either may be the fakes: call "
                "them real and fake"
            )
        files = paths.str.rpartition("/")[2].str.replace(r"\.[^.]*$", "", regex=True)
        said = files.map(label_of).notna()
        if said.any():
            notes.append(
                f"NOTE: {int(said.sum())} names of files say real or fake ({first_names(paths[said])}); "
                "names are not taken for labels: sort the files into folders real/ and fake/, or give a table"
            )
    _check_links(base, paths, label)
    _check_split_folders(list(labels))
    splits = {name: _split_of_path(name, split) for name in labels}
    several = [name for name in labels if len({split_of(part) for part in name.split("/")} - {None}) > 1]
    if several:
        count = int(folder.isin(several).sum())
        notes.append(
            f"NOTE: {count} files lie below folders of two splits ({first_names(several)}): "
            "the outer one counts"
        )
    rows = pd.DataFrame({"path": paths, "kind": kinds(paths), "label": label, "split": folder.map(splits)})
    generators = {name: _generator(name) for name in labels}
    if not any(generators.values()):
        generators = _generators_below(labels)
    methods = folder.map(generators).astype(TEXT) if not method else pd.Series(method, rows.index, TEXT)
    methods = methods.fillna("fake").where(label.notna())
    rows["method"] = methods.mask(label == 0, "real")
    if not method and (several := sorted({name for name in generators.values() if name})):
        notes.append(
            f"generators, read from the folders as methods: {first_names(several, 8)} (folders that are "
            "datasets of their own are given as root=[…,…])"
        )
    return as_manifest(rows[~left], dataset or base.resolve().name or "files", base)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Nothing official: `scan` says the classes of each split of any dataset."""
    return []


def _folders(root: Path) -> list[Path]:
    try:
        return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []  # `unmasked.datasets.scan` says which folders these are


def _pairs(root: Path, depth: int) -> Iterator[Path]:
    """The folders that hold a real and a fake one, down to a depth; links are not followed."""
    folders = [path for path in _folders(root) if not path.is_symlink()]
    if {0, 1} <= {label_of(path.name) for path in folders}:
        yield root
    elif depth:
        for path in folders:
            yield from _pairs(path, depth - 1)


def _label_of_path(folder: str) -> int | None:
    found = {label for part in folder.split("/") if (label := label_of(part)) is not None}
    return found.pop() if len(found) == 1 else None


def _split_of_path(folder: str, default: str | None) -> str | None:
    return next((split for part in folder.split("/") if (split := split_of(part))), default)


def _generator(folder: str) -> str | None:
    """The folder above real/ and fake/ that is no split: ``test/stylegan/car/1_fake`` is of stylegan."""
    above: list[str] = []
    for part in folder.split("/"):
        if label_of(part) is not None:
            return above[0] if above else None
        if not split_of(part):
            above.append(part)
    return None


def _generators_below(labels: dict[str, int | None]) -> dict[str, str | None]:
    """By folder, the one below fake/ that tells a generator: ``fake/stylegan/1.png`` is of stylegan.

    None for all where such folders are of people or videos: the reals have them too, or they are numbered.
    """
    below: dict[str, str | None] = {}
    for folder in labels:
        parts = folder.split("/")
        place = next((i for i, part in enumerate(parts) if label_of(part) is not None), len(parts))
        below[folder] = next((part for part in parts[place + 1 :] if not split_of(part)), None)
    of_fakes = {name for folder, name in below.items() if labels[folder] == 1 and name}
    of_reals = {name for folder, name in below.items() if labels[folder] == 0 and name}
    words = {re.sub(r"\d+", "", name).strip("_- ") for name in of_fakes}
    is_told = 2 <= len(of_fakes) <= GENERATORS_MAX and not of_fakes & of_reals
    is_told = is_told and len(words) == len(of_fakes) and "" not in words
    return {folder: name if is_told and labels[folder] == 1 else None for folder, name in below.items()}


def _check_split_folders(folders: list[str]) -> None:
    """Refuses a folder beside one of a split whose own name is nearly a split's, or means one without saying.

    ``trian`` beside ``test`` would be the name of a generator.

    Raises:
        InputError: it names the folder and the split that may be meant.
    """
    beside: dict[str, set[str]] = {}
    for folder in folders:
        above = ""
        for part in folder.split("/"):
            beside.setdefault(above, set()).add(part)
            above = f"{above}/{part}"
    for names in beside.values():
        known = sorted(name for name in names if split_of(name))
        for name in sorted(names - {*known}) if known else []:
            near = nearest_name(plain(name), SPLIT_FOLDERS, cutoff=0.75)
            if (near is None or plain(name) in WORDS_BESIDE_SPLITS) and plain(name) not in HELD_OUT:
                continue
            meant = f"is {near!r} meant? Rename it" if near else "rename it to val or test, whichever it is"
            raise InputError(
                f"the folder {name!r} lies beside {known[0]!r}, which is a split, and is none itself: {meant}"
                ", or give each folder as a root of its own with split=…"
            )


def _check_links(root: Path, paths: pd.Series, label: pd.Series) -> None:
    """Refuses a file that one class reaches by a link and that lies in a folder of the other class.

    Raises:
        InputError: both readings are named.
    """
    for path, here in zip(paths, label, strict=True):
        file = root / path
        if here != here or not file.is_symlink():
            continue
        there = label_of(file.resolve().parent.name)
        if there is not None and there != here:
            words = ("real", "fake")
            raise InputError(
                f"{file} is {words[int(here)]} by its folder, and is a link to {file.resolve()}, which is "
                f"{words[there]} by its own; remove the link, or list the files and their labels in a table "
                "(source=table)"
            )
