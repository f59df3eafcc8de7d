"""Tables with a declared schema: read, checked when read, and written whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from unmasked.datasets import workbooks
from unmasked.datasets.csv_dialect import TEXTS, csv_header
from unmasked.datasets.csv_files import TEXT, read_csv, tidy_cells, write_csv
from unmasked.datasets.errors import InputError, did_you_mean
from unmasked.datasets.files import atomic_path
from unmasked.datasets.vocabulary import Reading, plain

READ = (".parquet", *TEXTS, workbooks.SUFFIX)
HEADER_ROWS = 2  # the index 0 is the spreadsheet's row 2

Kind = Literal["text", "integer", "number", "boolean"]


@dataclass(frozen=True)
class Column:
    """What one column may hold. ``number`` is float64 with NaN for missing."""

    kind: Kind
    required: bool = True  # must the column be in a file that is read
    nullable: bool = False
    allowed: tuple[str | int, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Schema:
    """A table's name, its columns and the columns that together identify a row.

    Columns that are not declared are kept as they are: group columns stay in every table.
    """

    name: str
    columns: Mapping[str, Column]
    key: tuple[str, ...] = ()
    hint: str = ""  # what to do when the table cannot be used

    def empty(self) -> pd.DataFrame:
        """A table of this schema without rows."""
        return self.validate(pd.DataFrame({name: [] for name in self.columns}))

    def validate(self, table: pd.DataFrame, origin: str = "") -> pd.DataFrame:
        """The table with declared types and column order; absent optional columns are missing.

        Args:
            table: any frame with at least the required columns.
            origin: the file it came from, for messages.

        Raises:
            InputError: a required column is absent, a value has the wrong type, is missing where it may
                not be, is outside what is allowed, or a key stands twice.
        """
        where = f"{self.name} table{f' {origin}' if origin else ''}"
        absent = [name for name, column in self.columns.items() if column.required and name not in table]
        if absent:
            raise InputError(self._absent_message(where, absent, list(table.columns)))
        typed = {}
        for name, column in self.columns.items():
            if name in table:
                typed[name] = _cast_column(table[name], name, column, where)
            elif column.nullable:
                typed[name] = pd.Series(np.nan, index=table.index, dtype=_dtype(column))
        others = {name: table[name] for name in table.columns if name not in self.columns}
        result = pd.DataFrame({**typed, **others}).reset_index(drop=True)
        keys = [name for name in self.key if name in result]
        if keys and (twice := result.duplicated(keys)).any():
            row = result.loc[twice, keys].iloc[0]
            named = ", ".join(f"{name}={row[name]}" for name in keys)
            raise InputError(f"{where}: the row {named} stands more than once; keep one of them")
        return result

    def read(self, path: str | os.PathLike[str]) -> pd.DataFrame:
        """The table in a file that `read_frame` reads, validated."""
        text = [name for name, column in self.columns.items() if column.kind == "text"]
        table = read_frame(path, text=text)
        table.index += HEADER_ROWS
        return self.validate(table, str(path))

    def write(self, table: pd.DataFrame, path: str | os.PathLike[str]) -> pd.DataFrame:
        """Validates the table, writes it whole (``.parquet``, ``.csv``), and returns it."""
        table = self.validate(table)
        write_frame(table, path)
        return table

    def _absent_message(self, where: str, absent: list[str], present: list[str]) -> str:
        listed = ", ".join(map(str, present)) or "no column"
        message = f"{where} has no column {', '.join(map(repr, absent))}; it has {listed}"
        message += did_you_mean(absent[0], map(str, present))
        return f"{message}. {self.hint}" if self.hint else message


def read_frame(
    path: str | os.PathLike[str],
    *,
    text: Collection[str] = (),
    readings: list[Reading] | None = None,
    keep_rows: bool = False,
) -> pd.DataFrame:
    """The table in a file, with pandas' own types.

    Args:
        path: a ``.parquet`` file; ``.csv``, ``.tsv`` or ``.txt``, whatever separates the columns; or
            ``.xlsx``.
        text: columns that a CSV holds as text even where they look like numbers (a video called 000), in any
            spelling.
        readings: where what was taken for granted about a CSV is said; None logs it.
        keep_rows: leave the numbers of a spreadsheet's rows in the index, empty rows counted; else 0, 1, 2, …

    Raises:
        InputError: the file is absent, has another suffix, or cannot be parsed.
    """
    path = _table_path(path)
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
            _check_text(table)
            kept = [name for name in table.index.names if name is not None and name not in table.columns]
            return table.reset_index(kept).reset_index(drop=True) if kept else table.reset_index(drop=True)
        if path.suffix.lower() == workbooks.SUFFIX:
            said: list[Reading] = [] if readings is None else readings
            table = workbooks.read_sheet(path, said)
            spelled = {plain(name) for name in text}
            table = tidy_cells(table, {name for name in table if plain(name) in spelled}, said)
        else:
            table = read_csv(path, text, readings)
        return table if keep_rows else table.reset_index(drop=True)
    except InputError:
        raise
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise _unreadable_error(path, error) from error


def column_names(path: str | os.PathLike[str]) -> list[str]:
    """The columns of a table in a file, without its rows; InputError as in `read_frame`."""
    path = _table_path(path)
    try:
        if path.suffix.lower() == workbooks.SUFFIX:
            return list(workbooks.read_sheet(path, [], header_only=True))
        if path.suffix.lower() == ".parquet":
            return list(pq.read_schema(path).names)
        return [name.strip() for name in csv_header(path)]
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise _unreadable_error(path, error) from error


def write_frame(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Writes a table as Parquet or CSV, by suffix, whole or not at all."""
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(
            f"table {path} has the suffix {path.suffix!r}; tables are written as .parquet or .csv"
        )
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            write_csv(table, temporary)


