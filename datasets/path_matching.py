"""Which file on disk an annotation is about, when each side gives the path from a folder of its own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAMPLE = 2000
DEPTH_MAX = 8  # leading folders that are left away in search of a match


def match_paths(paths: pa.Array, known: pa.Array) -> np.ndarray:
    """(N,) for each path the position of the same path in ``known``, -1 where it has none.

    Paths that are given from different folders match after leaving away leading folders: as many of all paths
    of a side, and as few as make most of a sample match. What is left must be unique on its side, and folders
    are left away on both sides only where most files then match, so that no face is called by another's name.

    Args:
        paths: (N,) of one dataset, without suffix.
        known: (M,) without suffix. The first of equal ones counts.
    """
    position = position_in(paths, known)
    open_rows = np.flatnonzero(position < 0)
    if not len(open_rows) or not len(known):
        return position
    paths = paths.take(pa.array(open_rows))
    here, there = _folders_to_drop(paths, known)
    if here or there:
        tails, known_tails = _tails(paths, here), _tails(known, there)
        found = position_in(tails, known_tails)
        found[_is_repeated(tails)] = -1
        ambiguous = _means_several(known_tails, known)
        position[open_rows] = np.where((found >= 0) & ~ambiguous[found], found, -1)
    return position


def position_in(values: pa.Array, known: pa.Array) -> np.ndarray:
    """(N,) the first position of each value in ``known``, -1 where it is not there or missing."""
    found = pc.index_in(values, value_set=known, skip_nulls=True)
    return np.asarray(pc.fill_null(found, -1)).astype(np.int64)


def _folders_to_drop(paths: pa.Array, known: pa.Array) -> tuple[int, int]:
    """How many leading folders of the paths and of the known ones to leave away; (0, 0) to leave none."""
    few, few_known = _sample(paths), _sample(known)
    best, best_share = (0, 0), 0.0
    for dropped in range(DEPTH_MAX + 1):
        # A sample of each side, cut at every depth, is looked for in all of the other side, cut at this one.
        shares = {(other, dropped): share for other, share in _shares(few, _tails(known, dropped)).items()}
        of_known = {
            (dropped, other): share for other, share in _shares(few_known, _tails(paths, dropped)).items()
        }
        for folders in sorted({*shares, *of_known} - {(0, 0)}, key=sum):
            share = max(shares.get(folders, 0.0), of_known.get(folders, 0.0))
            # A whole path of one side, with its folders, is no coincidence; a file's name alone may be.
            whole = 0 in folders and _have_folders(few if folders[0] == 0 else few_known)
            if share > max(best_share, 0.0 if whole else 0.5):
                best, best_share = folders, share
        if best_share > 0.5 or (
            not _have_folders(_tails(few, dropped)) and not _have_folders(_tails(few_known, dropped))
        ):
            break
    return best


def _shares(sample: pa.Array, tails: pa.Array) -> dict[int, float]:
    """Number of folders left away in the sample -> the share of it that is then among the tails."""
    cut = [_tails(sample, dropped) for dropped in range(DEPTH_MAX + 1)]
    wanted = pa.concat_arrays(cut)
    # The first of equal tails counts: as few folders as possible.
    hits = np.unique(position_in(tails, wanted))
    depth, count = np.unique(hits[hits >= 0] // max(1, len(sample)), return_counts=True)
    return {int(which): float(n) / len(sample) for which, n in zip(depth, count, strict=True)}


def _sample(paths: pa.Array) -> pa.Array:
    distinct = paths.drop_null()
    return pc.unique(distinct.take(pa.array(np.arange(0, len(distinct), max(1, len(distinct) // SAMPLE)))))


def _tails(paths: pa.Array, dropped: int) -> pa.Array:
    """The paths without that many leading folders; of a path with fewer, its file's name."""
    if not dropped:
        return paths
    return pc.replace_substring_regex(paths, pattern=rf"^(?:[^/]*/+){{1,{dropped}}}", replacement="")


def _have_folders(paths: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring(paths, "/")).as_py())


def _is_repeated(values: pa.Array) -> np.ndarray:
    """(N,) whether the value stands more than once."""
    code, count = _counted(values)
    return count[code] > 1


def _means_several(tails: pa.Array, paths: pa.Array) -> np.ndarray:
    """(M,) whether different paths have this tail."""
    tail, _ = _counted(tails)
    path, _ = _counted(paths)
    tails_of_paths = np.unique(tail * (path.max() + 1) + path) // (path.max() + 1)
    return (np.bincount(tails_of_paths) > 1)[tail]


def _counted(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(N,) a code for each distinct value, and how often each code stands."""
    code = np.asarray(pc.fill_null(values, "").dictionary_encode().indices).astype(np.int64)
    return code, np.bincount(code)
