"""The audit against fairlearn, scikit-learn and hand-computed values; then what its verdicts mean."""

import json
import re

import fairlearn.metrics
import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, selection_rate
from scipy.stats import kstest, norm
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    recall_score,
    roc_auc_score,
)

from unmasked.analysis.reports.fairness.page import write_page
from unmasked.app.verbs.fairness import uncompared_groups
from unmasked.datasets.errors import InputError
from unmasked.evaluation.intervals import Sample, resample, weighted_metrics, wilson_interval
from unmasked.evaluation.metrics import all_metrics, equal_error_rate, group_metrics
from unmasked.fairness.audit import audit
from unmasked.fairness.run import audit_datasets, audit_predictions, fairness_record
from unmasked.fairness.selection import select
from unmasked.fairness.statistics.metrics import (
    count_rows,
    rates,
    sum_by,
)
from unmasked.fairness.statistics.resampling import (
    bootstrap_weights,
    gap_interval,
    holm,
    permuted_rates,
    strata,
    units_needed,
)

BY = ["gender", "skin_tone_group"]
FAST = {"n_boot": 200, "n_perm": 200}


def corpus(seed=0, *, tpr=0.95, tpr_dark=None, people=36, videos=5, frames=10, fpr=0.1, icc=0.5):
    """Scored frames of people with one real and several fake videos; gender, age and tone in balance.

    Scores are correlated within a person and within a video; half of ``icc`` each.
    """
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), videos * frames)
    video = np.repeat(np.arange(people * videos), frames)
    label = (video % videos > 0).astype(int)
    tone = np.array(["light", "medium", "dark"])[person % 3]
    rate = np.where(label == 1, tpr, fpr)
    if tpr_dark is not None:
        rate = np.where((label == 1) & (tone == "dark"), tpr_dark, rate)
    noise = np.sqrt(icc / 2) * (rng.normal(size=people)[person] + rng.normal(size=people * videos)[video])
    score = norm.cdf(norm.ppf(rate) + noise + np.sqrt(1 - icc) * rng.normal(size=len(person)))
    return pd.DataFrame(
        {
            "dataset": "corpus",
            "video": [f"v{number}" for number in video],
            "frame": np.tile(np.arange(frames), people * videos),
            "label": label,
            "score": score,
            "identity": [f"p{number}" for number in person],
            "gender": np.array(["female", "male"])[person // 3 % 2],
            "age": np.array(["young", "adult", "senior"])[rng.permutation(people)[person] % 3],
            "skin_tone_group": tone,
        }
    )


def test_why_a_group_is_too_small_is_said_with_the_keys():
    """ "nonbinary (32) videos" looked enough, and "10 people and 1 frames" named no key."""
    table = corpus(frames=1)
    table["gender"] = np.where(table["identity"].isin([f"p{at}" for at in range(8)]), "nonbinary", "female")
    found = audit_predictions(table, ["gender"], min_samples=1, **FAST)
    (line,) = uncompared_groups(found)
    assert line == (
        "  gender: too few to compare: nonbinary (40 videos of 8 people); a group needs 10 people of a class "
        "(keys min_clusters and min_samples)"
    )
    assert all("at least 10 people (keys min_clusters" in words for words in found.verdicts)


def test_a_group_left_out_of_one_class_and_the_smallest_one_compared_are_said():
    """Nine people with fakes: the third group was in no sentence of the terminal."""
    table = corpus(frames=1)
    table["gender"] = np.where(
        table["identity"].isin([f"p{at}" for at in range(12)]), "nonbinary", table["gender"]
    )
    gone = (table["gender"] == "nonbinary") & (table["label"] == 1) & ~table["identity"].isin(["p0", "p1"])
    found = audit_predictions(table[~gone], ["gender"], min_samples=1, **FAST)
    (line,) = uncompared_groups(found)
    assert "too few fakes to compare: nonbinary (2 people); a group needs 10 people of a class" in line
    assert re.search(r"the smallest of 3 compared: nonbinary \(\d+ videos of 12 people\)$", line)


def test_copied_rows_do_not_make_frames_of_videos():
    """Four copied lines of a spreadsheet asked 100 frames of every group: a minority fell out."""
    table = corpus(frames=1).drop(columns="frame")
    frames = corpus(frames=2).drop(columns="frame")
    for rows, is_video in (
        (table, True),
        (pd.concat([table, table[:4]]), True),
        (pd.concat([table, table[:4].assign(score=0.5)]), True),
        (frames, False),
        (corpus(frames=2), False),
    ):
        assert select(rows, ["gender"]).single == is_video


def loose(table, features, **options):
    """An audit that compares every group, however small, each row a unit."""
    return audit(
        table["label"],
        table["score"],
        sensitive_features=features,
        **{"min_clusters": 1, "min_samples": 1, **FAST, **options},
    )


ORACLE = {
    "fpr": lambda t, p: 1 - recall_score(t, p, pos_label=0),
    "tpr": recall_score,
    "fnr": lambda t, p: 1 - recall_score(t, p),
    "selection_rate": selection_rate,
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
}
SCORE_ORACLE = {"auc": roc_auc_score, "eer": equal_error_rate, "brier": brier_score_loss}


@pytest.fixture(scope="module")
def frames():
    return corpus(3)


@pytest.mark.parametrize("attribute", ["gender", "age", "skin_tone_group"])
def test_metrics_by_group_equal_fairlearns_metricframe(frames, attribute):
    found = loose(frames, frames[attribute])
    for metrics, predicted in ((ORACLE, frames["score"] > 0.5), (SCORE_ORACLE, frames["score"])):
        expected = MetricFrame(
            metrics=metrics, y_true=frames["label"], y_pred=predicted, sensitive_features=frames[attribute]
        )
        names = list(metrics)
        mine = found.by_group.loc[attribute].loc[expected.by_group.index, names]
        np.testing.assert_allclose(mine, expected.by_group, atol=1e-12)
        np.testing.assert_allclose(found.overall[names], expected.overall, atol=1e-12)
        for method in ("between_groups", "to_overall"):
            difference = found.difference(method).loc[attribute, names]
            np.testing.assert_allclose(difference, expected.difference(method), atol=1e-12)
            ratio = found.ratio(method).loc[attribute, names]
            np.testing.assert_allclose(ratio, expected.ratio(method), atol=1e-12)
        np.testing.assert_allclose(found.group_min().loc[attribute, names], expected.group_min(), atol=1e-12)
        np.testing.assert_allclose(found.group_max().loc[attribute, names], expected.group_max(), atol=1e-12)


def test_reference_cases_equal_fairlearn_where_rates_are_defined(shared):
    cases = json.loads((shared / "reference" / "fairness_reference.json").read_text())["cases"]
    for case in cases.values():
        given = case["input"]
        score = 1 / (1 + np.exp(-np.array(given["logit"])))
        # The benches count a score of exactly 0.5 as fake, we do not.
        options = {"threshold": np.nextafter(0.5, 0), "n_boot": 10, "n_perm": 10}
        table = pd.DataFrame({"label": given["y_true"], "score": score})
        tone = pd.Series(given["tone"], name="tone").map(["light", "medium", "dark"].__getitem__)
        if set(np.unique(score)) <= {0.0, 1.0}:
            continue
        by_group = loose(table, tone, **options).by_group.loc["tone"]
        for group, expected in case["fairlearn"]["tone"]["by_group"].items():
            mine = by_group.loc[group]
            for name in ("fpr", "tpr", "fnr", "selection_rate", "accuracy", "auc"):
                if not np.isnan(mine[name]):  # fairlearn gives 0 for an undefined rate
                    assert mine[name] == pytest.approx(expected[name], abs=1e-9)


def test_reference_cases_equal_fairlearns_differences_and_ratios(shared):
    cases = json.loads((shared / "reference" / "fairness_reference.json").read_text())["cases"]
    names = {"gender": ["female", "male"], "race": ["asian", "white", "black", "others"]}
    names["tone"] = ["light", "medium", "dark"]
    names["age"] = ["child", "young", "adult", "middle", "senior"]
    compared = 0
    for case in cases.values():
        given = case["input"]
        table = pd.DataFrame({"label": given["y_true"], "score": 1 / (1 + np.exp(-np.array(given["logit"])))})
        columns = {
            name: np.array(values, dtype=object)[given[name]]
            for name, values in names.items()
            if pd.crosstab(given[name], table["label"]).to_numpy().all()  # fairlearn's undefined rates are 0
        }
        options = {"threshold": np.nextafter(0.5, 0), "n_boot": 10, "n_perm": 10, "intersections": None}
        found = loose(table, columns, **options)
        parts = {"group_min": found.group_min(), "group_max": found.group_max()}
        for method in ("between_groups", "to_overall"):
            parts[f"difference_{method}"] = found.difference(method)
            parts[f"ratio_{method}"] = found.ratio(method)
        for name in columns:
            expected = case["fairlearn"][name]
            for part, mine in parts.items():
                for metric in ("fpr", "tpr", "fnr", "selection_rate", "accuracy"):
                    value = expected[part][metric]
                    if value is not None and not np.isnan(mine.loc[name, metric]):
                        assert mine.loc[name, metric] == pytest.approx(value, abs=1e-9), (name, part, metric)
                        compared += 1
            for measure in ("demographic_parity", "equal_opportunity"):
                for kind in ("difference", "ratio"):
                    value = expected[f"{measure}_{kind}.between_groups"]
                    if value is not None:
                        mine = found.fairlearn[name][f"{measure}_{kind}"]
                        assert mine == pytest.approx(value, abs=1e-9, nan_ok=True)
            value = expected["equalized_odds_difference.between_groups.worst_case"]
            assert found.fairlearn[name]["equalized_odds_difference"] == pytest.approx(value, abs=1e-9)
    assert compared > 800


def test_weighted_score_metrics_equal_the_metrics_of_repeated_rows():
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 60), np.round(rng.random(60), 1)
    weight = rng.integers(0, 4, (5, 60)).astype(float)
    found = weighted_metrics(Sample(label, score, np.arange(60), 60), weight.T, only=list(SCORE_ORACLE))
    for number, row in enumerate(weight.astype(int)):
        repeated = np.repeat(np.arange(60), row)
        for name, metric in SCORE_ORACLE.items():
            assert found[name][number] == pytest.approx(metric(label[repeated], score[repeated]))


