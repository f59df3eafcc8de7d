from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import norm

from unmasked.analysis.figures.colours import group_colour, readable_ink
from unmasked.analysis.figures.curves import DetDisplay, PrecisionRecallDisplay, RocDisplay
from unmasked.analysis.figures.decisions import RiskCoverageDisplay
from unmasked.analysis.figures.dots import Dot, DotDisplay, ScoreDisplay, Scores, TrainingDisplay
from unmasked.analysis.figures.matrix import MatrixDisplay
from unmasked.analysis.figures.pictures import CamGridDisplay, CamRow, EmbeddingDisplay, strip
from unmasked.analysis.figures.robustness import RobustnessDisplay
from unmasked.analysis.html.pictures import svg_document
from unmasked.analysis.reports.run.decisions import Realised, display_realised
from unmasked.evaluation.curves import curves, score_histogram
from unmasked.evaluation.evaluate import evaluate


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
    """What lines are called, in a legend or beside them."""
    if legend := axes.get_legend():
        return [text.get_text() for text in legend.get_texts()]
    return [text.get_text().replace("\n", ": ", 1).replace("\n", ", ") for text in axes.texts]


def test_roc_draws_the_points_and_the_legend_says_auc_and_interval(predictions, results):
    display = RocDisplay.from_results(curves(predictions), results)
    assert display.plot() is display
    block = results["datasets"]["FaceForensics++"]["video"]
    low, high = block["auc_ci"]
    expected = f"FaceForensics++: AUC {block['auc']:.2f} [{low:.2f}, {high:.2f}], n = 15 + 15"
    assert texts(display.ax_)[0] == expected
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


def test_band_is_drawn_around_its_curve_and_written_with_it(predictions, results):
    display = RocDisplay.from_results(curves(predictions, n_boot=50), results).plot()
    assert len(display.bands_) == 2  # of the two datasets with both classes
    table = display.table()
    band = table[(table["dataset"] == "Celeb-DF-v2") & (table["series"] == "band")]
    assert (band["low"] <= band["high"]).all()
    edges = display.bands_[1].get_paths()[0].vertices[:, 1]
    assert edges.max() <= 1
    assert set(band["low"].astype(float).round(9)) <= set(edges.round(9))
    line = table[(table["dataset"] == "Celeb-DF-v2") & (table["series"] == "curve")]
    np.testing.assert_array_equal(line["tpr"].astype(float), display.lines_[1].get_ydata())


def test_det_of_normal_scores_is_a_straight_line_through_the_probits(predictions, results):
    false_alarms = norm.sf(np.linspace(-1, 2, 7))
    found = norm.sf(np.linspace(-1, 2, 7), loc=1.5)
    curve = {"fpr": false_alarms, "tpr": found, "band": {"fpr": []}, "real": 1000, "fake": 1000}
    display = DetDisplay({"A": curve | {"eer": 0.2, "low": 0.1, "high": 0.3}}).plot()
    x, y = display.lines_[0].get_data()
    np.testing.assert_allclose(x, norm.ppf(false_alarms))
    np.testing.assert_allclose(y, norm.ppf(1 - found))
    np.testing.assert_allclose(np.diff(y) / np.diff(x), -1)
    assert texts(display.ax_)[0] == "A: EER 0.20 [0.10, 0.30]"
    assert display.ax_.get_xlim() == display.ax_.get_ylim()


def test_det_begins_below_half_an_error_and_its_table_has_rates(predictions, results):
    display = DetDisplay.from_results(curves(predictions, n_boot=20), results).plot()
    assert display.start <= 0.5 / 15
    table = display.table()
    assert table["fnr"].astype(float).between(0, 1).all()
    band = table[table["series"] == "band"]
    assert (band["low"] <= band["high"]).all()


def roc_curves(*separations):
    """ROC curves of scores of that many datasets, as `RocDisplay` takes them."""
    at = np.linspace(-3, 6, 60)[::-1]
    counts = {"auc": 0.8, "low": 0.7, "high": 0.9, "real": 40, "fake": 400, "band": {"fpr": []}}
    return {
        f"dataset {number}": {"fpr": norm.sf(at), "tpr": norm.sf(at, loc=of), "threshold": at, **counts}
        for number, of in enumerate(separations)
    }


@pytest.mark.parametrize("separations", [(2.5, 0.6, 1.2), (0.3, -0.8), (3.5, 1.8)])
def test_names_stand_in_the_axes_on_no_line_and_no_other_name(separations):
    display = RocDisplay(roc_curves(*separations)).plot()
    axes = display.ax_
    assert axes.get_legend() is None
    display.figure_.draw_without_rendering()
    # As matplotlib sets the letters, which is not how room was looked for.
    boxes = [Text.get_window_extent(name) for name in axes.texts]
    assert [name.get_text().split("\n")[0] for name in axes.texts] == [*display.curves, "chance"]
    for number, box in enumerate(boxes):
        assert axes.bbox.contains(*box.min)
        assert axes.bbox.contains(*box.max)
        assert not any(box.overlaps(other) for other in boxes[:number])
        for line in axes.lines:
            assert not line.get_path().transformed(line.get_transform()).intersects_bbox(box, filled=False)


