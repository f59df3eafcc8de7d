"""Detectors that scored different videos, side by side on those that all of them scored.

A detector that leaves hard videos out seems better beside one that scores them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from unmasked.evaluation.collection import Scored
from unmasked.evaluation.intervals import intervals
from unmasked.evaluation.levels import sample_of
from unmasked.evaluation.metrics import auc, video_scores
from unmasked.evaluation.predictions import evaluated_rows
from unmasked.evaluation.records import CoverageRow
from unmasked.evaluation.tables import Table
from unmasked.evaluation.wording import value_text

TITLE = "On the videos that all detectors scored"


def coverage_rows(scored: Sequence[Scored], *, n_boot: int = 2000, seed: int = 0) -> list[CoverageRow]:
    """A row for each detector and dataset of which detectors scored different videos.

    The AUC is that of the common videos, NaN where these have one class.

    Args:
        scored: the detectors of a collection.
        n_boot, seed: of the resampling.
    """
    by_dataset: dict[str, dict[str, pd.DataFrame]] = {}
    for one in scored:
        for name, rows in video_scores(evaluated_rows(one.predictions)).groupby("dataset"):
            key = rows["video"].astype(str)
            key = key + "\n" + rows["compression"].fillna("") if "compression" in rows else key
            by_dataset.setdefault(str(name), {})[one.name] = rows.set_index(key)
    found: list[CoverageRow] = []
    for name, tables in sorted(by_dataset.items()):
        common = set.intersection(*(set(rows.index) for rows in tables.values()))
        if all(len(rows) == len(common) for rows in tables.values()):
            continue
        for detector, rows in tables.items():
            sample = sample_of(rows[rows.index.isin(common)])
            is_both = len(np.unique(sample.label)) == 2
            ends = (
                intervals(sample, n_boot=n_boot, seed=seed, only=("auc",))["auc"]
                if is_both
                else (np.nan,) * 2
            )
            found.append(
                {
                    "dataset": name,
                    "detector": detector,
                    "videos": len(rows),
                    "common": len(common),
                    "auc": auc(sample.label, sample.score),
                    "auc_ci": list(ends),
                }
            )
    return found


def coverage_sentences(rows: Sequence[CoverageRow]) -> list[str]:
    """What the rows of `coverage_rows` say, a sentence a dataset and a line a detector."""
    lines = []
    for name in dict.fromkeys(row["dataset"] for row in rows):
        here = [row for row in rows if row["dataset"] == name]
        counted = ", ".join(f"{row['detector']} {row['videos']}" for row in here)
        lines.append(
            f"{name}: the detectors scored different videos ({counted}); video AUC on the "
            f"{here[0]['common']} that all scored:"
        )
        lines += [f"  {row['detector']}  {value_text(row['auc'], row['auc_ci'], places=3)}" for row in here]
    return lines


def coverage_table(rows: Sequence[CoverageRow]) -> Table:
    """The rows of `coverage_rows` as a table."""
    head = ["dataset", "detector", "videos scored", "scored by all", "video AUC on those"]
    cells = [
        [
            *(row["dataset"], row["detector"], str(row["videos"]), str(row["common"])),
            value_text(row["auc"], row["auc_ci"], places=3),
        ]
        for row in rows
    ]
    note = "Numbers elsewhere are of all videos that a detector scored, and not to be compared between these."
    return Table(TITLE, head, cells, [note], label="coverage")
