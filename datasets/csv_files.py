"""CSV files from anywhere: read as UTF-8 text with commas, or refused with what they are instead."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError

# The text type of pandas 3 (missing is NaN), named so that pandas 2.3 uses it as well.
TEXT = pd.StringDtype(storage="pyarrow", na_value=np.nan)

# How files begin that are no text: bytes, and what they are.
SIGNATURES = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook; unpack it, or export the sheet as CSV"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"PAR1", "a Parquet file; give it the suffix .parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; export the sheet as CSV"),
    (b"%PDF", "a PDF; give the table as CSV"),
    (b"\x89HDF", "an HDF5 file; write the table as CSV or Parquet"),
    (b"\x93NUMPY", "a NumPy array; write the table as CSV or Parquet"),
    (b"\x80", "a pickle, which was not opened since that can run code; write the table as CSV or Parquet"),
)
MARKUP = (
    (b"<", "a web page or XML; perhaps a login page was downloaded in its place. Download it again"),
    (b"{", "JSON; write the table as CSV or Parquet"),
    (b"[", "JSON; write the table as CSV or Parquet"),
)
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def read_csv(path: Path, text: Iterable[str] = ()) -> pd.DataFrame:
    """The table in a CSV file; spaces around column names and before values are not part of them.

    Args:
        path: UTF-8 text, with or without a byte order mark, separated by commas, with a header line.
        text: columns that hold text even where they look like numbers (a video called 000).

    Raises:
        InputError: the file is empty, something other than such text, or has rows longer than its header.
    """
    header = csv_header(path)
    wanted = set(text)
    types = {name: TEXT for raw in header if raw.strip() in wanted for name in (raw, raw.lstrip())}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Without index_col=False, rows with a value too many would shift by a column and be read.
            table = pd.read_csv(path, low_memory=False, dtype=types, skipinitialspace=True, index_col=False)
    except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
        if "NULL byte" in str(error):
            raise InputError(f"table {path} cannot be read (it holds NUL bytes); write it again") from error
        if "EOF inside string" in str(error):
            reason = "a quotation mark is opened and never closed; close it, or leave it out"
        else:
            reason = _ragged(path, len(header), error)
            reason += ". Quote values that hold a comma, and write decimals with a point"
        raise InputError(f"table {path} cannot be read: {reason}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"table {path} is not UTF-8 text (byte {error.object[error.start]:#04x}); save it as UTF-8"
        ) from error
    table = table.rename(columns=lambda name: str(name).strip())
    for name in wanted & set(table):
        table[name] = table[name].astype(TEXT).str.strip()
    return table


def csv_header(path: Path) -> list[str]:
    """The fields of a CSV file's first line as they stand there.

    Raises:
        InputError: the file is empty, or is no text with commas.
    """
    with open(path, "rb") as stream:
        start = stream.read(4096)
    _check_bytes(path, start)
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            header = next((fields for fields in csv.reader(lines) if fields), [])
    except UnicodeDecodeError as error:
        raise InputError(f"table {path} is not UTF-8 text; save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"table {path} cannot be read ({error}); give an intact .csv file") from error
    if len(header) == 1:
        for sign, name in SEPARATORS.items():
            if sign in header[0]:
                raise InputError(
                    f"table {path} is separated by {name}; separate its columns by commas, and write "
                    "decimals with a point"
                )
    return header


def _check_bytes(path: Path, start: bytes) -> None:
    if not start.strip(b"\xef\xbb\xbf\r\n\t "):
        raise InputError(f"table {path} cannot be read: it is empty; give a file with a header line and rows")
    for signature, kind in SIGNATURES:
        if start.startswith(signature):
            raise InputError(f"table {path} is no CSV but {kind}")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in start[:64]:
        is_text = (
            start.startswith((b"\xff\xfe", b"\xfe\xff")) or 0.3 < start.count(b"\x00") / len(start) < 0.7
        )
        kind = (
            "UTF-16 text; save it as UTF-8" if is_text else "no text (it holds NUL bytes); give a .csv file"
        )
        raise InputError(f"table {path} is {kind}")
    visible = start.lstrip(b"\xef\xbb\xbf\r\n\t ")
    for sign, kind in MARKUP:
        if visible.startswith(sign):
            raise InputError(f"table {path} is no CSV but {kind}")


def _ragged(path: Path, width: int, error: Exception) -> str:
    """Which line does not have as many values as the header, in words."""
    with open(path, encoding="utf-8-sig", newline="", errors="replace") as lines:
        reader = csv.reader(lines)
        try:
            for fields in reader:
                if len(fields) > width:
                    return f"line {reader.line_num} has {len(fields)} values and the header {width}"
        except csv.Error:
            pass
    return str(error).splitlines()[0] if str(error) else type(error).__name__
