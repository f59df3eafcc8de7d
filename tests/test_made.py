"""A faces table that somebody edited is taken as it is now, and what was changed is said."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.app.inputs import read_faces
from unmasked.datasets.tables import read_frame, write_frame
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.made import edits, write_faces


def faces() -> pd.DataFrame:
    """Three frames of each of four videos."""
    rows = [
        {
            **{"dataset": "A", "video": f"v{video}", "kind": "video", "label": video % 2, "split": "test"},
            "method": ("real", "swap")[video % 2],
            **{"frame": frame, "face": 0, "crop": f"crops/{video}/{frame}.png", "status": "ok"},
        }
        for video in range(4)
        for frame in range(3)
    ]
    return FACES.validate(pd.DataFrame(rows))


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda table: table, ""),
        (lambda table: table.sample(frac=1, random_state=0), ""),
        (lambda table: table.assign(site="Kiel", blur=0.5), ""),
        (lambda table: table[table["video"] != "v1"], "1 gone (v1)"),
        (
            lambda table: table.assign(label=table["label"].mask(table["video"] == "v2", 1)),
            "1 of another label (v2)",
        ),
        (lambda table: table.assign(split="train"), "4 of another split (v0, v1, v2, …)"),
        (lambda table: table.drop(index=4), "1 with rows taken out (v1)"),
        (lambda table: table.assign(crop=table["crop"].str.replace("/3/", "/2/")), "1 with other crops"),
        (lambda table: table.replace({"video": {"v0": "w"}}), "1 gone (v0); 1 added (w)"),
    ],
)
def test_what_was_changed_in_a_table_is_said_by_video(tmp_path, capsys, suffix, edit, said):
    """Rows taken out and labels changed by hand went into numbers without a word."""
    path = tmp_path / f"faces{suffix}"
    write_faces(faces(), path)
    edited = edit(read_frame(path))
    write_frame(edited, path)
    found = read_faces(path)
    assert len(found) == len(edited)
    printed = capsys.readouterr().out
    assert (said in printed) if said else not printed
    assert f"{path} that are not as they were made" in printed or not said


def test_a_copy_in_the_folder_is_held_against_the_record_of_the_table_and_strangers_have_none(tmp_path):
    write_faces(faces(), tmp_path / "faces.parquet")
    copy = faces().query("video != 'v3'")
    assert "1 gone (v3)" in edits(copy, tmp_path / "test.parquet")
    (tmp_path / "else").mkdir()
    assert edits(copy, tmp_path / "else" / "faces.parquet") == ""


def test_the_record_is_no_table_of_scores(tmp_path):
    write_faces(faces(), tmp_path / "faces.parquet")
    scores = pd.DataFrame({"video": list("abcd"), "label": [0, 1] * 2, "score": [0.1, 0.9, 0.2, 0.8]})
    scores.assign(dataset="A").to_csv(tmp_path / "scores.csv", index=False)
    ended = CliRunner().invoke(app, ["evaluate", f"predictions={tmp_path}", "n_boot=20"])
    assert ended.exit_code == 0, ended.output
    assert "made.parquet" not in ended.output
