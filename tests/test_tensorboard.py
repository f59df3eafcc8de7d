from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unmasked.analysis.tensorboard import log_cams, log_embedding, log_figures, summary_writer


@pytest.fixture
def cams():
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 255, (2, 16, 20, 3), dtype=np.uint8)
    return pictures, 255 - pictures


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return events


def test_cam_is_shown_beside_its_picture(tmp_path, cams):
    with summary_writer(tmp_path) as writer:
        log_cams(writer, *cams, ["real/a", "Deepfakes/b"], step=7)
    events = read(tmp_path)
    assert set(events.Tags()["images"]) == {"gradcam/real/a", "gradcam/Deepfakes/b"}
    (event,) = events.Images("gradcam/real/a")
    assert (event.step, event.width, event.height) == (7, 40, 16)


def test_names_and_pictures_must_agree_in_number(tmp_path, cams):
    with summary_writer(tmp_path) as writer, pytest.raises(ValueError, match=r"shorter|longer"):
        log_cams(writer, *cams, ["one"])


def test_projector_gets_vectors_labels_and_sprites(tmp_path):
    features = np.arange(15, dtype=np.float64).reshape(5, 3)
    metadata = pd.DataFrame(
        {"video": ["a\tb", "c\nd", "e", "f", None], "score": [0.1, 0.2, 0.3, 0.4, np.nan]}
    )
    pictures = np.full((5, 64, 64, 3), 255, np.uint8)
    with summary_writer(tmp_path) as writer:
        log_embedding(writer, features, metadata, pictures=pictures, step=3)
    (vectors,) = tmp_path.rglob("tensors.tsv")
    np.testing.assert_allclose(np.loadtxt(vectors, delimiter="\t"), features)
    lines = (vectors.parent / "metadata.tsv").read_text().splitlines()
    assert lines[:3] == ["video\tscore", "a b\t0.1", "c d\t0.2"]
    assert len(lines) == 6
    with Image.open(vectors.parent / "sprite.png") as sheet:
        assert sheet.size == (96, 96)  # 5 sprites in a square of 3 x 3
    config = (tmp_path / "projector_config.pbtxt").read_text()
    assert "features" in config
    assert "sprite.png" in config


def test_single_column_of_metadata_is_written(tmp_path):
    with summary_writer(tmp_path) as writer:
        log_embedding(writer, np.eye(4), pd.DataFrame({"label": ["real", "fake", "real", "fake"]}))
    (labels,) = tmp_path.rglob("metadata.tsv")
    assert labels.read_text().split() == ["real", "fake", "real", "fake"]
    assert not list(tmp_path.rglob("sprite.png"))


def test_figures_are_images(tmp_path):
    figure = Figure()
    figure.add_subplot().plot([0, 1])
    with summary_writer(tmp_path) as writer:
        log_figures(writer, {"roc": figure})
    assert read(tmp_path).Tags()["images"] == ["roc"]
