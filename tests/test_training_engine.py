"""The engine under every detector: single crops, freezing, plain images, people set aside, signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import train_fakes
from train_fakes import SMALL, small_config
from typer.testing import CliRunner
from ucf_fakes import DETECTOR, narrow_config, write_faces

from unmasked.app.cli import app
from unmasked.app.run import only_one_in
from unmasked.datasets.errors import InputError, InterruptedBySignal
from unmasked.datasets.samplers import BalancedSampler, NaturalSampler, WholeBatches
from unmasked.preprocessing.faces import FACES
from unmasked.training import checkpoint
from unmasked.training.callbacks import KeepLast, StopOnSignal
from unmasked.training.data import TrainingData, row_sampler
from unmasked.training.detector import Phase
from unmasked.training.tables import training_tables
from unmasked.training.train import train

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    return root, FACES.validate(write_faces(root, {"train": 4, "val": 2}, frames=2))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A faces table of a folder of plain images, real/ and fake/: nothing says who they show."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    rows = []
    for label, kind in enumerate(("real", "fake")):
        (root / kind).mkdir()
        for number in range(20):
            image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) // (1 + label)
            cv2.imwrite(str(root / kind / f"{number}.png"), image)
            rows.append({"dataset": "plain", "video": f"{kind}/{number}", "kind": "image", "label": label})
            rows[-1] |= {"method": kind, "split": "train", "frame": 0, "face": 0, "status": "ok"}
            rows[-1] |= {"crop": f"{kind}/{number}.png"}
    FACES.write(FACES.validate(pd.DataFrame(rows)), root / "faces.parquet")
    return root, FACES.read(root / "faces.parquet")


def weights(result) -> dict[str, torch.Tensor]:
    return torch.load(result.last, weights_only=True)["state_dict"]


# Single crops


def test_whole_batches_are_dealt_out_in_turns_and_filled_up():
    one = WholeBatches(NaturalSampler(10, seed=1), 4, accumulate=2)
    rows = list(one)
    assert len(rows) == len(one) == 16
    assert sorted(rows[:10]) == list(range(10))
    assert rows[10:] == rows[:6]
    two = [list(WholeBatches(NaturalSampler(10, seed=1), 4, rank=rank, replicas=2)) for rank in (0, 1)]
    assert two[0] == rows[:4] + rows[8:12]
    assert two[1] == rows[4:8] + rows[12:]


def test_crops_are_drawn_with_as_many_reals_as_fakes_unless_that_is_not_wanted(corpus):
    faces = training_tables(corpus[1], small_config()).train  # 8 reals, 16 fakes
    sampler = row_sampler(faces, small_config())
    labels = faces["label"].to_numpy()[list(sampler)]
    assert len(labels) == 32
    assert [int(labels[start : start + 8].sum()) for start in range(0, 32, 8)] == [4] * 4
    natural = row_sampler(faces, small_config(data__balance="none"))
    assert sorted(natural) == list(range(24))
    assert isinstance(sampler.sampler, BalancedSampler)


def test_groups_are_balanced_among_crops(corpus):
    config = small_config(data__groups="gender", data__balance="group_class")
    tables = training_tables(corpus[1], config)
    rows = list(TrainingData(SMALL, tables, corpus[0], config).sampler)
    drawn = tables.train.iloc[rows].groupby(["gender", "label"]).size()
    assert drawn.nunique() == 1
    assert len(drawn) == 4


def test_a_detector_of_crops_trains_and_its_card_says_what_it_is(corpus, tmp_path):
    root, faces = corpus
    result = train(faces, root, small_config(), tmp_path, detector=SMALL)
    model, card = checkpoint.load(SMALL, result.checkpoint)
    assert (card["architecture"], card["detector"], card["size_px"]) == ("train_fakes", "Small", 32)
    assert card["preprocessing"]["value_range"] == [-1.0, 1.0]
    stored = weights(result)
    assert all(torch.equal(value, stored[f"model.{name}"]) for name, value in model.state_dict().items())
    assert list(result.history[0]) == [
        "epoch",
        "step",
        "train/overall",
        "lr",
        "val/frame_auc",
        "val/video_auc",
    ]


# Freezing


class Watch(pl.Callback):
    """Keeps a copy of the weights after each step."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.states.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})


