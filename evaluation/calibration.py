"""Score calibration: fitted on the source's calibration split, stored, applied elsewhere.

A temperature makes all scores more or less sure and keeps their order; an isotonic step function bends them
as the calibration rows say, and may tie scores. Whether either still fits on other data is what is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from unmasked.datasets.errors import InputError, explain_bad_fields
from unmasked.evaluation import metrics
from unmasked.evaluation.counts import CALIBRATION_BINS, Array, calibration_bin
from unmasked.evaluation.intervals import CONFIDENCE, Sample, interleave, intervals
from unmasked.evaluation.metrics import check_arrays
from unmasked.evaluation.records import CalibrationEffect, Numbers, Reliability

KINDS = ("temperature", "isotonic")
SHOWN = ("brier", "ece", "log_loss")
# A temperature at an end of this range would have been fitted beyond it.
TEMPERATURES = (0.01, 100.0)
# Scores of exactly 0 and 1 have no logit; log loss clips at the same distance.
SURE = float(np.finfo(np.float64).eps)
# Below so many of a class, a calibration is settled by a handful of rows.
FEW = 20


@dataclass(frozen=True)
class Calibration:
    """A stored map from scores to probabilities; call it with scores (N,) in [0, 1]."""

    kind: str  # one of KINDS
    # The temperature T, or the corners {"score": [...], "probability": [...]} between which isotonic is
    # straight.
    parameter: float | dict[str, list[float]]
    fitted_on: str = ""  # which rows, in words
    level: str = "video"  # what a calibration row was
    n_real: int = 0
    n_fake: int = 0
    note: str = ""  # why it may not hold elsewhere, "" if there is no reason to think so

    def __call__(self, score: ArrayLike) -> Array:
        """The calibrated scores, (N,) in [0, 1]."""
        score = np.asarray(score, dtype=np.float64)
        if isinstance(self.parameter, Mapping):
            return np.interp(score, self.parameter["score"], self.parameter["probability"])
        return special.expit(log_odds(score) / self.parameter)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Calibration:
        """What `asdict` gave.

        Raises:
            InputError: the kind or a field is unknown, or the parameter does not belong to the kind.
        """
        with explain_bad_fields(fields, "calibration", "what `unmasked evaluate` wrote"):
            calibration = cls(**fields)
            _check_parameter(calibration)
        return calibration


def fit_calibration(
    label: ArrayLike,
    score: ArrayLike,
    kind: str = "temperature",
    *,
    fitted_on: str = "",
    level: str = "video",
) -> Calibration:
    """The calibration of greatest likelihood on calibration rows.

    Args:
        label: (N,) 0 = real, 1 = fake.
        score: (N,) P(fake).
        kind: ``temperature``: sigmoid(logit(score) / T) with the T of least log loss (Guo et al. 2017).
            ``isotonic``: the rising step function of least squared error (Zadrozny and Elkan 2002).
        fitted_on: which rows these are, in words; stored.
        level: what a row is, ``video`` or ``frame``; stored.

    Raises:
        InputError: the kind is unknown, or a class is absent.

    >>> fit_calibration([0, 0, 0, 1], [0.1, 0.1, 0.9, 0.9], "isotonic")([0.1, 0.5, 0.9]).tolist()
    [0.0, 0.25, 0.5]
    """
    if kind not in KINDS:
        raise InputError(f"calibration {kind!r} is not known; choose {' or '.join(KINDS)}")
    label, score = check_arrays(label, score)
    n_fake = int(label.sum())
    n_real = len(label) - n_fake
    if not n_real or not n_fake:
        raise InputError(
            f"calibration {kind!r} needs real and fake rows; {fitted_on or 'the calibration set'} has "
            f"{n_real} real and {n_fake} fake. Give a calibration split that has both"
        )
    parameter = _temperature(label, score) if kind == "temperature" else fit_isotonic(label, score)
    note = _note(parameter, n_real, n_fake)
    return Calibration(kind, parameter, fitted_on, level, n_real, n_fake, note)


def calibration_effects(
    sample: Sample,
    calibrations: Mapping[str, Calibration],
    *,
    n_boot: int = 2000,
    seed: int | list[int] = 0,
) -> dict[str, CalibrationEffect]:
    """By kind: what was fitted; Brier score, ECE and log loss before and after."""
    before = _losses(sample, n_boot, seed) if calibrations else {}
    found: dict[str, CalibrationEffect] = {}
    for kind, calibration in calibrations.items():
        after = Sample(sample.label, calibration(sample.score), sample.cluster, sample.clusters)
        found[kind] = {
            "fitted_on": calibration.fitted_on,
            "parameter": calibration.parameter,
            "note": calibration.note,
            "before": before,
            "after": _losses(after, n_boot, seed),
        }
    return found


def reliability(label: ArrayLike, score: ArrayLike) -> Reliability:
    """Mean score and share of fakes in each bin of the score that has rows.

    The bins of the ECE. Each list is (B,); low and high are the share's Wilson interval of 95 %, as if rows
    were independent.

    >>> reliability([0, 1, 1, 1], [0.75, 0.75, 0.75, 0.75])["share_fake"]
    [0.75]
    """
    label, score = check_arrays(label, score)
    bin_of = calibration_bin(score)
    n = np.bincount(bin_of, minlength=CALIBRATION_BINS)
    filled = n > 0
    n = n[filled]
    fakes, total = (np.bincount(bin_of, weights, CALIBRATION_BINS)[filled] for weights in (label, score))
    share = fakes / n
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # Rounding must not put an end of an interval beyond the share itself.
    low, high = np.clip(centre - half, 0, share), np.clip(centre + half, share, 1)
    return {
        "score": (total / n).tolist(),
        "share_fake": share.tolist(),
        "n": n.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def log_odds(score: Array, least: float = SURE) -> Array:
    """log(score / (1 - score)); scores are moved to ``least`` from 0 and from 1."""
    inside = np.clip(score, least, 1 - least)
    return np.log(inside) - np.log1p(-inside)


def _temperature(label: NDArray[np.int64], score: Array) -> float:
    """T of least log loss; the loss has one valley in T, as it is convex in 1 / T."""
    from scipy.optimize import minimize_scalar  # takes as long to import as the rest of an evaluation

    signed = np.where(label == 1, 1.0, -1.0) * log_odds(score)
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda log_t: np.logaddexp(0.0, -signed * math.exp(-log_t)).mean(),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(np.exp(found.x))


def fit_isotonic(label: NDArray[np.int64], score: Array) -> dict[str, list[float]]:
    """The corners ``score`` and ``probability`` between which the best rising map is straight."""
    distinct, rank = np.unique(score, return_inverse=True)
    share = rising_shares(rank, label, len(distinct))
    # Between two equal neighbours nothing bends.
    is_corner = np.ones(len(share), dtype=bool)
    is_corner[1:-1] = (share[1:-1] != share[:-2]) | (share[1:-1] != share[2:])
    return {"score": distinct[is_corner].tolist(), "probability": share[is_corner].tolist()}


def rising_shares(rank: NDArray[np.int64], label: NDArray[np.int64], ranks: int) -> Array:
    """The share of fakes at each rank, (ranks,), that never falls and is most likely."""
    from scipy.optimize import isotonic_regression

    n = np.bincount(rank, minlength=ranks)
    return isotonic_regression(np.bincount(rank, label, ranks) / n, weights=n).x


def _note(parameter: float | dict[str, list[float]], n_real: int, n_fake: int) -> str:
    notes = []
    if min(n_real, n_fake) < FEW:
        notes.append(
            f"fitted on {n_real} real and {n_fake} fake rows: with fewer than {FEW} of a class it will move"
        )
    if isinstance(parameter, dict):
        if parameter["probability"][0] == 0 or parameter["probability"][-1] == 1:
            notes.append(
                "some scores become exactly 0 or 1: one such mistake elsewhere costs a log loss of 36"
            )
    elif not TEMPERATURES[0] * 1.01 < parameter < TEMPERATURES[1] / 1.01:
        which = (
            "no row is on the wrong side of 0.5"
            if parameter < 1
            else "scores do not rise with the share of fakes"
        )
        notes.append(f"the temperature is at the end of its range: {which}")
    return "; ".join(notes)


def _losses(sample: Sample, n_boot: int, seed: int | list[int]) -> Numbers:
    values = metrics.all_metrics(sample.label, sample.score)
    rng = np.random.default_rng(seed)
    found = intervals(sample, n_boot=n_boot, seed=rng, only=SHOWN)
    return interleave({name: values[name] for name in SHOWN}, found)


def _check_parameter(calibration: Calibration) -> None:
    parameter = calibration.parameter
    if calibration.kind not in KINDS:
        raise ValueError(f"kind {calibration.kind!r}")
    if calibration.kind == "temperature":
        if not isinstance(parameter, (int, float)) or not parameter > 0:
            raise ValueError("a temperature is a number above 0")
        return
    if not isinstance(parameter, dict):
        raise ValueError("isotonic needs its corners")
    score, probability = (np.asarray(parameter[key], np.float64) for key in ("score", "probability"))
    rising = score.shape == probability.shape and (np.diff(score) >= 0).all()
    if not rising or not len(score) or not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("corners are scores in rising order, each with a probability")
