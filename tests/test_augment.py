"""Recipes of augmentation, as configuration and as a picture."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.augment import FOLDER, AugmentConfig, recipe, recipes
from unmasked.datasets.errors import InputError
from unmasked.datasets.preview import augmentation_sheet
from unmasked.preprocessing.faces import FACES


@pytest.fixture
def faces(tmp_path):
    rows = []
    for number in range(4):
        image = np.full((64, 64, 3), 60 * number + 30, np.uint8)
        cv2.circle(image, (32, 36), 20, (120, 150, 200), -1)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
        rows.append(
            {
                **{
                    "dataset": "D",
                    "video": f"v{number}",
                    "kind": "image",
                    "method": "real",
                    "split": "train",
                },
                **{"label": 0, "frame": 0, "face": 0, "crop": f"{number}.png", "status": "ok"},
            }
        )
    rows[3].update(label=1, method="Swap")
    table = FACES.validate(pd.DataFrame(rows))
    FACES.write(table, tmp_path / "faces.parquet")
    return table


def test_shipped_recipes_are_those_that_the_documentation_names():
    assert recipes() == ["flip_rotate_zoom", "noise", "none", "published"]


@pytest.mark.parametrize("name", recipes())
def test_recipes_hold_differences_only(name):
    from omegaconf import OmegaConf

    default = AugmentConfig()
    for key, value in OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml")).items():
        assert getattr(recipe(name), key) == value
        assert getattr(default, key) != value, f"{key} repeats the default"


def test_published_recipe_has_the_published_values():
    values = recipe("published")
    assert (values.flip, values.rotate, values.blur, values.colour, values.jpeg) == (0.5,) * 5
    assert values.rotate_deg == 10
    assert values.jpeg_quality == (40, 100)


def test_no_recipe_is_mirroring_only_and_none_is_nothing():
    changes = ("flip", "rotate", "zoom", "blur", "light", "colour", "noise", "jpeg")
    assert [name for name in changes if getattr(AugmentConfig(), name)] == ["flip"]
    assert not any(getattr(recipe("none"), name) for name in changes)


def test_given_keys_replace_the_recipes_and_a_resolved_configuration_reads_back():
    config = AugmentConfig(recipe="published", rotate=0.0, flip=0.1)
    assert (config.rotate, config.flip, config.blur) == (0.0, 0.1, 0.5)
    assert AugmentConfig.model_validate(config.model_dump(mode="json")) == config


def test_an_unknown_recipe_lists_those_there_are():
    with pytest.raises(InputError, match=r"'publishd' is not in configs/augment; it has .*published"):
        recipe("publishd")
    with pytest.raises(ValidationError, match="is not in configs/augment"):
        AugmentConfig(recipe="publishd")


@pytest.mark.parametrize("quality", [(90, 40), (0, 50), (50, 101)])
def test_a_range_of_qualities_must_be_one(quality):
    with pytest.raises(ValidationError, match="1 <= lowest <= highest <= 100"):
        AugmentConfig(jpeg_quality=quality)


# The picture


def tile(sheet: np.ndarray, strip: int, crop: int, column: int, *, crops: int) -> np.ndarray:
    top = 16 + 26 * (strip + 1) + (strip * crops + crop) * 132
    left = 16 + column * 132
    return sheet[top : top + 128, left : left + 128]


def test_sheet_shows_each_real_crop_unchanged_first_and_fakes_never(faces, tmp_path):
    path = augmentation_sheet(
        faces, tmp_path, tmp_path / "sheet.png", recipes=["none", "noise"], crops=4, draws=2
    )
    sheet = np.asarray(Image.open(path))
    for strip in range(3):
        levels = [tile(sheet, strip, crop, 0, crops=3)[2, 2].tolist() for crop in range(3)]
        assert levels == [[30] * 3, [90] * 3, [150] * 3]
    # Without any change, draws are the crop itself.
    assert np.array_equal(tile(sheet, 0, 1, 2, crops=3), tile(sheet, 0, 1, 0, crops=3))
    mask = tile(sheet, 2, 0, 2, crops=3)
    assert (mask[..., 0] == mask[..., 1]).all()
    assert mask[2, 2].tolist() == [0, 0, 0]
    assert mask.max() > 50


def test_sheet_of_a_table_without_reals_is_refused(faces, tmp_path):
    with pytest.raises(InputError, match="none of the 1 rows of the faces table is a real crop"):
        augmentation_sheet(faces[faces["label"] == 1], tmp_path, tmp_path / "sheet.png", recipes=["none"])


def test_command_lists_recipes_and_draws_them_when_asked(faces, tmp_path):
    out = tmp_path / "sheet.png"
    result = CliRunner().invoke(app, ["augment"])
    assert result.exit_code == 0
    assert "published: rotate=0.5, blur=0.5" in result.output
    result = CliRunner().invoke(
        app,
        [
            "augment",
            "--preview",
            "recipes=noise",
            f"faces={tmp_path / 'faces.parquet'}",
            f"out={out}",
            "draws=2",
        ],
    )
    assert result.exit_code == 0, result.output
    assert out.is_file()
    assert f"contact sheet: {out}" in result.output


def test_a_mistyped_flag_names_the_nearest_key():
    result = CliRunner().invoke(app, ["augment", "--previw"])
    assert result.exit_code == 2
    assert "unknown key 'previw'; did you mean 'preview'?" in result.output
