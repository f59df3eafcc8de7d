"""What of a test set a detector has seen: from names, digests and rules, never from scores."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.cards import name_digests
from unmasked.datasets.frame_names import frame_stems
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.collection import Scored, Training
from unmasked.evaluation.contamination import contaminated_sentences, contamination, contamination_table
from unmasked.training.tables import _digests

RUNNER = CliRunner()
SOURCE_RULE = "highest video AUC on the source's validation split"


def table(dataset="FaceForensics++", first=0, count=10, **columns) -> pd.DataFrame:
    label = np.arange(count) % 2
    names = [f"c23/{number:03d}" for number in range(first, first + count)]
    score = np.linspace(0.2, 0.8, count)
    return pd.DataFrame({"dataset": dataset, "video": names, "label": label, "score": score}).assign(
        **columns
    )


def card(train: pd.DataFrame | None, val: pd.DataFrame | None, datasets, rule=SOURCE_RULE):
    parts = {
        name: {f"{what}_digests": sorted(name_digests(rows, what)) for what in ("video", "identity")}
        for name, rows in (("train", train), ("val", val))
        if rows is not None
    }
    return {"training_data": {"datasets": list(datasets), **parts}, "selection": {"rule": rule}}


def answer(rows, made=None, *, datasets=("FaceForensics++",), rule=SOURCE_RULE):
    training = Training(datasets=tuple(datasets), selection_rule=rule)
    (found,) = contamination(Scored("x", "x", rows, ("x.csv",), training, made or {}))
    return found["trained"], found["selected"], " | ".join(found["why"])


def test_videos_that_were_trained_on_are_known_by_their_names():
    made = card(table(first=0), table(first=50), ["FaceForensics++"])
    assert answer(table(first=5), made)[:2] == ("known", "unknown")
    assert "trained on 5 of its 10 videos" in answer(table(first=5), made)[2]
    assert answer(table(first=55), made)[:2] == ("unknown", "known")
    assert answer(table(first=90), made)[:2] == ("unknown", "unknown")


def test_without_known_people_nothing_is_ruled_out_within_a_dataset():
    # Finding A35: split by file, nobody known, the same four people on both sides, and "none" was said.
    assert "who is shown is not known" in answer(table(first=90), card(table(), None, ["FaceForensics++"]))[2]
    both = card(table(identity="ann"), table(first=50, identity="eve"), ["FaceForensics++"])
    assert answer(table(first=90), both)[:2] == ("unknown", "unknown")
    partly = table(first=90).assign(identity=[*["bob"] * 9, None])
    assert answer(partly, both)[0] == "unknown"
    assert answer(table(first=90, identity="bob"), both)[:2] == ("none", "none")


def test_frames_of_one_video_in_training_and_test_are_possible():
    numbers = np.arange(40)
    names = pd.Series([f"real/talk{number % 10}_frame{number:03d}" for number in numbers])
    rows = pd.DataFrame({"dataset": "desk", "video": names, "label": 0, "kind": "image"})
    assert sorted(set(frame_stems(names, rows["label"]))) == [f"real/talk{number}" for number in range(10)]
    made = {"training_data": {"datasets": ["desk"], "train": _digests(rows[numbers < 30])}}
    test = rows[numbers >= 30].assign(score=0.5)
    trained, _, why = answer(test, made, datasets=["desk"])
    assert trained == "possible"
    assert "like frames of 10 of its videos" in why
    # Videos that are numbered are no frames of one another.
    assert "frames_of_digests" not in _digests(rows.assign(kind="video"))


def test_the_same_video_at_another_compression_is_the_same():
    made = card(table(), None, ["FaceForensics++"])
    other = table(dataset="FF++").assign(video=lambda rows: rows["video"].str.replace("c23", "c40"))
    assert answer(other, made)[0] == "known"


def test_other_videos_of_people_who_were_trained_on_are_known():
    made = card(table(identity="ann"), None, ["FaceForensics++"])
    assert answer(table(first=90, identity="ann"), made)[0] == "known"
    assert "other videos of 1 of its people" in answer(table(first=90, identity="ann"), made)[2]
    assert answer(table(first=90, identity="bob"), made)[0] == "none"


@pytest.mark.parametrize(
    ("datasets", "rule", "test", "expected"),
    [
        ((), "not stated", "DFDC", ("unknown", "unknown")),
        (("FaceForensics++",), "not stated", "FaceForensics++", ("possible", "unknown")),
        (("FF++",), SOURCE_RULE, "FaceForensics++", ("possible", "possible")),
        (("FaceForensics++",), SOURCE_RULE, "Celeb-DF-v2", ("none", "none")),
        (("FaceForensics++",), SOURCE_RULE, "DF40", ("possible", "none")),
        (("Celeb-DF-v2",), SOURCE_RULE, "Celeb-DF++", ("possible", "none")),
        (("FaceForensics++",), "best mean over Celeb-DF-v2 and DFDC", "DFDC", ("none", "possible")),
        (("FaceForensics++",), "best epoch on the test sets", "DFDC", ("none", "possible")),
        (
            ("FaceForensics++",),
            "ORACLE: on the source's test split",
            "FaceForensics++",
            ("possible", "known"),
        ),
        (("FaceForensics++",), "ORACLE: on the source's test split", "DFDC", ("none", "none")),
    ],
)
def test_words_alone_say_less(datasets, rule, test, expected):
    assert answer(table(dataset=test), datasets=datasets, rule=rule)[:2] == expected


def test_a_card_of_another_source_than_the_caller_states_does_not_speak():
    made = card(table(), table(), ["FaceForensics++"])
    assert answer(table(dataset="DFDC"), made, datasets=("DFDC",))[0] == "possible"


def test_an_ensemble_has_seen_what_its_worst_member_has():
    members = [
        {"name": "clean", "trained_on": ["DFDC"], "selection_rule": SOURCE_RULE, "training_data": None},
        {
            "name": "seen",
            "trained_on": ["FaceForensics++"],
            "selection_rule": SOURCE_RULE,
            "training_data": card(table(), None, ["FaceForensics++"])["training_data"],
        },
    ]
    made = {"members": members, "fitted_on": "FaceForensics++, val split"}
    trained, selected, why = answer(table(), made)
    assert (trained, selected) == ("known", "possible")
    assert why.startswith("seen: trained on 10 of its 10 videos")


def test_digests_of_damaged_cards_are_no_digests():
    for part in (None, 3, {"video_digests": "abc"}, {"video_digests": None}):
        made = {"training_data": {"datasets": ["FaceForensics++"], "train": part}}
        assert answer(table(), made)[0] == "possible"


@pytest.mark.parametrize("members", [3, "abc", [], [1, None], {"a": 1}, [{}], [{"trained_on": 3}]])
def test_damaged_members_are_no_members(members):
    made = card(None, None, ["FaceForensics++"]) | {"members": members}
    assert answer(table(), made)[0] in ("possible", "unknown")


def test_sentences_name_only_what_is_known():
    made = card(table(), None, ["FaceForensics++"])
    scored = Scored("x", "x", pd.concat([table(), table("DFDC")]), (), Training(("FaceForensics++",)), made)
    rows = contamination(scored)
    (line,) = contaminated_sentences("x", rows)
    assert line.startswith("x on FaceForensics++: not new to it (trained on 10 of its 10 videos")
    assert [row[1] for row in contamination_table({"x": rows, "y": rows}).rows] == [
        "DFDC",
        "FaceForensics++",
    ] * 2


def test_it_stands_in_results_tables_and_pages(tmp_path):
    for name in "ab":
        rows = pd.concat([table(count=20), table("DFDC", count=20)])
        write_frame(
            rows.assign(detector=name, checkpoint=name * 8), tmp_path / "all" / name / "predictions.csv"
        )
        made = card(table(first=15), None, ["FaceForensics++"]) | {"architecture": "own", "sha256": name * 8}
        (tmp_path / "all" / name / "detector.json").write_text(json.dumps(made))
    for given, out in ((tmp_path / "all" / "a", "one"), (tmp_path / "all", "several")):
        folder = tmp_path / out
        found = RUNNER.invoke(app, ["evaluate", f"predictions={given}", f"out={folder}", "n_boot=20"])
        assert found.exit_code == 0, found.output
        assert "a on FaceForensics++: not new to it (trained on 5 of its 20 videos" in " ".join(
            found.output.split()
        )
        stored = json.loads((folder / "metrics.json").read_text())["contamination"]
        rows = stored if out == "one" else stored["a"]
        assert {row["test"]: row["trained"] for row in rows} == {"FaceForensics++": "known", "DFDC": "none"}
        assert "What of each test set" in (folder / "metrics.md").read_text()
        assert RUNNER.invoke(app, ["report", f"run={folder}"]).exit_code == 0
        assert "Are these videos new to it?" in (folder / "report.html").read_text()