def test_resampled_curve_is_fine_enough_for_a_variance():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 30_000)
    score = norm.cdf(rng.normal(size=30_000) + label)
    sample = Sample(label, score, np.zeros(30_000, dtype=int), 1)
    coarse = weighted_metrics(sample, np.ones((1, 1)))
    for name, value in all_metrics(label, score, only=("auc", "eer", "brier", "ece")).items():
        assert coarse[name][0] == pytest.approx(value, abs=5e-4)


def test_group_without_fakes_has_undefined_tpr_and_is_listed():
    table = corpus(1)
    table.loc[(table["skin_tone_group"] == "dark") & (table["label"] == 1), "skin_tone_group"] = "light"
    table["unit"] = table["video"]
    found = audit(
        table["label"],
        table["score"],
        sensitive_features=table["skin_tone_group"],
        clusters=table["video"],
        **FAST,
    )
    dark = found.by_group.loc[("skin_tone_group", "dark")]
    assert np.isnan(dark[["tpr", "fnr", "auc", "eer", "balanced_accuracy"]].astype(float)).all()
    assert 0 <= dark["fpr"] <= 1
    assert found.excluded.to_dict("records") == [
        {
            "attribute": "skin_tone_group",
            "group": "dark",
            "metrics": "TPR and metrics that need both classes",
            "reason": "no fake material",
        }
    ]
    tests = found.tests.set_index("metric")
    assert set(tests.loc["tpr", ["worst_group", "best_group"]]) == {"light", "medium"}
    assert found.in_gap.loc[("skin_tone_group", "dark"), "fpr"]


