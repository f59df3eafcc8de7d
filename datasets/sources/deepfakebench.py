r"""DeepfakeBench's lists and face crops, so that they need no second preprocessing.

Repository: Yan et al., "DeepfakeBench: A Comprehensive Benchmark of Deepfake Detection", NeurIPS 2023
(CC BY-NC 4.0; each dataset keeps its own terms).

    <root>/
        [preprocessing/]dataset_json[_v3]/<dataset>.json    or the .json files at the root
        [datasets/][rgb/]<dataset>/…/frames/<video>/<n>.png
        or [datasets_lmdbs/ | datasets/]<dataset>_lmdb/data.mdb

    {<dataset>: {<label>: {train|val|test: {[raw|c23|c40:] {[<method>:] {<video>:
        {"label": …, "frames": [path, …]}}}}}}}                <method> in the lists of Celeb-DF++

Each video is a sequence of crops. ``unmasked scan root=… faces=faces.parquet`` makes the faces table of them
at once; crops in LMDB, whose keys are ``<dataset>\…\frames\<video>\<n>.png`` with slashes of either kind,
are sequences too, which ``unmasked preprocess crops=as_is`` reads. Folders count before an LMDB of the same
dataset. Corrected while reading, and reported:

- a video that is in several splits (all of Celeb-DF's test videos are in its train, all of UADFV in all
  three) stays in one: test before train before val;
- paths have backslashes or a home folder of somebody else: they are found below the root by their ends;
- FF-DF, FF-F2F, FF-FS and FF-NT repeat FaceForensics++.json and are left out where that is there, unless
  asked for;
- the val of DFDC.json is no list of videos, since the last one took its place.

Real and fake are told by the words of the group (``whichisreal_Fake`` is fake); what a video's own label or
its path says otherwise is refused, unless ``labels_by=group`` or ``labels_by=path`` settles it. Frames that a
list names and the disk lacks are counted.

Of Celeb-DF, train has only one of the two real folders, whichever was listed last. Identities are read from
the names of FaceForensics++, DeepFakeDetection and Celeb-DF, and missing elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from unmasked.datasets.archives import (
    IMAGE_SUFFIXES,
    LMDB_SUFFIX,
    archive_file,
    sequence_members,
    split_sequence_path,
)
from unmasked.datasets.errors import InputError
from unmasked.datasets.evidence import contradictions, path_labels
from unmasked.datasets.listing import Count, as_manifest, count_by, first_names, list_files
from unmasked.datasets.tables import TEXT
from unmasked.datasets.vocabulary import label_of, split_of

NAME = "deepfakebench"
PAPER = "https://arxiv.org/abs/2307.01426"
LICENCE = "CC BY-NC 4.0, and that of each dataset"
REQUEST = "https://github.com/SCLBD/DeepfakeBench"
LAYOUT = (
    "dataset_json/<dataset>.json and rgb/<dataset>/…/frames/<video>/*.png or "
    "datasets_lmdbs/<dataset>_lmdb/data.mdb"
)

# Videos of each method and split, where the original set says.
OFFICIAL = {
    "FaceForensics++": {
        f"{method} {split}": count
        for method in ("real", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
        for split, count in (("train", 720), ("val", 140), ("test", 140))
    },
    "Celeb-DF-v2": {"real test": 178, "Celeb-synthesis test": 340},
}
METHODS = {
    "FF-DF": "Deepfakes",
    "FF-F2F": "Face2Face",
    "FF-FS": "FaceSwap",
    "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter",
    "FF-SH": "FaceShifter",
    "DFD_fake": "DeepFakeDetection",
    "CelebDFv1_fake": "Celeb-synthesis",
    "CelebDFv2_fake": "Celeb-synthesis",
    "DFDCP_FakeA": "method_A",
    "DFDCP_FakeB": "method_B",
    "DF_fake": "end_to_end",
}
SUBSETS = ("FF-DF", "FF-F2F", "FF-FS", "FF-NT")  # of FaceForensics++.json
_LISTS = (
    "",
    "dataset_json",
    "dataset_json_v3",
    "preprocessing/dataset_json",
    "preprocessing/dataset_json_v3",
)
_CROPS = ("", "datasets/rgb", "rgb", "datasets")
_LMDBS = ("", "datasets_lmdbs", "datasets_lmdb", "datasets", "lmdb")
_LEVELS = ("raw", "c23", "c40")
_SCHEMA = re.compile(r'^\s*\{\s*"[^"]+"\s*:\s*\{\s*"[^"]+"\s*:\s*\{\s*"(?:train|val|test)"\s*:\s*\{')
_PEOPLE = (
    r"^(?P<target>id\d+)(?:_(?P<source>id\d+))?_\d+$",  # Celeb-DF
    r"^(?P<target>\d{2})(?:_(?P<source>\d{2}))?__.+$",  # DeepFakeDetection
    r"^(?P<target>\d{3})(?:_(?P<source>\d{3}))?$",  # FaceForensics++
)
_NAMED = ("FF-", "DFD_", "CelebDF")  # labels of the sets whose names tell


class _Mention(NamedTuple):
    """One mention of a video in a list."""

    group: str
    split: str
    compression: str | None
    method: str | None  # where the list has a level for it
    name: str
    stated: str  # the label of the video's own entry
    frames: list[str]


def matches(root: Path) -> bool:
    """True if the folder holds lists of DeepfakeBench."""
    return bool(_files(root))


def scan(
    root: Path,
    *,
    lists: Sequence[str] | str = (),
    compression: Sequence[str] | str = (),
    crops: str | Path = "",
    labels_by: Literal["group", "path"] | None = None,
    absent: list[str] | None = None,
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """The manifest of the videos whose crops are there, kind ``sequence``.

    Args:
        root: the folder of the repository, or one with the .json files and the crops.
        lists: names of .json files without suffix; all but those that repeat others if empty.
        compression: only these of raw, c23, c40; all that are listed if empty.
        crops: folder that holds the folders of the datasets, where it is not below the root.
        labels_by: what says real or fake where the name of a group and the paths contradict each other.
        absent: where the frames that are listed and not there are named.
        notes: where what was missing or set right is counted.

    Raises:
        InputError: a list is damaged or not there, none of the crops is, or labels contradict each other.
    """
    notes = [] if notes is None else notes
    absent = [] if absent is None else absent
    files = _choose_lists(_files(root), (lists,) if isinstance(lists, str) else tuple(lists), notes)
    levels = (compression,) if isinstance(compression, str) else tuple(compression)
    listed = pd.concat([_read_list(path, notes) for path in files], ignore_index=True)
    if levels:
        listed = listed[listed["compression"].isna() | listed["compression"].isin(levels)]
    listed = _keep_once(listed, notes)
    base = Path(crops) if str(crops) else root
    listed["label"] = _settled_labels(listed, labels_by)
    listed["path"] = _folders(listed["frame"], base).fillna(_lmdb_folders(listed["frame"], base))
    missing = _missing_frames(listed, base)
    gone = listed["path"].isna() | (missing.map(len) == listed["frames"].map(len))
    if gone.all():
        example = listed["frame"].iloc[0] if len(listed) else "no video"
        raise InputError(
            f"none of the crops that {files[0].name} and the like list is below {base} (the first is "
            f"{example!r}); give crops=<the folder that holds FaceForensics++, Celeb-DF-v2, … or "
            "FaceForensics++_lmdb, Celeb-DF-v2_lmdb, …>"
        )
    if gone.any():
        notes.append(
            f"videos whose crops are not there: {int(gone.sum())} ({first_names(listed.loc[gone, 'frame'])})"
        )
    names = [frame for frames in missing for frame in frames]
    if names:
        total = int(listed["frames"].map(len).sum())
        notes.append(
            f"frames that the lists name and that are not there: {len(names)} of {total} "
            f"({first_names(names)})"
        )
        absent += names
    rows = _rows(listed[~gone].reset_index(drop=True))
    return as_manifest(rows, rows["dataset"], base)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Videos by dataset, method and split, against the official number where it is known."""
    found = []
    for dataset, rows in manifest.groupby("dataset", sort=True):
        # An official number is of one compression.
        levels = max(1, rows["compression"].nunique())
        official = {part: levels * count for part, count in OFFICIAL.get(str(dataset), {}).items()}
        counted = count_by(rows["method"] + " " + rows["split"], official)
        found += [Count(f"{dataset} {part}", count, total) for part, count, total in counted]
    return found


