"""Measured chance: cluster bootstrap, permuted groups, Holm's correction, intervals.

The unit of resampling is a person or a video, never a frame: frames of one video are nearly copies, and
treating them as independent calls an unbiased detector biased in 99 of 100 audits. Units are resampled
and permuted inside strata of equal class composition (only real, only fake, both).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy.special import ndtri

from unmasked.fairness.statistics.metrics import BLOCK, rates


def strata(counts: np.ndarray) -> np.ndarray:
    """(C,) class composition of each unit of (C, 4) counts: 1 only real, 2 only fake, 3 both."""
    return (counts[:, :2].sum(axis=1) > 0).astype(np.int64) + 2 * (counts[:, 2:].sum(axis=1) > 0)


def kinds(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows (R, K) of a (C, K) table of whole numbers, and (C,) each row's number."""
    table = counts.astype(np.int64)
    base = table.max(axis=0, initial=0) + 1
    if np.prod(base.astype(np.float64)) < 2**62:
        # One number a row: a million rows are told apart by hashing, not by sorting.
        key = np.ravel_multi_index(tuple(table.T), tuple(base))
        of_row, keys = pd.factorize(key)
        return np.stack(np.unravel_index(keys, tuple(base)), axis=1), of_row
    distinct, of_row = np.unique(table, axis=0, return_inverse=True)
    return distinct, of_row.reshape(-1)


