"""Weights from elsewhere: a hub, an address, a folder or a file, checked by their hash.

A download goes into a folder of its own, which is gone when the command ends; whatever is not the file that
was pinned is never read.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    UnknownHandler,
)

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.datasets.errors import InputError, did_you_mean
from unmasked.datasets.files import sha256_of_file
from unmasked.evaluation.shipped import load_shipped, shipped_names

FOLDER = "weights"
HUB = "hf://"
WEB = ("https://", "http://")
SUFFIXES = (".safetensors", ".pth", ".pt", ".skops")
HEX = re.compile(r"[0-9a-f]{64}")
BLOCK = 1 << 20
TIMEOUT_S = 30.0


class Pinned(BaseModel):
    """One file of weights that is known by its hash: a YAML file in ``configs/weights``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="hf://OWNER/NAME, or an address")
    file: str = Field("", description="which one of a repository")
    revision: str = Field("", description="commit of the repository; the hash pins the content without it")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(0, ge=0, description="size; 0 if it is not known")
    licence: str = Field(min_length=1)
    detector: str = Field("", description="name in `unmasked detectors`")
    model: dict[str, str | float] = Field({}, description="settings of its network that are not its defaults")
    trained_on: tuple[str, ...] = Field((), description="datasets, if stated")
    selection: str = Field("", description="how the checkpoint was chosen, if stated")
    where: str = Field("", description="paper or code")

    def facts(self) -> dict[str, object]:
        """What a card says of it."""
        data = {"training_data": {"datasets": list(self.trained_on)}} if self.trained_on else {}
        chosen = {"selection": {"rule": self.selection}} if self.selection else {}
        return {"source": self.source, "licence": self.licence, **data, **chosen}


