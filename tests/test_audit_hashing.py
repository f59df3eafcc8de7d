"""Perceptual hashes: close pairs against brute force, copies against different faces."""

import cv2
import numpy as np
import pandas as pd
import pytest
from audit_corpus import face
from hypothesis import given, settings
from hypothesis import strategies as st

from unmasked.datasets.audit import hashing
from unmasked.datasets.audit.duplicates import clusters, near_duplicates
from unmasked.datasets.audit.hashing import close_pairs, hash_files, hash_of, is_copy, read_small
from unmasked.datasets.manifest import MANIFEST


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_close_pairs_are_those_of_a_comparison_of_all_with_all(seed, radius):
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 2**64, 60, dtype=np.uint64)
    for copy in range(30, 60):  # near copies of the first half
        hashes[copy] = hashes[copy - 30]
        for bit in generator.choice(64, generator.integers(0, 10), replace=False):
            hashes[copy] ^= np.uint64(1) << np.uint64(bit)
    distance = np.bitwise_count(hashes[:, None] ^ hashes)
    expected = np.argwhere(np.triu(distance <= radius, k=1))
    assert close_pairs(hashes, radius).tolist() == expected.tolist()


def test_close_pairs_keep_only_what_is_asked_for_and_refuse_a_radius_they_cannot_search():
    hashes = np.zeros(4, np.uint64)
    assert close_pairs(hashes, 0, keep=lambda i, j: j == i + 1).tolist() == [[0, 1], [1, 2], [2, 3]]
    with pytest.raises(ValueError, match="radius is 8; it must lie between 0 and 7"):
        close_pairs(hashes, 8)


def test_blocks_smaller_than_a_bucket_lose_no_pair(monkeypatch):
    monkeypatch.setattr(hashing, "PAIRS_AT_ONCE", 3)
    assert len(close_pairs(np.zeros(20, np.uint64), 0)) == 190


def written(folder, name, image, *flags):
    cv2.imwrite(str(folder / name), image, list(flags))
    return folder / name


@pytest.mark.parametrize(
    ("quality", "scale"), [(95, 1.0), (75, 1.0), (60, 1.0), (90, 0.7), (90, 1.6), (75, 0.8)]
)
def test_recompressed_and_rescaled_copies_are_copies(tmp_path, quality, scale):
    generator = np.random.default_rng(0)
    for number in range(40):
        image = face(generator, 96)
        changed = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        first = read_small(written(tmp_path, f"{number}.png", image))
        second = read_small(written(tmp_path, f"{number}.jpg", changed, cv2.IMWRITE_JPEG_QUALITY, quality))
        assert is_copy(first, second)
        assert np.bitwise_count(hash_of(first) ^ hash_of(second)) <= 7


def test_different_faces_are_no_copies_even_where_their_hashes_are_close():
    generator = np.random.default_rng(0)
    small = [
        cv2.resize(face(generator), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        for _ in range(120)
    ]
    assert not any(is_copy(a, b) for i, a in enumerate(small) for b in small[:i])


def test_flat_and_dark_images_have_no_hash(tmp_path):
    generator = np.random.default_rng(0)
    ramp = np.tile(np.linspace(0, 60, 64), (64, 1)).astype(np.uint8)
    images = {
        "black": np.zeros((64, 64, 3), np.uint8),
        "dark": generator.integers(0, 4, (64, 64, 3), dtype=np.uint8),
        "ramp": cv2.merge([ramp, ramp, ramp]),
        "face": face(generator),
    }
    paths = [written(tmp_path, f"{name}.png", image) for name, image in images.items()]
    (tmp_path / "empty.png").touch()
    _, status = hash_files([*paths, tmp_path / "empty.png", tmp_path / "none.png"])
    assert status.tolist() == ["flat", "flat", "flat", "ok", "unreadable", "unreadable"]


def test_what_a_manifest_ties_together_is_no_finding_within_a_split_and_one_across(tmp_path):
    image = face(np.random.default_rng(0), 96)
    names = ["real", "fake", "stranger", "wrong", "leak"]
    for name in names:
        written(tmp_path, f"{name}.png", image)
    table = pd.DataFrame(
        {"video": names, "path": [f"{name}.png" for name in names], "label": [0, 1, 0, 1, 0]}
    )
    table["method"] = np.where(table["label"] == 1, "fake", "real")
    table["split"] = ["train"] * 4 + ["test"]
    table["target_video"] = [None, "real", None, None, None]
    table = MANIFEST.validate(table.assign(dataset="A", kind="image", root=str(tmp_path)))
    pairs = near_duplicates(table).pairs
    found = {(row.video, row.other_video): row.finding for row in pairs.itertuples()}
    assert found == {
        ("real", "stranger"): "repeat",
        ("real", "wrong"): "label",
        ("fake", "stranger"): "label",
        ("fake", "wrong"): "repeat",
        ("stranger", "wrong"): "label",
        **{(name, "leak"): "split" for name in names[:4]},
    }
    assert clusters(pairs) == 1
    assert clusters(pairs.iloc[:0]) == 0
