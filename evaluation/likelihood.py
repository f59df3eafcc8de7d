"""Likelihood ratios: what a score says about two propositions, within bounds.

H1: "the file is fake, as the fakes of the calibration set are". H2: "the file is real, as the reals of the
calibration set are". LR = p(score | H1) / p(score | H2), written as log10. An LR is no probability that a
file is fake: that needs a prior, which only the user can give (`posterior`).

Terms: Brümmer and du Preez 2006 (Cllr), Vergeer et al. 2016 (bounds), ENFSI guideline for evaluative
reporting 2015 (verbal scale).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from unmasked.datasets.errors import InputError, explain_bad_fields
from unmasked.evaluation.calibration import FEW, log_odds, rising_shares
from unmasked.evaluation.counts import Array
from unmasked.evaluation.intervals import Sample, percentile_interval, resampled_sums
from unmasked.evaluation.metrics import check_arrays, check_classes
from unmasked.evaluation.records import LikelihoodEffect, StatedSupport

KINDS = ("logistic", "pav")
Z95 = 1.959963984540054
STEP = 0.01  # of the bounds, in log10 LR, as in Vergeer et al.
PROPOSITIONS = (
    "the file is fake, made as the fakes of the calibration set were",
    "the file is real, made as the reals of the calibration set were",
)
# From this LR on, the words of the ENFSI guideline of 2015.
VERBAL_SCALE = (
    (1e6, "extremely strong support"),
    (1e4, "very strong support"),
    (1e3, "strong support"),
    (1e2, "moderately strong support"),
    (1e1, "moderate support"),
    (2.0, "weak support"),
)
NO_SUPPORT = "no support for either"


@dataclass(frozen=True)
class LikelihoodRatio:
    """A stored map from scores to log10 likelihood ratios; call it with scores (N,) in [0, 1].

    It never falls where the score rises, and never leaves [lower, upper].
    """

    kind: str  # one of KINDS
    # {"slope", "intercept"} of log10 LR over the natural logit of the score, or the corners
    # {"score", "log10_lr"} between which pav is straight.
    parameter: dict[str, Any]
    lower: float  # ELUB bounds, log10
    upper: float
    fitted_on: str = ""  # which rows, in words
    n_real: int = 0
    n_fake: int = 0
    cllr: float = float("nan")  # on the calibration rows themselves, within the bounds
    cllr_min: float = float("nan")
    note: str = ""  # why it may not hold elsewhere, "" if there is no reason to think so

    def __call__(self, score: ArrayLike) -> Array:
        """log10 LR of scores, (N,), within the bounds."""
        score = np.asarray(score, dtype=np.float64)
        if self.kind == "pav":
            found = np.interp(score, self.parameter["score"], self.parameter["log10_lr"])
        else:
            found = self.parameter["intercept"] + self.parameter["slope"] * log_odds(score)
        return np.clip(found, self.lower, self.upper)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> LikelihoodRatio:
        """What `asdict` gave.

        Raises:
            InputError: the kind or a field is unknown, or the parameter or a bound cannot be one.
        """
        advice = "what `unmasked evaluate` or `unmasked train` wrote"
        with explain_bad_fields(fields, "likelihood ratio", advice):
            rates = {name: float(fields[name]) for name in ("lower", "upper")}
            found = cls(**{**fields, **rates})
            _check_parameter(found)
        return found


def fit_likelihood(
    label: ArrayLike, score: ArrayLike, kind: str = "logistic", *, fitted_on: str = ""
) -> LikelihoodRatio:
    """The map from scores to log10 LR that calibration videos support, with its bounds.

    Args:
        label: (N,) 0 = real, 1 = fake, one row a video.
        score: (N,) P(fake).
        kind: ``logistic``: log10 LR is a line over logit(score), by logistic regression with both classes
            of equal weight and a standard normal prior on the slope per standard deviation, which pulls the
            LR of few rows towards 1 (Morrison and Poh 2018). ``pav``: the rising steps of pool adjacent
            violators, straight between them.
        fitted_on: which rows these are, in words; stored.

    Raises:
        InputError: the kind is unknown, or a class is absent.

    >>> found = fit_likelihood([0] * 20 + [1] * 20, [0.1] * 19 + [0.9] + [0.9] * 19 + [0.1])
    >>> found([0.1, 0.9]).round(2).tolist(), round(found.upper, 2)
    ([-0.93, 0.93], 0.93)
    """
    if kind not in KINDS:
        raise InputError(f"likelihood ratio {kind!r} is not known; choose {' or '.join(KINDS)}")
    label, score, n_real, n_fake = check_classes(label, score, "a likelihood ratio", fitted_on)
    parameter, note = _logistic(label, score) if kind == "logistic" else _pav_corners(label, score)
    unbounded = LikelihoodRatio(kind, parameter, -np.inf, np.inf)(score)
    lower, upper = elub(unbounded, label)
    bounded = np.clip(unbounded, lower, upper)
    if kind == "pav":  # JSON has no infinity
        parameter["log10_lr"] = np.clip(parameter["log10_lr"], lower, upper).tolist()
    notes = [note] if note else []
    if min(n_real, n_fake) < FEW:
        notes.append(
            f"fitted on {n_real} real and {n_fake} fake videos: with fewer than {FEW} of a class it will move"
        )
    return LikelihoodRatio(
        kind,
        parameter,
        lower,
        upper,
        fitted_on,
        n_real,
        n_fake,
        cllr(bounded, label),
        cllr_min(bounded, label),
        "; ".join(notes),
    )


def cllr(log10_lr: ArrayLike, label: ArrayLike) -> float:
    """Log-likelihood-ratio cost, in bits.

    Cllr = (mean over fakes of log2(1 + 1 / LR) + mean over reals of log2(1 + LR)) / 2 (Brümmer and du Preez
    2006). Range [0, inf], lower is better; 1 is what LR = 1 everywhere costs, more is worse than saying
    nothing. NaN if a class is absent.

    Args:
        log10_lr: (N,) log10 of the LR of fake against real; infinite ones are allowed.
        label: (N,) 0 = real, 1 = fake.

    >>> cllr([0.0, 0.0], [0, 1])
    1.0
    """
    log10_lr, label = _check(log10_lr, label)
    log2_lr = log10_lr * np.log2(10)
    fake, real = -log2_lr[label == 1], log2_lr[label == 0]
    if not len(fake) or not len(real):
        return float("nan")
    return float((np.logaddexp2(0, fake).mean() + np.logaddexp2(0, real).mean()) / 2)


def cllr_min(log10_lr: ArrayLike, label: ArrayLike) -> float:
    """Cllr of the best rising map of the same LRs: what their order alone is worth.

    Range [0, 1], lower is better; Cllr minus this is the cost of calibration. NaN if a class is absent.
    Arguments as of `cllr`.

    >>> cllr_min([-1.0, 0.0, 1.0, 2.0], [0, 0, 1, 1])
    0.0
    """
    log10_lr, label = _check(log10_lr, label)
    if label.min(initial=1) == label.max(initial=0):
        return float("nan")
    return cllr(_pav(log10_lr, label), label)


def elub(log10_lr: ArrayLike, label: ArrayLike) -> tuple[float, float]:
    """Lowest and highest log10 LR that these rows support (Vergeer et al. 2016).

    At a threshold t the cost of deciding by the LRs is P(LR <= t | fake) + t P(LR > t | real), with one
    misleading row added to each class; that of deciding without them is min(1, t). The bounds are the values
    nearest to 0 beyond which the LRs cost more than they are worth. No bound is further from 0 than the log10
    of one more than the number of the other class's rows, rounded up to `STEP`.

    Args:
        log10_lr: (N,) as of `cllr`, of calibration rows, both classes.
        label: (N,) 0 = real, 1 = fake.

    Raises:
        InputError: a class is absent.

    >>> low, high = elub([-3.0] * 9 + [3.0] * 9, [0] * 9 + [1] * 9)
    >>> round(low, 2), round(high, 2)
    (-0.95, 0.95)
    """
    log10_lr, label = _check(log10_lr, label)
    fake, real = np.sort(log10_lr[label == 1]), np.sort(log10_lr[label == 0])
    if not len(fake) or not len(real):
        raise InputError("bounds of a likelihood ratio need real and fake rows; give both")
    least = max(log10_lr.min(), -np.log10(len(fake) + 1))
    most = min(log10_lr.max(), np.log10(len(real) + 1))
    threshold = STEP * np.arange(min(0, np.floor(least / STEP)), max(0, np.floor(most / STEP) + 1) + 1)
    missed = (np.searchsorted(fake, threshold, side="right") + 1) / (len(fake) + 1)
    accused = (len(real) - np.searchsorted(real, threshold, side="right") + 1) / (len(real) + 1)
    is_worse = missed + 10**threshold * accused > np.minimum(1, 10**threshold)
    low = np.max(threshold[(threshold <= 0) & is_worse] + STEP, initial=threshold[0])
    high = np.min(threshold[(threshold >= 0) & is_worse] - STEP, initial=threshold[-1])
    return float(min(low, 0)), float(max(high, 0))


def support_words(log10_lr: float) -> str:
    """The ENFSI guideline's words for an LR and the proposition it speaks for.

    >>> support_words(1.5), support_words(-0.5), support_words(0.1)
    ('moderate support for fake', 'weak support for real', 'no support for either')
    """
    lr = 10.0 ** abs(log10_lr)
    # 10 ** 3.0 may fall short of 1000 by its last digit.
    strength = next((words for least, words in VERBAL_SCALE if lr >= least * (1 - 1e-12)), "")
    if not strength:
        return NO_SUPPORT
    return f"{strength} for {'fake' if log10_lr > 0 else 'real'}"


def support_sentence(log10_lr: float, fitted: LikelihoodRatio) -> str:
    """What an LR within the bounds says, with both propositions and what it does not say."""
    lr = 10.0 ** abs(log10_lr)
    first, second = PROPOSITIONS if log10_lr >= 0 else PROPOSITIONS[::-1]
    bound = fitted.upper if log10_lr >= 0 else fitted.lower
    is_bound = abs(log10_lr) >= abs(bound) - 1e-9
    least = "at least " if is_bound and lr > 1 else ""
    limit = (
        f" No more can be stated: {fitted.n_real} real and {fitted.n_fake} fake calibration videos do not "
        "support it."
        if is_bound
        else ""
    )
    often = f"{least}{lr:.2g} times as frequent if {first}, than if {second}"
    if f"{lr:.2g}" == "1":
        often = f"as frequent if {first}, as if {second}"
    return (
        f"A score like this is {often}: "
        f"{support_words(log10_lr)} (ENFSI 2015).{limit} This is no probability that the file is fake."
    )


def posterior(log10_lr: ArrayLike, prior: float) -> Array:
    """P(fake) after the score, from the user's own probability before it.

    Args:
        log10_lr: of any shape.
        prior: P(fake) before the score was seen, between 0 and 1; there is no default, since nobody but the
            user can know it.

    Raises:
        InputError: the prior is not between 0 and 1.

    >>> posterior([1.0, 3.0], prior=0.01).round(3).tolist()
    [0.092, 0.91]
    """
    if not 0 < prior < 1:
        raise InputError(f"prior={prior:g} is no probability to begin with; give one between 0 and 1")
    return special.expit(special.logit(prior) + np.asarray(log10_lr, np.float64) * np.log(10))


def tippett(log10_lr: ArrayLike, label: ArrayLike) -> dict[str, list[float]]:
    """Points of the Tippett plot.

    At each LR the share of fakes and of reals with one at least as high.

    Arguments as of `cllr`. The shares of an absent class are NaN.

    >>> tippett([-1.0, 1.0], [0, 1])
    {'log10_lr': [-1.0, 1.0], 'fake': [1.0, 1.0], 'real': [1.0, 0.0]}
    """
    log10_lr, label = _check(log10_lr, label)
    points = np.unique(log10_lr)
    shares = {}
    for name, which in (("fake", 1), ("real", 0)):
        rows = np.sort(log10_lr[label == which])
        above = len(rows) - np.searchsorted(rows, points, side="left")
        shares[name] = (above / len(rows) if len(rows) else np.full(len(points), np.nan)).tolist()
    return {"log10_lr": points.tolist(), **shares}


def empirical_cross_entropy(log10_lr: ArrayLike, label: ArrayLike, prior_log10_odds: ArrayLike) -> Array:
    """Bits still missing about real or fake after the LRs, at each prior.

    Ramos and Gonzalez-Rodriguez 2013.

    ECE = P(fake) mean over fakes of log2(1 + 1 / (LR odds)) + P(real) mean over reals of log2(1 + LR odds).
    At odds of 1 it is `cllr`. NaN if a class is absent.

    Args:
        log10_lr, label: as of `cllr`.
        prior_log10_odds: (P,).

    >>> empirical_cross_entropy([0.0, 0.0], [0, 1], [0.0]).tolist()
    [1.0]
    """
    log10_lr, label = _check(log10_lr, label)
    log2_odds = np.asarray(prior_log10_odds, np.float64)[:, None] * np.log2(10)
    log2_lr = log10_lr * np.log2(10)
    fake, real = log2_lr[label == 1], log2_lr[label == 0]
    if not len(fake) or not len(real):
        return np.full(len(log2_odds), np.nan)
    prior = special.expit(log2_odds[:, 0] * np.log(2))
    missing_fake = np.logaddexp2(0, -fake - log2_odds).mean(axis=1)
    missing_real = np.logaddexp2(0, real + log2_odds).mean(axis=1)
    return prior * missing_fake + (1 - prior) * missing_real


def likelihood_effect(
    sample: Sample, fitted: LikelihoodRatio, *, n_boot: int = 2000, seed: int | list[int] = 0
) -> LikelihoodEffect:
    """What a stored likelihood ratio does on other videos of both classes.

    Its cost with an interval (the minimum of the same order beside it), the points of the Tippett plot, the
    empirical cross-entropy at priors from 1 in 1,000 to 1,000 to 1, and stated beside observed support.
    """
    log10_lr = fitted(sample.score)
    is_fake = sample.label == 1
    # Of each class the mean cost: Cllr is half their sum.
    cost = np.logaddexp2(0, np.where(is_fake, -log10_lr, log10_lr) * np.log2(10))
    terms = np.stack([is_fake, ~is_fake, is_fake * cost, ~is_fake * cost]).astype(np.float64)
    fakes, reals, of_fakes, of_reals = resampled_sums(
        sample, terms, n_boot=n_boot, seed=np.random.default_rng(seed)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = (of_fakes / fakes + of_reals / reals) / 2
    interval = percentile_interval(drawn, clusters=min(sample.clusters_by_class()))
    priors = np.linspace(-3, 3, 61)
    stated, best, without = (
        empirical_cross_entropy(one, sample.label, priors).tolist()
        for one in (log10_lr, _pav(log10_lr, sample.label), np.zeros(len(log10_lr)))
    )
    return {
        "fitted_on": fitted.fitted_on,
        "n_real": fitted.n_real,
        "n_fake": fitted.n_fake,
        "bounds": [fitted.lower, fitted.upper],
        "note": fitted.note,
        "cllr": cllr(log10_lr, sample.label),
        "cllr_ci": list(interval),
        "cllr_min": cllr_min(log10_lr, sample.label),
        "tippett": tippett(log10_lr, sample.label),
        "ece": {
            "prior_log10_odds": priors.tolist(),
            "stated": stated,
            "best": best,
            "without": without,
        },
        "stated": stated_support(log10_lr, sample.label),
    }


def stated_support(log10_lr: ArrayLike, label: ArrayLike, groups: int = 5) -> list[StatedSupport]:
    """Stated LRs beside observed ones, in groups of about as many videos each.

    The lowest LRs come first.

    Of videos whose LR is 10, ten times as large a share of the fakes as of the reals should be among them.

    Arguments as of `cllr`; both classes.

    >>> low, high = stated_support([-1.0] * 10 + [1.0] * 10, [0] * 9 + [1] + [0] + [1] * 9, groups=2)
    >>> round(low["observed"], 2), round(high["observed"], 2), high["stated"]
    (-0.8, 0.8, 1.0)
    """
    log10_lr, label = _check(log10_lr, label)
    edges = np.unique(np.quantile(log10_lr, np.linspace(0, 1, groups + 1)[1:-1], method="lower"))
    of_group = np.searchsorted(edges, log10_lr, side="left")
    found: list[StatedSupport] = []
    n_fake, n_real = int((label == 1).sum()), int((label == 0).sum())
    for group in np.unique(of_group):
        here = of_group == group
        fake, real = int((label[here] == 1).sum()), int((label[here] == 0).sum())
        a, b, all_fakes, all_reals = fake + 0.5, real + 0.5, n_fake + 1.0, n_real + 1.0
        observed = float(np.log10(a / all_fakes) - np.log10(b / all_reals))
        error = Z95 * np.sqrt(1 / a - 1 / all_fakes + 1 / b - 1 / all_reals) / np.log(10)
        found.append(
            {
                "stated": float(log10_lr[here].mean()),
                "observed": observed,
                "observed_ci": [observed - float(error), observed + float(error)],
                "real": real,
                "fake": fake,
            }
        )
    return found


def _check(log10_lr: ArrayLike, label: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    log10_lr = np.asarray(log10_lr, dtype=np.float64)
    if np.isnan(log10_lr).any():
        raise InputError("log10_lr holds NaN; give a log10 likelihood ratio for each row")
    # Only shapes and labels are checked by it: an LR has no range.
    label, _ = check_arrays(label, np.zeros(log10_lr.shape))
    return log10_lr, label


def _pav(value: Array, label: NDArray[np.int64]) -> Array:
    """(N,) log10 LR of the rising step function of greatest likelihood; infinite where it is pure."""
    # Infinite values have ranks too.
    distinct, rank = np.unique(value, return_inverse=True)
    p = rising_shares(rank, label, len(distinct))[rank]
    with np.errstate(divide="ignore"):
        return np.log10(p) - np.log10(1 - p) - np.log10(label.sum() / (len(label) - label.sum()))


def _pav_corners(label: NDArray[np.int64], score: Array) -> tuple[dict[str, Any], str]:
    distinct, first = np.unique(score, return_index=True)
    log10_lr = _pav(score, label)[first]
    # np.interp between two infinite corners would give NaN; no bound lies beyond the number of rows.
    most = np.log10(len(label) + 1) + 1
    return {"score": distinct.tolist(), "log10_lr": np.clip(log10_lr, -most, most).tolist()}, ""


def _logistic(label: NDArray[np.int64], score: Array) -> tuple[dict[str, Any], str]:
    logit = log_odds(score)
    spread = logit.std()
    if spread > 0:
        found = _fit_balanced((logit - logit.mean()) / spread, label)
        slope = float(found[0]) / spread / np.log(10)
        intercept = float(found[1]) / np.log(10) - slope * logit.mean()
        if slope > 0:
            return {"slope": float(slope), "intercept": float(intercept)}, ""
    note = "scores do not rise with the share of fakes, so that no score speaks for either proposition"
    return {"slope": 0.0, "intercept": 0.0}, note


def _fit_balanced(value: Array, label: NDArray[np.int64]) -> Array:
    """Slope and intercept (2,) of a logistic regression that weighs both classes alike.

    The slope's square counts half, as in scikit-learn's LogisticRegression(class_weight="balanced"), which
    takes longer to import than all other numbers of an evaluation take to compute.
    """
    from scipy.optimize import minimize

    weight, penalty = 1 / 2 / np.bincount(label)[label], 1 / len(label)

    def loss(found: Array) -> tuple[float, Array]:
        margin = found[0] * value + found[1]
        total = weight @ (np.logaddexp(0, margin) - label * margin)
        off = weight * (special.expit(margin) - label)
        return total + penalty * found[0] ** 2 / 2, np.array([off @ value + penalty * found[0], off.sum()])

    def bend(found: Array) -> Array:
        p = special.expit(found[0] * value + found[1])
        part = weight * p * (1 - p)
        across = part @ value
        return np.array([[part @ value**2 + penalty, across], [across, part.sum()]])

    options = {"gtol": 1e-12}
    return minimize(loss, np.zeros(2), jac=True, hess=bend, method="trust-exact", options=options).x


def _check_parameter(found: LikelihoodRatio) -> None:
    if found.kind not in KINDS:
        raise ValueError(f"kind {found.kind!r}")
    if not found.lower <= 0 <= found.upper or not np.isfinite([found.lower, found.upper]).all():
        raise ValueError("bounds lie on both sides of 0")
    names = ("score", "log10_lr") if found.kind == "pav" else ("slope", "intercept")
    first, second = (np.asarray(found.parameter[name], np.float64) for name in names)
    if not np.isfinite(first).all() or not np.isfinite(second).all():
        raise ValueError("every number of the parameter is finite")
    if found.kind == "logistic":
        if first.ndim or second.ndim or first < 0:
            raise ValueError("logistic needs a slope of at least 0 and an intercept")
        return
    is_rising = (np.diff(first) >= 0).all() and (np.diff(second) >= 0).all()
    if first.ndim != 1 or first.shape != second.shape or not len(first) or not is_rising:
        raise ValueError("corners are scores in rising order, each with a log10 LR that never falls")
