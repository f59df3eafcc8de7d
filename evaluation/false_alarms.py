"""A threshold for a promised false alarm rate.

Fitted, cross-checked, with the exact bound of the promise.
For tables that were scored elsewhere and have no split: nothing is set aside. The threshold is fitted on all
videos, and what it does is measured by cross-fitting, on videos that each fold's threshold never saw.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betaincinv

from unmasked.datasets.errors import InputError
from unmasked.evaluation.intervals import CONFIDENCE, Sample, intervals
from unmasked.evaluation.levels import clusters_of
from unmasked.evaluation.thresholds import Threshold, fit

FOLDS = 10


@dataclass(frozen=True)
class FalseAlarmLimit:
    """What a threshold promises, and what is known about it.

    Attributes:
        threshold: fitted on all videos.
        fpr_max: the false alarm rate that was asked for, in (0, 1).
        fpr_bound: the true rate on material like this is below it with 95 % confidence. Where people are
            known it bounds the share of people of whom any video is called fake, which is never less.
        unit: what ``fpr_bound`` counts, "video" or "identity".
        n_units: how many of them are real.
        n_needed: so many without a false alarm would bound the rate by ``fpr_max``.
        fpr, fpr_ci: share of the real videos called fake, cross-fitted, with its 95 % interval.
        tpr, tpr_ci: share of the fakes found, cross-fitted; NaN without fakes.
    """

    threshold: Threshold
    fpr_max: float
    fpr_bound: float
    unit: str
    n_units: int
    n_needed: int
    fpr: float
    fpr_ci: tuple[float, float]
    tpr: float
    tpr_ci: tuple[float, float]

    @property
    def is_kept(self) -> bool:
        """True if the bound, and not only the estimate, is within what was asked for."""
        return self.fpr_bound <= self.fpr_max

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self) | {"is_kept": self.is_kept}


def limit_false_alarms(
    videos: pd.DataFrame,
    fpr_max: float,
    *,
    guaranteed: bool = False,
    fitted_on: str = "",
    n_boot: int = 2000,
    seed: int = 0,
) -> FalseAlarmLimit:
    """The lowest threshold that calls at most ``fpr_max`` of the real videos fake.

    The bound is Clopper and Pearson's (1934), one-sided: the largest rate under which so few false alarms,
    or fewer, are seen in 5 % of all samples.

    Args:
        videos: a row a video with ``label``, ``score``, ``video``, and ``identity`` where known.
        fpr_max: in (0, 1).
        guaranteed: choose the threshold by the bound instead of the rate: "at most" with 95 % confidence.
        fitted_on: which rows these are, in words; stored.
        n_boot: resamples behind the intervals of the cross-fitted rates.
        seed: of the folds and the resampling.

    Raises:
        InputError: there is no real video, ``fpr_max`` is no share, or ``guaranteed`` needs more reals.
    """
    if not 0 < fpr_max < 1:
        raise InputError(f"max_fpr={fpr_max} is no share; give one between 0 and 1, such as 0.01")
    label, score = videos["label"].to_numpy(np.int64), videos["score"].to_numpy(np.float64)
    unit, codes = _units(videos)
    n_units = len(np.unique(codes[label == 0]))
    needed = math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - fpr_max))
    rule = f"fpr:{fpr_max:g}"
    _check_scores(label, score, fpr_max)
    if guaranteed:
        if n_units < needed:
            raise InputError(
                f"a false alarm rate of at most {fpr_max:.2%} with {CONFIDENCE:.0%} confidence needs "
                f"{needed} real {_noun(unit, needed)} and there are {n_units}; add real videos, allow "
                "more, or leave out guaranteed=true to keep the limit in the estimate only"
            )
        threshold = _guaranteed(label, score, codes, fpr_max, fitted_on)
    else:
        threshold = fit(label, score, rule, fitted_on=fitted_on)
    crossed = _cross_fitted(label, score, codes, fpr_max, guaranteed, seed)
    sample = Sample.of(label, crossed.astype(np.float64), codes)
    found = intervals(sample, 0.5, n_boot=n_boot, seed=seed, only=("fpr", "tpr"))
    return FalseAlarmLimit(
        threshold=threshold,
        fpr_max=fpr_max,
        fpr_bound=_bound(_accused(label, score, codes, threshold.value), n_units),
        unit=unit,
        n_units=n_units,
        n_needed=needed,
        fpr=float(crossed[label == 0].mean()),
        fpr_ci=found["fpr"],
        tpr=float(crossed[label == 1].mean()) if (label == 1).any() else float("nan"),
        tpr_ci=found["tpr"],
    )


def sentence(found: FalseAlarmLimit) -> str:
    """What someone who decides has to know, in words."""
    n, unit = found.threshold.n_real, found.unit
    n_called = round(found.threshold.fpr * n) + round(
        _zero_if_nan(found.threshold.tpr) * found.threshold.n_fake
    )
    whom = "videos are" if unit == "video" else "people are, in any of their videos,"
    parts = [
        f"Call a video fake when its score is above {found.threshold.value:.4g}.",
        f"On videos that the threshold was not fitted on, {_in_100(found.fpr, found.fpr_ci)} real videos are "
        "called fake",
    ]
    if not math.isnan(found.tpr):
        parts[-1] += f", and {_in_100(found.tpr, found.tpr_ci)} fakes are found"
    fitted = found.threshold
    above = [f"{round(fitted.fpr * n):,} of {n:,} real videos"]
    if fitted.n_fake:
        above.append(f"{round(_zero_if_nan(fitted.tpr) * fitted.n_fake):,} of {fitted.n_fake:,} fakes")
    parts[-1] += f" (of those that it was fitted on, {' and '.join(above)} lie above it)."
    if not n_called:
        finds = ", and finds no fake" if found.threshold.n_fake else ""
        parts.insert(
            0,
            f"No video scores above this threshold: it calls nothing fake{finds}. Allow more (max_fpr=), or "
            f"add real {_noun(unit, 2)}.",
        )
    promise = (
        f"Fitted on {n} real videos: with {CONFIDENCE:.0%} confidence at most {100 * found.fpr_bound:.2g} of "
        f"100 real {whom} called fake on material like this"
    )
    if found.is_kept:
        parts.append(f"{promise}.")
    elif found.n_units >= found.n_needed:
        parts.append(
            f"{promise}, which is more than the {100 * found.fpr_max:g} asked for; guaranteed=true chooses a "
            "higher threshold that promises it."
        )
    else:
        parts.append(
            f"{promise}, which is more than the {100 * found.fpr_max:g} asked for: to promise that, at least "
            f"{found.n_needed} real {_noun(unit, found.n_needed)} are needed."
        )
    parts.append("On other material it can be higher; check it there on real videos of your own.")
    return " ".join(parts)


def _check_scores(label: NDArray[np.int64], score: NDArray[np.float64], fpr_max: float) -> None:
    """Raises InputError where no threshold can keep the limit and still call anything fake."""
    distinct = np.unique(score)
    if len(distinct) == 1:
        raise InputError(
            f"every video scores {distinct[0]:.4g}: whatever the threshold, all are called fake or none; "
            "give the scores of a detector that tells videos apart"
        )
    if len(distinct) == 2 and (share := float((score[label == 0] == distinct[1]).mean())) > fpr_max:
        raise InputError(
            f"the scores are decisions, {distinct[0]:g} or {distinct[1]:g}, and {share:.1%} of the real "
            f"videos are called fake by them, more than the {fpr_max:.1%} asked for; a threshold that keeps "
            "it would call nothing fake. Give the probabilities behind the decisions, or allow more: max_fpr"
        )


def _zero_if_nan(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _units(videos: pd.DataFrame) -> tuple[str, NDArray[np.int64]]:
    """What is resampled and left out whole, and each video's: people where all are known."""
    known = "identity" in videos and bool(videos["identity"].notna().all())
    return ("identity" if known else "video"), np.unique(clusters_of(videos), return_inverse=True)[1]


