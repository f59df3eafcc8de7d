"""The gap metrics of AI-Face-FairnessBench and Fairness-Generalization, as printed there.

Written from their formulas (Lin et al., CVPR 2025 and CVPR 2024), for comparison with published tables.
Read them with care: every group counts alike however small, sums grow with the number of groups, a group
with one class is dropped from every metric, and the detector that calls everything fake scores perfectly.

A score of 0.5 or more is called fake, always. With J the groups that have both classes, and rates without
an index taken over all rows whose group is known, dropped groups included:

    F_FPR = sum_J |FPR_j - FPR|        F_EO  = sum_J |FPR_j - FPR| + |TPR_j - TPR|
    F_DP  = range_J of the share called fake          F_OAE = range_J of accuracy
    F_MEO = max(range_J FPR, range_J TPR)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, cast

import numpy as np
import pandas as pd

from unmasked.evaluation.metrics import auc
from unmasked.fairness.groups import CROSS, UNKNOWN, order_groups
from unmasked.fairness.records import Bench, BenchMeasures
from unmasked.fairness.statistics.metrics import rates, sum_by

# In per cent, as the papers' tables have them.
MEASURES = ("F_FPR", "F_EO", "F_MEO", "F_DP", "F_OAE")
NOTE = (
    "In per cent, as the papers' tables; `printed` has the names and units of the benches' own output. A "
    "score of 0.5 or more is called fake whatever the audit's threshold. Every group counts alike, however "
    "small; sums over groups (F_FPR, F_EO) grow with their number; a group with one class is dropped from "
    "every metric. The detector that calls everything fake is beside them: it scores 0 in all but F_OAE."
)


def bench_measures(
    label: np.ndarray, score: np.ndarray, names: Any, *, order: Sequence[str] | None = None
) -> BenchMeasures:
    """The benches' metrics of one attribute.

    Args:
        label: (N,) 0 = real, 1 = fake.
        score: (N,) P(fake).
        names: (N,) group of each row; "unknown" rows count nowhere, since the benches have none.
        order: groups in the benches' own order, which only ``F_COV`` depends on; None is reading order.

    Returns:
        `MEASURES` in per cent; ``groups``, those that count; ``dropped``, group -> why not; ``printed``:
        the benches' own names and units, also for metrics that no paper tabulates. NaN where no group
        is left. ``accuracy`` and ``auc``, overall, say whether there is any use in the detector at all.

    >>> found = bench_measures(np.array([0, 1, 0, 1]), np.array([.1, .9, .8, .7]), list("aabb"))
    >>> found["F_FPR"], found["F_OAE"], found["groups"]
    (100.0, 50.0, ['a', 'b'])
    """
    names = np.asarray(names, dtype=object)
    known = names != UNKNOWN
    found = order_groups(names.tolist()) if order is None else list(order)
    found = [name for name in found if name != UNKNOWN]
    codes = pd.Index(found, dtype=object).get_indexer(names)
    decision = score >= 0.5
    outcome = 2 * label + decision  # tn, fp, fn, tp
    one_hot = np.eye(4, dtype=np.int64)[outcome]
    counts = sum_by(one_hot, codes, len(found))
    both = (counts[:, :2].sum(axis=1) > 0) & (counts[:, 2:].sum(axis=1) > 0)
    by_group, overall = rates(counts[both]), rates(counts.sum(axis=0))
    aucs = [auc(label[codes == code], score[codes == code]) for code in np.flatnonzero(both)]
    measures, printed = _measures(by_group, overall, np.array(aucs))
    given = {
        **measures,
        "printed": printed | {"F_COV": _covariance(score, codes)},
        "groups": [name for name, kept in zip(found, both, strict=True) if kept],
        "dropped": _dropped_groups(found, counts) | _absent_cells(found) | _unknown_groups(known),
        "accuracy": float(overall["accuracy"]),
        "auc": auc(label[known], score[known]),
    }
    return cast(BenchMeasures, given)


def _measures(
    by_group: dict[str, np.ndarray], overall: dict[str, np.ndarray], auc: np.ndarray
) -> tuple[dict[str, float], dict[str, float]]:
    """Everything that follows from the groups' rates, as papers and as the benches print it."""
    if not len(auc):
        names = ("F_EFPR", "F_EO", "F_G", "F_S", "inter_FPR", "inter_auc", "inter_ErrorRate")
        return dict.fromkeys(MEASURES, np.nan), dict.fromkeys((*names, "F_meo", "F_DP", "foae"), np.nan)
    apart = {name: np.abs(by_group[name] - overall[name]) for name in ("fpr", "tpr", "selection_rate")}
    spread = {name: float(np.ptp(values)) for name, values in by_group.items()}
    fpr_sum = float(apart["fpr"].sum())
    eo_sum = fpr_sum + float(apart["tpr"].sum())
    worst = 100 * max(spread["fpr"], spread["tpr"])
    parity, accuracy = 100 * spread["selection_rate"], 100 * spread["accuracy"]
    measures = (100 * fpr_sum, 100 * eo_sum, worst, parity, accuracy)
    return dict(zip(MEASURES, measures, strict=True)), {
        # Fractions, where the papers have per cent.
        "F_EFPR": fpr_sum,
        "F_EO": eo_sum,
        "F_G": float(apart["selection_rate"].max()),
        "F_S": spread["selection_rate"],
        # Per cent.
        "F_meo": worst,
        "F_DP": parity,
        "foae": accuracy,
        "inter_FPR": 100 * spread["fpr"],
        "inter_auc": 100 * float(np.ptp(auc)),
        # 1 - (TPR + 1 - FPR) / 2 is 1 - balanced accuracy, so their ranges are equal.
        "inter_ErrorRate": 100 * spread["balanced_accuracy"],
    }


