"""Metrics against scikit-learn, the peer's stored numbers, laws they must obey, and edges."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from unmasked.datasets.errors import InputError
from unmasked.evaluation import metrics
from unmasked.evaluation.metrics import METRICS

# Scores on a grid, so that ties are common.
rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def simulated(seed: int, n: int = 300, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    score = 1 / (1 + np.exp(-(1.2 * label - 0.4 + rng.normal(size=n))))
    return label, score.round(decimals)


def unzipped(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    label, score = np.array(pairs).T
    return label, score / 20


@pytest.mark.parametrize("decimals", [1, 2, 12])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learn(seed, decimals):
    label, score = simulated(seed, decimals=decimals)
    called = score > 0.5
    tn, fp, fn, tp = oracle.confusion_matrix(label, called).ravel()
    expected = {
        "auc": oracle.roc_auc_score(label, score),
        "partial_auc": oracle.roc_auc_score(label, score, max_fpr=0.1),
        "ap": oracle.average_precision_score(label, score),
        "accuracy": oracle.accuracy_score(label, called),
        "balanced_accuracy": oracle.balanced_accuracy_score(label, called),
        "precision": oracle.precision_score(label, called),
        "recall": oracle.recall_score(label, called),
        "f1": oracle.f1_score(label, called),
        "mcc": oracle.matthews_corrcoef(label, called),
        "fpr": fp / (fp + tn),
        "fnr": fn / (fn + tp),
        "tpr": tp / (tp + fn),
        "brier": oracle.brier_score_loss(label, score),
        "log_loss": oracle.log_loss(label, score),
    }
    found = metrics.all_metrics(label, score)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_tpr_at_fpr_is_the_best_of_the_thresholds_that_keep_the_fpr(seed):
    label, score = simulated(seed)
    fpr, tpr, _ = oracle.roc_curve(label, score, drop_intermediate=False)
    for name, limit in (("tpr_at_fpr_10", 0.10), ("tpr_at_fpr_5", 0.05), ("tpr_at_fpr_1", 0.01)):
        assert metrics.all_metrics(label, score)[name] == pytest.approx(tpr[fpr <= limit].max())
        assert metrics.tpr_at_fpr(label, score, limit) == metrics.all_metrics(label, score)[name]


@pytest.mark.parametrize("seed", range(5))
def test_equal_error_rate_is_where_the_interpolated_curve_meets_the_diagonal(seed):
    label, score = simulated(seed, decimals=1)
    fpr, tpr, _ = oracle.roc_curve(label, score, drop_intermediate=False)
    # The curve as a function of its own length: FNR - FPR falls along it, and interp inverts it.
    expected = np.interp(0.0, -(1 - tpr - fpr), fpr)
    assert metrics.equal_error_rate(label, score) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_equals_a_plain_loop_over_the_bins():
    label, score = simulated(3, decimals=12)
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (score >= low) & (score < low + 1 / 15)
        if inside.any():
            total += inside.sum() * abs(label[inside].mean() - score[inside].mean())
    assert metrics.expected_calibration_error(label, score) == pytest.approx(total / len(label))


def test_metrics_equal_the_stored_numbers_of_the_peer(shared):
    stored = (shared / "reference" / "metrics_reference.json").read_text(encoding="utf-8")
    for case in json.loads(stored)["cases"]:
        label, score, peer = case["label"], case["score"], case["peer"]
        video = [path.rsplit("/", 1)[0] for path in case["paths"]]
        found = {
            "acc": metrics.accuracy(label, score),
            "auc": metrics.auc(label, score),
            "eer": metrics.bench_equal_error_rate(label, score),
            "ap": metrics.average_precision(label, score),
            "video_auc": metrics.bench_video_auc(label, score, video),
        }
        assert found == pytest.approx(peer, abs=1e-12), case["kind"]


@given(rows)
def test_auc_does_not_change_under_a_rising_map(pairs):
    label, score = unzipped(pairs)
    assert metrics.auc(label, score**3 / 2 + 0.1) == pytest.approx(metrics.auc(label, score), abs=1e-12)


@given(rows)
def test_auc_of_the_opposite_score_is_the_rest_to_one(pairs):
    label, score = unzipped(pairs)
    assert metrics.auc(label, 1 - score) == pytest.approx(1 - metrics.auc(label, score), abs=1e-12)


@given(rows)
def test_auc_is_the_share_of_pairs_in_order_with_ties_as_half(pairs):
    label, score = unzipped(pairs)
    difference = score[label == 1][:, None] - score[label == 0][None]
    assert metrics.auc(label, score) == pytest.approx(np.mean((np.sign(difference) + 1) / 2), abs=1e-12)


@given(rows)
def test_equal_error_rate_is_the_same_with_the_classes_exchanged(pairs):
    label, score = unzipped(pairs)
    swapped = metrics.equal_error_rate(1 - label, 1 - score)
    assert swapped == pytest.approx(metrics.equal_error_rate(label, score), abs=1e-12)


@given(rows)
@settings(max_examples=50)
def test_every_metric_stays_within_its_bounds(pairs):
    for name, value in metrics.all_metrics(*unzipped(pairs)).items():
        metric = METRICS[name]
        assert np.isnan(value) or metric.minimum - 1e-12 <= value <= metric.maximum + 1e-12, name


def test_metrics_that_should_be_higher_are_higher_for_the_better_detector():
    label = np.repeat([0, 1], 200)
    noise = np.random.default_rng(0).normal(size=400)
    good, poor = (1 / (1 + np.exp(-(effect * (label - 0.5) + noise))) for effect in (4.0, 0.5))
    better, worse = metrics.all_metrics(label, good), metrics.all_metrics(label, poor)
    for name, metric in METRICS.items():
        # Calibration is not about telling the classes apart, nor is a share of rows called fake.
        if name != "ece" and metric.higher_is_better is not None:
            assert (better[name] > worse[name]) == metric.higher_is_better, name


def test_a_constant_detector_is_read_as_chance():
    label = np.array([0, 0, 1, 1, 1])
    found = metrics.all_metrics(label, np.full(5, 0.7))
    assert found["auc"] == found["eer"] == found["partial_auc"] == found["balanced_accuracy"] == 0.5
    assert found["ap"] == pytest.approx(0.6)  # the share of fakes
    assert found["tpr_at_fpr_10"] == 0.0
    assert np.isnan(found["mcc"])


def test_a_perfect_and_a_reversed_detector_are_read_as_such():
    label = np.array([0, 0, 1, 1])
    perfect = metrics.all_metrics(label, label.astype(float))
    reverse = metrics.all_metrics(label, 1.0 - label)
    assert (perfect["auc"], perfect["eer"], perfect["mcc"], perfect["brier"]) == (1.0, 0.0, 1.0, 0.0)
    assert (reverse["auc"], reverse["eer"], reverse["mcc"], reverse["brier"]) == (0.0, 1.0, -1.0, 1.0)


def test_one_class_leaves_metrics_that_need_both_undefined_and_the_others_not():
    found = metrics.all_metrics([1, 1, 1, 1], [0.2, 0.6, 0.7, 0.9])
    undefined = {name for name, value in found.items() if np.isnan(value)}
    ranking = {name for name in METRICS if name.startswith("tpr_at")} | {"auc", "partial_auc", "ap", "eer"}
    assert undefined == ranking | {"balanced_accuracy", "mcc", "fpr"}
    assert found["recall"] == 0.75
    assert np.isnan(metrics.bench_equal_error_rate([1, 1], [0.2, 0.6]))


def test_no_rows_leave_everything_undefined():
    assert all(np.isnan(value) for value in metrics.all_metrics([], []).values())
    assert np.isnan(metrics.bench_video_auc([], [], []))


def test_precision_is_undefined_when_nothing_is_called_fake():
    assert np.isnan(metrics.precision([0, 1], [0.1, 0.2]))
    assert metrics.f1([0, 1], [0.1, 0.2]) == 0.0


def test_a_score_equal_to_the_threshold_is_called_real():
    assert metrics.accuracy([0, 1], [0.5, 0.5]) == 0.5
    assert metrics.false_positive_rate([0, 0], [0.5, 0.51]) == 0.5
    assert metrics.false_negative_rate([1, 1], [0.5, 0.51]) == 0.5


@pytest.mark.parametrize(
    ("label", "score", "said"),
    [
        ([0, 1], [0.1], "two \\(N,\\) arrays"),
        ([0, 2], [0.1, 0.2], "label holds 2"),
        ([0, 1], [0.1, np.nan], "score holds nan"),
        ([0, 1], [0.1, 1.5], "score holds 1.5"),
    ],
)
def test_wrong_labels_and_scores_are_named(label, score, said):
    with pytest.raises(InputError, match=said):
        metrics.auc(label, score)


def frames() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dataset": ["A"] * 5 + ["B"] * 2,
            "video": ["x/1"] * 3 + ["y/1"] * 2 + ["x/1"] * 2,
            "frame": [0, 1, 2, 0, 1, 0, 1],
            "label": [1, 1, 1, 0, 0, 0, 0],
            "gender": ["female"] * 3 + [None] * 2 + ["male"] * 2,
            "score": [0.9, 0.1, 0.8, 0.3, 0.5, 0.0, 0.2],
        }
    )


@pytest.mark.parametrize(
    ("how", "top_k", "expected"),
    [
        ("mean", 5, [0.6, 0.4, 0.1]),
        ("median", 5, [0.8, 0.4, 0.1]),
        ("top_k_mean", 2, [0.85, 0.4, 0.1]),
        ("top_k_mean", 1, [0.9, 0.5, 0.2]),
    ],
)
def test_video_scores_are_as_computed_by_hand(how, top_k, expected):
    videos = metrics.video_scores(frames(), how, top_k)
    assert videos["score"].tolist() == pytest.approx(expected)
    assert videos["label"].tolist() == [1, 0, 0]
    assert videos["frames"].tolist() == [3, 2, 2]


def test_videos_of_two_datasets_with_one_name_stay_two_and_keep_their_groups():
    videos = metrics.video_scores(frames())
    assert list(zip(videos["dataset"], videos["video"], strict=True)) == [
        ("A", "x/1"),
        ("A", "y/1"),
        ("B", "x/1"),
    ]
    assert videos["gender"].tolist()[::2] == ["female", "male"]
    assert pd.isna(videos["gender"][1])
    assert "frame" not in videos


def test_one_video_at_two_compressions_is_two_videos():
    table = frames().assign(compression=["c23", "c40", "c40", "c23", "c23", "c23", "c23"])
    assert metrics.video_scores(table)["frames"].tolist() == [1, 2, 2, 2]


def test_an_unknown_way_to_a_video_score_is_refused():
    with pytest.raises(InputError, match="choose mean, median, top_k_mean, worst_face"):
        metrics.video_scores(frames(), "max")


def test_methods_that_share_folder_names_merge_only_in_the_number_of_the_bench():
    label = [0, 0, 1, 1, 1, 1]
    video = [
        "yt/000",
        "yt/001",
        "Deepfakes/000_003",
        "FaceSwap/000_003",
        "Deepfakes/001_002",
        "FaceSwap/004_009",
    ]
    score = [0.5, 0.55, 0.8, 0.4, 0.7, 0.6]
    assert metrics.bench_video_auc(label, score, video) == 1.0  # the video missed is hidden in a mean of 0.6
    assert metrics.auc(label, score) == 6 / 8


@pytest.mark.parametrize("how", ["mean", "median", "top_k_mean"])
def test_videos_of_any_length_with_one_score_throughout_keep_it(how):
    lengths = np.arange(1, 120)
    table = pd.DataFrame({"dataset": "D", "video": np.repeat(lengths, lengths).astype(str), "label": 0})
    videos = metrics.video_scores(table.assign(score=0.1), how)
    assert set(videos["score"]) == {0.1}  # plain means of them are 0.1 and 0.10000000000000002
