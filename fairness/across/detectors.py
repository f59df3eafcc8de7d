"""Two detectors on the same videos: the scores of one beside the rows of the other."""

from __future__ import annotations

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.metrics import video_scores
from unmasked.evaluation.predictions import evaluated_rows


def replace_scores(predictions: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The evaluated rows, each with the other detector's score for its video.

    The audit of the result at the level of videos is of the same rows as that of the predictions, so both
    can be compared pairwise, whatever crops the other detector saw.

    Args:
        predictions: of the detector that is audited.
        other: of one other detector.

    Raises:
        InputError: the other detector has not scored all the videos, or calls one real that is fake here.
    """
    ours = evaluated_rows(predictions)
    theirs = video_scores(evaluated_rows(other))
    keys = ["dataset", "video"]
    if "compression" in ours and "compression" in theirs and theirs.duplicated(keys).any():
        keys.append("compression")
    scores = theirs.drop_duplicates(keys)[[*keys, "label", "score"]]
    both = ours.drop(columns="score").merge(scores, on=keys, how="left", suffixes=("", "_other"))
    absent = both.loc[both["score"].isna(), ["dataset", "video"]].drop_duplicates()
    if len(absent):
        dataset, video = absent.iloc[0]
        raise InputError(
            f"the other detector has no score of {len(absent)} videos, for example {video!r} of {dataset}; "
            "two detectors are compared on the same videos: predict these with both"
        )
    wrong = both[both["label"] != both["label_other"]]
    if len(wrong):
        raise InputError(
            f"video {wrong['video'].iloc[0]!r} has label {wrong['label'].iloc[0]} here and another in the "
            "other detector's table; give it one label, 1 = fake"
        )
    return both.drop(columns="label_other").set_axis(ours.index)
