"""What commands say of tables: every row that was given is used or named, for any table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.errors import InputError
from unmasked.evaluation.collection import collect
from unmasked.evaluation.coverage import coverage_rows
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.false_alarms import limit_false_alarms, sentence
from unmasked.evaluation.metrics import auc, rows_of_worst_face, video_scores
from unmasked.fairness.run import write as write_numbers


def said(*arguments: object) -> str:
    """What a command prints; it must succeed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + result.stderr
    return result.output


def counted(text: str) -> list[tuple[int, int, dict[str, int]]]:
    """Rows given, used, and left out by reason, of each line that counts rows."""
    found = []
    for line in re.findall(r"^rows: (.*)$", text, re.MULTILINE):
        numbers, _, reasons = line.partition("; left out: ")
        given_rows, used = map(int, re.fullmatch(r"(\d+) given, (\d+) used", numbers).groups())
        left_out = {
            reason: int(n) for n, reason in (part.split(" ", 1) for part in reasons.split(", ") if part)
        }
        found.append((given_rows, used, left_out))
    return found


@st.composite
def tables(draw) -> pd.DataFrame:
    """Videos with gaps of every kind in labels, scores and splits; both classes of two groups remain."""
    n = draw(st.integers(24, 60))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    table = pd.DataFrame({"video": [f"v{i}" for i in range(n)], "label": np.arange(n) % 2})
    table["score"] = rng.uniform(0.01, 0.99, n).round(3)
    table["gender"] = np.where(np.arange(n) // 2 % 2, "female", "male")
    table["split"] = draw(st.sampled_from(["test", "Test", ""]))
    spare = np.arange(n) >= 12  # the first are whole
    other = draw(st.sampled_from(["train", "Val", ""]))
    table.loc[spare & (rng.uniform(size=n) < draw(st.sampled_from([0, 0.4]))), "split"] = other
    table = table.astype({"label": object, "score": object})
    for name, cells in (("label", ["", "?"]), ("score", ["", "n/a"]), ("gender", ["?", "Prefer not to say"])):
        gone = spare & (rng.uniform(size=n) < draw(st.sampled_from([0, 0.3])))
        table.loc[gone, name] = rng.choice(cells, gone.sum())
    return table


def usable_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that numbers are of, counted apart from the product."""
    known = table[pd.to_numeric(table["score"], errors="coerce").notna()]
    known = known[known["label"].isin([0, 1])]
    split = known["split"].str.lower()
    return known[split == "test"] if (split == "test").any() else known[split == ""]


QUICK = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def no_page(monkeypatch):
    """Fairness without its page and what lies beside the audit: they take seconds, and count nothing."""
    more = {"datasets": {name: {"strata": []} for name in ("scores.csv", "s.csv", "D")}, "changes": []}
    for name, found in (
        ("analysis.reports.fairness.page.write_page", Path("fairness.html")),
        ("fairness.across.run.compare_across", more),
    ):
        monkeypatch.setattr(f"unmasked.{name}", lambda *args, found=found, **how: found)
    write = "unmasked.fairness.run.write"
    monkeypatch.setattr(write, lambda audits, skipped, out, more: write_numbers(audits, skipped, out))


@QUICK
@given(tables())
def test_every_row_is_used_or_named_by_evaluate_and_threshold(tmp_path, table):
    path = tmp_path / "scores.csv"
    table.to_csv(path, index=False)
    used = len(usable_rows(table))
    text = said(
        "evaluate",
        f"predictions={path}",
        f"out={tmp_path}",
        "n_boot=0",
        "protocols=[]",
        "rules=[]",
        "overwrite=true",
    )
    ((given_rows, used_rows, left_out),) = counted(text)
    assert (given_rows, used_rows) == (len(table), used)
    assert given_rows == used_rows + sum(left_out.values())
    text = said("threshold", f"predictions={path}", f"out={tmp_path}", "max_fpr=0.5", "overwrite=true")
    ((given_rows, used_rows, left_out),) = counted(text)
    assert given_rows == len(table) == used_rows + sum(left_out.values())
    val = (table["split"] == "Val") & table["label"].isin([0, 1])
    has_val = (val & pd.to_numeric(table["score"], errors="coerce").notna()).any()
    assert has_val or used_rows == used


@settings(parent=QUICK, max_examples=2)
@given(tables())
def test_every_row_is_used_or_named_by_fairness_and_compare(tmp_path, no_page, table):
    path = tmp_path / "scores.csv"
    table.to_csv(path, index=False)
    used = usable_rows(table)
    text = said(
        *("fairness", f"predictions={path}", "by=[gender]", f"out={tmp_path}", "n_boot=100", "n_perm=100"),
        *("min_clusters=1", "overwrite=true"),
    )
    ((given_rows, used_rows, left_out),) = counted(text)
    assert (given_rows, used_rows) == (len(table), len(used))
    assert given_rows == used_rows + sum(left_out.values())
    unknown = int((~used["gender"].isin(["female", "male"])).sum())
    assert (f"unknown: {unknown} of {len(used)} videos" in text) == (unknown > 0)
    table.iloc[: len(table) // 2 + 6].to_csv(tmp_path / "b.csv", index=False)
    text = said(
        "compare", f"a={path}", f"b={tmp_path / 'b.csv'}", f"out={tmp_path}", "n_boot=20", "overwrite=true"
    )
    (a, b) = counted(text)
    assert (a[0], a[1]) == (len(table), len(used))
    assert all(given_rows == used_rows + sum(left_out.values()) for given_rows, used_rows, left_out in (a, b))
    found = json.loads((tmp_path / "compare.json").read_text())["data"]
    assert sum(row["shared"] + row["only_a"] for row in found.values()) == len(used)


@settings(parent=QUICK, max_examples=3)
@given(tables())
def test_every_row_is_used_or_named_by_ensemble_join_and_annotate(tmp_path, table):
    paths = [tmp_path / f"{name}.csv" for name in "abc"]
    parts = [table, table.iloc[: len(table) // 2 + 6], table.assign(video="w" + table["video"])]
    for path, part in zip(paths, parts, strict=True):
        part.to_csv(path, index=False)
    has_score = [pd.to_numeric(part["score"], errors="coerce").notna() for part in parts]
    both = int((has_score[1] & parts[1]["label"].isin([0, 1])).sum())
    keys = ("missing=drop", "n_boot=0", f"out={tmp_path / 'e'}")
    ((given_rows, used_rows, left_out),) = counted(
        said("ensemble", f"predictions=[{paths[0]},{paths[1]}]", *keys)
    )
    assert given_rows == len(parts[0]) + len(parts[1]) == used_rows + sum(left_out.values())
    assert used_rows == 2 * both
    out = tmp_path / "all.csv"
    ((given_rows, used_rows, left_out),) = counted(
        said("join", f"tables=[{paths[0]},{paths[2]}]", f"out={out}")
    )
    assert given_rows == 2 * len(table) == used_rows + sum(left_out.values())
    # Rows that nobody labelled stay, those without a score cannot.
    assert used_rows == has_score[0].sum() + has_score[2].sum() == len(pd.read_csv(out))
    groups = tmp_path / "groups.csv"
    table[["video"]].iloc[::3].assign(age="adult").to_csv(groups, index=False)
    text = said("annotate", f"table={paths[0]}", f"annotations={groups}", f"out={out}")
    written = pd.read_csv(out, dtype=str, keep_default_na=False)
    cells = pd.read_csv(paths[0], dtype=str, keep_default_na=False)
    assert f"{len(table)} rows written" in text
    pd.testing.assert_frame_equal(written[["video", "label", "score"]], cells[["video", "label", "score"]])
    assert (written["age"] == "adult").tolist() == [i % 3 == 0 for i in range(len(table))]


def faces(n: int = 20) -> pd.DataFrame:
    """Case 19: two people a frame; in fakes face 0 is fake and face 1 untouched."""
    rng = np.random.default_rng(0)
    rows = [
        {"dataset": "D", "video": f"v{v}", "frame": f, "face": face, "label": v % 2}
        for v in range(n)
        for f in range(4)
        for face in (0, 1)
    ]
    table = pd.DataFrame(rows)
    high = np.where((table["label"] == 1) & (table["face"] == 0), 0.9, 0.1)
    return table.assign(score=high + rng.uniform(-0.05, 0.05, len(table)))


def test_video_of_one_fake_face_among_two_is_called_fake_by_its_worst_face(tmp_path):
    """The mean over all crops called half of these fakes real."""
    table = faces()
    expected = table.groupby(["video", "face"])["score"].mean().groupby("video").max()
    videos = video_scores(table, "worst_face").set_index("video")
    assert videos["score"].to_dict() == pytest.approx(expected.to_dict())
    assert (videos["score"] > 0.5).astype(int).equals(videos["label"])
    assert (videos["frames"] == 4).all()
    found = evaluate(table, n_boot=20)
    assert any(
        re.match(r"20 of 20 videos show several faces.*worst_face", note)
        for note in found["settings"]["rows"]
    )
    assert found["datasets"]["D"]["aggregations"]["worst_face"]["auc"] == 1
    table.to_csv(tmp_path / "s.csv", index=False)
    for verb, more in (("evaluate", "n_boot=20"), ("threshold", "max_fpr=0.1")):
        text = said(
            verb, f"predictions={tmp_path / 's.csv'}", f"out={tmp_path}", "aggregation=worst_face", more
        )
        assert "20 of 20 videos show several faces in a frame" in text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["datasets"]["D"]["video"]["tpr"] == 1
    assert metrics["settings"]["aggregation"] == "worst_face"


def test_fairness_counts_the_worst_face_and_says_so(tmp_path, no_page):
    table = faces(80).assign(
        gender=lambda t: np.where(t["video"].str[1:].astype(int) % 4 < 2, "female", "male")
    )
    table.to_csv(tmp_path / "s.csv", index=False)
    asked = ["fairness", f"predictions={tmp_path / 's.csv'}", "by=[gender]", f"out={tmp_path}"]
    text = said(*asked, "aggregation=worst_face", "n_boot=100", "n_perm=100")
    assert counted(text) == [(640, 320, {"of faces other than the worst of their video": 320})]
    groups = pd.read_csv(tmp_path / "by_group.csv")
    assert (groups.loc[groups["metric"] == "tpr", "value"] == 1).all()


def test_worst_face_of_one_face_a_frame_is_the_mean():
    table = faces().query("face == 0")
    assert rows_of_worst_face(table) is table
    assert video_scores(table, "worst_face").equals(video_scores(table))


def test_threshold_that_calls_nothing_fake_is_refused_or_said():
    """Constant and 0/1 scores gave a threshold that never fires, without a word."""
    videos = pd.DataFrame({"video": [f"v{i}" for i in range(40)], "label": np.arange(40) % 2})
    with pytest.raises(InputError, match=r"every video scores 0.5: whatever the threshold"):
        limit_false_alarms(videos.assign(score=0.5), 0.05, n_boot=20)
    hard = videos["label"].where(videos.index % 8 > 0, 1).astype(float)
    with pytest.raises(InputError, match=r"decisions, 0 or 1, and 25.0% of the real videos.*max_fpr"):
        limit_false_alarms(videos.assign(score=hard), 0.05, n_boot=20)
    ties = np.where(videos.index < 30, 1.0, 0.1 + videos.index / 1000)
    found = limit_false_alarms(videos.assign(score=ties), 0.05, n_boot=20)
    assert sentence(found).startswith(
        "No video scores above this threshold: it calls nothing fake, and finds"
    )
    better = np.where(videos["label"] == 1, 0.9, videos.index / 100)
    assert "nothing fake" not in sentence(limit_false_alarms(videos.assign(score=better), 0.05, n_boot=20))


def test_detectors_that_scored_different_videos_are_put_on_the_common_ones(tmp_path):
    """Case 09: B left out the hard videos and stood with 0.98 beside 0.89."""
    rng = np.random.default_rng(0)
    label = np.arange(80) % 2
    table = pd.DataFrame({"dataset": "D", "video": [f"v{i}" for i in range(80)], "label": label})
    table["score"] = np.where(np.arange(80) < 30, rng.uniform(size=80), 0.25 + 0.5 * label)
    table.to_csv(tmp_path / "A.csv", index=False)
    table.iloc[30:].to_csv(tmp_path / "B.csv", index=False)
    rows = coverage_rows(collect(tmp_path)[0], n_boot=50)
    assert [(row["detector"], row["videos"], row["common"]) for row in rows] == [("A", 80, 50), ("B", 50, 50)]
    expected = auc(table["label"].iloc[30:], table["score"].iloc[30:])
    assert [row["auc"] for row in rows] == [expected, expected]
    text = said("evaluate", f"predictions={tmp_path}", f"out={tmp_path / 'o'}", "n_boot=20")
    assert "the detectors scored different videos (A 80, B 50); video AUC on the 50 that all scored" in text
    assert "On the videos that all detectors scored" in (tmp_path / "o" / "metrics.md").read_text()
    table.to_csv(tmp_path / "B.csv", index=False)
    assert coverage_rows(collect(tmp_path)[0]) == []


def test_dataset_that_a_detector_was_trained_on_is_known_by_its_short_name(tmp_path):
    """Case 30: trained_on=FF++ beside FaceForensics++ gave no gap."""
    table = pd.DataFrame({"dataset": ["FaceForensics++"] * 8 + ["Celeb-DF-v2"] * 8, "label": [0, 1] * 8})
    table = table.assign(
        video=[f"v{i}" for i in range(16)], score=np.linspace(0.1, 0.9, 16), trained_on="FF++"
    )
    table.to_csv(tmp_path / "s.csv", index=False)
    (one,), _ = collect(tmp_path / "s.csv")
    assert one.training.source == "FaceForensics++"


def test_compare_reads_a_strangers_tables_by_the_same_keys(tmp_path):
    table = pd.DataFrame({"clip": [f"v{i}" for i in range(20)], "label": [0, 1] * 10})
    for name, low in (("a", 0.1), ("b", 0.2)):
        table.assign(p=np.linspace(low, low + 0.7, 20)).to_csv(tmp_path / f"{name}.csv", index=False)
    files = (f"a={tmp_path / 'a.csv'}", f"b={tmp_path / 'b.csv'}")
    text = said("compare", *files, "columns={score: p}", "n_boot=20", f"out={tmp_path / 'o'}")
    assert "a.csv, 20 videos that both scored" in text
    # A folder of such tables is one dataset, called like the folder, and two detectors.
    for name in ("a", "b"):
        pd.read_csv(tmp_path / f"{name}.csv").rename(columns={"p": "prob"}).to_csv(tmp_path / f"{name}.csv")
    found, _ = collect(tmp_path)
    assert [one.name for one in found] == ["a", "b"]
    assert {name for one in found for name in one.predictions["dataset"]} == {tmp_path.name}
