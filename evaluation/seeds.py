"""Trainings that differ in their seed, put together.

The mean, and an interval over seeds and videos.
Detectors of a collection count as such where they have one name, were trained on the same data, and have
the same settings on their cards: a forest and an SVC on the same features are two detectors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from unmasked.evaluation.collection import Scored
from unmasked.evaluation.paired import across_seeds
from unmasked.evaluation.predictions import evaluated_rows, evaluated_rows_and_notes
from unmasked.evaluation.protocols import by_condition
from unmasked.evaluation.records import SeedRow
from unmasked.evaluation.tables import Table
from unmasked.evaluation.thresholds import Threshold
from unmasked.evaluation.wording import metric_text, value_text

RATES = ("fpr", "tpr")
TITLE = "Several trainings of one detector"
# Settings of the machine and of what is kept: two trainings that differ in these alone differ in their seed.
OF_THE_MACHINE = (
    *("workers", "cache_mb", "devices", "deterministic", "compile", "sync_batchnorm", "precision"),
    *("log_every_steps", "save_every_steps", "val_batch", "keep_best", "max_minutes"),
)


def seed_rows(
    scored: Sequence[Scored],
    *,
    thresholds: Mapping[str, Threshold] | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> list[SeedRow]:
    """A row for each detector with several trainings and each dataset that all scored.

    See `paired.across_seeds` for the interval.

    Args:
        scored: the detectors of a collection.
        thresholds: the stored operating point of each, by its name in ``scored``.
        n_boot, seed: of the resampling.
    """
    groups: dict[Any, list[Scored]] = {}
    for one in scored:
        training = one.training
        data = (training.datasets, training.compression, training.methods, training.held_out)
        groups.setdefault((one.detector, data, _settings(one.card)), []).append(one)
    rows = []
    for members in groups.values():
        # Without a word on the training, two files of one name may be anything.
        if len(members) < 2 or not members[0].training.datasets:
            continue
        points = [(thresholds or {}).get(member.name) for member in members]
        rows += _rows(members, points, n_boot, seed)
    return rows


def seed_table(rows: Sequence[SeedRow], places: int = 3) -> Table:
    """The rows of `seed_rows` as a table, with so many digits behind the point."""
    with_rates = any("fpr" in row for row in rows)
    head = ["detector", "seeds", "trained on", "tested on", "videos", "video AUC, mean", "sd between seeds"]
    head += ["lowest", "highest", *(["FPR", "TPR"] if with_rates else [])]
    cells = []
    for row in rows:
        line = [row["detector"], str(row["seeds"]), row["train"], row["test"], str(row["videos"])]
        line += [value_text(row["auc"], row["auc_ci"], places=places), f"{row['auc_sd']:.3f}"]
        line += [f"{choose(row['auc_each']):.{places}f}" for choose in (min, max)]
        if with_rates:
            line += [metric_text(row, key, places=places) for key in RATES]
        cells.append(line)
    rules = "; ".join(dict.fromkeys(row["selection_rule"] for row in rows))
    note = (
        "Intervals draw seeds, then videos, the same videos for all seeds; with few seeds they are rough. "
        f"FPR and TPR at each training's own threshold. Checkpoint selection: {rules}."
    )
    return Table(TITLE, head, cells, [note], label="seeds")


def _settings(card: Mapping[str, Any]) -> str:
    """What a card says of how it was trained, but for the seed and the machine; equal for equal trainings."""
    config = {key: value for key, value in (card.get("config") or {}).items() if key != "seed"}
    for key, value in config.items():
        if isinstance(value, Mapping):
            config[key] = {name: one for name, one in value.items() if name not in OF_THE_MACHINE}
    return json.dumps([card.get("architecture"), config], sort_keys=True, default=str)


def _rows(
    members: Sequence[Scored], points: Sequence[Threshold | None], n_boot: int, seed: int
) -> list[SeedRow]:
    conditions = [_conditions(member) for member in members]
    cuts = [point.value for point in points if point is not None]
    has_cuts = len(cuts) == len(members)
    first = members[0]
    rules = dict.fromkeys(member.training.selection_rule for member in members)
    rows: list[SeedRow] = []
    for test in conditions[0]:
        if not all(test in tests for tests in conditions):
            continue
        found = across_seeds(
            [tests[test] for tests in conditions],
            thresholds=cuts if has_cuts else None,
            only=("auc", *RATES),
            n_boot=n_boot,
            seed=seed,
        )
        auc = found["metrics"]["auc"]
        row: SeedRow = {
            "detector": first.detector,
            "members": [member.name for member in members],
            "train": first.training.name,
            "test": test,
            "level": "video",
            "seeds": found["seeds"],
            "videos": found["videos"],
            "auc": auc["mean"],
            "auc_ci": auc["ci"],
            "auc_sd": auc["sd"],
            "auc_each": auc["each"],
            "left_out": found["left_out"],
            "rows": evaluated_rows_and_notes(first.predictions)[1],
            "selection_rule": "; ".join(rules),
        }
        if has_cuts:
            fpr, tpr = (found["metrics"][key] for key in RATES)
            row |= {"fpr": fpr["mean"], "tpr": tpr["mean"], "fpr_ci": fpr["ci"], "tpr_ci": tpr["ci"]}
        rows.append(row)
    return rows


def _conditions(detector: Scored) -> dict[str, pd.DataFrame]:
    """Test rows by dataset and compression, where both classes are."""
    rows = evaluated_rows(detector.predictions)
    return {name: part for name, part in by_condition(rows).items() if part["label"].nunique() == 2}
