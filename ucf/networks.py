"""What UCF puts behind its encoders.

Projections, heads, and the decoder that recombines them.
Yan et al. 2023, "UCF: Uncovering Common Features for Generalizable Deepfake Detection" (ICCV),
in the layout of its published checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Projection(nn.Module):
    """Three 1x1 convolutions that take one branch's part out of the forgery map."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.conv2d = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1),
            nn.LeakyReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.LeakyReLU(),
            nn.Conv2d(hidden, outputs, 1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return self.conv2d(maps)


class Head(nn.Module):
    """A branch's map, averaged over space, and the logits of two linear layers on it.

    Dropout acts on the logits themselves, as published: in training every fifth is zero.
    """

    def __init__(self, inputs: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(), nn.Linear(hidden, classes))
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(N, inputs, H, W) -> (N, classes) logits and (N, inputs) pooled features."""
        pooled = maps.mean((2, 3))
        return self.dropout(self.mlp(pooled)), pooled


class Decoder(nn.Module):
    """Images painted from content maps under the statistics of fingerprint maps.

    At three sizes adaptive instance normalisation (Huang and Belongie 2017) gives the content the
    mean and standard deviation of the fingerprint; both pass the same convolutions in between.
    """

    def __init__(self, channels: tuple[int, int, int, int], dropout: float) -> None:
        super().__init__()
        c512, c256, c128, c64 = channels
        self.dconv_up3 = _double_conv(c512, c256)
        self.dconv_up2 = _double_conv(c256, c128)
        self.dconv_up1 = _double_conv(c128, c64)
        self.conv_last = nn.Conv2d(c64, 3, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, fingerprint: Tensor, content: Tensor, size: tuple[int, int]) -> Tensor:
        """(S, C, h, w) and (k S, C, h, w) -> (k S, 3, H, W) in [-1, 1].

        Content row i is painted with fingerprint row i modulo S. The fingerprint's own path is
        computed once for all k, which changes nothing but the draws of dropout.
        """
        copies = len(content) // len(fingerprint)
        maps = _restyle(content, fingerprint, copies)
        for convolve in (self.dconv_up3, self.dconv_up2):
            maps = convolve(self.dropout(_double_size(maps)))
            fingerprint = convolve(self.dropout(_double_size(fingerprint)))
            maps = _restyle(maps, fingerprint, copies)
        maps = self.conv_last(self.dconv_up1(self.dropout(_double_size(maps))))  # (k S, 3, 8 h, 8 w)
        # To the size of the input, which is 4 times this one only where that is a multiple of 32.
        return torch.tanh(functional.interpolate(maps, size=size, mode="bilinear", align_corners=True))


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _double_size(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)


def _restyle(maps: Tensor, style: Tensor, copies: int) -> Tensor:
    """AdaIN: (x - mean(x)) / std(x) * std(style) + mean(style), per image and channel over space."""
    mean, std = _moments(maps)
    style_mean, style_std = (moment.repeat(copies, 1, 1, 1) for moment in _moments(style))
    scale = style_std / std
    return (maps * scale + (style_mean - mean * scale)).to(maps.dtype)


def _moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    # In float32 also under autocast: the variance of a near-constant map is lost in 8 bits.
    variance, mean = torch.var_mean(maps.float(), dim=(2, 3), correction=1, keepdim=True)
    return mean, (variance + 1e-5).sqrt()
