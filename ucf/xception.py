"""Xception as UCF uses it.

A 1x1 convolution after the last one narrows the map for the branches.
The names of the parameters are those of the published checkpoints (Chollet 2017, "Xception: Deep
Learning with Depthwise Separable Convolutions"; PyTorch naming by Cadene), so files in that layout
load as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def scaled_channels(channels: int, width: float) -> int:
    """Number of channels at a width multiplier: the nearest multiple of 8, at least 8.

    >>> scaled_channels(728, 1.0), scaled_channels(728, 0.25), scaled_channels(32, 0.125)
    (728, 184, 8)
    """
    return max(8, int(channels * width / 8 + 0.5) * 8)


class SeparableConv(nn.Module):
    """A 3x3 convolution in every channel by itself, then a 1x1 convolution across channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return self.pointwise(self.conv1(maps))


class Block(nn.Module):
    """Separable convolutions with a skip connection.

    Args:
        inputs, outputs: channels.
        layers: number of separable convolutions.
        stride: 2 halves the map by max pooling, 1 keeps its size.
        starts_with_relu: whether the first convolution sees rectified maps.
        grow_first: whether the first convolution or the last one changes the number of channels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        layers: int,
        stride: int = 1,
        starts_with_relu: bool = True,
        grow_first: bool = True,
    ) -> None:
        super().__init__()
        if stride != 1 or inputs != outputs:
            self.skip: nn.Module = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.skipbn: nn.Module = nn.BatchNorm2d(outputs)
        else:
            self.skip, self.skipbn = nn.Identity(), nn.Identity()
        grows_at = 0 if grow_first else layers - 1
        steps: list[nn.Module] = []
        for layer in range(layers):
            before = inputs if layer <= grows_at else outputs
            after = inputs if layer < grows_at else outputs
            # Out of place first: the skip connection needs the maps as they came.
            steps += [nn.ReLU(inplace=layer > 0), SeparableConv(before, after), nn.BatchNorm2d(after)]
        if not starts_with_relu:
            steps = steps[1:]
        if stride != 1:
            steps.append(nn.MaxPool2d(3, stride=stride, padding=1))
        self.rep = nn.Sequential(*steps)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ceil(H / stride), ceil(W / stride))."""
        return self.rep(maps) + self.skipbn(self.skip(maps))


class Xception(nn.Module):
    """Images to (N, 512 x width, H / 32, W / 32) maps, rectified.

    Args:
        width: multiplier of every number of channels; 1 is the published network.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c32, c64, c128, c256, c728, c1024, c1536, c2048, c512 = (
            scaled_channels(n, width) for n in (32, 64, 128, 256, 728, 1024, 1536, 2048, 512)
        )
        self.conv1 = nn.Conv2d(3, c32, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(c32)
        self.conv2 = nn.Conv2d(c32, c64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(c64)
        self.block1 = Block(c64, c128, layers=2, stride=2, starts_with_relu=False)
        self.block2 = Block(c128, c256, layers=2, stride=2)
        self.block3 = Block(c256, c728, layers=2, stride=2)
        for number in range(4, 12):
            self.add_module(f"block{number}", Block(c728, c728, layers=3))
        self.block12 = Block(c728, c1024, layers=2, stride=2, grow_first=False)
        self.conv3 = SeparableConv(c1024, c1536)
        self.bn3 = nn.BatchNorm2d(c1536)
        self.conv4 = SeparableConv(c1536, c2048)
        self.bn4 = nn.BatchNorm2d(c2048)
        # Never used: it keeps the published layout. Data-parallel training must not wait for its gradient.
        self.last_linear = nn.Linear(c2048, 2).requires_grad_(False)
        self.adjust_channel = nn.Sequential(nn.Conv2d(c2048, c512, 1), nn.BatchNorm2d(c512), nn.ReLU())
        self.blocks = [f"block{number}" for number in range(1, 13)]
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1], H, W >= 64 -> (N, 512 x width, about H / 32, about W / 32)."""
        maps = torch.relu(self.bn1(self.conv1(images)))
        maps = torch.relu(self.bn2(self.conv2(maps)))  # (N, 64, H / 2 - 3, W / 2 - 3)
        for name in self.blocks:
            maps = self.get_submodule(name)(maps)
        maps = torch.relu(self.bn3(self.conv3(maps)))
        maps = self.bn4(self.conv4(maps))  # not rectified here, as published
        return self.adjust_channel(maps)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
