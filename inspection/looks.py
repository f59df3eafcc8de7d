"""The looks at files: faces cut out and scored, and more frames where scores move.

The verdict rests on the frames that are spread evenly, as the threshold does. Those that are looked at
between them say when a score moved, and are not in any mean.
"""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from unmasked.datasets.loading import sample_evenly
from unmasked.evaluation.counts import Array
from unmasked.evaluation.domain import CROPS_A_PERSON, Place
from unmasked.evaluation.fitted import Fitted
from unmasked.evaluation.predict import describe_crops, predict
from unmasked.inspection.examiner import Examiner
from unmasked.inspection.finding import verdict_of
from unmasked.inspection.records import Look
from unmasked.preprocessing.detect import overlap
from unmasked.preprocessing.extract import Row, Task
from unmasked.preprocessing.faces import BOX
from unmasked.preprocessing.run import Runner
from unmasked.preprocessing.tracking import is_same_face

MOVED = 0.2  # between two neighbouring frames of a person; a choice
LOOK = ["face", "frame", "time_s", "score", "size_px", "blur", "crop", "between"]
CLOSER = "closer"  # folder of the crops of frames between the others


@dataclass(frozen=True)
class Scored:
    """The scored crops of some files.

    Attributes:
        rows: of the faces table, with score, and ``between``: True where the frame is not one of those that
            are spread evenly.
        features: (N, F) of the detector, in the order of the rows; None where it gives none with the scores.
    """

    rows: pd.DataFrame
    features: Array | None


def score_faces(
    faces: pd.DataFrame,
    tasks: Mapping[str, Task],
    work: Path,
    examiner: Examiner,
    *,
    pool: Runner | None,
    closer: int,
    device: str,
) -> Scored:
    """The scored crops of files, of all in the same passes of the detector.

    Args:
        faces: of the files.
        tasks: of those files in which frames may be looked at between others, by video; their folders are
            relative to ``work``.
        work: folder that the crops' paths are relative to.
        examiner: the detector.
        pool: finds the faces in frames between others; None finds none.
        closer: how many frames between others are looked at in a file, at most.
        device: where the detector runs.
    """
    usable = usable_faces(faces)
    if usable.empty:
        return Scored(usable.assign(score=[], between=[]), None)
    kept: list[Array] | None = [] if examiner.domain is not None else None
    scored = _score(usable, work, examiner, device, kept).assign(between=False)
    between = pd.DataFrame()
    if pool is not None and closer:
        between = _find_between(_not_yet_fake(scored, examiner.fitted), scored, tasks, pool, closer)
    if len(between):
        more = _score(between, work, examiner, device).assign(between=True)
        # Behind the others, whose features stand in their order.
        scored = pd.concat([scored, more], ignore_index=True)
    return Scored(scored, np.concatenate(kept) if kept else None)


def usable_faces(faces: pd.DataFrame) -> pd.DataFrame:
    """The rows with a crop of a face; a picture that is a crop may show none."""
    return faces[(faces["status"] == "ok") & faces["size_px"].notna()].reset_index(drop=True)


def frames_between(rows: pd.DataFrame, most: int) -> list[int]:
    """Frames halfway between neighbours whose scores differ most, and halfway again.

    Args:
        rows: of one file: face, frame, score.
        most: how many.

    >>> rows = pd.DataFrame({"face": 0, "frame": [0, 8, 16, 24], "score": [0.1, 0.1, 0.9, 0.8]})
    >>> frames_between(rows, 3)
    [10, 12, 14]
    """
    spans = []
    for _, one in rows.sort_values("frame").groupby("face"):
        frames, scores = one["frame"].tolist(), one["score"].to_numpy(np.float64)
        # Rounded: another processor's last digits must not choose other frames.
        moves = np.round(np.abs(np.diff(scores)), 2).tolist()
        spans += [(-move, *pair) for move, *pair in zip(moves, frames, frames[1:], strict=False)]
    heapq.heapify(spans)
    found: set[int] = set()
    while spans and len(found) < most:
        move, first, last = heapq.heappop(spans)
        middle = (first + last) // 2
        if move > -MOVED:
            break
        if middle == first:
            continue
        found.add(middle)
        # As if the score moved evenly: the next span is another one, unless this one moved twice as much.
        for half in ((move / 2, first, middle), (move / 2, middle, last)):
            heapq.heappush(spans, half)
    return sorted(found)


