from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import ProjectorConfig
from torch import nn

from unmasked.analysis.explain import checks
from unmasked.analysis.explain.config import ExplainConfig
from unmasked.analysis.explain.explain import explain, log_explanation
from unmasked.analysis.explain.explanation import (
    MethodMaps,
    averaged_lines,
    inside_table,
    read_explanation,
    write_explanation,
)
from unmasked.analysis.reports.gallery import Gallery
from unmasked.analysis.reports.run.results_part import explanations_part
from unmasked.datasets.errors import InputError

SIZE = 32


class Detector(nn.Module):
    """Takes bright pictures for fakes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.Tanh())

    def features(self, images):
        return torch.cat([images.mean(dim=(2, 3)), self.block(images).mean(dim=(2, 3))], dim=1)

    def forward(self, images):
        level = 4 * images.mean(dim=(1, 2, 3), keepdim=True)[:, :, 0, 0] + 0.1 * self.block(images).mean()
        return torch.cat([-level, level], dim=1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Reals are dark and fakes are bright: two datasets, three videos a method, four crops a video."""
    root = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    rows = []
    for dataset, methods in (("B", ("real", "Swap", "Puppet")), ("A", ("real", "Mask"))):
        for method in methods:
            for video in range(3):
                for frame in range(4):
                    level = 40 if method == "real" else 200
                    crop = f"{dataset}-{method}-{video}-{frame}.png"
                    pixels = rng.integers(level - 40, level + 40, (48, 48, 3))
                    cv2.imwrite(str(root / crop), pixels.astype(np.uint8))
                    rows.append((dataset, f"{method}/{video}", frame, method, crop, "test", "ok"))
    columns = ["dataset", "video", "frame", "method", "crop", "split", "status"]
    faces = pd.DataFrame(rows, columns=columns).assign(face=0)
    faces["label"] = (faces["method"] != "real").astype(int)
    failed = faces.iloc[[0]].assign(frame=99, crop=None, status="no_face")
    trained_on = faces.iloc[[0]].assign(video="seen", split="train")
    return pd.concat([faces, failed, trained_on], ignore_index=True), root


def explained(corpus, **settings):
    faces, root = corpus
    model = Detector()
    given = {name: settings.pop(name) for name in ("masks", "new") if name in settings}
    config = ExplainConfig(**{"pictures": 2, "methods": (), **settings})
    return explain(
        model, faces, root, layer=model.block, features=model.features, size_px=SIZE, config=config, **given
    )


@pytest.fixture(scope="module")
def explanation(corpus):
    return explained(corpus)


def test_pictures_are_of_every_method_one_a_video(explanation):
    pictured = explanation.pictured
    assert (pictured.groupby(["dataset", "method"]).size() == 2).all()
    assert pictured.groupby(["dataset", "method"]).ngroups == 5
    assert not pictured.duplicated(["dataset", "video"]).any()
    assert explanation.pictures.shape == explanation.overlays.shape == (10, SIZE, SIZE, 3)
    assert set(pictured["split"]) == {"test"}


def test_pictures_are_the_crops_of_their_rows(explanation, corpus):
    for at, row in explanation.pictured.iterrows():
        pixels = cv2.cvtColor(cv2.imread(str(corpus[1] / row["crop"])), cv2.COLOR_BGR2RGB)
        expected = cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        assert np.abs(explanation.pictures[at].astype(int) - expected).max() <= 1


def test_scores_are_the_detectors(explanation):
    assert (explanation.pictured["score"] > 0.5).tolist() == (explanation.pictured["label"] == 1).tolist()
    assert (explanation.embedded["score"] > 0.5).tolist() == (explanation.embedded["label"] == 1).tolist()


def test_embedding_has_every_usable_crop_and_its_features(explanation):
    assert len(explanation.embedded) == 60
    assert explanation.features.shape == (60, 11)
    assert explanation.sprites.shape == (60, 64, 64, 3)
    assert explanation.summary["purity"]["real or fake"]["features"] == 1.0
    assert explanation.summary["purity"]["real or fake"]["chance"] < 0.6
    assert explanation.summary["layer"] == "block"
    assert explanation.summary["split"] == "test"


def test_too_many_crops_are_thinned_evenly(corpus):
    embedded = explained(corpus, points=20, crops_per_video=2).embedded
    assert (embedded.groupby(["dataset", "method"]).size() == 4).all()
    assert embedded.groupby(["dataset", "video"]).size().max() <= 2


