"""Configurations: a YAML file and ``key=value`` overrides become one checked model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from unmasked.datasets.documents import first_line, read_yaml
from unmasked.datasets.errors import InputError, nearest_name, printable

CONFIGS = Path(__file__).parents[1] / "configs"
# Folders whose files are given by name to a key of a configuration, and are none themselves.
NAMED_BY_KEYS = ("annotations", "augment", "licences", "perturbations", "protocols", "published")
# A reference to another key; everything else that begins with ${ could call a function of OmegaConf's.
REFERENCE = re.compile(r"\$\{[\w.\[\]-]+\}")

LIMITS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}

Model = TypeVar("Model", bound=BaseModel)


def load(model: type[Model], file: Path | None, overrides: Sequence[str] = ()) -> Model:
    """The configuration in a YAML file with overrides applied, checked against a model.

    Args:
        model: what keys there are; unknown ones are refused.
        file: a YAML file, or the name of a shipped one such as ``ucf/demo``; None for the defaults.
        overrides: ``key=value`` or ``section.key=value``; values are read as YAML.

    Raises:
        InputError: the file or an override cannot be parsed, a key is unknown (the nearest valid key is
            named), or a value has the wrong type or is absent.
    """
    try:
        return model.model_validate(given_values(file, overrides))
    except ValidationError as error:
        raise InputError(_message(model, error, _origin(file))) from error


def given_values(file: Path | None, overrides: Sequence[str] = ()) -> dict[Any, Any]:
    """What a YAML file and overrides give, by key, before anything is checked.

    Arguments as of `load`.

    Raises:
        InputError: the file or an override cannot be parsed.
    """
    try:
        merged = OmegaConf.merge(_read_yaml(file), *[_parse_override(text) for text in overrides])
        _refuse_resolvers(OmegaConf.to_container(merged, resolve=False), _origin(file))
        values = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"configuration {_origin(file)}: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise InputError(
            f"configuration {_origin(file)} is not a mapping; write lines of the form key: value"
        )
    return values


def to_yaml(config: BaseModel) -> str:
    """The resolved configuration as YAML that `load` reads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json")))


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every settable key of a model as (dotted key, type, default, description)."""
    # What a verb adds to the settings that it inherits comes first: where from and where to.
    inherited = {name for base in model.__mro__[1:] for name in getattr(base, "model_fields", {})}
    for name, field in sorted(model.model_fields.items(), key=lambda item: item[0] in inherited):
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from keys(annotation, f"{prefix}{name}.")
            continue
        default = (
            field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
        )
        shown = "required" if default is PydanticUndefined else _value_text(default)
        kind = " ".join([_type_name(annotation), *_limits(field)])
        yield f"{prefix}{name}", kind, shown, field.description or ""


def _limits(field: FieldInfo) -> Iterator[str]:
    """What a number must not fall below or exceed, as ``>= 100``."""
    for limit in field.metadata:
        for name, sign in LIMITS.items():
            if hasattr(limit, name):
                yield f"{sign} {getattr(limit, name):g}"


def _read_yaml(file: Path | None) -> DictConfig:
    if file is None:
        return OmegaConf.create({})
    path = next((p for p in (file, CONFIGS / file, CONFIGS / f"{file}.yaml") if p.is_file()), None)
    if path is None:
        shipped = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in _shipped_files())
        raise InputError(
            f"configuration {file} does not exist; give a YAML file's path or one of {', '.join(shipped)}"
        )
    return OmegaConf.create(read_yaml(path, what="configuration"))


def _shipped_files() -> Iterator[Path]:
    """The experiment files; what a key names (a code book, a recipe, a protocol) is no configuration."""
    return (path for path in CONFIGS.rglob("*.yaml") if path.parent.name not in NAMED_BY_KEYS)


def _parse_override(text: str) -> DictConfig:
    key, separator, _ = text.partition("=")
    if not separator or not key:
        raise InputError(f"argument {text!r} is not of the form key=value; write for example seed=1")
    if any("\udc80" <= letter <= "\udcff" for letter in text):
        raise InputError(
            f"argument {printable(text)!r} names a file whose name is not UTF-8; rename the file first"
        )
    try:
        return OmegaConf.from_dotlist([text])
    except Exception as error:  # the value is YAML as the user typed it
        if type(error).__module__.split(".")[0] not in ("yaml", "omegaconf", "antlr4"):
            raise
        raise InputError(f"argument {text!r} has a value that is not valid YAML; quote it") from error


def _refuse_resolvers(values: Any, origin: str) -> None:
    """Raises InputError where a value would be computed: ``${oc.env:TOKEN}`` reads the environment.

    A stored configuration is sent to others; nothing of the machine may come into it. References to other
    keys, ``${model.width}``, stay allowed.
    """
    if isinstance(values, Mapping):
        values = [*values.keys(), *values.values()]
    if isinstance(values, list):
        for value in values:
            _refuse_resolvers(value, origin)
    elif isinstance(values, str) and "${" in REFERENCE.sub("", values):
        raise InputError(
            f"configuration {origin} has the value {values!r}, which OmegaConf would compute; only "
            "references to other keys such as ${model.width} are read: write the value itself"
        )


def _message(model: type[BaseModel], error: ValidationError, origin: str) -> str:
    sentences = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            valid = [name for name, *_ in keys(model)]
            near = nearest_name(key, valid, cutoff=0.4)
            advice = f"did you mean {near!r}?" if near else f"valid keys are {', '.join(valid)}"
            sentences.append(f"unknown key {key!r}; {advice}")
        elif problem["type"] == "missing":
            sentences.append(f"key {key!r} is required; give it as {key}=…")
        else:
            reason = problem["msg"][0].lower() + problem["msg"][1:]
            sentences.append(f"key {key!r} was given {problem['input']!r}: {reason}")
    return f"configuration {origin}: " + "; ".join(sentences)


def _origin(file: Path | None) -> str:
    return f"{file} and arguments" if file else "from the arguments"


def _value_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_value_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_value_text(item) for item in value)}]"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else (str(value) or "''")


def _type_name(annotation: Any) -> str:
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, parts))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(_type_name(part) for part in parts if part is not NoneType)
    if get_origin(annotation) is tuple:
        return f"[{', '.join('…' if part is ... else _type_name(part) for part in parts)}]"
    return getattr(annotation, "__name__", str(annotation)).replace("Path", "path")
