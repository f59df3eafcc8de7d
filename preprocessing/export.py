"""Crops for DeepfakeBench: an LMDB and a list for each dataset, as its loader reads them.

    <out>/dataset_json/<dataset>.json      label > split > [compression >] video > {"label", "frames"}
    <out>/<dataset>_lmdb/data.mdb          <dataset>\\…\\frames\\<video>\\<frame>.png -> the file's bytes

The frames of the list are the keys of the LMDB. Labels are DeepfakeBench's own where it knows the dataset,
else ``<dataset>_Real`` and ``<dataset>_Fake``, which its ``label_dict`` must be given. Masks and its 81
landmarks are not written.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from unmasked.datasets.archives import LMDB_SUFFIX
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import SPLITS
from unmasked.datasets.regular_files import read_regular
from unmasked.datasets.sources.deepfakebench import METHODS
from unmasked.preprocessing.ready import fault_of

KEY_BYTES_MAX = 511  # LMDB's own limit
KEY_RULE = f"at most {KEY_BYTES_MAX} bytes, no '..', no backslash"
PUTS = 1000  # of one transaction, which holds its values in memory
# The beginnings of DeepfakeBench's labels, and its words for real and fake.
_LABELS = {
    "Celeb-DF-v1": ("CelebDFv1", "real", "fake"),
    "Celeb-DF-v2": ("CelebDFv2", "real", "fake"),
    "DeepFakeDetection": ("DFD", "real", "fake"),
    "DFDC": ("DFDC", "Real", "Fake"),
    "UADFV": ("UADFV", "Real", "Fake"),
}
_FACEFORENSICS = "FaceForensics++"


@dataclass
class Exported:
    """What was written of each dataset, and how many rows were not, by reason."""

    crops: Counter[str] = field(default_factory=Counter)  # by dataset
    videos: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)


def export_crops(faces: pd.DataFrame, crops_root: Path, out: Path) -> Exported:
    """Writes the LMDB and the list of each dataset of a faces table.

    Args:
        faces: valid under `unmasked.preprocessing.faces.FACES`; rows without a crop or label are counted and
            left out, as are those whose video's name is too long, leads out of its folder or has a backslash.
            Each face of a video but the first is a video of its own.
        crops_root: folder that ``crop`` paths are relative to.
        out: folder of the files; none of them may be there.

    Raises:
        InputError: the package lmdb is not installed, a file is there already, or no row is left.
    """
    lmdb = _library()
    done = Exported()
    kept = _usable(faces, done)
    if kept.empty:
        reasons = ", ".join(f"{count} {reason}" for reason, count in done.unused.most_common())
        raise InputError(f"no row of the faces table can be exported ({reasons or 'it has none'})")
    for dataset in kept["dataset"].unique():
        if "/" in dataset or "\\" in dataset or dataset.startswith("."):
            raise InputError(f"dataset {dataset!r} cannot be the name of a folder; rename it in the table")
        for path in _paths(out, dataset):
            if path.exists():
                raise InputError(f"{path} is there already; move it or give another out=")
    for dataset, rows in kept.groupby("dataset", sort=False):
        _export_dataset(lmdb, str(dataset), rows, crops_root, out, done)
    return done


def _library() -> Any:
    try:
        return importlib.import_module("lmdb")
    except ImportError as error:
        raise InputError("to write an LMDB takes a package: pip install unmasked[lmdb]") from error


def _paths(out: Path, dataset: str) -> tuple[Path, Path]:
    return out / f"{dataset}{LMDB_SUFFIX}", out / "dataset_json" / f"{dataset}.json"


def _usable(faces: pd.DataFrame, done: Exported) -> pd.DataFrame:
    has_crop = (faces["status"] == "ok") & faces["crop"].notna()
    is_labelled = faces["label"].notna()
    done.unused["without a crop"] = int((~has_crop).sum())
    done.unused["without a label"] = int((has_crop & ~is_labelled).sum())
    kept = faces[has_crop & is_labelled]
    kept = kept.assign(key=[_key(crop) for crop in _crops(kept.assign(key=""))])
    has_key = kept["key"] != ""
    done.unused[f"whose name cannot be a key of an LMDB ({KEY_RULE})"] = int((~has_key).sum())
    done.unused += Counter()  # drops zeros
    return kept[has_key]


def _crops(rows: pd.DataFrame) -> Iterator[_Crop]:
    wanted = rows[list(_Crop._fields)].astype(object)
    for row in wanted.where(wanted.notna(), "").itertuples(index=False, name=None):
        yield _Crop(*row)


def _export_dataset(
    lmdb: Any, dataset: str, rows: pd.DataFrame, crops_root: Path, out: Path, done: Exported
) -> None:
    listed: dict[str, Any] = {}
    folder, list_file = _paths(out, dataset)
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    paths = [crops_root / crop for crop in rows["crop"]]
    bytes_max = sum(os.path.getsize(path) for path in paths if path.is_file())
    # Room for three pages a value and some for the tree: the file is as large as what is put into it.
    bytes_max += len(rows) * 3 * 4096 + (16 << 20)
    with lmdb.open(str(unfinished), map_size=bytes_max, lock=False) as database:
        entries = _entries(dataset, rows, crops_root, listed, done)
        while batch := list(islice(entries, PUTS)):
            with database.begin(write=True) as transaction:
                for key, value in batch:
                    transaction.put(key, value)
    os.replace(unfinished, folder)
    write_json(list_file, {dataset: listed})


def _entries(
    dataset: str, rows: pd.DataFrame, crops_root: Path, listed: dict[str, Any], done: Exported
) -> Iterator[tuple[bytes, bytes]]:
    """Yields (key, bytes of the file) of each crop, and enters its frame into the list."""
    for crop in _crops(rows):
        path = crops_root / crop.crop
        if fault := fault_of(str(path)):
            done.unused[f"of a crop that cannot be read ({fault})"] += 1
            continue
        done.videos[dataset] += _list_frame(listed, label_word(dataset, crop.label, crop.method), crop)
        done.crops[dataset] += 1
        yield crop.key.encode(), read_regular(path)


class _Crop(NamedTuple):
    """What of a row of the faces table an export needs; "" for what is missing."""

    dataset: str
    video: str
    label: int
    method: str
    split: str
    compression: str
    frame: int
    face: int
    crop: str
    key: str  # in the LMDB


def _key(crop: _Crop) -> str:
    """The key of a crop; "" where its video has a name of which none can be made."""
    *above, name = (part for part in crop.video.split("/") if part not in ("videos", "frames"))
    level = [crop.compression] if crop.compression and crop.compression not in above else []
    name += f"_face{crop.face}" if crop.face else ""
    key = "\\".join(
        [crop.dataset, *above, *level, "frames", name, f"{crop.frame:03d}{Path(crop.crop).suffix.lower()}"]
    )
    if len(key.encode()) > KEY_BYTES_MAX or ".." in above or "\\" in crop.video:
        return ""
    return key


def _list_frame(listed: dict[str, Any], word: str, crop: _Crop) -> int:
    """Enters a frame into the list; how many videos it adds to it: 1, or 0 behind its first frame."""
    videos = listed.setdefault(word, {split: {} for split in SPLITS})[crop.split]
    videos = videos.setdefault(crop.compression, {}) if crop.compression else videos
    folder = crop.key.rpartition("\\")[0]
    name = folder.rpartition("\\")[2]
    # Two videos of one name below a label are told apart by their folders.
    if name in videos and videos[name]["frames"][0].rpartition("\\")[0] != folder:
        name = folder.replace("\\", "_")
    entry = videos.setdefault(name, {"label": word, "frames": []})
    entry["frames"].append(crop.key)
    return int(len(entry["frames"]) == 1)


def label_word(dataset: str, label: int, method: str) -> str:
    """DeepfakeBench's word for a label.

    >>> label_word("FaceForensics++", 1, "Deepfakes"), label_word("Celeb-DF-v2", 0, "real")
    ('FF-DF', 'CelebDFv2_real')
    >>> label_word("ours", 1, "swap")
    'ours_Fake'
    """
    if dataset == _FACEFORENSICS:
        words = {known: word for word, known in METHODS.items() if word.startswith("FF-")}
        return words.get(method, f"FF-{method}") if label else "FF-real"
    begin, real, fake = _LABELS.get(dataset, (dataset, "Real", "Fake"))
    return f"{begin}_{fake if label else real}"
