"""What stands in a folder is not lost, mixed or left half-written by the commands that write there."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import types

import pandas as pd
import pytest
import torch
import train_fakes
from report_fakes import SOURCE, UNSEEN, scored
from typer.testing import CliRunner

from unmasked.analysis.html.pictures import svg_document
from unmasked.app.cli import app
from unmasked.app.outputs import FILLS
from unmasked.app.run import only_one_in
from unmasked.app.verbs import predict as predict_verb
from unmasked.datasets.csv_files import csv_text
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path
from unmasked.evaluation.predictions import PREDICTIONS
from unmasked.preprocessing import pool
from unmasked.training.detector import Step
from unmasked.training.handle import Detector
from unmasked.training.module import MARK
from unmasked.training.train import UNFINISHED, check_nothing_is_lost

ONE, TWO = "1" * 64, "2" * 64


def unmasked(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# Locks


@pytest.mark.parametrize("verb", ["evaluate", "fairness", "mitigate", "threshold", "report"])
def test_two_runs_of_a_verb_do_not_write_into_one_folder(tmp_path, verb):
    # Their files mixed: the numbers of one beside the figures of the other.
    PREDICTIONS.write(scored(SOURCE, "test", 2.0), tmp_path / "p.parquet")
    folder = tmp_path / "run"
    given = (
        [f"predictions={tmp_path / 'p.parquet'}", f"out={folder}"] if verb != "report" else [f"run={folder}"]
    )
    by = ["by=[skin_tone_group]"] if verb in ("fairness", "mitigate") else []
    with only_one_in(folder, verb):
        answer = unmasked(verb, *given, *by)
        assert [path.name for path in folder.iterdir()] == [f".{verb}.lock"]
    assert answer.exit_code == 2
    assert f"another `unmasked {verb}` writes into {folder}; wait until it has ended" in answer.stderr
    assert not folder.exists()  # nothing was written there


def test_what_fills_a_folder_holds_its_lock():
    assert {"evaluate", "fairness", "mitigate", "explain", "report", "compare", "audit"} <= set(FILLS)


def test_two_audits_are_not_added_to_one_watch_at_once(tmp_path):
    # Each read the record, and the later one wrote it without the people of the other.
    PREDICTIONS.write(scored(SOURCE, "test", 2.0), tmp_path / "p.parquet")
    since, given = tmp_path / "since", [f"predictions={tmp_path / 'p.parquet'}", "by=[skin_tone_group]"]
    with only_one_in(since, "fairness"):
        answer = unmasked("fairness", *given, f"out={tmp_path / 'new'}", f"since={since}")
    assert answer.exit_code == 2
    assert f"another `unmasked fairness` writes into {since}" in answer.stderr
    assert not (tmp_path / "new").exists()
    same = unmasked("fairness", *given, f"out={tmp_path}", f"since={tmp_path / '.'}")
    assert "is also the folder that is written" in same.stderr
    absent = unmasked("fairness", *given, f"out={tmp_path / 'new'}", f"since={tmp_path / 'absent'}")
    assert absent.exit_code == 2
    assert not (tmp_path / "absent").exists()


def test_explain_locks_the_folder_of_the_checkpoint_where_no_other_is_given(tmp_path):
    (tmp_path / "run").mkdir()
    with only_one_in(tmp_path / "run", "explain"):
        answer = unmasked("explain", f"checkpoint={tmp_path / 'run/detector.safetensors'}")
    assert answer.exit_code == 2
    assert f"another `unmasked explain` writes into {tmp_path / 'run'}" in answer.stderr


def test_a_refused_command_leaves_no_folder(tmp_path):
    assert (
        unmasked("evaluate", f"predictions={tmp_path / 'absent.csv'}", f"out={tmp_path / 'out'}").exit_code
        == 2
    )
    assert not (tmp_path / "out").exists()


# Files that stand


def table_of(checkpoint: str = ONE, videos: int = 4) -> pd.DataFrame:
    return scored(SOURCE, "test", 2.0).head(videos).assign(checkpoint=checkpoint)


def test_scores_of_the_same_weights_and_videos_are_written_again(tmp_path):
    table = table_of()
    PREDICTIONS.write(table.head(3), tmp_path / "p.parquet")
    predict_verb._check_out(tmp_path / "p.parquet", ONE, table)
    predict_verb._check_out(tmp_path / "absent.parquet", ONE, table)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (table_of(TWO), "holds scores of other weights"),
        (table_of().assign(video="another"), "holds scores of other videos"),
        (pd.DataFrame({"mine": [1]}), "is no table of scores that `unmasked predict` wrote"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_scores_of_others_are_not_written_over(tmp_path, there, words, suffix):
    # predictions.parquet, where commands are typed, was replaced without a word.
    path = tmp_path / f"p.{suffix}"
    there = there.drop_duplicates(["dataset", "video", "frame"]) if "video" in there else there
    there.to_csv(path, index=False) if suffix == "csv" else there.to_parquet(path)
    with pytest.raises(InputError, match=rf"{words}.*give another out=, or overwrite=true"):
        predict_verb._check_out(path, ONE, table_of())


def test_thresholds_of_other_scores_are_not_written_over(tmp_path):
    for name, dataset in (("a", SOURCE), ("b", UNSEEN)):
        PREDICTIONS.write(scored(dataset, "test", 2.0), tmp_path / f"{name}.parquet")
    out = tmp_path / "out"
    first = unmasked("threshold", f"predictions={tmp_path / 'a.parquet'}", "max_fpr=0.2", f"out={out}")
    assert first.exit_code == 0, first.output
    before = (out / "thresholds.json").read_bytes()
    other = ["threshold", f"predictions={tmp_path / 'b.parquet'}", "max_fpr=0.2", f"out={out}"]
    refused = unmasked(*other)
    assert refused.exit_code == 2
    assert "would be lost: it is of another dataset; give another out=, or overwrite=true" in refused.stderr
    assert (out / "thresholds.json").read_bytes() == before
    again = unmasked("threshold", f"predictions={tmp_path / 'a.parquet'}", "max_fpr=0.1", f"out={out}")
    assert again.exit_code == 0
    assert unmasked(*other, "overwrite=true").exit_code == 0
    assert (out / "thresholds.json").read_bytes() != before


QUICK = {
    "evaluate": ["n_boot=0"],
    "fairness": ["by=[skin_tone_group]", "n_boot=100", "n_perm=100"],
    "mitigate": ["by=[skin_tone_group]", "methods=[group_thresholds]", "n_boot=100"],
}


@pytest.mark.parametrize(
    ("verb", "name"),
    [("evaluate", "metrics.json"), ("fairness", "fairness.json"), ("mitigate", "mitigation.json")],
)
def test_results_of_other_scores_are_not_written_over(tmp_path, verb, name):
    # A second table in the same folder replaced the first one's results without a word.
    table = pd.concat([scored(SOURCE, split, 2.0, seed=1) for split in ("val", "test")], ignore_index=True)
    PREDICTIONS.write(table, tmp_path / "a.parquet")
    PREDICTIONS.write(table.assign(score=table["score"] ** 2), tmp_path / "b.parquet")
    first, other = ([verb, f"predictions={tmp_path / f'{one}.parquet'}", *QUICK[verb]] for one in "ab")
    assert unmasked(*first).exit_code == 0
    before = (tmp_path / name).read_bytes()
    refused = unmasked(*other)
    assert refused.exit_code == 2
    assert f"would be lost: it is of other scores of {SOURCE}; give another out=" in refused.stderr
    assert (tmp_path / name).read_bytes() == before
    assert unmasked(*first, "seed=1").exit_code == 0
    assert unmasked(*other, "overwrite=true").exit_code == 0
    assert (tmp_path / name).read_bytes() != before


def test_a_comparison_of_other_scores_is_not_written_over(tmp_path):
    table = scored(SOURCE, "test", 2.0)
    for power, name in enumerate("abc", start=1):
        PREDICTIONS.write(table.assign(score=table["score"] ** power), tmp_path / f"{name}.parquet")
    out = ["n_boot=0", f"out={tmp_path / 'out'}"]
    a, b, c = (tmp_path / f"{name}.parquet" for name in "abc")
    for _ in range(2):
        assert unmasked("compare", f"a={a}", f"b={b}", *out).exit_code == 0
    refused = unmasked("compare", f"a={a}", f"b={c}", *out)
    assert refused.exit_code == 2
    assert "compare.json would be lost: it is of other scores" in refused.stderr
    assert unmasked("compare", f"a={a}", f"b={c}", *out, "overwrite=true").exit_code == 0


def test_a_list_of_detectors_may_grow_and_not_shrink_unsaid(tmp_path):
    table = scored(SOURCE, "test", 2.0)
    folder = tmp_path / "scores"

    def evaluated(*more: str):
        return unmasked("evaluate", f"predictions={folder}", "n_boot=0", *more)

    for power, name in enumerate("abc", start=1):
        named = table.assign(score=table["score"] ** power, detector=name)
        PREDICTIONS.write(named, folder / f"{name}.parquet")
        assert evaluated().exit_code == 0
    (folder / "b.parquet").unlink()
    refused = evaluated()
    assert refused.exit_code == 2
    assert "would be lost: it is also of b.parquet; give another out=" in refused.stderr
    assert evaluated("overwrite=true").exit_code == 0


@pytest.mark.parametrize(
    ("state", "is_stopped", "words"),
    [
        ({"global_step": 4}, False, "by an earlier version, which does not say whether it was finished"),
        ({"global_step": 4, MARK: "1"}, True, "of a training that was stopped, after step 4"),
        ({"global_step": 4, MARK: "1"}, False, ""),
    ],
)
def test_a_state_is_begun_again_only_where_it_is_known_to_be_finished(tmp_path, state, is_stopped, words):
    # Version 0.1 left no mark, and its state was lost without a word.
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / "last.ckpt")
    if is_stopped:
        (tmp_path / UNFINISHED).touch()
    if not words:
        check_nothing_is_lost(tmp_path)
        return
    with pytest.raises(InputError, match=rf"{words}.*resume=true.*restart=true"):
        check_nothing_is_lost(tmp_path)


def test_figures_csv_cells_are_no_formulas():
    assert csv_text(pd.DataFrame({"group": ["=1+1", "f"], "n": [-1, 2]})) == "group,n\n'=1+1,-1\nf,2\n"


# Detectors of one's own


@pytest.mark.parametrize(
    ("name", "function"),
    [("build", lambda config: None), ("build", 3), ("objective", lambda step, config, more: None)],
)
def test_a_function_that_takes_other_arguments_is_one_sentence(monkeypatch, name, function):
    # It was a traceback of ours.
    module = types.SimpleNamespace(**{"build": train_fakes.build, name: function})
    detector = Detector("mine", "mine")
    monkeypatch.setattr(Detector, "module", module)
    step = Step(torch.zeros(1), *[None] * 7)
    call = (lambda: detector.build(None, [])) if name == "build" else (lambda: detector.objective(step, None))
    with pytest.raises(InputError, match=rf"detector mine: {name}.* with the 2 arguments of the contract"):
        call()


# Signals while workers start

STARTS = """
import os, signal, sys
from unmasked.app.signals import stopped_by_signals
from unmasked.datasets.errors import InterruptedBySignal
from unmasked.preprocessing import pool