def _files(root: Path) -> list[Path]:
    """The .json files that have the form of a list, known by their first characters: they are large."""
    found = []
    for folder in _LISTS:
        for path in sorted((root / folder).glob("*.json")):
            with open(path, encoding="utf-8-sig", errors="replace") as stream:
                if _SCHEMA.match(stream.read(4096)):
                    found.append(path)
    return found


def _choose_lists(files: list[Path], wanted: tuple[str, ...], notes: list[str]) -> list[Path]:
    by_name = {path.stem: path for path in files}
    if wanted:
        if unknown := [name for name in wanted if name not in by_name]:
            raise InputError(f"list {unknown[0]!r} is not there; there are {', '.join(by_name)}")
        return [by_name[name] for name in wanted]
    repeated = [name for name in SUBSETS if name in by_name and "FaceForensics++" in by_name]
    if repeated:
        notes.append(
            f"lists that repeat FaceForensics++.json, left out: {', '.join(repeated)}; lists=[…] reads them"
        )
    return [path for name, path in by_name.items() if name not in repeated]


def _read_list(path: Path, notes: list[str]) -> pd.DataFrame:
    """A row for each mention of a video, and its first frame."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        rows = [mention for groups in content.values() for mention in _mentions(groups)]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is not a list of DeepfakeBench ({error!r}); make it again there") from error
    listed = pd.DataFrame(rows, columns=list(_Mention._fields)).assign(dataset=path.stem)
    empty = listed["frames"].map(len) == 0
    if empty.any():
        videos = listed.loc[empty, "name"].drop_duplicates()
        notes.append(f"{path.name}: videos without a crop: {len(videos)} ({first_names(videos)})")
    listed = listed[~empty]
    return listed.assign(frame=listed["frames"].str[0].astype(TEXT))


def _mentions(groups: dict[str, Any]) -> Iterator[_Mention]:
    for group, splits in groups.items():
        for word, videos in splits.items():
            split = split_of(word)
            if split is None or "frames" in videos:
                continue  # one video in place of all: the val of DFDC.json
            yield from _below(videos, group, split, None, None)


def _below(
    entries: dict[str, Any], group: str, split: str, level: str | None, method: str | None
) -> Iterator[_Mention]:
    """The videos below a split, whatever levels of compressions and methods are between."""
    for name, entry in entries.items():
        if "frames" in entry:
            frames = [str(frame).replace("\\", "/") for frame in entry["frames"]]
            yield _Mention(group, split, level, method, name, str(entry.get("label", group)), frames)
        elif name in _LEVELS:
            yield from _below(entry, group, split, name, method)
        else:
            yield from _below(entry, group, split, level, name)


def _settled_labels(listed: pd.DataFrame, labels_by: str | None) -> pd.Series:
    """(N,) the label of each mention; InputError where group, entry and path contradict each other."""
    by_group = listed["group"].map({group: _label_of_group(group) for group in listed["group"].unique()})
    by_path = path_labels(listed["frame"])
    if labels_by == "path":
        return by_path.fillna(by_group).astype("int64")
    if labels_by is None:
        stated = {word: _label_of_group(word) for word in listed["stated"].unique()}
        said = {"the video's own label": listed["stated"].map(stated).astype("float64")}
        if by_path.nunique() > 1:
            said["the path"] = by_path
        videos = dict(zip(listed.index, listed["name"], strict=True))
        if wrong := contradictions(by_group.astype("float64"), said, videos):
            raise InputError(
                f"list {listed['dataset'].iloc[0]}.json: {'; '.join(wrong)}. The label here is that of the "
                f"group ({first_names(listed['group'].unique(), 5)}); labels_by=group or labels_by=path "
                f"settles it"
            )
    return by_group.astype("int64")


def _label_of_group(group: str) -> int:
    """0 for a group whose name says real, 1 for one that says fake or names a method."""
    if group in METHODS:
        return 1
    if (label := label_of(group)) is not None:
        return label
    words = re.split(r"[^a-z]+", group.lower())
    begins = {word[:4] for word in words if word.startswith(("real", "fake"))}  # DFDCP_FakeA
    if len(begins) == 1:
        return int(begins == {"fake"})
    if "real" in group.lower():
        raise InputError(
            f"the group {group!r} of a list of DeepfakeBench may be real or fake: call it {group}_Real or "
            f"{group}_Fake in the list"
        )
    return 1


def _missing_frames(listed: pd.DataFrame, base: Path) -> pd.Series:
    """(N,) the frames of each video that its list names and that are not there."""
    missing = []
    for path, frames in zip(listed["path"], listed["frames"], strict=True):
        there = set() if pd.isna(path) else _names(base, path)
        missing.append([frame for frame in frames if frame.rpartition("/")[2] not in there])
    return pd.Series(missing, listed.index, dtype=object)


def _names(base: Path, path: str) -> set[str]:
    """The names of the images of a sequence, without their folder."""
    archive, folder = split_sequence_path(path)
    if folder is None:
        return set(list_files(base / path, IMAGE_SUFFIXES))
    return {name.rpartition("/")[2] for name in sequence_members(base / archive)[folder]}


def _keep_once(listed: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Each video of a dataset once, in test if it is there at all, else in train."""
    folder = listed["frame"].str.rsplit("/", n=1).str[0]
    order = listed["split"].map({"test": 0, "train": 1, "val": 2})
    ranked = listed.assign(folder=folder, order=order).sort_values("order", kind="stable")
    repeated = ranked.duplicated(["dataset", "folder"])
    for dataset, rows in ranked[repeated].groupby("dataset"):
        videos = rows["folder"].drop_duplicates()
        notes.append(f"{dataset}: videos in several splits, kept in test, else in train: {len(videos)}")
    return ranked[~repeated].drop(columns=["folder", "order"]).sort_index()


