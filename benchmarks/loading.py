"""Throughput of the loader, as a ratio to a plain loop on the same crops and workers.

The plain loop is what most training code does: a dataset whose item is ``cv2.imread``, BGR to RGB, resize,
float, normalise, transpose; a DataLoader that stacks 32 of them (16 pairs, as UCF trains); floats to the
device. Ours sends unsigned bytes and normalises on the device. Both have persistent workers and page-locked
memory, shuffle, and see every crop once a round; every batch is read once on the device, as a network
would; rounds take turns, the figure is the median. Images are compared first.

    python benchmarks/loading.py faces=FACES.parquet [workers=2] [rounds=5] [batch=32] [size_px=256]
                                 [limit=1024] [format=png|jpeg]

``read`` decodes in every epoch, as the plain loop does; a PNG's decoding takes most of the time of both.
``held`` is the default where all crops fit into 4 GB: they are decoded once, before the first epoch. The
last line counts that first reading.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unmasked.datasets.loading import CropDataset, loader, usable_rows
from unmasked.datasets.samplers import Batches, InOrder, NaturalSampler
from unmasked.datasets.transforms import normalise

DEFAULTS = {"workers": 2, "rounds": 5, "batch": 32, "size_px": 256, "limit": 1024}
EPOCHS = 5  # of UCF's training


class PlainDataset(Dataset[Tensor]):
    """A crop as most training code reads it."""

    def __init__(self, paths: list[str], size_px: int) -> None:
        self.paths, self.size_px = paths, size_px

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        image = cv2.cvtColor(cv2.imread(self.paths[row]), cv2.COLOR_BGR2RGB)
        shrinks = image.shape[0] * image.shape[1] > self.size_px**2
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        image = cv2.resize(image, (self.size_px, self.size_px), interpolation=interpolation)
        values = (image.astype(np.float32) / 255 - 0.5) / 0.5
        return torch.from_numpy(values.transpose(2, 0, 1))


def main() -> None:
    """Prints images/s of each way, and ratios to the plain loop."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    settings = {name: int(given.get(name, value)) for name, value in DEFAULTS.items()}
    source = Path(given["faces"])
    faces = usable_rows(pd.read_parquet(source)).head(settings["limit"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = source.parent
        if given.get("format") == "jpeg":
            root, faces = as_jpeg(faces, root, Path(folder))
        measure(faces, root, device, settings)


def measure(faces: pd.DataFrame, root: Path, device: torch.device, settings: dict[str, int]) -> None:
    """Compares the images, then the times of all ways in turn."""
    batch, size_px, workers = settings["batch"], settings["size_px"], settings["workers"]
    plain = PlainDataset([str(root / crop) for crop in faces["crop"]], size_px)
    read = CropDataset(faces, root, size_px=size_px, methods=["real"])
    started_s = time.perf_counter()
    held = CropDataset(faces, root, size_px=size_px, methods=["real"], cache_mb=4096)
    filling_s = time.perf_counter() - started_s
    ours = next(iter(loader(read, list(Batches(InOrder(len(read)), batch)))))["image"]
    theirs = torch.stack([plain[row] for row in range(min(batch, len(plain)))])
    torch.testing.assert_close(normalise(ours), theirs, atol=1e-6, rtol=0)

    def passes(crops: CropDataset) -> Callable[[], Iterator[Tensor]]:
        batches = Batches(NaturalSampler(len(crops)), batch)
        source = loader(crops, batches, workers=workers)
        return lambda: (normalise(found["image"].to(device, non_blocking=True)) for found in source)

    stacked = DataLoader(
        plain,
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    ways: dict[str, Callable[[], Iterator[Tensor]]] = {
        "plain": lambda: (images.to(device, non_blocking=True) for images in stacked),
        "read": passes(read),
        "held": passes(held),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(settings["rounds"] + 1):  # the first one starts the workers
        for name, way in ways.items():
            seconds[name].append(time_call(way(), len(faces), device))
    medians = {name: float(np.median(times[1:])) for name, times in seconds.items()}
    suffixes = ", ".join(sorted({Path(crop).suffix for crop in faces["crop"]}))
    print(f"{len(faces)} crops ({suffixes}) to {size_px} px, {workers} workers, {device.type}; medians")
    for name, median in medians.items():
        rounds = ", ".join(f"{time_s:.2f}" for time_s in seconds[name][1:])
        ratio = medians["plain"] / median
        print(f"  {name:6} {len(faces) / median:7.0f} images/s  ratio {ratio:.2f}  ({rounds} s)")
    whole = EPOCHS * medians["plain"] / (filling_s + EPOCHS * medians["held"])
    print(f"  held, over {EPOCHS} epochs with the reading before them ({filling_s:.2f} s): ratio {whole:.2f}")


def time_call(batches: Iterator[Tensor], expected: int, device: torch.device) -> float:
    """Seconds of a pass over all batches, whose images are counted and summed."""
    started_s = time.perf_counter()
    count, total = 0, torch.zeros((), device=device)
    for images in batches:
        count += len(images)
        total += images.sum()
    assert bool(torch.isfinite(total))  # waits for the device, too
    assert count == expected, f"{count} of {expected} images arrived"
    return time.perf_counter() - started_s


def as_jpeg(faces: pd.DataFrame, root: Path, folder: Path) -> tuple[Path, pd.DataFrame]:
    """The same crops as JPEG of quality 95, in another folder."""
    names = [f"{number}.jpg" for number in range(len(faces))]
    for name, crop in zip(names, faces["crop"], strict=True):
        cv2.imwrite(str(folder / name), cv2.imread(str(root / crop)), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return folder, faces.assign(crop=names)


if __name__ == "__main__":
    main()
