"""Where a command writes, looked at before it works for hours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import BaseModel

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import SUFFIXES

# What the system answers where something cannot be written or read; ENOENT may be our own fault.
SYSTEM_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR),
    *(errno.ENAMETOOLONG, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ELOOP),
}


# The keys with the folders that a verb fills with files that belong together.
FILLS = {
    **dict.fromkeys(("evaluate", "mitigate", "compare", "audit", "threshold", "serve"), ("out",)),
    **dict.fromkeys(("import-checkpoint", "export-crops", "demo", "plan", "ensemble", "inspect"), ("out",)),
    "fairness": ("out", "since"),  # what was watched since is added to
    "fid": ("out",),
    "explain": ("folder",),
    "report": ("folder",),
}
MADE = ("out", "folder")  # the others must be there already


def check_paths(config: BaseModel) -> None:
    """Refuses paths that no file can have, and an ``out`` that cannot be written.

    An ``out`` whose default is a table is one; one whose default has no suffix is a folder.

    Raises:
        InputError: a path holds a NUL, or ``out`` cannot be made, cannot be written or is of the wrong kind.
    """
    for name in type(config).model_fields:
        if isinstance(value := getattr(config, name), Path) and "\0" in str(value):
            raise InputError(f"{name} holds a NUL, which no path can; give another")
    out = getattr(config, "out", None)
    if not isinstance(out, Path):
        return
    default = type(config).model_fields["out"].default
    if default is None and getattr(config, "writes_folder", False):
        default = Path()  # the folder of what was given
    if isinstance(default, Path):
        if default.suffix in SUFFIXES and out.suffix not in SUFFIXES:
            raise InputError(f"out={out} has the suffix {out.suffix!r}; give a .parquet or .csv file")
        if default.suffix and out.is_dir():
            raise InputError(f"out={out} is a folder; give a file")
        if not default.suffix and out.exists() and not out.is_dir():
            raise InputError(f"out={out} is a file; give a folder")
    _check_writable(out)


@contextmanager
def only_one_writes(verb: str, config: BaseModel) -> Iterator[None]:
    """Holds the lock of each folder that a verb fills with several files: see `only_one_in`.

    A table is written whole. `preprocess`, `train`, `tune` and `generate` know how to share a folder, and
    lock it themselves.
    """
    from unmasked.app.run import only_one_in

    folders: dict[Path, Path] = {}
    for key in FILLS.get(verb, ()):
        folder = getattr(config, key, None)
        if isinstance(folder, Path) and (key in MADE or folder.is_dir()):
            folders.setdefault(folder.resolve(), folder)
    with ExitStack() as held:
        for folder in folders.values():
            held.enter_context(only_one_in(folder, verb))
        yield


def _check_writable(out: Path) -> None:
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    if place != out and not place.is_dir():
        raise InputError(f"out={out} lies below {place}, which is a file; give another out=")
    if not os.access(place, os.W_OK | (os.X_OK if place.is_dir() else 0)):
        raise InputError(f"out={out} cannot be written ({place} may not be written); give another out=")


def system_sentence(error: OSError) -> str:
    """What a refusal of the system means, and what to do, in one sentence."""
    name = str(error.filename or "a file")
    where = name if len(name) <= 120 else f"{name[:60]}…{name[-40:]}"
    return (
        f"{where}: {error.strerror}; files that were finished before are whole. Make room, mend the "
        "permissions or give another path"
    )
