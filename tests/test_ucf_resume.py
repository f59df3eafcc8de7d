"""Trainings that are killed go on as if they had not been; a disk that is full loses nothing."""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from ucf_fakes import load, narrow_config, save, train, write_faces

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.faces import FACES
from unmasked.training.train import TrainResult
from unmasked.ucf.model import UCF

TESTS = Path(__file__).parent

# A training of its own process, that kills itself as the kernel would: no handler runs, nothing is flushed.
KILLED = """
import os, signal, sys
from pathlib import Path
import pytorch_lightning as pl
import torch
sys.path.insert(0, {tests!r})
from unmasked.preprocessing.faces import FACES
from unmasked.ucf.config import UCFConfig
from ucf_fakes import train

class Kill(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == {step}:
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads({threads})
config = UCFConfig.model_validate_json({config!r})
train(FACES.read({faces!r}), Path({root!r}), config, Path({out!r}), callbacks=[Kill()])
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    faces = FACES.validate(write_faces(root, {"train": 4, "val": 2}, frames=3))
    FACES.write(faces, root / "faces.parquet")
    return root, faces


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return torch.load(result.last, weights_only=True)["state_dict"]


def same_end(one: TrainResult, other: TrainResult) -> bool:
    values = weights(other)
    return (
        one.history == other.history
        and one.selection == other.selection
        and all(torch.equal(value, values[name]) for name, value in weights(one).items())
    )


@pytest.mark.slow
def test_a_training_killed_in_mid_epoch_ends_with_the_weights_of_one_that_was_not(corpus, tmp_path):
    # 24 fakes in batches of 4: epochs of 6 steps; killed before step 10, the last state is that of step 8.
    root, faces = corpus
    config = narrow_config(
        training__epochs=3,
        training__save_every_steps=2,
        optimiser__schedule="cosine",
        augment={"flip": 0.5, "noise": 0.5, "jpeg": 0.5},
        model__head_dropout=0.2,
    )
    whole = train(faces, root, config, tmp_path / "whole")
    code = KILLED.format(
        tests=str(TESTS),
        config=config.model_dump_json(),
        faces=str(root / "faces.parquet"),
        root=str(root),
        out=str(tmp_path / "parts"),
        step=9,
        threads=torch.get_num_threads(),
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert torch.load(tmp_path / "parts/checkpoints/last.ckpt", weights_only=True)["global_step"] == 8
    parts = train(faces, root, config, tmp_path / "parts", resume=True)
    assert same_end(whole, parts)
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == whole.history


class StopBefore(pl.Callback):
    """An interruption before a batch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise ConnectionResetError


@pytest.mark.parametrize(
    ("changes", "stop"),
    [
        ({"training__val_every_steps": 2, "training__save_every_steps": 1}, 4),  # saved after a validation
        ({"optimiser__accumulate": 2, "training__max_steps": 5, "training__save_every_steps": 1}, 4),
        ({"data__cache_mb": 0, "data__workers": 1, "training__save_every_steps": 3}, 4),
    ],
    ids=["at a validation", "accumulation", "worker processes"],
)
def test_an_interruption_in_mid_epoch_changes_nothing(corpus, tmp_path, changes, stop):
    root, faces = corpus
    config = narrow_config(training__epochs=2, data__val_frames_per_video=1, **changes)
    whole = train(faces, root, config, tmp_path / "whole")
    with pytest.raises(ConnectionResetError):
        train(faces, root, config, tmp_path / "parts", callbacks=[StopBefore(stop)])
    assert same_end(whole, train(faces, root, config, tmp_path / "parts", resume=True))


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system limits no file sizes")
def test_a_full_disk_keeps_the_last_good_state_and_training_goes_on_from_it(corpus, tmp_path):
    root, faces = corpus
    config = narrow_config(training__epochs=2, training__save_every_steps=2)
    whole = train(faces, root, config, tmp_path / "whole")

    class Fill(pl.Callback):
        """From the sixth step on the system refuses to write more than a megabyte to a file."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 6:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "full"
    try:
        with pytest.raises(InputError, match=r"cannot be written to .*last\.ckpt stands.*resume=true"):
            train(faces, root, config, out, callbacks=[Fill()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(out / "checkpoints") == ["last.ckpt"]
    assert torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    assert same_end(whole, train(faces, root, config, out, resume=True))


def test_a_disk_that_is_full_by_the_card_keeps_the_last_good_detector(tmp_path, monkeypatch):
    torch.manual_seed(0)
    card = {"method_classes": ["real", "a"], "size_px": 64}
    path = save(UCF(width=0.125, method_classes=2), tmp_path, card)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("unmasked.training.checkpoint.write_json", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(UCF(width=0.125, method_classes=2), tmp_path, card)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert load(path)[1]["size_px"] == 64


def test_memory_is_flat_over_epochs(corpus, tmp_path):
    # The published loop keeps the graphs of 300 losses, and grows with each of them.
    class Count(pl.Callback):
        def __init__(self):
            self.tensors = []

        def on_train_epoch_start(self, trainer, pl_module):
            gc.collect()
            self.tensors.append(sum(type(thing) is torch.Tensor for thing in gc.get_objects()))

    root, faces = corpus
    count = Count()
    train(
        faces,
        root,
        narrow_config(training__epochs=5, data__val_frames_per_video=1),
        tmp_path,
        callbacks=[count],
    )
    assert len(set(count.tensors[2:])) == 1, count.tensors
    assert np.ptp(count.tensors[1:]) <= 1
