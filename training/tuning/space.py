"""Settings of a search over a training.

Imports nothing heavy, so that the command line can show them.
A space is written as the training's own sections are, with ranges in place of values::

    optimiser:
      lr: {low: 3e-4, high: 1e-2, log: true}
    training:
      batch_pairs: [4, 8, 16]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unmasked.datasets.errors import InputError, nearest_name
from unmasked.training.config import DetectorConfig

Settings = TypeVar("Settings", bound=DetectorConfig)

FORM = "{low: …, high: …} with log: true or step: … if wanted, or a list of values"
# A trial decides these itself, so that all trials have the same budget.
RESERVED = ("training.epochs", "training.max_steps", "training.val_every_steps", "training.selection", "seed")


class Range(BaseModel):
    """Values from low to high, both included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    log: bool = False
    step: float | None = Field(None, gt=0)

    def has(self, value: Any) -> bool:
        """True if the value can be drawn."""
        return isinstance(value, (int, float)) and self.low <= value <= self.high


class Choices(BaseModel):
    """One of some values, without an order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: tuple[bool | int | float | str, ...] = Field(min_length=1)

    def has(self, value: Any) -> bool:
        """True if the value can be drawn."""
        return value in self.values


Space = dict[str, Range | Choices]


class SearchConfig(BaseModel):
    """How a search is carried out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(
        50, ge=0, description="Trials in all, those of earlier calls included; 0 only reports"
    )
    images: int | None = Field(
        None,
        ge=16,
        description="Images that a trial trains on, whatever its batch; if not given, those of the start's "
        "epochs",
    )
    pairs: int | None = Field(
        None, ge=8, description="The same in pairs of a real and a fake, two images each"
    )
    validations: int = Field(
        4, ge=1, description="Validations of a trial; after each but the last it may be pruned"
    )
    objective: Literal["video_auc", "frame_auc"] = Field(
        "video_auc", description="What is raised, on source validation: a trial's best validation counts"
    )
    startup_trials: int = Field(
        5, ge=1, description="Trials drawn at random, and never pruned, before the search learns from them"
    )
    prune: bool = Field(True, description="End trials early that are below the median of the others")
    seed: int = Field(0, ge=0, lt=2**31, description="Of the search; each training keeps the start's own")

    @property
    def budget_images(self) -> int | None:
        """Images that a trial trains on; None for those of the start's epochs."""
        return 2 * self.pairs if self.pairs is not None else self.images


def flat_space(space: Mapping[str, Any], start: DetectorConfig) -> Space:
    """Ranges and choices by dotted key.

    Args:
        space: nested as in the module's example.
        start: the configuration that the search begins with; it must lie within the space.

    Raises:
        InputError: a key is unknown or reserved, a range is none, or the start lies outside.
    """
    found = {key: _parse_entry(key, value) for key, value in _leaves(space)}
    if not found:
        raise InputError(f"the search space is empty; give ranges under space: as {FORM}")
    settings = dict(_leaves(start.model_dump(mode="json")))
    for key, drawn in found.items():
        _check_key(key, settings)
        ends = drawn.values if isinstance(drawn, Choices) else (drawn.low, drawn.high)
        for value in ends:
            with_values(start, {key: value})
        if not drawn.has(settings[key]):
            raise InputError(
                f"the start's {key}={settings[key]} lies outside space.{key}; widen the range, or change the "
                f"start with train.{key}=…"
            )
    return found


def with_values(config: Settings, values: Mapping[str, Any]) -> Settings:
    """The configuration with other values, by dotted key, checked like any other.

    Raises:
        InputError: a value is not allowed there.
    """
    changed = config.model_dump(mode="json")
    for key, value in values.items():
        *sections, name = key.split(".")
        section = changed
        for part in sections:
            section = section[part]
        section[name] = value
    try:
        return type(config).model_validate(changed)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"space.{key} holds {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
        ) from error


def differences(config: DetectorConfig) -> dict[str, Any]:
    """The settings that are not the defaults, nested: what an experiment file holds."""
    found: dict[str, Any] = {}
    # A value that is the default is a difference all the same where a recipe has another one.
    augment = getattr(config, "augment", None)
    recipe = {} if augment is None else {"augment": {"recipe": augment.recipe}}
    default = type(config).model_validate(recipe).model_dump(mode="json")
    for name, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            changed = {
                key: item
                for key, item in value.items()
                if item != default[name][key] or (key == "recipe" and item is not None)
            }
            found |= {name: changed} if changed else {}
        elif value != default[name]:
            found[name] = value
    return found


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted key; a mapping with ``low`` or ``high`` is a value."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and not {"low", "high"} & set(value):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def _parse_entry(key: str, value: Any) -> Range | Choices:
    try:
        drawn = Choices(values=value) if isinstance(value, (list, tuple)) else Range.model_validate(value)
    except ValidationError as error:
        raise InputError(f"space.{key} is {value!r}; write {FORM}") from error
    if isinstance(drawn, Range) and not drawn.low < drawn.high:
        raise InputError(f"space.{key} goes from {drawn.low:g} to {drawn.high:g}; give low < high")
    if isinstance(drawn, Range) and drawn.log and (drawn.low <= 0 or drawn.step is not None):
        raise InputError(f"space.{key} is logarithmic; give low > 0 and no step, or leave log out")
    return drawn


def _check_key(key: str, settings: Mapping[str, Any]) -> None:
    if key not in settings:
        near = nearest_name(key, settings, cutoff=0.4)
        advice = f"did you mean {near!r}?" if near else f"settings are {', '.join(settings)}"
        raise InputError(f"unknown key 'space.{key}'; {advice}")
    if key in RESERVED:
        raise InputError(
            f"space.{key} cannot be searched: all trials have the same budget, seed and way of selection; "
            "set images and validations, or train.seed"
        )