def _guaranteed(
    label: NDArray[np.int64], score: NDArray[np.float64], codes: NDArray[np.int64], share: float, words: str
) -> Threshold:
    """The lowest threshold whose bound, counted in units, is within the share."""
    # A unit is accused when its highest real score is above the threshold: one number a unit is enough.
    highest = np.full(codes.max() + 1, -np.inf)
    np.maximum.at(highest, codes[label == 0], score[label == 0])
    highest = highest[np.isfinite(highest)]
    n = len(highest)
    allowed = int((betaincinv(np.arange(n) + 1, n - np.arange(n), CONFIDENCE) <= share).sum()) - 1
    cut = fit(np.zeros(n, dtype=np.int64), highest, f"fpr:{allowed / n:.12g}").value
    real, fake = score[label == 0], score[label == 1]
    return Threshold(
        value=cut,
        rule=f"fpr:{share:g}, guaranteed",
        fitted_on=words,
        n_real=len(real),
        n_fake=len(fake),
        fpr=float((real > cut).mean()),
        tpr=float((fake > cut).mean()) if len(fake) else float("nan"),
    )


def _cross_fitted(
    label: NDArray[np.int64],
    score: NDArray[np.float64],
    codes: NDArray[np.int64],
    share: float,
    guaranteed: bool,
    seed: int,
) -> NDArray[np.bool_]:
    """(N,) True where an element video is called fake by a threshold that was fitted without its unit."""
    units = np.random.default_rng(seed).permutation(np.unique(codes))
    called = np.zeros(len(label), dtype=bool)
    for held_out in np.array_split(units, min(FOLDS, len(units))):
        inside = np.isin(codes, held_out)
        rest = ~inside & (label == 0)
        if not rest.any():
            raise InputError(
                "all real videos belong to one person or video; a threshold cannot be checked on others: add "
                "real videos of other people"
            )
        if guaranteed:
            cut = _guaranteed_or_highest(label[~inside], score[~inside], codes[~inside], share)
        else:
            cut = fit(label[~inside], score[~inside], f"fpr:{share:g}").value
        called[inside] = score[inside] > cut
    return called


