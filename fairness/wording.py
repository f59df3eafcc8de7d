"""Numbers and names as text, one way in every sentence, table and figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NOUNS = {"identity": "people", "video": "videos", "cluster": "clusters"}


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
