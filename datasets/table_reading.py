"""Tables of strangers: every usual spelling is read, and what was assumed is said.

`read_table` is the one door for tables of scores and lists of files: a spreadsheet's export, the list of a
data set, the scores of another detector, our own files. What is taken for granted comes back as a list of
`Reading`, to be shown; what cannot be settled is raised together, in one message with the row numbers that a
spreadsheet shows. What columns are called is in `table_roles`, how cells are read in `table_cells`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from unmasked.datasets.csv_dialect import TEXTS
from unmasked.datasets.csv_files import TEXT
from unmasked.datasets.errors import InputError, did_you_mean
from unmasked.datasets.evidence import SETTLES, contradictions, evidence
from unmasked.datasets.listing import first_names
from unmasked.datasets.score_direction import turn_scores
from unmasked.datasets.table_cells import Door, convert_cells, is_decision
from unmasked.datasets.table_header import absent_column, free_names, unusable_table, usual_names
from unmasked.datasets.table_roles import FILE, LABEL, SCORE, SCORES, Role
from unmasked.datasets.tables import HEADER_ROWS, read_frame
from unmasked.datasets.vocabulary import ASKS_IF_FAKE, ASKS_IF_REAL, Reading, plain, unify_spellings

NO_DATASET = "no column dataset"
TITLES_MAX = 50  # lines in which a header is looked for
TOTALS_MAX = 5  # rows at the end that may be totals
TOTALS = (
    *("total", "totals", "sum", "average", "avg", "mean", "median", "std", "overall", "grandtotal", "gesamt"),
    *("summe", "mittelwert", "durchschnitt", "somme", "moyenne"),
)
LABELS_MAX = 10  # a column of more numbers holds scores, whatever its name
NAMES_MIN = 4  # a column of more words, none of them for real or fake, holds no labels
ROUNDED = r"\d[.,]?\d*[eE]\+\d+"  # 9.0E+15, as spreadsheets show long numbers
GROUPS_MAX = 1000  # a column of more words holds names, which are left as they are

ScoreOf = Literal["fake", "real", "predicted"]


class TableRead(NamedTuple):
    """A table as it was understood.

    The index of ``frame`` is the number that a spreadsheet gives the row.
    """

    frame: pd.DataFrame
    readings: list[Reading]  # what was taken for granted
    left_out: pd.DataFrame  # columns row, reason


def read_table(
    path: str | os.PathLike[str],
    roles: Mapping[str, Role] = SCORES,
    *,
    columns: Mapping[str, str] | None = None,
    one_means: Literal["fake", "real"] | None = None,
    score_as: Literal["auto", "share", "percent", "logit"] = "auto",
    score_of: ScoreOf | None = None,
    age_groups: tuple[float, ...] = (),
) -> TableRead:
    """The table in a file, columns called by their roles, words read.

    Args:
        path: a file that `unmasked.datasets.tables.read_frame` reads.
        roles: what is looked for, by the name that it gets.
        columns: role -> the file's own name for it, where the usual names do not fit.
        one_means: what the number 1 means as a label. Where it is not said, 1 is fake, but for a column
            whose name asks "is it real?"; words and paths that say otherwise are a problem, and so is a
            number other than 0 beside it (1 and 2, 1 and -1).
        score_as: whether scores are shares of 1, percent or logits; ``auto`` looks, and never takes logits.
        score_of: whether a score is P(fake), P(real), or the probability of what the column ``predicted``
            says; the latter two are turned round.
        age_groups: the first years of groups that ages become; empty leaves ages as they are.

    Returns:
        Labels are 0, 1 or NaN, scores shares of 1, splits and genders canonical words. Without a column of
        datasets, all rows are of one, called like the file.

    Raises:
        InputError: what could not be settled, all of it in one message.
    """
    path = Path(path)
    door = Door(path, [], [])
    table = read_frame(path, text=_texts(roles, columns or {}), readings=door.readings, keep_rows=True)
    if table.empty:
        raise InputError(f"table {path} has no row; it has the columns {', '.join(map(str, table.columns))}")
    table.index += HEADER_ROWS
    if nested := [name for name, column in table.items() if _is_nested(column)]:
        door.readings.append(Reading("columns of lists", f"{', '.join(map(str, nested))}: not used"))
        table = table.drop(columns=nested)
    table, called = _named_columns(table, roles, columns or {}, door)
    door.called = called
    if one_means is None and plain(called.get("label", "")) in ASKS_IF_REAL:
        one_means = "real"
        door.readings.append(Reading(f"column {called['label']!r}", "1 and true mean real there"))
    door.asks_if_fake = plain(called.get("label", "")) in ASKS_IF_FAKE
    table, left_before = _without_totals(table, roles, called)
    unreadable = _unreadable_columns(table, door)
    kept = pd.Series(True, table.index)
    reasons = pd.Series("", table.index)
    for name, role in roles.items():
        if name not in table or name in unreadable:
            continue
        table[name] = convert_cells(
            table[name], role.kind, door, one_means=one_means, score_as=score_as, age_groups=age_groups
        )
        if role.empty == "keep" or not (empty := table[name].isna() & kept).any():
            continue
        if role.empty == "leave_out":
            reasons[empty] = f"no {name}"
            kept &= ~empty
        else:
            door.problems.append(f"column {name!r} is empty in {door.rows(empty)}")
    _check_evidence(table, roles, door, one_means)
    if pd.api.types.is_numeric_dtype(table.get("score")):
        table["score"] = turn_scores(table, called, score_of, door)
    for name in table.columns:
        is_group = name not in roles and not pd.api.types.is_numeric_dtype(table[name])
        if is_group and table[name].nunique() <= GROUPS_MAX:
            table[name] = unify_spellings(table[name], door.readings)
    if "dataset" in roles and "dataset" not in table:
        table.insert(0, "dataset", pd.Series(path.name, table.index, TEXT))
        door.readings.append(Reading(NO_DATASET, f"all rows are of one, called {path.name}"))
    left = pd.DataFrame({"row": table.index[~kept], "reason": reasons[~kept].to_numpy()})
    left = pd.concat([*left_before, *([left] if len(left) or not left_before else [])], ignore_index=True)
    for reason, rows in left.groupby("reason"):
        listed = first_names(map(str, rows["row"]), 5)
        which = f"rows with {reason}" if str(reason).startswith("no ") else f"rows {reason}"
        door.readings.append(Reading(which, f"left out: {len(rows)} (row {listed})"))
    if not kept.any() and not door.problems:
        counted = ", ".join(f"{count} {reason}" for reason, count in left["reason"].value_counts().items())
        door.problems.append(f"no row is left: of {len(kept)}, {counted or 'none'}")
    if door.problems:
        raise unusable_table(path, door.problems)
    return TableRead(table if kept.all() else table[kept].copy(), door.readings, left)


def _is_nested(column: pd.Series) -> bool:
    """True if cells of a Parquet column are lists, arrays or records."""
    if column.dtype != object:
        return False
    return bool(column.map(lambda cell: isinstance(cell, (list, tuple, set, dict, np.ndarray))).any())


def has_scores(names: Collection[str]) -> bool:
    """True if columns of these names seem to be a table of scores, whatever they are called."""
    found = {plain(name.rpartition(".")[2]) for name in names} | {plain(name) for name in names}
    needed = [{plain(name) for name in (role, *SCORES[role].names)} for role in ("video", "label", "score")]
    return all(not usual.isdisjoint(found) for usual in needed)


def is_of_predict(table: pd.DataFrame) -> bool:
    """True if scores are of `unmasked predict`, which names the weights in each row."""
    return "checkpoint" in table and bool(table["checkpoint"].astype(str).str.fullmatch("[0-9a-f]{64}").all())


def _texts(roles: Mapping[str, Role], columns: Mapping[str, str]) -> set[str]:
    """Names, in plain form, of columns that a CSV holds as text even where they look like numbers."""
    names: set[str] = set()
    for role, rule in roles.items():
        if rule.kind in ("text", "dataset", "split", "gender", "compression"):
            names |= {plain(name) for name in (role, *rule.names, columns.get(role, role))}
    return names - {plain(name) for name in (*LABEL.names, *SCORE.names)}


def _named_columns(
    table: pd.DataFrame, roles: Mapping[str, Role], columns: Mapping[str, str], door: Door
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table with its columns called by their roles, and what the file calls them."""
    present = [str(name) for name in table.columns]
    known = {plain(name) for role, rule in roles.items() for name in (role, *rule.names)}
    if not columns and known.isdisjoint(plain(name.rpartition(".")[2]) for name in present):
        needed = [role for role, rule in roles.items() if rule.required]
        as_keys = ", ".join(f"{role}: …" for role in needed)
        header = _header_line(door.path, known)
        by_spaces = len(present) == 1 and len(present[0].split()) > 1
        way_out = (
            f"line {header} looks like the header: delete the lines above it"
            if header
            else "if spaces part the columns, write commas in their place"
            if by_spaces
            else f"if that is the header, columns={{{as_keys}}} says which column is which; else give "
            f"the file a first line such as {','.join(needed)}"
        )
        door.problems.append(f"no column is known, they are called {', '.join(present[:8])}: {way_out}")
        return table, {}
    taken: dict[str, str] = {}
    for role, name in columns.items():
        if role not in roles:
            door.problems.append(f"columns= names {role!r}; it may name {', '.join(roles)}")
        elif name not in present:
            meant = did_you_mean(name, present)
            door.problems.append(f"columns= says that {role} is {name!r}, which is no column{meant}")
        else:
            taken[role] = name
    for role, rule in roles.items():
        if role in columns:
            continue
        left = [name for name in reversed(present) if name not in taken.values()]
        free = free_names(left)
        usual = [free[name] for name in usual_names(role, rule) if name in free]
        fitting = [name for name in usual if _is_fit(table, name, role, roles, {**columns, **taken}, free)]
        if fitting:
            taken[role] = fitting[0]
        elif rule.required:
            door.problems.append(absent_column(role, rule, present, _swapped_hint(role, table)))
    for role, name in taken.items():
        if name != role:
            door.readings.append(Reading(f"column {name!r}", role))
    table = _without_repeated(table, taken, door)
    renamed = {name: role for role, name in taken.items()}
    clash = [name for name in present if name in roles and name not in taken.values()]
    table = table.rename(columns={**{name: f"{name} (as found)" for name in clash}, **renamed})
    return table, taken


