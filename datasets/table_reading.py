"""Tables of strangers: every usual spelling is read, and what was assumed is said.

`read_table` is the one door for tables that were not written here: a spreadsheet's export, the list of a data
set, the scores of another detector. What is taken for granted comes back as a list of `Reading`, to be shown;
what cannot be settled is raised together, in one message with the row numbers that a spreadsheet shows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from unmasked.datasets.csv_files import BLANK, TEXT, WORDS_FOR_NONE
from unmasked.datasets.errors import InputError, did_you_mean
from unmasked.datasets.evidence import SETTLES, contradictions, evidence
from unmasked.datasets.listing import first_names
from unmasked.datasets.tables import read_frame
from unmasked.datasets.vocabulary import (
    Reading,
    canonical_dataset,
    distinct_words,
    group_ages,
    lookup,
    plain,
    read_words,
    unify_spellings,
    unsaid,
)

HEADER_ROWS = 2  # the index 0 is the spreadsheet's row 2
GROUPS_MAX = 1000  # a column of more words holds names, which are left as they are
PERCENT_SHARE = 0.5  # of scores above 1, from which on a column of 0 to 100 is surely percent

RoleKind = Literal["text", "dataset", "label", "score", "split", "integer", "gender", "age", "compression"]


@dataclass(frozen=True)
class Role:
    """What a column is for: how its cells are read, and what else it is called."""

    kind: RoleKind
    names: tuple[str, ...] = ()  # other names, the likeliest first
    required: bool = False
    # What becomes of a row in which it is empty: stay, be left out (and counted), or be a problem.
    empty: Literal["keep", "leave_out", "refuse"] = "keep"


FILE = ("file", "filename", "file_path", "image_path", "img_path", "video_path", "path", "image", "video")
DATASET = Role("dataset", ("data set", "corpus", "dataset name"))
VIDEO = Role("text", (*FILE, "video id", "video name", "clip", "name", "id"), True, "refuse")
LABEL = Role(
    "label",
    ("labels", "target", "is_fake", "fake", "class", "ground truth", "gt", "y_true", "truth", "label_str"),
    True,
)
SCORE = Role(
    "score",
    (
        *("scores", "prob", "probability", "prob_fake", "p_fake", "fake_prob", "fake_score", "pred", "preds"),
        *("prediction", "y_score", "y_pred", "confidence", "output", "p_real", "prob_real", "real_prob"),
    ),
    True,
    "leave_out",
)
GROUPS: Mapping[str, Role] = {
    "gender": Role("gender", ("sex",)),
    "age": Role("age", ("age_group",)),
    "compression": Role("compression", ("quality",)),
    "split": Role("split", ("subset", "partition", "fold", "set")),
    "method": Role("text", ("manipulation", "generator", "forgery")),
}
# What a table of scores needs; further columns are kept as they are.
SCORES: Mapping[str, Role] = {
    "dataset": DATASET,
    "video": VIDEO,
    "label": LABEL,
    "score": SCORE,
    "frame": Role("integer", ("frame_number", "frame_id")),
    "identity": Role("text", ("person", "subject", "identity_id")),
    **GROUPS,
}


class TableRead(NamedTuple):
    """A table as it was understood.

    The index of ``frame`` is the number that a spreadsheet gives the row.
    """

    frame: pd.DataFrame
    readings: list[Reading]  # what was taken for granted
    left_out: pd.DataFrame  # columns row, reason


@dataclass
class _Door:
    """What is collected on the way through a table."""

    path: Path
    readings: list[Reading]
    problems: list[str]

    def rows(self, marked: pd.Series) -> str:
        return f"row {first_names([str(row) for row in marked.index[marked]], 5)}"


def read_table(
    path: str | os.PathLike[str],
    roles: Mapping[str, Role] = SCORES,
    *,
    columns: Mapping[str, str] | None = None,
    one_means: Literal["fake", "real"] | None = None,
    score_as: Literal["auto", "share", "percent"] = "auto",
    score_of: Literal["fake", "real"] | None = None,
    age_groups: tuple[float, ...] = (),
) -> TableRead:
    """The table in a CSV or Parquet file, columns called by their roles, words read.

    Args:
        path: a ``.csv`` or ``.parquet`` file, as `unmasked.datasets.csv_files.read_csv` reads it.
        roles: what is looked for, by the name that it gets.
        columns: role -> the file's own name for it, where the usual names do not fit.
        one_means: what the number 1 means as a label. Where it is not said, 1 is fake, and words and paths
            that say otherwise are a problem.
        score_as: whether scores are shares of 1 or percent; ``auto`` looks.
        score_of: whether a score is P(fake) or P(real), which is turned round.
        age_groups: the first years of groups that ages become; empty leaves ages as they are.

    Returns:
        Labels are 0, 1 or NaN, scores shares of 1, splits and genders canonical words. Without a column of
        datasets, all rows are of one, called like the file.

    Raises:
        InputError: what could not be settled, all of it in one message.
    """
    path = Path(path)
    readings: list[Reading] = []
    texts = {
        name for role, rule in roles.items() if rule.kind not in _NUMERIC for name in (role, *rule.names)
    }
    table = read_frame(path, text=_spelled(path, texts, columns or {}), readings=readings, keep_rows=True)
    door = _Door(path, readings, [])
    table.index = (
        pd.RangeIndex(len(table)) + HEADER_ROWS if path.suffix == ".parquet" else table.index + HEADER_ROWS
    )
    if table.empty:
        raise InputError(f"table {path} has no row; it has the columns {', '.join(map(str, table.columns))}")
    original = table
    table = _named_columns(table, roles, columns or {}, door)
    kept = pd.Series(True, table.index)
    reasons = pd.Series("", table.index)
    for name, role in roles.items():
        if name not in table:
            continue
        table[name] = _converted(table[name], role, door, one_means, score_as, age_groups)
        empty = table[name].isna() & kept
        if role.empty == "leave_out":
            reasons[empty] = f"no {name}"
            kept &= ~empty
        elif role.empty == "refuse" and empty.any():
            door.problems.append(f"column {name!r} is empty in {door.rows(empty)}")
    if "label" in table and table["label"].notna().any():
        _check_evidence(table, original, roles, one_means, door)
    _turn_score(table, original, roles, columns or {}, score_of, door)
    for name in table.columns:
        is_group = name not in roles and not pd.api.types.is_numeric_dtype(table[name])
        if is_group and table[name].nunique() <= GROUPS_MAX:
            table[name] = unify_spellings(table[name], readings)
    if "dataset" in roles and "dataset" not in table:
        table.insert(0, "dataset", pd.Series(path.stem, table.index, TEXT))
        readings.append(Reading("no column dataset", f"all rows are of one, called {path.stem}"))
    left = pd.DataFrame({"row": table.index[~kept], "reason": reasons[~kept].to_numpy()})
    for reason, rows in left.groupby("reason"):
        readings.append(
            Reading(
                f"rows with {reason}", f"left out: {len(rows)} (row {first_names(map(str, rows['row']), 5)})"
            )
        )
    if not kept.any() and not door.problems:
        door.problems.append("no row is left")
    if door.problems:
        listed = "; ".join(f"({number}) {problem}" for number, problem in enumerate(door.problems, 1))
        raise InputError(f"table {path} cannot be used as it is: {listed}")
    return TableRead(table[kept].copy(), readings, left)


_NUMERIC = ("score", "integer", "age", "label")


def _spelled(path: Path, names: set[str], columns: Mapping[str, str]) -> list[str]:
    """The file's own columns that go by one of the names, to be read as text."""
    from unmasked.datasets.tables import column_names

    wanted = {plain(name) for name in names} | {plain(name) for name in columns.values()}
    return [
        name for name in column_names(path) if plain(name) in wanted and plain(name) not in ("score", "label")
    ]


