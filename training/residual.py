"""Parts of StyleGAN2's networks, and the one of them that judges.

Karras et al., arxiv.org/abs/1912.04958, written from the paper. The generator is built of the same parts;
the network that judges is trained against it, or alone as a detector.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

FIR = (1.0, 3.0, 3.0, 1.0)  # one side of the filter; its sum is taken out
SLOPE = 0.2
SIDE = 4  # of the smallest maps


def channels_at(side: int, base: int, most: int) -> int:
    """Channels of maps of a side: ``base / side``, at most ``most``.

    >>> channels_at(64, 2048, 64), channels_at(4, 2048, 64)
    (32, 64)
    """
    return min(base // side, most)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the second moment of normal numbers near 1."""
    return functional.leaky_relu(x, SLOPE) * math.sqrt(2)


def upfirdn(
    x: Tensor,
    kernel: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> Tensor:
    """Zeros between pixels, padding, a filter over each channel, and every so manyth pixel.

    One depthwise convolution: 20 times as fast on a CPU as one of N * C images of a channel.

    Args:
        x: (N, C, H, W).
        kernel: (h, w), turned round as a true convolution has it.
        up: each pixel is followed by one less zeros, both ways.
        down: steps between the results that are kept.
        padding: zeros at left, right, top and bottom; negative ones cut.
        gain: the result is multiplied by it.
    """
    count, channels, height, width = x.shape
    if up > 1:
        spread = x.new_zeros(count, channels, height, up, width, up)
        spread[:, :, :, 0, :, 0] = x
        x = spread.reshape(count, channels, height * up, width * up)
    weight = (gain * kernel.flip(0, 1)).expand(channels, 1, -1, -1)
    if len(set(padding)) == 1 and padding[0] >= 0:
        return functional.conv2d(x, weight, None, down, padding[0], groups=channels)
    return functional.conv2d(functional.pad(x, padding), weight, None, down, groups=channels)


@cache
def smoothing(device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """(4, 4) the filter [1 3 3 1] ⊗ [1 3 3 1] / 64."""
    side = torch.tensor(FIR, dtype=dtype, device=device)
    return torch.outer(side, side) / side.sum() ** 2


def smooth(x: Tensor, padding: int, *, gain: float = 1.0, stride: int = 1) -> Tensor:
    """`smoothing` over (N, C, H, W), with so many zeros on every side."""
    kernel = smoothing(x.device, x.dtype)
    return upfirdn(x, kernel, down=stride, padding=(padding,) * 4, gain=gain)


def double(x: Tensor) -> Tensor:
    """(N, C, 2 H, 2 W): `upfirdn` with the filter and gain 4, as one transposed convolution."""
    kernel = (4 * smoothing(x.device, x.dtype)).expand(x.shape[1], 1, -1, -1)
    return functional.conv_transpose2d(x, kernel, None, 2, 1, groups=x.shape[1])


class EqualisedLinear(nn.Module):
    """A linear map with weights drawn N(0, 1) and scaled when used: all learn at one rate.

    Args:
        inward, outward: numbers.
        rate: of its learning, in multiples of the optimiser's.
        bias: what the biases start from.
    """

    def __init__(self, inward: int, outward: int, *, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outward, inward) / rate)
        self.bias = nn.Parameter(torch.full((outward,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(inward), rate

    def forward(self, x: Tensor) -> Tensor:
        """(N, inward) -> (N, outward)."""
        return functional.linear(x, self.weight * self.scale, self.bias * self.rate)


class EqualisedConv(nn.Module):
    """A convolution whose weights are drawn N(0, 1) and scaled when used.

    With ``down`` it is behind the smoothing filter, of stride 2.
    """

    def __init__(
        self, inward: int, outward: int, kernel: int, *, bias: bool = True, down: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outward, inward, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outward)) if bias else None
        self.scale, self.down = 1 / math.sqrt(inward * kernel**2), down

    def forward(self, x: Tensor) -> Tensor:
        """(N, inward, H, W) -> (N, outward, H, W), or of half the side."""
        weight, kernel = self.weight * self.scale, self.weight.shape[-1]
        if not self.down:
            return functional.conv2d(x, weight, self.bias, padding=kernel // 2)
        if kernel == 1:  # what stride 2 would drop is not filtered either
            return functional.conv2d(smooth(x, 1, stride=2), weight, self.bias)
        return functional.conv2d(smooth(x, 2), weight, self.bias, stride=2)


def spread_of_groups(x: Tensor, size: int = 4) -> Tensor:
    """(N / G,) mean standard deviation of (N, C, H, W) maps over groups of G images.

    Member g of group m is image m + g N / G; G is the largest number up to ``size`` that divides N.
    """
    count = next(count for count in range(min(size, len(x)), 0, -1) if len(x) % count == 0)
    groups = x.reshape(count, -1, *x.shape[1:])  # (G, N / G, C, H, W)
    return (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))


def append_spread(x: Tensor, size: int = 4) -> Tensor:
    """(N, C + 1, H, W): maps with the spread of each image's group as one more channel."""
    spread = spread_of_groups(x, size)
    repeated = spread.repeat(len(x) // len(spread))  # image m + g N / G gets that of group m
    return torch.cat([x, repeated.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])], 1)


class Block(nn.Module):
    """Halves the side, with a way past it."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.conv1 = EqualisedConv(inward, inward, 3)
        self.conv2 = EqualisedConv(inward, outward, 3, down=True)
        self.skip = EqualisedConv(inward, outward, 1, bias=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inward, H, W) -> (N, outward, H / 2, W / 2)."""
        main = activate(self.conv2(activate(self.conv1(x))))
        return (main + self.skip(x)) / math.sqrt(2)


class Critic(nn.Module):
    """StyleGAN2's residual network that judges images, (N, 3, R, R) in [-1, 1].

    In training it sees how much the images of a batch differ. An image that is judged by itself has no batch:
    in evaluation that number is the mean of the batches of training, a buffer.

    Args:
        size_px: R, a power of 2.
        base, most: see `channels_at`.
    """

    def __init__(self, size_px: int, base: int, most: int) -> None:
        super().__init__()
        sides = [size_px >> step for step in range(int(math.log2(size_px // SIDE)) + 1)]
        widths = [channels_at(side, base, most) for side in sides]
        self.from_rgb = EqualisedConv(3, widths[0], 1)
        self.blocks = nn.Sequential(*(Block(*pair) for pair in pairwise(widths)))
        self.conv = EqualisedConv(widths[-1] + 1, widths[-1], 3)
        self.linear = EqualisedLinear(widths[-1] * SIDE**2, widths[-1])
        self.out = EqualisedLinear(widths[-1], 1)
        self.cam_layer = self.blocks[-1] if len(self.blocks) else self.from_rgb
        self.spread: Tensor
        self.batches: Tensor
        self.register_buffer("spread", torch.tensor(0.0))
        self.register_buffer("batches", torch.tensor(0))

    def features(self, images: Tensor) -> Tensor:
        """(N, C) what the last linear map sees."""
        x = self.blocks(activate(self.from_rgb(images)))
        if self.training:
            x = append_spread(x)
            self._remember(x[:, -1].detach().mean())
        else:
            x = torch.cat([x, self.spread.to(x.dtype).expand(len(x), 1, *x.shape[2:])], 1)
        return activate(self.linear(activate(self.conv(x)).flatten(1)))

    def realness(self, images: Tensor) -> Tensor:
        """(N,) high for real."""
        return self.out(self.features(images)).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 2) logits of real and fake: P(fake) = sigmoid(-realness)."""
        realness = self.realness(images)
        return torch.stack([realness, torch.zeros_like(realness)], 1)

    def _remember(self, spread: Tensor) -> None:
        """Takes a batch into the mean over about the last thousand; the network changes."""
        self.batches += 1
        self.spread += (spread - self.spread) / self.batches.clamp(max=1000)