def _header_line(path: Path, known: set[str]) -> int:
    """The number of the first line, from 1, with two names of columns; 0 where there is none."""
    if path.suffix.lower() not in TEXTS:
        return 0
    with open(path, encoding="latin-1") as lines:
        for number, line in enumerate(islice(lines, TITLES_MAX), 1):
            if len({plain(cell.strip('"')) for cell in re.split(r"[,;|\t]", line.strip())} & known) > 1:
                return number
    return 0


def _is_fit(
    table: pd.DataFrame,
    name: str,
    role: str,
    roles: Mapping[str, Role],
    taken: Mapping[str, str],
    free: Mapping[str, str],
) -> bool:
    """True if a column of a usual name holds what the role is for."""
    column = table[name]
    if not isinstance(column, pd.Series):
        return True
    if plain(name) == plain(role):
        # A label of many numbers is a score under the name of a label.
        is_score = role == "label" and _has_many_numbers(column)
        return not is_score and (role != "predicted" or is_decision(column))
    if role == "split" and column.dropna().astype(str).str.isdigit().all() and column.notna().any():
        return False  # the folds of a cross-validation
    if role == "detector":
        # The model may also be that of the fakes; here it tells the rows of one video apart.
        video = taken.get("video", "")
        return video in table and bool(
            table.duplicated(video).any() and not table.duplicated([video, name]).any()
        )
    if plain(name) in map(plain, roles) and not (plain(name) == "predicted" and not is_decision(column)):
        return False  # the name of another role
    kind = roles[role].kind
    if kind == "label" and plain(name) in map(plain, SCORE.names):
        is_number = pd.api.types.is_float_dtype(column) or _has_many_numbers(column)
        return not is_number or is_decision(column)
    scores = {plain(other) for other in ("score", *SCORE.names)} - {plain(name)}
    others = [free[other] for other in scores if other in free]
    has_other_score = "score" in taken or any(not is_decision(table[other]) for other in others)
    if kind == "answer":
        is_number = pd.api.types.is_numeric_dtype(column)
        return is_decision(column) and (has_other_score or not is_number)
    # Of several columns that may be the score, one of decisions is not it.
    return kind != "score" or not has_other_score or not is_decision(column)


