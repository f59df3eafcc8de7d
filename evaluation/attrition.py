"""Videos that were given and have no score, and frames: how many, of which class, why.

Every number of an evaluation is of the videos that were scored. Where no face was found in the others, they
are no error of the detector's in any metric, and none of its successes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import first_names
from unmasked.evaluation.intervals import Sample, difference_interval, intervals_of, resample
from unmasked.evaluation.levels import clusters_of
from unmasked.evaluation.metrics import all_metrics
from unmasked.evaluation.predictions import FRAMES_SAMPLED
from unmasked.evaluation.records import Results
from unmasked.evaluation.wording import change_text, list_names
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.lost import KEY, LOST, NOT_SCORED, class_of, is_among, lost_videos, unused_path

FACES_FILE = "faces.parquet"
REASONS = {
    "no_face": "no face found",
    "decode_error": "not decoded",
    "missing_file": "file not there",
    "too_large": "too large",
    "over_budget": "given up",
    "crashed": "given up",
    "already_cropped": "a crop already",
    NOT_SCORED: "a crop without a score",
}


class ClassLoss(BaseModel):
    """The videos of one class that were given, and why some have no score."""

    model_config = ConfigDict(frozen=True)

    given: int
    scored: int
    reasons: dict[str, int]  # status of the faces table -> videos; given = scored + their sum
    share: float  # without a score
    share_ci: tuple[float, float]  # 95 %


class Attrition(BaseModel):
    """The videos of one dataset that were given and not scored.

    Attributes:
        given: videos, of the splits that are evaluated.
        scored: those that have a score; the others are ``given - scored``.
        classes: by "real", "fake" and "unlabelled", where there are any.
        difference: share of the fakes without a score minus that of the reals; NaN without both.
        difference_ci: its 95 % interval, over people where known, else videos.
        names: the first videos without a score.
        origin: the file that says so.
    """

    model_config = ConfigDict(frozen=True)

    given: int
    scored: int
    classes: dict[str, ClassLoss]
    difference: float
    difference_ci: tuple[float, float]
    names: list[str]
    origin: str

    @property
    def is_uneven(self) -> bool:
        """True if one class surely loses more of its videos than the other."""
        low, high = self.difference_ci
        return low > 0 or high < 0

    def sentence(self) -> str:
        """What a reader must know beside every number of this dataset.

        >>> both = {"given": 9, "scored": 6, "reasons": {"no_face": 3}, "share": 1 / 3, "share_ci": (0, 1)}
        >>> Attrition(given=9, scored=6, classes={"real": both}, difference=0.0, difference_ci=(0.0, 0.0),
        ...     names=["a"], origin="").sentence()
        '6 of 9 videos scored; 3 are not: 3 of 9 real (no face found)'
        """
        lost = self.given - self.scored
        if not lost:
            return f"all {self.given} videos that were given are scored"
        parts = []
        for word, part in self.classes.items():
            if not part.reasons:
                continue
            counted: dict[str, int] = {}
            for status, count in part.reasons.items():
                counted[REASONS.get(status, status)] = counted.get(REASONS.get(status, status), 0) + count
            why = (
                next(iter(counted))
                if len(counted) == 1
                else ", ".join(f"{count} {reason}" for reason, count in counted.items())
            )
            parts.append(f"{part.given - part.scored} of {part.given} {word} ({why})")
        text = f"{self.scored} of {self.given} videos scored; {lost} {'is' if lost == 1 else 'are'} not: "
        text += list_names(parts)
        if self.is_uneven:
            more, fewer = ("fakes", "reals") if self.difference > 0 else ("reals", "fakes")
            text += (
                f". More {more} than {fewer} are lost, by "
                f"{change_text(self.difference, self.difference_ci)} points (95 % interval)"
            )
        return text


class FrameLoss(BaseModel):
    """The frames of a dataset's scored videos that were sampled and have no score.

    Attributes:
        sampled, scored: frames of all scored videos, by "real", "fake" and "unlabelled".
        videos: how many videos are scored.
        few: how many of them by less than half of their frames.
        names: the first of these.
    """

    model_config = ConfigDict(frozen=True)

    sampled: dict[str, int]
    scored: dict[str, int]
    videos: int
    few: int
    names: list[str]

    def sentence(self) -> str:
        """What a reader must know of them; "" where every frame has a score.

        >>> one = FrameLoss(sampled={"real": 32}, scored={"real": 3}, videos=1, few=1, names=["a"])
        >>> one.sentence()
        '3 of 32 frames of the scored videos have a score (real 3 of 32); 1 of 1 videos by less than half: a'
        """
        sampled, scored = sum(self.sampled.values()), sum(self.scored.values())
        if scored == sampled:
            return ""
        parts = ", ".join(f"{word} {self.scored[word]} of {count}" for word, count in self.sampled.items())
        text = f"{scored} of {sampled} frames of the scored videos have a score ({parts})"
        if self.few:
            text += f"; {self.few} of {self.videos} videos by less than half: {first_names(self.names)}"
        return text


def frame_losses(rows: pd.DataFrame) -> dict[str, FrameLoss]:
    """What each dataset's scored videos have lost, where the predictions say what was sampled.

    Args:
        rows: the predictions that are evaluated (`predictions.evaluated_rows`).
    """
    if not {FRAMES_SAMPLED, "frame"} <= {*rows}:
        return {}
    known = rows[rows[FRAMES_SAMPLED].notna()]
    key = [name for name in KEY if name in known]
    counted = known.groupby(key, dropna=False, observed=True).agg(
        scored=("frame", "nunique"), sampled=(FRAMES_SAMPLED, "max"), label=("label", "first")
    )
    # A table that was joined or cut by hand may say fewer than it holds.
    counted["sampled"] = counted[["scored", "sampled"]].max(axis=1)
    videos = counted.reset_index()
    return {
        str(name): _frame_loss(part) for name, part in videos.groupby("dataset", sort=False, observed=True)
    }


def _frame_loss(videos: pd.DataFrame) -> FrameLoss:
    by_class = videos.groupby(videos["label"].map(class_of, na_action=None))[["sampled", "scored"]].sum()
    is_few = videos["scored"] * 2 < videos["sampled"]
    return FrameLoss(
        sampled={str(word): int(count) for word, count in by_class["sampled"].items()},
        scored={str(word): int(count) for word, count in by_class["scored"].items()},
        videos=len(videos),
        few=int(is_few.sum()),
        names=[str(name) for name in videos.loc[is_few, "video"].iloc[:10]],
    )


def find_lost(path: Path, predictions: pd.DataFrame, faces: Path | None = None) -> tuple[pd.DataFrame, str]:
    """The videos that have no score, valid under `LOST`, and the file that says so.

    Taken from the faces table where it is given, else from what `unmasked predict` left beside the
    predictions, else from a ``faces.parquet`` in their folder if all that is scored is in it. ("", and no
    rows, where there is none of these: nothing is known.)

    Args:
        path: of the predictions.
        predictions: what it holds.
        faces: the faces table that was scored.

    Raises:
        InputError: a table cannot be read, or none of the scored videos is in ``faces``.
    """
    if faces is not None:
        table = FACES.read(faces)
        if not is_among(_videos(predictions), table).any():
            raise InputError(
                f"none of the videos in {path} is in {faces}; give the faces table that was scored"
            )
        return _of_faces(table, predictions), str(faces)
    listed = unused_path(path)
    if listed.is_file():
        lost = LOST.read(listed)
        # Scored since then, or the file is of earlier predictions.
        return lost[~is_among(lost, predictions)].reset_index(drop=True), str(listed)
    beside = path.parent / FACES_FILE
    if beside.is_file():
        table = FACES.read(beside)
        if is_among(_videos(predictions), table).all():
            return _of_faces(table, predictions), str(beside)
    return LOST.empty(), ""


def attrition(
    rows: pd.DataFrame, lost: pd.DataFrame, *, origin: str = "", n_boot: int = 2000, seed: int = 0
) -> dict[str, Attrition]:
    """What was lost of each dataset.

    Datasets of which nothing at all is scored are among them.

    Args:
        rows: the predictions that are evaluated (`predictions.evaluated_rows`).
        lost: see `find_lost`; of those, what is of the splits that are evaluated counts.
        origin: the file that ``lost`` is from.
        n_boot, seed: of the resampling behind the intervals.
    """
    videos = _videos(rows)
    lost = lost_of_splits(lost, rows)
    names = dict.fromkeys([*videos["dataset"], *lost["dataset"]])
    return {
        str(name): _of_dataset(
            videos[videos["dataset"] == name], lost[lost["dataset"] == name], origin, n_boot, seed
        )
        for name in names
    }


def add_attrition(results: Results, found: Mapping[str, Attrition]) -> None:
    """Puts what was lost into what `evaluate.evaluate` returns.

    Each dataset's is under ``attrition`` of its block; datasets of which nothing is scored are under
    ``unscored`` of the whole.
    """
    for name, one in found.items():
        place = results["datasets"].get(name)
        if place is not None:
            place["attrition"] = one.model_dump()
        else:
            results.setdefault("unscored", {})[name] = one.model_dump()


def read_attrition(results: Mapping[str, Any]) -> dict[str, Attrition]:
    """What `add_attrition` put into ``metrics.json``, by dataset."""
    known = {name: block["attrition"] for name, block in results["datasets"].items() if "attrition" in block}
    return {
        name: Attrition.model_validate(one) for name, one in (known | results.get("unscored", {})).items()
    }


def lost_of_splits(lost: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The lost videos of the splits that the rows are of; all where neither says a split."""
    splits = set(rows["split"].dropna()) if "split" in rows else set()
    if not splits or lost["split"].isna().all():
        return lost
    return lost[lost["split"].isin(splits)]


