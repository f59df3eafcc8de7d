"""The command line as a user meets it: help, dry run, and one clear sentence for bad input."""

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from unmasked.app.cli import VERBS, app, verb_module


def unmasked(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments):
    """Runs a command that must fail on what was given; its one sentence."""
    result = unmasked(*arguments)
    assert result.exit_code == 2, result.output + repr(result.exception)
    (sentence,) = [line for line in result.stderr.splitlines() if not line.startswith("  ")]  # progress
    assert "Traceback" not in result.output
    return sentence


def predictions(videos=12, **columns):
    generator = np.random.default_rng(0)
    label = np.arange(videos) % 2
    table = {"dataset": "A", "video": [f"v{i}" for i in range(videos)], "label": label}
    table["score"] = np.clip(0.5 * label + generator.uniform(0, 0.6, videos), 0, 1)
    return pd.DataFrame({**table, **columns})


@pytest.fixture
def table(tmp_path):
    def write(frame, name="scores.csv"):
        frame.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return write


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from unmasked.app.cli import app\n"
        "try: app(['--help'], prog_name='unmasked')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'dlib', 'pandas', 'numpy', 'sklearn', 'matplotlib', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for verb in VERBS:
        assert verb in result.stdout


def test_help_says_the_least_and_the_most_that_a_number_may_be():
    """n_boot=5 was refused by a limit that --help did not name."""
    from unmasked.app.config import keys
    from unmasked.app.verbs.fairness import Config

    kinds = {key: kind for key, kind, _, _ in keys(Config)}
    assert kinds["n_boot"] == "int >= 100"
    assert kinds["out"] == "path"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_lists_every_key_with_a_meaning(verb):
    from unmasked.app.cli import config_class, verb_module
    from unmasked.app.config import keys

    result = unmasked(verb, "--help")
    assert result.exit_code == 0
    for key, _, _, meaning in keys(config_class(verb_module(verb), None, [])):
        assert key in result.output
        assert meaning, f"{verb}: key {key} has no description"


def test_dry_run_prints_the_resolved_configuration_and_writes_nothing(tmp_path):
    result = unmasked("scan", f"root={tmp_path}", f"out={tmp_path / 'manifest.csv'}", "--dry-run")
    assert result.exit_code == 0
    assert f"out: {tmp_path / 'manifest.csv'}" in result.stdout
    assert "source: auto" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_missing_root(tmp_path):
    assert "does not exist" in refused("scan", f"root={tmp_path / 'none'}", f"out={tmp_path / 'm.csv'}")
    assert list(tmp_path.iterdir()) == []


def test_empty_root(tmp_path):
    (tmp_path / "root").mkdir()
    assert "empty" in refused("scan", f"root={tmp_path / 'root'}", f"out={tmp_path / 'm.csv'}")
    assert not (tmp_path / "m.csv").exists()


def test_option_that_no_root_takes(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "fake").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "fake" / "b.png").touch()
    sentence = refused("scan", f"root={tmp_path}", "compression=c23", f"out={tmp_path / 'm.csv'}")
    assert "compression" in sentence
    assert unmasked("scan", f"root={tmp_path}", "method=GAN", f"out={tmp_path / 'm.csv'}").exit_code == 0
    manifest = pd.read_csv(tmp_path / "m.csv")
    assert dict(zip(manifest["video"], manifest["method"], strict=True)) == {
        "real/a": "real",
        "fake/b": "GAN",
    }