def test_same_seed_same_choice(corpus, explanation):
    again, other = explained(corpus), explained(corpus, seed=1)
    assert again.pictured["crop"].tolist() == explanation.pictured["crop"].tolist()
    np.testing.assert_array_equal(again.embedded["x"], explanation.embedded["x"])
    assert other.pictured["crop"].tolist() != explanation.pictured["crop"].tolist()


def test_rows_of_the_grid_put_the_named_dataset_and_its_reals_first(explanation):
    names = [row.name for row in explanation.cam_rows(["B"])]
    assert names == ["B\nreal", "B\nPuppet", "B\nSwap", "A\nreal", "A\nMask"]


def test_explanation_is_written_and_read_back(explanation, tmp_path):
    folder = write_explanation(explanation, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "cam.png",
        "cams.npz",
        "embedding.parquet",
        "explain.json",
        "pictured.parquet",
        "tsne.png",
        "tsne_dataset.pdf",
        "tsne_dataset.svg",
        "tsne_method.pdf",
        "tsne_method.svg",
        "tsne_real-and-fake.pdf",
        "tsne_real-and-fake.svg",
    ]
    read = read_explanation(tmp_path)
    np.testing.assert_array_equal(read.overlays, explanation.overlays)
    np.testing.assert_allclose(read.maps, explanation.maps, atol=1 / 255)
    np.testing.assert_array_equal(read.embedded[["x", "y"]], explanation.embedded[["x", "y"]])
    assert read.summary == explanation.summary
    assert [row.name for row in read.cam_rows()] == [row.name for row in explanation.cam_rows()]


def test_folder_without_an_explanation_has_none(tmp_path):
    assert read_explanation(tmp_path) is None


def test_damaged_explanation_is_named(explanation, tmp_path):
    folder = write_explanation(explanation, tmp_path)
    (folder / "cams.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(InputError, match="is damaged"):
        read_explanation(tmp_path)


def test_tensorboard_gets_pictures_and_projector(explanation, tmp_path):
    log_explanation(explanation, tmp_path)
    (metadata,) = tmp_path.rglob("metadata.tsv")
    lines = metadata.read_text().splitlines()
    assert len(lines) == 61
    columns = lines[0].split("\t")
    assert columns[:3] == ["method", "label", "dataset"]
    assert "score" in columns
    assert "x" not in columns
    assert {line.split("\t")[1] for line in lines[1:]} == {"real", "fake"}
    states = json.loads((metadata.parent / "bookmarks.json").read_text())
    assert [one["selectedColorOptionName"] for one in states] == ["method", "label", "dataset"]
    assert states[0]["dataSetDimensions"] == [60, 11]
    config = ProjectorConfig()
    text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), config)
    assert (tmp_path / config.embeddings[0].bookmarks_path).samefile(metadata.parent / "bookmarks.json")
    assert config.embeddings[0].sprite.image_path
    assert list(tmp_path.rglob("sprite.png"))
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_tensorboard_shows_maps_that_passed_instead_of_grey_ones(explanation, tmp_path):
    """54 grey pictures stood there, and nothing said why."""
    tested = explanation.pictures[:2]
    failed = MethodMaps("Grad-CAM", tested, {"method": "grad_cam", "is_failed": True, "failed": ["blank"]})
    passed = MethodMaps("Occlusion", 255 - tested, {"method": "occlusion", "is_failed": False, "failed": []})
    features = {"embedded": explanation.embedded.iloc[:0], "tested": tested}
    log_explanation(replace(explanation, methods=(passed, failed), **features), tmp_path)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    assert events.Tags()["images"] == ["what_it_looks_at/Occlusion/1", "what_it_looks_at/Occlusion/2"]


def test_without_a_test_split_all_crops_are_used(corpus):
    faces, root = corpus
    explanation = explained((faces.assign(split="train"), root))
    assert explanation.summary["split"] == "all"
    assert len(explanation.embedded) == 61


def test_no_usable_crop_is_a_clear_error(corpus):
    faces, root = corpus
    with pytest.raises(InputError, match="no crop with status ok"):
        explained((faces.assign(status="no_face"), root))


def test_missing_crop_is_named(corpus):
    faces, root = corpus
    with pytest.raises(InputError, match=r"\.png cannot be read"):
        explained((faces, root / "elsewhere"))


def test_a_detector_without_gradients_is_explained_by_saying_what_is_left_out(corpus, tmp_path):
    faces, root = corpus

    def score(images):
        level = images.mean((1, 2, 3))
        return torch.stack([-level, level], 1)

    config = ExplainConfig(methods=())
    found = explain(score, faces, root, layer=None, features=None, size_px=SIZE, config=config)
    assert set(found.summary["skipped"]) == {"Grad-CAM", "t-SNE"}
    assert (len(found.pictured), len(found.embedded)) == (0, 0)
    folder = write_explanation(found, tmp_path)
    log_explanation(found, tmp_path / "tensorboard")
    assert sorted(path.name for path in folder.glob("*.png")) == []
    assert read_explanation(tmp_path).summary["skipped"] == found.summary["skipped"]