def test_missing_values_are_a_group_outside_every_gap(frames):
    features = frames["gender"].where(frames["identity"] != "p0")
    found = audit(
        frames["label"], frames["score"], sensitive_features=features, clusters=frames["identity"], **FAST
    )
    assert found.by_group.loc["gender"].index.tolist() == ["female", "male", "unknown"]
    assert not found.in_gap.loc[("gender", "unknown")].any()
    assert found.support.loc[("gender", "unknown"), "clusters"] == 1
    assert "unknown" in found.excluded["group"].tolist()
    known = features.notna()
    again = audit(
        frames["label"][known],
        frames["score"][known],
        sensitive_features=features[known],
        clusters=frames["identity"][known],
        **FAST,
    )
    pd.testing.assert_series_equal(found.tests["gap"], again.tests["gap"])


def test_tiny_group_is_shown_but_not_compared():
    table = corpus(2)
    table.loc[table["identity"].isin(["p0", "p3"]), "skin_tone_group"] = "other"
    table.loc[table["skin_tone_group"] == "other", "score"] = 0.01  # would be the largest gap by far
    found = audit(
        table["label"],
        table["score"],
        sensitive_features=table["skin_tone_group"],
        clusters=table["identity"],
        **FAST,
    )
    assert found.by_group.loc[("skin_tone_group", "other"), "tpr"] == 0
    assert not found.in_gap.loc[("skin_tone_group", "other")].any()
    assert "other" not in found.tests["worst_group"].tolist()
    reasons = found.excluded.set_index("group").loc["other", "reason"]
    assert "2 clusters with real material, 10 needed" in reasons.iloc[0]
    assert found.difference().loc["skin_tone_group", "tpr"] < 0.5


def test_fewer_than_two_large_groups_is_not_enough_data():
    table = corpus(2, people=12)
    found = audit_predictions(table, ["skin_tone_group"], **FAST)
    assert set(found.tests["verdict"]) == {"not enough data"}
    assert found.tests["gap"].isna().all()
    assert "not enough data" in found.verdicts[0]