def _has_many_numbers(column: pd.Series) -> bool:
    """True if there are more numbers than labels are, with a fraction, percent or decimal comma."""
    if pd.api.types.is_numeric_dtype(column):
        return pd.api.types.is_float_dtype(column) and column.nunique() > LABELS_MAX
    texts = column.dropna().astype(str).str.strip()
    return bool(texts.nunique() > LABELS_MAX and texts.str.fullmatch(r"[-+]?\d+([.,]\d+)?\s*%?").all())


def _swapped_hint(role: str, table: pd.DataFrame) -> str:
    """What the columns label and score hold, where a score is looked for and they seem to be swapped."""
    numbers, score = table.get("label"), table.get("score")
    if role not in ("label", "score") or not isinstance(numbers, pd.Series):
        return ""
    if not pd.api.types.is_float_dtype(numbers):
        return ""
    if isinstance(score, pd.Series) and is_decision(score):
        return (
            ". 'label' holds numbers as scores are, and 'score' labels: "
            "columns={score: label, label: score} reads them so"
        )
    return ". 'label' holds numbers as scores are: columns={score: label} reads it so"


def _without_repeated(table: pd.DataFrame, taken: Mapping[str, str], door: Door) -> pd.DataFrame:
    """The table with each of the taken columns once; one that differs from its namesake is a problem."""
    present = [str(name) for name in table.columns]
    is_csv = door.path.suffix.lower() in TEXTS
    for name in taken.values():
        # pandas calls the second score of a CSV score.1.
        twins = [f"{name}.{n}" for n in range(1, 10) if is_csv and f"{name}.{n}" in present]
        count = present.count(name) + len(twins)
        if count > len(twins) + 1 or any(not table[twin].equals(table[name]) for twin in twins):
            door.problems.append(f"has the column {name!r} {count} times; keep one")
        elif twins:
            table = table.drop(columns=twins)
            door.readings.append(Reading(f"column {name!r}", f"is there {count} times, alike"))
    again = table.columns.duplicated()
    for name in dict.fromkeys(map(str, table.columns[again])):
        if name not in taken.values():
            door.readings.append(
                Reading(f"column {name!r}", f"is there {present.count(name)} times: the first")
            )
    return table.loc[:, ~again]


