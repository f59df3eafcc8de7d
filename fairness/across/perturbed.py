"""What damage to the videos does to whom.

Rates of each group by perturbation and severity.
Each perturbed score is beside the clean score of the same crop, so the changes are paired: what a
person's videos have in common cancels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.predictions import evaluated_rows, is_perturbed
from unmasked.fairness.groups import UNKNOWN
from unmasked.fairness.records import PerturbedGap, PerturbedRate
from unmasked.fairness.result import Audit
from unmasked.fairness.selection import CROP, Selection, rows_of_one, select
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.differences import (
    Change,
    paired_gap_difference,
    paired_value_differences,
    undefined_change,
)
from unmasked.fairness.statistics.estimates import Decisions, Estimates, estimates, generator, group_codes
from unmasked.fairness.statistics.pairs import PairTest
from unmasked.fairness.statistics.resampling import holm, holm_levels
from unmasked.fairness.statistics.shuffling import compare_changes

logger = logging.getLogger(__name__)

RATES = ("fpr", "tpr")
# The severity of a perturbation that has none.
ONE = 1
# Permutations for each test of the family, so that Holm's correction leaves room for a finding.
PERMUTATIONS = 40


def perturbations(
    predictions: pd.DataFrame, audit: Audit, *, dataset: str, detector: str | None = None
) -> tuple[list[PerturbedRate], list[PerturbedGap]]:
    """Rates of every group under each perturbation and severity, and gaps, with clean ones.

    Args:
        predictions: the table that the audit was made of, with columns perturbation and severity.
        audit: of the clean rows; its threshold, level, groups and support count here.
        dataset, detector: whose rows.

    Clean and perturbed are of the same crops; both lists are empty where no row is perturbed.
    """
    one = rows_of_one(predictions, dataset=dataset, detector=detector)
    table = evaluated_rows(one, perturbed=True)
    attributes = list(audit.support.index.unique(0))
    by_group: list[PerturbedRate] = []
    gaps: list[PerturbedGap] = []
    tests: list[PairTest | None] = []
    conditions = _conditions(table)
    family = len(conditions) * len(attributes) * len(RATES)
    settings = replace(audit.settings, n_perm=max(audit.settings.n_perm, PERMUTATIONS * family))
    for (name, severity), perturbed in conditions:
        where = {"dataset": dataset, "perturbation": name, "severity": severity}
        try:
            selection, score = _pair_rows(table, perturbed, attributes, audit)
        except InputError as error:
            logger.warning("%s, severity %s on %s is left out: %s", name, severity, dataset, error)
            continue
        for attribute in attributes:
            place = where | {"attribute": attribute}
            entries, entries_of_gaps = _condition(selection, score, audit, attribute)
            by_group += [cast(PerturbedRate, place | entry) for entry in entries]
            gaps += [cast(PerturbedGap, place | entry) for entry in entries_of_gaps]
            tests += [_test_changes(selection, score, audit, attribute, metric, settings) for metric in RATES]
    _add_differences(gaps, tests)
    return by_group, gaps


def _test_changes(
    selection: Selection, score: np.ndarray, audit: Audit, attribute: str, metric: str, settings: Settings
) -> PairTest | None:
    """The test of which groups a perturbation hits harder; None where fewer than two are compared."""
    rows, label = selection.rows, RATES.index(metric)
    enough = audit.in_gap.loc[attribute][metric]
    names = [str(name) for name in enough.index[enough]]
    group = group_codes(selection.groups[attribute].to_numpy(), names)
    member = (rows.label == label) & (group >= 0)
    present, codes = np.unique(group[member], return_inverse=True)
    if len(present) < 2:
        return None
    threshold = audit.settings.threshold
    turned = (score > threshold).astype(np.int64) - (rows.score > threshold)
    unit, pairs = pd.factorize(codes * (int(rows.cluster.max()) + 1) + rows.cluster[member])
    total, change = np.bincount(unit), np.bincount(unit, weights=turned[member]).astype(np.int64)
    of_unit = pairs // (int(rows.cluster.max()) + 1)
    rng = generator(settings, attribute)
    return compare_changes(total, change, of_unit, [names[code] for code in present], settings, rng)


def _add_differences(gaps: list[PerturbedGap], tests: Sequence[PairTest | None]) -> None:
    """Adds to each gap the pair of groups whose rates changed most unlike, corrected for all tests."""
    p_values = np.array([np.nan if test is None else test.p_value for test in tests])
    levels, adjusted = holm_levels(p_values), holm(p_values)
    for entry, test, level, p_value in zip(gaps, tests, levels, adjusted, strict=True):
        if test is None:
            continue
        high, low = test.widest
        critical = test.critical(float(level), high, low)
        changes = {test.names[place]: float(2 * test.share[place] - 1) for place in (high, low)}
        difference = changes[test.names[high]] - changes[test.names[low]]
        ends = (test.names[high], test.names[low]) if difference > 0 else (None, None)
        entry["difference"], entry["p_adjusted"] = difference, float(p_value)
        entry["difference_ci"] = [2 * limit for limit in test.limits(high, low, critical)]
        entry["chance"] = 2 * test.chance(high, low, critical)
        # A fall of the TPR is the harm.
        entry["worst_group"], entry["best_group"] = ends if entry["metric"] == "fpr" else ends[::-1]
        entry["changes"] = [changes[end] for end in (entry["worst_group"], entry["best_group"]) if end]


def _conditions(table: pd.DataFrame) -> list[tuple[tuple[str, int], pd.DataFrame]]:
    """((perturbation, severity), rows), in order."""
    rows = table[is_perturbed(table)]
    if rows.empty:
        return []
    severity = rows["severity"] if "severity" in rows else pd.Series(np.nan, index=rows.index)
    keys = [rows["perturbation"].astype(str), severity.fillna(ONE).astype("int64")]
    return [(key, part) for key, part in rows.groupby(keys, sort=True)]


def _pair_rows(
    table: pd.DataFrame, perturbed: pd.DataFrame, attributes: Sequence[str], audit: Audit
) -> tuple[Selection, np.ndarray]:
    """The clean crops (or videos) that were also scored perturbed, at the audit's level, and that score.

    Raises:
        InputError: nothing is in both, or a crop is there twice.
    """
    clean = table[~is_perturbed(table)]
    keys = [name for name in CROP if name in table]
    if not {"frame", "face"} <= set(keys):
        # Rows of a video cannot be told apart; their mean can be compared.
        keys = [name for name in keys if name not in ("frame", "face")]
        clean, perturbed = (_means(part, keys) for part in (clean, perturbed))
    if clean.duplicated(keys).any() or perturbed.duplicated(keys).any():
        raise InputError("a crop has several scores; give those of one checkpoint")
    both = clean.merge(perturbed[[*keys, "score"]], on=keys, suffixes=("", "_perturbed"))
    if both.empty:
        raise InputError("none of the perturbed crops was scored clean; predict the untouched ones as well")
    level: Any = audit.settings.level
    selection = select(both, attributes, level=level)
    after = select(both.assign(score=both["score_perturbed"]), attributes, level=level)
    return selection, after.rows.score


def _means(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row a video, with its mean score."""
    first = rows.drop_duplicates(keys).drop(columns="score")
    return first.merge(rows.groupby(keys, dropna=False)["score"].mean().reset_index(), on=keys)


