"""Handcrafted features are those of scikit-image and OpenCV; the classifiers on them learn, and are files."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from skops import io
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.app.detectors import find, load
from unmasked.baselines import handcrafted
from unmasked.baselines.fitted_files import check_pipeline
from unmasked.baselines.handcrafted import (
    BLOCKS,
    STEPS,
    Config,
    Scorer,
    features,
    grey_image,
    vectors,
    widths,
)
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import read_crops, read_whole
from unmasked.preprocessing.faces import FACES
from unmasked.training import checkpoint

IMAGES = ("noise", "constant", "ramp", "blocks", "waves", "disc")
TOLERANCE = {"lbp": 0, "hog": 2e-7, "glcm": 1e-9, "dct": 1e-5, "colour": 0, "gradient": 1e-9}
IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
FAST = {"model": {"size_px": 64, "blocks": ["lbp", "colour"], "components": 5, "trees": 20}}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    table = FACES.validate(write_faces(root, {"train": 6, "val": 4, "test": 4}, frames=2))
    FACES.write(table, root / "faces.parquet")
    return root, table


@pytest.mark.parametrize("name", IMAGES)
def test_features_of_made_images_are_those_of_the_libraries(shared, name):
    stored = np.load(shared / "reference" / "features_reference_synthetic.npz")
    image = stored[f"image_{name}"]
    np.testing.assert_array_equal(grey_image(image), stored[f"gray128_{name}"])
    for block, values in features(image[None]).items():
        np.testing.assert_allclose(
            values[0], stored[f"{block}_{name}"], rtol=0, atol=TOLERANCE[block], err_msg=block
        )


def test_features_of_photographs_of_any_size_are_those_of_the_libraries(shared):
    stored = np.load(shared / "reference" / "features_reference_real.npz")
    keys = [key for key in stored.files if "|" in key]
    assert len(keys) == 24
    for key in keys:
        block, path = key.split("|")
        values = features(read_whole(shared / "faces" / path)[None], [block])[block][0]
        np.testing.assert_allclose(values, stored[key], rtol=0, atol=TOLERANCE[block], err_msg=key)


def test_an_image_has_the_same_features_whatever_images_are_beside_it():
    """Sobel's filter once smoothed across the images of a batch."""
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    together = vectors(images, BLOCKS)
    assert together.shape == (3, widths(BLOCKS)["gradient"].stop) == (3, 2987)
    np.testing.assert_array_equal(together, np.vstack([vectors(image[None], BLOCKS) for image in images]))


def test_twelve_cooccurrence_features_are_copies_and_no_others():
    image = np.random.default_rng(1).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)
    values = features(image, ["glcm"])["glcm"].reshape(6, 3, 4)
    np.testing.assert_array_equal(values[:, 0, [1, 3]], values[:, 1, [1, 3]])
    assert len(np.unique(values.round(12))) == 60


