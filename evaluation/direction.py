"""Whether reals score above fakes: told of any table, asked of a stranger's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.table_reading import is_of_predict
from unmasked.evaluation.intervals import intervals
from unmasked.evaluation.levels import sample_of
from unmasked.evaluation.metrics import Aggregation, auc, video_scores
from unmasked.evaluation.predictions import is_perturbed
from unmasked.evaluation.reading import LOOK, reversal
from unmasked.evaluation.wording import value_text

# A detector may be a little worse than guessing on data unlike its own; so far below 0.5 are few.
REVERSED_BELOW = 0.4


def reversals(rows: pd.DataFrame, aggregation: Aggregation = "mean") -> list[str]:
    """A sentence for each dataset whose reals score above its fakes, beyond chance."""
    found = []
    for name, part in rows.groupby("dataset", sort=True, observed=True):
        if said := reversal(sample_of(video_scores(part, aggregation)), is_own=is_of_predict(part)):
            found.append(f"{name}: {said}")
    return found


def check_direction(predictions: pd.DataFrame, path: Path) -> None:
    """Refuses a stranger's table in which scores seem to be P(real), or labels to be reversed.

    That is so where the whole interval of the video AUC lies below 0.4 in each of its datasets. The scores of
    `unmasked predict` have a direction, and are taken as they are.

    Raises:
        InputError: with the numbers, and the keys that settle it.
    """
    if is_of_predict(predictions):
        return
    found = []
    clean = predictions[~is_perturbed(predictions) & predictions["label"].notna()]
    names = ("dataset", "video", "compression", "identity", "label", "score")
    clean = clean[[name for name in names if name in clean]]
    for name, rows in clean.groupby("dataset", sort=True, observed=True):
        if rows["label"].nunique() < 2:
            continue
        sample = sample_of(video_scores(rows))
        value = auc(sample.label, sample.score)
        limits = list(intervals(sample, only=("auc",))["auc"]) if value < 0.5 else [1.0, 1.0]
        if not limits[1] < REVERSED_BELOW:
            return
        found.append(f"AUC {value_text(value, limits, places=3)} on {name}")
    if found:
        raise InputError(
            f"predictions table {path}: reals score above fakes ({', '.join(found)}): {LOOK}; if both are "
            "right and the detector is that much worse than guessing, score_of=fake takes them as they are"
        )
