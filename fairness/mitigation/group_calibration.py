"""Scores that mean the same in every group: calibration by group, then one threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from unmasked.evaluation.calibration import fit_isotonic, log_odds
from unmasked.evaluation.thresholds import Threshold, fit
from unmasked.fairness.mitigation.folds import Fold
from unmasked.fairness.mitigation.rules import MIN_CLUSTERS, NEEDS_GROUP, own_weight, shrinkage_notes

Kind = Literal["platt", "isotonic"]
Map = Callable[[np.ndarray], np.ndarray]
BOTH = ("real", "fake")
# Scores of exactly 0 and 1 have no log-odds.
SMALLEST = 1e-6


@dataclass(frozen=True)
class GroupCalibration:
    """Fake when the calibrated score exceeds one threshold.

    As before where the group is not known.

    Attributes:
        maps: (score -> P(fake)) of each group of the fit, not shrunk.
        pooled: the map of everyone together.
        own: how much each group's map counts against the pooled one.
        threshold: on calibrated scores, by the same rule as before.
        before: the threshold on scores as they are, for groups that the fit never saw.
    """

    kind: Kind
    maps: Mapping[str, Map]
    pooled: Map
    own: Mapping[str, float]
    threshold: Threshold
    before: float
    warnings: list[str] = field(default_factory=list)
    randomised: bool = False

    def calibrate(self, fold: Fold) -> np.ndarray:
        """(N,) P(fake) by each row's own map; by the pooled one where the group is not known."""
        return _apply_map(fold, self.maps, self.pooled, self.own)

    def probability(self, fold: Fold) -> np.ndarray:
        """(N,) 1 where the calibrated score exceeds the threshold."""
        known = np.isin(fold.group, list(self.own))
        called = np.where(known, self.calibrate(fold) > self.threshold.value, fold.score > self.before)
        return called.astype(np.float64)

    def to_dict(self) -> dict[str, Any]:
        """The threshold, and what each group's map makes of some scores."""
        scores = np.linspace(0, 1, 11)
        mapped = {
            name: own * self.maps[name](scores) + (1 - own) * self.pooled(scores)
            for name, own in self.own.items()
        }
        return {
            "kind": self.kind,
            "threshold": self.threshold.value,
            "threshold_if_unknown": self.before,
            "own_data": dict(self.own),
            "scores": scores,
            "maps": mapped,
            "pooled": self.pooled(scores),
        }


def fit_group_calibration(
    fold: Fold, before: Threshold, *, kind: Kind = "platt", min_clusters: int = MIN_CLUSTERS
) -> GroupCalibration:
    """Calibration by group, each map shrunk towards the pooled one, and one threshold.

    P(fake) = w own(score) + (1 - w) pooled(score), where w is 1 with at least ``min_clusters`` people or
    videos of either class and falls linearly to 0. Mixtures of rising maps rise: within a group the order
    of scores stays.

    Args:
        fold: the rows to fit on.
        before: the threshold on scores as they are; the one on calibrated scores is chosen by its rule.
        kind: ``platt`` (two parameters) or ``isotonic`` (any rising map, for some hundred rows a group).
        min_clusters: units of either class from which a group stands alone.
    """
    fit_map = {"platt": platt, "isotonic": isotonic}[kind]
    pooled = fit_map(fold.label, fold.score)
    own = {name: own_weight(fold, name, BOTH, min_clusters) for name in fold.groups}
    maps = dict.fromkeys(own, pooled)
    for name in (name for name, weight in own.items() if weight > 0):
        member = fold.group == name
        maps[name] = fit_map(fold.label[member], fold.score[member])
    mapped = _apply_map(fold, maps, pooled, own)
    threshold = fit(fold.label, mapped, before.rule, fitted_on=fold.name, level=before.level)
    warnings = [NEEDS_GROUP, *shrinkage_notes(own, fold, BOTH, min_clusters)]
    if threshold.note:
        warnings.append(threshold.note)
    return GroupCalibration(kind, maps, pooled, own, threshold, before.value, warnings)


def platt(label: np.ndarray, score: np.ndarray) -> Map:
    """P(fake) = sigmoid(a logit(score) + b), a >= 0, with Platt's (1999) targets.

    The targets are (n_fake + 1) / (n_fake + 2) and 1 / (n_real + 2) instead of 1 and 0, so that classes
    that are told apart without an error do not give an infinite slope.

    Args:
        label: (N,) 0 = real, 1 = fake.
        score: (N,) P(fake).
    """
    n_fake = label.sum()
    n_real = len(label) - n_fake
    target = np.where(label == 1, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))
    odds = log_odds(score, SMALLEST)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value = parameters[0] * odds + parameters[1]
        # -t log p - (1 - t) log(1 - p), without ever taking the logarithm of 0
        off = expit(value) - target
        total = np.logaddexp(0, value) - target * value
        return float(total.mean()), np.array([(off * odds).mean(), off.mean()])

    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None), (None, None)],
        options={"ftol": 1e-14, "gtol": 1e-9},
    ).x
    return lambda scores: expit(found[0] * log_odds(scores, SMALLEST) + found[1])


def isotonic(label: np.ndarray, score: np.ndarray) -> Map:
    """P(fake) as the best rising step function of the score; needs some hundred rows."""
    corners = fit_isotonic(label, score)
    return lambda scores: np.interp(scores, corners["score"], corners["probability"])


def _apply_map(fold: Fold, maps: Mapping[str, Map], pooled: Map, own: Mapping[str, float]) -> np.ndarray:
    result = pooled(fold.score)
    for name, weight in own.items():
        member = fold.group == name
        if weight and member.any():
            result[member] = weight * maps[name](fold.score[member]) + (1 - weight) * result[member]
    return np.clip(result, 0, 1)
