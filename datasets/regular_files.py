"""Files of strangers: opened only if they are ordinary files, read up to a stated size.

A pipe called ``a.mp4`` would be waited for, a device such as ``/dev/zero`` would be read without end.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

# One encoded picture; a picture of the largest size that is decoded has some 200 MB as raw bytes.
PICTURE_BYTES_MAX = 256 << 20


class NotAFile(OSError):
    """A path that names no ordinary file.

    A folder, pipe, socket or device, or no possible name at all.
    """


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """The ordinary file at a path, opened unbuffered for reading; links to one are followed.

    Raises:
        NotAFile: something else stands there, or the name holds a NUL.
        OSError: nothing stands there, or it may not be read.
    """
    # Without waiting: to open a pipe that nobody writes into would block for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except ValueError as error:  # a NUL in the name
        raise NotAFile(f"{error} in a file name") from error
    except OSError as error:
        if is_special(path):  # a socket cannot be opened at all
            raise NotAFile("not an ordinary file") from error
        raise
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise NotAFile("a folder" if stat.S_ISDIR(mode) else "not an ordinary file")
    return os.fdopen(handle, "rb", buffering=0)


def read_regular(path: str | os.PathLike[str], bytes_max: int = PICTURE_BYTES_MAX) -> bytes:
    """The bytes of an ordinary file.

    Raises:
        NotAFile: something else stands there, or it is larger than ``bytes_max``.
        OSError: nothing stands there, or it may not be read.
    """
    with open_regular(path) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        if size_bytes > bytes_max:
            raise NotAFile(f"{size_bytes} bytes, more than {bytes_max >> 20} MiB")
        return stream.read(bytes_max)


def is_special(path: str | os.PathLike[str]) -> bool:
    """True if a path names a pipe, a socket or a device."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
