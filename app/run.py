"""A run's folder: the resolved configuration and the environment beside the results."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel

from unmasked.app.config import to_yaml
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_text
from unmasked.datasets.locks import try_lock

logger = logging.getLogger(__name__)

PACKAGES = (
    *("unmasked", "torch", "torchvision", "pytorch-lightning", "dlib-bin", "av", "opencv-python-headless"),
    *("numpy", "pandas", "scikit-learn", "skops", "fairlearn", "timm", "grad-cam", "openTSNE", "anny"),
)


def record(out: Path, config: BaseModel) -> None:
    """Writes ``config.yaml`` (resolved) and ``environment.json`` into a run's folder."""
    write_text(out / "config.yaml", to_yaml(config))
    write_json(out / "environment.json", environment())


@contextmanager
def only_one_in(out: Path, verb: str) -> Iterator[None]:
    """Holds the lock of a verb in a folder, so that two runs of it cannot mix files.

    Different verbs write different files, and may run side by side.

    Raises:
        InputError: another run of the verb is at work there.
    """
    was_there = out.is_dir()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f".{verb}.lock"
    try:
        lock = try_lock(path)
    except NotImplementedError:
        logger.warning("no locks on the file system of %s: start each command only once", out)
        yield
        return
    if lock is None:
        raise InputError(
            f"another `unmasked {verb}` writes into {out}; wait until it has ended, or give another folder"
        )
    try:
        yield
    finally:
        if not was_there and [*out.iterdir()] == [path]:  # nothing was written: no folder is left
            path.unlink()
            out.rmdir()
        lock.release()


def environment() -> dict[str, object]:
    """Python, machine and package versions of this process; absent packages are None."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
