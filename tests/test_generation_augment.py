import math

import numpy as np
import pytest
import torch

from unmasked.generation.augment import (
    SYM6,
    Draws,
    Probability,
    augment,
    colour,
    geometry,
    recolour,
    resampling,
    warp,
)
from unmasked.training.residual import upfirdn


def draws(count, p, seed=0):
    return Draws(count, p, torch.Generator().manual_seed(seed), torch.zeros(1, dtype=torch.float64))


def smooth_image(side=32):
    x = torch.linspace(0, 2 * math.pi, side, dtype=torch.float64)
    return torch.stack([x.sin()[:, None] * x.cos(), x.cos()[:, None] + 0 * x, 0 * x[:, None] + x.sin()])[None]


def test_p_0_changes_nothing_and_1_everything():
    images = torch.randn(4, 3, 16, 16)
    random = torch.Generator().manual_seed(0)
    assert augment(images, 0.0, random) is images
    changed = augment(images, 1.0, random)
    assert changed.shape == images.shape
    assert ((changed - images).abs().mean((1, 2, 3)) > 0.1).all()


def test_sampling_at_the_same_places_gives_the_image_back():
    """Up and down with one orthogonal wavelet is the identity, away from the border."""
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    same = warp(image, torch.eye(3, dtype=torch.float64)[None])
    torch.testing.assert_close(same[..., 4:-4, 4:-4], image[..., 4:-4, 4:-4], atol=1e-9, rtol=0)


def test_the_matrices_are_the_filter_of_the_paper():
    """Against zeros between pixels, a convolution, and every second place."""
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    up, down = resampling(16, image.device, image.dtype)
    taps = torch.tensor(SYM6, dtype=torch.float64) / sum(SYM6)
    kernel = torch.outer(taps, taps)
    padded = torch.cat([image[..., :3].flip(3), image, image[..., -3:].flip(3)], 3)
    padded = torch.cat([padded[:, :, :3].flip(2), padded, padded[:, :, -3:].flip(2)], 2)
    wanted = upfirdn(padded, kernel, up=2, padding=(0, -1, 0, -1), gain=4.0)
    torch.testing.assert_close(up @ image @ up.T, wanted)
    fine = torch.randn(2, 3, 42, 42, dtype=torch.float64)
    torch.testing.assert_close(down @ fine @ down.T, upfirdn(fine, kernel.flip(0, 1), down=2))


@pytest.mark.parametrize(
    ("matrix", "wanted"),
    [
        ([[-1, 0, 0], [0, 1, 0], [0, 0, 1]], lambda x: x.flip(3)),
        # Places turn by +90° with y down, so the image turns the other way.
        ([[0, -1, 0], [1, 0, 0], [0, 0, 1]], lambda x: torch.rot90(x, 1, (2, 3))),
        ([[1, 0, 3], [0, 1, -2], [0, 0, 1]], lambda x: torch.roll(x, (2, -3), (2, 3))),
    ],
)
def test_mirrors_quarter_turns_and_whole_shifts_move_whole_pixels(matrix, wanted):
    image = smooth_image()
    found = warp(image, torch.tensor([matrix], dtype=torch.float64))
    torch.testing.assert_close(found[..., 8:-8, 8:-8], wanted(image)[..., 8:-8, 8:-8], atol=2e-3, rtol=0)


def test_changes_happen_as_often_and_reach_as_far_as_they_are_said_to():
    count = 20_000
    found = draws(count, 0.3)
    assert float(found.happens(None).mean()) == pytest.approx(0.3, abs=0.02)
    quarter = draws(count, 1.0).whole(4)
    shares = torch.bincount(quarter.flatten().long(), minlength=4) / count
    np.testing.assert_allclose(shares, 0.25, atol=0.02)  # not {0, 3} alone
    matrices = geometry(draws(count, 1.0), 32)
    area = torch.linalg.det(matrices).abs().log()  # of the inverse: two isotropic scales a side
    assert float(area.std()) == pytest.approx(2 * 0.2 * math.log(2), rel=0.05)
    assert float((torch.linalg.det(matrices) < 0).double().mean()) == pytest.approx(0.5, abs=0.02)
    turned = geometry(draws(count, 0.19), 32)
    kept = torch.isclose(turned[:, 0, 0].abs(), torch.linalg.det(turned).abs().sqrt())
    assert kept.any()


