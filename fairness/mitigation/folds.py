"""Whom a mitigation is fitted on, and whom it is judged on: never the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.metrics import video_scores
from unmasked.evaluation.predictions import evaluated_rows, is_perturbed
from unmasked.evaluation.row_counts import left_out_rows
from unmasked.fairness.groups import UNKNOWN, group_columns, order_groups
from unmasked.fairness.selection import Level, rows_of_one, select

KEYS = ("dataset", "video", "compression", "frame", "face")
CLASSES = {"real": 0, "fake": 1}


@dataclass(frozen=True)
class Fold:
    """Rows of one dataset, each array (N,); a row is a video, or a frame.

    Attributes:
        name: which rows, in words: "FaceForensics++, val split".
        attribute: what the groups are of.
        label: 0 = real, 1 = fake.
        score: P(fake).
        group: the group's name; "unknown" where nobody said.
        unit: person or video, the unit of resampling.
        key: what tells rows apart in another detector's predictions.
    """

    name: str
    dataset: str
    attribute: str
    label: np.ndarray
    score: np.ndarray
    group: np.ndarray
    unit: np.ndarray
    key: pd.MultiIndex

    def __len__(self) -> int:
        return len(self.label)

    @property
    def groups(self) -> list[str]:
        """The known groups, in reading order."""
        return [name for name in order_groups(pd.unique(self.group).tolist()) if name != UNKNOWN]

    def with_groups(self, group: np.ndarray) -> Fold:
        """The same rows as a deployed detector might be told of them."""
        return replace(self, group=group)

    def with_score(self, score: np.ndarray) -> Fold:
        """The same rows scored otherwise."""
        return replace(self, score=score)

    def units(self, group: str, classes: Sequence[str]) -> int:
        """How many units of a group hold each of the classes ("real", "fake"); of the rarest one."""
        member = self.group == group
        return min(len(np.unique(self.unit[member & (self.label == CLASSES[name])])) for name in classes)


def folds(
    predictions: pd.DataFrame,
    attribute: str,
    *,
    source: str = "",
    split: str = "val",
    level: Level = "video",
) -> tuple[Fold, list[Fold], dict[str, str]]:
    """The rows to fit on, the rows to apply to by dataset, and reasons for datasets left out.

    Args:
        predictions: of one detector; perturbed rows are left out.
        attribute: a column, or several crossed; see `groups.group_columns`.
        source: dataset to fit on; may be left out where only one has rows of ``split``.
        split: of the source's rows to fit on. All other rows of test splits, or without a split, are
            judged.
        level: a row is a video, by its mean score, or a frame.

    Raises:
        InputError: the column is absent, there are several detectors, there are no rows to fit on or of
            one class only, or no dataset to apply to.
    """
    table = _untouched_rows(predictions)
    group_columns(table, [attribute])  # an absent column is a mistake, not a reason to skip a dataset
    chosen = _source_rows(table, source, split)
    # Without the column: these rows are meant, whatever split an evaluation would take.
    rows = chosen.drop(columns="split")
    fitted = _fold(rows, attribute, level, f"{chosen['dataset'].iloc[0]}, {split} split")
    judged, skipped = [], {}
    for dataset, rows in table.drop(index=chosen.index).groupby("dataset", sort=False):
        try:
            judged.append(_fold(_test_rows(rows, dataset == fitted.dataset), attribute, level, str(dataset)))
        except InputError as error:
            skipped[f"{dataset}: {fitted.attribute}"] = str(error)
    if not judged:
        listed = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise InputError(
            f"a mitigation fitted on {fitted.name} needs other rows to be judged on; there are none. {listed}"
        )
    return fitted, judged, skipped


def left_out_of_folds(predictions: pd.DataFrame, *, source: str = "", split: str = "val") -> dict[str, int]:
    """How many rows `folds` neither fits on nor judges, by reason; arguments as there."""
    table = _untouched_rows(predictions)
    rest = table.drop(index=_source_rows(table, source, split).index)
    return {"of perturbed crops": len(predictions) - len(table)} | left_out_rows(rest)


def match_scores(fold: Fold, other: pd.DataFrame, level: Level) -> np.ndarray:
    """(N,) the scores that another detector gave to the rows of a fold.

    Raises:
        InputError: it did not score all of them.
    """
    table = _untouched_rows(other)
    names = [str(name) for name in fold.key.names]
    absent = [name for name in names if name not in table]
    if absent:
        raise InputError(f"the other predictions have no column {', '.join(absent)}; they cannot be paired")
    rows = video_scores(table[table["dataset"] == fold.dataset]) if level == "video" else table
    scores = rows.set_index(names)["score"]
    scores = scores[~scores.index.duplicated()].reindex(fold.key)
    missing = int(scores.isna().sum())
    if missing:
        raise InputError(
            f"the other predictions lack {missing} of the {len(fold)} rows of {fold.name}; score the same "
            "faces with both detectors"
        )
    return scores.to_numpy(dtype=np.float64)


def _untouched_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of unperturbed crops of one detector, renumbered."""
    table = rows_of_one(predictions, detector=None)
    return table[~is_perturbed(table)].reset_index(drop=True)


def _source_rows(table: pd.DataFrame, source: str, split: str) -> pd.DataFrame:
    if "split" not in table or table["split"].isna().all():
        raise InputError(
            "no row of the predictions has a 'split'; a mitigation is fitted on rows that it is not judged "
            "on: mark those to fit on with split=val and the others with split=test"
        )
    names = table["dataset"].unique().tolist()
    if source and source not in names:
        raise InputError(f"source {source!r} is not in the predictions; they have {', '.join(names)}")
    rows = table[table["split"] == split]
    having = rows["dataset"].unique().tolist()
    if not having or (source and source not in having):
        raise InputError(
            f"{source or 'no dataset'} has {'no ' if source else ''}rows of the split {split!r} to fit on; "
            "predict the validation split as well, or name another with split=…"
        )
    if not source and len(having) > 1:
        raise InputError(f"{', '.join(having)} have rows of the split {split!r}; choose one with source=…")
    return rows[rows["dataset"] == (source or having[0])]


def _test_rows(rows: pd.DataFrame, is_source: bool) -> pd.DataFrame:
    """The test rows of a dataset; of the source, nothing that a detector was chosen on."""
    try:
        return evaluated_rows(rows)
    except InputError as error:
        raise InputError(f"it has no test rows beside those of the fit ({error})") from error


def _fold(rows: pd.DataFrame, attribute: str, level: Level, name: str) -> Fold:
    selection = select(rows, [attribute], level=level)
    table = selection.table
    return Fold(
        name=name,
        dataset=str(table["dataset"].iloc[0]),
        attribute=str(selection.groups.columns[0]),
        label=selection.rows.label,
        score=selection.rows.score,
        group=selection.groups.iloc[:, 0].astype(object).to_numpy(),
        unit=selection.rows.cluster,
        key=pd.MultiIndex.from_frame(table[[key for key in KEYS if key in table]]),
    )
