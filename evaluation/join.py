"""Faces or predictions tables put together: one table of what several runs have made."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import first_names
from unmasked.datasets.tables import TEXT, Schema, column_names
from unmasked.datasets.video_keys import stems
from unmasked.evaluation.collection import join_default_datasets
from unmasked.evaluation.predictions import PREDICTIONS, read_predictions, validate_predictions
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.lost import KEY, LOST, unused_path
from unmasked.preprocessing.made import write_faces

FACES_FILE = "faces.parquet"
# What must be equal in all tables: crops of two recipes are unlike pictures, and two detectors two studies.
SAME = {"faces": ("recipe",), "predictions": ("detector", "checkpoint")}


def join_tables(
    paths: Sequence[Path],
    out: Path,
    *,
    any_recipe: bool = False,
    read: Callable[[Path], pd.DataFrame] = partial(read_predictions, unlabelled=True),
) -> tuple[pd.DataFrame, str]:
    """The rows of all tables, and whether they are "faces" or "predictions".

    The table is also written to ``out``. Crops stay where they are: their paths are made relative to the
    folder of ``out``. What the tables leave out, as listed beside each, is put together beside ``out``.

    Args:
        paths: two tables or more; a folder stands for its ``faces.parquet``.
        out: the new table.
        any_recipe: take crops of unlike recipes together.
        read: gives the predictions in a file that is no faces table.

    Raises:
        InputError: fewer than two tables, tables of two kinds, of several recipes, detectors or checkpoints,
            a video that two of them have, ``out`` is one of them, or its folder does not hold the crops.
    """
    paths = [path / FACES_FILE if path.is_dir() else path for path in paths]
    if len(paths) < 2:
        raise InputError(f"{len(paths)} table was given; give two or more, as tables=[A,B]")
    if out.resolve() in [path.resolve() for path in paths]:
        raise InputError(f"out={out} is one of the tables that are joined; give another name")
    kinds = [_kind(path) for path in paths]
    if len(set(kinds)) > 1:
        listed = ", ".join(f"{path} ({kind})" for path, kind in zip(paths, kinds, strict=True))
        raise InputError(f"tables of two kinds cannot be joined: {listed}; give tables of one kind")
    kind = kinds[0]
    schema: Schema = FACES if kind == "faces" else PREDICTIONS
    tables = [FACES.read(path) if kind == "faces" else read(path) for path in paths]
    if kind == "predictions":
        # Tables that name no dataset are of one, so that a video of two of them is noticed.
        tables = join_default_datasets(paths, tables, out.name)
    if not any_recipe or kind != "faces":
        _check_same(tables, paths, SAME[kind])
    _check_apart(tables, paths)
    if kind == "faces":
        tables = [_moved(table, path, out) for table, path in zip(tables, paths, strict=True)]
    joined = schema.validate(pd.concat(tables, ignore_index=True))
    if kind == "predictions":
        joined = validate_predictions(joined)
    if kind == "faces":
        write_faces(joined, out)
    else:
        schema.write(joined, out)
    _join_lost(paths, out)
    return joined, kind


def _kind(path: Path) -> str:
    return "faces" if {"status", "crop"} <= set(column_names(path)) else "predictions"


def _check_same(tables: Sequence[pd.DataFrame], paths: Sequence[Path], names: Sequence[str]) -> None:
    for name in names:
        held = [sorted(map(str, table[name].dropna().unique())) if name in table else [] for table in tables]
        if len({value for values in held for value in values}) > 1:
            listed = "; ".join(
                f"{path}: {', '.join(values) or 'none'}" for path, values in zip(paths, held, strict=True)
            )
            advice = (
                "preprocess all with the same settings and versions, or any_recipe=true takes them together"
                if name == "recipe"
                else "give tables of one detector; `unmasked evaluate predictions=FOLDER` takes several"
            )
            raise InputError(f"the tables are of several {name}s ({listed}); {advice}")


def _check_apart(tables: Sequence[pd.DataFrame], paths: Sequence[Path]) -> None:
    """Refuses a video that two tables have, with or without its suffix: its frames would count twice."""
    seen: dict[tuple, Path] = {}
    twice: dict[str, tuple[Path, Path]] = {}
    for table, path in zip(tables, paths, strict=True):
        key = [name for name in KEY if name in table]
        named = table[key].drop_duplicates().assign(video=lambda rows: stems(rows["video"].astype(TEXT)))
        for video in named.astype(object).fillna("").itertuples(index=False, name=None):
            if (other := seen.setdefault(video, path)) is not path:
                twice["/".join(filter(None, map(str, video)))] = (other, path)
    if twice:
        first, second = next(iter(twice.values()))
        held = f"{len(twice)} videos are" if len(twice) > 1 else "one video is"
        raise InputError(
            f"{held} in both {first} and {second} ({first_names(twice)}); leave one table out, or, if they "
            "are other videos of the same names, write the data sets' names into a column dataset"
        )


def _moved(table: pd.DataFrame, path: Path, out: Path) -> pd.DataFrame:
    """The table with crops relative to the folder of ``out``."""
    folder, target = path.resolve().parent, out.resolve().parent
    relative = os.path.relpath(folder, target).replace(os.sep, "/")
    if relative == ".":
        return table
    if relative == ".." or relative.startswith("../"):
        both = os.path.commonpath([folder, target])
        raise InputError(
            f"the crops of {path} lie outside {out.parent}, and only crops below the folder of a table are "
            f"read; give out= in a folder that holds all crops, such as {Path(both, FACES_FILE)}"
        )
    has_crop = table["crop"].notna()
    crops = table["crop"].where(~has_crop, relative + "/" + table["crop"].astype(str))
    return table.assign(crop=crops)


def _join_lost(paths: Sequence[Path], out: Path) -> None:
    """Puts together what each table says it leaves out; nothing is written where none says it."""
    lists = [unused_path(path) for path in paths]
    found = [LOST.read(path) for path in lists if path.is_file()]
    if found:
        LOST.write(pd.concat(found, ignore_index=True), unused_path(out))
