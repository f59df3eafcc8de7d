from __future__ import annotations

import errno
import io
import threading

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from ucf_fakes import train, write_faces

from unmasked.analysis.explain.tensorboard import (
    log_cams,
    log_embedding,
    log_grid,
    log_hyperparameters,
    log_scores,
    log_settings,
    summary_writer,
)
from unmasked.analysis.figures.calibration import CalibrationDisplay


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
    assert set(events.Tags()["images"]) == {"what_it_looks_at/real/a", "what_it_looks_at/Deepfakes/b"}
    (event,) = events.Images("what_it_looks_at/real/a")
    assert (event.step, event.width, event.height) == (7, 40, 16)


def test_a_map_that_is_none_has_it_written_on(tmp_path):
    pictures = np.full((2, 64, 80, 3), 90, np.uint8)
    with summary_writer(tmp_path) as writer:
        log_cams(writer, pictures, pictures, ["a", "b"], blank=np.array([True, False]))
    shown = {}
    for name in "ab":
        (event,) = read(tmp_path).Images(f"what_it_looks_at/{name}")
        shown[name] = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    assert (shown["a"][:, :80] == 90).all()
    assert shown["a"][:, 80:].max() > 200
    assert (shown["b"] == 90).all()


def test_a_full_disk_is_the_users_error_without_a_traceback_of_the_thread(tmp_path, monkeypatch):
    """The thread that writes printed one beside the sentence."""
    printed = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_: object) -> None:
        raise full

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", refuse)
    with pytest.raises(OSError, match="No space left"), summary_writer(tmp_path) as writer:
        writer.add_scalar("loss", 1.0)
    assert printed == []
    full = ZeroDivisionError("a fault of ours")
    with pytest.raises(ZeroDivisionError), summary_writer(tmp_path) as writer:
        writer.add_scalar("loss", 1.0)
    assert [type(failure.exc_value) for failure in printed] == [ZeroDivisionError]


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


# Scores


def scored(n=4000, seed=0):
    """Scores that are probabilities."""
    generator = np.random.default_rng(seed)
    score = generator.uniform(0, 1, n)
    return (generator.uniform(0, 1, n) < score).astype(int), score


def test_calibration_agrees_with_scikit_learn_and_its_intervals_hold_the_diagonal():
    from sklearn.calibration import calibration_curve

    label, score = scored()
    display = CalibrationDisplay.from_scores(label, score)
    share, mean_score = calibration_curve(label, score, n_bins=15)
    (curve,) = display.curves.values()
    np.testing.assert_allclose(curve.share, share)
    np.testing.assert_allclose(curve.score, mean_score)
    holds = (curve.low <= curve.score) & (curve.score <= curve.high)
    assert holds.sum() >= 13  # of 15 at 95 %
    assert curve.count.sum() == 4000


def test_calibration_intervals_are_wilsons():
    from scipy.stats import binomtest

    display = CalibrationDisplay.from_scores([0, 1, 1, 1, 0, 1], [0.51] * 6)
    expected = binomtest(4, 6).proportion_ci(method="wilson")
    (curve,) = display.curves.values()
    assert (curve.low[0], curve.high[0]) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("label", [0, 1])
def test_calibration_of_one_class_stays_within_bounds(label):
    display = CalibrationDisplay.from_scores([label] * 5, [0.1, 0.1, 0.9, 1.0, 0.0])
    (curve,) = display.curves.values()
    assert ((curve.low >= 0) & (curve.low <= curve.share)).all()
    assert ((curve.high <= 1) & (curve.high >= curve.share)).all()


def test_calibration_is_drawn_with_diagonal_number_of_rows_and_error():
    display = CalibrationDisplay.from_scores(*scored(), name="val/frame").plot()
    (curve,) = display.curves.values()
    points = display.bars_[0].lines[0]
    np.testing.assert_allclose(points.get_xdata(), curve.score)
    np.testing.assert_allclose(points.get_ydata(), curve.share)
    assert list(display.diagonal_.get_ydata()) == [0, 1]
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert f"n = 4,000, 95 % intervals, ECE {curve.error:.3f}" in legend
    assert display.ax_.get_xlabel() == "mean score, P(fake)"


def test_scores_give_precision_recall_curve_calibration_and_spread(tmp_path):
    from tensorboard.util.tensor_util import make_ndarray

    label, score = scored(200)
    with summary_writer(tmp_path) as writer:
        log_scores(writer, label, score, name="val/video", step=3)
    events = read(tmp_path)
    tags = events.Tags()
    assert set(tags["scalars"]) == {"val/video_ece", "val/video_brier"}
    assert events.Scalars("val/video_brier")[0].value == pytest.approx(((score - label) ** 2).mean())
    assert tags["images"] == ["val/video_calibration"]
    assert set(tags["histograms"]) == {"val/video_score/real", "val/video_score/fake"}
    assert events.Histograms("val/video_score/fake")[0].histogram_value.num == label.sum()
    (event,) = events.Tensors("val/video_precision_recall")
    curve = make_ndarray(event.tensor_proto)  # rows: TP, FP, TN, FN, precision, recall
    assert curve[:4, 0].tolist() == [label.sum(), (1 - label).sum(), 0, 0]
    half = curve.shape[1] // 2
    assert curve[4, half] == pytest.approx(label[score > 0.5].mean(), abs=0.02)


# Pictures, settings and results


def test_grid_has_a_line_of_titles_above_its_pictures(tmp_path):
    import cv2

    rows = np.zeros((2, 3, 20, 20, 3), np.uint8)
    rows[1, 2] = (255, 0, 0)
    with summary_writer(tmp_path) as writer:
        log_grid(writer, rows, ["a", "b", "c"], name="pictures", tile_px=40)
    (event,) = read(tmp_path).Images("pictures")
    image = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image.shape == (24 + 80, 120, 3)
    assert (image[-1, -1] == (255, 0, 0)).all()
    assert (image[24, 0] == 0).all()
    assert (image[:24, :40] < 128).any()  # the title


def test_settings_are_a_table_of_text(tmp_path):
    with summary_writer(tmp_path) as writer:
        log_settings(writer, {"optimiser.lr": 2e-4, "model.imagenet": None})
    (event,) = read(tmp_path).Tensors("config/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    assert lines[2:] == ["| `optimiser.lr` | `0.0002` |", "| `model.imagenet` | ` ` |"]


def test_hyperparameters_are_shown_from_the_beginning_and_results_at_the_end(tmp_path):
    from tensorboard.plugins.hparams import plugin_data_pb2

    settings = {"optimiser.lr": 1e-3, "model.imagenet": None, "data.fakes": "dataset"}
    with summary_writer(tmp_path) as writer:
        log_hyperparameters(writer, settings, ["val_best/video_auc"])
        assert "val_best/video_auc" not in read(tmp_path).Tags()["scalars"]
        log_hyperparameters(
            writer, settings, ["val_best/video_auc"], results={"val_best/video_auc": 0.75}, step=9
        )
    events = read(tmp_path)
    (scalar,) = events.Scalars("val_best/video_auc")
    assert (scalar.step, scalar.value) == (9, 0.75)
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    begun = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert begun["optimiser.lr"].number_value == 1e-3
    assert (begun["model.imagenet"].string_value, begun["data.fakes"].string_value) == ("none", "dataset")
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    (metric,) = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    assert metric.name.tag == "val_best/video_auc"


# A training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from unmasked.preprocessing.faces import FACES
    from unmasked.ucf.config import UCFConfig

    root = tmp_path_factory.mktemp("boards")
    faces = FACES.validate(write_faces(root, {"train": 2, "val": 2}, frames=2))
    config = UCFConfig.model_validate(
        {
            "model": {"width": 0.125, "size_px": 64, "decoder_dropout": 0.0},
            "training": {"batch_pairs": 4, "epochs": 2, "log_every_steps": 2},
        }
    )
    result = train(faces, root, config, root / "run")
    return read(root / "run" / "tensorboard"), result, faces


def test_a_training_shows_losses_rate_throughput_curves_and_settings(trained):
    events, result, _ = trained
    tags = events.Tags()
    losses = {f"train/{name}" for name in ("overall", "common", "specific", "reconstruction", "contrastive")}
    levels = {f"val/{level}_{name}" for level in ("frame", "video") for name in ("auc", "ece", "brier")}
    assert losses | levels | {"train/lr", "train/images_per_s"} <= set(tags["scalars"])
    steps = [event.step for event in events.Scalars("train/lr")]
    assert steps == list(range(1, steps[-1] + 1, 2))  # each step between repeated the last values
    curves = {"val/frame_precision_recall", "val/video_precision_recall"}
    assert curves | {"config/text_summary"} <= set(tags["tensors"])
    calibration = {"val/frame_calibration", "val/video_calibration"}
    assert set(tags["images"]) == calibration | {"val/reconstructions"}
    assert len(events.Images("val/reconstructions")) == len(result.history) == 2
    best = events.Scalars("val_best/video_auc")[-1].value
    assert best == pytest.approx(result.selection["val/video_auc"])


def test_reconstructions_are_of_fakes_beside_the_reals_they_were_made_of(trained):
    from unmasked.ucf.pairs import pairs_to_show

    faces = trained[2]
    rows = faces[faces["split"] == "val"].reset_index(drop=True)
    pairs = pairs_to_show(rows, 4)
    assert len(set(pairs)) == 4
    assert set(rows.loc[[fake for _, fake in pairs], "method"]) == {"Deepfakes", "Face2Face"}
    for real, fake in pairs:
        assert (rows.loc[real, "label"], rows.loc[fake, "label"]) == (0, 1)
        assert rows.loc[real, "video"] == rows.loc[fake, "target_video"]
