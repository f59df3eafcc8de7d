"""Videos without a crop or a score: which, of which class and group, and why.

A table of them lies beside the table that they are missing from, so that no later stage takes the others for
all there were.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from unmasked.datasets.listing import first_names
from unmasked.datasets.manifest import DEMOGRAPHICS, MANIFEST
from unmasked.datasets.tables import Column, Schema
from unmasked.preprocessing.faces import FACES

KEY = ("dataset", "video", "compression")  # what tells videos apart
NOT_SCORED = "not_scored"  # there is a crop, and no score
_OF_VIDEO = ("label", "method", "split", "identity", *DEMOGRAPHICS, "annotation")
_MEASURED = ("class", "status", "reason", "frames")

LOST = Schema(
    name="lost videos",
    columns={
        **{name: MANIFEST.columns[name] for name in ("dataset", "video", "compression", "label")},
        **{name: Column("text", required=False, nullable=True) for name in ("method", "split")},
        **{name: MANIFEST.columns[name] for name in ("identity", *DEMOGRAPHICS, "annotation")},
        "class": Column("text", allowed=("real", "fake", "unlabelled")),
        "status": Column("text"),  # of most of the video's frames, as in the faces table
        "reason": Column("text", required=False, nullable=True),
        "frames": Column("integer"),
    },
    key=KEY,
    hint="`unmasked preprocess` and `unmasked predict` write one beside what they make.",
)


def class_of(label: object) -> str:
    """The word for a label: real, fake, or unlabelled."""
    return {0: "real", 1: "fake"}.get(label, "unlabelled")  # type: ignore[call-overload]


def videos_of(faces: pd.DataFrame) -> pd.DataFrame:
    """A row for each video of a faces table: key, label, split, who is shown.

    ``has_crop`` says whether any of its frames gave a crop.
    """
    key = [name for name in KEY if name in faces]
    known = [name for name in faces if name in _OF_VIDEO or name not in FACES.columns]
    has_crop = (faces["status"] == "ok").groupby([faces[name] for name in key], dropna=False).transform("any")
    rows = faces[[*key, *[name for name in known if name not in key]]].assign(has_crop=has_crop)
    return rows.drop_duplicates(key).reset_index(drop=True)


def lost_videos(faces: pd.DataFrame, scored: pd.DataFrame | None = None) -> pd.DataFrame:
    """The videos of a faces table without a crop or a score, valid under `LOST`.

    The status is that of most of a video's frames, the first of equals. Group columns of the user's own
    are kept.

    Args:
        faces: valid under `unmasked.preprocessing.faces.FACES`.
        scored: predictions; a video that has a crop and is not in them is `NOT_SCORED`.
    """
    videos = videos_of(faces)
    key = [name for name in KEY if name in faces]
    is_lost = ~videos["has_crop"]
    if scored is not None:
        is_lost |= ~is_among(videos, scored)
    lost = videos[is_lost]
    if lost.empty:
        return LOST.empty()
    frames = faces.merge(lost[key], on=key, how="inner")
    records = []
    for _, rows in frames.groupby(key, dropna=False, sort=False, observed=True):
        status = rows["status"].value_counts(sort=False).idxmax()
        if (rows["status"] == "ok").any():
            records.append({"status": NOT_SCORED, "reason": None, "frames": len(rows)})
            continue
        reasons = rows.loc[rows["status"] == status, "reason"] if "reason" in rows else []
        reason = next((reason for reason in reasons if isinstance(reason, str)), None)
        records.append({"status": status, "reason": reason, "frames": len(rows)})
    measured = pd.DataFrame(records, index=lost.index)
    described = lost.drop(columns="has_crop").assign(**{"class": lost["label"].map(class_of, na_action=None)})
    return LOST.validate(described.join(measured))


def is_among(videos: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """True where a video is among the others.

    By dataset, video, and compression where both know it.
    """
    key = [name for name in ("dataset", "video") if name in videos and name in others]
    if all("compression" in table and table["compression"].notna().any() for table in (videos, others)):
        key.append("compression")
    known = pd.MultiIndex.from_frame(others[key].astype(object).fillna(""))
    return pd.Series(
        pd.MultiIndex.from_frame(videos[key].astype(object).fillna("")).isin(known), index=videos.index
    )


def lost_lines(videos: pd.DataFrame, lost: pd.DataFrame, *, what: str = "with a crop") -> list[str]:
    """A line a dataset: videos given, and how many of each class were lost and why.

    Below it the first names, and a line for each group column.

    The numbers add up: given = ``what`` + the sum of the others.

    Args:
        videos: as `videos_of`.
        lost: as `lost_videos`, of these videos.
        what: what the others have, "with a crop" or "scored".
    """
    lines = []
    for dataset, given in videos.groupby("dataset", observed=True):
        without = lost[lost["dataset"] == dataset]
        line = f"{dataset}: {len(given)} files given, {len(given) - len(without)} {what}"
        classes = given["label"].map(class_of, na_action=None).value_counts()
        parts = [
            f"of {classes[class_]} {class_} ones {len(rows)} without ({_counted(rows['status'])})"
            for class_, rows in without.groupby("class", sort=True)
        ]
        lines.append("; ".join([line, *parts]))
        if classes.size > 1:
            gone = [word for word in classes.index if (without["class"] == word).sum() == classes[word]]
            lines += [f"  NOTE: not one {word} of {dataset} is {what}" for word in gone]
        if len(without):
            lines += [f"  the first of them: {first_names(without['video'])}", *_group_lines(given, without)]
    return lines


def unused_path(table: str | os.PathLike[str]) -> Path:
    """Where what a table leaves out is listed: ``predictions.unused.csv`` beside it.

    >>> unused_path("run/predictions.parquet").as_posix()
    'run/predictions.unused.csv'
    """
    return Path(table).with_suffix(".unused.csv")


def _group_lines(given: pd.DataFrame, lost: pd.DataFrame) -> list[str]:
    """For each group column with two groups or more, how many videos of each were lost."""
    lines = []
    for name in DEMOGRAPHICS:
        if name not in given or given[name].nunique() < 2:
            continue
        groups = given[name].astype(object).where(given[name].notna(), "unknown").map(str)
        gone = lost[name].astype(object).where(lost[name].notna(), "unknown").map(str).value_counts()
        counts = groups.value_counts()
        listed = ", ".join(
            f"{group} {gone.get(group, 0)} of {counts[group]}" for group in sorted(counts.index)
        )
        lines.append(f"  without, by {name.replace('_', ' ')}: {listed}")
    return lines


def _counted(statuses: pd.Series) -> str:
    return ", ".join(f"{count} {status}" for status, count in statuses.value_counts().items())
