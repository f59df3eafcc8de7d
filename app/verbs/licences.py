"""``unmasked licences``.

The terms of every model, weight and dataset that a command can touch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.config import CONFIGS
from unmasked.app.progress import print_result
from unmasked.datasets.errors import InputError

FOR_RESEARCH = re.compile(r"research|non-commercial|BY-NC")


class Config(BaseModel):
    """Which part of the table is shown, and where it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["all", "weights", "data", "dataset"] = Field("all", description="which rows are shown")
    out: Path | None = Field(None, description="a .csv that gets the table as well")


class Licence(BaseModel):
    """The terms of one thing that a command can touch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["weights", "data", "dataset"]
    used_by: str  # commands, in words
    licence: str
    commercial: str  # yes, no, or why it is not settled
    where: str


def run(config: Config) -> None:
    """Prints the table, what excludes commercial use first, and writes it where asked."""
    rows = [row for row in licences() if config.kind in ("all", row.kind)]
    if config.out is not None:
        _write(rows, config.out)
    for row in rows:
        print_result(f"{row.name} ({row.kind})")
        print_result(f"  licence: {row.licence}")
        print_result(f"  commercial use: {row.commercial}; used by: {row.used_by}")
    print_result(
        "These are facts as published, not legal advice; a trained detector inherits the terms of its data."
    )
    if config.out is not None:
        print_result(f"table: {config.out}")


def licences() -> list[Licence]:
    """All rows: first what excludes commercial use, then the unsettled, then what allows it."""
    stored = OmegaConf.to_container(OmegaConf.load(CONFIGS / "licences" / "models.yaml"))
    assert isinstance(stored, list)
    rows = [*(Licence.model_validate(row) for row in stored), *_of_sources()]
    place = {"no": 0, "yes": 2}
    return sorted(rows, key=lambda row: place.get(row.commercial, 1))


def _of_sources() -> Iterator[Licence]:
    """The datasets that `unmasked scan` reads, by what their readers say."""
    from unmasked.datasets.scan import sources

    for source, module in sources().items():
        if not module.REQUEST:
            continue  # the user's own folder or table
        commercial = "no" if FOR_RESEARCH.search(module.LICENCE) else "see the terms"
        yield Licence(
            name=module.NAME,
            kind="dataset",
            used_by=f"scan source={source} (you request it)",
            licence=module.LICENCE,
            commercial=commercial,
            where=module.REQUEST,
        )


def _write(rows: list[Licence], path: Path) -> None:
    import pandas as pd

    from unmasked.datasets.tables import write_frame

    if path.suffix != ".csv":
        raise InputError(f"out={path} is not a .csv; give a name such as licences.csv")
    write_frame(pd.DataFrame([row.model_dump() for row in rows]), path)
