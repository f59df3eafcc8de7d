"""StyleGAN2's generator: a mapping network, modulated convolutions, skips to the image.

Karras et al., arxiv.org/abs/1912.04958 and 2006.06676, written from the papers. The network that judges is
`training.residual.Critic`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unmasked.generation.config import GeneratorConfig, Network
from unmasked.generation.processes import draw
from unmasked.training.residual import SIDE, EqualisedLinear, activate, channels_at, double, smooth

NAME = "StyleGAN2-ADA"
Config = GeneratorConfig
MAPPING_RATE = 0.01
MEAN_STYLES = 10_000  # of the mean w that truncation goes to

Randoms = Sequence[torch.Generator] | None  # of each image's noise, on the CPU; None takes torch's own


def modulated_conv(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False
) -> Tensor:
    """A convolution whose weights are scaled for each image by its style.

    The input is scaled by the style, and the output by the norm of the scaled weights, so all images share
    one convolution.

    Args:
        x: (N, I, H, W).
        weight: (O, I, k, k), standard normal.
        style: (N, I).
        demodulate: brings each output channel back to its expected deviation.
        up: doubles the side: transposed convolution, then the smoothing filter.
    """
    weight = weight / math.sqrt(weight[0].numel())
    x = x * style[:, :, None, None]
    if up:
        x = smooth(functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 1, gain=4.0)
    else:
        x = functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
    if not demodulate:
        return x
    power = style.square() @ weight.square().sum((2, 3)).T  # (N, O)
    return x * (power + 1e-8).rsqrt()[:, :, None, None]


def _noise_like(x: Tensor, random: Randoms) -> Tensor:
    """(N, 1, H, W) normal numbers."""
    shape = 1, *x.shape[2:]
    if random is None:
        return draw(torch.randn, len(x), *shape, device=x.device, dtype=x.dtype)
    return torch.stack([torch.randn(shape, generator=one) for one in random]).to(x)


class StyledConv(nn.Module):
    """A modulated 3x3 convolution with noise, bias and activation."""

    def __init__(self, inward: int, outward: int, w_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.affine = EqualisedLinear(w_dim, inward, bias=1)
        self.weight = nn.Parameter(torch.randn(outward, inward, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outward))
        self.noise = nn.Parameter(torch.zeros(()))
        self.up = up

    def forward(self, x: Tensor, w: Tensor, random: Randoms) -> Tensor:
        """(N, inward, H, W) and (N, w_dim) -> (N, outward, H, W), or of twice the side."""
        x = modulated_conv(x, self.weight, self.affine(w), up=self.up)
        return activate(x + self.noise * _noise_like(x, random) + self.bias[:, None, None])


class ToRGB(nn.Module):
    """A modulated 1x1 convolution to red, green and blue."""

    def __init__(self, inward: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualisedLinear(w_dim, inward, bias=1)
        self.weight = nn.Parameter(torch.randn(3, inward, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(N, inward, H, W) and (N, w_dim) -> (N, 3, H, W)."""
        rgb = modulated_conv(x, self.weight, self.affine(w), demodulate=False)
        return rgb + self.bias[:, None, None]


class MappingNetwork(nn.Module):
    """(N, D) normal numbers -> (N, D) styles."""

    def __init__(self, w_dim: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EqualisedLinear(w_dim, w_dim, rate=MAPPING_RATE) for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        """The styles of normalised z."""
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            x = activate(layer(x))
        return x


class Synthesis(nn.Module):
    """Styles of each layer, (N, L, D) with L = 2 log2(R) - 2, to images of side R."""

    def __init__(self, size_px: int, base: int, most: int, w_dim: int) -> None:
        super().__init__()
        sides = [SIDE << step for step in range(int(math.log2(size_px // SIDE)) + 1)]
        widths = [channels_at(side, base, most) for side in sides]
        self.start = nn.Parameter(torch.randn(widths[0], SIDE, SIDE))
        self.first = StyledConv(widths[0], widths[0], w_dim)
        pairs = list(pairwise(widths))
        self.ups = nn.ModuleList(StyledConv(a, b, w_dim, up=True) for a, b in pairs)
        self.convs = nn.ModuleList(StyledConv(b, b, w_dim) for _, b in pairs)
        self.to_rgb = nn.ModuleList(ToRGB(width, w_dim) for width in widths)
        self.layers = 2 * len(sides)

    def forward(self, w: Tensor, random: Randoms = None) -> Tensor:
        """(N, 3, R, R), about [-1, 1] once trained; noise comes from `random`."""
        x = self.start.expand(len(w), -1, -1, -1)
        x = self.first(x, w[:, 0], random)
        rgb = self.to_rgb[0](x, w[:, 1])
        for place, (up, conv) in enumerate(zip(self.ups, self.convs, strict=True)):
            x = up(x, w[:, 2 * place + 1], random)
            x = conv(x, w[:, 2 * place + 2], random)
            rgb = double(rgb) + self.to_rgb[place + 1](x, w[:, 2 * place + 3])  # of the next layer
        return rgb


class Generator(nn.Module):
    """(N, D) normal numbers -> (N, 3, R, R) images.

    Attributes:
        mean_style: (D,) what truncation goes to; see `settle`.
    """

    def __init__(self, settings: Network) -> None:
        super().__init__()
        self.mapping = MappingNetwork(settings.w_dim, settings.mapping_layers)
        self.synthesis = Synthesis(settings.size_px, settings.base, settings.most, settings.w_dim)
        self.mean_style: Tensor
        self.register_buffer("mean_style", torch.zeros(settings.w_dim))

    @property
    def w_dim(self) -> int:
        """D."""
        return len(self.mean_style)

    def styles(self, z: Tensor) -> Tensor:
        """(N, L, D) the same style for every layer."""
        return self.mapping(z)[:, None].expand(-1, self.synthesis.layers, -1)

    @torch.no_grad()
    def settle(self) -> None:
        """Sets the mean style, over many z that are always the same."""
        random = torch.Generator().manual_seed(0)
        z = torch.randn(MEAN_STYLES, self.w_dim, generator=random).to(self.mean_style)
        self.mean_style.copy_(self.mapping(z).mean(0))

    def forward(self, z: Tensor, truncation: float = 1.0, random: Randoms = None) -> Tensor:
        """Images of z; a truncation below 1 goes towards the mean style: better ones, more alike."""
        styles = self.styles(z)
        return self.synthesis(self.mean_style + truncation * (styles - self.mean_style), random)


def build(config: GeneratorConfig, classes: Sequence[str]) -> Generator:
    """The generator, of random weights."""
    return Generator(config.network)


def from_card(card: Mapping[str, Any]) -> Generator:
    """The generator that a card speaks of, of random weights."""
    return Generator(Network.model_validate(card["config"]["network"]))


@torch.inference_mode()
def sample(generator: Generator, places: Sequence[int], seed: int, truncation: float = 1.0) -> Tensor:
    """(N, 3, R, R) uint8 images of a generator in evaluation.

    The image of a place depends on it and on the seed, not on the images beside it.
    """
    states = [np.random.SeedSequence([seed, place]).generate_state(1)[0] for place in places]
    randoms = [torch.Generator().manual_seed(int(state)) for state in states]
    z = torch.stack([torch.randn(generator.w_dim, generator=random) for random in randoms])
    return to_bytes(generator(z.to(generator.mean_style), truncation, randoms))


def to_bytes(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 of images in [-1, 1]; what lies outside is cut off."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
