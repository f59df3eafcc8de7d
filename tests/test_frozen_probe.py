"""The linear probe: nothing but its linear layer moves."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.app.config import CONFIGS, load
from unmasked.app.verbs.train import config_of
from unmasked.baselines.backbone import Network
from unmasked.preprocessing.faces import FACES

FILES = sorted((CONFIGS / "frozen_probe").glob("*.yaml"))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    FACES.write(FACES.validate(write_faces(root, {"train": 2, "val": 2}, frames=2)), root / "faces.parquet")
    return root / "faces.parquet"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_configuration_names_a_network(file):
    with torch.device("meta"):
        assert isinstance(Network(load(config_of("frozen_probe"), file).model), torch.nn.Module)


def test_the_trunk_stays_the_file_s_bit_for_bit(faces, tmp_path):
    """Its normalisation too; the fakes are real crops blended with themselves."""
    stored = timm.create_model("resnet18").state_dict()
    torch.save(stored, tmp_path / "weights.pth")
    given = [f"faces={faces}", f"out={tmp_path}/run", f"model.weights={tmp_path}/weights.pth"]
    given += ["model.backbone=resnet18", "model.size_px=32", "training.batch_images=8"]
    given += ["training.max_steps=2", "data.fakes=self_blended"]
    done = CliRunner().invoke(app, ["train", "detector=frozen_probe", *given])
    assert done.exit_code == 0, f"{done.output}\n{done.exception}"
    assert "nothing but the head learns" in " ".join(done.output.split())
    learned = load_file(tmp_path / "run" / "detector.safetensors")
    trunk = {key.removeprefix("trunk."): value for key, value in learned.items() if key.startswith("trunk.")}
    assert trunk
    assert [key for key, value in trunk.items() if not torch.equal(value, stored[key])] == []
