"""What pixels give away: planted borders, strips, logos and compression are found, plain pictures are not."""

import cv2
import numpy as np
import pandas as pd
import pytest
from audit_corpus import face, people
from conftest import SHARED

from unmasked.datasets.audit.findings import shortcut_findings
from unmasked.datasets.audit.headers import read_headers
from unmasked.datasets.audit.pixels import (
    COLUMNS,
    blockiness,
    corners_of,
    edge_of,
    place_of,
    read_pixel_facts,
)
from unmasked.datasets.audit.shortcuts import shortcuts

PHOTOGRAPHS = SHARED / "faces"


@pytest.fixture(scope="module")
def plain():
    """200 pictures of 100 people, half of them called fake, of two sizes."""
    generator = np.random.default_rng(0)
    images = [face(generator, int(generator.choice([96, 160]))) for _ in range(200)]
    rows = people(100, generator).groupby("identity", sort=False).head(2).reset_index(drop=True)
    return rows, images


def audited(rows, images, folder, plant=None, only=(), quality=(92, 92)):
    """The tested features of pictures written to a folder, fakes with what is planted in them."""
    names = []
    for number, (label, image) in enumerate(zip(rows["label"], images, strict=True)):
        image = plant(image.copy()) if plant and label else image
        name = f"{number:03d}.jpg"
        cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, quality[label]])
        names.append(name)
    table = rows.assign(path=names, root=str(folder), kind="image")
    facts = read_pixel_facts(str(folder) + "/" + table["path"].astype(object))
    table = table.join(facts).join(read_headers(table)[["jpeg_quality"]])
    return shortcuts(table, n_boot=200).set_index("feature")


def border(width, level=0, sides=4):
    def plant(image):
        height, across = image.shape[:2]
        for side in range(sides):
            rows = [slice(0, width), slice(height - width, height), slice(None), slice(None)][side]
            columns = [slice(None), slice(None), slice(0, width), slice(across - width, across)][side]
            image[rows, columns] = level
        return image

    return plant


def logo(image):
    """Letters, half transparent, at 3 px from the bottom right."""
    mark = np.zeros((14, 30), np.uint8)
    cv2.putText(mark, "AI", (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 2)
    part = image[-17:-3, -33:-3].astype(float)
    image[-17:-3, -33:-3] = np.where(mark[..., None] > 0, 0.5 * part + 127, part)
    return image


@pytest.mark.parametrize("seed", range(2))
def test_plain_pictures_give_no_alarm(plain, tmp_path, seed):
    rows, images = plain
    shuffled = np.random.default_rng(seed).permutation(len(images))
    found = audited(rows, [images[n] for n in shuffled], tmp_path)
    assert set(COLUMNS) <= set(found.index)
    assert not found["is_shortcut"].any(), found[["auc", "bound"]]


@pytest.mark.parametrize(
    ("plant", "feature", "place"),
    [
        (border(2), "edge", ""),
        (border(2, 128), "edge", ""),
        (border(6, 255), "edge", ""),
        (border(3, 0, sides=1), "edge", "top"),
        (logo, "corners", "bottom right"),
    ],
    ids=["2 px black", "2 px grey", "6 px white", "strip above", "logo"],
)
def test_a_border_or_mark_of_all_fakes_is_found(plain, tmp_path, plant, feature, place):
    """A border that all fakes had, and no real, was not seen."""
    found = audited(*plain, tmp_path, plant)
    assert found.loc[feature, "is_shortcut"]
    assert found.loc[feature, "auc"] > 0.95
    assert place in found.loc[feature, "in_fakes"]
    sentence = " ".join(each.found for each in shortcut_findings(found.reset_index()))
    assert f"{feature.rstrip('s')}" in sentence


def test_a_border_of_half_of_the_fakes_is_found(plain, tmp_path):
    turn = iter(range(10_000))
    found = audited(*plain, tmp_path, lambda image: border(2)(image) if next(turn) % 2 else image)
    assert found.loc["edge", "is_shortcut"]
    assert found.loc["edge", "auc"] == pytest.approx(0.75, abs=0.08)


def test_jpeg_quality_of_one_class_is_found_by_its_table_and_behind_a_png_by_its_blocks(plain, tmp_path):
    found = audited(*plain, tmp_path, quality=(92, 60))
    assert found.loc["jpeg_quality", "auc"] == 1.0
    assert found.loc["jpeg_quality", "in_fakes"].startswith("60 of 100")

    def hidden(image):
        return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)

    rows, images = plain
    found = audited(rows, images, tmp_path, hidden, quality=(98, 98))
    assert found.loc["blocks", "is_shortcut"]


def test_facts_of_a_picture_are_those_counted_by_hand(tmp_path):
    grey = np.random.default_rng(0).uniform(0, 255, (64, 128)).astype(np.float32)
    edge = edge_of(grey).reshape(4, 17)
    assert edge[0, 0] == pytest.approx(grey[:2, :8].mean(), rel=1e-5)
    assert edge[3, 15] == pytest.approx(grey[60:, 126:].mean(), rel=1e-5)
    assert edge[1, 16] == pytest.approx(np.log1p(grey[62:].std(axis=1).mean()), rel=1e-5)
    corners = corners_of(grey).reshape(4, 2, 2, 16, 16)  # corner, view, kind
    assert corners[3, 1, 0, 15, 15] == pytest.approx(grey[63, 126:].mean(), rel=1e-5)
    assert corners[1, 0, 0, 0, 0] == pytest.approx(grey[:2, 64:68].mean(), rel=1e-5)
    assert [place_of("edge", n) for n in (0, 17, 34, 67)] == ["top", "bottom", "left", "right"]
    assert blockiness(np.kron(np.arange(64).reshape(8, 8) % 5, np.ones((8, 8))).astype(np.float32)) > 2
    assert blockiness(grey) == pytest.approx(1, abs=0.1)
    none = read_pixel_facts(pd.Series([None, str(tmp_path / "gone.png")], index=[4, 9]))
    assert none.index.tolist() == [4, 9]
    assert none.isna().all(axis=None)


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the folder of real photographs is not there")
def test_real_photographs_dealt_at_random_give_no_alarm_and_a_planted_border_does(tmp_path):
    manifest = pd.read_csv(PHOTOGRAPHS / "manifest.csv")
    real = manifest[(manifest["kind"] == "image") & (manifest["label"] == 0)].head(120)
    names = [PHOTOGRAPHS / name for name in real["file"]]
    images = [cv2.imread(str(name)) for name in names]
    images = [cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA) for image in images]
    rows = (
        people(120, np.random.default_rng(0)).groupby("identity", sort=False).head(1).reset_index(drop=True)
    )
    rows["label"] = np.random.default_rng(1).permutation(np.arange(120) % 2)
    assert not audited(rows, images, tmp_path)["is_shortcut"].any()
    found = audited(rows, images, tmp_path, border(2))
    assert found.loc["edge", "is_shortcut"]
    assert found.loc["edge", "auc"] > 0.95
