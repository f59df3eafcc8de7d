"""Intervals against a plain loop, against known coverage, and where they cannot exist."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm
from scipy.stats import t as student_t
from sklearn.metrics import average_precision_score, roc_auc_score

from unmasked.evaluation import intervals as module
from unmasked.evaluation import metrics
from unmasked.evaluation.intervals import (
    Sample,
    bounded_interval,
    describe_intervals,
    intervals,
    intervals_of,
    percentile_interval,
    resample,
    resample_together,
    tpr_at_fpr_interval,
)
from unmasked.evaluation.metrics import METRICS


def clustered(rng, videos: int = 60, frames: int = 10, auc: float = 0.85, icc: float = 0.5):
    """Frames of videos, half of them fake, with that true AUC and correlation within a video."""
    label = np.repeat(np.arange(videos) % 2, frames)
    video = np.repeat(np.arange(videos), frames)
    shared = np.repeat(rng.normal(0, icc**0.5, videos), frames)
    score = norm.cdf(shared + rng.normal(0, (1 - icc) ** 0.5, len(label)) + norm.ppf(auc) * 2**0.5 * label)
    return label, score, video


def sample_of(seed: int, **sizes: float) -> Sample:
    return Sample.of(*clustered(np.random.default_rng(seed), **sizes))


def test_each_resample_has_the_metrics_of_the_rows_it_repeats(monkeypatch):
    label, score, video = clustered(np.random.default_rng(0), videos=12, frames=4)
    score = score.round(1)  # with ties
    sample = Sample.of(label, score, video)
    drawn = resample(sample, 0.4, n_boot=20, seed=5)
    weights = np.concatenate(list(module._weights([sample], 20, 7, 5)), axis=1)
    for index in range(20):
        repeats = weights[video, index].astype(int)
        chosen = np.repeat(np.arange(len(label)), repeats)
        expected = metrics.all_metrics(label[chosen], score[chosen], 0.4)
        found = {name: values[index] for name, values in drawn.items()}
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert found["auc"] == pytest.approx(roc_auc_score(label, score, sample_weight=repeats), abs=1e-12)
        expected_ap = average_precision_score(label, score, sample_weight=repeats)
        assert found["ap"] == pytest.approx(expected_ap, abs=1e-12)


def test_resamples_draw_whole_clusters_within_their_classes():
    cluster = np.array([0, 0, 1, 1, 2, 3, 3, 4, 5, 5])
    label = np.array([0, 0, 0, 0, 1, 1, 1, 0, 0, 1])  # 0, 1, 4 real; 2, 3 fake; 5 both
    weights = next(module._weights([Sample.of(label, np.full(10, 0.5), cluster)], 500, 500, 0))
    assert weights.shape == (6, 500)
    assert (weights[[0, 1, 4]].sum(axis=0) == 3).all()
    assert (weights[[2, 3]].sum(axis=0) == 2).all()
    assert (weights[5] == 1).all()
    assert weights[0].mean() == pytest.approx(1, abs=0.15)


def test_neither_the_block_size_nor_what_is_asked_for_changes_the_resamples(monkeypatch):
    sample = sample_of(1)
    whole = resample(sample, n_boot=50, seed=3)
    monkeypatch.setattr(module, "BLOCK_SIZE", 4000)
    parts = resample(sample, n_boot=50, seed=3, only=("auc", "fpr"))
    np.testing.assert_allclose(parts["auc"], whole["auc"], atol=1e-12)
    np.testing.assert_allclose(parts["fpr"], whole["fpr"], atol=1e-12)
    assert set(parts) == {"auc", "fpr"}


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    sample = sample_of(1)
    first, again, other = (intervals(sample, n_boot=200, seed=seed)["auc"] for seed in (3, 3, 4))
    assert first == again != other
    assert intervals(sample, n_boot=200, seed=np.random.default_rng(3))["auc"] == first


def test_coarse_levels_leave_the_intervals_where_they_are(monkeypatch):
    sample = sample_of(2, videos=100, frames=40)
    exact = intervals(sample, n_boot=100)
    monkeypatch.setattr(module, "MAX_LEVELS", 1024)
    coarse = intervals(sample, n_boot=100)
    assert coarse["auc"] == pytest.approx(exact["auc"], abs=1e-4)
    assert coarse["eer"] == pytest.approx(exact["eer"], abs=2e-3)
    assert coarse["tpr_at_fpr_5"] == pytest.approx(exact["tpr_at_fpr_5"], abs=6e-3)
    assert coarse["brier"] == exact["brier"]


def test_forgetting_the_videos_makes_the_interval_too_narrow():
    label, score, video = clustered(np.random.default_rng(3), frames=20)
    low, high = intervals(Sample.of(label, score, video))["auc"]
    naive_low, naive_high = intervals(Sample.of(label, score, np.arange(len(label))))["auc"]
    assert high - low > 2 * (naive_high - naive_low)


def test_every_metric_lies_in_its_interval_on_ordinary_scores():
    sample = sample_of(4, videos=200)
    values = metrics.all_metrics(sample.label, sample.score)
    for name, (low, high) in intervals(sample).items():
        assert low <= values[name] <= high, name


@pytest.mark.parametrize("n_clusters", [(1, 5), (5, 1)])
def test_fewer_than_two_clusters_of_a_class_have_no_interval(n_clusters):
    real, fake = n_clusters
    label = np.repeat([0, 1], [real, fake])
    found = intervals(Sample.of(label, np.linspace(0.1, 0.9, len(label)), np.arange(len(label))), n_boot=50)
    assert np.isnan(list(found.values())).all()


def test_one_class_has_intervals_only_for_what_it_defines():
    sample = Sample.of(np.ones(40, dtype=int), np.linspace(0.1, 0.9, 40), np.arange(40) // 2)
    found = intervals(sample, n_boot=100)
    assert np.isnan(found["auc"]).all()
    assert found["tpr"][0] < 0.5 < found["tpr"][1]


def test_no_resamples_and_no_rows_have_no_interval():
    assert np.isnan(intervals(sample_of(1), n_boot=0)["auc"]).all()
    assert np.isnan(intervals(Sample.of([], [], []), n_boot=10)["auc"]).all()


def test_a_detector_without_an_error_is_not_certain():
    label = np.repeat([0, 1], [12, 30])
    found = intervals(Sample.of(label, label.astype(float), np.arange(42)), n_boot=100)
    assert found["auc"] == pytest.approx((0.025 ** (1 / 12), 1.0))
    assert found["eer"] == pytest.approx((0.0, 1 - 0.025 ** (1 / 12)))
    # The exact binomial bound for no false alarm among 12, and no miss among 30.
    assert found["fpr"] == pytest.approx((0.0, 1 - 0.025 ** (1 / 12)))
    assert found["tpr"] == pytest.approx((0.025 ** (1 / 30), 1.0))


def test_a_constant_detector_is_at_chance_as_surely_as_its_clusters_are_many():
    found = intervals(Sample.of([0, 1] * 20, np.full(40, 0.3), np.arange(40)), n_boot=100)
    expected = binomtest(10, 20).proportion_ci(method="exact")
    assert found["auc"] == pytest.approx((expected.low, expected.high))
    assert np.isnan(found["precision"]).all()


def test_four_people_who_are_all_told_alike_do_not_prove_a_rate_of_three_in_four():
    # Each person: a real called real, a fake found and a fake missed; [75, 75] before.
    label, score = np.tile([0, 1, 1], 4), np.tile([0.2, 0.9, 0.1], 4)
    found = intervals(Sample.of(label, score, np.arange(12) // 3), n_boot=200)
    expected = binomtest(3, 4).proportion_ci(method="exact")
    assert found["balanced_accuracy"] == pytest.approx((expected.low, expected.high))
    for name, (low, high) in found.items():
        assert high - low > 0.3 or name == "log_loss", name
        assert METRICS[name].minimum <= low < high <= METRICS[name].maximum or name == "log_loss", name


@given(st.integers(2, 200), st.floats(0, 1), st.sampled_from([(0.0, 1.0), (-1.0, 1.0)]))
def test_an_interval_without_spread_holds_its_value_and_narrows_with_more_clusters(clusters, share, bounds):
    value = bounds[0] + share * (bounds[1] - bounds[0])
    low, high = bounded_interval(np.full(9, value), clusters, *bounds)
    assert bounds[0] <= low <= value + 1e-9
    assert value - 1e-9 <= high <= bounds[1]
    more = bounded_interval(np.full(9, value), 2 * clusters, *bounds)
    assert 0 < more[1] - more[0] < high - low


def test_shuffled_labels_hold_chance_in_their_interval():
    rng = np.random.default_rng(6)
    _, score, video = clustered(rng, videos=80)
    label = rng.permutation(np.arange(80) % 2)[video]
    low, high = intervals(Sample.of(label, score, video))["auc"]
    assert low < 0.5 < high


def test_an_interval_is_undefined_when_many_resamples_are():
    values = np.linspace(0, 1, 100)
    values[:5] = np.nan
    assert not np.isnan(percentile_interval(values)).any()
    values[:20] = np.nan
    assert np.isnan(percentile_interval(values)).all()


def test_log_loss_that_never_varies_has_no_interval():
    sample = sample_of(1)
    found = intervals_of(sample, {"log_loss": 0.7}, {"log_loss": np.full(20, 0.7)})
    assert np.isnan(found["log_loss"]).all()


def test_two_thousand_resamples_of_two_hundred_videos_take_a_second_or_two():
    sample = sample_of(7, videos=200)
    start = time.process_time()
    found = intervals(sample, n_boot=2000)
    assert time.process_time() - start < 5  # 0.3 s alone on one core
    assert set(found) == set(METRICS)


def test_few_clusters_widen_an_interval_as_students_t_does():
    rng = np.random.default_rng(0)
    n = 12
    values = rng.normal(size=n)
    # Resampled means spread with the variance over n; Student's interval is the oracle for their mean.
    drawn = values[rng.integers(0, n, (20_000, n))].mean(axis=1)
    expected = student_t.interval(0.95, n - 1, values.mean(), values.std(ddof=1) / n**0.5)
    assert percentile_interval(drawn, clusters=n) == pytest.approx(expected, abs=0.06)
    narrow = percentile_interval(drawn)
    assert narrow[1] - narrow[0] < 0.9 * (expected[1] - expected[0])


@pytest.mark.slow
def test_the_interval_covers_the_true_auc_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        low, high = intervals(sample_of(seed), n_boot=500, seed=seed, only=("auc",))["auc"]
        covered += low <= 0.85 <= high
    assert 0.90 <= covered / 200 <= 0.98


@pytest.mark.parametrize("frames", [1, 3])
def test_single_images_drawn_by_kind_vary_as_images_drawn_one_by_one(monkeypatch, frames):
    rng = np.random.default_rng(0)
    label = np.repeat(rng.integers(0, 2, 600), frames)
    score = (1 / (1 + np.exp(-rng.normal(size=len(label)) - label))).round(2)
    cluster = np.repeat(np.arange(600), frames)
    cluster[:100] = np.arange(100)  # images among the videos
    sample = Sample.of(label, score, cluster)
    drawn = [resample(sample, 0.6, n_boot=1500, seed=7)]
    monkeypatch.setattr("unmasked.evaluation.intervals.MANY_CLUSTERS", 10)
    drawn.append(resample(sample, 0.6, n_boot=1500, seed=8))
    assert (drawn[1]["fpr"] == resample(sample, 0.6, n_boot=1500, seed=8, only=("fpr",))["fpr"]).all()
    for name in METRICS:
        one_by_one, by_kind = (each[name] for each in drawn)
        assert by_kind.std() == pytest.approx(one_by_one.std(), rel=0.12), name
        assert by_kind.mean() == pytest.approx(one_by_one.mean(), abs=0.2 * one_by_one.std()), name


def test_two_detectors_on_many_images_are_drawn_together_by_what_both_say(monkeypatch):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 800)
    scores = [np.clip(0.3 * label + rng.random(800), 0, 1) for _ in "ab"]
    samples = [Sample.of(label, score, np.arange(800)) for score in scores]
    found = []
    for many in (10**6, 10):
        monkeypatch.setattr("unmasked.evaluation.intervals.MANY_CLUSTERS", many)
        a, b = resample_together(samples, [0.5, 0.7], n_boot=1500, seed=many, only=("fpr", "accuracy"))
        found.append([np.std(a[name] - b[name]) for name in ("fpr", "accuracy")])
    assert found[1] == pytest.approx(found[0], rel=0.12)


@pytest.mark.parametrize(("people", "likeness", "lift"), [(59, 0.995, 0.05), (30, 0.99, 0.3), (60, 0.0, 1.0)])
def test_auc_of_people_who_hold_reals_and_fakes_has_an_interval_around_it_that_holds_the_truth(
    people, likeness, lift
):
    """Each fake is much like its own real: a person who is drawn twice was compared with himself."""
    rng = np.random.default_rng(0)
    truth, held = norm.cdf(lift / np.sqrt(2)), 0
    for run in range(60):
        own, each = rng.normal(size=people), rng.normal(size=(2, people))
        real, fake = np.sqrt(likeness) * own + np.sqrt(1 - likeness) * each + np.array([[0], [lift]])
        scores = norm.cdf(np.concatenate([real, fake]))
        sample = Sample.of(np.repeat([0, 1], people), scores, np.tile(np.arange(people), 2))
        low, high = intervals(sample, n_boot=300, seed=run, only=["auc"])["auc"]
        assert low <= metrics.auc(sample.label, sample.score) <= high
        held += low <= truth <= high
    assert held >= 53  # of 30 people as alike, 38 before


def test_one_error_among_thirty_three_does_not_make_the_ap_unknown():
    score = np.r_[np.linspace(0.05, 0.4, 15), 0.7, np.linspace(0.6, 0.95, 17)]
    sample = Sample.of(np.r_[np.zeros(16), np.ones(17)], score, np.arange(33))
    value = average_precision_score(sample.label, sample.score)
    low, high = intervals(sample, n_boot=500, seed=0)["ap"]
    assert value > 0.97
    assert 0.7 < low < value < high < 1


def test_a_nearly_perfect_auc_has_an_interval_that_holds_the_truth():
    """At an AUC of 0.98, percentiles held it in 88 of 100 sets of 60 + 60 videos; this in 282 of 300."""
    held = 0
    for seed in range(100):
        sample = sample_of(seed, videos=120, frames=1, auc=0.98)
        low, high = intervals(sample, n_boot=200, seed=seed, only=("auc",))["auc"]
        assert 0 <= low <= metrics.auc(sample.label, sample.score) <= high <= 1
        held += low <= 0.98 <= high
    assert held >= 90


def test_calibrated_scores_have_an_ece_whose_interval_holds_zero():
    """Percentiles shifted by twice the bias that resamples show held 0 in 10 of 40 such sets."""
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(40):
        score = rng.uniform(0, 1, 120)
        label = (rng.uniform(size=120) < score).astype(int)
        held += intervals(Sample.of(label, score, np.arange(120)), n_boot=300, only=["ece"])["ece"][0] == 0
    assert held >= 36


def test_the_words_for_intervals_name_every_metric_that_has_no_plain_percentiles():
    said, plain = describe_intervals().split("Every other")
    assert "percentiles of the resamples" in plain
    for one in METRICS.values():
        is_plain = one.rate_of is None and one.fpr_max is None and one.resamples == "as they are"
        assert (one.title in re.split(r"[:.,] (?:and )?| within | of people", said)) != is_plain, one.title


def test_the_ece_of_fewer_rows_than_bins_is_not_bounded_below():
    low, high = intervals(sample_of(3, videos=12), n_boot=200, only=["ece"])["ece"]
    assert low == 0
    assert high > 0.2


def test_many_samples_that_share_clusters_are_resampled_as_few_are():
    """The code of what a cluster holds overflowed from 32 samples on, and no cluster was drawn."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(40), 3)
    sample = Sample.of(person % 2, rng.random(120), person)
    few = resample_together([sample] * 2, [0.5] * 2, n_boot=20, only=["auc", "fpr"])
    many = resample_together([sample] * 70, [0.5] * 70, n_boot=20, only=["auc", "fpr"])
    for drawn in many:
        for name, values in drawn.items():
            np.testing.assert_array_equal(values, few[0][name])


