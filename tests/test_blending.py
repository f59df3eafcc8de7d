"""Self-blended images: fakes of reals alone."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmasked.datasets.blending import (
    POINTS,
    RATIOS,
    SELF_BLENDED,
    blend,
    face_mask,
    face_points,
    real_image,
    restyle,
    self_blended_image,
    self_blended_rows,
)
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import CropDataset, method_classes
from unmasked.datasets.samplers import Draw, PairSampler
from unmasked.preprocessing.align import similarity_matrix, template
from unmasked.preprocessing.faces import MATRIX
from unmasked.preprocessing.faces import POINTS as COLUMNS

SEEDS = st.integers(0, 2**32 - 1)


def textured(size_px: int = 96, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 215, (12, 12, 3)).astype(np.float32)
    image = cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def faces(root, count: int = 3) -> pd.DataFrame:
    for number in range(count):
        cv2.imwrite(str(root / f"{number}.png"), textured(seed=number))
    return pd.DataFrame(
        {
            "dataset": "D",
            "video": [f"v{number}" for number in range(count)],
            "label": 0,
            "method": "real",
            "source_video": None,
            "target_video": None,
            "crop": [f"{number}.png" for number in range(count)],
            "status": "ok",
        }
    )


# Images


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS)
def test_a_fake_differs_from_its_crop_and_lies_within_its_mask_and_range(seed):
    image = textured()
    fake, share = blend(image, POINTS, np.random.default_rng(seed))
    assert fake.shape == image.shape
    assert fake.dtype == np.uint8
    assert not np.array_equal(fake, image)
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-6
    assert share.max() > 0.2  # there is a face in it
    assert share[0].max() == 0  # and no hat


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS)
def test_background_is_the_crops_own_or_restyled_as_a_whole(seed):
    image = textured()
    fake, share = blend(image, POINTS, np.random.default_rng(seed))
    background = share == 0
    rng = np.random.default_rng(seed)
    if rng.random() < 0.5:
        expected = image
    else:
        style = restyle(image.astype(np.float32) / np.float32(255), rng)
        expected = np.rint(style * 255).astype(np.uint8)
    assert np.array_equal(fake[background], expected[background])


def test_reals_beside_fakes_are_restyled_as_often_so_that_a_background_does_not_tell_the_label():
    image, corner = textured(), (slice(0, 8), slice(0, 8))
    shares = [
        np.mean(
            [not np.array_equal(made(np.random.default_rng(s))[corner], image[corner]) for s in range(300)]
        )
        for made in (lambda rng: self_blended_image(image, POINTS, rng), lambda rng: real_image(image, rng))
    ]
    assert shares == pytest.approx([0.5, 0.5], abs=0.1)


def test_same_generator_same_fake_and_another_another():
    one, same, other = (self_blended_image(textured(), POINTS, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_restyled_bright_and_dark_images_clip_and_never_wrap_around():
    for level in (0.0, 1.0):
        image = np.full((32, 32, 3), level, np.float32)
        for seed in range(50):
            changed = restyle(image, np.random.default_rng(seed))
            assert changed.min() >= 0
            assert changed.max() <= 1
            assert np.abs(changed - level).max() < 0.6  # wrapped, it would be 1


def test_ratios_are_those_of_the_paper():
    highest = [blend(textured(), POINTS, np.random.default_rng(seed))[1].max() for seed in range(300)]
    # The mask's top is the ratio, but where it is so small that its blur does not reach 1.
    near = [min(abs(top - ratio) for ratio in set(RATIOS)) < 0.02 for top in highest]
    assert np.mean(near) > 0.8
    assert np.mean([top > 0.9 for top in highest]) == pytest.approx(0.5, abs=0.12)


# Masks


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, turn=st.floats(-30, 30), zoom=st.floats(0.7, 1.2), shift=st.floats(-0.08, 0.08))
def test_mask_goes_with_the_points(seed, turn, zoom, shift):
    angle = np.deg2rad(turn)
    rotation = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (POINTS - 0.5) @ rotation.T + 0.5 + shift
    plain = face_mask(POINTS, 96, np.random.default_rng(seed))
    mask = face_mask(moved, 96, np.random.default_rng(seed))
    where = [np.argwhere(m > 0.5)[:, ::-1].mean(0) / 96 for m in (plain, mask)]
    expected = (where[0] - 0.5) @ rotation.T + 0.5 + shift
    assert np.abs(where[1] - expected).max() < 0.06
    ratio = (mask > 0.5).sum() / (plain > 0.5).sum()
    assert 0.5 * zoom**2 < ratio < 1.7 * zoom**2


def test_masks_differ_in_form_and_softness_and_lie_on_the_face():
    masks = np.stack([face_mask(POINTS, 128, np.random.default_rng(seed)) for seed in range(100)])
    areas = (masks > 0.5).mean((1, 2))
    assert 0.02 < areas.min() < 0.12
    assert 0.25 < areas.max() < 0.45
    edges = ((masks > 0.05) & (masks < 0.95)).mean((1, 2))
    assert edges.max() > 3 * edges.min()
    mean = masks.mean(0)
    x, y = (POINTS[2] * 128).astype(int)
    assert mean[y + 12, x] > 0.7
    assert mean[:10].max() == 0


def test_template_of_the_mask_is_the_one_that_crops_are_aligned_to():
    assert np.abs(template(1, 1.3) - POINTS).max() < 0.001


# Points


def placed(root, sides: list[int]) -> tuple[pd.DataFrame, np.ndarray]:
    """A table whose faces lie anywhere in their frames, and where their points lie in the crops."""
    rng = np.random.default_rng(3)
    table, expected = faces(root, len(sides)), []
    for row, side in enumerate(sides):
        cv2.imwrite(str(root / f"{row}.png"), np.zeros((side, side, 3), np.uint8))
        points = template(200) * rng.uniform(0.5, 2) + rng.uniform(0, 300, 2) + rng.normal(0, 3, (5, 2))
        matrix = similarity_matrix(points, side)
        table.loc[row, list(COLUMNS)] = points.ravel()
        table.loc[row, list(MATRIX)] = matrix.ravel()
        table.loc[row, "recipe"] = f"recipe{side}"
        expected.append((points @ matrix[:, :2].T + matrix[:, 2]) / side)
    return table, np.stack(expected)


def test_points_are_shares_of_each_crops_own_side(tmp_path):
    table, expected = placed(tmp_path, [64, 128, 64])
    assert np.allclose(face_points(table, tmp_path), expected)
    assert np.abs(expected - POINTS).max() < 0.1


def test_rows_without_points_have_those_of_the_template(tmp_path):
    table, expected = placed(tmp_path, [64, 64])
    table.loc[1, COLUMNS[0]] = np.nan
    found = face_points(table, tmp_path)
    assert np.allclose(found[0], expected[0])
    assert np.allclose(found[1], POINTS)
    assert np.allclose(face_points(faces(tmp_path), tmp_path), POINTS)


# Rows


def test_every_real_row_becomes_a_fake_of_its_own_video(tmp_path):
    table = faces(tmp_path)
    table.loc[2, ["label", "method"]] = [1, "Swap"]
    made = self_blended_rows(table)
    assert made["video"].tolist() == ["self_blended/v0", "self_blended/v1"]
    assert made["target_video"].tolist() == made["source_video"].tolist() == ["v0", "v1"]
    assert (made["label"] == 1).all()
    assert (made["method"] == SELF_BLENDED).all()
    both = pd.concat([table, made], ignore_index=True)
    assert method_classes(both) == ["real", "Swap", SELF_BLENDED]


def test_self_blended_fakes_pair_with_their_own_source(tmp_path):
    table = faces(tmp_path)
    both = pd.concat([table, self_blended_rows(table)], ignore_index=True)
    assert all(fake == real + 3 for real, fake in PairSampler(both, 3, pairing="source"))


def test_a_table_without_reals_is_refused(tmp_path):
    with pytest.raises(InputError, match="none of the 3 rows is real"):
        self_blended_rows(faces(tmp_path).assign(label=1))


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_a_dataset_blends_its_fakes_anew_with_each_seed(tmp_path, cache_mb):
    table = faces(tmp_path)
    both = pd.concat([table.assign(is_self_blended=False), self_blended_rows(table)], ignore_index=True)
    crops = CropDataset(both, tmp_path, size_px=96, methods=method_classes(both), cache_mb=cache_mb)
    batch = crops[[Draw(4, 1), Draw(4, 1), Draw(4, 2)]]
    one, same, other = batch["image"].permute(0, 2, 3, 1).numpy()
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    original = cv2.imread(str(tmp_path / "1.png"))[:, :, ::-1]
    assert np.array_equal(one, self_blended_image(original, POINTS, np.random.default_rng(1)))
    assert batch["label"].tolist() == [1, 1, 1]
    assert batch["method_index"].tolist() == [1, 1, 1]
