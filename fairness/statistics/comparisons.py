"""Groups compared: gaps with their tests, and the two yardsticks beside them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from unmasked.evaluation.intervals import Sample, weighted_metrics
from unmasked.evaluation.metrics import METRICS, group_metrics
from unmasked.evaluation.records import Measures
from unmasked.fairness.records import ConstantDetector, Spread
from unmasked.fairness.statistics.metrics import needs, rates
from unmasked.fairness.statistics.resampling import gap, gap_interval, holm, permutation_p, units_needed
from unmasked.fairness.statistics.slices import Settings, Slice
from unmasked.fairness.statistics.spread import between_group_spread

# The declared family: every attribute's gap in these is tested, with Holm's correction over all of them.
TESTED = ("fpr", "tpr")
TEST_COLUMNS = (
    *("attribute", "metric", "gap", "ci_low", "ci_high", "null_floor", "null_mean", "p_value", "p_adjusted"),
    *("verdict", "worst_group", "best_group", "n_needed", "equivalence_high", "constant_gap", "utility"),
)
ALPHA = 0.05
FAIRLEARN = ("demographic_parity", "equal_opportunity", "equalized_odds")
RATES = ("selection_rate", "tpr", "fpr")  # that they are made of


def gap_metrics() -> list[str]:
    """The metrics whose gaps are shown, the tested ones first.

    Not FNR, whose gap is the TPR's.
    """
    return [*TESTED, *(name for name in group_metrics() if name not in (*TESTED, "fnr"))]


def compare(
    slices: list[Slice], everyone: Slice, constant: ConstantDetector, settings: Settings
) -> pd.DataFrame:
    """The tests of an audit: a row for every attribute and metric, columns `TEST_COLUMNS`.

    ``constant`` is what `constant_detector` gives: its gap and the detector's use (balanced accuracy over
    all rows) are beside every gap.
    """
    tests = pd.DataFrame([_compare(one, name, settings) for one in slices for name in gap_metrics()])
    pairs = zip(tests["attribute"], tests["metric"], strict=True)
    tests["constant_gap"] = [constant["gaps"][attribute][metric] for attribute, metric in pairs]
    tests["utility"] = float(everyone.values["balanced_accuracy"].iloc[0])
    return judge_tests(tests, settings)


def judge_tests(tests: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Tests with Holm's correction over all of them, and the verdict that follows."""
    tests = tests.copy()
    tests["p_adjusted"] = holm(tests["p_value"].to_numpy())
    tests["verdict"] = [_verdict(row, settings.margin) for row in tests.to_dict("records")]
    tests.loc[tests["verdict"] != "inconclusive", "n_needed"] = np.nan
    return tests[[*tests.columns.difference(TEST_COLUMNS, sort=False), *TEST_COLUMNS]]


def _compare(one: Slice, metric: str, settings: Settings) -> dict[str, object]:
    """One row of `Audit.tests`, without what depends on the other rows."""
    kept = one.in_gap[metric].to_numpy()
    values = one.values[metric].to_numpy()[kept]
    chosen = one.estimates[metric].of(np.flatnonzero(kept).tolist())
    at = partial(chosen.limits, 0)
    low, high = gap_interval(values, at)
    observed, null = float(gap(values)), one.shuffled.gaps[metric]
    row: dict[str, object] = {"attribute": one.attribute, "metric": metric, "gap": observed}
    row |= {"ci_low": low, "ci_high": high, "equivalence_high": gap_interval(values, at, confidence=0.9)[1]}
    row["null_floor"] = float(np.quantile(null, 0.95)) if len(null) else np.nan
    row["null_mean"] = float(np.mean(null)) if len(null) else np.nan
    tested = one.shuffled.tests.get(metric)
    row["p_value"] = np.nan if tested is None else permutation_p(*tested)
    videos = sum(int(one.support[f"{name}_videos"].to_numpy()[kept].sum()) for name in needs(metric))
    row["n_needed"] = units_needed(observed, high, videos, settings.margin)
    names = one.values.index[kept]
    ends = [None, None] if not observed > 0 else [names[values.argmin()], names[values.argmax()]]
    row["worst_group"], row["best_group"] = ends if METRICS[metric].higher_is_better else ends[::-1]
    return row


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
