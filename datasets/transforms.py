"""Random changes of images, batched, each image by its own draw.

Images are (N, 3, H, W) float in [0, 1] on any device; draws come from a generator on that device.
JPEG is the exception: one (H, W, 3) uint8 array at a time, on the CPU, where codecs are.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

BLUR_KERNELS_PX = (3, 5, 7)


def flip(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Mirrors left and right."""
    return torch.where(_chosen(images, probability, generator), images.flip(3), images)


def rotate(images: Tensor, probability: float, degrees: float, generator: torch.Generator) -> Tensor:
    """Turns about the centre by up to ``degrees`` either way; what comes in from outside is mirrored."""
    angles = _uniform(images, -degrees, degrees, generator) * math.pi / 180
    angles = torch.where(_chosen(images, probability, generator), angles, 0.0)[:, 0, 0]  # (N, 1)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    matrices = torch.stack([torch.cat([cosine, -sine, zero], 1), torch.cat([sine, cosine, zero], 1)], 1)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    turned = functional.grid_sample(
        images, grid.to(images.dtype), padding_mode="reflection", align_corners=False
    )
    return torch.where(angles[:, :, None, None] != 0, turned, images)


def blur(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Gaussian blur with a kernel of 3, 5 or 7 pixels; its deviation is OpenCV's for that size."""
    count, channels = images.shape[:2]
    kernels = torch.tensor([_gaussian(size) for size in BLUR_KERNELS_PX], device=images.device)
    sizes = torch.randint(len(kernels), (count,), generator=generator, device=images.device)
    rows = kernels[sizes].to(images.dtype).repeat_interleave(channels, 0)[:, None, None, :]  # (N C, 1, 1, 7)
    margin = kernels.shape[1] // 2
    flat = functional.pad(images, (margin,) * 4, mode="reflect").flatten(0, 1)[None]  # (1, N C, H + 6, W + 6)
    flat = functional.conv2d(flat, rows, groups=count * channels)
    flat = functional.conv2d(flat, rows.transpose(2, 3), groups=count * channels)
    blurred = flat[0].unflatten(0, (count, channels))
    return torch.where(_chosen(images, probability, generator), blurred, images)


def light(images: Tensor, probability: float, largest: float, generator: torch.Generator) -> Tensor:
    """Contrast times 1 ± ``largest``, then brightness ± ``largest``; clipped to [0, 1]."""
    contrast = 1 + _uniform(images, -largest, largest, generator)
    brightness = _uniform(images, -largest, largest, generator)
    changed = (images * contrast + brightness).clamp(0, 1)
    return torch.where(_chosen(images, probability, generator), changed, images)


def noise(images: Tensor, probability: float, largest_std: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of a standard deviation up to ``largest_std``; clipped to [0, 1], as pixels are."""
    std = _uniform(images, 0, largest_std, generator)
    draws = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    noisy = (images + std * draws).clamp(0, 1)
    return torch.where(_chosen(images, probability, generator), noisy, images)


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """An (H, W, 3) RGB image after JPEG compression at a quality from 1 to 100."""
    _, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]


def _chosen(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    return _uniform(images, 0, 1, generator) < probability  # (N, 1, 1, 1)


def _uniform(images: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    draws = torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device, dtype=images.dtype)
    return low + (high - low) * draws


def _gaussian(size_px: int) -> list[float]:
    """Seven taps of a kernel of 3, 5 or 7 pixels, zero outside of it."""
    deviation = 0.3 * ((size_px - 1) * 0.5 - 1) + 0.8
    reach = max(BLUR_KERNELS_PX) // 2
    taps = [
        math.exp(-0.5 * (offset / deviation) ** 2) if abs(offset) <= size_px // 2 else 0.0
        for offset in range(-reach, reach + 1)
    ]
    return [tap / sum(taps) for tap in taps]
