"""Demographic annotations joined to the videos, images, faces or scores of a table.

Attributes come from annotation files only (`unmasked.datasets.annotations` reads them); none is ever guessed
from a face. What an annotation does not say, or says in conflict with itself, is missing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from unmasked.datasets.annotations import AUTO, PEOPLE, is_list_of_people, read_annotations
from unmasked.datasets.codebooks import CodeBook
from unmasked.datasets.errors import InputError
from unmasked.datasets.join_report import Found, JoinReport, findings
from unmasked.datasets.path_matching import match_paths, position_in
from unmasked.datasets.tables import TEXT
from unmasked.datasets.video_keys import as_arrow, stems, video_keys
from unmasked.datasets.vocabulary import Reading
from unmasked.datasets.votes import attributes_of, decide

POLICIES = ("majority", "frame", "drop")
# Annotations are of every tenth frame; between two of them the nearer one is at most this far.
FRAMES_APART = 5


def join_files(
    table: pd.DataFrame,
    paths: Sequence[str | os.PathLike[str]],
    codebooks: Sequence[str | CodeBook] = (AUTO,),
    *,
    policy: str = "majority",
    age_groups: tuple[float, ...] = (),
    readings: list[Reading] | None = None,
) -> tuple[pd.DataFrame, list[JoinReport]]:
    """The table with the annotations of several files, and a report for each code book.

    Files of one code book (train.csv and test.csv) are joined together, so that frames of a video vote across
    files; code books one after another, so that where two say something different the later file counts.

    Args:
        table: as in `join`.
        paths: annotation files.
        codebooks: one for all files, or one for each.
        policy: as in `join`.
        age_groups, readings: as in `read_annotations`.

    Raises:
        InputError: as `read_annotations` and `join`; or the numbers of files and code books do not agree.
    """
    read = read_files(table, paths, codebooks, age_groups=age_groups, readings=readings)
    by_book: dict[str, list[int]] = {}
    for place, file in enumerate(read):
        by_book.setdefault("".join(file["annotation"].unique()), []).append(place)
    reports = []
    for places in by_book.values():
        together = pd.concat([read[place] for place in places], ignore_index=True)
        origin = ", ".join(str(paths[place]) for place in places)
        table, report = join(table, together, policy=policy, origin=origin)
        reports.append(report)
    return table, reports


def read_files(
    table: pd.DataFrame,
    paths: Sequence[str | os.PathLike[str]],
    codebooks: Sequence[str | CodeBook] = (AUTO,),
    *,
    age_groups: tuple[float, ...] = (),
    readings: list[Reading] | None = None,
) -> list[pd.DataFrame]:
    """What `read_annotations` gives of each file; arguments and errors as in `join_files`.

    A list of people, a row a person, becomes one of the table's videos by its column ``identity``.
    """
    if len(codebooks) not in (1, len(paths)):
        raise InputError(
            f"{len(paths)} annotation files have {len(codebooks)} code books; give one for all or for each"
        )
    books = codebooks if len(codebooks) == len(paths) else [codebooks[0]] * len(paths)
    read = []
    for path, book in zip(paths, books, strict=True):
        people = book == AUTO and is_list_of_people(path)
        file = read_annotations(path, PEOPLE if people else book, age_groups=age_groups, readings=readings)
        read.append(_of_videos(table, file, path) if people else file)
    return read


def _of_videos(table: pd.DataFrame, people: pd.DataFrame, path: str | os.PathLike[str]) -> pd.DataFrame:
    """A list of people as one of the table's videos, by their identity."""
    _check(table, people, "majority")
    if "identity" not in table or not table["identity"].notna().any():
        raise InputError(
            f"annotations {path} have a row for each person, and the table does not say who is shown; give "
            "it a column identity, or write a row for each video, with a column video"
        )
    shown = table[["dataset", "video", "identity"]].dropna().astype(TEXT).drop_duplicates()
    found = shown.merge(people, left_on="identity", right_on="path", suffixes=("", "_said"))
    found = found[found["dataset_said"].isna() | (found["dataset_said"] == found["dataset"])]
    if found.empty:
        raise InputError(
            f"none of the {people['path'].nunique()} people of {path} is in the table's column identity: the "
            f"annotations have {people['path'].iloc[0]!r}, the table has {shown['identity'].iloc[0]!r}; "
            "write the names alike"
        )
    found = found.assign(key=found["video"], path=found["video"])
    return found[list(people.columns)].astype(people.dtypes).reset_index(drop=True)


