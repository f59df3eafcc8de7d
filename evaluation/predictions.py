"""The predictions table: a row for every scored crop, from any detector."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.datasets.errors import InputError, nearest_name
from unmasked.datasets.evidence import SETTLES, contradictions, evidence
from unmasked.datasets.table_reading import read_table
from unmasked.datasets.tables import Column, Schema, column_names, read_frame
from unmasked.datasets.vocabulary import Reading, read_words

logger = logging.getLogger(__name__)

PREDICTIONS = Schema(
    name="predictions",
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
    },
)
NEEDED = tuple(name for name, column in PREDICTIONS.columns.items() if column.required)
HINT = "A predictions file needs dataset, video, label (1 = fake) and score = P(fake) between 0 and 1"
# What other programs call the columns, in small letters without underscores and spaces.
ALSO_CALLED = {
    "dataset": ("data", "set", "corpus", "source", "datasetname"),
    "video": (
        "videoid",
        "videoname",
        "videopath",
        "file",
        "filename",
        "filepath",
        "path",
        "name",
        "id",
        "clip",
    ),
    "label": (
        "labels",
        "target",
        "targets",
        "class",
        "ytrue",
        "groundtruth",
        "gt",
        "truth",
        "isfake",
        "fake",
    ),
    "score": (
        *("scores", "prob", "probs", "probability", "pred", "preds", "prediction", "predictions", "yscore"),
        *("ypred", "yprob", "pfake", "fakeprob", "fakescore", "confidence", "output", "logit", "logits"),
    ),
}

FIRST_ROW = 2  # of the data, as a spreadsheet counts
# What tells the scores of one crop apart.
REPEATED_BY = (
    *("dataset", "video", "compression", "frame", "face"),
    *("detector", "checkpoint", "perturbation", "severity"),
)


def read_predictions(
    path: str | os.PathLike[str], readings: list[Reading] | None = None, **told: Any
) -> pd.DataFrame:
    """The valid predictions in a ``.parquet`` or ``.csv`` file; see `validate_predictions`.

    A table in the declared form is taken as it is. Any other CSV is read as `table_reading.read_table` reads
    tables of strangers, and loses its rows without a score. Rows without a label are left out of both.

    Args:
        path: of the file.
        readings: gets what was taken for granted or left out, to be shown; None logs it.
        told: how the file is to be read: ``columns``, ``one_means``, ``score_as``, ``score_of`` and
            ``age_groups`` of `read_table`.

    Raises:
        InputError: what could not be settled, all of it in one message; or no row has a label.
    """
    said: list[Reading] = []
    table = _read(path, said, told)
    if readings is not None:
        readings += said
    elif said:
        logger.warning("predictions table %s: %s", path, "; ".join(": ".join(reading) for reading in said))
    return table


def _read(path: str | os.PathLike[str], said: list[Reading], told: dict[str, Any]) -> pd.DataFrame:
    told = {name: value for name, value in told.items() if value}
    _check_names(path)
    if told:
        return _read_strangers(path, said, told)
    declared: list[Reading] = []
    try:
        table = _read_declared(path, declared)
    except InputError:
        if os.fspath(path).lower().endswith(".csv") and os.path.isfile(path):
            return _read_strangers(path, said, told)
        raise
    said += declared
    return table


def _read_strangers(path: str | os.PathLike[str], said: list[Reading], told: dict[str, Any]) -> pd.DataFrame:
    found = read_table(path, **told)
    said += found.readings
    return validate_predictions(_labelled_rows(found.frame, path, said), str(path))


def _labelled_rows(table: pd.DataFrame, path: str | os.PathLike[str], said: list[Reading]) -> pd.DataFrame:
    """The rows with a label; says how many have none.

    Raises:
        InputError: there are rows, and none has one.
    """
    missing = int(table["label"].isna().sum()) if "label" in table else 0
    if not missing:
        return table
    if missing == len(table):
        raise InputError(
            f"predictions table {path}: none of its {missing} rows has a label, so there is nothing to "
            "compare the scores with; write 1 (fake) or 0 (real) into the column 'label' where that is known"
        )
    said.append(Reading("rows without a label", f"left out: {missing} of {len(table)}"))
    return table[table["label"].notna()].reset_index(drop=True)


def _read_declared(path: str | os.PathLike[str], said: list[Reading]) -> pd.DataFrame:
    text = [name for name, column in PREDICTIONS.columns.items() if column.kind == "text"]
    table = read_frame(path, text=text, readings=said)
    if "split" in table:
        table["split"] = read_words(table["split"], "split", said)
    predictions = validate_predictions(_labelled_rows(table, path, said), str(path))
    if os.fspath(path).lower().endswith(".csv"):
        _check_evidence(predictions, path)
    return predictions


def _check_evidence(predictions: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Raises InputError where methods or folders say that the labels are the other way round.

    Other columns of words are not asked: they may hold the answers of a detector.
    """
    asked = predictions[[name for name in ("video", "method", "label") if name in predictions]]
    rows = {index: index + FIRST_ROW for index in asked.index}
    wrong = contradictions(asked["label"], evidence(asked, "label", ["video"]), rows)
    if wrong:
        raise InputError(f"predictions table {path}: {'; '.join(wrong)}: {SETTLES}")