def test_two_turns_together_happen_with_p():
    p = 0.36
    found = draws(20_000, p)
    happened = [found.uniform(1.0, 1 - math.sqrt(1 - p)) != 0 for _ in range(2)]
    assert float((happened[0] | happened[1]).double().mean()) == pytest.approx(p, abs=0.015)


class Fixed(Draws):
    """Draws with values of one's own, by the order in which they are asked for."""

    def __init__(self, **values):
        super().__init__(1, 1.0, torch.Generator(), torch.zeros(1, dtype=torch.float64))
        self.values = values
        self.asked = iter(("brightness", "contrast", "saturation"))

    def value(self, name):
        return torch.full((1, 1), float(self.values.get(name, 0)), dtype=torch.float64)

    def normal(self, deviation, p=None, columns=1):
        return self.value(next(self.asked))

    def uniform(self, reach, p=None, columns=1):
        return self.value("hue")

    def whole(self, below):
        return self.value("flip")


def test_colours_are_those_of_the_papers_matrices():
    third = 1 / 3
    for values, matrix in (
        ({}, np.eye(3)),
        ({"flip": 1}, np.where(np.eye(3), third, -2 * third)),
        ({"hue": 2 * math.pi / 3}, [[0, 0, 1], [1, 0, 0], [0, 1, 0]]),  # red becomes green
        ({"saturation": math.log(0.5)}, np.where(np.eye(3), 2 * third, third / 2)),
        ({"contrast": math.log(2)}, 2 * np.eye(3)),
    ):
        np.testing.assert_allclose(colour(Fixed(**values))[0][0], matrix, atol=1e-12)
    change = colour(Fixed(brightness=0.25, contrast=math.log(2)))
    image = torch.full((1, 3, 2, 2), 0.1, dtype=torch.float64)
    torch.testing.assert_close(
        recolour(image, change), torch.full_like(image, 0.7)
    )  # brighter, then contrast


def test_gradients_go_through_it_twice():
    """R1 through the augmentation: the gradient of a gradient's size, against differences."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    basis = torch.randn(3 * 8 * 8, 5, dtype=torch.float64)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)

    def penalty(weight):
        changed = augment(images, 0.9, torch.Generator().manual_seed(3))
        verdict = (changed.flatten(1) @ (basis @ weight)).tanh().sum()
        (slope,) = torch.autograd.grad(verdict, images, create_graph=True)
        return slope.square().sum()

    assert torch.autograd.gradcheck(penalty, weight, atol=1e-6)


def test_p_rises_where_reals_are_known_by_heart_and_falls_where_they_are_not():
    ada = Probability(target=0.6, images=500_000, every=4)
    for _ in range(4):
        ada.see(torch.ones(16))
    assert (ada.p, ada.r_t) == (pytest.approx(4 * 16 / 500_000), 1.0)
    again = Probability(target=0.6, images=500_000, every=4)
    ada.see(-torch.ones(16))
    again.resume(ada.state())
    for one in (ada, again):
        for _ in range(3):
            one.see(-torch.ones(16))
        assert (one.p, one.r_t) == (0.0, -1.0)
    fixed = Probability(target=0.6, images=10, every=1, fixed=0.25)
    fixed.see(torch.ones(16))
    assert fixed.p == 0.25
    quick = Probability(target=0.6, images=1, every=1)
    quick.see(torch.ones(16))
    assert quick.p == 1.0
