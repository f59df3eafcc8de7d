"""Runs that share a folder.

Each holds a lock while it lives, and what killed runs left is removed.
The operating system frees a lock when its process ends, however it ends, so a lock that can be had belongs
to a run that is gone. That holds between machines too, on file systems that pass locks on (NFS, Lustre with
``flock``).
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unmasked.datasets.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"  # stays: removed, another run could wait for the lock of a file that is gone
PARTIAL = ".partial"
_OWN = re.compile(r"[0-9a-f]{1,8}(\.dead)?")  # how runs call their folders

logger = logging.getLogger(__name__)


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
            self._lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            if can_lock:
                _try_lock(self._lock)
            who = {"shard": shard, "host": socket.gethostname(), "process": os.getpid()}
            os.write(self._lock, json.dumps(who).encode())

    def close(self) -> None:
        """Removes the run's own folder, with whatever was not put in place."""
        with folder_lock(self._out):
            os.close(self._lock)
            _remove(self.folder)
            with suppress(OSError):  # another run is at work
                self._partial.rmdir()


@contextmanager
def folder_lock(out: Path) -> Iterator[bool]:
    """Held by one process at a time; False, and not held, where the system has no locks."""
    handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)  # frees the lock


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
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except OSError:  # killed before it made its lock, or a file of no run
        return None
    try:
        if _try_lock(handle):
            return None
        return json.loads(os.read(handle, 10_000) or b"{}")
    finally:
        os.close(handle)


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


def _lock(handle: int) -> bool:
    """Waits for the lock; False where the file system has none."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        logger.warning("no locks on this file system (%s): start each run only once", error.strerror)
        return False
    return True


def _try_lock(handle: int) -> bool:
    """True if the lock was free, and is held from here on."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
