"""Groups compared: gaps with their tests, and the two yardsticks beside them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from unmasked.evaluation.intervals import Sample, weighted_metrics
from unmasked.evaluation.metrics import METRICS, group_metrics
from unmasked.evaluation.records import Measures
from unmasked.fairness.records import BaseRate, ConstantDetector, Spread
from unmasked.fairness.statistics.metrics import needs, rates
from unmasked.fairness.statistics.pairs import PairTest
from unmasked.fairness.statistics.resampling import gap, gap_interval, holm, holm_levels, units_needed
from unmasked.fairness.statistics.slices import Settings, Slice
from unmasked.fairness.statistics.spread import between_group_spread

# The declared family: every attribute's gap in these is tested, with Holm's correction over all of them.
TESTED = ("fpr", "tpr")
TEST_COLUMNS = (
    *("attribute", "metric", "videos", "gap", "null_floor", "null_mean"),
    *("difference", "ci_low", "ci_high", "chance", "detectable", "p_value", "p_adjusted"),
    *("verdict", "worst_group", "best_group", "also", "gap_worst", "gap_best"),
    *("n_needed", "equivalence_high", "constant_gap", "utility"),
)
ALPHA = 0.05
FAIRLEARN = ("demographic_parity", "equal_opportunity", "equalized_odds")
RATES = ("selection_rate", "tpr", "fpr")  # that they are made of


def gap_metrics() -> list[str]:
    """The metrics whose gaps are shown, the tested ones first.

    Not FNR, whose gap is the TPR's.
    """
    return [*TESTED, *(name for name in group_metrics() if name not in (*TESTED, "fnr"))]


def pair_tests(slices: list[Slice]) -> list[PairTest | None]:
    """The test behind every row of `compare`; None where nothing is tested."""
    return [one.shuffled.tests.get(name) for one in slices for name in gap_metrics()]


def compare(
    slices: list[Slice], everyone: Slice, constant: ConstantDetector, settings: Settings
) -> pd.DataFrame:
    """The tests of an audit: a row for every attribute and metric, columns `TEST_COLUMNS`.

    ``constant`` is what `constant_detector` gives: its gap and the detector's use (balanced accuracy over
    all rows) are beside every gap.
    """
    tests = pd.DataFrame([_describe(one, name, settings) for one in slices for name in gap_metrics()])
    pairs = zip(tests["attribute"], tests["metric"], strict=True)
    tests["constant_gap"] = [constant["gaps"][attribute][metric] for attribute, metric in pairs]
    tests["utility"] = float(everyone.values["balanced_accuracy"].iloc[0])
    return judge_tests(tests, pair_tests(slices), settings)


def judge_tests(
    tests: pd.DataFrame, pair_tests: Sequence[PairTest | None], settings: Settings
) -> pd.DataFrame:
    """Tests corrected for all of them (Holm), with intervals and verdicts that follow.

    Args:
        tests: a row for every attribute and metric, as `compare` describes them.
        pair_tests: of each row; None where nothing is tested.
        settings: of the audit.
    """
    tests = tests.copy()
    p_values = np.array([np.nan if pairs is None else pairs.p_value for pairs in pair_tests])
    levels, family = holm_levels(p_values), int(np.isfinite(p_values).sum())
    for place, pairs in enumerate(pair_tests):
        if pairs is not None:
            found = _test(pairs, float(levels[place]), tests.iloc[place], settings)
            found["detectable"] = detectable(pairs, *pairs.widest, family)
            tests.loc[tests.index[place], list(found)] = list(found.values())
    tests["p_value"], tests["p_adjusted"] = p_values, holm(p_values)
    tests["also"] = [
        [] if pairs is None else _other_pairs(pairs, float(level), metric)
        for pairs, level, metric in zip(pair_tests, levels, tests["metric"], strict=True)
    ]
    tests["verdict"] = [_verdict(row, settings.margin) for row in tests.to_dict("records")]
    tests.loc[tests["verdict"] != "inconclusive", "n_needed"] = np.nan
    return tests[[*tests.columns.difference(TEST_COLUMNS, sort=False), *TEST_COLUMNS]]


def _describe(one: Slice, metric: str, settings: Settings) -> dict[str, object]:
    """The gap of one metric, and what chance makes of it; the difference is that of its two ends."""
    kept = one.in_gap[metric].to_numpy()
    values = one.values[metric].to_numpy()[kept]
    chosen = one.estimates[metric].of(np.flatnonzero(kept).tolist())
    at = partial(chosen.limits, 0)
    low, high = gap_interval(values, at)
    observed, null = float(gap(values)), one.shuffled.gaps[metric]
    row: dict[str, object] = {"attribute": one.attribute, "metric": metric, "gap": observed}
    row["null_floor"] = float(np.quantile(null, 0.95)) if len(null) else np.nan
    row["null_mean"] = float(np.mean(null)) if len(null) else np.nan
    row |= {"difference": observed, "ci_low": low, "ci_high": high, "chance": np.nan}
    row["detectable"] = np.nan
    row["equivalence_high"] = gap_interval(values, at, confidence=0.9)[1]
    videos = sum(int(one.support[f"{name}_videos"].to_numpy()[kept].sum()) for name in needs(metric))
    row |= {"videos": videos, "n_needed": units_needed(observed, high, videos, settings.margin)}
    names = one.values.index[kept]
    ends = [None, None] if not observed > 0 else [names[values.argmin()], names[values.argmax()]]
    row["gap_worst"], row["gap_best"] = ends if METRICS[metric].higher_is_better else ends[::-1]
    row["worst_group"], row["best_group"] = row["gap_worst"], row["gap_best"]
    return row


def _test(pairs: PairTest, level: float, row: pd.Series, settings: Settings) -> dict[str, object]:
    """What the test of a rate says of the pair that differs most, as columns of the tests."""
    high, low = pairs.widest
    critical = pairs.critical(level, high, low)
    difference = float(pairs.share[high] - pairs.share[low])
    limits = pairs.limits(high, low, critical)
    ends = [None, None] if not difference > 0 else [pairs.names[low], pairs.names[high]]
    worst, best = ends if METRICS[row["metric"]].higher_is_better else ends[::-1]
    # Two one-sided tests at 5 %, of every pair: all must pass, so no correction is due (Berger and Hsu 1996).
    # By the groups' own intervals as well: equality is not said where one of the two leaves it open.
    groups = range(len(pairs.names))
    upper = max(pairs.limits(a, b, ndtri(0.95))[1] for a in groups for b in groups if a != b)
    pairwise = pairs.limits(high, low, ndtri(0.975))[1]
    return {
        "difference": difference,
        "ci_low": limits[0],
        "ci_high": limits[1],
        "chance": pairs.chance(high, low, critical),
        "worst_group": worst,
        "best_group": best,
        "equivalence_high": max(upper, float(row["equivalence_high"])),
        "n_needed": units_needed(difference, pairwise, int(row["videos"]), settings.margin),
    }


def detectable(pairs: PairTest, high: int, low: int, family: int, power: float = 0.8) -> float:
    """The difference of two groups that so large a share of studies of this size find.

    Held against the strictest of Holm's levels, as a study that is planned: which of its other ``family``
    tests will be rejected, nobody knows.
    """
    return pairs.detectable(high, low, pairs.critical(ALPHA / family, high, low), power)


def _other_pairs(pairs: PairTest, level: float, metric: str) -> list[list[str]]:
    """Worse and better group of every further pair that differs, with the same correction."""
    found = [[pairs.names[one] for one in pair] for pair in pairs.pairs_below(level) if pair != pairs.widest]
    return [pair[::-1] for pair in found] if METRICS[metric].higher_is_better else found


def _verdict(row: Measures, margin: float) -> str:
    if np.isnan(row["gap"]):
        return "not enough data"
    if np.isnan(row["p_value"]):
        return "not tested"
    if row["p_adjusted"] < ALPHA:
        return "disparity"
    return "equivalent" if row["equivalence_high"] < margin else "inconclusive"


def spread_of(one: Slice) -> dict[str, Spread]:
    """`between_group_spread` of every metric among the groups that it compares.

    A group's sampling variance is the one its 95 % interval implies, so that a rate of 0 in a dozen videos
    is not taken as certain.
    """
    found = {}
    for name in gap_metrics():
        kept = one.in_gap[name]
        width = (one.high.loc[kept, name] - one.low.loc[kept, name]).to_numpy()
        quantile = stdtrit(one.estimates[name].units[kept.to_numpy()] - 1.0, 0.975)
        found[name] = between_group_spread(one.values.loc[kept, name].to_numpy(), (width / 2 / quantile) ** 2)
    return found


def constant_detector(slices: list[Slice], everyone: Slice) -> ConstantDetector:
    """Metrics and gaps of the detector that scores everything 1, on the same rows."""
    gaps = {}
    for one in slices:
        compared = _constant_metrics(one).where(one.in_gap)
        gaps[one.attribute] = {name: float(gap(compared[name].to_numpy())) for name in group_metrics()}
    return {
        "decision": "everything is called fake",
        "overall": _constant_metrics(everyone).iloc[0].to_dict(),
        "gaps": gaps,
        "fairlearn": {one.attribute: _fairlearn_of_constant(one) for one in slices},
    }


def _constant_metrics(one: Slice) -> pd.DataFrame:
    """The constant detector's metrics in every group."""
    # One real and one fake, each with a score of 1, counted as often as the group has them.
    one_of_each = Sample(np.array([0, 1]), np.ones(2), np.arange(2), 2)
    counted = np.stack([one.counts[:, :2].sum(axis=1), one.counts[:, 2:].sum(axis=1)])  # (2, J)
    values = weighted_metrics(one_of_each, counted.astype(np.float64), only=group_metrics())
    return pd.DataFrame(values, index=one.values.index)[group_metrics()]


