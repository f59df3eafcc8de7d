"""How many people it takes to find a difference, and what a table can find.

Studies are simulated and tested as an audit tests them, at several sizes; the share of them that names the
group that is worse off rises with the root of the size as a normal distribution does, and the size where it
is large enough is read off that curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from unmasked.datasets.errors import InputError
from unmasked.fairness.result import Audit, rows_of
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.comparisons import ALPHA, TESTED, detectable
from unmasked.fairness.statistics.metrics import needs
from unmasked.fairness.statistics.resampling import intraclass_correlation
from unmasked.fairness.statistics.shuffling import compare_class
from unmasked.fairness.statistics.simulation import draw_rates

# Of the size that is expected to do: the sizes that are simulated.
SIZES = (0.45, 0.6, 0.8, 1.0, 1.25, 1.6, 2.1)
# Permutations of a simulated study, and at least so many for each comparison that is corrected for.
PERMUTATIONS, PER_COMPARISON = 1000, 100
MOST_VIDEOS = 5_000_000


@dataclass(frozen=True)
class Study:
    """What is looked for, in whom. All videos are of one class, real or fake.

    Attributes:
        gap: how much more often the detector errs on the group that is worse off, above 0.
        rate: how often it errs on everybody else.
        shares: group -> share of the people, adding up to 1.
        videos_per_person: each is decided once.
        correlation: of the decisions on one person's videos, in [0, 1).
        comparisons: how many tests are corrected for (Holm); this one is held against the strictest level.
        min_clusters: people that a group needs to be compared.
    """

    gap: float
    rate: float
    shares: Mapping[str, float]
    videos_per_person: int = 1
    correlation: float = 0.5
    comparisons: int = 1
    min_clusters: int = Settings.min_clusters

    def __post_init__(self) -> None:
        """Refuses what no study can be.

        Raises:
            InputError: fewer than two groups, shares that do not add up to 1, or a rate above 1.
        """
        if len(self.shares) < 2:
            raise InputError("a difference needs two groups; give groups={women: 0.5, men: 0.5}")
        total = sum(self.shares.values())
        if min(self.shares.values()) <= 0 or abs(total - 1) > 0.011:
            raise InputError(
                f"the shares of the groups are to be above 0 and add up to 1; they are {total:g}"
            )
        if self.rate < 0 or self.gap <= 0 or self.rate + self.gap > 1:
            raise InputError(
                f"a rate of {self.rate:g} and {self.gap:g} more is no share of videos; give rate=0.1 gap=0.1"
            )

    def sizes(self, people: int) -> np.ndarray:
        """(J,) how many of so many people are of each group."""
        wanted = np.array(list(self.shares.values())) / sum(self.shares.values()) * people
        found = np.floor(wanted).astype(np.int64)
        # The largest remainders get the people that are left.
        found[np.argsort(found - wanted)[: people - int(found.sum())]] += 1
        return found

    @property
    def fewest(self) -> int:
        """With fewer people some group is too small to be compared."""
        return int(np.ceil(self.min_clusters * sum(self.shares.values()) / min(self.shares.values()) - 1e-9))


@dataclass(frozen=True)
class Point:
    """How many of the studies of one size found the difference."""

    people: int
    videos: int
    power: float
    standard_error: float


@dataclass(frozen=True)
class Need:
    """How many people find it out that one group is worse off.

    ``people`` is NaN where no study of a possible size does. ``power`` is what the curve says of that size.
    ``error`` is half of the 95 % interval that the number of simulated studies leaves of ``people``; NaN
    where the smallest study that can be compared is enough.
    """

    worse: str
    people: float
    people_of_group: float
    videos: float
    power: float
    error: float = np.nan
    curve: list[Point] = field(default_factory=list)


def people_needed(
    study: Study, worse: str, *, power: float = 0.8, studies: int = 400, random_state: int = 0
) -> Need:
    """How many people it takes to find that ``worse`` is worse off.

    Args:
        study: what is looked for.
        worse: the group that is worse off.
        power: share of studies that are to find it.
        studies: simulated at each size.
        random_state: seed.
    """
    rng = np.random.default_rng(random_state)
    guess, curve = _expected_people(study, worse, power), dict[int, Point]()
    for _ in range(4):
        if guess * study.videos_per_person > MOST_VIDEOS:
            points = sorted(curve.values(), key=_people_of)
            return Need(worse, np.nan, np.nan, np.nan, np.nan, curve=points)
        for size in dict.fromkeys(max(study.fewest, round(guess * factor)) for factor in SIZES):
            if size not in curve:
                curve[size] = simulate(study, worse, size, studies=studies, rng=rng)
        points = sorted(curve.values(), key=_people_of)
        guess = _read_curve(points, power)
        if points[0].power >= power and points[0].people == study.fewest:
            guess = study.fewest
        if points[0].people <= guess <= points[-1].people:
            break
    people = max(study.fewest, _two_digits(guess))
    reached = float(ndtr(_line(points) @ (1.0, np.sqrt(people))))
    own = int(study.sizes(people)[list(study.shares).index(worse)])
    error = np.nan if people == study.fewest else _error_of_people(points, people, studies)
    return Need(worse, people, own, people * study.videos_per_person, reached, error, points)


def needs_by_group(study: Study, **given: Any) -> list[Need]:
    """`people_needed` of every group that may be the one worse off, in order.

    Groups of one share pose the same question, and have one answer.

    Args:
        study: what is looked for.
        given: power, studies, random_state.
    """
    found: dict[float, Need] = {}
    for worse, share in study.shares.items():
        if share not in found:
            found[share] = people_needed(study, worse, **given)
    return [replace(found[share], worse=worse) for worse, share in study.shares.items()]


def simulate(study: Study, worse: str, people: int, *, studies: int, rng: np.random.Generator) -> Point:
    """How many of the studies of so many people name ``worse`` as the group that is worse off."""
    sizes = study.sizes(people)
    settings = Settings(n_perm=max(PERMUTATIONS, PER_COMPARISON * study.comparisons))
    names, at = list(study.shares), list(study.shares).index(worse)
    kept = np.flatnonzero(sizes >= study.min_clusters)
    group = np.repeat(np.arange(len(names)), sizes)
    rate = np.where(group == at, study.rate + study.gap, study.rate)
    correlation = study.correlation if study.videos_per_person > 1 else 0.0
    found = 0
    for _ in range(studies if at in kept and len(kept) > 1 else 0):
        own = draw_rates(rate, np.arange(len(group)), correlation, rng)
        events = rng.binomial(study.videos_per_person, own)
        none = np.zeros_like(events)
        counts = np.stack([study.videos_per_person - events, events, none, none], axis=1)
        chosen = [names[code] for code in kept]
        _, test = compare_class(counts, group, kept, chosen, "real", settings, rng)
        found += test.names[test.widest[0]] == worse and test.p_value < ALPHA / study.comparisons
    share = float(found / studies)
    error = float(np.sqrt(max(share * (1 - share), 0.25 / studies) / studies))
    return Point(people, people * study.videos_per_person, share, error)


def study_of_table(audit: Audit, attribute: str, metric: str, gap: float) -> Study | None:
    """The study of an audited table's kind: its groups, its rate of errors, its people.

    None where fewer than two groups are compared, or the rate leaves no room for the gap.

    Args:
        audit: by this attribute.
        attribute, metric: what is compared, fpr or tpr.
        gap: that is looked for.
    """
    (kind,) = needs(metric)
    compared = audit.in_gap.loc[attribute][metric]
    support = audit.support.loc[attribute][compared]
    rows, groups = rows_of(audit)
    label = 0 if metric == "fpr" else 1
    member = (rows.label == label) & groups[attribute].isin(support.index).to_numpy()
    if len(support) < 2 or not member.any():
        return None
    is_called_fake = rows.score[member] > audit.settings.threshold
    unit, _ = pd.factorize(rows.cluster[member])
    count, errors = np.bincount(unit), np.bincount(unit, weights=is_called_fake != label)
    rate = float(errors.sum() / count.sum())
    if rate + gap > 1:
        return None
    people = support[f"{kind}_clusters"]
    tests = audit.tests["p_value"].notna().sum()
    return Study(
        gap,
        rate,
        (people / people.sum()).to_dict(),
        videos_per_person=max(1, round(float(count.mean()))),
        correlation=min(0.99, intraclass_correlation(count, errors)) if count.max() > 1 else 0.0,
        comparisons=int(tests),
        min_clusters=audit.settings.min_clusters,
    )


def detectable_differences(audit: Audit, power: float = 0.8) -> pd.DataFrame:
    """For every pair of compared groups the difference that so many studies of this size find.

    Columns attribute, metric, group_a, group_b, share_a, share_b, detectable (NaN where none is found so
    surely); corrected for all tests of the audit.
    """
    found = []
    family = int(audit.tests["p_value"].notna().sum())
    keys = zip(audit.tests["attribute"], audit.tests["metric"], audit._pair_tests, strict=True)
    for attribute, metric, test in keys:
        if test is None or metric not in TESTED:
            continue
        for high, low in combinations(range(len(test.names)), 2):
            found.append(
                {
                    "attribute": attribute,
                    "metric": metric,
                    "group_a": test.names[high],
                    "group_b": test.names[low],
                    "share_a": float(test.share[high]),
                    "share_b": float(test.share[low]),
                    "detectable": detectable(test, high, low, family, power),
                }
            )
    names = ["attribute", "metric", "group_a", "group_b", "share_a", "share_b", "detectable"]
    return pd.DataFrame(found, columns=names)


def _expected_people(study: Study, worse: str, power: float) -> float:
    """The size that a normal approximation of the worse group and the largest other asks for."""
    others = {name: share for name, share in study.shares.items() if name != worse}
    pairs = len(study.shares) * (len(study.shares) - 1) / 2
    z = -ndtri(ALPHA / 2 / study.comparisons / pairs) + ndtri(power)
    apart = np.arcsin(np.sqrt(study.rate + study.gap)) - np.arcsin(np.sqrt(study.rate))
    videos = study.videos_per_person
    rows = videos / (1 + (videos - 1) * study.correlation)  # independent ones that a person is worth
    inverse = 1 / study.shares[worse] + 1 / max(others.values())
    return max(study.fewest, float((z / apart) ** 2 / 4 * inverse / rows))


def _line(points: list[Point]) -> np.ndarray:
    """(2,) intercept and slope of the probit of the power over the root of the people, weighted."""
    table, probit, weight = _probits(points)
    if len(points) == 1:
        return np.array([probit[0], 0.0])
    return np.linalg.lstsq(table * weight[:, None], probit * weight, rcond=None)[0]


def _probits(points: list[Point]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(J, 2) 1 and the root of the people; (J,) probit of the power; (J,) 1 / its error in one study."""
    root = np.sqrt([point.people for point in points])
    share = np.clip([point.power for point in points], 0.002, 0.998)
    probit = ndtri(share)
    # The variance of a probit of a share, by the delta method.
    weight = np.exp(-(probit**2) / 2) / np.sqrt(2 * np.pi * share * (1 - share))
    return np.stack([np.ones_like(root), root], axis=1), probit, weight


