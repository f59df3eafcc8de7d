"""Near-duplicate pictures: where two videos, or two images, show one and the same picture.

Frames of one video are alike, and so are a fake and the original it was made of: neither is a finding.
These are

- ``split``: the same picture in training and in test data, whoever is on it;
- ``label``: the same picture as real and as fake, where the manifest knows no tie between the two;
- ``repeat``: the same picture under two names, where the manifest knows no tie: it counts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.datasets.audit.hashing import close_pairs, hash_files, is_copy, read_small
from unmasked.datasets.audit.overlaps import is_comparable, rows_on_sides, ties
from unmasked.datasets.audit.pixels import picture_of
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError

RADIUS = 7  # bits of 64
FINDINGS = ("split", "label", "repeat")
_KEY = ["dataset", "video", "compression"]
_BLOCK = 4096

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Duplicates:
    """Pairs of pictures that are one, and what was compared.

    ``pairs`` has a row for each pair: finding, picture, other_picture (full paths), and dataset, video, split
    and label of both (``other_…``). ``pictures`` were compared; ``flat`` ones have too little detail for
    that, ``unreadable`` ones are absent or damaged, ``unknown`` crops belong to no row of the manifests.
    """

    pairs: pd.DataFrame
    pictures: int
    flat: int
    unreadable: int
    unknown: int


def near_duplicates(
    manifest: pd.DataFrame,
    faces: Sequence[tuple[pd.DataFrame, Path]] = (),
    against: pd.DataFrame | None = None,
    *,
    progress: Progress | None = None,
) -> Duplicates:
    """Pictures that stand under two names.

    Args:
        manifest: its images are compared where they have no face crops; videos only by their crops.
        faces: faces tables, each with the folder that its ``crop`` is relative to.
        against: the manifest of other data to test on. It is compared with the first only.
        progress: called with a stage, how many steps are done, and of how many.

    Raises:
        InputError: face crops are given and none belongs to a row of a manifest.
    """
    rows, sides = rows_on_sides(manifest, against)
    pictures, unknown = _pictures(rows, faces)
    report = progress or (lambda stage, done, total: None)
    hashes, status = hash_files(
        pictures["picture"], progress=lambda done, total: report("pictures hashed", done, total)
    )
    usable = pictures[status == "ok"].reset_index(drop=True)
    finding = _Findings(rows, sides, usable["row"].to_numpy())
    pairs = close_pairs(hashes[status == "ok"], RADIUS, keep=lambda i, j: finding.of(i, j) >= 0)
    pairs = pairs[_is_copy(usable["picture"], pairs, report)]
    kinds = finding.of(pairs[:, 0], pairs[:, 1])
    counts = {name: int((status == name).sum()) for name in ("flat", "unreadable")}
    return Duplicates(
        _describe_pairs(rows, usable, finding.order_pairs(pairs), kinds),
        len(usable),
        unknown=unknown,
        **counts,
    )


def clusters(duplicates: pd.DataFrame) -> int:
    """How many different pictures the pairs are of: three copies are three pairs, one picture."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if duplicates.empty:
        return 0
    names, _ = pd.concat([duplicates["picture"], duplicates["other_picture"]]).factorize()
    i, j = names[: len(duplicates)], names[len(duplicates) :]
    size = int(names.max()) + 1
    return int(connected_components(coo_array((np.ones(len(i)), (i, j)), (size, size)), directed=False)[0])