def rows_digest(table: pd.DataFrame, *, text: Iterable[str], numbers: Iterable[str]) -> str:
    """Hex SHA-256 of what stands in some columns.

    The order of the rows and the kind of file make no difference. Columns that are absent or empty are left
    out. Numbers are compared to nine decimals, which a CSV keeps.
    """
    parts = _stated_columns(table, text, numbers)
    hashes = pd.util.hash_pandas_object(pd.DataFrame(parts), index=False).to_numpy()
    return hashlib.sha256(",".join(parts).encode() + np.sort(hashes).tobytes()).hexdigest()


def digest_of_each(
    table: pd.DataFrame, key: Sequence[str], *, text: Iterable[str], numbers: Iterable[str]
) -> pd.Series:
    """(N,) 16 hex digits of what stands in some columns of all rows that share a row's key.

    As `rows_digest`, but an empty cell is as an absent column: rows put beside others keep their digest.

    >>> table = pd.DataFrame({"video": ["a", "b", "a"], "frame": [0, 0, 1]})
    >>> one = digest_of_each(table, ["video"], text=[], numbers=["frame"])
    >>> bool(one[0] == one[2] != one[1])
    True
    """
    rows = np.zeros(len(table), dtype=np.uint64)
    for name, values in _stated_columns(table, text, numbers).items():
        # Mixed with the column's name: 0 is not an empty cell, nor the 0 of another column.
        salt = np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], np.uint64)
        cells = pd.util.hash_array(pd.util.hash_pandas_object(values, index=False).to_numpy() ^ salt)
        rows += np.where(table[name].notna(), cells, np.uint64(0))  # uint64 wraps around
    codes = table.groupby(list(key), sort=False, dropna=False, observed=True).ngroup().to_numpy()
    order = np.lexsort((rows, codes))
    parts = np.split(rows[order], np.flatnonzero(np.diff(codes[order])) + 1) if len(table) else []
    found = np.array([hashlib.sha256(part.tobytes()).hexdigest()[:16] for part in parts], dtype=object)
    return pd.Series(found[codes], index=table.index, dtype=TEXT)


