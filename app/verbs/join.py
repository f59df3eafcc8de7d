"""``unmasked join``: several faces or predictions tables -> one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.reading import ReadAs, print_rows, read_scores
from unmasked.app.verbs.scan import as_list
from unmasked.datasets.listing import first_names

if TYPE_CHECKING:
    import pandas as pd


class Config(ReadAs):
    """Which tables become one, and where it goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tables: Annotated[tuple[Path, ...], BeforeValidator(as_list)] = Field(
        description="faces tables or their folders, or predictions tables: tables=[A,B]"
    )
    out: Path = Field(description="the one table, .parquet or .csv; crops stay, below its folder")
    any_recipe: bool = Field(
        False, description="faces: take crops together that were made with other settings or versions"
    )


def run(config: Config) -> None:
    """Joins the tables and prints what is in the one."""
    from unmasked.evaluation.join import join_tables
    from unmasked.evaluation.row_counts import RowCount

    count = RowCount()
    unnamed: list[str] = []

    def read(path: Path) -> pd.DataFrame:
        table = read_scores(
            config, path, count=count, unlabelled=True, keeps_columns=True, says_dataset=False
        )
        unnamed.extend([path.name] * (set(table["dataset"]) == {path.name}))
        return table

    joined, kind = join_tables(config.tables, config.out, any_recipe=config.any_recipe, read=read)
    if unnamed:
        called = first_names(set(joined["dataset"]) & {*unnamed, config.out.name})
        print_result(f"no column dataset in {first_names(unnamed)}: these rows are of {called}")
    if kind == "predictions":
        print_rows(count)
    videos = joined.drop_duplicates([name for name in ("dataset", "video", "compression") if name in joined])
    listed = ", ".join(f"{name} {count}" for name, count in videos["dataset"].value_counts().items())
    print_result(f"{kind} of {len(videos)} videos ({listed}), {len(joined)} rows written to {config.out}")
