"""Code books: what the columns and codes of an annotation file mean, version by version.

A code book is a YAML file in ``configs/annotations``; adding one takes no code. The same number means
different people in different versions, so a code that a book does not list is an error, and columns that
repeat the attributes (an intersection code) are compared with them: see `unmasked.datasets.decoding`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from unmasked.datasets.documents import read_yaml
from unmasked.datasets.errors import InputError, did_you_mean

FOLDER = Path(__file__).parents[1] / "configs" / "annotations"
CODEBOOKS_HINT = "the code books are the files in configs/annotations"

Attribute = Literal["gender", "age", "skin_tone", "race"]


class Coding(BaseModel):
    """One attribute: its column with the meaning of codes, or a column for each word."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...] = Field(default=(), description="accepted column names; the first found counts")
    codes: dict[int | str, int | str] | None = Field(
        default=None, description="code -> word; None keeps the values"
    )
    years: bool = Field(default=False, description="numbers are years of age, to be grouped")
    flags: dict[str, str] = Field(
        default={}, description="column -> word; there 1 says it is so, -1 that it is not, 0 nothing"
    )
    none: str | None = Field(default=None, description="the word where every flag says that it is not so")

    @model_validator(mode="after")
    def _has_one_form(self) -> Coding:
        if bool(self.columns) == bool(self.flags):
            raise ValueError(
                "either columns, for a column of codes, or flags, for a column a word, is needed"
            )
        return self


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

    name: str = Field(description="source and version; written to the manifest's column `annotation`")
    path: tuple[str, ...] = Field(description="accepted names of the column that says which image or video")
    dataset: tuple[str, ...] = Field(
        default=(), description="accepted names of an optional column with the dataset"
    )
    label: Coding | None = Field(
        default=None, description="the label, 1 = fake, to compare with the manifest's"
    )
    attributes: dict[Attribute, Coding] = Field(description="attribute -> its coding")
    general: bool = Field(
        default=False, description="of no version: any attribute is enough, and every other book comes first"
    )
    absent: tuple[str, ...] = Field(default=(), description="columns that only other versions have")
    about: str | None = Field(
        default=None, description="pattern that the paths match; tells books with the same columns apart"
    )
    label_by_path: dict[Literal[0, 1], str] = Field(
        default={}, description="label -> pattern of the paths that must have it"
    )
    video_key: tuple[str, ...] = Field(
        default=(), description="patterns with the groups folder, video and frame, besides the usual ones"
    )
    checks: tuple[Check, ...] = Field(default=(), description="columns that must agree with the attributes")
    note: str | None = Field(default=None, description="what a user of the file must know")

    @field_validator("video_key", "about", "label_by_path")
    @classmethod
    def _patterns_compile(cls, value: object) -> object:
        """Refuses what the matcher (RE2: no look-around, no back-references) cannot read."""
        patterns = (
            value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
        )
        for pattern in filter(None, patterns):
            try:
                pc.match_substring_regex(pa.array([""]), pattern=pattern)
            except pa.ArrowInvalid as error:
                raise ValueError(f"pattern {pattern!r} cannot be read ({error})") from error
        return value


def codebook_names() -> list[str]:
    """The names of the shipped code books, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_codebook(name: str | Path) -> CodeBook:
    """The code book of that name in ``configs/annotations``, or in the YAML file given.

    Raises:
        InputError: there is none of that name, or the file is no code book.
    """
    known = codebook_names()
    path = FOLDER / f"{name}.yaml" if name in known else Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        meant = did_you_mean(str(name), known)
        raise InputError(
            f"code book {str(name)!r} does not exist{meant}; give one of {', '.join(known)}, or a YAML file"
        )
    try:
        return CodeBook.model_validate(read_yaml(path, CODEBOOKS_HINT, what="code book"))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"code book {path}: {key}: {first['msg']}; {CODEBOOKS_HINT}") from error


def find_column(table: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    """The first of the names that the table has, whatever its case, spaces and underscores."""
    present = {_plain(column): column for column in reversed(list(table.columns))}
    return next((present[_plain(name)] for name in names if _plain(name) in present), None)


def _plain(name: object) -> str:
    return str(name).strip().lower().replace("_", "").replace(" ", "")
