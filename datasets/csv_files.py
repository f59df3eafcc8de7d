"""CSV files from anywhere.

Their coding, separator and decimals are found by looking, and said.
What a spreadsheet writes in one country is not what it writes in another. What is taken for granted goes into
a list of `Reading`; a file that is no such text is refused with what it is instead.
"""

from __future__ import annotations

import csv
import io
import logging
import re
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unmasked.datasets.csv_dialect import COMMA, ESCAPED, POINT, Dialect, column_name, csv_dialect, unescaped
from unmasked.datasets.errors import InputError
from unmasked.datasets.vocabulary import Reading, plain

logger = logging.getLogger(__name__)

# The text type of pandas 3 (missing is NaN), named so that pandas 2.3 uses it as well.
TEXT = pd.StringDtype(storage="pyarrow", na_value=np.nan)

# Cells that say nothing. None and NA may be words (no glasses; North America): see `read_csv`.
BLANK = (
    *("", "nan", "NaN", "NAN", "-nan", "-NaN", "n/a", "N/A", "#N/A", "#N/A N/A", "#NA", "<NA>", "null"),
    *("NULL", "Null", "#NULL!", "#NV", "#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!"),
)
WORDS_FOR_NONE = ("None", "none", "NONE", "NA", "na")
# What spreadsheets run, behind any number of apostrophes of ours; and the same with one more.
_RUN = re.compile(r"'*[=+\-@\t\r]")


def read_csv(path: Path, text: Iterable[str] = (), readings: list[Reading] | None = None) -> pd.DataFrame:
    """The table in a CSV file.

    Spaces around column names and before values are not part of them.
    The words None and NA are missing in columns of numbers and in those named in ``text``; in any other
    column they are words, since they may be a group (``eyewear``: None, glasses). Rows without any value are
    left out, and the index says where a row stands: 0 is the row below the header, as in a spreadsheet.

    Args:
        path: text in UTF-8, UTF-16 or Windows-1252, separated by commas, semicolons, tabs or vertical bars.
        text: columns that hold text even where they look like numbers (a video called 000), in any spelling.
        readings: where it is said what was taken for granted; None logs it as a warning.

    Raises:
        InputError: the file is empty, something other than such text, or has rows longer than its header.
    """
    said: list[Reading] = []
    dialect = csv_dialect(path, said)
    spelled = {plain(name) for name in text}
    wanted = {name for raw in dialect.header if plain(name := column_name(raw)) in spelled}
    types = {
        name: TEXT for raw in dialect.header if column_name(raw) in wanted for name in (raw, raw.lstrip())
    }
    table = _parse_json(path, dialect, dtype=types, na_values=list(BLANK))
    table.index += dialect.shown
    table = tidy_cells(table, wanted, said)
    _say(path, said, readings)
    return table


def tidy_cells(table: pd.DataFrame, text: Collection[str], said: list[Reading]) -> pd.DataFrame:
    """A parsed table without empty rows, its text stripped, words of numbers as numbers.

    Args:
        table: blank cells are missing.
        text: columns that hold text, as the file spells them.
        said: gets what was taken for granted.
    """
    table = table.rename(columns=lambda name: column_name(str(name)))
    # A separator at the end of each line makes a column without a name or a value.
    unnamed = [name.startswith("Unnamed: ") for name in table.columns]
    table = table.loc[:, ~(np.array(unnamed, bool) & table.isna().all().to_numpy(bool))]
    table = _without_empty_rows(table, said)
    for name in dict.fromkeys(table.columns):
        if (table.columns == name).sum() > 1:
            continue  # no table of ours; whoever reads it says which column is there twice
        if name in text:
            stripped = table[name].astype(TEXT).str.strip()
            table[name] = _unescaped_cells(stripped.mask(stripped.isin(WORDS_FOR_NONE) | (stripped == "")))
        elif not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = _unescaped_cells(_retyped(table[name], said))
    return table


def read_csv_as_text(path: Path) -> pd.DataFrame:
    """Every cell of a CSV file as it is there, blank ones as "", to be written unchanged.

    The index is that of `read_csv`, but that rows without any value are there, too.

    Raises:
        InputError: as `read_csv`.
    """
    dialect = csv_dialect(path, [])
    table = _parse_json(path, dialect, dtype=TEXT, na_values=[], skipinitialspace=False)
    table.index += dialect.shown
    table = table.rename(columns=lambda name: unescaped(str(name).strip()))
    for position, column in enumerate(table.columns):
        table.isetitem(position, _unescaped_cells(table.iloc[:, position].rename(column)))
    return table


def write_csv(table: pd.DataFrame, path: Path | io.StringIO) -> None:
    """Writes a table as CSV.

    Cells that a spreadsheet would run as a formula get an apostrophe in front.
    `read_csv` takes it away again, so that a table that was written reads back the same.
    """
    written = table.rename(columns=lambda name: _escaped(str(name)))
    for position in range(written.shape[1]):
        column = written.iloc[:, position]
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
            continue
        mapping = {
            value: _escaped(value)
            for value in column.dropna().unique()
            if isinstance(value, str) and value != _escaped(value)
        }
        if mapping:
            written.isetitem(position, column.map(lambda value, of=mapping: of.get(value, value)))
    written.to_csv(path, index=False)


