"""DeeperForensics-1.0: 1,000 face swaps of paid actors, in eleven variants.

The actors' faces are put into videos of FaceForensics++.
Paper: Jiang et al., "DeeperForensics-1.0: A Large-Scale Dataset for Real-World Face Forgery Detection",
CVPR 2020. Licence: the DeeperForensics-1.0 terms of use; non-commercial research, on request.

    <root>/
        lists/splits/{train,val,test}.txt                    a name a line: <target>_<actor>.mp4
        manipulated_videos/<variant>/<target>_<actor>.mp4    the actor's face in FF++ video <target>
        source_videos/<actor>/…/<actor>_light_….mp4          48,475 recordings of the 100 actors

Variants: end_to_end, end_to_end_level_1 … 5, end_to_end_random_level, end_to_end_mix_2 … 4_distortions and
reenact_postprocess, 1,000 videos each, all of the same 1,000 swaps; ``end_to_end`` is read unless others are
asked for. **The set has no real part of its own**: the recordings are not it, as its README says, but the
target videos, available from FaceForensics++ (c23): ``targets=<its folder>`` adds them, each in the split of
its swap. The split is by actor (703, 96 and 201 swaps; the README's "21" is a slip, for they are 1,000).
Actors are called M… and W… for men and women, and faces were swapped within a gender, so the README gives
``gender`` for the targets as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import (
    SUFFIX,
    VIDEO_SUFFIXES,
    Count,
    as_manifest,
    count_by,
    first_names,
    list_files,
)
from unmasked.datasets.manifest import SPLITS
from unmasked.datasets.tables import TEXT

NAME = "DeeperForensics-1.0"
PAPER = "https://arxiv.org/abs/2001.03024"
LICENCE = "DeeperForensics-1.0 terms of use (non-commercial research)"
REQUEST = "https://github.com/EndlessSora/DeeperForensics-1.0"
LAYOUT = "manipulated_videos/<variant> and lists/splits/{train,val,test}.txt"

VARIANTS = (
    "end_to_end",
    *(f"end_to_end_level_{level}" for level in range(1, 6)),
    "end_to_end_random_level",
    *(f"end_to_end_mix_{count}_distortions" for count in range(2, 5)),
    "reenact_postprocess",
)
OFFICIAL = {"train": 703, "val": 96, "test": 201}  # of each variant, and of the targets
_TARGETS = "original_sequences/youtube/c23/videos"
_NAME = r"^(?P<target>\d{3})_(?P<actor>(?P<sex>[MW])\d{3})$"


def matches(root: Path) -> bool:
    """True if the folder holds manipulated videos in variants of this set."""
    return any((root / "manipulated_videos" / name).is_dir() for name in VARIANTS)


def scan(
    root: Path,
    *,
    variants: Sequence[str] | str = ("end_to_end",),
    targets: str | Path = "",
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """The manifest of the swaps, and of their targets where these are given.

    Args:
        root: the folder with ``manipulated_videos``.
        variants: folders of ``manipulated_videos`` to read; ``all`` is all eleven.
        targets: folder of FaceForensics++ with its c23 originals, or these themselves; none if empty.
        notes: where sentences about missing and left-out videos are appended.

    Raises:
        InputError: a variant is unknown, a split list is absent or overlaps another, there is no video, or no
            target is where it was said to be.
    """
    notes = [] if notes is None else notes
    names = (variants,) if isinstance(variants, str) else tuple(variants)
    names = VARIANTS if "all" in names else names
    if unknown := [name for name in names if name not in VARIANTS]:
        raise InputError(f"variant {unknown[0]!r} is not one of {NAME}; it has all, {', '.join(VARIANTS)}")
    splits = read_splits(root)
    fakes = _fakes(root, names)
    if fakes.empty:
        raise InputError(
            f"{root} has no video in manipulated_videos of {', '.join(names)}; available from {REQUEST}"
        )
    fakes["split"] = fakes["stem"].map(splits)
    _report(root, fakes, splits, names, notes)
    manifest = as_manifest(_rows(fakes.dropna(subset=["split"])), NAME, root)
    if not str(targets):
        notes.append(
            "there is no real video; targets=<folder of FaceForensics++> adds the targets of the swaps"
        )
        return manifest
    return pd.concat([manifest, _targets(Path(targets), splits, notes)], ignore_index=True)


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Videos found by variant (or target) and split, against the official number of each."""
    folder = manifest["method"].where(manifest["label"] == 1, "target")
    present = [name for name in (*VARIANTS, "target") if (folder == name).any()]
    official = {f"{name} {split}": OFFICIAL[split] for name in present for split in SPLITS}
    return count_by(folder + " " + manifest["split"], official)


