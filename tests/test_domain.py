"""Material unlike the calibration set: known answers, a rate that holds, and files refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

from unmasked.datasets.errors import InputError
from unmasked.evaluation.domain import (
    DETAIL,
    FLATNESS,
    Domain,
    crop_statistics,
    domain_path,
    find_domain,
    fit_domain,
    read_domain,
    thin_out,
    write_domain,
)
from unmasked.evaluation.predict import domain_of
from unmasked.inspection.finding import foreign_reasons


def grain(rng, count, size_px=32, smooth=0):
    images = rng.integers(60, 200, (count, size_px, size_px, 3))
    for _ in range(smooth):
        images = (images + np.roll(images, 1, 1) + np.roll(images, 1, 2)) // 3
    return images.astype(np.uint8)


def rows_of(count, split="val", kind="video"):
    video = [f"{split}{number}" for number in range(count)]
    return pd.DataFrame({"dataset": "A", "video": video, "kind": kind, "face": 0, "split": split})


def made(rng, reference=300, people=199, features=8, shift=0.0):
    """A domain of normal statistics and features; calibration people lie ``shift`` away."""
    rows = pd.concat([rows_of(reference, "train"), rows_of(people)], ignore_index=True)
    is_reference = (rows["split"] == "train").to_numpy()
    numbers = rng.normal(size=(len(rows), 14 + features)) + shift * ~is_reference[:, None]
    return fit_domain(rows, numbers[:, :14], numbers[:, 14:], is_reference, checkpoint="c" * 64)


def test_blur_lowers_detail_and_flat_colour_raises_flatness():
    rng = np.random.default_rng(0)
    sharp, soft = (crop_statistics(grain(rng, 4, smooth=smooth)) for smooth in (0, 3))
    assert (soft[:, DETAIL] < sharp[:, DETAIL]).all()
    flat = np.full((1, 32, 32, 3), 120, np.uint8)
    assert crop_statistics(flat)[0, FLATNESS] == pytest.approx(np.log(1.001))
    # Beyond the picture's edge a crop is black, which is no drawing.
    assert crop_statistics(np.zeros_like(flat))[0, FLATNESS] == pytest.approx(np.log(0.001))
    assert np.isfinite(crop_statistics(flat)).all()


def test_people_like_those_of_the_calibration_are_refused_at_the_stated_rate():
    """Exact under exchangeability: 1 of 100 in each measure; 40 domains x 50 people, 2,000 in each."""
    rng = np.random.default_rng(1)
    refused = dict.fromkeys(("distance", "detail", "flatness"), 0)
    for _ in range(40):
        domain = made(rng, shift=0.5)
        assert domain.rate == 0.01
        for new in rng.normal(size=(50, 22)) + 0.5:
            place = domain.place(new[None, :14], new[None, 14:])
            for name, share in place.shares.items():
                refused[name] += share <= domain.rate
    for count in refused.values():
        assert 8 <= count <= 35  # 20 are expected; 0.1 % outside, calibration sets are shared by 50


def test_few_calibration_people_allow_no_smaller_rate_than_one_in_their_number_and_one():
    domain = made(np.random.default_rng(2), people=31)
    assert domain.rate == 1 / 32
    far = domain.place(np.full((1, 14), 30.0), np.zeros((1, 8)))
    assert far.shares["distance"] == pytest.approx(1 / 32)
    assert far.distance > 2


def test_the_distance_is_to_the_nearest_reference_and_own_identities_do_not_count():
    rng = np.random.default_rng(3)
    rows = rows_of(30).assign(identity=[f"p{number // 2}" for number in range(30)])
    numbers = np.repeat(rng.normal(size=(15, 14)), 2, axis=0)  # both videos of a person are the same
    domain = fit_domain(rows, numbers, None, np.zeros(30, bool), checkpoint="c")
    assert (domain.calibration["distance"] > 0.1).all()
    # A video that is among the reference lies at 0, which none of the calibration does.
    assert domain.place(numbers[:1], None).distance == pytest.approx(0, abs=1e-5)


def test_a_stored_domain_is_read_as_it_was_and_damage_is_said(tmp_path):
    domain = made(np.random.default_rng(4))
    path = domain_path(tmp_path / "predictions.parquet")
    write_domain(domain, path)
    again = read_domain(path)
    assert (again.checkpoint, again.kinds, again.people) == ("c" * 64, ["video"], 199)
    new = np.random.default_rng(5).normal(size=(3, 22))
    one, other = (each.place(new[:, :14], new[:, 14:]) for each in (domain, again))
    assert one.shares == other.shares
    assert one.distance == pytest.approx(other.distance, rel=1e-5)
    assert find_domain([tmp_path / "absent", tmp_path], "c" * 64) == path
    assert find_domain([tmp_path], "d" * 64) is None
    with pytest.raises(InputError, match="of another detector"):
        again.place(new[:, :14], None)
    arrays = load_file(path)
    said = {"checkpoint": "c", "fitted_on": "", "kinds": "[]"}
    for name, value in (("reference", arrays["reference"][:, :3]), ("distance", arrays["distance"] * np.nan)):
        save_file({**arrays, name: value}, path, metadata=said)
        with pytest.raises(InputError, match="score the source's val videos again"):
            read_domain(path)
    path.write_bytes(b"no safetensors")
    assert find_domain([tmp_path], "c") is None
    with pytest.raises(InputError, match="no stored calibration material"):
        read_domain(path)


def test_crops_are_thinned_out_evenly_and_every_video_stays():
    rows = pd.concat([rows_of(30).assign(frame=frame) for frame in range(9)], ignore_index=True).assign(
        compression=None
    )
    thinned = thin_out(rows)
    assert thinned.groupby("video")["frame"].apply(list).map(tuple).unique().tolist() == [(0, 3, 5, 8)]


class Mean(torch.nn.Module):
    """Features are the mean of each channel."""

    def features(self, images):
        return images.mean((2, 3))

    def forward(self, images):
        return self.features(images)[:, :2]


def test_the_domain_is_of_the_source_s_val_crops_measured_against_its_train_crops(tmp_path):
    import cv2

    rng = np.random.default_rng(6)
    rows = pd.concat([rows_of(12, "train"), rows_of(12), rows_of(12, "test")], ignore_index=True)
    rows = rows.assign(
        frame=0, compression=None, status="ok", crop=[f"{number}.png" for number in range(len(rows))]
    )
    for number, image in enumerate(grain(rng, len(rows))):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    card = {"size_px": 32, "sha256": "c" * 64, "training_data": {"datasets": ["A"]}}
    domain = domain_of(Mean(), rows, tmp_path, card)
    assert (domain.people, len(domain.reference), domain.fitted_on) == (12, 12, "A, val split")
    other = domain_of(Mean(), rows, tmp_path, {**card, "training_data": {"datasets": ["B"]}})
    assert other is None
    only_val = domain_of(Mean(), rows[rows["split"] == "val"], tmp_path, card)
    assert (only_val.people, len(only_val.reference)) == (12, 12)


def at(domain: Domain, **shares):
    from unmasked.evaluation.domain import Place

    return Place(1.0, {"distance": 0.5, "detail": 0.5, "flatness": 0.5} | shares)


def test_each_measure_has_its_reason_and_another_kind_of_file_has_one_too():
    domain = made(np.random.default_rng(7))

    def codes(bits=1.0, is_video=True, **shares):
        found = foreign_reasons(at(domain, **shares), domain, is_video=is_video, bits_per_pixel=bits)
        assert all("calibration faces" in one.words or "threshold was fitted" in one.words for one in found)
        return [one.code for one in found]

    assert codes() == []
    assert codes(distance=0.01) == ["out_of_domain"]
    assert codes(distance=0.015) == []
    assert codes(flatness=0.005) == codes(flatness=0.005, bits=None) == ["drawing_or_rendering"]
    assert codes(flatness=0.005, bits=0.02) == ["heavy_compression"]
    assert codes(detail=0.005) == ["blurred"]
    assert codes(detail=0.005, bits=0.02) == ["heavy_compression"]
    assert codes(detail=0.005, bits=None) == ["blurred"]
    assert codes(is_video=False) == ["out_of_domain"]  # the threshold was fitted on videos


class Both(Mean):
    """The same, which gives both in one pass."""

    def forward_with_features(self, images):
        return self.forward(images), self.features(images)


def test_features_that_scoring_gave_are_those_of_a_pass_of_their_own(tmp_path):
    import cv2

    from unmasked.evaluation.predict import describe_crops, predict

    rows = rows_of(5).assign(frame=0, compression=None, status="ok", label=0, method="real")
    rows = rows.assign(crop=[f"{number}.png" for number in range(5)])
    for number, image in enumerate(grain(np.random.default_rng(8), 5)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    kept: list = []
    scores = predict(Both(), rows, tmp_path, size_px=32, batch_size=2, detector="a", kept=kept)["score"]
    assert scores.equals(predict(Mean(), rows, tmp_path, size_px=32, detector="a")["score"])
    _, apart = describe_crops(Mean(), rows, tmp_path, size_px=32)
    np.testing.assert_allclose(np.concatenate(kept), apart, atol=1e-6)
    given, unused = predict(Mean(), rows, tmp_path, size_px=32, detector="a", kept=(empty := [])), empty
    assert given["score"].equals(scores)
    assert unused == []