def test_scan_says_what_the_set_is_called_to_other_commands(tmp_path):
    """A table's set is called like its folder; the headline called it "table in list.csv"."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").touch()
    (tmp_path / "mine" / "list.csv").write_text("path,label\na.png,1\n")
    result = unmasked("scan", f"root={tmp_path / 'mine' / 'list.csv'}", f"out={tmp_path / 'm.csv'}")
    assert "1 rows of mine written to" in result.output


def test_unknown_key_names_the_nearest_valid_one(tmp_path):
    sentence = refused("train", "faces=f.parquet", "--dry-run", "wieght_decay=1")
    assert "unknown key 'wieght_decay'" in sentence
    assert "did you mean" in sentence
    assert "weight_decay" in sentence


def test_only_unreadable_videos(tmp_path):
    (tmp_path / "root" / "fake").mkdir(parents=True)
    (tmp_path / "root" / "real").mkdir()
    (tmp_path / "root" / "fake" / "a.mp4").write_bytes(
        b"\x00\x00\x00\x18ftypmp42 and then nothing of a video"
    )
    (tmp_path / "root" / "real" / "b.mp4").write_bytes(b"")
    assert unmasked("scan", f"root={tmp_path / 'root'}", f"out={tmp_path / 'm.csv'}").exit_code == 0
    sentence = refused(
        "preprocess", f"manifest={tmp_path / 'm.csv'}", f"out={tmp_path / 'faces'}", "workers=1"
    )
    assert "no face" in sentence
    assert "a.mp4" in sentence or "fake/a" in sentence


def test_checkpoint_of_another_architecture(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"fc.weight": torch.zeros(2, 3)}, tmp_path / "other.safetensors")
    pd.DataFrame().to_csv(tmp_path / "faces.csv")
    sentence = refused(
        "predict", f"checkpoint={tmp_path / 'other.safetensors'}", f"faces={tmp_path / 'faces.csv'}"
    )
    assert "other.safetensors" in sentence


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (predictions().drop(columns="label"), "no column is called label"),
        (predictions(score=np.linspace(-3, 3, 12)), "score_as=logit applies the sigmoid"),
        (predictions(score=np.nan), "no row is left"),
        (predictions(label=2), "allowed are 1 (fake), 0 (real)"),
        (predictions(video="same"), "both real and fake"),
        (predictions().iloc[:0], "has no row"),
    ],
    ids=[
        "no label",
        "logits",
        "missing score",
        "label 2",
        "two labels",
        "no rows",
    ],
)
def test_predictions_that_cannot_be_evaluated(table, tmp_path, frame, words):
    sentence = refused("evaluate", f"predictions={table(frame)}", f"out={tmp_path / 'out'}")
    assert words in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04" + bytes(99), "a ZIP archive or an Excel workbook"),
        (b"dataset,video,label,score\nA,a,maybe,0.8\n", "holds 'maybe' in row 2"),
        (b"dataset,video,label,score\nA,a,1,0,8\n", "write decimals with a point"),
        (
            b"dataset,video,label,score,detector\nA,a,1,0.8,x\nA,b,0,0.1,y\n",
            "2 values in the column 'detector'",
        ),
        (b"dataset,video,label,score\nA,a,1,0.8\nB,b,0,0.1\n", "within a dataset; it has A, B"),
    ],
    ids=range(6),
)
def test_a_file_that_is_no_table_of_predictions(tmp_path, content, words):
    (tmp_path / "scores.csv").write_bytes(content)
    for verb, key in (("evaluate", "predictions"), ("evaluate", "folder"), ("compare", "a")):
        path = tmp_path if key == "folder" else tmp_path / "scores.csv"
        given = [f"a={path}", f"b={path}"] if verb == "compare" else [f"predictions={path}"]
        if verb == "compare" and "within" in words:
            continue  # classes need not be in one dataset for two runs to be compared
        assert words in refused(verb, *given, f"out={tmp_path / 'out'}")
        assert not (tmp_path / "out").exists()


def test_a_folder_without_tables_and_names_that_do_not_exist(tmp_path, table):
    out = f"out={tmp_path / 'out'}"
    (tmp_path / "empty").mkdir()
    assert "holds no .parquet or .csv file" in refused("evaluate", f"predictions={tmp_path / 'empty'}", out)
    given = f"predictions={table(predictions())}"
    assert "is 'deepfakebench' meant" in refused("evaluate", given, out, "published=[deepfakbench]")
    assert "is 'by_method' meant" in refused("evaluate", given, out, "protocols=[by_methods]")
    assert "source names 'x'" in refused("evaluate", given, out, "source.x=A")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_predictions_becomes_the_matrix_of_all_pairs(tmp_path):
    import json

    folder = tmp_path / "scores"
    folder.mkdir()
    for name, effect in (("one", 0.6), ("two", 0.2)):
        rows = pd.concat([predictions(40, dataset="A"), predictions(40, dataset="B")])
        rows["score"] = np.clip(rows["score"] * effect, 0, 1)
        rows.to_csv(folder / f"{name}.csv", index=False)
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    out = tmp_path / "out"
    given = [f"predictions={folder}", f"out={out}", "source.one=A", "source={two: B}", "n_boot=100"]
    result = unmasked("evaluate", *given, "selection=last step", "published=ucf_paper")
    assert result.exit_code == 0, result.output
    assert "not predictions: notes.csv" in result.output
    written = json.loads((out / "metrics.json").read_text())
    pairs = [(row["train"], row["test"]) for row in written["protocols"]]
    assert pairs == [("A", "A"), ("A", "B"), ("B", "B"), ("B", "A")]
    assert {row["selection_rule"] for row in written["protocols"]} == {"last step"}
    for name in ("one", "two"):
        own = json.loads((out / written["detectors"][name]["folder"] / "metrics.json").read_text())
        assert set(own["datasets"]) == {"A", "B"}
        assert [row["detector"] for row in own["protocols"]] == [name, name]
    tables = (out / "metrics.md").read_text()
    assert tables.index("a row a detector and a column a tested dataset") < tables.index("Reported by others")
    assert "Checkpoint selection: last step" in tables
    assert "\\toprule" in (out / "metrics.tex").read_text()


def test_published_numbers_stand_in_a_table_of_their_own(table, tmp_path):
    given = [f"predictions={table(predictions(40))}", f"out={tmp_path / 'out'}", "n_boot=20", "protocols=[]"]
    assert unmasked("evaluate", *given, "published=[deepfakebench,ucf_paper]").exit_code == 0
    measured, *others = (
        (tmp_path / "out" / "metrics.md").read_text().split("## Reported by others, not measured here")
    )
    assert len(others) == 2
    assert "0.7527" in others[0]
    assert "0.824" in others[1]
    assert "0.7527" not in measured + others[1]
    metrics = (tmp_path / "out" / "metrics.json").read_text()
    assert "0.7527" not in metrics


def test_two_runs_are_compared_by_one_command(table, tmp_path):
    import json

    frame = predictions(60)
    other = frame.assign(score=np.random.default_rng(3).uniform(0, 1, 60)).iloc[:-2]
    given = [f"a={table(frame, 'a.csv')}", f"b={table(other, 'b.csv')}", f"out={tmp_path / 'out'}"]
    result = unmasked("compare", *given, "n_boot=200")
    assert result.exit_code == 0, result.output
    assert "A, 58 videos that both scored, a minus b:" in result.output
    assert "a is better" in result.output
    assert "2 videos only in a, 0 only in b" in result.output
    assert "unlike: " not in result.output  # nothing but the names of the files
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert found["datasets"]["A"]["metrics"]["auc"]["difference"] > 0.2
    for name in ("compare.md", "compare.tex"):
        assert "paired on the videos that both scored" in (tmp_path / "out" / name).read_text()


def test_a_table_without_a_dataset_is_compared_with_one_that_names_it(table, tmp_path):
    bare = table(predictions(60).drop(columns="dataset"), "bare.csv")
    given = [f"b={bare}", f"out={tmp_path / 'out'}", "n_boot=0", "overwrite=true"]
    both = (predictions(60), "named.csv"), (predictions(60).drop(columns="dataset"), "A.csv")
    for of_one, name in both:
        result = unmasked("compare", f"a={table(of_one, name)}", *given)
        assert result.exit_code == 0, result.output
        assert "b has no column dataset: its rows are taken for those of A" in result.output
        assert f"{'A' if name == 'named.csv' else 'A.csv'}, 60 videos that both scored" in result.output
    of_two = pd.concat([predictions(60), predictions(60, dataset="B")])
    sentence = refused("compare", f"a={table(of_two, 'two.csv')}", *given)
    assert "write the column where both are of one dataset" in sentence


def test_labels_that_are_swapped_are_suspected(table, tmp_path):
    frame = predictions(60)
    frame["label"] = 1 - frame["label"]
    keys = (f"predictions={table(frame)}", f"out={tmp_path / 'out'}", "n_boot=200")
    asked = "if score is P(real), score_of=real turns it round; if label 1 is real, one_means=real"
    assert asked in refused("evaluate", *keys)
    result = unmasked("evaluate", *keys, "score_of=fake")
    assert result.exit_code == 0, result.output
    assert "worse than chance" in result.output
    assert asked in result.output


def test_group_column_with_one_group(table, tmp_path):
    path = table(predictions(gender="female"))
    sentence = refused("fairness", f"predictions={path}", "by=[gender]", f"out={tmp_path / 'out'}")
    assert "gender" in sentence
    assert "female" in sentence
    assert not (tmp_path / "out").exists()


def test_group_column_that_is_absent(table, tmp_path):
    path = table(predictions(gender=["female", "male"] * 6))
    sentence = refused("fairness", f"predictions={path}", "by=[gendre]", f"out={tmp_path / 'out'}")
    assert "gendre" in sentence
    assert "gender" in sentence


def test_an_outsiders_csv_is_evaluated_by_one_command(table, tmp_path):
    import json

    from sklearn.metrics import roc_auc_score

    frame = predictions(40)
    result = unmasked("evaluate", f"predictions={table(frame)}", f"out={tmp_path / 'out'}", "n_boot=200")
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    found = metrics["datasets"]["A"]["video"]
    assert found["auc"] == pytest.approx(roc_auc_score(frame["label"], frame["score"]))
    assert found["auc_ci"][0] <= found["auc"] <= found["auc_ci"][1]


def test_an_outsiders_csv_with_a_group_is_audited_by_one_command(table, tmp_path):
    frame = predictions(80, gender=["female", "female", "male", "male"] * 20)
    result = unmasked(
        "fairness", f"predictions={table(frame)}", "by=[gender]", f"out={tmp_path / 'out'}", "n_boot=200"
    )
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "fairness.json",
        "by_group.csv",
        "fairness.html",
    }


def test_a_key_with_dashes_is_the_key(tmp_path):
    written = ("out=x.csv", f"root={tmp_path}")
    plain = unmasked("scan", *written, "--dry-run")
    dashed = unmasked("scan", *(f"--{argument}" for argument in written), "--dry-run")
    assert plain.exit_code == dashed.exit_code == 0
    assert dashed.output == plain.output
    assert "preview: true" in unmasked("preprocess", "--preview", "--dry-run").output
    assert "'previw'" in refused("preprocess", "--previw")


def test_results_lie_beside_the_predictions_unless_a_folder_is_given(table, tmp_path):
    # They went into runs/ucf, whichever detector's scores they were of.
    given = table(predictions())
    for verb, more in (("evaluate", []), ("fairness", ["by=[gender]"]), ("mitigate", ["by=[gender]"])):
        shown = unmasked(verb, f"predictions={given}", *more, "--dry-run")
        assert f"out: {tmp_path}\n" in shown.stdout
        shown = unmasked(verb, f"predictions={given}", *more, "--dry-run", "out=there")
        assert "out: there\n" in shown.stdout
    assert f"out: {tmp_path}\n" in unmasked("evaluate", f"predictions={tmp_path}", "--dry-run").stdout
    assert "give run=FOLDER" in refused("report")
    assert "seed cannot be used with run=there" in refused("report", "run=there", "seed=1")


@pytest.mark.parametrize("verb", ["evaluate", "explain", "audit", "scan"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_verb_that_keeps_nothing_with_a_sentence_that_is_true(
    monkeypatch, verb, number, code
):
    # Every verb said that the same command goes on from here; SIGTERM ended them without a word.
    def run(config):
        with suppress(Exception):  # as a library does about what it can do without: the signal was lost there
            signal.raise_signal(number)

    module = verb_module(verb)
    monkeypatch.setattr(module, "run", run)
    needed = {"evaluate": ["predictions=p.csv"], "explain": ["checkpoint=c"], "scan": ["root=r"]}
    result = unmasked(verb, *needed.get(verb, []))
    assert result.exit_code == code
    assert result.stderr == (
        f"unmasked {verb}: stopped by {number.name}; what was not finished is not kept; the same command "
        "begins again\n"
    )
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("file", "out=file is a file; give a folder"),
        ("file/run", "which is a file; give another out="),
        ('"a\\0b"', "out holds a NUL"),
        ("o" * 300, "File name too long"),
    ],
)
@pytest.mark.parametrize("verb", ["evaluate", "fairness", "mitigate", "threshold"])
def test_an_out_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, verb, out, words):
    # The work was done first, and then there was a traceback.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(verb_module(verb), "run", lambda config: pytest.fail("the work began"))
    by = ["by=[gender]"] if verb in ("fairness", "mitigate") else []
    assert words in refused(verb, "predictions=p.csv", f"out={out}", *by)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("out", ["scores.json", "scores"])
def test_predict_is_told_at_once_that_it_cannot_write_such_a_table(out):
    # It scored for hours first.
    assert "give a .parquet or .csv file" in refused("predict", "checkpoint=c", f"out={out}")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_a_full_or_read_only_disk_is_one_sentence(monkeypatch, tmp_path, number):
    def fail(config):
        raise OSError(number, os.strerror(number), str(tmp_path / "metrics.json"))

    monkeypatch.setattr(verb_module("evaluate"), "run", fail)
    sentence = refused("evaluate", "predictions=p.csv", f"out={tmp_path}")
    assert os.strerror(number) in sentence
    assert "metrics.json" in sentence


def test_an_error_that_is_ours_keeps_its_traceback(monkeypatch, tmp_path):
    def fail(config):
        raise FileNotFoundError(errno.ENOENT, "gone", "x")

    monkeypatch.setattr(verb_module("evaluate"), "run", fail)
    result = unmasked("evaluate", "predictions=p.csv", f"out={tmp_path}")
    assert isinstance(result.exception, FileNotFoundError)


def test_a_signal_that_comes_when_all_is_done_changes_nothing():
    # Python's own end takes a moment, in which SIGTERM gave finished work the exit code of a stopped one.
    command = [sys.executable, "-m", "unmasked.app.cli", "licences"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_second_file_without_a_key_is_told_to_come_in_a_folder():
    """It was told to be "not of the form key=value", and that seed=1 would be."""
    sentence = refused("inspect", "a.mp4", "b.mp4", "checkpoint=runs")
    assert "'b.mp4' is one more than may stand without a key (file); for several files give" in sentence