def _named_columns(
    table: pd.DataFrame, roles: Mapping[str, Role], columns: Mapping[str, str], door: _Door
) -> pd.DataFrame:
    """The table with its columns called by their roles."""
    present = [str(name) for name in table.columns]
    taken: dict[str, str] = {}
    known = {plain(name) for role, rule in roles.items() for name in (role, *rule.names)}
    if not columns and known.isdisjoint(map(plain, present)):
        door.problems.append(
            f"no column is known; does the file begin with a header line such as "
            f"{','.join(role for role, rule in roles.items() if rule.required)}? Its first line is "
            f"{', '.join(present[:8])}"
        )
        return table
    for role, name in columns.items():
        if role not in roles:
            door.problems.append(f"columns= names {role!r}; it may name {', '.join(roles)}")
        elif name not in present:
            meant = did_you_mean(name, present)
            door.problems.append(f"columns= says that {role} is {name!r}, which is no column{meant}")
        else:
            taken[role] = name
    for role, rule in roles.items():
        if role in taken or (role in columns and columns[role] not in present):
            continue
        free = {plain(name): name for name in reversed(present) if name not in taken.values()}
        found = next((free[plain(name)] for name in (role, *rule.names) if plain(name) in free), None)
        # A name that is a role itself is not taken for another one.
        if found is not None and not (plain(found) != plain(role) and plain(found) in map(plain, roles)):
            taken[role] = found
        elif rule.required:
            others = f"{role} or {', '.join(rule.names[:4])}"
            door.problems.append(
                f"no column is called {others}; there are {', '.join(present)}: "
                f"columns={{{role}: …}} names it"
            )
    for role, name in taken.items():
        if name != role:
            door.readings.append(Reading(f"column {name!r}", f"{role}"))
    if twice := {name for name in taken.values() if present.count(name) > 1}:
        door.problems.append(f"column {sorted(twice)[0]!r} is there several times; keep one")
        table = table.loc[:, ~table.columns.duplicated()]
    renamed = {name: role for role, name in taken.items()}
    clash = [name for name in present if name in roles and name not in taken.values()]
    return table.rename(columns={**{name: f"{name} (as found)" for name in clash}, **renamed})


