"""One page that shows what a run found, and a model card, from the run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from unmasked.analysis.figures.dots import TrainingDisplay
from unmasked.analysis.html.page import (
    TEMPLATES,
    Section,
    callout,
    fill_template,
    join_parts,
    place_side_by_side,
    render_page,
    table,
)
from unmasked.analysis.reports.gallery import Gallery
from unmasked.analysis.reports.run.answer import Answer, absent_class, answer, audits
from unmasked.analysis.reports.run.decisions_part import (
    abstention_part,
    calibration_part,
    likelihood_part,
    thresholds_part,
)
from unmasked.analysis.reports.run.figures import draw_figures
from unmasked.analysis.reports.run.first import first_part
from unmasked.analysis.reports.run.folder import Run, read_run
from unmasked.analysis.reports.run.gists import part_gists
from unmasked.analysis.reports.run.results_part import (
    curves_part,
    datasets_part,
    explanations_part,
    fairness_part,
)
from unmasked.analysis.reports.run.robustness import worst_words
from unmasked.analysis.reports.run.robustness_part import robustness_part
from unmasked.analysis.reports.run.truth import planted_group, planted_sentence, truth_part
from unmasked.datasets.files import write_text
from unmasked.evaluation.tables import escape_markdown, has_frames, matrix_table
from unmasked.evaluation.wording import count_in_100, list_names, name_files, threshold_text
from unmasked.fairness.verdicts import title

PAGE = "report.html"
PREVALENCE = 0.001  # a fake in a thousand videos, for the sake of an example


def write_report(
    run: Path,
    *,
    predictions: pd.DataFrame | None = None,
    truth: Path | None = None,
    has_pdf: bool = False,
) -> Path:
    """Writes ``report.html``, ``model_card.md`` and ``figures/`` into a run's folder.

    Returns the page.
    The page holds whatever the folder has: ``metrics.json`` is required; ``predictions.parquet``,
    ``metrics.jsonl``, ``fairness.json``, ``explain/``, ``detector.json``, ``config.yaml`` and
    ``environment.json`` add their parts, and a part that is absent says how to make it. Each figure is
    written as ``figures/NAME.svg`` with its numbers in ``figures/NAME.csv``.

    Args:
        run: the folder.
        predictions: the rows behind the metrics, if they are not the folder's own.
        truth: ``truth.json`` of the synthetic corpus that the run used; the page then says that it is one.
        has_pdf: each figure is also written as ``figures/NAME.pdf``.

    Raises:
        InputError: the folder or its metrics are absent, or a file is damaged.
    """
    found = read_run(run, predictions=predictions, truth=truth)
    write_text(run / "model_card.md", model_card(found))
    figures = draw_figures(found, has_pdf=has_pdf)
    text = page(found, figures)
    figures.write(run / "figures", PAGE)
    write_text(run / PAGE, text)
    return run / PAGE


def page(run: Run, figures: Gallery | None = None) -> str:
    """The whole report as one self-contained page.

    ``figures`` are of `draw_figures`, drawn if not given; the parts add those of training, groups and
    explanations.
    """
    figures = draw_figures(run) if figures is None else figures
    noun = run.metrics["settings"].get("noun", "video")
    found = answer(run)
    first = first_part(
        run, found, figures, join_parts([_rehearsal(run), _control(run), _changed(run), _left_out(run)])
    )
    parts = [
        ("answer", "The answer in words", _answer(run, found)),
        ("done", "What was done", _what_was_done(run, figures)),
        ("datasets", "Does it hold up on data it never saw?", datasets_part(run, figures)),
        ("curves", "Curves and scores", curves_part(run, figures)),
        ("thresholds", "Do its thresholds hold elsewhere?", thresholds_part(run, figures)),
        ("robustness", "Does it hold when videos are changed?", robustness_part(run, figures)),
        ("abstention", "Does it know when it does not know?", abstention_part(run, figures)),
        ("calibration", "Is a score a probability?", calibration_part(run, figures)),
        ("likelihood", "How much does a score say?", likelihood_part(run, figures)),
        ("fairness", "For whom does it fail?", fairness_part(run, figures)),
        ("explanations", "What does it look at?", explanations_part(run, figures)),
        ("truth", "What was planted, and what was found", truth_part(run)),
        ("limits", "What this report cannot say", _limits(run)),
        ("settings", "Detector, configuration and environment", _settings(run)),
        ("glossary", "Words", fill_template("glossary.html", noun=noun, is_ours=run.is_ours)),
    ]
    gists = dict(part_gists(run, found))
    sections = [Section(name, title, body, True, gists.get(name, "")) for name, title, body in parts if body]
    kind = "on a synthetic corpus" if run.truth is not None else f"on {list_names(run.datasets)}"
    text = render_page(
        f"{run.detector}: does it hold up{', and for whom does it fail' if audits(run) else ''}?",
        sections,
        subtitle=f"Report on a deepfake detector, tested {kind}",
        footer=f"Made by unmasked {_version()} from the run folder “{run.folder.resolve().name}”.",
        first=first,
    )
    return name_files(text, noun, [*run.datasets, run.detector])


def model_card(run: Run) -> str:
    """The model card in Markdown: what the detector is, is not for, and how it was tested."""
    # A Markdown file, which no browser runs; every value is escaped for Markdown.
    plain = Environment(  # nosec B701
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else escape_markdown(str(value)),
    )
    text = plain.get_template("model_card.md").render(
        run=run,
        answer=answer(run),
        facts=list(_facts(run)),
        table=Markup(matrix_table(run.metrics).body()),  # Markdown, its cells escaped  # nosec B704
        is_ours=run.is_ours,
    )
    return name_files(text, run.metrics["settings"].get("noun", "video"), [*run.datasets, run.detector])


def _answer(run: Run, found: Answer) -> Markup:
    return fill_template(
        "answer.html",
        detector=run.detector,
        answer=found,
        has_both=not absent_class(run),
        threshold=threshold_text(run.metrics["settings"]["threshold"]),
        changed=[line for rate in ("fpr", "tpr") if (line := worst_words(run.robustness, rate))],
    )


def _changed(run: Run) -> Markup:
    if not run.changed:
        return Markup("")
    return callout("warning", f"{run.changed[0].upper()}{run.changed[1:]}.", title="Scores of earlier crops")


def _left_out(run: Run) -> Markup:
    if not run.left_out:
        return Markup("")
    lines = Markup("").join(Markup("<li>{}: {}.</li>").format(*entry) for entry in run.left_out.items())
    text = Markup("<p>The folder holds results of something else; they are not on this page.</p><ul>{}</ul>")
    return callout("warning", text.format(lines), title="Not shown")


def _rehearsal(run: Run) -> Markup:
    if run.truth is None:
        return Markup("")
    text = (
        "Every person and every fake in this run is synthetic. It shows that the pipeline works from "
        "video to report, and says nothing about how well the detector does on real videos."
    )
    if planted_group(run.truth) is not None:
        text += f" A difference was planted in it. {planted_sentence(run.truth)}"
    return callout("warning", text, title="A rehearsal, not a result")


def _control(run: Run) -> Markup:
    if not run.card.get("labels_shuffled"):
        return Markup("")
    text = (
        "Labels were shuffled among the videos before training, so there was nothing to learn, and the AUC "
        "should be near 0.5. By accident one such detector leans a little to either side on these people: "
        "repeat it with other seeds and judge their mean."
    )
    return callout("warning", text, title="A control, not a detector")


def _what_was_done(run: Run, figures: Gallery) -> Markup:
    blocks = run.metrics["datasets"].values()
    settings = run.metrics["settings"]
    selection = settings.get("selection_rule", "not stated")
    if selection == "not stated":
        selection = run.card.get("selection", {}).get("rule", "")
    attributes = [title(name) for audit in audits(run).values() for name in audit["attributes"]]
    return fill_template(
        "done.html",
        kinds={"": "real ones and fakes", "fakes": "real ones alone"}.get(absent_class(run), "fakes alone"),
        videos=f"{sum(block['n']['videos'] for block in blocks):,} videos",
        frames=f"{sum(block['n']['frames'] for block in blocks):,}",
        datasets=run.datasets,
        source=run.source,
        held_out=run.is_held_out,
        unseen=list_names([name for name in run.datasets if name != run.source]),
        aggregation=settings["aggregation"].replace("_", " "),
        is_ours=run.is_ours,
        is_single=not has_frames(run.metrics),
        selection=selection,
        n_boot=f"{settings['n_boot']:,}",
        attributes=list_names(list(dict.fromkeys(attributes))),
        training=_training(run, figures),
    )


def _training(run: Run, figures: Gallery) -> Markup:
    if not run.records:
        return Markup("")
    by_step = all("step" in record for record in run.records)
    position = "step" if by_step else "epoch"
    # The detector gives its losses their names; "overall" is first.
    losses = list(dict.fromkeys(key for record in run.records for key in record if key.startswith("train/")))
    loss = TrainingDisplay.from_records(
        run.records, losses, "loss, mean since the last validation", position=position
    )
    auc = ("val/video_auc", "val/frame_auc")
    validation = TrainingDisplay.from_records(
        run.records, auc, "AUC, source's validation split", position=position, limits=(0, 1.02)
    )
    drawn = [
        figures.draw(f"training_{name}", display, f"Training: {display.quantity} by {position}")
        for name, display in (("loss", loss), ("auc", validation))
        if any(len(pairs) > 1 for pairs in display.series.values())  # one point is no development
    ]
    return Markup("<h3>Training</h3>") + place_side_by_side(drawn) if drawn else Markup("")


def _limits(run: Run) -> Markup:
    where = run.source or run.datasets[0]
    video = run.metrics["datasets"][where]["video"]
    false_alarms, found = video["fpr"] * (1 - PREVALENCE), video["tpr"] * PREVALENCE
    wrong = count_in_100(false_alarms / (false_alarms + found)) if false_alarms > 0 and found > 0 else ""
    return fill_template(
        "limits.html",
        synthetic=run.truth is not None,
        has_both=not absent_class(run),
        datasets=list_names(run.datasets),
        wrong=wrong,
        where=where,
    )


def _settings(run: Run) -> Markup:
    facts = pd.DataFrame(list(_facts(run)), columns=["detector", run.detector])
    settings = {key: value for key, value in run.metrics["settings"].items() if not isinstance(value, dict)}
    stated = [
        (key.replace("_", " "), "; ".join(value) if isinstance(value, list) else str(value))
        for key, value in settings.items()
    ]
    packages = run.environment.get("packages", {})
    versions = {
        key.replace("_", " "): value for key, value in run.environment.items() if key != "packages"
    } | packages
    shown = pd.DataFrame(
        [(key, "not installed" if value is None else str(value)) for key, value in versions.items()],
        columns=["what", "version"],
    )
    return fill_template(
        "settings.html",
        is_ours=run.is_ours,
        detector=table(facts),
        evaluation=Markup("<h3>Evaluation</h3>") + table(pd.DataFrame(stated, columns=["setting", "value"])),
        config=run.config,
        environment=table(shown) if versions else None,
    )


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """What is known of the detector, as (what, value)."""
    settings, card = run.metrics["settings"], run.card
    yield "trained on", run.source or str(settings.get("source", "not stated"))
    yield "weights (SHA-256)", str(card.get("sha256") or settings.get("checkpoint", "not stated"))
    if card:
        width = f", width {card['width']}" if "width" in card else ""
        yield "architecture", f"{card.get('architecture', 'not stated')}{width}"
        yield "input", f"face crops of {card.get('size_px', '?')} × {card.get('size_px', '?')} pixels"
        yield "methods it was shown", ", ".join(map(str, card.get("method_classes", ["not stated"])))
        selection = card.get("selection", {})
        yield "chosen by", str(selection.get("rule", "not stated"))
        yield "licence", str(card.get("licence", "not stated"))
        if "terms_of_crops" in card:
            yield "terms of its crops", str(card["terms_of_crops"])
    yield "threshold", threshold_text(settings["threshold"])


def _version() -> str:
    try:
        return version("unmasked")
    except PackageNotFoundError:
        return "(not installed)"
