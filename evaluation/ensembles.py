"""Ensembles: the scores of several detectors put together into one.

Nothing is fitted on rows that are evaluated: weights and meta-models come from validation rows, and the
scores of those rows themselves are made out of fold, by identity, so that a threshold which is fitted on
them is not too good.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unmasked.datasets.errors import InputError
from unmasked.evaluation.counts import Array
from unmasked.evaluation.machine import Fold, Machine, people_folds
from unmasked.evaluation.metrics import check_arrays, log_loss

Method = Literal["mean", "majority", "weighted", "stacking"]
Scale = Literal["probability", "logit"]
Weights = Literal["simplex", "inverse"]
Meta = Literal["logistic", "mlp", "svc"]
METAS: Mapping[Meta, str] = {
    "logistic": "logistic regression",
    "mlp": "MLP",
    "svc": "principal components and an SVC on features",
}
FITTED = ("weighted", "stacking")
# Scores of 0 and 1 have no logit; single precision knows no probability closer to them.
SMALLEST = 1e-7
HIDDEN = 8  # units of the MLP: few, as there are as many inputs as members


@dataclass(frozen=True)
class Rule:
    """How an ensemble is made, before anything is fitted."""

    method: Method = "mean"
    scale: Scale = "probability"  # of the mean
    weights: Weights = "simplex"  # of method weighted
    meta: Meta = "logistic"  # of method stacking
    seed: int = 0  # of the folds and of the MLP's start

    @property
    def text(self) -> str:
        """The rule in words."""
        return {
            "mean": f"mean of the {'probabilities' if self.scale == 'probability' else 'logits'}",
            "majority": "majority of the votes",
            "weighted": f"weighted mean ({self.weights})",
            "stacking": f"stacking ({METAS[self.meta]})",
        }[self.method]


@dataclass(frozen=True)
class Layer:
    """One layer of a meta-model: ``x @ weight + bias``, and max(0, ·) but for the last layer."""

    weight: Array  # (inputs, outputs)
    bias: Array  # (outputs,)


@dataclass(frozen=True)
class Ensemble:
    """An ensemble that can score: what `fit` found, or what a file holds."""

    rule: Rule
    members: int
    weights: Array | None = None  # (M,) of method weighted: at least 0, sum 1
    thresholds: tuple[float, ...] = ()  # (M) of method majority: a member votes fake above its own
    layers: tuple[Layer, ...] = ()  # of method stacking, on logits
    machine: Machine | None = None  # of method stacking, on features

    def score(self, scores: ArrayLike) -> Array:
        """(N,) P(fake) of the ensemble; of a majority, the share of members that vote fake.

        Args:
            scores: (N, M) of the members, in [0, 1]; with a ``machine`` (N, F) features of them all.
        """
        given = self._checked(scores)
        if self.machine is not None:
            return self.machine.score(given)
        if self.rule.method == "majority":
            return (given > np.array(self.thresholds)).mean(axis=1)
        if self.rule.method == "stacking":
            return _sigmoid(_run_layers(self.layers, logit(given)))
        if self.rule.method == "weighted":
            return np.clip(given @ np.asarray(self.weights), 0, 1)
        if self.rule.scale == "logit":
            return _sigmoid(logit(given).mean(axis=1))
        return given.mean(axis=1)

    def is_tie(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """(N,) True where as many members vote fake as vote real; never but for a majority."""
        if self.rule.method != "majority":
            return np.zeros(len(np.asarray(scores)), dtype=bool)
        given = self._checked(scores)
        return 2 * (given > np.array(self.thresholds)).sum(axis=1) == self.members

    def _checked(self, scores: ArrayLike) -> Array:
        given = np.asarray(scores, dtype=np.float64)
        wanted, what = (self.members, "members") if self.machine is None else (self.machine.width, "features")
        if given.ndim != 2 or given.shape[1] != wanted:
            raise InputError(f"scores have the shape {given.shape}; this ensemble has {wanted} {what}")
        return given

    def to_dict(self) -> dict[str, Any]:
        """The rule and what was fitted, ready for JSON."""
        return {
            "method": self.rule.method,
            "scale": self.rule.scale,
            "weights_by": self.rule.weights,
            "meta": self.rule.meta,
            "seed": self.rule.seed,
            "n_members": self.members,
            "weights": None if self.weights is None else np.asarray(self.weights).tolist(),
            "thresholds": list(self.thresholds),
            "layers": [{"weight": one.weight.tolist(), "bias": one.bias.tolist()} for one in self.layers],
            "machine": None if self.machine is None else self.machine.digest,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], machine: Machine | None = None) -> Ensemble:
        """What `to_dict` gave, with the machine that it names; InputError where it is not whole."""
        try:
            rule = Rule(
                fields["method"],
                fields["scale"],
                fields["weights_by"],
                fields["meta"],
                int(fields.get("seed", 0)),
            )
            layers = tuple(
                Layer(np.array(one["weight"], dtype=np.float64), np.array(one["bias"], dtype=np.float64))
                for one in fields["layers"]
            )
            weights = None if fields["weights"] is None else np.array(fields["weights"], dtype=np.float64)
            thresholds = tuple(float(value) for value in fields["thresholds"])
            if fields.get("machine") != (machine.digest if machine else None):
                raise ValueError("no support vector machine, or another one")
            found = cls(rule, int(fields["n_members"]), weights, thresholds, layers, machine)
            found._check_parts()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"the stored ensemble is not whole ({error}); give the detector.json that `unmasked "
                "ensemble` wrote"
            ) from error
        return found

    def _check_parts(self) -> None:
        """ValueError if a part has another size than the members, or is no number."""
        rule, size = self.rule, self.members
        allowed = ((rule.method, Method), (rule.scale, Scale), (rule.weights, Weights), (rule.meta, Meta))
        if any(value not in get_args(kind) for value, kind in allowed):
            raise ValueError("unknown method")
        parts = [np.array(self.thresholds), *(part for one in self.layers for part in (one.weight, one.bias))]
        parts += [] if self.weights is None else [self.weights]
        if size < 1 or not all(np.isfinite(part).all() for part in parts):
            raise ValueError("values that are not finite")
        held = {
            "weighted": 0 if self.weights is None else self.weights.size,
            "majority": len(self.thresholds),
        }
        if held.get(rule.method, size) != size:
            raise ValueError(f"{size} members and {held[rule.method]} weights or thresholds")
        if rule.method == "stacking" and (self.machine is None) == (rule.meta == "svc"):
            raise ValueError("no meta-model")
        if rule.method == "stacking" and self.machine is None:
            if not self.layers or np.shape(self.layers[-1].bias) != (1,):
                raise ValueError("no meta-model")
            _run_layers(self.layers, np.zeros((1, size)))  # ValueError where layers do not fit


def fit(
    rule: Rule,
    scores: ArrayLike,
    label: ArrayLike,
    fitted_on: str = "the validation rows",
    *,
    cluster: ArrayLike | None = None,
    members: int | None = None,
) -> Ensemble:
    """The ensemble of a rule of method weighted or stacking.

    ``simplex``: the weights w >= 0 of sum 1 whose weighted mean has the least log loss; that is convex, so
    there is one optimum (more than one only where members are copies of each other). ``inverse``: 1 / log
    loss of each member, of sum 1. ``logistic``: scikit-learn's with C = 1 on the members' logits. ``mlp``:
    one hidden layer on standardised logits, with an L2 penalty of 1. ``svc``: `Machine` on features.

    Args:
        rule: what to fit.
        scores: (N, M) of the members, in [0, 1], on rows that none of them was trained on; for ``svc`` (N, F)
            features.
        label: (N,) 0 = real, 1 = fake.
        fitted_on: which rows these are, for messages.
        cluster: (N,) whose row it is, for ``svc``, which is calibrated on people that it was not fitted on.
        members: how many there are, for ``svc``.

    Raises:
        InputError: a class is absent, or a score is no probability.
    """
    given = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(label)
    is_of_features = rule.method == "stacking" and rule.meta == "svc"
    for column in () if is_of_features else given.T:
        check_arrays(truth, column)
    truth = truth.astype(np.int64)
    if truth.all() or not truth.any():
        held = "only fakes" if len(truth) and truth.all() else "only reals" if len(truth) else "no row"
        raise InputError(
            f"{rule.text} is fitted on reals and fakes, and {fitted_on} hold {held}; give validation rows of "
            "both, or method=mean, which fits nothing"
        )
    if is_of_features:
        people = np.arange(len(truth)) if cluster is None else np.asarray(cluster)
        folds = _folds(truth, people, rule.seed, fitted_on)
        return Ensemble(rule, members or 1, machine=Machine.fit(given, truth, folds, rule.seed))
    members = given.shape[1]
    if rule.method == "weighted":
        found = _simplex(given, truth) if rule.weights == "simplex" else _inverse(given, truth)
        return Ensemble(rule, members, weights=found)
    if rule.method == "stacking":
        layers = _logistic(given, truth) if rule.meta == "logistic" else _mlp(given, truth, rule.seed)
        return Ensemble(rule, members, layers=layers)
    raise InputError(f"method {rule.method} fits nothing; choose {' or '.join(FITTED)}")


def out_of_fold(
    rule: Rule,
    scores: ArrayLike,
    label: ArrayLike,
    cluster: ArrayLike,
    fitted_on: str = "the validation rows",
) -> Array:
    """(N,) the score of each row by an ensemble that was fitted without its person.

    Args:
        rule, scores, label, fitted_on: see `fit`.
        cluster: (N,) whose row it is; all rows of one are in the same fold.

    Raises:
        InputError: see `fit`; or fewer than two people (or videos) of a class.
    """
    given, truth = np.asarray(scores, dtype=np.float64), np.asarray(label).astype(np.int64)
    people, result = np.asarray(cluster), np.empty(len(truth))
    for train, test in _folds(truth, people, rule.seed, fitted_on):
        one = fit(rule, given[train], truth[train], fitted_on, cluster=people[train])
        result[test] = one.score(given[test])
    return result


def _folds(label: NDArray[np.int64], cluster: NDArray[Any], seed: int, fitted_on: str) -> list[Fold]:
    try:
        return people_folds(label, cluster, seed)
    except InputError as counts:
        raise InputError(
            f"{fitted_on} cannot be parted by person (or video) so that both classes are left to fit on: "
            f"there are {counts}. Give more of them, or method=mean, which fits nothing"
        ) from None


def logit(score: ArrayLike) -> Array:
    """log(p / (1 - p)) with p kept `SMALLEST` from 0 and 1.

    >>> float(logit(0.5))
    0.0
    """
    p = np.clip(np.asarray(score, dtype=np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(p) - np.log1p(-p)


def constant_members(scores: Array, names: Sequence[str]) -> list[str]:
    """The members that give every row the same score: they tell nothing apart."""
    return [name for name, column in zip(names, scores.T, strict=True) if np.ptp(column) == 0]


def equal_members(scores: Array, names: Sequence[str]) -> list[str]:
    """Pairs of members whose scores are all equal, as "A and B"."""
    return [
        f"{names[first]} and {names[second]}"
        for first, second in combinations(range(len(names)), 2)
        if np.array_equal(scores[:, first], scores[:, second])
    ]


def definition_digest(ensemble: Ensemble, members: Sequence[Mapping[str, Any]]) -> str:
    """Hex SHA-256 of the rule, what was fitted, and whose scores it is of: its checkpoint."""
    content = json.dumps([ensemble.to_dict(), list(members)], sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _simplex(scores: Array, label: NDArray[np.int64]) -> Array:
    """Weights of least log loss of the weighted mean.

    With q the probability that each member gives to the true class, the loss is -mean log(q @ w), since the
    weights add up to 1: the likelihood of a mixture, concave in w.
    """
    from scipy.optimize import minimize

    tiny = np.finfo(np.float64).eps
    q = np.clip(np.where(label[:, None] == 1, scores, 1 - scores), tiny, None)

    def loss(w: Array) -> tuple[float, Array]:
        mixed = np.maximum(q @ w, tiny)
        return float(-np.log(mixed).mean()), -(q / mixed[:, None]).mean(axis=0)

    members = scores.shape[1]
    equal = np.full(members, 1 / members)
    found = minimize(
        loss,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    weights = np.clip(found.x, 0, None)
    weights = weights / weights.sum() if weights.sum() > 0 else equal
    # Where the search failed the plain mean is no worse than what it left.
    return weights if loss(weights)[0] <= loss(equal)[0] else equal


def _inverse(scores: Array, label: NDArray[np.int64]) -> Array:
    losses = np.array([log_loss(label, column) for column in scores.T])
    weights = 1 / np.maximum(losses, np.finfo(np.float64).eps)
    return weights / weights.sum()


def _logistic(scores: Array, label: NDArray[np.int64]) -> tuple[Layer, ...]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, max_iter=1000).fit(logit(scores), label)
    return (Layer(model.coef_.T.astype(np.float64), model.intercept_.astype(np.float64)),)


def _mlp(scores: Array, label: NDArray[np.int64], seed: int) -> tuple[Layer, ...]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    given = logit(scores)
    mean, scale = given.mean(axis=0), given.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    model = MLPClassifier((HIDDEN,), solver="lbfgs", alpha=1.0, max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where it stops it is a model like another
        model.fit((given - mean) / scale, label)
    first, *others = (
        Layer(np.asarray(weight), np.asarray(bias))
        for weight, bias in zip(model.coefs_, model.intercepts_, strict=True)
    )
    # (x - mean) / scale is part of the first layer: the stored net takes logits as they are.
    weight = first.weight / scale[:, None]
    return (replace(first, weight=weight, bias=first.bias - mean @ weight), *others)


def _run_layers(layers: Sequence[Layer], given: Array) -> Array:
    """(N, M) -> (N,) the logit of the meta-model."""
    for number, layer in enumerate(layers):
        given = given @ layer.weight + layer.bias
        if number < len(layers) - 1:
            given = np.maximum(given, 0)
    return given[:, 0]


def _sigmoid(value: Array) -> Array:
    from scipy.special import expit

    return expit(value)
