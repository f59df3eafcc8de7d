"""Answering only when sure.

Risk over coverage, and a band of scores in which the answer is "uncertain".
The band is fitted on the source's calibration split and applied elsewhere as it is. A row is called fake
above the band, real below it, and left to a person inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unmasked.datasets.errors import InputError, explain_bad_fields
from unmasked.evaluation.counts import Array, ratio
from unmasked.evaluation.intervals import (
    Sample,
    behind,
    bounded_interval,
    interleave,
    metric_interval,
    resampled_sums,
)
from unmasked.evaluation.metrics import check_arrays
from unmasked.evaluation.records import Abstention, RiskCurve
from unmasked.evaluation.thresholds import fit

ERROR_MAX = 0.05
POINTS = 101


@dataclass(frozen=True)
class Band:
    """A stored band: fake if ``score > high``, real if ``score <= low``, else uncertain."""

    low: float
    high: float
    rule: str = "given"
    fitted_on: str = ""  # which rows, in words
    level: str = "video"  # what a calibration row was
    n_real: int = 0
    n_fake: int = 0
    note: str = ""  # why the rule may not hold elsewhere

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Band:
        """What `asdict` gave; InputError where there is no low <= high, or a field is unknown."""
        advice = 'what `unmasked evaluate` wrote, or at least {"low": 0.4, "high": 0.6}'
        with explain_bad_fields(fields, "band", advice):
            band = cls(**{**fields, "low": float(fields["low"]), "high": float(fields["high"])})
        if not -1e-9 <= band.low <= band.high <= 1:
            raise InputError(f"a band from {band.low} to {band.high} is not one; give 0 <= low <= high <= 1")
        return band


def fit_band(
    label: ArrayLike,
    score: ArrayLike,
    threshold: float = 0.5,
    *,
    error_max: float = ERROR_MAX,
    fitted_on: str = "",
    level: str = "video",
) -> Band:
    """The narrowest band beyond which at most ``error_max`` of either class is called wrong.

    Args:
        label: (N,) 0 = real, 1 = fake.
        score: (N,) P(fake).
        threshold: where the band stands if it is empty, because one cut serves both classes.
        error_max: largest share of the reals above the band, and of the fakes below it.
        fitted_on: which rows these are, in words; stored.
        level: what a row is, ``video`` or ``frame``; stored.

    Raises:
        InputError: a class is absent.

    >>> band = fit_band([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.8], error_max=0)
    >>> round(band.low, 3), round(band.high, 3)
    (0.25, 0.7)
    """
    label, score = check_arrays(label, score)
    if label.all() or not label.any():
        raise InputError(
            f"an uncertain band needs real and fake rows; {fitted_on or 'the calibration set'} has "
            f"{int((label == 0).sum())} real and {int(label.sum())} fake. Give a calibration split with both"
        )
    above, below = fit(label, score, f"fpr:{error_max}"), fit(label, score, f"fnr:{error_max}")
    low, high = below.value, above.value
    if low > high:  # every cut from high to low serves both
        low = high = float(np.clip(threshold, high, low))
    return Band(
        low=low,
        high=high,
        rule=f"at most {error_max:.0%} of the reals above, at most {error_max:.0%} of the fakes below",
        fitted_on=fitted_on,
        level=level,
        n_real=above.n_real,
        n_fake=above.n_fake,
        note="; ".join(found.note for found in (above, below) if found.note),
    )


def abstention(
    sample: Sample,
    band: Band,
    threshold: float = 0.5,
    *,
    n_boot: int = 2000,
    seed: int | list[int] = 0,
) -> Abstention:
    """What a stored band does here, and the curve of risk over coverage.

    Coverage is the share of rows outside the
    band; risk the share of wrong answers among them, ``risk_all`` that of answering always, at
    ``threshold``; fpr and fnr the shares of all reals called fake and of all fakes called real, which the
    rule was about. Risks depend on the share of fakes, fpr and fnr do not. NaN where undefined.
    """
    terms = _band_terms(sample.label, sample.score, band, threshold)
    rng = np.random.default_rng(seed)
    values = _band_rates(terms.sum(axis=1))
    drawn = _band_rates(resampled_sums(sample, terms, n_boot=n_boot, seed=rng))
    enough = min(number for number in sample.clusters_by_class() if number) >= 2
    limits = dict.fromkeys(values, (np.nan, np.nan))
    for name, value in values.items() if enough else ():
        if name in ("fpr", "fnr"):
            limits[name] = metric_interval(name, float(value), drawn[name], *behind(name, sample))
        else:
            limits[name] = bounded_interval(drawn[name], sample.clusters)
    curve, aurc = risk_coverage(sample.label, sample.score, threshold)
    found: Any = {"band": [band.low, band.high], "rule": band.rule, "fitted_on": band.fitted_on}
    found |= {"note": band.note, **interleave({name: float(value) for name, value in values.items()}, limits)}
    return found | {"curve": curve, "aurc": aurc}


def risk_coverage(label: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> tuple[RiskCurve, float]:
    """Risk among the surest share of rows, for every share, and its mean, the AURC.

    A row is the surer the further its score lies from the threshold, as a share of the way to 0 or to 1.
    Equally sure rows are answered together, each with their mean error. AURC = mean over k of the errors
    among the k surest / k (Geifman and El-Yaniv 2017), in [0, 1], lower is better; the share of errors if
    sureness says nothing.

    Returns:
        ``{"coverage", "risk"}`` with at most 101 points, and the AURC; empty and NaN without rows.

    >>> curve, aurc = risk_coverage([0, 1, 1, 1], [0.1, 0.9, 0.8, 0.4])
    >>> curve["coverage"], curve["risk"], aurc
    ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.25], 0.0625)
    """
    label, score = check_arrays(label, score)
    if not len(label):
        return {"coverage": [], "risk": []}, float("nan")
    flagged = score > threshold
    way = np.where(flagged, 1 - threshold, threshold)
    sureness = np.divide(np.abs(score - threshold), way, out=np.ones(len(score)), where=way > 0)
    # 0.3 and 0.7 are equally far from 0.5, but not in binary.
    levels, level = np.unique(-sureness.round(12), return_inverse=True)
    size = np.bincount(level, minlength=len(levels))
    wrong = np.bincount(level, (flagged != (label == 1)).astype(float), len(levels))
    answered = np.arange(1, len(label) + 1)
    ends, errors = np.cumsum(size), np.cumsum(wrong)
    # Within a level errors come evenly.
    risk = np.interp(answered, np.r_[0, ends], np.r_[0.0, errors]) / answered
    kept = np.unique(np.linspace(0, len(label) - 1, POINTS).round().astype(int))
    curve: RiskCurve = {"coverage": (answered[kept] / len(label)).tolist(), "risk": risk[kept].tolist()}
    return curve, float(risk.mean())


def _band_terms(label: NDArray[np.int64], score: Array, band: Band, threshold: float) -> Array:
    """(7, N): 1, real, fake, uncertain, real called fake, fake called real, wrong at the threshold."""
    fake = label == 1
    uncertain = (score > band.low) & (score <= band.high)
    rows = (
        *(np.ones(len(label)), ~fake, fake, uncertain),
        *(~fake & (score > band.high), fake & (score <= band.low), (score > threshold) != fake),
    )
    return np.stack(rows).astype(np.float64)


def _band_rates(sums: Array) -> dict[str, Array]:
    n, real, fake, uncertain, false_alarms, misses, wrong = sums
    return {
        "coverage": ratio(n - uncertain, n),
        "risk": ratio(false_alarms + misses, n - uncertain),
        "risk_all": ratio(wrong, n),
        "fpr": ratio(false_alarms, real),
        "fnr": ratio(misses, fake),
    }
