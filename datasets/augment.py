"""Recipes of random changes: which, how often, how strong.

A recipe is a YAML file in ``configs/augment``; adding one takes no code. What the changes do is in
`unmasked.datasets.transforms`; nothing heavy is imported here, so that the command line can show the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unmasked.datasets.documents import read_yaml
from unmasked.datasets.errors import InputError

FOLDER = Path(__file__).parents[1] / "configs" / "augment"


class AugmentConfig(BaseModel):
    """Random changes of training images, each with its own probability; JPEG on the CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str | None = Field(
        None, description="A name in configs/augment, whose values the keys below replace one by one"
    )
    flip: float = Field(0.5, ge=0, le=1, description="Probability of mirroring left and right")
    rotate: float = Field(0.0, ge=0, le=1, description="Probability of turning by up to rotate_deg")
    rotate_deg: float = Field(10.0, ge=0, le=180, description="Largest angle in degrees")
    zoom: float = Field(0.0, ge=0, le=1, description="Probability of a change of size about the centre")
    zoom_range: float = Field(0.1, ge=0, lt=1, description="Largest change of size, as a share of it")
    blur: float = Field(0.0, ge=0, le=1, description="Probability of a Gaussian blur of 3 to 7 pixels")
    light: float = Field(0.0, ge=0, le=1, description="Probability of a change of brightness and contrast")
    light_range: float = Field(0.1, ge=0, le=1, description="Largest change of brightness and of contrast")
    colour: float = Field(
        0.0, ge=0, le=1, description="Probability of one of: light ± 0.1, PCA lighting, hue and saturation"
    )
    noise: float = Field(
        0.0, ge=0, le=1, description="Probability of Gaussian noise, clipped to valid colours"
    )
    noise_std: float = Field(
        0.02, ge=0, le=1, description="Largest standard deviation of the noise, of range 1"
    )
    jpeg: float = Field(0.0, ge=0, le=1, description="Probability of JPEG compression")
    jpeg_quality: tuple[int, int] = Field((40, 100), description="Lowest and highest JPEG quality")

    @model_validator(mode="before")
    @classmethod
    def _from_recipe(cls, values: Any) -> Any:
        """What is given replaces the recipe's values, so a resolved configuration reads back as it is."""
        if isinstance(values, Mapping) and values.get("recipe") is not None:
            return {**_recipe_values(str(values["recipe"])), **values}
        return values

    @model_validator(mode="after")
    def _quality_in_order(self) -> AugmentConfig:
        lowest, highest = self.jpeg_quality
        if not 1 <= lowest <= highest <= 100:
            raise ValueError(
                f"jpeg_quality [{lowest},{highest}] is not a range; give 1 <= lowest <= highest <= 100"
            )
        return self


def recipes() -> list[str]:
    """Names of the shipped recipes, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def recipe(name: str) -> AugmentConfig:
    """A shipped recipe.

    Raises:
        InputError: there is none of that name.
    """
    return AugmentConfig(**{**_recipe_values(name), "recipe": name})


def _recipe_values(name: str) -> dict[str, Any]:
    if name not in recipes():
        raise InputError(
            f"recipe {name!r} is not in configs/augment; it has {', '.join(recipes())}. "
            "Name one of them, or leave recipe out and give the keys"
        )
    return read_yaml(FOLDER / f"{name}.yaml")
