"""Any CSV or Parquet table that lists files, and their labels where these are known.

    <root>/manifest.csv (or .parquet)       found by itself; or give the table's own path as the root

Columns, by any of these names, in any case, or by ``columns={path: …}``:

    path    path, file, filename, image_path, img_path, video_path; relative to the table's folder
    label   label, target, is_fake: 1, true or "fake" means fake; 0, false or "real" means real

and, where there are any: dataset, method, split (``test`` if absent), kind, identity, source_video,
target_video, compression, mask, gender, age, skin_tone, race, annotation, carried over as they are. Ages in
years become groups (child under 13, youth to 24, adult to 44, middle to 59, senior from 60; ``age_groups=``
for others). A path may name a video, an image, a folder of images, or a folder in an archive
(``a.tar.gz!folder``). The file is read by `unmasked.datasets.table_reading`, what was taken for granted is
said; a label that a word or a path in the same row contradicts is refused (``one_means=`` settles).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from unmasked.datasets.annotations import decode_plain
from unmasked.datasets.archives import split_sequence_path
from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import Count, as_manifest, count_by, first_names, is_there, kinds, video_names
from unmasked.datasets.manifest import DEMOGRAPHICS, KINDS
from unmasked.datasets.table_reading import NO_DATASET, TableRead, read_table
from unmasked.datasets.table_roles import DATASET, FILE, GROUPS, LABEL, Role
from unmasked.datasets.tables import TEXT, is_table
from unmasked.datasets.vocabulary import Reading

NAME = "table"
PAPER = ""
LICENCE = "your own"
REQUEST = ""
LAYOUT = "manifest.csv or manifest.parquet with the columns path and label"
OFFICIAL: dict[str, int] = {}

FILES = ("manifest.csv", "manifest.parquet")
CARRIED = ("identity", "source_video", "target_video", "mask")
ROLES: Mapping[str, Role] = {
    "path": Role("text", FILE, required=True, empty="refuse"),
    "label": Role("label", LABEL.names),
    "dataset": DATASET,
    "split": GROUPS["split"],
    "method": Role("text", GROUPS["method"].names),
    "compression": GROUPS["compression"],
    "kind": Role("text"),
    **{name: Role("text") for name in (*CARRIED, "annotation")},
    **{name: Role("as_it_is") for name in DEMOGRAPHICS},  # `decode_plain` reads them
}


def matches(root: Path) -> bool:
    """True if the root is a table, or a folder that holds one called manifest."""
    return is_table(root) if root.is_file() else any((root / name).is_file() for name in FILES)


def scan(
    root: Path,
    *,
    dataset: str = "",
    split: str | None = "test",
    columns: Mapping[str, str] | None = None,
    one_means: Literal["fake", "real"] | None = None,
    age_groups: tuple[float, ...] = (),
    readings: list[Reading] | None = None,
    absent: list[str] | None = None,
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """The manifest of the files that the table lists.

    Files that are not there stay in the manifest, for a failure is a row with a reason; they are reported.

    Args:
        root: the table, or the folder with manifest.csv or manifest.parquet.
        dataset: the dataset's name where the table has no column for it; the folder's name if empty.
        split: the split where the table has no column for it, or no value in it; None leaves it missing.
        columns: the table's own names of path, label and the others, where they are unusual.
        one_means: what the label 1 means, where words in the table contradict it.
        age_groups: the first years of the groups that ages become.
        readings: where what was taken for granted is said.
        absent: where files that are not there are named.
        notes: where files that are not there are counted.

    Raises:
        InputError: a column is absent, a value is not understood, a label is contradicted, or none of the
            files is there.
    """
    notes = [] if notes is None else notes
    path = table_in(root)
    read = read_table(path, ROLES, columns=columns, one_means=one_means)
    if readings is not None:
        readings += [each for each in read.readings if each.what != NO_DATASET]
    rows = _rows(read, path, dataset or path.resolve().parent.name, split)
    rows = rows.join(_demographics(read.frame, path, age_groups, readings if readings is not None else []))
    if (unknown := int(rows["label"].isna().sum())) == len(rows):
        notes.append(
            f"the labels of all {len(rows)} are missing: they can be scored, and no more{_unread(read.frame)}"
        )
    elif unknown:
        notes.append(f"without a label: {unknown} of {len(rows)}")
    gone = ~_exists(rows["path"], path.parent)
    if gone.all():
        raise InputError(
            f"none of the {len(rows)} files that {path} lists is there (the first is {rows['path'].iloc[0]!r}"
            f"); paths are relative to the table's folder {path.parent}"
        )
    if gone.any():
        notes.append(f"listed but not there: {int(gone.sum())} ({first_names(rows.loc[gone, 'path'])})")
        if absent is not None:
            absent += list(rows.loc[gone, "path"])
    return as_manifest(rows, rows["dataset"], path.parent)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Files found by dataset, kind and label."""
    words = manifest["label"].map({0: "real", 1: "fake"}).fillna("unlabelled")
    return count_by(manifest["dataset"] + ", " + words + " " + manifest["kind"] + "s", {})


