"""Demographic annotations: read by a code book, and joined to the videos of a manifest.

Attributes come from annotation files only; none is ever guessed from a face. What an annotation does not
say, or says in conflict with itself, is missing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unmasked.datasets.codebooks import (
    CodeBook,
    age_group,
    check_codes,
    decode,
    decode_attributes,
    find_column,
    load_codebook,
    skin_tone_group,
)
from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import DEMOGRAPHICS
from unmasked.datasets.tables import TEXT, read_frame

__all__ = ["JoinReport", "age_group", "join", "read_annotations", "skin_tone_group", "video_keys"]

POLICIES = ("majority", "drop")

# Where the layouts that per-frame annotations speak of keep a video, on its path without suffix.
LAYOUT_KEYS = (
    r"(?:^|/)(?:original|manipulated)_sequences/(?P<folder>[^/]+)/[^/]+/videos/(?P<video>[^/]+)$",
    r"(?:^|/)(?P<folder>Celeb-real|Celeb-synthesis|YouTube-real)/(?:videos/)?(?P<video>[^/]+)$",
)


@dataclass(frozen=True)
class JoinReport:
    """What a join of annotations to a manifest found. All are counts; of manifest rows where not said."""

    rows: int
    matched: int  # rows whose video is annotated
    unused: int  # annotated videos that are not in the manifest
    duplicated: int  # annotation rows that repeat an earlier one
    conflicts: dict[str, int]  # attribute -> annotated videos whose frames disagree on it
    undecided: dict[str, int]  # attribute -> those left missing, by the policy or for want of a majority
    label_disagreements: int  # rows whose label is not the annotation's
    policy: str

    @property
    def unmatched(self) -> int:
        """Manifest rows whose video is not annotated."""
        return self.rows - self.matched

    def __str__(self) -> str:
        text = f"{self.matched} of {self.rows} videos annotated, {self.unmatched} not"
        if self.unused:
            text += f"; annotated but not in the manifest: {self.unused}"
        if self.duplicated:
            text += f"; annotation rows that repeat another: {self.duplicated}"
        for attribute, count in self.conflicts.items():
            if count:
                text += f"; videos whose frames disagree on {attribute}: {count}"
                text += f" ({self.undecided[attribute]} left missing, policy {self.policy})"
        if self.label_disagreements:
            text += f"; videos with another label there, the manifest's kept: {self.label_disagreements}"
        return text


def read_annotations(path: str | os.PathLike[str], codebook: str | CodeBook = "ai_face_v2") -> pd.DataFrame:
    """Annotations in words: columns key, path, label, gender, age, skin_tone, race, annotation.

    ``key`` names the video that a frame is of, in the terms of `video_keys`; ``label`` is NaN where the file
    has none. One row for each row of the file.

    Args:
        path: a ``.csv`` or ``.parquet`` file.
        codebook: a name in ``configs/annotations``, the path of a YAML file, or a code book.

    Raises:
        InputError: the file lacks a column the code book names, holds a code that it does not list, or
            contradicts itself (an intersection code that disagrees with gender and tone).
    """
    book = codebook if isinstance(codebook, CodeBook) else load_codebook(codebook)
    origin = f"annotations {path}"
    table = read_frame(path, text=book.path)
    where = find_column(table, book.path)
    attributes = [name for name, coding in book.attributes.items() if find_column(table, coding.columns)]
    if where is None or not attributes:
        lacks = f"no column {book.path[0]!r}" if where is None else f"none of the columns of {book.name}"
        raise InputError(
            f"{origin} has {lacks}; it has {', '.join(map(str, table.columns))}. "
            f"Choose the code book of the file's version with codebook=…"
        )
    paths = normalised_paths(table[where].astype(TEXT))
    decoded = decode_attributes(table, book, origin)
    check_codes(table, decoded, book, origin)
    keys = keys_by_pattern(paths, (*book.video_key, *LAYOUT_KEYS))
    dataset = find_column(table, book.dataset)
    if dataset is not None:
        named = table[dataset].astype(TEXT)
        keys = (named + ":" + keys).where(named.notna(), keys)
    label = find_column(table, book.label.columns) if book.label else None
    labels = decode(table[label], book.label, book.name, origin) if label and book.label else np.nan
    result = pd.DataFrame({"key": keys, "path": paths, "label": labels}).astype({"label": "float64"})
    return pd.concat([result, decoded], axis=1).assign(
        annotation=pd.Series(book.name, table.index, dtype=TEXT)
    )


def join(
    manifest: pd.DataFrame, annotations: pd.DataFrame, *, policy: str = "majority"
) -> tuple[pd.DataFrame, JoinReport]:
    """The manifest with the annotations of its videos, and a report of what matched.

    Values the manifest has already stay where the annotations say nothing.

    Args:
        manifest: a valid manifest.
        annotations: what `read_annotations` gives, a row a frame or a row a video.
        policy: what becomes of an attribute on which the frames of a video disagree: ``majority`` takes the
            most frequent value (missing on a tie), ``drop`` leaves it missing.

    Raises:
        InputError: the policy is unknown, or not one video matches.
    """
    if policy not in POLICIES:
        raise InputError(f"policy {policy!r} is unknown; it is one of {', '.join(POLICIES)}")
    votes = annotations[annotations["key"].notna()].drop_duplicates(["key", "path", *DEMOGRAPHICS])
    videos, conflicts, undecided = _by_video(votes, policy)
    position = _positions(manifest, videos.index)
    matched = position >= 0
    if not matched.any():
        raise InputError(_no_match_message(manifest, annotations))
    result = manifest.copy()
    found = videos.take(position[matched]).set_index(manifest.index[matched])
    for attribute in DEMOGRAPHICS:
        said = found[attribute].reindex(manifest.index)
        result[attribute] = said.where(said.notna(), manifest[attribute]) if attribute in manifest else said
    result["annotation"] = _annotation(result, found)
    report = JoinReport(
        rows=len(manifest),
        matched=int(matched.sum()),
        unused=len(videos) - len(np.unique(position[matched])),
        duplicated=int(annotations.duplicated(["key", "path"]).sum()),
        conflicts=conflicts,
        undecided=undecided,
        label_disagreements=_label_disagreements(manifest, votes, position, videos.index),
        policy=policy,
    )
    return result, report


def video_keys(manifest: pd.DataFrame) -> pd.Series:
    """The name under which annotations know each video, as ``youtube/186`` or ``celeb-real/id0_0001``.

    It is the same for every compression of a video. Videos of other layouts keep their own name.
    """
    return keys_by_pattern(manifest["video"].astype(TEXT), LAYOUT_KEYS, suffix=False)


def keys_by_pattern(paths: pd.Series, patterns: Sequence[str], *, suffix: bool = True) -> pd.Series:
    """``<folder in lower case>/<video>`` by the first pattern that matches, else the path without suffix."""
    stems = paths.str.replace(r"\.[A-Za-z0-9]{2,5}$", "", regex=True) if suffix else paths
    keys = pd.Series(pd.NA, index=paths.index, dtype=TEXT)
    for pattern in patterns:
        open_rows = keys.isna()
        if not open_rows.any():
            break
        parts = stems[open_rows].str.extract(f"(?i:{pattern})")
        keys = keys.fillna((parts["folder"].str.lower() + "/" + parts["video"]).astype(TEXT))
    return keys.fillna(stems)


def normalised_paths(paths: pd.Series) -> pd.Series:
    """Paths with ``/`` between their parts and no leading ``./`` or ``../``."""
    return paths.str.replace("\\", "/", regex=False).str.replace(r"^(?:\.{1,2}/+)+", "", regex=True)


def _by_video(votes: pd.DataFrame, policy: str) -> tuple[pd.DataFrame, dict[str, int], dict[str, int]]:
    """One row a key, with the attributes decided; conflicts and undecided videos by attribute."""
    code, keys = pd.factorize(votes["key"])
    videos = pd.DataFrame(index=pd.Index(keys, name="key"))
    conflicts, undecided = {}, {}
    for attribute in DEMOGRAPHICS:
        cast = pd.DataFrame({"video": code, "value": votes[attribute].to_numpy()}).dropna()
        counts = cast.groupby(["video", "value"], sort=False).size().rename("n").reset_index()
        in_conflict = counts.duplicated("video", keep=False)
        conflicts[attribute] = int(counts.loc[in_conflict, "video"].nunique())
        leading = counts[counts["n"] == counts.groupby("video")["n"].transform("max")]
        decided = (
            counts[~in_conflict] if policy == "drop" else leading[~leading.duplicated("video", keep=False)]
        )
        undecided[attribute] = counts["video"].nunique() - len(decided)
        values = decided.set_index("video")["value"].reindex(range(len(keys)))
        videos[attribute] = values.astype(votes[attribute].dtype).set_axis(videos.index)
    first = votes.drop_duplicates("key").set_index("key")["annotation"]
    videos["annotation"] = first.reindex(videos.index)
    return videos, conflicts, undecided


def _positions(manifest: pd.DataFrame, keys: pd.Index) -> np.ndarray:
    """(N,) row of ``keys`` for each manifest row, by layout key, video name or path; -1 where none fits."""
    names = [video_keys(manifest), manifest["video"], manifest["path"]]
    names += [manifest["dataset"] + ":" + name for name in names]
    position = np.full(len(manifest), -1)
    for name in reversed(names):  # an annotation that names the dataset comes before one that does not
        stem = name.str.replace(r"\.[A-Za-z0-9]{2,5}$", "", regex=True) if name is manifest["path"] else name
        here = keys.get_indexer(pd.Index(stem))
        position = np.where(position < 0, here, position)
    return position


def _annotation(result: pd.DataFrame, found: pd.DataFrame) -> pd.Series:
    """Which annotation spoke of each row: the one before, the new one, or both."""
    spoken = found["annotation"].where(found[list(DEMOGRAPHICS)].notna().any(axis=1)).reindex(result.index)
    before = result["annotation"] if "annotation" in result else pd.Series(np.nan, result.index, dtype=TEXT)
    both = spoken.notna() & before.notna() & (spoken != before)
    return spoken.fillna(before).mask(both, before + " + " + spoken)


def _label_disagreements(
    manifest: pd.DataFrame, votes: pd.DataFrame, position: np.ndarray, keys: pd.Index
) -> int:
    stated = votes.dropna(subset=["label"]).groupby("key")["label"].agg(["min", "max"]).reindex(keys)
    matched = position >= 0
    label = manifest["label"].to_numpy()[matched]
    low, high = (stated[column].to_numpy()[position[matched]] for column in ("min", "max"))
    return int(((~np.isnan(low)) & ((low != label) | (high != label))).sum())


def _no_match_message(manifest: pd.DataFrame, annotations: pd.DataFrame) -> str:
    if manifest.empty or annotations.empty:
        return "there is nothing to join: the manifest or the annotation file has no row"
    return (
        f"none of the {annotations['key'].nunique()} annotated videos is in the manifest: the annotations "
        f"have {annotations['key'].iloc[0]!r}, the manifest has {video_keys(manifest).iloc[0]!r}; "
        "give the annotations of this dataset"
    )
