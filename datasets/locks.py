"""Locks among processes.

The operating system frees a lock when its process ends, however it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"  # stays: removed, another run could wait for the lock of a file that is gone

logger = logging.getLogger(__name__)


@contextmanager
def folder_lock(folder: Path, name: str = LOCK) -> Iterator[bool]:
    """Waits for a folder's lock; False, and not held, where the file system has no locks.

    It works between machines where the file system passes locks on (NFS, Lustre with ``flock``).
    """
    lock = FileLock(folder / name)
    try:
        lock.acquire()
    except NotImplementedError:
        logger.warning("no locks on the file system of %s: start each run only once", folder)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def try_lock(path: Path) -> FileLock | None:
    """The lock of a path, held until its ``release()``; None if another process holds it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock
