from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from unmasked.analysis.figures import Dot, DotDisplay, ScoreDisplay, TrainingDisplay
from unmasked.analysis.figures_curves import DetDisplay, PrecisionRecallDisplay, RocDisplay
from unmasked.analysis.pictures import CamGridDisplay, CamRow, EmbeddingDisplay, strip
from unmasked.evaluation.curves import curves, score_histogram
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.page import group_colour


@pytest.fixture(scope="module")
def predictions():
    rng = np.random.default_rng(0)
    rows = []
    for dataset, separation in (("Celeb-DF-v2", 0.5), ("FaceForensics++", 2.0)):
        for video in range(30):
            label = video % 2
            score = 1 / (1 + np.exp(-rng.normal(separation * (label - 0.5))))
            method = "real" if not label else ("Deepfakes" if video % 4 == 1 else "FaceSwap")
            rows.append(
                {"dataset": dataset, "video": str(video), "label": label, "method": method, "score": score}
            )
    rows += [{"dataset": "WildDeepfake", "video": "0", "label": 1, "method": "wild", "score": 0.7}]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def results(predictions):
    return evaluate(predictions, n_boot=50, source="FaceForensics++")


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_roc_draws_the_points_and_the_legend_says_auc_and_interval(predictions, results):
    display = RocDisplay.from_results(curves(predictions), results)
    assert display.plot() is display
    block = results["datasets"]["FaceForensics++"]["video"]
    low, high = block["auc_ci"]
    assert texts(display.ax_)[0] == f"FaceForensics++: AUC {block['auc']:.2f} [{low:.2f}, {high:.2f}]"
    points = curves(predictions)["FaceForensics++"]["video"]["roc"]
    np.testing.assert_array_equal(display.lines_[0].get_xdata(), points["fpr"])
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), points["tpr"])
    assert to_hex(display.lines_[0].get_color()).upper() == group_colour("FaceForensics++")


def test_roc_shows_chance_and_a_dataset_without_a_curve(predictions, results):
    display = RocDisplay.from_results(curves(predictions), results).plot()
    assert list(display.chance_.get_xdata()) == [0, 1]
    assert "WildDeepfake: not enough data" in texts(display.ax_)
    assert "chance" in texts(display.ax_)[-1]
    assert len(display.lines_[-1].get_xdata()) == 0


def test_lines_differ_in_more_than_colour(predictions, results):
    for display in (RocDisplay, PrecisionRecallDisplay):
        lines = display.from_results(curves(predictions), results).plot().lines_
        assert len({line.get_linestyle() for line in lines}) == len(lines)


def test_precision_recall_draws_the_share_of_fakes_as_chance(predictions, results):
    display = PrecisionRecallDisplay.from_results(curves(predictions), results).plot()
    assert list(display.chances_[0].get_ydata()) == [0.5, 0.5]
    assert "AP" in texts(display.ax_)[0]


def test_display_draws_into_the_axes_it_is_given(predictions):
    axes = Figure().add_subplot()
    display = RocDisplay.from_results(curves(predictions)).plot(axes, linewidth=5)
    assert display.ax_ is axes
    assert display.figure_ is axes.figure
    assert display.lines_[0].get_linewidth() == 5
    assert texts(axes)[1].startswith("FaceForensics++: AUC 0.")
    assert "[" not in texts(axes)[1]


def test_scores_are_shares_of_each_class_beside_the_threshold(predictions):
    bins = score_histogram(predictions, bins=10)["FaceForensics++"]
    display = ScoreDisplay("FaceForensics++", bins["edges"], bins["real"], bins["fake"], 0.4).plot()
    for step in display.steps_:
        assert step.get_data().values.sum() == pytest.approx(1)
    assert display.threshold_.get_xdata() == [0.4, 0.4]
    assert texts(display.ax_) == ["real (n = 15)", "fake (n = 15)", "threshold 0.40"]


