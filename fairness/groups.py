"""Who belongs to which group: the columns an audit slices by, cleaned and checked.

Three rules hold throughout. A missing value is a group called "unknown" that is listed but stays outside
every gap. A crossed attribute is one more column whose values are joined by " × ". A unit that is
resampled (a person or a video) belongs to one group.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import inf
from typing import Any, Literal

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError, did_you_mean
from unmasked.datasets.vocabulary import is_not_told

UNKNOWN = "unknown"
CROSS = " × "
MAX_GROUPS = 50
MAX_CROSSINGS = 10
SKIN_TONE = "skin_tone"
SKIN_TONE_GROUP = "skin_tone_group"

# Monk scale 1-10 in the three groups of Heldreth et al. 2024 (ACM JRC), which AI-Face uses as well.
MONK_BINS = (0, 3, 6, 10)
MONK_GROUPS = ("light", "medium", "dark")

# The order in which people expect to read groups; all others are sorted by name.
AGES = ("child", "youth", "young", "adult", "middle", "middle-aged", "senior", "old")
ORDER = ("female", "male", *AGES, *MONK_GROUPS)


def skin_tone_groups(tones: pd.Series) -> pd.Series:
    """Monk skin tones 1 to 10 as "light" (1-3), "medium" (4-6) or "dark" (7-10).

    Missing stays missing.

    Raises:
        InputError: a tone that is no number between 1 and 10.

    >>> skin_tone_groups(pd.Series([1, 3, 4, 10])).tolist()
    ['light', 'light', 'medium', 'dark']
    """
    numbers = pd.to_numeric(tones, errors="coerce")
    wrong = tones[(tones.notna() & numbers.isna()) | (numbers < 1) | (numbers > 10)]
    if len(wrong):
        raise InputError(
            f"column {tones.name!r} holds {wrong.iloc[0]!r}; skin tones are numbers from 1 to 10 on the "
            "Monk scale. If the values are groups already, call the column skin_tone_group"
        )
    binned = pd.cut(numbers, bins=list(MONK_BINS), labels=list(MONK_GROUPS))
    return binned.astype(object).rename(SKIN_TONE_GROUP)


def group_columns(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The groups of every row, a text column for each attribute; missing is "unknown".

    Args:
        table: predictions (or any table) with the attributes as columns.
        by: column names. ``skin_tone`` (Monk scale, numbers) becomes the column ``skin_tone_group``.
            ``"gender × skin_tone"`` or ``"gender*skin_tone"`` is the crossing of two columns.

    Raises:
        InputError: nothing to group by, an attribute that is not a column, or one that stands twice.
    """
    by = [by] if isinstance(by, str) else list(by)
    if not by:
        raise InputError(
            f"no attribute to group by; give at least one column of {_names_text(table.columns)}"
        )
    columns: dict[str, pd.Series] = {}
    for name in by:
        parts = [_group_column(table, part.strip()) for part in re.split(r"[*×]|\s+x\s+", name)]
        column = parts[0] if len(parts) == 1 else cross(*parts)
        if column.name in columns:
            raise InputError(f"attribute {column.name!r} stands twice in by={by}; give it once")
        columns[str(column.name)] = column
    return pd.DataFrame(columns, index=table.index)


def as_columns(
    sensitive_features: Any,
    n_rows: int,
    role: Literal["sensitive_feature", "control_feature"] = "sensitive_feature",
) -> pd.DataFrame:
    """Sensitive features, in any of fairlearn's forms, as a table; missing is "unknown".

    Args:
        sensitive_features: Series, DataFrame, mapping of name to values, list or array (N,) or (N, K).
            Unnamed columns are called ``sensitive_feature_0``, … as in fairlearn.
        n_rows: the number of rows that is expected.
        role: what they are called where they have no name of their own.

    Raises:
        InputError: another number of rows, or no column at all.
    """
    if isinstance(sensitive_features, pd.DataFrame):
        table = sensitive_features
    elif isinstance(sensitive_features, pd.Series):
        table = sensitive_features.to_frame(sensitive_features.name or f"{role}_0")
    elif isinstance(sensitive_features, Mapping):
        _check_lengths({str(name): len(values) for name, values in sensitive_features.items()}, n_rows)
        table = pd.DataFrame({name: np.asarray(values) for name, values in sensitive_features.items()})
    else:
        values = np.asarray(sensitive_features, dtype=object)
        table = pd.DataFrame(values.reshape(len(values), -1))
        table.columns = [f"{role}_{number}" for number in range(table.shape[1])]
    _check_lengths({f"{role}s": len(table)}, n_rows)
    if table.shape[1] == 0:
        raise InputError(f"{role}s has no column; give one column for each attribute")
    return pd.DataFrame({str(name): group_names(table[name]) for name in table.columns}).reset_index(
        drop=True
    )


