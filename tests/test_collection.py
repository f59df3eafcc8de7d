"""Predictions of a folder: which files count, what goes together, and what is known of the training."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.collection import NOT_STATED, Stated, Training, collect

RULE = "highest video AUC on the source's validation split"


def predictions(dataset="A", **columns) -> pd.DataFrame:
    return pd.DataFrame(
        {"dataset": dataset, "video": ["a", "b"], "label": [0, 1], "score": [0.2, 0.7], **columns}
    )


def card(sha256: str, dataset: str = "A", methods=("Deepfakes",)) -> dict:
    counts = {"real": 3, **dict.fromkeys(methods, 3)}
    return {
        "architecture": "ucf",
        "sha256": sha256,
        "training_data": {
            "datasets": [dataset],
            "compression": ["c23"],
            "train": {"videos_by_method": counts},
        },
        "selection": {"rule": RULE},
    }


def put(folder, name, table=None, about=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if table is not None:
        write_frame(table, path)
    if about is not None:
        (path.parent / "detector.json").write_text(json.dumps(about))
    return path


def test_run_folders_give_each_detector_with_what_its_card_says(tmp_path):
    for name, weights in (("one", "abc"), ("two", "def")):
        rows = predictions(detector="UCF", checkpoint=weights)
        put(tmp_path, f"{name}/predictions.parquet", rows, card(weights, dataset=name))
    put(tmp_path, "one/by_group.csv", pd.DataFrame({"group": ["x"], "fpr": [0.1]}))
    found, notes = collect(tmp_path)
    assert [one.name for one in found] == ["UCF (one)", "UCF (two)"]
    assert [one.detector for one in found] == ["UCF", "UCF"]
    assert [one.training.source for one in found] == ["one", "two"]
    assert found[0].training == Training(("one",), ("c23",), ("Deepfakes",), (), RULE)
    assert found[0].files == ("one/predictions.parquet",)
    assert notes == ["one/by_group.csv: no column dataset, video, label, score"]


def test_a_card_of_other_weights_says_nothing(tmp_path):
    put(tmp_path, "predictions.csv", predictions(checkpoint="abc"), card("def"))
    (one,), _ = collect(tmp_path)
    assert one.training == Training()
    assert one.training.selection_rule == NOT_STATED
    assert one.card == {}


def test_a_lone_file_finds_the_card_beside_it_or_in_the_run_folder(tmp_path):
    path = put(tmp_path, "scores/predictions.csv", predictions(checkpoint="abc"))
    put(tmp_path, "run/x", about=card("abc"))
    assert collect(path)[0][0].training.source is None
    assert collect(path, cards=tmp_path / "run")[0][0].training.source == "A"
    put(tmp_path, "scores/x", about=card("abc", dataset="B"))
    assert collect(path)[0][0].training.source == "B"


def test_files_that_state_nothing_are_detectors_named_after_them(tmp_path):
    put(tmp_path, "xception.csv", predictions())
    put(tmp_path, "run7/predictions.parquet", predictions())
    found, _ = collect(tmp_path)
    assert sorted(one.name for one in found) == ["run7", "xception"]


def test_files_of_one_detector_are_put_together_and_may_not_overlap(tmp_path):
    put(tmp_path, "a.csv", predictions("A", detector="X"))
    put(tmp_path, "b.csv", predictions("B", detector="X"))
    (one,), _ = collect(tmp_path)
    assert one.files == ("a.csv", "b.csv")
    assert sorted(one.predictions["dataset"].unique()) == ["A", "B"]
    put(tmp_path, "c.csv", predictions("A", detector="X", perturbation="jpeg", severity=3))
    assert len(collect(tmp_path)[0]) == 1  # the same videos, but perturbed
    put(tmp_path, "d.csv", predictions("B", detector="X"))
    with pytest.raises(InputError, match=r"are of one detector \(X\) and both score B/a; keep one"):
        collect(tmp_path)


def test_one_detector_with_other_training_is_another_one(tmp_path):
    put(tmp_path, "a.csv", predictions(detector="X", trained_on="A"))
    put(tmp_path, "b.csv", predictions(detector="X", trained_on="B"))
    found, _ = collect(tmp_path)
    assert [(one.name, one.training.source) for one in found] == [("X (a)", "A"), ("X (b)", "B")]


@pytest.mark.parametrize("key", ["deep/x.csv", "x.csv", "x", "deep", "X"])
def test_what_the_caller_states_counts_first_by_any_name_of_the_file(tmp_path, key):
    put(tmp_path, "deep/x.csv", predictions(detector="X", trained_on="A", held_out="FaceSwap"))
    put(tmp_path, "y.csv", predictions(trained_on="A + B"))
    said = Stated(source={key: "C"}, selection="last step")
    (x, y), _ = collect(tmp_path, said)
    assert (x.training.datasets, x.training.held_out) == (("C",), ("FaceSwap",))
    assert (y.training.datasets, y.training.source, y.training.name) == (("A", "B"), None, "A + B")
    assert x.training.selection_rule == y.training.selection_rule == "last step"


def test_a_stated_source_unlike_the_cards_takes_its_methods_from_nobody(tmp_path):
    put(tmp_path, "p.csv", predictions(checkpoint="abc"), card("abc"))
    (one,), _ = collect(tmp_path, Stated(source="B"))
    assert (one.training.source, one.training.methods, one.training.compression) == ("B", (), ())
    (one,), _ = collect(tmp_path, Stated(source="A"))
    assert one.training.methods == ("Deepfakes",)


def test_a_source_stated_of_no_file_is_refused(tmp_path):
    put(tmp_path, "x.csv", predictions())
    with pytest.raises(InputError, match=r"source names 'y', which is none of the predictions.*x, x.csv"):
        collect(tmp_path, Stated(source={"y": "A"}))


def test_a_folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no \.parquet or \.csv file"):
        collect(tmp_path)
    put(tmp_path, "x.csv", predictions().rename(columns={"score": "length"}))
    with pytest.raises(InputError, match=r"none of the 1 tables .* \(x.csv: no column score\); rename"):
        collect(tmp_path)


@pytest.mark.parametrize("column", ["detector", "checkpoint", "trained_on"])
def test_a_file_of_several_detectors_is_refused(tmp_path, column):
    path = put(tmp_path, "x.csv", predictions(**{column: ["X", "Y"]}))
    with pytest.raises(
        InputError, match=rf"x.csv has 2 values in the column '{column}' \(X, Y\); keep the rows"
    ):
        collect(path)


def test_a_broken_file_of_ours_in_a_folder_is_not_passed_over(tmp_path):
    put(tmp_path, "x.csv", predictions())
    (tmp_path / "predictions.csv").write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(InputError, match=r"predictions\.csv is no CSV but a ZIP archive"):
        collect(tmp_path)


def test_leftovers_of_a_kill_and_foreign_tables_do_not_stop_a_folder(tmp_path):
    # Each of them made `evaluate predictions=FOLDER` refuse all of it.
    (tmp_path / "a").mkdir()
    table = {"dataset": "A", "video": ["a", "b"], "label": [0, 1], "score": [0.1, 0.9]}
    pd.DataFrame(table).to_parquet(tmp_path / "a/predictions.parquet")
    (tmp_path / "a/.predictions-abcd1234.parquet").write_bytes(b"")
    foreign = {"empty.csv": b"", "notes.csv": b"PK\x03\x04", "x.parquet": b"PAR1"}
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
    found, notes = collect(tmp_path)
    assert len(found) == 1
    assert sorted(note.split(":")[0] for note in notes) == sorted(foreign)
    (tmp_path / "a/predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"predictions\.parquet cannot be read"):
        collect(tmp_path)
