"""Code books: what the columns and codes of an annotation file mean, version by version.

A code book is a YAML file in ``configs/annotations``; adding one takes no code. The same number means
different people in different versions, so a code that a book does not list is an error, and columns that
repeat the attributes (an intersection code) are compared with them.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import DEMOGRAPHICS
from unmasked.datasets.tables import TEXT

FOLDER = Path(__file__).parents[1] / "configs" / "annotations"
CODEBOOKS_HINT = "the code books are the files in configs/annotations"

# Age groups by years, in AI-Face's words. The bounds are ours: each is the first year of its group.
AGE_GROUPS = {"child": 0, "youth": 13, "adult": 25, "middle": 45, "senior": 60}
# Monk scale: light 1-3, medium 4-6, dark 7-10 (Heldreth et al., ACM JRC 2024; AI-Face).
TONE_GROUPS = {"light": 3, "medium": 6, "dark": 10}

Attribute = Literal["gender", "age", "skin_tone", "race"]


class Coding(BaseModel):
    """One attribute: the names its column goes by, and what the column's codes mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...] = Field(
        min_length=1, description="accepted column names; the first found counts"
    )
    codes: dict[int | str, int | str] | None = Field(
        default=None, description="code -> word; None keeps the values"
    )
    years: bool = Field(default=False, description="numbers are years of age, to be grouped")


class Mistake(BaseModel):
    """Another coding of a check's column, known to have been published by mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    because: str = Field(description="what to tell a user whose file has it")
    codes: dict[int, tuple[str, ...]] = Field(description="the mistaken coding")


class Check(BaseModel):
    """A column that repeats attributes, which must agree with them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str = Field(description="the column's name")
    of: tuple[str, ...] = Field(description="the attributes that it combines; skin_tone_group is derived")
    codes: dict[int, tuple[str, ...]] = Field(description="code -> one word for each attribute")
    mistaken: Mistake | None = Field(default=None, description="a known wrong coding")


