"""Inception-ResNet-v1, the network of FaceNet, with a head for real or fake.

Names, shapes and numbers are those of facenet-pytorch 2.6, whose files of VGGFace2 or CASIA-WebFace it starts
from (Szegedy et al., arxiv.org/abs/1602.07261; Schroff et al., arxiv.org/abs/1503.03832).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from unmasked.datasets.errors import InputError
from unmasked.training.checkpoint import describe, misfits, read_weights
from unmasked.training.config import CropConfig, TransferConfig
from unmasked.training.detector import About, Phase, head_first

NAME = "Inception-ResNet-v1"
ABOUT = About(
    paper="Szegedy et al., arxiv.org/abs/1602.07261; FaceNet, arxiv.org/abs/1503.03832",
    licence="code and facenet-pytorch's weights MIT; faces under the terms of VGGFace2 or CASIA-WebFace",
    weights="model.weights=20180402-114759-vggface2.pt or 20180408-102900-casia-webface.pt",
)
WHITENING = 127.5 / 128  # (x - 127.5) / 128 of 0..255, from our [-1, 1]
SMALLEST_PX = 75
HEAD = "logits."


class Model(TransferConfig):
    """The network and what it starts from."""

    size_px: int = Field(160, ge=SMALLEST_PX, le=1024, description="Side of the input; weights want 160")
    weights: str = Field(
        "", description="facenet-pytorch's .pt file of VGGFace2 or CASIA-WebFace; random if not given"
    )
    dropout: float = Field(0.6, ge=0, lt=1, description="Share of the features zeroed in training")
    head_share: float = Field(
        0.2, ge=0, lt=1, description="Share of all steps that train the head alone; needs weights"
    )


class Config(CropConfig):
    """Everything that decides how the network is trained."""

    model: Model = Field(Model(), description="The network")


class Unit(nn.Module):
    """Convolution without bias, normalisation, ReLU."""

    def __init__(self, inward: int, outward: int, kernel: Any, stride: int = 1, padding: Any = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inward, outward, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outward, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inward, H, W) -> (N, outward, H', W')."""
        return functional.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """``x + scale * mix(branches of x)``, with a ReLU behind it or without."""

    def __init__(
        self, channels: int, branches: Sequence[nn.Module], width: int, scale: float, relu: bool
    ) -> None:
        super().__init__()
        self.branches = len(branches)
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)
        self.conv2d = nn.Conv2d(width, channels, 1)
        self.scale, self.relu = scale, relu

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) of the same shape."""
        parts = [self.get_submodule(f"branch{number}")(x) for number in range(self.branches)]
        out = x + self.scale * self.conv2d(torch.cat(parts, 1))
        return functional.relu(out) if self.relu else out


class Reduction(nn.Module):
    """Branches of stride 2, side by side."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = len(branches)
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        return torch.cat([self.get_submodule(f"branch{n}")(x) for n in range(self.branches)], 1)


def _block35() -> Residual:
    branches = [
        Unit(256, 32, 1),
        nn.Sequential(Unit(256, 32, 1), Unit(32, 32, 3, padding=1)),
        nn.Sequential(Unit(256, 32, 1), Unit(32, 32, 3, padding=1), Unit(32, 32, 3, padding=1)),
    ]
    return Residual(256, branches, 96, 0.17, relu=True)


def _crossed(channels: int, width: int, length: int) -> list[nn.Module]:
    """A 1x1 branch, and one of 1 x length and length x 1."""
    half = length // 2
    across = Unit(width, width, (1, length), padding=(0, half))
    down = Unit(width, width, (length, 1), padding=(half, 0))
    return [Unit(channels, width, 1), nn.Sequential(Unit(channels, width, 1), across, down)]


def _block17() -> Residual:
    return Residual(896, _crossed(896, 128, 7), 256, 0.10, relu=True)


