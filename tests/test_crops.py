"""Only crops below the folder of a faces table are opened, by whatever name and command."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from preprocessing_fakes import SquareDetector, manifest_of, square_frame
from train_fakes import Network
from ucf_fakes import write_faces

from unmasked.datasets.audit.duplicates import near_duplicates
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import CropDataset
from unmasked.evaluation.perturbing.registry import settings_of
from unmasked.evaluation.perturbing.units import Perturbed
from unmasked.evaluation.perturbing.work import plan_units
from unmasked.evaluation.predict import predict
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.run import preprocess

OUTSIDE = "lies outside .*, the folder of its faces table, and only crops below it are read"


@pytest.fixture
def root(tmp_path):
    """A folder of crops; beside it a picture that is nobody's business."""
    (tmp_path / "table" / "crops").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "table" / "crops"):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(place / "a.png")
    return tmp_path / "table"


def test_crops_below_the_table_are_found_in_the_order_asked(root):
    names = ["crops/a.png", "crops/absent.png", "crops/../crops/a.png", "crops/a.png"]
    assert crop_paths(names, root) == [root / name for name in names]
    assert crop_paths([], root) == []


@pytest.mark.parametrize(
    "crop", ["/etc/passwd", "../a.png", "crops/../../a.png", "../../../../../../dev/zero", "../table2/a.png"]
)
def test_an_absolute_path_and_one_with_dots_are_refused(crop, root):
    with pytest.raises(InputError, match=OUTSIDE):
        crop_paths(["crops/a.png", crop], root)


def test_a_link_that_leads_out_is_refused_and_one_that_stays_is_not(root):
    (root / "crops/out.png").symlink_to(root.parent / "a.png")
    (root / "crops/in.png").symlink_to("a.png")
    (root / "folder").symlink_to(root.parent)
    assert crop_paths(["crops/in.png"], root) == [root / "crops/in.png"]
    for crop in ("crops/out.png", "folder/a.png"):
        with pytest.raises(InputError, match=OUTSIDE):
            crop_paths([crop], root)


def test_a_table_that_is_reached_by_a_link_or_from_within_its_folder_works(root, monkeypatch):
    (root.parent / "link").symlink_to(root)
    assert len(crop_paths(["crops/a.png"], root.parent / "link")) == 1
    monkeypatch.chdir(root)
    assert len(crop_paths(["crops/a.png"], "")) == len(crop_paths(["crops/a.png"], ".")) == 1


def test_a_name_that_no_file_has_is_a_sentence(root):
    with pytest.raises(InputError, match="cannot be read"):
        crop_paths(["a\0b/c.png"], root)
    assert len(crop_paths(["a\0b.png", "n" * 3000], root)) == 2  # whoever opens it says so


def test_a_part_whose_crop_leads_elsewhere_is_made_again(tmp_path):
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", square_frame(0))[1].tobytes())
    config = PreprocessConfig(frames_per_video=1, size_px=64, workers=1)
    manifest, out = manifest_of(tmp_path, ["a.png"], kind="image"), tmp_path / "out"
    whole = preprocess(manifest, out, config, detector=SquareDetector)
    (part,) = out.glob("parts/*/*.json")
    edited = json.loads(part.read_text())
    edited["rows"][0]["crop"] = f"../{edited['rows'][0]['crop']}"
    part.write_text(json.dumps(edited))
    again = preprocess(manifest, out, config, detector=SquareDetector)
    assert again["crop"].tolist() == whole["crop"].tolist()


@given(st.lists(st.sampled_from(["..", ".", "crops", "x", "", "/", "a.png"]), min_size=1, max_size=7))
def test_what_passes_lies_below(parts):
    crop = "/".join(parts)
    try:
        (path,) = crop_paths([crop], "/nowhere/table")
    except InputError:
        return
    assert os.path.realpath(path.parent).startswith("/nowhere/table")


@pytest.mark.parametrize("verb", ["train", "predict", "perturbed", "audit"])
def test_no_command_opens_a_crop_elsewhere(verb, root):
    faces = FACES.validate(write_faces(root, {"train": 3}, frames=1))
    faces.loc[0, "crop"] = "../a.png"
    work = {
        "train": lambda: CropDataset(faces, root, size_px=32, methods=["real"], cache_mb=9),
        "predict": lambda: predict(Network(), faces, root, size_px=32, detector="x"),
        "perturbed": lambda: plan_units(faces, root, Perturbed(settings_of(["jpeg"], [1]), 0), 32),
        "audit": lambda: near_duplicates(
            faces.drop_duplicates("video").assign(root=str(root), path="v"), faces=[(faces, root)]
        ),
    }
    with pytest.raises(InputError, match=OUTSIDE):
        work[verb]()
