"""Tables of several runs become one, or one sentence says why not; no run drops another's videos."""

from __future__ import annotations

import cv2
import pandas as pd
import pytest
from preprocessing_fakes import SquareDetector, manifest_of, square_frame
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.collection import collect
from unmasked.evaluation.join import join_tables
from unmasked.evaluation.predictions import PREDICTIONS
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.lost import LOST, unused_path
from unmasked.preprocessing.run import preprocess

CONFIG = PreprocessConfig(frames_per_video=4, size_px=64, workers=1)


@pytest.fixture
def two(tmp_path):
    """Two folders of crops, of a picture each."""
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(cv2.imencode(".png", square_frame(ord(name) % 3))[1].tobytes())
        manifest = manifest_of(tmp_path, [f"{name}.png"], kind="image").assign(dataset=name)
        preprocess(manifest, tmp_path / "faces" / name, CONFIG, detector=SquareDetector)
    return tmp_path


def scores(dataset="A", **columns) -> pd.DataFrame:
    rows = {"dataset": dataset, "video": ["a", "b"], "label": [0, 1], "score": [0.2, 0.7]}
    return pd.DataFrame(rows | columns)


def test_faces_of_two_folders_become_one_table_whose_crops_are_found(two):
    out = two / "faces.parquet"
    joined, kind = join_tables([two / "faces" / "a", two / "faces" / "b" / "faces.parquet"], out)
    assert kind == "faces"
    assert FACES.read(out)["dataset"].tolist() == ["a", "b"] == joined["dataset"].tolist()
    for crop, name in zip(joined["crop"], "ab", strict=True):
        assert (out.parent / crop).samefile(next((two / "faces" / name / "crops").rglob("*.png")))


def test_a_table_whose_folder_does_not_hold_the_crops_is_refused_with_one_that_does(two):
    tables = [two / "faces" / "a", two / "faces" / "b"]
    with pytest.raises(InputError, match=rf"outside .*all, .* such as {two}/faces\.parquet"):
        join_tables(tables, two / "all" / "faces.parquet")
    assert not (two / "all").exists()


def test_a_second_manifest_in_one_folder_is_refused_and_the_first_table_kept(two):
    """The second call replaced the first table without a word."""
    out = two / "faces" / "a"
    before = (out / "faces.parquet").read_bytes()
    other = manifest_of(two, ["b.png"], kind="image").assign(dataset="b")
    with pytest.raises(InputError, match=r"1 of 1 videos that the manifest lacks .*a/a.* `unmasked join`"):
        preprocess(other, out, CONFIG, detector=SquareDetector)
    assert (out / "faces.parquet").read_bytes() == before
    first = manifest_of(two, ["a.png"], kind="image").assign(dataset="a")
    both = preprocess(pd.concat([first, other]), out, CONFIG, detector=SquareDetector)
    assert both["dataset"].tolist() == ["a", "b"]


def test_crops_of_unlike_recipes_are_joined_only_on_request(two):
    manifest = manifest_of(two, ["b.png"], kind="image").assign(dataset="c")
    smaller = CONFIG.model_copy(update={"size_px": 48})
    preprocess(manifest, two / "faces" / "c", smaller, detector=SquareDetector)
    tables = [two / "faces" / "a", two / "faces" / "c"]
    with pytest.raises(InputError, match=r"several recipes .* any_recipe=true"):
        join_tables(tables, two / "all.parquet")
    assert len(join_tables(tables, two / "all.parquet", any_recipe=True)[0]) == 2


