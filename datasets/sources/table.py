"""Any CSV or Parquet table that lists files and their labels.

    <root>/manifest.csv (or .parquet)       found by itself; or give the table's own path as the root

Columns, by any of these names, in any case:

    path    path, file, filename, image_path, img_path, video_path; relative to the table's folder
    label   label, target, is_fake: 1, true or "fake" means fake; 0, false or "real" means real

and, where there are any: dataset, method, split (``test`` if absent), kind, identity, source_video,
target_video, compression, mask, gender, age, skin_tone, race, annotation, carried over as they are. Ages in
years become groups (child under 13, youth to 24, adult to 44, middle to 59, senior from 60). A path may name
a video, an image, a folder of images, or a folder in an archive (``a.tar.gz!folder``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from unmasked.datasets.archives import split_sequence_path
from unmasked.datasets.codebooks import Coding, find_column, load_codebook
from unmasked.datasets.decoding import decode, decode_attributes
from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import Count, are_there, as_manifest, count_by, kinds, named, video_names
from unmasked.datasets.manifest import DEMOGRAPHICS, KINDS, SPLITS
from unmasked.datasets.tables import TEXT, read_frame

NAME = "table"
PAPER = ""
LICENCE = "your own"
REQUEST = ""
LAYOUT = "manifest.csv or manifest.parquet with the columns path and label"
OFFICIAL: dict[str, int] = {}

FILES = ("manifest.csv", "manifest.parquet")
PATH = ("path", "file", "filename", "file path", "image path", "img path", "video path", "image", "video")
LABEL = Coding(
    columns=("label", "target", "is fake", "fake", "class"),
    codes={0: 0, 1: 1, "real": 0, "fake": 1, "false": 0, "true": 1},
)
CARRIED = ("identity", "source_video", "target_video", "compression", "mask")


def matches(root: Path) -> bool:
    """Whether the root is a table, or a folder that holds one called manifest."""
    return (
        root.suffix in (".csv", ".parquet")
        if root.is_file()
        else any((root / name).is_file() for name in FILES)
    )


def scan(
    root: Path, *, dataset: str = "", split: str | None = "test", notes: list[str] | None = None
) -> pd.DataFrame:
    """The manifest of the files that the table lists.

    Files that are not there stay in the manifest, for a failure is a row with a reason; they are reported.

    Args:
        root: the table, or the folder with manifest.csv or manifest.parquet.
        dataset: the dataset's name where the table has no column for it; the folder's name if empty.
        split: the split where the table has no column for it, or no value in it; None leaves it missing.
        notes: where files that are not there are counted.

    Raises:
        InputError: a column is absent, a value is not understood, or none of the files is there.
    """
    notes = [] if notes is None else notes
    path = _table_file(root)
    table = read_frame(path, text=(*PATH, *CARRIED))
    table = table.rename(columns=lambda name: str(name).strip())
    rows = _rows(table, path, dataset or path.resolve().parent.name, split)
    absent = ~_exists(rows["path"], path.parent)
    if absent.all():
        raise InputError(
            f"none of the {len(rows)} files that {path} lists is there (the first is {rows['path'].iloc[0]!r}"
            f"); paths are relative to the table's folder {path.parent}"
        )
    if absent.any():
        notes.append(f"listed but not there: {int(absent.sum())} ({named(rows.loc[absent, 'path'])})")
    return as_manifest(rows, rows["dataset"], path.parent)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Files found by dataset, kind and label."""
    words = manifest["label"].map({0: "real", 1: "fake"})
    return count_by(manifest["dataset"] + ", " + words + " " + manifest["kind"] + "s", {})


def _table_file(root: Path) -> Path:
    if root.is_file():
        return root
    found = next((root / name for name in FILES if (root / name).is_file()), None)
    if found is None:
        raise InputError(f"{root} has no {' or '.join(FILES)}; give the table's own path as the root")
    return found


def _rows(table: pd.DataFrame, path: Path, dataset: str, split: str | None) -> pd.DataFrame:
    where = find_column(table, PATH)
    label = find_column(table, LABEL.columns)
    if where is None or label is None or table.empty:
        lacks = "no row" if table.empty else f"no column {'path' if where is None else 'label'!r}"
        raise InputError(
            f"table {path} has {lacks}; it has the columns {', '.join(map(str, table.columns))}. It needs "
            f"one called {' or '.join(PATH[:3])} and one called {' or '.join(LABEL.columns[:3])}"
        )
    for column in (where, label):
        if table[column].isna().any():
            row = int(np.flatnonzero(table[column].isna())[0])
            raise InputError(
                f"table {path}: column {column!r} is empty in row {row}; fill it or remove the row"
            )
    labels = decode(table[label], LABEL, "table", f"table {path}").astype("int64")
    paths = _posix(table[where].astype(TEXT), path.parent)
    # Names of videos become names of folders, which must not lead out of theirs.
    video = video_names(paths).str.replace(r"(?:^|/)(?:\.{0,2}/+)+", "/", regex=True).str.lstrip("/")
    rows = pd.DataFrame({"path": paths, "video": video, "label": labels})
    rows["dataset"] = _column(table, "dataset", dataset)
    rows["split"] = _column(table, "split", split)
    rows["method"] = _column(table, "method", "fake").mask(labels == 0, "real")
    rows["kind"] = _column(table, "kind", np.nan).fillna(kinds(paths))
    _check(rows, path)
    for name in CARRIED:
        rows[name] = _column(table, name, np.nan)
    return rows.join(_demographics(table, path))


def _column(table: pd.DataFrame, name: str, default: object) -> pd.Series:
    column = find_column(table, (name,))
    values = pd.Series(default, table.index, TEXT) if column is None else table[column].astype(TEXT)
    return values if default is np.nan or default is None else values.fillna(default)


def _demographics(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    attributes = decode_attributes(table, load_codebook("plain"), f"table {path}")
    said = attributes[list(DEMOGRAPHICS)].notna().any(axis=1)
    source = pd.Series(path.name, table.index, TEXT).where(said)
    attributes["annotation"] = _column(table, "annotation", np.nan).fillna(source)
    return attributes


def _check(rows: pd.DataFrame, path: Path) -> None:
    """Says what a split or kind may be before the manifest's schema would, in the table's terms."""
    for name, allowed in (("split", SPLITS), ("kind", KINDS)):
        wrong = rows.loc[rows[name].notna() & ~rows[name].isin(allowed), name]
        if len(wrong):
            raise InputError(
                f"table {path}: column {name!r} holds {wrong.iloc[0]!r} in row {wrong.index[0]}; "
                f"allowed are {', '.join(allowed)}"
            )


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
    return are_there(files, folder)
