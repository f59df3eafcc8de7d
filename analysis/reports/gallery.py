"""Every figure of a run, drawn once: for the page, and as an SVG file with its numbers as CSV beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.figures.calibration import CalibrationDisplay
from unmasked.analysis.figures.curves import DetDisplay, PrecisionRecallDisplay, RocDisplay
from unmasked.analysis.figures.decisions import RiskCoverageDisplay, TransferDisplay
from unmasked.analysis.figures.dots import DotDisplay, ScoreDisplay
from unmasked.analysis.figures.matrix import MatrixDisplay
from unmasked.analysis.figures.robustness import RobustnessDisplay
from unmasked.analysis.html.page import svg_document, svg_inside
from unmasked.analysis.reports.markup import told
from unmasked.analysis.reports.run.decisions import realised
from unmasked.analysis.reports.run.folder import Run
from unmasked.analysis.reports.run.robustness import changes, setting_list, severity
from unmasked.datasets.files import write_text
from unmasked.evaluation.curves import curves, score_histogram
from unmasked.evaluation.wording import IN_BRACKETS, metric_text, number, rule_name, value_text

BINS = 12
BAND_RESAMPLES = 500


class Drawable(Protocol):
    """A display that can also give its numbers."""

    def plot(self) -> Any:
        """Draws; what it returns has the drawing under ``figure_``."""

    def table(self) -> pd.DataFrame:
        """The numbers that are drawn."""


@dataclass(frozen=True)
class Drawing:
    """A figure that was drawn: its SVG, its numbers, what it shows in words, and what stands below it."""

    document: str
    table: pd.DataFrame
    alt: str
    caption: str = ""

    @property
    def html(self) -> Markup:
        """The figure inside the page."""
        return svg_inside(self.document, self.alt, caption=self.caption)


@dataclass(frozen=True)
class _Plan:
    name: str
    display: Drawable
    alt: str
    caption: str = ""


def gallery(run: Run) -> dict[str, Drawing]:
    """Every figure that the run's numbers allow, by the name of its files.

    Figures of one dataset, or of one perturbation, have it in their name after an underscore:
    ``scores_Celeb-DF-v2``, ``robustness_jpeg``.
    """
    drawn: dict[str, Drawing] = {}
    for plan in _plans(run):
        name, again = plan.name, 2
        while name in drawn:
            name, again = f"{plan.name}-{again}", again + 1
        figure = plan.display.plot().figure_
        drawn[name] = Drawing(svg_document(figure), plan.display.table(), plan.alt, plan.caption)
    return drawn


def write_figures(drawn: Mapping[str, Drawing], folder: Path) -> None:
    """Writes ``NAME.svg`` and ``NAME.csv`` for each figure."""
    for name, drawing in drawn.items():
        write_text(folder / f"{name}.svg", drawing.document)
        write_text(folder / f"{name}.csv", drawing.table.to_csv(index=False))


def of_kind(drawn: Mapping[str, Drawing], kind: str) -> list[Drawing]:
    """The figures of a kind that there is one of for each dataset or perturbation."""
    return [drawing for name, drawing in drawn.items() if name.startswith(f"{kind}_")]


def slug(name: str) -> str:
    """A name as part of a file's name.

    >>> slug("FaceForensics++, c23")
    'FaceForensics-c23'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "unnamed"


def _plans(run: Run) -> Iterator[_Plan]:
    yield _matrix(run.metrics)
    yield from _dots(run)
    yield from _curves(run)
    yield from _thresholds(run)
    yield from _calibration(run)
    yield from _robustness(run)


def matrix_drawing(metrics: Mapping[str, Any]) -> Drawing:
    """The matrix of training and test datasets, of one detector or several."""
    plan = _matrix(metrics)
    return Drawing(svg_document(plan.display.plot().figure_), plan.display.table(), plan.alt, plan.caption)


def _matrix(metrics: Mapping[str, Any]) -> _Plan:
    matrix = MatrixDisplay.from_results(metrics)
    cells = "; ".join(
        f"trained on {cell.row}, tested on {cell.column}: "
        f"{value_text(cell.value, [cell.low, cell.high])}".replace("\n", ", ")
        for cell in matrix.cells
    )
    return _Plan(
        "matrix",
        matrix,
        f"Video AUC for each pair of training and test dataset. {cells}",
        f"How often a fake scores above a real video. {IN_BRACKETS} Framed: tested where it was trained.",
    )


