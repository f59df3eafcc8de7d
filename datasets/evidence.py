"""What else a table says about its labels.

Method, words and paths, which must not contradict them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from unmasked.datasets.listing import first_names
from unmasked.datasets.vocabulary import ANSWERS, distinct_words, label_of, lookup, plain

SETTLES = (
    "one_means=fake or one_means=real says what the number 1 means, whatever the words say; "
    "or correct the file"
)
WORDS_MAX = 50  # a column of more words is none of labels


def evidence(table: pd.DataFrame, label: str, paths: Iterable[str]) -> dict[str, pd.Series]:
    """What the other columns say of each row, by column.

    1 = fake, 0 = real, NaN where they say nothing.

    Args:
        table: rows as read.
        label: the column of labels, which is not looked at.
        paths: columns with paths, whose folders are looked at: the folder nearest the file that says anything
            counts. Where all paths say the same (``/data/deepfakes/…``), they say nothing of a row.
    """
    found = {}
    names = list(paths)
    for name in table.columns:
        column = table[name]
        if name == label or not isinstance(column, pd.Series) or pd.api.types.is_numeric_dtype(column):
            continue
        if name in names:
            said = path_labels(column)
        elif plain(name) == "method":
            # The name of a method says nothing: reals may carry that of the fakes made of them.
            said = column.map({word: label_of(word) for word in distinct_words(column)})
        else:
            said = _word_labels(column)
        if said is not None and said.nunique() > (0 if plain(name) == "method" else 1):
            found[str(name)] = said.astype("float64")
    return found


def path_labels(paths: pd.Series) -> pd.Series:
    """(N,) what the folder nearest each file says: 1 = fake, 0 = real, NaN for nothing.

    Folders that all the paths begin with say nothing (``deepfake_datasets/…``).
    """
    folder = paths.astype(object).where(paths.notna(), "").astype(str).str.replace("\\", "/", regex=False)
    folder = folder.str.rpartition("/")[0]
    parts = [name.split("/") for name in folder.unique()]
    first: list[str] = min(parts, default=[])
    last: list[str] = max(parts, default=[])  # what these two share, all share
    alike = [one == other for one, other in zip(first, last, strict=False)]
    shared = [*alike, False].index(False) if len(parts) > 1 else 0
    known = {"/".join(each): _label_of_folder(each[shared:]) for each in parts}
    return folder.map(known).astype("float64")


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
    if column.nunique() > WORDS_MAX:
        return None
    words = distinct_words(column)
    if not words or any(lookup(word, "label") is None or plain(word) in ANSWERS for word in words):
        return None
    return column.map(lambda value: lookup(value, "label"), na_action="ignore")