def test_scores_of_one_class_leave_the_other_out():
    display = ScoreDisplay("X", [0, 0.5, 1], [0, 0], [1, 2]).plot()
    assert texts(display.ax_) == ["fake (n = 3)"]


def test_matrix_has_a_row_a_dataset_with_interval_n_and_chance(results):
    display = DotDisplay.from_matrix(results).plot()
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels[0] == "FaceForensics++ (trained on)\n15 real + 15 fake videos"
    assert display.points_[0].get_xdata() == [results["matrix"][0]["auc"]]
    np.testing.assert_allclose(display.intervals_[0].get_xdata(), results["matrix"][0]["ci"])
    assert list(display.chance_.get_xdata()) == [0.5, 0.5]
    assert display.points_[0].get_marker() != display.points_[1].get_marker()
    assert display.ax_.get_ylim()[0] > display.ax_.get_ylim()[1]


def test_row_without_a_value_says_so(results):
    display = DotDisplay.from_matrix(results).plot()
    assert len(display.points_) == 2
    assert "not enough data" in [text.get_text() for text in display.ax_.texts]


def test_value_without_an_interval_is_a_point_alone():
    display = DotDisplay([Dot("A", 0.5), Dot("B", 1.0, 0.9, 1.0)], "share").plot()
    assert len(display.points_) == 2
    assert len(display.intervals_) == 1


def test_methods_are_compared_with_the_same_reals(results):
    display = DotDisplay.from_methods(results, "FaceForensics++")
    assert [dot.label for dot in display.dots] == ["Deepfakes", "FaceSwap"]
    assert display.dots[0].n == "8 fake videos"


def test_training_curve_leaves_out_what_is_missing():
    records = [
        {"epoch": 1, "a": 1.0, "b": None},
        {"epoch": 2, "a": 0.5},
        {"epoch": 3, "a": float("nan"), "b": 2.0},
    ]
    display = TrainingDisplay.from_records(records, ["a", "b", "c"], "loss").plot()
    assert display.series == {"a": [(1.0, 1.0), (2.0, 0.5)], "b": [(3.0, 2.0)]}
    assert list(display.lines_[0].get_ydata()) == [1.0, 0.5]
    assert display.ax_.get_ylabel() == "loss"


def test_training_without_records_draws_nothing():
    assert TrainingDisplay.from_records([], ["a"], "loss").plot().lines_ == []


def test_embedding_has_a_colour_and_n_for_every_label():
    points = np.arange(20.0).reshape(10, 2)
    label = np.array(["fake"] * 6 + ["real"] * 4)
    display = EmbeddingDisplay(points, label, "by label").plot()
    assert texts(display.ax_) == ["real (n = 4)", "fake (n = 6)"]
    np.testing.assert_array_equal(display.scatters_[0].get_offsets(), points[6:])
    assert to_hex(display.scatters_[1].get_facecolor()[0]).upper() == group_colour("fake")
    assert not len(display.ax_.get_xticks())


@pytest.fixture
def cam_row():
    pictures = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), dtype=np.uint8)
    return CamRow(
        "real", pictures, 255 - pictures, np.array([0.1, 0.25, 0.9]), np.array([False, True, False])
    )


def test_cam_grid_puts_overlays_under_pictures_and_names_scores(cam_row):
    display = CamGridDisplay([cam_row, cam_row]).plot()
    assert len(display.images_) == 12
    np.testing.assert_array_equal(display.images_[0].get_array(), cam_row.pictures[0])
    np.testing.assert_array_equal(display.images_[1].get_array(), cam_row.overlays[0])
    assert [text.get_text() for text in display.scores_[:2]] == ["P(fake) 0.10", "P(fake) 0.25, no map"]


def test_strip_holds_every_picture_above_its_overlay(cam_row):
    sheet = strip(cam_row, size_px=44)
    assert sheet.shape == (88, 132, 3)
    np.testing.assert_array_equal(sheet[2:42, 2:42], cam_row.pictures[0])
    np.testing.assert_array_equal(sheet[46:86, 90:130], cam_row.overlays[2])