def _stated_columns(table: pd.DataFrame, text: Iterable[str], numbers: Iterable[str]) -> dict[str, pd.Series]:
    parts = {}
    for name in text:
        if name in table and table[name].notna().any():
            parts[name] = table[name].astype(object).where(table[name].notna(), "").map(str)
    for name in numbers:
        if name in table and table[name].notna().any():
            parts[name] = pd.to_numeric(table[name]).astype("float64").round(9) + 0.0  # -0.0 is 0.0
    return parts


def _check_text(table: pd.DataFrame) -> None:
    """Raises ArrowInvalid where text is no UTF-8, which pyarrow reads, and finds when it is used."""
    for _, column in table.items():
        values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
        if isinstance(values.dtype, pd.StringDtype):
            pa.array(values).validate(full=True)


def is_table(path: str | os.PathLike[str]) -> bool:
    """True if a file is a table by its suffix."""
    return Path(path).suffix.lower() in READ


def _table_path(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the path of a .parquet or .csv file")
    if not path.is_file():
        raise InputError(f"table {path} does not exist; give the path of a .parquet or .csv file")
    if not is_table(path):
        given = f"table {path} has the suffix {path.suffix!r}"
        raise InputError(f"{given}; give a file with one of {', '.join(READ)}")
    return path


def _unreadable_error(path: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"table {path} cannot be read ({reason}); give an intact {path.suffix} file")


def _dtype(column: Column, *, has_missing: bool = True) -> object:
    if column.kind == "text":
        return TEXT
    if column.kind == "number" or (column.nullable and has_missing):
        return np.dtype("float64")
    return np.dtype("int64") if column.kind == "integer" else np.dtype("bool")


def _cast_column(values: pd.Series, name: str, column: Column, where: str) -> pd.Series:
    missing = values.isna()
    if missing.any() and not column.nullable:
        row = values.index[missing][0]
        raise InputError(f"{where}: column {name!r} is empty in row {row}; it must have a value in every row")
    try:
        typed = _convert(values, column)
    except (ValueError, TypeError) as error:
        wrong = next((value for value in values[~missing] if not _is_convertible(value, column)), "?")
        raise InputError(
            f"{where}: column {name!r} holds {wrong!r}; it must be of type {column.kind}"
        ) from error
    _check_range(typed[~missing], name, column, where)
    return typed


def _convert(values: pd.Series, column: Column) -> pd.Series:
    # Integers without a gap stay integers where gaps would be allowed: labels, nearly always.
    dtype = _dtype(column, has_missing=bool(values.isna().any()) or not len(values))
    if column.kind == "text":
        # A video called 000 or a number read from a CSV is text here; 3.0 read for 3 is not meant as "3.0".
        if pd.api.types.is_float_dtype(values):
            whole = values.dropna()
            if len(whole) and (whole == whole.round()).all():
                values = values.astype("Int64").astype(TEXT)
        return values.astype(TEXT)
    if column.kind == "integer":
        numbers = pd.to_numeric(values, errors="raise")
        if ((numbers.dropna() % 1) != 0).any():
            raise ValueError("not whole")
        return numbers.astype(dtype)
    return pd.to_numeric(values, errors="raise").astype(dtype)


def _is_convertible(value: object, column: Column) -> bool:
    try:
        _convert(pd.Series([value]), column)
    except (ValueError, TypeError):
        return False
    return True


def _check_range(values: pd.Series, name: str, column: Column, where: str) -> None:
    if column.allowed is not None:
        wrong = values[~values.isin(list(column.allowed))]
        if len(wrong):
            allowed = ", ".join(map(str, column.allowed))
            raise InputError(f"{where}: column {name!r} holds {wrong.tolist()[0]!r}; allowed are {allowed}")
    if column.minimum is None and column.maximum is None:
        return
    low = -np.inf if column.minimum is None else column.minimum
    high = np.inf if column.maximum is None else column.maximum
    wrong = values[(values < low) | (values > high)]
    if len(wrong):
        raise InputError(
            f"{where}: column {name!r} holds {wrong.tolist()[0]!r} in row {wrong.index[0]}; "
            f"it must lie between {low:g} and {high:g}"
        )
