"""A run's folder: the resolved configuration and the environment beside the results."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel

from unmasked.app.config import to_yaml
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_json, write_text
from unmasked.datasets.locks import try_lock

SCORED = {
    "checkpoint": "give the detector.safetensors that `unmasked train` wrote",
    "faces": "give the faces.parquet that `unmasked preprocess` wrote",
}
PACKAGES = (
    *("unmasked", "torch", "torchvision", "pytorch-lightning", "dlib-bin", "av", "opencv-python-headless"),
    *("numpy", "pandas", "scikit-learn", "skops", "fairlearn", "timm", "grad-cam", "openTSNE", "anny"),
)


def check_inputs(advice: Mapping[str, str], **paths: Path | None) -> None:
    """Refuses files that are not there, all at once and before anything heavy is imported.

    Args:
        advice: for each key how such a file is made.
        paths: by key; None is not asked for.

    Raises:
        InputError: one sentence for all that are absent.
    """
    absent = [name for name, path in paths.items() if path is not None and not path.exists()]
    if absent:
        listed = " and ".join(f"{name}={paths[name]}" for name in absent)
        hints = "; ".join(advice[name] for name in absent)
        raise InputError(f"{listed} {'do' if len(absent) > 1 else 'does'} not exist; {hints}")


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
    from unmasked.training.launch import is_first_process

    if not is_first_process():
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
