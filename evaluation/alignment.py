"""Predictions of several detectors row beside row: the same crop, scored by each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.counts import Array
from unmasked.evaluation.metrics import video_scores
from unmasked.evaluation.predictions import is_perturbed

Missing = Literal["error", "drop"]
CONDITION = ("perturbation", "severity")
# What tells crops apart. A table may lack those of the second line; then nobody's are used.
ALWAYS = ("dataset", "video", *CONDITION)
WHERE_ALL_HAVE = ("compression", "frame", "face")
# What all members must say alike of a row, where they say it.
FACTS = ("label", "split", "identity", "method")
# Of one detector, and of no other.
OWN = ("score", "detector", "checkpoint", "predicted", "trained_on", "held_out")


@dataclass(frozen=True)
class Aligned:
    """Rows that every member scored.

    Attributes:
        rows: (N) what is known of each, without scores and detectors.
        scores: (N, M) P(fake), a column a member.
        dropped: by member how many rows of others it lacks, which were left out.
        notes: what a reader should know, a sentence each.
    """

    rows: pd.DataFrame
    scores: Array
    dropped: Mapping[str, int]
    notes: Sequence[str]


def align(tables: Mapping[str, pd.DataFrame], missing: Missing = "error") -> Aligned:
    """The rows of all members side by side, in the order of the first; nothing is filled in.

    Args:
        tables: predictions by the name of the member, two or more.
        missing: what becomes of a row that a member lacks: an error, or it is dropped and counted.

    Raises:
        InputError: members share no row, or lack some; one has several rows that nothing tells apart; or
            they contradict each other in a label, split, identity or method.
    """
    names = list(tables)
    keys, notes = _keys(tables)
    keyed = {name: _keyed(table, keys) for name, table in tables.items()}
    for name, frame in keyed.items():
        _check_distinct(name, frame, keys, tables)
    every = pd.concat(keyed.values(), ignore_index=True)
    code = every.groupby(keys, sort=False).ngroup().to_numpy()
    sizes = [len(table) for table in tables.values()]
    parts = np.split(code, np.cumsum(sizes)[:-1])
    complete = np.bincount(code) == len(names)
    first_row = np.unique(code, return_index=True)[1]  # by code: where a row is named first
    if not complete.any():
        raise InputError(
            f"the members share no row: {_unshared_text(tables, keyed)}; score the same crops with each"
        )
    total = len(complete)
    dropped = {name: total - len(part) for name, part in zip(names, parts, strict=True) if len(part) < total}
    if dropped and missing == "error":
        worst = max(dropped, key=lambda name: dropped[name])
        lacked = np.setdiff1d(np.arange(total), parts[names.index(worst)])
        example = _row_text(every.iloc[first_row[lacked[0]]])
        raise InputError(
            f"{worst} lacks {dropped[worst]} of the {total} rows that the members scored, {example} first; "
            f"score them with it too, or missing=drop takes the {int(complete.sum())} rows that all have"
        )
    # Rows by code: where each member has the code, as positions in its own table.
    wanted = parts[0][complete[parts[0]]]
    ordered = []
    for part, table in zip(parts, tables.values(), strict=True):
        place = np.full(total, -1)
        place[part] = np.arange(len(part))
        ordered.append(table.iloc[place[wanted]].reset_index(drop=True))
    scores = np.column_stack([table["score"].to_numpy(dtype=np.float64) for table in ordered])
    return Aligned(_known_facts(names, ordered), scores, dropped, notes)


def as_videos(table: pd.DataFrame) -> pd.DataFrame:
    """The predictions with one row a video, its mean score, under each perturbation by itself."""
    names = [name for name in CONDITION if name in table]
    if not names:
        return video_scores(table).drop(columns="frames")
    parts = []
    for values, part in table.groupby(names, dropna=False, observed=True):
        videos = video_scores(part.drop(columns=names)).drop(columns="frames")
        parts.append(videos.assign(**dict(zip(names, values, strict=True))))
    return pd.concat(parts, ignore_index=True)


def _keys(tables: Mapping[str, pd.DataFrame]) -> tuple[list[str], list[str]]:
    """What rows are matched by, and in words what was not used since somebody lacks it."""
    keys, notes = list(ALWAYS), []
    for key in WHERE_ALL_HAVE:
        without = [
            name for name, table in tables.items() if key not in table or bool(table[key].isna().all())
        ]
        if not without:
            keys.append(key)
        elif len(without) < len(tables):
            notes.append(f"rows are matched without {key}, which {', '.join(without)} does not state")
    return keys, notes


def _keyed(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The keys of the rows, missing ones as a value: "" or -1."""
    moved = is_perturbed(table)
    found = {}
    for key in keys:
        is_number = key in ("frame", "face", "severity")
        values = table[key] if key in table else pd.Series(pd.NA, index=table.index, dtype=object)
        if key in CONDITION:
            values = values.where(moved)
        if is_number:
            found[key] = pd.to_numeric(values).astype("Float64").fillna(-1).astype("int64")
        else:
            found[key] = values.astype(object).where(values.notna(), "").astype(str)
    return pd.DataFrame(found).reset_index(drop=True)


