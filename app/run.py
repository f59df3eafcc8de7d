"""A run's folder: the resolved configuration and the environment beside the results."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel

from unmasked.app.config import to_yaml
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_json, write_text
from unmasked.datasets.locks import try_lock

PACKAGES = (
    *("unmasked", "torch", "torchvision", "pytorch-lightning", "dlib-bin", "av", "opencv-python-headless"),
    *("numpy", "pandas", "scikit-learn", "skops", "fairlearn", "timm", "grad-cam", "openTSNE", "anny"),
)


def record(out: Path, config: BaseModel) -> None:
    """Writes ``config.yaml`` (resolved) and ``environment.json`` into a run's folder."""
    write_text(out / "config.yaml", to_yaml(config))
    write_json(out / "environment.json", environment())


@contextmanager
def only_training_in(out: Path) -> Iterator[None]:
    """Holds the lock of a run's folder, so that two trainings cannot mix their files.

    Of the processes of one training the first holds it.

    Raises:
        InputError: another training is at work there.
    """
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    if getattr(rank_zero_only, "rank", 0):
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = try_lock(out / ".train.lock")
    if lock is None:
        raise InputError(
            f"another training writes into out={out}; wait until it has ended, or give another out="
        )
    try:
        yield
    finally:
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
