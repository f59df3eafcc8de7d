"""Excel workbooks as tables, where openpyxl is installed."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date, time
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from unmasked.datasets.csv_dialect import TITLES_MAX
from unmasked.datasets.csv_files import BLANK
from unmasked.datasets.errors import InputError
from unmasked.datasets.vocabulary import Reading

SUFFIX = ".xlsx"
EXPORT = "export the sheet as CSV"
BYTES_MAX = 512 << 20  # unpacked; a sheet of a million rows has about 100 MB
# openpyxl fills up rows and columns that a sheet leaves out: a file of 5 kB may announce 17 billion cells.
ROWS_MAX = 1 << 20
CELLS_MAX = 32_000_000
# What openpyxl raises at files that are damaged or something else; RuntimeError at encrypted ones.
FAULTS = (
    *(
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
    ),
    *(IndexError, SyntaxError, OverflowError, RecursionError),
)


def read_sheet(path: Path, readings: list[Reading], *, header_only: bool = False) -> pd.DataFrame:
    """The cells of the first sheet that has any; index 0 is the spreadsheet's row 2.

    Formulas are what they gave when the workbook was saved. Lines of titles above the header are left out.

    Args:
        path: of the ``.xlsx`` file.
        readings: gets which sheet was read, where there are several.
        header_only: the columns without the rows.

    Raises:
        InputError: openpyxl is not installed, the file is no workbook, unpacks to more than 512 MiB, has more
            rows or cells than are read, or none.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            unpacked = sum(member.file_size for member in packed.infolist())
        if unpacked > BYTES_MAX:
            raise InputError(f"table {path} unpacks to {unpacked / 1e9:.1f} GB, which is not read; {EXPORT}")
        openpyxl = import_module("openpyxl")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and other things that say nothing of cells
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                name, above, left = _first_filled(path, book.worksheets)
                others = [sheet for sheet in book.worksheets if sheet.title != name]
                rows = list(islice(left, 1)) if header_only else list(left)
                _check_alone(path, name, rows[0], others)
            finally:
                book.close()
    except ImportError as error:
        raise InputError(
            f"table {path} is an Excel workbook, which openpyxl reads, and that is not installed; {EXPORT}, "
            "or pip install openpyxl"
        ) from error
    except InputError:
        raise
    except FAULTS as error:
        raise InputError(f"table {path} is no intact Excel workbook ({error}); {EXPORT}") from error
    if others:
        readings.append(
            Reading("workbook", f"sheet {name!r}; not read: {', '.join(sheet.title for sheet in others)}")
        )
    if above:
        readings.append(Reading("lines before the header", f"left out: {above}"))
    table = _as_frame(rows)
    table.index += above
    return table


def _first_filled(path: Path, sheets: list[Any]) -> tuple[str, int, Iterator[tuple[Any, ...]]]:
    """The first sheet with cells: its name, how many rows stand above its header, and the rows from there."""
    for sheet in sheets:
        if filled := _from_header(path, sheet):
            return sheet.title, *filled
    raise InputError(f"table {path} has no cells; give a workbook with a header line and rows")


def _from_header(path: Path, sheet: Any) -> tuple[int, Iterator[tuple[Any, ...]]] | None:
    """How many rows stand above a sheet's header, and the rows from there; None for a sheet without cells."""
    rows = _bounded(path, sheet.iter_rows(values_only=True))
    above = list(islice(rows, TITLES_MAX))
    filled = [sum(cell is not None for cell in row) for row in above]
    if not any(filled):
        return None
    # A title is one cell above a wider table.
    header = next((n for n, count in enumerate(filled) if count > 1), filled.index(max(filled)))
    return header, (row for part in (above[header:], rows) for row in part)


def _check_alone(path: Path, name: str, header: tuple[Any, ...], others: list[Any]) -> None:
    """Refuses a workbook of which another sheet has the same columns: nothing says which one is meant.

    Raises:
        InputError: names both sheets.
    """
    for sheet in others:
        filled = _from_header(path, sheet)
        if filled and next(filled[1]) == header:
            raise InputError(
                f"table {path} has sheets of the same columns, {name!r} and {sheet.title!r}, and nothing "
                f"says which is meant; leave one in the workbook, or {EXPORT}"
            )


def _bounded(path: Path, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows without the blanks at their ends."""
    cells = 0
    for number, row in enumerate(rows):
        cells += len(row)
        if number == ROWS_MAX or cells > CELLS_MAX:
            raise InputError(
                f"table {path} has a sheet of more than {ROWS_MAX:,} rows or {CELLS_MAX:,} cells, blank ones "
                f"counted, which is not read; {EXPORT}"
            )
        end = len(row)
        while end and row[end - 1] is None:
            end -= 1
        yield row[:end]


def _as_frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Rows as a table, the first of them its header; blank cells are missing."""
    width = max(map(len, rows))
    cells = [[_cell(value) for value in row] + [None] * (width - len(row)) for row in rows]
    header = [f"Unnamed: {n}" if name is None else str(name) for n, name in enumerate(cells[0])]
    table = pd.DataFrame(cells[1:], columns=pd.RangeIndex(width), dtype=object)
    empty = [n for n in range(width) if cells[0][n] is None and table[n].isna().all()]
    table = table.drop(columns=empty).infer_objects()
    table.columns = pd.Index([header[n] for n in table.columns])
    return table


def _cell(value: Any) -> Any:
    if isinstance(value, (date, time)):
        return value.isoformat()
    return None if isinstance(value, str) and value.strip() in BLANK else value