def test_crossed_attribute_has_the_groups_of_fairlearns_crossing(frames):
    found = audit_predictions(
        frames, ["gender × skin_tone_group"], level="frame", min_clusters=2, min_samples=1, **FAST
    )
    expected = MetricFrame(
        metrics=ORACLE,
        y_true=frames["label"],
        y_pred=frames["score"] > 0.5,
        sensitive_features=frames[["gender", "skin_tone_group"]],
    )
    for (gender, tone), row in expected.by_group.iterrows():
        mine = found.by_group.loc[("gender × skin_tone_group", f"{gender} × {tone}")]
        np.testing.assert_allclose(mine[list(ORACLE)].astype(float), row, atol=1e-12)


def test_to_metricframe_is_fairlearns_own(frames):
    found = loose(frames, frames[["gender", "age"]])
    frame = found.to_metricframe("gender")
    assert isinstance(frame, MetricFrame)
    np.testing.assert_allclose(
        frame.by_group.astype(float), found.by_group.loc["gender", group_metrics()].astype(float), atol=1e-12
    )
    assert found.to_metricframe().by_group.index.names == ["gender", "age"]


def test_fairlearns_disparities_are_among_the_compared_groups(frames):
    found = loose(frames, frames["age"])
    given = {"y_true": frames["label"], "y_pred": frames["score"] > 0.5, "sensitive_features": frames["age"]}
    assert len(found.fairlearn["age"]) == 6
    for name, value in found.fairlearn["age"].items():
        assert value == pytest.approx(getattr(fairlearn.metrics, name)(**given)), name


def test_holm_equals_the_worked_example():
    # Holm (1979): 0.005 x 4, 0.01 x 3, 0.03 x 2 and then never below the one before.
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])


def permutation_p(observed: float, null: np.ndarray) -> float:
    """(1 + number of permuted gaps at least as large) / (1 + number of permutations)."""
    return float((1 + (null >= observed - 1e-12).sum()) / (1 + len(null)))


def test_permutation_p_is_exact_on_a_table_small_enough_to_enumerate():
    # Two groups of three videos; all of group 0 right, all of group 1 wrong: 2 of C(6, 3) = 20 splits.
    counts = np.array([[1, 0, 0, 0]] * 3 + [[0, 1, 0, 0]] * 3)
    codes = np.array([0, 0, 0, 1, 1, 1])
    null = permuted_rates(counts, codes, 20_000, np.random.default_rng(0))["fpr"]
    p = permutation_p(1.0, np.abs(null[:, 0] - null[:, 1]))
    assert p == pytest.approx(0.1, abs=0.01)


def test_permutation_keeps_the_number_of_units_of_each_group_in_each_stratum():
    rng = np.random.default_rng(0)
    counts = np.array([[3, 1, 0, 0]] * 4 + [[0, 0, 2, 2]] * 4 + [[1, 1, 1, 1]] * 4)
    codes = np.tile([0, 0, 0, 1], 3)
    assert strata(counts).tolist() == [1] * 4 + [2] * 4 + [3] * 4
    shuffled = permuted_rates(counts, codes, 50, rng)
    assert not np.isnan(shuffled["fpr"]).any()
    assert np.allclose(shuffled["tpr"], 0.5)


def test_p_values_are_uniform_for_a_detector_without_bias():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(150):
        person = rng.normal(size=80)[:, None]
        wrong = (person + rng.normal(size=(80, 30)) > 1.2).sum(axis=1)
        counts = np.stack([30 - wrong, wrong, 0 * wrong, 0 * wrong], axis=1)
        codes = rng.permutation(np.repeat([0, 1, 2], [20, 30, 30]))
        observed = rates(sum_by(counts, codes, 3))["fpr"]
        null = permuted_rates(counts, codes, 199, rng)["fpr"]
        p_values.append(permutation_p(np.ptp(observed), np.ptp(null, axis=1)))
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) < 0.1


def reals(right: np.ndarray, wrong: np.ndarray) -> Sample:
    """Real videos with so many frames below and above 0.5."""
    videos = np.arange(len(right))
    score = np.repeat([0.0, 1.0], [right.sum(), wrong.sum()])
    cluster = np.concatenate([np.repeat(videos, right), np.repeat(videos, wrong)])
    return Sample(np.zeros(len(score), dtype=np.int64), score, cluster, len(videos))


def test_bootstrap_variance_is_that_of_resampling_videos_one_by_one():
    rng = np.random.default_rng(0)
    wrong = rng.binomial(10, rng.beta(1, 4, size=40))
    counts = np.stack([10 - wrong, wrong, 0 * wrong, 0 * wrong], axis=1)
    drawn = resample(reals(10 - wrong, wrong), n_boot=20_000, seed=rng, only=("fpr",))["fpr"]
    # Equal clusters: the variance of a mean of 40 shares, with 1 / n as a bootstrap has it.
    assert drawn.var() == pytest.approx(np.var(wrong / 10) / 40, rel=0.05)
    weights = bootstrap_weights(strata(counts), 500, rng)
    assert (weights.sum(axis=1) == 40).all()


