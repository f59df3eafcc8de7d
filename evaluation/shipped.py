"""Descriptions that are shipped as YAML files in a folder of ``configs``, read by name and checked."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from unmasked.datasets.errors import InputError

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
        name: of a shipped file, with or without the folder before it, or the path of one's own.

    Raises:
        InputError: there is none of that name (the nearest is named), or it does not hold what it must.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = shipped_names(folder)
    short = str(name).removeprefix(f"{folder}/")
    path = CONFIGS / folder / f"{short}.yaml" if short in known else Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        near = difflib.get_close_matches(short, known, n=1)
        meant = f" (is {near[0]!r} meant?)" if near else ""
        raise InputError(
            f"{folder}/{short} does not exist{meant}; give one of {', '.join(known)}, or a YAML file"
        )
    try:
        return model.model_validate(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        reason = first["msg"].removeprefix("Value error, ")
        raise InputError(
            f"{folder} file {path}: {key}: {reason}; the files in configs/{folder} are examples"
        ) from error
    except (OmegaConfBaseException, OSError, ValueError) as error:
        raise InputError(f"{folder} file {path} cannot be read ({_first_line(error)}); correct it") from error
    except Exception as error:  # PyYAML's errors are no ValueError, and PyYAML is not ours to import
        if type(error).__module__.split(".")[0] != "yaml":
            raise
        raise InputError(
            f"{folder} file {path} is not valid YAML: {_first_line(error)}; correct it"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
