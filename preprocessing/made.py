"""What each video gave when a faces table was made: an edited table is noticed.

Rows may be taken out, labels and splits changed: a table is the user's. But a number of it is then of other
crops or labels than those that were made, and whoever reads it says so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from unmasked.datasets.listing import first_names
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.tables import Column, Schema
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.lost import KEY

SUFFIX = ".made.parquet"
MADE = Schema(
    name="record of a faces table",
    columns={
        **{name: MANIFEST.columns[name] for name in (*KEY, "label")},
        "split": Column("text", required=False, nullable=True),
        "rows": Column("integer"),
        "crops": Column("integer"),  # hash of frames, faces, crops' paths and statuses
    },
    key=KEY,
    hint="Remove it, or run `unmasked preprocess` again.",
)


def write_faces(faces: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Writes a faces table, and beside it what each video gave; returns the table."""
    faces = FACES.write(faces, path)
    MADE.write(_of_videos(faces), _record(Path(path)))
    return faces


def edits(faces: pd.DataFrame, path: Path) -> str:
    """What was changed in a faces table since it was made, in words; "" for nothing.

    Nothing is known where there is no record.

    Further columns are no change: groups are added to tables.

    Args:
        faces: as read.
        path: of the table; the record of a copy is that of the ``faces.parquet`` in its folder.
    """
    record = next((one for one in (_record(path), path.with_name("faces" + SUFFIX)) if one.is_file()), None)
    if record is None:
        return ""
    keys = list(KEY)
    both = (
        MADE.read(record)
        .astype({"compression": object})
        .merge(
            _of_videos(faces).astype({"compression": object}),
            on=keys,
            how="outer",
            suffixes=("", "_now"),
            indicator="side",
        )
    )
    kept = both["side"] == "both"

    def changed(name: str) -> pd.Series:
        was, now = both[name], both[f"{name}_now"]
        return kept & ~((was == now) | (was.isna() & now.isna())).fillna(False).astype(bool)

    fewer, more = (kept & (both["rows_now"] < both["rows"])), (kept & (both["rows_now"] > both["rows"]))
    looks = {
        "gone": both["side"] == "left_only",
        "added": both["side"] == "right_only",
        "of another label": changed("label"),
        "of another split": changed("split"),
        "with rows taken out": fewer,
        "with rows added": more,
        "with other crops, frames or statuses": changed("crops") & ~fewer & ~more,
    }
    said = [
        f"{int(rows.sum())} {what} ({first_names(both.loc[rows, 'video'].astype(str))})"
        for what, rows in looks.items()
        if rows.any()
    ]
    return f"videos of {path} that are not as they were made: {'; '.join(said)}" if said else ""


def _record(path: Path) -> Path:
    return path.with_name(path.stem + SUFFIX)


def _of_videos(faces: pd.DataFrame) -> pd.DataFrame:
    cells = faces[["frame", "face", "crop", "status"]].astype({"crop": object, "status": object}).fillna("")
    hashes = pd.util.hash_pandas_object(cells, index=False).to_numpy().view(np.int64)
    groups = faces.assign(crops=hashes).groupby(list(KEY), sort=False, dropna=False, observed=True)
    found = groups.agg(
        label=("label", "first"), split=("split", "first"), rows=("frame", "size"), crops=("crops", "sum")
    )
    return MADE.validate(found.reset_index())
