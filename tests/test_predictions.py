"""The door for predictions: what passes, and what each wrong file is told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.predictions import evaluated_rows, read_predictions, validated


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="label"), "no column 'label'.*needs dataset, video, label"),
        (lambda t: t.rename(columns={"label": "labels"}), "is 'labels' meant"),
        (
            lambda t: t.assign(score=[2.1, -3.0, 0.2]),
            "2 of 3 scores lie outside.*like logits: apply a sigmoid",
        ),
        (lambda t: t.assign(score=[0.2, np.inf, 0.2]), "holds inf in row 1"),
        (lambda t: t.assign(score=[0.2, np.nan, 0.2]), "empty \\(NaN\\) in row 1.*Leave out rows"),
        (lambda t: t.assign(score=["0.2", "high", "0.1"]), "'score' holds 'high' in row 1.*must be a number"),
        (
            lambda t: t.assign(label=["fake", "fake", "real"]),
            "'label' holds 'fake' in row 0.*write 1 for fake and 0 for real",
        ),
        (
            lambda t: t.assign(label=[2, 2, 0]),
            "'label' holds 2 in row 0.*allowed are 0 \\(real\\) and 1 \\(fake\\)",
        ),
        (lambda t: t.assign(label=[1, 0, 0]), "video 'a' of D is labelled both real and fake"),
        (lambda t: t.assign(frame=0, face=0), "frame 0, face 0 of D 'a' is scored more than once"),
        (lambda t: t.iloc[:0], "no rows"),
    ],
)
def test_each_wrong_file_is_told_what_is_wrong(tmp_path, change, said):
    path = tmp_path / "scores.csv"
    write_frame(change(outsider()), path)
    with pytest.raises(InputError, match=said) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)


def test_crops_that_differ_in_frame_face_or_detector_are_not_repeats():
    table = pd.concat([outsider().assign(frame=[0, 1, 0], face=0, detector=name) for name in "AB"])
    assert len(validated(table)) == 6


def test_only_test_rows_are_evaluated_where_there_are_any():
    table = outsider().assign(split=["test", "val", None])
    kept, notes = evaluated_rows(validated(table))
    assert kept["score"].tolist() == [0.8, 0.1]  # a row without a split counts as test
    assert notes == ["rows of the test split are evaluated (2 of 3)"]


@pytest.mark.parametrize(
    ("split", "said"), [(None, "no row has a split"), ("val", "test split: all rows \\(val\\)")]
)
def test_without_test_rows_all_are_evaluated_and_it_is_said(split, said):
    table = outsider() if split is None else outsider().assign(split=split)
    kept, notes = evaluated_rows(validated(table))
    assert len(kept) == 3
    assert pd.Series(notes).str.contains(said).all()


def test_perturbed_crops_are_left_out_and_alone_are_refused():
    table = validated(outsider().assign(perturbation=["none", None, "jpeg"], severity=[0, 0, 3]))
    kept, notes = evaluated_rows(table)
    assert len(kept) == 2
    assert "1 rows of perturbed crops" in notes[0]
    with pytest.raises(InputError, match="every prediction is of a perturbed crop"):
        evaluated_rows(table[table["perturbation"] == "jpeg"])
