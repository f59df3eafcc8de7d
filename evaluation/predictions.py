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


def read_predictions(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The validated predictions in a file; the label of a video is the same in all its rows.

    Raises:
        InputError: see `Schema.validate`; also an empty table, or a video that is both real and fake.
    """
    predictions = PREDICTIONS.validate(read_frame(path), str(path))
    if predictions.empty:
        raise InputError(f"predictions table {path} has no rows; give a file with at least one scored video")
    labels = predictions.groupby(["dataset", "video"], observed=True)["label"].nunique()
    if (labels > 1).any():
        dataset, video = labels.index[labels > 1][0]
        raise InputError(
            f"predictions table {path}: video {video!r} of {dataset} is labelled both real and fake; "
            "give every video one label"
        )
    return predictions
