"""Demographic annotations joined to the videos, images, faces or scores of a table.

Attributes come from annotation files only (`unmasked.datasets.annotations` reads them); none is ever guessed
from a face. What an annotation does not say, or says in conflict with itself, is missing.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from unmasked.datasets.errors import InputError
from unmasked.datasets.join_report import Found, JoinReport, findings
from unmasked.datasets.manifest import DEMOGRAPHICS
from unmasked.datasets.path_matching import match_paths, position_in
from unmasked.datasets.tables import TEXT
from unmasked.datasets.video_keys import as_arrow, stems, video_keys
from unmasked.datasets.votes import decided

POLICIES = ("majority", "frame", "drop")
# Annotations speak of every tenth frame; between two of them the nearer one is at most this far.
FRAMES_APART = 5


def join(
    table: pd.DataFrame, annotations: pd.DataFrame, *, policy: str = "majority"
) -> tuple[pd.DataFrame, JoinReport]:
    """The table with the annotations of its rows in gender, age, skin_tone, race and annotation; a report.

    Rows are found by path (without suffix, from whichever folder either side starts), by the layout's name of
    the video, or by ``video`` or ``path`` as they are. Number and order of rows stay. Values that the table
    has stay where the annotations say nothing; where they say otherwise they count, and the report says how
    often.

    Args:
        table: a manifest; or a faces or predictions table, of which dataset and video are enough.
        annotations: what `read_annotations` gives, a row a frame or a row a video.
        policy: what becomes of an attribute on which the frames of a video disagree. ``majority`` gives the
            video, its frames and crops the most frequent value (missing on a tie). ``frame`` gives each frame
            its own, an image by its path, a row of faces or predictions by its frame's number (the nearest
            annotated one, at most FRAMES_APART away), and leaves it missing for videos. ``drop`` leaves it
            missing everywhere.

    Raises:
        InputError: the policy is unknown, the table has no column dataset or video, or not one row matches.
    """
    _check(table, annotations, policy)
    number, keys = pd.factorize(_qualified(annotations))
    found = _found(table, annotations, number, keys)
    if not (found.video >= 0).any():
        raise InputError(_no_match_message(table, annotations))
    repeats = annotations.duplicated(["dataset", "key", "path", *DEMOGRAPHICS]).to_numpy()
    votes = annotations[~repeats]
    videos = decided(votes, number[~repeats], len(keys), by_majority=policy == "majority")
    said = _taken(videos.values, found.video, table.index)
    of_frame = np.full(len(table), -1)
    if policy == "frame":
        of_frame = _nearest_frames(table, annotations, number, found)
        own = np.where(found.row >= 0, found.row, of_frame)
        path, paths = pd.factorize(annotations["path"])
        frames = decided(votes, path[~repeats], len(paths), by_majority=False)
        of_own = _taken(frames.values, np.where(own >= 0, path[own], -1), table.index)
        said = of_own.where(np.repeat(own[:, None] >= 0, said.shape[1], axis=1), said)
    result, replaced = _put(table, said)
    report = JoinReport(
        rows=len(table),
        matched=int((found.video >= 0).sum()),
        by_path=int((found.row >= 0).sum()),
        by_frame=int((of_frame >= 0).sum()),
        annotated=len(keys),
        conflicts=videos.conflicts,
        undecided=videos.undecided,
        replaced=replaced,
        policy=policy,
        findings=findings(table, annotations, number, videos, found),
    )
    return result, report


def _check(table: pd.DataFrame, annotations: pd.DataFrame, policy: str) -> None:
    if policy not in POLICIES:
        raise InputError(f"policy {policy!r} is unknown; it is one of {', '.join(POLICIES)}")
    lacking = [name for name in ("dataset", "video") if name not in table]
    if lacking:
        raise InputError(
            f"the table has no column {' and '.join(map(repr, lacking))}; it has {', '.join(table)}. "
            "Annotations are joined to a manifest, faces or predictions, which have both"
        )
    if table.empty or annotations.empty:
        raise InputError("there is nothing to join: the table or the annotation file has no row")


def _qualified(annotations: pd.DataFrame) -> pd.Series:
    """The video of each row, with its dataset where one is named; missing where the path is."""
    named = annotations["dataset"].notna()
    if not named.any():
        return annotations["key"]
    return annotations["key"].mask(named, annotations["dataset"] + ":" + annotations["key"])


def _found(table: pd.DataFrame, annotations: pd.DataFrame, number: np.ndarray, keys: pd.Index) -> Found:
    """Each row's annotation, by path, and its annotated video."""
    row, video = np.full(len(table), -1), np.full(len(table), -1)
    videos = table["video"].astype(TEXT)
    files = stems(table["path"].astype(TEXT)) if "path" in table else videos
    layout = video_keys(videos)
    annotated_files, annotated_keys = as_arrow(stems(annotations["path"])), as_arrow(pd.Series(keys))
    for dataset, here in table.groupby("dataset", sort=False).indices.items():
        order = _of_dataset(annotations["dataset"], str(dataset))
        by_path = match_paths(as_arrow(files.iloc[here]), annotated_files.take(pa.array(order)))
        row[here] = np.where(by_path >= 0, order[by_path], -1) if len(order) else -1
        names = [name.iloc[here] for name in (layout, videos, files)]
        prefixes = (f"{dataset}:", "") if annotations["dataset"].notna().any() else ("",)
        video[here] = _first_known(names, prefixes, annotated_keys)
    # Below other folders, the same name is another video's where the layout says which video it is.
    elsewhere = np.flatnonzero((row >= 0) & (number[row] != video) & (layout != videos).to_numpy())
    same = pc.equal(as_arrow(files.iloc[elsewhere]), annotated_files.take(pa.array(row[elsewhere])))
    row[elsewhere[~np.asarray(same)]] = -1
    return Found(row, np.where(row >= 0, number[row], video))