def moved(one, other) -> set[str]:
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


def test_a_frozen_trunk_stays_with_its_normalisation_and_moves_when_its_phase_begins(
    corpus, tmp_path, monkeypatch
):
    # An optimiser of the weights that have gradients at the start never moved the others.
    root, faces = corpus
    phases = [Phase(1, {"head.": 1.0}), Phase(1, {"head.": 1.0, "trunk.": 0.1})]
    monkeypatch.setattr(train_fakes, "PHASES", phases)
    watch = Watch()
    config = small_config(training__epochs=2, training__val_every_steps=2)
    result = train(faces, root, config, tmp_path, detector=SMALL, callbacks=[watch])
    states = watch.states  # 8 steps, 4 in each phase, with validations between them
    assert moved(states[0], states[3]) == {"head.weight", "head.bias"}
    assert {"trunk.0.weight", "trunk.1.running_mean", "trunk.1.num_batches_tracked"} <= moved(
        states[3], states[4]
    )
    optimiser = torch.load(result.last, weights_only=True)["optimizer_states"][0]
    assert sum(len(group["params"]) for group in optimiser["param_groups"]) == 8
    # Adam's first step is as long as the rate: a tenth of the head's.
    step = (states[4]["trunk.0.weight"] - states[3]["trunk.0.weight"]).abs().max()
    assert float(step) == pytest.approx(0.1 * 0.01, rel=0.05)


def test_an_interruption_between_phases_changes_nothing(corpus, tmp_path, monkeypatch):
    root, faces = corpus
    monkeypatch.setattr(train_fakes, "PHASES", [Phase(1, {"head.": 1.0}), Phase(1, {"": 0.5})])
    config = small_config(training__epochs=2, training__save_every_steps=1)

    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 5:
                raise ConnectionResetError

    whole = train(faces, root, config, tmp_path / "whole", detector=SMALL)
    with pytest.raises(ConnectionResetError):
        train(faces, root, config, tmp_path / "parts", detector=SMALL, callbacks=[Stop()])
    parts = train(faces, root, config, tmp_path / "parts", detector=SMALL, resume=True)
    assert not moved(weights(whole), weights(parts))
    assert whole.history == parts.history