class CodeBook(BaseModel):
    """How to read one version of an annotation file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="source and version; stands in the manifest's column `annotation`")
    path: tuple[str, ...] = Field(description="accepted names of the column that says which image or video")
    dataset: tuple[str, ...] = Field(
        default=(), description="accepted names of an optional column with the dataset"
    )
    label: Coding | None = Field(
        default=None, description="the label, 1 = fake, to compare with the manifest's"
    )
    attributes: dict[Attribute, Coding] = Field(description="attribute -> its coding")
    video_key: tuple[str, ...] = Field(default=(), description="patterns with the groups folder and video")
    checks: tuple[Check, ...] = Field(default=(), description="columns that must agree with the attributes")


def load_codebook(name: str | Path) -> CodeBook:
    """The code book of that name in ``configs/annotations``, or in the YAML file given.

    Raises:
        InputError: there is none of that name, or the file is no code book.
    """
    from omegaconf import OmegaConf

    known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    path = FOLDER / f"{name}.yaml" if name in known else Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        near = difflib.get_close_matches(str(name), known, n=1)
        meant = f" (is {near[0]!r} meant?)" if near else ""
        raise InputError(
            f"code book {str(name)!r} does not exist{meant}; give one of {', '.join(known)}, or a YAML file"
        )
    try:
        return CodeBook.model_validate(OmegaConf.to_container(OmegaConf.load(path)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"code book {path}: {key}: {first['msg']}; {CODEBOOKS_HINT}") from error


def find_column(table: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    """The first of the names that the table has, whatever its case, spaces and underscores."""
    present = {_plain(column): column for column in reversed(list(table.columns))}
    return next((present[_plain(name)] for name in names if _plain(name) in present), None)


def decode_attributes(table: pd.DataFrame, book: CodeBook, origin: str) -> pd.DataFrame:
    """Columns gender, age, skin_tone and race in words (and the Monk number), missing where not annotated.

    Args:
        table: rows as read from the annotation file.
        book: its code book.
        origin: the file, for messages.

    Raises:
        InputError: a code that the book does not list, or a skin tone outside 1 to 10.
    """
    decoded = pd.DataFrame(index=table.index)
    for attribute in DEMOGRAPHICS:
        coding = book.attributes.get(attribute)  # type: ignore[call-overload]
        column = find_column(table, coding.columns) if coding else None
        if coding is None or column is None:
            decoded[attribute] = pd.Series(np.nan, index=table.index, dtype=_dtype(attribute))
        elif attribute == "skin_tone":
            decoded[attribute] = _tones(table[column], column, origin)
        else:
            decoded[attribute] = decode(table[column], coding, book.name, origin).astype(TEXT)
    return decoded


def decode(values: pd.Series, coding: Coding, book: str, origin: str) -> pd.Series:
    """The words that a column's codes stand for; missing stays missing.

    Raises:
        InputError: a code that is not in the book.
    """
    codes = _as_codes(values)
    if coding.years:
        years = pd.to_numeric(values, errors="coerce")
        return age_group(years).where(years.notna(), codes)
    if coding.codes is None:
        return codes
    words = {str(code).lower(): word for code, word in coding.codes.items()}
    unknown = codes[codes.notna() & ~codes.isin(list(words))]
    if len(unknown):
        raise InputError(
            f"{origin}: column {values.name!r} holds {unknown.iloc[0]!r} in row {unknown.index[0]}, which "
            f"the code book {book!r} does not list; it lists {', '.join(words)}. Choose the code book of the "
            f"file's own version; {CODEBOOKS_HINT}"
        )
    return codes.map(words)


def check_codes(table: pd.DataFrame, decoded: pd.DataFrame, book: CodeBook, origin: str) -> None:
    """Compares the columns that repeat attributes with them.

    Raises:
        InputError: they disagree; the message says so if the disagreement is a known mistake.
    """
    words = decoded.assign(skin_tone_group=skin_tone_group(decoded["skin_tone"]))
    for check in book.checks:
        column = find_column(table, (check.column,))
        if column is None:
            continue
        stated = pd.to_numeric(table[column], errors="coerce")
        combined = words[list(check.of)]
        known = stated.notna() & combined.notna().all(axis=1)
        wrong = known & (stated != _combined_code(combined, check.codes))
        if not wrong.any():
            continue
        if check.mistaken and not (known & (stated != _combined_code(combined, check.mistaken.codes))).any():
            raise InputError(f"{origin}: column {column!r}: {check.mistaken.because}")
        row = wrong.index[wrong][0]
        raise InputError(
            f"{origin}: column {column!r} disagrees with {' and '.join(check.of)} in {int(wrong.sum())} of "
            f"{int(known.sum())} rows (row {row}: {stated[row]:g}, but {', '.join(combined.loc[row])}); "
            f"the file is not what the code book {book.name!r} describes: choose another, or correct the file"
        )


def age_group(years: pd.Series) -> pd.Series:
    """The age group of each number of years: child, youth, adult, middle, senior; missing stays missing.

    Under 13 child, 13-24 youth, 25-44 adult, 45-59 middle, 60 and over senior: AI-Face's words, our bounds.

    >>> list(age_group(pd.Series([12.5, 13, 44.9, 60])))
    ['child', 'youth', 'adult', 'senior']
    """
    bounds = [*AGE_GROUPS.values(), np.inf]
    return pd.cut(years, bounds, right=False, labels=list(AGE_GROUPS)).astype(TEXT)


def skin_tone_group(tone: pd.Series) -> pd.Series:
    """The group of each tone on the Monk scale: light 1-3, medium 4-6, dark 7-10; missing stays missing.

    >>> list(skin_tone_group(pd.Series([1, 3, 4, 6, 7, 10])))
    ['light', 'light', 'medium', 'medium', 'dark', 'dark']
    """
    return pd.cut(tone, [0, *TONE_GROUPS.values()], labels=list(TONE_GROUPS)).astype(TEXT)


def _plain(name: object) -> str:
    return str(name).strip().lower().replace("_", "").replace(" ", "")


def _dtype(attribute: str) -> Any:
    return np.dtype("float64") if attribute == "skin_tone" else TEXT


def _tones(values: pd.Series, column: str, origin: str) -> pd.Series:
    tones = pd.to_numeric(values, errors="coerce").astype("float64")
    wrong = (values.notna() & tones.isna()) | (tones < 1) | (tones > 10)
    if wrong.any():
        row = wrong.index[wrong][0]
        raise InputError(
            f"{origin}: column {column!r} holds {values[row]!r} in row {row}; a skin tone is a number from "
            "1 to 10 on the Monk scale, or empty"
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


def _combined_code(words: pd.DataFrame, codes: dict[int, tuple[str, ...]]) -> pd.Series:
    """The code of each row's words; -1 where the coding has none."""
    result = pd.Series(-1, index=words.index)
    for code, expected in codes.items():
        result[(words == list(expected)).all(axis=1)] = code
    return result
