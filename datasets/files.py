"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

SUFFIXES = (".parquet", ".csv")  # of tables that are written
FULL_BYTES = 1 << 16  # a disk with less room is full
SYNC_THREADS = 8  # file systems commit what is asked for at the same time in one go


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends without an error.

    The suffix is kept, since writers choose the format by it. After an error nothing is left. What is written
    is on the disk before it replaces anything: a machine that is lost leaves the old file or the new one.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes the file private; a result is as readable as any other new file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        sync_file(temporary)
        temporary.replace(target)
    except OSError as error:
        error.filename = error.filename or str(target)  # writers often do not say which file they could not
        raise
    except Exception as error:
        # Writers in Rust and C++ have errors of their own for a disk that is full.
        if "os error 28" in str(error) or (
            isinstance(error, RuntimeError) and shutil.disk_usage(target.parent).free < FULL_BYTES
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync_file(path: str | os.PathLike[str]) -> None:
    """Waits until a file's bytes are on the disk."""
    handle = os.open(path, os.O_RDWR)  # some systems sync only what may be written
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_files(paths: Iterable[Path]) -> None:
    """Waits until the bytes of all files are on the disk; together, ten times as fast."""
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        for _ in pool.map(sync_file, paths):
            pass


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text atomically."""
    # Half of a pair, which JSON can spell, becomes the code that JSON spells it by.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes bytes atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
