"""The linear probe: nothing but its linear layer moves."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.app.config import CONFIGS, load
from unmasked.app.detectors import load as checkpoint_of
from unmasked.app.verbs.train import config_of
from unmasked.baselines.backbone import Network
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.loading import read_crops
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


def test_it_learns_what_scikit_learn_s_regression_learns(faces, tmp_path):
    """It seemed to disagree with LogisticRegression(): another problem, not another solution.

    Two logits halve the penalty of their difference, Adam's penalty is of the mean loss and counts the bias,
    and steps are of class-balanced, augmented crops. Told all that, both find one optimum.
    """
    table = FACES.read(faces)
    train, penalty, steps = table[table["split"] == "train"], 0.5, 60
    given = [f"faces={faces}", f"out={tmp_path}/run", "model.backbone=resnet10t", "model.size_px=32"]
    given += ["augment.recipe=none", "data.balance=none", f"training.batch_images={len(train)}"]
    given += [f"training.{name}={steps}" for name in ("max_steps", "epochs", "val_every_steps")]
    given += [f"optimiser.weight_decay={penalty}", "optimiser.lr=0.03", "optimiser.schedule=cosine"]
    done = CliRunner().invoke(app, ["train", "detector=frozen_probe", *given])
    assert done.exit_code == 0, f"{done.output}\n{done.exception}"
    model, _ = checkpoint_of(tmp_path / "run")
    pixels = torch.from_numpy(read_crops(crop_paths(train["crop"], faces.parent), 32))
    images = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        x, logits = model.features(images).double().numpy(), model(images).double().numpy()
    x = np.hstack([x, np.ones((len(x), 1))])  # a bias that is penalised
    theirs = LogisticRegression(C=2 / (penalty * len(x)), fit_intercept=False, tol=1e-10, max_iter=10_000)
    expected = theirs.fit(x, train["label"]).decision_function(x)
    found = logits[:, 1] - logits[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0.02)
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), atol=0.05 * expected.std())
    as_it_comes = LogisticRegression().fit(x[:, :-1], train["label"]).decision_function(x[:, :-1])
    assert abs(as_it_comes - expected).max() > expected.std()


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