def test_perfect_rate_on_a_dozen_videos_is_not_certain():
    low, high = wilson_interval(np.array([0.0]), np.array([0.0]), np.array([12]), np.array([1200]))
    assert low[0] == 0
    assert 0.2 < high[0] < 0.35  # Clopper-Pearson on 12 videos: 0.265


def test_interval_does_not_shrink_when_one_frame_in_a_thousand_goes_wrong():
    # A single wrong frame says nothing about how alike the frames of a video are.
    rate, frames, videos = 1 / 1200, 1200, 12
    variance = np.array([(1 / 1200) ** 2])
    _, high = wilson_interval(np.array([rate]), variance, np.array([videos]), np.array([frames]))
    assert high[0] > 0.1


@pytest.mark.parametrize("rate", [0.05, 0.15])
def test_intervals_on_thirty_uneven_videos_cover_the_truth(rate):
    rng = np.random.default_rng(0)
    frames = rng.integers(5, 31, 30)
    covered = []
    for _ in range(400):
        wrong = rng.binomial(frames, rng.beta(rate, 1 - rate, size=30))  # ICC 0.5
        drawn = resample(reals(frames - wrong, wrong), n_boot=100, seed=rng, only=("fpr",))
        variance = drawn["fpr"].var()
        sizes = np.array([30]), np.array([frames.sum()])
        low, high = wilson_interval(np.array([wrong.sum() / frames.sum()]), np.array([variance]), *sizes)
        covered.append(low[0] <= rate <= high[0])
    assert 0.92 <= np.mean(covered) <= 0.98


def test_interval_of_independent_rows_is_near_wilsons():
    rate, n = 0.2, 400
    low, high = wilson_interval(np.array([rate]), np.array([rate * 0.8 / n]), np.array([n]), np.array([n]))
    assert (low[0], high[0]) == pytest.approx((0.1637, 0.2420), abs=0.001)  # Wilson, by hand


def wilson(share, n):
    """Limits of shares of so many independent rows at a confidence."""
    return lambda confidence: wilson_interval(share, share * (1 - share) / n, n, n, confidence=confidence)


def test_gap_interval_starts_at_zero_for_equal_groups_and_covers_a_true_gap():
    n = np.array([400.0, 400.0, 400.0])
    equal = np.array([0.20, 0.21, 0.19])
    assert gap_interval(equal, wilson(equal, n))[0] == 0
    apart = np.array([0.20, 0.50, 0.22])
    low, high = gap_interval(apart, wilson(apart, n))
    assert 0.2 < low < 0.3 < high < 0.4


def test_undefined_gap_has_undefined_interval_and_need():
    assert np.isnan(gap_interval(np.array([0.1]), wilson(np.array([0.1]), np.array([9])))).all()
    assert np.isnan(units_needed(float("nan"), float("nan"), 10, 0.03))


def test_four_times_the_precision_asks_for_a_quarter_of_the_videos():
    assert units_needed(0.0, 0.2, 1000, 0.03) / units_needed(0.0, 0.1, 1000, 0.03) == pytest.approx(
        4, rel=0.1
    )


@pytest.mark.parametrize("level", ["video", "frame"])
def test_planted_disparity_is_found_and_its_group_named(level):
    found = audit_predictions(
        corpus(0, tpr_dark=0.5), ["gender", "age", "skin_tone_group"], level=level, n_boot=200
    )
    disparities = found.tests[found.tests["verdict"] == "disparity"]
    assert disparities[["attribute", "metric", "worst_group"]].to_numpy().tolist() == [
        ["skin_tone_group", "tpr", "dark"]
    ]
    assert found.verdicts[0].startswith("Fakes of dark-skinned people are missed")
    assert "corrected for 6 comparisons" in found.verdicts[0]


@pytest.mark.slow
@pytest.mark.parametrize("level", ["video", "frame"])
def test_audits_of_an_unbiased_detector_rarely_name_a_group(level):
    options = {"level": level, "n_boot": 20, "n_perm": 400}
    audits = [
        audit_predictions(corpus(100 + run), ["gender", "skin_tone_group"], **options) for run in range(30)
    ]
    named = sum((found.tests["verdict"] == "disparity").any() for found in audits)
    assert named <= 3  # 5 % nominal; more than 3 of 10 has a chance of 0.1 %
    assert all((found.tests["verdict"] == "equivalent").sum() == 0 for found in audits)  # far too few videos


def test_many_videos_of_an_unbiased_detector_are_called_equivalent():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 20_000)
    score = np.clip(rng.normal(0.25 + 0.5 * label, 0.15), 0, 1)
    gender = np.where(rng.random(40_000) < 0.5, "female", "male")
    found = audit(label, score, sensitive_features={"gender": gender}, n_boot=100, n_perm=200)
    assert found.tests.set_index("metric").loc[["fpr", "tpr"], "verdict"].tolist() == ["equivalent"] * 2
    assert "about equally often" in found.verdicts[0]


