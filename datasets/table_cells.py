"""The cells of a table, column by column: labels, scores, ages, numbers, words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from unmasked.datasets.csv_files import BLANK, TEXT, WORDS_FOR_NONE
from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import first_names
from unmasked.datasets.table_roles import RoleKind
from unmasked.datasets.vocabulary import (
    ANSWERS,
    BOOLEANS,
    LIFETIME,
    Reading,
    canonical_dataset,
    group_ages,
    lookup,
    map_distinct,
    plain,
    read_words,
    unify_spellings,
    unsaid,
)

YEARS_BEHIND = r"(?i)\s*(?:years?|yrs?|y\.?o\.?|jahre?|ans|años|anni)(?:\s+old|\s+alt)?\.?$"
PERCENT_MAX = 100.0
PERCENT_MIN = 10.0  # a column that goes no higher may be marks out of ten, or decimals gone wrong
# Why a video has no score, in the column of scores.
FAILED = (
    r"fail|error|no[ _]?face|not[ _]found|time[d]?[ _-]?out|skipped|corrupt|unreadable|unavailable|exception"
)
PERCENT_SHARE = 0.5  # of scores above 1, from which on a column of 0 to 100 is surely percent


@dataclass
class Door:
    """What is collected on the way through a table."""

    path: Path
    readings: list[Reading]
    problems: list[str]
    called: dict[str, str] = field(default_factory=dict)  # role -> the file's own name
    asks_if_fake: bool = False  # the label's column is called so that "true" means fake there

    def name(self, values: pd.Series) -> str:
        """What the file calls a column."""
        return self.called.get(str(values.name), str(values.name))

    def column(self, values: pd.Series) -> str:
        """The same in a sentence."""
        return f"column {self.name(values)!r}"

    def rows(self, marked: pd.Series) -> str:
        """The rows that are marked, by the numbers that a spreadsheet gives them."""
        return f"row {first_names([str(row) for row in marked.index[marked]], 5)}"


def convert_cells(
    values: pd.Series,
    kind: RoleKind,
    door: Door,
    *,
    one_means: str | None,
    score_as: str,
    age_groups: tuple[float, ...],
) -> pd.Series:
    """The column as its kind is read; what cannot be read is among the problems of the door."""
    if kind == "as_it_is":
        return values
    try:
        if kind in ("label", "answer"):
            return _labels(values, door, one_means if kind == "label" else None)
        if kind == "score":
            return _scores(values, door, score_as)
        if kind == "split":
            return read_words(values, "split", door.readings).astype(TEXT)
        if kind in ("gender", "compression"):
            words = read_words(values, kind, door.readings, unknown="keep")
            return unify_spellings(words, door.readings).astype(TEXT)
        if kind == "age":
            return _ages(values, door, age_groups)
        if kind == "integer":
            return _integers(values, door)
    except InputError as error:
        door.problems.append(str(error))
        return values
    text = _stripped(values)
    return _datasets(text, door) if kind == "dataset" else text


def is_decision(values: pd.Series) -> bool:
    """True if every value is a word for real or fake, or 0 or 1."""
    words = values.dropna().unique()
    return 0 < len(words) <= 50 and all(lookup(_word(value), "label") is not None for value in words)


def _stripped(values: pd.Series) -> pd.Series:
    """Text without surrounding spaces; a cell without any is missing. A CSV's text is so already."""
    if pd.api.types.is_float_dtype(values):  # 3.0 read for 3 is not meant as "3.0"
        whole = values.dropna()
        values = values.astype("Int64") if len(whole) and (whole == whole.round()).all() else values
    text = values.astype(TEXT)
    bare = text.str.strip()
    return bare.mask(bare == "") if (bare == "").any() else bare


def _word(value: object) -> str:
    """1 for True, 1 and 1.0."""
    word = str(int(value)) if isinstance(value, (bool, np.bool_)) else str(value).strip()
    return word.removesuffix(".0") if word in ("0.0", "1.0") else word


