"""Splits for datasets that have no official one.

By person, the same from every scan, frozen in a file.
Rows that share a person (who is shown, or whose face was put in) belong together; where nobody is named,
a fake belongs with the video it was made of. If the groups that this makes are small, each goes whole into
one split. Where faces were swapped all around (the 28 actors of DeepFakeDetection), one group holds nearly
everything: then the people are divided instead, and a fake of two people from different splits is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.frame_names import frames_as_videos, video_stems
from unmasked.datasets.listing import first_names
from unmasked.datasets.manifest import SPLITS
from unmasked.datasets.tables import TEXT

FRACTIONS = (0.7, 0.15, 0.15)
# A group may outgrow the largest split by this share of the rows before the people are divided instead.
OVERFLOW = 0.05
FORMAT = 1
LABELS_NEEDED = (
    "training needs reals and fakes: scan folders called real and fake, or a table with the columns path and "
    "label"
)

# What is kept together. auto: people, where they are known; else a fake and the video it was made of. stem:
# files whose names differ in the number at their end alone, which are frames of one video. file: nothing.
By = Literal["auto", "stem", "file"]


def absent_split(rows: pd.DataFrame, split: str) -> str:
    """Why a table of crops has none to train on, or to select by, and how it gets some.

    Args:
        rows: with ``label``, missing where nobody knows it, and ``split``.
        split: the one that no row belongs to.
    """
    if len(rows) and not rows["label"].notna().any():
        return f"none of the {len(rows)} crops has a label; {LABELS_NEEDED}"
    found = ", ".join(sorted(rows["split"].unique())) or "none"
    return (
        f"no crop belongs to the split {split!r}; the faces table has {found}. Training needs train and val: "
        "`unmasked scan … split_seed=0` makes both, then `unmasked preprocess` again"
        + (", or set some of train aside with data.val_from_train=0.1" if split == "val" else "")
    )


@dataclass(frozen=True)
class SplitPlan:
    """How to split: shares of train, val and test, the seed, and what stays together."""

    fractions: tuple[float, float, float] = FRACTIONS
    seed: int = 0
    by: By = "auto"

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise InputError(f"split_by={self.by} is unknown; it is one of {', '.join(get_args(By))}")
        shares = self.fractions
        if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise InputError(
                f"split_fractions={list(shares)} cannot be used; give the shares of train, val and test, "
                f"none negative, with the sum 1, as split_fractions={list(FRACTIONS)}"
            )


def assign(manifest: pd.DataFrame, plan: SplitPlan) -> pd.Series:
    """The split of each row, missing for a fake whose two people fall in different splits.

    It depends on the rows' names and the plan alone, not on their order. No person, and no video with the
    fakes made of it, is in two splits.

    Args:
        manifest: rows of one dataset; read are video, label, identity, source_video and target_video.
        plan: shares and seed. A split with a share gets at least one group where there are enough.
    """
    own, other, names = _people(_concat_tables(manifest, plan.by))
    links = coo_array((np.ones(len(own)), (own, other)), shape=(len(names), len(names)))
    component = connected_components(links, directed=False)[1]
    largest = np.bincount(component[own]).max() / len(own) if len(own) else 0.0
    unit = np.arange(len(names)) if largest > max(plan.fractions) + OVERFLOW else component
    split_of = _divide_units(_units(unit, own, manifest["label"].to_numpy() == 1, names), plan)
    first, second = split_of[unit[own]], split_of[unit[other]]
    words = np.array([*SPLITS, None], dtype=object)
    return pd.Series(words[np.where(first == second, first, len(SPLITS))], manifest.index, TEXT)


def frozen_split(
    manifest: pd.DataFrame, dataset: str, plan: SplitPlan | None, path: Path | None, notes: list[str]
) -> pd.Series:
    """The split of each row as the file has it.

    If the file has none for the dataset, a new one, saved there.

    Args:
        manifest: all rows of one dataset that no official split covers.
        dataset: the name that the split is kept under.
        plan: shares and seed; None takes those of the file, or the default ones.
        path: the JSON file; None neither reads nor saves.
        notes: where sentences about the split are appended.

    Raises:
        InputError: the file is damaged, holds a split of another plan, or the dataset has gained videos
            since: it is never split again without being asked.
    """
    kept = read(path).get(dataset) if path else None
    if kept is None:
        plan = plan or SplitPlan()
        splits = assign(manifest, plan)
        if path:
            _save(path, dataset, plan, manifest["video"], splits)
        _describe(manifest, splits, plan, path, notes)
        return splits
    assert path is not None
    frozen_plan = SplitPlan(tuple(kept["fractions"]), kept["seed"], kept.get("by", "auto"))
    if plan is not None and plan != frozen_plan:
        raise InputError(
            f"{path} holds a split of {dataset} with seed {frozen_plan.seed} and shares "
            f"{list(frozen_plan.fractions)} by {frozen_plan.by}, asked for are seed {plan.seed} and "
            f"{list(plan.fractions)} by {plan.by}; "
            "leave split_seed and split_fractions out to use it, or move the file away to split again"
        )
    split_of = {video: split for split, videos in kept["videos"].items() for video in videos}
    if new := [video for video in manifest["video"] if video not in split_of]:
        raise InputError(
            f"{dataset} has changed since it was split: {len(new)} videos are not in {path} "
            f"({first_names(new)}); remove them, or move the file away to split again, which changes what is "
            "training and what is test"
        )
    if gone := sorted(set(split_of) - set(manifest["video"])):
        notes.append(f"in the frozen split {path} but not there: {len(gone)} ({first_names(gone)})")
    splits = manifest["video"].map({video: split for video, split in split_of.items() if split in SPLITS})
    splits = splits.astype(TEXT)
    _describe(manifest, splits, frozen_plan, path, notes)
    return splits


def read(path: Path) -> dict[str, Any]:
    """The frozen splits of a file by dataset; none if the file is absent.

    Raises:
        InputError: the file was written by something else, or changed by hand.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        datasets = content["datasets"]
        intact = all(kept["sha256"] == _digest(kept["videos"]) for kept in datasets.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a file of frozen splits ({error}); move it away, or give another out="
        ) from error
    if content.get("format") != FORMAT or not intact:
        raise InputError(
            f"{path} does not match its own hash: it was changed by hand or damaged; restore it, or move it "
            "away to split again"
        )
    return datasets


