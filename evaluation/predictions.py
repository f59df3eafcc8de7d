"""The predictions table: a row for every scored crop, from any detector."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.datasets.archives import IMAGE_SUFFIXES
from unmasked.datasets.errors import InputError
from unmasked.datasets.frame_names import tell_methods_apart
from unmasked.datasets.table_reading import read_table
from unmasked.datasets.table_roles import DATASET, FILE, SCORES, Role
from unmasked.datasets.tables import Column, Schema
from unmasked.datasets.vocabulary import Reading, map_distinct, plain
from unmasked.evaluation.doubts import doubts
from unmasked.evaluation.metrics import FRAMES_SCORED
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.provenance import FACES_DIGEST

logger = logging.getLogger(__name__)

FRAMES_SAMPLED = "frames_sampled"
FACES_TABLE = "faces_table"
PREDICTIONS = Schema(
    name="predictions",
    hint="A predictions file needs dataset, video, label (1 = fake) and score = P(fake) between 0 and 1",
    columns={
        "dataset": Column("text"),
        "video": Column("text"),
        "frame": Column("integer", required=False),
        "face": Column("integer", required=False),
        "label": Column("integer", nullable=True, allowed=(0, 1)),  # 1 = fake; missing where nobody knows
        "method": Column("text", required=False, nullable=True),
        "split": Column("text", required=False, nullable=True),
        "identity": Column("text", required=False, nullable=True),
        "compression": Column("text", required=False, nullable=True),
        "score": Column("number", minimum=0.0, maximum=1.0),  # P(fake)
        "detector": Column("text", required=False, nullable=True),
        "checkpoint": Column("text", required=False, nullable=True),  # sha256 of the weights
        "perturbation": Column("text", required=False, nullable=True),
        "severity": Column("integer", required=False, nullable=True),
        # of the video, with a face or without
        FRAMES_SAMPLED: Column("integer", required=False, nullable=True),
        FACES_DIGEST: Column("text", required=False, nullable=True),  # of the video's crops as they were
        FACES_TABLE: Column("text", required=False, nullable=True),  # that held them, from the table's folder
    },
)
NEEDED = tuple(name for name, column in PREDICTIONS.columns.items() if column.required)
# Datasets keep the names that they have in other tables of the same run.
ROLES = {**SCORES, "dataset": Role("text", DATASET.names)}
# Columns that our own tables have, or that some command reads.
KNOWN = (
    *(*PREDICTIONS.columns, *FACES.columns, "path", "trained_on", "held_out", "predicted", "annotation"),
    FRAMES_SCORED,
    *("gender", "age", "skin_tone", "skin_tone_group", "race"),
)
PICTURES = (*IMAGE_SUFFIXES, ".heic", ".heif", ".tif", ".tiff", ".gif")
# What tells the scores of one crop apart.
REPEATED_BY = (
    *("dataset", "video", "compression", "frame", "face"),
    *("detector", "checkpoint", "perturbation", "severity"),
)


def read_predictions(
    path: str | os.PathLike[str],
    readings: list[Reading] | None = None,
    left_out: dict[str, int] | None = None,
    *,
    unlabelled: bool = False,
    **how: Any,
) -> pd.DataFrame:
    """The valid predictions in a file; see `validate_predictions`.

    Read by `table_reading.read_table`. Rows without a label or a score are left out. Fakes of one name by
    several methods are a video for each method.

    Args:
        path: of the file.
        readings: gets what was taken for granted or left out, to be shown; None logs it.
        left_out: gets how many rows were left out, by reason.
        unlabelled: keep rows without a label.
        how: the file is to be read: ``columns``, ``one_means``, ``score_as``, ``score_of`` and
            ``age_groups`` of `read_table`.

    Raises:
        InputError: what could not be settled, all of it in one message; or no row has a label.
    """
    found = read_table(path, ROLES, **{name: value for name, value in how.items() if value})
    said = found.readings
    counted = {str(reason): int(count) for reason, count in found.left_out["reason"].value_counts().items()}
    table = found.frame
    if not unlabelled and (missing := int(table["label"].isna().sum())):
        if missing == len(table):
            raise InputError(
                f"predictions table {path}: none of its {missing} rows has a label, so there is nothing to "
                "compare the scores with: they are all that can be had, and `unmasked predict` sums them up "
                "in a row for each file (….by_file.csv). Where it is known, write 1 (fake) or 0 (real) into "
                "the column 'label'"
            )
        table = table[table["label"].notna()]
        said.append(Reading("rows without a label", f"left out: {missing} of {missing + len(table)}"))
        counted["no label"] = missing
    table, apart = tell_methods_apart(table)
    if apart:
        said.append(Reading("videos", apart))
    _check_folders(table, str(path))
    predictions = validate_predictions(table, str(path))
    if readings is not None:
        readings += said
    elif said:
        logger.warning("predictions table %s: %s", path, "; ".join(": ".join(reading) for reading in said))
    if left_out is not None:
        for reason, count in counted.items():
            left_out[reason] = left_out.get(reason, 0) + count
    return predictions


def validate_predictions(table: pd.DataFrame, origin: str = "") -> pd.DataFrame:
    """The table with declared types; the label of a video is the same in all its rows.

    Args:
        table: any frame with at least dataset, video, label and score.
        origin: the file it came from, for messages.

    Raises:
        InputError: see `Schema.validate`; also an empty table, scores that are not probabilities, a crop
            that is scored twice by one detector, or a video that is both real and fake.
    """
    where = f"predictions table{f' {origin}' if origin else ''}"
    if table.empty and {*NEEDED} <= {*table.columns}:
        raise InputError(f"{where} has no rows; give a file with at least one scored video")
    predictions = PREDICTIONS.validate(table, origin)
    _check_labels(predictions, where)
    _check_repeats(predictions, where)
    return predictions


def noun_of(predictions: pd.DataFrame) -> str:
    """What was scored, for `name_files`: video, picture, or file where both.

    Told by the column ``kind`` of our own tables, else by the suffixes of the names; a table that says
    neither is of videos, as is one with several frames of a name.
    """
    if "kind" in predictions and predictions["kind"].notna().all():
        kinds = set(predictions["kind"].unique())
        return "picture" if kinds == {"image"} else "file" if "image" in kinds else "video"
    names = pd.Series(predictions["video"].unique()).astype(str).str.lower()
    pictures = float(names.str.endswith(PICTURES).mean()) if len(names) else 0.0
    has_frames = "frame" in predictions and predictions.duplicated(["dataset", "video"]).any()
    if has_frames or not pictures:
        return "video"
    return "picture" if pictures == 1 else "file"


def evaluated_rows(predictions: pd.DataFrame, *, perturbed: bool = False) -> pd.DataFrame:
    """The rows that every number is of; `evaluated_rows_and_notes` says what was left out.

    Of each dataset the test split where it has one, else its rows without a split. Rows of other splits
    belong to training and to fitting thresholds: a dataset that has no others is not evaluated. Perturbed
    rows answer another question.

    Args:
        predictions: a predictions table.
        perturbed: keep the perturbed rows as well, chosen by the split as the others are.

    Raises:
        InputError: nothing is left; it says what was found.
    """
    moved = is_perturbed(predictions).to_numpy()
    if moved.all() and len(predictions):
        raise InputError(
            "every prediction is of a perturbed crop; give the scores of the untouched crops as well"
        )
    kept, said = choose_test_split(predictions, ~moved)
    if not (kept & ~moved).any():
        raise InputError(
            f"no row is of the test split or without a split: {'; '.join(said[1:])}. Scores of rows that a "
            "detector was trained or its threshold was fitted on say nothing of others: predict the test "
            "split, or leave the column split out where all videos are new to the detector"
        )
    return predictions[kept & (perturbed | ~moved)].reset_index(drop=True)


def evaluated_rows_and_notes(predictions: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """`evaluated_rows`, and in words what was left out and why, and what may be a mistake.

    The words take longer than the rows: half a second for 55,000 videos.
    """
    rows = evaluated_rows(predictions)
    moved = is_perturbed(predictions).to_numpy()
    notes = [f"{int(moved.sum())} rows of perturbed crops are left out"] if moved.any() else []
    return rows, [*notes, *choose_test_split(predictions, ~moved)[1], *doubts(rows)]


def choose_test_split(table: pd.DataFrame, clean: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[str]]:
    """(N,) whether the split of a row counts, and in words what was left out."""
    if "split" not in table or table["split"].isna().all():
        return np.ones(len(table), dtype=bool), ["no row has a split: all rows are evaluated"]
    split = table["split"].astype(object).where(table["split"].notna(), "")
    dataset, names = pd.factorize(table["dataset"])
    is_test = (split == "test").to_numpy()
    # Whether a dataset has a test split, said of each of its rows.
    has_test = (np.bincount(dataset[is_test & clean], minlength=len(names)) > 0)[dataset]
    kept = np.where(has_test, is_test, (split == "").to_numpy())
    notes = []
    for code in np.argsort(names.astype(str)):
        here = (dataset == code) & clean
        if not (lost := here & ~kept).any():
            continue
        left_out = table[lost].groupby(split[lost], sort=True)["video"].agg(["size", "nunique"])
        counted = ", ".join(
            f"{row['nunique']} videos ({row['size']} rows) {f'of {name}' if name else 'without a split'}"
            for name, row in left_out.iterrows()
        )
        held = here & kept
        videos = table.loc[held, "video"].nunique()
        which = "of the test split" if is_test[held].any() else "without a split"
        notes.append(
            f"{names[code]}: its {videos} videos {which} are evaluated; left out: {counted}"
            if held.any()
            else f"{names[code]} is not evaluated: it has only {counted}"
        )
    count = f"({int((kept & clean).sum())} of {int(clean.sum())})"
    rule = f"rows of the test split are evaluated {count}"
    if not is_test[kept & clean].all():
        rule = f"where a dataset has a test split its rows are evaluated, else its rows without one {count}"
    return kept, [rule, *notes]


def _check_labels(predictions: pd.DataFrame, where: str) -> None:
    label = predictions.groupby(_video_codes(predictions))["label"]
    mixed = (label.transform("min") < label.transform("max")).to_numpy()  # False where nobody labelled it
    if mixed.any():
        row = predictions.iloc[int(mixed.argmax())]
        raise InputError(
            f"{where}: video {row['video']!r} of {row['dataset']} is labelled both real and fake; give every "
            "video one label, and two videos two names, such as real/a and fake/a"
        )


def _check_folders(table: pd.DataFrame, path: str) -> None:
    """Raises InputError where rows of one video, which no frame tells apart, lie in several folders."""
    if "frame" in table or not table.duplicated(["dataset", "video"]).any():
        return
    files = {plain(name) for name in FILE}
    for name in [name for name in table if plain(name) in files and name != "video"]:
        folder = map_distinct(table[name], lambda value: str(value).replace("\\", "/").rpartition("/")[0])
        several = folder.groupby([table["dataset"], table["video"]]).transform("nunique") > 1
        if several.any():
            first = table.loc[several.idxmax()]
            raise InputError(
                f"predictions table {path}: video {first['video']!r} has rows of several folders in the "
                f"column {name!r}: columns={{video: {name}}} takes each file for a video of its own"
            )


def _check_repeats(predictions: pd.DataFrame, where: str) -> None:
    # Without a frame, rows of one video are its frames and cannot be told apart.
    if "frame" not in predictions:
        return
    keys = predictions[[name for name in REPEATED_BY if name in predictions]]
    twice = keys.assign(dataset=0, video=_video_codes(predictions)).duplicated()
    if twice.any():
        row = predictions.loc[twice].iloc[0]
        face = f", face {row['face']}" if "face" in predictions else ""
        advice = "" if face else ", or tell faces of one frame apart in a column face"
        raise InputError(
            f"{where}: frame {row['frame']}{face} of {row['dataset']} {row['video']!r} is "
            f"scored more than once ({int(twice.sum())} such rows); keep one score for every crop{advice}"
        )


def _video_codes(predictions: pd.DataFrame) -> NDArray[np.int64]:
    """(N,) a number for each (dataset, video): numbers are grouped faster than names."""
    dataset, _ = pd.factorize(predictions["dataset"])
    video, names = pd.factorize(predictions["video"])
    return dataset.astype(np.int64) * (len(names) + 1) + video


def is_perturbed(predictions: pd.DataFrame) -> pd.Series:
    """Whether a row is of a perturbed crop."""
    if "perturbation" not in predictions:
        return pd.Series(False, index=predictions.index)
    return predictions["perturbation"].notna() & ~predictions["perturbation"].isin(["", "none"])