def _condition(
    selection: Selection, score: np.ndarray, audit: Audit, attribute: str
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    names = [name for name in audit.support.loc[attribute].index if name != UNKNOWN]
    threshold, settings = audit.settings.threshold, audit.settings
    clean = selection.rows
    rows = Decisions(clean.label, clean.cluster, group_codes(selection.groups[attribute].to_numpy(), names))
    found = estimates(
        rows,
        [clean.score, score],
        [threshold, threshold],
        RATES,
        groups=len(names),
        n_boot=settings.n_boot,
        rng=generator(settings, attribute),
    )
    by_group: list[dict[str, object]] = []
    gaps = []
    for metric in RATES:
        low, high = found[metric].limits(1)
        changes = paired_value_differences(found[metric])
        compared = [bool(audit.in_gap.loc[(attribute, name), metric]) for name in names]
        for place, (name, change) in enumerate(zip(names, changes, strict=True)):
            by_group.append(
                {
                    "group": name,
                    "metric": metric,
                    "value": change.after,
                    "ci": [float(low[place]), float(high[place])],
                    "change": change.change,
                    "change_ci": list(change.interval),
                    "compared": compared[place],
                    "videos": _videos(selection, rows.group == place, metric),
                }
            )
        gaps.append({"metric": metric} | _gap(found[metric], names, compared))
    return by_group, gaps


def _gap(found: Estimates, names: list[str], compared: list[bool]) -> dict[str, object]:
    kept = [place for place, enough in enumerate(compared) if enough and found.units[place] > 0]
    chosen = [names[place] for place in kept]
    change: Change = (
        paired_gap_difference(found.of(kept), chosen) if len(kept) > 1 else undefined_change(chosen)
    )
    return {
        "gap_clean": change.before,
        "gap": change.after,
        "change": change.change,
        "change_ci": list(change.interval),
        "note": change.note,
    }


def _videos(selection: Selection, member: np.ndarray, metric: str) -> int:
    held = member & (selection.rows.label == RATES.index(metric))
    return len(np.unique(selection.rows.video[held]))