def read_splits(root: Path) -> dict[str, str]:
    """The official split of each swap: ``<target>_<actor>`` -> split.

    Raises:
        InputError: a list is absent, or a swap is in two of them.
    """
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = root / "lists" / "splits" / f"{split}.txt"
        if not path.is_file():
            raise InputError(
                f"{path} is not there, which says what is {split}; it comes with the set: {REQUEST}"
            )
        for line in path.read_text(encoding="utf-8-sig").split():
            name = line.rsplit("/", 1)[-1].rsplit(".", 1)[0]
            if split_of.setdefault(name, split) != split:
                raise InputError(
                    f"{path}: {name} is in {split_of[name]}.txt as well; restore the original files"
                )
    return split_of


def _fakes(root: Path, variants: Sequence[str]) -> pd.DataFrame:
    rows = [
        (f"manipulated_videos/{variant}/{name}", variant)
        for variant in variants
        for name in list_files(root / "manipulated_videos" / variant, VIDEO_SUFFIXES)
    ]
    fakes = pd.DataFrame(rows, columns=["path", "method"], dtype=TEXT)
    fakes["stem"] = fakes["path"].str.rsplit("/", n=1).str[-1].str.replace(SUFFIX, "", regex=True)
    return fakes


def _rows(fakes: pd.DataFrame) -> pd.DataFrame:
    parts = fakes["stem"].str.extract(_NAME).astype(TEXT)
    gender = parts["sex"].map({"M": "male", "W": "female"})
    return fakes.drop(columns="stem").assign(
        kind="video",
        label=1,
        identity=parts["target"],
        source_video=parts["actor"],  # the actor; which of the recordings is not recorded
        target_video=parts["target"],
        gender=gender,
        annotation=pd.Series(NAME, fakes.index, TEXT).where(gender.notna()),
    )


def _targets(folder: Path, splits: dict[str, str], notes: list[str]) -> pd.DataFrame:
    """The real videos that the swaps were made of."""
    place = folder / _TARGETS if (folder / _TARGETS).is_dir() else folder
    swap_of = {name[:3]: name for name in splits}
    names = pd.Series(list_files(place, VIDEO_SUFFIXES), dtype=TEXT)
    stem = names.str.replace(SUFFIX, "", regex=True)
    names, stem = names[stem.isin(list(swap_of))], stem[stem.isin(list(swap_of))]
    if names.empty:
        raise InputError(
            f"targets={folder} holds no target of a swap; give the folder of FaceForensics++, with {_TARGETS}"
        )
    if absent := sorted(set(swap_of) - set(stem)):
        notes.append(f"targets that are not there: {len(absent)} ({first_names(absent)})")
    swap = stem.map(swap_of)
    gender = swap.str.extract(_NAME)["sex"].map({"M": "male", "W": "female"})
    rows = pd.DataFrame({"path": names, "kind": "video", "label": 0, "method": "real", "identity": stem})
    rows = rows.assign(video="targets/" + stem, split=swap.map(splits), compression="c23", gender=gender)
    return as_manifest(
        rows.assign(annotation=pd.Series(NAME, rows.index, TEXT).where(gender.notna())), NAME, place
    )


def _report(
    root: Path, fakes: pd.DataFrame, splits: dict[str, str], variants: Sequence[str], notes: list[str]
) -> None:
    for variant in variants:
        stems = fakes.loc[fakes["method"] == variant, "stem"]
        if outside := sorted(set(stems) - set(splits)):
            notes.append(f"{variant}, in no split list and left out: {len(outside)} ({first_names(outside)})")
        if absent := sorted(set(splits) - set(stems)):
            notes.append(f"{variant}, in a split list but not there: {len(absent)} ({first_names(absent)})")
    others = [
        name for name in VARIANTS if name not in variants and (root / "manipulated_videos" / name).is_dir()
    ]
    if others:
        notes.append(f"variants that are there and left out: {', '.join(others)}; variants=[all] reads them")
    if (root / "source_videos").is_dir():
        notes.append("source_videos is there and left out: recordings of the actors, not the real part")
