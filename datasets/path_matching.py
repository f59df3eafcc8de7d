"""Which file on disk an annotation is about, when paths start at different folders."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DEPTH_MAX = 8  # leading folders that are left away in search of a match


def match_paths(paths: pa.Array, known: pa.Array) -> np.ndarray:
    """(N,) for each path the position of the same path in ``known``, -1 where it has none.

    Either side may start at a folder further down: then its whole path is the end of the other's, after as
    many leading folders for all. What is left of the longer paths must be unique, and the path of a file
    here with no folder at all matches as it is only: a name alone may be anyone's.

    Args:
        paths: (N,) of one dataset, without suffix.
        known: (M,) without suffix. The first of equal ones counts.
    """
    position = position_in(paths, known)
    open_rows = np.flatnonzero(position < 0)
    if not len(open_rows) or not len(known):
        return position
    rest = paths.take(pa.array(open_rows))
    has_folder = np.asarray(pc.match_substring(rest, "/"))
    best = np.full(len(rest), -1)
    for dropped in range(1, DEPTH_MAX + 1):
        tails, known_tails = _tails(rest, dropped), _tails(known, dropped)
        here = np.where(_is_repeated(tails), -1, position_in(tails, known))
        there = np.where(has_folder, _drop_ambiguous(position_in(rest, known_tails), known_tails, known), -1)
        best = max((best, here, there), key=_hits)
        if _hits(best) > min(len(rest), len(known)) / 2 or (tails.equals(rest) and known_tails.equals(known)):
            break
    position[open_rows] = best
    return position


def position_in(values: pa.Array, known: pa.Array) -> np.ndarray:
    """(N,) the first position of each value in ``known``, -1 where it is not there or missing."""
    found = pc.index_in(values, value_set=known, skip_nulls=True)
    return np.asarray(pc.fill_null(found, -1)).astype(np.int64)


def _hits(position: np.ndarray) -> int:
    return int((position >= 0).sum())


def _tails(paths: pa.Array, dropped: int) -> pa.Array:
    """The paths without that many leading folders; those with fewer stay whole."""
    return pc.replace_substring_regex(paths, pattern=rf"^(?:[^/]*/+){{{dropped}}}", replacement="")


def _is_repeated(values: pa.Array) -> np.ndarray:
    """(N,) True where the value is there more than once."""
    code = _codes(values)
    return np.bincount(code)[code] > 1


def _drop_ambiguous(position: np.ndarray, tails: pa.Array, paths: pa.Array) -> np.ndarray:
    """The positions, but -1 where different paths have the tail that is there."""
    if not _hits(position):
        return position
    tail, path = _codes(tails), _codes(paths)
    paths_of_tail = np.bincount(np.unique(tail * (path.max() + 1) + path) // (path.max() + 1))
    return np.where((position >= 0) & (paths_of_tail[tail[position]] == 1), position, -1)


def _codes(values: pa.Array) -> np.ndarray:
    """(N,) a number for each distinct value."""
    return np.asarray(pc.fill_null(values, "").dictionary_encode().indices).astype(np.int64)
