"""A threshold for each group, so that equally many reals are accused. Deterministic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from unmasked.evaluation.thresholds import Threshold
from unmasked.fairness.mitigation.folds import Fold
from unmasked.fairness.mitigation.rules import MIN_CLUSTERS, NEEDS_GROUP, own_weight, shrinkage_notes


@dataclass(frozen=True)
class GroupThresholds:
    """Fake when the score exceeds the threshold of the row's group.

    ``pooled`` where that is not known.

    Attributes:
        thresholds: of each group of the fit.
        pooled: the threshold for everyone else: unknown groups, and those that the fit never saw.
        own: how much each group's own reals counted, 0 to 1.
    """

    thresholds: Mapping[str, float]
    pooled: float
    own: Mapping[str, float]
    warnings: list[str] = field(default_factory=list)
    randomised: bool = False

    def probability(self, fold: Fold) -> np.ndarray:
        """(N,) 1 where the score exceeds its group's threshold."""
        return (fold.score > self.thresholds_of_rows(fold.group)).astype(np.float64)

    def thresholds_of_rows(self, group: np.ndarray) -> np.ndarray:
        """(N,) the threshold of each row."""
        found = pd.Series(group, dtype=object).map(dict(self.thresholds))
        return found.astype(np.float64).fillna(self.pooled).to_numpy()

    def to_dict(self) -> dict[str, Any]:
        """Thresholds by group, and for those who belong to none."""
        return {"thresholds": dict(self.thresholds), "pooled": self.pooled, "own_data": dict(self.own)}


def fit_group_thresholds(
    fold: Fold, pooled: Threshold, *, capped: bool = False, min_clusters: int = MIN_CLUSTERS
) -> GroupThresholds:
    """Thresholds at which each group has the FPR that the pooled threshold has among all.

    Each is the lowest at which at most that share of the group's reals is called fake, as
    `evaluation.thresholds.fit` chooses it. A group with fewer than ``min_clusters`` people or videos who
    are real is shrunk: the share is then that of a mixture of its own reals with everyone's.

    Args:
        fold: the rows to fit on.
        pooled: the threshold for all, fitted on the same rows.
        capped: only groups above that FPR get a threshold of their own; all others keep the pooled one,
            so that nobody is accused more often than before.
        min_clusters: units with reals from which a group stands alone.
    """
    real = fold.label == 0
    score, group = fold.score[real], fold.group[real]
    thresholds, own = {}, {}
    for name in fold.groups:
        own[name] = own_weight(fold, name, ("real",), min_clusters)
        member = group == name
        weight = np.full(len(score), (1 - own[name]) / len(score))
        weight[member] += own[name] / max(member.sum(), 1)
        value = weighted_threshold(score, weight, pooled.fpr)
        thresholds[name] = max(value, pooled.value) if capped else value
    return GroupThresholds(
        thresholds, pooled.value, own, [NEEDS_GROUP, *shrinkage_notes(own, fold, ("real",), min_clusters)]
    )


def weighted_threshold(score: np.ndarray, weight: np.ndarray, share_max: float) -> float:
    """The lowest threshold that at most a share of the weight exceeds, between two scores.

    Args:
        score: (N,) in [0, 1].
        weight: (N,) that sum to 1.
        share_max: in [0, 1].

    >>> weighted_threshold(np.array([0.2, 0.4, 0.6, 0.8]), np.full(4, 0.25), 0.25)
    0.7
    """
    counted = weight > 0
    score, weight = score[counted], weight[counted]
    distinct, level = np.unique(-score, return_inverse=True)
    distinct = -distinct  # from high to low
    exceeding = np.cumsum(np.bincount(level, weights=weight))
    chosen = int((exceeding <= share_max + 1e-9).sum())
    if chosen == 0:
        return float(distinct[0])
    below = distinct[chosen] if chosen < len(distinct) else 0.0
    return float((distinct[chosen - 1] + below) / 2)
