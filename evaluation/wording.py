"""Numbers, intervals, thresholds and names as text.

One way in every sentence, table and figure.
An interval is ``[low, high]`` behind its value, in the unit of the value: ``0.91 [0.85, 0.96]``,
``28 % [11, 54]``, ``+12 [−2, +25]`` points. A rule that chose a threshold has a long and a short form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import ceil, isnan, log10, nan
from typing import Any

from unmasked.datasets.errors import InputError

NOT_ENOUGH = "not enough data"
IN_BRACKETS = "In brackets: 95\N{NO-BREAK SPACE}% interval."  # below a table whose cells have intervals
ONE = {"identity": "person", "video": "video", "cluster": "cluster", "frame": "frame"}
NOUNS = {"identity": "people", "video": "videos", "cluster": "clusters", "frame": "frames"}
# rule -> its long and its short form; rules with a number, as fpr:0.10, are worded in `rule_text`.
RULES = {
    "eer": ("errors of both kinds equal", "errors equal"),
    "youden": ("most found minus wrongly accused", "Youden"),
    "fixed": ("fixed at 0.5, as the benchmarks do", "fixed at 0.5"),
    "given": ("given by hand", "given"),
}


FILES = ("video", "picture", "file")
# Parts of a page in which no word is ours: tags, styles, scripts, figures' names, what is typed.
_MARKUP = r"<(style|script|code)\b.*?</\1>|<[^>]*>"
# Nor in a column's name, and frames are of videos.
_FIXED = r"\bcolumns video\b|\bframes of [\d,]+ videos?\b"


def name_files(text: str, noun: str, keep: Collection[str] = ()) -> str:
    """The text, or a page, with its word for what was scored.

    All sentences here say "video"; where pictures or files of both kinds were scored, this is the one place
    that says so.

    Args:
        text: sentences, Markdown or HTML.
        noun: one of `FILES`.
        keep: names of others, such as datasets, which stay as they are.

    >>> name_files("Videos of A; video_set: 3 videos", "picture", ["video_set"])
    'Pictures of A; video_set: 3 pictures'
    >>> name_files("a video: frames of 2 videos; give the columns video and frame", "picture")
    'a picture: frames of 2 videos; give the columns video and frame'
    >>> name_files('<b class="video">a video</b>', "file")
    '<b class="video">a file</b>'
    """
    if noun == "video":
        return text
    kept = [re.escape(name) for name in keep if "video" in name.lower()]
    pattern = re.compile("|".join([_MARKUP, _FIXED, *kept, r"(?P<word>\b[Vv]ideo(?=s?\b))"]), re.DOTALL)

    def renamed(match: re.Match[str]) -> str:
        word = match["word"]
        return match[0] if word is None else noun.capitalize() if word == "Video" else noun

    return pattern.sub(renamed, text)


def units(unit: str) -> str:
    """What is resampled, in the plural.

    >>> units("identity")
    'people'
    """
    return NOUNS[unit]


def count_text(count: int, unit: str) -> str:
    """How many people, videos, clusters or frames.

    >>> count_text(1, "identity"), count_text(0, "identity")
    ('1 person', '0 people')
    """
    return f"{count:,} {ONE[unit] if count == 1 else NOUNS[unit]}"


def support_text(people: int, samples: int, unit: str, sample: str = "frame") -> str:
    """What a group needs of a class to be compared.

    Rows are not said where one is enough.

    >>> support_text(10, 1, "identity"), support_text(10, 30, "identity")
    ('10 people', '10 people and 30 frames')
    """
    return count_text(people, unit) + (f" and {count_text(samples, sample)}" if samples > 1 else "")


def number(value: Any) -> float:
    """A JSON value as a float; null is NaN."""
    return nan if value is None else float(value)


def ends(interval: Sequence[Any] | None) -> tuple[float, float]:
    """Both ends of an interval; NaN where there is none."""
    if interval is None or len(interval) == 0:
        return nan, nan
    if len(interval) != 2:
        raise InputError(
            f"an interval has two ends, not {len(interval)}: {list(interval)}; "
            "the file of results was damaged, make it again"
        )
    return number(interval[0]), number(interval[1])


def is_missing(value: Any) -> bool:
    """True if a value is NaN or null."""
    return value is None or value != value


def interval_text(interval: Sequence[Any] | None, *forms: Callable[[float], str]) -> str:
    """``[low, high]`` in the first form in which they differ; empty where an end is missing.

    Empty too where both are one number: resamples of a few videos that all say the same bear no interval.

    >>> interval_text([0.85, 0.96], "{:.2f}".format), interval_text([0.5, 0.5], "{:.2f}".format)
    ('[0.85, 0.96]', '')
    >>> interval_text([0.851, 0.853], "{:.2f}".format, "{:.3f}".format)
    '[0.851, 0.853]'
    """
    low, high = ends(interval)
    if isnan(low) or isnan(high) or low == high:
        return ""
    texts = [f"[{form(low)}, {form(high)}]" for form in forms if form(low) != form(high)]
    return texts[0] if texts else f"[{forms[-1](low)}, {forms[-1](high)}]"


def brackets_note(resamples: int, unit: str = "identity where known, else video") -> str:
    """What the brackets of a table are, and what was resampled how often.

    >>> brackets_note(2000, "video").replace(chr(160), " ")
    'In brackets: 95 % interval, 2,000 resamples of the video'
    """
    return f"{IN_BRACKETS[:-1]}, {resamples:,} resamples of the {unit}"


def interval_in_100(interval: Sequence[Any] | None) -> str:
    """The interval of a share as counts of 100, for a sentence; empty where there is none.

    >>> interval_in_100([0.85, 0.961]), interval_in_100([0.995, 1.0]), interval_in_100([0.002, 0.03])
    ('95 % interval [85, 96]', '95 % interval [99.5, 100.0]', '95 % interval [0.2, 3]')
    >>> interval_in_100([0.0152, 0.016])
    '95 % interval [1.5, 1.6]'
    """
    text = interval_text(interval, *_point_forms(interval))
    return f"95 % interval {text}" if text else ""


def interval_in_words(interval: Sequence[Any] | None, places: int = 2) -> str:
    """The interval of a number in its own unit, for a sentence; empty where there is none.

    >>> interval_in_words([0.85, 0.961]).replace(chr(160), " "), interval_in_words([0.912, 0.914])[-14:]
    ('95 % interval [0.85, 0.96]', '[0.912, 0.914]')
    """
    forms = [f"{{:.{digits}f}}".format for digits in (places, places + 1, places + 2)]
    text = interval_text(interval, *forms)
    return f"95\u00a0% interval {text}" if text else ""


def value_text(
    value: Any, interval: Sequence[Any] | None = None, *, places: int = 2, plus: bool = False
) -> str:
    """A number with its interval, where it has one.

    >>> value_text(0.913, [0.85, 0.96]), value_text(0.5), value_text(None)
    ('0.91 [0.85, 0.96]', '0.50', 'not enough data')
    """
    forms = [
        lambda number, digits=digits: signed_text(number, digits, plus=plus)
        for digits in (places, places + 1, places + 2)
    ]
    return _with_interval(value, interval, forms[0], *forms)


def metric_text(block: Mapping[str, Any], key: str, places: int = 2, *, plus: bool = False) -> str:
    """The number under a key of a block of metrics, with the interval beside it."""
    return value_text(block.get(key), block.get(f"{key}_ci"), places=places, plus=plus)


def signed_text(value: float, places: int, *, plus: bool = False) -> str:
    """A number with a minus that is one, none before zero, and a plus where asked for.

    >>> signed_text(-0.002, 2), signed_text(-0.12, 2), signed_text(0.12, 2, plus=True)
    ('0.00', '−0.12', '+0.12')
    """
    text = f"{abs(value):.{places}f}"
    if float(text) == 0:
        return text
    return f"{'−' if value < 0 else '+' if plus else ''}{text}"


def percent(value: Any) -> str:
    """A share in whole per cent, with a space that does not break.

    >>> percent(0.123) == "12\\u00a0%"
    True
    """
    return "undefined" if is_missing(value) else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"


def share_text(share: Any, interval: Sequence[Any] | None = None) -> str:
    """A share with its interval in per cent.

    >>> share_text(0.28, [0.11, 0.54]).replace(chr(160), " ")
    '28 % [11, 54]'
    >>> share_text(0.019, [0.0185, 0.0193]).replace(chr(160), " ")
    '1.9 % [1.8, 1.9]'
    """
    forms = [partial(_signed_in_100, places=places) for places in range(4)]
    return _with_interval(share, interval, percent, *forms)


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


def gap_text(gap: Any, interval: Sequence[Any] | None = None) -> str:
    """A gap with its interval in points.

    >>> gap_text(0.12, [0.05, 0.19]), gap_text(0.017, [0.001, 0.03])
    ('12 [5, 19]', '1.7 [0.1, 3]')
    >>> gap_text(0.02, [0.0195, 0.0204]), gap_text(0.026, [0.0255, 0.046])
    ('2 [1.9, 2.0]', '2.6 [2.5, 4.6]')
    """
    return _with_interval(gap, interval, points_only, *_point_forms(interval))


def signed_points(value: Any) -> str:
    """A change in points, with its sign; "0" where it rounds to nothing.

    >>> signed_points(0.031), signed_points(-0.12), signed_points(0.0)
    ('+3.1', '−12', '0')
    """
    if is_missing(value):
        return "–"
    text = points_only(abs(value))
    return text if text == "0" else f"{'+' if value > 0 else '−'}{text}"


def change_text(change: Any, interval: Sequence[Any] | None = None) -> str:
    """A change with its interval in points.

    >>> change_text(0.12, [-0.02, 0.25])
    '+12 [−2, +25]'
    >>> change_text(0.0, [-2e-9, 2e-9])  # of iterations that stop short of 0
    '0 [0, 0]'
    >>> change_text(-0.02, [-0.0204, -0.0195]), change_text(0.02, [0.0195, 0.0204])
    ('−2 [−2.0, −1.9]', '+2 [+1.9, +2.0]')
    """
    return _with_interval(change, interval, signed_points, *_point_forms(interval, plus=True))


def _point_forms(interval: Sequence[Any] | None, *, plus: bool = False) -> Sequence[Callable[[float], str]]:
    """Ways to write the ends of an interval in points, the coarsest that says something first."""
    low, high = ends(interval)
    finer: list[Callable[[float], str]] = [
        partial(_signed_in_100, places=places, plus=plus) for places in (1, 2, 3)
    ]
    away_from_0 = low >= 0.0095 or high <= -0.0095
    if low > 0.99 or (away_from_0 and high - low < 0.015):  # "[100, 100]" would say nothing
        return finer
    coarse = partial(_end_in_points, plus=plus)
    return [coarse, *finer] if finer[-1](low) != finer[-1](high) else [coarse]


def _signed_in_100(end: float, places: int, plus: bool = False) -> str:
    return signed_text(100 * end, places, plus=plus)


def _end_in_points(end: float, plus: bool = False) -> str:
    """The end of an interval of a gap; with decimals near 0, which a difference that is shown leaves out."""
    places = 0
    if 1e-8 < abs(end) < 0.0095:
        places = max(1, ceil(-log10(100 * abs(end))))
    return signed_text(100 * end, places, plus=plus)


def count_in_100(share: float) -> str:
    """A share as a count out of 100, never rounded to none or all.

    >>> count_in_100(0.974), count_in_100(0.998), count_in_100(1.0), count_in_100(0.001)
    ('97', 'more than 99', '100', 'fewer than 1')
    """
    if 0.995 <= share < 1:
        return "more than 99"
    if 0 < share < 0.005:
        return "fewer than 1"
    return f"{100 * share:.0f}"


def fpr_limit(rule: str) -> float:
    """The FPR that a rule of the kind ``fpr:x`` allows; NaN for other rules."""
    kind, _, share = rule.partition(":")
    return float(share) if kind == "fpr" else nan


def rule_text(rule: str) -> str:
    """How a threshold was chosen, in words.

    >>> rule_text("fpr:0.10"), rule_text("fnr:0.05")
    ('at most 10 % of reals called fake', 'at most 5 % of fakes missed')
    """
    kind, _, share = rule.partition(":")
    if kind in ("fpr", "fnr"):
        what = "reals called fake" if kind == "fpr" else "fakes missed"
        return f"at most {100 * float(share):g} % of {what}"
    return RULES[rule][0] if rule in RULES else rule


def rule_name(rule: str) -> str:
    """How a threshold was chosen, for a narrow place.

    >>> rule_name("fpr:0.10"), rule_name("eer"), rule_name("fixed at 0.5, fitted on nothing")
    ('FPR ≤ 10 %', 'errors equal', 'fixed at 0.5')
    """
    kind, _, share = rule.partition(":")
    if kind in ("fpr", "fnr"):
        return f"{kind.upper()} ≤ {100 * float(share):g} %"
    return RULES[rule][1] if rule in RULES else rule.split(",")[0]


def threshold_text(threshold: Mapping[str, Any]) -> str:
    """A threshold with how it was chosen and on what, in words.

    >>> threshold_text({"value": 0.4961, "rule": "eer", "fitted_on": "A, val split"})
    '0.496 (errors of both kinds equal, on A, val split)'
    """
    return f"{number(threshold['value']):.3f} ({threshold_origin(threshold)})"


def threshold_origin(threshold: Mapping[str, Any]) -> str:
    """How a threshold was chosen and on what, in words."""
    where = f", on {threshold['fitted_on']}" if threshold.get("fitted_on") else ""
    return f"{rule_text(str(threshold['rule']))}{where}"


def p_text(value: Any) -> str:
    """A p-value with two digits, never "0".

    >>> p_text(0.00149925), p_text(0.00002), p_text(1.0), p_text(None)
    ('0.0015', '< 0.0001', '1', '–')
    """
    if is_missing(value):
        return "–"
    if value < 1e-4:
        return "< 0.0001"
    # 0.04998 is no 0.05, where that is the border.
    return (
        f"{value:.2g}"
        if value >= 0.05
        else next(text for places in range(2, 18) if float(text := f"{value:.{places}g}") < 0.05)
    )


def name_or_dash(group: Any) -> str:
    """A group's name, or a dash where there is none."""
    return "–" if is_missing(group) else str(group)


def list_names(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> list_names(["A", "B", "C"])
    'A, B and C'
    """
    names = [str(name) for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def capitalise(text: str) -> str:
    """The text with its first letter as a sentence has it, the others as they are."""
    return text[:1].upper() + text[1:]


def _with_interval(
    value: Any,
    interval: Sequence[Any] | None,
    form: Callable[[float], str],
    *end_forms: Callable[[float], str],
) -> str:
    if is_missing(value):
        return NOT_ENOUGH
    text, (low, high) = form(value), ends(interval)
    unit = "\N{NO-BREAK SPACE}%" if text.endswith("%") else ""
    forms = [end for end in end_forms or (form,) if end(low) != end(high)]
    # Ends that are rounded more than the value must not leave it out ("2.6 [3, 5]"), nor those rounded less.
    fit = [end for end in forms if _read(end(low)) <= _read(text.removesuffix(unit)) <= _read(end(high))]
    if forms and not fit:
        text = forms[0](value) + unit
    return f"{text} {interval_text(interval, *(fit or forms or end_forms or (form,)))}".rstrip()


def _read(text: str) -> float:
    return float(text.replace("−", "-"))
