"""What a join of annotations found: numbers, one text, and a table of the rows concerned."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import TEXT, write_frame
from unmasked.datasets.votes import Decided

FINDINGS = ("not_annotated", "not_in_table", "unclear", "repeated", "conflict", "other_label")
COLUMNS = ("finding", "dataset", "video", "path", "attribute", "values")


@dataclass(frozen=True)
class JoinReport:
    """What a join found. All are counts; of the table's rows where not said."""

    annotation: str  # which code books' files were joined
    rows: int
    matched: int  # rows that are annotated, or whose video is
    by_path: int  # those found by their path
    by_frame: int  # those given the annotation of their own or the nearest frame; policy frame only
    annotated: int  # annotated videos
    conflicts: dict[str, int]  # attribute -> annotated videos whose frames disagree on it
    undecided: dict[str, int]  # attribute -> those left missing, by the policy or because no majority exists
    replaced: dict[str, int]  # attribute -> rows that said otherwise before
    policy: str
    findings: pd.DataFrame = field(repr=False)  # COLUMNS: a row for each thing found, see FINDINGS

    @property
    def unmatched(self) -> int:
        """Rows that are not annotated, nor is their video."""
        return self.rows - self.matched

    @property
    def unused(self) -> int:
        """Annotated videos that are not in the table, or not clear whose."""
        return self._count("not_in_table") + self.unclear

    @property
    def unclear(self) -> int:
        """Annotated videos of no named dataset that several of the table's datasets have.

        They are left out.
        """
        return self._count("unclear")

    @property
    def duplicated(self) -> int:
        """Annotation rows that repeat an earlier one."""
        return self._count("repeated")

    @property
    def label_disagreements(self) -> int:
        """Rows whose label is not the annotation's."""
        return self._count("other_label")

    def as_dict(self) -> dict[str, Any]:
        """The counts, under their names."""
        counts = ["rows", "matched", "unmatched", "by_path", "by_frame", "annotated", "unused", "unclear"]
        counts += ["duplicated", "conflicts", "undecided", "replaced", "label_disagreements"]
        return {name: getattr(self, name) for name in ("annotation", "policy", *counts)}

    def __str__(self) -> str:
        parts = [f"{self.annotation}: {self.matched} of {self.rows} rows annotated, {self.unmatched} not"]
        if self.by_path:
            parts.append(f"by their path: {self.by_path}")
        if self.by_frame:
            parts.append(f"by their own or the nearest frame: {self.by_frame}")
        if self.unused:
            parts.append(f"videos annotated but not in the table: {self.unused} of {self.annotated}")
        if self.unclear:
            parts.append(f"of these in several datasets, which a column `dataset` would tell: {self.unclear}")
        if self.duplicated:
            parts.append(f"annotation rows that repeat another: {self.duplicated}")
        for attribute, count in self.conflicts.items():
            if count:
                left = f"{self.undecided[attribute]} left missing, policy {self.policy}"
                parts.append(f"videos whose frames disagree on {attribute}: {count} ({left})")
        for attribute, count in self.replaced.items():
            if count:
                parts.append(f"rows that said otherwise on {attribute} before, replaced: {count}")
        if self.label_disagreements:
            parts.append(f"rows with another label there, the table's kept: {self.label_disagreements}")
        return "; ".join(parts)

    def _count(self, finding: str) -> int:
        return int((self.findings["finding"] == finding).sum())


def write_reports(reports: Sequence[JoinReport], path: str | os.PathLike[str]) -> None:
    """Writes the findings of all reports as a table (.csv, .parquet), or with counts (.json).

    The file is written whole or not at all.

    Raises:
        InputError: another suffix.
    """
    suffix = Path(path).suffix
    if suffix == ".json":
        write_json(path, [{**report.as_dict(), "findings": _records(report.findings)} for report in reports])
    elif suffix in (".csv", ".parquet"):
        tables = [report.findings.assign(annotation=report.annotation) for report in reports]
        write_frame(pd.concat(tables, ignore_index=True)[["annotation", *COLUMNS]], path)
    else:
        raise InputError(
            f"join report {path} has the suffix {suffix!r}; it is written as .csv, .parquet or .json"
        )


