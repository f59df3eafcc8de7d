"""The search over subgroups, shrunk rates of small crossed groups, and base rates beside selection rates."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score

from unmasked.evaluation.intervals import Sample, intervals
from unmasked.fairness.audit import audit
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.shrinkage import shrink
from unmasked.fairness.statistics.subgroups import scan
from unmasked.fairness.verdicts import scan_sentence

PERMUTED = Settings(n_perm=300, min_clusters=10, min_samples=1)


def people(size=800, extra=0.0, seed=0):
    """Label, decisions and attributes of people of one video each; dark-skinned women's reals err more."""
    rng = np.random.default_rng(seed)
    groups = pd.DataFrame(
        {
            "gender": rng.choice(["female", "male"], size),
            "age": rng.choice(["old", "young"], size),
            "skin_tone_group": rng.choice(["light", "medium", "dark"], size, p=[0.5, 0.3, 0.2]),
        }
    )
    label = np.tile([0, 1], size // 2)
    worse = ((groups["gender"] == "female") & (groups["skin_tone_group"] == "dark")).to_numpy()
    called = rng.random(size) < np.where(label == 1, 0.85, 0.1 + extra * worse)
    return label, called, groups


def search(label, called, groups, cluster=None, options=PERMUTED):
    cluster = np.arange(len(label)) if cluster is None else cluster
    return scan(label, called, cluster, groups, options, np.random.default_rng(0))


def test_the_worst_subgroup_is_named_with_its_people_and_beside_everybody_else():
    label, called, groups = people(extra=0.4)
    found = search(label, called, groups)
    worst = found["found"][0]
    assert (worst["attribute"], worst["group"]) == ("gender × skin_tone_group", "female × dark")
    inside = (groups["gender"] == "female") & (groups["skin_tone_group"] == "dark") & (label == 0)
    assert (worst["people"], worst["others"]) == (inside.sum(), ((label == 0) & ~inside).sum())
    assert worst["rate"] == pytest.approx(called[inside].mean())
    assert worst["rate_of_others"] == pytest.approx(called[~inside & (label == 0)].mean())
    assert worst["p_value"] < 0.05
    assert 0 < worst["ci_low"] < worst["difference"] < worst["ci_high"]
    assert worst["difference"] > worst["chance"]
    said = scan_sentence(found, "video")
    assert said.startswith("Worst subgroup in a search over ")
    assert "To confirm it" in said


def test_no_number_of_people_confirms_a_difference_of_nothing():
    label = np.repeat([0, 1], 60)
    called = np.tile([0, 0, 1], 40)  # one of three of both genders, of both classes
    groups = {"gender": np.repeat(["female", "male"], 30), "age": np.tile(np.repeat(["old", "young"], 15), 2)}
    groups = pd.DataFrame({name: np.tile(values, 2) for name, values in groups.items()})
    found = search(label, called, groups)["found"]
    assert found
    assert [round(one["difference"], 12) for one in found] == [0] * len(found)
    assert np.isnan([one["people_to_confirm"] for one in found]).all()


def test_missed_fakes_are_the_error_of_the_other_class():
    label, called, groups = people(extra=0.4)
    worst = search(1 - label, ~called, groups)["found"][0]
    assert (worst["metric"], worst["group"]) == ("tpr", "female × dark")


def test_five_searches_in_a_hundred_find_a_subgroup_where_there_is_none():
    options = Settings(n_perm=99, min_clusters=10, min_samples=1)
    named = [
        search(*people(400, seed=seed), options=options)["found"][0]["p_value"] < 0.05 for seed in range(150)
    ]
    assert 0.005 <= np.mean(named) <= 0.1


def test_frames_of_one_video_are_no_more_evidence_than_the_video():
    label, called, groups = people(80)
    copies = np.repeat(np.arange(80), 50)
    one = search(label, called, groups)
    many = search(label[copies], called[copies], groups.iloc[copies].reset_index(drop=True), copies)
    assert [row["p_value"] for row in many["found"]] == [row["p_value"] for row in one["found"]]


def test_people_of_whom_an_attribute_is_unknown_are_on_neither_side():
    label, called, groups = people(extra=0.4)
    groups.loc[:99, "age"] = "unknown"
    found = search(label, called, groups)
    assert found["units"] == 700
    assert found["found"][0]["people"] + found["found"][0]["others"] == (label[100:] == 0).sum()


def test_attributes_that_say_the_same_are_searched_once():
    label, called, groups = people()
    twice = groups[["gender"]].assign(sex=groups["gender"])
    assert search(label, called, twice)["searched"] == 2 * 2


def test_one_attribute_is_no_search_and_too_many_cells_are_left_out_and_named():
    label, called, groups = people()
    assert search(label, called, groups[["gender"]]) is None
    many = groups.assign(place=[f"p{number % 60}" for number in range(len(groups))])
    assert search(label, called, many)["left_out"] == ["place"]
    few = search(label[:12], called[:12], groups[:12])
    assert (few["searched"], few["found"]) == (0, [])
    assert "to be searched" in scan_sentence(few, "video")


cells = st.lists(
    st.integers(1, 200).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size))),
    min_size=6,
    max_size=6,
)
NAMES = [f"{gender} × {tone}" for gender in ("female", "male") for tone in ("light", "medium", "dark")]


@settings(max_examples=60, deadline=None)
@given(cells)
def test_shrunk_rates_lie_in_their_intervals_and_in_range(found):
    size, events = np.array(found).T
    one = shrink(NAMES, events / size, size.astype(float))
    assert ((one.low >= 0) & (one.low <= one.value) & (one.value <= one.high) & (one.high <= 1)).all()
    assert (one.low < one.high).all()
    assert ((one.shrinkage >= 0) & (one.shrinkage <= 1)).all()