def test_thirty_videos_a_group_are_inconclusive_and_say_how_many_it_takes():
    table = corpus(5, people=60, videos=2)
    found = audit_predictions(table, ["gender"], **FAST)
    tests = found.tests.set_index("metric").loc[["fpr", "tpr"]]
    assert tests["verdict"].tolist() == ["inconclusive"] * 2
    assert (tests["n_needed"] > 60).all()
    assert "not proof of equality" in found.verdicts[0]


def test_only_the_declared_family_is_tested(frames):
    found = loose(frames, frames[["gender", "age"]])
    tested = found.tests[found.tests["p_value"].notna()]
    assert tested["attribute"].tolist() == ["gender"] * 2 + ["age"] * 2 + ["gender × age"] * 2
    assert tested["metric"].tolist() == ["fpr", "tpr"] * 3
    assert set(found.tests.loc[found.tests["p_value"].isna(), "verdict"]) == {"not tested"}
    np.testing.assert_allclose(tested["p_adjusted"], holm(tested["p_value"].to_numpy()))


def test_noise_floor_of_small_groups_is_larger():
    small = audit_predictions(corpus(1, people=36), ["gender"], **FAST).null_floor
    large = audit_predictions(corpus(1, people=180), ["gender"], **FAST).null_floor
    assert small.loc[("gender", "tpr"), "p95"] > large.loc[("gender", "tpr"), "p95"] > 0
    assert (small["mean"] > 0).all()


def test_same_seed_same_audit_and_an_attribute_does_not_depend_on_the_others(frames):
    """But for what is corrected for the family: the adjusted p-value and the interval that goes with it."""
    one = loose(frames, frames[["gender"]], clusters=frames["video"])
    two = loose(frames, frames[["age", "gender"]], clusters=frames["video"])
    columns = ["gap", "difference", "null_floor", "p_value"]
    first = one.tests[one.tests["attribute"] == "gender"].reset_index()[columns]
    second = two.tests[two.tests["attribute"] == "gender"].reset_index()[columns]
    pd.testing.assert_frame_equal(first, second)


def test_constant_detector_has_no_gap_and_no_use(frames):
    found = loose(frames, frames["gender"])
    constant = found.constant_detector
    assert constant["overall"]["auc"] == constant["overall"]["balanced_accuracy"] == 0.5
    assert constant["gaps"]["gender"]["fpr"] == constant["gaps"]["gender"]["tpr"] == 0


def test_dictionary_and_long_table_hold_the_same_numbers(frames, tmp_path):
    found = loose(frames, frames[["gender", "age"]])
    found.to_json(tmp_path / "fairness.json")
    read = json.loads((tmp_path / "fairness.json").read_text())
    parts = ["settings", "overall", "attributes", "verdicts", "constant_detector", "fairlearn"]
    assert list(read) == [*parts, "bench", "scan"]
    female = read["attributes"]["gender"]["groups"][0]
    assert female["group"] == "female"
    long = found.to_long().set_index(["attribute", "group", "metric"])
    assert long.loc[("gender", "female", "fpr"), "value"] == female["fpr"]
    assert [long.loc[("gender", "female", "fpr"), side] for side in ("lo", "hi")] == female["fpr_ci"]
    assert long.loc[("gender", "female", "fpr"), "n_real_videos"] == female["support"]["real_videos"]
    assert long.index.is_unique


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_score": [0.1, 0.9]}, "2 values but y_true has 4"),
        ({"y_score": [0, 1, 0, 1]}, "are decisions"),
        ({"y_score": [0.1, 1.9, 0.2, 0.8]}, "between 0 and 1"),
        ({"y_score": [0.1, np.nan, 0.2, 0.8]}, "between 0 and 1"),
        ({"y_true": [0, 2, 0, 1]}, "allowed are 0"),
        ({"clusters": ["a"]}, "clusters has 1 values"),
        ({"clusters": ["a", None, "b", "c"]}, "missing in row 1"),
        ({"clusters": ["a", "b", "a", "c"]}, "cluster 'a' is in 2 groups"),
        ({"sensitive_features": ["f", "m", "f"]}, "3 values but y_true has 4"),
        ({"control_features": ["x"]}, "control_features has 1 values but y_true has 4"),
        ({"control_features": [None] * 4}, "'control_feature_0' is unknown in every row"),
        ({"threshold": "fpr:0.05"}, "neither a number nor a fitted rule"),
        ({"threshold": 50}, "outside the scores' range"),
        ({"intersections": "all"}, "not known; give 'pairs'"),
        ({"intersections": [["gender", "age"]]}, "intersections names 'gender'"),
    ],
)  # fmt: skip
def test_unusable_input_is_refused_in_one_sentence(change, message):
    given = {
        "y_true": [0, 1, 1, 0],
        "y_score": [0.1, 0.9, 0.2, 0.8],
        "sensitive_features": ["f", "f", "m", "m"],
    } | change
    with pytest.raises(InputError, match=message):
        audit(given.pop("y_true"), given.pop("y_score"), **given)


