"""The figures of a run's report, drawn from its numbers."""

from __future__ import annotations

from math import isnan
from typing import cast

from unmasked.analysis.figures.calibration import CalibrationDisplay
from unmasked.analysis.figures.curves import DetDisplay, PrecisionRecallDisplay, RocDisplay
from unmasked.analysis.figures.decisions import RiskCoverageDisplay
from unmasked.analysis.figures.dots import DotDisplay, ScoreDisplay, Scores
from unmasked.analysis.figures.likelihood import CrossEntropyDisplay, TippettDisplay
from unmasked.analysis.figures.matrix import MatrixDisplay
from unmasked.analysis.figures.robustness import RobustnessDisplay
from unmasked.analysis.reports.gallery import Gallery, slug
from unmasked.analysis.reports.run.decisions import display_realised, list_realised
from unmasked.analysis.reports.run.folder import Run
from unmasked.analysis.reports.run.robustness import changes, setting_list, severity
from unmasked.evaluation.curves import curves, score_histogram
from unmasked.evaluation.metrics import Aggregation
from unmasked.evaluation.records import CollectionResults, Results
from unmasked.evaluation.wording import IN_BRACKETS, metric_text, rule_name, share_text, value_text

BINS = 12
BAND_RESAMPLES = 500


def draw_figures(run: Run, *, has_pdf: bool = False) -> Gallery:
    """Every figure that the run's numbers allow, by the name of its files.

    Figures of one dataset, or of one perturbation, have it in their name after an underscore:
    ``scores_Celeb-DF-v2``, ``robustness_jpeg``.
    """
    gallery = Gallery(has_pdf=has_pdf)
    draw_matrix(run.metrics, gallery)
    for draw in (_dots, _curves, _thresholds, _calibration, _robustness):
        draw(run, gallery)
    return gallery


def draw_matrix(metrics: Results | CollectionResults, gallery: Gallery) -> None:
    """Draws the matrix of training and test datasets, of one detector or several."""
    matrix = MatrixDisplay.from_results(metrics)
    cells = "; ".join(
        f"trained on {cell.row}, tested on {cell.column}: "
        f"{value_text(cell.value, [cell.low, cell.high])}".replace("\n", ", ")
        for cell in matrix.cells
    )
    gallery.draw(
        "matrix",
        matrix,
        f"Video AUC for each pair of training and test dataset. {cells}",
        f"How often a fake scores above a real video. {IN_BRACKETS} Framed: tested where it was trained.",
    )


def _dots(run: Run, gallery: Gallery) -> None:
    dots = DotDisplay.from_matrix(run.metrics)
    gallery.draw(
        "auc_by_dataset",
        dots,
        f"Video AUC by dataset. {'; '.join(dot.text for dot in dots.dots)}",
        "How often a fake scores above a real video. Diamond: where it was trained. Line: 95 % interval.",
    )
    for name in run.datasets:
        block = run.metrics["datasets"][name]
        if len(block["methods"]) > 1:
            dots = DotDisplay.from_methods(run.metrics, name)
            gallery.draw(
                f"methods_{slug(name)}",
                dots,
                f"Video AUC by method on {name}. {'; '.join(dot.text for dot in dots.dots)}",
                f"Each method’s fakes against the same {block['n']['real_videos']} real videos.",
            )


def _curves(run: Run, gallery: Gallery) -> None:
    if run.predictions is None:
        return
    settings = run.metrics["settings"]
    resamples = min(BAND_RESAMPLES, int(settings.get("n_boot", BAND_RESAMPLES)))
    how = cast(Aggregation, settings.get("aggregation", "mean"))
    seed = int(settings.get("seed", 0))
    points = curves(run.predictions, aggregation=how, n_boot=resamples, seed=seed)
    band = " Shaded: 95 % interval at each point." if resamples else ""
    gallery.draw(
        "roc",
        RocDisplay.from_results(points, run.metrics),
        f"ROC curves. {_summary(run, 'auc', 'AUC')}",
        f"Each point is a threshold: how many fakes it finds, at what price.{band}",
    )
    gallery.draw(
        "det",
        DetDisplay.from_results(points, run.metrics),
        f"DET curves: fakes missed over reals called fake. {_summary(run, 'eer', 'EER')}",
        "The same, with the two errors on axes that stretch where errors are few. Nearer to the lower left "
        f"corner is better.{band}",
    )
    gallery.draw(
        "precision_recall",
        PrecisionRecallDisplay.from_results(points, run.metrics),
        f"Precision-recall curves. {_summary(run, 'ap', 'AP')}",
        "How far “fake” can be trusted, as more fakes are found.",
    )
    threshold = settings["threshold"]["value"]
    histograms = score_histogram(run.predictions, aggregation=how, bins=BINS)
    for name in run.datasets:
        if bins := histograms.get(name):
            display = ScoreDisplay([Scores(name, bins["edges"], bins["real"], bins["fake"])], threshold)
            gallery.draw(f"scores_{slug(name)}", display, f"Scores of real and fake videos of {name}")


