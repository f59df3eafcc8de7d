"""Random changes of images, each against another library's."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torchvision.transforms.v2 import functional as torchvision

from unmasked.datasets import transforms
from unmasked.datasets.augment import AugmentConfig


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


IMAGES = torch.rand(64, 3, 20, 20, generator=seeded(9))
BYTES = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=seeded(8))
CHANGES = {
    "flip": lambda images, p, g: transforms.flip(images, p, g),
    "rotate": lambda images, p, g: transforms.rotate(images, p, 10, g),
    "zoom": lambda images, p, g: transforms.zoom(images, p, 0.1, g),
    "blur": lambda images, p, g: transforms.blur(images, p, g),
    "light": lambda images, p, g: transforms.light(images, p, 0.1, g),
    "colour": lambda images, p, g: transforms.colour(images, p, g),
    "noise": lambda images, p, g: transforms.noise(images, p, 0.1, g),
}


def smooth(size_px: int = 64) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1] without sharp edges, so that ways of interpolation agree."""
    coarse = np.random.default_rng(1).uniform(0.1, 0.9, (5, 5, 3)).astype(np.float32)
    return cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_LINEAR)


def batched(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def unbatched(images: torch.Tensor) -> np.ndarray:
    return images[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_image_is_changed_with_the_given_probability_and_stays_in_range(change):
    changed = change(IMAGES, 0.5, seeded())
    assert changed.shape == IMAGES.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    share = (changed != IMAGES).flatten(1).any(1).float().mean().item()
    assert 0.3 < share < 0.7
    assert torch.equal(change(IMAGES, 0.0, seeded()), IMAGES)
    assert torch.equal(change(IMAGES, 0.5, seeded()), changed)


# Bytes to floats


@pytest.mark.parametrize("images", [BYTES, BYTES.contiguous(memory_format=torch.channels_last)])
def test_normalisation_equals_torchvisions(images):
    scaled = torchvision.to_dtype(images, torch.float32, scale=True)
    expected = torchvision.normalize(scaled, [0.5] * 3, [0.5] * 3)
    torch.testing.assert_close(transforms.normalise(images), expected, atol=2e-7, rtol=0)
    without = transforms.augment(images, AugmentConfig(flip=0), seeded())
    torch.testing.assert_close(without, expected, atol=2e-7, rtol=0)


def test_bytes_are_left_as_they_were():
    before = BYTES.clone()
    transforms.normalise(BYTES)
    transforms.augment(BYTES, AugmentConfig(recipe="published"), seeded())
    assert torch.equal(BYTES, before)


def test_default_augmentation_is_mirroring_by_one_draw_an_image():
    # Trainings of earlier versions drew so; another draw before it would change them all.
    mirrored = torch.rand((8, 1, 1, 1), generator=seeded(4)) < 0.5
    expected = torch.where(mirrored, BYTES.flip(3), BYTES).float() / 255 * 2 - 1
    assert torch.equal(transforms.augment(BYTES, AugmentConfig(), seeded(4)), expected)


# Geometry


def test_flip_mirrors_left_and_right():
    assert torch.equal(transforms.flip(IMAGES, 1.0, seeded()), IMAGES.flip(3))


def test_rotation_equals_opencvs_by_the_drawn_angle():
    image = smooth()
    turned = unbatched(transforms.rotate(batched(image), 1.0, 10, seeded(2)))
    degrees = float(-10 + 20 * torch.rand((1, 1, 1, 1), generator=seeded(2)))
    assert abs(degrees) > 1
    matrix = cv2.getRotationMatrix2D((31.5, 31.5), degrees, 1.0)
    expected = cv2.warpAffine(image, matrix, (64, 64), borderMode=cv2.BORDER_REFLECT)
    assert np.abs(turned - expected)[10:54, 10:54].max() < 0.01


def test_zoom_equals_scipys_by_the_drawn_factor():
    image = smooth()
    zoomed = unbatched(transforms.zoom(batched(image), 1.0, 0.2, seeded(2)))
    factor = float(1 - 0.2 + 0.4 * torch.rand((1, 1, 1, 1), generator=seeded(2)))
    assert abs(factor - 1) > 0.02
    offset = 31.5 * (1 - 1 / factor)
    expected = np.stack(
        [
            ndimage.affine_transform(image[..., c], np.eye(2) / factor, offset, order=1, mode="reflect")
            for c in range(3)
        ],
        axis=2,
    )
    assert np.abs(zoomed - expected).max() < 1e-4


def test_rotation_by_nothing_changes_nothing_and_keeps_the_centre():
    turned = transforms.rotate(IMAGES, 1.0, 1e-4, seeded())
    torch.testing.assert_close(turned, IMAGES, atol=1e-3, rtol=0)


# Sharpness and colour


def test_blur_equals_opencv_for_one_of_its_kernels():
    image = IMAGES[:1]
    blurred = unbatched(transforms.blur(image, 1.0, seeded()))
    deviations = {3: 0.8, 5: 1.1, 7: 1.4}  # 0.3 ((k - 1) / 2 - 1) + 0.8
    distances = [
        np.abs(cv2.GaussianBlur(unbatched(image), (k, k), deviation) - blurred).max()
        for k, deviation in deviations.items()
    ]
    assert min(distances) < 1e-5


def test_light_is_torchvisions_contrast_about_black_then_a_shift():
    image = batched(smooth())
    changed = transforms.light(image, 1.0, 0.1, seeded(3))
    draws = seeded(3)
    contrast, shift = (-0.1 + 0.2 * torch.rand((1, 1, 1, 1), generator=draws) for _ in range(2))
    # A brightness factor of torchvision multiplies, as contrast does here.
    expected = torchvision.adjust_brightness(image, float(1 + contrast)) + shift
    torch.testing.assert_close(changed, expected.clamp(0, 1), atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=30)
@given(
    hue=st.floats(-40, 40),
    saturation=st.floats(-0.2, 0.2),
    value=st.floats(-0.2, 0.2),
    seed=st.integers(0, 99),
)
def test_hue_saturation_and_value_equal_opencvs(hue, saturation, value, seed):
    image = np.random.default_rng(seed).random((9, 9, 3)).astype(np.float32)
    image[:3] = image[:3, :, :1]  # greys, whose hue is not defined
    image[3] = 0
    shifts = [torch.full((1, 1, 1, 1), float(shift)) for shift in (hue, saturation, value)]
    changed = unbatched(transforms.hue_saturation_value(batched(image), *shifts))
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + hue) % 360
    hsv[..., 1] = (hsv[..., 1] + saturation).clip(0, 1)
    hsv[..., 2] = (hsv[..., 2] + value).clip(0, 1)
    assert np.abs(changed - cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).max() < 2e-3


def test_hue_turned_all_the_way_round_is_the_same_image():
    zero = torch.zeros((1, 1, 1, 1))
    same = transforms.hue_saturation_value(IMAGES[:1], zero + 360, zero, zero)
    torch.testing.assert_close(same, IMAGES[:1], atol=1e-5, rtol=0)


def test_pca_lighting_adds_one_colour_distributed_as_in_its_paper():
    image = smooth() * 0.2 + 0.4  # far from where it would be clipped
    count = 4000
    draws = 0.1 * torch.randn((count, 3), generator=seeded(5))
    images = batched(image[::8, ::8].copy()).expand(count, -1, -1, -1)
    added = (transforms.pca_lighting(images, draws) - images).numpy()
    assert np.abs(added - added[:, :, :1, :1]).max() < 1e-6  # the same for all pixels
    eigenvalues, eigenvectors = np.linalg.eigh(np.cov(image[::8, ::8].reshape(-1, 3), rowvar=False))
    # sum_i a_i l_i p_i has the covariance P (0.1 L)^2 P^T.
    expected = eigenvectors @ np.diag((0.1 * eigenvalues) ** 2) @ eigenvectors.T
    measured = np.cov(added[:, :, 0, 0], rowvar=False)
    assert np.abs(measured - expected).max() < 0.1 * expected.max()


def test_a_change_of_colour_is_one_of_three_equally_often():
    images = (0.4 + 0.2 * IMAGES[:1]).expand(900, -1, -1, -1)  # far from where it would be clipped
    added = transforms.colour(images, 1.0, seeded(6)) - images
    # Only PCA lighting adds one colour to all pixels.
    is_one_colour = (added - added[:, :, :1, :1]).abs().amax((1, 2, 3)) < 1e-6
    assert is_one_colour.float().mean().item() == pytest.approx(1 / 3, abs=0.05)


# Noise


@settings(deadline=None, max_examples=25)
@given(
    level=st.sampled_from([0, 1, 128, 254, 255]), std=st.floats(0.001, 0.3), seed=st.integers(0, 2**31 - 1)
)
def test_noise_clips_and_never_wraps_around(level, std, seed):
    # Noise added to unsigned bytes turns 255 + 3 into 2: white skin with black specks.
    images = torch.full((2, 3, 16, 16), level, dtype=torch.uint8)
    config = AugmentConfig(flip=0, noise=1.0, noise_std=std)
    changed = (transforms.augment(images, config, seeded(seed)) + 1) * 127.5
    draws = seeded(seed)
    largest = 255 * std * torch.rand((2, 1, 1, 1), generator=draws)
    normal = torch.randn((2, 3, 16, 16), generator=draws)
    expected = (level + (largest * normal).double().numpy()).clip(0, 255)
    assert np.abs(changed.numpy() - expected).max() < 1e-2
    assert ((changed - level).abs() <= (largest * normal).abs() + 1e-2).all()


def test_the_fault_that_noise_must_not_have_is_seen_by_the_test_above():
    white = np.full((16, 16), 255, np.uint8)
    wrapped = white + np.full_like(white, 3)
    assert wrapped.max() == 2


def test_noise_has_a_deviation_drawn_up_to_the_largest():
    grey = torch.full((400, 3, 16, 16), 0.5)
    stds = (transforms.noise(grey, 1.0, 0.1, seeded()) - grey).flatten(1).std(1)
    assert stds.max() < 0.11
    assert stds.mean().item() == pytest.approx(0.05, abs=0.005)


# JPEG


def test_jpeg_equals_pillows_at_the_same_quality():
    image = (smooth() * 255).astype(np.uint8)
    for quality in (40, 75, 100):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=quality)
        expected = np.asarray(Image.open(stream)).astype(int)
        assert np.abs(transforms.jpeg(image, quality) - expected).mean() < 0.5


def test_jpeg_loses_more_at_lower_quality():
    image = (IMAGES[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    losses = [np.abs(transforms.jpeg(image, q).astype(int) - image).mean() for q in (95, 60, 20)]
    assert losses == sorted(losses)
    assert losses[0] > 0


def test_random_jpeg_is_drawn_from_the_given_generator_at_the_given_share():
    image = (smooth() * 255).astype(np.uint8)
    jpeg = transforms.RandomJpeg(AugmentConfig(jpeg=0.5, jpeg_quality=(40, 60)))
    one, same = ([jpeg(image, np.random.default_rng(seed)) for seed in range(200)] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert 0.4 < np.mean([not np.array_equal(changed, image) for changed in one]) < 0.6