def table_in(root: Path) -> Path:
    """The table itself, or the one called manifest in a folder.

    Raises:
        InputError: the folder has none.
    """
    if root.is_file():
        return root
    found = next((root / name for name in FILES if (root / name).is_file()), None)
    if found is None:
        raise InputError(f"{root} has no {' or '.join(FILES)}; give the table's own path as the root")
    return found


def _rows(read: TableRead, path: Path, dataset: str, split: str | None) -> pd.DataFrame:
    table = read.frame
    said_dataset = any(each.what == NO_DATASET for each in read.readings)
    labels = table["label"].astype("float64") if "label" in table else pd.Series(np.nan, table.index)
    paths = _posix(table["path"].astype(TEXT), path.parent)
    # Names of videos become names of folders, which must not lead out of theirs.
    video = video_names(paths).str.replace(r"(?:^|/)(?:\.{0,2}/+)+", "/", regex=True).str.lstrip("/")
    rows = pd.DataFrame({"path": paths, "video": video, "label": labels})
    rows["dataset"] = dataset if said_dataset else _column(table, "dataset", dataset)
    rows["split"] = _column(table, "split", split)
    rows["method"] = _column(table, "method", "fake").mask(labels == 0, "real").where(labels.notna())
    rows["kind"] = _column(table, "kind", np.nan).str.lower().fillna(kinds(paths))
    wrong = rows.loc[~rows["kind"].isin(KINDS), "kind"]
    if len(wrong):
        raise InputError(
            f"table {path}: column 'kind' holds {wrong.iloc[0]!r} in row {wrong.index[0]}; "
            f"allowed are {', '.join(KINDS)}"
        )
    for name in (*CARRIED, "compression"):
        rows[name] = _column(table, name, np.nan)
    return rows


def _unread(table: pd.DataFrame) -> str:
    """Which columns may be the labels that a table has under another name; "" where there is none."""
    if "label" in table or not (others := [str(name) for name in table if name not in ROLES]):
        return ""
    return (
        f". No column is known as the label; not read: {first_names(others)}. "
        f"If one of them holds it, give columns={{label: {others[0]}}}"
    )


def _column(table: pd.DataFrame, name: str, default: object) -> pd.Series:
    values = pd.Series(default, table.index, TEXT) if name not in table else table[name].astype(TEXT)
    return values if default is np.nan or default is None else values.fillna(default)


def _demographics(
    table: pd.DataFrame, path: Path, age_groups: tuple[float, ...], readings: list[Reading]
) -> pd.DataFrame:
    attributes = decode_plain(table, f"table {path}", readings, age_groups)
    said = attributes[list(DEMOGRAPHICS)].notna().any(axis=1)
    source = pd.Series(path.name, table.index, TEXT).where(said)
    attributes["annotation"] = _column(table, "annotation", np.nan).fillna(source)
    return attributes


def _posix(paths: pd.Series, folder: Path) -> pd.Series:
    """Paths with backslashes turned into slashes, but for files that have a backslash in their name."""
    odd = paths[paths.str.contains("\\", regex=False)]
    foreign = odd.index[~_exists(odd, folder)]
    return paths.mask(paths.index.isin(foreign), paths.str.replace("\\", "/", regex=False))


def _exists(paths: pd.Series, folder: Path) -> pd.Series:
    """Whether each path is there; of a folder in an archive, whether the archive is."""
    files = paths
    inside = paths.str.contains("!", regex=False)
    if inside.any():
        files = paths.copy()
        files[inside] = [split_sequence_path(path)[0] for path in paths[inside]]
    return is_there(files, folder)
