"""Numbers that others have published.

Where they stand, how they came about, and never among measured ones.
A file in ``configs/published`` holds those of one source. They are shown as tables of their own, one a
source, since two sources differ in more than the detector: which checkpoint was chosen and by what, whether
frames or videos were ranked, how faces were cropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unmasked.datasets.documents import read_json
from unmasked.evaluation.metrics import METRICS
from unmasked.evaluation.records import Measures
from unmasked.evaluation.shipped import load_shipped
from unmasked.evaluation.tables import Table

FOLDER = "published"
HEADING = "Reported by others, not measured here"


class Results(BaseModel):
    """Values of one metric at one level: detector -> dataset -> value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(description="a name of METRICS")
    level: Literal["frame", "video", "not stated"] = Field(description="what was ranked")
    values: dict[str, dict[str, float]] = Field(description="detector -> tested on -> value, a share of 1")

    @model_validator(mode="after")
    def _is_possible(self) -> Results:
        if self.metric not in METRICS:
            raise ValueError(f"metric {self.metric!r} is not known; choose one of {', '.join(METRICS)}")
        facts = METRICS[self.metric]
        for detector, by_dataset in self.values.items():
            for dataset, value in by_dataset.items():
                if not facts.minimum <= value <= facts.maximum:
                    raise ValueError(
                        f"{detector} on {dataset} has the {self.metric} {value:g}, which lies outside "
                        f"{facts.minimum:g} to {facts.maximum:g}; write percentages as shares of 1"
                    )
        if not any(self.values.values()):
            raise ValueError("no value is given")
        return self


class Published(BaseModel):
    """The numbers of one source, and what must be known to read them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(description="of the table")
    source: str = Field(min_length=1, description="paper, repository or thread, with its address")
    table: str = Field(description="which table or post, and its setting")
    status: Literal["reported", "re-measured"] = Field(
        description="reported: by who made the detector or the bench. re-measured: by somebody else with the "
        "released weights or code"
    )
    by: str = Field(description="whose numbers they are")
    verified: bool = Field(True, description="were the values compared with the source itself")
    trained_on: str = Field(description="dataset that the detectors were trained on")
    compression: str | None = Field(None, description="of the training data")
    selection: str = Field(description="how the checkpoint was chosen")
    is_oracle: bool | None = Field(None, description="did the test sets choose it; not given if unknown")
    differences: tuple[str, ...] = Field(description="what else is unlike an evaluation by this project")
    results: tuple[Results, ...] = Field(min_length=1, description="the values")

    @property
    def status_text(self) -> str:
        """The status in words."""
        return self.status if self.verified else f"{self.status}, not verified"


def load_published(names: Sequence[str | Path]) -> list[Published]:
    """The files of those names in ``configs/published``, or your own; see `load_shipped`."""
    return [load_shipped(Published, FOLDER, name) for name in names]


def read_published(folder: Path) -> list[Published]:
    """What others report, as `unmasked evaluate` put it beside the results in a folder."""
    path = folder / "published.json"
    stated = read_json(path, "run `unmasked evaluate` again").get("published") if path.is_file() else []
    return [Published.model_validate(fields) for fields in stated or []]


def published_table(published: Published, settings: Measures | None = None) -> Table:
    """One source's numbers by dataset, with what sets them apart from measured ones below.

    Args:
        published: the source.
        settings: ``settings`` of the measured results that they will be shown beside.
    """
    columns = [
        (results, detector, values)
        for results in published.results
        for detector, values in results.values.items()
    ]
    tested = list(dict.fromkeys(name for _, _, values in columns for name in values))
    return Table(
        title=f"{HEADING}: {published.title}",
        label=f"published-{published.title}",
        head=["tested on", *(_heading(results, detector) for results, detector, _ in columns)],
        rows=[[name, *(_value(values.get(name)) for _, _, values in columns)] for name in tested],
        notes=_notes(published, settings or {}),
    )


def _heading(results: Results, detector: str) -> str:
    level = results.level if results.level != "not stated" else "level not stated:"
    return f"{detector}: {level} {METRICS[results.metric].title}"


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".rstrip("0").ljust(5, "0")


def _notes(published: Published, settings: Measures) -> list[str]:
    trained = " ".join(filter(None, [published.trained_on, published.compression]))
    notes = [
        f"Status: {published.status_text}, by {published.by}. Source: {published.source}; {published.table}.",
        f"Trained on {trained}. Selection: {published.selection}.",
    ]
    differences = list(published.differences)
    levels = sorted({results.level for results in published.results})
    if levels != ["video"]:
        differences.insert(0, f"level: {', '.join(levels)}; measured here: frames and videos, each named")
    if published.is_oracle:
        chosen = settings.get("selection_rule", "not stated")
        differences.insert(0, f"the test sets chose the checkpoint; selection here: {chosen}")
    source = settings.get("source", "not stated")
    if source not in ("not stated", published.trained_on):
        differences.insert(0, f"trained on {published.trained_on}, and here on {source}")
    notes.append("What sets them apart from measured numbers: " + "; ".join(differences) + ".")
    return notes
