"""Cross-AUC: reals of one dataset against fakes of another, for every ordered pair.

An AUC within each dataset is blind to a shift of all its scores; a threshold is not. Where the scores of one
dataset lie higher than those of another, its reals outrank the other's fakes. After Luo et al.
(arXiv 2604.21478). Another measure of that name (arXiv 2606.19184) is a mean over domains and is not this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from unmasked.evaluation.intervals import Sample, intervals, seed_by_name
from unmasked.evaluation.levels import named_by_dataset, sample_of
from unmasked.evaluation.metrics import Aggregation, auc, video_scores
from unmasked.evaluation.records import CrossAucRow
from unmasked.evaluation.tables import Table
from unmasked.evaluation.wording import brackets_note, value_text

TITLE = "Cross-AUC: reals of each dataset against fakes of each"


def cross_auc(
    rows: pd.DataFrame, *, aggregation: Aggregation = "mean", n_boot: int = 2000, seed: int = 0
) -> list[CrossAucRow]:
    """The video AUC of each dataset's reals against each dataset's fakes.

    Empty for one dataset. A pair of one dataset with itself is the AUC of `evaluate`, and has its interval.
    A pair without reals or without fakes is left out.

    Args:
        rows: that are evaluated (see `predictions.evaluated_rows`), of one detector.
        aggregation: how frame scores become a video score.
        n_boot, seed: of the resampling; people are resampled whole, videos where nobody is known.
    """
    videos = video_scores(rows, aggregation)
    parts = {str(name): part for name, part in videos.groupby("dataset", sort=True, observed=True)}
    if len(parts) < 2:
        return []
    reals = {name: part[part["label"] == 0] for name, part in parts.items()}
    fakes = {name: part[part["label"] == 1] for name, part in parts.items()}
    found: list[CrossAucRow] = []
    for one, real in reals.items():
        for other, fake in fakes.items():
            if real.empty or fake.empty:
                continue
            both = pd.concat([real, fake]) if one != other else parts[one]
            # A pair of its own seed: the same resamples whatever other datasets there are.
            of_pair = seed_by_name(seed, *dict.fromkeys((one, other)))
            value, ends = _auc_with_interval(both, n_boot, of_pair)
            found.append(
                {
                    "reals": one,
                    "fakes": other,
                    "auc": value,
                    "auc_ci": list(ends),
                    "real_videos": len(real),
                    "fake_videos": len(fake),
                }
            )
    return found


def lowest_pair(rows: Sequence[CrossAucRow], places: int = 3) -> str:
    """The pair of two datasets that is told apart worst, in words; "" if there is none."""
    apart = [row for row in rows if row["reals"] != row["fakes"]]
    if not apart:
        return ""
    row = min(apart, key=lambda one: one["auc"])
    within = {one["reals"]: one["auc"] for one in rows if one["reals"] == one["fakes"]}
    beside = ", ".join(
        f"{name} {value_text(within[name], places=places)}"
        for name in (row["reals"], row["fakes"])
        if name in within
    )
    return (
        f"Cross-AUC, lowest: reals of {row['reals']} against fakes of {row['fakes']} "
        f"{value_text(row['auc'], row['auc_ci'], places=places)}{f' (within: {beside})' if beside else ''}"
    )


def cross_auc_tables(
    rows: Mapping[str, Sequence[CrossAucRow]], n_boot: int, *, places: int = 3
) -> list[Table]:
    """The matrix as a table: a row for the reals of each dataset, a column for fakes.

    Args:
        rows: of `cross_auc`, by detector; with one detector its name is not shown.
        n_boot: how often was resampled.
        places: digits behind the point.
    """
    if not any(rows.values()):
        return []
    columns = list(dict.fromkeys(row["fakes"] for found in rows.values() for row in found))
    cells = [
        ([name] if len(rows) > 1 else []) + line
        for name, found in rows.items()
        for line in _lines(found, columns, places)
    ]
    notes = [f"{name}: {said}." if len(rows) > 1 else f"{said}." for name, said in _said(rows, places)]
    notes.append(
        f"Video AUC. {brackets_note(n_boot)}. * within a dataset. A value far below those within says that "
        "the scores of the two datasets lie at different heights: one threshold does not serve both."
    )
    head = [*(["detector"] if len(rows) > 1 else []), "reals of", *(f"fakes of {name}" for name in columns)]
    return [Table(TITLE, head, cells, notes, label="cross-auc")]


def _lines(found: Sequence[CrossAucRow], columns: Sequence[str], places: int) -> Iterator[list[str]]:
    by_pair = {(row["reals"], row["fakes"]): row for row in found}
    for real in dict.fromkeys(row["reals"] for row in found):
        line = [real]
        for fake in columns:
            row = by_pair.get((real, fake))
            text = value_text(row["auc"], row["auc_ci"], places=places) if row else "–"
            line.append(f"{text} *" if real == fake and row else text)
        yield line


def _said(rows: Mapping[str, Sequence[CrossAucRow]], places: int) -> Iterator[tuple[str, str]]:
    for name, found in rows.items():
        if said := lowest_pair(found, places):
            yield name, said


def _auc_with_interval(
    videos: pd.DataFrame, n_boot: int, seed: list[int]
) -> tuple[float, tuple[float, float]]:
    # Of one dataset exactly as `evaluate` does it: its interval is the same.
    is_one = videos["dataset"].nunique() == 1
    sample = sample_of(videos if is_one else named_by_dataset(videos))
    return auc(sample.label, sample.score), _interval(sample, n_boot, seed)


def _interval(sample: Sample, n_boot: int, seed: list[int]) -> tuple[float, float]:
    if len(np.unique(sample.label)) < 2:
        return float("nan"), float("nan")
    return intervals(sample, n_boot=n_boot, seed=np.random.default_rng(seed), only=("auc",))["auc"]