def _guaranteed_or_highest(
    label: NDArray[np.int64], score: NDArray[np.float64], codes: NDArray[np.int64], share: float
) -> float:
    """The guaranteed threshold; above the highest real score where a fold leaves too few for a guarantee."""
    units = len(np.unique(codes[label == 0]))
    if _bound(0, units) > share:
        return float(score[label == 0].max())
    return _guaranteed(label, score, codes, share, "").value


def _accused(
    label: NDArray[np.int64], score: NDArray[np.float64], codes: NDArray[np.int64], cut: float
) -> int:
    """How many units have a real video above the threshold."""
    return len(np.unique(codes[(label == 0) & (score > cut)]))


def _bound(count: int, n: int) -> float:
    """Clopper and Pearson's one-sided upper bound of a rate after ``count`` of ``n``.

    >>> round(_bound(0, 299), 4)
    0.01
    """
    return 1.0 if count >= n else float(betaincinv(count + 1, n - count, CONFIDENCE))


def _noun(unit: str, count: int) -> str:
    return {"identity": "people", "video": "videos"}[unit] if count != 1 else unit


def _in_100(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    between = "" if math.isnan(low) else f" [{_hundredths(low)}, {_hundredths(high)}]"
    return f"{_hundredths(value)}{between} of 100"


def _hundredths(value: float) -> str:
    """Two digits, 100 included.

    >>> _hundredths(0.0123), _hundredths(0.963), _hundredths(1.0)
    ('1.2', '96', '100')
    """
    return f"{100 * value:.2g}" if value < 0.095 else f"{100 * value:.0f}"
