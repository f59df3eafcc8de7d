"""A request's body onto the disk: counted, timed and looked at while it comes."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Request
from starlette.requests import ClientDisconnect

from unmasked.datasets.file_kinds import LOOKED_AT, kind_of_bytes
from unmasked.serving.problems import CLOSE, NO_ROOM, Refusal
from unmasked.serving.settings import Limits

BLOCK_BYTES = 1 << 20
GRACE_S = 20.0
SLOWEST_BYTES_S = 16_000  # on the average, once that time is over
ROOM_BYTES = 256 << 20  # of the disk, beyond the file
HOW = "send the file itself as the body: curl -T FILE -X POST …/v1/jobs?name=FILE"
# What no picture or video is; any other content is tried, and is a finding with its reason.
TAKEN = ("application/octet-stream", "video/", "image/")


def check_announced(request: Request, limits: Limits, folder: Path, receiving: int) -> None:
    """Refuses by the headers what need not be read.

    Args:
        request: whose headers they are.
        limits: see `Limits`.
        folder: on the disk that gets the file.
        receiving: files that are being received, each of which may need as much of the disk.

    Raises:
        Refusal: 411 to 415, or 507 where the disk is full.
    """
    kind = request.headers.get("content-type", TAKEN[0]).partition(";")[0].strip().lower()
    if not kind.startswith(TAKEN):
        raise Refusal(
            415,
            f"a body of the type {kind!r} was sent; {HOW}, as application/octet-stream, video/* or image/*",
            CLOSE,
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, f"the body is compressed; {HOW}, as it is", CLOSE)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.bytes_max:
        raise Refusal(413, _too_large(limits), CLOSE)
    if shutil.disk_usage(folder).free < (receiving + 1) * limits.bytes_max + ROOM_BYTES:
        raise Refusal(507, NO_ROOM, CLOSE)


async def receive(request: Request, path: Path, limits: Limits) -> tuple[int, str]:
    """The bytes that were written, and their SHA-256.

    Args:
        request: whose body it is.
        path: of the new file.
        limits: see `Limits`.

    Raises:
        Refusal: 408 too slow, 413 too large, 415 no picture or video, 422 empty.
        ClientDisconnect: the client has gone.
    """
    digest, size, held, began = hashlib.sha256(), 0, bytearray(), time.monotonic()
    with open(path, "xb") as file:
        async for chunk in _chunks(request, limits, began):
            size += len(chunk)
            if size > limits.bytes_max:
                raise Refusal(413, _too_large(limits), CLOSE)
            is_first = size - len(chunk) < LOOKED_AT <= size
            held += chunk
            if is_first:
                _check_kind(bytes(held[:LOOKED_AT]))
            if len(held) >= BLOCK_BYTES:
                digest.update(held)
                await asyncio.to_thread(file.write, held)
                held = bytearray()
        if size < LOOKED_AT:
            _check_kind(bytes(held))
        digest.update(held)
        file.write(held)
    if not size:
        raise Refusal(422, f"the body is empty; {HOW}")
    return size, digest.hexdigest()


async def _chunks(request: Request, limits: Limits, began: float) -> AsyncIterator[bytes]:
    size, request.state.is_begun = 0, True
    while True:
        try:
            message = await asyncio.wait_for(request.receive(), limits.idle_s)
        except asyncio.TimeoutError:
            raise Refusal(408, f"no byte came for {limits.idle_s:g} seconds; send it again", CLOSE) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body = message.get("body", b"")
        size += len(body)
        request.state.is_read = not message.get("more_body", False)
        yield body
        if not message.get("more_body", False):
            return
        taken_s = time.monotonic() - began
        if taken_s > limits.upload_s or (taken_s > GRACE_S and size < SLOWEST_BYTES_S * taken_s):
            raise Refusal(408, f"the file came too slowly ({size:,} bytes in {taken_s:.0f} seconds)", CLOSE)


def _check_kind(start: bytes) -> None:
    kind = kind_of_bytes(start)
    if kind and not kind.endswith(("picture", "video")):
        raise Refusal(415, f"the file is {kind}; pictures and videos are looked at", CLOSE)


def _too_large(limits: Limits) -> str:
    return f"the file has more than the {limits.max_mb:g} MB that are taken; send a shorter part of it"
