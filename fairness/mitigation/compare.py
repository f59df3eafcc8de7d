"""Before and after a mitigation on the same rows: the gap, its price, and who pays it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from unmasked.evaluation import counts
from unmasked.evaluation.counts import Array
from unmasked.evaluation.metrics import METRICS
from unmasked.evaluation.records import Measures
from unmasked.fairness.across.changes import paired_change, paired_gap_change
from unmasked.fairness.groups import UNKNOWN
from unmasked.fairness.mitigation.folds import Fold
from unmasked.fairness.mitigation.rules import MIN_CLUSTERS, Rule
from unmasked.fairness.records import BeforeAfter, Doubts, LevellingDown, Outcome
from unmasked.fairness.statistics.metrics import BLOCK, needs, rates
from unmasked.fairness.statistics.resampling import bootstrap_weights, gap, strata

SHOWN = ("fpr", "tpr", "balanced_accuracy")
UTILITY: Final = "balanced_accuracy"
# Draws that stand for one row of a randomised rule: expectations are exact to half of 1 / draws.
DRAWS = 500
# Resamples of curves: only their variance is used.
CURVES = 400
LEVELS = 1000  # their resolution, by rank
WRONG_REPEATS = 20


@dataclass(frozen=True)
class Comparison:
    """How a comparison is made.

    Attributes:
        metric: whose gap: fpr, fnr, tpr, selection_rate, accuracy or balanced_accuracy.
        min_clusters: units that a group needs to be in the gap.
        n_boot: resamples behind intervals.
        wrong: share of people whose group is given wrongly, in the what-if.
        random_state: seed.
    """

    metric: str = "fpr"
    min_clusters: int = MIN_CLUSTERS
    n_boot: int = 2000
    wrong: float = 0.2
    random_state: int = 0


def before_after(
    before: Rule, after: Rule, fold: Fold, how: Comparison, *, rescored: np.ndarray | None = None
) -> BeforeAfter:
    """The entry of ``mitigation.json`` for one mitigation, as far as the rows tell.

    Args:
        before, after: two rules.
        fold: the rows that both are applied to, with the groups as they are.
        how: see `Comparison`.
        rescored: (N,) what another detector says of the same rows, if ``after`` is one.

    Returns:
        ``before`` and ``after`` (gap, metrics over all, metrics by group), the paired changes of gap,
        balanced accuracy and TPR at the same FPR, each with a 95 % interval, and two flags: levelling down,
        and a gap that shrinks while balanced accuracy surely falls and rises in no group, as it does under
        a rule that is just less use. ``worst_group_utility_change`` is what the group that was worst off
        pays or gains in balanced accuracy: to accuse nobody of a group is to find none of its fakes.
    """
    judged = fold if rescored is None else fold.with_score(rescored)
    called = before.probability(fold), after.probability(judged)
    compared = compared_groups(fold, how)
    then, now = (_outcome(fold, each, compared, how.metric) for each in called)
    rows, decisions, thresholds = _draw_decisions(fold, *called)
    shared: Any = {"n_boot": how.n_boot, "random_state": how.random_state}
    shared |= dict(zip(("threshold_a", "threshold_b"), thresholds, strict=True))
    label, group, unit = (values[rows] for values in (fold.label, fold.group, fold.unit))
    moved = paired_gap_change(label, *decisions, group, unit, metric=how.metric, compared=compared, **shared)
    paid = paired_change(label, *decisions, unit, metric=UTILITY, **shared)
    price, price_ci = tpr_at_same_fpr(fold, called[1], how.random_state)
    return {
        "metric": how.metric,
        "before": cast(Outcome, {**then, **before.to_dict()}),
        "after": cast(Outcome, {**now, **after.to_dict()}),
        "gap_before_ci": list(moved.before_ci),
        "gap_change": now["gap"] - then["gap"],
        "gap_change_ci": list(moved.interval),
        "utility": UTILITY,
        "utility_change": now[UTILITY] - then[UTILITY],
        "utility_change_ci": list(paid.interval),
        "tpr_change_at_same_fpr": price,
        "tpr_change_at_same_fpr_ci": list(price_ci),
        "no_group_gains_utility": bool(
            now["gap"] < then["gap"]
            and paid.high < 0
            and all(b[UTILITY] <= a[UTILITY] for a, b in zip(then["groups"], now["groups"], strict=True))
        ),
        "worst_group_utility_change": _utility_of_group(now, then["worst_group"])
        - _utility_of_group(then, then["worst_group"]),
        **levelling_down(then, now, how.metric),
    }


def group_doubts(after: Rule, fold: Fold, how: Comparison) -> Doubts:
    """What a rule that needs groups does where they are not known, or wrong for some.

    Returns:
        ``group_unknown``: gap and utility if nobody's group were known. ``group_wrong``: their means, and
        the gap's range, over draws in which each unit gets another group with probability ``how.wrong``.
    """
    compared = compared_groups(fold, how)
    hidden = fold.with_groups(np.full(len(fold), UNKNOWN, dtype=object))
    unknown = _outcome(fold, after.probability(hidden), compared, how.metric)
    rng = np.random.default_rng(how.random_state)
    wrong = [
        _outcome(fold, after.probability(_mistake_groups(fold, how.wrong, rng)), compared, how.metric)
        for _ in range(WRONG_REPEATS)
    ]
    gaps = np.array([each["gap"] for each in wrong])
    return {
        "group_unknown": {"gap": unknown["gap"], UTILITY: unknown[UTILITY]},
        "group_wrong": {
            "share": how.wrong,
            "gap_mean": float(gaps.mean()),
            "gap_low": float(gaps.min()),
            "gap_high": float(gaps.max()),
            UTILITY: float(np.mean([each[UTILITY] for each in wrong])),
        },
    }


def levelling_down(before: Outcome, after: Outcome, metric: str) -> LevellingDown:
    """Whether a gap shrank by making the better-off worse while the worse-off gained nothing.

    Args:
        before, after: with ``gap``, ``worst_group``, ``best_group`` and ``groups``.
        metric: whose gap; better means lower for FPR and FNR, higher for the others.

    Returns:
        ``levelling_down`` and, for the groups that were worst and best off, what they gained: positive is
        better.
    """
    sign = 1.0 if METRICS[metric].higher_is_better in (True, None) else -1.0
    groups: list[list[Measures]] = [[*found["groups"]] for found in (before, after)]
    value = [{each["group"]: each[metric] for each in found} for found in groups]
    worst, best = before["worst_group"], before["best_group"]
    if worst is None or best is None:
        return {"levelling_down": False, "worst_group_gain": float("nan"), "best_group_gain": float("nan")}
    worst_gain, best_gain = (sign * (value[1][group] - value[0][group]) for group in (worst, best))
    shrank = before["gap"] - after["gap"] > 1e-9
    return {
        "levelling_down": bool(shrank and best_gain < -1e-9 and worst_gain <= 1e-9),
        "worst_group_gain": float(worst_gain),
        "best_group_gain": float(best_gain),
    }


def tpr_at_same_fpr(
    fold: Fold, called: np.ndarray, random_state: int = 0
) -> tuple[float, tuple[float, float]]:
    """TPR of decisions minus TPR of the fold's scores at the same FPR, with 95 % interval.

    A mitigation that accuses fewer people finds fewer fakes; this is what is left of its price when one
    threshold for all, moved to accuse as many, is the alternative. The ROC curve between two of its points
    is what drawing between two thresholds reaches. The interval is from a bootstrap's standard error, within
    [-1, 1], as a difference of two shares is.

    Args:
        fold: rows with the scores before.
        called: (N,) P(called fake) after.
        random_state: seed.
    """
    code, size = _codes(fold.unit)
    terms = _confusion(fold.label, called)
    by_unit = np.stack([np.bincount(code, weights=column, minlength=size) for column in terms.T], axis=1)
    distinct, level = counts.levels_of(fold.score)
    value = _price(np.ones((1, size)), by_unit, code, fold.label, level)[0]
    level //= -(-len(distinct) // LEVELS)
    rng = np.random.default_rng(random_state)
    stratum = strata(by_unit)
    block = int(np.clip(BLOCK // max(size, 1), 1, CURVES))
    drawn = [
        _price(bootstrap_weights(stratum, block, rng), by_unit, code, fold.label, level)
        for _ in range(-(-CURVES // block))
    ]
    half = 1.96 * float(np.nanstd(np.concatenate(drawn)))
    return float(value), (max(-1.0, float(value - half)), min(1.0, float(value + half)))


def _price(
    weight: np.ndarray, by_unit: np.ndarray, code: np.ndarray, label: np.ndarray, level: np.ndarray
) -> Array:
    """(B,) for B sets of weights of the units."""
    after = rates(weight @ by_unit)
    found = np.empty(len(weight))
    for number, row in enumerate(weight):
        of_row = row[code]
        real, fake = (
            counts.cumulate(np.bincount(level, weights=of_row * (label == kind)).astype(np.float64))
            for kind in (0, 1)
        )
        found[number] = after["tpr"][number] - np.interp(
            after["fpr"][number], real / real[-1], fake / fake[-1]
        )
    return found


def _outcome(fold: Fold, called: np.ndarray, compared: list[str], metric: str) -> Outcome:
    """Metrics over all rows and by group, as expectations over what is drawn."""
    terms = _confusion(fold.label, called)
    overall = rates(terms.sum(axis=0))
    by_group = {name: rates(terms[fold.group == name].sum(axis=0)) for name in fold.groups}
    values = pd.Series({name: float(by_group[name][metric]) for name in compared}, dtype=np.float64)
    ends = [None, None] if len(values) < 2 or not np.ptp(values) > 0 else [values.idxmin(), values.idxmax()]
    worst, best = ends if METRICS[metric].higher_is_better in (True, None) else ends[::-1]
    shown = tuple(dict.fromkeys((*SHOWN, metric)))
    found = {
        "gap": float(gap(values.to_numpy())),
        **{name: float(overall[name]) for name in shown},
        "worst_group": worst,
        "best_group": best,
        "groups": [
            {
                "group": name,
                **{each: float(by_group[name][each]) for each in shown},
                "real": int(((fold.group == name) & (fold.label == 0)).sum()),
                "fake": int(((fold.group == name) & (fold.label == 1)).sum()),
                "compared": name in compared,
            }
            for name in fold.groups
        ],
    }
    return cast(Outcome, found)


def _utility_of_group(outcome: Outcome, group: str | None) -> float:
    """The utility within a group; NaN where there is none."""
    found = [each[UTILITY] for each in outcome["groups"] if each["group"] == group]
    return found[0] if found else float("nan")


def _confusion(label: np.ndarray, called: np.ndarray) -> Array:
    """(N, 4) expected outcomes tn, fp, fn, tp of each row."""
    real, fake = label == 0, label == 1
    return np.stack([real * (1 - called), real * called, fake * (1 - called), fake * called], axis=1)


def compared_groups(fold: Fold, how: Comparison) -> list[str]:
    """The groups with enough people or videos of the classes that the metric needs."""
    return [name for name in fold.groups if fold.units(name, needs(how.metric)) >= how.min_clusters]


def _draw_decisions(
    fold: Fold, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Rows, P(called fake) under both rules, and the thresholds that decide; draws represent expectations.

    Where a rule is randomised, a row is repeated with evenly spaced thresholds, so that the share of its
    copies that are called fake is its probability. They belong to one unit, so intervals see one row.
    """
    certain = np.isin(after, (0, 1)).all() and np.isin(before, (0, 1)).all()
    draws = 1 if certain else int(np.clip(BLOCK // max(len(fold), 1), 4, DRAWS))
    rows = np.repeat(np.arange(len(fold)), draws)
    threshold = np.tile((np.arange(draws) + 0.5) / draws, len(fold))
    return rows, (before[rows], after[rows]), (threshold, threshold)


def _mistake_groups(fold: Fold, share: float, rng: np.random.Generator) -> Fold:
    """The fold with another known group for each unit with a probability of ``share``."""
    code, size = _codes(fold.unit)
    names = np.array(fold.groups, dtype=object)
    place = pd.Categorical(fold.group, categories=names).codes  # -1 is unknown, and stays so
    moved = (rng.random(size) < share)[code] & (place >= 0)
    shift = rng.integers(1, max(len(names), 2), size=size)[code]
    return fold.with_groups(np.where(moved, names[(place + shift) % len(names)], fold.group))


def _codes(unit: np.ndarray) -> tuple[np.ndarray, int]:
    code = pd.factorize(unit)[0].astype(np.int64)
    return code, int(code.max()) + 1
