"""Random changes of images, batched, each image by its own draw.

Images are (N, 3, H, W) float in [0, 1] on any device; draws come from a generator on that device.
JPEG is the exception: one (H, W, 3) uint8 array at a time, on the CPU, where codecs are. Loaders deliver
unsigned bytes, a quarter of the traffic; `normalise` and `augment` make floats of them on the device.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unmasked.datasets.augment import AugmentConfig
from unmasked.datasets.images import decode_crop

BLUR_KERNELS_PX = (3, 5, 7)
# What the published augmentation draws its one change of colour from.
LIGHT_LARGEST = 0.1
PCA_STD = 0.1
HUE_LARGEST_DEG = 40.0  # 20 of OpenCV's 180 steps
SATURATION_LARGEST = 30 / 255
VALUE_LARGEST = 20 / 255


def normalise(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) -> float in [-1, 1]: (x / 255 - 0.5) / 0.5."""
    # In place: on a CPU, two more arrays of this size take longer than the arithmetic.
    return images.float().div_(127.5).sub_(1)


def augment(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """uint8 (N, 3, H, W) -> float in [-1, 1], changed at random; generator on their device."""
    changed = images.float().div_(255)
    if config.flip:
        changed = flip(changed, config.flip, generator)
    if config.rotate:
        changed = rotate(changed, config.rotate, config.rotate_deg, generator)
    if config.zoom:
        changed = zoom(changed, config.zoom, config.zoom_range, generator)
    if config.blur:
        changed = blur(changed, config.blur, generator)
    if config.light:
        changed = light(changed, config.light, config.light_range, generator)
    if config.colour:
        changed = colour(changed, config.colour, generator)
    if config.noise:
        changed = noise(changed, config.noise, config.noise_std, generator)
    return changed * 2 - 1


class RandomJpeg:
    """Compresses an image with the configured probability, at a random quality."""

    def __init__(self, config: AugmentConfig) -> None:
        self.probability = config.jpeg
        self.lowest, self.highest = config.jpeg_quality

    def __call__(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> the same."""
        if rng.random() >= self.probability:
            return image
        return jpeg(image, int(rng.integers(self.lowest, self.highest + 1)))


def flip(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Mirrors left and right."""
    return torch.where(_draw_mask(images, probability, generator), images.flip(3), images)


def rotate(images: Tensor, probability: float, degrees: float, generator: torch.Generator) -> Tensor:
    """Turns about the centre by up to ``degrees`` either way; the border is mirrored."""
    angles = _draw_uniform(images, -degrees, degrees, generator) * math.pi / 180
    angles = torch.where(_draw_mask(images, probability, generator), angles, 0.0)[:, 0, 0]  # (N, 1)
    return _resample(images, angles.cos(), angles.sin(), angles != 0)


def zoom(images: Tensor, probability: float, largest: float, generator: torch.Generator) -> Tensor:
    """Enlarges or shrinks about the centre by up to ``largest``; the border is mirrored."""
    factors = 1 + _draw_uniform(images, -largest, largest, generator)
    factors = torch.where(_draw_mask(images, probability, generator), factors, 1.0)[:, 0, 0]  # (N, 1)
    return _resample(images, 1 / factors, torch.zeros_like(factors), factors != 1)


def blur(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Gaussian blur with a kernel of 3, 5 or 7 pixels and OpenCV's deviation for that size."""
    count, channels = images.shape[:2]
    kernels = torch.tensor([_gaussian_taps(size) for size in BLUR_KERNELS_PX], device=images.device)
    sizes = torch.randint(len(kernels), (count,), generator=generator, device=images.device)
    rows = kernels[sizes].to(images.dtype).repeat_interleave(channels, 0)[:, None, None, :]  # (N C, 1, 1, 7)
    margin = kernels.shape[1] // 2
    flat = functional.pad(images, (margin,) * 4, mode="reflect").flatten(0, 1)[None]  # (1, N C, H + 6, W + 6)
    flat = functional.conv2d(flat, rows, groups=count * channels)
    flat = functional.conv2d(flat, rows.transpose(2, 3), groups=count * channels)
    blurred = flat[0].unflatten(0, (count, channels))
    return torch.where(_draw_mask(images, probability, generator), blurred, images)


def light(images: Tensor, probability: float, largest: float, generator: torch.Generator) -> Tensor:
    """Contrast times 1 ± ``largest``, then brightness ± ``largest``; clipped to [0, 1]."""
    contrast = 1 + _draw_uniform(images, -largest, largest, generator)
    brightness = _draw_uniform(images, -largest, largest, generator)
    changed = (images * contrast + brightness).clamp(0, 1)
    return torch.where(_draw_mask(images, probability, generator), changed, images)


def colour(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """`light`, `pca_lighting` or `hue_saturation_value`, equally often, as published."""
    which = torch.randint(3, (len(images), 1, 1, 1), generator=generator, device=images.device)
    shifts = [
        _draw_uniform(images, -largest, largest, generator)
        for largest in (HUE_LARGEST_DEG, SATURATION_LARGEST, VALUE_LARGEST)
    ]
    draws = torch.randn((len(images), 3), generator=generator, device=images.device, dtype=images.dtype)
    changed = torch.where(
        which == 0,
        light(images, 1.0, LIGHT_LARGEST, generator),
        torch.where(which == 1, pca_lighting(images, PCA_STD * draws), hue_saturation_value(images, *shifts)),
    )
    return torch.where(_draw_mask(images, probability, generator), changed, images)


def pca_lighting(images: Tensor, draws: Tensor) -> Tensor:
    """Adds one colour to all pixels, along the axes in which an image's own colours vary.

    Clipped.
    Krizhevsky et al. (NeurIPS 2012) add sum_i a_i l_i p_i, with l and p the eigenvalues and eigenvectors
    of the covariance C of the RGB values and a normal. Turning a by the eigenvectors leaves it normal, so
    C a has the same distribution, and no eigenvectors with arbitrary signs are needed.

    Args:
        images: (N, 3, H, W) in [0, 1].
        draws: (N, 3), a.
    """
    pixels = images.flatten(2)  # (N, 3, H W)
    centred = pixels - pixels.mean(2, keepdim=True)
    covariance = centred @ centred.transpose(1, 2) / (pixels.shape[2] - 1)
    return (images + (covariance @ draws[:, :, None])[..., None]).clamp(0, 1)


def hue_saturation_value(images: Tensor, hue_deg: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Shifts hue (round the circle), saturation and value (clipped); each (N, 1, 1, 1)."""
    red, green, blue = images.unbind(1)  # (N, H, W)
    highest = images.amax(1)
    chroma = highest - images.amin(1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(
        highest == red,
        (green - blue) / safe % 6,
        torch.where(highest == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = (torch.where(chroma > 0, sixth, 0.0)[:, None] + hue_deg / 60) % 6  # (N, 1, H, W)
    share = torch.where(highest > 0, chroma / torch.where(highest > 0, highest, 1.0), 0.0)[:, None]
    share = (share + saturation).clamp(0, 1)
    brightness = (highest[:, None] + value).clamp(0, 1)
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    k = (offsets + hue) % 6  # red, green, blue
    return brightness * (1 - share * torch.minimum(k, 4 - k).clamp(0, 1))


def noise(images: Tensor, probability: float, largest_std: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of a standard deviation up to ``largest_std``; clipped to [0, 1]."""
    std = _draw_uniform(images, 0, largest_std, generator)
    draws = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    noisy = (images + std * draws).clamp(0, 1)
    return torch.where(_draw_mask(images, probability, generator), noisy, images)


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """An (H, W, 3) RGB image after JPEG compression at a quality from 1 to 100."""
    _, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return decode_crop(encoded.tobytes())


def _resample(images: Tensor, cosine: Tensor, sine: Tensor, is_changed: Tensor) -> Tensor:
    """Each image at the places that its matrix ((c, -s), (s, c)) sends its pixels to; all (N, 1)."""
    zero = torch.zeros_like(cosine)
    matrices = torch.stack([torch.cat([cosine, -sine, zero], 1), torch.cat([sine, cosine, zero], 1)], 1)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = functional.grid_sample(
        images, grid.to(images.dtype), padding_mode="reflection", align_corners=False
    )
    return torch.where(is_changed[:, :, None, None], moved, images)


def _draw_mask(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    return _draw_uniform(images, 0, 1, generator) < probability  # (N, 1, 1, 1)


def _draw_uniform(images: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    draws = torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device, dtype=images.dtype)
    return low + (high - low) * draws


def _gaussian_taps(size_px: int) -> list[float]:
    """Seven taps of a kernel of 3, 5 or 7 pixels, zero outside of it."""
    deviation = 0.3 * ((size_px - 1) * 0.5 - 1) + 0.8
    reach = max(BLUR_KERNELS_PX) // 2
    taps = [
        math.exp(-0.5 * (offset / deviation) ** 2) if abs(offset) <= size_px // 2 else 0.0
        for offset in range(-reach, reach + 1)
    ]
    return [tap / sum(taps) for tap in taps]
