"""The door for predictions: what passes, and what each wrong file is told."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from unmasked.app.verbs.reading import ReadAs, read_scores
from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.predictions import (
    PREDICTIONS,
    evaluated_rows,
    evaluated_rows_and_notes,
    read_predictions,
    validate_predictions,
)
from unmasked.preprocessing.faces import FACES


def outsider() -> pd.DataFrame:
    return pd.DataFrame(
        {"dataset": "D", "video": ["a", "a", "b"], "label": [1, 1, 0], "score": [0.8, 0.7, 0.1], "team": "x"}
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_with_four_columns_is_enough_and_keeps_others(tmp_path, suffix):
    write_frame(outsider(), tmp_path / f"scores{suffix}")
    read = read_predictions(tmp_path / f"scores{suffix}")
    assert read["score"].tolist() == [0.8, 0.7, 0.1]
    assert read["team"].tolist() == ["x", "x", "x"]


def test_video_numbers_read_from_a_csv_are_names(tmp_path):
    write_frame(outsider().assign(video=[0, 0, 1]), tmp_path / "scores.csv")
    assert read_predictions(tmp_path / "scores.csv")["video"].tolist() == ["0", "0", "1"]


HEADER = "dataset,video,label,score\n"
GOOD = HEADER + "D,a,1,0.8\nD,b,0,0.1\n"


def refused(path) -> str:
    """The sentence that a file is refused with, which names the file."""
    with pytest.raises(InputError) as caught:
        read_predictions(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="label"), r"no column is called label or labels.*columns=\{label: …\}"),
        (lambda t: t.assign(score=[2.1, -3.0, 0.2]), "holds -3 in row 3.*logits.*score_as=logit"),
        (lambda t: t.assign(score=[1.2, 0.1, 0.2]), "above 1 in row 2 .1 of 3 rows.*score_as=percent"),
        (lambda t: t.assign(score=[0.2, np.inf, 0.2]), "holds inf in row 3.*leave the cell empty"),
        (lambda t: t.assign(score=["0.2", "high", "0.1"]), "'score' holds 'high'.*in row 3.*is a number"),
        (lambda t: t.assign(score=["fake", "fake", "real"]), "a decision is no score"),
        (lambda t: t.assign(score=10**30), "holds 1e\\+30 in row 2, 3, 4"),
        (lambda t: t.assign(label=[2, 3, 0]), "'label' holds '2' in row 2.*a column of its own, method"),
        (
            lambda t: t.assign(label=[-1, -1, 1]),
            "'label' holds 1 and -1, which do not say what is fake: one_means=fake",
        ),
        (lambda t: t.assign(label=[0.5, 0.5, 1]), "'label' holds '0.5' in row 2"),
        (lambda t: t.assign(label=10**30), "'label' holds .*1000000000000000000000000"),
        (lambda t: t.assign(video=["a", None, "b"]), "'video' is empty in row 3"),
        (lambda t: t.assign(label=[1, 0, 0]), "video 'a' of D is labelled both real and fake"),
        (lambda t: t.assign(frame=0, face=0), "frame 0, face 0 of D 'a' is scored more than once"),
        (lambda t: t.assign(frame=0), "frame 0 of D 'a' is scored more than once.*in a column face"),
        (lambda t: t.iloc[:0], "has no row"),
    ],
)
def test_each_wrong_table_is_told_what_is_wrong(tmp_path, change, said):
    path = tmp_path / "scores.csv"
    write_frame(change(outsider()), path)
    assert re.search(said, refused(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.rename(columns={"label": "labels"}), "column 'labels'"),
        (lambda t: t.rename(columns={"label": "y_true", "score": "Prob"}), "column 'y_true'.*column 'Prob'"),
        (lambda t: t.rename(columns={"video": "file name"}), "column 'file name'"),
        (lambda t: t.assign(score=[80.0, 70.0, 10.0]), "percent"),
        (lambda t: t.assign(score=["80%", "70%", "10%"]), "percent"),
        (lambda t: t.assign(label=["fake", "fake", "real"]), "real: real; fake: fake"),
        (lambda t: t.assign(label=["FAKE", "Fake", "genuine"]), "genuine: real"),
    ],
)
def test_table_in_a_strangers_words_is_read_and_what_was_assumed_is_said(tmp_path, change, said):
    path = tmp_path / "scores.csv"
    write_frame(change(outsider()), path)
    readings = []
    read = read_predictions(path, readings)
    assert read["score"].round(6).tolist() == [0.8, 0.7, 0.1]
    assert read["label"].tolist() == [1, 1, 0]
    assert re.search(said, "; ".join(f"{what} {how}" for what, how in readings))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(score=[0.2, np.nan, 0.2]), "rows with no score left out: 1 .row 3"),
        (lambda t: t.assign(label=[1, None, 0]), "rows without a label left out: 1"),
    ],
)
def test_row_without_a_score_or_a_label_is_left_out_and_counted(tmp_path, change, said):
    path = tmp_path / "scores.csv"
    write_frame(change(outsider()), path)
    readings = []
    assert len(read_predictions(path, readings)) == 2
    assert re.search(said, "; ".join(f"{what} {how}" for what, how in readings))


@pytest.mark.parametrize(
    "columns",
    [
        {"video": ["fake/a", "fake/b", "real/c"]},
        {"method": ["original", "original", "Deepfakes"]},
    ],
)
def test_labels_that_folders_or_methods_contradict_are_refused_whatever_the_columns_are_called(
    tmp_path, columns
):
    path = tmp_path / "scores.csv"
    table = pd.DataFrame(
        {"dataset": "D", "video": ["a", "b", "c"], "label": [0, 0, 1], "score": [0.1, 0.2, 0.9]}
    )
    if "method" in columns:
        table["label"] = 1 - table["label"]
    write_frame(table.assign(**columns), path)
    assert re.search("the label says .* in .* rows.*one_means", refused(path))
    if "video" in columns:
        assert len(read_predictions(path, one_means="fake")) == 3


def test_splits_are_read_in_every_spelling_and_unknown_ones_are_listed(tmp_path):
    path = tmp_path / "scores.csv"
    table = pd.DataFrame(
        {"dataset": "D", "video": list("abcd"), "label": [0, 1, 0, 1], "score": [0.1, 0.9, 0.2, 0.8]}
    )
    write_frame(table.assign(split=["test", "Test", "TEST", "testing"]), path)
    readings = []
    assert set(read_predictions(path, readings)["split"]) == {"test"}
    assert readings
    write_frame(table.assign(split=["test", "fold7", "test", "val"]), path)
    assert re.search("'fold7'.*no split.*Found were", refused(path))


def test_columns_and_direction_that_are_told_win(tmp_path):
    path = tmp_path / "scores.csv"
    table = pd.DataFrame({"clipname": ["a", "b"], "truth": [0, 1], "real_score": [0.2, 0.9]})
    write_frame(table, path)
    read = read_predictions(
        path, columns={"video": "clipname", "score": "real_score"}, one_means="real", score_of="real"
    )
    assert read["label"].tolist() == [1, 0]
    assert read["score"].round(6).tolist() == [0.8, 0.1]
    with pytest.raises(InputError, match="score_of=real"):
        read_predictions(path, columns={"video": "clipname", "score": "real_score"})


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        HEADER.replace(",", ";") + "D;a;1;0,8\nD;b;0;0,1\n",
        GOOD.encode("utf-16"),
        GOOD.encode("utf-16-le"),
        GOOD.replace("D,a", "D,é").encode("latin-1"),
    ],
    ids=range(6),
)
def test_one_table_in_other_writings_is_read_the_same(tmp_path, content):
    path = tmp_path / "scores.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    read = read_predictions(path)
    assert read["score"].tolist() == [0.8, 0.1]
    assert read["video"][1] == "b"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"\xef\xbb\xbf", "it is empty"),
        (HEADER, "has no row"),
        (
            "D,a,1,0.8\nD,b,0,0.1\n",
            "no column is known, they are called .*a first line such as video,label,score",
        ),
        (HEADER + "D,a,1,0,8\nD,b,0,0,1\n", "line 2 has 5 values and the header 4.*decimals with a point"),
        (GOOD + "D,c,1,0.7,0.9\n", "line 4 has 5 values and the header 4"),
        (b"PK\x03\x04" + bytes(60), "a ZIP archive or an Excel workbook"),
        (b"PK\x03\x04\x14AB\x08" * 20, "a ZIP archive or an Excel workbook"),
        (b"\x1f\x8b\x08" + b"abc" * 40, "compressed with gzip; unpack it"),
        (b"PAR1" + b"\x15\x04" * 40, "a Parquet file; give it the suffix .parquet"),
        (b"\x80\x04\x95" + b"abc" * 40, "a pickle, which was not opened"),
        ("<!DOCTYPE html><html><body>Log in</body></html>", "a web page or XML"),
        ('[{"dataset": "D", "video": "a"}]', "JSON; write the table as CSV"),
        (bytes(range(1, 256)) * 4, "is not UTF-8 text"),
        (b"\x00" * 200, "NUL bytes"),
        (
            HEADER.replace("\n", ",score\n") + "D,a,1,0.8,0.7\nD,b,0,0.1,0.2\n",
            "column 'score' 2 times; keep one",
        ),
        (GOOD.replace("D,a,1,0.8", 'D,"a,1,0.8'), "a quotation mark is opened and never closed"),
    ],
    ids=range(18),
)
def test_each_file_that_is_no_such_csv_is_told_what_it_is(tmp_path, content, said):
    path = tmp_path / "scores.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert re.search(said, refused(path))


def test_a_file_of_another_kind_a_folder_and_no_file_are_refused(tmp_path):
    (tmp_path / "scores.json").write_text("{}")
    assert "suffix '.json'; give a file with one of .parquet, .csv" in refused(tmp_path / "scores.json")
    assert "does not exist" in refused(tmp_path / "scores.csv")
    (tmp_path / "scores.parquet").write_text(GOOD)
    assert "cannot be read" in refused(tmp_path / "scores.parquet")
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder" in refused(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.rstrip("\n"),
        "dataset, video , label, score\n D , a , 1 , 0.8 \nD,b,0,0.1\n",
        GOOD.replace("1,0.8", "True,8e-1").replace("0,0.1", "False,.1"),
        GOOD.replace("1,0.8", "1.0,0.8").replace("0,0.1", "0.0,0.1"),
        "score,label,video,dataset\n0.8,1,a,D\n0.1,0,b,D\n",
        ",dataset,video,label,score\n0,D,a,1,0.8\n1,D,b,0,0.1\n",
        '"dataset","video","label","score"\n"D","a","1","0.8"\n"D","b","0","0.1"\n',
        "dataset,video,label,score,\nD,a,1,0.8,\nD,b,0,0.1,\n",
    ],
    ids=range(11),
)
def test_what_means_the_same_reads_as_the_same(tmp_path, content):
    path = tmp_path / "scores.CSV"
    path.write_text(content, encoding="utf-8", newline="")
    read = read_predictions(path)[["dataset", "video", "label", "score"]]
    assert read.to_dict("list") == {
        "dataset": ["D", "D"],
        "video": ["a", "b"],
        "label": [1, 0],
        "score": [0.8, 0.1],
    }


def test_names_of_videos_that_look_like_numbers_stay_as_they_are(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(HEADER + "1,000,1,0.8\n1,0,0,0.1\n1,12345678901234567890123,0,0.2\n1,1e5,1,0.9\n")
    assert read_predictions(path)["video"].tolist() == ["000", "0", "12345678901234567890123", "1e5"]


def test_rows_that_may_be_a_mistake_are_read_and_said():
    _, notes = evaluated_rows_and_notes(validate_predictions(pd.concat([outsider(), outsider()])))
    assert notes[1].startswith("3 rows repeat another one in every column")
    _, notes = evaluated_rows_and_notes(
        validate_predictions(outsider().assign(score=[1.0, 1.0, 0.0], frame=[0, 1, 0]))
    )
    assert "hard decisions: every score is 0 or 1" in notes[-1]


def test_crops_that_differ_in_frame_face_or_detector_are_not_repeats():
    table = pd.concat([outsider().assign(frame=[0, 1, 0], face=0, detector=name) for name in "AB"])
    assert len(validate_predictions(table)) == 6


def test_only_test_rows_are_evaluated_where_there_are_any():
    table = outsider().assign(split=["test", "val", None])
    kept, notes = evaluated_rows_and_notes(validate_predictions(table))
    assert kept["score"].tolist() == [0.8]  # rows without a split count where none is of test
    assert notes[0] == "rows of the test split are evaluated (1 of 3)"


def test_without_a_split_all_rows_are_evaluated_and_it_is_said():
    kept, notes = evaluated_rows_and_notes(validate_predictions(outsider()))
    assert len(kept) == 3
    assert notes[0] == "no row has a split: all rows are evaluated"


def test_rows_of_other_splits_alone_are_refused():
    with pytest.raises(InputError, match=r"no row is of the test split.* of val"):
        evaluated_rows(validate_predictions(outsider().assign(split="val")))


def test_perturbed_crops_are_left_out_and_alone_are_refused():
    table = validate_predictions(outsider().assign(perturbation=["none", None, "jpeg"], severity=[0, 0, 3]))
    kept, notes = evaluated_rows_and_notes(table)
    assert len(kept) == 2
    assert "1 rows of perturbed crops" in notes[0]
    with pytest.raises(InputError, match="every prediction is of a perturbed crop"):
        evaluated_rows(table[table["perturbation"] == "jpeg"])


def test_no_column_that_our_own_crops_bring_is_called_unused(capsys, tmp_path):
    """`evaluate` of our own tables said that no number uses padded, crops and conversion."""
    faces = {name: None for name in FACES.columns if name not in PREDICTIONS.columns}
    rows = {"dataset": "A", "video": ["a", "b"], "label": [0, 1], "score": [0.2, 0.8]}
    pd.DataFrame(rows).assign(**faces, mine=1).to_csv(tmp_path / "p.csv", index=False)
    read_scores(ReadAs(), tmp_path / "p.csv")
    said = " ".join(capsys.readouterr().out.split())
    assert said.endswith("columns that no number uses mine")


def test_rows_are_had_without_the_words_about_them(monkeypatch):
    """Every caller waited for the doubts: seven times in one `evaluate`, half a second each."""
    asked = []
    monkeypatch.setattr(
        "unmasked.evaluation.predictions.doubts", lambda rows: asked.append(len(rows)) or ["x"]
    )
    table = validate_predictions(outsider())
    rows = evaluated_rows(table)
    assert asked == []
    pd.testing.assert_frame_equal(rows, evaluated_rows_and_notes(table)[0])
    assert asked == [len(rows)]
