"""CSV files from anywhere.

Their coding, separator and decimals are found by looking, and said.
What a spreadsheet writes in one country is not what it writes in another. What is taken for granted goes into
a list of `Reading`; a file that is no such text is refused with what it is instead.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.file_kinds import kind_of_bytes
from unmasked.datasets.vocabulary import Reading, plain

logger = logging.getLogger(__name__)

# The text type of pandas 3 (missing is NaN), named so that pandas 2.3 uses it as well.
TEXT = pd.StringDtype(storage="pyarrow", na_value=np.nan)

# What to do with files that are no text, by how they begin; what they are is in `file_kinds`.
ADVICE = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook; unpack it, or export the sheet as CSV"),
    (b"PAR1", "a Parquet file; give it the suffix .parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; export the sheet as CSV"),
    (b"\x80", "a pickle, which was not opened since that can run code; write the table as CSV or Parquet"),
)
WRITE_IT = "write the table as CSV or Parquet"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SAMPLED = 100  # records that tell the separator
TITLES_MAX = 10  # lines of titles before the header

# Cells that say nothing. None and NA may be words (no glasses; North America): see `read_csv`.
BLANK = (
    *("", "nan", "NaN", "NAN", "-nan", "-NaN", "n/a", "N/A", "#N/A", "#N/A N/A", "#NA", "<NA>", "null"),
    *("NULL", "Null", "#NULL!", "#NV", "#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!"),
)
WORDS_FOR_NONE = ("None", "none", "NONE", "NA", "na")
_POINT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?|[-+]?\d+")
# What spreadsheets run, behind any number of apostrophes of ours; and the same with one more.
_RUN = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")
_SEP_LINE = re.compile(r"""^["']?sep=(?P<sign>.)["']?\s*$""", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written."""

    encoding: str
    separator: str
    skipped: int  # lines before the header: blank ones, titles, comments, and Excel's ``sep=;``
    shown: int  # those of them that a spreadsheet shows as rows
    header: tuple[str, ...]  # its fields as they stand there


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
    wanted = {name for raw in dialect.header if plain(name := _column_name(raw)) in spelled}
    types = {
        name: TEXT for raw in dialect.header if _column_name(raw) in wanted for name in (raw, raw.lstrip())
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
    table = table.rename(columns=lambda name: _column_name(str(name)))
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


def unescaped(text: str) -> str:
    """The text without the apostrophe that `write_csv` puts before what spreadsheets run."""
    return text[1:] if _ESCAPED.match(text) else text


def _escaped(text: str) -> str:
    is_number = _POINT.fullmatch(text) is not None
    return f"'{text}" if _RUN.match(text) and not is_number else text


def _unescaped_cells(column: pd.Series) -> pd.Series:
    mapping = {
        value: unescaped(value)
        for value in column.dropna().unique()
        if isinstance(value, str) and _ESCAPED.match(value)
    }
    return column.map(lambda value: mapping.get(value, value)).astype(column.dtype) if mapping else column


def csv_header(path: Path) -> list[str]:
    """The fields of a CSV file's header as they stand there; errors as in `read_csv`."""
    return [_column_name(name) for name in csv_dialect(path, [], whole=False).header]


def csv_dialect(path: Path, readings: list[Reading], *, whole: bool = True) -> Dialect:
    """How a CSV file is written; what is unusual about it is added to the readings.

    Args:
        path: of the file.
        readings: as of `read_csv`.
        whole: look at the coding of all its text, not of its beginning alone.

    Raises:
        InputError: the file is empty, or is no text.
    """
    with open(path, "rb") as stream:
        start = stream.read(4096)
    _check_bytes(path, start)
    encoding = _encoding(path, start, whole)
    with open(path, encoding=encoding, newline="", errors="strict") as lines:
        try:
            first = list(islice(lines, SAMPLED * 3))
        except UnicodeError as error:
            raise InputError(f"table {path} is not {encoding} text; save it as UTF-8") from error
    skipped = next((number for number, line in enumerate(first) if line.strip()), 0)
    separator, hidden = "", 0
    if skipped < len(first) and (stated := _SEP_LINE.match(first[skipped].lstrip("\ufeff"))):
        separator = stated["sign"]
        skipped, hidden = skipped + 1, 1
        skipped += next((number for number, line in enumerate(first[skipped:]) if line.strip()), 0)
        readings.append(
            Reading("the line sep=", f"columns are parted by {SEPARATORS.get(separator, separator)}")
        )
    titles = _title_lines(first[skipped:], [separator] if separator else list(SEPARATORS))
    if titles:
        readings.append(
            Reading("lines before the header", f"left out: {titles} ({first[skipped].strip()[:40]!r}, …)")
        )
        skipped += titles
    records = {sign: _records(first[skipped:], sign) for sign in ([separator] if separator else SEPARATORS)}
    if not separator:
        separator = max(records, key=lambda sign: (*_fit(records[sign]), sign == ","))
        if separator != ",":
            readings.append(Reading("separator", SEPARATORS[separator]))
    if encoding not in ("utf-8-sig", "utf-8"):
        readings.append(Reading("coding of the text", "Windows-1252" if encoding == "cp1252" else "UTF-16"))
    header = next(iter(records[separator]), [])
    if not header:
        raise InputError(f"table {path} cannot be read: it is empty; give a file with a header line and rows")
    return Dialect(encoding, separator, skipped, skipped - hidden if titles else 0, tuple(header))


def _title_lines(lines: list[str], separators: list[str]) -> int:
    """How many lines stand before the header: comments (#), and titles with one cell before wider records."""
    count = 0
    while count < len(lines) and (lines[count].startswith("#") or not lines[count].strip()):
        if _is_marked_header(lines[count : count + 2], separators):
            return count
        count += 1
    comments = count
    for count in range(comments, min(comments + TITLES_MAX, len(lines))):
        if '"' in lines[count]:
            break  # a quoted cell may run over lines
        filled = {sign: [cell for cell in lines[count].split(sign) if cell.strip()] for sign in separators}
        if not lines[count].strip() or all(len(cells) < 2 for cells in filled.values()):
            continue
        # A header is as wide as what follows it.
        return count
    return comments


def _is_marked_header(lines: list[str], separators: list[str]) -> bool:
    """True if a line that begins with # names the columns of the line of numbers below it."""
    for sign in separators if len(lines) == 2 else ():
        names, cells = ([cell.strip(' "') for cell in line.split(sign)] for line in lines)
        has_number = any(_POINT.fullmatch(cell.strip()) or _COMMA.fullmatch(cell.strip()) for cell in cells)
        if len(names) == len(cells) > 1 and all(names) and has_number and not lines[1].startswith("#"):
            return True
    return False


def _column_name(raw: str) -> str:
    """A column's name: "# video", as NumPy marks the first of a header, is video."""
    return unescaped(re.sub(r"^#\s+(?=\w)", "", raw.strip()))


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
    if all(map(_POINT.fullmatch, said_words)):
        numbers = pd.to_numeric(plain.where(~is_none), errors="coerce")
    elif all(map(_COMMA.fullmatch, said_words)):
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


def _encoding(path: Path, start: bytes, whole: bool) -> str:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\x00" in start[:64]:
        return "utf-16-le" if start[1:2] == b"\x00" else "utf-16-be"
    decoder, is_text = codecs.getincrementaldecoder("utf-8-sig")(), True
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            if is_text:
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    is_text = False
            if not is_text and _CONTROL.search(block):
                raise InputError(f"table {path} is not UTF-8 text, nor any other; give a .csv file")
            if not whole:
                return "utf-8-sig" if is_text else "cp1252"
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        is_text = False
    return "utf-8-sig" if is_text else "cp1252"


def _records(lines: list[str], separator: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO("".join(lines), newline=""), delimiter=separator)
    found = []
    try:
        for fields in islice(reader, SAMPLED):
            if fields:
                found.append(fields)
    except csv.Error:
        pass  # what is wrong is said where the file is parsed
    return found


def _fit(records: list[list[str]]) -> tuple[float, int]:
    """The share of records as long as the header, and the header's length; (0, 0) for a header of one."""
    width = len(records[0]) if records else 0
    if width < 2:
        return 0.0, 0
    # A header alone, and a file whose rows are all of another length, still tell their separator.
    return max(0.01, float(np.mean([len(fields) == width for fields in records[1:]] or [False]))), width


def _check_bytes(path: Path, start: bytes) -> None:
    if not start.strip(b"\xef\xbb\xbf\r\n\t "):
        raise InputError(f"table {path} cannot be read: it is empty; give a file with a header line and rows")
    for signature, kind in ADVICE:
        if start.startswith(signature):
            raise InputError(f"table {path} is no CSV but {kind}")
    if kind := kind_of_bytes(start):
        raise InputError(f"table {path} is no CSV but {kind}{'' if ';' in kind else f'; {WRITE_IT}'}")
    is_utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\x00" in start[:64] and not is_utf16 and not 0.3 < start.count(b"\x00") / len(start) < 0.7:
        raise InputError(f"table {path} is no text (it holds NUL bytes); give a .csv file")


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