def test_predictions_become_one_table_with_what_each_left_out(tmp_path):
    for name in "AB":
        PREDICTIONS.write(scores(name, detector="x", checkpoint="w"), tmp_path / f"{name}.parquet")
        lost = {
            "dataset": name,
            "video": "gone",
            "label": 0,
            "class": "real",
            "status": "no_face",
            "frames": 1,
        }
        LOST.write(pd.DataFrame([lost]), unused_path(tmp_path / f"{name}.parquet"))
    out = tmp_path / "all.csv"
    joined, kind = join_tables([tmp_path / "A.parquet", tmp_path / "B.parquet"], out)
    assert (kind, len(joined)) == ("predictions", 4)
    assert LOST.read(unused_path(out))["dataset"].tolist() == ["A", "B"]


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (scores("A", detector="x"), r"2 videos are in both .* \(A/a, A/b\); leave one table out"),
        (scores("B", detector="y"), "several detectors .* give tables of one detector"),
        (scores("B").drop(columns="score"), "no column is called score"),
    ],
)
def test_tables_that_do_not_go_together_are_refused_in_a_sentence(tmp_path, second, sentence):
    write_frame(scores("A", detector="x"), tmp_path / "a.csv")
    write_frame(second, tmp_path / "b.csv")
    with pytest.raises(InputError, match=sentence):
        join_tables([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "all.csv")
    assert not (tmp_path / "all.csv").exists()


def test_no_table_is_written_over_and_one_alone_is_refused(tmp_path, two):
    write_frame(scores("A"), tmp_path / "a.csv")
    write_frame(scores("B"), tmp_path / "b.csv")
    with pytest.raises(InputError, match="is one of the tables"):
        join_tables([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "b.csv")
    with pytest.raises(InputError, match="1 table was given"):
        join_tables([tmp_path / "a.csv"], tmp_path / "c.csv")
    with pytest.raises(InputError, match=r"two kinds .*\(predictions\), .*\(faces\)"):
        join_tables([tmp_path / "a.csv", two / "faces" / "a"], tmp_path / "c.csv")


def test_what_explain_has_drawn_is_no_detectors_scores(tmp_path):
    """`explain` in a run broke `compare`, and was two more detectors in a folder of predictions."""
    write_frame(scores(detector="x", checkpoint="w"), tmp_path / "run" / "predictions.parquet")
    for name in ("pictured", "embedding"):
        write_frame(scores(frame=0), tmp_path / "run" / "explain" / f"{name}.parquet")
    (tmp_path / "run" / "explain" / "explain.json").write_text("{}")
    found, notes = collect(tmp_path / "run")
    assert [one.detector for one in found] == ["x"]
    assert not notes


def test_tables_of_strangers_are_joined_as_the_other_commands_read_them(tmp_path):
    """`join` refused what `evaluate` reads: another's names, percent, no column dataset."""
    (tmp_path / "a.tsv").write_text("file\ttruth\tp\na1.mp4\tREAL\t12%\na2.mp4\tFAKE\t90%\na3.mp4\t\t5%\n")
    (tmp_path / "b.csv").write_text("file;truth;p;camera\nb1.mp4;FAKE;80,5 %;x\nb2.mp4;REAL;;y\n")
    keys = ["columns={score: p}", f"out={tmp_path / 'all.csv'}"]
    done = CliRunner().invoke(app, ["join", f"tables=[{tmp_path / 'a.tsv'},{tmp_path / 'b.csv'}]", *keys])
    assert done.exit_code == 0, done.output
    joined = PREDICTIONS.read(tmp_path / "all.csv")
    assert joined["video"].tolist() == ["a1.mp4", "a2.mp4", "a3.mp4", "b1.mp4"]
    assert joined["score"].tolist() == [0.12, 0.9, 0.05, 0.805]
    assert joined["label"].tolist()[:2] == [0, 1]
    assert pd.isna(joined["label"][2])
    assert joined["dataset"].tolist() == ["all.csv"] * 4
    assert joined["camera"].tolist()[3] == "x"
    assert "rows: 5 given, 4 used; left out: 1 no score" in done.output
    # It said that the rows were of two datasets, called like the files, and wrote a third name.
    assert "no column dataset in a.tsv, b.csv: these rows are of all.csv" in done.output
    assert "called a.tsv" not in done.output


def test_two_tables_without_a_dataset_are_of_one_and_a_video_of_both_is_noticed(tmp_path):
    """Each was a dataset called like its file, and their common videos counted twice."""
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"video,label,score\nx,0,0.1\n{name},1,0.9\n")
    with pytest.raises(InputError, match=r"one video is in both .*a.csv and .*b.csv \(all.csv/x\)"):
        join_tables([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "all.csv")
    (tmp_path / "b.csv").write_text("video,label,score\nx.mp4,0,0.1\n")
    with pytest.raises(InputError, match="one video is in both"):
        join_tables([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "all.csv")
