"""Groups compared: gaps with their tests, and the two yardsticks beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from unmasked.fairness.metrics import HIGHER_IS_BETTER, RATES, count_rows, needs, rates, score_metrics
from unmasked.fairness.resampling import gap, gap_interval, holm, permutation_p, units_needed
from unmasked.fairness.slices import Rows, Settings, Slice, counted_rows, units_behind
from unmasked.fairness.spread import between_group_spread

# The declared family: every attribute's gap in these is tested, with Holm's correction over all of them.
TESTED = ("fpr", "tpr")
# Gaps that are shown without a test. FNR is left out: its gap is the TPR's.
SHOWN = ("selection_rate", "accuracy", "balanced_accuracy", "auc", "eer", "brier", "ece")
TEST_COLUMNS = (
    *("attribute", "metric", "gap", "ci_low", "ci_high", "null_floor", "null_mean", "p_value", "p_adjusted"),
    *("verdict", "worst_group", "best_group", "n_needed"),
)
ALPHA = 0.05


def compare(slices: list[Slice], settings: Settings) -> pd.DataFrame:
    """The tests of an audit: a row for every attribute and metric, columns `TEST_COLUMNS`."""
    tests = pd.DataFrame([_compare(one, name, settings) for one in slices for name in TESTED + SHOWN])
    tests["p_adjusted"] = holm(tests["p_value"].to_numpy())
    tests["verdict"] = [_verdict(row, settings.margin) for _, row in tests.iterrows()]
    tests.loc[tests["verdict"] != "inconclusive", "n_needed"] = np.nan
    return tests[list(TEST_COLUMNS)]


def _compare(one: Slice, metric: str, settings: Settings) -> dict[str, Any]:
    """One row of `Audit.tests`, without what depends on the other rows."""
    kept = one.in_gap[metric]
    values = one.values.loc[kept, metric]
    support = one.support[kept]
    behind = counted_rows(support, metric, settings)
    low, high = gap_interval(
        values.to_numpy(), one.variance.loc[kept, metric].to_numpy(), units_behind(support, metric), behind
    )
    observed, null = float(gap(values.to_numpy())), one.null[metric]
    row: dict[str, Any] = {"attribute": one.attribute, "metric": metric, "gap": observed}
    row |= {"ci_low": low, "ci_high": high}
    row["null_floor"] = float(np.quantile(null, 0.95)) if len(null) else np.nan
    row["null_mean"] = float(np.mean(null)) if len(null) else np.nan
    row["p_value"] = permutation_p(observed, null) if metric in TESTED else np.nan
    videos = int(support[[f"{name}_videos" for name in needs(metric)]].to_numpy().sum())
    row["n_needed"] = units_needed(observed, high, videos, settings.margin)
    ends = [None, None] if not observed > 0 else [values.idxmin(), values.idxmax()]
    row["worst_group"], row["best_group"] = ends if HIGHER_IS_BETTER[metric] else ends[::-1]
    return row


def _verdict(row: pd.Series, margin: float) -> str:
    if np.isnan(row["gap"]):
        return "not enough data"
    if np.isnan(row["p_value"]):
        return "not tested"
    if row["p_adjusted"] < ALPHA:
        return "disparity"
    return "equivalent" if row["ci_high"] < margin else "inconclusive"


def spread_of(one: Slice) -> dict[str, dict[str, Any]]:
    """`between_group_spread` of every metric among the groups that it compares.

    A group's sampling variance is the one its 95 % interval implies, so that a rate of 0 in a dozen videos
    is not taken as certain.
    """
    found = {}
    for name in TESTED + SHOWN:
        kept = one.in_gap[name]
        width = (one.high.loc[kept, name] - one.low.loc[kept, name]).to_numpy()
        quantile = stdtrit(units_behind(one.support[kept], name) - 1, 0.975)
        found[name] = between_group_spread(one.values.loc[kept, name].to_numpy(), (width / 2 / quantile) ** 2)
    return found


def constant_detector(rows: Rows, groups: pd.DataFrame, slices: list[Slice]) -> dict[str, Any]:
    """Metrics and gaps of the detector that calls everything fake, on the same rows."""
    constant = np.ones(len(rows))
    counts = count_rows(rows.label, constant, 0.5)
    values = {name: float(value) for name, value in rates(counts.sum(axis=0)).items()}
    values |= score_metrics(rows.label, constant)
    gaps = {}
    for one in slices:
        names = groups[one.attribute].to_numpy()
        by_group = pd.DataFrame(
            {group: rates(counts[names == group].sum(axis=0)) for group in one.values.index}
        ).T.astype(float)
        compared = by_group.where(one.in_gap[list(RATES)])
        gaps[one.attribute] = {name: float(gap(compared[name].to_numpy())) for name in RATES}
    return {"decision": "everything is called fake", "overall": values, "gaps": gaps}


def fairlearn_measures(rows: Rows, names: pd.Series, one: Slice, settings: Settings) -> dict[str, float]:
    """fairlearn's disparities among the groups with enough of both classes; NaN with fewer than two.

    One `MetricFrame` gives what fairlearn's six functions would, each of which builds its own.
    """
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

    measures = ("demographic_parity", "equal_opportunity", "equalized_odds")
    if one.in_gap["auc"].sum() < 2:
        return {f"{name}_{kind}": float("nan") for name in measures for kind in ("difference", "ratio")}
    kept = names.isin(one.in_gap.index[one.in_gap["auc"]]).to_numpy()
    frame = MetricFrame(
        metrics={"selected": selection_rate, "tpr": true_positive_rate, "fpr": false_positive_rate},
        y_true=rows.label[kept],
        y_pred=(rows.score[kept] > settings.threshold).astype(int),
        sensitive_features=names[kept],
    )
    difference, ratio = frame.difference(), frame.ratio()
    return {
        "demographic_parity_difference": float(difference["selected"]),
        "demographic_parity_ratio": float(ratio["selected"]),
        "equal_opportunity_difference": float(difference["tpr"]),
        "equal_opportunity_ratio": float(ratio["tpr"]),
        "equalized_odds_difference": float(max(difference["tpr"], difference["fpr"])),
        "equalized_odds_ratio": float(min(ratio["tpr"], ratio["fpr"])),
    }
