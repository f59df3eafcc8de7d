"""Where the crops of a faces table lie: below the folder of the table, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from unmasked.datasets.errors import InputError


def crop_paths(crops: Iterable[str], root: str | os.PathLike[str]) -> list[Path]:
    """The path of each crop, checked before any of them is opened; files may be absent.

    Args:
        crops: the column ``crop`` of a faces table.
        root: folder of the table, which the crops are relative to.

    Raises:
        InputError: a crop lies outside ``root``: an absolute path, one with ``..``, or a link that leads out.
    """
    paths = [Path(root) / crop for crop in crops]
    names: dict[str, set[str]] = {}  # of each folder: a folder is asked once, however many crops it holds
    for path in paths:
        names.setdefault(os.path.dirname(path), set()).add(path.name)
    home = os.path.realpath(root)
    for folder, files in names.items():
        try:
            inside = os.path.realpath(folder)
        except ValueError as error:  # a NUL in the name
            raise InputError(
                f"crop folder {folder!r} cannot be read ({error}); mend the faces table"
            ) from error
        if not _is_below(inside, home):
            raise InputError(_outside_words(Path(folder, min(files)), root))
        for name in _links(inside, files):
            if not _is_below(os.path.realpath(os.path.join(inside, name)), home):
                raise InputError(_outside_words(Path(folder, name), root))
    return paths


def _links(folder: str, names: set[str]) -> list[str]:
    """Those of the files that are symbolic links."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name in names and entry.is_symlink())
    except OSError:  # absent or not readable: whoever opens a crop says so
        return []


def _is_below(path: str, home: str) -> bool:
    return path == home or path.startswith(home.rstrip(os.sep) + os.sep)


def _outside_words(crop: Path, root: str | os.PathLike[str]) -> str:
    return (
        f"crop {crop} lies outside {root}, the folder of its faces table, and only crops below it are read; "
        "move the table or the crops (`unmasked join` writes one table into a folder that holds all crops)"
    )