def _block8(scale: float = 0.20, relu: bool = True) -> Residual:
    return Residual(1792, _crossed(1792, 192, 3), 384, scale, relu)


class InceptionResnetV1(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> (N, 2) logits, 0 and P(fake)'s logit; whitens by itself.

    Attributes:
        cam_layer: block8. The head behind it is affine, so its signed map adds up to the logit.
    """

    cam_signed = True  # clipped at 0 the map is blank wherever every cell is evidence for real

    def __init__(self, dropout: float = 0.6) -> None:
        super().__init__()
        self.conv2d_1a = Unit(3, 32, 3, 2)
        self.conv2d_2a = Unit(32, 32, 3)
        self.conv2d_2b = Unit(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = Unit(64, 80, 1)
        self.conv2d_4a = Unit(80, 192, 3)
        self.conv2d_4b = Unit(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        wide = nn.Sequential(Unit(256, 192, 1), Unit(192, 192, 3, padding=1), Unit(192, 256, 3, 2))
        self.mixed_6a = Reduction([Unit(256, 384, 3, 2), wide, nn.MaxPool2d(3, 2)])
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = Reduction(
            [
                nn.Sequential(Unit(896, 256, 1), Unit(256, 384, 3, 2)),
                nn.Sequential(Unit(896, 256, 1), Unit(256, 256, 3, 2)),
                nn.Sequential(Unit(896, 256, 1), Unit(256, 256, 3, padding=1), Unit(256, 256, 3, 2)),
                nn.MaxPool2d(3, 2),
            ]
        )
        self.repeat_3 = nn.Sequential(*(_block8() for _ in range(5)))
        self.block8 = _block8(1.0, relu=False)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=1e-3)
        self.logits = nn.Linear(512, 1)

    @property
    def cam_layer(self) -> nn.Module:
        """The last block."""
        return self.block8

    def maps(self, x: Tensor) -> Tensor:
        """(N, 1792, h, w) of whitened images."""
        for name, stage in self.named_children():
            x = stage(x)
            if name == "block8":
                break
        return x

    def raw_embedding(self, x: Tensor) -> Tensor:
        """(N, 512) of whitened images, before it is normalised."""
        pooled = self.dropout(self.avgpool_1a(self.maps(x)).flatten(1))
        return self.last_bn(self.last_linear(pooled))

    def features(self, images: Tensor) -> Tensor:
        """(N, 512) what the head sees."""
        return self.raw_embedding(images * WHITENING)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 2) logits of real and fake."""
        fake = self.logits(self.features(images))
        return torch.cat([torch.zeros_like(fake), fake], 1)


def build(config: Config, classes: Sequence[str]) -> InceptionResnetV1:
    """The network, of random weights."""
    return InceptionResnetV1(config.model.dropout)


def start(config: Config) -> str:
    """What training starts from, in a sentence."""
    if config.model.weights:
        return f"the trunk starts from {Path(config.model.weights).name}, the head from random weights"
    return "the network starts from random weights; give facenet-pytorch's file as model.weights"


def initialise(model: InceptionResnetV1, config: Config) -> None:
    """Fills the trunk with weights of face recognition, where these were asked for.

    Raises:
        InputError: the file is absent, or is of another network.
    """
    if not config.model.weights:
        return
    given = _trunk(read_weights(config.model.weights))
    wanted = _trunk(model.state_dict())
    if found := misfits(wanted, given):
        raise InputError(
            f"model.weights={config.model.weights} does not fit Inception-ResNet-v1: "
            f"{describe(found, len(wanted))}; give facenet-pytorch's 20180402-114759-vggface2.pt or "
            "20180408-102900-casia-webface.pt"
        )
    model.load_state_dict(given, strict=False)


def _trunk(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.startswith(HEAD)}


def phases(model: nn.Module, config: Config) -> list[Phase]:
    """First the head alone where the trunk starts from weights, then all."""
    return head_first(config.model, HEAD)
