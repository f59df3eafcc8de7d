"""Networks made ready to score compute what they computed, in fewer steps."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from unmasked.datasets.transforms import normalise
from unmasked.evaluation import inference
from unmasked.evaluation.inference import choose_precision, compute, ready_to_score
from unmasked.ucf.model import UCF

SIZE = 64


def settle(model: nn.Module) -> nn.Module:
    """Gives batch norms the statistics of a network that was trained, so that folding them matters."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def pixels(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def norms(model: object) -> int:
    assert isinstance(model, nn.Module)
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


class Small(nn.Module):
    """A convolution, a norm, and whatever else a test asks for."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4, track_running_stats=kind != "batch")
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        normed = self.norm(maps)
        if self.kind == "both":
            normed = normed + maps  # what the norm was given is used again
        if self.kind == "twice":
            normed = self.norm(normed)
        if self.kind == "weight":
            normed = normed * self.norm.weight.reshape(1, -1, 1, 1)
        return self.head(normed.mean((2, 3)))


@pytest.mark.parametrize(
    ("build", "left"),
    [
        (lambda: UCF(0.125), 41),  # the second encoder and what scores do not depend on
        (lambda: timm.create_model("mobilenetv2_035", num_classes=2), 0),  # its norms rectify as well
        (lambda: Small("plain"), 0),
    ],
)
def test_the_twin_computes_the_same_without_norms_and_the_network_keeps_its_own(build, left):
    model = settle(build())
    stored = copy.deepcopy(model.state_dict())
    twin = ready_to_score(model, SIZE, "cpu")
    assert norms(twin) == left
    assert ready_to_score(twin, SIZE, "cpu") is twin  # of its own, for who scores again and again
    with torch.inference_mode():
        expected = model(normalise(pixels()))
    torch.testing.assert_close(compute(twin, pixels(), "cpu"), expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in stored.items())


def test_features_and_logits_of_one_pass_are_those_of_the_network():
    model = settle(UCF(0.125))
    twin = ready_to_score(model, SIZE, "cpu")
    with torch.inference_mode():
        expected = model.forward_with_features(normalise(pixels()))
    for found, wanted in zip(compute(twin.forward_with_features, pixels(), "cpu"), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["both", "twice", "weight", "batch"])
def test_a_network_that_folding_would_change_is_left_as_it_is(kind):
    model = settle(Small(kind))
    ready = ready_to_score(model, SIZE, "cpu")
    with torch.inference_mode():
        expected = model(normalise(pixels()))
    assert norms(ready) == 1
    torch.testing.assert_close(compute(ready, pixels(), "cpu"), expected, rtol=1e-5, atol=1e-6)


def test_a_function_is_given_back():
    assert ready_to_score(torch.relu, SIZE, "cpu") is torch.relu


def test_a_convolving_network_is_given_as_many_images_as_fit_the_cache():
    model, seen = Small("plain").eval(), []
    model.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[0]))
    compute(model, pixels(1).expand(130, 3, SIZE, SIZE), "cpu")
    assert seen == [64, 64, 2]  # 4 of 256 x 256 have as many pixels as 64 of 64 x 64


@pytest.mark.parametrize(
    ("able", "seconds", "chosen"),
    [
        ({"avx512_bf16": True}, {"bf16": 1.0, "fp32": 2.0}, "bf16"),
        ({"avx512_bf16": True}, {"bf16": 1.8, "fp32": 2.0}, "fp32"),  # not worth other scores
        ({"amx_bf16": True}, {"bf16": 1.0, "fp32": 2.0}, "bf16"),
        ({"avx512_bf16": False}, {"bf16": 1.0, "fp32": 2.0}, "fp32"),
    ],
)
def test_auto_takes_bf16_where_the_processor_has_it_and_the_network_gains(monkeypatch, able, seconds, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(inference, "_seconds", lambda _model, _images, precision: seconds[precision])
    assert choose_precision(Small("plain"), SIZE, "cpu") == chosen


def test_auto_measures_a_real_network():
    assert choose_precision(Small("plain"), SIZE, "cpu") in ("fp32", "bf16")
    assert choose_precision(torch.relu, SIZE, "cpu") == "fp32"