def _labels(values: pd.Series, door: Door, one_means: str | None) -> pd.Series:
    found: dict[object, int] = {}
    words: dict[int, list[str]] = {0: [], 1: []}
    strange: list[object] = []
    distinct = values.dropna().unique()
    booleans = {plain(_word(value)) for value in distinct}
    meant = {
        word: label for yes, no in BOOLEANS.items() if yes in booleans for word, label in ((yes, 1), (no, 0))
    }
    is_pair = _other_than_one(distinct) is not None
    if meant and values.name == "label" and one_means is None and not door.asks_if_fake:
        yes, no = (word for word in sorted(meant, key=meant.__getitem__, reverse=True))
        door.problems.append(
            f"column 'label' holds {yes} and {no}, which may say whether a picture is true, or whether it is "
            f"true that it is fake: one_means=real takes {yes} as real and {no} as fake, one_means=fake the "
            "other way round"
        )
        return map_distinct(values, lambda value: meant.get(plain(_word(value)))).astype("float64")
    for value in distinct:
        word = _word(value)
        if is_pair and one_means is not None:
            found[value] = int((word == "1") == (one_means == "fake"))
            words[found[value]].append(word)
            continue
        # "-1" is not "1": some lists mean real by it, and some fake.
        label = meant.get(plain(word), None if word.startswith("-") else lookup(word, "label"))
        if label is None:
            if not unsaid(pd.Series([word])).iloc[0]:
                strange.append(value)
            continue
        is_answer = plain(word) in meant or (plain(word) in ANSWERS and plain(word) != "falsch")
        found[value] = 1 - int(label) if one_means == "real" and is_answer else int(label)
        words[found[value]].append(str(value) if isinstance(value, (bool, np.bool_)) else word)
    if strange and is_pair:
        other = _word(_other_than_one(distinct))
        door.problems.append(
            f"{door.column(values)} holds 1 and {other}, which do not say what is fake: one_means=fake "
            f"takes 1 as fake and {other} as real, one_means=real the other way round"
        )
    elif strange:
        listed = "; ".join(
            f"{_short(_word(value))!r} in {door.rows(values == value)}" for value in strange[:5]
        )
        is_class = len(strange) > 1 or (words[0] and not any(map(str.isdigit, _word(strange[0]))))
        more = (
            " Write real or 0, fake or 1, and leave empty what nobody knows. A number or name for each method"
            " belongs in a column of its own, method"
            if is_class or any(map(str.isdigit, _word(strange[0])))
            else ""
        )
        door.problems.append(
            f"{door.column(values)} holds {listed}: allowed are 1 (fake), 0 (real) or words for them.{more}"
        )
    result = map_distinct(values, found.get).astype("float64")
    unusual = [word for each in words.values() for word in each if word not in ("0", "1")]
    if unusual or one_means == "real":
        said = "; ".join(
            f"{', '.join(each)}: {('real', 'fake')[label]}" for label, each in words.items() if each
        )
        door.readings.append(Reading(door.name(values), said))
    if values.name == "label" and not strange and (empty := int(result.isna().sum())):
        door.readings.append(Reading("label", f"not known in {empty} row{'s' * (empty != 1)}"))
    return result


def _other_than_one(distinct: np.ndarray) -> object | None:
    """The other of two numbers of which one is 1, where it is not 0: 1 and 2, or 1 and -1; else None."""
    words = {word: value for value in distinct if (word := _word(value)) not in ("", "1")}
    other = next(iter(words), "0")
    number = other.removesuffix(".0").removeprefix("-")
    is_pair = len(words) == 1 and len(distinct) == 2 and number.isdigit() and number != "0"
    return words[other] if is_pair else None


def _short(word: str, length: int = 40) -> str:
    return word if len(word) <= length else f"{word[:length]}…"


def _next_round(number: float) -> float:
    """The lowest of 255 and the powers of ten that a number does not exceed."""
    return next((limit for limit in (255.0, 1e3, 1e4, 1e5, 1e6) if number <= limit), number)


def _score_advice(words: pd.Series) -> str:
    is_decision = words.map(lambda word: lookup(str(word), "label")).notna().all()
    return ": a decision is no score, give the probability behind it" if is_decision else ""


