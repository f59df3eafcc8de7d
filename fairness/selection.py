"""The rows of an audit: which rows count, who they show, and what is resampled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.levels import clusters_of
from unmasked.evaluation.metrics import FRAMES_SCORED, video_scores
from unmasked.evaluation.predictions import evaluated_rows
from unmasked.fairness.groups import UNKNOWN, check_groups, check_one_group, group_columns
from unmasked.fairness.inputs import check_rows
from unmasked.fairness.statistics.slices import Rows

logger = logging.getLogger(__name__)

Level = Literal["video", "frame"]
# Measured on each crop; a video has the median of its own.
QUALITIES = ("size_px", "blur")
OUTCOMES = ("label", "score")
CROP = ("dataset", "video", "compression", "frame", "face")


@dataclass(frozen=True)
class Selection:
    """Rows ready to be audited: a row a video, or a scored crop at the level of frames."""

    table: pd.DataFrame  # one row for each of the rows, with what the predictions say of it
    groups: pd.DataFrame  # the same rows, a column for each attribute
    rows: Rows
    unit: str  # what is resampled: video or identity
    single: bool  # rows are videos, and not their frames


def select(
    predictions: pd.DataFrame,
    by: Sequence[str],
    *,
    level: Level = "video",
    dataset: str | None = None,
    detector: str | None = None,
) -> Selection:
    """The rows of one dataset and detector that an audit by these attributes is about.

    Which rows count is decided by `evaluation.predictions.evaluated_rows`. The unit of
    resampling is the identity, where it is known and all its videos agree on its groups, else the video.

    Args:
        predictions: a predictions table with the attributes as columns.
        by: attributes, see `groups.group_columns`.
        level: "video" takes the mean score of each video, "frame" every scored crop.
        dataset, detector: which one, where the table holds several.

    Raises:
        InputError: several datasets or detectors and none chosen, a video in two groups of an attribute,
            rows that cannot be audited.
    """
    rows = evaluated_rows(rows_of_one(predictions, dataset=dataset, detector=detector))
    return select_from(rows, by, level=level)


def select_from(table: pd.DataFrame, by: Sequence[str], *, level: Level = "video") -> Selection:
    """`select` of rows that `evaluated_rows` gave."""
    if level not in ("video", "frame"):
        raise InputError(f"level {level!r} is not known; choose video or frame")
    groups = group_columns(table, by)
    if told := [name for name in groups if name in OUTCOMES]:
        raise InputError(
            f"attribute {told[0]!r} is what is predicted, not who is shown; give an attribute of the people, "
            "such as gender"
        )
    for name in groups:
        known = (groups[name] != UNKNOWN).to_numpy()
        check_one_group(name, groups[name].to_numpy()[known], table["video"].to_numpy()[known], "video")
    table = table.drop(columns=[name for name in groups if name in table]).join(groups)
    single = _is_row_video(table)
    table = add_median_qualities(table)
    if level == "video":
        table = video_scores(table)
        # A video some of whose frames lack an annotation is known by the others.
        table[list(groups)] = table[list(groups)].fillna(UNKNOWN)
    else:
        table = table.assign(frames=1)
    label, score = check_rows(table["label"].to_numpy(), table["score"].to_numpy())
    unit, cluster = _units(table, list(groups))
    check_groups(table[list(groups)], label, cluster, unit)
    rows = Rows(
        label=label,
        score=score,
        cluster=pd.factorize(cluster)[0].astype(np.int64),
        video=pd.factorize(table["video"].to_numpy())[0].astype(np.int64),
        frames=table["frames"].to_numpy(dtype=np.int64),
        whole=clusters_of(table),
    )
    return Selection(table, table[list(groups)], rows, unit, single)


def rows_of_one(predictions: pd.DataFrame, **chosen: str | None) -> pd.DataFrame:
    """The rows of one dataset and one detector, where the table holds several of either.

    Raises:
        InputError: the one chosen is not in the table, or there are several and none is chosen.
    """
    table = predictions
    for column, wanted in chosen.items():
        found = table[column].dropna().unique().tolist() if column in table else []
        if wanted is not None and wanted not in found:
            listed = ", ".join(map(str, found)) or f"no {column}s"
            raise InputError(f"{column} {wanted!r} is not in the predictions; they have {listed}")
        if wanted is not None:
            table = table[table[column] == wanted]
        elif len(found) > 1:
            raise InputError(
                f"the predictions hold several {column}s ({', '.join(map(str, found))}); audit one of them: "
                f"{column}={found[0]!r}"
            )
    return table


def add_median_qualities(table: pd.DataFrame) -> pd.DataFrame:
    """Face size and blur of each row's video: medians of its crops, where the table has them."""
    known = [name for name in QUALITIES if name in table and pd.api.types.is_numeric_dtype(table[name])]
    if not known:
        return table
    medians = table.groupby(_keys(table), dropna=False, observed=True)[known].transform("median")
    return table.assign(**{name: medians[name] for name in known})


def _is_row_video(table: pd.DataFrame) -> bool:
    """True if a row is a video: none has several, or most have one and no column says frame.

    A few copied lines of a spreadsheet are no frames.
    """
    keys = _keys(table)
    if FRAMES_SCORED in table:
        return bool((table[FRAMES_SCORED] == 1).all())
    if "frame" in table or not table.duplicated(keys).any():
        return not table.duplicated(keys).any()
    rows = table.drop_duplicates().groupby(keys, observed=True, dropna=False).size()
    return bool((rows == 1).mean() > 0.5)


def _keys(table: pd.DataFrame) -> list[str]:
    return [name for name in ("dataset", "video", "compression") if name in table]


def _units(table: pd.DataFrame, attributes: list[str]) -> tuple[str, np.ndarray]:
    """What is resampled ("identity" or "video") and each row's unit, as text."""
    video = "video " + table["video"].astype(object).astype(str)
    if "identity" not in table or table["identity"].isna().all():
        return "video", video.to_numpy(dtype=object)
    agreed = table["identity"].notna()
    for name in attributes:
        known = table[table[name] != UNKNOWN]
        several = known.groupby("identity")[name].nunique() > 1
        agreed &= ~table["identity"].isin(several.index[several])
    if disagree := table.loc[table["identity"].notna() & ~agreed, "identity"].nunique():
        logger.warning(
            "people annotated with several groups: %d; their videos count as separate units", disagree
        )
    if not agreed.any():
        return "video", video.to_numpy(dtype=object)
    identity = "identity " + table["identity"].astype(object).astype(str)
    return "identity", identity.where(agreed, video).to_numpy(dtype=object)
