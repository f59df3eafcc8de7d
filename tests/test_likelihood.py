"""Likelihood ratios against lir's numbers, laws that hold for any scores, and what must be refused."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from unmasked.datasets.errors import InputError
from unmasked.evaluation.intervals import Sample
from unmasked.evaluation.likelihood import (
    KINDS,
    STEP,
    LikelihoodRatio,
    cllr,
    cllr_min,
    elub,
    empirical_cross_entropy,
    fit_likelihood,
    likelihood_effect,
    posterior,
    stated_support,
    support_sentence,
    support_words,
    tippett,
)


def two_normals(d=1.5, n=200):
    """Exact log10 LRs of two unit normals whose means lie d apart, reals first."""
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(0, 1, n), rng.normal(d, 1, n)]
    return (d * x - d**2 / 2) / np.log(10), np.repeat([0, 1], n)


def unequal(n_real, n_fake, spread, rng):
    x = np.r_[rng.normal(-0.4, spread, n_real), rng.normal(0.6, spread, n_fake)].round(3)
    return x, np.repeat([0, 1], [n_real, n_fake])


# lir 1.3.1 (Netherlands Forensic Institute): cllr, cllr_min, elub.
@pytest.mark.parametrize(
    ("factor", "cost", "bounds"),
    [
        (1, 0.7054062520147115, (-0.98, 1.27)),
        (2, 0.8122935832027208, (-0.84, 0.61)),
        (5, 1.511365778073065, (-0.5, 0.51)),
    ],
)
def test_costs_and_bounds_are_those_of_the_forensic_institute(factor, cost, bounds):
    log10_lr, label = two_normals()
    assert cllr(factor * log10_lr, label) == pytest.approx(cost, abs=1e-9)
    assert cllr_min(factor * log10_lr, label) == pytest.approx(0.6441297166399551, abs=1e-9)
    assert elub(factor * log10_lr, label) == pytest.approx(bounds, abs=1e-9)


def test_costs_and_bounds_of_unequal_classes_are_those_of_the_forensic_institute():
    rng = np.random.default_rng(7)
    for sizes, cost, least, bounds in (
        ((30, 20, 1.0), 0.6972555178169383, 0.5683994930322227, (-0.45, 0.7)),
        ((140, 700, 2.0), 1.8242960206976067, 0.9070748267074187, (-0.25, 0.25)),
        ((8, 5, 3.0), 1.7109982765471146, 0.490974189153394, (-0.3, 0.3)),
    ):
        log10_lr, label = unequal(*sizes, rng)
        found = cllr(log10_lr, label), cllr_min(log10_lr, label), *elub(log10_lr, label)
        assert found == pytest.approx((cost, least, *bounds), abs=1e-9)


def test_an_lr_of_one_everywhere_costs_one_bit_and_an_absent_class_has_no_cost():
    assert cllr(np.zeros(7), [0, 0, 0, 1, 1, 1, 1]) == 1.0
    assert np.isnan(cllr([0.5], [1]))
    assert np.isnan(cllr_min([0.5], [1]))
    assert cllr([-np.inf, np.inf], [0, 1]) == 0
    assert cllr([np.inf, np.inf], [0, 1]) == np.inf


rows = st.lists(
    st.tuples(st.integers(0, 1), st.floats(-4, 4).map(lambda x: round(x, 2))), min_size=4, max_size=40
).filter(lambda rows: 0 < sum(label for label, _ in rows) < len(rows))


@settings(max_examples=30, deadline=None)
@given(rows)
def test_no_rising_map_costs_less_than_the_minimum_and_bounds_hold(drawn):
    label, log10_lr = (np.array(column) for column in zip(*drawn, strict=True))
    least = cllr_min(log10_lr, label)
    assert -1e-12 <= least <= min(1, cllr(log10_lr, label)) + 1e-12
    for factor in (0.3, 2.0):
        assert cllr(factor * log10_lr + 0.1, label) >= least - 1e-12
        assert cllr_min(factor * log10_lr + 0.1, label) == pytest.approx(least, abs=1e-12)
    low, high = elub(log10_lr, label)
    assert -np.log10(label.sum() + 1) - STEP <= low <= 0 <= high <= np.log10((1 - label).sum() + 1) + STEP
    # Exchanging the propositions turns every sign.
    assert cllr(-log10_lr, 1 - label) == pytest.approx(cllr(log10_lr, label), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(rows, st.sampled_from(KINDS))
def test_a_fitted_lr_never_falls_with_the_score_and_comes_back_from_json(drawn, kind):
    label, value = (np.array(column) for column in zip(*drawn, strict=True))
    found = fit_likelihood(label, 1 / (1 + np.exp(-value)), kind, fitted_on="A, val split")
    score = np.linspace(0, 1, 101)
    log10_lr = found(score)
    assert (np.diff(log10_lr) >= -1e-12).all()
    assert log10_lr.min() >= found.lower
    assert log10_lr.max() <= found.upper
    again = LikelihoodRatio.from_dict(json.loads(json.dumps(asdict(found))))
    assert again == found
    assert (again(score) == log10_lr).all()


def test_the_logistic_lr_finds_the_lr_that_the_scores_were_drawn_from():
    rng = np.random.default_rng(3)
    d, n = 2.0, 20_000
    label = np.repeat([0, 1], [n, 3 * n])  # classes of unequal size must not move an LR
    x = rng.normal(label * d - d / 2, 1)
    found = fit_likelihood(label, 1 / (1 + np.exp(-x)))
    truth = d * np.array([-1.5, 0.0, 1.5]) / np.log(10)
    assert found(1 / (1 + np.exp(-np.array([-1.5, 0.0, 1.5])))) == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stated_lr_is_the_observed_one_on_new_videos(kind):
    rng = np.random.default_rng(5)

    def draw(n):
        label = np.repeat([0, 1], n)
        return label, 1 / (1 + np.exp(-rng.normal(label * 1.6 - 0.8, 1)))

    found = fit_likelihood(*draw(500), kind)
    label, score = draw(20_000)
    log10_lr = found(score)
    for low, high in ((-0.8, -0.4), (-0.2, 0.2), (0.4, 0.8)):
        here = (log10_lr >= low) & (log10_lr < high)
        observed = np.log10((label[here] == 1).sum() / (label[here] == 0).sum())
        assert observed == pytest.approx(log10_lr[here].mean(), abs=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_fall_with_the_share_of_fakes_speak_for_nothing(kind):
    found = fit_likelihood([1] * 20 + [0] * 20, [0.1] * 20 + [0.9] * 20, kind)
    assert found([0.0, 0.5, 1.0]) == pytest.approx([0, 0, 0], abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_perfectly_separate_scores_state_no_more_than_their_number_supports(kind):
    found = fit_likelihood([0] * 30 + [1] * 30, [0.001] * 30 + [0.999] * 30, kind)
    assert abs(found([0.0, 1.0])).max() <= np.log10(31) + STEP
    assert "at least" in support_sentence(float(found(1.0)), found)
    assert "30 real and 30 fake calibration videos do not support it" in support_sentence(found.upper, found)


def test_the_words_of_the_guideline_begin_at_their_lr():
    for lr, words in (
        (1.9, "no support for either"),
        (2, "weak support for fake"),
        (10, "moderate support for fake"),
        (100, "moderately strong support for fake"),
        (1000, "strong support for fake"),
        (10_000, "very strong support for fake"),
        (1_000_000, "extremely strong support for fake"),
    ):
        assert support_words(np.log10(lr)) == words
    assert support_words(-1) == "moderate support for real"


def test_a_sentence_names_both_propositions_and_is_no_posterior():
    found = fit_likelihood([0] * 30 + [1] * 30, np.r_[np.linspace(0, 0.7, 30), np.linspace(0.3, 1, 30)])
    for value in (-0.5, 0.0, 0.5):
        said = support_sentence(value, found)
        assert "the file is fake, made as" in said
        assert "the file is real, made as" in said
        assert "no probability that the file is fake" in said
    assert "like this is as frequent if" in support_sentence(0.0, found)  # it was "1 times as frequent"


def test_a_posterior_needs_a_prior_and_is_bayes_rule():
    assert posterior([1, 3], 0.01) == pytest.approx([10 / 109, 1000 / 1099], abs=1e-12)
    for prior in (0, 1, -0.1, float("nan")):
        with pytest.raises(InputError, match="give one between 0 and 1"):
            posterior([1.0], prior)


def test_entropy_at_even_odds_is_the_cost_and_no_lr_keeps_the_prior_s():
    log10_lr, label = two_normals()
    assert empirical_cross_entropy(log10_lr, label, [0.0]) == pytest.approx(
        [cllr(log10_lr, label)], abs=1e-12
    )
    p = 10 / 11
    prior_bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    assert empirical_cross_entropy(0 * log10_lr, label, [1.0]) == pytest.approx([prior_bits], abs=1e-12)


def test_tippett_shares_fall_from_all_to_one_row():
    log10_lr, label = two_normals()
    found = tippett(log10_lr, label)
    assert (np.diff(found["fake"]) <= 0).all()
    assert found["fake"][0] == found["real"][0] == 1
    at_zero = np.searchsorted(found["log10_lr"], 0)
    assert found["real"][at_zero] == pytest.approx((log10_lr[label == 0] > 0).mean())


def test_what_cannot_be_fitted_or_read_is_said():
    with pytest.raises(InputError, match="Give a calibration split that has them"):
        fit_likelihood([0, 0], [0.1, 0.2])
    with pytest.raises(InputError, match="choose logistic or pav"):
        fit_likelihood([0, 1], [0.1, 0.2], "kde")
    with pytest.raises(InputError, match="NaN"):
        cllr([np.nan, 0], [0, 1])
    with pytest.raises(InputError, match="need real and fake"):
        elub([1.0], [1])
    good = asdict(fit_likelihood([0, 1] * 5, [0.2, 0.8] * 5))
    for wrong in (
        {"kind": "kde"},
        {"lower": 1.0},
        {"parameter": {"slope": -1, "intercept": 0}},
        {"parameter": {"slope": 1}},
        {"upper": None},
        {"kind": "pav", "parameter": {"score": [0, 1], "log10_lr": [1, 0]}},
    ):
        with pytest.raises(InputError, match="not a stored likelihood ratio"):
            LikelihoodRatio.from_dict(good | wrong)


def test_what_stored_ratios_do_elsewhere_is_the_oracle_s_cost_and_its_curves_meet_it():
    """Cllr and its minimum as lir 1.3.1 gives them; at even priors the cross-entropy is the cost."""
    log10_lr, label = two_normals()
    score = special.expit(log10_lr * np.log(10))  # whose natural logit is ln LR
    stored = LikelihoodRatio("logistic", {"slope": 1 / np.log(10), "intercept": 0.0}, -9.0, 9.0)
    found = likelihood_effect(Sample.of(label, score, np.arange(len(label))), stored, n_boot=200)
    assert found["cllr"] == pytest.approx(0.7054062520147115, abs=1e-9)
    assert found["cllr_min"] == pytest.approx(0.6441297166399551, abs=1e-9)
    assert found["cllr_ci"][0] < found["cllr"] < found["cllr_ci"][1]
    even = found["ece"]["prior_log10_odds"].index(0.0)
    assert found["ece"]["stated"][even] == pytest.approx(found["cllr"])
    assert found["ece"]["best"][even] == pytest.approx(found["cllr_min"])
    assert found["ece"]["without"][even] == pytest.approx(1.0)
    assert found["tippett"] == tippett(stored(score), label)


def test_files_of_one_person_give_no_interval_of_the_cost():
    """It was [1.38, 1.38] on the report: resamples of one person are all alike."""
    label, score = np.array([0, 0, 1, 1]), np.array([0.2, 0.4, 0.5, 0.9])
    stored = fit_likelihood(label, score)
    found = likelihood_effect(Sample.of(label, score, np.zeros(4, int)), stored, n_boot=50)
    assert np.isfinite(found["cllr"])
    assert np.isnan(found["cllr_ci"]).all()


def test_true_ratios_are_observed_as_stated_and_overstated_ones_are_not():
    """Two normals have their LRs by formula: 95 of 100 intervals should hold what is stated."""
    inside, overstated = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = np.r_[rng.normal(0, 1, 300), rng.normal(1.5, 1, 300)]
        true, label = (1.5 * x - 1.5**2 / 2) / np.log(10), np.repeat([0, 1], 300)
        for factor, kept in ((1, inside), (3, overstated)):
            groups = stated_support(factor * true, label)
            # The outer groups are wide: a mean of logarithms is no mean of ratios there.
            kept += [one["observed_ci"][0] <= one["stated"] <= one["observed_ci"][1] for one in groups[1:-1]]
    assert np.mean(inside) > 0.9
    assert np.mean(overstated) < 0.6