def test_features_alone_give_a_tsne_and_no_maps(corpus, tmp_path):
    faces, root = corpus
    model = Detector()
    config = ExplainConfig(methods=())
    found = explain(model, faces, root, layer=None, features=model.features, size_px=SIZE, config=config)
    assert list(found.summary["skipped"]) == ["Grad-CAM"]
    assert len(found.embedded) > 0
    assert [path.name for path in write_explanation(found, tmp_path).glob("*.png")] == ["tsne.png"]


def test_too_few_crops_for_a_tsne_leave_the_maps_that_are_made(corpus, tmp_path):
    """Finished Grad-CAM pictures were lost, since t-SNE needs 8 points."""
    faces, root = corpus
    (tmp_path / "explain").mkdir()
    (tmp_path / "explain" / "tsne.png").write_bytes(b"of an earlier run")
    found = explained((faces[faces["video"].isin(["real/0", "Mask/0"])].iloc[:5], root))
    assert "at least 8 crops" in found.summary["skipped"]["t-SNE"]
    assert len(found.pictured) > 0
    folder = write_explanation(found, tmp_path)
    log_explanation(found, tmp_path / "tensorboard")
    assert [path.name for path in folder.glob("*.png")] == ["cam.png"]
    assert len(read_explanation(tmp_path).pictured) == len(found.pictured)


def test_splits_say_which_crops_are_shown(corpus):
    faces, root = corpus
    found = explained((faces, root), splits=("train",))
    assert set(found.pictured["split"]) == {"train"}
    assert found.summary["split"] == "train"
    with pytest.raises(
        InputError, match=r"splits val have no crop in the faces table; it has test 60, train 1"
    ):
        explained((faces, root), splits=("val",))


def test_crops_whose_label_nobody_knows_are_shown_as_a_kind(corpus, tmp_path):
    faces, root = corpus
    unknown = faces.assign(label=float("nan"), method=None)
    found = explained((unknown, root))
    assert set(found.pictured["method"]) == {"unlabelled"}
    assert [path.name for path in sorted(write_explanation(found, tmp_path).glob("*.png"))] == [
        "cam.png",
        "tsne.png",
    ]


def test_further_methods_are_tested_kept_and_read_back(corpus, tmp_path):
    found = explained(corpus, methods=["occlusion", "saliency"], tested=4, points=8)
    assert {one.facts["method"] for one in found.methods} == {"occlusion", "saliency"}
    assert found.tested.shape == (4, SIZE, SIZE, 3)
    write_explanation(found, tmp_path)
    assert (tmp_path / "explain/methods.png").is_file()
    again = read_explanation(tmp_path)
    for before, after in zip(found.methods, again.methods, strict=True):
        assert np.array_equal(before.overlays, after.overlays)
        assert after.facts["failed"] == before.facts["failed"]
        assert after.facts["pictures"] == 4
    write_explanation(explained(corpus, points=8), tmp_path)
    assert not (tmp_path / "explain/methods.png").exists()


def test_a_method_that_fails_its_tests_is_drawn_in_grey(corpus):
    """Brightness everywhere is what this detector goes by: no place of it matters more."""
    found = explained(corpus, methods=["saliency"], tested=4, points=8).methods[0]
    assert found.facts["failed"]
    assert (found.overlays[..., :1] == found.overlays).all()


def test_a_misspelled_method_is_refused_with_the_nearest(corpus):
    with pytest.raises(InputError, match="is 'saliency' meant"):
        explained(corpus, methods=["salency"])


def test_grad_cam_that_fails_is_grey_everywhere_and_another_method_is_tried(corpus, tmp_path):
    """The report showed Grad-CAM first although its own tests said that it says nothing."""
    found = explained(corpus, methods=("auto",), tested=4, points=8)
    tried = [one.facts["method"] for one in found.methods]
    assert set(tried) >= {"grad_cam", "integrated_gradients"}
    assert found.cam_doubt()
    assert (found.overlays[..., :1] == found.overlays).all()
    failed = [one.facts["is_failed"] for one in found.methods]
    assert failed == sorted(failed)
    write_explanation(found, tmp_path)
    run = SimpleNamespace(left_out={}, datasets=(), explanation=read_explanation(tmp_path), is_ours=True)
    page = " ".join(explanations_part(run, Gallery()).split())
    assert "The pictures are not drawn. Grad-CAM: failed, so not shown:" in page
    assert page.index("trusted") < page.index("Grad-CAM, kind by kind")
    assert explained(corpus, points=8).cam_doubt() == "not put to the tests"


