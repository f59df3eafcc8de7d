"""What every mitigation of scores gives: a rule that says how likely a row is called fake."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from unmasked.evaluation.thresholds import Threshold, fit
from unmasked.fairness.mitigation.folds import Fold

MIN_CLUSTERS = 10
NEEDS_GROUP = "it needs to know the group of every person at test time"


class Rule(Protocol):
    """A way to call rows fake, fitted on one fold and applied to others."""

    @property
    def randomised(self) -> bool:
        """True if the same score can get two answers."""

    @property
    def warnings(self) -> list[str]:
        """What a user must know, in words."""

    def probability(self, fold: Fold) -> np.ndarray:
        """(N,) P(called fake): 0 or 1 unless the rule is randomised."""

    def to_dict(self) -> dict[str, Any]:
        """Its thresholds, ready for JSON."""


@dataclass(frozen=True)
class SingleThreshold:
    """One threshold for all: what is used before a mitigation, and after a new training."""

    threshold: Threshold
    randomised: bool = False
    warnings: list[str] = field(default_factory=list)

    def probability(self, fold: Fold) -> np.ndarray:
        """(N,) 1 where the score exceeds the threshold."""
        return (fold.score > self.threshold.value).astype(np.float64)

    def to_dict(self) -> dict[str, Any]:
        """The threshold."""
        return {"threshold": self.threshold.value, "rule": self.threshold.rule}


def single_threshold(fold: Fold, rule: str, level: str = "video") -> SingleThreshold:
    """The threshold that a rule of `evaluation.thresholds` chooses on a fold, for all groups."""
    threshold = fit(fold.label, fold.score, rule, fitted_on=fold.name, level=level)
    return SingleThreshold(threshold, warnings=[threshold.note] if threshold.note else [])


def own_weight(fold: Fold, group: str, classes: tuple[str, ...], min_clusters: int) -> float:
    """How much a group's own data count against everyone's.

    All with enough units, none without any.

    >>> fold = Fold("", "", "", np.zeros(5, int), np.zeros(5), np.array(["a"] * 5), np.arange(5), None)
    >>> own_weight(fold, "a", ("real",), 10), own_weight(fold, "a", ("real",), 5)
    (0.5, 1.0)
    """
    return min(1.0, fold.units(group, classes) / min_clusters)


def shrinkage_notes(
    weights: dict[str, float], fold: Fold, classes: tuple[str, ...], min_clusters: int
) -> list[str]:
    """Says which groups are pulled towards everyone because they have few data, and how far."""
    few = [
        f"{group} ({fold.units(group, classes)} units, own data count {weight:.0%})"
        for group, weight in weights.items()
        if weight < 1
    ]
    if not few:
        return []
    return [
        f"fewer than {min_clusters} {' or '.join(classes)} units to fit on in {', '.join(few)}: shrunk "
        "towards all groups together"
    ]
