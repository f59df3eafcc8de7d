"""``unmasked report``: a run's folder, or scores -> a page, a model card, figures."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from pydantic import Field

from unmasked.app.progress import print_result
from unmasked.app.verbs import evaluate
from unmasked.datasets.errors import InputError


class Config(evaluate.Config):
    """Which run is reported, or which scores, which are evaluated first."""

    run: Path | None = Field(
        None, description="a run's folder; whatever is in it goes into the page; or that of several detectors"
    )
    predictions: Path = Field(
        cast(Path, None),
        description="in place of run: scores as `unmasked evaluate` takes them; with them go its keys, "
        "from out= to seed=",
    )
    truth: Path | None = Field(
        None, description="truth.json of a synthetic corpus, to set what was planted beside what was found"
    )
    pdf: bool = Field(False, description="write each figure as PDF, too, for a paper")

    @property
    def folder(self) -> Path:
        """Where the page is written."""
        return self.run or self.out


def run(config: Config) -> None:
    """Writes ``report.html``, ``figures/`` and, for one run, ``model_card.md``."""
    from unmasked.analysis.reports.run.collection import write_collection_report
    from unmasked.analysis.reports.run.folder import is_collection
    from unmasked.analysis.reports.run.page import write_report

    _check_one(config)
    scored = [] if config.predictions is None else evaluate.evaluate_files(config)
    if is_collection(config.folder):
        page = write_collection_report(config.folder, has_pdf=config.pdf)
    else:
        table = scored[0].predictions if scored else None
        page = write_report(config.folder, predictions=table, truth=config.truth, has_pdf=config.pdf)
    print_result(f"report: {page}; its figures with their numbers: {page.parent / 'figures'}")


def _check_one(config: Config) -> None:
    """Raises InputError unless one of run and predictions is given, and nothing that the run cannot use."""
    given = config.model_fields_set - {"run", "truth", "pdf", "out"}
    if (config.run is None) == (config.predictions is None):
        raise InputError(
            "give run=FOLDER, which `unmasked evaluate` wrote to, or predictions=FILE, to be evaluated first"
        )
    if config.run is not None and (given or config.out is not None):
        listed = ", ".join(sorted(given)) or "out"
        raise InputError(f"{listed} cannot be used with run={config.run}, which is evaluated already")
