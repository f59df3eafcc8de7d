"""An audit of a predictions table, dataset by dataset, and the files of its numbers."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.origin import scores_digest
from unmasked.evaluation.predictions import (
    choose_test_split,
    evaluated_rows,
    evaluated_rows_and_notes,
    is_perturbed,
    noun_of,
)
from unmasked.evaluation.thresholds import Threshold
from unmasked.fairness.across import long_tables
from unmasked.fairness.across.monitoring import write_audited
from unmasked.fairness.groups import UNKNOWN, check_values, group_columns
from unmasked.fairness.inputs import operating_point
from unmasked.fairness.records import FILE, Across, FairnessResults, Origin
from unmasked.fairness.result import Audit, audit_rows
from unmasked.fairness.selection import Level, rows_of_one, select_from
from unmasked.fairness.settings import fewest_samples
from unmasked.fairness.statistics.slices import Settings

logger = logging.getLogger(__name__)


def audit_predictions(
    predictions: pd.DataFrame,
    by: Sequence[str],
    *,
    threshold: float | Threshold = 0.5,
    level: Level = "video",
    dataset: str | None = None,
    detector: str | None = None,
    **statistics: Any,
) -> Audit:
    """The audit of one dataset's predictions by groups of the people who are shown.

    Args:
        predictions: a predictions table with the attributes as columns.
        by: attributes, see `groups.group_columns`; ``"gender × skin_tone"`` crosses two.
        threshold: a row is called fake when its score exceeds it; of a stored one the rule and the rows
            that it was fitted on are kept as well.
        level: "video" decides once for each video, by its mean score, as a user of a detector meets it;
            "frame" counts every scored crop, as the published benches do. Intervals and tests take the
            person or video as the unit either way.
        dataset, detector: which one, where the table holds several. `selection.select` says which of its
            rows count.
        statistics: n_boot, n_perm, margin, min_clusters, min_samples, random_state of `audit`.
            min_samples counts frames at both levels; it is 100, or 1 where a row is a video.

    Raises:
        InputError: several datasets or detectors and none chosen, a video in two groups of an attribute,
            and whatever `audit` refuses.
    """
    evaluated, notes = evaluated_rows_and_notes(rows_of_one(predictions, dataset=dataset, detector=detector))
    selection = select_from(evaluated, by, level=level)
    value, rule = operating_point(threshold)
    settings = Settings(
        threshold=value,
        threshold_rule=rule,
        unit=selection.unit,
        level=level,
        **{"min_samples": fewest_samples(single=selection.single)} | statistics,
    )
    origin = _origin(selection.table, notes)
    origin["scores"] = scores_digest(evaluated)
    if (noun := noun_of(evaluated)) != "video":
        origin["noun"] = noun
    if isinstance(threshold, Threshold):
        origin |= {"rule": threshold.rule, "fitted_on": threshold.fitted_on}
    return audit_rows(selection.rows, selection.groups, settings, origin, selection)


def audit_datasets(
    predictions: pd.DataFrame,
    by: Sequence[str],
    *,
    thresholds: float | Threshold | Mapping[str, float] = 0.5,
    level: Level = "video",
    detector: str | None = None,
    **statistics: Any,
) -> tuple[dict[str, Audit], dict[str, str]]:
    """`audit_predictions` of each dataset in the table, and why others could not be audited.

    An attribute that a dataset has no annotation of is left out there, with a reason; the audits are
    families of tests of their own.

    Args:
        predictions: a predictions table of any number of datasets.
        by: attributes, as columns of the table.
        thresholds: one for all, or by dataset.
        level, detector: see `audit_predictions`.
        statistics: see `audit_predictions`.

    Returns:
        Audits by dataset, and "dataset: attribute" or "dataset" -> reason.

    Raises:
        InputError: an attribute that is no column, or no dataset that can be audited.
    """
    group_columns(predictions, by)  # an attribute that is no column is a mistake, not a gap in one dataset
    ours = rows_of_one(predictions, detector=detector)
    evaluated = evaluated_rows(ours)
    notes = choose_test_split(ours, ~is_perturbed(ours).to_numpy())[1]
    audits, skipped = {}, {}
    for dataset in predictions["dataset"].unique():
        table = evaluated[evaluated["dataset"] == dataset]
        if table.empty:
            skipped[str(dataset)] = next(note for note in notes if note.startswith(f"{dataset} is not"))
            continue
        usable = []
        for name in [by] if isinstance(by, str) else by:
            column = group_columns(table, [name]).iloc[:, 0]
            if reason := _unusable_reason(column):
                skipped[f"{dataset}: {column.name}"] = reason
            else:
                usable.append(name)
        if usable:
            threshold = thresholds[dataset] if isinstance(thresholds, Mapping) else thresholds
            audits[str(dataset)] = audit_predictions(
                predictions,
                usable,
                threshold=threshold,
                level=level,
                dataset=dataset,
                detector=detector,
                **statistics,
            )
    for name, reason in skipped.items():
        logger.info("not audited: %s (%s)", name, reason)
    if not audits:
        listed = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise InputError(f"no dataset can be audited. {listed}")
    return audits, skipped


def write(
    audits: Mapping[str, Audit],
    skipped: Mapping[str, str],
    out: str | os.PathLike[str],
    *,
    more: Across | None = None,
) -> FairnessResults:
    """Writes ``fairness.json`` and the long tables; returns what the former holds.

    ``more`` is what goes across the audits: see `unmasked.fairness.across.run`. The tables are
    ``by_group.csv``, ``gaps.csv`` (every test with its gap, interval, p-values and verdict) and, where
    ``more`` is given, ``gaps_by_stratum.csv``, ``gap_changes.csv`` and ``groups_by_perturbation.csv``;
    ``audited.parquet`` says who was counted, for `monitoring.watch`.
    """
    found = fairness_record(audits, skipped, more)
    long: list[pd.DataFrame] = []
    tests: list[pd.DataFrame] = []
    for name, audit in audits.items():
        for tables, table in ((long, audit.to_long()), (tests, audit.tests.copy())):
            table.insert(0, "dataset", name)
            tables.append(table)
    write_json(Path(out) / FILE, found)
    write_audited(audits.values(), out)
    write_frame(pd.concat(long, ignore_index=True), Path(out) / "by_group.csv")
    gaps = pd.concat(tests, ignore_index=True)
    # [["female", "other"]] is read as "female / other".
    gaps["also"] = ["; ".join(" / ".join(pair) for pair in pairs) for pairs in gaps["also"]]
    write_frame(gaps, Path(out) / "gaps.csv")
    if more is not None:
        for name, table in long_tables.tables(found).items():
            write_frame(table, Path(out) / name)
    return found


def fairness_record(
    audits: Mapping[str, Audit], skipped: Mapping[str, str] | None = None, more: Across | None = None
) -> FairnessResults:
    """What ``fairness.json`` holds, and the page is made of."""
    across: Any = {**more} if more else {}
    of_dataset = across.pop("datasets", {})
    datasets: Any = {name: audit.to_dict() | of_dataset.get(name, {}) for name, audit in audits.items()}
    return {"datasets": datasets, "skipped": dict(skipped or {}), **across}


def _unusable_reason(column: pd.Series) -> str:
    try:
        check_values(str(column.name), column[column != UNKNOWN].to_numpy())
    except InputError as error:
        return str(error)
    return ""


def _origin(table: pd.DataFrame, notes: list[str]) -> Origin:
    """Which dataset, detector and annotation an audit is of, where the table says so, and which rows."""
    found: Origin = {}
    for name in ("dataset", "detector", "checkpoint", "annotation"):
        values = table[name].dropna().unique() if name in table else []
        if len(values):
            found[name] = ", ".join(map(str, values))
    found["rows"] = notes
    return found
