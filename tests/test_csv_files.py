"""CSV files as spreadsheets of all countries write them, and what is no such file."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmasked.datasets.csv_files import read_csv, read_csv_as_text, write_csv
from unmasked.datasets.errors import InputError

ROWS = "file;label;score\nä.mp4;FAKE;55,1\nb.mp4;real;7,25\n"


def read(tmp_path, content, **options):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = []
    return read_csv(path, readings=said, **options), [f"{what}: {how}" for what, how in said]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ROWS.encode(), []),
        (ROWS.encode("utf-8-sig"), []),
        (ROWS.encode("cp1252"), ["coding of the text: Windows-1252"]),
        (ROWS.encode("utf-16"), ["coding of the text: UTF-16"]),
        (ROWS.encode("utf-16-le"), ["coding of the text: UTF-16"]),
        (ROWS.encode("utf-16-be"), ["coding of the text: UTF-16"]),
        (
            ("\ufeffsep=;\r\n" + ROWS.replace("\n", "\r\n")).encode(),
            ["the line sep=: columns are parted by semicolons"],
        ),
        (ROWS.replace(";", "\t").encode(), ["separator: tabs"]),
        (ROWS.replace(";", "|").encode(), ["separator: vertical bars"]),
        (("\n\n" + ROWS).encode(), []),
    ],
    ids=range(10),
)
def test_one_table_is_read_from_every_writing_of_it(tmp_path, content, said):
    table, found = read(tmp_path, content)
    assert table["file"].tolist() == ["ä.mp4", "b.mp4"]
    assert table["score"].tolist() == [55.1, 7.25]
    for sentence in said:
        assert sentence in found
    assert "column 'score': decimal commas: 55,1 is a number" in found


def test_a_plain_table_is_read_without_a_word(tmp_path):
    table, found = read(tmp_path, "dataset,video,label,score\nD,a,1,0.8\nD,b,0,0.1\n")
    assert table["score"].tolist() == [0.8, 0.1]
    assert found == []


def test_none_and_na_are_words_in_a_group_and_missing_among_numbers_and_in_our_columns(tmp_path):
    text = "video,eyewear,region,yaw\nNone,None,NA,1.5\nb,glasses,EU,None\nc,n/a,EU,\n"
    table, _ = read(tmp_path, text, text=["video"])
    assert table["eyewear"][:2].tolist() == ["None", "glasses"]
    assert pd.isna(table["eyewear"][2])
    assert table["region"].tolist() == ["NA", "EU", "EU"]
    np.testing.assert_array_equal(table["yaw"], [1.5, np.nan, np.nan])
    assert pd.isna(table["video"][0])


def test_rows_keep_the_numbers_of_the_spreadsheet_where_some_are_empty(tmp_path):
    table, found = read(tmp_path, "a,b\n1,x\n,\n\n2,y\n,\n")
    assert table.index.tolist() == [0, 3]
    assert table["a"].tolist() == [1, 2]
    assert table["a"].dtype == np.int64
    assert found == ["rows without any value: left out: 2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x00\x01\x02binary\xff" * 40, "NUL bytes"),
        (bytes(range(1, 256)) * 4, "not UTF-8 text"),
        (b"a;b\n1;2;3\n", "line 2 has 3 values and the header 2"),
        (b'a,b\n1,"2\n', "a quotation mark is opened and never closed"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(tmp_path, content, said):
    with pytest.raises(InputError, match=said):
        read(tmp_path, content)


cells = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), max_size=12)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
def test_text_with_formulas_reads_back_as_written_and_starts_with_no_sign_that_runs(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    table = pd.DataFrame([(f"x{a}", f"={b}") for a, b in rows], columns=["name", "@formula"])
    write_csv(table, path)
    written = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert not any(value[:1] in "=+-@" for column in written for value in [column, *written[column]] if value)
    again = read_csv_as_text(path)
    assert list(again.columns) == ["name", "@formula"]
    assert again["@formula"].tolist() == table["@formula"].tolist()
    assert again["name"].tolist() == table["name"].tolist()


def test_negative_numbers_are_no_formulas(tmp_path):
    write_csv(pd.DataFrame({"a": [-1.5, 2.0], "b": ["-1.5", "-x"]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "a,b\n-1.5,-1.5\n2.0,'-x\n"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.one_of(st.binary(max_size=300), st.text(alphabet='a1;,\t"\n\r|=é\ufeff', max_size=80).map(str.encode))
)
def test_any_bytes_are_a_table_or_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(content)
    with contextlib.suppress(InputError):  # anything else is a traceback
        read_csv(path, ["a"], [])
