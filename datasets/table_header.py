"""Whether a table's columns have names that are known, told by its header alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unmasked.datasets.csv_dialect import TEXTS, column_name, csv_dialect
from unmasked.datasets.errors import InputError, did_you_mean
from unmasked.datasets.table_roles import SCORES, Role
from unmasked.datasets.vocabulary import plain

# What a column's name speaks of, where it is none of the usual ones.
_SPEAKING = {
    "score": ("score", "prob", "likelihood", "confiden", "pfake"),
    "label": ("label", "truth", "class", "manipul", "fake", "real", "genuine"),
    "video": ("file", "video", "clip", "path", "name"),
}
_ANSWERS = {plain(name) for name in ("predicted", *SCORES["predicted"].names)}


def check_header(path: Path, roles: Mapping[str, Role] = SCORES) -> None:
    """Refuses a CSV that lacks a needed column, as `read_table`, but without pandas.

    Where the header alone does not decide, nothing is said.

    Args:
        path: of any file; only CSVs are looked at.
        roles: as of `read_table`.

    Raises:
        InputError: as of `read_table`, for the absent columns alone.
    """
    if path.suffix.lower() not in TEXTS or not path.is_file():
        return
    try:
        dialect = csv_dialect(path, [], whole=False)
    except (ValueError, OSError):
        return  # said by whoever reads it
    present = [column_name(name) for name in dialect.header]
    free = free_names(present)
    absent = [
        (role, rule)
        for role, rule in roles.items()
        if rule.required and free.keys().isdisjoint(usual_names(role, rule))
    ]
    known = {name for role, rule in roles.items() for name in usual_names(role, rule)}
    is_clear = all(present) and len({*present}) == len(present) and not known.isdisjoint(free)
    at = present.index("label") if "label" in present else len(present)
    # What is called a label may be the score, where it holds numbers with a point.
    are_labels = all(cell.strip().isalnum() for row in dialect.rows for cell in row[at : at + 1])
    if absent and is_clear and are_labels and dialect.rows:
        raise unusable_table(path, [absent_column(role, rule, present) for role, rule in absent])


def usual_names(role: str, rule: Role) -> list[str]:
    """What a column may be called, in plain form, the likeliest first."""
    return [plain(name) for name in dict.fromkeys((role, *rule.names))]


def free_names(columns: Sequence[str]) -> dict[str, str]:
    """The columns by their names in plain form."""
    # JSON turned into CSV calls a score result.score.
    return {plain(name.rpartition(".")[2]): name for name in columns} | {
        plain(name): name for name in columns
    }


def absent_column(role: str, rule: Role, present: list[str], hint: str = "") -> str:
    """What to do where no column has a usual name of a role; ``hint`` is what its cells say."""
    others = f"{role} or {', '.join(rule.names[:4])}"
    speaking = [name for name in present if any(word in plain(name) for word in _SPEAKING.get(role, ()))]
    likely = " or ".join(map(repr, speaking[:4]))
    meant = f" (is {likely} meant?)" if speaking else did_you_mean(role, present)
    answers = [name for name in present if plain(name) in _ANSWERS]
    more = hint
    if role == "label" and answers and not hint:
        more = f". {answers[0]!r} seems to be what a detector answered, which is not the truth"
    if role == "score" and answers:
        more = f". {answers[0]!r} holds decisions: a decision is no score, give the probability behind it"
    return (
        f"no column is called {others}; there are {', '.join(present)}: columns={{{role}: …}} names it"
        f"{more or meant}"
    )


def unusable_table(path: Path, problems: Iterable[str]) -> InputError:
    """All problems of a table in one message."""
    listed = "; ".join(f"({number}) {problem}" for number, problem in enumerate(problems, 1))
    return InputError(f"table {path} cannot be used as it is: {listed}")