def _fairlearn_of_constant(one: Slice) -> dict[str, float]:
    """What `fairlearn_measures` gives for a detector that calls everything fake: no difference anywhere."""
    perfect = {"difference": 0.0, "ratio": 1.0} if one.in_gap["auc"].sum() >= 2 else {}
    return {
        f"{name}_{kind}": perfect.get(kind, float("nan"))
        for name in FAIRLEARN
        for kind in ("difference", "ratio")
    }


def fairlearn_measures(one: Slice) -> dict[str, float]:
    """fairlearn's disparities among the groups with enough of both classes.

    NaN with fewer than two. From counts that are there: fairlearn's six functions would each go through all
    rows again, group by group, for the same numbers (a test compares them).
    """
    kept = one.in_gap["auc"].to_numpy()
    if kept.sum() < 2:
        return {f"{name}_{kind}": float("nan") for name in FAIRLEARN for kind in ("difference", "ratio")}
    values = rates(one.counts[kept])
    least, most = ({name: float(end(values[name])) for name in RATES} for end in (np.min, np.max))
    difference = {name: most[name] - least[name] for name in RATES}
    quotient = {name: least[name] / most[name] if most[name] else float("nan") for name in RATES}
    return {
        "demographic_parity_difference": difference["selection_rate"],
        "demographic_parity_ratio": quotient["selection_rate"],
        "equal_opportunity_difference": difference["tpr"],
        "equal_opportunity_ratio": quotient["tpr"],
        "equalized_odds_difference": max(difference["tpr"], difference["fpr"]),
        "equalized_odds_ratio": min(quotient["tpr"], quotient["fpr"]),
    }