def test_a_name_points_to_its_own_line_where_no_other_is_near():
    display = RocDisplay(roc_curves(2.5, 0.6, 1.2)).plot()
    for name, line in zip(display.ax_.texts, [*display.lines_, display.chance_], strict=True):
        gaps = {one: np.hypot(*(one.get_xydata() - name.xy).T).min() for one in display.ax_.lines[:-1]}
        if line in gaps:
            assert line is min(gaps, key=gaps.get)
        assert name.get_color() == readable_ink(to_hex(line.get_color()))


@pytest.mark.parametrize("separations", [np.linspace(0.5, 3, 7), (2.0, 1.99)])
def test_more_lines_than_have_room_and_lines_on_each_other_get_a_legend(separations):
    display = RocDisplay(roc_curves(*separations)).plot()
    assert len(texts(display.ax_)) == len(separations) + 1
    assert display.ax_.get_legend() is not None


def test_lines_differ_in_more_than_colour(predictions, results):
    for display in (RocDisplay, PrecisionRecallDisplay):
        lines = display.from_results(curves(predictions), results).plot().lines_
        assert len({line.get_linestyle() for line in lines}) == len(lines)


def test_precision_recall_draws_the_share_of_fakes_as_chance(predictions, results):
    display = PrecisionRecallDisplay.from_results(curves(predictions), results).plot()
    assert list(display.chances_[0].get_ydata()) == [0.5, 0.5]
    assert "AP" in texts(display.ax_)[0]


def test_display_draws_into_the_axes_it_is_given(predictions, results):
    axes = Figure().add_subplot()
    display = RocDisplay.from_results(curves(predictions), results).plot(axes, linewidth=5)
    assert display.ax_ is axes
    assert display.figure_ is axes.figure
    assert display.lines_[0].get_linewidth() == 5
    assert texts(axes)[0].startswith("FaceForensics++: AUC 0.")


def test_scores_are_shares_of_each_class_beside_the_threshold(predictions):
    bins = score_histogram(predictions, bins=10)["FaceForensics++"]
    row = Scores("FaceForensics++", bins["edges"], bins["real"], bins["fake"])
    display = ScoreDisplay([row], 0.4).plot()
    for step in display.steps_:
        assert step.get_data().values.sum() == pytest.approx(1)
    assert display.threshold_.get_xdata() == [0.4, 0.4]
    assert texts(display.ax_) == ["real (n = 15)", "fake (n = 15)", "threshold 0.40"]


def test_scores_of_one_class_leave_the_other_out():
    display = ScoreDisplay([Scores("X", [0, 0.5, 1], [0, 0], [1, 2])]).plot()
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


def test_numbers_of_intervals_across_the_whole_axis_do_not_lie_on_the_names():
    rows = [Dot("WildDeepfake", 0.5, 0.0, 1.0), Dot("A", 0.4, 0.05, 0.9), Dot("B", 0.2, 0.1, 0.3)]
    display = DotDisplay(rows, "video AUC").plot()
    figure = display.figure_
    figure.draw_without_rendering()
    names = [label.get_window_extent() for label in display.ax_.get_yticklabels()]
    numbers = [text.get_window_extent() for text in display.ax_.texts]
    assert [text.get_text() for text in display.ax_.texts] == ["0.50", "0.40", "0.20"]
    assert not any(name.overlaps(number) for name in names for number in numbers)


def test_a_training_of_one_validation_has_its_step_on_the_axis_and_no_part_of_a_step():
    display = TrainingDisplay({"val/video_auc": [(4, 0.6)]}, "AUC", position="step").plot()
    low, high = display.ax_.get_xlim()
    assert [tick for tick in display.ax_.get_xticks() if low <= tick <= high] == [4]


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


def cells(display):
    return [text.get_text() for text in display.texts_]


def test_heat_map_shows_value_and_interval_and_frames_where_it_was_trained(results):
    display = MatrixDisplay.from_results(results).plot()
    first = results["matrix"][0]
    assert cells(display)[0] == "{:.2f}\n[{:.2f}, {:.2f}]".format(first["auc"], *first["ci"])
    assert cells(display)[2] == "not enough\ndata"
    assert len(display.frames_) == 1
    assert display.image_.get_clim() == (0.5, 1)
    assert list(display.table()["test"]) == ["FaceForensics++", "Celeb-DF-v2", "WildDeepfake"]


