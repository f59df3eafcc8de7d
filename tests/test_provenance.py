"""Tables say what they were made from, and whoever meets the earlier table again compares."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train_fakes import SMALL, Network, small_config
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.tables import digest_of_each, read_frame, write_frame
from unmasked.evaluation.origin import faces_changes
from unmasked.evaluation.predictions import FACES_TABLE
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.provenance import (
    FACES_DIGEST,
    MANIFEST_DIGEST,
    changes_since,
    faces_digests,
    manifest_changes,
    manifest_digests,
)
from unmasked.training import checkpoint

STALE = "are of crops that"


def unmasked(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# Digests

TABLE = pd.DataFrame(
    {"video": ["a", "a", "b", "b", "c"], "frame": [0, 1, 0, 1, 0], "method": ["x", "x", None, None, "y"],
     "blur": [0.1, 0.2, np.nan, 0.4, 0.5]}
)  # fmt: skip
STATED = {"text": ("video", "method"), "numbers": ("frame", "blur")}


def by_video(table: pd.DataFrame) -> dict[str, str]:
    found = digest_of_each(table, ["video"], **STATED)
    assert found.groupby(table["video"]).nunique().eq(1).all()
    return dict(zip(table["video"], found, strict=True))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(len(TABLE))), st.sets(st.sampled_from("abc"), min_size=1))
def test_a_digest_is_of_its_own_rows_in_any_order_beside_any_others(order, kept):
    part = TABLE.iloc[order]
    part = part[part["video"].isin(sorted(kept))]
    assert by_video(part) == {name: by_video(TABLE)[name] for name in kept}
    # Columns that only others fill change nothing: joined tables keep their digests.
    assert by_video(part.drop(columns=[name for name in part if part[name].isna().all()])) == by_video(part)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4), st.sampled_from(["frame", "method", "blur"]), st.booleans())
def test_a_changed_cell_changes_the_digest_of_its_video_alone(row, column, empties):
    changed = TABLE.astype({"frame": "float64"})
    before = changed.loc[row, column]
    changed.loc[row, column] = None if empties else "other" if column == "method" else 7.25
    if pd.isna(before) and empties:
        return
    own, now = by_video(TABLE), by_video(changed)
    assert {name for name in own if own[name] != now[name]} == {TABLE.loc[row, "video"]}


def test_a_value_in_another_column_is_another_value():
    moved = TABLE.rename(columns={"frame": "blur", "blur": "frame"})
    assert by_video(moved)["a"] != by_video(TABLE)["a"]


def test_the_digest_survives_a_csv(tmp_path):
    faces = FACES.validate(write_faces(tmp_path, {"test": 2}, frames=2)).assign(
        blur=np.linspace(0, 1, 12) / 3
    )
    write_frame(faces, tmp_path / "faces.csv")
    assert list(faces_digests(FACES.read(tmp_path / "faces.csv"))) == list(faces_digests(faces))


def test_what_changed_is_counted_and_named():
    later = TABLE.assign(dataset="D", digest=["1", "1", "2", "2", "3"])
    earlier = pd.DataFrame({"dataset": "D", "video": ["a", "b"]})
    assert changes_since(later, "digest", earlier, pd.Series(["1", "2"])) == (
        "1 of 3 are not in it any more (first: D/c)"
    )
    assert changes_since(later, "digest", earlier, pd.Series(["1", "x"])) == (
        "1 of 3 videos are not what they were (first: D/b), and 1 of 3 are not in it any more (first: D/c)"
    )
    assert changes_since(later[:4], "digest", earlier, pd.Series(["1", "2"])) == ""
    assert changes_since(TABLE, "digest", earlier, pd.Series(["1", "2"])) == ""  # it does not say


# Manifest, faces, scores, explanation


def manifest() -> pd.DataFrame:
    rows = {"video": ["a", "b"], "path": ["a.mp4", "b.mp4"], "label": [0, 1], "method": ["real", "swap"]}
    return MANIFEST.validate(pd.DataFrame(rows).assign(dataset="D", root="/r", kind="video", split="test"))


def test_of_rows_that_an_earlier_version_wrote_nothing_is_known():
    """A report left the explanation out: videos whose scores had no digest were "not in it any more"."""
    explained = pd.DataFrame({"dataset": "A", "video": ["a", "b"], FACES_DIGEST: ["1", "2"]})
    scored = explained.assign(**{FACES_DIGEST: None})
    assert changes_since(explained, FACES_DIGEST, scored, scored[FACES_DIGEST]) == ""
    assert "1 of 2 are not in it" in changes_since(
        explained, FACES_DIGEST, scored.iloc[:1], scored[FACES_DIGEST].iloc[:1]
    )


def test_a_faces_table_that_a_manifest_now_describes_otherwise_is_noticed():
    before = manifest()
    faces = before.assign(**{MANIFEST_DIGEST: manifest_digests(before)})
    for column in ("gender", "annotation"):  # annotations may come later
        assert manifest_changes(faces, before.assign(**{column: "x"})) == ""
    assert manifest_changes(faces, before.assign(root="/moved")) == ""
    relabelled = before.assign(label=[1, 1], method=["swap", "swap"])
    assert manifest_changes(faces, relabelled) == (
        "1 of 2 videos are not what they were (first: D/a); run `unmasked preprocess` again, which keeps the "
        "crops that are still right"
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Faces in one folder, their scores, metrics and pictures in another."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "faces").mkdir()
    FACES.write(
        write_faces(folder / "faces", {"test": 6}, frames=2, size_px=32), folder / "faces/faces.parquet"
    )
    torch.manual_seed(0)
    card = {
        "method_classes": ["real", "fake"],
        "size_px": 32,
        "config": small_config().model_dump(mode="json"),
    }
    checkpoint.save(SMALL, Network(), folder / "run/detector.safetensors", card)
    own = f"detector={Path(__file__).parent / 'train_fakes.py'}"
    given = [own, f"checkpoint={folder / 'run'}", f"faces={folder / 'faces'}"]
    scored = unmasked("predict", *given, "splits=[test]", f"out={folder / 'run/predictions.parquet'}")
    assert scored.exit_code == 0, scored.output
    explained = [*given, "pictures=1", "points=20", "perplexity=3", "methods=[]"]
    for done in (unmasked("explain", *explained), evaluated(folder)):
        assert done.exit_code == 0, done.output
        assert STALE not in done.output
    return folder, explained


def evaluated(folder, *more):
    return unmasked("evaluate", f"predictions={folder / 'run/predictions.parquet'}", "n_boot=20", *more)


def test_scores_and_explanations_say_which_faces_they_are_of(study):
    folder, _ = study
    faces = FACES.read(folder / "faces/faces.parquet")
    now = dict(zip(faces["video"], faces_digests(faces), strict=True))
    for name in ("predictions", "explain/embedding", "explain/pictured"):
        table = read_frame(folder / f"run/{name}.parquet")
        assert dict(zip(table["video"], table[FACES_DIGEST], strict=True)).items() <= now.items()
    table = read_frame(folder / "run/predictions.parquet")
    assert set(table[FACES_TABLE]) == {"../faces/faces.parquet"}
    assert faces_changes(folder / "run/predictions.parquet", table) == ""


def test_a_faces_table_that_changed_after_predict_is_noticed_by_every_later_command(study):
    folder, explained = study
    path = folder / "faces/faces.parquet"
    before, scores = FACES.read(path), folder / "run/predictions.parquet"
    first = before["video"].iloc[0]
    report = unmasked("report", f"run={folder / 'run'}")
    assert report.exit_code == 0, report.output
    assert "Scores of earlier crops" not in (folder / "run/report.html").read_text()
    try:
        FACES.write(before.assign(blur=np.where(before["video"] == first, 0.5, np.nan)), path)
        audit = ["by=[gender]", "n_boot=100", "n_perm=100", f"out={folder / 'audit'}", "min_clusters=1"]
        for done in (
            evaluated(folder),
            evaluated(folder, f"faces={path}"),
            unmasked("fairness", f"predictions={scores}", *audit),
            unmasked("explain", *explained),
        ):
            assert done.exit_code == 0, done.output
            said = " ".join(done.output.split())
            assert f"1 of 18 videos are not what they were (first: Squares/{first})" in said
            assert "run `unmasked predict` again" in said
        # Explained again, so that the explanation is of the crops as they are now, and the scores are not.
        report = unmasked("report", f"run={folder / 'run'}")
        assert report.exit_code == 0, report.output
        page = (folder / "run/report.html").read_text()
        assert "Scores of earlier crops" in page
        assert "explain/explain.json: 1 of " in page
    finally:
        FACES.write(before, path)


def test_a_table_that_predictions_name_is_read_only_where_it_is_one(tmp_path):
    # A stranger's predictions may name anything.
    table = pd.DataFrame({"dataset": "D", "video": ["a"], "label": [0], "score": [0.5], FACES_DIGEST: ["00"]})
    secret = tmp_path / "secret.csv"
    secret.write_text("name,salary\nme,1\n")
    os.mkfifo(tmp_path / "pipe.csv")
    names = [str(secret), "secret.csv", "pipe.csv", "absent.parquet", "a\0b.csv", "n" * 3000 + ".csv", ".."]
    for name in names:
        named = table.assign(**{FACES_TABLE: name})
        assert faces_changes(tmp_path / "p.csv", named) == ""
