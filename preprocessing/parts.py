"""What is done already: each video's rows and crops, which a later run finds again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unmasked.datasets.archives import archive_file, is_image, split_sequence_path
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import sync_files
from unmasked.datasets.locks import folder_lock
from unmasked.preprocessing.claims import Claim
from unmasked.preprocessing.config import look_of, recipe_hash, terms_of
from unmasked.preprocessing.faces import FRAME_MAX, STATUSES

TERMS_MAX = 500  # characters
FOLDER_CHARACTERS_MAX = 400  # paths end at 4,096 bytes on Linux
# What preprocessing calls its own files; others are never removed.
_CROP = re.compile(r"\d{5,}_\d+\.(png|jpg)")
_LEFTOVER = re.compile(r"\.(faces-\w{8}\.parquet|preview-\w{8}\.png|unused-\w{8}\.csv)")

# Failures that another run may escape: the file has come, the machine is less busy.
TRANSIENT = ("missing_file", "over_budget", "crashed")


@dataclass(frozen=True)
class Item:
    """One manifest row: its key, its file, and the folder that gives crops and part a name."""

    key: tuple[str, str, str]  # dataset, video, compression ("" for none)
    root: str
    path: str
    kind: str
    folder: str  # POSIX, safe on any file system
    mask: str = ""  # path of the manipulation mask, where it decides which face is kept

    def stamp(self) -> list[str]:
        """What tells whether the file, and the mask, are as they were: see `stamp_of`."""
        files = [_file_of(path) for path in (self.path, self.mask) if path]
        return [stamp_of(Path(self.root) / file) for file in files]


def card_of_crops(faces: pd.DataFrame, crops_root: Path) -> dict[str, Any]:
    """What a detector's card says of the crops that it learned from.

    Told by the ``recipe.json`` of each folder of crops, those of a joined table too.

    Returns:
        terms_of_crops: the terms of models behind them that exclude a use. crops: their recipe. An entry is
        absent where there is none; the recipe also where not all crops look alike.
    """
    found: list[dict[str, Any]] = []
    folders = sorted({crop.partition("crops/")[0] for crop in faces["crop"].dropna()})
    for folder in folders:
        with suppress(OSError, ValueError, RecursionError):
            recipe = json.loads((crops_root / folder / "recipe.json").read_text(encoding="utf-8"))
            if isinstance(recipe, dict):
                found.append(recipe)
    said = [recipe.pop("terms", None) for recipe in found]
    terms = "; ".join(dict.fromkeys(one[:TERMS_MAX] for one in said if isinstance(one, str)))
    is_one = len(found) == len(folders) and all(look_of(recipe) == look_of(found[0]) for recipe in found)
    one = {"crops": found[0]} if is_one and found and look_of(found[0]) else {}
    return {**({"terms_of_crops": terms} if terms else {}), **one}


def _file_of(path: str) -> Path:
    archive, folder = split_sequence_path(path)
    return Path(archive) if folder is None else archive_file(archive)


def stamp_of(path: Path) -> str:
    """Size, time of the last change and number (inode) of a file.

    Of a folder, a hash of its images' stamps.
    Whoever changes a file's bytes in place and sets its time back is not noticed. "" if there is no file.
    """
    try:
        status = path.stat()
        if not path.is_dir():
            return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
        with os.scandir(path) as entries:
            images = {entry.name: entry.stat() for entry in entries if is_image(entry.name)}
    except (OSError, ValueError):  # absent, or no possible name
        return ""
    digest = hashlib.sha256()
    for name, image in sorted(images.items()):
        digest.update(os.fsencode(f"{name} {image.st_size} {image.st_mtime_ns} {image.st_ino}\n"))
    return digest.hexdigest()


class Parts:
    """The folder of a faces table while it is made: ``recipe.json``, ``parts/``, ``crops/``.

    A part is one video's rows. It is written last, so a video whose part exists has all its crops, and one
    whose part is absent counts as not done, whatever a killed run has left behind. Several runs may fill
    the folder at once if each makes another shard of the same number (see `unmasked.preprocessing.claims`).

    Args:
        out: folder of the faces table, made if it is absent.
        recipe: see `unmasked.preprocessing.config.recipe`.
        shard: "3/16", or "" for a run that makes all that is lacking.

    Raises:
        InputError: the folder holds crops of another recipe, cannot be written, or another run is at work
            on the same videos.
    """

    def __init__(self, out: Path, recipe: dict[str, Any], shard: str = "") -> None:
        self.out = out
        self.recipe = recipe_hash(recipe)
        _open(out, recipe)
        self._claim = Claim(out, shard)
        self._stamps: dict[tuple[str, str, str], list[str]] = {}  # from before the files are read
        if not shard:  # nobody else is here: what a run left that was killed while it wrote
            for leftover in out.iterdir():
                if _LEFTOVER.fullmatch(leftover.name):
                    leftover.unlink(missing_ok=True)

    def workdir(self, item: Item) -> Path:
        """Where a worker writes an item's crops before they are put in place."""
        return self._claim.folder / _digest(item.key)[:16]

    def is_done(self, item: Item, *, even_if_transient: bool = False) -> bool:
        """True if an item has all rows and whole crops, and its file has not changed since.

        Args:
            item: the item.
            even_if_transient: count failures that another run may escape as done.
        """
        self._stamps[item.key] = item.stamp()
        part = self._read(item)
        if part is None or part["stamp"] != self._stamps[item.key]:
            return False
        if not even_if_transient and any(row["status"] in TRANSIENT for row in part["rows"]):
            return False
        paths = {row["crop"] for row in part["rows"] if row["status"] == "ok"}
        crops = {Path(path).name for path in paths}
        if paths != {f"crops/{item.folder}/{name}" for name in crops}:  # edited: it may lead anywhere
            return False
        # Sizes too: a crop that a full disk or a lost machine has emptied or cut is not done.
        there = _sizes(self.out / "crops" / item.folder)
        return all(name in there and there[name] == part["crop_bytes"].get(name) for name in crops)

    def rows(self, item: Item) -> list[dict[str, Any]]:
        """The rows of an item that has been put in place.

        Raises:
            RuntimeError: the part has vanished since.
        """
        part = self._read(item)
        if part is None:
            raise RuntimeError(f"{self._part(item)} was changed or removed during the run; start it again")
        return part["rows"]

    def put(self, item: Item, rows: list[dict[str, Any]]) -> None:
        """Puts an item's crops in place, then its rows; without a crop, drops a worker's files.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            self._put(item, rows)
        except OSError as error:
            raise InputError(
                f"out={self.out} cannot be written ({error.strerror}: {item.folder}); free space or give "
                "another out=; what is done stays done"
            ) from error

    def _put(self, item: Item, rows: list[dict[str, Any]]) -> None:
        if not any(row["status"] == "ok" for row in rows):
            shutil.rmtree(self.workdir(item), ignore_errors=True)
        target = self._part(item)
        # First: rows that were there must not be beside crops that are half replaced.
        target.unlink(missing_ok=True)
        crops = self.out / "crops" / item.folder
        _replace_folder(self.workdir(item), crops)
        sizes = _sizes(crops)
        sync_files(crops / name for name in sizes)  # before a part says that they are there
        part = {
            "recipe": self.recipe,
            "key": item.key,
            "path": item.path,
            "mask": item.mask,
            "stamp": self._stamps.get(item.key) or item.stamp(),
            "crop_bytes": sizes,
            "rows": rows,
        }
        # Written where the next run removes leftovers: killed in between, it leaves nothing among the parts.
        written = self._claim.folder / "part.json"
        with open(written, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(_null_nan(part), ensure_ascii=False))
            stream.flush()
            os.fsync(stream.fileno())  # a part that survives a lost machine says what it was meant to say
        target.parent.mkdir(parents=True, exist_ok=True)
        written.replace(target)

    def close(self) -> None:
        """Removes what was not put in place, and lets other runs in."""
        self._claim.close()

    def _read(self, item: Item) -> dict[str, Any] | None:
        """The part of an item; None if it has none of this recipe and file."""
        try:
            part = json.loads(self._part(item).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        asked = {"recipe": self.recipe, "key": list(item.key), "path": item.path, "mask": item.mask}
        return part if _is_part(part) and all(part[name] == value for name, value in asked.items()) else None

    def _part(self, item: Item) -> Path:
        return self.out / "parts" / f"{item.folder}.json"


def is_in_shard(item: Item, shard: str) -> bool:
    """True if an item belongs to a shard such as "3/16"; everything belongs to "".

    The item's name decides, so that a video stays in its shard when others join the manifest.
    """
    if not shard:
        return True
    number, count = map(int, shard.split("/"))
    return int(_digest(item.key), 16) % count == number - 1


def items(manifest: pd.DataFrame, *, with_mask: bool = False) -> list[Item]:
    """The items of a valid manifest, in its order.

    Without ``root``, paths are as seen from here.

    Args:
        manifest: valid under `unmasked.datasets.manifest.MANIFEST`.
        with_mask: whether masks decide which faces are kept, and so belong to an item.
    """
    columns = manifest[["dataset", "video", "compression", "root", "path", "kind", "mask"]].astype(object)
    rows = columns.where(columns.notna(), "").itertuples(index=False, name=None)
    named = [(row[:3], *row[3:]) for row in rows]
    folders = safe_folders([key for key, *_ in named])
    return [
        Item(key, root, path, kind, folder, mask if with_mask else "")
        for (key, root, path, kind, mask), folder in zip(named, folders, strict=True)
    ]


def safe_folders(keys: Iterable[tuple[str, str, str]]) -> list[str]:
    """A folder ``<dataset>/<video>`` for each key (dataset, video, compression).

    Relative and distinct.
    Names come from users: what a file system cannot hold or what leads out of the folder is replaced, and
    a hash of the key keeps such names apart.

    >>> safe_folders([("Celeb-DF-v2", "Celeb-real/id0_0000", ""), ("x", "../../etc/passwd", "")])
    ['Celeb-DF-v2/Celeb-real/id0_0000', 'x/_/_/etc/passwd-179e33da']
    """
    taken: set[str] = set()
    folders = []
    for key in keys:
        dataset, video, compression = key
        names = [dataset, *video.split("/")]
        if compression and compression not in names:
            names[-1] += f"@{compression}"
        safe = [_safe(name) for name in names]
        folder = "/".join(safe)
        if safe != names or folder.casefold() in taken:
            folder += f"-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]}"
        if len(folder) > FOLDER_CHARACTERS_MAX:
            digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
            folder = f"{folder[:100].rstrip('/. ')}-{digest}"
        taken.add(folder.casefold())
        folders.append(folder)
    return folders


def _safe(name: str) -> str:
    name = re.sub(r"[^\w.+@=,() -]", "_", name)[:80]
    return re.sub(r"^[. ]+|[. ]+$", "_", name) or "_"


def _digest(key: tuple[str, str, str]) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest()


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of the crops in a folder, by name."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if _CROP.fullmatch(entry.name)}
    except OSError:
        return {}


def _is_part(part: Any) -> bool:
    """True if what a part's file holds is one, whoever has edited or damaged it."""
    kinds = {"key": list, "path": str, "mask": str, "stamp": list, "crop_bytes": dict, "rows": list}
    kinds["recipe"] = str
    if not isinstance(part, dict):
        return False
    has_fields = all(isinstance(part.get(name), kind) for name, kind in kinds.items())
    return has_fields and bool(part["rows"]) and all(map(_is_row, part["rows"]))


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or row.get("status") not in STATUSES:
        return False
    has_place = all(type(row.get(name)) is int for name in ("frame", "face")) and row["frame"] <= FRAME_MAX
    return has_place and (row["status"] != "ok" or isinstance(row.get("crop"), str))


