"""The search: what is drawn, what is remembered over an interruption, what is written, what is refused."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest
import torch
from filelock import FileLock
from optuna.trial import TrialState
from sqlalchemy import Engine, event
from typer.testing import CliRunner
from ucf_fakes import DETECTOR, write_faces

from unmasked.app.cli import app
from unmasked.app.config import CONFIGS, load
from unmasked.app.verbs.tune import Config, _search
from unmasked.datasets.errors import InputError, InterruptedBySignal
from unmasked.preprocessing.faces import FACES
from unmasked.training.module import DetectorModule, DivergedError
from unmasked.training.tuning.plots import write_plots
from unmasked.training.tuning.space import SearchConfig, differences, flat_space, with_values
from unmasked.training.tuning.study import (
    Search,
    _failure,
    _open_study,
    _work_alone,
    best_trial,
    start_trial,
    trials_table,
    tune,
)
from unmasked.ucf.config import UCFConfig

START = UCFConfig.model_validate(
    {
        "model": {"width": 0.125, "size_px": 64, "decoder_dropout": 0.0},
        "optimiser": {"lr": 1e-2},
        "training": {"batch_pairs": 4, "epochs": 1},
    }
)
SPACE = {
    "optimiser": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}},
    "training": {"batch_pairs": [2, 4, 8]},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("tune")
    faces = FACES.validate(write_faces(root, {"train": 8, "val": 3}, frames=2))  # 32 fakes to train on
    FACES.write(faces, root / "faces.parquet")
    return root, faces


@pytest.fixture
def search(corpus, tmp_path):
    root, faces = corpus
    settings = SearchConfig(trials=6, validations=3, startup_trials=2)
    return Search(faces, root, START, flat_space(SPACE, START), settings, tmp_path / "study", DETECTOR)


def auc_of(config):
    """Best at a learning rate of 1e-3, whatever the batch."""
    return 1 - abs(math.log10(config.optimiser.lr) + 3) / 4


@pytest.fixture
def trained(monkeypatch):
    """The configurations that a stand-in trained; its AUC rises to `auc_of` in three validations."""
    seen = []

    def train(faces, crops_root, config, out, *, detector, callbacks):
        seen.append(config)
        module = DetectorModule.__new__(DetectorModule)
        module.__dict__.update(total_steps=config.training.max_steps, record={})
        trainer = SimpleNamespace(should_stop=False, global_step=0)
        while trainer.global_step < config.training.max_steps and not trainer.should_stop:
            trainer.global_step += config.training.val_every_steps
            share = min(1, trainer.global_step / config.training.max_steps)
            module.record = {"val/video_auc": auc_of(config) * share}
            for callback in callbacks:
                callback.on_validation_end(trainer, module)

    monkeypatch.setattr("unmasked.training.tuning.study.train", train)
    return seen


# The space


def test_space_is_drawn_from_by_dotted_key():
    space = flat_space(SPACE, START)
    assert list(space) == ["optimiser.lr", "training.batch_pairs"]
    assert space["training.batch_pairs"].values == (2, 4, 8)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "search space is empty"),
        ({"optimiser": {"lrate": [1e-3, 1e-2]}}, r"unknown key 'space\.optimiser\.lrate'; did you mean"),
        ({"training": {"max_steps": [10, 20]}}, r"space\.training\.max_steps cannot be searched"),
        ({"optimiser": {"lr": 1e-3}}, r"space\.optimiser\.lr is 0\.001; write \{low"),
        ({"optimiser": {"lr": {"low": 1e-3, "hihg": 1}}}, r"space\.optimiser\.lr is .*write \{low"),
        ({"optimiser": {"lr": {"low": 1e-1, "high": 1e-3}}}, "give low < high"),
        ({"optimiser": {"lr": {"low": 0, "high": 1e-1, "log": True}}}, "logarithmic; give low > 0"),
        ({"optimiser": {"lr": {"low": 1e-4, "high": 1e-3}}}, r"start's optimiser\.lr=0\.01 lies outside"),
        ({"augment": {"noise": {"low": 0, "high": 2}}}, r"space\.augment\.noise holds 2\.0: input"),
        ({"training": {"batch_pairs": [1, 4]}}, r"space\.training\.batch_pairs holds 1: input"),
        ({"training": {"batch_pairs": []}}, r"space\.training\.batch_pairs is \[\]"),
    ],
)  # fmt: skip
def test_space_that_cannot_be_searched_is_refused(space, message):
    with pytest.raises(InputError, match=message):
        flat_space(space, START)


@pytest.mark.parametrize("path", sorted((CONFIGS / "tune").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_searches_are_valid(path):
    from unmasked.app.training import dotlist
    from unmasked.app.verbs.tune import Config

    config = load(Config, path)
    start = load(UCFConfig, CONFIGS / f"{config.start}.yaml", dotlist(config.train))
    space = flat_space(config.space, start)
    wanted = {"training.batch_pairs", "optimiser.lr", "optimiser.weight_decay", "augment.noise"}
    assert wanted < set(space)
    assert any(key.startswith("loss.") for key in space)


@pytest.mark.parametrize(("pairs", "trained_on"), [(None, 32), (16, 16), (96, 96)])
def test_all_trials_train_on_equally_many_pairs_with_equally_many_validations(search, pairs, trained_on):
    search = replace(search, settings=search.settings.model_copy(update={"pairs": pairs}))
    for batch in (2, 4, 8):
        training = search.trial_config({"training.batch_pairs": batch}).training
        assert training.max_steps * batch == trained_on
        assert training.epochs * 32 >= trained_on
        assert math.ceil(training.max_steps / training.val_every_steps) in (2, 3)


def test_differences_from_the_defaults_give_the_configuration_back():
    changed = with_values(START, {"augment.recipe": "published", "loss.margin": 2.0})
    written = differences(changed)
    assert UCFConfig.model_validate(written) == changed
    assert written["loss"] == {"margin": 2.0}
    assert differences(UCFConfig()) == {}


# The study


def test_the_start_is_the_first_trial_and_the_search_finds_better(search, trained):
    search = replace(search, settings=search.settings.model_copy(update={"trials": 12}))
    study = tune(search)
    assert trained[0].optimiser.lr == START.optimiser.lr
    first, best = start_trial(study), best_trial(study)
    assert (first.number, first.value) == (0, pytest.approx(auc_of(START)))
    assert best.value > first.value
    assert best.params["optimiser.lr"] == pytest.approx(1e-3, rel=2)
    assert len(trained) == 12


def test_same_seed_draws_the_same_trials_and_another_seed_does_not(search, trained, tmp_path):
    drawn = []
    for number, seed in enumerate((0, 0, 1)):
        settings = search.settings.model_copy(update={"seed": seed, "trials": 4})
        study = tune(replace(search, out=tmp_path / str(number), settings=settings))
        drawn.append([trial.params for trial in study.get_trials()])
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_search_goes_on_where_it_ended(search, trained):
    tune(search)
    assert len(trained) == 6
    assert len(tune(search).trials) == 6
    study = tune(replace(search, settings=search.settings.model_copy(update={"trials": 8})))
    assert (len(study.trials), len(trained)) == (8, 8)


def test_an_interrupted_trial_is_begun_again_with_its_values(search, trained, monkeypatch):
    def killed(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("unmasked.training.tuning.study.train", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(search)
    study = tune(search)
    states = [trial.state.name for trial in study.trials]
    assert states[:2] == ["FAIL", "COMPLETE"]
    assert sum(state in ("COMPLETE", "PRUNED") for state in states) == 6
    assert study.trials[1].params == study.trials[0].params
    assert start_trial(study).number == 1
    assert study.trials[1].user_attrs["repeats"] == 0


def test_a_signal_during_a_trial_says_how_to_go_on_and_the_trial_is_begun_again(search, trained, monkeypatch):
    # The state of a trial is not kept: the training's own advice, resume=true, would be of no use.
    def stopped(*arguments, **more):
        raise InterruptedBySignal(15, "the state of step 3 is in last.ckpt: go on with resume=true")

    with monkeypatch.context() as patch:
        patch.setattr("unmasked.training.tuning.study.train", stopped)
        with pytest.raises(InterruptedBySignal, match=r"stopped by SIGTERM; .*same command goes on"):
            tune(search)
    assert start_trial(tune(search)).number == 1


def test_bad_trials_are_ended_early_but_neither_the_first_ones_nor_at_the_first_validation(search, trained):
    settings = search.settings.model_copy(update={"trials": 12})
    study = tune(replace(search, settings=settings))
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(trial.number >= 2 and len(trial.intermediate_values) == 2 for trial in pruned)
    whole = tune(
        replace(search, out=search.out / "whole", settings=settings.model_copy(update={"prune": False}))
    )
    assert {trial.state for trial in whole.trials} == {TrialState.COMPLETE}


def test_a_training_that_diverges_is_a_result_and_any_other_fault_is_not(search, trained, monkeypatch):
    from unmasked.training.tuning import study as module

    train = module.train

    def diverging(faces, crops_root, config, out, *, detector, callbacks):
        if config.optimiser.lr > START.optimiser.lr:
            raise DivergedError("loss is not a finite number in step 3")
        train(faces, crops_root, config, out, detector=detector, callbacks=callbacks)

    monkeypatch.setattr(module, "train", diverging)
    table = trials_table(tune(search))
    diverged = table[table["optimiser.lr"] > START.optimiser.lr]
    assert len(diverged)
    assert set(diverged["state"]) == {"pruned"}
    assert diverged["reason"].str.contains("not a finite number").all()

    def broken(*arguments, **more):
        raise InputError("crop a.png cannot be read")

    monkeypatch.setattr(module, "train", broken)
    with pytest.raises(InputError, match=r"crop a\.png cannot be read"):
        tune(replace(search, out=search.out / "broken"))


def test_plots_are_drawn_and_pyplot_is_left_as_it_was(search, trained, tmp_path):
    import matplotlib
    from matplotlib import pyplot
    from PIL import Image

    before = {**matplotlib.rcParams, "backend": "agg"}
    names = write_plots(tune(search), tmp_path / "plots", "video_auc")
    assert names == ["history", "slices", "parallel", "validations", "importances"]
    for name in names:
        with Image.open(tmp_path / "plots" / f"{name}.png") as image:
            assert min(image.size) > 300
            assert len(image.convert("L").getcolors()) > 10
    assert pyplot.get_fignums() == []
    assert {**matplotlib.rcParams, "backend": "agg"} == before


# What is refused


def test_a_second_process_on_the_same_study_is_refused(search, trained):
    search.out.mkdir()
    with (
        FileLock(search.out / ".tune.lock", timeout=0),
        pytest.raises(InputError, match=r"another process is tuning in .*study"),
    ):
        tune(search)
    assert len(tune(search).trials) == 6


def test_a_study_is_not_gone_on_with_under_other_settings(search, trained):
    tune(search)
    with pytest.raises(InputError, match="begun with another start, validations; go on with the same"):
        tune(
            replace(
                search,
                start=with_values(START, {"loss.margin": 2.0}),
                settings=search.settings.model_copy(update={"validations": 2}),
            )
        )


def test_there_must_be_a_study_to_report_on(search):
    with pytest.raises(InputError, match=r"no study in .*study to report on; give trials="):
        tune(replace(search, settings=search.settings.model_copy(update={"trials": 0})))


@pytest.mark.parametrize("trials", [0, 1])
def test_a_full_disk_is_no_foreign_file(search, trained, trials):
    """It was "not a study of Optuna", and the advice was another folder on the same disk."""

    def allow_no_growth(connection, _):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max(pages, 1)}")

    def tune_up_to(trials):
        return tune(replace(search, settings=search.settings.model_copy(update={"trials": trials})))

    if trials:  # a study that is there, and has no room for more
        tune_up_to(trials)
    event.listen(Engine, "connect", allow_no_growth)
    try:
        with pytest.raises(InputError, match=r"study\.db cannot be written to: the disk is full"):
            tune_up_to(200)
    finally:
        event.remove(Engine, "connect", allow_no_growth)
    if trials:
        assert (
            len(tune(replace(search, settings=search.settings.model_copy(update={"trials": 2}))).trials) >= 2
        )


def test_a_file_that_is_no_study_is_refused(search):
    search.out.mkdir()
    (search.out / "study.db").write_text("not a database, but long enough to look into" * 10)
    with pytest.raises(InputError, match=r"study\.db is not a study of Optuna"):
        tune(search)


def test_a_study_without_a_complete_trial_has_no_best_one():
    with pytest.raises(InputError, match="no trial of the study was completed"):
        best_trial(optuna.create_study())


def test_a_start_that_does_not_exist_is_refused_in_one_sentence(corpus, tmp_path):
    result = CliRunner().invoke(
        app, ["tune", f"faces={corpus[0] / 'faces.parquet'}", "start=ucf/none", f"out={tmp_path / 'study'}"]
    )
    assert result.exit_code == 2
    assert "configuration ucf/none does not exist" in result.stderr
    assert not (tmp_path / "study").exists()


# The command


def test_a_fault_in_a_worker_is_handed_on_as_its_sentence(search, tmp_path, monkeypatch):
    from unmasked.training.tuning import study as module

    told, threads = [], torch.get_num_threads()
    monkeypatch.setattr(module, "_end_with_parent", lambda: None)  # this process has no parent to watch
    search.out.mkdir()
    _open_study(search)
    with pytest.raises(SystemExit, match="1"):
        _work_alone(replace(search, crops_root=tmp_path), 0, 1, SimpleNamespace(put=told.append))
    torch.set_num_threads(threads)
    assert "cannot be read" in told[0]
    assert _failure(1, told[0]) == told[0]
    assert "ended with code -9" in _failure(-9, None)


@pytest.mark.slow
def test_stopped_by_sigterm_and_called_again_it_finds_what_a_search_without_a_stop_finds(corpus, tmp_path):
    keys = [
        *("detector=signal_fakes", f"faces={corpus[0] / 'faces.parquet'}", "trials=4", "startup_trials=2"),
        *("train.training.batch_images=8", "validations=2", "images=32"),
        "space.optimiser.lr={low: 1e-4, high: 1e-1, log: true}",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{Path(__file__).parent}",
        "UNMASKED_TEST_SIGNAL": f"{int(signal.SIGTERM)}:self:7",  # in the second trial of four steps
    }
    command = [sys.executable, "-m", "unmasked.app.cli", "tune", *keys, f"out={tmp_path / 'parts'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 143, done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert "stopped by SIGTERM; finished trials are kept, and the same command goes on" in sentence
    found = {}
    for name in ("parts", "whole"):
        study = tune(_search(load(Config, None, [*keys, f"out={tmp_path / name}"])))
        finished = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
        found[name] = [(trial.params, trial.value, trial.intermediate_values) for trial in finished]
    assert len(study.trials) == len(found["whole"]) == 4
    assert found["parts"] == found["whole"]


@pytest.mark.slow
def test_killed_and_called_again_by_two_workers_it_ends_with_a_configuration_that_train_takes(
    corpus, tmp_path
):
    out = tmp_path / "study"
    arguments = [
        *("tune", f"faces={corpus[0] / 'faces.parquet'}", f"out={out}", "start=ucf/demo", "trials=3"),
        *("train.model.width=0.125", "train.model.size_px=64", "validations=2", "startup_trials=2"),
        "space.optimiser.lr={low: 1e-4, high: 1e-2, log: true}",
        "space.training.batch_pairs=[4,8]",
    ]
    command = [sys.executable, "-m", "unmasked.app.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while not (out / "trials" / "0001").is_dir():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    done = CliRunner().invoke(app, [*arguments, "workers=2"])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out / "trials.csv")
    assert (table["state"] == "fail").sum() == 1
    assert table["state"].isin(["complete", "pruned"]).sum() == 3
    best = load(UCFConfig, out / "best.yaml")
    assert best.optimiser.lr in table["optimiser.lr"].tolist()
    assert "start" in (out / "best.yaml").read_text().splitlines()[0]
    assert (out / "plots" / "history.png").is_file()
    assert not list(out.rglob("*.safetensors"))
    taken = CliRunner().invoke(app, ["train", "--config", str(out / "best.yaml"), "--dry-run"])
    assert taken.exit_code == 0
    assert f"batch_pairs: {best.training.batch_pairs}" in taken.stdout
