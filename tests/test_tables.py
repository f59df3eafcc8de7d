"""Tables with a declared schema, and files that are written whole or not at all."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path, sha256_of_file, write_text
from unmasked.datasets.tables import TEXT, Column, Schema, read_frame, write_frame

SCHEMA = Schema(
    name="things",
    columns={
        "name": Column("text"),
        "label": Column("integer", allowed=(0, 1)),
        "score": Column("number", required=False, nullable=True, minimum=0, maximum=1),
        "note": Column("text", required=False, nullable=True),
        "whole": Column("integer", required=False, nullable=True),
        "good": Column("boolean", required=False),
    },
    key=("name",),
    hint="`unmasked things` writes one.",
)


def things(**columns):
    return pd.DataFrame({"name": ["a", "b"], "label": [0, 1], **columns})


def test_declared_types_and_order_and_absent_columns_added():
    table = SCHEMA.validate(things(extra=[1, 2])[["extra", "label", "name"]])
    assert list(table.columns) == ["name", "label", "score", "note", "whole", "extra"]
    assert table["name"].dtype == TEXT
    assert table["label"].dtype == np.dtype("int64")
    assert table["score"].dtype == np.dtype("float64")
    assert table[["score", "note", "whole"]].isna().all(axis=None)


def test_an_empty_table_has_the_schemas_columns():
    empty = SCHEMA.empty()
    assert len(empty) == 0
    assert set(SCHEMA.columns) <= set(empty.columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [0, 2]}, "'label' holds 2; allowed are 0, 1"),
        ({"label": [0, 0.5]}, "'label' holds 0.5; it must be of type integer"),
        ({"label": ["0", "x"]}, "'label' holds 'x'; it must be of type integer"),
        ({"label": [0, None]}, "'label' is empty in row 1"),
        ({"score": [0.5, 1.2]}, "'score' holds 1.2 in row 1; it must lie between 0 and 1"),
        ({"score": ["0.5", "high"]}, "'score' holds 'high'; it must be of type number"),
        ({"name": ["a", "a"]}, "the row name=a stands more than once"),
        ({"name": ["a", None]}, "'name' is empty in row 1"),
    ],
)
def test_what_a_schema_does_not_allow_is_refused(columns, message):
    with pytest.raises(InputError, match=message):
        SCHEMA.validate(
            things(**columns) if "label" in columns or "score" in columns else things().assign(**columns)
        )


def test_an_absent_column_is_named_with_the_nearest_and_what_to_do():
    with pytest.raises(
        InputError, match=r"no column 'label'; it has name, lable \(is 'lable' meant\?\).*writes one"
    ):
        SCHEMA.validate(pd.DataFrame({"name": ["a"], "lable": [1]}))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_written_table_reads_back_the_same(suffix, tmp_path):
    table = things(score=[0.25, np.nan], note=["x", None], whole=[3, None], group=["u", "v"])
    written = SCHEMA.write(table, tmp_path / f"t{suffix}")
    pd.testing.assert_frame_equal(SCHEMA.read(tmp_path / f"t{suffix}"), written, check_dtype=False)


def test_text_that_looks_like_a_number_keeps_its_zeros_in_csv(tmp_path):
    table = pd.DataFrame({"name": ["000", "071"], "label": [0, 1], "note": ["003", None]})
    SCHEMA.write(table, tmp_path / "t.csv")
    again = SCHEMA.read(tmp_path / "t.csv")
    assert list(again["name"]) == ["000", "071"]
    assert again["note"][0] == "003"
    assert pd.isna(again["note"][1])


def test_numbers_become_text_without_a_fraction():
    table = SCHEMA.validate(pd.DataFrame({"name": [1, 2], "label": [0, 1], "note": [3.0, np.nan]}))
    assert list(table["name"]) == ["1", "2"]
    assert table["note"][0] == "3"


def test_a_table_in_another_format_or_that_is_broken_is_refused(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match="no intact Excel workbook"):
        read_frame(tmp_path / "t.xlsx")
    with pytest.raises(InputError, match=r"suffix '\.txt'; tables are written as"):
        write_frame(things(), tmp_path / "t.txt")
    with pytest.raises(InputError, match="does not exist"):
        read_frame(tmp_path / "t.csv")
    for name in ("t.parquet", "t.csv"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match="cannot be read"):
            read_frame(tmp_path / name)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "t.txt", "old")
    with pytest.raises(UnicodeEncodeError), atomic_path(tmp_path / "t.txt") as temporary:
        temporary.write_text("half \udc00", encoding="utf-8")
    assert (tmp_path / "t.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["t.txt"]


def test_a_written_file_is_as_readable_as_any_other(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert (tmp_path / "deep" / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_json_has_null_for_what_json_cannot_say(tmp_path):
    value = {"a": np.float64("nan"), 1: [np.int64(3), float("inf")], "m": np.array([[1.0, np.nan]])}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "1": [3, None], "m": [[1.0, None]]}


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_file(tmp_path / "a") == expected


def test_rows_are_counted_as_a_spreadsheet_counts_them(tmp_path):
    # "row 0" was said by some commands, and "row 2" of the same cell by others.
    (tmp_path / "t.csv").write_text("name,label,score\na,1,35\nb,0,0.2\n")
    with pytest.raises(InputError, match=r"'score' holds 35.0 in row 2"):
        SCHEMA.read(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("name,label,score\na,1,0.5\n,0,0.2\n")
    with pytest.raises(InputError, match="'name' is empty in row 3"):
        SCHEMA.read(tmp_path / "t.csv")