def _check_distinct(
    name: str, frame: pd.DataFrame, keys: Sequence[str], tables: Mapping[str, pd.DataFrame]
) -> None:
    twice = frame.duplicated()
    if not twice.any():
        return
    row = frame[twice].iloc[0]
    absent = [key for key in WHERE_ALL_HAVE if key not in keys]
    lacking = {key: [other for other, table in tables.items() if key not in table] for key in absent}
    who = "; ".join(
        f"{', '.join(others)} has no column {key}"
        for key, others in lacking.items()
        if 0 < len(others) < len(tables)
    )
    raise InputError(
        f"{name} has several rows of {_row_text(row)} that nothing tells apart where members are matched"
        f"{f' ({who})' if who else ''}: tell rows apart in a column frame, in all tables alike, or take the "
        "mean of each video by level=video"
    )


def _known_facts(names: Sequence[str], ordered: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The columns of the first table, with what only others have beside them; facts must agree."""
    rows = ordered[0].drop(columns=[name for name in OWN if name in ordered[0]])
    for fact in FACTS:
        for name, table in zip(names[1:], ordered[1:], strict=True):
            if fact in table and fact in rows:
                _check_equal(fact, rows, table, names[0], name)
                if fact != "label":
                    rows[fact] = rows[fact].where(rows[fact].notna(), table[fact])
            elif fact in table:
                rows[fact] = table[fact]
    for table in ordered[1:]:
        for column in table:
            if column not in rows and column not in OWN:
                rows[column] = table[column]
    return rows


def _check_equal(fact: str, rows: pd.DataFrame, table: pd.DataFrame, first: str, name: str) -> None:
    one, other = rows[fact].astype(object), table[fact].astype(object)
    unlike = (one.notna() & other.notna() & (one != other)).to_numpy()
    if unlike.any():
        place = int(unlike.argmax())
        raise InputError(
            f"members contradict each other: {_row_text(rows.iloc[place])} has the {fact} {one[place]} in "
            f"{first} and {other[place]} in {name} ({int(unlike.sum())} such rows); give both the {fact}s of "
            "one manifest"
        )


def _row_text(row: pd.Series) -> str:
    """Which row it is: its dataset and video, and its frame where that is known."""
    frame = row.get("frame", -1)
    has_frame = frame is not None and not pd.isna(frame) and frame != -1
    return f"{row['dataset']}/{row['video']}{f', frame {frame}' if has_frame else ''}"


def _unshared_text(tables: Mapping[str, pd.DataFrame], keyed: Mapping[str, pd.DataFrame]) -> str:
    """What each member scored; of equal videos, what of their rows is unlike."""
    videos = [set(zip(frame["dataset"], frame["video"], strict=True)) for frame in keyed.values()]
    if set.intersection(*videos):
        unlike = []
        for key in next(iter(keyed.values())).columns:
            held = {name: frame[key].drop_duplicates().head(3).tolist() for name, frame in keyed.items()}
            if key not in ("dataset", "video") and len({tuple(values) for values in held.values()}) > 1:
                listed = "; ".join(f"{name}: {_values_text(values)}" for name, values in held.items())
                unlike.append(f"{key} ({listed})")
        return f"they have equal videos of unlike {', '.join(unlike) or 'frames'}"
    parts = []
    for name, table in tables.items():
        held_in = ", ".join(map(str, sorted(table["dataset"].unique())[:3]))
        count, example = table["video"].nunique(), table["video"].iloc[0]
        parts.append(f"{name} scored {count} videos of {held_in} (as {example})")
    return ", ".join(parts)


def _values_text(values: Sequence[object]) -> str:
    return ", ".join("none" if value in ("", -1) else str(value) for value in values)
