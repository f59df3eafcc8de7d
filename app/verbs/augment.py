"""``unmasked augment``: the recipes of random changes, in words and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from unmasked.app.inputs import Faces
from unmasked.app.progress import print_result
from unmasked.app.verbs.scan import as_list
from unmasked.datasets.augment import recipe, recipes


class Config(BaseModel):
    """Which recipes are shown, and on which crops."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipes: Annotated[tuple[str, ...] | None, BeforeValidator(as_list)] = Field(
        None, description="names in configs/augment, e.g. [published,noise]; all of them"
    )
    preview: bool = Field(False, description="draw a contact sheet of them and of self-blended images")
    faces: Faces = Field(Path("faces/faces.parquet"), description="preview: what `unmasked preprocess` wrote")
    out: Path = Field(Path("augment.png"), description="preview: the picture")
    crops: int = Field(3, ge=1, le=20, description="preview: how many real crops")
    draws: int = Field(8, ge=2, le=20, description="preview: random draws of each crop")
    seed: int = Field(0, ge=0, description="preview: of the draws")


def run(config: Config) -> None:
    """Prints what each recipe adds to mirroring; draws the sheet if asked."""
    names = recipes() if config.recipes is None else config.recipes
    for name in names:
        values = recipe(name).model_dump(exclude_defaults=True, exclude={"recipe"})
        listed = ", ".join(f"{key}={value}" for key, value in values.items())
        print_result(f"{name}: {listed or 'the defaults'}")
    if config.preview:
        from unmasked.datasets.preview import augmentation_sheet
        from unmasked.preprocessing.faces import FACES

        path = augmentation_sheet(
            FACES.read(config.faces),
            config.faces.parent,
            config.out,
            recipes=names,
            draws=config.draws,
            crops=config.crops,
            seed=config.seed,
        )
        print_result(f"contact sheet: {path}")
