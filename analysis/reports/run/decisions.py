"""What stored thresholds do on each dataset, what was expected, and both in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, isnan, nan

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.dots import Dot, DotDisplay
from unmasked.analysis.reports.run.folder import Run
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import count_in_100, ends, fpr_limit, list_names, rule_name

LEAST_FPR_SHOWN = 0.2


@dataclass(frozen=True)
class Realised:
    """What one threshold does on one dataset; NaN where undefined or not known."""

    rule: str  # how the threshold was chosen, in few words
    dataset: str
    threshold: float
    expected: float  # what the rule allows, else the rate where it was chosen
    value: float
    low: float
    high: float
    n: int


def operating_points(run: Run, name: str) -> list[Measures]:
    """What each stored threshold does on a dataset, the first as `evaluate` had it, 0.5 last."""
    video = run.metrics["datasets"][name]["video"]
    # The threshold has rates of its own, those of the rows that it was chosen on: the dataset's come last.
    first: Measures = video.get("at_threshold", {**run.metrics["settings"]["threshold"], **video})
    points = {first["rule"]: first}
    for point in video.get("at_thresholds", {}).values():
        points.setdefault(point["rule"], point)
    if "at_half" in video:
        points.setdefault(video["at_half"]["rule"], video["at_half"])
    return sorted(points.values(), key=_strictness)


def _strictness(point: Measures) -> tuple[int, float]:
    """FPR rules from lenient to strict, then the balances, then what was fitted on nothing."""
    limit = fpr_limit(point["rule"])
    if not isnan(limit):
        return 0, -limit
    return (1 if point["fitted_on"] else 2), 0.0


def expected_rate(run: Run, rule: str, rate: str) -> float:
    """The rate that a rule allows, else its rate on calibration rows; NaN if unknown."""
    limit = fpr_limit(rule)
    if rate == "fpr" and not isnan(limit):
        return limit
    settings = run.metrics["settings"]["threshold"]
    fitted: Measures = settings if settings["rule"] == rule else run.thresholds.get(rule, {})
    return fitted.get(rate, nan) if fitted.get("fitted_on") else nan


def list_realised(run: Run, rate: str) -> list[Realised]:
    """Each stored threshold on each dataset, rules in the order of `operating_points`."""
    kind = {"fpr": "real_videos", "tpr": "fake_videos"}[rate]
    found = []
    for name in run.datasets:
        sizes: Measures = run.metrics["datasets"][name]["n"]
        for order, point in enumerate(operating_points(run, name)):
            low, high = ends(point[f"{rate}_ci"])
            before = expected_rate(run, point["rule"], rate)
            value, label, n = point[rate], rule_name(point["rule"]), sizes[kind]
            found.append((order, Realised(label, name, point["value"], before, value, low, high, n)))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def display_realised(found: Sequence[Realised], rate: str) -> DotDisplay:
    """A block of dots for each rule, one a dataset, beside what was to be expected."""
    colours = group_colours(one.dataset for one in found)
    dots = [
        Dot(one.dataset, one.value, one.low, one.high, f"{one.n:,}", colours[one.dataset], block=one.rule)
        for one in found
    ]
    quantity = {"fpr": "share of real videos called fake", "tpr": "share of fake videos found"}[rate]
    reached = [value for one in found for value in (one.value, one.high, one.expected) if not isnan(value)]
    # Limits on the FPR lie close to 0, where an axis up to 1 has no room for them.
    end = 1.0 if rate == "tpr" else max(LEAST_FPR_SHOWN, ceil(max(reached, default=0.0) * 20) / 20)
    expected = {one.rule: one.expected for one in found}
    return DotDisplay(dots, quantity, expected=expected, n_of="videos", end=min(end, 1.0))


def broken_promises(run: Run) -> Iterator[str]:
    """A sentence for each limit on the FPR that is surely exceeded somewhere."""
    limits = {rule_name(rule): fpr_limit(rule) for rule in _rules(run)}
    for rule, limit in limits.items():
        over = [one for one in list_realised(run, "fpr") if one.rule == rule and one.low > limit]
        if over:
            where = list_names([f"{count_in_100(one.value)} on {one.dataset}" for one in over])
            yield f"Chosen to call at most {count_in_100(limit)} of 100 reals fake, it calls {where}."


def lost_fakes(run: Run) -> str:
    """How many fakes the first threshold finds, where that is surely fewer than on the source."""
    rule = rule_name(run.metrics["settings"]["threshold"]["rule"])
    found = {one.dataset: one for one in list_realised(run, "tpr") if one.rule == rule}
    if run.source is None:
        return ""
    source = found[run.source]
    below = [one for one in found.values() if one.high < source.low]
    if not below:
        return ""
    where = list_names([f"{count_in_100(one.value)} on {one.dataset}" for one in below])
    return (
        f"At the same score (rule: {rule}) it finds {count_in_100(source.value)} of 100 fakes on "
        f"{source.dataset}, "
        f"but {where}."
    )


def _rules(run: Run) -> list[str]:
    return list(
        dict.fromkeys(point["rule"] for name in run.datasets for point in operating_points(run, name))
    )