def write_looks(rows: pd.DataFrame, work: Path, folder: Path) -> list[Look]:
    """The looks at one file, of its scored rows; their crops are copied into the case folder."""
    (folder / "crops").mkdir(exist_ok=True)
    looks = []
    for row in rows[LOOK].sort_values(["face", "frame"]).itertuples():
        crop = f"crops/{row.frame:05d}_{row.face}{Path(row.crop).suffix}"
        shutil.copyfile(work / row.crop, folder / crop)
        looks.append(
            Look(
                person=row.face,
                frame=row.frame,
                time_s=None if pd.isna(row.time_s) else row.time_s,
                score=row.score,
                size_px=row.size_px,
                blur=None if pd.isna(row.blur) else row.blur,
                crop=crop,
                between=row.between,
            )
        )
    return looks


def find_places(scored: Scored, work: Path, examiner: Examiner, device: str) -> dict[tuple[str, int], Place]:
    """Where each person of some files, by video and face, lies in the calibration material.

    Told by a few of their crops. None where no material is stored.
    """
    rows = scored.rows
    usable = rows[~rows["between"].astype(bool)]
    if examiner.domain is None or usable.empty:
        return {}
    of_person = usable["video"].astype(str) + "/" + usable["face"].astype(str)
    numbered = usable.assign(video=of_person, of=usable["video"], row=np.arange(len(usable)))
    few = sample_evenly(numbered, CROPS_A_PERSON)
    statistics, values = describe_crops(
        examiner.model,
        few,
        work,
        size_px=examiner.card["size_px"],
        device=device,
        features=None if scored.features is None else scored.features[few["row"]],
    )
    return {
        (str(video), int(person)): examiner.domain.place(
            statistics[rows], None if values is None else values[rows]
        )
        for (video, person), rows in few.groupby(["of", "face"]).indices.items()
    }


def _score(
    rows: pd.DataFrame, work: Path, examiner: Examiner, device: str, kept: list[Array] | None = None
) -> pd.DataFrame:
    predictions = predict(
        examiner.model,
        rows,
        work,
        size_px=examiner.card["size_px"],
        device=device,
        detector=examiner.card["detector"],
        checkpoint=examiner.card["sha256"],
        kept=kept,
    )
    key = ["video", "frame", "face"]
    return rows.merge(predictions[[*key, "score"]], on=key, validate="one_to_one")


def _not_yet_fake(scored: pd.DataFrame, fitted: Fitted) -> pd.DataFrame:
    """The rows of people whom their mean does not call fake: of the others a closer look changes nothing."""
    means = scored.groupby(["video", "face"])["score"].transform("mean")
    return scored[[verdict_of(mean, fitted) != "likely fake" for mean in means]]


def _find_between(
    doubtful: pd.DataFrame,
    scored: pd.DataFrame,
    tasks: Mapping[str, Task],
    pool: Runner,
    closer: int,
) -> pd.DataFrame:
    """The faces of known people in frames between others, where scores of doubtful ones move."""
    asked = {}
    for video, theirs in doubtful.groupby("video", sort=True):
        if video in tasks and (frames := frames_between(theirs, closer)):
            rows = scored[scored["video"] == video]
            task = tasks[str(video)]
            own = {"folder": f"{task.folder}/{CLOSER}", "workdir": f"{task.workdir}/{CLOSER}"}
            asked[replace(task, **own, frames=tuple(frames))] = rows
    tables = []
    for outcome in pool.run(list(asked)):
        known = asked[outcome.task]
        if found := _recognise(outcome.result or [], known):  # what failed here adds nothing
            carried = known.drop(columns=["score", "between"]).iloc[[0] * len(found)].reset_index(drop=True)
            measured = pd.DataFrame(found)
            tables.append(carried.drop(columns=measured.columns, errors="ignore").join(measured))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _recognise(rows: Sequence[Row], known: pd.DataFrame) -> list[Row]:
    """The rows of people who are known, under their number: each lies where they were in the nearest frame.

    Faces of others, and those that are not found again, are left out.
    """
    found: dict[tuple[int, int], tuple[float, Row]] = {}
    for row in rows:
        if row["status"] != "ok" or row.get("size_px") is None:
            continue
        box = tuple(row[name] for name in BOX)
        for person, theirs in known.groupby("face"):
            nearest = theirs.iloc[int(np.argmin(np.abs(theirs["frame"].to_numpy() - row["frame"])))]
            before = tuple(float(nearest[name]) for name in BOX)
            share = overlap(before, box)  # type: ignore[arg-type]
            place = (row["frame"], int(person))
            is_nearer = place not in found or share > found[place][0]
            if is_same_face(before, box) and is_nearer:  # type: ignore[arg-type]
                found[place] = share, {**row, "face": int(person)}
    return [row for _, row in found.values()]
