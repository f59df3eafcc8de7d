"""Features of images, by FID's network or any detector; kept by what they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn

from unmasked.datasets.archives import IMAGE_SUFFIXES
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path, sha256_of_file
from unmasked.datasets.images import UnreadableImage, fit_to_size, read_pixels
from unmasked.datasets.listing import walk_files
from unmasked.datasets.tables import read_frame
from unmasked.datasets.transforms import normalise

READERS = 4
FACES_FILE, MANIFEST_FILE = "faces.parquet", "manifest.parquet"
BATCH = 32


@dataclass(frozen=True)
class Extractor:
    """What makes features of images.

    Attributes:
        name: of the distance: "FID" for FID's own network, else whose features they are.
        sha256: of the file of its weights.
        resize: how an image becomes its input, in words.
        features: (N, 3, H, W) uint8 -> (N, d).
    """

    name: str
    sha256: str
    resize: str
    features: Callable[[Tensor], Tensor]


def fid_extractor(weights: Path, resize: str) -> Extractor:
    """FID's Inception from a local file of weights.

    Args:
        weights: see `inception.FILES`.
        resize: one of `inception.RESIZES`.

    Raises:
        InputError: the file is not of that network.
    """
    from unmasked.generation import inception  # torchvision takes seconds

    model = inception.load(weights)
    return Extractor(
        "FID",
        sha256_of_file(weights),
        inception.RESIZES[resize],
        lambda images: model(inception.to_input(images, resize)),
    )


def detector_extractor(model: nn.Module, title: str, sha256: str, size_px: int) -> Extractor:
    """The features of a detector, whose Fréchet distance is no FID.

    Raises:
        InputError: the detector has no features.
    """
    if not hasattr(model, "features"):
        raise InputError(
            f"{title} has no features; give the checkpoint of a network, or weights of Inception"
        )

    features_of: Callable[[Tensor], Tensor] = getattr(model, "features")  # noqa: B009

    def features(images: Tensor) -> Tensor:
        resized = [fit_to_size(image.permute(1, 2, 0).numpy(), size_px) for image in images]
        return features_of(normalise(torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)))

    return Extractor(f"Fréchet distance of {title}", sha256, f"to {size_px} px, area or cubic", features)


def extract(
    paths: Sequence[Path], extractor: Extractor, folder: Path, *, size_px: int | None = None
) -> NDArray[np.float32]:
    """(n, d) features of image files, mapped from a file that is made once.

    The file's name is a digest of the images' bytes, the extractor and the resize, so features are made again
    exactly where one of these has changed. What is in memory does not grow with n.

    Args:
        paths: of the images, in the order of the rows.
        extractor: what makes the features.
        folder: gets the file.
        size_px: side that images are resized to first; None takes them as they are.

    Raises:
        InputError: there are fewer than two, one cannot be read, or they are of several sizes.
    """
    if len(paths) < 2:
        given = ", ".join(map(str, paths)) or "none"
        raise InputError(f"a distance is of two images or more of each side; given: {given}")
    file = folder / f"features-{_digest(paths, extractor, size_px)}.npy"
    if not file.is_file():
        with atomic_path(file) as temporary:
            _write(temporary, paths, extractor, size_px)
    return np.load(file, mmap_mode="r", allow_pickle=False)


def images_of(path: Path, rows: Mapping[str, str | float]) -> tuple[list[Path], NDArray]:
    """The images of a folder or of a table, and (n,) whose or of which video each is.

    Args:
        path: a folder with images below it, or a faces or manifest table, or the folder of one.
        rows: values that columns of the table must have.

    Raises:
        InputError: there is no image, or no such column.
    """
    tables = [path / name for name in (FACES_FILE, MANIFEST_FILE) if (path / name).is_file()]
    if path.is_dir() and not tables:
        if rows:
            raise InputError(f"{path} is a folder of images, and rows are chosen of tables; leave them out")
        found = [path / name for name in walk_files(path, IMAGE_SUFFIXES)]
        if not found:
            raise InputError(
                f"folder {path} has no image ({', '.join(sorted(IMAGE_SUFFIXES))}); give another"
            )
        return found, np.arange(len(found))
    file = tables[0] if path.is_dir() else path
    table = read_frame(file, text=["video", "path", "crop", "dataset"])
    column = "crop" if "crop" in table else "path"
    for name, value in {**rows, column: None}.items():
        if name not in table:
            raise InputError(f"{file} has no column {name}; it has {', '.join(map(str, table))}")
        table = table[table[name].notna() if value is None else table[name].astype(str) == str(value)]
    if table.empty:
        raise InputError(f"{file} has no image with {dict(rows)}; look at the values of these columns")
    root = Path(table["root"].iloc[0]) if column == "path" and "root" in table else file.parent
    if column == "path" and "kind" in table and (table["kind"] != "image").any():
        raise InputError(f"{file} has videos; give the faces table that `unmasked preprocess` makes of it")
    return [root / name for name in table[column]], units_of(table)


def units_of(table: pd.DataFrame) -> NDArray[np.str_]:
    """(n,) whose image each row is; else which video, else the row itself."""
    unit = pd.Series([f"row {place}" for place in range(len(table))], table.index, object)
    for name in ("video", "identity"):
        if name in table:
            unit = table[name].astype(object).where(table[name].notna(), unit)
    return unit.to_numpy(str)


def _digest(paths: Sequence[Path], extractor: Extractor, size_px: int | None) -> str:
    digest = hashlib.sha256(f"{extractor.sha256} {extractor.resize} {size_px}".encode())
    with ThreadPoolExecutor(READERS) as pool:
        for one in pool.map(_bytes_digest, paths):
            digest.update(one)
    return digest.hexdigest()[:32]


def _bytes_digest(path: Path) -> bytes:
    try:
        return bytes.fromhex(sha256_of_file(path))
    except OSError as error:
        raise InputError(f"image {path} cannot be read ({error.strerror})") from error


def _write(file: Path, paths: Sequence[Path], extractor: Extractor, size_px: int | None) -> None:
    stored, side = None, None
    with ThreadPoolExecutor(READERS) as pool, torch.inference_mode():
        for start in range(0, len(paths), BATCH):
            images = list(pool.map(partial(_read, size_px=size_px), paths[start : start + BATCH]))
            side = side or images[0].shape
            for image, path in zip(images, paths[start:], strict=False):
                if image.shape != side:
                    raise InputError(
                        f"{path} is {image.shape[1]} x {image.shape[0]} px and {paths[0]} is "
                        f"{side[1]} x {side[0]} px: a distance would be one of sizes too; "
                        f"give size_px={min(*side[:2], *image.shape[:2])} to resize all images first"
                    )
            batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
            found = extractor.features(batch).float().numpy()
            if stored is None:
                stored = open_memmap(file, "w+", np.float32, (len(paths), found.shape[1]))
            stored[start : start + len(found)] = found
    assert stored is not None
    stored.flush()


def _read(path: Path, *, size_px: int | None) -> NDArray[np.uint8]:
    try:
        pixels = read_pixels(path)
    except UnreadableImage as error:
        raise InputError(f"image {path} cannot be decoded ({error}); take it out or mend it") from error
    return pixels if size_px is None else fit_to_size(pixels, size_px)