def test_shares_inside_the_mask_are_told_of_fakes_whose_mask_is_known(corpus):
    """A mask that is half of every picture holds half of what a map of brightness marks."""

    def masks(rows):
        found = np.zeros((len(rows), SIZE, SIZE), bool)
        found[rows["label"].to_numpy() == 1, :, : SIZE // 2] = True
        return found

    facts = explained(corpus, methods=["saliency"], tested=5, points=8, masks=masks).methods[0].facts
    assert facts["inside"]["pictures"] == 3
    assert facts["inside"]["chance"] == 0.5
    assert facts["inside"]["shares"]["mass"]["value"] == pytest.approx(0.5, abs=0.1)
    assert inside_table([facts])["fakes"].tolist() == ["3"]
    without = explained(corpus, methods=["saliency"], tested=5, points=8).methods[0].facts
    assert without["inside"] is None
    assert inside_table([without]).empty


def test_new_files_are_placed_into_the_map_of_the_others(corpus, tmp_path):
    faces, root = corpus
    new = faces[faces["method"] == "Swap"].iloc[:5]
    found = explained(corpus, new=(new, root))
    assert len(found.placed) == 5
    own = found.embedded[found.embedded["method"] == "real"][["x", "y"]].to_numpy()
    fakes = found.embedded[found.embedded["label"] == 1][["x", "y"]].to_numpy()
    for place in found.placed[["x", "y"]].to_numpy():
        near = [np.sort(np.hypot(*(points - place).T))[:3].mean() for points in (fakes, own)]
        assert near[0] < near[1]
    write_explanation(found, tmp_path)
    again = read_explanation(tmp_path)
    assert again.placed["x"].tolist() == found.placed["x"].tolist()
    assert again.embeddings()["method"].table()["label"].tolist().count("new") == 5


def test_mean_maps_are_by_dataset_method_and_group_and_drawn(corpus, tmp_path, monkeypatch):
    faces, root = corpus
    faces = faces.assign(gender=np.where(faces["video"].str.endswith("0"), "female", "male"))
    settings = {"methods": ("saliency",), "tested": 4, "points": 8, "averaged": 60, "by": ("gender",)}
    assert "no method passed" in explained((faces, root), **settings).summary["skipped"]["mean maps"]
    monkeypatch.setattr(checks, "_failures", lambda *_: [])
    found = explained((faces, root), **settings)
    averaged = found.summary["averaged"]
    assert averaged["crops"] == 60
    kinds = {(one["dataset"], one["of"], one["name"]): one["people"] for one in averaged["means"]}
    assert kinds["B", "method", "Swap"] == 3
    assert kinds["A", "reals by gender", "male"] == 2
    assert all(np.sum(one["cells"]) == pytest.approx(100) for one in averaged["means"])
    assert {one["reason"] for one in averaged["differences"]} == {"fewer than 5 people of a group"}
    assert len(averaged_lines(averaged)) == 1 + len(averaged["differences"])
    write_explanation(found, tmp_path)
    assert (tmp_path / "explain/mean_maps.png").is_file()
    assert np.array_equal(read_explanation(tmp_path).mean_picture, found.mean_picture)


def test_a_layer_that_there_is_not_is_refused_with_the_nearest(corpus):
    with pytest.raises(InputError, match=r"layer 'blok' is no module of the detector \(is 'block' meant\?\)"):
        explained(corpus, layer="blok")
    assert explained(corpus, layer="block.0", points=8).summary["layer"] == "block.0"


def test_one_picture_and_one_class_are_explained_with_what_is_lacking_in_words(corpus, tmp_path):
    faces, root = corpus
    one = faces[faces["split"] == "test"].iloc[:1]
    found = explained((one, root), methods=("occlusion",))
    assert (
        "one picture: whether the map finds what matters cannot be tested" in found.methods[0].facts["failed"]
    )
    assert "at least 8 crops" in found.summary["skipped"]["t-SNE"]
    write_explanation(found, tmp_path)  # drawing one column gave a warning of matplotlib's
    assert found.tested_labels() == [f"real, {found.summary['tested'][0]['score']:.2f}"]
    reals = explained((faces[faces["label"] == 0], root), methods=("occlusion",), tested=4)
    assert "real or fake" not in reals.summary["purity"]
    assert len(reals.methods) == 1
