"""The predictions table: one row for every scored crop, and the door for anyone else's detector."""

from __future__ import annotations

import os

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import Column, Schema, read_frame

PREDICTIONS = Schema(
    name="predictions",
    columns={
        "dataset": Column("text"),
        "video": Column("text"),
        "frame": Column("integer", required=False),
        "face": Column("integer", required=False),
        "label": Column("integer", allowed=(0, 1)),  # 1 = fake
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
    hint="A predictions file needs dataset, video, label (1 = fake) and score = P(fake) between 0 and 1.",
)

# What tells the scores of one crop apart.
REPEATED_BY = (
    *("dataset", "video", "compression", "frame", "face"),
    *("detector", "checkpoint", "perturbation", "severity"),
)


def read_predictions(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The validated predictions in a ``.parquet`` or ``.csv`` file; see `validated`."""
    return validated(read_frame(path), str(path))


def validated(table: pd.DataFrame, origin: str = "") -> pd.DataFrame:
    """The table with declared types; the label of a video is the same in all its rows.

    Args:
        table: any frame with at least dataset, video, label and score.
        origin: the file it came from, for messages.

    Raises:
        InputError: see `Schema.validate`; also an empty table, scores that are not probabilities, a crop
            that is scored twice by one detector, or a video that is both real and fake.
    """
    where = f"predictions table{f' {origin}' if origin else ''}"
    if "score" in table and pd.api.types.is_numeric_dtype(table["score"]):
        _check_scores(table["score"], where)
    predictions = PREDICTIONS.validate(table, origin)
    if predictions.empty:
        raise InputError(f"{where} has no rows; give a file with at least one scored video")
    _check_labels(predictions, where)
    _check_repeats(predictions, where)
    return predictions


def evaluated_rows(predictions: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows that an evaluation is about, and in words what was left out.

    Where any row is marked ``test``, rows of other splits are left out: they belong to training and to
    fitting thresholds. Rows without a split count as test. Perturbed rows answer another question.
    """
    notes = []
    if "perturbation" in predictions and (perturbed := _is_perturbed(predictions)).any():
        predictions = predictions[~perturbed]
        notes.append(f"{int(perturbed.sum())} rows of perturbed crops are left out")
        if predictions.empty:
            raise InputError(
                "every prediction is of a perturbed crop; give the scores of the untouched crops as well"
            )
    split = predictions["split"] if "split" in predictions else pd.Series(pd.NA, index=predictions.index)
    marked = sorted(split.dropna().unique())
    if not marked:
        notes.append("no row has a split: all rows are evaluated")
    elif "test" not in marked:
        notes.append(f"no row is of the test split: all rows ({', '.join(marked)}) are evaluated")
    else:
        kept = (split == "test") | split.isna()
        notes.append(f"rows of the test split are evaluated ({int(kept.sum())} of {len(predictions)})")
        predictions = predictions[kept]
    return predictions.reset_index(drop=True), notes


def _check_scores(score: pd.Series, where: str) -> None:
    if score.isna().any():
        row = int(score.isna().to_numpy().argmax())
        raise InputError(
            f"{where}: column 'score' is empty (NaN) in row {row}, one of {int(score.isna().sum())}; "
            "every row needs P(fake) between 0 and 1. Leave out rows that could not be scored"
        )
    outside = (score < 0) | (score > 1)
    if outside.any():
        row = int(outside.to_numpy().argmax())
        raise InputError(
            f"{where}: column 'score' holds {score.iloc[row]:g} in row {row}, and {int(outside.sum())} of "
            f"{len(score)} scores lie outside what is allowed, P(fake) between 0 and 1. "
            "If they are logits, apply a sigmoid; if they are percentages, divide by 100"
        )


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
    # Without frame and face, rows of one video are its frames and cannot be told apart.
    if not {"frame", "face"} <= set(predictions):
        return
    keys = [name for name in REPEATED_BY if name in predictions]
    twice = predictions.duplicated(keys)
    if twice.any():
        row = predictions.loc[twice].iloc[0]
        raise InputError(
            f"{where}: frame {row['frame']}, face {row['face']} of {row['dataset']} {row['video']!r} is "
            f"scored more than once ({int(twice.sum())} such rows); keep one score for every crop"
        )


def _is_perturbed(predictions: pd.DataFrame) -> pd.Series:
    named = predictions["perturbation"]
    return named.notna() & ~named.isin(["", "none"])
