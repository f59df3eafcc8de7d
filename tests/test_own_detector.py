"""Detectors of a user's own, outside the repository: what docs/own_detector.md shows, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.app.detectors import load
from unmasked.datasets.errors import InputError
from unmasked.preprocessing.faces import FACES

DOC = (Path(__file__).parents[1] / "docs" / "own_detector.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|sh) (\S+)\n(.*?)```", DOC, flags=re.DOTALL)
MODULES = {name: text for kind, name, text in BLOCKS if kind == "python"}
COMMANDS = {name: text.strip().splitlines() for kind, name, text in BLOCKS if kind == "sh"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    table = write_faces(root, {"train": 6, "val": 4, "test": 6}, frames=2)
    for crop in table.loc[table["label"] == 1, "crop"]:  # fakes are redder: even a regression sees it
        image = cv2.imread(str(root / crop)).astype(int) + np.array([-60, 0, 60])
        cv2.imwrite(str(root / crop), image.clip(0, 255).astype(np.uint8))
    FACES.write(FACES.validate(table), root / "faces.parquet")
    return root


@pytest.fixture
def folder(corpus, tmp_path, monkeypatch):
    """A user's folder with the faces of the corpus; what is imported from it is forgotten afterwards."""
    (tmp_path / "faces").symlink_to(corpus)
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def unmasked(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_what_the_page_shows_goes_through_every_command(folder, name):
    (folder / name).write_text(MODULES[name])
    for line in COMMANDS[name]:
        done = unmasked(*shlex.split(line)[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception}"
    stem = Path(name).stem
    run = folder / "runs" / stem
    card = json.loads((run / "detector.json").read_text())
    assert (card["architecture"], card["method_classes"][0]) == (stem, "real")
    assert card["preprocessing"]["size_px"] == card["size_px"]
    metrics = json.loads((run / "metrics.json").read_text())["datasets"]["Squares"]
    assert metrics["n"]["videos"] == 18  # of the split test
    assert metrics["frame"]["auc"] > 0.6
    assert (run / "report.html").is_file()
    assert (run / "fairness.json").is_file()
    summary = json.loads((run / "explain" / "explain.json").read_text())
    is_network = name == "my_cnn.py"
    assert (run / "explain" / "cam.png").is_file() == is_network
    assert set(summary["skipped"]) == (set() if is_network else {"Grad-CAM", "t-SNE"})
    # Written out and read in again it gives the same scores.
    unmasked("predict", f"detector={name}", "checkpoint=runs/imported", "out=again.parquet")
    columns = ["video", "frame", "score"]
    before, again = (
        pd.read_parquet(path)[columns] for path in (run / "predictions.parquet", "again.parquet")
    )
    pd.testing.assert_frame_equal(before, again)
    # A card's word imports nothing, not even what is imported already.
    refused = unmasked("predict", "checkpoint=runs/imported", "out=never.parquet")
    assert refused.exit_code == 2
    assert "a card alone makes us import nothing" in refused.stderr
    assert not (folder / "never.parquet").exists()


OBJECTIVE = "def objective(step, config):\n    return {}\n\ndef build"
PHASES = """return Net()

def phases(model, config):
    from unmasked.training.detector import Phase
    return [Phase(1.0, {'trunk.': 1.0})]
"""
TINY = """
import torch
from pydantic import Field
from torch import nn
from unmasked.training.config import CropConfig, ModelConfig

NAME = "Tiny"

class Config(CropConfig):
    model: ModelConfig = Field(ModelConfig(size_px=16))

class Net(nn.Module):
    def __init__(self, out=2):
        super().__init__()
        self.head = nn.Linear(3, out)

    def forward(self, images):
        return self.head(images.mean((2, 3)))

def build(config, classes):
    return Net()
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("return Net()", "return Net(3)"), r"forward returned \(2, 3\) for 2 images; it must"),
        (("return Net()", "return 3"), r"build returned int; it must return a network"),
        (
            ("def build", OBJECTIVE.format("{'overall': step.images.mean((1, 2, 3))}")),
            r"the loss 'overall' is a tensor of shape \(32,\); a loss is one number",
        ),
        (
            ("def build", OBJECTIVE.format("step.images.mean()")),
            r"objective returned a tensor of shape \(\); it must return losses by name",
        ),
        (("CropConfig)", "ModelConfig)"), "Config that does not derive from"),
        (("NAME =", "TITLE ="), "has no NAME; docs/own_detector"),
        (("import torch\n", "import no_such_package\n"), "imports no_such_package, which is not installed"),
        (("NAME =", "1 / 0\nNAME ="), r"cannot be imported \(ZeroDivisionError"),
        (("return Net()", PHASES), "no weight's name begins with 'trunk.'"),
        (
            ("def build", "def phases(model, config):\n    return 3\n\ndef build"),
            r"phases returned 3; it must",
        ),
        (
            ("def build", OBJECTIVE.format("{'overall': torch.tensor(0.5)}")),
            r"does not depend on the network's",
        ),
        (("nn.Linear(3, out)", "nn.Softmax(1)"), r"has no weights to train; .* gives fit and read"),
        (
            ("nn.Linear(3, out)", "nn.Linear(3, out)\n        self.cam_layer = 'head'"),
            "cam_layer is 'head'; it is",
        ),
        (
            ("(2, 3)))", "(2, 3)))[: 1 if self.training else None]"),
            r"forward returned \(1, 2\) for 32 images of",
        ),
    ],
    ids=[
        *("shape", "no network", "vector", "no name", "config", "incomplete", "import", "broken", "phases"),
        *("no phases", "constant", "no weights", "cam_layer", "training shape"),
    ],
)
def test_a_module_that_breaks_the_contract_is_refused_in_a_sentence(folder, change, message):
    module = f"broken_{abs(hash(change)) % 10**8}.py"  # a name that Python has not cached
    (folder / module).write_text(TINY.replace(*change))
    done = unmasked("train", f"detector={module}", "out=run")
    assert done.exit_code == 2, done.output
    assert re.search(message, done.stderr.replace("\n", " ")), done.stderr
    assert not list(folder.glob("run/detector.*"))


READER = """
from unmasked.training.config import DetectorConfig, ModelConfig

NAME = "Reader"

class Config(DetectorConfig):
    model: ModelConfig = ModelConfig(size_px=16)

def fit(faces, root, config, out):
    (out / "file.bin").write_bytes(b"1")
    return out / "file.bin"

def read(path, card):
    return None
"""


def test_a_detector_without_gradients_that_reads_nothing_callable_is_refused(folder):
    (folder / "reader_none.py").write_text(READER)
    done = unmasked("train", "detector=reader_none.py", "out=run")
    assert done.exit_code == 2, done.output
    assert "read returned NoneType; it must return a callable" in done.stderr
    assert not list(folder.glob("run/detector.*"))


def test_an_unknown_detector_is_refused_with_the_nearest_name(folder):
    done = unmasked("train", "detector=uc")
    assert done.exit_code == 2
    assert "did you mean 'ucf'?" in done.stderr
    assert "ucf.py does not exist" in unmasked("train", "detector=ucf.py").stderr
    (folder / "ucf.py").write_text(TINY)
    assert "has the name of one of ours" in unmasked("train", "detector=ucf.py").stderr


def test_settings_are_the_detectors_own_and_unknown_ones_are_refused_with_the_nearest(folder):
    (folder / "tiny_keys.py").write_text(TINY)
    shown = unmasked("train", "detector=tiny_keys.py", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "out: runs/tiny_keys" in shown.stdout
    assert "batch_images: 32" in shown.stdout
    assert "batch_pairs" not in shown.stdout
    refused = unmasked("train", "detector=tiny_keys.py", "model.size_pixel=3")
    assert refused.exit_code == 2
    assert "did you mean 'model.size_px'?" in refused.stderr
    assert "batch_pairs" in unmasked("train", "--dry-run").stdout


def test_help_lists_the_keys_of_the_detector_that_is_given(folder):
    # It listed UCF's keys for every detector.
    (folder / "tiny_help.py").write_text(TINY)
    (folder / "mine.yaml").write_text("detector: tiny_help.py\n")
    for given in (["detector=tiny_help.py", "--help"], ["--help", "--config", "mine.yaml"]):
        shown = unmasked("train", *given)
        assert shown.exit_code == 0, shown.output
        assert "training.batch_images" in shown.output
        assert "batch_pairs" not in shown.output
    assert "training.batch_pairs" in unmasked("train", "--help").output
    refused = unmasked("train", "detector=uc", "--help")
    assert refused.exit_code == 2
    assert "did you mean 'ucf'?" in refused.stderr


def test_a_hostile_card_makes_us_import_nothing(folder):
    (folder / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    (folder / "detector.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    for name in ("evil", "os", "evil.py", "../evil", ["evil"], {"ucf": 1}, None):
        card = {"architecture": name, "method_classes": ["real"], "size_px": 64, "sha256": "0"}
        (folder / "detector.json").write_text(json.dumps(card))
        with pytest.raises(InputError, match=r"none of ours|is damaged"):
            load(folder)
    assert not (folder / "ran").exists()


def test_a_checkpoint_of_another_detector_is_refused(folder):
    (folder / "tiny_one.py").write_text(TINY)
    (folder / "tiny_two.py").write_text(TINY)
    done = unmasked("train", "detector=tiny_one.py", "training.epochs=1", "out=run")
    assert done.exit_code == 0, done.output
    with pytest.raises(InputError, match=r"detector 'tiny_one', and detector=tiny_two\.py was given"):
        load(folder / "run", "tiny_two.py")
    with pytest.raises(InputError, match=r"detector=ucf was given; give the module called tiny_one"):
        load(folder / "run", "ucf")