def _folders(frames: pd.Series, base: Path) -> pd.Series:
    """The folder of each frame below base; missing where it is not there.

    Paths begin with a folder that only their maker has: for each beginning that occurs, the first few tell
    how much of it to leave out.
    """
    folders = frames.str.rsplit("/", n=1).str[0]
    start = folders.str.split("/").str[:3].str.join("/")
    found = pd.Series(pd.NA, folders.index, TEXT)
    for _, members in folders.groupby(start):
        place, left = next(_beginnings(members, base), ("", 0))
        tail = members.str.split("/").str[left:].str.join("/")
        path = f"{place}/" + tail if place else tail
        there = [(base / folder).is_dir() for folder in path]
        found[members.index] = path.where(there)
    return found


def _beginnings(folders: pd.Series, base: Path) -> Iterator[tuple[str, int]]:
    """(folder of base, leading folders to leave out) under which one of the first folders is there."""
    for folder in islice(folders, 20):
        parts = folder.split("/")
        for left in range(len(parts) - 1):  # the video's own name says too little
            for place in _CROPS:
                if parts[left] not in ("", ".") and (base / place / "/".join(parts[left:])).is_dir():
                    yield place, left


def _lmdb_folders(frames: pd.Series, base: Path) -> pd.Series:
    """The sequence in an LMDB that each frame is of; missing where none holds it."""
    places = [path for place in _LMDBS for path in sorted((base / place).glob(f"*{LMDB_SUFFIX}"))]
    known: dict[str, str] = {}
    for path in places:
        if archive_file(path).is_file():
            name = path.relative_to(base).as_posix()
            known |= {folder: f"{name}!{folder}" for folder in sequence_members(path)}
    folders = frames.str.rsplit("/", n=1).str[0]
    return folders.map({folder: _known_end(folder, known) for folder in folders.unique()}).astype(TEXT)


