"""JSON and YAML files, read with one clear sentence where they cannot be; JSON written."""

from __future__ import annotations

import json
import os
from io import StringIO
from math import nan
from typing import TYPE_CHECKING, Any, TypeVar

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_text
from unmasked.datasets.regular_files import read_regular

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Record = TypeVar("Record")
DOCUMENT_BYTES_MAX = 128 << 20  # a watch over a million people takes 20 MB


def read_json(path: str | os.PathLike[str], advice: str, *, what: str = "") -> dict[str, Any]:
    """The object in a JSON file of UTF-8 text.

    Args:
        path: of the file.
        advice: what to do if it cannot be read, for the end of the message.
        what: the kind of file ("card"), for the beginning of the message.

    Raises:
        InputError: the file is absent, is not JSON, or holds something else than an object.
    """
    file = f"{what} {path}".strip()
    return parse_json(_read_text(path, file, advice), file, advice)


def _read_text(path: str | os.PathLike[str], file: str, advice: str) -> str:
    try:
        return read_regular(path, DOCUMENT_BYTES_MAX).decode("utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist; {advice}") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}); {advice}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no text in UTF-8 ({error}); {advice}") from error


def parse_json(text: str, file: object, advice: str) -> dict[str, Any]:
    """The object in a JSON text; ``file`` says in the message where it is from.

    Raises:
        InputError: the text is not JSON, or holds something else than an object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: brackets without end
        raise InputError(f"{file} is not valid JSON ({error}); {advice}") from error
    if not isinstance(value, dict):
        raise InputError(f"{file} holds no JSON object; {advice}")
    return value


def read_record(
    path: str | os.PathLike[str], kind: TypeAdapter[Record], advice: str, *, what: str = ""
) -> Record:
    """The record in a JSON file, each null NaN again, as it was before `write_json`.

    Args:
        path, advice, what: see `read_json`.
        kind: of the record, what its keys hold; keys that it does not name are kept.

    Raises:
        InputError: as `read_json`, or a key is absent or holds something else.
    """
    from pydantic import ValidationError

    value = restore_nan(read_json(path, advice, what=what))
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        absent = [
            str(one["loc"][0]) for one in error.errors() if (one["type"], len(one["loc"])) == ("missing", 1)
        ]
        first = error.errors()[0]
        problem = f"cannot be used: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        if absent:
            problem = f"has no {' and '.join(filter(None, [', '.join(absent[:-1]), absent[-1]]))}"
        raise InputError(f"{what} {path} {problem}; {advice}".strip()) from error


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes JSON atomically; a NaN anywhere becomes null, for JSON has none."""
    write_text(path, json.dumps(_replace_nan(value), indent=2, ensure_ascii=False) + "\n")


def restore_nan(value: Any) -> Any:
    """A JSON value with NaN for null."""
    if isinstance(value, dict):
        return {key: restore_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restore_nan(item) for item in value]
    return nan if value is None else value


def _replace_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _replace_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_nan(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if hasattr(value, "tolist"):
        return _replace_nan(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def read_yaml(path: str | os.PathLike[str], advice: str = "correct it", *, what: str = "") -> dict[str, Any]:
    """The mapping in a YAML file, interpolations left as they are.

    Numbers such as 2e-4 are numbers.

    Args:
        path: of the file.
        advice: what to do if it cannot be read, for the end of the message.
        what: the kind of file ("code book"), for the beginning of the message.

    Raises:
        InputError: the file is absent, is not YAML, or holds something else than a mapping.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    file = f"{what} {path}".strip()
    try:
        value = OmegaConf.to_container(OmegaConf.load(StringIO(_read_text(path, file, advice))))
    except InputError:
        raise
    except (OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}; {advice}") from error
    except Exception as error:  # PyYAML's errors are no ValueError, and PyYAML is not ours to import
        if type(error).__module__.split(".")[0] != "yaml":
            raise
        raise InputError(f"{file} is not valid YAML: {first_line(error)}; {advice}") from error
    if not isinstance(value, dict):
        raise InputError(f"{file} holds no mapping of keys to values; {advice}")
    return {str(key): item for key, item in value.items()}


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the error's name if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
