"""Crops of a faces table as images for a detector."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from unmasked.datasets.errors import InputError

REAL = "real"
READERS = 4  # threads; OpenCV decodes without the interpreter's lock


def usable(faces: pd.DataFrame) -> pd.DataFrame:
    """The rows of a faces table that have a crop, renumbered from 0."""
    return faces[(faces["status"] == "ok") & faces["crop"].notna()].reset_index(drop=True)


def method_classes(faces: pd.DataFrame) -> list[str]:
    """``real``, then the names of the methods in alphabetical order: the classes of a method head."""
    return [REAL, *sorted(faces.loc[faces["label"] == 1, "method"].unique())]


def read_crop(path: str | os.PathLike[str], size_px: int) -> NDArray[np.uint8]:
    """(size_px, size_px, 3) RGB of an image file, resized where it has another size.

    Raises:
        InputError: the file is absent or is not an image; it is never replaced by another one.
    """
    path = Path(path)
    try:
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(
            f"crop {path} cannot be read ({error.strerror}); run `unmasked preprocess` again"
        ) from error
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if len(encoded) else None
    if image is None:
        raise InputError(f"crop {path} is not an intact image; delete it and run `unmasked preprocess` again")
    if image.shape[:2] != (size_px, size_px):
        shrinks = image.shape[0] * image.shape[1] > size_px * size_px
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        image = cv2.resize(image, (size_px, size_px), interpolation=interpolation)
    return image  # type: ignore[return-value]


def read_crops(paths: Sequence[Path], size_px: int) -> NDArray[np.uint8]:
    """(N, size_px, size_px, 3) RGB of image files, in order; errors as `read_crop`."""
    images = np.empty((len(paths), size_px, size_px, 3), np.uint8)

    def read_into(position: int) -> None:
        images[position] = read_crop(paths[position], size_px)

    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(read_into, range(len(paths))):
            pass
    return images


class CropDataset(Dataset[dict[str, Any]]):
    """Map-style dataset over a faces table whose rows all have crops.

    An item is a dict: ``image`` (3, H, W) uint8 RGB, ``label`` (1 = fake), ``method_index`` (position
    of the method in ``methods``) and ``row`` (position in the table).

    Args:
        faces: rows out of `usable`.
        crops_root: folder that ``crop`` paths are relative to.
        size_px: side of the images; crops of another size are resized.
        methods: classes of the method head; the first one is "real".
        cache_mb: if all crops fit into so many megabytes they are read once, now, and held.
        transform: applied to each (H, W, 3) uint8 image when it is fetched.
    """

    def __init__(
        self,
        faces: pd.DataFrame,
        crops_root: Path,
        *,
        size_px: int,
        methods: Sequence[str],
        cache_mb: int = 0,
        transform: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    ) -> None:
        self.size_px = size_px
        self.transform = transform
        self.paths = [Path(crops_root) / crop for crop in faces["crop"]]
        self.labels = faces["label"].to_numpy(np.int64)
        position = {method: index for index, method in enumerate(methods)}
        known = np.where(self.labels == 0, REAL, faces["method"].astype(object))
        # A method that was not trained on, in a validation split, has no class: -1.
        self.method_indices = np.array([position.get(method, -1) for method in known], np.int64)
        fits = len(faces) * size_px**2 * 3 <= cache_mb * 2**20
        self.images = read_crops(self.paths, size_px) if fits and len(faces) else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> dict[str, Any]:
        image = self.images[row] if self.images is not None else read_crop(self.paths[row], self.size_px)
        if self.transform is not None:
            image = self.transform(image)
        return {
            "image": torch.from_numpy(image).permute(2, 0, 1),  # (H, W, 3) -> (3, H, W)
            "label": int(self.labels[row]),
            "method_index": int(self.method_indices[row]),
            "row": row,
        }
