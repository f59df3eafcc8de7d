"""Changes of gaps against plain loops; then whether their intervals hold what they promise."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from test_fairness_audit import corpus

from unmasked.datasets.errors import InputError
from unmasked.fairness.across.changes import compare, paired_change, paired_gap_change
from unmasked.fairness.across.detectors import replace_scores
from unmasked.fairness.run import audit_predictions
from unmasked.fairness.statistics.differences import gap_change, recover_limits
from unmasked.fairness.statistics.estimates import Decisions, estimates, group_codes

FAST = {"n_boot": 200, "n_perm": 100}


def twice_scored(seed, rates_a, rates_b, *, n=60, shared=0.8, frames=1):
    """Rows of ``n`` units a group and class under two detectors whose false positive rates are given."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(len(rates_a) * 2 * n), frames)
    group, label = unit // (2 * n), unit % (2 * n) // n
    common = np.sqrt(shared) * rng.normal(size=unit.max() + 1)[unit]
    scores = [
        norm.cdf(common + np.sqrt(1 - shared) * rng.normal(size=len(unit)) + norm.ppf(np.array(rates)[group]))
        for rates in (rates_a, rates_b)
    ]
    return label, *scores, np.array([f"g{code}" for code in group], dtype=object), unit


def plain_gap(label, score, groups, threshold, which):
    """The gap in FPR (which = 0) or TPR (1), row by row."""
    found = []
    for name in sorted(set(groups)):
        rows = [place for place in range(len(label)) if groups[place] == name and label[place] == which]
        found.append(sum(score[place] > threshold for place in rows) / len(rows))
    return max(found) - min(found)


@pytest.mark.parametrize(("metric", "which"), [("fpr", 0), ("tpr", 1)])
def test_a_paired_change_is_the_difference_of_two_gaps_counted_row_by_row(metric, which):
    label, a, b, groups, unit = twice_scored(0, [0.1, 0.4, 0.2], [0.3, 0.1, 0.1])
    change = paired_gap_change(
        label, a, b, groups, unit, threshold_a=0.5, threshold_b=0.6, metric=metric, n_boot=50
    )
    assert change.before == pytest.approx(plain_gap(label, a, groups, 0.5, which))
    assert change.after == pytest.approx(plain_gap(label, b, groups, 0.6, which))
    assert change.change == pytest.approx(change.after - change.before)
    assert change.low < change.change < change.high


def test_a_threshold_for_each_row_is_a_threshold_for_each_group():
    label, a, _, groups, unit = twice_scored(1, [0.1, 0.4], [0.1, 0.1])
    cuts = np.where(groups == "g0", 0.3, 0.7)
    moved = np.where(groups == "g0", a - 0.3, a - 0.7) / 2 + 0.5
    by_row = paired_gap_change(label, a, a, groups, unit, threshold_b=cuts, n_boot=50)
    by_score = paired_gap_change(label, a, moved, groups, unit, n_boot=50)
    assert by_row == by_score


def test_auc_changes_are_those_of_scikit_learn():
    label, a, b, groups, unit = twice_scored(2, [0.1, 0.4], [0.3, 0.1])
    b = np.where(label == 1, np.maximum(b, 0.4), b)
    gaps = []
    for score in (a, b):
        aucs = [roc_auc_score(label[groups == name], score[groups == name]) for name in ("g0", "g1")]
        gaps.append(max(aucs) - min(aucs))
    change = paired_gap_change(label, a, b, groups, unit, metric="auc", n_boot=50)
    assert (change.before, change.after) == pytest.approx(tuple(gaps))


def test_intervals_cover_the_true_change_and_pairing_narrows_them():
    """A vanished gap (0.3 to 0), whose estimate is never below its truth, is the hard case."""
    covered, widths = [], {"paired": [], "apart": []}
    for seed in range(60):
        for name, shared in (("paired", 0.9), ("apart", 0.0)):
            label, a, b, groups, unit = twice_scored(seed, [0.1, 0.4], [0.1, 0.1], n=50, shared=shared)
            change = paired_gap_change(label, a, b, groups, unit, n_boot=150, random_state=seed)
            covered.append(change.low <= -0.3 <= change.high)
            label, a, b, groups, unit = twice_scored(seed, [0.1, 0.4], [0.1, 0.35], n=50, shared=shared)
            change = paired_gap_change(label, a, b, groups, unit, n_boot=150, random_state=seed)
            covered.append(change.low <= -0.05 <= change.high)
            widths[name].append(change.high - change.low)
    assert 0.92 <= np.mean(covered) <= 1
    assert np.mean(widths["paired"]) < 0.75 * np.mean(widths["apart"])


def test_changes_between_different_people_cover_as_well():
    covered = []
    for seed in range(120):
        sides = []
        for place, rates in enumerate(([0.1, 0.4], [0.1, 0.1])):
            label, score, _, groups, unit = twice_scored([seed, place], rates, rates, n=50)
            rows = Decisions(label, unit, group_codes(groups, ["g0", "g1"]))
            rng = np.random.default_rng(seed)
            sides.append(estimates(rows, [score], [0.5], ["fpr"], groups=2, n_boot=150, rng=rng)["fpr"])
        change = gap_change(*sides, ["g0", "g1"])
        covered.append(change.low <= -0.3 <= change.high)
    assert np.mean(covered) >= 0.92


def test_frames_of_a_video_do_not_narrow_the_interval():
    """Copies of a row in the same unit say nothing new."""
    label, a, b, groups, unit = twice_scored(3, [0.1, 0.4], [0.2, 0.2], n=40)
    one = paired_gap_change(label, a, b, groups, unit, n_boot=1000)
    many = paired_gap_change(*(np.repeat(part, 10) for part in (label, a, b, groups, unit)), n_boot=1000)
    assert many.change == pytest.approx(one.change)
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.15)


