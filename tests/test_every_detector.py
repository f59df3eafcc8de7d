"""Every detector of the registry, at its smallest, goes through every command.

A new detector is tested unasked; where its defaults are large, `SMALLEST` says what makes it small.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.app.config import load as load_config
from unmasked.app.detectors import find, load, registry
from unmasked.app.training import dotlist
from unmasked.datasets.errors import InputError
from unmasked.preprocessing.faces import FACES
from unmasked.training.config import PairConfig
from unmasked.training.train import train

SMALLEST = {  # settings of ``model``
    "backbone": {"backbone": "mobilenetv3_small_050", "size_px": 32},
    "discriminator": {"size_px": 16, "base": 64, "most": 8},
    "frozen_probe": {"backbone": "mobilenetv3_small_050", "size_px": 32},
    "gend": {"backbone": "vit_pe_core_tiny_patch16_384", "size_px": 32},
    "handcrafted": {"blocks": "[lbp,colour]", "trees": 5, "size_px": 32},
    "inception_resnet_v1": {"size_px": 75},
    "ucf": {"width": 0.125, "size_px": 64},
}
NAMES = sorted(registry())


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    table = write_faces(root, {"train": 3, "val": 2, "test": 2}, frames=2, size_px=32)
    FACES.write(FACES.validate(table), root / "faces.parquet")
    return root / "faces.parquet"


def model_settings(name):
    return dotlist({"model": SMALLEST.get(name, {})})


def settings(name):
    """Of a training of two steps."""
    config = find(name).config
    batch = "training.batch_pairs=2" if issubclass(config, PairConfig) else "training.batch_images=4"
    return [*model_settings(name), *([batch, "training.max_steps=2"] if find(name).has_gradients else [])]


def arguments(name, faces, out):
    return ["train", f"detector={name}", f"faces={faces}", f"out={out}", *settings(name)]


def unmasked(*given):
    done = CliRunner().invoke(app, [str(one) for one in given])
    assert done.exit_code in (0, 2), f"{given}\n{done.output}\n{done.exception!r}"
    return done


def succeed(*given):
    done = unmasked(*given)
    assert done.exit_code == 0, f"{given}\n{done.output}"
    return done


@pytest.fixture(scope="module", params=NAMES)
def run(request, faces, tmp_path_factory):
    """A detector's name, and the folder that two steps of training left."""
    out = tmp_path_factory.mktemp(request.param) / "run"
    succeed(*arguments(request.param, faces, out))
    return request.param, out


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract_and_is_listed(name):
    detector = find(name)
    about = detector.part("ABOUT")
    assert about.paper
    assert about.licence
    assert about.weights
    listed = succeed("detectors", f"detector={name}").stdout
    assert f"{name}: {detector.title}" in listed
    assert re.search(r"trains +([\d,]+ numbers|no network)", listed)


def test_what_trains_is_counted_without_what_is_frozen():
    """A probe was said to train the whole network below it."""
    assert "trains    2,562 numbers of 2,226,434" in succeed("detectors", "detector=frozen_probe").stdout


class Stop(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 1:
            raise ConnectionResetError


def test_it_ends_with_the_same_bits_if_it_was_stopped(run, faces, tmp_path):
    name, out = run
    detector = find(name)
    parts = tmp_path / "parts"
    if not detector.has_gradients:  # in one go: the same again
        succeed(*arguments(name, faces, parts))
        assert scores(parts, faces, tmp_path / "a.csv").equals(scores(out, faces, tmp_path / "b.csv"))
        refused = unmasked(*arguments(name, faces, parts), "resume=true")
        assert (refused.exit_code, "nothing to resume" in refused.stderr) == (2, True)
        return
    config = load_config(detector.config, None, [*settings(name), "training.save_every_steps=1"])
    with pytest.raises(ConnectionResetError):
        train(FACES.read(faces), faces.parent, config, parts, detector=detector, callbacks=[Stop()])
    succeed(*arguments(name, faces, parts), "resume=true")
    one, other = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (out, parts)
    )
    assert list(one) == list(other)
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_it_scores_every_crop_and_again_after_export_and_import(run, faces, tmp_path):
    name, out = run
    first = scores(out, faces, tmp_path / "first.csv")
    assert len(first) == (FACES.read(faces)["split"] != "train").sum()
    assert first["score"].between(0, 1).all()
    card = json.loads((out / "detector.json").read_text())
    assert (card["architecture"], card["detector"]) == (name, find(name).title)
    exported = tmp_path / f"exported{'.pth' if find(name).has_gradients else '.skops'}"
    succeed("export-checkpoint", f"checkpoint={out}", f"out={exported}")
    classes = f"classes=[{','.join(card['method_classes'])}]"
    settings = [f"file={exported}", f"out={tmp_path / 'again'}", classes, *model_settings(name)]
    succeed("import-checkpoint", f"detector={name}", *settings)
    again = scores(tmp_path / "again", faces, tmp_path / "again.csv")
    np.testing.assert_array_equal(first["score"], again["score"])


def scores(checkpoint, faces, out):
    succeed("predict", f"checkpoint={checkpoint}", f"faces={faces}", f"out={out}")
    return pd.read_csv(out)[["video", "frame", "score"]]


def test_it_is_explained_or_says_in_a_sentence_why_not(run, faces, tmp_path):
    _, out = run
    # Tests of maps have tests of their own; here they would be the dearest part.
    sizes = ["pictures=1", "points=8", "perplexity=2", "crops_per_video=1", "methods=[]"]
    done = succeed("explain", f"checkpoint={out}", f"faces={faces}", f"out={tmp_path}", *sizes)
    skipped = json.loads((tmp_path / "explain" / "explain.json").read_text())["skipped"]
    for what, picture in (("Grad-CAM", "cam.png"), ("t-SNE", "tsne.png")):
        assert (tmp_path / "explain" / picture).is_file() == (what not in skipped)
        assert what not in skipped or f"without {what}: {skipped[what]}" in done.stdout


def test_the_checkpoint_of_another_is_refused_in_a_sentence(run, faces, tmp_path):
    name, out = run
    other = next(one for one in NAMES if one != name)
    with pytest.raises(InputError, match=rf"of the detector '{name}', and detector={other} was given; leave"):
        load(out, other)
    # Nor do its weights come in under the other's name.
    card = json.loads((out / "detector.json").read_text())
    stored = out / card.get("file", "detector.safetensors")
    into = tmp_path / "never"
    refused = unmasked("import-checkpoint", f"detector={other}", f"file={stored}", f"out={into}")
    assert refused.exit_code == 2
    assert re.search(r"[;.] [Gg]ive (the|a) ", refused.stderr)
    assert not into.exists()


class Flat(nn.Module):
    """One number an image, where two are asked for."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 1)

    def forward(self, images):
        return self.head(images.mean((2, 3)))


@pytest.mark.parametrize("name", NAMES)
def test_a_forward_of_another_shape_is_refused_and_nothing_is_left(name, faces, tmp_path, monkeypatch):
    module = find(name).module
    if find(name).has_gradients:
        monkeypatch.setattr(module, "build", lambda config, classes: Flat())
    else:
        monkeypatch.setattr(module, "read", lambda path, card: Flat())
    done = unmasked(*arguments(name, faces, tmp_path / "run"))
    assert done.exit_code == 2
    assert re.search(r"return\w+ (the shape )?\(\d+, 1\)", done.stderr)
    assert not list(tmp_path.rglob("detector*"))
