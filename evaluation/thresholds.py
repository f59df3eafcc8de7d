"""Decision thresholds: fitted on calibration scores, stored, applied elsewhere as ``score > value``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unmasked.datasets.errors import InputError
from unmasked.evaluation import counts
from unmasked.evaluation.counts import Array
from unmasked.evaluation.metrics import checked

RULES = ("eer", "youden", "fpr:0.10", "fpr:0.05", "fpr:0.01")
# Below so many of a class, a balance of two error rates is settled by a handful of rows.
FEW = 20


@dataclass(frozen=True)
class Threshold:
    """A stored decision: fake when ``score > value``."""

    value: float
    rule: str  # one of RULES, another fpr:x, or "given"
    fitted_on: str = ""  # which rows, in words
    level: str = "video"  # what a calibration row was: video or frame
    n_real: int = 0  # calibration rows
    n_fake: int = 0
    fpr: float = float("nan")  # on the calibration rows
    tpr: float = float("nan")
    note: str = ""  # why the rule may not hold elsewhere, "" if there is no reason to think so

    @property
    def n(self) -> int:
        """How many calibration rows there were."""
        return self.n_real + self.n_fake

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Threshold:
        """What `to_dict` gave, also after JSON has turned NaN into null.

        Raises:
            InputError: there is no ``value`` between 0 and 1, or a field is unknown.
        """
        try:
            value = float(fields["value"])
            rates = {name: _number(fields.get(name)) for name in ("fpr", "tpr")}
            threshold = cls(**{"rule": "given", **fields, "value": value, **rates})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{fields!r} is not a stored threshold ({error}); give what `unmasked evaluate` or "
                '`unmasked train` wrote, or at least {"value": 0.5}'
            ) from error
        if not -1e-9 <= value <= 1:
            raise InputError(f"threshold {value} is outside the scores' range; give one between 0 and 1")
        return threshold


def fit(
    label: ArrayLike, score: ArrayLike, rule: str = "eer", *, fitted_on: str = "", level: str = "video"
) -> Threshold:
    """The threshold that a rule chooses on calibration rows, halfway between two scores.

    Args:
        label: (N,) 0 = real, 1 = fake.
        score: (N,) P(fake).
        rule: ``eer``: FPR and FNR as close as they get. ``youden``: greatest TPR - FPR. ``fpr:0.05``: the
            lowest threshold that calls at most 5 % of the reals fake; it needs no fakes.
        fitted_on: which rows these are, in words; stored.
        level: what a row is, ``video`` or ``frame``; stored.

    Raises:
        InputError: the rule is unknown, or a class that it needs is absent.

    >>> fit([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.8], "youden").value
    0.5
    """
    fpr_max = _fpr_max(rule)
    label, score = checked(label, score)
    n_fake = int(label.sum())
    n_real = len(label) - n_fake
    missing = [name for name, n in (("real", n_real), ("fake", n_fake)) if not n]
    if "real" in missing or (missing and fpr_max is None):
        raise InputError(
            f"rule {rule!r} needs {'real rows' if fpr_max is not None else 'real and fake rows'} to fit a "
            f"threshold; {fitted_on or 'the calibration set'} has {n_real} real and {n_fake} fake. "
            "Give a calibration split that has them"
        )
    distinct, fp, tp = counts.curve(label, score)
    chosen = _chosen(fp, tp, rule, fpr_max)
    return Threshold(
        value=_cut(distinct, chosen),
        rule=rule,
        fitted_on=fitted_on,
        level=level,
        n_real=n_real,
        n_fake=n_fake,
        fpr=float(fp[chosen] / n_real),
        tpr=float(tp[chosen] / n_fake) if n_fake else float("nan"),
        note=_note(n_real, n_fake, fpr_max),
    )


def _fpr_max(rule: str) -> float | None:
    """The share of reals that a ``fpr:x`` rule allows; None for the other rules."""
    if rule in ("eer", "youden"):
        return None
    kind, _, value = rule.partition(":")
    try:
        fpr_max = float(value)
    except ValueError:
        fpr_max = float("nan")
    if kind != "fpr" or not 0 <= fpr_max < 1:
        raise InputError(
            f"threshold rule {rule!r} is not known; choose eer, youden or fpr:x, such as fpr:0.05"
        )
    return fpr_max


def _chosen(fp: Array, tp: Array, rule: str, fpr_max: float | None) -> int:
    """How many of the distinct scores, from the highest, are called fake."""
    if fpr_max is not None:
        return int((fp <= math.floor(fpr_max * fp[-1] + 1e-9)).sum()) - 1
    # In whole counts x both totals, exact, so that equal rates compare as equal.
    false_alarms, misses = fp * tp[-1], (tp[-1] - tp) * fp[-1]
    loss = np.abs(false_alarms - misses) if rule == "eer" else false_alarms + misses
    return int(np.argmin(loss))


def _cut(distinct: Array, chosen: int) -> float:
    """A value that exactly the ``chosen`` highest distinct scores exceed."""
    if chosen == 0:
        return float(distinct[0])
    above = distinct[chosen - 1]
    # Below all scores there is still P = 0; a score of 0 is called fake by a value under it only.
    below = distinct[chosen] if chosen < len(distinct) else (0.0 if above > 0 else -1e-9)
    middle = (above + below) / 2
    return float(middle if middle < above else below)


def _note(n_real: int, n_fake: int, fpr_max: float | None) -> str:
    if fpr_max is None:
        if min(n_real, n_fake) >= FEW:
            return ""
        return (
            f"fitted on {n_real} real and {n_fake} fake rows: with fewer than {FEW} of a class it will move"
        )
    if n_real * fpr_max >= 1:
        return ""
    # None of n_real was allowed above the threshold; Clopper-Pearson's upper bound for 0 of n.
    bound = 1 - 0.05 ** (1 / n_real)
    wanted = f"at least {math.ceil(1 / fpr_max)}" if fpr_max > 0 else "more"
    return (
        f"an FPR of {fpr_max:.0%} needs {wanted} real rows and there were {n_real}: the threshold stands "
        f"above the highest real score, and an FPR of up to {bound:.0%} elsewhere would be no surprise"
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
