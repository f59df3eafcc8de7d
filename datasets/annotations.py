"""Annotation files, read into words by a code book that is given or found by looking."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from unmasked.datasets.codebooks import (
    CODEBOOKS_HINT,
    CodeBook,
    Coding,
    codebook_names,
    find_column,
    load_codebook,
)
from unmasked.datasets.decoding import check_codes, check_labels, decode, decode_attributes, has_column
from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import first_names
from unmasked.datasets.manifest import DEMOGRAPHICS
from unmasked.datasets.table_roles import SCORES
from unmasked.datasets.tables import HEADER_ROWS, TEXT, column_names, read_frame
from unmasked.datasets.video_keys import (
    FRAME_PATTERNS,
    VIDEO_PATTERNS,
    as_arrow,
    keys_and_frames,
    normalised_paths,
    stems,
)
from unmasked.datasets.vocabulary import (
    Kind,
    Reading,
    canonical_dataset,
    group_ages,
    plain,
    read_words,
    unify_spellings,
    unsaid,
)

logger = logging.getLogger(__name__)

AUTO = "auto"
# A row a person, in plain words.
PEOPLE = load_codebook("plain").model_copy(update={"path": ("identity", *SCORES["identity"].names)})
WORDS_MAX, NUMBERS_MAX = 50, 12  # different values of a column that holds groups
# What tables of scores call their columns, for other things than groups.
_OF_SCORES = {plain(name) for role in SCORES for name in (role, *SCORES[role].names)}
LOOKED_AT = 1000  # paths of a file that say what it is about


def is_list_of_people(path: str | os.PathLike[str]) -> bool:
    """True if a file names people, and neither videos nor files."""
    header = pd.DataFrame(columns=column_names(path))
    books = [load_codebook(name) for name in codebook_names()]
    names_files = any(find_column(header, book.path) for book in books)
    return not names_files and find_column(header, PEOPLE.path) is not None


def read_annotations(
    path: str | os.PathLike[str],
    codebook: str | CodeBook = AUTO,
    *,
    age_groups: tuple[float, ...] = (),
    readings: list[Reading] | None = None,
) -> pd.DataFrame:
    """Annotations in words.

    Columns key, frame, path, dataset, label, the attributes, annotation.
    ``key`` names the video that a frame is of, in the terms of `unmasked.datasets.video_keys`, and ``frame``
    its number there, -1 where the path says none; ``dataset`` is missing and ``label`` NaN where the file has
    none; the attributes are gender, age, skin_tone and race. One row for each row of the file, in its order.

    Args:
        path: a ``.csv`` or ``.parquet`` file.
        codebook: a name in ``configs/annotations``, the path of a YAML file, a code book, or ``auto`` for the
            one code book that the file's columns, paths and codes fit.
        age_groups: the first years of the groups that years in a file of your own become; AI-Face's if empty.
        readings: where what was taken for granted is said; None logs it.

    Raises:
        InputError: the file lacks a column the code book names, holds a code that it does not list, or
            contradicts itself (an intersection code that disagrees with gender and tone); or no code book
            fits, or several do.
    """
    book = codebook if isinstance(codebook, CodeBook) else None
    if book is None and codebook != AUTO:
        book = load_codebook(str(codebook))
    books = [load_codebook(name) for name in codebook_names()] if book is None else [book]
    # Which column holds the paths depends on the book; all their names are read as text.
    said: list[Reading] = []
    text = sorted({name for each in books for name in (*each.path, *each.dataset)})
    table = read_frame(path, text=text, readings=said)
    table.index += HEADER_ROWS
    origin = f"annotations {path}"
    book = _book_that_fits(table, books, origin) if book is None else book
    if book.general:
        used = {find_column(table, names) for names in (book.path, book.dataset, *_attribute_names(book))}
        groups = _own_groups(table, used)
        if unused := [str(name) for name in table if name not in used and name not in groups]:
            said.append(Reading("columns that are not used", first_names(unused, 8)))
        if not groups and not any(find_column(table, names) for names in _attribute_names(book)):
            raise InputError(
                f"{origin} has no column of groups: it has {', '.join(map(str, table.columns))}. Give one of "
                f"{', '.join(book.attributes)}, or of at most {WORDS_MAX} words"
            )
        if groups:
            said.append(Reading("columns taken over as groups", ", ".join(groups)))
        others = {name: _words_of_group(table[name], said) for name in groups}
        table = table.drop(columns=list(DEMOGRAPHICS), errors="ignore").join(
            decode_plain(table, origin, said, age_groups, book)
        )
        book = book.model_copy(update={"attributes": _AS_DECODED})
        found = _read(table, book, origin).assign(**others).reset_index(drop=True)
    else:
        found = _read(table, book, origin).reset_index(drop=True)
    if readings is not None:
        readings += said
    elif said:
        logger.warning("%s: %s", origin, "; ".join(f"{what}: {how}" for what, how in said))
    return found


# The attributes of a table in which they are words already.
_AS_DECODED = {name: Coding(columns=(name,)) for name in DEMOGRAPHICS}


def _attribute_names(book: CodeBook) -> list[tuple[str, ...]]:
    return [coding.columns for coding in book.attributes.values()]


def _own_groups(table: pd.DataFrame, used: Collection[str | None]) -> list[str]:
    """Columns of few words, or of few whole numbers such as Fitzpatrick's types, that no other use has."""
    groups = []
    for name in map(str, table):
        values = table[name]
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        is_whole = is_number and bool((values.dropna() % 1 == 0).all())
        distinct = values.nunique()
        few = NUMBERS_MAX if is_number else min(WORDS_MAX, max(NUMBERS_MAX, len(table) // 2))
        if name not in used and plain(name) not in _OF_SCORES and 0 < distinct <= few:
            groups += [name] if is_whole or not is_number else []
    return groups


def _words_of_group(values: pd.Series, readings: list[Reading]) -> pd.Series:
    words = values.astype("Int64") if pd.api.types.is_float_dtype(values) else values
    return unify_spellings(words.astype(TEXT), readings)


def decode_plain(
    table: pd.DataFrame,
    origin: str,
    readings: list[Reading],
    age_groups: tuple[float, ...] = (),
    book: CodeBook | None = None,
) -> pd.DataFrame:
    """Columns gender, age, skin_tone and race of a table with plain words, in canonical ones.

    Words that the vocabulary does not have are kept, in small letters; ages in years become groups.

    Args:
        table: rows as read; columns as the code book ``plain`` names them.
        origin: the file, for messages.
        readings: where spellings that were changed are said.
        age_groups: the first years of the age groups; AI-Face's groups if empty.
        book: another code book of plain words.

    Raises:
        InputError: a skin tone is no number from 1 to 10, or the age groups are none.
    """
    book = book or load_codebook("plain")
    attributes, words = dict(book.attributes), table.copy(deep=False)
    for name, coding in book.attributes.items():
        column = find_column(table, coding.columns)
        if column is None or name == "skin_tone":
            continue
        values = table[column]
        if coding.years and age_groups:
            numbers = pd.to_numeric(values, errors="coerce")
            values = values.astype(object).mask(numbers.notna(), group_ages(numbers, age_groups))
        if name == "race":
            values = values.where(~unsaid(values)).rename(column)
        elif not pd.api.types.is_numeric_dtype(values):
            kind: Kind = "gender" if name == "gender" else "age"
            values = read_words(values.rename(column), kind, readings, unknown="keep")
        if not pd.api.types.is_numeric_dtype(values):
            values = unify_spellings(values.rename(column), readings)
        words[column] = values
        attributes[name] = coding.model_copy(update={"codes": None})
    return decode_attributes(words, book.model_copy(update={"attributes": attributes}), origin)


def _read(table: pd.DataFrame, book: CodeBook, origin: str) -> pd.DataFrame:
    where = find_column(table, book.path)
    attributes = [name for name, coding in book.attributes.items() if has_column(table, coding)]
    other = find_column(table, book.absent)
    if where is None or not attributes or other is not None:
        lacks = f"no column {book.path[0]!r}" if where is None else f"none of the columns of {book.name}"
        wrong = lacks if where is None or not attributes else f"a column {other!r}, which {book.name} has not"
        raise InputError(
            f"{origin} has {wrong}; it has {', '.join(map(str, table.columns))}. "
            f"Choose the code book of the file's version with codebook=…"
        )
    paths = normalised_paths(table[where].astype(TEXT))
    decoded = decode_attributes(table, book, origin)
    check_codes(table, decoded, book, origin)
    label = find_column(table, book.label.columns) if book.label else None
    labels = decode(table[label], book.label, book.name, origin) if label and book.label else np.nan
    dataset = find_column(table, book.dataset)
    named = keys_and_frames(stems(paths), (*book.video_key, *VIDEO_PATTERNS, *FRAME_PATTERNS))
    result = named.assign(
        path=paths,
        dataset=pd.Series(np.nan, table.index, TEXT) if dataset is None else _datasets(table[dataset]),
        label=pd.Series(labels, table.index).astype("float64"),
    )
    check_labels(result["label"], paths, book, origin)
    if book.note:
        logger.warning("%s: %s", origin, book.note)
    return pd.concat([result, decoded], axis=1).assign(
        annotation=pd.Series(book.name, table.index, dtype=TEXT)
    )


def _book_that_fits(table: pd.DataFrame, books: list[CodeBook], origin: str) -> CodeBook:
    """The only book that fits.

    A book fits if the file has its columns, most of its paths are about what the book is about, and every
    code is listed and every check holds. Where one book alone is left before the codes are looked at, what
    is wrong with them is the file's fault, and said.
    """
    described = [book for book in books if _has_columns(table, book)]
    described = [book for book in described if not book.general] or described
    if not described:
        raise InputError(
            f"{origin} has the columns {', '.join(map(str, table.columns))}, which no code book describes; "
            f"{CODEBOOKS_HINT}, and one of your own is a YAML file like them: codebook=FILE"
        )
    candidates = [book for book in described if _is_about(table, book)]
    if not candidates:
        raise InputError(
            f"{origin} has the columns of {_book_names(described)}, but no paths like those: "
            f"{table[find_column(table, described[0].path)].iloc[0]!r}. {_say_which(described)}"
        )
    if len(candidates) == 1:
        return candidates[0]
    read, reasons = {}, []
    for book in candidates:
        try:
            read[book.name] = _read(table, book, origin)
        except InputError as error:
            reasons.append(f"as {book.name}: {error}")
    if not read:
        raise InputError(f"{origin} fits no code book; {'; '.join(reasons)}")
    fitting = [book for book in candidates if book.name in read]
    if len(fitting) > 1:
        raise InputError(
            f"{origin} can be read as {_book_names(fitting)}, and what its codes mean depends on it. "
            + _say_which(fitting)
        )
    return fitting[0]


def _datasets(names: pd.Series) -> pd.Series:
    known = {name: canonical_dataset(str(name)) for name in names.dropna().unique()}
    return names.map(known).astype(TEXT)


def _book_names(books: list[CodeBook]) -> str:
    return " and as ".join(book.name for book in books)


def _say_which(books: list[CodeBook]) -> str:
    names = {load_codebook(name).name: name for name in codebook_names()}
    return "Say which it is: " + " or ".join(f"codebook={names[book.name]}" for book in books)


def _has_columns(table: pd.DataFrame, book: CodeBook) -> bool:
    """True if the file has what the book reads the attributes from: all of them, or any in a general one."""
    if find_column(table, book.path) is None or find_column(table, book.absent) is not None:
        return False
    present = [_is_complete(table, book, name) for name in book.attributes]
    if not book.general:
        return all(present)
    # Words may be groups of the file's own; numbers alone may be codes of anything.
    return any(present) or any(
        not pd.api.types.is_numeric_dtype(table[name]) for name in _own_groups(table, ())
    )


def _is_complete(table: pd.DataFrame, book: CodeBook, attribute: str) -> bool:
    """True if the table has what the attribute is read from; a flag of its own may be absent."""
    coding = book.attributes[attribute]  # type: ignore[index]
    if not coding.flags:
        return has_column(table, coding)
    return coding.none is None or all(find_column(table, (name,)) is not None for name in coding.flags)


def _is_about(table: pd.DataFrame, book: CodeBook) -> bool:
    """True if most paths match what the book is about; a book that says nothing is about everything."""
    if book.about is None:
        return True
    where = str(find_column(table, book.path))
    paths = normalised_paths(table[where].dropna().astype(TEXT))
    paths = paths.iloc[:: max(1, len(paths) // LOOKED_AT)]
    matches = pc.match_substring_regex(as_arrow(paths), pattern=book.about)
    return not len(paths) or bool(np.asarray(matches).mean() > 0.5)