def test_cached_features_are_found_by_pixels_and_recipe(tmp_path, monkeypatch):
    images = np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    first = vectors(images, ["lbp", "colour"], str(tmp_path))
    assert len(list(tmp_path.rglob("*.npy"))) == 3
    monkeypatch.setattr(handcrafted, "features", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(vectors(images[::-1], ["lbp", "colour"], str(tmp_path)), first[::-1])
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        vectors(images, ["lbp"], str(tmp_path))


def test_features_of_files_lie_in_a_file_and_not_in_memory(faces, tmp_path):
    """1.1 GiB of 100,000 crops were held."""
    root, table = faces
    paths = crop_paths(table["crop"], root)
    config = Config.model_validate({"model": {"size_px": 32, "blocks": ["lbp", "colour"]}})
    with open(tmp_path / "features", "w+b") as file:
        found = handcrafted.vectors_of_files(paths, config, file)
        assert (type(found), found.flags.writeable) == (np.memmap, False)
        np.testing.assert_array_equal(found, vectors(read_crops(paths, 32), ["lbp", "colour"]))
    made = handcrafted.fit(table, root, config, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"features", made.name}


@pytest.mark.parametrize(
    "images", [np.zeros((2, 8, 8), np.uint8), np.zeros((1, 8, 8, 3)), np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_what_is_no_batch_of_images_is_refused(images):
    with pytest.raises(InputError, match="uint8 images"):
        features(images)


def test_an_svc_goes_through_the_commands_and_is_kept_with_its_calibration(faces, tmp_path):
    root, _ = faces
    (root / "recipe.json").write_text(json.dumps({"terms": "no commercial use"}))
    run = tmp_path / "run"
    options = [f"faces={root}/faces.parquet", f"out={run}", "model.classifier=svc"]
    options += ["model.size_px=64", "model.blocks=[lbp,colour]", "model.components=5", "model.trees=20"]
    done = CliRunner().invoke(app, ["train", "detector=handcrafted", *options, f"cache={tmp_path}/cache"])
    assert done.exit_code == 0, done.output
    assert list((tmp_path / "cache").rglob("*.npy"))
    card = json.loads((run / "detector.json").read_text())
    assert (card["architecture"], card["file"]) == ("handcrafted", "detector.skops")
    assert card["terms_of_crops"] == "no commercial use"
    out = tmp_path / "predictions.parquet"
    arguments = ["predict", f"checkpoint={run}", f"faces={root}/faces.parquet", f"out={out}"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    scorer, _ = load(run)
    assert scorer.calibration is not None
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    probability = torch.softmax(scorer(images), dim=1)[:, 1]
    expected = scorer.probability(scorer.features(images).numpy())
    np.testing.assert_allclose(probability, expected, atol=1e-6)


def test_a_file_that_would_run_code_is_not_read(faces, tmp_path):
    """skops lists types it does not know; ours may hold none."""
    io.dump({"blocks": ["lbp"], "model": Scorer.__new__(Scorer)}, tmp_path / "hostile.skops")
    with pytest.raises(InputError, match=r"cannot read .*Untrusted"):
        checkpoint.read_fitted(find("handcrafted"), tmp_path / "hostile.skops", {})
    io.dump({"blocks": ["lbp"], "model": [1]}, tmp_path / "other.skops")
    with pytest.raises(InputError, match="holds no classifier"):
        checkpoint.read_fitted(find("handcrafted"), tmp_path / "other.skops", {})


def test_a_tree_that_leads_outside_itself_is_not_followed():
    """A file's tree is numbers that scikit-learn follows unchecked: to any place in memory."""
    x = np.random.default_rng(0).normal(size=(40, 10))
    forest = make_pipeline(RandomForestClassifier(2, random_state=0)).fit(x, x[:, 3] > 0)
    check_pipeline(forest, STEPS, 10)
    with pytest.raises(InputError, match="is of 10 features, and not 9"):
        check_pipeline(forest, STEPS, 9)
    forest[-1].estimators_[1].tree_.children_left[0] = 10**6
    with pytest.raises(InputError, match="damaged"):
        check_pipeline(forest, STEPS, 10)


def test_an_svc_of_a_million_crops_is_refused_before_any_feature_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(handcrafted, "vectors_of_files", lambda *_: pytest.fail("computed"))
    table = pd.DataFrame({"label": np.arange(10**6) % 2, "crop": "crop.png"})
    config = Config.model_validate({"model": {"classifier": "svc", "max_crops": 10**6}})
    with pytest.raises(InputError, match=r"SVC of 1000000 crops would take about 1155 hours; give a lower"):
        handcrafted.fit(table, tmp_path, config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_capped_is_spread_over_videos_and_said(faces, caplog):
    _, table = faces
    kept = handcrafted._spread(table, table["video"].nunique())
    assert kept["video"].nunique() == table["video"].nunique()
    assert "model.max_crops" in caplog.text


def test_features_of_a_frozen_network_are_a_block_and_go_with_the_file(faces, tmp_path):
    """They are timm's own of the same weights, before and after the file."""
    root, table = faces
    trunk = timm.create_model("mobilenetv3_small_050", num_classes=0).eval()
    torch.save(trunk.state_dict(), tmp_path / "weights.pth")
    # Our own detectors' files are read as well; the second is another one's trunk.
    second = timm.create_model("mobilenetv3_small_050", num_classes=0).eval()
    own = {f"trunk.{name}": value for name, value in second.state_dict().items()}
    torch.save({**own, "head.1.bias": torch.ones(2)}, tmp_path / "own.pth")
    settings = {"blocks": ["lbp", "network"], "backbones": ["mobilenetv3_small_050"] * 2, "size_px": 64}
    files = [str(tmp_path / name) for name in ("weights.pth", "own.pth")]
    settings |= {"classifier": "forest", "trees": 5, "weights": files}
    config = Config.model_validate({"model": settings})
    scorer = handcrafted.read(handcrafted.fit(table, root, config, tmp_path), {})
    assert scorer.blocks == {"lbp": slice(0, 10), "network": slice(10, 2058)}
    images = torch.rand(2, 3, 224, 224).mul(255).round()
    whitened = (images / 255 - IMAGENET[0]) / IMAGENET[1]
    with torch.no_grad():
        expected = torch.hstack([trunk(whitened), second(whitened)])
    given = scorer.features(images / 127.5 - 1)[:, 10:]
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-3)
    stored = io.load(tmp_path / "handcrafted.skops", trusted=handcrafted.TRUSTED)
    stored["network"][1]["weights"].popitem()
    with pytest.raises(InputError, match="its network is not whole"):
        Scorer(stored)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"blocks": ["network"]}, "0 model.backbones and 0 model.weights were given; give a file for each"),
        ({"blocks": ["network"], "backbones": ["resnet18"]}, "1 model.backbones and 0 model.weights"),
        ({"backbones": ["resnet18"]}, "are of the block network; add it"),
    ],
)
def test_a_block_without_its_network_and_a_network_without_its_block_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        handcrafted.check(pd.DataFrame(), Config.model_validate({"model": settings}))


def test_people_are_not_in_two_folds_and_too_few_are_refused():
    label = np.repeat([0, 1, 0, 1, 0, 1, 0, 1], 4)
    people = np.repeat(np.arange(8), 4)
    folds = handcrafted._folds(label, people, 0)
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(32))
    assert all(not set(people[one]) & set(people[other]) for one, other in folds)
    with pytest.raises(
        InputError, match=r"too few people for that: \d+ with real crops and \d+ with fake ones"
    ):
        handcrafted._folds(label[:8], people[:8], 0)
