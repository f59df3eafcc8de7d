"""``unmasked annotate``: demographics joined to a table that is there already."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.scan import AnnotationFiles, Codebooks, JoinReportFile, Policy, annotated

# Columns that a CSV file holds as text, where a manifest has none of the name.
TEXT_COLUMNS = ("crop", "detector", "checkpoint", "perturbation", "recipe", "reason", "status")


class Config(BaseModel):
    """Which table gets which annotations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Path = Field(description="a manifest, faces or predictions table with dataset and video")
    annotations: AnnotationFiles
    codebook: Codebooks = ("auto",)
    policy: Policy = "majority"
    join_report: JoinReportFile = None
    out: Path | None = Field(None, description="the annotated table, .parquet or .csv; in place of the table")


def run(config: Config) -> None:
    """Joins the annotations, writes the table and prints what was joined."""
    from unmasked.datasets.manifest import MANIFEST
    from unmasked.datasets.tables import read_frame, write_frame

    text = [name for name, column in MANIFEST.columns.items() if column.kind == "text"]
    table = read_frame(config.table, text=(*text, *TEXT_COLUMNS))
    table = annotated(
        table, config.annotations, config.codebook, policy=config.policy, report=config.join_report
    )
    out = config.out or config.table
    write_frame(table, out)
    print_result(f"{len(table)} rows written to {out}")
