"""Predictions of more frames than memory holds, averaged to videos while the file is read.

One batch of rows is in memory at a time, and beside it a row for each video so far: memory follows the number
of videos, time the number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import column_names, write_frame
from unmasked.datasets.vocabulary import Reading
from unmasked.evaluation.metrics import CROP_COLUMNS, FRAMES_SCORED, mean_without_rounding_error
from unmasked.evaluation.predictions import NEEDED, REPEATED_BY

BATCH_ROWS = 1 << 19
# Rows that differ in one of these are not of one video of one detector.
KEYS = ("dataset", "video", "compression", "split", "detector", "checkpoint", "label")
# Of a video the median counts, which cannot be had without all its frames.
_MEDIANS = ("size_px", "blur")


def fold_frames(path: Path, batch_rows: int = BATCH_ROWS) -> tuple[pd.DataFrame, dict[str, int]]:
    """A row for each video of a table of ours, and how many rows were left out, by reason.

    The score is the mean of its crops, `FRAMES_SCORED` how many there are; every other column has the first
    known value. Rows of perturbed crops and rows without a score or label are left out.

    Args:
        path: a Parquet file whose columns are called as `unmasked predict` calls them.
        batch_rows: how many rows are in memory at a time.

    Raises:
        InputError: it is another kind of file, scores are no probabilities, or a crop is scored twice.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    absent = [name for name in NEEDED if name not in column_names(path)] if is_parquet else []
    if absent or not is_parquet:
        fault = f"lacks {', '.join(absent)}" if is_parquet else "is no such file"
        raise InputError(
            f"videos_only=true reads Parquet files with the columns {', '.join(NEEDED)}, as `unmasked "
            f"predict` writes them; {path} {fault}: leave it out for other tables"
        )
    left_out: dict[str, int] = {}
    parts: list[pa.Table] = []
    for batch in _batches(path, batch_rows):
        counted = _rows_that_count(batch, left_out)
        _check(counted, path)
        parts.append(_fold(counted))
    videos = _merge(parts).to_pandas()
    if videos.empty:
        raise InputError(f"{path} has no row with a label and a score of an untouched crop")
    mean = videos.pop("total") / videos[FRAMES_SCORED]
    videos["score"] = mean_without_rounding_error(mean, videos.pop("lowest"), videos.pop("highest"))
    return videos, left_out


def read_folded(path: Path, read: Callable[[Path], pd.DataFrame], readings: list[Reading]) -> pd.DataFrame:
    """The folded table, as ``read`` reads one; ``readings`` gets what became of the rows."""
    videos, left_out = fold_frames(path)
    with TemporaryDirectory(prefix="unmasked-") as folder:
        write_frame(videos, Path(folder) / path.name)
        predictions = read(Path(folder) / path.name)
    lost = "".join(f"; left out: {count} {reason}" for reason, count in left_out.items())
    said = f"{videos[FRAMES_SCORED].sum()} of {len(videos)} videos, averaged while they were read{lost}"
    readings.append(Reading("scored crops", said))
    return predictions


def _batches(path: Path, batch_rows: int) -> Iterator[pa.Table]:
    """Batches of rows; the rows of the last video of one go to the next, so that it is in one batch alone."""
    kept: list[pa.Table] = []
    with pq.ParquetFile(path) as file:
        # A column without one known value has no type that Arrow can group.
        schema = file.schema_arrow
        names = [one.name for one in schema if one.name not in _MEDIANS and not pa.types.is_null(one.type)]
        for batch in file.iter_batches(batch_rows, columns=names, use_threads=False):
            table = pa.concat_tables([*kept, pa.Table.from_batches([batch])])
            is_other = pc.not_equal(table["video"], table["video"][-1]).to_numpy()
            border = int(np.flatnonzero(is_other)[-1]) + 1 if is_other.any() else 0
            kept = [table.slice(border)]
            if border:
                yield table.slice(0, border)
    yield from kept


def _rows_that_count(table: pa.Table, left_out: dict[str, int]) -> pa.Table:
    """The rows of untouched crops with a label and a score."""
    counts = {f"no {name}": pc.is_valid(table[name]) for name in ("label", "score")}
    if "perturbation" in table.column_names:
        known = pc.fill_null(table["perturbation"].cast(pa.string()), "")
        counts["of perturbed crops"] = pc.is_in(known, value_set=pa.array(["", "none"]))
    everywhere = pa.chunked_array([np.ones(table.num_rows, dtype=bool)])
    for reason, is_used in counts.items():
        lost = pc.sum(pc.and_not(everywhere, is_used)).as_py() or 0
        if lost:
            left_out[reason] = left_out.get(reason, 0) + lost
        everywhere = pc.and_(everywhere, is_used)
    return table.filter(everywhere)


def _check(table: pa.Table, path: Path) -> None:
    """InputError where scores are no probabilities, or a crop is scored twice."""
    score = table["score"]
    is_share = pc.and_(pc.greater_equal(score, 0), pc.less_equal(score, 1))  # False of NaN
    if not pc.all(is_share, min_count=0).as_py():
        wrong = score.filter(pc.invert(is_share))[0]
        raise InputError(f"{path}: score {wrong}; videos_only=true takes P(fake) between 0 and 1")
    crop = [name for name in REPEATED_BY if name in table.column_names]
    if "frame" not in crop:
        return
    again = table.group_by(crop, use_threads=False).aggregate([([], "count_all")])
    if again.num_rows < table.num_rows:
        row = again.filter(pc.greater(again["count_all"], 1)).slice(0, 1).to_pylist()[0]
        raise InputError(
            f"{path}: frame {row['frame']} of {row['dataset']} {row['video']!r} is scored "
            f"{row['count_all']} times; keep one score for every crop"
        )


def _fold(table: pa.Table) -> pa.Table:
    """A row for each video in a batch, with sums in place of scores."""
    ones = pa.array(np.ones(table.num_rows, dtype=np.int64))
    score = table["score"]
    table = table.drop_columns([name for name in CROP_COLUMNS if name in table.column_names])
    for name, column in (("total", score), ("lowest", score), ("highest", score), (FRAMES_SCORED, ones)):
        table = table.append_column(name, column)
    return _merge([table])


def _merge(parts: list[pa.Table]) -> pa.Table:
    """A row for each video of tables that `_fold` gave."""
    table = pa.concat_tables(parts, promote_options="permissive")
    keys = [name for name in KEYS if name in table.column_names]
    how = {"total": "sum", FRAMES_SCORED: "sum", "lowest": "min", "highest": "max"}
    others = {name: how.get(name, "first") for name in table.column_names if name not in keys}
    merged = table.group_by(keys, use_threads=False).aggregate(list(others.items()))
    return merged.rename_columns([*keys, *others])