def test_a_small_group_is_pulled_further_than_a_large_one_and_large_ones_keep_their_rate():
    size = np.array([10_000.0, 10_000, 8, 10_000, 10_000, 10_000])
    share = np.array([0.1, 0.2, 0.75, 0.1, 0.2, 0.3])
    one = shrink(NAMES, share, size)
    assert one.shrinkage[2] == one.shrinkage.max() > 0.5
    assert one.value[2] < 0.6
    np.testing.assert_allclose(np.delete(one.value, 2), np.delete(share, 2), atol=0.01)
    # Men's rates say what dark skin does, and women are as men elsewhere.
    assert 0.25 < one.main_effects[2] < one.value[2]


@pytest.mark.parametrize(("events", "people"), [(0, 12), (6, 8), (3, 40)])
def test_a_shrunk_rate_is_that_of_the_integral(events, people):
    """Three groups are known for certain, so main effects are: the fourth is left, and how far residuals go.

    Residuals with a standard deviation of s put it at what the three say, give or take 2 s.
    """
    known = np.array([0.10, 0.15, 0.20])
    size = np.array([1e8, 1e8, 1e8, people])
    names = [f"{gender} × {tone}" for gender in ("female", "male") for tone in ("light", "dark")]
    one = shrink(names, np.append(known, events / people), size)

    spread = np.linspace(1e-4, 1.0, 2000)
    angle = np.linspace(0, np.pi / 2, 4000)
    centre = np.arcsin(np.sqrt(known)) @ [-1, 1, 1]
    prior = norm.pdf(angle[:, None], centre, 2 * spread) @ norm.pdf(spread, 0, 0.2)
    chance = prior * binom.pmf(events, people, np.sin(angle) ** 2)
    below = np.cumsum(chance) / chance.sum()
    low, middle, high = np.sin(np.interp([0.025, 0.5, 0.975], below, angle)) ** 2
    found = [one.low[3], one.value[3], one.high[3]]
    np.testing.assert_allclose(found, [low if events else 0.0, middle, high], atol=0.01)


def test_shrunk_intervals_cover_and_shrunk_rates_are_nearer_the_truth():
    rng = np.random.default_rng(0)
    inside, shrunk_error, raw_error = [], [], []
    for _ in range(150):
        size = rng.integers(8, 60, 6)
        angle = 0.4 + np.repeat(rng.normal(0, 0.08, 2), 3) + np.tile(rng.normal(0, 0.08, 3), 2)
        rate = np.sin(angle + rng.normal(0, 0.05, 6)) ** 2
        share = rng.binomial(size, rate) / size
        one = shrink(NAMES, share, size.astype(float))
        inside.append((one.low <= rate) & (rate <= one.high))
        shrunk_error.append((one.value - rate) ** 2)
        raw_error.append((share - rate) ** 2)
    assert 0.93 <= np.mean(inside) <= 0.99
    assert np.mean(shrunk_error) < 0.8 * np.mean(raw_error)


@pytest.fixture(scope="module")
def audited():
    label, called, groups = people(600, extra=0.3)
    score = np.where(called, 0.7, 0.3) + np.random.default_rng(1).uniform(-0.2, 0.2, len(label))
    found = audit(label, score, sensitive_features=groups, n_boot=200, n_perm=200)
    return label, score, groups, found


def test_crossed_attributes_alone_have_shrunk_rates(audited):
    label, score, groups, found = audited
    assert found.shrunk["gender"] == []
    rows = found.shrunk["gender × age"]
    assert {row["metric"] for row in rows} == {"fpr", "tpr"}
    row = next(row for row in rows if (row["group"], row["metric"]) == ("female × old", "fpr"))
    member = (groups["gender"] == "female") & (groups["age"] == "old") & (label == 0)
    assert row["raw"] == pytest.approx((score[member] > 0.5).mean())
    assert row["units"] == member.sum()


def test_the_selection_rate_is_a_mix_of_errors_and_base_rates(audited):
    label, score, groups, found = audited
    for row in found.base_rates["gender"]:
        member = (groups["gender"] == row["group"]).to_numpy()
        assert row["share_fake"] == pytest.approx(label[member].mean())
        assert row["selection_rate"] == pytest.approx((score[member] > 0.5).mean())
        rates = [(score[member & (label == one)] > 0.5).mean() for one in (0, 1)]
        assert row["as_everybody"] == pytest.approx(np.average(rates, weights=[0.5, 0.5]))
        of_all = [(score[label == one] > 0.5).mean() for one in (0, 1)]
        weights = [1 - row["share_fake"], row["share_fake"]]
        assert row["expected"] == pytest.approx(np.average(of_all, weights=weights))


def test_the_auc_against_all_others_is_that_of_its_fakes_and_their_reals(audited):
    label, score, groups, found = audited
    for row in found.against_others["skin_tone_group"]:
        of_group = (groups["skin_tone_group"] == row["group"]).to_numpy()
        chosen = np.where(label == 1, of_group, ~of_group)
        assert row["auc"] == pytest.approx(roc_auc_score(label[chosen], score[chosen]))
        sample = Sample.of(label[chosen], score[chosen], np.flatnonzero(chosen))
        assert row["auc_ci"] == pytest.approx(intervals(sample, n_boot=200, only=["auc"])["auc"], abs=0.03)
