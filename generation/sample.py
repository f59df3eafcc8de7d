"""Images of a trained generator as a dataset that every verb reads."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import sync_files
from unmasked.datasets.listing import as_manifest
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.tables import read_frame
from unmasked.generation.features import MANIFEST_FILE
from unmasked.generation.stylegan2 import Generator, sample
from unmasked.generation.train import FILE, METHOD, STYLEGAN2
from unmasked.training import checkpoint

IMAGES = Path("fake") / METHOD  # the layout that `unmasked scan` reads method and label from
MADE = re.compile(r"\d{7,}\.png")
BATCH = 64


def load(path: Path) -> tuple[Generator, dict[str, Any]]:
    """A trained generator and its card.

    Args:
        path: ``generator.safetensors``, or its folder.

    Raises:
        InputError: the files are absent, damaged, or of something else.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file() or file.suffix != Path(FILE).suffix:
        raise InputError(
            f"{path} is no generator; give the folder that `unmasked generate train` wrote, or its {FILE}"
        )
    model, card = checkpoint.load(STYLEGAN2, file)
    assert isinstance(model, Generator)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), card


def write_images(
    generator: Generator,
    card: Mapping[str, Any],
    out: Path,
    *,
    count: int,
    seed: int = 0,
    truncation: float = 1.0,
    split: str = "test",
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> pd.DataFrame:
    """Writes images and ``manifest.parquet``, all or nothing; returns the manifest.

    Each file says in its metadata what it is; each row has the generator's hash, seed, place and truncation.

    Args:
        generator: in evaluation.
        card: of its checkpoint.
        out: a folder that holds no images of a generator yet, but where ``overwrite``.
        count: images.
        seed: with its place it decides an image.
        truncation: below 1 images are better, and more alike.
        split: of the rows.
        overwrite: images that are there stay until all new ones are written, and are replaced then.
        progress: told after each batch.

    Raises:
        InputError: there are images already, or, with ``overwrite``, files that no generator made.
        OSError: the disk is full; nothing new is left then.
    """
    kept = [out / "fake", out / MANIFEST_FILE]
    if any(path.exists() for path in kept):
        _check_only_made(out)
        if not overwrite:
            raise InputError(f"{out} holds made images already; give another out=, or overwrite=true")
    out.mkdir(parents=True, exist_ok=True)
    # Beside their place: what fails half way leaves nothing that looks like a dataset.
    working = Path(tempfile.mkdtemp(prefix=".generate-", dir=out))
    try:
        folder = working / IMAGES
        folder.mkdir(parents=True)
        facts = {"generator": card["sha256"], "seed": seed, "truncation": truncation}
        for start in range(0, count, BATCH):
            places = range(start, min(start + BATCH, count))
            images = sample(generator, places, seed, truncation).cpu()
            files = [folder / f"{place:07d}.png" for place in places]
            for file, image, place in zip(files, images, places, strict=True):
                _write(file, image, {**facts, "place": place})
            sync_files(files)
            progress("images", places.stop, count)
        rows = pd.DataFrame({"path": [str(IMAGES / f"{place:07d}.png") for place in range(count)]})
        rows = rows.assign(kind="image", label=1, method=METHOD, split=split, **facts, place=range(count))
        manifest = as_manifest(rows, out.resolve().name, out)
        MANIFEST.write(manifest, working / MANIFEST_FILE)
        for path in reversed(kept):
            if path.exists():
                path.replace(working / f"old {path.name}")  # removed with the folder
        (working / "fake").replace(out / "fake")
        (working / MANIFEST_FILE).replace(out / MANIFEST_FILE)  # last: it says that the images are there
        return manifest
    except OSError as error:
        error.filename = error.filename or str(out)  # Pillow does not say where the disk is full
        raise
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _check_only_made(out: Path) -> None:
    """Raises InputError if files stand where made images go that `write_images` did not write."""
    files = (path for path in (out / "fake").rglob("*") if not path.is_dir())
    foreign = [path for path in files if path.parent != out / IMAGES or not MADE.fullmatch(path.name)]
    table = out / MANIFEST_FILE
    if table.exists() and "generator" not in read_frame(table):
        foreign.append(table)
    if foreign:
        raise InputError(f"{foreign[0]} was not made by a generator and would be lost; give another out=")


def _write(file: Path, image: Tensor, facts: Mapping[str, Any]) -> None:
    said = PngInfo()
    said.add_text("Description", f"An image made by {METHOD} (unmasked generate); nobody is shown")
    for name, value in facts.items():
        said.add_text(f"unmasked.{name}", str(value))
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, pnginfo=said)