def join(
    table: pd.DataFrame, annotations: pd.DataFrame, *, policy: str = "majority", origin: str = ""
) -> tuple[pd.DataFrame, JoinReport]:
    """The table with the annotations of its rows, and a report.

    The columns are gender, age, skin_tone, race, groups of the file's own, and annotation.
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
        origin: the annotations' file, for messages.

    Raises:
        InputError: the policy is unknown, the table has no column dataset or video, or not one row matches.
    """
    _check(table, annotations, policy)
    number, keys = pd.factorize(_qualify_videos(annotations))
    found = _find_annotations(table, annotations, number, keys)
    if not (found.video >= 0).any():
        raise InputError(_no_match_message(table, annotations, len(found.unclear), origin))
    repeats = annotations.duplicated(["dataset", "key", "path", *attributes_of(annotations)]).to_numpy()
    votes = annotations[~repeats]
    videos = decide(votes, number[~repeats], len(keys), by_majority=policy == "majority")
    said = _take_values(videos.values, found.video, table.index)
    of_frame = np.full(len(table), -1)
    if policy == "frame":
        of_frame = _nearest_frames(table, annotations, number, found)
        own = np.where(found.row >= 0, found.row, of_frame)
        path, paths = pd.factorize(annotations["path"])
        frames = decide(votes, path[~repeats], len(paths), by_majority=False)
        of_own = _take_values(frames.values, np.where(own >= 0, path[own], -1), table.index)
        said = of_own.where(np.repeat(own[:, None] >= 0, said.shape[1], axis=1), said)
    result, replaced = _put(table, said)
    report = JoinReport(
        annotation=" + ".join(annotations["annotation"].unique()),
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


def votes_by_video(table: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """What the annotated frames of each video of the table say, and how many of them.

    Args:
        table, annotations: as in `join`. Annotation rows that repeat another count once.

    Returns:
        Columns dataset, video, attribute, value, votes: a row for each value that a video was given.

    Raises:
        InputError: the table has no column dataset or video, or nothing to join.
    """
    _check(table, annotations, "majority")
    videos = table.drop_duplicates(["dataset", "video"]).reset_index(drop=True)
    number, keys = pd.factorize(_qualify_videos(annotations))
    of_video = pd.Series(_find_annotations(videos, annotations, number, keys).video, name="number")
    places = of_video[of_video >= 0].reset_index().rename(columns={"index": "place"})
    repeats = annotations.duplicated(["dataset", "key", "path", *attributes_of(annotations)]).to_numpy()
    cast = places.merge(annotations[~repeats].assign(number=number[~repeats]), on="number")
    parts = []
    for attribute in attributes_of(annotations):
        counted = cast.groupby(["place", attribute], observed=True).size().rename("votes").reset_index()
        named = counted.rename(columns={attribute: "value"}).astype({"value": object})
        parts.append(named.assign(attribute=attribute))
    votes = pd.concat(parts, ignore_index=True)
    who = videos[["dataset", "video"]].iloc[votes["place"].to_numpy()].reset_index(drop=True)
    return pd.concat([who, votes[["attribute", "value", "votes"]]], axis=1)


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


def _qualify_videos(annotations: pd.DataFrame) -> pd.Series:
    """The video of each row, with its dataset where one is named; missing where the path is."""
    named = annotations["dataset"].notna()
    if not named.any():
        return annotations["key"]
    return annotations["key"].mask(named, annotations["dataset"] + ":" + annotations["key"])


def _find_annotations(
    table: pd.DataFrame, annotations: pd.DataFrame, number: np.ndarray, keys: pd.Index
) -> Found:
    """Each row's annotation, by path, and its annotated video."""
    row, video = np.full(len(table), -1), np.full(len(table), -1)
    videos = table["video"].astype(TEXT)
    # Scores from elsewhere call a video by its file's name, suffix included.
    files = stems(table["path"].astype(TEXT) if "path" in table else videos)
    layout = video_keys(videos)
    annotated_files, annotated_keys = as_arrow(stems(annotations["path"])), as_arrow(pd.Series(keys))
    for dataset, here in table.groupby("dataset", sort=False).indices.items():
        order = _rows_of_dataset(annotations["dataset"], str(dataset))
        by_path = match_paths(as_arrow(files.iloc[here]), annotated_files.take(pa.array(order)))
        row[here] = np.where(by_path >= 0, order[by_path], -1) if len(order) else -1
        names = [name.iloc[here] for name in (layout, videos, files)]
        prefixes = (f"{dataset}:", "") if annotations["dataset"].notna().any() else ("",)
        video[here] = _first_known_position(names, prefixes, annotated_keys)
    # Below other folders, the same name is another video's where the layout says which video it is.
    elsewhere = np.flatnonzero((row >= 0) & (number[row] != video) & (layout != videos).to_numpy())
    same = pc.equal(as_arrow(files.iloc[elsewhere]), annotated_files.take(pa.array(row[elsewhere])))
    row[elsewhere[~np.asarray(same)]] = -1
    video = np.where(row >= 0, number[row], video)
    unclear = (layout == videos).to_numpy() & _is_of_several(video, pd.factorize(table["dataset"])[0])
    return Found(np.where(unclear, -1, row), np.where(unclear, -1, video), video[unclear])


def _is_of_several(video: np.ndarray, dataset: np.ndarray) -> np.ndarray:
    """(N,) True where one name was found in several datasets, so that nobody is identified."""
    datasets = int(dataset.max()) + 1
    pairs = np.unique(video[video >= 0] * datasets + dataset[video >= 0]) // datasets
    claims = np.bincount(pairs, minlength=int(video.max()) + 2)
    return (video >= 0) & (claims[video] > 1)


def _rows_of_dataset(named: pd.Series, dataset: str) -> np.ndarray:
    """The rows that name the dataset, then those that name none."""
    return np.concatenate([np.flatnonzero(named == dataset), np.flatnonzero(named.isna())])


def _first_known_position(names: list[pd.Series], prefixes: tuple[str, ...], known: pa.Array) -> np.ndarray:
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


def _take_values(values: pd.DataFrame, position: np.ndarray, index: pd.Index) -> pd.DataFrame:
    """The values at each position, missing where it is -1."""
    return values.reindex(position).set_axis(index)


def _put(table: pd.DataFrame, said: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The table with what the annotations say, and by attribute how many rows said otherwise before."""
    result, replaced = table.copy(), {}
    attributes = [name for name in said if name != "annotation"]
    for attribute in attributes:
        before = (
            table[attribute]
            if attribute in table
            else pd.Series(np.nan, table.index).astype(said[attribute].dtype)
        )
        replaced[attribute] = int(
            (said[attribute].notna() & before.notna() & (said[attribute] != before)).sum()
        )
        result[attribute] = said[attribute].where(said[attribute].notna(), before)
    spoken = said["annotation"].where(said[attributes].notna().any(axis=1))
    before = table["annotation"] if "annotation" in table else pd.Series(np.nan, table.index, dtype=TEXT)
    both = spoken.notna() & before.notna() & (spoken != before)
    result["annotation"] = spoken.fillna(before).mask(both, before + " + " + spoken)
    return result, replaced


def _no_match_message(table: pd.DataFrame, annotations: pd.DataFrame, unclear: int, origin: str) -> str:
    origin = origin or str(annotations["annotation"].iloc[0])
    if unclear:
        return (
            f"the names in {origin} are those of {unclear} rows of several "
            "datasets; say whose each is in a column `dataset`"
        )
    here, there = video_keys(table["video"]).iloc[0], annotations["key"].iloc[0]
    advice = "give the annotations of this dataset"
    if alike := _first_alike(table["video"], annotations["path"]):
        here, there = alike
        advice = "they differ in case, folder or dataset only: write the names alike"
    return (
        f"none of the {annotations['key'].nunique()} videos of {origin} is in the "
        f"table: the annotations have {there!r}, the table has {here!r}; {advice}"
    )


def _first_alike(here: pd.Series, there: pd.Series) -> tuple[str, str] | None:
    """The first two names that are one but for case, or for folders that only one of them has."""
    files = [stems(names.dropna().astype(TEXT)).str.lower() for names in (here, there)]
    names = [each.str.replace("^.*/", "", regex=True) for each in files]
    for ours, theirs in ((files[0], files[1]), (files[0], names[1]), (names[0], files[1])):
        if len(found := theirs.index[theirs.isin(ours)]):
            return str(here[ours.index[ours == theirs[found[0]]][0]]), str(there[found[0]])
    return None
