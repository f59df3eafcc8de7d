"""Crops as images, and their random changes."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from unmasked.datasets import transforms
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import CropDataset, method_classes, read_crop, usable


def faces(**changes: list) -> pd.DataFrame:
    columns = {
        "crop": ["a.png", "b.png", "c.png", None],
        "label": [0, 1, 1, 1],
        "method": ["real", "FaceSwap", "Deepfakes", "FaceSwap"],
        "status": ["ok", "ok", "ok", "no_face"],
    }
    return pd.DataFrame({**columns, **changes})


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), rng.integers(0, 256, (16, 16, 3), np.uint8))
    return tmp_path


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_crop_is_read_in_rgb_order(tmp_path):
    bgr = np.zeros((8, 8, 3), np.uint8)
    bgr[..., 2] = 200  # red, in OpenCV's order
    cv2.imwrite(str(tmp_path / "red.png"), bgr)
    assert read_crop(tmp_path / "red.png", 8)[0, 0].tolist() == [200, 0, 0]


def test_a_grey_crop_has_three_equal_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 8), 77, np.uint8))
    assert (read_crop(tmp_path / "grey.png", 4) == 77).all()


@pytest.mark.parametrize("cache_mb", [0, 10])
def test_items_are_those_of_their_rows_cached_or_not(root, cache_mb):
    table = usable(faces())
    crops = CropDataset(table, root, size_px=16, methods=method_classes(table), cache_mb=cache_mb)
    assert (crops.images is None) == (cache_mb == 0)
    assert len(crops) == 3
    for row, (name, label, index) in enumerate([("a", 0, 0), ("b", 1, 2), ("c", 1, 1)]):
        item = crops[row]
        expected = cv2.imread(str(root / f"{name}.png"))[:, :, ::-1].transpose(2, 0, 1)
        assert np.array_equal(item["image"].numpy(), expected)
        assert (item["label"], item["method_index"], item["row"]) == (label, index, row)


def test_crops_that_do_not_fit_are_not_held(root):
    assert CropDataset(usable(faces()), root, size_px=1024, methods=["real"], cache_mb=8).images is None


def test_classes_are_real_and_the_methods_that_occur():
    assert method_classes(faces()) == ["real", "Deepfakes", "FaceSwap"]


def test_a_method_that_was_not_trained_on_has_no_class(root):
    crops = CropDataset(usable(faces()), root, size_px=16, methods=["real", "FaceSwap"])
    assert [crops[row]["method_index"] for row in range(3)] == [0, 1, -1]


def test_an_absent_crop_is_an_error_that_names_it_not_the_first_image(root):
    crops = CropDataset(
        usable(faces(crop=["a.png", "gone.png", "c.png", None])), root, size_px=16, methods=["real"]
    )
    with pytest.raises(InputError, match=r"gone\.png cannot be read"):
        crops[1]


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_a_damaged_crop_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.png is not an intact image"):
        read_crop(tmp_path / "bad.png", 16)


# Transforms


IMAGES = torch.rand(64, 3, 20, 20, generator=seeded(9))


@pytest.mark.parametrize(
    "change",
    [
        lambda images, p, g: transforms.flip(images, p, g),
        lambda images, p, g: transforms.rotate(images, p, 10, g),
        lambda images, p, g: transforms.blur(images, p, g),
        lambda images, p, g: transforms.light(images, p, 0.1, g),
        lambda images, p, g: transforms.noise(images, p, 0.1, g),
    ],
    ids=["flip", "rotate", "blur", "light", "noise"],
)
def test_each_image_is_changed_with_the_given_probability_and_stays_in_range(change):
    changed = change(IMAGES, 0.5, seeded())
    assert changed.shape == IMAGES.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    share = (changed != IMAGES).flatten(1).any(1).float().mean().item()
    assert 0.3 < share < 0.7
    assert torch.equal(change(IMAGES, 0.0, seeded()), IMAGES)
    assert torch.equal(change(IMAGES, 0.5, seeded()), changed)


def test_flip_mirrors_left_and_right():
    assert torch.equal(transforms.flip(IMAGES, 1.0, seeded()), IMAGES.flip(3))


def test_blur_equals_opencv_for_one_of_its_kernels():
    image = IMAGES[:1]
    blurred = transforms.blur(image, 1.0, seeded())[0].permute(1, 2, 0).numpy()
    pixels = image[0].permute(1, 2, 0).numpy()
    deviations = {3: 0.8, 5: 1.1, 7: 1.4}  # 0.3 ((k - 1) / 2 - 1) + 0.8
    distances = [
        np.abs(cv2.GaussianBlur(pixels, (k, k), deviation) - blurred).max()
        for k, deviation in deviations.items()
    ]
    assert min(distances) < 1e-5


def test_rotation_by_nothing_changes_nothing_and_keeps_the_centre():
    turned = transforms.rotate(IMAGES, 1.0, 1e-4, seeded())
    torch.testing.assert_close(turned, IMAGES, atol=1e-3, rtol=0)


def test_jpeg_loses_more_at_lower_quality():
    image = (IMAGES[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    losses = [np.abs(transforms.jpeg(image, q).astype(int) - image).mean() for q in (95, 60, 20)]
    assert losses == sorted(losses)
    assert losses[0] > 0
