"""Numbers and names as text, one way in every sentence, table and figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NOUNS = {"identity": "people", "video": "videos", "cluster": "clusters"}
RULES = {
    "eer": "errors of both kinds equal",
    "youden": "most found minus wrongly accused",
    "fixed": "fixed, as the benchmarks do",
    "given": "given by hand",
}


def units(unit: str) -> str:
    """What is resampled, in the plural.

    >>> units("identity")
    'people'
    """
    return NOUNS[unit]


def number(value: Any) -> float:
    """A JSON value as a float; null is NaN."""
    return float("nan") if value is None else float(value)


def is_missing(value: Any) -> bool:
    """Whether a value is NaN or null."""
    return value is None or value != value


def percent(value: Any) -> str:
    """A share in whole per cent, with a space that does not break.

    >>> percent(0.123) == "12\\u00a0%"
    True
    """
    return "undefined" if is_missing(value) else f"{100 * value:.0f}\u00a0%"


def points_only(value: Any) -> str:
    """A gap in percentage points, one decimal below ten.

    >>> points_only(0.031), points_only(0.12), points_only(float("nan"))
    ('3.1', '12', '–')
    """
    if is_missing(value):
        return "–"
    return f"{100 * value:.{0 if value >= 0.0995 else 1}f}".removesuffix(".0")


def points(value: Any) -> str:
    """A gap in percentage points, with the word.

    >>> points(0.01)
    '1 point'
    """
    text = points_only(value)
    return f"{text} point{'' if text == '1' else 's'}"


def gap_text(gap: Any, limits: Sequence[Any]) -> str:
    """A gap and its interval in points, for a table.

    >>> gap_text(0.12, [0.05, 0.19])
    '12 (5–19)'
    """
    if is_missing(gap):
        return "not enough data"
    low, high = number(limits[0]), number(limits[1])
    return f"{points_only(gap)} ({100 * low:.0f}–{100 * high:.0f})"


def named(group: Any) -> str:
    """A group's name, or a dash where there is none."""
    return "–" if is_missing(group) else str(group)


def share_text(value: Any, limits: Sequence[Any]) -> str:
    """A share and its interval in per cent, for a table.

    >>> share_text(0.28, [0.11, 0.54]) == "28\\u00a0% (11–54)"
    True
    """
    if is_missing(value):
        return "not enough data"
    low, high = (number(limit) for limit in limits)
    return percent(value) if is_missing(low) else f"{percent(value)} ({100 * low:.0f}–{100 * high:.0f})"


def signed_points(value: Any) -> str:
    """A change in points, with its sign; "0" where it rounds to nothing.

    >>> signed_points(0.031), signed_points(-0.12), signed_points(0.0)
    ('+3.1', '−12', '0')
    """
    if is_missing(value):
        return "–"
    text = points_only(abs(value))
    return text if text == "0" else f"{'+' if value > 0 else '−'}{text}"


def change_text(change: Any, limits: Sequence[Any]) -> str:
    """A change and its interval in points, for a table.

    >>> change_text(0.12, [-0.02, 0.25])
    '+12 (−2 to +25)'
    """
    if is_missing(change):
        return "not enough data"
    low, high = (number(limit) for limit in limits)
    if is_missing(low):
        return signed_points(change)
    return f"{signed_points(change)} ({_whole(low)} to {_whole(high)})"


def rule_text(rule: str) -> str:
    """How a threshold was chosen, in words.

    >>> rule_text("fpr:0.10")
    'at most 10 % of reals called fake'
    """
    kind, _, share = rule.partition(":")
    if kind == "fpr":
        return f"at most {100 * float(share):g} % of reals called fake"
    return RULES.get(rule, rule)


def p_text(value: Any) -> str:
    """A p-value with two digits, never "0".

    >>> p_text(0.00149925), p_text(0.00002), p_text(1.0), p_text(None)
    ('0.0015', '< 0.0001', '1', '–')
    """
    if is_missing(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["A", "B", "C"])
    'A, B and C'
    """
    names = [str(name) for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _whole(value: float) -> str:
    text = f"{abs(100 * value):.0f}"
    return text if text == "0" else f"{'+' if value > 0 else '−'}{text}"