def test_weights_that_a_callback_unfreezes_move(corpus, tmp_path):
    root, faces = corpus

    class Unfreeze(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            pl_module.model.trunk.requires_grad_(False)

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 2:
                pl_module.model.trunk.requires_grad_(True)

    watch = Watch()
    train(faces, root, small_config(), tmp_path, detector=SMALL, callbacks=[Unfreeze(), watch])
    assert "trunk.0.weight" not in moved(watch.states[0], watch.states[1])
    assert "trunk.0.weight" in moved(watch.states[1], watch.states[2])


# Plain images, and people set aside


def test_without_a_split_val_some_people_of_train_are_set_aside_and_it_is_said(corpus, caplog):
    faces = corpus[1][corpus[1]["split"] == "train"]
    config = small_config(data__val_from_train=0.25)
    tables = training_tables(faces, config)
    people = [set(rows["identity"]) for rows in (tables.train, tables.val)]
    assert not people[0] & people[1]
    assert [len(found) for found in people] == [3, 1]
    summary = tables.summary()["val_from_train"]
    assert (summary["share"], summary["of"], summary["videos"]) == (0.25, "people", 3)
    assert "3 of 12 videos and images of train are set aside for validation, divided by people" in caplog.text
    again = training_tables(faces.sample(frac=1, random_state=0), config)
    assert set(again.val["video"]) == set(tables.val["video"])
    other = [training_tables(faces, config.model_copy(update={"seed": seed})) for seed in range(8)]
    assert len({tuple(sorted(found.val["identity"].unique())) for found in other}) > 1
    with pytest.raises(InputError, match=r"set some of train aside with data\.val_from_train=0\.1"):
        training_tables(faces, small_config())


def test_a_split_val_that_is_there_is_used_and_nothing_set_aside(corpus):
    tables = training_tables(corpus[1], small_config(data__val_from_train=0.25))
    assert tables.held_out is None
    assert set(tables.val["split"]) == {"val"}


PLAIN = {"ucf": {"loss__specific": 0.0, "training__epochs": 2}, "train_fakes": {"training__epochs": 2}}

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import pytorch_lightning as pl
import torch
import train_fakes, ucf_fakes
from unmasked.preprocessing.faces import FACES
from unmasked.training.train import train

class Kill(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads({threads})
detector = {{"ucf": ucf_fakes.DETECTOR, "train_fakes": train_fakes.SMALL}}[{name!r}]
config = detector.config.model_validate_json({config!r})
root = Path({root!r})
train(FACES.read(root / "faces.parquet"), root, config, Path({out!r}), detector=detector, callbacks=[Kill()])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_a_folder_of_plain_images_is_trained_on_and_goes_on_after_a_kill(images, tmp_path, name):
    # The first validation died: it showed pairs of a fake and its source, which nobody knows.
    root, faces = images
    detector, make = (DETECTOR, narrow_config) if name == "ucf" else (SMALL, small_config)
    config = make(**PLAIN[name], data__val_from_train=0.2, training__save_every_steps=2)
    whole = train(faces, root, config, tmp_path / "whole", detector=detector)
    held_out = json.loads((tmp_path / "whole" / "detector.json").read_text())["training_data"]
    assert held_out["val_from_train"]["of"] == "images, for nobody says who they show"
    assert held_out["val_from_train"]["videos"] == held_out["val"]["videos"] == 8
    code = KILLED.format(
        tests=str(TESTS),
        threads=torch.get_num_threads(),
        name=name,
        config=config.model_dump_json(),
        root=str(root),
        out=str(tmp_path / "parts"),
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    parts = train(faces, root, config, tmp_path / "parts", detector=detector, resume=True)
    assert parts.history == whole.history
    assert not moved(weights(whole), weights(parts))
    with pytest.raises(InputError, match="the faces table has changed"):
        train(faces.iloc[5:], root, config, tmp_path / "parts", detector=detector, resume=True)


@pytest.mark.parametrize("changed", ["video", "label", "blur"])
def test_a_training_is_not_resumed_on_a_table_of_other_people_labels_or_pixels(corpus, tmp_path, changed):
    # Validations of two sets of people stood in one file of metrics, and the card named one of them.
    root, faces = corpus
    train(faces, root, small_config(), tmp_path / "run", detector=SMALL)
    state = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    other = faces.copy()
    of_train = other.index[(other["split"] == "train") & (other["label"] == 1)]
    if changed == "video":
        other["video"] = other["video"] + "x"
    elif changed == "label":
        video = other.loc[of_train[0], "video"]
        other.loc[other["video"] == video, "label"] = 0
    else:
        other.loc[of_train[0], "blur"] = 1234.5
    with pytest.raises(InputError, match="trained on other crops than those that it holds"):
        train(other, root, small_config(training__epochs=5), tmp_path / "run", detector=SMALL, resume=True)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == state


def test_two_trainings_do_not_write_into_one_folder(corpus, tmp_path):
    FACES.write(corpus[1], tmp_path / "faces.parquet")
    with only_one_in(tmp_path / "run", "train"):
        answer = CliRunner().invoke(
            app, ["train", f"faces={tmp_path / 'faces.parquet'}", f"out={tmp_path / 'run'}"]
        )
        assert answer.exit_code == 2
        assert "another `unmasked train` writes into" in " ".join(answer.output.split())
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".train.lock"]
    assert not (tmp_path / "run").exists()  # nothing was written


def test_a_run_that_fails_in_its_first_validation_leaves_no_finished_detector(corpus, tmp_path, monkeypatch):
    root, faces = corpus

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no picture can be drawn")

    monkeypatch.setattr("unmasked.training.boards.log_scores", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        train(faces, root, small_config(), tmp_path / "run", detector=SMALL)
    assert not list((tmp_path / "run").glob("detector.*"))


# States of 0.1


def test_a_state_of_another_version_with_fewer_weights_in_its_optimiser_is_resumed(corpus, tmp_path):
    # 0.1 left weights without a gradient out of the optimiser, and called the loader's state UCFData.
    root, faces = corpus
    config = narrow_config(training__epochs=2, training__save_every_steps=1)
    whole = train(faces, root, config, tmp_path / "whole", detector=DETECTOR)

    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 3:
                self.moving = [value.requires_grad for value in pl_module.model.parameters()]
                raise ConnectionResetError

    stop = Stop()
    with pytest.raises(ConnectionResetError):
        train(faces, root, config, tmp_path / "parts", detector=DETECTOR, callbacks=[stop])
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    data = state.pop("TrainingData")
    state["UCFData"] = {name: data[name] for name in ("epoch", "batches")}
    moving = [number for number, moves in enumerate(stop.moving) if moves]
    optimiser = state["optimizer_states"][0]
    assert len(moving) < len(stop.moving)
    optimiser["param_groups"][0]["params"] = list(range(len(moving)))
    optimiser["state"] = {place: optimiser["state"][number] for place, number in enumerate(moving)}
    torch.save(state, last)
    parts = train(faces, root, config, tmp_path / "parts", detector=DETECTOR, resume=True)
    assert not moved(weights(whole), weights(parts))


# Signals


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_training_with_its_state_and_a_sentence_and_it_goes_on(corpus, tmp_path, number, code):
    # It ended with exit code 0 and no word.
    root, faces = corpus
    FACES.write(faces, tmp_path / "faces.parquet")
    shutil.copytree(root / "crops", tmp_path / "crops")
    out = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "unmasked.app.cli", "train", "detector=train_fakes", f"out={out}"),
        *(f"faces={tmp_path / 'faces.parquet'}", "training.batch_images=4", "training.epochs=100000"),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{TESTS}"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        deadline = time.monotonic() + 120
        while not (out / "detector.safetensors").is_file():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    sentence = stderr.strip().splitlines()[-1]
    assert f"stopped by {number.name}; the state of step" in sentence
    assert sentence.endswith("go on with resume=true")
    state = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    assert f"of step {state['global_step']} is in" in sentence


def test_a_second_signal_ends_training_at_once(corpus, tmp_path):
    root, faces = corpus

    class Twice(pl.Callback):
        def on_validation_start(self, trainer, pl_module):
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedBySignal, match="no state was written yet"):
        train(faces, root, small_config(), tmp_path, detector=SMALL, callbacks=[Twice()])
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# Several processes, and a training that was stopped

LAUNCHED = """
import json, os
from pathlib import Path
import signal_fakes
from unmasked.app.cli import app

codes = []
for name, keys, send in json.loads(os.environ["STAGES"]):
    signal_fakes.calls, os.environ["UNMASKED_TEST_SIGNAL"] = 0, send
    try:
        app(["train", "detector=signal_fakes", f"out={name}", *keys])
    except SystemExit as ended:
        codes.append(ended.code)
    Path(os.environ["RANK"]).write_text(json.dumps(codes))
"""


@pytest.mark.slow
def test_signals_end_two_processes_with_their_state_and_resumed_they_end_as_if_there_had_been_none(
    corpus, tmp_path
):
    # torchrun hands every signal on, so that what a terminal or SLURM sends to all comes twice.
    root, table = corpus
    FACES.write(table, root / "faces.parquet")
    keys = [f"faces={root / 'faces.parquet'}", "training.batch_images=4", "training.epochs=2"]
    again = [*keys, "resume=true"]
    stages = [
        ("whole", keys, ""),
        ("parts", keys, f"{int(signal.SIGINT)}:twice:3"),
        ("parts", again, f"{int(signal.SIGTERM)}:self:2"),
        ("parts", again, ""),
        ("killed", keys, f"{int(signal.SIGTERM)}:parent:2"),
    ]
    (tmp_path / "launched.py").write_text(LAUNCHED)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{TESTS}",
        "STAGES": json.dumps(stages),
    }
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "launched.py"]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, cwd=tmp_path)
    for rank in ("0", "1"):
        assert json.loads((tmp_path / rank).read_text()) == [0, 130, 143, 0, 143], done.stderr
    assert done.returncode == 1  # torchrun's own, after a signal
    assert done.stdout.count("detector written to") == 2  # once for two processes
    for name, word in (("parts", "SIGINT"), ("parts", "SIGTERM"), ("killed", "SIGTERM")):
        sentence = rf"stopped by {word}; the state of step \d+ is in {name}/\S+: go on with resume=true"
        assert re.search(sentence, done.stderr), done.stderr
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for name in ("detector.safetensors", "metrics.jsonl"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    states = [torch.load(out / "checkpoints/last.ckpt", weights_only=True) for out in (whole, parts)]
    assert states[0]["global_step"] == states[1]["global_step"] == 8
    assert not moved(states[0]["state_dict"], states[1]["state_dict"])
    assert (tmp_path / "killed" / "checkpoints" / "last.ckpt").is_file()


def test_a_signal_that_a_launcher_hands_on_is_not_a_second_one():
    keep = KeepLast(Path("last.ckpt"), every_steps=1)
    stop, alone = StopOnSignal(keep), StopOnSignal(keep)
    stop.same_s = 60.0
    for one in (stop, alone):
        one._receive(signal.SIGINT, None)
    stop._receive(signal.SIGTERM, None)
    assert stop.number == signal.SIGINT
    stop.repeated_until_s = 0.0
    for one in (stop, alone):
        with pytest.raises(InterruptedBySignal):
            one._receive(signal.SIGINT, None)


@pytest.mark.slow
def test_a_stopped_training_is_not_begun_again_unless_that_is_said(corpus, tmp_path, monkeypatch):
    # The state that a signal had saved was lost without a word.
    root, table = corpus
    FACES.write(table, root / "faces.parquet")
    given = ["train", "detector=train_fakes", f"faces={root / 'faces.parquet'}", f"out={tmp_path}"]
    given += ["training.batch_images=8", "training.epochs=2"]

    def stop(*_: object) -> None:
        raise InterruptedBySignal(signal.SIGTERM, "stopped")

    with monkeypatch.context() as patched:
        patched.setattr(
            KeepLast, "on_train_epoch_end", lambda self, trainer, module: (self._write(trainer), stop())
        )
        assert CliRunner().invoke(app, given).exit_code == 143
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = CliRunner().invoke(app, [*given, "seed=5"])
    assert done.exit_code == 2
    assert (
        "after step 4; go on with resume=true, or begin again with restart=true or in another out="
        in done.stderr
    )
    refused = CliRunner().invoke(app, [*given, "seed=5", "resume=true"])
    assert (refused.exit_code, "other values of seed" in refused.stderr) == (2, True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert CliRunner().invoke(app, [*given, "resume=true"]).exit_code == 0
    resumed = (tmp_path / "detector.safetensors").read_bytes()
    again = CliRunner().invoke(app, given)  # a finished one may be done again, and that is said
    assert (again.exit_code, f"the detector in {tmp_path} is replaced" in again.output) == (0, True)
    assert (tmp_path / "detector.safetensors").read_bytes() == resumed
    with monkeypatch.context() as patched:
        patched.setattr(
            KeepLast, "on_train_epoch_end", lambda self, trainer, module: (self._write(trainer), stop())
        )
        assert CliRunner().invoke(app, given).exit_code == 143
    assert CliRunner().invoke(app, [*given, "restart=true"]).exit_code == 0