def bootstrap_weights(stratum: np.ndarray, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """(n_boot, C) how often each unit is drawn, with replacement inside each stratum."""
    weights = np.zeros((n_boot, len(stratum)))
    for code in np.unique(stratum):
        member = np.flatnonzero(stratum == code)
        # As many draws as there are units, each unit as likely: how often each is drawn is multinomial.
        weights[:, member] = rng.multinomial(len(member), np.full(len(member), 1 / len(member)), size=n_boot)
    return weights


def permuted_codes(
    codes: np.ndarray, stratum: np.ndarray, n_perm: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Blocks (b, C) of group codes, shuffled within each stratum; ``n_perm`` rows in all."""
    size = max(1, BLOCK // max(len(codes), 1))
    members = [np.flatnonzero(stratum == code) for code in np.unique(stratum)]
    for first in range(0, n_perm, size):
        # A stratum's columns are shuffled within each row: nobody leaves the stratum. Two bytes a code, as
        # the block is permutations x units.
        block = np.tile(codes.astype(np.int16), (min(size, n_perm - first), 1))
        for member in members:
            block[:, member] = rng.permuted(block[:, member], axis=1)
        yield block


def permuted_rates(
    counts: np.ndarray, codes: np.ndarray, n_perm: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The rates of each group in ``n_perm`` permutations of groups, each (n_perm, groups).

    Args:
        counts: (C, 4) counts of each unit.
        codes: (C,) group of each unit, 0 … J-1, every one of them present.
        n_perm: number of permutations.
        rng: source of randomness.
    """
    rows, of_unit = kinds(counts)
    return rates(permuted_sums(rows, of_unit, codes, strata(counts), n_perm, rng))


def permuted_sums(
    table: np.ndarray,
    of_unit: np.ndarray,
    codes: np.ndarray,
    stratum: np.ndarray,
    n_perm: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(n_perm, J, K) sums over each group's units after shuffling groups inside strata.

    Args:
        table: (R, K) what units of each kind add.
        of_unit: (C,) kind of each unit; units of a kind are interchangeable.
        codes: (C,) group of each unit, 0 … J-1, every one of them present.
        stratum: (C,) class composition of each unit.
        n_perm: number of permutations.
        rng: source of randomness.
    """
    table, groups = table.astype(np.float64), int(codes.max()) + 1
    total = np.zeros((n_perm, groups, table.shape[1]))
    for which in np.unique(stratum):
        member = stratum == which
        # Kinds that the stratum lacks are no rows of its table: kinds 7, 2, 7 become rows 1, 0, 1 of [2, 7].
        present, kind = np.unique(of_unit[member], return_inverse=True)
        sizes, multiplicity = np.bincount(codes[member], minlength=groups), np.bincount(kind)
        # Nanoseconds a permutation: 100 a hypergeometric draw, 12 + 2 J a shuffled unit.
        if len(present) * groups * 100 < member.sum() * (12 + 2 * groups):
            total += _drawn_sums(table[present], multiplicity, sizes, n_perm, rng)
        else:
            of_member = table[of_unit[member]]
            blocks = permuted_codes(codes[member], np.zeros(len(kind)), n_perm, rng)
            total += np.concatenate([_sum_groups(block, of_member, groups) for block in blocks])
    return total


def _sum_groups(block: np.ndarray, table: np.ndarray, groups: int) -> np.ndarray:
    """(b, J, K) sums of (C, K) over the units of each group, for (b, C) group codes."""
    return np.stack([(block == group).astype(np.float64) @ table for group in range(groups)], axis=1)


def _drawn_sums(
    table: np.ndarray, multiplicity: np.ndarray, sizes: np.ndarray, n_perm: int, rng: np.random.Generator
) -> np.ndarray:
    """`permuted_sums` of one stratum from random tables."""
    total = np.zeros((n_perm, len(sizes), table.shape[1]))
    for kind, taken in enumerate(random_tables(multiplicity, np.tile(sizes, (n_perm, 1)), rng)):
        total += taken[:, :, None] * table[kind]
    return total


def random_tables(
    multiplicity: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Tables of kind by group with fixed margins, a kind at a time, (n_perm, J).

    Shuffling labels makes the number of units of each kind in each group multivariate hypergeometric: a
    million single images are as cheap as their few hundred kinds.

    Args:
        multiplicity: (R,) units of each kind.
        sizes: (n_perm, J) units of each group, summing to the same.
        rng: source of randomness.
    """
    # Kind by kind: of 5 units of a kind, how many go to the first group is hypergeometric (its free places
    # among all that are left); of those that remain, how many to the second; the last group has the rest.
    room = sizes.copy()  # units that each group still has to be given
    for units in multiplicity:
        left, beyond = np.full(len(room), units), room.sum(axis=1)
        taken = np.empty_like(room)
        for group in range(room.shape[1] - 1):
            beyond = beyond - room[:, group]
            taken[:, group] = rng.hypergeometric(room[:, group], beyond, left)
            left = left - taken[:, group]
        taken[:, -1] = left
        room -= taken
        yield taken


def precision_weights(rows: np.ndarray, events: np.ndarray) -> np.ndarray:
    """(C,) weight of each unit's share of events that makes the mean share most precise.

    A unit of n rows whose intra-class correlation is r has a share of variance proportional to
    r + (1 - r) / n: thirty frames of a video weigh thirty times one frame if they are unrelated, and as
    much if they are copies.

    >>> precision_weights(np.array([10, 10, 1, 1]), np.array([0, 10, 0, 1])).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    rows = rows.astype(np.float64)
    if rows.sum() == len(rows):
        return np.ones(len(rows))
    correlation = intraclass_correlation(rows, events)
    return 1 / (correlation + (1 - correlation) / rows)


def weigh(rows: np.ndarray, of_unit: np.ndarray, columns: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """(R,) weight of a unit of each kind in one class, and that times its share called fake.

    Zero where the kind has nothing of the class.

    Args:
        rows: (R, 4) outcomes of each kind of unit, see `kinds`.
        of_unit: (C,) kind of each unit.
        columns: those of the class, of rows called real and called fake.
    """
    total, called = rows[:, columns].sum(axis=1), rows[:, columns[1]]
    has = total > 0
    kept = of_unit[has[of_unit]]
    weight, share = np.zeros(len(rows)), np.zeros(len(rows))
    weight[kept] = precision_weights(total[kept], called[kept])
    share[has] = called[has] / total[has]
    return weight, weight * share


def intraclass_correlation(rows: np.ndarray, events: np.ndarray) -> float:
    """How much alike rows of one unit are: 0 unrelated, 1 copies.

    The analysis-of-variance estimate over all units, clipped to [0, 1], and at least 1 / (1 + the number of
    units with an event, or without one): a thousand frames of ten videos without any event do not say that
    frames are unrelated. Some unit has several rows.

    Args:
        rows: (C,) of each unit.
        events: (C,) how many of them have the event.
    """
    rows, events = rows.astype(np.float64), events.astype(np.float64)
    units, total = len(rows), rows.sum()
    share = events / rows
    between = (rows * (share - events.sum() / total) ** 2).sum() / max(units - 1, 1)
    within = (events * (1 - share)).sum() / (total - units)
    size = (total - (rows**2).sum() / total) / max(units - 1, 1)
    signal = (between - within) / size
    correlation = float(np.clip(signal / (signal + within), 0, 1)) if signal > 0 else 0.0
    return max(correlation, 1 / (1 + min((events > 0).sum(), (events < rows).sum())))


def gap(values: np.ndarray) -> np.ndarray:
    """Largest minus smallest along the last axis, without NaN.

    NaN where fewer than two are defined.

    >>> float(gap(np.array([0.25, 0.75, np.nan])))
    0.5
    """
    values = np.asarray(values, dtype=np.float64)
    defined = ~np.isnan(values)
    high = np.where(defined, values, -np.inf).max(axis=-1, initial=-np.inf)
    low = np.where(defined, values, np.inf).min(axis=-1, initial=np.inf)
    enough = defined.sum(axis=-1) >= 2
    return np.where(enough, np.subtract(high, low, where=enough, out=np.zeros_like(high)), np.nan)


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values adjusted for the size of their family (Holm 1979, step-down).

    NaN is no part of it.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    raised = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return adjusted


def holm_levels(p_values: np.ndarray, level: float = 0.05) -> np.ndarray:
    """The level that each p-value is held against in Holm's steps.

    NaN is no part of the family.

    A p-value is below its level exactly where its adjusted one is below ``level``.

    >>> holm_levels(np.array([0.01, 0.04, 0.03])).round(4).tolist()
    [0.0167, 0.025, 0.025]
    """
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = level / np.arange(len(order), 0, -1)
    # From the first that is not rejected on, all are held against its level.
    failed = np.flatnonzero(p_values[order] >= steps)
    if len(failed):
        steps[failed[0] :] = steps[failed[0]]
    levels = np.full(len(p_values), np.nan)
    levels[order] = steps
    return levels


def gap_interval(
    value: np.ndarray,
    limits: Callable[[float], tuple[np.ndarray, np.ndarray]],
    *,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Interval of the gap between the largest and the smallest of J independent groups.

    Limits of each pair's difference are recovered from the two groups' own intervals (MOVER, Zou and
    Donner 2008; Newcombe's hybrid score interval for two proportions). The upper limit is the largest
    over pairs, since it must hold for the pair that truly differs most; the lower limit is the largest
    too, at a level divided by the number of pairs, and never below 0. A percentile interval of a
    maximum minus a minimum would lie above 0 even without any difference.

    With a confidence of 0.90 the upper limit is that of two one-sided tests at 5 %: where it is below a
    margin, every pair of groups is equivalent within it (each pair is tested at 5 %, and all must pass, so
    no correction is due; Berger and Hsu 1996).

    Args:
        value: (J,) of the groups.
        limits: their own intervals at a confidence, (J,) lower and (J,) upper: `Estimates.limits`.
        confidence: how often the interval is to hold the true gap.

    Returns:
        (low, high); NaN where fewer than two values are defined.
    """
    if (~np.isnan(value)).sum() < 2:
        return float("nan"), float("nan")
    pairs = len(value) * (len(value) - 1) / 2
    # (J, J): row j, column k is group j minus group k; every pair is there both ways.
    difference = value[:, None] - value[None, :]
    low, high = limits(confidence)
    upper = difference + np.sqrt((high - value)[:, None] ** 2 + (value - low)[None, :] ** 2)
    low, high = limits(1 - (1 - confidence) / pairs)
    lower = difference - np.sqrt((value - low)[:, None] ** 2 + (high - value)[None, :] ** 2)
    if np.isnan(upper).all():
        return float("nan"), float("nan")
    return max(0.0, float(np.nanmax(lower))), min(1.0, float(np.nanmax(upper)))


def units_needed(gap_now: float, upper: float, units_now: int, margin: float) -> float:
    """How many videos would settle whether groups are equivalent within a margin.

    With that many, two one-sided tests at 5 % find groups without any difference equivalent in 80 % of
    audits, and a gap as large as the margin is told from none in 83 %. The standard error falls with the
    square root of the number of videos, the mix of groups unchanged. It must come down to
    margin / (1.645 + 1.282); today's is (upper - gap) / 1.96. Rounded up to two digits.

    >>> units_needed(0.10, 0.30, 100, 0.03)
    10000.0
    """
    error_now = (upper - gap_now) / ndtri(0.975)
    error_wanted = margin / (ndtri(0.95) + ndtri(0.9))
    if np.isnan(error_now) or error_wanted <= 0:
        return float("nan")
    needed = max(units_now * (error_now / error_wanted) ** 2, units_now + 1)
    digit = 10 ** max(0, int(np.floor(np.log10(needed))) - 1)
    return float(np.ceil(needed / digit) * digit)
