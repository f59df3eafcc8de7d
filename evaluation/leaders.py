"""Which of several detectors ranks best on datasets that none was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import pandas as pd

from unmasked.evaluation.collection import Scored
from unmasked.evaluation.compare import reading
from unmasked.evaluation.metrics import Aggregation, auc, video_scores
from unmasked.evaluation.paired import paired_difference
from unmasked.evaluation.predictions import evaluated_rows
from unmasked.evaluation.protocols import by_condition
from unmasked.evaluation.records import LeaderRow
from unmasked.evaluation.wording import count_in_100, list_names, value_text

CHOSEN_HERE = (
    "The first was chosen on the same videos that its lead is measured on, so leads are a little too large."
)


def leader_rows(
    scored: Sequence[Scored], *, aggregation: Aggregation = "mean", n_boot: int = 2000, seed: int = 0
) -> list[LeaderRow]:
    """A row for each dataset that all detectors scored and none was trained on.

    The leader has the highest video AUC; against each other one the paired difference on the videos that
    both scored. Datasets of one class are left out.

    Args:
        scored: the detectors of a collection, two or more.
        aggregation: how frame scores become a video score.
        n_boot, seed: of the resampling.
    """
    tables = {one.name: by_condition(evaluated_rows(one.predictions)) for one in scored}
    trained = {name for one in scored for name in one.training.datasets}
    found: list[LeaderRow] = []
    for test in next(iter(tables.values())):
        parts = {name: conditions[test] for name, conditions in tables.items() if test in conditions}
        if len(parts) < len(tables) or trained & set(next(iter(parts.values()))["dataset"]):
            continue
        values = {name: _auc(rows, aggregation) for name, rows in parts.items()}
        if any(isnan(value) for value in values.values()):
            continue
        first = max(values, key=lambda name: values[name])
        row: LeaderRow = {"test": test, "detector": first, "auc": values[first], "against": []}
        for name in sorted(set(parts) - {first}, key=lambda name: -values[name]):
            pair = paired_difference(
                parts[first], parts[name], aggregation=aggregation, only=["auc"], n_boot=n_boot, seed=seed
            )
            auc_of = pair["metrics"]["auc"]
            row["against"].append(
                {
                    "name": name,
                    "difference": auc_of["difference"],
                    "difference_ci": list(auc_of["difference_ci"]),
                    "reading": reading("auc", auc_of, pair["n"]["shared_videos"]),
                }
            )
        found.append(row)
    return found


def leader_sentences(rows: Sequence[LeaderRow]) -> list[str]:
    """What the rows of `leader_rows` say: one sentence over all, then one a dataset."""
    if not rows:
        return []
    firsts = list(dict.fromkeys(row["detector"] for row in rows))
    datasets = list_names([row["test"] for row in rows])
    is_beyond_chance = all(one["reading"] == "a is better" for row in rows for one in row["against"])
    if len(firsts) > 1:
        places = list_names([f"{row['detector']} on {row['test']}" for row in rows])
        overall = f"None is first everywhere, but {places}"
    elif is_beyond_chance:
        overall = f"{firsts[0]} holds up best: it ranks better than every other one on {datasets}"
    else:
        overall = f"{firsts[0]} is first on {datasets}, but not by more than chance against every other one"
    return [f"{overall}.", *map(_sentence, rows)]


def _sentence(row: LeaderRow) -> str:
    others = []
    for one in row["against"]:
        said = "" if one["reading"] == "a is better" else f": {one['reading']}"
        lead = value_text(one["difference"], one["difference_ci"], plus=True)
        others.append(f"{lead} against {one['name']}{said}")
    return (
        f"On {row['test']}, {row['detector']} ranks a fake above a real video in "
        f"{count_in_100(row['auc'])} of 100 pairs; AUC {'; '.join(others)}."
    )


def _auc(rows: pd.DataFrame, aggregation: Aggregation) -> float:
    videos = video_scores(rows, aggregation)
    return auc(videos["label"], videos["score"])
