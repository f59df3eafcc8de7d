"""Which pair of groups differs: the test of every pair, its interval and what chance shows."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from unmasked.analysis.reports.fairness.page import section
from unmasked.fairness.audit import audit
from unmasked.fairness.run import fairness_record
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.comparisons import TEST_COLUMNS, judge_tests
from unmasked.fairness.statistics.pairs import compare_pairs
from unmasked.fairness.statistics.resampling import holm, holm_levels
from unmasked.fairness.verdicts import sentence


def drawn(sizes, events, permutations=400, seed=0):
    """The test of groups of so many videos, so many of them called fake; one row a video."""
    sizes, events = np.array(sizes), np.array(events)
    rng = np.random.default_rng(seed)
    shuffled = rng.multivariate_hypergeometric(sizes, int(events.sum()), size=permutations) / sizes
    weight = sizes.astype(float)
    names = [f"g{number}" for number in range(len(sizes))]
    return compare_pairs(names, events / sizes, weight, shuffled, np.tile(weight, (permutations, 1)))


groups = st.lists(
    st.integers(10, 400).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size))),
    min_size=2,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(groups, st.integers(1, 30))
def test_verdict_interval_and_chance_agree_for_every_pair(found, tests):
    test = drawn(*zip(*found, strict=True))
    level = 0.05 / tests
    high, low = test.widest
    critical = test.critical(level, high, low)
    difference = test.share[high] - test.share[low]
    lower, upper = test.limits(high, low, critical)
    assert -1 <= lower <= difference <= upper <= 1
    assert lower < upper
    significant = test.p_value < level
    assert (lower > 0) == significant
    if significant:
        assert difference > test.chance(high, low, critical)
    elif difference > 0:
        assert difference <= test.chance(high, low, critical) + 1e-9


def test_two_groups_are_as_significant_as_fishers_exact_test_has_them():
    test = drawn([209, 209], [73, 33], permutations=20_000)
    assert test.p_value < 1e-3
    near = drawn([60, 50], [20, 9], permutations=20_000)
    assert near.p_value == pytest.approx(fisher_exact([[20, 40], [9, 41]]).pvalue, abs=0.02)


def test_a_rare_third_group_does_not_hide_the_difference_of_the_other_two():
    test = drawn([209, 209, 11], [73, 33, 1])
    assert test.widest == (0, 1)
    assert test.p_value < 0.01
    assert test.p_pairs[0, 2] > 0.05 < test.p_pairs[1, 2]


def test_the_largest_gap_is_named_where_it_is_of_a_rarer_group_than_the_pair():
    """Missed fakes: "at most 5.6 points between men and women", and a third group was 13 points away."""
    sizes, missed = (
        {"female": 400, "male": 400, "nonbinary": 19},
        {"female": 136, "male": 158, "nonbinary": 9},
    )
    group = np.repeat(list(sizes), list(sizes.values()))
    score = np.concatenate([np.where(np.arange(sizes[name]) < missed[name], 0.2, 0.8) for name in sizes])
    found = audit(
        np.ones(len(group), int), score, sensitive_features={"gender": group}, n_boot=100, n_perm=400
    )
    test = found.tests.set_index("metric").loc["tpr"]
    assert (test["worst_group"], test["best_group"]) == ("male", "female")
    assert (test["gap_worst"], test["gap_best"]) == ("nonbinary", "female")
    (said,) = [one for one in found.verdicts if "fakes are missed" in one and "no difference" in one]
    assert "at most" not in said
    assert "The largest, 13 points between people of gender “nonbinary” and women, is not told" in said
    two = audit(
        np.ones(800, int), score[:800], sensitive_features={"gender": group[:800]}, n_boot=100, n_perm=100
    )
    assert "The largest" not in " ".join(two.verdicts)


def test_a_pair_is_held_against_no_more_pairs_than_differ_less_than_it():
    """Step-down: the smallest difference of three is tested as if alone, and not before the larger ones."""
    test = drawn([300, 300, 300], [150, 90, 60], permutations=4000)
    order = [test.p_pairs[0, 2], test.p_pairs[0, 1], test.p_pairs[1, 2]]
    assert order == sorted(order)
    single_step = (1 + (test.null >= test.z[1, 2] ** 2 + test.bonus[1, 2]).sum()) / 4001
    assert test.p_pairs[1, 2] < single_step


def test_false_alarms_over_all_pairs_are_five_in_a_hundred_with_rare_groups():
    rng = np.random.default_rng(1)
    sizes = [300, 300, 10, 12, 30]
    p_values = [drawn(sizes, rng.binomial(sizes, 0.1), 199, seed).p_value for seed in range(400)]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.08


def test_power_hardly_falls_by_a_rare_third_group():
    rng = np.random.default_rng(2)

    def found(sizes, rates):
        return np.mean(
            [drawn(sizes, rng.binomial(sizes, rates), 199, seed).p_value < 0.05 for seed in range(300)]
        )

    for rates in ([0.15, 0.30], [0.05, 0.15]):
        alone = found([150, 150], rates)
        assert found([150, 150, 11], [*rates, rates[0]]) >= 0.88 * alone


def test_where_one_group_differs_the_other_two_are_named_in_five_of_a_hundred():
    rng = np.random.default_rng(3)
    sizes, rates = [200, 150, 60], [0.1, 0.1, 0.45]
    tests = [drawn(sizes, rng.binomial(sizes, rates), 199, seed) for seed in range(300)]
    named = [test.pairs_below(0.05) for test in tests]
    assert np.mean([(2, 0) in pairs for pairs in named]) > 0.95
    assert 0.015 <= np.mean([bool({(0, 1), (1, 0)} & set(pairs)) for pairs in named]) <= 0.08


def test_a_difference_of_a_rare_group_alone_is_still_found():
    rng = np.random.default_rng(4)
    sizes, rates = [500, 500, 30], [0.1, 0.1, 0.45]
    found = [drawn(sizes, rng.binomial(sizes, rates), 199, seed).pairs_below(0.05) for seed in range(100)]
    assert np.mean([bool(pairs) and pairs[0][0] == 2 for pairs in found]) > 0.95


def test_too_few_permutations_for_the_family_reject_nothing_and_bound_nothing():
    test = drawn([200, 200], [150, 20], permutations=50)
    assert test.critical(0.05 / 10, 0, 1) == np.inf
    assert test.limits(0, 1, np.inf) == (-1.0, 1.0)
    assert test.chance(0, 1, np.inf) == 1.0


@pytest.mark.parametrize(("threshold", "what"), [(0.999, "Nothing"), (0.0, "Everything")])
def test_a_threshold_that_decides_alike_on_everybody_is_said_to(threshold, what):
    """Where nothing was above it, "a difference of 1.5 points would be found" stood beside equal rates."""
    rng = np.random.default_rng(0)
    found = audit(
        np.repeat([0, 1], 200),
        rng.uniform(0.1, 0.9, 400),
        sensitive_features=pd.Series(np.tile(["female", "male"], 200), name="gender"),
        threshold=threshold,
        n_boot=100,
        n_perm=100,
    )
    said = f"At this threshold {what.lower()} is called fake, in all groups of gender"
    assert len(found.verdicts) == 2
    assert all(words.startswith(said) and "would be found" not in words for words in found.verdicts)
    page = str(section(fairness_record({"A": found})))
    assert f"{what} is called fake at this threshold" in page


def test_of_an_error_that_never_happens_no_power_is_claimed():
    gender = np.tile(["female", "male"], 60)
    score = np.r_[np.full(60, 0.1), np.tile([0.9, 0.9, 0.1, 0.1], 15)]
    found = audit(
        np.repeat([0, 1], 60), score, sensitive_features=pd.Series(gender, name="gender"), n_boot=100
    )
    told = {"real" if "real videos" in words else "fakes": words for words in found.verdicts}
    assert "(0\N{NO-BREAK SPACE}% in every group). That is not proof of equality" in told["real"]
    assert "of 100 studies of this size" in told["fakes"]


def test_a_level_of_holms_steps_is_undercut_where_the_adjusted_p_value_is():
    rng = np.random.default_rng(3)
    for _ in range(200):
        p_values = rng.choice([np.nan, 0.001, 0.004, 0.012, 0.02, 0.03, 0.2], size=6)
        below = p_values < holm_levels(p_values)
        np.testing.assert_array_equal(below, holm(p_values) < 0.05)


def test_the_audit_names_women_and_men_beside_eleven_of_a_third_group():
    gender = np.tile(np.repeat(["female", "male", "other"], [209, 209, 11]), 2)
    called_fake = [*np.repeat([0.9, 0.1], [73, 136]), *np.repeat([0.9, 0.1], [33, 176]), *[0.1] * 11]
    found = audit(
        np.repeat([0, 1], 429),
        np.array([*called_fake, *[0.9] * 429]),
        sensitive_features=pd.Series(gender, name="gender"),
    )
    test = found.tests.set_index("metric").loc["fpr"]
    assert (test["verdict"], test["worst_group"], test["best_group"]) == ("disparity", "female", "male")
    assert test["difference"] == pytest.approx(40 / 209)
    assert 0 < test["ci_low"] < test["difference"] < test["ci_high"]
    assert test["chance"] < test["difference"]
    assert found.verdicts[0].startswith("Real videos of women are called fake 2.2 times as often as of men")


def test_every_pair_that_differs_is_named_with_the_worse_group_first():
    gender = np.tile(np.repeat(["female", "male", "other"], [200, 200, 100]), 2)
    real = np.concatenate([np.repeat([0.9, 0.1], sizes) for sizes in ([120, 80], [30, 170], [20, 80])])
    fake = np.concatenate([np.repeat([0.9, 0.1], sizes) for sizes in ([100, 100], [180, 20], [90, 10])])
    found = audit(
        np.repeat([0, 1], 500),
        np.r_[real, fake],
        sensitive_features=pd.Series(gender, name="gender"),
        n_boot=100,
        n_perm=500,
    )
    tests = found.tests.set_index("metric")
    assert tests.loc["fpr", "also"] == [["female", "other"]]
    assert tests.loc["tpr", "also"] == [["female", "other"]]
    assert found.verdicts[0].endswith("The same is shown of women beside people of gender “other”.")
    assert found.to_dict()["attributes"]["gender"]["tests"][0]["also"] == [["female", "other"]]


def told(sizes, events, tests):
    """The sentence on such groups, and the row of the tests that it tells; one of ``tests`` comparisons."""
    pairs = drawn(sizes, events)
    row = {"attribute": "gender", "metric": "fpr", "gap": np.ptp(pairs.share), "videos": sum(sizes)}
    ends = [pairs.names[at] for at in (pairs.share.argmax(), pairs.share.argmin())]
    row |= dict(zip(("gap_worst", "gap_best"), ends if row["gap"] else [None, None], strict=True))
    row |= {"worst_group": None, "best_group": None}
    row |= dict.fromkeys(set(TEST_COLUMNS) - set(row), np.nan)
    # The other tests of the family find nothing.
    others = [{**row, "attribute": f"other {number}"} for number in range(tests - 1)]
    nothing = compare_pairs(
        ["a", "b"], np.full(2, 0.5), np.full(2, 50.0), np.full((400, 2), 0.5), np.full((400, 2), 50.0)
    )
    judged = judge_tests(pd.DataFrame([row, *others]), [pairs, *[nothing] * (tests - 1)], Settings())
    by_group = pd.DataFrame({"fpr": pairs.share, "tpr": 0.9}, index=pairs.names)
    return sentence(judged.iloc[0], by_group, Settings(), tests), judged.iloc[0]


NUMBER = r"(−?[\d.]+)"
INTERVAL = rf"95 % interval \[{NUMBER}, {NUMBER}\]"


def numbers(pattern, words):
    """The numbers of the one place where a sentence has this pattern."""
    (found,) = re.findall(pattern, words)
    return [float(one.replace("−", "-")) for one in ([found] if isinstance(found, str) else found)]


def check_sentence(words, row):
    """Verdict, interval, p-value and chance level, as a reader has them, say the same."""
    if row["verdict"] == "equivalent":
        assert "about equally often" in words
        return
    if row["verdict"] == "inconclusive":
        assert "no difference was shown" in words
        if "interval" in words:
            difference, low, high = numbers(rf"{NUMBER} points?, {INTERVAL}", words)
            assert low <= 0 < difference <= high
            assert difference <= numbers(rf"would show up to {NUMBER} points? between these two", words)[0]
        return
    assert row["verdict"] == "disparity"
    assert "no difference" not in words
    difference, low, high = numbers(rf"{NUMBER} points?, {INTERVAL}", words)
    assert 0 < low <= difference <= high
    chance = numbers(rf"a difference of up to {NUMBER} points? between these two", words)[0]
    assert difference > chance or (
        difference == chance and "by chance, a little less than this one." in words
    )
    assert numbers(rf"p = {NUMBER}", words)[0] < 0.05


@settings(max_examples=40, deadline=None)
@given(groups, st.integers(1, 6))
def test_sentences_say_one_thing_of_verdict_interval_and_chance(found, tests):
    check_sentence(*told(*zip(*found, strict=True), tests))


@pytest.mark.parametrize("tests", [1, 6])
def test_sentences_say_one_thing_at_the_border_of_significance(tests):
    """ "A difference of 12 points; chance shows up to 12": which of the two, a reader cannot say."""
    verdicts = []
    for sizes, events in (([400, 300], 40), ([120, 90, 30], 20), ([2000, 2000], 30)):
        for more in range(0, 26, 2):
            words, row = told(
                sizes, [events + more, *(round(events * size / sizes[0]) for size in sizes[1:])], tests
            )
            check_sentence(words, row)
            verdicts.append(row["verdict"])
    assert {"disparity", "inconclusive"} <= set(verdicts)
