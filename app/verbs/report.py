"""``unmasked report``: a run's folder -> one page, a model card, figures with numbers."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result


class Config(BaseModel):
    """Which run is reported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Path = Field(
        description="a run's folder; whatever is in it goes into the page; or that of several detectors"
    )
    truth: Path | None = Field(
        None, description="truth.json of a synthetic corpus, to set what was planted beside what was found"
    )


def run(config: Config) -> None:
    """Writes ``report.html``, ``figures/`` and, for one run, ``model_card.md``."""
    from unmasked.analysis.reports.run.collection import write_collection_report
    from unmasked.analysis.reports.run.folder import is_collection
    from unmasked.analysis.reports.run.page import write_report

    if is_collection(config.run):
        page = write_collection_report(config.run)
    else:
        page = write_report(config.run, truth=config.truth)
    print_result(f"report: {page}; its figures with their numbers: {page.parent / 'figures'}")
