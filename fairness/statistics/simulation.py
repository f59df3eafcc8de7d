"""Decisions of a detector that was never built, on people who were never filmed.

How often the audit's test finds a difference, or calls one where there is none, is counted on these. What is
shown of a person is a draw from a beta distribution around the rate of the group, as wide as the correlation
within a person (or video) says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from unmasked.fairness.groups import UNKNOWN, order_groups
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.metrics import sum_by
from unmasked.fairness.statistics.pairs import PairTest
from unmasked.fairness.statistics.resampling import holm
from unmasked.fairness.statistics.shuffling import COLUMNS_OF, TESTED_OF, compare_class


def draw_rates(
    rate: np.ndarray, owner: np.ndarray, correlation: float, rng: np.random.Generator
) -> np.ndarray:
    """(V,) rate at which each video's rows are called fake.

    Args:
        rate: (V,) of the video's group and class.
        owner: (V,) codes from 0 of who shares a draw: a person's reals, a video.
        correlation: intra-class, of two rows of one owner, in [0, 1).
        rng: source of randomness.
    """
    if correlation <= 0:
        return np.asarray(rate, dtype=np.float64)
    strength, rate = (1 - correlation) / correlation, np.clip(rate, 1e-9, 1 - 1e-9)
    # An owner keeps the same quantile, whatever the rate.
    quantile = rng.random(int(owner.max(initial=0)) + 1)[owner]
    return betaincinv(rate * strength, (1 - rate) * strength, quantile)


def compare_groups(
    counts: np.ndarray,
    unit: np.ndarray,
    groups: Mapping[str, Sequence[str]],
    settings: Settings,
    rng: np.random.Generator,
) -> dict[tuple[str, str], PairTest]:
    """The tests of an audit, by attribute and metric, where two groups can be compared.

    Args:
        counts: (V, 4) outcomes of each video, as `metrics.COUNTS` has them.
        unit: (V,) codes of whom or what is resampled.
        groups: attribute -> (V,) names; "unknown" is in no comparison.
        settings: of the audit.
        rng: source of randomness.
    """
    found = {}
    for attribute, column in groups.items():
        names = order_groups(pd.unique(np.asarray(column, dtype=object)).tolist())
        code, stride = pd.Categorical(column, categories=names).codes.astype(np.int64), int(unit.max()) + 1
        # As in an audit, a person is one unit in each group.
        of_unit, pairs = pd.factorize(code * stride + unit)
        of_group, table = pairs // stride, sum_by(counts, of_unit, len(pairs))
        for kind, columns in COLUMNS_OF.items():
            rows = table[:, list(columns)].sum(axis=1)
            people = np.bincount(of_group[rows > 0], minlength=len(names))
            enough = (people >= settings.min_clusters) & (
                np.bincount(of_group, weights=rows, minlength=len(names)) >= settings.min_samples
            )
            kept = np.flatnonzero(enough & (np.array(names, dtype=object) != UNKNOWN))
            if len(kept) > 1:
                _, test = compare_class(
                    table, of_group, kept, [names[at] for at in kept], kind, settings, rng
                )
                found[attribute, TESTED_OF[kind]] = test
    return found


def rejected(tests: Mapping[tuple[str, str], PairTest], level: float = 0.05) -> set[tuple[str, str]]:
    """Attribute and metric of every test that Holm's correction leaves below the level."""
    adjusted = holm(np.array([test.p_value for test in tests.values()]))
    return {key for key, p_value in zip(tests, adjusted, strict=True) if p_value < level}
