"""From codes to words, and the checks that a file is what its code book describes."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from unmasked.datasets.codebooks import CODEBOOKS_HINT, Check, CodeBook, Coding, find_column
from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import DEMOGRAPHICS
from unmasked.datasets.tables import TEXT
from unmasked.datasets.video_keys import as_arrow

logger = logging.getLogger(__name__)

# Age groups by years, in AI-Face's words. The bounds are ours: each is the first year of its group.
AGE_GROUPS = {"child": 0, "youth": 13, "adult": 25, "middle": 45, "senior": 60}
# Monk scale: light 1-3, medium 4-6, dark 7-10 (Heldreth et al., ACM JRC 2024; AI-Face).
TONE_GROUPS = {"light": 3, "medium": 6, "dark": 10}
# Machine-made flags contradict each other in a row or two of a thousand; more is another format.
CONTRADICTIONS_MAX = 0.05


def decode_attributes(table: pd.DataFrame, book: CodeBook, origin: str) -> pd.DataFrame:
    """Columns gender, age, skin_tone (and the Monk number) and race in words.

    Missing where not annotated.

    Args:
        table: rows as read from the annotation file.
        book: its code book.
        origin: the file, for messages.

    Raises:
        InputError: a code that the book does not list, a skin tone outside 1 to 10, or flags of which some
            have no column or which contradict each other in many rows.
    """
    decoded = {}
    for attribute in DEMOGRAPHICS:
        coding = book.attributes.get(attribute)  # type: ignore[call-overload]
        if coding is None or not has_column(table, coding):
            decoded[attribute] = pd.Series(np.nan, index=table.index, dtype=_dtype(attribute))
        elif coding.flags:
            decoded[attribute] = _decode_flags(table, coding, book.name, origin)
        elif attribute == "skin_tone":
            column = find_column(table, coding.columns)
            decoded[attribute] = _tones(table[column], str(column), origin)
        else:
            column = find_column(table, coding.columns)
            decoded[attribute] = decode(table[column], coding, book.name, origin).astype(TEXT)
    return pd.DataFrame(decoded)


def has_column(table: pd.DataFrame, coding: Coding) -> bool:
    """True if the table has a column of the coding."""
    names = coding.columns or tuple(coding.flags)
    return find_column(table, names) is not None


def decode(values: pd.Series, coding: Coding, book: str, origin: str) -> pd.Series:
    """The words that a column's codes mean; missing stays missing.

    Raises:
        InputError: a code that is not in the book.
    """
    position, distinct = pd.factorize(values)  # a million rows hold few distinct codes
    distinct = pd.Series(distinct, name=values.name)
    codes = _as_codes(distinct)
    if coding.codes is not None:
        words = {str(code).lower(): word for code, word in coding.codes.items()}
        unknown = codes.notna() & ~codes.isin(list(words))
        if unknown.any():
            first = int(np.flatnonzero(np.isin(position, np.flatnonzero(unknown)))[0])
            raise InputError(
                f"{origin}: column {values.name!r} holds {codes[position[first]]!r} in row "
                f"{values.index[first]}, which the code book {book!r} does not list; it lists "
                f"{', '.join(words)}. Choose the code book of the file's own version; {CODEBOOKS_HINT}"
            )
        codes = codes.map(words)
    elif coding.years:
        years = pd.to_numeric(distinct, errors="coerce")
        codes = age_group(years).where(years.notna(), codes)
    return codes.reindex(position).set_axis(values.index)


def check_codes(table: pd.DataFrame, decoded: pd.DataFrame, book: CodeBook, origin: str) -> None:
    """Compares the columns that repeat attributes with them.

    Raises:
        InputError: they disagree; the message says so if the disagreement is a known mistake.
    """
    for check in book.checks:
        column = find_column(table, (check.column,))
        if column is None:
            continue
        combination, position = _combinations(decoded, check.of)
        stated = pd.to_numeric(table[column], errors="coerce")
        known = stated.notna().to_numpy() & (position >= 0)
        wrong = known & (stated.to_numpy() != _code_of(combination, check.codes)[position])
        if not wrong.any():
            continue
        if check.mistaken:
            mistaken = _code_of(combination, check.mistaken.codes)[position]
            if not (known & (stated.to_numpy() != mistaken)).any():
                raise InputError(f"{origin}: column {column!r}: {check.mistaken.because}")
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{origin}: column {column!r} disagrees with {' and '.join(check.of)} in {int(wrong.sum())} of "
            f"{int(known.sum())} rows (row {table.index[row]}: {stated.iloc[row]:g}, but "
            f"{', '.join(combination[position[row]])}); {_mismatch_message(check, book)}"
        )


def check_labels(labels: pd.Series, paths: pd.Series, book: CodeBook, origin: str) -> None:
    """Compares the labels with what the paths say, by the book's `label_by_path`.

    Raises:
        InputError: a path of real images has the label of fakes, or the other way round.
    """
    for label, pattern in book.label_by_path.items():
        named = np.asarray(pc.match_substring_regex(as_arrow(paths), pattern=pattern).fill_null(False))
        wrong = named & labels.notna().to_numpy() & (labels.to_numpy() != label)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{origin}: {int(wrong.sum())} of {int(named.sum())} {('real', 'fake')[label]} images have "
                f"the label {1 - label} (row {paths.index[row]}: {paths.iloc[row]}); here 1 must mean fake: "
                "correct the column"
            )


def age_group(years: pd.Series) -> pd.Series:
    """The age group of each number of years: child, youth, adult, middle, senior.

    Missing stays missing.
    Under 13 child, 13-24 youth, 25-44 adult, 45-59 middle, 60 and over senior: AI-Face's words, our bounds.

    >>> list(age_group(pd.Series([12.5, 13, 44.9, 60])))
    ['child', 'youth', 'adult', 'senior']
    """
    bounds = [*AGE_GROUPS.values(), np.inf]
    return pd.cut(years, bounds, right=False, labels=list(AGE_GROUPS)).astype(TEXT)


def skin_tone_group(tone: pd.Series) -> pd.Series:
    """The group of each tone on the Monk scale: light 1-3, medium 4-6, dark 7-10.

    Missing stays missing.

    >>> list(skin_tone_group(pd.Series([1, 3, 4, 6, 7, 10])))
    ['light', 'light', 'medium', 'medium', 'dark', 'dark']
    """
    return pd.cut(tone, [0, *TONE_GROUPS.values()], labels=list(TONE_GROUPS)).astype(TEXT)


def _decode_flags(table: pd.DataFrame, coding: Coding, book: str, origin: str) -> pd.Series:
    """The word whose flag alone is 1; `none` where all are -1; missing otherwise."""
    columns = {name: find_column(table, (name,)) for name in coding.flags}
    lacking = [name for name, column in columns.items() if column is None]
    if lacking and coding.none is not None:
        raise InputError(
            f"{origin} has a column {next(c for c in columns.values() if c)!r} and none called "
            f"{', '.join(lacking)}: without it, {coding.none!r} means other people than the code book "
            f"{book!r} says. Choose the code book of the file's own dataset; {CODEBOOKS_HINT}"
        )
    present = {name: str(column) for name, column in columns.items() if column is not None}
    flags = np.column_stack([_flag(table[column], book, origin) for column in present.values()])  # (N, words)
    says = (flags == 1).sum(axis=1)
    contradictory = says > 1
    if contradictory.mean() > CONTRADICTIONS_MAX:
        raise InputError(
            f"{origin}: more than one of {', '.join(present.values())} is 1 in {int(contradictory.sum())} of "
            f"{len(table)} rows; the file is not what the code book {book!r} describes: choose another"
        )
    if contradictory.any():
        logger.warning(
            "%s: %d rows say several of %s; they are left missing", origin, contradictory.sum(), [*present]
        )
    words = np.array([coding.flags[name] for name in present], dtype=object)
    result = pd.Series(words[(flags == 1).argmax(axis=1)], table.index, TEXT).where(says == 1)
    return result if coding.none is None else result.mask((flags == -1).all(axis=1), coding.none)


def _flag(values: pd.Series, book: str, origin: str) -> np.ndarray:
    """(N,) 1, -1 or 0, which is also what a missing flag says."""
    codes = {1: 1, -1: -1, 0: 0}
    return (
        decode(values, Coding(columns=("flag",), codes=codes), book, origin).fillna(0).to_numpy(dtype="int64")
    )


def _dtype(attribute: str) -> Any:
    return np.dtype("float64") if attribute == "skin_tone" else TEXT


def _tones(values: pd.Series, column: str, origin: str) -> pd.Series:
    tones = pd.to_numeric(values, errors="coerce").astype("float64")
    wrong = (values.notna() & tones.isna()) | (tones < 1) | (tones > 10)
    if wrong.any():
        row = wrong.index[wrong][0]
        raise InputError(
            f"{origin}: column {column!r} holds {values[row]!r} in row {row}; a skin tone is a number from "
            "1 to 10 on the Monk scale, or empty; if the values are groups, call the column skin_tone_group"
        )
    return tones


def _as_codes(values: pd.Series) -> pd.Series:
    """Values as lower-case text, 1.0 (an integer column with gaps) as 1."""
    if pd.api.types.is_bool_dtype(values):
        values = values.astype("int64")
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    text = values.astype(TEXT).str.strip().str.lower()
    return text.mask(text == "")


def _combinations(
    decoded: pd.DataFrame, attributes: tuple[str, ...]
) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """The distinct combinations of words, and (N,) which one each row has; -1 where a word is missing."""
    words = decoded.assign(skin_tone_group=skin_tone_group(decoded["skin_tone"]))[list(attributes)]
    position = words.groupby(list(attributes), sort=False).ngroup().fillna(-1).to_numpy(dtype="int64")
    number, first = np.unique(position, return_index=True)
    return [tuple(words.iloc[row]) for row in first[number >= 0]], position


def _code_of(combinations: list[tuple[str, ...]], codes: dict[int, tuple[str, ...]]) -> np.ndarray:
    """(M + 1,) the code of each combination; -1 where the coding has none, as for the last entry."""
    code = {tuple(words): number for number, words in codes.items()}
    return np.array([*(code.get(words, -1) for words in combinations), -1])


def _mismatch_message(check: Check, book: CodeBook) -> str:
    return f"the file is not what the code book {book.name!r} describes: choose another, or correct the file"
