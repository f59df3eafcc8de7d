"""``unmasked annotate``: demographics joined to a table that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.scan import (
    AgeGroups,
    AnnotationFiles,
    Codebooks,
    JoinReportFile,
    Policy,
    join_annotations,
)
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


class Config(BaseModel):
    """Which table gets which annotations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Path = Field(description="a manifest, faces or predictions table with dataset and video")
    annotations: AnnotationFiles
    codebook: Codebooks = ("auto",)
    policy: Policy = "majority"
    age_groups: AgeGroups = ()
    join_report: JoinReportFile = None
    out: Path | None = Field(
        None, description="the annotated table, .parquet or .csv; <table>.annotated beside the table"
    )


def run(config: Config) -> None:
    """Joins the annotations, writes the table and prints what was joined.

    No file that is read is changed.
    """
    from unmasked.datasets.manifest import DEMOGRAPHICS, MANIFEST
    from unmasked.datasets.tables import read_frame, write_frame

    out = config.out or config.table.with_name(f"{config.table.stem}.annotated{config.table.suffix}")
    _check_out(config, out)
    text = [name for name, column in MANIFEST.columns.items() if column.kind == "text"]
    table = read_frame(config.table, text=text)
    joined = join_annotations(
        table,
        config.annotations,
        config.codebook,
        policy=config.policy,
        report=config.join_report,
        age_groups=config.age_groups,
    )
    if config.table.suffix.lower() == ".csv":
        joined = _as_it_was(config.table, table, joined, (*DEMOGRAPHICS, "annotation"))
    write_frame(joined, out)
    print_result(f"{len(joined)} rows written to {out}")


def _check_out(config: Config, out: Path) -> None:
    """Refuses to write over what is read.

    Raises:
        InputError: out or the join report is the table or an annotation file.
    """
    read = {path.resolve() for path in (config.table, *config.annotations)}
    for name, path in (("out", out), ("join_report", config.join_report)):
        if path is not None and path.resolve() in read:
            raise InputError(
                f"{name}={path} is a file that is read here; give another name for what is written"
            )


def _as_it_was(
    path: Path, table: pd.DataFrame, joined: pd.DataFrame, changed: tuple[str, ...]
) -> pd.DataFrame:
    """The cells of a CSV file as they stand in it, with the joined columns added or, if unlike, changed.

    Numbers are not written anew: 007, 1e5 and twenty decimals stay what they are.
    """
    from unmasked.datasets.csv_files import read_csv_as_text

    written = read_csv_as_text(path)
    # Rows without any value were left out of the table.
    written = written[~(written.apply(lambda column: column.str.strip()) == "").all(axis=1)].reset_index(
        drop=True
    )
    for name in changed:
        values = joined[name]
        if name not in written:
            written[name] = values
            continue
        before = table[name].reindex(joined.index)
        same = (values == before) | (values.isna() & before.isna())
        written[name] = written[name].astype(object).where(same, values)
    return written