def _converted(
    values: pd.Series,
    role: Role,
    door: _Door,
    one_means: str | None,
    score_as: str,
    age_groups: tuple[float, ...],
) -> pd.Series:
    try:
        if role.kind == "label":
            return _labels(values, door, one_means)
        if role.kind == "score":
            return _scores(values, door, score_as)
        if role.kind == "split":
            return read_words(values, "split", door.readings).astype(TEXT)
        if role.kind in ("gender", "compression"):
            words = read_words(values, role.kind, door.readings, unknown="keep")
            return unify_spellings(words, door.readings).astype(TEXT)
        if role.kind == "age":
            return _ages(values, door, age_groups)
        if role.kind == "dataset":
            return _datasets(values, door)
        if role.kind == "integer":
            return _integers(values, door)
    except InputError as error:
        door.problems.append(str(error))
        return values
    text = values.astype(TEXT).str.strip()
    return text.mask(text.isin(WORDS_FOR_NONE) | text.isin(BLANK))


def _labels(values: pd.Series, door: _Door, one_means: str | None) -> pd.Series:
    result = pd.Series(np.nan, values.index)
    words: dict[int, list[str]] = {0: [], 1: []}
    strange: dict[str, pd.Series] = {}
    for value in values.dropna().unique():
        here = values == value
        word = str(int(value)) if isinstance(value, (bool, np.bool_)) else str(value).strip()
        word = word.removesuffix(".0") if word in ("0.0", "1.0") else word
        # "-1" is not "1": some lists mean real by it, and some fake.
        label = None if word.startswith("-") else lookup(word, "label")
        if label is None:
            if unsaid(pd.Series([word])).iloc[0]:
                continue
            strange[word] = here
            continue
        label = int(label)
        if one_means == "real" and word in ("0", "1"):
            label = 1 - label
        result[here] = label
        words[label].append(word)
    if strange:
        listed = "; ".join(f"{word!r} in {door.rows(here)}" for word, here in list(strange.items())[:5])
        more = " A number for each method belongs in a column of its own, method" if len(strange) > 1 else ""
        door.problems.append(
            f"column {values.name!r} holds {listed}: allowed are 1 (fake), 0 (real) or words for them.{more}"
        )
    unusual = [word for found in words.values() for word in found if word not in ("0", "1")]
    if unusual or one_means == "real":
        said = "; ".join(
            f"{', '.join(found)}: {('real', 'fake')[label]}" for label, found in words.items() if found
        )
        door.readings.append(Reading("label", said))
    if empty := int(result.isna().sum()) if not strange else 0:
        door.readings.append(Reading("label", f"not known in {empty} rows"))
    return result


def _score_advice(words: pd.Series) -> str:
    is_decision = words.map(lambda word: lookup(str(word), "label")).notna().all()
    return ": a decision is no score, give the probability behind it" if is_decision else ""