def _concat_tables(manifest: pd.DataFrame, by: By) -> pd.DataFrame:
    """The manifest with an identity for what is to stay together, where that is not who is shown."""
    if by == "auto":
        return manifest
    unknown = pd.Series(np.nan, manifest.index, TEXT)
    names = video_stems(manifest["video"]) if by == "stem" else manifest["video"]
    return manifest.assign(identity=names.astype(TEXT), source_video=unknown, target_video=unknown)


def _people(manifest: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """The person of each row, the other person of a swap (the same one where there is none), and all names.

    Where nobody is named, the video that a fake was made of identifies the person in it.
    """
    video, identity = manifest["video"].astype(TEXT), manifest["identity"].astype(TEXT)
    stem = video.str.rsplit("/", n=1).str[-1]
    source, target = manifest["source_video"].astype(TEXT), manifest["target_video"].astype(TEXT)
    made_of = pd.concat([source, target]).dropna().unique()
    # The whole name keeps equally named files of two folders apart, unless a fake was made of that name.
    own = identity.fillna(target).fillna(stem.where(stem.isin(made_of), video))
    person_of = pd.Series(own.to_numpy(), index=stem.to_numpy())
    person_of = person_of[(manifest["label"] == 0).to_numpy() & ~person_of.index.duplicated()]
    known = set(own)
    # The source of a swap is a person by name, or a real video whose person is known.
    other = source.where(source.isin(known), source.map(person_of.to_dict()).astype(TEXT))
    other = other.fillna(source).fillna(own)
    codes, names = pd.factorize(pd.concat([own, other], ignore_index=True))
    return codes[: len(own)], codes[len(own) :], list(names)


@dataclass(frozen=True)
class _Units:
    """What is divided: a name, and the numbers of rows and of fakes among them."""

    names: list[str]
    rows: NDArray[np.int64]
    fakes: NDArray[np.int64]


def _units(
    unit: NDArray[np.int64], own: NDArray[np.int64], is_fake: NDArray[np.bool_], names: Sequence[str]
) -> _Units:
    count = int(unit.max()) + 1 if len(unit) else 0
    # Named after the first of its names in the alphabet, so that the order of the rows does not matter.
    order = np.argsort(np.array(names, dtype=object), kind="stable")
    first = order[np.unique(unit[order], return_index=True)[1]]
    return _Units(
        [names[position] for position in first],
        np.bincount(unit[own], minlength=count),
        np.bincount(unit[own], weights=is_fake, minlength=count).astype(np.int64),
    )


def _divide_units(units: _Units, plan: SplitPlan) -> NDArray[np.int64]:
    """The split of each unit; those with reals only, fakes only and both are divided by themselves."""
    split_of = np.full(len(units.names), SPLITS.index("train"))
    drawn = np.array(
        [hashlib.blake2b(f"{plan.seed}\0{name}".encode(), digest_size=8).digest() for name in units.names]
    )
    kind = 2 * (units.fakes > 0) + (units.fakes < units.rows)
    for wanted in np.unique(kind):
        members = np.flatnonzero(kind == wanted)
        order = np.lexsort((drawn[members], -units.rows[members]))
        _fill(split_of, members[order], units.rows, plan.fractions)
    return split_of


def _fill(
    split_of: NDArray[np.int64],
    members: NDArray[np.int64],
    rows: NDArray[np.int64],
    fractions: tuple[float, float, float],
) -> None:
    """Gives each member, large ones first, to the split that lacks most; the last ones to empty splits."""
    lacking = [share * float(rows[members].sum()) for share in fractions]
    empty = {split for split, share in enumerate(fractions) if share > 0}
    for left, member in zip(range(len(members), 0, -1), members.tolist(), strict=True):
        choice = (
            sorted(empty) if left <= len(empty) else [s for s, share in enumerate(fractions) if share > 0]
        )
        split = max(choice, key=lacking.__getitem__)
        split_of[member] = split
        lacking[split] -= float(rows[member])
        empty.discard(split)


def _save(path: Path, dataset: str, plan: SplitPlan, video: pd.Series, splits: pd.Series) -> None:
    """Adds a dataset's split to the file."""
    groups = splits.fillna("left_out")
    videos = {name: sorted(video[groups == name]) for name in (*SPLITS, "left_out")}
    kept = {
        "seed": plan.seed,
        "fractions": list(plan.fractions),
        "by": plan.by,
        "sha256": _digest(videos),
        "videos": videos,
    }
    write_json(path, {"format": FORMAT, "datasets": {**read(path), dataset: kept}})


def _digest(videos: dict[str, list[str]]) -> str:
    """SHA-256 of which video is in which split."""
    text = json.dumps(videos, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _describe(
    manifest: pd.DataFrame, splits: pd.Series, plan: SplitPlan, path: Path | None, notes: list[str]
) -> None:
    counts = ", ".join(f"{split} {int((splits == split).sum())}" for split in SPLITS)
    where = f", frozen in {os.fspath(path)}" if path else ""
    what, risk = _kept_together(manifest, plan.by)
    notes.append(f"split by {what}, seed {plan.seed}: {counts}{where}{risk}")
    if left := int(splits.isna().sum()):
        notes.append(f"fakes of two people from different splits, left out: {left}")


def _kept_together(manifest: pd.DataFrame, by: By) -> tuple[str, str]:
    """What a split keeps on one side, and in words what it therefore risks."""
    risk = "one person can be in several splits, and results on them be too good"
    if by == "stem":
        count = video_stems(manifest["video"]).nunique()
        return f"numbered stem ({count} of them)", f". Who is shown was not looked at: {risk}"
    if by == "file":
        return "file", f". Who is shown was not looked at: {risk}"
    known = manifest["identity"].notna()
    if known.all() and len(known):
        return "person", ""
    whole = f"who is shown is not known in {int((~known).sum())} of {len(known)} rows"
    tied = manifest["target_video"].notna() | manifest["source_video"].notna()
    if known.any():
        return "person where known, else by file", f". {whole}: {risk}"
    if tied.any():
        return "source video", f". Nobody is known: {risk}"
    frames = frames_as_videos(manifest["path"], manifest["label"])
    way_out = "; split_by=stem keeps frames of one name together" if frames else ""
    return "file", f". Nobody is known: one person or video can be in several splits{way_out}"
