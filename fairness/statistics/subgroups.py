"""The combination of groups that is got wrong most, with a p-value that counts the search.

Every group and every crossing of the attributes is held against everybody else, by the difference of their
rates in standard errors as `pairs` has it. The largest over all subgroups and both classes is held against
the largest that appears when people, with all their attributes, are shuffled within strata of class
composition. One critical value gives p-value, interval and chance level, as for a pair of groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import ndtri

from unmasked.fairness.groups import CROSS, UNKNOWN
from unmasked.fairness.records import Subgroup, SubgroupScan
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.metrics import count_units
from unmasked.fairness.statistics.pairs import TIE, PairTest, z_between
from unmasked.fairness.statistics.resampling import kinds, permuted_sums, strata, weigh
from unmasked.fairness.statistics.shuffling import COLUMNS_OF, TESTED_OF

LEVEL = 0.05
MAX_CELLS = 500  # people of one value in every attribute
MAX_SUBGROUPS = 5000
SHOWN = 5
POWER = 0.8


@dataclass(frozen=True)
class _Members:
    """The subgroups that are searched.

    Attributes:
        parts: of each the attributes and their values.
        inside: (S, C) boolean, is a cell (one value in every attribute) in the subgroup.
    """

    parts: list[tuple[tuple[str, ...], tuple[str, ...]]]
    inside: np.ndarray


def scan(
    label: np.ndarray,
    called: np.ndarray,
    cluster: np.ndarray,
    groups: pd.DataFrame,
    settings: Settings,
    rng: np.random.Generator,
) -> SubgroupScan | None:
    """The subgroups that are got wrong most; None where there are fewer than two attributes.

    Args:
        label: (N,) 0 = real, 1 = fake.
        called: (N,) boolean, called fake.
        cluster: (N,) codes of the person or video.
        groups: (N, K) names; columns that are crossings are made anew, rows with an unknown value in any
            of the attributes are in no subgroup and not among the others.
        settings: of the audit: a subgroup, and those outside it, need its ``min_clusters``.
        rng: source of randomness.
    """
    attributes, left_out = _attributes(groups)
    if len(attributes) < 2:
        return None
    known = (groups[attributes] != UNKNOWN).all(axis=1).to_numpy()
    cell, cells = _cells(groups.loc[known, attributes])
    stride = int(cluster.max(initial=0)) + 1
    unit, pairs = pd.factorize(cell * stride + cluster[known])
    of_unit = pairs // stride
    counts = count_units(label[known], called[known], unit, len(of_unit))
    depth, members = _subgroups(cells, attributes)
    tests, null = _tests(counts, of_unit, members, settings, rng)
    head: SubgroupScan = {
        "attributes": attributes,
        "left_out": left_out,
        "depth": depth,
        "searched": len(tests),
        "units": len(of_unit),
        "found": [],
    }
    worse = sorted((one for one in tests if one.z > 0), key=lambda one: -one.z)
    head["found"] = [_record(one, members.parts[one.place], null) for one in worse[:SHOWN]]
    return head


@dataclass(frozen=True)
class _Compared:
    """A subgroup beside everybody else, in one class."""

    place: int
    metric: str
    share: np.ndarray  # (2,) of events: reals called fake, fakes missed
    weight: np.ndarray  # (2,)
    people: tuple[int, int]
    z: float


def _attributes(groups: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The attributes that are crossed, in order, while their cells are not too many; and the others."""
    chosen: list[str] = []
    left_out: list[str] = []
    cells = 1
    for name in (name for name in groups.columns if CROSS not in name):
        size = groups[name].nunique()
        if cells * size <= MAX_CELLS:
            chosen.append(name)
            cells *= size
        else:
            left_out.append(name)
    return chosen, left_out


