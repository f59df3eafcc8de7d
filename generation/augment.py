"""ADA's augmentation of what the judging network sees, and how likely it is.

Karras et al., arxiv.org/abs/2006.06676, written from the paper: pixel, geometric and colour changes in its
order, reals and fakes alike. Each change happens to an image with probability p. All is made of operations
that torch differentiates twice. The paper's filtering, noise and cutout are left out, as in its own best
setting ("bgc").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from unmasked.generation.processes import draw

# The low-pass filter of the sym6 wavelet (Daubechies, Ten Lectures on Wavelets, 1992).
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
CENTRE = sum(place * tap for place, tap in enumerate(SYM6)) / sum(SYM6)
MARGIN = 5  # twice finer pixels that the filter wants at each side
SHIFT = 0.125
SCALE = 0.2 * math.log(2)
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5 * math.log(2), math.log(2)


class Draws:
    """Random numbers of N images, and which images a change happens to."""

    def __init__(self, count: int, p: float, random: torch.Generator, like: Tensor) -> None:
        self.count, self.p, self.random, self.like = count, p, random, like

    def normal(self, deviation: float, p: float | None = None, columns: int = 1) -> Tensor:
        """(N, columns) N(0, deviation²), 0 where nothing happens."""
        return deviation * self._draw(torch.randn, columns) * self.happens(p)

    def uniform(self, reach: float, p: float | None = None, columns: int = 1) -> Tensor:
        """(N, columns) U(-reach, reach), 0 where nothing happens."""
        return reach * (2 * self._draw(torch.rand, columns) - 1) * self.happens(p)

    def whole(self, below: int) -> Tensor:
        """(N, 1) whole numbers from 0, 0 where nothing happens."""
        return self._draw(lambda *size, **of: torch.randint(below, size, **of), 1) * self.happens(None)

    def happens(self, p: float | None) -> Tensor:
        """(N, 1) 1 where the change happens, else 0."""
        return (self._draw(torch.rand, 1) < (self.p if p is None else p)).to(self.like)

    def _draw(self, how: Callable[..., Tensor], columns: int) -> Tensor:
        return draw(how, self.count, columns, generator=self.random, device=self.random.device).to(self.like)


def augment(images: Tensor, p: float, random: torch.Generator) -> Tensor:
    """Images changed at random; as they are where p is 0.

    Args:
        images: (N, 3, R, R) in [-1, 1]; of real or of made ones, with gradients or without.
        p: probability of each change, in [0, 1].
        random: on the images' device or on the CPU.
    """
    if p <= 0:
        return images
    draws = Draws(len(images), p, random, images)
    return recolour(warp(images, geometry(draws, images.shape[-1])), colour(draws))


def geometry(draws: Draws, side: int) -> Tensor:
    """(N, 3, 3) from places of the changed image to those of the given one.

    In pixels from the centre.
    """
    turned = 1 - math.sqrt(1 - draws.p)  # two turns together happen with p
    flips = 1 - 2 * draws.whole(2)
    quarters = draws.whole(4) * (math.pi / 2)
    shift = (draws.uniform(SHIFT, columns=2) * side).round()
    scale = draws.normal(SCALE).exp()
    before = draws.uniform(math.pi, turned)
    stretch = draws.normal(SCALE).exp()
    after = draws.uniform(math.pi, turned)
    last = draws.normal(SHIFT, columns=2) * side
    # Each is the inverse of the change itself, so the first one stands first.
    steps = [_scaling(flips, torch.ones_like(flips)), _rotation(-quarters), _shifting(-shift)]
    steps += [_scaling(1 / scale, 1 / scale), _rotation(-before), _scaling(1 / stretch, stretch)]
    steps += [_rotation(-after), _shifting(-last)]
    whole = steps[0]
    for step in steps[1:]:
        whole = whole @ step
    return whole


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    """(N, 3, 3) of (N, 1) entries."""
    return torch.stack([torch.cat(row, 1) for row in rows], 1)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _matrix([[x, zero, zero], [zero, y, zero], [zero, zero, one]])


def _rotation(angle: Tensor) -> Tensor:
    one, zero, cos, sin = torch.ones_like(angle), torch.zeros_like(angle), angle.cos(), angle.sin()
    return _matrix([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])


def _shifting(by: Tensor) -> Tensor:
    x, y = by[:, :1], by[:, 1:]
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _matrix([[one, zero, x], [zero, one, y], [zero, zero, one]])


def warp(images: Tensor, places: Tensor) -> Tensor:
    """(N, C, R, R) images sampled at the places of `geometry`; mirrored beyond their borders.

    Sampled twice as fine as the image and filtered down again, so that nothing aliases.
    """
    side = images.shape[-1]
    up, down = resampling(side, images.device, images.dtype)
    fine = up @ images @ up.T
    # The filter is not quite symmetric: what it smears lies about its centre of mass, not its middle.
    at = (torch.arange(2 * side + 2 * MARGIN, device=images.device, dtype=images.dtype) - CENTRE + 1) / 2
    x, y = torch.meshgrid(at - side / 2, at - side / 2, indexing="xy")
    target = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3)  # (pixels, 3)
    source = (target @ places.transpose(1, 2))[..., :2] / (side / 2)  # (N, pixels, 2) in [-1, 1]
    source = source + (CENTRE - MARGIN - 0.5) / side
    grid = source.reshape(len(images), len(at), len(at), 2)
    sampled = functional.grid_sample(fine, grid, "bilinear", "reflection", align_corners=False)
    return down @ sampled @ down.T


@cache
def resampling(side: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(2 R, R) and (R, 2 R + 2 MARGIN): the filter on a line of pixels, up by 2 and down by 2.

    As matrices: the two products are faster than a convolution with 12 x 12 taps, on a CPU by ten times.
    Up, pixel i, mirrored beyond the border, reaches places 2 i - MARGIN + tap; down is its transpose.
    """
    taps = torch.tensor(SYM6, dtype=torch.float64) / sum(SYM6)
    up, down = torch.zeros(2 * side, side), torch.zeros(side, 2 * side + 2 * MARGIN)
    up, down = up.double(), down.double()
    for place in range(-3, side + 3):
        pixel = min(max(place, -1 - place), 2 * side - 1 - place)
        for tap, value in enumerate(taps):
            if 0 <= (fine := 2 * place - MARGIN + tap) < 2 * side:
                up[fine, pixel] += 2 * value
    for pixel in range(side):
        down[pixel, 2 * pixel : 2 * pixel + len(taps)] = taps
    return up.to(device, dtype), down.to(device, dtype)


