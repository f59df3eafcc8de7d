"""What an unbiased detector would show: groups shuffled among units of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from unmasked.evaluation.metrics import METRICS, group_metrics
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.metrics import needs, rates
from unmasked.fairness.statistics.pairs import PairTest, compare_pairs
from unmasked.fairness.statistics.resampling import (
    gap,
    kinds,
    permuted_rates,
    permuted_sums,
    precision_weights,
    strata,
)
from unmasked.fairness.statistics.score_tables import Levels, metrics_of, permute_cells

# Columns of a count table that hold a class.
COLUMNS_OF = {"real": (0, 1), "fake": (2, 3)}
# The metric of one class whose gap is tested.
TESTED_OF = {"real": "fpr", "fake": "tpr"}


@dataclass(frozen=True)
class Shuffled:
    """What an unbiased detector shows: gaps of each metric after shuffling the groups."""

    gaps: dict[str, np.ndarray]  # metric -> gaps; empty where fewer than two groups are compared
    tests: dict[str, PairTest]  # fpr, tpr, where two groups are compared


def shuffle(
    levels: Levels,
    unit: np.ndarray,
    of_unit: np.ndarray,
    counts: np.ndarray,
    in_gap: pd.DataFrame,
    settings: Settings,
    rng: np.random.Generator,
) -> Shuffled:
    """Shuffles units among the compared groups, within strata of class composition."""
    gaps: dict[str, np.ndarray] = {}
    tests: dict[str, PairTest] = {}
    for classes in dict.fromkeys(map(needs, group_metrics())):
        names = [name for name in group_metrics() if needs(name) == classes]
        kept = np.flatnonzero(in_gap[names[0]])
        if len(kept) < 2:
            gaps |= dict.fromkeys(names, np.zeros(0))
            continue
        if len(classes) == 1:
            compared = [str(name) for name in in_gap.index[kept]]
            shuffled, tests[TESTED_OF[classes[0]]] = compare_class(
                counts, of_unit, kept, compared, classes[0], settings, rng
            )
        else:
            member = np.isin(of_unit, kept)
            codes, stratum = np.searchsorted(kept, of_unit[member]), strata(counts[member])
            shuffled = permuted_rates(counts[member], codes, settings.n_perm, rng)
            inside = member[unit]
            place = (np.cumsum(member) - 1)[unit[inside]]
            shuffled |= _permuted_scores(levels.cell[inside], place, codes, stratum, levels, settings, rng)
        gaps |= {name: gap(shuffled[name]) if name in shuffled else np.zeros(0) for name in names}
    return Shuffled(gaps, tests)


def compare_class(
    counts: np.ndarray,
    of_unit: np.ndarray,
    kept: np.ndarray,
    names: list[str],
    kind: str,
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], PairTest]:
    """`permute_class` of the compared groups, among the units that hold the class.

    Args:
        counts: (C, 4) outcomes of each unit.
        of_unit: (C,) group of each unit.
        kept: codes of the compared groups, in order; their ``names``.
        kind: real or fake.
        settings, rng: see `shuffle`.
    """
    columns = list(COLUMNS_OF[kind])
    member = np.isin(of_unit, kept) & (counts[:, columns].sum(axis=1) > 0)
    codes = np.searchsorted(kept, of_unit[member])
    return permute_class(counts[member], codes, strata(counts[member]), columns, names, settings, rng)


def permute_class(
    counts: np.ndarray,
    codes: np.ndarray,
    stratum: np.ndarray,
    columns: list[int],
    names: list[str],
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], PairTest]:
    """Permuted rates of one class, and the test of its pairs of groups.

    The test is of rates that weigh units by their precision.

    A rate counts every frame alike, and a video of thirty frames says little more than one of one frame.
    Weighing videos by what they say leaves the level of the test exact and finds more.
    """
    rows, of_unit = kinds(counts)
    right, called_fake = rows[:, columns].T  # tn and fp, or fn and tp
    total = right + called_fake
    weight = precision_weights(total[of_unit], called_fake[of_unit])
    sums, test = _permute_shares(
        rows, called_fake / total, weight, of_unit, codes, stratum, names, settings, rng
    )
    return rates(sums), test


def compare_changes(
    total: np.ndarray,
    change: np.ndarray,
    codes: np.ndarray,
    names: list[str],
    settings: Settings,
    rng: np.random.Generator,
) -> PairTest:
    """The test of which groups' rates changed unlike: differences of differences.

    A change lies in [-1, 1] and is tested as the share (1 + change) / 2, so the differences of shares, and
    their limits, are half of those of changes. What happens to all groups alike is no difference.

    Args:
        total: (C,) rows of each unit.
        change: (C,) rows called fake after, minus before.
        codes: (C,) group of each unit, 0 … J-1, every one of them present.
        names: of the groups.
        settings, rng: see `shuffle`.
    """
    rows, of_unit = kinds(np.stack([total, total + change], axis=1))
    weight = precision_weights(total, np.abs(change))
    stratum = np.zeros(len(total))
    share = rows[:, 1] / rows[:, 0] / 2
    return _permute_shares(rows, share, weight, of_unit, codes, stratum, names, settings, rng)[1]


def _permute_shares(
    rows: np.ndarray,
    share: np.ndarray,
    weight: np.ndarray,
    of_unit: np.ndarray,
    codes: np.ndarray,
    stratum: np.ndarray,
    names: list[str],
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, PairTest]:
    """Permuted sums of ``rows`` by group (n_perm, J, K), and the test of the groups' weighed shares.

    ``rows`` (R, K) and ``share`` (R,) are of kinds of units; ``of_unit`` (C,) is the kind of each unit, and
    ``weight`` (C,), equal for units of a kind, what it counts.
    """
    of_kind = np.zeros(len(rows))
    of_kind[of_unit] = weight
    table = np.column_stack([rows, of_kind, of_kind * share])
    sums = permuted_sums(table, of_unit, codes, stratum, settings.n_perm, rng)
    held, called = (np.bincount(codes, weights=column) for column in (weight, table[of_unit, -1]))
    test = compare_pairs(names, called / held, held, sums[..., -1] / sums[..., -2], sums[..., -2])
    return sums[..., :-2], test


def _permuted_scores(
    cell: np.ndarray,
    unit: np.ndarray,
    codes: np.ndarray,
    stratum: np.ndarray,
    levels: Levels,
    settings: Settings,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """The metrics that need scores, of each group under permutations, each (permutations, groups)."""
    names = [
        name
        for name in group_metrics()
        if METRICS[name].kind != "threshold" or METRICS[name].vectorised is None
    ]
    repeats = settings.resamples_of_scores(levels.rows, settings.n_perm)
    counts = permute_cells(cell, unit, codes, stratum, 2 * levels.size, repeats, rng)
    values = metrics_of(counts.reshape(-1, 2 * levels.size), levels, names, settings.threshold)
    return {name: values[name].reshape(repeats, -1) for name in names}