def _check_names(path: str | os.PathLike[str]) -> None:
    if not os.path.isfile(path):
        return  # said by who opens it
    names = column_names(path)
    if twice := [name for name in PREDICTIONS.columns if names.count(name) > 1]:
        raise InputError(
            f"predictions table {path} has the column {twice[0]!r} {names.count(twice[0])} times; keep one"
        )


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
    _check_columns(table.columns, where)
    if table.empty:
        raise InputError(f"{where} has no rows; give a file with at least one scored video")
    _check_label_values(table["label"], where)
    _check_scores(table["score"], where)
    predictions = PREDICTIONS.validate(table, origin)
    _check_labels(predictions, where)
    _check_repeats(predictions, where)
    return predictions


def evaluated_rows(predictions: pd.DataFrame, *, perturbed: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """The rows that every number is of, and in words what was left out and why.

    Of each dataset the test split where it has one, else its rows without a split. Rows of other splits
    belong to training and to fitting thresholds: a dataset that has no others is not evaluated. Perturbed
    rows answer another question.

    Args:
        predictions: a predictions table.
        perturbed: keep the perturbed rows as well, chosen by the split as the others are.

    Raises:
        InputError: nothing is left; it says what was found.
    """
    notes = _notes(predictions)
    moved = is_perturbed(predictions).to_numpy()
    if moved.all() and len(predictions):
        raise InputError(
            "every prediction is of a perturbed crop; give the scores of the untouched crops as well"
        )
    if moved.any() and not perturbed:
        notes.append(f"{int(moved.sum())} rows of perturbed crops are left out")
    kept, said = _of_test_split(predictions, ~moved)
    if not (kept & ~moved).any():
        raise InputError(
            f"no row is of the test split or without a split: {'; '.join(said[1:])}. Scores of rows that a "
            "detector was trained or its threshold was fitted on say nothing of others: predict the test "
            "split, or leave the column split out where all videos are new to the detector"
        )
    kept &= perturbed | ~moved
    return predictions[kept].reset_index(drop=True), notes + said


def _of_test_split(table: pd.DataFrame, clean: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[str]]:
    """(N,) whether the split of a row counts, and in words what was left out of the ``clean`` rows."""
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


def _check_columns(names: Iterable[Any], where: str) -> None:
    present = [str(name) for name in names]
    absent = [name for name in NEEDED if name not in present]
    if not absent:
        return
    meant = [
        f"is {near!r} meant for {name!r}?" for name in absent if (near := _nearest_column(name, present))
    ]
    message = (
        f"{where} has no column {', '.join(map(repr, absent))}; it has {', '.join(present) or 'no column'}"
    )
    if meant:
        message += f" ({' '.join(meant)})"
    elif len(absent) == len(NEEDED):
        message += f" (does the file begin with a header line {','.join(NEEDED)}?)"
    raise InputError(f"{message}. {HINT}")


def _nearest_column(name: str, present: Iterable[str]) -> str | None:
    """The column that may be meant by ``name`` under another spelling or another usual name."""
    plain = {"".join(sign for sign in other.lower() if sign.isalnum()): other for other in present}
    plain = {key: other for key, other in plain.items() if other not in PREDICTIONS.columns}
    for key in (name, *ALSO_CALLED[name]):
        if key in plain:
            return plain[key]
    near = nearest_name(name, plain)
    return plain[near] if near else None


def _check_label_values(label: pd.Series, where: str) -> None:
    if label.isna().any():
        raise InputError(
            f"{where}: column 'label' is empty in {_row(label.isna())}; every row needs 1 (fake) or 0 (real)"
        )
    wrong = ~pd.to_numeric(label, errors="coerce").isin([0, 1])
    if not wrong.any():
        return
    value = label[wrong].iloc[0]
    advice = "write 1 for fake and 0 for real"
    if pd.api.types.is_numeric_dtype(label) and label.nunique() > 2:
        advice += "; a number for each method belongs in a column of its own, method"
    raise InputError(
        f"{where}: column 'label' holds {_value_text(value)} in {_row(wrong)}; allowed are 0 (real) and "
        f"1 (fake): "
        f"{advice}"
    )


def _check_scores(score: pd.Series, where: str) -> None:
    if score.isna().any():
        raise InputError(
            f"{where}: column 'score' is empty (NaN) in {_row(score.isna())}, and in "
            f"{int(score.isna().sum())} of {len(score)} rows; every row needs P(fake) between 0 and 1. "
            "Leave out rows that could not be scored"
        )
    numbers = pd.to_numeric(score, errors="coerce")
    if (wrong := numbers.isna()).any():
        value = str(score[wrong].iloc[0])
        raise InputError(
            f"{where}: column 'score' holds {_value_text(value)} in {_row(wrong)}; it must be a number, "
            f"P(fake) "
            f"between 0 and 1. {_score_advice(value)}"
        )
    outside = (numbers < 0) | (numbers > 1)
    if outside.any():
        looks = "If they are logits, apply a sigmoid; if they are percentages, divide by 100"
        if np.isinf(numbers).any():
            looks = "Leave out rows that could not be scored"
        elif (numbers < 0).any():
            looks = "They look like logits: apply a sigmoid, 1 / (1 + exp(-x))"
        elif numbers.max() <= 100 and numbers.median() > 1:
            looks = "They look like percentages: divide by 100"
        raise InputError(
            f"{where}: column 'score' holds {numbers[outside].iloc[0]:g} in {_row(outside)}, and "
            f"{int(outside.sum())} of {len(score)} scores lie outside what is allowed, P(fake) between 0 "
            f"and 1. {looks}"
        )


def _score_advice(value: str) -> str:
    bare = value.strip()
    if bare.replace(",", "", 1).replace("-", "", 1).isdigit() and "," in bare:
        return "Write decimals with a point"
    if bare.endswith("%"):
        return "Write shares of 1 in place of percentages"
    if bare.lower() in ("real", "fake", "true", "false"):
        return "A decision is no score: give the probability behind it"
    return "Leave out rows that could not be scored"


def _row(marked: pd.Series) -> str:
    return f"row {int(marked.to_numpy().argmax())} (the first is 0)"


def _value_text(value: object, length: int = 40) -> str:
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= length else f"{text[:length]}…"


def _check_labels(predictions: pd.DataFrame, where: str) -> None:
    labels = predictions.groupby(["dataset", "video"], observed=True)["label"].agg(["min", "max"])
    mixed = labels.index[labels["min"] != labels["max"]]
    if len(mixed):
        dataset, video = mixed[0]
        raise InputError(
            f"{where}: video {video!r} of {dataset} is labelled both real and fake; "
            "give every video one label"
        )


def _check_repeats(predictions: pd.DataFrame, where: str) -> None:
    # Without a frame, rows of one video are its frames and cannot be told apart.
    if "frame" not in predictions:
        return
    keys = [name for name in REPEATED_BY if name in predictions]
    twice = predictions.duplicated(keys)
    if twice.any():
        row = predictions.loc[twice].iloc[0]
        face = f", face {row['face']}" if "face" in predictions else ""
        advice = "" if face else ", or tell faces of one frame apart in a column face"
        raise InputError(
            f"{where}: frame {row['frame']}{face} of {row['dataset']} {row['video']!r} is "
            f"scored more than once ({int(twice.sum())} such rows); keep one score for every crop{advice}"
        )


def _notes(predictions: pd.DataFrame) -> list[str]:
    """What a reader should know of rows that are allowed, and may yet be a mistake."""
    notes = []
    if "frame" not in predictions and (same := int(predictions.duplicated().sum())):
        notes.append(
            f"{same} rows repeat another one in every column: they count as further frames of their video"
        )
    if predictions["score"].isin([0.0, 1.0]).all():
        notes.append("every score is 0 or 1: these are decisions, and AUC is that of their one threshold")
    return notes


def is_perturbed(predictions: pd.DataFrame) -> pd.Series:
    """Whether a row is of a perturbed crop."""
    if "perturbation" not in predictions:
        return pd.Series(False, index=predictions.index)
    return predictions["perturbation"].notna() & ~predictions["perturbation"].isin(["", "none"])
