"""FID's Inception network, from a local file of its weights.

Torchvision's Inception v3 with four changes (as in pytorch-fid): in the blocks before the last one the
average pools do not count padding, and the last block pools by the maximum; features are the mean of what it
returns.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import inception
from torchvision.transforms.functional import InterpolationMode, resize

from unmasked.training.checkpoint import fill, read_weights

SIZE_PX = 299
FEATURES = 2048
FILES = "pt_inception-2015-12-05-6726825d.pth (pytorch-fid) or weights-inception-2015-12-05-6726825d.pth"
# How images became the input of published numbers: three ways, none comparable with another.
RESIZES = {
    "bilinear": "bilinear without antialias, x / 255 * 2 - 1 (pytorch-fid)",
    "antialias": "bilinear with antialias, (x - 128) / 128 (torchmetrics)",
    "bicubic": "Pillow's bicubic on floats, clipped, (x - 128) / 128 (clean-fid)",
}


class _MeanPool:
    """An Inception block whose average pool does not count padding."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        # The last branch is computed once more than needed: a 1x1 convolution, for no copy of the block.
        *branches, _ = super()._forward(x)  # type: ignore[misc]
        pooled = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return [*branches, self.branch_pool(pooled)]  # type: ignore[attr-defined]


class _MaxPool:
    """An Inception block that pools by the maximum."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        *branches, _ = super()._forward(x)  # type: ignore[misc]
        return [*branches, self.branch_pool(functional.max_pool2d(x, 3, 1, 1))]  # type: ignore[attr-defined]


class _BlockA(_MeanPool, inception.InceptionA):
    pass


class _BlockC(_MeanPool, inception.InceptionC):
    pass


class _BlockE(_MeanPool, inception.InceptionE):
    pass


class _LastBlock(_MaxPool, inception.InceptionE):
    pass


def build() -> inception.Inception3:
    """The network with random weights: (N, 3, 299, 299) in [-1, 1] -> (N, 1008)."""
    blocks = [
        *(inception.BasicConv2d, _BlockA, inception.InceptionB, _BlockC, inception.InceptionD, _BlockE),
        inception.InceptionAux,
    ]
    model = inception.Inception3(
        num_classes=1008, aux_logits=False, inception_blocks=blocks, init_weights=False
    )
    model.Mixed_7c = _LastBlock(FEATURES)
    return model


def without_head(model: inception.Inception3) -> nn.Module:
    """The network up to its features: (N, 3, 299, 299) in [-1, 1] -> (N, 2048)."""
    model.fc = nn.Identity()
    return model.eval()


def load(path: str | Path) -> nn.Module:
    """The extractor with the weights of a file, which runs no code.

    Raises:
        InputError: the file is absent, is TorchScript or another pickle, or holds another network's weights.
    """
    model = build()
    fill(model, read_weights(path), str(path), what="FID's Inception network", advice=f"give {FILES}")
    return without_head(model)


def to_input(images: Tensor, how: str) -> Tensor:
    """(N, 3, 299, 299) of (N, 3, H, W) uint8 images, by one of `RESIZES`."""
    pixels = images.float()
    if how == "bicubic":
        return (_pillow_bicubic(images) - 128) / 128
    antialias = how == "antialias"
    resized = (
        resize(pixels, [SIZE_PX, SIZE_PX], InterpolationMode.BILINEAR, antialias=True)
        if antialias
        else functional.interpolate(pixels, (SIZE_PX, SIZE_PX), mode="bilinear", align_corners=False)
    )
    return (resized - 128) / 128 if antialias else resized / 255 * 2 - 1


def _pillow_bicubic(images: Tensor) -> Tensor:
    import numpy as np
    from PIL import Image

    channels = [
        [
            np.asarray(Image.fromarray(plane).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))
            for plane in image
        ]
        for image in images.float().numpy()
    ]
    return torch.from_numpy(np.array(channels)).clamp(0, 255)
