"""Decision thresholds: fitted on calibration scores, stored, used as ``score > value``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unmasked.datasets.errors import InputError, explain_bad_fields
from unmasked.evaluation import counts
from unmasked.evaluation.counts import Array
from unmasked.evaluation.metrics import check_classes
from unmasked.evaluation.records import StoredThreshold
from unmasked.evaluation.wording import number

RULES = ("eer", "youden", "fpr:0.10", "fpr:0.05", "fpr:0.01")
# Below so many of a class, a balance of two error rates is settled by a handful of rows.
FEW = 20


@dataclass(frozen=True)
class Threshold:
    """A stored decision: fake when ``score > value``."""

    value: float
    rule: str  # one of RULES, another fpr:x, fnr:x, or "given"
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

    def to_dict(self) -> StoredThreshold:
        """The fields, ready for JSON."""
        fields: Any = asdict(self)
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Threshold:
        """What `to_dict` gave, also after JSON has turned NaN into null.

        Raises:
            InputError: there is no ``value`` between 0 and 1, or a field is unknown.
        """
        advice = 'what `unmasked evaluate` or `unmasked train` wrote, or at least {"value": 0.5}'
        with explain_bad_fields(fields, "threshold", advice):
            value = float(fields["value"])
            rates = {name: number(fields.get(name)) for name in ("fpr", "tpr")}
            threshold = cls(**{"rule": "given", **fields, "value": value, **rates})
            texts = (threshold.rule, threshold.fitted_on, threshold.level, threshold.note)
            counted = (threshold.n_real, threshold.n_fake)
            if not all(isinstance(one, str) for one in texts):
                raise ValueError("rule, fitted_on, level and note are texts")
            if not all(isinstance(one, int) and 0 <= one < 1 << 53 for one in counted):
                raise ValueError("n_real and n_fake are numbers of rows")
            if any(rate < 0 or rate > 1 for rate in rates.values()):
                raise ValueError("fpr and tpr are shares")
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
            lowest threshold that calls at most 5 % of the reals fake; it needs no fakes. ``fnr:0.05``:
            the highest one that calls at most 5 % of the fakes real; it needs no reals.
        fitted_on: which rows these are, in words; stored.
        level: what a row is, ``video`` or ``frame``; stored.

    Raises:
        InputError: the rule is unknown, or a class that it needs is absent.

    >>> fit([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.8], "youden").value
    0.5
    """
    limit = _limit(rule)
    needed = (0, 1) if limit is None else (0,) if limit[0] == "fpr" else (1,)
    label, score, n_real, n_fake = check_classes(label, score, f"rule {rule!r}", fitted_on, needed)
    distinct, fp, tp = counts.curve(label, score)
    chosen = _count_called_fake(fp, tp, rule, limit)
    return Threshold(
        value=_cut(distinct, chosen),
        rule=rule,
        fitted_on=fitted_on,
        level=level,
        n_real=n_real,
        n_fake=n_fake,
        fpr=float(fp[chosen] / n_real) if n_real else float("nan"),
        tpr=float(tp[chosen] / n_fake) if n_fake else float("nan"),
        note=_note(n_real, n_fake, limit),
    )


def _limit(rule: str) -> tuple[str, float] | None:
    """Which error a ``fpr:x`` or ``fnr:x`` rule limits, and its largest share; None for the other rules."""
    if rule in ("eer", "youden"):
        return None
    kind, _, value = rule.partition(":")
    try:
        share = float(value)
    except ValueError:
        share = float("nan")
    if kind not in ("fpr", "fnr") or not 0 <= share < 1:
        raise InputError(
            f"threshold rule {rule!r} is not known; choose eer, youden, fpr:x or fnr:x, such as fpr:0.05"
        )
    return kind, share


def _count_called_fake(fp: Array, tp: Array, rule: str, limit: tuple[str, float] | None) -> int:
    """How many of the distinct scores, from the highest, are called fake."""
    if limit is not None:
        kind, share = limit
        if kind == "fpr":
            return int((fp <= math.floor(share * fp[-1] + 1e-9)).sum()) - 1
        return int(np.argmax(tp[-1] - tp <= math.floor(share * tp[-1] + 1e-9)))
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


def _note(n_real: int, n_fake: int, limit: tuple[str, float] | None) -> str:
    if limit is None:
        if min(n_real, n_fake) >= FEW:
            return ""
        return (
            f"fitted on {n_real} real and {n_fake} fake rows: with fewer than {FEW} of a class it will move"
        )
    kind, share = limit
    n, which, end = (
        (n_real, "real", "above the highest") if kind == "fpr" else (n_fake, "fake", "below the lowest")
    )
    if n * share >= 1:
        return ""
    # None of n was allowed on the wrong side; Clopper-Pearson's upper bound for 0 of n.
    bound = 1 - 0.05 ** (1 / n)
    wanted = f"at least {math.ceil(1 / share)}" if share > 0 else "more"
    name = kind.upper()
    return (
        f"an {name} of {share:.0%} needs {wanted} {which} rows and there were {n}: the threshold stands "
        f"{end} {which} score, and an {name} of up to {bound:.0%} elsewhere would be no surprise"
    )
