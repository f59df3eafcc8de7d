"""What a reader should know of rows that are allowed, and may yet be a mistake."""

from __future__ import annotations

import numpy as np
import pandas as pd

from unmasked.datasets.frame_names import frames_as_videos, video_stems
from unmasked.datasets.listing import first_names
from unmasked.datasets.tables import TEXT
from unmasked.datasets.video_keys import stems

SCORES_APART = 0.3  # of rows that nothing tells apart: more than frames of one video usually are
GROUPS_MAX = 50  # a column of more words describes no groups
# Rows of a class at the other's end of the scale, in number and as a share, from which on a note is made.
HEAP_MIN, HEAP_SHARE = 5, 0.03
HEAP_NEAR = 0.02  # of an end: a detector that is this sure has scores nearby, too
HEAP_TIMES = 3  # as often as any other score: more than rounding makes


def doubts(predictions: pd.DataFrame) -> list[str]:
    """What rows may be other than they seem, a sentence each with the way out."""
    looks = (_on_classes, _on_datasets, _on_rows, _on_faces, _on_conditions, _on_scores)
    return [sentence for look in looks for sentence in look(predictions)]


def _on_classes(predictions: pd.DataFrame) -> list[str]:
    """Tables of one class, which have no ranking."""
    if predictions["label"].nunique() != 1:
        return []
    which, rate = (("reals", "FPR"), ("fakes", "TPR"))[int(predictions["label"].iloc[0])]
    return [f"only {which}: {rate} is measured; AUC and all that compares both classes need the other one"]


def _on_datasets(predictions: pd.DataFrame) -> list[str]:
    """Datasets whose names differ in capitals alone: one may be written in two ways."""
    names = sorted(map(str, predictions["dataset"].unique()))
    spelled: dict[str, list[str]] = {}
    for name in names:
        spelled.setdefault(name.casefold(), []).append(name)
    return [
        f"{' and '.join(alike)} differ in capitals alone, and each counts as a dataset; if they are one, "
        "write them alike"
        for alike in spelled.values()
        if len(alike) > 1
    ]


def _on_rows(predictions: pd.DataFrame) -> list[str]:
    """Frames that are given as videos, and rows of one video that no frame tells apart."""
    notes = _on_spellings(predictions)
    if "frame" in predictions:
        return notes
    if frames := frames_as_videos(predictions["video"], predictions["label"]):
        intervals = "too narrow"
        if _has_known_people(predictions):
            intervals = "right all the same, as they are over people"
        notes.append(
            f"{frames}: as it is each counts as a video, and intervals are {intervals}; if so, give the "
            "columns video and frame"
        )
    if "perturbation" in predictions and predictions["perturbation"].notna().any():
        return notes
    keys = [name for name in ("dataset", "video", "compression", "face", "detector") if name in predictions]
    if not predictions.duplicated(keys).any():
        return notes
    if same := int(predictions.duplicated().sum()):
        notes.append(
            f"{same} rows repeat another one in every column: they count as further frames of their video"
        )
    rows = predictions.groupby(keys, observed=True, dropna=False)
    size = rows.size()
    unlike = [
        str(name)
        for name in predictions.columns
        if name not in (*keys, "label", "score", "predicted")
        and predictions[name].dtype.kind not in "fiu"
        and 1 < predictions[name].nunique() <= GROUPS_MAX
        and (rows[name].nunique() > 1).any()
    ]
    more = ""
    if unlike:
        more = (
            f"; they disagree in {', '.join(unlike)}: if that tells videos or detectors apart, give each "
            "video a name of its own (or a column dataset), or each detector's rows in a file of their own"
        )
    apart = float((rows["score"].max() - rows["score"].min()).max())
    if apart > SCORES_APART:
        more = f" although their scores are up to {apart:.2g} apart{more}"
    notes.append(
        f"{int((size > 1).sum())} of {len(size)} videos have several rows and there is no column frame: "
        f"these are averaged as frames of one video{more}"
    )
    return notes