def _open(out: Path, recipe: dict[str, Any]) -> None:
    """Makes the folder and writes its recipe, or checks the recipe against the one that is there."""
    if out.exists() and not out.is_dir():
        raise InputError(f"out={out} is a file; give a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with folder_lock(out):  # two runs of different recipes may start at the same moment
            for leftover in out.glob(".recipe-*.json"):
                leftover.unlink(missing_ok=True)
            _write_or_compare(out, recipe)
    except OSError as error:
        raise InputError(f"out={out} cannot be written ({error.strerror}); give a folder that can") from error


def _write_or_compare(out: Path, recipe: dict[str, Any]) -> None:
    path = out / "recipe.json"
    if not path.is_file():
        foreign = [name for name in ("crops", "parts", "faces.parquet") if (out / name).exists()]
        if foreign:
            raise InputError(
                f"out={out} holds {foreign[0]} but no recipe.json, so that preprocess has not made it and "
                "nothing in it is touched; give a new or empty folder"
            )
        write_json(path, recipe | ({"terms": terms} if (terms := terms_of(recipe)) else {}))
        return
    there = None
    with suppress(ValueError, RecursionError):
        there = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(there, dict) or not isinstance(there.get("versions"), dict):
        raise InputError(
            f"{path} is damaged, so that nobody can say how the crops beside it were made; give another "
            "out=, or delete the folder"
        )
    there.pop("terms", None)  # what a reader must know, and no setting
    if there != recipe:
        raise InputError(
            f"{out} holds crops made with other settings ({_differences(there, recipe)}); give another "
            "out=, use the old settings, or delete the folder"
        )


def _differences(there: dict[str, Any], now: dict[str, Any]) -> str:
    flat = [{**recipe, **recipe.get("versions", {})} for recipe in (there, now)]
    names = [name for name in {**flat[0], **flat[1]} if name != "versions"]
    return ", ".join(
        f"{name} {flat[0].get(name, 'none')} there, {flat[1].get(name, 'none')} now"
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    )


def _replace_folder(source: Path, target: Path) -> None:
    """Moves crops in place of those in another folder; there, only what is named as a crop is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    wanted = os.listdir(source) if source.is_dir() else []
    if wanted and not target.exists():
        source.rename(target)
        return
    if target.is_dir():
        for entry in target.iterdir():
            if _CROP.fullmatch(entry.name) and entry.is_file():
                entry.unlink()
    for name in wanted:
        (source / name).replace(target / name)
    shutil.rmtree(source, ignore_errors=True)


def _null_nan(part: dict[str, Any]) -> dict[str, Any]:
    rows = [{name: None if value != value else value for name, value in row.items()} for row in part["rows"]]
    return {**part, "rows": rows}
