"""Which way round a score is: P(fake), P(real), or the probability of what was answered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from unmasked.datasets.table_cells import Door
from unmasked.datasets.vocabulary import Reading, plain

SPEAK_OF_REAL = ("real", "genuine", "authentic", "pristine", "bonafide", "liveness")
SPEAK_OF_FAKE = ("fake", "spoof", "manipul", "synthetic", "forg")
CERTAINTY = ("confidence", "conf", "certainty", "maxprob", "maxprobability", "topprob")
FEW = 20  # so many scores of one half are no accident


def turn_scores(
    table: pd.DataFrame, called: Mapping[str, str], score_of: str | None, door: Door
) -> pd.Series:
    """(N,) P(fake); a direction that cannot be settled is among the problems of the door.

    Args:
        table: with ``score``, and ``label`` and ``predicted`` where there are any, as numbers.
        called: role -> what the file calls the column.
        score_of: fake, real or predicted, as somebody said it; None to look.
        door: gets what was taken for granted.
    """
    score, name = table["score"], called.get("score", "score")
    answer = table.get("predicted")
    if score_of == "real":
        door.readings.append(Reading("score", "P(real), turned round: 1 - score is P(fake)"))
        return 1 - score
    if score_of == "predicted":
        if answer is None:
            door.problems.append(
                "score_of=predicted needs the column of answers: columns={predicted: …} names it"
            )
            return score
        door.readings.append(
            Reading("score", f"the probability of what {called['predicted']!r} says, turned into P(fake)")
        )
        return score.where(answer == 1, 1 - score).where(answer.notna())
    if score_of is None and (doubt := _doubt(table, score, answer, name, called)):
        door.problems.append(doubt)
    elif score_of is None and name == "score" and _is_upper_half(table, score) and len(score) >= FEW:
        door.readings.append(
            Reading("score", "no score is below 0.5; taken as P(fake), not as the confidence in an answer")
        )
    return score


def _doubt(
    table: pd.DataFrame, score: pd.Series, answer: pd.Series | None, name: str, called: Mapping[str, str]
) -> str:
    """Why a score may not be P(fake), and what settles it; "" where nothing says so."""
    bare = plain(name)
    if any(word in bare for word in SPEAK_OF_REAL) and not any(word in bare for word in SPEAK_OF_FAKE):
        return (
            f"column {name!r} seems to be P(real), and a score is P(fake): score_of=real turns it round, "
            "score_of=fake takes it as it is"
        )
    has_answers = answer is not None and answer.nunique() == 2
    if _is_upper_half(table, score) and (has_answers or bare in CERTAINTY):
        seems = f"no value of column {name!r} is below 0.5: it seems to be the confidence in an answer, "
        if has_answers:
            return (
                f"{seems}whichever it is, and a score is P(fake). score_of=predicted reads it as the "
                f"probability of what {called['predicted']!r} says, score_of=fake takes it as P(fake)"
            )
        return (
            f"{seems}fake or real, and a score is P(fake). Add the answers as a column predicted and say "
            "score_of=predicted; or score_of=fake takes it as P(fake)"
        )
    if has_answers and answer is not None:
        known = answer.notna() & score.notna()
        # Every answer "real" has a higher score than every answer "fake".
        if score[known & (answer == 0)].min() > score[known & (answer == 1)].max():
            return (
                f"column {name!r} is high where {called['predicted']!r} says real: it seems to be P(real), "
                "and a score is P(fake): score_of=real turns it round, score_of=fake takes it as it is"
            )
    return ""


def _is_upper_half(table: pd.DataFrame, score: pd.Series) -> bool:
    """True if both classes are there, and no score of either is below 0.5."""
    label = table.get("label")
    both = label is None or not pd.api.types.is_numeric_dtype(label) or label.nunique() == 2
    lowest = score.min()
    return bool(both and not np.isnan(lowest) and lowest >= 0.5 and score.nunique() > 1)
