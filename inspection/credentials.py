"""Content credentials (C2PA) in a file: noticed, and read where `c2pa-python` is there.

What they say are claims of who made or edited the file, facts beside the score and never in it. Nothing is
fetched: a store that the file only points to is not looked for, and the process that reads has no network.
Where stores lie in files: C2PA 2.2, appendix A.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

from unmasked.inspection.records import Credentials

BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # the uuid of C2PA's box in MP4, MOV, AVIF and HEIC
PARTS_MAX = 10_000  # of a file, looked through for a store
LONGEST = 200  # characters of a claim
OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
PACKAGE = "c2pa-python"


def read_credentials(path: str | Path) -> Credentials | None:
    """The content credentials of a file; None where it holds none."""
    with open(path, "rb") as stream:
        place = find_store(stream)
    if not place:
        return None
    try:
        reader = f"{PACKAGE} {version(PACKAGE)}"
        import c2pa
    except (PackageNotFoundError, ImportError, OSError):
        return Credentials(place=place)
    try:
        with c2pa.Context.from_dict(OFFLINE) as context, c2pa.Reader(str(path), context=context) as found:
            store = json.loads(found.json())
            state = str(found.get_validation_state() or "")
    except (c2pa.C2paError, ValueError) as error:
        return Credentials(place=place, reader=reader, state=plain(f"cannot be read: {error}"))
    return Credentials(place=place, reader=reader, state=_state(store, state), claims=_claims(store))


def find_store(stream: BinaryIO) -> str:
    """Where a file holds a manifest store, in words; "" where it holds none.

    >>> import io
    >>> find_store(io.BytesIO(b"\\xff\\xd8\\xff\\xeb\\x00\\x0eJP..c2pa....\\xff\\xd9"))
    'JPEG, APP11'
    """
    start = stream.read(12)
    if start.startswith(b"\xff\xd8"):
        return "JPEG, APP11" if any(map(_is_store, _jpeg_segments(stream))) else ""
    if start.startswith(b"\x89PNG"):
        return "PNG, caBX" if b"caBX" in _chunks(stream, 8, "big", 12) else ""
    if start[:4] == b"RIFF":
        return "RIFF, C2PA" if b"C2PA" in _chunks(stream, 12, "little", 8) else ""
    if start[4:8] == b"ftyp":
        return "ISO media, uuid box" if BOX in _boxes(stream) else ""
    return ""


def _jpeg_segments(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Marker and first bytes of the segments before the picture itself."""
    place = 2
    for _ in range(PARTS_MAX):
        stream.seek(place)
        head = stream.read(4 + 64)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (0xDA, 0xD9):
            return
        yield head[1], head[4:]
        place += 2 + int.from_bytes(head[2:4], "big")


def _is_store(segment: tuple[int, bytes]) -> bool:
    marker, start = segment
    return marker == 0xEB and start.startswith(b"JP") and b"c2pa" in start


def _chunks(stream: BinaryIO, place: int, order: Any, around: int) -> Iterator[bytes]:
    """Names of a PNG's or RIFF's chunks; ``around`` is what a chunk takes beside its content."""
    for _ in range(PARTS_MAX):
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8:
            return
        length, name = (head[:4], head[4:]) if order == "big" else (head[4:], head[:4])
        yield name
        size = int.from_bytes(length, order)
        place += around + size + (size % 2 if order == "little" else 0)


def _boxes(stream: BinaryIO) -> Iterator[bytes]:
    """The uuid, or the four letters, of the outermost boxes (ISO/IEC 14496-12, 4.2)."""
    place = 0
    for _ in range(PARTS_MAX):
        stream.seek(place)
        head = stream.read(32)
        size, begin = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, begin = int.from_bytes(head[8:16], "big"), 16
        if len(head) < 8:
            return
        yield head[begin : begin + 16] if head[4:8] == b"uuid" else head[4:8]
        if size < 8 or size >= 1 << 62:  # 0: to the end of the file
            return
        place += size


def _state(store: dict[str, Any], state: str) -> str:
    """The library's word, and what it found against hashes and signature."""
    codes = [str(one.get("code")) for one in store.get("validation_status") or []]
    return plain(f"{state}{': ' if state and codes else ''}{', '.join(codes)}")


def _claims(store: dict[str, Any]) -> dict[str, str]:
    """What the newest manifest claims, in words; what is not said is left out."""
    manifest = (store.get("manifests") or {}).get(store.get("active_manifest")) or {}
    signature = manifest.get("signature_info") or {}
    assertions = manifest.get("assertions") or []
    actions = [
        action
        for one in assertions
        if str(one.get("label", "")).startswith("c2pa.actions")
        for action in (one.get("data") or {}).get("actions") or []
    ]
    makers = [
        f"{one.get('name', '')} {one.get('version', '')}"
        for one in manifest.get("claim_generator_info") or []
    ]
    sources = [str(action.get("digitalSourceType") or "").rpartition("/")[2] for action in actions]
    said = {
        "made with": ", ".join(makers),
        "title": manifest.get("title"),
        "signed by": " ".join(filter(None, (signature.get("common_name"), signature.get("issuer")))),
        "signed at": signature.get("time"),
        "actions": ", ".join(str(action.get("action")) for action in actions),
        "source": ", ".join(dict.fromkeys(filter(None, sources))),
        "made from": ", ".join(str(one.get("title") or "") for one in manifest.get("ingredients") or []),
    }
    return {name: text for name, value in said.items() if (text := plain(value or ""))}


def plain(value: object) -> str:
    """One line, cut where it is long, without signs that steer a terminal or no file takes."""
    # PyAV 19 hands on bytes that are no UTF-8 as lone surrogates.
    text = re.sub(r"[\ud800-\udfff]", "\ufffd", str(value))
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:LONGEST]
