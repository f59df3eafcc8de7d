"""Runs that share a folder.

Each holds a lock while it lives, and what killed runs left is removed.
The operating system frees a lock when its process ends, however it ends, so a lock that can be had belongs
to a run that is gone. That holds between machines too, on file systems that pass locks on (NFS, Lustre with
``flock``).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
from contextlib import suppress
from pathlib import Path

from unmasked.datasets.errors import InputError
from unmasked.datasets.locks import LOCK, folder_lock, try_lock

PARTIAL = ".partial"
_WHO = "run.json"  # not the lock itself: some systems let nobody read a file that is locked
_OWN = re.compile(r"[0-9a-f]{1,8}(\.dead)?")  # how runs call their folders


class Claim:
    """A run's own folder below ``out``, which tells other runs which videos it makes.

    Args:
        out: folder of the faces table.
        shard: "3/16", or "" for all of it.

    Raises:
        InputError: another run is at work on the same shard, or on all of it.
    """

    def __init__(self, out: Path, shard: str = "") -> None:
        self._partial = out / PARTIAL
        self._out = out
        self.folder = self._partial / secrets.token_hex(4)
        with folder_lock(out) as can_lock:
            if can_lock:
                for other in sweep(out):
                    _refuse_overlap(out, shard, other)
            self.folder.mkdir(parents=True)
            who = {"shard": shard, "host": socket.gethostname(), "process": os.getpid()}
            (self.folder / _WHO).write_text(json.dumps(who), encoding="utf-8")
            self._lock = try_lock(self.folder / LOCK) if can_lock else None

    def close(self) -> None:
        """Removes the run's own folder, with whatever was not put in place."""
        with folder_lock(self._out):
            if self._lock is not None:
                self._lock.release()
            _remove(self.folder)
            with suppress(OSError):  # another run is at work
                self._partial.rmdir()


def sweep(out: Path) -> list[dict[str, object]]:
    """Shard, host and process of the live runs; removes what killed runs left.

    Call it under `folder_lock`.
    """
    alive = []
    for folder in sorted((out / PARTIAL).glob("*")):
        if not _OWN.fullmatch(folder.name):  # somebody else's
            continue
        if (who := _owner(folder)) is None:
            _remove(folder)
        else:
            alive.append(who)
    return alive


def _owner(folder: Path) -> dict[str, object] | None:
    """Who holds the lock of a run's folder; None if nobody does."""
    if not (folder / LOCK).is_file():  # killed before it made its lock, or a file of no run
        return None
    if (lock := try_lock(folder / LOCK)) is not None:
        lock.release()
        return None
    try:
        return json.loads((folder / _WHO).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _refuse_overlap(out: Path, shard: str, other: dict[str, object]) -> None:
    theirs = str(other.get("shard", ""))
    number, _, count = shard.partition("/")
    their_number, _, their_count = theirs.partition("/")
    if count and count == their_count and number != their_number:
        return
    what = f"shard {theirs}" if theirs else "all of it"
    raise InputError(
        f"out={out} is being filled by another run ({what}, process {other.get('process')} on "
        f"{other.get('host')}); wait until it has ended, or give another out="
    )


def _remove(folder: Path) -> None:
    """Removes a folder, although a worker of a killed run may be writing into it for a moment more."""
    if not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    dead = folder.with_name(f"{folder.name}.dead")
    with suppress(OSError):
        folder.rename(dead)  # paths that the worker knows lead nowhere from here on
    shutil.rmtree(dead, ignore_errors=True)