def cross(*columns: pd.Series) -> pd.Series:
    """The crossing of group columns, "female × dark"; unknown where one of them is.

    >>> cross(pd.Series(["female"], name="gender"), pd.Series(["dark"], name="tone")).tolist()
    ['female × dark']
    """
    codes, names = pd.factorize(columns[0].to_numpy(dtype=object))
    for column in columns[1:]:
        # Text is joined once for each pair of groups, not once a row. Of two groups crossed with three, pair
        # (1, 2) is 1 * 3 + 2 = 5, which divides into 1 and 2 again.
        others, other_names = pd.factorize(column.to_numpy(dtype=object))
        codes, pairs = pd.factorize(codes * len(other_names) + others)
        left, right = names[pairs // len(other_names)], other_names[pairs % len(other_names)]
        names = np.array(
            [UNKNOWN if UNKNOWN in pair else CROSS.join(pair) for pair in zip(left, right, strict=True)],
            dtype=object,
        )
    name = CROSS.join(str(column.name) for column in columns)
    return pd.Series(names[codes], index=columns[0].index, name=name, dtype=object)


def crossings(
    groups: pd.DataFrame, intersections: Literal["pairs"] | Sequence[Sequence[str]] | None = "pairs"
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The crossed columns that an audit adds, and which ones it leaves out and why.

    "pairs" crosses every two attributes in their order, at most `MAX_CROSSINGS`, as each is tested and so
    costs all others power. Left out are pairs with more than `MAX_GROUPS` groups and those that say nothing
    new, because one attribute is a coarser version of the other. A column that is a crossing already is
    not crossed again.

    Args:
        groups: group names, a column for each attribute.
        intersections: "pairs", the combinations to cross as lists of column names, or None.

    Raises:
        InputError: a combination of one column only, or of one that is not there.
    """
    chosen = _combinations(groups, intersections)
    left_out: dict[str, str] = {}
    columns: dict[str, pd.Series] = {}
    for parts in chosen:
        column = cross(*(groups[part] for part in parts))
        name, found = str(column.name), set(column.unique()) - {UNKNOWN}
        nested = [part for part in parts if len(found) <= _count_known(column, groups[part])]
        if intersections == "pairs" and nested:
            left_out[name] = f"each group of {nested[0]} is in one group of the other: it says nothing new"
        elif intersections == "pairs" and len(found) > MAX_GROUPS:
            left_out[name] = f"{len(found)} groups, at most {MAX_GROUPS} can be compared"
        elif intersections == "pairs" and len(columns) == MAX_CROSSINGS:
            left_out[name] = f"only {MAX_CROSSINGS} pairs are crossed; give intersections= to choose them"
        elif name not in groups:
            columns[name] = column
    return pd.DataFrame(columns, index=groups.index), left_out


def _combinations(
    groups: pd.DataFrame, intersections: Literal["pairs"] | Sequence[Sequence[str]] | None
) -> list[tuple[str, ...]]:
    if intersections is None:
        return []
    if isinstance(intersections, str):
        if intersections != "pairs":
            raise InputError(
                f"intersections={intersections!r} is not known; give 'pairs', lists of columns, or None"
            )
        return list(combinations([name for name in groups.columns if CROSS not in name], 2))
    chosen = [tuple(parts) for parts in intersections]
    for parts in chosen:
        if absent := [part for part in parts if part not in groups]:
            raise InputError(
                f"intersections names {absent[0]!r}, which is no sensitive feature; there are "
                f"{_names_text(groups.columns)}"
            )
        if isinstance(parts, str) or len(parts) < 2:
            raise InputError(f"intersections has {parts}; give two columns or more to cross")
    return chosen


def _count_known(crossed: pd.Series, part: pd.Series) -> int:
    """How many groups of one attribute are left where the crossing is known."""
    return part[crossed != UNKNOWN].nunique()


def group_names(values: pd.Series) -> pd.Series:
    """Group values as text: whole numbers without ".0", anything missing as "unknown"."""
    # A million rows have a handful of values: text is made of those, and rows look theirs up.
    codes, distinct = pd.factorize(values, use_na_sentinel=True)
    named = pd.Series(distinct)
    if pd.api.types.is_float_dtype(named) and (named == named.round()).all():
        named = named.astype("Int64")
    text = named.astype(object).astype(str).str.strip()
    text = text.mask(text.map(is_not_told).astype(bool), UNKNOWN)
    # The last name is for code -1, which is a missing value.
    names = np.array([*text, UNKNOWN], dtype=object)
    return pd.Series(names[codes], index=values.index, name=values.name, dtype=object)


def order_groups(groups: Sequence[str]) -> list[str]:
    """Groups in reading order: known scales, ages by years, others by name, "unknown" last.

    >>> order_groups(["unknown", "dark", "light"]), order_groups(["30 to 49", "50 and over", "under 30"])
    (['light', 'dark', 'unknown'], ['under 30', '30 to 49', '50 and over'])
    """
    rank = {name: number for number, name in enumerate(ORDER)}

    def place(part: str) -> tuple[int, float, str]:
        years = re.fullmatch(r"(under )?(\d+)( to \d+| and over)?", part)
        number = float(years[2]) - 0.5 * bool(years[1]) if years else inf
        return rank.get(part, len(rank)), number, part

    def key(group: str) -> tuple:
        return (group == UNKNOWN, *map(place, group.split(CROSS)))

    return sorted(set(groups), key=key)


def check_groups(
    groups: pd.DataFrame, label: np.ndarray, clusters: np.ndarray, unit: str = "cluster"
) -> None:
    """Raises InputError for an attribute that no audit can use.

    That is: nobody known, one group only, more than 50 groups, the label itself under another name, or
    a unit of resampling (``unit`` names it: video, identity, cluster) that is in two groups.
    """
    for attribute in groups.columns:
        codes, names = pd.factorize(groups[attribute].to_numpy(dtype=object))
        known = (names != UNKNOWN)[codes]
        check_values(attribute, names[names != UNKNOWN])
        _check_not_the_label(attribute, codes[known], label[known], names)
        check_one_group(attribute, groups[attribute].to_numpy()[known], clusters[known], unit)


def _check_not_the_label(attribute: str, codes: np.ndarray, label: np.ndarray, names: np.ndarray) -> None:
    """Raises where every group is in one class and a class is a single group: real against the methods."""
    of_class = [set(names[np.unique(codes[label == which])]) for which in (0, 1)]
    if of_class[0] & of_class[1] or min(map(len, of_class)) != 1:
        return
    single = 0 if len(of_class[0]) == 1 else 1
    raise InputError(
        f"attribute {attribute!r} is the label itself: its group {of_class[single].pop()!r} is exactly the "
        f"{('real', 'fake')[single]} rows; give an attribute of the people who are shown"
    )


def check_one_group(attribute: str, names: np.ndarray, clusters: np.ndarray, unit: str) -> None:
    """Raises InputError, naming the unit, where one unit is in two groups of an attribute."""
    codes, found_names = pd.factorize(np.asarray(names, dtype=object))
    of_unit, unit_names = pd.factorize(clusters)
    # Distinct (unit, group) as one number each: a unit that is left with two of them is in two groups.
    pairs = pd.unique(of_unit * max(len(found_names), 1) + codes)
    groups_of = np.bincount(pairs // max(len(found_names), 1), minlength=len(unit_names))
    if (groups_of > 1).any():
        twice = sorted(np.flatnonzero(groups_of > 1), key=lambda code: str(unit_names[code]))
        found = order_groups(list(found_names[np.unique(codes[of_unit == twice[0]])]))
        more = f" (and {len(twice) - 1} more)" if len(twice) > 1 else ""
        raise InputError(
            f"{unit} {str(unit_names[twice[0]])!r}{more} is in {len(found)} groups of {attribute!r}: "
            f"{_names_text(found)}; give every {unit} one group, or leave it empty to have it counted "
            f"as unknown"
        )


def _group_column(table: pd.DataFrame, name: str) -> pd.Series:
    if name in table.columns:
        if name == SKIN_TONE:
            return group_names(skin_tone_groups(table[name])).rename(SKIN_TONE_GROUP)
        return group_names(table[name]).rename(name)
    if name == SKIN_TONE_GROUP and SKIN_TONE in table.columns:
        return group_names(skin_tone_groups(table[SKIN_TONE])).rename(SKIN_TONE_GROUP)
    known = [column for column in table.columns if table[column].notna().any()]
    meant = did_you_mean(name, map(str, known))
    raise InputError(
        f"there is no column {name!r} to group by; the table has {_names_text(known)}{meant}. "
        f"Give one "
        "of these, or join annotations first"
    )


def check_values(attribute: str, names: np.ndarray) -> None:
    """Raises InputError where nobody is known, or there are one or more than 50 groups."""
    found = order_groups(list(names))
    if not found:
        raise InputError(f"attribute {attribute!r} is unknown in every row; join annotations that fill it")
    if len(found) == 1:
        raise InputError(
            f"attribute {attribute!r} has one group only, {found[0]!r}; a comparison needs two or more"
        )
    if len(found) > MAX_GROUPS:
        raise InputError(
            f"attribute {attribute!r} has {len(found)} groups, for example {_names_text(found[:3])}; at most "
            f"{MAX_GROUPS} can be compared. Give groups rather than names or measurements; of ages in years "
            "age_groups=[30,50] makes groups"
        )


def _check_lengths(lengths: Mapping[str, int], n_rows: int) -> None:
    for name, length in lengths.items():
        if length != n_rows:
            raise InputError(
                f"{name} has {length} values but y_true has {n_rows}; give one for every row, in order"
            )


def _names_text(names: Any) -> str:
    return ", ".join(map(str, names)) or "no column"
