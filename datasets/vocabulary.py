"""The words for splits, labels, groups, compressions and datasets, in every spelling.

One vocabulary for all of them: a word is looked up without regard to case, spaces, hyphens and underscores,
and becomes the one spelling that every table here uses. A word that is not in it is never guessed. Age words
are those of AI-Face v2; other sources draw the same groups at other years (the column `annotation` says which
source it was).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from unmasked.datasets.errors import InputError, printable

if TYPE_CHECKING:  # a table is refused by the names of its columns before pandas is imported
    import pandas as pd

Kind = Literal["split", "label", "gender", "age", "compression", "dataset"]


class Reading(NamedTuple):
    """Something that was taken for granted: what stood there, and how it was read."""

    what: str
    how: str


# canonical word -> its other spellings, in plain form (see `plain`)
SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("training", "trainset", "trainingset", "trn"),
    "val": ("valid", "validation", "validate", "valset", "validationset", "dev", "devel", "development"),
    "test": ("testing", "testset", "testingset", "tst"),
}
LABELS: Mapping[int, tuple[str, ...]] = {
    0: (
        *("0", "real", "genuine", "authentic", "pristine", "original", "bonafide", "unmanipulated"),
        *("nonfake", "notfake", "false", "no", "echt", "authentisch", "unverändert"),
        *("authentique", "auténtico", "autêntico", "autentico"),
    ),
    1: (
        *("1", "fake", "manipulated", "deepfake", "synthetic", "generated", "altered", "forged", "forgery"),
        *("spoof", "spoofed", "tampered", "aigenerated", "notreal", "true", "yes", "falsch"),
        *("fälschung", "gefälscht", "manipuliert", "kigeneriert", "falsifié", "truqué", "généréparia"),
        *("manipulado", "falsificado", "manipolato", "contraffatto"),
    ),
}
# Words that speak of "is it fake?": as a name of a folder they say nothing.
ANSWERS = ("false", "no", "true", "yes", "0", "1", "falsch")
# Names of columns that ask "is it real?", so that 1 and true mean real there.
ASKS_IF_REAL = (
    *("isreal", "real", "reallabel", "labelreal", "isgenuine", "genuine", "isauthentic", "authentic"),
    *("ispristine", "pristine", "isoriginal", "isbonafide", "bonafide", "notfake", "isnotfake", "nonfake"),
)
# Names of columns that ask "is it fake?", so that true means fake there.
ASKS_IF_FAKE = (
    *("isfake", "fake", "labelfake", "fakelabel", "isdeepfake", "deepfake", "ismanipulated", "manipulated"),
    *("issynthetic", "synthetic", "isspoof", "spoof", "isforged", "forged", "istampered", "isgenerated"),
)
# "True" and "false" in other languages. Below a column that asks nothing they may speak of the picture, which
# is true or false, as well as of its being fake.
BOOLEANS = {"wahr": "falsch", "vrai": "faux", "verdadero": "falso", "vero": "falso", "waar": "onwaar"}
GENDERS: Mapping[str, tuple[str, ...]] = {
    "female": ("f", "woman", "women", "females", "w", "girl"),
    "male": ("m", "man", "men", "males", "boy"),
}
AGES: Mapping[str, tuple[str, ...]] = {
    "child": ("children", "kid", "kids", "infant", "baby"),
    "youth": ("young", "youths", "youngadult", "teen", "teens", "teenager", "adolescent"),
    "adult": ("adults",),
    "middle": ("middleaged", "middleage", "middleagedadult", "midage"),
    "senior": ("seniors", "old", "older", "elderly", "aged"),
}
COMPRESSIONS: Mapping[str, tuple[str, ...]] = {
    "raw": ("c0", "uncompressed", "lossless"),
    "c23": ("hq", "highquality", "23"),
    "c40": ("lq", "lowquality", "40"),
}
DATASETS: Mapping[str, tuple[str, ...]] = {
    "FaceForensics++": ("ff", "ffpp", "ff++", "faceforensics", "faceforensicspp", "faceforensicsplusplus"),
    "Celeb-DF-v2": ("celebdf", "celebdfv2", "celebdf2", "cdf", "cdfv2", "cdf2", "celebdfversion2"),
    "Celeb-DF-v1": ("celebdfv1", "celebdf1", "cdfv1", "cdf1"),
    "Celeb-DF++": ("celebdf++", "celebdfpp", "celebdfv3", "celebdf3", "cdf++", "cdfpp", "cdfv3"),
    "DeepFakeDetection": ("dfd", "googledfd", "deepfakedetectiondataset"),
    "DFDC": ("dfdcfull", "deepfakedetectionchallenge"),
    "DFDC-preview": ("dfdcp", "dfdcpreview"),
    "DeeperForensics-1.0": ("deeperforensics", "deeperforensics1", "dfo", "dforensics"),
    "WildDeepfake": ("wdf", "wilddeepfakes", "wild"),
    "FakeAVCeleb": ("favc", "fakeav"),
    "UADFV": (),
    "AI-Face": ("aiface",),
    "DF40": (),
}
WORDS: Mapping[Kind, Mapping] = {
    "split": SPLITS,
    "label": LABELS,
    "gender": GENDERS,
    "age": AGES,
    "compression": COMPRESSIONS,
    "dataset": DATASETS,
}
# Cells in which nothing is said. In a column of the user's own, None and NA are words like any other.
BLANK = ("", "nan", "-nan", "n/a", "#n/a", "#n/a n/a", "#na", "<na>", "null", "nil", "-", "?", ".")
# Cells in which someone says that it is not known or not told.
NOT_TOLD = (
    *("unknown", "notavailable", "notannotated", "missing", "undefined", "unspecified", "notspecified", "??"),
    *("prefernottosay", "prefernottoanswer", "prefernottodisclose", "notstated", "notsaid", "undisclosed"),
    *("notdisclosed", "notprovided", "nottold", "declined", "declinedtoanswer", "noanswer", "notsure"),
    *("unsure", "dontknow", "don'tknow", "unclear", "cannottell", "can'ttell", "tbd", "k.a.", "k.a"),
    *("keineangabe", "keineangaben", "unbekannt", "inconnu", "desconocido", "---", "--", "–", "—", "n.a."),
)
UNSAID = (*BLANK, *NOT_TOLD, "none", "na")


def plain(word: object) -> str:
    """A word in small letters, without spaces, hyphens, underscores, brackets and %.

    Nor a full stop, a colon or an exclamation mark at its end.

    >>> plain(" Middle-Aged "), plain("FF++"), plain("P(fake) [%]"), plain("FAKE!")
    ('middleaged', 'ff++', 'pfake', 'fake')
    """
    return re.sub(r"[\s_\-()\[\]%]+|[.:!]+\s*$", "", str(word)).lower()


def lookup(word: object, kind: Kind) -> str | int | None:
    """The canonical word, or None for a word that is not in the vocabulary.

    >>> lookup("Validation", "split"), lookup("FF++", "dataset"), lookup("GENUINE", "label")
    ('val', 'FaceForensics++', 0)
    """
    return _INDEX[kind].get(plain(word))


def canonical_dataset(name: str) -> str:
    """The published name of a dataset that is known under this one, else the name as it is.

    >>> canonical_dataset("FF++"), canonical_dataset("our uploads")
    ('FaceForensics++', 'our uploads')
    """
    found = lookup(name, "dataset")
    return name if found is None else str(found)


def read_words(
    values: pd.Series, kind: Kind, readings: list[Reading], *, unknown: Literal["keep", "refuse"] = "refuse"
) -> pd.Series:
    """The values in canonical words; missing where a cell says nothing.

    Args:
        values: any column; its name stands in messages.
        kind: which part of the vocabulary.
        readings: where spellings that were changed are said, one entry for the column.
        unknown: ``keep`` leaves a word that is not in the vocabulary as it is, without surrounding spaces.

    Raises:
        InputError: a word is not in the vocabulary; all words that were found are listed with their numbers.
    """
    words = distinct_words(values)
    known = {word: lookup(word, kind) for word in words}
    strange = [word for word, found in known.items() if found is None]
    if strange and unknown == "refuse":
        counted = values[values.notna()].astype(str).str.strip().value_counts()
        listed = ", ".join(f"{word} ({counted[word]})" for word in list(counted.index)[:12])
        allowed = ", ".join(map(str, WORDS[kind]))
        raise InputError(
            f"column {values.name!r} holds {strange[0]!r}, which is no {kind}; allowed are {allowed} in "
            f"their usual spellings. Found were {listed}. If the column is for something else, rename it"
        )
    changed = [
        f"{word} as {found}" for word, found in known.items() if found is not None and word != str(found)
    ]
    if changed:
        readings.append(Reading(f"column {values.name!r}", f"{', '.join(changed[:8])}"))
    mapping = {word: word if found is None else found for word, found in known.items()}
    return map_distinct(values, lambda value: mapping.get(str(value).strip()))


def map_distinct(values: pd.Series, of: Callable[[object], object]) -> pd.Series:
    """The column with each value replaced by what ``of`` gives for it; missing stays missing.

    Every distinct value is looked at once: columns of a million rows have few words.
    """
    import pandas as pd

    codes, words = pd.factorize(values)
    found = [of(word) for word in words]
    if all(type(new) is type(old) and new == old for new, old in zip(found, words, strict=True)):
        return values
    # Position -1, which a missing value has, is no row of theirs: filled with NaN.
    taken = pd.Series(found, dtype=None if found else object).reindex(codes)
    return taken.set_axis(values.index).rename(values.name)


def distinct_words(values: pd.Series) -> list[str]:
    """The words of a column, stripped, in order of appearance, without blank ones."""
    text = values.drop_duplicates().dropna().map(lambda value: str(value).strip())
    return [word for word in dict.fromkeys(text) if plain(word) not in _UNSAID]


def split_of(name: str) -> str | None:
    """The split that a folder's or file's name says, whole or as one of its words.

    None for no or two splits.

    >>> split_of("Validation"), split_of("training_fake"), split_of("tests"), split_of("contest")
    ('val', 'train', 'test', None)
    """
    whole = lookup(name, "split")
    words = [*_words(name), *(word.removesuffix("s") for word in _words(name))]
    found = {whole} if whole else {lookup(word, "split") for word in words} - {None}
    return str(found.pop()) if len(found) == 1 else None


def label_of(name: str) -> int | None:
    """1 where a name says fake, 0 where it says real, None for neither or for both.

    Whole words count, so that ``whichisreal`` says nothing and ``whichisreal_Fake`` says fake. A "not" turns
    the word behind it round.

    >>> label_of("0_real"), label_of("whichisreal_Fake"), label_of("real_vs_fake"), label_of("unreal")
    (0, 1, None, None)
    >>> label_of("not_real"), label_of("not-real-640"), label_of("non fakes")
    (1, 1, 0)
    """
    parts = _words(re.sub(r"(?<![a-z])(not?|non)[^a-z]+(?=[a-z])", r"\1", name.lower()))
    words = {plain(name), *parts, *(word.removesuffix("s") for word in parts)}
    found = {_INDEX["label"][word] for word in words if word in _INDEX["label"] and word not in ANSWERS}
    return int(found.pop()) if len(found) == 1 else None


def _words(name: str) -> list[str]:
    """The words of a name: letters, parted by any other sign.

    >>> _words("Celeb-real"), _words("FakeManipulation-1"), _words("REAL2")
    (['celeb', 'real'], ['fakemanipulation'], ['real'])
    """
    return [word for word in re.split(r"[^a-z]+", name.lower()) if word]


def _index(words: Mapping) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for canonical, others in words.items():
        for word in (plain(canonical), *others):
            assert found.setdefault(word, canonical) == canonical, word
    return found


_INDEX = {kind: _index(words) for kind, words in WORDS.items()}
_UNSAID = frozenset(plain(word) for word in UNSAID)
_NOT_TOLD = frozenset(plain(word) for word in (*BLANK, *NOT_TOLD))


def unsaid(values: pd.Series) -> pd.Series:
    """True where a cell is missing or says that nothing is known."""
    import pandas as pd

    said = map_distinct(values, lambda value: plain(value) in _UNSAID)
    return said.fillna(True).astype(bool) if values.notna().any() else pd.Series(True, values.index)


def is_not_told(word: object) -> bool:
    """True if a cell says that a group is not known; None and NA may be groups.

    >>> [is_not_told(word) for word in ("?", "Prefer not to say", "n/a", "None", "NA")]
    [True, True, True, False, False]
    """
    return plain(word) in _NOT_TOLD


def unify_spellings(values: pd.Series, readings: list[Reading]) -> pd.Series:
    """The words of a column; those that differ in case or spaces alone become one.

    Words for "not told" become missing and are counted; None and NA stay, since they may be groups.

    >>> import pandas as pd
    >>> said = []
    >>> list(unify_spellings(pd.Series(["Glasses", "glasses ", "glasses", "None"], name="eyewear"), said))
    ['glasses', 'glasses', 'glasses', 'None']
    """
    counted = values.value_counts()
    # Control characters would reach pages and terminals.
    stripped = {value: printable(str(value).strip()) for value in counted.index}
    not_told = [value for value, word in stripped.items() if is_not_told(word)]
    weight: dict[str, int] = {}
    for value, word in stripped.items():
        weight[word] = weight.get(word, 0) + int(counted[value])
    chosen: dict[str, str] = {}
    for word in sorted(weight, key=lambda word: -weight[word]):
        chosen.setdefault(" ".join(word.lower().split()), word)
    mapping = {
        value: math.nan if value in not_told else chosen[" ".join(word.lower().split())]
        for value, word in stripped.items()
    }
    changed = [
        f"{value!r} as {new}" for value, new in mapping.items() if isinstance(new, str) and str(value) != new
    ]
    if not_told:
        listed = ", ".join(f"{value} ({counted[value]})" for value in not_told)
        readings.append(Reading(f"column {values.name!r}", f"not told, as unknown: {listed}"))
    if changed:
        readings.append(Reading(f"column {values.name!r}", ", ".join(changed[:8])))
    return map_distinct(values, mapping.get) if changed or not_told else values


LIFETIME = (0, 120)  # years


def group_ages(years: pd.Series, bounds: tuple[float, ...]) -> pd.Series:
    """The group of each number of years, by the first years of the groups.

    Missing stays missing, and what is no age of a person (below 0, above 120) becomes so.

    >>> import pandas as pd
    >>> list(group_ages(pd.Series([17, 30, 49.5, 50, float("nan")]), (30, 50)))
    ['under 30', '30 to 49', '30 to 49', '50 and over', nan]
    """
    import pandas as pd

    if not bounds or list(bounds) != sorted(set(bounds)) or bounds[0] <= 0:
        raise InputError(
            f"age_groups={list(bounds)} cannot be used; give the first year of each group but the youngest, "
            "rising, as age_groups=[18,30,50]"
        )
    first, last = f"under {bounds[0]:g}", f"{bounds[-1]:g} and over"
    between = [f"{low:g} to {high - 1:g}" for low, high in pairwise(bounds)]
    edges = [float("-inf"), *bounds, float("inf")]
    years = years.where(years.between(*LIFETIME))
    return pd.cut(years.astype("float64"), edges, right=False, labels=[first, *between, last]).astype(object)
