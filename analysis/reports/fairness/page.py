"""The audit as a page for someone who has to act on it and never saw the project.

`page` is the whole report in twelve parts, `section` its short form inside a run's report. Both read
``{"datasets": {NAME: …}, "skipped": {…}, …}``, straight or after a round trip through JSON.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup

from unmasked.analysis.figures.dots import GROUP_RATES, DotDisplay
from unmasked.analysis.html.page import Section, heading, join_parts, place_side_by_side, render_page
from unmasked.analysis.reports.fairness import groups
from unmasked.analysis.reports.fairness.annotation import annotation
from unmasked.analysis.reports.fairness.answer import answer, verdicts, warnings
from unmasked.analysis.reports.fairness.breakdowns import breakdowns
from unmasked.analysis.reports.fairness.compatibility import compatibility
from unmasked.analysis.reports.fairness.findings import Findings, by_dataset
from unmasked.analysis.reports.fairness.first import first_part
from unmasked.analysis.reports.fairness.header import about, caveats, limits, resampling_text, skipped_part
from unmasked.analysis.reports.fairness.intersections import intersections
from unmasked.analysis.reports.fairness.mitigation import mitigation
from unmasked.analysis.reports.fairness.perturbations import perturbations
from unmasked.analysis.reports.fairness.scores import scores
from unmasked.analysis.reports.fairness.support import support
from unmasked.analysis.reports.fairness.surprises import surprises
from unmasked.analysis.reports.fairness.thresholds import thresholds
from unmasked.analysis.reports.gallery import Gallery
from unmasked.datasets.files import write_text
from unmasked.evaluation.wording import name_files
from unmasked.fairness.records import AuditResults, AuditSettings, FairnessResults

QUESTION = "for whom does it fail, and how sure are we?"
SUBTITLE = "Fairness audit of a deepfake detector"
PAGE = "fairness.html"
CAPTION = Markup(
    '<p class="soft">A dot is a group, the line its 95 % interval, the number on the right its videos. The '
    "dashed line is everybody. The grey band is as wide as the gap that chance alone stays within 19 times "
    "out of 20 on groups of these sizes: dots that fit into a band are no evidence of a difference. Hollow "
    "dots are groups too small to be compared, or people whose group nobody recorded.</p>"
)


def write_page(found: FairnessResults, path: str | os.PathLike[str], *, has_pdf: bool = False) -> Path:
    """Writes the whole report, and its figures with their numbers into ``figures/``.

    Returns its path.

    Args:
        found: what `fairness.run.write` or, of audits of your own, `fairness_record` returned.
        path: of the page, or of the folder that gets it as ``fairness.html``.
        has_pdf: each figure is also written as ``figures/NAME.pdf``.
    """
    path = Path(path) if Path(path).suffix else Path(path) / PAGE
    gallery = Gallery(has_pdf=has_pdf)
    text = page(found, gallery)
    gallery.write(path.parent / "figures", path.name)
    write_text(path, text)
    return path


def section(found: FairnessResults, gallery: Gallery | None = None) -> Markup:
    """The fairness part of a run's report, an HTML fragment.

    Verdict, figures, table by group, limits.
    Headings are h3. The whole report is linked to as ``fairness.html`` beside it.
    """
    findings = Findings.of(found, gallery)
    more = Markup(
        '<p><a href="{0}">The whole fairness report</a> has every test, who was compared, thresholds, score '
        "distributions, combinations, methods, perturbations, annotation quality and remedies.</p>"
    ).format(PAGE)
    first = next(iter(findings.audits))

    def short(name: str, audit: AuditResults) -> Markup:
        caption = CAPTION if name == first else ""
        return join_parts(
            [
                answer(audit),
                _figures(name, audit, findings),
                caption,
                groups.by_group(audit, findings, short=True),
            ]
        )

    parts = [
        by_dataset(findings, short),
        skipped_part(findings),
        surprises(findings, PAGE),
        more,
        heading(3, "What this does not say"),
        caveats(findings.audits[first]),
    ]
    return join_parts(parts)


def page(found: FairnessResults, gallery: Gallery | None = None) -> str:
    """The whole report as one self-contained page.

    Its figures are put into the gallery as well.
    """
    findings = Findings.of(found, gallery)
    first = first_part(findings, warnings(findings))
    sections = [Section(name, title, body(findings), True, gist) for name, title, gist, body in PARTS]
    settings = next(iter(findings.audits.values()))["settings"]
    name = settings.get("detector") or "Fairness audit"
    text = render_page(
        f"{name}: {QUESTION}", sections, subtitle=SUBTITLE, footer=_footer(settings), first=first
    )
    return name_files(text, settings.get("noun", "video"), [*findings.audits, settings.get("detector", "")])


def _groups(findings: Findings) -> Markup:
    def rates(name: str, audit: AuditResults) -> Markup:
        tables = groups.by_group(audit, findings), groups.called_fake(audit)
        return join_parts([_figures(name, audit, findings), *tables])

    return join_parts([CAPTION, by_dataset(findings, rates)])


def _figures(dataset: str, audit: AuditResults, findings: Findings) -> Markup:
    """The two dot plots."""
    drawn = []
    for rate in ("fpr", "fnr"):
        display = DotDisplay.from_audit(audit, rate, findings.colours)
        alt = f"{GROUP_RATES[rate][2]} by group. {'; '.join(dot.text for dot in display.dots)}"
        drawn.append(findings.draw((f"group_{rate}", dataset), display, alt))
    return place_side_by_side(drawn)


def _footer(settings: AuditSettings) -> str:
    given = {"detector": settings.get("detector"), "checkpoint": settings.get("checkpoint")}
    origin = [f"{name} {value}" for name, value in given.items() if value]
    return f"{', '.join([*origin, resampling_text(settings)])}. Made by unmasked."


# (anchor, heading, what it says while folded, what makes it), in reading order; the run's report links to
# the anchors.
PARTS: tuple[tuple[str, str, str, Callable[[Findings], Markup]], ...] = (
    ("answer", "Every verdict", "Each comparison with its difference, interval and test.", verdicts),
    ("about", "What was audited", "Detector, data, who annotated, threshold, statistics.", about),
    ("support", "Who was compared", "How many people and videos are behind each group.", support),
    ("groups", "Error rates by group", "Reals called fake and fakes missed, with intervals.", _groups),
    ("thresholds", "At other thresholds", "The same groups at stricter and looser thresholds.", thresholds),
    ("scores", "What the scores mean", "Scores, ROC and calibration of each group.", scores),
    (
        "intersections",
        "Combinations of groups",
        "Such as women with dark skin, and which is got wrong most.",
        intersections,
    ),
    (
        "breakdowns",
        "By manipulation and by dataset",
        "What pooling hides, and how gaps change from dataset to dataset.",
        breakdowns,
    ),
    ("perturbations", "When videos are damaged", "Whether damage hits one group harder.", perturbations),
    ("annotation", "How good the annotation is", "Where annotations contradict themselves.", annotation),
    ("compatibility", "Numbers that other work prints", "To compare with papers.", compatibility),
    ("mitigation", "What could be done about it", "Remedies, what they cost, and who pays.", mitigation),
    ("limits", "What this does not say", "And what it is for.", limits),
)