def work():
    return str

if __name__ == "__main__":
    start = pool.multiprocessing.process.BaseProcess.start
    def started(self):
        os.kill(os.getpid(), signal.SIGTERM)  # before the worker has read what it shall do
        start(self)
        os.kill(self.pid, signal.SIGTERM)
    pool.multiprocessing.process.BaseProcess.start = started
    try:
        with stopped_by_signals("go on"):
            list(pool.run_tasks([1, 2], work, workers=1, budget=pool.Budget()))
    except InterruptedBySignal as stopped:
        print(stopped)
        sys.exit(143)
"""


def test_a_signal_while_a_worker_starts_prints_no_traceback(tmp_path):
    (tmp_path / "starts.py").write_text(STARTS)
    done = subprocess.run(
        [sys.executable, "starts.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "stopped by SIGTERM; go on\n", "")


def test_signals_are_handled_as_before_once_a_worker_has_started():
    before = signal.getsignal(signal.SIGTERM)
    with pool._signals_held_back():
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_names_in_letters_that_matplotlib_lacks_are_silent_and_stay_text():
    # A warning for each letter and figure; warnings are errors here.
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().set_title("测试 नमस्ते \N{PILE OF POO}")
    assert "测试 नमस्ते \N{PILE OF POO}" in svg_document(figure)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),  # safetensors
        RuntimeError("unexpected pos 64 vs 0"),  # torch
    ],
)
def test_a_disk_that_is_full_is_said_with_the_file_and_leaves_nothing(tmp_path, monkeypatch, error):
    # "a file: No space left on device", or a traceback: writers do not name theirs, or have their own errors.
    def write() -> None:
        with atomic_path(tmp_path / "weights.pth") as path:
            path.write_text("half")
            raise error

    monkeypatch.setattr("shutil.disk_usage", lambda _: types.SimpleNamespace(free=0))
    with pytest.raises(OSError, match=r"No space left.*weights\.pth") as raised:
        write()
    assert raised.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())
