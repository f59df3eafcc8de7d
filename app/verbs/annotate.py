"""``unmasked annotate``: demographics joined to a table that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.reading import Columns
from unmasked.app.verbs.scan import (
    AgeGroups,
    AnnotationFiles,
    Codebooks,
    JoinReportFile,
    Policy,
    join_annotations,
    print_readings,
)
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


class Config(BaseModel):
    """Which table gets which annotations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Path = Field(description="a manifest, faces or predictions table, or one of your own with a video")
    annotations: AnnotationFiles
    columns: Columns = None
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
    from unmasked.datasets.files import SUFFIXES
    from unmasked.datasets.manifest import DEMOGRAPHICS
    from unmasked.datasets.table_reading import read_table
    from unmasked.datasets.tables import write_frame
    from unmasked.evaluation.predictions import ROLES

    suffix = config.table.suffix.lower() if config.table.suffix.lower() in SUFFIXES else ".csv"
    out = config.out or config.table.with_name(f"{config.table.stem}.annotated{suffix}")
    _check_out(config, out)
    roles = {name: ROLES[name] for name in ("dataset", "video", "frame", "identity")}
    read = read_table(config.table, roles, columns=config.columns)
    print_readings(read.readings)
    joined = join_annotations(
        read.frame.reset_index(drop=True),
        config.annotations,
        config.codebook,
        policy=config.policy,
        report=config.join_report,
        age_groups=config.age_groups,
    )
    joined.index = read.frame.index
    before = read.frame
    new = [name for name in joined if name not in before or not joined[name].equals(before[name])]
    changed = (*DEMOGRAPHICS, "annotation", *(name for name in new if name not in DEMOGRAPHICS))
    written = _as_it_was(config.table, before, joined, tuple(dict.fromkeys(changed)))
    write_frame(written, out)
    print_result(f"{len(written)} rows written to {out}")


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
    """The cells of a file as they stand in it, with the joined columns added or, if unlike, changed.

    Numbers of a text are not written anew: 007, 1e5 and twenty decimals stay what they are. Rows that belong
    to no video, such as totals, stay as well.
    """
    from unmasked.datasets.csv_files import read_csv_as_text
    from unmasked.datasets.tables import HEADER_ROWS, TEXTS, read_frame

    if path.suffix.lower() in TEXTS:
        written = read_csv_as_text(path)
        written = written[~(written.apply(lambda column: column.str.strip()) == "").all(axis=1)]
    else:
        written = read_frame(path, readings=[], keep_rows=True)
    written.index += HEADER_ROWS
    for name in changed:
        values = joined[name].reindex(written.index)
        if name not in written:
            written[name] = values
            continue
        before = table[name].reindex(written.index)
        same = (values == before) | (values.isna() & before.isna())
        written[name] = written[name].astype(object).where(same, values)
    return written
