"""Crops of a faces table as batches of images for a detector.

Loaders deliver unsigned bytes; `unmasked.datasets.transforms` makes floats of them on the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from unmasked.datasets.blending import BLENDED, face_points, real_image, self_blended_image
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.images import UnreadableImage, fit_to_size, read_pixels
from unmasked.datasets.samplers import Draw

REAL = "real"
VIDEO = ["dataset", "video", "compression"]
READERS = 4  # threads; OpenCV decodes without the interpreter's lock

Transform = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]


def usable_rows(faces: pd.DataFrame) -> pd.DataFrame:
    """The rows of a faces table that have a crop, renumbered from 0."""
    return faces[(faces["status"] == "ok") & faces["crop"].notna()].reset_index(drop=True)


def method_classes(faces: pd.DataFrame) -> list[str]:
    """``real``, then the methods' names in alphabetical order: the method head's classes."""
    return [REAL, *sorted(faces.loc[faces["label"] == 1, "method"].unique())]


def sample_evenly(faces: pd.DataFrame, per_video: int | None) -> pd.DataFrame:
    """At most ``per_video`` crops of each video, spread evenly from the first to the last.

    Not the first ones: they would show a second of the video.
    """
    if per_video is None:
        return faces
    ordered = faces.sort_values([*VIDEO, "frame", "face"], kind="stable")
    videos = ordered.groupby(VIDEO, sort=False, dropna=False)
    position, count = videos.cumcount().to_numpy(), videos["frame"].transform("size").to_numpy()
    # Row i of n is kept if it is the nearest one to some point of linspace(0, n - 1, per_video).
    kept = np.ones(len(ordered), dtype=bool)
    for n in np.unique(count[count > per_video]):
        chosen = np.linspace(0, n - 1, per_video).round().astype(int)
        kept[count == n] = np.isin(position[count == n], chosen)
    return ordered[kept].sort_index().reset_index(drop=True)


def read_crop(path: str | os.PathLike[str], size_px: int) -> NDArray[np.uint8]:
    """(size_px, size_px, 3) RGB of an image file, resized if needed; errors as `read_whole`."""
    return fit_to_size(read_whole(path), size_px)


def read_whole(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of an image file, as large as it is.

    Raises:
        InputError: the file is absent or is not an image; it is never replaced by another one.
    """
    try:
        return read_pixels(path)
    except UnreadableImage as error:
        raise InputError(
            f"crop {path} is not an intact image ({error}); delete it and run `unmasked preprocess` again"
        ) from error
    except OSError as error:
        raise InputError(
            f"crop {path} cannot be read ({error.strerror}); run `unmasked preprocess` again"
        ) from error


def read_crops(paths: Sequence[Path], size_px: int) -> NDArray[np.uint8]:
    """(N, size_px, size_px, 3) RGB of image files, in order; errors as `read_crop`."""
    images = np.empty((len(paths), size_px, size_px, 3), np.uint8)

    def read_into(position: int) -> None:
        images[position] = read_crop(paths[position], size_px)

    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(read_into, range(len(paths))):
            pass
    return images


