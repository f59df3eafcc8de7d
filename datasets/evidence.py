"""What else a table says about its labels.

Method, words and paths, which must not contradict them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from unmasked.datasets.listing import first_names
from unmasked.datasets.vocabulary import ANSWERS, distinct_words, label_of, lookup, map_distinct, plain

SETTLES = (
    "one_means=fake or one_means=real says what the number 1 means, whatever the words say; "
    "or correct the file"
)
WORDS_MAX = 50  # a column of more words is none of labels
SAMPLED = 1000  # names that tell whether names say anything
NAMED_MIN = 0.25  # share of files whose names say real or fake, from which on that is no accident


def evidence(table: pd.DataFrame, label: str, paths: Iterable[str]) -> dict[str, pd.Series]:
    """What the other columns say of each row, by column.

    1 = fake, 0 = real, NaN where they say nothing.

    Args:
        table: rows as read.
        label: the column of labels, as 1, 0 and NaN.
        paths: columns with paths, whose folders are looked at: the folder nearest the file that says anything
            counts, and where no folder does, the file's own name. Where all paths say the same
            (``/data/deepfakes/…``), they say nothing of a row.
    """
    found = {}
    names = list(paths)
    for name in table.columns:
        column = table[name]
        if name == label or not isinstance(column, pd.Series) or pd.api.types.is_numeric_dtype(column):
            continue
        if name in names:
            said = path_labels(column)
            said = said if said.notna().any() else name_labels(column)
        elif plain(name) == "method":
            # The name of a method says nothing: reals may carry that of the fakes made of them.
            said = map_distinct(column, lambda word: label_of(str(word)))
        else:
            said = _word_labels(column)
        if said is not None and said.notna().any():
            said = said.astype("float64")
            if plain(name) == "method" or said.nunique() > 1 or _is_reversed(said, table[label]):
                found[str(name)] = said
    return found


def _is_reversed(said: pd.Series, label: pd.Series) -> bool:
    """True if words of one class alone, in a part of the rows, contradict most of their labels."""
    both = said.notna() & label.notna()
    return bool(said.isna().any() and both.any() and (said[both] != label[both]).mean() > 0.5)


def path_labels(paths: pd.Series) -> pd.Series:
    """(N,) what the folder nearest each file says: 1 = fake, 0 = real, NaN for nothing.

    Folders that all the paths begin with say nothing (``deepfake_datasets/…``).
    """
    distinct = map(str, paths.dropna().unique())
    folders = list(dict.fromkeys(path.replace("\\", "/").rpartition("/")[0] for path in distinct))
    parts = [name.split("/") for name in folders]
    first: list[str] = min(parts, default=[])
    last: list[str] = max(parts, default=[])  # what these two share, all share
    alike = [one == other for one, other in zip(first, last, strict=False)]
    shared = [*alike, False].index(False) if len(parts) > 1 else 0
    known = {folder: _label_of_folder(each[shared:]) for folder, each in zip(folders, parts, strict=True)}
    said = map_distinct(paths, lambda path: known[str(path).replace("\\", "/").rpartition("/")[0]])
    return said.astype("float64")


def name_labels(paths: pd.Series) -> pd.Series:
    """(N,) what the files' names say (``fake_clip0.mp4``): 1 fake, 0 real, NaN nothing.

    Nothing is said where few names have such a word: a film may be called ``real_talk.mp4``.
    """
    names = paths.dropna().unique()
    sample = names[:: max(1, len(names) // SAMPLED)]
    if np.mean([_label_of_file(name) is not None for name in sample] or [False]) < NAMED_MIN:
        return pd.Series(np.nan, index=paths.index)
    return map_distinct(paths, _label_of_file).astype("float64")


def _label_of_file(path: object) -> int | None:
    return label_of(str(path).replace("\\", "/").rpartition("/")[2])


def contradictions(
    label: pd.Series, evidence: Mapping[str, pd.Series], row_of: Mapping[object, int] | None = None
) -> list[str]:
    """A sentence for each column that contradicts the labels.

    Both readings, where, and in how many rows.

    Args:
        label: (N,) 1 = fake, 0 = real, NaN for unknown.
        evidence: as from `evidence`.
        row_of: index of the label -> the row's number for messages; the index itself where None.
    """
    sentences = []
    for name, said in evidence.items():
        both = label.notna() & said.notna()
        wrong = both & (label.astype("float64") != said)
        if not wrong.any():
            continue
        rows = [row_of[index] if row_of else index for index in label.index[wrong]]
        first = label.index[np.flatnonzero(wrong)[0]]
        words = ("real", "fake")
        sentences.append(
            f"the label says {words[int(label[first])]} and {name} says {words[int(said[first])]} in "
            f"{int(wrong.sum())} of {int(both.sum())} rows ({first_names(map(str, rows), 5)})"
        )
    return sentences


def _label_of_folder(parts: list[str]) -> float:
    for part in reversed(parts):
        if (found := label_of(part)) is not None:
            return float(found)
    return float("nan")


def _word_labels(column: pd.Series) -> pd.Series | None:
    """The labels of a column whose every word is a word for real or fake, as ``label_str``; else None."""
    words = distinct_words(column)
    if not words or len(words) > WORDS_MAX:
        return None
    if any(lookup(word, "label") is None or plain(word) in ANSWERS for word in words):
        return None
    return map_distinct(column, lambda word: lookup(word, "label"))
