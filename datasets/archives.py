"""Image sequences, read out of tar archives and LMDB in place: nothing is extracted.

WildDeepfake keeps each face track as a folder of PNG files inside ``*.tar.gz``; DeepfakeBench may keep the
files of a dataset as values of an LMDB, the folder ``<dataset>_lmdb``, whose keys are their paths. A sequence
is named ``<archive>!<folder inside>``, relative to the dataset's root; a sequence that has been extracted
already is named by its folder alone. All are read here, by the same functions.

An archive is refused as a whole, by name, if any of its members would leave the folder it is unpacked
in (absolute, ``..``), is a link or a device, or if the archive is cut short or blows up when unpacked.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from unmasked.datasets.errors import InputError
from unmasked.datasets.lmdb_files import DATA_FILE, Value, list_values, read_value
from unmasked.datasets.regular_files import open_regular

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
LMDB_SUFFIX = "_lmdb"  # of a folder
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".avif")

MEMBER_BYTES_MAX = 64 << 20  # one image
MEMBERS_MAX = 200_000
# PNG and JPEG hardly shrink under gzip, so an archive that unpacks to far more than its size is a bomb.
RATIO_MAX = 100
RATIO_FREE_BYTES = 64 << 20
HEADER_BYTES_MAX = 1 << 20  # one long name or pax header
HEADERS_BYTES_MAX = 32 << 20  # all of them in one archive

_DIGITS = "0123456789"
# A frame's index must fit a 64-bit integer with room for arithmetic; time stamps of 20 digits do not.
_FRAME_NUMBER = re.compile(r"(?<![0-9])([0-9]{1,15})$")
_SEPARATOR = re.compile(r"^(?P<archive>.*?(?:\.(?:tar\.gz|tgz|tar)|_lmdb))!(?P<folder>.*)$", re.IGNORECASE)
# tarfile raises the last three on sparse maps that are no numbers and on headers that nest without end.
_BROKEN = (
    *(tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, OSError),
    *(ValueError, OverflowError, RecursionError, IndexError, KeyError),
)


class ArchiveError(InputError):
    """An archive, or a sequence in it, that is not read: hostile, cut short, or absent."""


def check_zip(path: str | os.PathLike[str]) -> None:
    """Raises ArchiveError where a ZIP unpacks to far more than its size.

    A ``.pth``, ``.npz`` or ``.skops`` is one. What is none, or damaged, is left to who reads it.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            total_bytes = sum(member.file_size for member in packed.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return
    if total_bytes > RATIO_MAX * os.stat(path).st_size + RATIO_FREE_BYTES:
        raise ArchiveError(
            f"{path} is refused: it unpacks to {total_bytes / 1e6:,.0f} MB, over {RATIO_MAX} times its size; "
            "nothing was read"
        )


def is_image(name: str | os.PathLike[str]) -> bool:
    """True if the name is that of an image file; hidden files (``._1.png``) are not."""
    base = os.fspath(name).replace("\\", "/").rsplit("/", 1)[-1]
    return base.lower().endswith(IMAGE_SUFFIXES) and not base.startswith(".")


def split_sequence_path(path: str) -> tuple[str, str | None]:
    """The archive and the folder inside it; (path, None) for a path that names no archive.

    >>> split_sequence_path("real_test/7.tar.gz!7/real/0")
    ('real_test/7.tar.gz', '7/real/0')
    >>> split_sequence_path("real_test/7/real/0")
    ('real_test/7/real/0', None)
    """
    found = _SEPARATOR.match(path)
    return (found["archive"], found["folder"]) if found else (path, None)


def archive_file(archive: str | os.PathLike[str]) -> Path:
    """The file that an archive's bytes are in: itself, or the ``data.mdb`` of an LMDB.

    >>> archive_file("FaceForensics++_lmdb").as_posix(), archive_file("7.tar.gz").as_posix()
    ('FaceForensics++_lmdb/data.mdb', '7.tar.gz')
    """
    path = Path(archive)
    return path / DATA_FILE if path.name.lower().endswith(LMDB_SUFFIX) else path


def sequence_members(archive: str | os.PathLike[str]) -> dict[str, list[str]]:
    """The image members of each folder of an archive or LMDB, in frame order.

    Folders are POSIX paths inside the archive; images that lie at its top are in the folder ``"."``.
    Member names are kept as they are in the archive; the backslashes of an LMDB's keys are slashes.

    Raises:
        ArchiveError: the archive is absent, hostile, cut short or no archive.
    """
    path = archive_file(archive)
    if not path.is_file():
        raise ArchiveError(
            f"archive {path} does not exist; give the path of a .tar.gz, .tgz or .tar file, or of a folder "
            f"…{LMDB_SUFFIX} that holds {DATA_FILE}"
        )
    status = path.stat()
    listed = _list_members(str(path), status.st_size, status.st_mtime_ns)
    return {folder: list(names) for folder, names in listed}


def sequence_frames(root: str | os.PathLike[str], path: str) -> list[int]:
    """Frame indices of a sequence, ascending.

    ``path`` as in the manifest, relative to ``root``.
    The index is the number that ends the file's name (``frame_0012.png`` is 12). Where a name has none,
    or two have the same, all frames of the sequence are numbered from 0 in the order of their names.

    Raises:
        ArchiveError: the archive cannot be read, or has no such folder of images.
    """
    return frame_indices(_members(root, path))


def read_member_images(
    root: str | os.PathLike[str], path: str, frames: Collection[int] | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yields (frame index, encoded image bytes) of a sequence in frame order.

    Args:
        root: the dataset's root.
        path: ``<archive>!<folder>``, or the folder of an extracted sequence, relative to ``root``.
        frames: only these frame indices (see `sequence_frames`); all where None. The wanted images of an
            archived sequence are held in memory together, since a compressed archive is read once, forwards.

    Raises:
        ArchiveError: the archive cannot be read, or has no such folder of images.
    """
    names = _members(root, path)
    index_of = dict(zip(names, frame_indices(names), strict=True))
    wanted = {name: index for name, index in index_of.items() if frames is None or index in frames}
    archive, folder = split_sequence_path(path)
    if folder is None:
        for name, index in wanted.items():
            yield index, (Path(root) / path / name).read_bytes()
        return
    images = _read_members(Path(root) / archive, set(wanted))
    for name, index in wanted.items():
        yield index, images.pop(name)


def frame_indices(names: list[str]) -> list[int]:
    """A frame index for each of the names, which must be in natural order (see `natural_key`).

    >>> frame_indices(["a/frame2.png", "a/frame10.png"]), frame_indices(["left.png", "right.png"])
    ([2, 10], [0, 1])
    """
    found = [_FRAME_NUMBER.search(PurePosixPath(name).stem) for name in names]
    indices = [int(match[1]) for match in found if match]
    if len(indices) == len(names) and all(low < high for low, high in pairwise(indices)):
        return indices
    return list(range(len(names)))


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """A sort key under which ``2.png`` comes before ``10.png``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)  # not \d: digits of other scripts and ² are no number here
    # Numbers too long for int() to be quick are compared by length, then as text.
    return [
        (0, len(part.lstrip("0")), part.lstrip("0")) if part[0] in _DIGITS else (1, 0, part) for part in parts
    ]


def _members(root: str | os.PathLike[str], path: str) -> list[str]:
    archive, folder = split_sequence_path(path)
    where = Path(root) / archive
    if folder is not None:
        names = sequence_members(where).get(folder, [])
    elif where.is_dir():
        # A pipe called 1.png would be waited for without end.
        names = sorted(
            (entry.name for entry in os.scandir(where) if is_image(entry.name) and entry.is_file()),
            key=natural_key,
        )
    else:
        names = []
    if not names:
        raise ArchiveError(
            f"sequence {path} has no image under {root}; run `unmasked scan` on the folder again"
        )
    return names


@lru_cache(maxsize=256)
def _list_members(path: str, size_bytes: int, modified_ns: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Folders and members; cached while the file stays as it is, since listing decompresses all of it."""
    folders: dict[str, dict[str, None]] = {}
    if Path(path).name == DATA_FILE:
        for name in _list_values(path, size_bytes, modified_ns):
            folders.setdefault(str(PurePosixPath(name).parent), {})[name] = None
    else:
        with _open_archive(Path(path)) as (tar, stream):
            for member in _check_members(tar, path, size_bytes):
                if member.isfile() and is_image(member.name):
                    folder = str(PurePosixPath(member.name).parent)
                    folders.setdefault(folder, {})[member.name] = None
            _check_end(tar, stream, path)
    ordered = sorted(folders.items(), key=lambda item: natural_key(item[0]))
    return tuple((folder, tuple(sorted(names, key=natural_key))) for folder, names in ordered)


@lru_cache(maxsize=8)
def _list_values(path: str, size_bytes: int, modified_ns: int) -> dict[str, Value]:
    """Where the images of an LMDB lie in its file, by their paths; cached as `_list_members`."""
    found: dict[str, Value] = {}
    with _open_lmdb(Path(path)) as stream:
        for key, value in list_values(stream):
            name = key.decode().replace("\\", "/")
            fault = _name_fault(name) or ("stands there twice" if name in found else None)
            if is_image(name) and value.size_bytes > MEMBER_BYTES_MAX:
                fault = f"has a value larger than {MEMBER_BYTES_MAX >> 20} MiB"
            if fault:
                raise ArchiveError(f"archive {path} is refused: key {name[:100]!r} {fault}; nothing was read")
            if is_image(name):
                found[name] = value
    return found


@contextmanager
def _open_lmdb(path: Path) -> Iterator[BinaryIO]:
    try:
        with open_regular(path) as stream:
            yield stream
    except ArchiveError:
        raise
    except (OSError, ValueError, struct.error) as error:  # a key that is not UTF-8 is a ValueError
        raise ArchiveError(f"LMDB {path} cannot be read ({error}); copy or make it again") from error


def _read_members(archive: Path, names: set[str]) -> dict[str, bytes]:
    images: dict[str, bytes] = {}
    if archive != (path := archive_file(archive)):
        status = path.stat()
        values = _list_values(str(path), status.st_size, status.st_mtime_ns)
        with _open_lmdb(path) as file:
            return {name: read_value(file, values[name]) for name in names}
    with _open_archive(archive) as (tar, bounded):
        for member in _check_members(tar, str(archive), archive.stat().st_size):
            if member.name in names:
                bounded.read_max = MEMBER_BYTES_MAX + tarfile.BLOCKSIZE
                stream = tar.extractfile(member)
                images[member.name] = stream.read() if stream else b""
                bounded.read_max = HEADER_BYTES_MAX
            if len(images) == len(names):
                break
    return images


@contextmanager
def _open_archive(path: Path) -> Iterator[tuple[tarfile.TarFile, _BoundedReader]]:
    """The archive opened for reading forwards; whatever breaks while it is read becomes an ArchiveError."""
    try:
        with open(path, "rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            unpacked: IO[bytes] = gzip.GzipFile(fileobj=raw) if compressed else raw  # type: ignore[assignment]
            stream = _BoundedReader(unpacked, RATIO_MAX * os.fstat(raw.fileno()).st_size + RATIO_FREE_BYTES)
            with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
                yield tar, stream
    except ArchiveError:
        raise
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise ArchiveError(f"archive {path} cannot be read ({reason}); download it again") from error


def _check_members(tar: tarfile.TarFile, path: str, size_bytes: int) -> Iterator[tarfile.TarInfo]:
    """The members, each checked by its header before its content is decompressed."""
    total_bytes, count = 0, 0
    while (member := tar.next()) is not None:
        total_bytes, count = total_bytes + member.size, count + 1
        if fault := _fault(member):
            raise ArchiveError(
                f"archive {path} is refused: member {member.name[:100]!r} {fault}; nothing was read"
            )
        if count > MEMBERS_MAX or total_bytes > RATIO_MAX * size_bytes + RATIO_FREE_BYTES:
            raise ArchiveError(
                f"archive {path} is refused: it unpacks to over {RATIO_MAX} times its size, or to more than "
                f"{MEMBERS_MAX:,} files; nothing was read"
            )
        yield member
        # Typeshed does not know the list.
        tar.members.clear()  # type: ignore[attr-defined]  # they are not asked for again, and each keeps its headers in memory


def _fault(member: tarfile.TarInfo) -> str | None:
    if fault := _name_fault(member.name.replace("\\", "/")):
        return fault
    if not is_utf8(member.name):
        return "has a name that is not UTF-8"
    if member.issym() or member.islnk():
        return "is a link"
    if member.issparse():
        return "is a sparse file"
    if not (member.isfile() or member.isdir()):
        return "is neither a file nor a folder"
    if member.size > MEMBER_BYTES_MAX:
        return f"is larger than {MEMBER_BYTES_MAX >> 20} MiB"
    return None


def _name_fault(name: str) -> str | None:
    if name.startswith("/") or re.match(r"^[A-Za-z]:", name):
        return "has an absolute path"
    return "leaves its folder" if ".." in name.split("/") else None


def _check_end(tar: tarfile.TarFile, stream: _BoundedReader, path: str) -> None:
    """tarfile takes a file that stops between two members for a whole one: ask for the end mark."""
    stream.seek(tar.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ArchiveError(f"archive {path} is cut short or damaged (no end mark); download it again")
    stream.read(HEADER_BYTES_MAX)  # to the gzip trailer, whose checksum is compared while reading


class _BoundedReader:
    """A stream that hands out no more at once, and in all, than an honest archive needs.

    tarfile reads long-name and pax headers into memory at whatever size they claim, before their member can
    be looked at: ``read_max`` is raised for the content of images only.
    """

    def __init__(self, stream: Any, total_max: int) -> None:
        self.read_max = HEADER_BYTES_MAX
        self._stream, self._total_max, self._header_bytes = stream, total_max, 0

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.read_max:
            raise tarfile.ReadError("a header claims an absurd size")
        if self.read_max == HEADER_BYTES_MAX and size > tarfile.BLOCKSIZE:
            self._header_bytes += size
        if self._header_bytes > HEADERS_BYTES_MAX or self._stream.tell() + size > self._total_max:
            raise tarfile.ReadError(
                f"it unpacks to over {RATIO_MAX} times its size, or holds little but headers"
            )
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset > self._total_max:
            raise tarfile.ReadError(f"it unpacks to over {RATIO_MAX} times its size")
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def is_utf8(name: str) -> bool:
    """True if the name can be written in a table.

    A file's name is bytes, and these may be in any coding.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