def _cells(groups: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(N,) code of each row's values in all attributes together, and (C, K) the values."""
    code = np.zeros(len(groups), dtype=np.int64)
    names = []
    for column in groups.columns:
        own, values = pd.factorize(groups[column].to_numpy(dtype=object))
        names.append(values)
        code = code * len(values) + own
    of_row, present = pd.factorize(code)
    places = np.unravel_index(present, tuple(len(values) for values in names))
    return of_row, np.array([values[at] for values, at in zip(names, places, strict=True)], dtype=object).T


def _subgroups(cells: np.ndarray, attributes: Sequence[str]) -> tuple[int, _Members]:
    """How many attributes are crossed at most, and the subgroups; one that is another's equal is left out."""
    for depth in range(len(attributes), 0, -1):
        parts, inside, seen = [], [], set()
        for columns, values, member in _all_subgroups(cells, depth):
            # All dark-skinned people may be old: "dark" and "dark × old" are the same people then.
            key = member.tobytes()
            if member.all() or key in seen:
                continue
            seen.add(key)
            parts.append((tuple(attributes[at] for at in columns), values))
            inside.append(member)
        if len(parts) <= MAX_SUBGROUPS or depth == 1:
            break
    return depth, _Members(parts, np.array(inside, dtype=bool).reshape(len(parts), len(cells)))


def _all_subgroups(
    cells: np.ndarray, depth: int
) -> Iterator[tuple[tuple[int, ...], tuple[str, ...], np.ndarray]]:
    """Attributes, values and (C,) member cells of every subgroup, those of few attributes first."""
    for size in range(1, depth + 1):
        for columns in combinations(range(cells.shape[1]), size):
            chosen = cells[:, list(columns)]
            for values in sorted(set(map(tuple, chosen.tolist()))):
                yield columns, values, (chosen == np.array(values, dtype=object)).all(axis=1)


def _tests(
    counts: np.ndarray, of_unit: np.ndarray, members: _Members, settings: Settings, rng: np.random.Generator
) -> tuple[list[_Compared], np.ndarray]:
    """Every subgroup of enough people against everybody else, in both classes.

    And the largest |z| over all of them in each shuffle, from high to low.
    """
    null = np.zeros(settings.n_perm)
    if not len(counts) or not len(members.parts):
        return [], null
    size = members.inside.shape[1]
    rows, of_kind = kinds(counts)
    weighed = {kind: weigh(rows, of_kind, list(columns)) for kind, columns in COLUMNS_OF.items()}
    table = np.column_stack([part for held, called in weighed.values() for part in (held, called)])
    # Both classes are shuffled together, so that the largest over both has the right law.
    shuffled = permuted_sums(table, of_kind, of_unit, strata(counts), settings.n_perm, rng)
    observed = np.stack(
        [np.bincount(of_unit, weights=column[of_kind], minlength=size) for column in table.T], axis=1
    )
    found = []
    for place, (kind, columns) in enumerate(COLUMNS_OF.items()):
        has = counts[:, list(columns)].sum(axis=1) > 0
        people = np.bincount(of_unit[has], minlength=size)
        metric, at = TESTED_OF[kind], slice(2 * place, 2 * place + 2)
        sides, drawn_sides = (_two_sides(sums[..., at], members.inside) for sums in (observed, shuffled))
        for number, inside in enumerate(members.inside):
            among = int(people[inside].sum()), int(people[~inside].sum())
            if min(among) < settings.min_clusters:
                continue
            weight, share = (one[..., number] for one in sides)
            drawn_weight, drawn_share = (one[..., number] for one in drawn_sides)
            null = np.maximum(null, np.abs(z_between(drawn_share, drawn_weight)))
            if metric == "tpr":  # the event is a fake that is missed
                share = 1 - share
            z = float(z_between(share, weight))
            found.append(_Compared(number, metric, share, weight, among, z))
    return found, np.sort(null)[::-1]


def _two_sides(sums: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(2, …, S) weight and share of each subgroup and of everybody else, from (…, C, 2) sums.

    A subgroup or its others without anybody of the class have NaN.
    """
    of_cell = np.moveaxis(sums, -1, 0)  # (2, …, C): weight, and weight of what is called fake
    within = of_cell @ inside.T.astype(np.float64)
    both = np.stack([within, of_cell.sum(axis=-1, keepdims=True) - within])
    held, called = both[:, 0], both[:, 1]
    return held, np.divide(called, held, out=np.full_like(held, np.nan), where=held > 1e-9)


def _record(one: _Compared, parts: tuple[tuple[str, ...], tuple[str, ...]], null: np.ndarray) -> Subgroup:
    p_value = float((1 + (null**2 >= one.z**2 - TIE).sum()) / (1 + len(null)))
    attributes, values = (CROSS.join(part) for part in parts)
    p_pairs = np.array([[1, p_value], [p_value, 1]])
    test = PairTest([values, "everybody else"], one.share, one.weight, null**2 + TIE, p_pairs)
    critical = test.critical(LEVEL, 0, 1)
    low, high = test.limits(0, 1, critical)
    # One test of two groups, no search: how many times as many people make its z large enough.
    # Sums of weights leave a difference of nothing at 1e-17: no number of people would show it.
    is_nothing = min(abs(one.z), abs(one.share[0] - one.share[1])) < TIE
    times = np.nan if is_nothing else ((-ndtri(0.025) + ndtri(POWER)) / one.z) ** 2
    return {
        "attribute": attributes,
        "group": values,
        "metric": one.metric,
        "people": one.people[0],
        "others": one.people[1],
        "rate": float(one.share[0]),
        "rate_of_others": float(one.share[1]),
        "difference": float(one.share[0] - one.share[1]),
        "ci_low": low,
        "ci_high": high,
        "chance": test.chance(0, 1, critical),
        "p_value": p_value,
        "people_to_confirm": float(np.ceil(one.people[0] * times)),
    }