class CropDataset(Dataset[dict[str, Tensor]]):
    """Map-style dataset over a faces table whose rows all have crops.

    It is asked for a batch at a time.
    The batch of N draws is a dict: ``image`` (N, 3, H, W) uint8 RGB, channels last in memory, and (N,)
    int64 ``label`` (1 = fake), ``method_index`` (position of the method in ``methods``) and ``row``
    (position in the table). Nothing random depends on the process that fetches: draws bring their seeds.

    Args:
        faces: rows out of `usable_rows`; those of `blending.self_blended_rows` are made of their real
        crops when
            they are fetched, and all others beside them get `blending.real_image`'s changes.
        crops_root: folder that ``crop`` paths are relative to.
        size_px: side of the images; crops of another size are resized.
        methods: classes of the method head; the first one is "real".
        cache_mb: if all crops fit into so many megabytes they are read once, now, and held.
        transform: applied to each (H, W, 3) uint8 image when it is fetched, with a generator of its own.
    """

    def __init__(
        self,
        faces: pd.DataFrame,
        crops_root: Path,
        *,
        size_px: int,
        methods: Sequence[str],
        cache_mb: int = 0,
        transform: Transform | None = None,
    ) -> None:
        self.size_px = size_px
        self.transform = transform
        crops, self.files = np.unique(faces["crop"].to_numpy(dtype=str), return_inverse=True)
        self.paths = crop_paths(crops, crops_root)
        self.labels = faces["label"].to_numpy(np.int64)
        position = {method: index for index, method in enumerate(methods)}
        known = np.where(self.labels == 0, REAL, faces["method"].astype(object))
        # A method that was not trained on, in a validation split, has no class: -1.
        self.method_indices = np.array([position.get(method, -1) for method in known], np.int64)
        self.blended = faces[BLENDED].to_numpy(bool) if BLENDED in faces else None
        self.points = None if self.blended is None else face_points(faces, Path(crops_root))
        fits = len(crops) * size_px**2 * 3 <= cache_mb * 2**20
        self.images = read_crops(self.paths, size_px) if fits and len(crops) else None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_at_hand(self) -> bool:
        """True if an image only needs to be copied: nothing is decoded or computed."""
        return self.images is not None and self.transform is None and self.blended is None

    def __getitem__(self, draws: Sequence[Draw]) -> dict[str, Tensor]:
        rows = np.array([draw.row for draw in draws])
        # In a worker process this stacks into the memory that both processes share, without another copy.
        images = default_collate([torch.from_numpy(image) for image in self._images(draws)])
        return {
            "image": images.permute(0, 3, 1, 2),  # (N, H, W, 3) -> (N, 3, H, W)
            "label": torch.from_numpy(self.labels[rows]),
            "method_index": torch.from_numpy(self.method_indices[rows]),
            "row": torch.from_numpy(rows),
        }

    def _images(self, draws: Sequence[Draw]) -> list[NDArray[np.uint8]]:
        """(H, W, 3) each; threads help where no worker processes do."""
        if self.is_at_hand or get_worker_info() is not None:
            return [self._image(draw) for draw in draws]
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self._image, draws))

    def _image(self, draw: Draw) -> NDArray[np.uint8]:
        file = self.files[draw.row]
        image = self.images[file] if self.images is not None else read_crop(self.paths[file], self.size_px)
        if self.transform is None and self.blended is None:
            return image
        rng = np.random.default_rng(draw.seed)
        if self.blended is not None and self.points is not None:
            is_blended = self.blended[draw.row]
            image = (
                self_blended_image(image, self.points[draw.row], rng)
                if is_blended
                else real_image(image, rng)
            )
        return image if self.transform is None else self.transform(image, rng)


def loader(
    crops: CropDataset,
    batches: Sampler[list[Draw]] | Iterable[list[Draw]],
    *,
    workers: int = 0,
    seed: int = 0,
) -> DataLoader[dict[str, Tensor]]:
    """A loader of batches of uint8 images, in page-locked memory where there is a GPU.

    With worker processes, OpenCV is set to one thread in this process too: its threads would not be there
    in forked workers, which would wait for them for ever.

    Args:
        crops: where from.
        batches: which; see `unmasked.datasets.samplers.Batches`.
        workers: processes that read crops, kept from epoch to epoch; 0 reads them in this one, as do any
            for crops that are in memory. Batches are the same whatever their number.
        seed: of the workers' own generators, which nothing here draws from.
    """
    if crops.is_at_hand:
        workers = 0  # to hand images from process to process takes longer than to copy them here
    if workers:
        _one_thread()
    return DataLoader(
        crops,
        sampler=batches,
        batch_size=None,  # batches are made by the sampler and the dataset
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
        generator=torch.Generator().manual_seed(seed),
    )


def _one_thread(worker: int = 0) -> None:
    if cv2.getNumThreads() > 1:  # to set it again in a forked worker could hang
        cv2.setNumThreads(1)
