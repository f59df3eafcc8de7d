"""A contact sheet of augmentation: each recipe's draws beside their crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unmasked.datasets.augment import AugmentConfig, recipe
from unmasked.datasets.blending import SELF_BLENDED, blend, face_points
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path
from unmasked.datasets.loading import read_crop, usable_rows
from unmasked.datasets.transforms import RandomJpeg, augment

SIZE_PX = 256  # of the crops that are changed
TILE_PX = 128
GAP_PX = 4
MARGIN_PX = 16
HEADING_PX = 26
PAPER, INK = "#FFFFFF", "#222222"


def augmentation_sheet(
    faces: pd.DataFrame,
    crops_root: Path,
    path: Path,
    *,
    recipes: Sequence[str],
    draws: int = 8,
    crops: int = 3,
    seed: int = 0,
) -> Path:
    """The path of a PNG: for every recipe, a few real crops and random draws of each.

    Self-blended images come last: the crop, then for every other draw the fake and, after it, its mask.

    Args:
        faces: a faces table; crops are taken evenly from its real ones.
        crops_root: folder that crop paths are relative to.
        path: of the PNG, written whole or not at all.
        recipes: names in ``configs/augment``.
        draws: tiles beside each crop.
        crops: how many crops.
        seed: same seed, same sheet.

    Raises:
        InputError: there is no real crop, a crop cannot be read, or a recipe does not exist.
    """
    rows = _pick_crops(faces, crops)
    images = np.stack([read_crop(path, SIZE_PX) for path in crop_paths(rows["crop"], crops_root)])
    configs = [recipe(name) for name in recipes]
    strips = {_heading(config): _augment_crops(images, config, draws, seed) for config in configs}
    strips[f"{SELF_BLENDED}: fakes of real crops, and beside each the share of the other view in it"] = (
        _blend_crops(images, face_points(rows, Path(crops_root)), draws, seed)
    )
    sheet = _draw_sheet(images, strips)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return Path(path)


def _pick_crops(faces: pd.DataFrame, count: int) -> pd.DataFrame:
    reals = usable_rows(faces[faces["label"] == 0]).drop_duplicates(["dataset", "video"])
    if reals.empty:
        raise InputError(
            f"none of the {len(faces)} rows of the faces table is a real crop (label 0, status ok); "
            "give a table that has some"
        )
    chosen = np.linspace(0, len(reals) - 1, min(count, len(reals))).round().astype(int)
    return reals.iloc[chosen].reset_index(drop=True)


def _heading(config: AugmentConfig) -> str:
    given = config.model_dump(exclude_defaults=True, exclude={"recipe"})
    values = {"flip": config.flip, **given}
    return f"{config.recipe} (left: the crop as it is): " + ", ".join(
        f"{key} {value:g}" for key, value in values.items()
    )


def _augment_crops(
    images: NDArray[np.uint8], config: AugmentConfig, draws: int, seed: int
) -> NDArray[np.uint8]:
    """(crops, draws, H, W, 3), in training's order: JPEG, then the rest."""
    rng = np.random.default_rng(seed)
    jpeg = RandomJpeg(config)
    repeated = np.stack([jpeg(image, rng) for image in images.repeat(draws, axis=0)])
    batch = torch.from_numpy(repeated).permute(0, 3, 1, 2)  # (N, H, W, 3) -> (N, 3, H, W)
    changed = augment(batch, config, torch.Generator().manual_seed(seed))
    pixels = ((changed + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels.reshape(len(images), draws, *pixels.shape[1:])


def _blend_crops(
    images: NDArray[np.uint8], points: NDArray[np.float64], draws: int, seed: int
) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    strip = np.zeros((len(images), draws, *images.shape[1:]), np.uint8)
    for number, (image, five) in enumerate(zip(images, points, strict=True)):
        for draw in range(0, draws - 1, 2):
            fake, share = blend(image, five, rng)
            strip[number, draw], strip[number, draw + 1] = fake, np.rint(share * 255)[..., None]
    return strip


def _draw_sheet(images: NDArray[np.uint8], strips: dict[str, NDArray[np.uint8]]) -> Image.Image:
    step = TILE_PX + GAP_PX
    columns = 1 + next(iter(strips.values())).shape[1]
    height = MARGIN_PX + len(strips) * (HEADING_PX + len(images) * step) + MARGIN_PX
    sheet = Image.new("RGB", (2 * MARGIN_PX + columns * step - GAP_PX, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN_PX
    for heading, strip in strips.items():
        draw.text((MARGIN_PX, top), heading, fill=INK, font=ImageFont.load_default(14))
        top += HEADING_PX
        for image, draws in zip(images, strip, strict=True):
            for column, tile in enumerate([image, *draws]):
                shown = Image.fromarray(tile).resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
                sheet.paste(shown, (MARGIN_PX + column * step, top))
            top += step
    return sheet
