"""A batch of crops as the network takes it, with the configured random changes in training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmasked.datasets import transforms
from unmasked.ucf.config import AugmentConfig


def normalised(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) -> float in [-1, 1]: (x / 255 - 0.5) / 0.5."""
    return images.float() / 127.5 - 1


def augmented(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """uint8 (N, 3, H, W) -> float in [-1, 1], changed at random; the generator is on the images' device."""
    changed = images.float() / 255
    if config.flip:
        changed = transforms.flip(changed, config.flip, generator)
    if config.rotate:
        changed = transforms.rotate(changed, config.rotate, config.rotate_deg, generator)
    if config.blur:
        changed = transforms.blur(changed, config.blur, generator)
    if config.light:
        changed = transforms.light(changed, config.light, config.light_range, generator)
    if config.noise:
        changed = transforms.noise(changed, config.noise, config.noise_std, generator)
    return changed * 2 - 1


class RandomJpeg:
    """Compresses an image with the configured probability, at a random quality.

    Draws come from torch's global generator, which loader processes seed for themselves.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.probability = config.jpeg
        self.lowest, self.highest = config.jpeg_quality

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same."""
        if torch.rand(()) >= self.probability:
            return image
        return transforms.jpeg(image, int(torch.randint(self.lowest, self.highest + 1, ())))