def _error_of_people(points: list[Point], people: int, studies: int) -> float:
    """Half of the 95 % interval of the people at which the curve reaches a power, by the delta method.

    NaN where the curve does not rise.
    """
    table, _, weight = _probits(points)
    slope = _line(points)[1]
    if len(points) == 1 or slope <= 0:
        return float("nan")
    weighted = table * weight[:, None] * np.sqrt(studies)
    at = np.array([1.0, np.sqrt(people)])
    of_probit = np.sqrt(at @ np.linalg.inv(weighted.T @ weighted) @ at)
    return float(1.96 * of_probit / slope * 2 * np.sqrt(people))


def _read_curve(points: list[Point], power: float) -> float:
    """The people at which the curve reaches a power; twice the most where it does not rise."""
    intercept, slope = _line(points)
    largest = points[-1].people
    if slope <= 0:
        return 2.0 * largest
    return float(np.clip((ndtri(power) - intercept) / slope, 0, 3 * np.sqrt(largest)) ** 2)


def _two_digits(number: float) -> int:
    """The number rounded up to two digits."""
    digit = 10 ** max(0, int(np.floor(np.log10(max(number, 1)))) - 1)
    return int(np.ceil(number / digit - 1e-9) * digit)


def _people_of(point: Point) -> int:
    return point.people
