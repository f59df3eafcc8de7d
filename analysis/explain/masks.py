"""Where a fake was changed, in its crop: the masks of FaceForensics++ and its like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.datasets.loading import read_whole
from unmasked.preprocessing.align import cut
from unmasked.preprocessing.choice import MASK_LEVEL
from unmasked.preprocessing.faces import MATRIX
from unmasked.preprocessing.video import Unreadable, read_frames

MAX_PIXELS = 50_000_000
KEYS = ("dataset", "video", "compression")


def changed_places(
    rows: pd.DataFrame, manifest: pd.DataFrame, root: Path, crops_root: Path, size_px: int
) -> NDArray[np.bool_]:
    """(N, size, size) True where a crop was changed; nowhere in crops whose mask is not known.

    A mask is the frame of its video that the crop is of, cut out as the crop was.

    Args:
        rows: N rows of a faces table.
        manifest: of the same videos, with a column ``mask``.
        root: what its paths are relative to where a row has no ``root``.
        crops_root: what the crops' paths are relative to.
        size_px: side of the result.
    """
    found = np.zeros((len(rows), size_px, size_px), bool)
    if "mask" not in manifest or not set(MATRIX) <= set(rows):
        return found
    keys = [name for name in KEYS if name in rows and name in manifest]
    videos = manifest.dropna(subset="mask").drop_duplicates(keys).set_index(keys)
    for place, row in enumerate(rows.to_dict("records")):
        key = tuple(row[name] for name in keys)
        if key in videos.index and row["label"] == 1:
            found[place] = _mask_of(row, videos.loc[key], root, crops_root, size_px)
    return found


def _mask_of(
    row: dict[str, object], video: pd.Series, root: Path, crops_root: Path, size_px: int
) -> NDArray[np.bool_]:
    folder = Path(video["root"]) if isinstance(video.get("root"), str) else root
    index = int(str(row["frame"]))
    images = []
    try:
        for path in (video["path"], video["mask"]):
            frames = read_frames(folder, path, video["kind"], wanted=[index], max_pixels=MAX_PIXELS)
            images.append(next((one.image for one in frames if one.index == index), None))
    except Unreadable:
        return np.zeros((size_px, size_px), bool)
    picture, mask = images
    if picture is None or mask is None:
        return np.zeros((size_px, size_px), bool)
    # The mask may be smaller than the video, and the crop is shown smaller or larger than it was cut.
    wider, higher = np.divide(picture.shape[1::-1], mask.shape[1::-1])
    side = read_whole(crops_root / str(row["crop"])).shape[0]
    matrix = np.array([row[name] for name in MATRIX], np.float64).reshape(2, 3) * (size_px / side)
    matrix = matrix * [wider, higher, 1]
    return cut(mask, matrix, size_px, str(row.get("crops") or "cut")).max(axis=2) > MASK_LEVEL
