"""Perturbed crops are those of the files that crops were cut from, scored in a fixed order."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from preprocessing_fakes import SquareDetector, manifest_of, square_frame, write_video

from unmasked.app.verbs.predict import Config, perturbations_to_score
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import read_whole, usable_rows
from unmasked.datasets.manifest import MANIFEST
from unmasked.evaluation.perturbing import frames as frame_changes
from unmasked.evaluation.perturbing import registry
from unmasked.evaluation.perturbing.registry import Perturbation, Setting, settings_of
from unmasked.evaluation.perturbing.units import Made, Perturbed, Unit
from unmasked.evaluation.perturbing.work import batches, plan_units
from unmasked.evaluation.predict import predict
from unmasked.evaluation.predictions import validate_predictions
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.extract import Task, extract
from unmasked.preprocessing.faces import FACES

SIZE_PX = 48


def textured(index):
    """The moving square, with a shade that differs from frame to frame and place to place."""
    image = square_frame(index)
    shade = np.random.default_rng(index).integers(0, 40, image.shape, dtype=np.uint8)
    return np.where(image == 255, image - shade, image + shade)


def cropped(manifest, out, **options):
    """The faces table of a manifest, made in this process, with its crops."""
    config = PreprocessConfig(frames_per_video=4, size_px=SIZE_PX, **options)
    rows = []
    for number, row in enumerate(manifest.to_dict("records")):
        task = Task(row["root"], row["path"], row["kind"], f"crops/{number}", "")
        found, crops = extract(task, config, SquareDetector())
        folder = out / "crops" / str(number)
        folder.mkdir(parents=True)
        for name, encoded in crops.items():
            (folder / name).write_bytes(encoded)
        kept = {name: value for name, value in row.items() if name not in ("path", "root", "mask")}
        rows += [{**kept, **measured} for measured in found]
    return FACES.validate(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """Two videos, an image and a sequence; their manifest and faces table, and the folder of both."""
    root = tmp_path_factory.mktemp("studio")
    write_video(root / "a.mp4", 9, draw=textured)
    write_video(root / "b.mp4", 7, draw=lambda index: textured(index + 20))
    cv2.imwrite(str(root / "c.png"), textured(3)[..., ::-1])
    (root / "d").mkdir()
    for index in range(3):
        cv2.imwrite(str(root / "d" / f"{index}.png"), textured(index)[..., ::-1])
    parts = [
        manifest_of(root, ["a.mp4", "b.mp4"], label=[0, 1], method=["real", "Swap"]),
        manifest_of(root, ["c.png"], kind="image"),
        manifest_of(root, ["d"], kind="sequence"),
    ]
    manifest = MANIFEST.validate(pd.concat(parts, ignore_index=True))
    return manifest, cropped(manifest, root), root


@pytest.fixture
def identity(monkeypatch):
    """A perturbation that changes nothing."""
    kind = Perturbation("identity", lambda image, setting, rng: image, (0, 0, 0, 0, 0), "{}")
    monkeypatch.setitem(registry.PERTURBATIONS, "identity", kind)
    return Setting("identity", 1, "frame")


def mean_and_corner(images):
    """Logits that depend on all pixels, and on some more than on others."""
    weights = torch.linspace(0, 4, images.shape[3])
    value = (images * weights).mean((1, 2, 3))
    return torch.stack([-value, value], 1)


def scored(faces, root, settings=(), batch_size=4, **options):
    plan = Perturbed(settings, **options) if settings else None
    return predict(
        mean_and_corner,
        faces,
        root,
        size_px=SIZE_PX,
        batch_size=batch_size,
        detector="weighted mean",
        perturbed=plan,
    )


def made_by_row(faces, root, plan, size_px=SIZE_PX):
    units = plan_units(usable_rows(faces), root, plan, size_px)
    return {(made.row, made.setting): made.image for unit in units for made in unit.make()}


def test_an_untouched_frame_gives_the_stored_crop_exactly(studio, identity):
    manifest, faces, root = studio
    found = made_by_row(faces, root, Perturbed([identity], manifest=manifest))
    crops = usable_rows(faces)["crop"]
    assert len(found) == len(crops) == 12
    for row, crop in enumerate(crops):
        assert (found[row, 0] == read_whole(root / crop)).all()


def test_an_untouched_frame_goes_through_the_jpeg_of_the_stored_crop(studio, identity, tmp_path):
    manifest, _, _ = studio
    faces = cropped(manifest, tmp_path, crop_format="jpeg", jpeg_quality=70)
    found = made_by_row(faces, tmp_path, Perturbed([identity], manifest=manifest))
    for row, crop in enumerate(usable_rows(faces)["crop"]):
        assert abs(found[row, 0].astype(int) - read_whole(tmp_path / crop)).max() <= 2


def test_a_perturbed_frame_is_changed_before_the_crop_is_cut(studio):
    manifest, faces, root = studio
    (setting,) = settings_of(["block_dropout@frame"], [5])
    found = made_by_row(faces, root, Perturbed([setting], manifest=manifest))
    again = made_by_row(faces, root, Perturbed([setting], manifest=manifest))
    other = made_by_row(faces, root, Perturbed([setting], seed=1, manifest=manifest))
    assert all((found[key] == again[key]).all() for key in found)
    assert any((found[key] != other[key]).any() for key in found)
    row = usable_rows(faces).iloc[0]
    frame = np.zeros((96, 96, 3), np.uint8) + 200
    matrix = np.array([row[f"m{line}{column}"] for line in range(2) for column in range(3)]).reshape(2, 3)
    dropped = setting.apply(frame, 0, row["dataset"], row["video"], row["frame"])
    expected = cv2.warpAffine(dropped, matrix, (SIZE_PX, SIZE_PX)) == 0
    black = found[0, 0].max(axis=2) == 0
    assert expected.any()
    assert (black[1:-1, 1:-1] == expected.all(axis=2)[1:-1, 1:-1]).mean() > 0.97


def test_reencoded_crops_look_like_the_stored_ones_and_worse_with_severity(studio):
    manifest, faces, root = studio
    videos = faces[faces["kind"] == "video"]
    settings = settings_of(["h264"], [1, 3, 5])
    found = made_by_row(videos, root, Perturbed(settings, manifest=manifest))
    crops = [read_whole(root / crop).astype(float) for crop in usable_rows(videos)["crop"]]
    errors = [
        np.mean([(found[row, number] - crop) ** 2 for row, crop in enumerate(crops)])
        for number in range(len(settings))
    ]
    assert len(found) == len(crops) * len(settings)
    assert errors == sorted(errors)
    assert errors[0] < 150 < errors[2]


def test_crops_of_another_size_are_perturbed_as_they_are_stored(studio):
    _, faces, root = studio
    settings = settings_of(["jpeg"], [5])
    found = made_by_row(faces, root, Perturbed(settings), size_px=24)
    row = usable_rows(faces).iloc[2]
    image = settings[0].apply(
        read_whole(root / row["crop"]), 0, row["dataset"], row["video"], row["frame"], row["face"]
    )
    assert (found[2, 0] == cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA)).all()


def test_clean_rows_are_those_of_a_plain_prediction_and_perturbed_ones_follow(studio):
    manifest, faces, root = studio
    plain = scored(faces, root)
    settings = settings_of(["jpeg", "gaussian_noise@frame"], [1, 4])
    both = scored(faces, root, settings, manifest=manifest)
    pd.testing.assert_frame_equal(both.iloc[: len(plain)], plain)
    moved = both.iloc[len(plain) :]
    conditions = moved[["perturbation", "severity"]].drop_duplicates()
    assert list(conditions.itertuples(index=False, name=None)) == [
        ("jpeg", 1),
        ("jpeg", 4),
        ("gaussian_noise@frame", 1),
        ("gaussian_noise@frame", 4),
    ]
    for _, rows in moved.groupby(["perturbation", "severity"]):
        assert rows["video"].tolist() == plain["video"].tolist()
        assert rows["frame"].tolist() == plain["frame"].tolist()
        assert (rows["score"].to_numpy() != plain["score"].to_numpy()).any()
    validate_predictions(both)


def test_scores_do_not_depend_on_the_batch_nor_on_what_else_is_asked(studio):
    manifest, faces, root = studio
    settings = settings_of(["gaussian_noise", "block_dropout@frame"], [3])
    small = scored(faces, root, settings, batch_size=1, manifest=manifest)
    large = scored(faces, root, settings, batch_size=64, manifest=manifest)
    alone = scored(faces[faces["video"] == "b"], root, settings[:1])
    assert small["score"].to_numpy() == pytest.approx(large["score"].to_numpy(), abs=1e-6)
    of_b = small[(small["video"] == "b") & (small["perturbation"] == "gaussian_noise")]
    assert of_b["score"].tolist() == pytest.approx(alone["score"].tolist()[-len(of_b) :], abs=1e-6)


def test_images_and_sequences_have_no_h264_and_it_is_said(studio, caplog):
    manifest, faces, root = studio
    rows = scored(faces, root, settings_of(["h264"], [2]), manifest=manifest)
    assert set(rows.loc[rows["perturbation"] == "h264", "video"]) == {"a", "b"}
    assert "4 crops of images and sequences are left out" in caplog.text
    stills = faces[faces["kind"] != "video"]
    with pytest.raises(InputError, match="h264 re-encodes videos"):
        scored(stills, root, settings_of(["h264"]), manifest=manifest)


def test_a_few_crops_of_each_video_may_be_enough(studio):
    _, faces, root = studio
    rows = scored(faces, root, settings_of(["jpeg"], [1]), per_video=2)
    moved = rows[rows["perturbation"] == "jpeg"]
    assert moved.groupby("video")["frame"].apply(list).to_dict() == {
        "a": [0, 8],
        "b": [0, 6],
        "c": [0],
        "d": [0, 2],
    }


def test_a_long_video_is_decoded_again_rather_than_held_in_memory(studio, monkeypatch):
    manifest, faces, root = studio
    settings = settings_of(["jpeg@frame", "contrast@frame"], [1, 2, 3])
    whole = plan_units(usable_rows(faces), root, Perturbed(settings, manifest=manifest), SIZE_PX)
    monkeypatch.setattr(frame_changes, "UNIT_BYTES", 2 * 4 * SIZE_PX**2 * 3)
    parts = plan_units(usable_rows(faces), root, Perturbed(settings, manifest=manifest), SIZE_PX)
    assert [unit.count for unit in whole[:2]] == [24, 24]
    assert [unit.count for unit in parts[:3]] == [8, 8, 8]
    for one, other in zip(batches(whole[:1], 99), batches(parts[:3], 99), strict=True):
        order = np.lexsort(one[:2]), np.lexsort(other[:2])
        assert (one[2][order[0]] == other[2][order[1]]).all()


def test_a_video_that_is_gone_is_named_before_anything_is_scored(studio, tmp_path):
    manifest, faces, root = studio
    moved = manifest.assign(root=manifest["root"].where(manifest["video"] != "b", str(tmp_path)))
    with pytest.raises(InputError, match=rf"1 of 4 files .* are gone \(first: {tmp_path}/b.mp4\)"):
        plan_units(
            usable_rows(faces), root, Perturbed(settings_of(["h264", "jpeg@frame"]), manifest=moved), SIZE_PX
        )


def test_another_manifest_is_refused(studio):
    manifest, faces, root = studio
    with pytest.raises(InputError, match=r"1 of 4 videos .* are not in the manifest \(first: squares b\)"):
        scored(faces, root, settings_of(["jpeg@frame"]), manifest=manifest[manifest["video"] != "b"])
    with pytest.raises(InputError, match="give the manifest that it was made from"):
        scored(faces, root, settings_of(["jpeg@frame"]))


def test_crops_made_elsewhere_have_no_frame_to_perturb(studio):
    manifest, faces, root = studio
    lacking = faces.assign(m00=np.nan)
    with pytest.raises(InputError, match="has crops without one"):
        scored(lacking, root, settings_of(["jpeg@frame"]), manifest=manifest)
    assert len(scored(lacking, root, settings_of(["jpeg"], [1]))) == 24


def test_a_video_that_has_become_another_one_is_refused(studio, tmp_path):
    manifest, faces, root = studio
    write_video(tmp_path / "a.mp4", 3)
    changed = manifest.assign(root=manifest["root"].where(manifest["video"] != "a", str(tmp_path)))
    for names in (["jpeg@frame"], ["h264"]):
        with pytest.raises(InputError, match=r"a\.mp4 is not what its crops were cut from"):
            scored(faces, root, settings_of(names, [1]), manifest=changed)


def test_threads_stay_only_so_far_ahead_of_the_scoring():
    finished, lock = [], threading.Lock()

    def unit(number):
        def make():
            with lock:
                finished.append(number)
            return [Made(number, 0, np.zeros((2, 2, 3), np.uint8))]

        return Unit(1, make)

    most = 0
    for count, (rows, _, _) in enumerate(batches([unit(number) for number in range(100)], 8)):
        assert rows.tolist() == list(range(8 * count, min(8 * count + 8, 100)))
        time.sleep(0.005)
        most = max(most, len(finished) - (rows[-1] + 1))
    assert most <= 8
    assert len(finished) == 100


def test_an_error_in_a_thread_reaches_the_caller():
    def fail():
        raise InputError("no such crop")

    with pytest.raises(InputError, match="no such crop"):
        list(batches([Unit(1, fail)] * 50, 8))


def test_the_command_takes_names_files_and_severities(tmp_path):
    def asked(**options):
        return perturbations_to_score(Config(checkpoint=Path("x"), **options))

    assert asked() is None
    labels = [(found.label, found.severity) for found in asked(perturbations="published").settings]
    assert labels == [("jpeg", 3), ("gaussian_blur", 1), ("gaussian_noise", 2)]
    assert asked(perturbations=["jpeg"], severities=[1, 5], perturbed_per_video=3).per_video == 3
    with pytest.raises(InputError, match=r"that the manifest names, and table .*absent.parquet"):
        asked(perturbations=["h264"], manifest=tmp_path / "absent.parquet")


def test_standard_is_every_perturbation_at_every_severity(studio, tmp_path):
    MANIFEST.write(studio[0], tmp_path / "manifest.parquet")
    found = perturbations_to_score(
        Config(checkpoint=Path("x"), perturbations="standard", manifest=tmp_path / "manifest.parquet")
    )
    assert len(found.settings) == 45
    assert {setting.name for setting in found.settings} == set(registry.PERTURBATIONS)
    assert found.manifest is not None