def _covariance(score: np.ndarray, codes: np.ndarray) -> float:
    """F_COV: sum_k |k sum_(i in k) z_i / N - k (n_k / N) mean z| over all groups, k from 0, z the logit.

    A group's place in the list is its weight, so the first never counts; a certain score (0 or 1) has no
    logit and leaves it undefined.
    """
    known = codes >= 0
    inside = score[known]
    if not len(inside) or not ((inside > 0) & (inside < 1)).all():
        return float("nan")
    logit = np.log(inside / (1 - inside))
    apart = np.bincount(codes[known], weights=logit - logit.mean())
    return float(np.abs(np.arange(len(apart)) * apart).sum() / len(inside))


def bench_table(label: np.ndarray, score: np.ndarray, groups: pd.DataFrame) -> Bench:
    """`bench_measures` of every attribute, and of the detector that calls everything fake.

    Args:
        label: (N,) 0 = real, 1 = fake.
        score: (N,) P(fake).
        groups: (N, K) names, a column for each attribute.

    Returns:
        Both, by attribute. ``printed["F_A"]`` is half the sum of the attribute's F_G and the F_S of the
        first crossed attribute, as in the benches.
    """
    tables = []
    for given in (score, np.ones(len(score))):
        found = {name: bench_measures(label, given, groups[name]) for name in groups.columns}
        crossed = next((name for name in found if CROSS in name), None)
        spread = float("nan") if crossed is None else found[crossed]["printed"]["F_S"]
        for one in found.values():
            one["printed"]["F_A"] = (one["printed"]["F_G"] + spread) / 2
        tables.append(found)
    return {"attributes": tables[0], "constant": tables[1], "note": NOTE}


def _dropped_groups(found: list[str], counts: np.ndarray) -> dict[str, str]:
    reasons = {}
    for name, (tn, fp, fn, tp) in zip(found, counts.tolist(), strict=True):
        if not (tn + fp + fn + tp):
            reasons[name] = "no rows"
        elif not (fn + tp):
            reasons[name] = f"no fakes, only {tn + fp:,} real rows: dropped from every metric"
        elif not (tn + fp):
            reasons[name] = f"no reals, only {fn + tp:,} fake rows: dropped from every metric"
    return reasons


def _absent_cells(found: list[str]) -> dict[str, str]:
    """Cells of a crossing that nobody is in."""
    parts = [name.split(CROSS) for name in found]
    if not parts or len(parts[0]) < 2 or len({len(part) for part in parts}) > 1:
        return {}
    cells = product(*(list(dict.fromkeys(level)) for level in zip(*parts, strict=True)))
    names = (CROSS.join(cell) for cell in cells)
    return {name: "no rows" for name in names if name not in found}


def _unknown_groups(known: np.ndarray) -> dict[str, str]:
    if known.all():
        return {}
    return {UNKNOWN: f"{int((~known).sum()):,} rows that nobody annotated, left out of the overall rates too"}