def _pictures(rows: pd.DataFrame, faces: Sequence[tuple[pd.DataFrame, Path]]) -> tuple[pd.DataFrame, int]:
    """(picture, row) of every picture to compare, and how many crops belong to no row."""
    parts, unknown = [], 0
    keys = rows[_KEY].assign(row=np.arange(len(rows)))
    for table, folder in faces:
        crops = table[(table["status"] == "ok") & table["crop"].notna()].reindex(columns=[*_KEY, "crop"])
        matched = crops.merge(keys, on=_KEY, how="left")
        unknown += int(matched["row"].isna().sum())
        if len(crops) and matched["row"].isna().all():
            raise InputError(
                f"the faces table in {folder} has no video of the manifest (its first is "
                f"{crops['video'].iloc[0]!r}); give the table that was made of this manifest"
            )
        matched = matched.dropna(subset="row")
        picture = list(map(str, crop_paths(matched["crop"], folder)))
        parts.append(pd.DataFrame({"picture": picture, "row": matched["row"].astype("int64")}))
    has_crops = np.isin(np.arange(len(rows)), np.concatenate([part["row"] for part in parts] or [[]]))
    images = rows[(rows["kind"] == "image").to_numpy() & ~has_crops]
    picture = [
        picture_of(root, path, "image") for root, path in zip(images["root"], images["path"], strict=True)
    ]
    parts.append(pd.DataFrame({"picture": picture, "row": images.index}))
    # One file that is listed twice is a finding of `overlaps`, not of pictures.
    return pd.concat(parts, ignore_index=True).drop_duplicates("picture", ignore_index=True), unknown


class _Findings:
    """What a pair of pictures is: an index of FINDINGS, or -1 where it is as it should be."""

    def __init__(self, rows: pd.DataFrame, sides: pd.DataFrame, row: NDArray[np.int64]) -> None:
        self.leaks = is_comparable(sides)
        self.row, self.ties = row, ties(rows)
        self.side, self.label = rows["side"].to_numpy(), rows["label"].to_numpy()
        self.is_against = rows["is_against"].to_numpy(dtype=bool)

    def of(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.int64]:
        """(P,) for pictures i and j, both (P,)."""
        a, b = self.row[i], self.row[j]
        kind = np.where(self.label[a] != self.label[b], FINDINGS.index("label"), FINDINGS.index("repeat"))
        kind[(a == b) | self.is_against[a] | self.is_against[b]] = -1
        open_pairs = np.flatnonzero(kind >= 0)
        kind[open_pairs[self._is_tied(a[open_pairs], b[open_pairs])]] = -1
        a, b = self.side[a], self.side[b]
        kind[self.leaks[a, b] | self.leaks[b, a]] = FINDINGS.index("split")
        return kind

    def order_pairs(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pairs (P, 2) with what is trained on, or earlier, first."""
        side = self.side[self.row[pairs]]
        is_reversed = self.leaks[side[:, 1], side[:, 0]]
        return np.where(is_reversed[:, None], pairs[:, ::-1], pairs)

    def _is_tied(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        tied = np.zeros(len(a), bool)
        for first in self.ties.T:
            for second in self.ties.T:
                tied |= (first[a] == second[b]) & (first[a] >= 0)
        return tied


def _is_copy(picture: pd.Series, pairs: NDArray[np.int64], report: Progress) -> NDArray[np.bool_]:
    """(P,) True where pictures with close hashes are alike in detail and colour too."""
    verdict = np.zeros(len(pairs), bool)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(pairs), _BLOCK):
            block = pairs[start : start + _BLOCK]
            needed = np.unique(block)
            small = dict(zip(needed.tolist(), pool.map(read_small, picture[needed]), strict=True))
            for position, (i, j) in enumerate(block.tolist(), start):
                a, b = small[i], small[j]
                verdict[position] = a is not None and b is not None and is_copy(a, b)
            report("close pairs compared", min(start + _BLOCK, len(pairs)), len(pairs))
    return verdict


def _describe_pairs(
    rows: pd.DataFrame, pictures: pd.DataFrame, pairs: NDArray[np.int64], kinds: NDArray[np.int64]
) -> pd.DataFrame:
    """The pairs in words."""
    row = pictures["row"].to_numpy()
    columns = {"finding": np.array(FINDINGS, dtype=object)[kinds]}
    for prefix, side in (("", pairs[:, 0]), ("other_", pairs[:, 1])):
        columns[f"{prefix}picture"] = pictures["picture"].to_numpy(dtype=object)[side]
        for name in ("dataset", "video", "split", "label"):
            columns[f"{prefix}{name}"] = rows[name].to_numpy()[row[side]]
    return pd.DataFrame(columns)