def _scores(values: pd.Series, door: Door, score_as: str) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values):
        numbers, has_sign = values.astype("float64"), pd.Series(False, values.index)
    else:
        text = values.astype(TEXT).str.strip()
        text = text.mask(text.isin(BLANK) | text.isin(WORDS_FOR_NONE))
        has_sign = text.str.endswith("%").fillna(False).astype(bool)
        bare = text.str.rstrip("% ").str.replace(",", ".", regex=False)
        numbers = pd.to_numeric(bare, errors="coerce").astype("float64")
        failed = text.notna() & numbers.isna() & text.str.contains(FAILED, case=False).fillna(False)
        if failed.any() and numbers.notna().any():
            door.readings.append(
                Reading(
                    door.column(values),
                    f"no score: {text[failed].iloc[0]} ({int(failed.sum())} rows)",
                )
            )
            text = text.mask(failed)
        if (wrong := text.notna() & numbers.isna()).any():
            door.problems.append(
                f"{door.column(values)} holds {text[wrong].iloc[0]!r} and the like in {door.rows(wrong)}; a "
                f"score is a number{_score_advice(text[wrong])}"
            )
            return numbers
    known = numbers.dropna()
    if score_as == "logit":
        door.readings.append(Reading(door.column(values), "logits, through the sigmoid 1 / (1 + exp(-x))"))
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-numbers))
    outside = (numbers < 0) | (numbers > PERCENT_MAX) | np.isinf(numbers)
    if outside.any():
        finite = known[~np.isinf(known)]
        looks = (
            f"; divide by the highest score that the detector can give ({_next_round(known.max()):g}?)"
            if known.max() > PERCENT_MAX and (known >= 0).all()
            else "; if these are logits, score_as=logit applies the sigmoid to them"
        )
        if set(numbers[outside]) == {-1.0}:
            looks = "; where -1 marks videos without a score, leave the cell empty"
        if np.isinf(numbers).any() and ((finite >= 0) & (finite <= 1)).all():
            looks = "; leave the cell empty where a file could not be scored"
        door.problems.append(
            f"{door.column(values)} holds {numbers[outside].iloc[0]:g} in {door.rows(outside)}; a score is "
            f"P(fake), from 0 to 1, or percent{looks}"
        )
        return numbers
    above = numbers > 1
    if has_sign.any() and not has_sign[numbers.notna()].all():
        door.problems.append(
            f"{door.column(values)} has a percent sign in {int(has_sign.sum())} rows and none in "
            f"{door.rows(~has_sign & numbers.notna())}"
        )
        return numbers
    is_percent = score_as == "percent" or bool(has_sign.any())
    if score_as == "auto" and above.any() and not is_percent:
        if above.sum() < PERCENT_SHARE * len(known):
            door.problems.append(
                f"{door.column(values)} is above 1 in {door.rows(above)} ({int(above.sum())} of "
                f"{len(known)} rows), and a share of 1 elsewhere: score_as=percent reads all as percent; "
                "else correct the rows"
            )
            return numbers
        if known.max() <= PERCENT_MIN:
            door.problems.append(
                f"{door.column(values)} goes from {known.min():g} to {known.max():g}: neither shares of 1 "
                "nor, it seems, percent; score_as=percent reads it as percent, else write shares of 1"
            )
            return numbers
        is_percent = True
    elif score_as == "share" and above.any():
        door.problems.append(f"{door.column(values)} is above 1 in {door.rows(above)}; score_as=percent?")
        return numbers
    if is_percent:
        door.readings.append(
            Reading(door.column(values), f"percent: {known.max():g} is {known.max() / 100:g}")
        )
        return numbers / 100
    return numbers


def _ages(values: pd.Series, door: Door, age_groups: tuple[float, ...]) -> pd.Series:
    words = pd.Series(values.dropna().unique(), dtype=object)
    bare = words.astype(TEXT).str.strip().str.replace(YEARS_BEHIND, "", regex=True)
    years = pd.to_numeric(bare.where(~unsaid(words)), errors="coerce")
    if years.notna().any() and years.notna().sum() == (~unsaid(words)).sum():
        known = dict(zip(words, years.astype("float64"), strict=True))
        numbers = map_distinct(values, known.get).astype("float64")
        if age_groups:
            door.readings.append(
                Reading("age", f"years, in groups from {', '.join(f'{b:g}' for b in age_groups)}")
            )
            if (odd := numbers.notna() & ~numbers.between(*LIFETIME)).any():
                found = ", ".join(f"{number:g}" for number in numbers[odd].unique()[:3])
                door.readings.append(Reading("age", f"{found}: no age of a person, taken as unknown"))
            return group_ages(numbers, age_groups).astype(TEXT)
        door.readings.append(Reading("age", "years as they are; age_groups=[18,30,50] makes groups of them"))
        return numbers
    if age_groups:
        shown = first_names(words[years.isna() & ~unsaid(words)].astype(str), 3)
        door.readings.append(Reading("age", f"age_groups was not used: there are words ({shown})"))
    return unify_spellings(read_words(values, "age", door.readings, unknown="keep"), door.readings).astype(
        TEXT
    )


def _datasets(text: pd.Series, door: Door) -> pd.Series:
    known = {word: canonical_dataset(word) for word in text.dropna().unique()}
    changed = [f"{word} as {name}" for word, name in known.items() if word != name]
    if changed:
        door.readings.append(Reading("dataset", ", ".join(changed)))
    return map_distinct(text, known.get).astype(TEXT)


def _integers(values: pd.Series, door: Door) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = (values.notna() & numbers.isna()) | (numbers % 1 != 0) & numbers.notna()
    if wrong.any():
        door.problems.append(
            f"{door.column(values)} holds {values[wrong].iloc[0]!r} in {door.rows(wrong)}; it must be whole"
        )
    return numbers