def _thresholds(run: Run, gallery: Gallery) -> None:
    words = {"fpr": "real videos that are called fake", "tpr": "fakes that are found"}
    for rate, what in words.items():
        points = list_realised(run, rate)
        found = "; ".join(
            f"{one.rule} on {one.dataset}: {value_text(one.value, [one.low, one.high])}" for one in points
        )
        gallery.draw(
            f"thresholds_{rate}",
            display_realised(points, rate),
            f"Share of {what} under each stored threshold. {found}".replace("\n", " "),
            f"{what.capitalize()}. Dotted: what the rule allows, else what it was where the "
            "threshold was chosen. Line: 95 % interval.",
        )


def _calibration(run: Run, gallery: Gallery) -> None:
    for name in run.datasets:
        video = run.metrics["datasets"][name]["video"]
        if video.get("reliability"):
            display = CalibrationDisplay.from_results(run.metrics, name)
            curve = display.curves[name]
            bins = zip(curve.score, curve.share, curve.count, strict=True)
            gallery.draw(
                f"reliability_{slug(name)}",
                display,
                f"Share of fakes by score on {name}: "
                + "; ".join(f"score {score:.2f}: {share:.2f} of {n}" for score, share, n in bins),
            )
        if found := video.get("likelihood"):
            gallery.draw(
                f"tippett_{slug(name)}",
                TippettDisplay.from_results(found),
                f"Tippett plot of {name}: share of fakes and of reals with at least each likelihood ratio",
                f"{name}. The further apart the curves, the more the ratios tell.",
            )
            gallery.draw(
                f"cross_entropy_{slug(name)}",
                CrossEntropyDisplay.from_results(found),
                f"Empirical cross-entropy of {name}: Cllr {found['cllr']:.2f}, at best "
                f"{found['cllr_min']:.2f}, without the detector 1",
                f"{name}. Above the grey line the stated ratios mislead more than they tell.",
            )
    risk = RiskCoverageDisplay.from_results(run.metrics)
    if risk.abstentions:
        answered = "; ".join(
            f"{name}: {share_text(block['coverage'], block['coverage_ci'])} answered under the band, "
            f"{share_text(block['risk'], block['risk_ci'])} of the answers wrong"
            for name, block in risk.abstentions.items()
            if not isnan(block["risk"])
        )
        gallery.draw(
            "risk_coverage",
            risk,
            f"Share of wrong answers as fewer videos are answered. {answered}",
            "From right to left, the videos on which the detector is least sure get no answer. Marked: the "
            "stored band, with 95 % intervals.",
        )


def _robustness(run: Run, gallery: Gallery) -> None:
    for change in changes(run):
        graded = [record for record in change.records if not isnan(severity(record))]
        if not graded:
            continue
        at = run.metrics["settings"]["threshold"]
        gallery.draw(
            f"robustness_{slug(change.key)}",
            RobustnessDisplay.from_records(change.title, graded),
            f"AUC, share of reals called fake and share of fakes found over the severity of: {change.title}, "
            f"at the threshold of the rule “{rule_name(at['rule'])}”. {change.strongest_text}",
            setting_list(graded),
        )


def _summary(run: Run, metric: str, title: str) -> str:
    blocks = {name: run.metrics["datasets"][name]["video"] for name in run.datasets}
    return "; ".join(f"{name}: {title} {metric_text(block, metric)}" for name, block in blocks.items())
