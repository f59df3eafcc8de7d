"""Features of images, by FID's network or any detector; kept by what they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path, sha256_of_file
from unmasked.datasets.images import UnreadableImage, fit_to_size, read_pixels
from unmasked.datasets.transforms import normalise

READERS = 4
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
        InputError: there is no image, one cannot be read, or they are of several sizes.
    """
    if not paths:
        raise InputError("there is no image to compare; give a folder of images or a faces table with crops")
    file = folder / f"features-{_digest(paths, extractor, size_px)}.npy"
    if not file.is_file():
        with atomic_path(file) as temporary:
            _write(temporary, paths, extractor, size_px)
    return np.load(file, mmap_mode="r", allow_pickle=False)


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
                        f"give size_px={min(side[:2])} to resize all images first"
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