def base_rates(one: Slice, everyone: Slice) -> list[BaseRate]:
    """How often each group is called fake, and how much of that is its share of fakes.

    A group with more fakes is called fake more often by a detector that errs alike on everybody: ``expected``
    is what it would be then. Label shift taken out, with everybody's share of fakes, is ``as_everybody``.
    """
    real, fake = (one.counts[:, columns].sum(axis=1) for columns in ([0, 1], [2, 3]))
    whole = everyone.counts[0]
    share, of_all = fake / (real + fake), whole[2:].sum() / whole.sum()
    all_fpr, all_tpr = (float(everyone.values[name].iloc[0]) for name in ("fpr", "tpr"))
    return [
        {
            "group": str(group),
            "share_fake": float(share[at]),
            "selection_rate": float(one.values["selection_rate"].iloc[at]),
            "selection_rate_ci": [float(ends["selection_rate"].iloc[at]) for ends in (one.low, one.high)],
            "expected": _mixed_rate(all_fpr, all_tpr, float(share[at])),
            "as_everybody": _mixed_rate(
                float(one.values["fpr"].iloc[at]), float(one.values["tpr"].iloc[at]), float(of_all)
            ),
        }
        for at, group in enumerate(one.values.index)
    ]


def _mixed_rate(fpr: float, tpr: float, share_fake: float) -> float:
    """How often rows are called fake of which so many are fakes; a rate of an absent class counts nowhere."""
    return sum(weight * rate for weight, rate in ((1 - share_fake, fpr), (share_fake, tpr)) if weight > 0)