def _without_totals(
    table: pd.DataFrame, roles: Mapping[str, Role], called: Mapping[str, str]
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The table without rows that are of no video, and these: totals at its end, and repeated headers."""
    first = next((name for name, role in roles.items() if role.empty == "refuse"), "")
    if first not in table:
        return table, []
    is_header = (table[first].astype(object) == called.get(first, first)).fillna(False).to_numpy(bool)
    is_total = np.zeros(len(table), dtype=bool)
    for position in range(len(table) - 1, max(0, len(table) - 1 - TOTALS_MAX), -1):
        row = table.iloc[position]
        # "Total" may stand in any cell of a row without a name; or the row has numbers alone.
        is_named, known = pd.notna(row[first]), row.dropna()
        words = [row[first]] if is_named else [cell for cell in known if isinstance(cell, str)]
        is_sum = any(plain(word).rstrip(":.") in TOTALS for word in words)
        if not is_sum and (is_named or words or "label" not in row or pd.notna(row["label"])):
            break
        is_total[position] = True
    left = [
        pd.DataFrame({"row": table.index[marked], "reason": reason})
        for reason, marked in (("of totals", is_total), ("that repeat the header", is_header))
        if marked.any()
    ]
    return (table[~(is_total | is_header)].copy() if left else table), left


def _unreadable_columns(table: pd.DataFrame, door: Door) -> set[str]:
    """Columns whose cells are of another column, or have lost what they said; each is a problem."""
    found: set[str] = set()
    video, label = table.get("video"), table.get("label")
    if video is None:
        return found
    if label is not None and is_decision(video) and not is_decision(label) and label.nunique() > NAMES_MIN:
        door.problems.append(
            f"column 'label' holds names ({first_names(label.dropna().astype(str), 1)}) and 'video' labels ("
            f"{first_names(video.dropna().astype(str).unique(), 2)}): if they are swapped, "
            "columns={video: label, label: video} reads them so"
        )
        found |= {"video", "label"}
    lost = video.astype(TEXT).str.fullmatch(ROUNDED).fillna(False).astype(bool)
    if lost.any():
        door.problems.append(
            f"column 'video' holds numbers that a spreadsheet has rounded, such as {video[lost].iloc[0]} in "
            f"{door.rows(lost)}: several files may have become one name. Export the table again with that "
            "column as text"
        )
    return found


def _check_evidence(
    table: pd.DataFrame, roles: Mapping[str, Role], door: Door, one_means: str | None
) -> None:
    """What methods, words and paths say against the labels is a problem, unless one_means settles it."""
    label = table.get("label")
    if label is None or not pd.api.types.is_numeric_dtype(label) or not label.notna().any():
        return
    if is_of_predict(table):
        return  # the labels are a manifest's, which `unmasked scan` looked at
    files = {plain(name) for name in FILE}
    paths = [name for name in table.columns if plain(name) in files or name == "video"]
    asked = table[[name for name in table if name in ("label", "method", *paths) or name not in roles]]
    found = evidence(asked, "label", paths)
    known = {*paths, "method", *(str(name) for name in asked if plain(name) in _LABEL_NAMES)}
    for name in set(found) - known:
        both = found[name].notna() & label.notna()
        share = float((found[name][both] != label[both]).mean())
        if 0 < share < 1:
            # Neither the label nor its reverse: somebody's answers, perhaps a detector's.
            del found[name]
            door.readings.append(
                Reading(f"column {name!r}", f"differs from the label in {share:.0%} of rows: answers? Unused")
            )
    wrong = contradictions(label, found)
    if not wrong:
        return
    if one_means is None:
        door.problems.append(f"{'; '.join(wrong)}: {SETTLES}")
    else:
        door.readings.append(Reading("label", f"as one_means={one_means} says, although {'; '.join(wrong)}"))


_LABEL_NAMES = {plain(name) for name in LABEL.names}
