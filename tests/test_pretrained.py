"""Xception's start from ImageNet, by files that the tests make: nothing is downloaded."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from unmasked.datasets.errors import InputError
from unmasked.ucf.config import UCFConfig
from unmasked.ucf.model import UCF
from unmasked.ucf.pretrained import start, start_from_imagenet


@pytest.fixture(scope="module")
def legacy():
    """timm's Xception with weights that no initialisation gives."""
    torch.manual_seed(5)
    model = timm.create_model("legacy_xception", pretrained=False).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return model


def cadene(state):
    """The naming of xception-b5690688.pth: pointwise weights are matrices, batch norms have no counter."""
    return {
        name: value[:, :, 0, 0] if name.endswith("pointwise.weight") else value
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


def before_adjusting(encoder, images):
    """(N, 2048, h, w): what the convolutions with ImageNet weights make of images."""
    seen = []
    handle = encoder.bn4.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with handle, torch.no_grad():
        encoder(images)
    return seen[0]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["cadene", "timm file", "timm"])
def test_both_encoders_compute_what_timms_xception_computes(legacy, tmp_path, monkeypatch, form):
    torch.manual_seed(0)
    model = UCF().eval()
    adjusted = model.encoder_f.adjust_channel[0].weight.clone()
    if form == "cadene":
        source = tmp_path / "xception-b5690688.pth"
        torch.save(cadene(legacy.state_dict()), source, _use_new_zipfile_serialization=False)
    elif form == "timm file":
        source = tmp_path / "model.safetensors"
        save_file(legacy.state_dict(), source)
    else:
        source = "timm"
        monkeypatch.setattr(timm, "create_model", lambda name, pretrained: legacy if pretrained else None)
    start_from_imagenet(model, str(source))
    images = torch.rand(1, 3, 96, 96) * 2 - 1
    expected = before_adjusting_of(legacy, images)
    for encoder in (model.encoder_f, model.encoder_c):
        torch.testing.assert_close(before_adjusting(encoder, images), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.encoder_f.adjust_channel[0].weight, adjusted)


def before_adjusting_of(legacy, images):
    seen = []
    handle = legacy.bn4.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    with handle, torch.no_grad():
        legacy(images)
    return seen[0]


def test_a_file_of_another_network_is_refused_and_leaves_the_model_alone(tmp_path):
    model = UCF(width=1)
    before = model.encoder_f.conv1.weight.clone()
    torch.save(
        {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0": torch.zeros(1)}, tmp_path / "resnet.pth"
    )
    with pytest.raises(InputError, match=r"does not hold Xception's weights: .*absent.*another shape"):
        start_from_imagenet(model, str(tmp_path / "resnet.pth"))
    assert torch.equal(model.encoder_f.conv1.weight, before)


def test_what_is_lost_without_the_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"none\.pth does not exist; give .*random weights.*more epochs"):
        start_from_imagenet(UCF(width=1), str(tmp_path / "none.pth"))
    assert "random weights" in start(UCFConfig().model.imagenet)
    assert start("xception.pth") == "encoders start from ImageNet's weights (xception.pth)"


def test_without_a_network_timm_is_no_way(monkeypatch):
    def offline(name, pretrained):
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"timm could not get legacy_xception \(Name or service not known\)"):
        start_from_imagenet(UCF(), "timm")


def test_no_imagenet_weights_exist_for_a_narrow_network(tmp_path):
    with pytest.raises(InputError, match=r"fits model\.width=1 only, not 0\.25"):
        start_from_imagenet(UCF(width=0.25), str(tmp_path / "any.pth"))