class Wanted(BaseModel):
    """What was asked for; empty is not stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    file: str = ""
    revision: str = ""
    sha256: str = ""
    licence: str = ""
    is_licence_accepted: bool = False


def is_remote(source: str) -> bool:
    """True if a source is fetched over a network."""
    return source.startswith((HUB, *WEB))


def pinned_of(source: str) -> Pinned | None:
    """What is known of a source: by its own name, or by that of a file in ``configs/weights``.

    Raises:
        InputError: it is neither a known one, an address, nor a path that exists.
    """
    names = shipped_names(FOLDER)
    if source in names:
        return load_shipped(Pinned, FOLDER, source)
    every = _every_pinned()
    if found := [one for one in every if one.source == source.rstrip("/")]:
        return found[0]
    if not is_remote(source) and not Path(source).exists():
        known = [*names, *(one.source for one in every)]
        raise InputError(
            f"source={source} does not exist{did_you_mean(source, known)}; give hf://OWNER/NAME, an address, "
            f"a file, a folder, or one of {', '.join(names)}"
        )
    return None


def _every_pinned() -> list[Pinned]:
    return [load_shipped(Pinned, FOLDER, name) for name in shipped_names(FOLDER)]


def _pinned_by_content(path: Path) -> Pinned | None:
    """What is known of a file that somebody fetched by other means."""
    size = path.stat().st_size
    alike = [one for one in _every_pinned() if one.bytes in (0, size)]
    digest = sha256_of_file(path) if alike else ""
    return next((one for one in alike if one.sha256 == digest), None)


@contextmanager
def weights_file(wanted: Wanted, pinned: Pinned | None, out: Path) -> Iterator[tuple[Path, Pinned | None]]:
    """The checked file of weights, and what is known of it; a download is gone at the end.

    Args:
        wanted: what was asked for.
        pinned: what is known of it.
        out: the folder that the detector goes to; the download lies beside it meanwhile.

    Raises:
        InputError: the licence is not accepted, nothing says which file is meant, it cannot be fetched, or
            it is another one than was pinned.
    """
    source = pinned.source if pinned else wanted.source
    digest = digest_of(wanted, pinned)
    if not is_remote(source):
        path = _local_file(Path(source), wanted.file)
        _check(path, digest, pinned)
        known = pinned or _pinned_by_content(path)
        print_result(
            f"licence of {path.name}: {wanted.licence or (known.licence if known else 'not stated')}"
        )
        yield path, known
        return
    name = wanted.file or (pinned.file if pinned else "") or Path(urlsplit(source).path).name
    _check_remote(source, name, digest)
    _show_licence(wanted, pinned, source)
    place = next(path for path in out.absolute().parents if path.is_dir())
    with tempfile.TemporaryDirectory(prefix=".unmasked-download-", dir=place) as folder:
        path = Path(folder) / Path(name).name
        if source.startswith(HUB):
            revision = wanted.revision or (pinned.revision if pinned else "") or "main"
            path = _from_hub(source.removeprefix(HUB).rstrip("/"), name, revision, Path(folder))
        else:
            _from_web(source, path, pinned.bytes if pinned else 0)
        _check(path, digest, pinned)
        yield path, pinned


def digest_of(wanted: Wanted, pinned: Pinned | None) -> str:
    """The SHA-256 that the file must have; "" where nobody says one.

    Raises:
        InputError: what was given is none, or another one than is pinned.
    """
    given = wanted.sha256.lower()
    if given and not HEX.fullmatch(given):
        raise InputError(f"sha256={wanted.sha256} is no SHA-256; give its 64 hexadecimal digits")
    if given and pinned and given != pinned.sha256:
        raise InputError(
            f"sha256={given[:12]}… is not that of configs/weights for {pinned.source} "
            f"({pinned.sha256[:12]}…); leave it out, or describe the other file in a YAML file of its own"
        )
    return given or (pinned.sha256 if pinned else "")


def _check_remote(source: str, name: str, digest: str) -> None:
    if source.startswith(HUB) and not re.fullmatch(r"[\w.-]+/[\w.-]+", source.removeprefix(HUB).rstrip("/")):
        raise InputError(f"source={source} is no repository; give hf://OWNER/NAME")
    if not digest:
        raise InputError(
            f"{source} is not among the files whose hash is known (configs/weights); give the sha256= that "
            "its author states, so that what arrives can be checked"
        )
    if not name.endswith(SUFFIXES):
        raise InputError(
            f"{name or source} is no file of weights; give weights_file= with one of {', '.join(SUFFIXES)}"
        )


def _show_licence(wanted: Wanted, pinned: Pinned | None, source: str) -> None:
    licence = wanted.licence or (pinned.licence if pinned else "not stated")
    print_result(f"licence of {source}: {licence}")
    if pinned and pinned.where:
        print_result(f"  its terms: {pinned.where}")
    if not wanted.is_licence_accepted:
        raise InputError(
            f"the weights of {source} have the licence: {licence}; read its terms, then fetch them with "
            "accept_licence=true"
        )


def _local_file(path: Path, name: str) -> Path:
    if path.is_file():
        return path
    if name:
        if not (path / name).is_file():
            raise InputError(f"folder {path} has no file {name}; give weights_file= with one that it has")
        return path / name
    found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if len(found) != 1:
        listed = ", ".join(file.name for file in found[:5]) or "none"
        raise InputError(
            f"folder {path} has {len(found)} files of weights ({listed}); name the one by weights_file="
        )
    return found[0]


def _check(path: Path, digest: str, pinned: Pinned | None) -> None:
    size = path.stat().st_size
    if pinned and pinned.bytes and size != pinned.bytes:
        raise InputError(
            f"{path.name} has {size} bytes and not {pinned.bytes}: it is cut off, or another file; fetch it "
            "again"
        )
    if digest and (found := sha256_of_file(path)) != digest:
        raise InputError(
            f"{path.name} has the SHA-256 {found[:12]}… and not {digest[:12]}…: it is not the file that was "
            "asked for; nothing was read from it"
        )


def _from_hub(repository: str, name: str, revision: str, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(
            hf_hub_download(
                repository,
                name,
                revision=revision,
                local_dir=folder,
                endpoint=os.environ.get("HF_ENDPOINT") or None,
                etag_timeout=TIMEOUT_S,
            )
        )
    except Exception as error:  # whatever the client, the network or the server does
        raise InputError(
            f"{HUB}{repository} {name} (revision {revision}) could not be fetched ({_reason(error)}); look "
            "at the name and the network, or fetch the file elsewhere and give source=FILE"
        ) from error


def _from_web(address: str, path: Path, size: int) -> None:
    opener = OpenerDirector()  # with these alone: no file:, no ftp:, whatever a redirection asks for
    for handler in (
        *(ProxyHandler(), HTTPHandler(), HTTPSHandler(), HTTPRedirectHandler()),
        *(HTTPErrorProcessor(), HTTPDefaultErrorHandler(), UnknownHandler()),
    ):
        opener.add_handler(handler)
    try:
        with opener.open(address, timeout=TIMEOUT_S) as answer, path.open("wb") as file:
            stated = int(answer.headers.get("Content-Length") or 0)
            _check_room(max(stated, size), path)
            got = _copy(answer, file, size or stated)
    except (URLError, HTTPException, OSError, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the answer as well
        raise InputError(
            f"{address} could not be fetched ({_reason(error)}); look at the address and the network, or "
            "fetch the file elsewhere and give source=FILE"
        ) from error
    if stated and got != stated:
        raise InputError(f"{address} ended after {got} of {stated} bytes: it is cut off; fetch it again")


def _copy(answer: IO[bytes], file: IO[bytes], limit: int) -> int:
    got = 0
    while block := answer.read(BLOCK):
        got += len(block)
        if limit and got > limit:
            raise ValueError(f"more than the {limit} bytes that it should have")
        file.write(block)
    return got


def _check_room(size: int, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise ValueError(f"it has {size} bytes, and {path.parent.parent} has room for {free}")


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
