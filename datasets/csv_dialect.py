"""How a CSV file is written: its coding, separator and header, found by looking.

Without pandas, so that a file whose header lacks a column is refused before pandas is imported.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from unmasked.datasets.errors import InputError
from unmasked.datasets.file_kinds import kind_of_bytes
from unmasked.datasets.vocabulary import Reading

# What to do with files that are no text, by how they begin; what they are is in `file_kinds`.
ADVICE = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook; unpack it, or export the sheet as CSV"),
    (b"PAR1", "a Parquet file; give it the suffix .parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; export the sheet as CSV"),
    (b"\x80", "a pickle, which was not opened since that can run code; write the table as CSV or Parquet"),
)
TEXTS = (".csv", ".tsv", ".txt")
WRITE_IT = "write the table as CSV or Parquet"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SAMPLED = 100  # records that tell the separator
TITLES_MAX = 10  # lines of titles before the header

POINT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?|[-+]?\d+")
# What spreadsheets run, behind one apostrophe of ours or more.
ESCAPED = re.compile(r"'+[=+\-@\t\r]")
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
    rows: tuple[tuple[str, ...], ...]  # the first records below it


def csv_header(path: Path) -> list[str]:
    """The fields of a CSV file's header as they stand there; errors as in `read_csv`."""
    return [column_name(name) for name in csv_dialect(path, [], whole=False).header]


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
    header, *rows = records[separator] or [[]]
    if not header:
        raise InputError(f"table {path} cannot be read: it is empty; give a file with a header line and rows")
    shown = skipped - hidden if titles else 0
    return Dialect(encoding, separator, skipped, shown, tuple(header), tuple(map(tuple, rows)))


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
        has_number = any(POINT.fullmatch(cell.strip()) or COMMA.fullmatch(cell.strip()) for cell in cells)
        if len(names) == len(cells) > 1 and all(names) and has_number and not lines[1].startswith("#"):
            return True
    return False


def column_name(raw: str) -> str:
    """A column's name: "# video", as NumPy marks the first of a header, is video."""
    return unescaped(re.sub(r"^#\s+(?=\w)", "", raw.strip()))


def unescaped(text: str) -> str:
    """The text without the apostrophe that `write_csv` puts before what spreadsheets run."""
    return text[1:] if ESCAPED.match(text) else text


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
    same = [len(fields) == width for fields in records[1:]] or [False]
    return max(0.01, sum(same) / len(same)), width


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