def test_heat_map_has_a_row_for_each_detector_and_training_set():
    pair = {"protocol": "cross_dataset", "level": "video", "auc_ci": [0.6, 0.8], "auc": 0.7}
    pair |= {"real_videos": 3, "fake_videos": 4}
    protocols = [
        pair | {"detector": detector, "train": train, "test": test, "is_reference": train == test}
        for detector, train in (("UCF", "A"), ("Xception", "A"), ("Xception", "B"))
        for test in ("A", "B")
    ]
    results = {"protocols": [*protocols, pair | {"protocol": "by_method", "train": "A", "test": "A: x"}]}
    display = MatrixDisplay.from_results(results).plot()
    assert display.rows == ["UCF\nA", "Xception\nA", "Xception\nB"]
    assert display.columns == ["A", "B"]
    assert len(display.frames_) == 3
    assert len(display.table()) == 6


def test_thresholds_are_dots_beside_what_was_to_be_expected():
    found = [
        Realised("FPR ≤ 10 %", "A", 0.4, 0.1, 0.08, 0.02, 0.2, 50),
        Realised("FPR ≤ 10 %", "B", 0.4, 0.1, 0.35, 0.25, 0.45, 40),
        Realised("fixed at 0.5", "A", 0.5, float("nan"), float("nan"), float("nan"), float("nan"), 0),
    ]
    display = display_realised(found, "fpr").plot()
    assert [point.get_xdata()[0] for point in display.points_] == [0.08, 0.35]
    assert [list(mark.get_xdata()) for mark in display.expected_] == [[0.1, 0.1]]
    written = [text.get_text() for text in display.ax_.texts]
    assert written[:3] == ["50", "40", "0"]
    assert "not enough data" in written
    labels = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    assert labels == ["FPR ≤ 10 %", "A", "B", "fixed at 0.5", "A"]
    assert display.ax_.get_xlim()[1] >= 0.45
    assert display_realised(found, "tpr").plot().ax_.get_xlim()[1] > 1
    assert list(display.table()["expected"])[:2] == [0.1, 0.1]


def test_risk_over_coverage_marks_the_band_with_both_intervals():
    block = {"curve": {"coverage": [0.5, 1.0], "risk": [0.05, 0.2]}, "coverage": 0.8, "risk": 0.1}
    block |= {"coverage_ci": [0.7, 0.9], "risk_ci": [0.05, 0.2], "risk_all": 0.2}
    empty = {"datasets": {"B": {"video": {}}}, "matrix": [{"test": "A"}, {"test": "B"}]}
    results = empty | {"datasets": empty["datasets"] | {"A": {"video": {"abstention": block}}}}
    display = RiskCoverageDisplay.from_results(results).plot()
    assert list(display.abstentions) == ["A"]
    assert display.points_[0].lines[0].get_xydata().tolist() == [[0.8, 0.1]]
    assert texts(display.ax_) == ["A: 20 % wrong if all are answered"]
    table = display.table()
    assert list(table["series"]) == ["curve", "curve", "band"]
    assert table.iloc[2]["risk_high"] == 0.2


def record(severity, *, auc=0.9, fpr=0.3, clean=0.1, **other):
    """What a perturbation did, FPR rising from ``clean`` while AUC and TPR stay."""
    found = {"dataset": "A", "perturbation": "jpeg", "severity": severity, "where": "crop", "videos": 40}
    found |= {"setting": "quality 50", "threshold": 0.5, "auc": auc, "fpr": fpr, "tpr": 0.8}
    for rate, change in (("auc", auc - 0.9), ("fpr", fpr - clean), ("tpr", 0.0)):
        found |= {f"{rate}_change": change, f"{rate}_change_ci": [change - 0.05, change + 0.05]}
        found |= {f"{rate}_ci": [found[rate] - 0.1, found[rate] + 0.1]}
    return found | other


def test_severity_curves_begin_untouched_and_carry_the_interval_of_the_change():
    display = RobustnessDisplay.from_records("JPEG compression", [record(3), record(1, fpr=0.2)]).plot()
    fpr = display.series("A", "fpr")
    assert list(fpr["severity"]) == [0, 1, 3]
    np.testing.assert_allclose(fpr["value"], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(fpr["low"], [0.1, 0.15, 0.25])
    assert [axes.get_ylabel().split()[0] for axes in display.axes_] == ["AUC", "reals", "fakes"]
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["none", "1", "3"]
    assert texts(display.ax_) == ["A (n = 40)"]
    table = display.table()
    np.testing.assert_allclose(table["fpr_clean"], [0.1, 0.1])
    assert list(table["setting"]) == ["quality 50", "quality 50"]


def test_a_name_that_looks_like_a_formula_is_drawn_as_it_is(predictions):
    # A group or dataset called so ended `fairness` and `report` in a traceback of matplotlib's.
    name = "$x_{$"
    named = predictions.assign(dataset=predictions["dataset"].replace("Celeb-DF-v2", name))
    found = evaluate(named, n_boot=0, source="FaceForensics++")
    for display in (DotDisplay.from_matrix(found), RocDisplay.from_results(curves(named), found)):
        assert name in svg_document(display.plot().figure_)