def test_unknown_method_of_difference_is_refused(frames):
    with pytest.raises(InputError, match="between_groups or to_overall"):
        loose(frames, frames["gender"]).difference("to_best")


# Predictions tables


def test_video_level_decides_each_video_by_its_mean_score(frames):
    found = audit_predictions(frames, ["gender"], **FAST)
    videos = frames.groupby("video").agg(
        {"score": "mean", "label": "first", "gender": "first", "identity": "first"}
    )
    women = videos[(videos["gender"] == "female") & (videos["label"] == 1)]
    row = found.by_group.loc[("gender", "female")]
    assert row["tpr"] == pytest.approx((women["score"] > 0.5).mean())
    support = found.support.loc[("gender", "female")]
    assert (support["real_videos"], support["fake_videos"], support["clusters"]) == (18, 72, 18)
    assert (support["real_frames"], support["fake_frames"]) == (180, 720)
    assert found.settings.unit == "identity"


def test_without_identities_the_video_is_the_unit(frames):
    found = audit_predictions(frames.drop(columns="identity"), ["gender"], **FAST)
    assert found.settings.unit == "video"
    assert found.support.loc[("gender", "female"), "clusters"] == 90


def test_people_annotated_inconsistently_are_split_into_their_videos(frames, caplog):
    table = frames.copy()
    table.loc[table["video"] == "v1", "gender"] = "male"  # p0 is otherwise female
    found = audit_predictions(table, ["gender"], **FAST)
    assert found.support.loc[("gender", "male"), "clusters"] == 18 + 1
    assert found.support.loc[("gender", "female"), "clusters"] == 17 + 4
    assert "people annotated with several groups: 1" in caplog.text
    # One person in every row, who is in two groups: a verdict counted "20 videos of 20 people".
    assert audit_predictions(frames.assign(identity="p0"), ["gender"], **FAST).settings.unit == "video"


def test_video_in_two_groups_is_refused_by_name(frames):
    table = frames.copy()
    table.loc[(table["video"] == "v1") & (table["frame"] == 0), "gender"] = "male"
    with pytest.raises(InputError, match="video 'v1' is in 2 groups of 'gender'"):
        audit_predictions(table, ["gender"], **FAST)


def test_perturbed_rows_and_other_splits_do_not_count(frames):
    clean = audit_predictions(frames, ["gender"], **FAST)
    noise = frames.assign(score=0.5, perturbation="blur", split="test")
    train = frames.assign(score=0.5, perturbation=None, split="train")
    table = pd.concat([frames.assign(perturbation=None, split="test"), noise, train], ignore_index=True)
    pd.testing.assert_frame_equal(audit_predictions(table, ["gender"], **FAST).tests, clean.tests)


def test_several_datasets_or_detectors_ask_for_a_choice(frames):
    table = pd.concat([frames, frames.assign(dataset="other")], ignore_index=True)
    with pytest.raises(InputError, match="several datasets"):
        audit_predictions(table, ["gender"], **FAST)
    with pytest.raises(InputError, match="'third' is not in the predictions; they have corpus, other"):
        audit_predictions(table, ["gender"], dataset="third", **FAST)
    with pytest.raises(InputError, match="several detectors"):
        audit_predictions(
            frames.assign(detector=np.where(frames["frame"] == 0, "a", "b")), ["gender"], **FAST
        )


def test_table_with_one_row_a_video_needs_no_hundred_frames(frames):
    one_row = frames[frames["frame"] == 0].drop(columns="frame")
    found = audit_predictions(one_row, ["gender"], **FAST)
    assert found.settings.min_samples == 1
    assert found.in_gap.loc["gender"].all().all()


def test_each_dataset_is_audited_at_its_threshold_and_others_are_given_a_reason(frames):
    bare = frames.assign(dataset="bare", gender=None, age=None)
    table = pd.concat([frames, frames.assign(dataset="second", age=None), bare], ignore_index=True)
    thresholds = {"corpus": 0.5, "second": 0.9, "bare": 0.5}
    audits, skipped = audit_datasets(table, ["gender", "age"], thresholds=thresholds, **FAST)
    assert list(audits) == ["corpus", "second"]
    assert audits["second"].support.index.unique(0).tolist() == ["gender"]
    assert audits["second"].settings.threshold == 0.9
    assert sorted(skipped) == ["bare: age", "bare: gender", "second: age"]
    with pytest.raises(InputError, match=r"no dataset can be audited.*unknown in every row"):
        audit_datasets(bare, ["gender"], **FAST)