class Found(NamedTuple):
    """Where each row of a table was found among the annotations; (N,), -1 where nowhere."""

    row: np.ndarray  # the annotation row of the same path
    video: np.ndarray  # the number of the annotated video
    unclear: np.ndarray  # (K,) the videos of rows that are left out: several datasets have their name


def findings(
    table: pd.DataFrame, annotations: pd.DataFrame, number: np.ndarray, videos: Decided, found: Found
) -> pd.DataFrame:
    """COLUMNS, a row for each row that one side lacks, or about which both disagree.

    Args:
        table: what was joined to.
        annotations: what `read_annotations` gives.
        number: (M,) the number of each annotation row's video.
        videos: what the rows of each video say together.
        found: where the table's rows were found.
    """
    units = len(videos.values)
    first = np.full(units, -1)  # an annotation row of each video, to name it by
    named = np.flatnonzero(number >= 0)[::-1]
    first[number[named]] = named
    used = np.zeros(units, dtype=bool)
    used[found.video[found.video >= 0]] = True
    unclear = np.isin(np.arange(units), found.unclear)
    absent, several = (annotations.iloc[first[which]] for which in (~used & ~unclear, unclear))
    repeated = annotations[annotations.duplicated(["dataset", "key", "path"]).to_numpy()]
    other = table[_has_other_label(table, annotations, number, found)]
    return pd.concat(
        [
            _rows("not_annotated", table[found.video < 0]),
            _rows("not_in_table", absent.assign(video=absent["key"])),
            _rows("unclear", several.assign(video=several["key"])),
            _rows("repeated", repeated.assign(video=repeated["key"])),
            _conflicts(annotations, videos, first),
            _rows(
                "other_label", other, attribute="label", values="the table says " + other["label"].astype(str)
            )
            if "label" in table
            else _rows("other_label", other),
        ],
        ignore_index=True,
    )


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


def _rows(finding: str, rows: pd.DataFrame, **columns: object) -> pd.DataFrame:
    filled = rows.assign(finding=finding, **columns).reindex(columns=list(COLUMNS))
    return filled.astype(TEXT).reset_index(drop=True)


def _conflicts(annotations: pd.DataFrame, videos: Decided, first: np.ndarray) -> pd.DataFrame:
    """A row a video and attribute in conflict: ``female 3, male 5; male taken``."""
    differing = videos.differing
    told = differing["value"] + " " + differing["votes"].astype(str)
    by = differing.assign(told=told, winner=differing["value"].where(differing["taken"])).groupby(
        ["unit", "attribute"], sort=False
    )
    rows = by.agg(told=("told", ", ".join), winner=("winner", "first")).reset_index()
    values = rows["told"] + "; " + (rows["winner"] + " taken").fillna("left missing")
    named = annotations.iloc[first[rows["unit"]]].reset_index(drop=True)
    return _rows(
        "conflict", named.assign(video=named["key"], path=np.nan, attribute=rows["attribute"], values=values)
    )


def _has_other_label(
    table: pd.DataFrame, annotations: pd.DataFrame, number: np.ndarray, found: Found
) -> np.ndarray:
    """(N,) whether the annotation of a row's path, else any of its video's, has another label."""
    if "label" not in table:
        return np.zeros(len(table), dtype=bool)
    label = table["label"].to_numpy()
    stated = annotations["label"].to_numpy()
    units = int(number.max(initial=-1)) + 1
    says = [np.bincount(number[(stated == which) & (number >= 0)], minlength=units) > 0 for which in (0, 1)]
    by_video = np.where(label == 1, says[0][found.video], says[1][found.video]) & (found.video >= 0)
    by_path = ~np.isnan(stated[found.row]) & (stated[found.row] != label)
    return np.where(found.row >= 0, by_path, by_video)