def csv_text(table: pd.DataFrame) -> str:
    """What `write_csv` writes."""
    stream = io.StringIO()
    write_csv(table, stream)
    return stream.getvalue()


def _escaped(text: str) -> str:
    is_number = POINT.fullmatch(text) is not None
    return f"'{text}" if _RUN.match(text) and not is_number else text


def _unescaped_cells(column: pd.Series) -> pd.Series:
    mapping = {
        value: unescaped(value)
        for value in column.dropna().unique()
        if isinstance(value, str) and ESCAPED.match(value)
    }
    return column.map(lambda value: mapping.get(value, value)).astype(column.dtype) if mapping else column


def _parse_json(
    path: Path, dialect: Dialect, *, skipinitialspace: bool = True, **options: Any
) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Without index_col=False, rows with a value too many would shift by a column and be read.
            return pd.read_csv(
                path,
                sep=dialect.separator,
                encoding=dialect.encoding,
                skiprows=dialect.skipped,
                keep_default_na=False,
                skip_blank_lines=False,
                skipinitialspace=skipinitialspace,
                low_memory=False,
                index_col=False,
                **options,
            )
    except UnicodeError as error:
        raise InputError(f"table {path} is not {dialect.encoding} text; save it as UTF-8") from error
    except (pd.errors.ParserWarning, ValueError) as error:
        raise InputError(f"table {path} cannot be read: {_fault(path, dialect, error)}") from error


def _without_empty_rows(table: pd.DataFrame, said: list[Reading]) -> pd.DataFrame:
    empty = table.isna().all(axis=1)
    if not empty.any():
        return table
    kept = table[~empty].copy()
    # Blank rows at the end are no news; those between others may be.
    if len(kept) and (between := int(empty.loc[: kept.index[-1]].sum())):
        said.append(Reading("rows without any value", f"left out: {between}"))
    for name in kept.columns[[pd.api.types.is_float_dtype(dtype) for dtype in kept.dtypes]]:
        column = kept[name]
        # An empty row made floats of integers.
        if isinstance(column, pd.Series) and column.notna().all() and (column % 1 == 0).all():
            kept[name] = column.astype("int64")
    return kept


def _retyped(column: pd.Series, said: list[Reading]) -> pd.Series:
    """A column that pandas took for text: numbers where all its words are, with a point or a comma."""
    known = column.dropna()
    if not len(known) or not all(isinstance(value, str) for value in known.unique()):
        return column
    words = pd.Series(known.unique())
    plain = words.str.strip()
    is_none = plain.isin(WORDS_FOR_NONE)
    said_words = plain[~is_none & (plain != "")]
    if not len(said_words):
        return column
    if all(map(POINT.fullmatch, said_words)):
        numbers = pd.to_numeric(plain.where(~is_none), errors="coerce")
    elif all(map(COMMA.fullmatch, said_words)):
        numbers = pd.to_numeric(plain.where(~is_none).str.replace(",", "."), errors="coerce")
        said.append(Reading(f"column {column.name!r}", f"decimal commas: {said_words.iloc[0]} is a number"))
    else:
        return column
    return column.map(dict(zip(words, numbers, strict=True))).astype("float64")


def _say(path: Path, said: list[Reading], readings: list[Reading] | None) -> None:
    if readings is not None:
        readings += said
    elif said:
        logger.warning("table %s: %s", path, "; ".join(f"{what}: {how}" for what, how in said))


def _fault(path: Path, dialect: Dialect, error: Exception) -> str:
    """What is wrong with a file that cannot be parsed, and what to do."""
    if "NULL byte" in str(error):
        return "it holds NUL bytes; write it again"
    if "EOF inside string" in str(error):
        return "a quotation mark is opened and never closed; close it, or leave it out"
    name = {",": "comma", ";": "semicolon", "\t": "tab"}.get(dialect.separator, dialect.separator)
    return (
        f"{_ragged_line(path, dialect, error)}. Quote values that hold a {name}, and write decimals "
        f"with a point"
    )


def _ragged_line(path: Path, dialect: Dialect, error: Exception) -> str:
    """Which line does not have as many values as the header, in words."""
    with open(path, encoding=dialect.encoding, newline="", errors="replace") as lines:
        for _ in range(dialect.skipped):
            next(lines, None)
        reader = csv.reader(lines, delimiter=dialect.separator)
        try:
            for fields in reader:
                if len(fields) > len(dialect.header):
                    line = reader.line_num + dialect.skipped
                    return f"line {line} has {len(fields)} values and the header {len(dialect.header)}"
        except csv.Error:
            pass
    return str(error).splitlines()[0] if str(error) else type(error).__name__
