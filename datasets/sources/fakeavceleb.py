"""FakeAVCeleb: 500 celebrities of VoxCeleb2; swapped faces, moved lips, cloned voices.

Paper: Khalid et al., "FakeAVCeleb: A Novel Audio-Video Multimodal Deepfake Dataset", NeurIPS 2021 (Datasets
and Benchmarks). Licence: CC BY 4.0 for the work, on request.

    <root>/
        meta_data.csv       source,target1,target2,method,category,type,race,gender,path,   10 columns: the
                            ninth ("path") is the file's name, the tenth, without a name, its folder
        RealVideo-RealAudio/<race>/<gender>/<id>/<clip>.mp4                                 500
        RealVideo-FakeAudio/<race>/<gender>/<id>/<clip>_fake.mp4                            500
        FakeVideo-RealAudio/<race>/<gender>/<id>/<clip>_<id>_<n>_<method>.mp4             9,709
        FakeVideo-FakeAudio/<race>/<gender>/<id>/<clip>_<n>_<id>_wavtolip.mp4            10,835
    (counts of release 1.2; the paper speaks of 20,000)

Label 1 means that the *picture* is fake: RealVideo-FakeAudio has real pictures of the same clips as
RealVideo-RealAudio, and is left out and reported. ``identity`` is the celebrity whose folder it is;
``source_video`` the one whose face was put in, where a face was swapped. Race and gender are those of the
folders, which the authors chose the celebrities by. There is no official split: all is test, or is split
by celebrity (``split_seed=0``).
"""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import VIDEO_SUFFIXES, Count, as_manifest, count_by, first_names, walk_files
from unmasked.datasets.tables import TEXT

NAME = "FakeAVCeleb"
PAPER = "https://arxiv.org/abs/2108.05080"
LICENCE = "CC BY 4.0, on request"
REQUEST = "https://github.com/DASH-Lab/FakeAVCeleb"
LAYOUT = "RealVideo-RealAudio, FakeVideo-RealAudio, FakeVideo-FakeAudio and meta_data.csv"

OFFICIAL = {"RealVideo-RealAudio": 500, "FakeVideo-RealAudio": 9709, "FakeVideo-FakeAudio": 10_835}
AUDIO_ONLY = "RealVideo-FakeAudio"
_PATH = r"^(?P<category>[^/]+)/(?P<race>[^/]+)/(?P<gender>[^/]+)/(?P<identity>[^/]+)/(?P<name>[^/]+)\.[^./]+$"
_RACES = {"african": "black", "asian": "asian", "caucasian": "white"}  # by the first word
_GENDERS = {"men": "male", "women": "female"}
_SWAPS = r"faceswap|fsgan"


def matches(root: Path) -> bool:
    """True if the folder looks like FakeAVCeleb."""
    return any((root / name).is_dir() for name in (*OFFICIAL, AUDIO_ONLY))


def scan(root: Path, *, split: str | None = "test", notes: list[str] | None = None) -> pd.DataFrame:
    """The manifest of all videos but those of which the voice alone is fake.

    Args:
        root: the folder with RealVideo-RealAudio and the others.
        split: of all videos; None leaves it missing.
        notes: where sentences about missing and left-out videos are appended.

    Raises:
        InputError: there is no video.
    """
    notes = [] if notes is None else notes
    paths = pd.Series([f"{name}/{path}" for name in OFFICIAL for path in _videos(root / name)], dtype=TEXT)
    if paths.empty:
        raise InputError(
            f"{root} has the folders of {NAME} but no video in {', '.join(OFFICIAL)}; they are available "
            f"from {REQUEST}"
        )
    parts = paths.str.extract(_PATH).astype(TEXT)
    if (odd := parts["category"].isna()).any():
        notes.append(f"not in <race>/<gender>/<id>, left out: {int(odd.sum())} ({first_names(paths[odd])})")
    if audio := len(_videos(root / AUDIO_ONLY)):
        notes.append(f"{AUDIO_ONLY}, left out since its pictures are real: {audio}")
    notes += [f"folder {name} is not there" for name in OFFICIAL if not (root / name).is_dir()]
    listed = _read_list(root, notes)
    if absent := sorted(set(listed) - set(paths)):
        notes.append(f"in meta_data.csv but not there: {len(absent)} ({first_names(absent)})")
    return as_manifest(_rows(paths[~odd], parts[~odd], listed).assign(split=split), NAME, root)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Videos found by folder, against the official number of each."""
    return count_by(manifest["video"].str.split("/").str[0], OFFICIAL)


def _videos(folder: Path) -> list[str]:
    return walk_files(folder, VIDEO_SUFFIXES) if folder.is_dir() else []


def _read_list(root: Path, notes: list[str]) -> dict[str, tuple[str, str]]:
    """Path below the root -> (method, target1), of what meta_data.csv lists; none if it is absent."""
    path = root / "meta_data.csv"
    if not path.is_file():
        notes.append("meta_data.csv is not there; methods are those of the files' names")
        return {}
    listed = {}
    with open(path, encoding="utf-8-sig", newline="") as stream:
        for row in list(csv.reader(stream))[1:]:
            folder = next((cell for cell in row[8:] if "/" in cell), "").strip("/")
            below = folder[folder.find(row[5]) :] if len(row) > 9 and row[5] in folder else ""
            if below and row[5] in OFFICIAL:
                listed[f"{below}/{row[8]}"] = (row[3], row[1])
    if not listed:
        notes.append(
            "meta_data.csv has no row in the form of release 1.2; methods are those of the files' names"
        )
    return listed


def _rows(paths: pd.Series, parts: pd.DataFrame, listed: dict[str, tuple[str, str]]) -> pd.DataFrame:
    is_fake = parts["category"].str.startswith("FakeVideo")
    written = (
        parts["name"].str.extract(r"_(faceswap|fsgan|wavtolip)(?:_|$)")[0].replace("wavtolip", "wav2lip")
    )
    method = paths.map({path: method for path, (method, _) in listed.items()}).astype(TEXT)
    method = method.fillna(written.astype(TEXT)).fillna(NAME).mask(~is_fake, "real")
    target = paths.map({path: target for path, (_, target) in listed.items()}).astype(TEXT)
    target = target.where(target.str.fullmatch(r"id\d+"))
    target = target.fillna(parts["name"].str.extract(r"_(id\d+)")[0].astype(TEXT))
    race = parts["race"].str.lower().str.extract(r"^([a-z]+)")[0].map(_RACES)
    gender = parts["gender"].str.lower().map(_GENDERS)
    clip = parts["name"].str.split("_").str[0]
    return pd.DataFrame(
        {
            "path": paths,
            "kind": "video",
            "label": is_fake.astype("int64"),
            "method": method,
            "identity": parts["identity"],
            "source_video": target.where(
                is_fake & method.str.contains(_SWAPS)
            ),  # who; the clip is not recorded
            "target_video": (parts["identity"] + "/" + clip).where(is_fake),
            "gender": gender,
            "race": race,
            "annotation": pd.Series(f"{NAME} folders", paths.index, TEXT).where(
                gender.notna() | race.notna()
            ),
        }
    )
