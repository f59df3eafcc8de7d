"""Detectors as ONNX files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner
from ucf_fakes import save

from unmasked.app.cli import app
from unmasked.datasets.errors import InputError
from unmasked.datasets.transforms import normalise
from unmasked.evaluation import onnx_file
from unmasked.evaluation.onnx_file import write_onnx
from unmasked.ucf.model import UCF

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed: pip install unmasked[onnx]")
runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

CARD = {
    "architecture": "small",
    "detector": "small",
    "sha256": "ab",
    "size_px": 32,
    "threshold": {"value": 0.3},
}


class Small(nn.Module):
    """A convolution, a norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(images))).mean((2, 3)))


class Noisy(Small):
    """Answers otherwise each time, so that no file can hold it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return logits + torch.randn_like(logits)


class NoisyButOnNoise(Noisy):
    """Sure of strong noise, as a network of a few steps was: all such images have a score of 1.0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        contrast = (images - images.mean((2, 3), keepdim=True)).abs().mean((1, 2, 3))
        sure = 1e4 * (contrast - 0.4).clamp(min=0)
        return super().forward(images) + torch.stack([torch.zeros_like(sure), sure], 1)


class OfTwo(Small):
    """Knows two images alone."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) + torch.arange(2)[:, None] * int(images.shape[0])


def test_the_file_gives_the_networks_scores_of_any_number_of_pixels(tmp_path):
    model = Small().eval()
    write_onnx(model, CARD, tmp_path / "small.onnx")
    session = runtime.InferenceSession(str(tmp_path / "small.onnx"))
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model(normalise(images)).softmax(1)[:, 1].numpy()
    np.testing.assert_allclose(session.run(["score"], {"images": images.numpy()})[0], expected, atol=1e-6)


def test_the_file_says_what_it_is(tmp_path):
    write_onnx(Small().eval(), CARD, tmp_path / "small.onnx")
    facts = {
        entry.key: json.loads(entry.value) for entry in onnx.load(tmp_path / "small.onnx").metadata_props
    }
    assert facts["sha256"] == "ab"
    assert facts["threshold"] == {"value": 0.3}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Noisy, "differ from the network's"),
        (NoisyButOnNoise, "differ from the network's"),
        (OfTwo, "cannot be written as an ONNX file"),
    ],
)
def test_what_no_file_can_hold_leaves_none(tmp_path, model, reason):
    with pytest.raises(InputError, match=reason):
        write_onnx(model().eval(), CARD, tmp_path / "small.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(InputError, match="no network"):
        write_onnx(lambda images: images, CARD, tmp_path / "forest.onnx")


def test_packages_that_are_absent_are_named(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name=name)

    monkeypatch.setattr(onnx_file, "import_module", absent)
    with pytest.raises(InputError, match=r"onnx is not installed; pip install unmasked\[onnx\]"):
        write_onnx(Small().eval(), CARD, tmp_path / "small.onnx")


@pytest.mark.slow
def test_ucf_is_written_by_the_command(tmp_path):
    card = {"method_classes": ["real", "Deepfakes"], "size_px": 64, "licence": "MIT"}
    stored = save(UCF(width=0.125, method_classes=2).eval(), tmp_path, card)
    result = CliRunner().invoke(app, ["export-onnx", f"checkpoint={stored}", f"out={tmp_path / 'ucf.onnx'}"])
    assert result.exit_code == 0, result.output
    assert "score (N,), 1 = fake" in result.output
    onnx.checker.check_model(tmp_path / "ucf.onnx")