def _known_end(folder: str, known: dict[str, str]) -> str | None:
    """What is known of the longest end of a path, at least the video's folder and the one above it."""
    parts = folder.split("/")
    ends = ("/".join(parts[left:]) for left in range(len(parts) - 1))
    return next((known[end] for end in ends if end in known), None)


def _rows(listed: pd.DataFrame) -> pd.DataFrame:
    is_fake = listed["label"] == 1
    tells = listed["group"].str.startswith(_NAMED)
    people = pd.DataFrame({"target": pd.NA, "source": pd.NA}, index=listed.index, dtype=TEXT)
    for pattern in _PEOPLE:
        people = people.fillna(listed["name"].where(tells).astype(TEXT).str.extract(pattern).astype(TEXT))
    method = listed["method"].astype(TEXT).fillna(listed["group"].map(METHODS)).fillna(listed["group"])
    return pd.DataFrame(
        {
            "dataset": listed["dataset"],
            "path": listed["path"],
            "video": listed["path"].map(lambda path: split_sequence_path(path)[1] or path),
            "kind": "sequence",
            "label": listed["label"],
            "method": method.mask(~is_fake, "real"),
            "split": listed["split"],
            "identity": people["target"],
            "source_video": people["source"].where(is_fake),
            "target_video": people["target"].where(is_fake & listed["group"].str.startswith("FF-")),
            "compression": listed["compression"],
        }
    )