@pytest.mark.parametrize(("videos", "frames", "fpr_max"), [(60, 1, 0.05), (120, 1, 0.01), (800, 4, 0.01)])
def test_tpr_at_a_low_fpr_has_an_interval_that_holds_the_truth(videos, frames, fpr_max):
    """Of 60 reals, percentiles of resamples held the TPR at FPR 1 % in 75 of 100 sets."""
    truth, held, sets = norm.cdf(norm.ppf(fpr_max) + norm.ppf(0.85) * 2**0.5), 0, 150
    for seed in range(sets):
        sample = Sample.of(*clustered(np.random.default_rng(seed), videos=videos, frames=frames))
        low, high = tpr_at_fpr_interval(sample, fpr_max)
        assert low <= metrics.tpr_at_fpr(sample.label, sample.score, fpr_max) <= high
        held += low <= truth <= high
    assert held >= 0.93 * sets


@pytest.mark.parametrize(("few", "more", "fpr_max"), [(290, 310, 0.01), (56, 62, 0.05), (26, 32, 0.10)])
def test_tpr_at_an_fpr_is_not_bounded_below_by_reals_that_may_all_lie_under_the_threshold(few, more, fpr_max):
    for number, is_bounded in ((few, False), (more, True)):
        sample = Sample.of(
            np.repeat([0, 1], [number, 50]), np.linspace(0, 1, number + 50), np.arange(number + 50)
        )
        low, high = tpr_at_fpr_interval(sample, fpr_max)
        assert (low > 0) == is_bounded == (0.5 * binom.pmf(0, number, fpr_max) < 0.025)
        assert high == 1