def colour(draws: Draws) -> tuple[Tensor, Tensor]:
    """(N, 3, 3) and (N, 3, 1): what red, green and blue are multiplied by, and what is added."""
    like, count = draws.like, draws.count
    grey = like.new_full((3, 3), 1 / 3)  # v v^T of the axis v = (1, 1, 1) / sqrt 3
    eye = torch.eye(3, device=like.device, dtype=like.dtype)
    brightness = draws.normal(BRIGHTNESS)
    contrast = draws.normal(CONTRAST).exp()[:, :, None]
    flipped = draws.whole(2)[:, :, None]
    angle = draws.uniform(math.pi)[:, :, None]
    saturation = draws.normal(SATURATION).exp()[:, :, None]
    # Rodrigues about v.
    cross = like.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    hue = eye * angle.cos() + cross * angle.sin() + grey * (1 - angle.cos())
    after = (grey + (eye - grey) * saturation) @ hue @ (eye - 2 * grey * flipped)
    matrix = after * contrast
    return matrix, matrix @ brightness[:, :, None].expand(count, 3, 1)


def recolour(images: Tensor, change: tuple[Tensor, Tensor]) -> Tensor:
    """(N, 3, H, W) with each pixel's colour changed."""
    matrix, added = change
    return (matrix @ images.flatten(2) + added).reshape(images.shape)


class Probability:
    """p, steered so that the judging network is as sure of reals as it is to be.

    r_t = E[sign D(augmented real)] over the last minibatches; p goes up where it is above the target, for the
    network then knows the reals by heart, and down where it is below.

    Attributes:
        p: now.
        r_t: as last measured.
    """

    def __init__(self, *, target: float, images: int, every: int, fixed: float | None = None) -> None:
        self.target, self.images, self.every, self.fixed = target, images, every, fixed
        self.p, self.r_t = fixed or 0.0, 0.0
        self._signs: list[Tensor] = []

    def see(self, verdicts: Tensor) -> None:
        """Takes in what D says of a minibatch of augmented reals, (N,), high for real."""
        self._signs.append(verdicts.detach().sign().float().mean())
        if len(self._signs) < self.every:
            return
        self.r_t = float(torch.stack(self._signs).mean())
        self._signs = []
        if self.fixed is None:
            step = math.copysign(self.every * len(verdicts) / self.images, self.r_t - self.target)
            self.p = min(1.0, max(0.0, self.p + step))

    def state(self) -> dict[str, float | list[float]]:
        """What a resumed training goes on from."""
        return {"p": self.p, "r_t": self.r_t, "signs": [float(sign) for sign in self._signs]}

    def resume(self, state: dict[str, float | list[float]]) -> None:
        """Goes on from there."""
        p, r_t, signs = state["p"], state["r_t"], state["signs"]
        assert isinstance(p, float)
        assert isinstance(r_t, float)
        assert isinstance(signs, list)
        self.p, self.r_t, self._signs = p, r_t, [torch.tensor(sign) for sign in signs]
