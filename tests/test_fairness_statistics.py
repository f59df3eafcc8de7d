"""Resampling, spread, crossings and scores by group: against oracles, then by what they must mean."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from unmasked.datasets.errors import InputError
from unmasked.evaluation.intervals import Sample, resampled_sums, weighted_metrics, wilson_interval
from unmasked.evaluation.metrics import all_metrics
from unmasked.fairness.groups import crossings, group_names
from unmasked.fairness.statistics.distributions import calibration, score_histograms
from unmasked.fairness.statistics.resampling import (
    gap_interval,
    kinds,
    permuted_sums,
    precision_weights,
    strata,
)
from unmasked.fairness.statistics.score_tables import (
    cross_auc,
    cut,
    exact_cross_auc,
    metrics_of,
    permute_cells,
)
from unmasked.fairness.statistics.spread import between_group_spread

SCORE_METRICS = ("auc", "eer", "brier", "ece")


@given(arrays(np.int64, st.tuples(st.integers(1, 30), st.just(4)), elements=st.integers(0, 5)))
@settings(deadline=None, max_examples=50)
def test_kinds_are_the_distinct_rows(counts):
    rows, of_unit = kinds(counts)
    assert (rows[of_unit] == counts).all()
    assert len(rows) == len(np.unique(counts, axis=0))


def test_kinds_of_huge_counts_do_not_overflow():
    counts = np.array([[2**20, 2**21, 2**22, 2**23], [1, 2, 3, 4], [2**20, 2**21, 2**22, 2**23]])
    rows, of_unit = kinds(counts)
    assert len(rows) == 2
    assert (rows[of_unit] == counts).all()


def test_drawn_tables_have_the_law_of_shuffled_labels():
    rng = np.random.default_rng(0)
    # 3,000 images of two kinds go the way of drawn tables; made unlike each other they are shuffled.
    kind = (rng.random(3000) < 0.2).astype(int)
    codes = rng.integers(0, 3, 3000)
    drawn = permuted_sums(np.array([[1, 0], [0, 1]]), kind, codes, np.ones(3000), 4000, rng)
    shuffled = permuted_sums(
        np.stack([1 - kind, kind], axis=1), np.arange(3000), codes, np.ones(3000), 1000, rng
    )
    assert (drawn.sum(axis=2) == np.bincount(codes)).all()
    assert (drawn.sum(axis=1) == [(kind == 0).sum(), kind.sum()]).all()
    np.testing.assert_allclose(drawn.mean(axis=0), shuffled.mean(axis=0), atol=1.5)
    np.testing.assert_allclose(drawn.std(axis=0), shuffled.std(axis=0), rtol=0.1)


def test_precision_weights_count_frames_if_unrelated_and_videos_if_copies():
    rng = np.random.default_rng(0)
    rows = np.repeat([1, 30], 2000)
    unrelated = precision_weights(rows, rng.binomial(rows, 0.3))
    assert unrelated[-1] / unrelated[0] == pytest.approx(30, rel=0.25)
    copies = precision_weights(rows, rows * rng.binomial(1, 0.3, 4000))
    assert copies.tolist() == [1.0] * 4000


def test_precision_weights_recover_the_intra_class_correlation():
    rng = np.random.default_rng(1)
    rows = rng.integers(1, 31, 5000)
    events = rng.binomial(rows, rng.beta(0.15, 0.85, 5000))  # ICC 0.5
    np.testing.assert_allclose(precision_weights(rows, events), 1 / (0.5 + 0.5 / rows), rtol=0.1)


def test_equivalence_limit_is_that_of_two_one_sided_tests():
    # Two shares of 10,000 each: difference 0.005, standard error 0.00566, z(0.95) = 1.645.
    share, n = np.array([0.2, 0.205]), np.array([10_000.0, 10_000.0])
    high = gap_interval(
        share,
        lambda confidence: wilson_interval(share, share * (1 - share) / n, n, n, confidence=confidence),
        confidence=0.9,
    )[1]
    error = np.sqrt((share * (1 - share) / n).sum())
    assert high == pytest.approx(0.005 + 1.645 * error, abs=2e-4)


def test_spread_of_equal_groups_is_noise_and_is_taken_away():
    rng = np.random.default_rng(0)
    variance = np.full(6, 0.03**2)
    found = [between_group_spread(0.2 + 0.03 * rng.normal(size=6), variance) for _ in range(500)]
    assert np.mean([one["raw"] for one in found]) > 0.025
    assert np.mean([one["corrected"] == 0 for one in found]) > 0.5
    assert np.mean([one["corrected_ci"][0] == 0 for one in found]) == pytest.approx(0.975, abs=0.015)


def test_interval_of_the_spread_covers_the_true_one():
    rng = np.random.default_rng(1)
    truth = np.array([0.10, 0.15, 0.20, 0.35])
    variance = np.array([0.02, 0.03, 0.04, 0.05]) ** 2
    true = truth.std(ddof=1)
    found = [
        between_group_spread(truth + np.sqrt(variance) * rng.normal(size=4), variance) for _ in range(500)
    ]
    low, high = np.array([one["corrected_ci"] for one in found]).T
    assert 0.92 < np.mean((low <= true) & (true <= high)) < 0.98
    squared = np.mean([one["corrected"] ** 2 for one in found])
    assert squared == pytest.approx(true**2, rel=0.1)


def test_spread_of_one_group_is_undefined():
    assert np.isnan(between_group_spread(np.array([0.1, np.nan]), np.array([0.1, 0.1]))["corrected"])


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 3000)
    score = np.clip(np.round(rng.normal(0.4 + 0.2 * label, 0.2), 3), 0, 1)
    return label, score, rng.integers(0, 3, 3000)


def test_cross_group_auc_equals_scikit_learns_on_fakes_of_one_and_reals_of_the_other(scored):
    label, score, codes = scored
    levels = cut(label, score)
    exact = exact_cross_auc(label, codes, 3, levels)
    counts = np.stack(
        [np.bincount(levels.cell[codes == code], minlength=2 * levels.size) for code in range(3)]
    )[:, None].astype(float)
    resampled = cross_auc(counts, levels)[..., 0]
    for positive in range(3):
        for negative in range(3):
            chosen = ((codes == positive) & (label == 1)) | ((codes == negative) & (label == 0))
            expected = roc_auc_score(label[chosen], score[chosen])
            assert exact[positive, negative] == pytest.approx(expected, abs=1e-12)
            assert resampled[positive, negative] == pytest.approx(expected, abs=2e-3)


def test_metrics_from_levels_are_those_from_every_score(scored):
    label, score, _ = scored
    levels = cut(label, score)
    counts = np.bincount(levels.cell, minlength=2 * levels.size)[None].astype(float)
    exact = all_metrics(label, score)
    for name, values in metrics_of(counts, levels, SCORE_METRICS).items():
        assert values[0] == pytest.approx(exact[name], abs=1e-3), name


@pytest.mark.parametrize("rows_per_unit", [1, 5])
def test_resampled_levels_have_the_variance_of_resampled_units(scored, rows_per_unit):
    label, score, _ = scored
    label = np.repeat(label[::rows_per_unit], rows_per_unit)  # units of one class, as videos are
    unit = np.arange(3000) // rows_per_unit
    rng = np.random.default_rng(1)
    levels, size = cut(label, score), 3000 // rows_per_unit
    stratum = 1 + label[::rows_per_unit]
    sample = Sample(label, score, unit, size)
    one_hot = (levels.cell == np.arange(2 * levels.size)[:, None]).astype(float)
    drawn = resampled_sums(sample, one_hot, n_boot=600, seed=rng).T
    weight = np.zeros((600, size))
    for row in weight:
        for which in (1, 2):
            member = np.flatnonzero(stratum == which)
            row[member] = np.bincount(rng.integers(len(member), size=len(member)), minlength=len(member))
    expected = weighted_metrics(sample, weight.T, only=SCORE_METRICS)
    found = metrics_of(drawn, levels, SCORE_METRICS)
    for name in SCORE_METRICS:
        assert found[name].std() == pytest.approx(expected[name].std(), rel=0.15), name


def test_shuffled_levels_keep_margins_and_vary_as_shuffled_units():
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.ones(400, dtype=int), np.full(100, 6)])  # images, and videos of six frames
    unit = np.repeat(np.arange(500), rows)
    cell, codes = rng.integers(0, 8, len(unit)), rng.integers(0, 3, 500)
    cell[unit >= 400] = unit[unit >= 400] % 8  # frames of a video are alike
    found = permute_cells(cell, unit, codes, np.ones(500), 8, 2000, rng)
    assert (found.sum(axis=1) == np.bincount(cell, minlength=8)).all()
    expected = np.zeros((2000, 3, 8))
    for number in range(2000):
        shuffled = rng.permutation(codes)[unit]
        expected[number] = np.bincount(shuffled * 8 + cell, minlength=24).reshape(3, 8)
    np.testing.assert_allclose(found.mean(axis=0), expected.mean(axis=0), rtol=0.05)
    np.testing.assert_allclose(found.std(axis=0), expected.std(axis=0), rtol=0.12)


def test_histograms_and_calibration_count_every_row_once(scored):
    label, score, codes = scored
    names = pd.Series(np.array(["a", "b", "c"], dtype=object)[codes])
    histograms = score_histograms(label, score, names)
    for one in histograms:
        own = (names == one["group"]).to_numpy() & (label == one["label"])
        expected, _ = np.histogram(score[own], bins=np.linspace(0, 1, 21))
        assert sum(one["counts"]) == own.sum()
        assert np.abs(np.array(one["counts"]) - expected).sum() <= 0.05 * own.sum()  # scores on an edge
    for one in calibration(label, score, names):
        own = (names == one["group"]).to_numpy()
        assert sum(one["n"]) == own.sum()
        assert np.dot(one["n"], one["share_fake"]) == pytest.approx(label[own].sum())
        assert np.dot(one["n"], one["score"]) == pytest.approx(score[own].sum())


def test_every_pair_that_says_something_new_is_crossed():
    groups = pd.DataFrame(
        {
            "gender": list("fmfmfmfm"),
            "tone": ["light", "light", "dark", "dark"] * 2,
            "monk": ["1", "2", "8", "9", "2", "1", "9", "8"],
        }
    )
    crossed, left_out = crossings(groups)
    assert list(crossed) == ["gender × tone", "gender × monk"]
    assert list(left_out) == ["tone × monk"]
    assert "says nothing new" in left_out["tone × monk"]
    assert crossings(groups, None)[0].shape == (8, 0)
    triple, _ = crossings(groups, [("gender", "tone", "monk")])
    assert triple.iloc[0, 0] == "f × light × 1"


def test_a_crossing_that_is_there_already_is_not_made_again():
    groups = pd.DataFrame({"a": list("xyxy"), "b": list("uuvv"), "a × b": ["1", "2", "3", "4"]})
    assert crossings(groups)[0].shape == (4, 0)


def test_pairs_with_more_groups_than_anybody_can_compare_are_left_out():
    numbers = np.arange(400)
    groups = pd.DataFrame({"a": (numbers % 8).astype(str), "b": (numbers // 8 % 9).astype(str)})
    crossed, left_out = crossings(groups)
    assert crossed.empty
    assert "72 groups, at most 50" in left_out["a × b"]


@pytest.mark.parametrize("chosen", [[("a",)], [("a", "c")], "triples"])
def test_crossings_that_cannot_be_made_are_refused(chosen):
    with pytest.raises(InputError, match="intersections"):
        crossings(pd.DataFrame({"a": ["x"], "b": ["y"]}), chosen)


def test_group_names_of_a_column_of_every_type():
    assert group_names(pd.Series([True, False])).tolist() == ["True", "False"]
    assert group_names(pd.Series([1.5, 2.0])).tolist() == ["1.5", "2.0"]
    assert group_names(pd.Series(["a", None], dtype="category")).tolist() == ["a", "unknown"]
    assert group_names(pd.Series([3, None], dtype="Int64")).tolist() == ["3", "unknown"]


def test_strata_are_the_classes_that_a_unit_holds():
    assert strata(np.array([[1, 0, 0, 0], [0, 0, 0, 2], [0, 1, 1, 0]])).tolist() == [1, 2, 3]