def test_dataset_of_reals_alone_is_audited_for_false_alarms(frames):
    reals = frames[frames["label"] == 0].assign(dataset="reals")
    audits, skipped = audit_datasets(pd.concat([frames, reals], ignore_index=True), ["gender"], **FAST)
    assert not skipped
    alone, both = (audits[name].by_group.loc["gender"] for name in ("reals", "corpus"))
    assert alone["fpr"].tolist() == both["fpr"].tolist()
    assert alone["tpr"].isna().all()


def test_unknown_level_is_refused(frames):
    with pytest.raises(InputError, match="choose video or frame"):
        audit_predictions(frames, ["gender"], level="person")


def test_counts_are_confusion_tables():
    counts = count_rows(np.array([0, 0, 1, 1]), np.array([0.2, 0.7, 0.5, 0.9]), 0.5)
    assert counts.sum(axis=0).tolist() == [1, 1, 1, 1]  # a score at the threshold is not called fake


def test_attributes_are_audited_alone_and_crossed(frames):
    found = loose(frames, frames[["gender", "skin_tone_group", "age"]], intersections="pairs")
    attributes = ["gender", "skin_tone_group", "age"]
    pairs = ["gender × skin_tone_group", "gender × age", "skin_tone_group × age"]
    assert found.by_group.index.unique(0).tolist() == attributes + pairs
    assert found.origin["crossings"] == pairs
    assert found.to_metricframe().by_group.index.names == attributes
    assert loose(frames, frames[["gender", "age"]], intersections=None).support.index.unique(0).tolist() == [
        "gender",
        "age",
    ]


def test_every_gap_has_use_and_the_constant_detector_beside_it(frames):
    found = loose(frames, frames["gender"])
    assert (found.tests["utility"] == found.overall["balanced_accuracy"]).all()
    tests = found.tests.set_index("metric")["constant_gap"]
    assert tests[["fpr", "tpr", "selection_rate", "balanced_accuracy", "auc", "eer"]].tolist() == [0] * 6
    constant = loose(frames.assign(score=0.999), frames["gender"]).tests.set_index("metric")["gap"]
    for metric in ("fpr", "tpr", "selection_rate", "accuracy", "balanced_accuracy", "auc", "eer"):
        assert tests[metric] == pytest.approx(constant[metric], abs=1e-12)
    assert tests["brier"] == pytest.approx(constant["brier"], abs=0.01)
    measures = {"y_true": frames["label"], "y_pred": np.ones(len(frames), dtype=int)}
    for name, value in found.constant_detector["fairlearn"]["gender"].items():
        expected = getattr(fairlearn.metrics, name)(**measures, sensitive_features=frames["gender"])
        assert value == expected


def test_equivalence_needs_more_than_a_small_gap():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 500)
    score = np.clip(rng.normal(0.3 + 0.4 * label, 0.15), 0, 1)
    gender = np.tile(["female", "male"], 500)
    tests = loose(pd.DataFrame({"label": label, "score": score}), gender).tests.set_index("metric")
    row = tests.loc["fpr"]
    assert row["gap"] < 0.04 < row["equivalence_high"] < row["ci_high"]
    assert row["verdict"] == "inconclusive"
    assert row["n_needed"] > 500


def test_cross_group_auc_sees_what_auc_within_groups_cannot():
    # Perfect within each group, and no threshold fits both.
    rng = np.random.default_rng(0)
    label = np.tile([0, 1], 400)
    dark = np.repeat([0, 1], 400)
    score = 0.1 + 0.2 * label + 0.4 * dark + 0.1 * rng.random(800)
    found = audit(
        label, score, sensitive_features={"tone": np.where(dark, "dark", "light")}, n_boot=50, n_perm=50
    )
    assert found.by_group.loc["tone", "auc"].tolist() == [1.0, 1.0]
    across = {(one["positives_of"], one["negatives_of"]): one["auc"] for one in found.cross_auc["tone"]}
    assert across == {
        ("light", "light"): 1.0,
        ("dark", "dark"): 1.0,
        ("dark", "light"): 1.0,
        ("light", "dark"): 0.0,
    }


def test_method_of_manipulation_is_the_label_in_disguise():
    method = np.array(["real"] * 50 + ["Deepfakes", "FaceSwap"] * 25)
    with pytest.raises(
        InputError, match="'method' is the label itself: its group 'real' is exactly the real"
    ):
        audit(np.repeat([0, 1], 50), np.linspace(0, 1, 100), sensitive_features={"method": method})


def test_page_is_written_from_an_audit(frames, tmp_path):
    write_page(fairness_record({"A": loose(frames, frames["gender"])}), tmp_path / "fairness.html")
    assert "<html" in (tmp_path / "fairness.html").read_text()