def _of_faces(faces: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The lost videos of a faces table, of the splits and datasets that were to be scored.

    These are those of the scored videos. A dataset that has crops and no score at all was not given to the
    detector; one without a crop could not be.
    """
    scored = is_among(faces, predictions)
    lost = lost_videos(faces[faces["split"].isin(faces.loc[scored, "split"].unique())], scored=predictions)
    asked = set(faces.loc[scored, "dataset"])
    with_crop = set(faces.loc[faces["status"] == "ok", "dataset"])
    return lost[lost["dataset"].isin(asked) | ~lost["dataset"].isin(with_crop)].reset_index(drop=True)


def _videos(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates([name for name in KEY if name in rows])


def _of_dataset(scored: pd.DataFrame, lost: pd.DataFrame, origin: str, n_boot: int, seed: int) -> Attrition:
    wanted = [name for name in ("video", "label", "identity") if name in scored or name in lost]
    both = pd.concat([part.reindex(columns=wanted) for part in (scored, lost)], ignore_index=True)
    is_lost = np.arange(len(both)) >= len(scored)
    words = both["label"].map(class_of, na_action=None)
    known = both["label"].notna().to_numpy()
    difference, difference_ci, shares = _difference(both[known], is_lost[known], n_boot, seed)
    classes = {}
    for word in ("real", "fake", "unlabelled"):
        of_class = (words == word).to_numpy()
        if not of_class.any():
            continue
        gone = lost[lost["class"] == word]
        share, share_ci = shares.get(word, (float(is_lost[of_class].mean()), (float("nan"), float("nan"))))
        classes[word] = ClassLoss(
            given=int(of_class.sum()),
            scored=int((of_class & ~is_lost).sum()),
            reasons={str(status): int(count) for status, count in gone["status"].value_counts().items()},
            share=share,
            share_ci=share_ci,
        )
    return Attrition(
        given=len(both),
        scored=len(scored),
        classes=classes,
        difference=difference,
        difference_ci=difference_ci,
        names=[str(name) for name in lost["video"].iloc[:10]],
        origin=Path(origin).name,
    )


def _difference(
    videos: pd.DataFrame, is_lost: np.ndarray, n_boot: int, seed: int
) -> tuple[float, tuple[float, float], dict[str, tuple[float, tuple[float, float]]]]:
    """Share lost of the fakes minus that of the reals with its interval, and each class's own.

    A lost video is one that is "called fake": the shares are then the FPR and TPR of any evaluation, and
    have their intervals.
    """
    undefined = float("nan"), (float("nan"), float("nan"))
    if videos.empty:
        return *undefined, {}
    sample = Sample.of(videos["label"].to_numpy(np.int64), is_lost.astype(np.float64), clusters_of(videos))
    values = all_metrics(sample.label, sample.score, 0.5, ("fpr", "tpr"))
    drawn = resample(sample, 0.5, n_boot=n_boot, seed=seed, only=("fpr", "tpr"))
    found = intervals_of(sample, values, drawn)
    shares = {word: (float(values[name]), found[name]) for word, name in (("real", "fpr"), ("fake", "tpr"))}
    if np.isnan([values["fpr"], values["tpr"]]).any():
        return *undefined, shares
    own = found["tpr"], found["fpr"]
    low, high = difference_interval((drawn["tpr"], drawn["fpr"]), own, min(sample.clusters_by_class()))
    return float(values["tpr"] - values["fpr"]), (low, high), shares


def lines(found: dict[str, Attrition]) -> list[str]:
    """A line a dataset that lost videos, for a terminal."""
    said = []
    for name, one in found.items():
        if one.given > one.scored:
            said.append(f"{name}: {one.sentence()}")
            said.append(f"  not scored, the first: {first_names(one.names)} ({one.origin})")
    return said