def _of_dataset(named: pd.Series, dataset: str) -> np.ndarray:
    """The rows that name the dataset, then those that name none."""
    return np.concatenate([np.flatnonzero(named == dataset), np.flatnonzero(named.isna())])


def _first_known(names: list[pd.Series], prefixes: tuple[str, ...], known: pa.Array) -> np.ndarray:
    """(N,) the position among the known of each row's first name that is there, -1 where none is."""
    position = np.full(len(names[0]), -1)
    for prefix in prefixes:
        for name in names:
            open_rows = np.flatnonzero(position < 0)
            if len(open_rows):
                position[open_rows] = position_in(as_arrow(prefix + name.iloc[open_rows]), known)
    return position


def _nearest_frames(
    table: pd.DataFrame, annotations: pd.DataFrame, number: np.ndarray, found: Found
) -> np.ndarray:
    """(N,) the annotation row of the nearest frame of the same video; -1 where none is near, or there is no
    frame to go by, or the row was found by its path."""
    nearest = np.full(len(table), -1)
    numbered = np.flatnonzero((annotations["frame"] >= 0).to_numpy() & (number >= 0))
    if "frame" not in table or not len(numbered):
        return nearest
    wanted = table["frame"].to_numpy(dtype="int64")
    asked = np.flatnonzero((found.video >= 0) & (found.row < 0) & (wanted >= 0))
    # Videos side by side on one line of frames, so far apart that no frame is near another video's.
    apart = int(max(annotations["frame"].max(), wanted.max())) + 2 * FRAMES_APART + 1
    place = number[numbered] * apart + annotations["frame"].to_numpy()[numbered]
    order = np.argsort(place, kind="stable")
    place, numbered = place[order], numbered[order]
    target = found.video[asked] * apart + wanted[asked]
    after = np.searchsorted(place, target).clip(max=len(place) - 1)
    before = (after - 1).clip(min=0)
    closer = np.where(np.abs(place[before] - target) <= np.abs(place[after] - target), before, after)
    near = np.abs(place[closer] - target) <= FRAMES_APART
    nearest[asked[near]] = numbered[closer[near]]
    return nearest


def _taken(values: pd.DataFrame, position: np.ndarray, index: pd.Index) -> pd.DataFrame:
    """The values at each position, missing where it is -1."""
    return values.reindex(position).set_axis(index)


def _put(table: pd.DataFrame, said: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The table with what the annotations say, and by attribute how many rows said otherwise before."""
    result, replaced = table.copy(), {}
    for attribute in DEMOGRAPHICS:
        before = (
            table[attribute]
            if attribute in table
            else pd.Series(np.nan, table.index).astype(said[attribute].dtype)
        )
        replaced[attribute] = int(
            (said[attribute].notna() & before.notna() & (said[attribute] != before)).sum()
        )
        result[attribute] = said[attribute].where(said[attribute].notna(), before)
    spoken = said["annotation"].where(said[list(DEMOGRAPHICS)].notna().any(axis=1))
    before = table["annotation"] if "annotation" in table else pd.Series(np.nan, table.index, dtype=TEXT)
    both = spoken.notna() & before.notna() & (spoken != before)
    result["annotation"] = spoken.fillna(before).mask(both, before + " + " + spoken)
    return result, replaced


def _no_match_message(table: pd.DataFrame, annotations: pd.DataFrame) -> str:
    return (
        f"none of the {annotations['key'].nunique()} annotated videos is in the table: the annotations "
        f"have {annotations['key'].iloc[0]!r}, the table has {video_keys(table['video']).iloc[0]!r}; "
        "give the annotations of this dataset"
    )