def test_the_price_of_a_change_is_that_of_the_metric_over_everybody():
    label, a, b, _, unit = twice_scored(4, [0.1, 0.4], [0.2, 0.2])
    price = paired_change(label, a, b, unit, metric="accuracy", n_boot=200)
    assert price.before == pytest.approx(np.mean((a > 0.5) == (label == 1)))
    assert price.after == pytest.approx(np.mean((b > 0.5) == (label == 1)))
    assert price.low < price.change < price.high


def test_recovered_limits_of_independent_estimates_add_in_squares():
    """Zou and Donner 2008; full correlation of equal estimates leaves nothing to be unsure of."""
    assert recover_limits((0.2, 0.1, 0.3), (0.5, 0.4, 0.6), 0.0) == pytest.approx(
        (0.3 - np.sqrt(0.02), 0.3 + np.sqrt(0.02))
    )
    assert recover_limits((0.2, 0.1, 0.3), (0.2, 0.1, 0.3), 1.0) == pytest.approx((0.0, 0.0))
    assert all(np.isnan(recover_limits((0.2, np.nan, np.nan), (0.5, 0.4, 0.6), 0.0)))


def test_groups_without_the_videos_leave_the_change_undefined():
    label, a, b, groups, unit = twice_scored(5, [0.1, 0.4], [0.2, 0.2], n=8)
    change = paired_gap_change(label, a, b, groups, unit, n_boot=50)
    assert np.isnan(change.change)
    assert "no group has the videos" in change.note
    assert not np.isnan(paired_gap_change(label, a, b, groups, unit, min_clusters=5, n_boot=50).change)


def test_unknown_is_no_group():
    label, a, b, groups, unit = twice_scored(6, [0.1, 0.4, 0.9], [0.2, 0.2, 0.1])
    hidden = np.where(groups == "g2", "unknown", groups)
    assert paired_gap_change(label, a, b, hidden, unit, n_boot=50).groups == ("g0", "g1")


def test_lengths_and_metrics_that_do_not_fit_are_refused():
    label, a, b, groups, unit = twice_scored(7, [0.1, 0.4], [0.2, 0.2])
    with pytest.raises(InputError, match=r"score_b has 5 values but label has 240"):
        paired_gap_change(label, a, b[:5], groups, unit)
    with pytest.raises(InputError, match=r"metric 'f1' is not known; choose one of auc, eer"):
        paired_gap_change(label, a, b, groups, unit, metric="f1")


@pytest.fixture(scope="module")
def audits():
    return [
        audit_predictions(corpus(seed, tpr_dark=tpr), ["gender", "skin_tone_group"], **FAST)
        for seed, tpr in ((0, None), (1, 0.4))
    ]


def test_compared_audits_have_their_own_gaps(audits):
    found = compare(*audits).set_index(["attribute", "metric"])
    for place, side in enumerate(("gap_source", "gap_target")):
        own = audits[place].tests.set_index(["attribute", "metric"])["gap"]
        for key in found.index:
            assert found.loc[key, side] == pytest.approx(own[key])
    assert found.loc[("skin_tone_group", "tpr"), "low"] > 0.1
    assert set(found["note"]) == {""}


def test_a_group_that_one_dataset_lacks_is_named(audits):
    without = corpus(2)
    without = without[without["skin_tone_group"] != "dark"]
    other = audit_predictions(without, ["gender", "skin_tone_group"], **FAST)
    row = compare(audits[1], other).set_index(["attribute", "metric"]).loc[("skin_tone_group", "tpr")]
    assert row["groups"] == ["light", "medium"]
    assert row["note"] == "among light, medium only: dark cannot be compared in both"


def test_an_audit_paired_with_itself_does_not_change(audits):
    found = compare(audits[0], audits[0], paired=True)
    assert (found["change"] == 0).all()
    apart = compare(audits[0], audits[0])
    assert ((found["high"] - found["low"]) < (apart["high"] - apart["low"])).all()


def test_audits_of_other_rows_cannot_be_paired(audits):
    with pytest.raises(InputError, match="labels, videos or gender differ"):
        compare(audits[0], audit_predictions(corpus(0).iloc[::-1], ["gender"], **FAST), paired=True)
    fewer = audit_predictions(corpus(0, people=30), ["gender"], **FAST)
    with pytest.raises(InputError, match="one has 180 and the other 150"):
        compare(audits[0], fewer, paired=True)
    with pytest.raises(InputError, match="no attribute in common: one is by gender, skin_tone_group"):
        compare(audits[0], audit_predictions(corpus(0), ["age"], **FAST))


def test_another_detectors_scores_are_found_by_video_whatever_its_order_and_crops():
    ours = corpus(0)
    theirs = ours.assign(score=1 - ours["score"])[ours["frame"] < 3].iloc[::-1]
    both = replace_scores(ours, theirs)
    expected = {video: part["score"].mean() for video, part in theirs.groupby("video")}
    np.testing.assert_allclose(both["score"], [expected[video] for video in ours["video"]])
    pd.testing.assert_frame_equal(both.drop(columns="score"), ours.drop(columns="score"))


def test_another_detector_must_have_scored_the_same_videos():
    ours = corpus(0)
    with pytest.raises(InputError, match=r"no score of 1 videos, for example 'v3' of corpus"):
        replace_scores(ours, ours[ours["video"] != "v3"])
    flipped = ours.assign(label=1 - ours["label"])
    with pytest.raises(InputError, match=r"video 'v0' has label 0 here and another"):
        replace_scores(ours, flipped)
