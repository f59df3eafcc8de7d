"""fairlearn's ThresholdOptimizer on given scores. Randomised: shown as probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from unmasked.datasets.errors import InputError
from unmasked.fairness.groups import UNKNOWN
from unmasked.fairness.mitigation.folds import Fold
from unmasked.fairness.mitigation.rules import MIN_CLUSTERS, NEEDS_GROUP

CONSTRAINTS = (
    *("false_positive_rate_parity", "true_positive_rate_parity", "equalized_odds"),
    *("demographic_parity", "selection_rate_parity"),
    *("false_negative_rate_parity", "true_negative_rate_parity"),
)
RANDOMISED = (
    "it is randomised: the same score can get two answers, and a second try another, so rates are "
    "expectations over all draws, not one draw"
)
NOT_HERE = "it is randomised in general; the rule that it found here happens to draw nothing"


class ScoreEstimator(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose feature is its own P(fake), for meta-estimators."""

    def __init__(self) -> None:
        self.classes_ = np.array([0, 1])

    def fit(self, X: Any, y: Any = None) -> ScoreEstimator:
        """Nothing is to be learned."""
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, 1) scores -> (N, 2) probabilities of real and fake."""
        score = np.asarray(X, dtype=np.float64).reshape(-1)
        return np.stack([1 - score, score], axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """(N,) 1 where P(fake) exceeds a half."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(np.int64)


@dataclass(frozen=True)
class Mixture:
    """How likely a score is called fake: one of two thresholds, or a fixed probability."""

    operations: tuple[tuple[float, str, float], ...]  # (probability, "score > …" or "score < …", threshold)
    ignored: float = 0.0  # how often the score is not looked at
    constant: float = 0.0  # P(fake) then

    def probability(self, score: np.ndarray) -> np.ndarray:
        """(N,) P(called fake)."""
        called = np.zeros(len(score))
        for chance, operator, threshold in self.operations:
            called += chance * (score > threshold if operator == ">" else score < threshold)
        return self.ignored * self.constant + (1 - self.ignored) * called

    def to_dict(self) -> dict[str, Any]:
        """What is drawn, and how likely; a threshold without end is given in words."""
        return {
            "draws": [
                {"probability": chance, "fake_if": f"score {operator} {threshold:g}", "threshold": threshold}
                for chance, operator, threshold in self.operations
                if chance > 0
            ],
            "score_ignored": self.ignored,
            "fake_if_ignored": self.constant,
        }


@dataclass(frozen=True)
class OptimizedThresholds:
    """fairlearn's rule by group; the pooled threshold where the group is not known.

    fairlearn itself calls everyone real whose group it has not seen.
    """

    constraints: str
    mixtures: Mapping[str, Mixture]
    pooled: float
    warnings: list[str] = field(default_factory=list)

    @property
    def randomised(self) -> bool:
        """True if some score is called fake by chance."""
        return any(
            0 < mixture.ignored < 1 or sum(chance > 0 for chance, *_ in mixture.operations) > 1
            for mixture in self.mixtures.values()
        )

    def probability(self, fold: Fold) -> np.ndarray:
        """(N,) P(called fake), what `ThresholdOptimizer.predict` draws from."""
        called = (fold.score > self.pooled).astype(np.float64)
        for name, mixture in self.mixtures.items():
            member = fold.group == name
            called[member] = mixture.probability(fold.score[member])
        return called

    def to_dict(self) -> dict[str, Any]:
        """The draws by group."""
        return {
            "constraints": self.constraints,
            "by_group": {name: mixture.to_dict() for name, mixture in self.mixtures.items()},
            "pooled": self.pooled,
        }


def fit_threshold_optimizer(
    fold: Fold,
    pooled: float,
    *,
    constraints: str = "false_positive_rate_parity",
    objective: str = "balanced_accuracy_score",
    min_clusters: int = MIN_CLUSTERS,
) -> OptimizedThresholds:
    """fairlearn's `ThresholdOptimizer` (Hardt, Price and Srebro 2016) on a fold's scores.

    It chooses its own operating point, by its objective. Groups that lack a class in the fit cannot be
    given a rule; they keep the pooled threshold.

    Args:
        fold: the rows to fit on.
        pooled: the threshold for everyone else.
        constraints, objective: fairlearn's.
        min_clusters: groups with fewer units of a class are named in a warning: fairlearn shrinks nothing.

    Raises:
        InputError: the constraint is unknown, or fewer than two groups have both classes.
    """
    from fairlearn.postprocessing import ThresholdOptimizer

    if constraints not in CONSTRAINTS:
        raise InputError(f"constraints {constraints!r} are not known; choose one of {', '.join(CONSTRAINTS)}")
    held = {name: fold.units(name, ("real", "fake")) for name in fold.groups}
    usable = [name for name, units in held.items() if units > 0]
    if len(usable) < 2:
        raise InputError(
            f"{fold.name} has {len(usable)} group(s) of {fold.attribute} with reals and fakes; "
            "ThresholdOptimizer needs two"
        )
    kept = np.isin(fold.group, usable) & (fold.group != UNKNOWN)
    optimiser = ThresholdOptimizer(
        estimator=ScoreEstimator(),
        constraints=constraints,
        objective=objective,
        prefit=True,
        predict_method="predict_proba",
    )
    optimiser.fit(fold.score[kept, None], fold.label[kept], sensitive_features=fold.group[kept].astype(str))
    found = optimiser.interpolated_thresholder_.interpolation_dict
    rule = OptimizedThresholds(constraints, {str(name): _mixture(found[name]) for name in found}, pooled)
    return OptimizedThresholds(
        constraints, rule.mixtures, pooled, _warnings(held, min_clusters, randomised=rule.randomised)
    )


def _mixture(found: Any) -> Mixture:
    operations = tuple(
        (float(chance), operation.operator, float(operation.threshold))
        for chance, operation in ((found.p0, found.operation0), (found.p1, found.operation1))
    )
    if "p_ignore" not in found:
        return Mixture(operations)
    return Mixture(operations, float(found.p_ignore), float(found.prediction_constant))


def _warnings(held: Mapping[str, int], min_clusters: int, *, randomised: bool) -> list[str]:
    warnings = [RANDOMISED if randomised else NOT_HERE, NEEDS_GROUP]
    few = [f"{name} ({units})" for name, units in held.items() if 0 < units < min_clusters]
    if few:
        warnings.append(
            f"fitted on fewer than {min_clusters} units of a class in {', '.join(few)}, and fairlearn does "
            "not shrink: its thresholds there follow single videos"
        )
    none = [name for name, units in held.items() if not units]
    if none:
        warnings.append(f"{', '.join(none)} lack a class in the fit and keep the pooled threshold")
    return warnings