def test_tpr_at_an_fpr_joins_the_exact_ends_of_the_threshold_with_wilson_of_the_fakes():
    rng = np.random.default_rng(3)
    real, fake = np.sort(rng.random(1000)), rng.random(300) ** 0.5
    sample = Sample.of(np.repeat([0, 1], [1000, 300]), np.r_[real, fake], np.arange(1300))
    above = np.arange(1001)
    mid_p = binom.cdf(above, 1000, 0.05) - 0.5 * binom.pmf(above, 1000, 0.05)
    inside = above[(mid_p > 0.025) & (mid_p < 0.975)]
    value = (fake > real[-51]).mean()
    own = binomtest(int((fake > real[-51]).sum()), 300).proportion_ci(method="wilson")
    ends = (fake >= real[-inside.min()]).mean(), (fake > real[-1 - inside.max()]).mean()
    expected = (
        value - np.hypot(value - own[0], value - ends[0]),
        value + np.hypot(own[1] - value, ends[1] - value),
    )
    assert tpr_at_fpr_interval(sample, 0.05) == pytest.approx(expected, abs=2e-3)  # Student's t for normal


def test_tpr_at_an_fpr_of_one_real_video_or_without_resamples_has_no_interval():
    sample = sample_of(1)
    assert np.isnan(tpr_at_fpr_interval(Sample.of([0, 1, 1], [0.1, 0.2, 0.3], [0, 1, 2]), 0.05)).all()
    found = intervals_of(sample, {"tpr_at_fpr_5": 0.4}, {"tpr_at_fpr_5": np.empty(0)})
    assert np.isnan(found["tpr_at_fpr_5"]).all()