def _dots(run: Run) -> Iterator[_Plan]:
    dots = DotDisplay.from_matrix(run.metrics)
    yield _Plan(
        "auc_by_dataset",
        dots,
        f"Video AUC by dataset. {told(dots.dots)}",
        "How often a fake scores above a real video. Diamond: where it was trained. Line: 95 % interval.",
    )
    for name in run.datasets:
        block = run.metrics["datasets"][name]
        if len(block["methods"]) > 1:
            dots = DotDisplay.from_methods(run.metrics, name)
            yield _Plan(
                f"methods_{slug(name)}",
                dots,
                f"Video AUC by method on {name}. {told(dots.dots)}",
                f"Each method’s fakes against the same {block['n']['real_videos']} real videos.",
            )


def _curves(run: Run) -> Iterator[_Plan]:
    if run.predictions is None:
        return
    settings = run.metrics["settings"]
    resamples = min(BAND_RESAMPLES, int(settings.get("n_boot", BAND_RESAMPLES)))
    points = curves(run.predictions, n_boot=resamples, seed=int(settings.get("seed", 0)))
    band = " Shaded: 95 % interval at each point." if resamples else ""
    yield _Plan(
        "roc",
        RocDisplay.from_results(points, run.metrics),
        f"ROC curves. {_summary(run, 'auc', 'AUC')}",
        f"Each point is a threshold: how many fakes it finds, at what price.{band}",
    )
    yield _Plan(
        "det",
        DetDisplay.from_results(points, run.metrics),
        f"DET curves: fakes missed over reals called fake. {_summary(run, 'eer', 'EER')}",
        "The same, with the two errors on axes that stretch where errors are few. Nearer to the lower left "
        f"corner is better.{band}",
    )
    yield _Plan(
        "precision_recall",
        PrecisionRecallDisplay.from_results(points, run.metrics),
        f"Precision-recall curves. {_summary(run, 'ap', 'AP')}",
        "How far “fake” can be trusted, as more fakes are found.",
    )
    threshold = number(settings["threshold"]["value"])
    histograms = score_histogram(run.predictions, bins=BINS)
    for name in run.datasets:
        if bins := histograms.get(name):
            display = ScoreDisplay(name, bins["edges"], bins["real"], bins["fake"], threshold)
            yield _Plan(f"scores_{slug(name)}", display, f"Scores of real and fake videos of {name}")


def _thresholds(run: Run) -> Iterator[_Plan]:
    words = {"fpr": "real videos that are called fake", "tpr": "fakes that are found"}
    for rate, what in words.items():
        display = TransferDisplay(realised(run, rate), rate)
        found = "; ".join(
            f"{one.rule} on {one.dataset}: {value_text(one.value, [one.low, one.high])}"
            for one in display.realised
        )
        yield _Plan(
            f"thresholds_{rate}",
            display,
            f"Share of {what} under each stored threshold. {found}".replace("\n", " "),
            f"{what.capitalize()}. Black: what the rule allows, else what it was where the "
            "threshold was chosen. Line: 95 % interval.",
        )


def _calibration(run: Run) -> Iterator[_Plan]:
    for name in run.datasets:
        video = run.metrics["datasets"][name]["video"]
        if video.get("reliability"):
            display = CalibrationDisplay.from_results(run.metrics, name)
            bins = zip(display.score, display.share, display.count, strict=True)
            yield _Plan(
                f"reliability_{slug(name)}",
                display,
                f"Share of fakes by score on {name}: "
                + "; ".join(f"score {score:.2f}: {share:.2f} of {n}" for score, share, n in bins),
            )
    risk = RiskCoverageDisplay.from_results(run.metrics)
    if risk.abstentions:
        told_of = "; ".join(
            f"{name}: {100 * number(block['coverage']):.0f} % answered under the band, "
            f"{100 * number(block['risk']):.0f} % of the answers wrong"
            for name, block in risk.abstentions.items()
            if not isnan(number(block["risk"]))
        )
        yield _Plan(
            "risk_coverage",
            risk,
            f"Share of wrong answers as fewer videos are answered. {told_of}",
            "From right to left, the videos on which the detector is least sure get no answer. Marked: the "
            "stored band, with 95 % intervals.",
        )


def _robustness(run: Run) -> Iterator[_Plan]:
    for change in changes(run):
        graded = [record for record in change.records if not isnan(severity(record))]
        if not graded:
            continue
        at = run.metrics["settings"]["threshold"]
        yield _Plan(
            f"robustness_{slug(change.key)}",
            RobustnessDisplay(change.title, graded),
            f"AUC, share of reals called fake and share of fakes found over the severity of: {change.title}, "
            f"at the threshold of the rule “{rule_name(at['rule'])}”. {change.told}",
            setting_list(graded),
        )


def _summary(run: Run, metric: str, title: str) -> str:
    lines = []
    for name in run.datasets:
        video = run.metrics["datasets"][name]["video"]
        lines.append(f"{name}: {title} {metric_text(video, metric)}")
    return "; ".join(lines)
