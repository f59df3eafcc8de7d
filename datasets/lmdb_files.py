"""Keys and values of an LMDB file, read page by page: nothing in it is trusted.

LMDB's own library believes the file: a page number that leads outside ends the process. Here every number
is checked against the file's size first. Read are files of format 1 (LMDB 0.9) as 64-bit little-endian
machines write them, one unnamed database without duplicates: what ``lmdb.open(path).begin().put`` makes.

The file is a tree of pages of one size. Two meta pages name the root, the newer one counts; branch pages
name pages, leaf pages hold keys with their values, and a long value has pages of its own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

DATA_FILE = "data.mdb"
KEYS_MAX = 5_000_000

_MAGIC = 0xBEEFC0DE
_HEADER_BYTES = 16  # page number, padding, flags, lower and upper end of the free space
_BRANCH, _LEAF, _LEAF2 = 0x01, 0x02, 0x20
_LONG, _SUBDATA, _DUPLICATES = 0x01, 0x02, 0x04  # flags of a node
_NO_PAGE = (1 << 64) - 1
_PAGE_SIZES = tuple(1 << bits for bits in range(9, 17))


class Value(NamedTuple):
    """Where a value lies in the file."""

    offset: int
    size_bytes: int


def list_values(stream: BinaryIO) -> Iterator[tuple[bytes, Value]]:
    """Yields (key, place of the value) in the order of the keys.

    Args:
        stream: the file ``data.mdb``, unbuffered.

    Raises:
        ValueError: the file is no such LMDB, is cut short or damaged; the message says which.
    """
    file = _File(stream)
    root, page_bytes = file.newest_root()
    if root == _NO_PAGE:
        return
    reached, waiting, keys = {root}, [root], 0
    while waiting:
        number = waiting.pop()
        page = file.read(number * page_bytes, page_bytes)
        flags, lower = struct.unpack_from("<HH", page, 10)
        if flags & _LEAF2 or not flags & (_BRANCH | _LEAF) or not _HEADER_BYTES <= lower <= page_bytes:
            raise ValueError("a page of its tree is none; the file is damaged")
        nodes = struct.unpack_from(f"<{(lower - _HEADER_BYTES) // 2}H", page, _HEADER_BYTES)
        if flags & _BRANCH:
            children = [_child(page, node) for node in nodes]
            if len({*children}) != len(children) or not reached.isdisjoint(children):
                raise ValueError("a page of its tree is reached twice; the file is damaged")
            reached.update(children)
            waiting += reversed(children)
            continue
        keys += len(nodes)
        if keys > KEYS_MAX:
            raise ValueError(f"it has more than {KEYS_MAX:,} keys")
        for node in nodes:
            yield _value(page, node, number * page_bytes, page_bytes, file.size_bytes)


def read_value(stream: BinaryIO, value: Value) -> bytes:
    """The bytes of a value of `list_values`; ValueError if the file has become shorter."""
    return _File(stream).read(value.offset, value.size_bytes)


class _File:
    """A file of which only what lies inside is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._handle = stream.fileno()
        self.size_bytes = os.fstat(self._handle).st_size

    def read(self, offset: int, size_bytes: int) -> bytes:
        if offset + size_bytes > self.size_bytes:
            raise ValueError("it names a page behind its end; the file is cut short or damaged")
        found = os.pread(self._handle, size_bytes, offset)
        if len(found) != size_bytes:
            raise ValueError("the file has become shorter while it was read")
        return found

    def newest_root(self) -> tuple[int, int]:
        """(page number of the root, bytes of a page) of the meta page with the larger transaction."""
        page_bytes = struct.unpack_from("<I", self._meta(0), 40)[0]
        if page_bytes not in _PAGE_SIZES:
            raise ValueError(f"its pages would have {page_bytes} bytes")
        metas = [self._meta(0), self._meta(page_bytes)]
        newest = max(metas, key=lambda meta: int(struct.unpack_from("<Q", meta, 144)[0]))
        return int(struct.unpack_from("<Q", newest, 128)[0]), page_bytes

    def _meta(self, offset: int) -> bytes:
        meta = self.read(offset, 152)
        if struct.unpack_from("<II", meta, _HEADER_BYTES) != (_MAGIC, 1):
            raise ValueError("not an LMDB file of format 1 of a 64-bit machine")
        return meta


def _child(page: bytes, node: int) -> int:
    low, high, top = struct.unpack_from("<HHH", _inside(page, node, 8))
    return int(low | high << 16 | top << 32)


def _value(page: bytes, node: int, page_at: int, page_bytes: int, file_bytes: int) -> tuple[bytes, Value]:
    low, high, flags, key_bytes = struct.unpack_from("<HHHH", _inside(page, node, 8))
    size_bytes = low | high << 16
    if flags & (_SUBDATA | _DUPLICATES):
        raise ValueError("it holds named databases or several values of a key, which are not read")
    key = _inside(page, node + 8, key_bytes)
    at = node + 8 + key_bytes
    if flags & _LONG:
        number = struct.unpack_from("<Q", _inside(page, at, 8))[0]
        offset = number * page_bytes + _HEADER_BYTES
        if offset + size_bytes > file_bytes:
            raise ValueError("a value reaches behind its end; the file is cut short or damaged")
        return key, Value(offset, size_bytes)
    _inside(page, at, size_bytes)
    return key, Value(page_at + at, size_bytes)


def _inside(page: bytes, at: int, size_bytes: int) -> bytes:
    if at < _HEADER_BYTES or at + size_bytes > len(page):
        raise ValueError("an entry of a page lies outside of it; the file is damaged")
    return page[at : at + size_bytes]
