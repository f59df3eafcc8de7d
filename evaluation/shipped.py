"""Descriptions in YAML files in a folder of ``configs``, read by name and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from unmasked.datasets.documents import read_yaml
from unmasked.datasets.errors import InputError, did_you_mean

CONFIGS = Path(__file__).parents[1] / "configs"

Model = TypeVar("Model", bound=BaseModel)


def shipped_names(folder: str) -> list[str]:
    """The names of the files in a folder of ``configs``, sorted."""
    return sorted(path.stem for path in (CONFIGS / folder).glob("*.yaml"))


def load_shipped(model: type[Model], folder: str, name: str | Path) -> Model:
    """The description of that name in ``configs/<folder>``, or in the YAML file given.

    Args:
        model: what the file must hold.
        folder: of ``configs``.
        name: of a shipped file, with or without the folder before it, or the path of your own.

    Raises:
        InputError: there is none of that name (the nearest is named), or it does not hold what it must.
    """
    known = shipped_names(folder)
    short = str(name).removeprefix(f"{folder}/")
    path = CONFIGS / folder / f"{short}.yaml" if short in known else Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        meant = did_you_mean(short, known)
        raise InputError(
            f"{folder}/{short} does not exist{meant}; give one of {', '.join(known)}, or a YAML file"
        )
    try:
        return model.model_validate(read_yaml(path, what=f"{folder} file"))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        reason = first["msg"].removeprefix("Value error, ")
        raise InputError(
            f"{folder} file {path}: {key}: {reason}; the files in configs/{folder} are examples"
        ) from error
