"""What is done already: each video's rows and crops, put in place together, found again by a later run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unmasked.datasets.archives import split_sequence_path
from unmasked.datasets.documents import read_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_json, write_text
from unmasked.preprocessing.claims import Claim, folder_lock
from unmasked.preprocessing.config import recipe_hash

# Failures that another run may escape: the file has come, the machine is less busy.
TRANSIENT = ("missing_file", "over_budget", "crashed")


@dataclass(frozen=True)
class Item:
    """One manifest row: its key, its file, and the folder that its crops and its part are named after."""

    key: tuple[str, str, str]  # dataset, video, compression ("" for none)
    root: str
    path: str
    kind: str
    folder: str  # POSIX, safe on any file system
    mask: str = ""  # path of the manipulation mask, where it decides which face is kept

    def size_bytes(self) -> int:
        """Size of the file, or of the archive that holds the sequence; -1 if it is absent."""
        try:
            return (Path(self.root) / split_sequence_path(self.path)[0]).stat().st_size
        except OSError:
            return -1


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
        if not shard:  # nobody else is here: what a run left that was killed while it wrote
            for leftover in (*out.glob(".faces-*.*"), *out.glob(".preview-*.png")):
                leftover.unlink(missing_ok=True)

    def workdir(self, item: Item) -> Path:
        """Where a worker writes an item's crops before they are put in place."""
        return self._claim.folder / _digest(item.key)[:16]

    def is_done(self, item: Item, *, even_if_transient: bool = False) -> bool:
        """Whether an item has its rows and all its crops, and its file has kept its size since.

        Args:
            item: the item.
            even_if_transient: count failures that another run may escape as done.
        """
        part = self._read(item)
        if part is None or part["size_bytes"] != item.size_bytes():
            return False
        if not even_if_transient and any(row["status"] in TRANSIENT for row in part["rows"]):
            return False
        crops = {Path(row["crop"]).name for row in part["rows"] if row["status"] == "ok"}
        return not crops or crops <= set(_names(self.out / "crops" / item.folder))

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
        """Puts an item's crops in place and then its rows; without a crop, what a worker left is dropped."""
        if not any(row["status"] == "ok" for row in rows):
            shutil.rmtree(self.workdir(item), ignore_errors=True)
        target = self._part(item)
        # First: rows that were there must not stand beside crops that are half replaced.
        target.unlink(missing_ok=True)
        _replace_folder(self.workdir(item), self.out / "crops" / item.folder)
        part = {
            "recipe": self.recipe,
            "key": item.key,
            "path": item.path,
            "mask": item.mask,
            "size_bytes": item.size_bytes(),
            "rows": rows,
        }
        # Written where the next run sweeps: killed in between, it leaves nothing among the parts.
        written = self._claim.folder / "part.json"
        write_text(written, json.dumps(_null_nan(part), ensure_ascii=False))
        target.parent.mkdir(parents=True, exist_ok=True)
        written.replace(target)

    def close(self) -> None:
        """Removes what was not put in place, and lets other runs in."""
        self._claim.close()

    def _read(self, item: Item) -> dict[str, Any] | None:
        """The part of an item; None if it has none of this recipe and file."""
        try:
            part = json.loads(self._part(item).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return None
        asked = {"recipe": self.recipe, "key": list(item.key), "path": item.path, "mask": item.mask}
        same = all(part[name] == value for name, value in asked.items())
        return part if same else None

    def _part(self, item: Item) -> Path:
        return self.out / "parts" / f"{item.folder}.json"


def in_shard(item: Item, shard: str) -> bool:
    """Whether an item belongs to a shard such as "3/16"; everything belongs to "".

    The item's name decides, so that a video stays in its shard when others join the manifest.
    """
    if not shard:
        return True
    number, count = map(int, shard.split("/"))
    return int(_digest(item.key), 16) % count == number - 1


def items(manifest: pd.DataFrame, *, with_mask: bool = False) -> list[Item]:
    """The items of a valid manifest, in its order; without ``root``, paths are as seen from here.

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
    """A folder ``<dataset>/<video>`` for each key (dataset, video, compression): relative and distinct.

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
        taken.add(folder.casefold())
        folders.append(folder)
    return folders


def _safe(name: str) -> str:
    name = re.sub(r"[^\w.+@=,() -]", "_", name)[:80]
    return re.sub(r"^[. ]+|[. ]+$", "_", name) or "_"


def _digest(key: tuple[str, str, str]) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest()


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


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
        write_json(path, recipe)
        return
    there = read_json(path, "delete the folder, or give another out=")
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
    """Moves the files of a folder in place of those in another; folders inside the other are left alone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    wanted = os.listdir(source) if source.is_dir() else []
    if wanted and not target.exists():
        source.rename(target)
        return
    if target.is_dir():
        for entry in target.iterdir():
            if entry.is_file():
                entry.unlink()
    for name in wanted:
        (source / name).replace(target / name)
    shutil.rmtree(source, ignore_errors=True)


def _null_nan(part: dict[str, Any]) -> dict[str, Any]:
    rows = [{name: None if value != value else value for name, value in row.items()} for row in part["rows"]]
    return {**part, "rows": rows}
