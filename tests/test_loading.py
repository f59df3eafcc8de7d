"""Crops as batches of images, in this process and in others."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from unmasked.datasets.augment import AugmentConfig
from unmasked.datasets.blending import self_blended_rows
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import (
    CropDataset,
    loader,
    method_classes,
    read_crop,
    sample_evenly,
    usable_rows,
)
from unmasked.datasets.samplers import Batches, Draw, NaturalSampler
from unmasked.datasets.transforms import RandomJpeg


def faces(**changes: list) -> pd.DataFrame:
    columns: dict = {
        "dataset": "D",
        "video": ["r", "f", "g", "h"],
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
    table = usable_rows(faces())
    crops = CropDataset(table, root, size_px=16, methods=method_classes(table), cache_mb=cache_mb)
    assert (crops.images is None) == (cache_mb == 0)
    assert len(crops) == 3
    for row, (name, label, index) in enumerate([("a", 0, 0), ("b", 1, 2), ("c", 1, 1)]):
        batch = crops[[Draw(row)]]
        expected = cv2.imread(str(root / f"{name}.png"))[:, :, ::-1].transpose(2, 0, 1)
        assert np.array_equal(batch["image"][0].numpy(), expected)
        assert [int(batch[key]) for key in ("label", "method_index", "row")] == [label, index, row]


def test_crops_that_do_not_fit_are_not_held(root):
    assert CropDataset(usable_rows(faces()), root, size_px=1024, methods=["real"], cache_mb=8).images is None


def test_classes_are_real_and_the_methods_that_occur():
    assert method_classes(faces()) == ["real", "Deepfakes", "FaceSwap"]


def test_a_method_that_was_not_trained_on_has_no_class(root):
    crops = CropDataset(usable_rows(faces()), root, size_px=16, methods=["real", "FaceSwap"])
    assert crops[[Draw(row) for row in range(3)]]["method_index"].tolist() == [0, 1, -1]


def test_an_absent_crop_is_an_error_that_names_it_not_the_first_image(root):
    crops = CropDataset(
        usable_rows(faces(crop=["a.png", "gone.png", "c.png", None])), root, size_px=16, methods=["real"]
    )
    with pytest.raises(InputError, match=r"gone\.png cannot be read"):
        crops[[Draw(0), Draw(1)]]


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_a_damaged_crop_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.png is not an intact image"):
        read_crop(tmp_path / "bad.png", 16)


def test_a_batch_is_what_opencv_reads_in_the_order_of_the_draws(root):
    table = usable_rows(faces())
    crops = CropDataset(table, root, size_px=16, methods=method_classes(table))
    batch = crops[[Draw(2), Draw(0), Draw(2)]]
    assert batch["image"].shape == (3, 3, 16, 16)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["row"].tolist() == [2, 0, 2]
    read = [cv2.imread(str(root / f"{name}.png"))[:, :, ::-1].transpose(2, 0, 1) for name in "cac"]
    assert np.array_equal(batch["image"].numpy(), np.stack(read))


def test_a_crop_that_several_rows_share_is_held_once(root):
    table = usable_rows(faces(crop=["a.png", "a.png", "b.png", None]))
    crops = CropDataset(table, root, size_px=16, methods=["real"], cache_mb=1)
    assert crops.images is not None
    assert len(crops.images) == 2
    images = crops[[Draw(0), Draw(1), Draw(2)]]["image"]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_fewer_frames_are_spread_over_the_video_not_its_first_ones():
    # The published loader takes frames 0 to 7 of 32 when asked for 8.
    table = pd.DataFrame(
        {"dataset": "D", "video": "v", "compression": None, "frame": range(31, -1, -1), "face": 0}
    )
    kept = sample_evenly(table, 8)["frame"].tolist()
    assert sorted(kept) == [0, 4, 9, 13, 18, 22, 27, 31]
    assert sample_evenly(table, 40)["frame"].tolist() == table["frame"].tolist()


# Loaders


def epochs_of(crops: CropDataset, workers: int, seed: int = 3) -> list[dict[str, torch.Tensor]]:
    """Every batch of two epochs of one loader."""
    batches = Batches(NaturalSampler(len(crops), seed=seed), 2, seed=seed)
    source = loader(crops, batches, workers=workers, seed=seed)
    found = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        found += list(source)
    return found


@pytest.fixture
def random_crops(root):
    """Crops whose images are drawn: by JPEG quality, and by blending with themselves."""
    table = usable_rows(faces())
    table = pd.concat([table.assign(is_self_blended=False), self_blended_rows(table)], ignore_index=True)
    table.loc[1:2, "video"] = ["f1", "f2"]
    jpeg = RandomJpeg(AugmentConfig(jpeg=0.5))
    return CropDataset(table, root, size_px=32, methods=["real"], transform=jpeg)


def test_same_seed_gives_the_same_batches_whatever_the_number_of_workers(random_crops):
    alone, *others = (epochs_of(random_crops, workers) for workers in (0, 1, 2))
    assert len(alone) == 4
    for other in others:
        for ours, theirs in zip(alone, other, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_another_seed_and_another_epoch_give_other_images_of_the_same_rows(random_crops):
    def by_row(batches: list) -> dict[int, torch.Tensor]:
        return {int(row): image for b in batches for row, image in zip(b["row"], b["image"], strict=True)}

    found, other = epochs_of(random_crops, 0), epochs_of(random_crops, 0, seed=4)
    first, second, elsewhere = by_row(found[:2]), by_row(found[2:]), by_row(other[:2])
    blended = 3  # the row that is blended anew each time
    assert not torch.equal(first[blended], second[blended])
    assert not torch.equal(first[blended], elsewhere[blended])


def test_workers_do_not_hang_where_opencv_has_used_its_threads(root, random_crops):
    # Forked workers would wait for the parent's OpenCV threads, which do not exist in them.
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.float32), (0, 0), 3.0)
        assert len(epochs_of(random_crops, 1)) == 4
    finally:
        cv2.setNumThreads(before)


def test_workers_are_kept_from_epoch_to_epoch_and_not_started_where_images_are_at_hand(root, random_crops):
    batches = Batches(NaturalSampler(3), 2)
    assert loader(random_crops, batches, workers=2).persistent_workers
    held = CropDataset(usable_rows(faces()), root, size_px=16, methods=["real"], cache_mb=1)
    assert held.is_at_hand
    assert loader(held, batches, workers=2).num_workers == 0


def test_pages_are_locked_only_where_there_is_a_gpu(random_crops):
    source = loader(random_crops, Batches(NaturalSampler(3), 2))
    assert source.pin_memory == torch.cuda.is_available()


def test_an_absent_crop_is_named_by_a_worker_too(root):
    table = usable_rows(faces(crop=["a.png", "gone.png", "c.png", None]))
    crops = CropDataset(table, root, size_px=16, methods=["real"])
    with pytest.raises(InputError, match=r"gone\.png cannot be read"):
        list(loader(crops, Batches(NaturalSampler(3), 3), workers=1))
