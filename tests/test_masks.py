from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from unmasked.analysis.explain.masks import changed_places
from unmasked.preprocessing.align import cut
from unmasked.preprocessing.faces import MATRIX

SIZE = 64


@pytest.fixture
def material(tmp_path):
    """A picture with a white square, its mask (half as large) with the same, and the crop of both."""
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[40:70, 60:100] = 255
    cv2.imwrite(str(tmp_path / "fake.png"), picture)
    cv2.imwrite(str(tmp_path / "mask.png"), cv2.resize(picture, (80, 60), interpolation=cv2.INTER_NEAREST))
    angle = 0.3
    matrix = np.array([[np.cos(angle), np.sin(angle), -20.0], [-np.sin(angle), np.cos(angle), 20.0]]) * 1.1
    cv2.imwrite(str(tmp_path / "crop.png"), cut(picture, matrix, 128))
    row = {"dataset": "A", "video": "f", "compression": "c23", "frame": 0, "label": 1, "crop": "crop.png"}
    rows = pd.DataFrame([row | {"crops": "cut"} | dict(zip(MATRIX, matrix.ravel(), strict=True))])
    manifest = pd.DataFrame([{"dataset": "A", "video": "f", "compression": "c23", "kind": "image"}])
    return tmp_path, rows, manifest.assign(path="fake.png", mask="mask.png")


def test_a_mask_lies_where_the_crop_shows_what_was_changed(material):
    """Whatever the sizes of mask, crop and picture, and however the face was turned."""
    root, rows, manifest = material
    (found,) = changed_places(rows, manifest, root, root, SIZE)
    shown = (
        cv2.resize(cv2.imread(str(root / "crop.png")), (SIZE, SIZE), interpolation=cv2.INTER_AREA)[..., 0]
        > 127
    )
    assert shown.sum() > 100
    overlap = (found & shown).sum() / (found | shown).sum()
    assert overlap > 0.85


@pytest.mark.parametrize(
    "change",
    [
        lambda rows, manifest: (rows.assign(label=0), manifest),
        lambda rows, manifest: (rows.assign(video="g"), manifest),
        lambda rows, manifest: (rows.assign(frame=5), manifest),
        lambda rows, manifest: (rows.drop(columns="m00"), manifest),
        lambda rows, manifest: (rows, manifest.drop(columns="mask")),
        lambda rows, manifest: (rows, manifest.assign(mask=None)),
        lambda rows, manifest: (rows, manifest.assign(mask="absent.png")),
    ],
)
def test_where_no_mask_is_known_there_is_none(material, change):
    root, rows, manifest = material
    assert not changed_places(*change(rows, manifest), root, root, SIZE).any()
