"""An audit of a predictions table: which rows, whose they are, and what is written."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_json, write_text
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.metrics import video_scores
from unmasked.fairness.audit import Audit, audit_rows, check_rows
from unmasked.fairness.groups import UNKNOWN, check_groups, check_one_group, check_values, group_columns
from unmasked.fairness.slices import Rows, Settings

log = logging.getLogger(__name__)

Level = Literal["video", "frame"]
MIN_SAMPLES = 100


def audit_predictions(
    predictions: pd.DataFrame,
    by: Sequence[str],
    *,
    threshold: float = 0.5,
    level: Level = "video",
    dataset: str | None = None,
    **statistics: Any,
) -> Audit:
    """The audit of one dataset's predictions by groups of the people who are shown.

    Only unperturbed rows count, and of these the test split where the table has one. The unit of
    resampling is the identity, where it is known and all its videos agree on its groups, else the video.

    Args:
        predictions: a predictions table with the attributes as columns.
        by: attributes, see `groups.group_columns`; ``"gender × skin_tone"`` crosses two.
        threshold: a row is called fake when its score exceeds it.
        level: "video" decides once for each video, by its mean score, as a user of a detector meets it;
            "frame" counts every scored crop, as the published benches do. Intervals and tests take the
            person or video as the unit either way.
        dataset: which one, where the table holds several.
        statistics: n_boot, n_perm, margin, min_clusters, min_samples, random_state of `audit`.
            min_samples counts frames at both levels; it is 100, or 1 where every video has one row.

    Raises:
        InputError: several datasets or detectors and none chosen, a video in two groups of an attribute,
            and whatever `audit` refuses.
    """
    if level not in ("video", "frame"):
        raise InputError(f"level {level!r} is not known; choose video or frame")
    table = _selected(predictions, dataset)
    groups = group_columns(table, by)
    for name in groups:
        known = (groups[name] != UNKNOWN).to_numpy()
        check_one_group(name, groups[name].to_numpy()[known], table["video"].to_numpy()[known], "video")
    table = table.drop(columns=[name for name in groups if name in table]).join(groups)
    single = not table.duplicated(_keys(table)).any()
    if level == "video":
        table = video_scores(table)
        # A video some of whose frames lack an annotation is known by the others.
        table[list(groups)] = table[list(groups)].fillna(UNKNOWN)
    else:
        table = table.assign(frames=1)
    label, score = check_rows(table["label"].to_numpy(), table["score"].to_numpy())
    unit, cluster = _units(table, list(groups))
    settings = Settings(
        threshold=float(threshold),
        unit=unit,
        level=level,
        **{"min_samples": 1 if single else MIN_SAMPLES} | statistics,
    )
    check_groups(table[list(groups)], label, cluster, unit)
    rows = Rows(
        label=label,
        score=score,
        cluster=pd.factorize(cluster)[0].astype(np.int64),
        video=pd.factorize(table["video"].to_numpy())[0].astype(np.int64),
        frames=table["frames"].to_numpy(dtype=np.int64),
    )
    return audit_rows(rows, table[list(groups)], settings, _origin(table))


def audit_datasets(
    predictions: pd.DataFrame,
    by: Sequence[str],
    *,
    thresholds: float | Mapping[str, float] = 0.5,
    level: Level = "video",
    **statistics: Any,
) -> tuple[dict[str, Audit], dict[str, str]]:
    """`audit_predictions` of each dataset in the table, and why others could not be audited.

    An attribute that a dataset has no annotation of is left out there, with a reason; the audits are
    families of tests of their own.

    Args:
        predictions: a predictions table of any number of datasets.
        by: attributes, as columns of the table.
        thresholds: one for all, or by dataset.
        level: see `audit_predictions`.
        statistics: see `audit_predictions`.

    Returns:
        Audits by dataset, and "dataset: attribute" or "dataset" -> reason.

    Raises:
        InputError: an attribute that is no column, or no dataset that can be audited.
    """
    group_columns(predictions, by)  # an attribute that is no column is a mistake, not a gap in one dataset
    audits, skipped = {}, {}
    for dataset in predictions["dataset"].unique():
        table = _selected(predictions, dataset)
        usable = []
        for name in [by] if isinstance(by, str) else by:
            column = group_columns(table, [name]).iloc[:, 0]
            if reason := _unusable(column):
                skipped[f"{dataset}: {column.name}"] = reason
            else:
                usable.append(name)
        if table["label"].nunique() < 2:
            skipped[str(dataset)] = "it has one class only; an audit needs real and fake videos"
        elif usable:
            threshold = thresholds[dataset] if isinstance(thresholds, Mapping) else thresholds
            audits[str(dataset)] = audit_predictions(
                predictions, usable, threshold=threshold, level=level, dataset=dataset, **statistics
            )
    for name, reason in skipped.items():
        log.info("not audited: %s (%s)", name, reason)
    if not audits:
        listed = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise InputError(f"no dataset can be audited. {listed}")
    return audits, skipped


def write(audits: Mapping[str, Audit], skipped: Mapping[str, str], out: str | os.PathLike[str]) -> Path:
    """Writes ``fairness.json``, ``by_group.csv`` and ``fairness.html``; returns the path of the page.

    ``fairness.json`` is ``{"datasets": {NAME: Audit.to_dict()}, "skipped": {…: reason}}``.
    """
    from unmasked.fairness.report import page

    found = {"datasets": {name: audit.to_dict() for name, audit in audits.items()}, "skipped": dict(skipped)}
    long = []
    for name, audit in audits.items():
        table = audit.to_long()
        table.insert(0, "dataset", name)
        long.append(table)
    write_json(Path(out) / "fairness.json", found)
    write_frame(pd.concat(long, ignore_index=True), Path(out) / "by_group.csv")
    write_text(Path(out) / "fairness.html", page(found))
    return Path(out) / "fairness.html"


def _selected(predictions: pd.DataFrame, dataset: str | None) -> pd.DataFrame:
    """The rows that count: one dataset, one detector, unperturbed, the test split where there is one."""
    table = predictions
    for column, wanted in (("dataset", dataset), ("detector", None)):
        found = table[column].dropna().unique().tolist() if column in table else []
        if wanted is not None and wanted not in found:
            raise InputError(
                f"{column} {wanted!r} is not in the predictions; they have {', '.join(map(str, found))}"
            )
        if wanted is not None:
            table = table[table[column] == wanted]
        elif len(found) > 1:
            raise InputError(
                f"the predictions hold several {column}s ({', '.join(map(str, found))}); audit one of them"
            )
    if "perturbation" in table:
        table = table[table["perturbation"].isna() | (table["perturbation"] == "none")]
    if "split" in table and (table["split"] == "test").any():
        table = table[table["split"] == "test"]
    if table.empty:
        raise InputError("no unperturbed row is left to audit; give predictions on unperturbed crops")
    return table.reset_index(drop=True)


def _keys(table: pd.DataFrame) -> list[str]:
    return [name for name in ("dataset", "video", "compression") if name in table]


def _units(table: pd.DataFrame, attributes: list[str]) -> tuple[str, np.ndarray]:
    """What is resampled ("identity" or "video") and each row's unit, as text."""
    video = "video " + table["video"].astype(object).astype(str)
    if "identity" not in table or table["identity"].isna().all():
        return "video", video.to_numpy(dtype=object)
    agreed = table["identity"].notna()
    for name in attributes:
        known = table[table[name] != UNKNOWN]
        several = known.groupby("identity")[name].nunique() > 1
        agreed &= ~table["identity"].isin(several.index[several])
    if disagree := table.loc[table["identity"].notna() & ~agreed, "identity"].nunique():
        log.warning(
            "%d identities are annotated with several groups; their videos count as separate units", disagree
        )
    identity = "identity " + table["identity"].astype(object).astype(str)
    return "identity", identity.where(agreed, video).to_numpy(dtype=object)


def _unusable(column: pd.Series) -> str:
    try:
        check_values(str(column.name), column[column != UNKNOWN].to_numpy())
    except InputError as error:
        return str(error)
    return ""


def _origin(table: pd.DataFrame) -> dict[str, Any]:
    """Which dataset, detector and annotation an audit is of, where the table says so."""
    found: dict[str, Any] = {}
    for name in ("dataset", "detector", "checkpoint", "annotation"):
        values = table[name].dropna().unique() if name in table else []
        if len(values):
            found[name] = ", ".join(map(str, values))
    return found
