"""Perceptual hashes of images, close pairs of hashes, and whether two images are one.

The hash is that of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010),
chapter 3: 64 low frequencies of the image at 32 x 32 pixels, each above or below their median. Recompression
and rescaling move few of the bits. Faces aligned to one template share their lowest frequencies, so that a
close hash alone proves nothing: `is_copy` compares details and colours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from unmasked.datasets.images import UnreadableImage, read_pixels

SIZE_PX = 32
BITS = 64
BAND_BITS = 16
RADIUS_MAX = 2 * (BITS // BAND_BITS) - 1  # see `close_pairs`
# Grey levels, root mean square, beyond a blur over a quarter of the image. An image with less (black, a
# plain wall, a gradient) is like every other such image.
DETAIL_MIN = 2.0
BLUR_PX = 9
# Copies of photographed face crops, down to JPEG quality 50 and a quarter of the pixels, agreed to 0.99 and
# 1.0 or better; crops of different people within the radius reached 0.91 in details, and then differed by
# 9.5 in colour or more.
LIKENESS_MIN = 0.85
COLOUR_MAX = 2.5  # grey levels, mean over 8 x 8 fields and three channels
PAIRS_AT_ONCE = 1 << 21

_LOW = np.argsort([(u + v) * SIZE_PX + u for u in range(12) for v in range(12)], kind="stable")[1 : BITS + 1]
_WEIGHTS = np.left_shift(np.uint64(1), np.arange(BITS, dtype=np.uint64))

Progress = Callable[[int, int], None]


def hash_files(
    paths: Sequence[str | os.PathLike[str]], *, progress: Progress | None = None, workers: int | None = None
) -> tuple[NDArray[np.uint64], NDArray[np.str_]]:
    """The hash of each image file, and its status: ``ok``, ``flat`` or ``unreadable``.

    Args:
        paths: N files.
        progress: called with how many are done, and N.
        workers: threads; one for each core where None. OpenCV decodes without the interpreter's lock.

    Returns:
        (N,) hashes, 0 unless ok; and (N,) statuses. A flat image has too little detail to be told from
        other flat ones.
    """
    hashes, status = np.zeros(len(paths), np.uint64), np.full(len(paths), "unreadable", dtype="<U10")
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for position, small in enumerate(pool.map(read_small, paths, chunksize=64)):
            if small is not None:
                is_flat = float(np.sqrt(np.mean(_detail(small) ** 2))) < DETAIL_MIN
                status[position] = "flat" if is_flat else "ok"
                hashes[position] = 0 if is_flat else hash_of(small)
            if progress is not None and (position + 1) % 1000 == 0:
                progress(position + 1, len(paths))
    return hashes, status


def read_small(path: str | os.PathLike[str]) -> NDArray[np.float32] | None:
    """The image of a file at (32, 32, 3) BGR, 0 to 255; None where it is absent or damaged."""
    try:
        image = read_pixels(path)[:, :, ::-1]
    except (UnreadableImage, OSError):
        return None
    return cv2.resize(image, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)


def hash_of(small: NDArray[np.float32]) -> np.uint64:
    """The 64-bit hash of a (32, 32, 3) image.

    >>> spots = np.random.default_rng(0).uniform(0, 100, (32, 32, 3)).astype(np.float32)
    >>> bool(hash_of(spots) == hash_of(1.5 * spots + 20))
    True
    """
    low = cv2.dct(_grey(small))[:12, :12].ravel()[_LOW]
    return np.uint64(_WEIGHTS[low > np.median(low)].sum(dtype=np.uint64))


def is_copy(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """True if two (32, 32, 3) images with close hashes are copies.

    A copy is recompressed or rescaled at most.
    """
    return likeness(a, b) >= LIKENESS_MIN and colour_difference(a, b) <= COLOUR_MAX


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Correlation of the details of two (32, 32, 3) images, in [-1, 1].

    1 for copies, NaN if one has none.

    >>> spots = np.eye(32, dtype=np.float32)[..., None].repeat(3, axis=2)
    >>> round(likeness(spots, 3 * spots), 3)
    1.0
    """
    x, y = _detail(a).ravel(), _detail(b).ravel()
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm > 0 else float("nan")


def colour_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Mean colour distance of two (32, 32, 3) images in 8 x 8 fields, grey levels.

    0 for copies.
    """
    fields = (a - b).reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))
    return float(np.abs(fields).mean())


def close_pairs(
    hashes: NDArray[np.uint64],
    radius: int,
    keep: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]] | None = None,
) -> NDArray[np.int64]:
    """All pairs of hashes that differ in at most ``radius`` bits, (P, 2), sorted.

    In each pair first < second.
    A hash is four bands of 16 bits. Of two hashes at most 7 bits apart at least one band is at most 1 bit
    apart, and each is looked up in the 17 buckets around its own: Norouzi et al., "Fast Exact Search in
    Hamming Space with Multi-Index Hashing", 2014. Nothing is missed.

    Args:
        hashes: (N,).
        radius: 0 to 7.
        keep: which of the pairs (i, j) are wanted; the others cost no memory.

    >>> close_pairs(np.array([0b0000, 0b0111, 0b1111], np.uint64), radius=1).tolist()
    [[1, 2]]
    """
    if not 0 <= radius <= RADIUS_MAX:
        raise ValueError(f"radius is {radius}; it must lie between 0 and {RADIUS_MAX}")
    found = [np.empty((0, 2), np.int64)]
    for i, j in _candidates(hashes):
        near = np.bitwise_count(hashes[i] ^ hashes[j]) <= radius
        i, j = i[near], j[near]
        if keep is not None:
            wanted = keep(i, j)
            i, j = i[wanted], j[wanted]
        if len(i):
            found.append(np.stack([i, j], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _candidates(hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yields blocks of pairs i < j that have a band at most one bit apart."""
    flips = [0, *(1 << bit for bit in range(BAND_BITS))]
    for shift in range(0, BITS, BAND_BITS):
        band = ((hashes >> np.uint64(shift)) & np.uint64((1 << BAND_BITS) - 1)).astype(np.int64)
        order = np.argsort(band, kind="stable")
        bounds = np.searchsorted(band[order], np.arange((1 << BAND_BITS) + 1))
        for flip in flips:
            # Each pair of different buckets is met from one side only.
            asking = np.flatnonzero(band < (band ^ flip)) if flip else np.arange(len(band))
            first, count = bounds[band[asking] ^ flip], np.diff(bounds)[band[asking] ^ flip]
            yield from (_order_pairs(i, j) for i, j in _pairs_in_buckets(asking, first, count, order))


def _pairs_in_buckets(
    asking: NDArray[np.int64], first: NDArray[np.int64], count: NDArray[np.int64], order: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Each asking index with every member of its bucket, in blocks."""
    total = np.cumsum(count)
    start = 0
    while start < len(asking):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + PAIRS_AT_ONCE, side="right")))
        block = count[start:stop]
        within = np.arange(block.sum()) - np.repeat(np.cumsum(block) - block, block)
        yield np.repeat(asking[start:stop], block), order[np.repeat(first[start:stop], block) + within]
        start = stop


def _order_pairs(i: NDArray[np.int64], j: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    different = i != j
    i, j = i[different], j[different]
    return np.minimum(i, j), np.maximum(i, j)


def _grey(small: NDArray[np.float32]) -> NDArray[np.float32]:
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]


def _detail(small: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = _grey(small)
    return grey - cv2.blur(grey, (BLUR_PX, BLUR_PX))