def _scores(values: pd.Series, door: _Door, score_as: str) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values):
        numbers, has_sign = values.astype("float64"), pd.Series(False, values.index)
    else:
        text = values.astype(TEXT).str.strip()
        text = text.mask(text.isin(BLANK) | text.isin(WORDS_FOR_NONE))
        has_sign = text.str.endswith("%").fillna(False).astype(bool)
        bare = text.str.rstrip("% ").str.replace(",", ".", regex=False)
        numbers = pd.to_numeric(bare, errors="coerce").astype("float64")
        if (wrong := text.notna() & numbers.isna()).any():
            door.problems.append(
                f"column {values.name!r} holds {text[wrong].iloc[0]!r} and the like in {door.rows(wrong)}; a "
                f"score is a number{_score_advice(text[wrong])}"
            )
            return numbers
    known = numbers.dropna()
    outside = (numbers < 0) | (numbers > 100) | np.isinf(numbers)
    if outside.any():
        looks = " (logits? apply a sigmoid, 1 / (1 + exp(-x)))" if (numbers < 0).any() else ""
        if np.isinf(numbers).any():
            looks = "; leave out rows that could not be scored"
        door.problems.append(
            f"column {values.name!r} holds {numbers[outside].iloc[0]:g} in {door.rows(outside)}; a score is "
            f"P(fake), from 0 to 1, or percent{looks}"
        )
        return numbers
    above = numbers > 1
    if has_sign.any() and not has_sign[numbers.notna()].all():
        door.problems.append(
            f"column {values.name!r} has a percent sign in {int(has_sign.sum())} rows and none in "
            f"{door.rows(~has_sign & numbers.notna())}"
        )
        return numbers
    is_percent = score_as == "percent" or bool(has_sign.any())
    if score_as == "auto" and above.any() and not is_percent:
        if above.sum() < PERCENT_SHARE * len(known):
            door.problems.append(
                f"column {values.name!r} is above 1 in {door.rows(above)} ({int(above.sum())} of "
                f"{len(known)} rows), and a share of 1 elsewhere: score_as=percent reads all as percent; "
                "else correct the rows"
            )
            return numbers
        is_percent = True
    elif score_as == "share" and above.any():
        door.problems.append(f"column {values.name!r} is above 1 in {door.rows(above)}; score_as=percent?")
        return numbers
    if is_percent:
        door.readings.append(
            Reading(f"column {values.name!r}", f"percent: {known.max():g} is {known.max() / 100:g}")
        )
        return numbers / 100
    return numbers


def _ages(values: pd.Series, door: _Door, age_groups: tuple[float, ...]) -> pd.Series:
    numbers = pd.to_numeric(values.where(~unsaid(values)), errors="coerce")
    if numbers.notna().any() and numbers.notna().sum() == (~unsaid(values)).sum():
        if age_groups:
            door.readings.append(
                Reading("age", f"years, in groups from {', '.join(f'{b:g}' for b in age_groups)}")
            )
            return group_ages(numbers, age_groups).astype(TEXT)
        door.readings.append(Reading("age", "years as they are; age_groups=[18,30,50] makes groups of them"))
        return numbers
    return unify_spellings(read_words(values, "age", door.readings, unknown="keep"), door.readings).astype(
        TEXT
    )


def _datasets(values: pd.Series, door: _Door) -> pd.Series:
    text = values.astype(TEXT).str.strip()
    known = {word: canonical_dataset(word) for word in distinct_words(text)}
    changed = [f"{word} as {name}" for word, name in known.items() if word != name]
    if changed:
        door.readings.append(Reading("dataset", ", ".join(changed)))
    return text.map(known).astype(TEXT)


def _integers(values: pd.Series, door: _Door) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = (values.notna() & numbers.isna()) | (numbers % 1 != 0) & numbers.notna()
    if wrong.any():
        door.problems.append(
            f"column {values.name!r} holds {values[wrong].iloc[0]!r} in {door.rows(wrong)}; it must be whole"
        )
    return numbers


def _check_evidence(
    table: pd.DataFrame, original: pd.DataFrame, roles: Mapping[str, Role], one_means: str | None, door: _Door
) -> None:
    if not pd.api.types.is_numeric_dtype(table["label"]):
        return
    paths = [
        name for name in table.columns if plain(name) in {plain(other) for other in FILE} or name == "video"
    ]
    wrong = contradictions(table["label"], evidence(table, "label", paths))
    if not wrong:
        return
    if one_means is None:
        door.problems.append(f"{'; '.join(wrong)}: {SETTLES}")
    else:
        door.readings.append(Reading("label", f"as one_means={one_means} says, although {'; '.join(wrong)}"))


def _turn_score(
    table: pd.DataFrame,
    original: pd.DataFrame,
    roles: Mapping[str, Role],
    columns: Mapping[str, str],
    score_of: str | None,
    door: _Door,
) -> None:
    """Turns P(real) round where it is said to be that; a name that says so is asked about."""
    if "score" not in roles or "score" not in table or not pd.api.types.is_numeric_dtype(table["score"]):
        return
    name = next(
        (str(name) for name in original.columns if name not in table.columns and _is_score(name)), "score"
    )
    name = columns.get("score", name)
    if score_of == "real":
        table["score"] = 1 - table["score"]
        door.readings.append(Reading("score", "P(real), turned round: 1 - score is P(fake)"))
    elif score_of is None and "real" in plain(name) and "fake" not in plain(name):
        door.problems.append(
            f"column {name!r} seems to be P(real), and a score is P(fake): score_of=real turns it round, "
            "score_of=fake takes it as it is"
        )


def _is_score(name: object) -> bool:
    return plain(name) in {plain(other) for other in SCORE.names}