def _on_spellings(predictions: pd.DataFrame) -> list[str]:
    """Videos whose names differ in capitals or the suffix alone: one video may stand there twice."""
    names = predictions[["dataset", "video"]].drop_duplicates()
    alike = names.assign(video=stems(names["video"].astype(TEXT)).str.casefold())
    if not (again := alike.duplicated(keep=False)).any():
        return []
    first = alike[again].iloc[0]
    listed = names[(alike == first).all(axis=1)]["video"]
    return [
        f"{int(again.sum())} names of videos differ from another in capitals or the suffix alone "
        f"({first_names(listed, 2)}): each counts as a video; if they are one, write them alike"
    ]


def _has_known_people(predictions: pd.DataFrame) -> bool:
    """True if all that look like frames of one video show one known person, over whom intervals are."""
    if "identity" not in predictions or predictions["identity"].isna().any():
        return False
    people = predictions["identity"].groupby(video_stems(predictions["video"].astype(str))).nunique()
    return bool(people.max() == 1)


def _on_faces(predictions: pd.DataFrame) -> list[str]:
    several = videos_with_several_faces(predictions)
    if not several:
        return []
    videos = predictions.groupby(["dataset", "video"], observed=True).ngroups
    return [
        f"{several} of {videos} videos show several faces in a frame: aggregation=mean, the default, "
        "averages over all of them; aggregation=worst_face takes the face with the highest mean, so that one "
        "fake face among others is found"
    ]


def videos_with_several_faces(predictions: pd.DataFrame) -> int:
    """How many videos have several faces in a frame; at all, where no column says which."""
    if "face" not in predictions or predictions["face"].nunique() < 2:
        return 0
    others = ("compression", "frame", "detector", "perturbation", "severity")
    keys = ["dataset", "video", *(name for name in others if name in predictions)]
    distinct = (
        predictions[[*keys, "face"]] if "frame" in keys else predictions[[*keys, "face"]].drop_duplicates()
    )
    twice = distinct[distinct.duplicated(keys)]
    return len(twice[["dataset", "video"]].drop_duplicates())


def _on_conditions(predictions: pd.DataFrame) -> list[str]:
    notes: list[str] = []
    if "compression" not in predictions or predictions["compression"].nunique() < 2:
        return notes
    for name, rows in predictions.groupby("dataset", observed=True):
        found = sorted(rows["compression"].dropna().unique())
        videos = rows["video"].nunique()
        counted = len(rows[["video", "compression"]].drop_duplicates())
        if len(found) > 1 and counted > videos:
            notes.append(
                f"{name}: {len(found)} compressions ({', '.join(found)}) are pooled: {videos} videos count "
                f"{counted} times, once at each; metrics.md gives each its own number"
            )
    return notes


def _on_scores(predictions: pd.DataFrame) -> list[str]:
    distinct = predictions["score"].unique()
    if len(distinct) == 1:
        return [f"every score is {distinct[0]:.4g}: nothing is told apart"]
    if np.isin(distinct, [0.0, 1.0]).all():
        return [
            "hard decisions: every score is 0 or 1, so AUC is not a ranking but that of their one threshold; "
            "read FPR and TPR, and give the probabilities behind the decisions for the rest"
        ]
    return [said for value in (0.0, 1.0) if (said := _heap(predictions, value))]


def _heap(predictions: pd.DataFrame, value: float) -> str:
    """A sentence where an end of the scale seems to stand for no score; else "".

    Many of the class that belongs to the other end have that very score, more than lie near it, and many
    times more than have any other that is not at their own end.
    """
    score, label = predictions["score"], predictions["label"]
    is_there = score == value
    of_class = score[label == int(value == 0)]
    wrong = int((of_class == value).sum())
    if wrong < max(HEAP_MIN, HEAP_SHARE * len(of_class)):
        return ""
    others = of_class[(of_class != value) & ((of_class - (1 - value)).abs() >= HEAP_NEAR)]
    near, commonest = int(((others - value).abs() < HEAP_NEAR).sum()), others.value_counts().max()
    if wrong < near or (len(others) and wrong < HEAP_TIMES * commonest):
        return ""
    real, fake = (int((is_there & (label == one)).sum()) for one in (0, 1))
    return (
        f"{real + fake} of {len(score)} scores are exactly {value:.0f} ({real} of reals, {fake} of fakes), "
        "and hardly any lie near: if that marks what could not be scored, leave those cells empty"
    )
