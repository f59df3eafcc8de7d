"""What ``fairness.json`` holds across datasets and strata, as tables."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from unmasked.evaluation.records import Measures
from unmasked.fairness.records import FairnessResults

STRATA = (
    *("dataset", "by", "attribute", "metric", "level", "gap", "lo", "hi", "p_value", "p_adjusted"),
    *("worst_group", "n"),
)
CHANGES = (
    *("kind", "attribute", "metric", "source", "target", "gap_source", "gap_target", "change", "lo", "hi"),
    "note",
)
PERTURBATIONS = (
    *("dataset", "perturbation", "severity", "attribute", "group", "metric", "value", "lo", "hi"),
    *("change", "change_lo", "change_hi", "compared"),
)


def tables(found: FairnessResults) -> dict[str, pd.DataFrame]:
    """File name -> table; without rows where the audit has nothing of the kind."""
    changes = [_limits(row, "change_ci", "lo", "hi") for row in found.get("changes", [])]
    perturbed = [
        _limits(_limits(row, "ci", "lo", "hi"), "change_ci", "change_lo", "change_hi")
        for row in found.get("perturbations", [])
    ]
    return {
        "gaps_by_stratum.csv": _table(list(_strata(found)), STRATA),
        "gap_changes.csv": _table(changes, CHANGES),
        "groups_by_perturbation.csv": _table(perturbed, PERTURBATIONS),
    }


def _strata(found: FairnessResults) -> Iterator[dict[str, object]]:
    """A row a level, after one of all levels pooled and one of their average."""
    for dataset, audit in found["datasets"].items():
        for entry in audit.get("strata", []):
            shared: dict[str, object] = {"dataset": dataset, **entry}
            yield shared | {"level": "all, pooled", **entry["pooled"]}
            yield shared | {"level": "all, averaged", "gap": entry["averaged"]}
            for level in entry["levels"]:
                yield shared | _limits(level, "gap_ci", "lo", "hi")


def _limits(row: Measures, name: str, low: str, high: str) -> dict[str, object]:
    return {**row, low: row[name][0], high: row[name][1]}


def _table(rows: list[dict[str, object]], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))
