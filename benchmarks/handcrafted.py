"""Handcrafted features: ratio to scikit-image one by one, then time and peak memory of many crops.

    python benchmarks/handcrafted.py --images FOLDER [--crops 100000] [--sample 60]

Takes every image below a folder, cut to its middle square and scaled to 256 px. First a sample goes through
ours (64 at a time) and through scikit-image and OpenCV (one by one), turn by turn in one process: CPU seconds
and their ratio. Then a fiftieth of so many JPEG crops and all of them, repeats of these images under names of
their own, go through what training calls: from files to one table of features, whose peak memory must not
grow. Without scikit-image, or with --sample 0, the ratio is left out. One process, one thread.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unmasked.baselines.handcrafted import BATCH, Config, features, vectors_of_files
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import read_whole

SIDE_PX = 256
BLOCKS = ("lbp", "hog", "glcm", "dct")  # what the libraries have
SUFFIXES = {".jpg", ".jpeg", ".png"}


def main() -> None:
    """Prints both measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=100_000)
    parser.add_argument("--sample", type=int, default=60)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    crops = squares(arguments.images, at_most=500)
    print(f"{len(crops)} images", flush=True)
    if arguments.sample:
        compare(crops[: arguments.sample])
    with tempfile.TemporaryDirectory() as temporary:
        paths = write_crops(crops, arguments.crops, Path(temporary))
        del crops  # the peak is to be that of the features
        for count in sorted({len(paths) // 50, len(paths)}):
            measure(paths[:count])


def squares(folder: Path, at_most: int) -> NDArray[np.uint8]:
    """(N, 256, 256, 3) RGB of the images below a folder."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:at_most]:
        try:
            image = read_whole(path)
        except InputError:
            continue
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        middle = image[top : top + side, left : left + side]
        found.append(cv2.resize(middle, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA))
    return np.stack(found)


def compare(crops: NDArray[np.uint8]) -> None:
    """CPU seconds of ours and of the libraries, block by block, best of three turns."""
    try:
        theirs = library_blocks()
    except ImportError:
        print("without the ratio: scikit-image is not installed")
        return
    print(f"ms a crop, best of 3 over {len(crops)} crops | libraries one by one | ours | ratio")
    for name in (*BLOCKS, "all"):
        blocks = BLOCKS if name == "all" else (name,)
        alone, together = [], []
        for _ in range(3):
            alone.append(cpu_seconds(lambda b=blocks: [one_by_one(theirs, image, b) for image in crops]))
            together.append(cpu_seconds(lambda b=blocks: in_batches(crops, b)))
        slow, fast = (min(times) / len(crops) * 1000 for times in (alone, together))
        print(f"{name:5} (with grey) | {slow:7.2f} | {fast:6.2f} | {slow / fast:5.1f}", flush=True)


def library_blocks() -> dict[str, Callable[[NDArray[np.float32]], NDArray]]:
    """Each block by the library's function, from (128, 128) grey in [0, 1]."""
    from skimage.feature import graycomatrix, graycoprops, hog, local_binary_pattern

    names = ("contrast", "dissimilarity", "homogeneity", "ASM", "energy", "correlation")
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]

    def levels(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.rint(grey * np.float32(255)).astype(np.uint8)

    def lbp(grey: NDArray[np.float32]) -> NDArray:
        codes = local_binary_pattern(levels(grey), 8, 1, "uniform")
        return np.bincount(codes.astype(int).ravel(), minlength=10) / codes.size

    def glcm(grey: NDArray[np.float32]) -> NDArray:
        matrix = graycomatrix(levels(grey), [1, 2, 4], angles, 256, symmetric=True, normed=True)
        return np.concatenate([graycoprops(matrix, name).ravel() for name in names])

    return {
        "lbp": lbp,
        "hog": lambda grey: hog(grey, 9, (16, 16), (2, 2), block_norm="L2-Hys", transform_sqrt=True),
        "glcm": glcm,
        "dct": lambda grey: cv2.dct(grey)[:32, :32].ravel(),
    }


def one_by_one(
    theirs: dict[str, Callable[[NDArray[np.float32]], NDArray]],
    image: NDArray[np.uint8],
    blocks: tuple[str, ...],
) -> NDArray:
    """One crop's features by the libraries."""
    from skimage.color import rgb2gray
    from skimage.transform import resize

    grey = resize(rgb2gray(image), (128, 128), order=1, anti_aliasing=True).astype(np.float32)
    return np.concatenate([theirs[name](grey) for name in blocks])


def in_batches(crops: NDArray[np.uint8], blocks: tuple[str, ...]) -> list[NDArray]:
    """All crops' features by ours."""
    parts = (features(crops[first : first + BATCH], blocks) for first in range(0, len(crops), BATCH))
    return [np.hstack([part[name] for name in blocks]) for part in parts]


def cpu_seconds(function: Callable[[], object]) -> float:
    """What a call takes of this process's CPU."""
    start = time.process_time()
    function()
    return time.process_time() - start


def write_crops(crops: NDArray[np.uint8], count: int, folder: Path) -> list[Path]:
    """So many JPEG files: every image once, then links to them under other names."""
    for number, crop in enumerate(crops):
        cv2.imwrite(str(folder / f"{number:06}.jpg"), crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    for number in range(len(crops), count):
        os.link(folder / f"{number % len(crops):06}.jpg", folder / f"{number:06}.jpg")
    return [folder / f"{number:06}.jpg" for number in range(count)]


def measure(paths: list[Path]) -> None:
    """Time and peak memory from files to the table of all blocks."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryFile() as file:
        size = vectors_of_files(paths, Config(), file).nbytes
    used, wall = time.process_time() - cpu, time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{len(paths)} crops: {used / 60:.1f} CPU minutes ({used / len(paths) * 1000:.2f} ms a crop), "
        f"{wall / 60:.1f} minutes of wall clock, peak {peak / 2**20:.2f} GiB, of which {before / 2**20:.2f} "
        f"before the first crop; {size / 2**30:.2f} GiB of features on the disk"
    )


if __name__ == "__main__":
    main()
