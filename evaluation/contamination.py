"""What of a test set a detector has seen: none, known, possible or unknown.

From what its card and its predictions say: the datasets, the rule of selection, and digests of the names of
its videos and people. Nothing is guessed from the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import pandas as pd

from unmasked.datasets.cards import name_digests
from unmasked.datasets.frame_names import video_stems
from unmasked.datasets.vocabulary import canonical_dataset
from unmasked.evaluation.collection import Scored
from unmasked.evaluation.origin import NOT_STATED
from unmasked.evaluation.predictions import evaluated_rows
from unmasked.evaluation.records import ContaminationRow
from unmasked.evaluation.tables import Table

TITLE = "What of each test set a detector was trained or selected on"
Level: TypeAlias = Literal["known", "possible", "unknown", "none"]
WORST_FIRST: tuple[Level, ...] = ("known", "possible", "unknown", "none")
Answer: TypeAlias = tuple[Level, str]
# Datasets that hold videos of another one, under names of their own.
HOLDS = {
    "DF40": ("FaceForensics++", "Celeb-DF-v2"),
    "DeeperForensics-1.0": ("FaceForensics++",),
    "Celeb-DF++": ("Celeb-DF-v2", "Celeb-DF-v1"),
    "Celeb-DF-v2": ("Celeb-DF-v1",),
    "DFDC": ("DFDC-preview",),
    "AI-Face": ("FaceForensics++", "Celeb-DF-v2", "DFDC", "DeepFakeDetection"),
}


def contamination(detector: Scored) -> list[ContaminationRow]:
    """Of each dataset that a detector is tested on, what it was trained and selected on.

    ``known``: some of these videos or people, or the test set chose the checkpoint. ``possible``: the same
    dataset or one that shares videos with it, and which videos is not said; or pictures that look like frames
    of one video. ``unknown``: nothing is said, or who is shown in other videos of the same dataset is not.
    ``none``: what is said rules it out. An ensemble has what the worst of its members has.
    """
    rows = evaluated_rows(detector.predictions)
    return [
        _row(detector, str(name), part) for name, part in rows.groupby("dataset", sort=True, observed=True)
    ]


def contamination_table(rows: Mapping[str, Sequence[ContaminationRow]]) -> Table:
    """The answers as a table; ``rows`` by detector, not named where there is one."""
    head = [*(["detector"] if len(rows) > 1 else []), "tested on", "trained on it", "selected on it", "why"]
    cells = [
        ([name] if len(rows) > 1 else [])
        + [row["test"], row["trained"], row["selected"], "; ".join(dict.fromkeys(row["why"]))]
        for name, found in rows.items()
        for row in found
    ]
    note = (
        "Known: some of these very videos or people, or the test set chose the checkpoint. Possible: the "
        "same dataset, or one that shares videos with it, or pictures whose names are of the same series. "
        "Unknown: nobody says, or nobody knows who is shown. None: ruled out by what is "
        "said. What a backbone saw before is not part of it."
    )
    return Table(TITLE, head, cells, [note], label="contamination")


def contaminated_sentences(detector: str, rows: Sequence[ContaminationRow]) -> list[str]:
    """A sentence for each test set that a detector is known to have seen."""
    return [
        f"{detector} on {row['test']}: not new to it ({'; '.join(dict.fromkeys(row['why']))})"
        for row in rows
        if "known" in (row["trained"], row["selected"])
    ]


def _row(detector: Scored, test: str, rows: pd.DataFrame) -> ContaminationRow:
    members = detector.card.get("members")
    stated = [one for one in members if isinstance(one, Mapping)] if isinstance(members, list) else []
    if stated:
        parts = [(str(one.get("name")), _of_member(one, test, rows)) for one in stated]
        own = [_fitted_answer(detector.card, test, rows)]
        trained = _worst([(name, found[0]) for name, found in parts])
        selected = _worst([*((name, found[1]) for name, found in parts), *own])
    else:
        card_data = detector.card.get("training_data")
        # A column or the caller may name another source than the card: the card's videos are not of it.
        said = detector.training
        data = card_data if isinstance(card_data, Mapping) else {}
        if tuple(data.get("datasets") or ()) != said.datasets:
            data = {}
        trained, selected = _answers(said.datasets, said.selection_rule, data, test, rows)
    videos = int(rows.drop_duplicates(["dataset", "video"]).shape[0])
    return {
        "test": test,
        "trained": trained[0],
        "selected": selected[0],
        "videos": videos,
        "why": [trained[1], selected[1]],
    }


def _of_member(one: Mapping[str, Any], test: str, rows: pd.DataFrame) -> tuple[Answer, Answer]:
    data = one.get("training_data")
    datasets = one.get("trained_on")
    named = tuple(map(str, datasets)) if isinstance(datasets, list) else ()
    rule = str(one.get("selection_rule") or NOT_STATED)
    return _answers(named, rule, data if isinstance(data, Mapping) else {}, test, rows)


def _worst(answers: Sequence[tuple[str, Answer]]) -> Answer:
    """The worst level, and why, with the name of who has it."""
    name, (level, why) = min(answers, key=lambda one: WORST_FIRST.index(one[1][0]))
    return level, f"{name}: {why}" if name else why


def _fitted_answer(card: Mapping[str, Any], test: str, rows: pd.DataFrame) -> tuple[str, Answer]:
    """What an ensemble was fitted on: never rows of the test, which `make_ensemble` refuses."""
    words = str(card.get("fitted_on") or "")
    return "", ("none", f"fitted on {words}" if words else "nothing was fitted")


def _answers(
    datasets: Sequence[str], rule: str, data: Mapping[str, Any], test: str, rows: pd.DataFrame
) -> tuple[Answer, Answer]:
    """Was it trained on the test set, and was it selected on it."""
    names = [canonical_dataset(name) for name in datasets]
    here = canonical_dataset(test)
    same = here in names
    related = [name for name in names if here in HOLDS.get(name, ()) or name in HOLDS.get(here, ())]
    trained: Answer = ("none", f"trained on {' + '.join(names)}")
    if not names:
        trained = ("unknown", "training data not stated")
    elif same:
        unsaid: Answer = ("possible", f"trained on {here}, on which of its videos is not stated")
        trained = _from_digests(data.get("train"), rows, "trained on") or unsaid
    elif related:
        trained = ("possible", f"{related[0]}, which it was trained on, shares videos with {here}")
    return trained, _selected(rule, data, here, same, rows)


def _selected(rule: str, data: Mapping[str, Any], here: str, same: bool, rows: pd.DataFrame) -> Answer:
    by_digest = _from_digests(data.get("val"), rows, "selected on") if same else None
    if by_digest is not None:
        return by_digest
    if rule == NOT_STATED:
        return "unknown", "selection not stated"
    if same and rule.lower().startswith("oracle"):
        return "known", f"selection: {rule}"
    # A stranger's words may name this dataset, or speak of test sets; what they mean is for a reader.
    if same or here.lower() in rule.lower() or "test set" in rule.lower():
        return "possible", f"selection: {rule}; on which videos is not stated"
    return "none", f"selection: {rule}"


def _from_digests(part: object, rows: pd.DataFrame, did: str) -> Answer | None:
    """What the digests of a card say; None where it has none."""
    stated = cast(Mapping[str, Any], part) if isinstance(part, Mapping) else {}
    digests = stated.get("video_digests")
    if not isinstance(digests, list):
        return None
    own = name_digests(rows, "video")
    if shared := own & set(map(str, digests)):
        return "known", f"{did} {len(shared)} of its {len(own)} videos"
    people, here = stated.get("identity_digests"), name_digests(rows, "identity")
    if isinstance(people, list) and (both := here & set(map(str, people))):
        return "known", f"{did} other videos of {len(both)} of its people"
    by_name = f"{did} none of its {len(own)} videos, by name"
    frames_of = stated.get("frames_of_digests")
    stems = name_digests(rows.assign(video=video_stems(rows["video"])), "video")
    if isinstance(frames_of, list) and (both := stems & set(map(str, frames_of))):
        return "possible", f"{did} pictures that look, by name, like frames of {len(both)} of its videos"
    if not people or not here or bool(rows["identity"].isna().any()):
        return "unknown", f"{by_name}; who is shown is not known, so the same people may be in both"
    return "none", f"{by_name}, and none of its {len(here)} people"
