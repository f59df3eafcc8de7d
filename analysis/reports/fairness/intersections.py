"""Combinations of attributes as a matrix, hatched where too few people are behind a cell."""

from __future__ import annotations

from markupsafe import Markup

from unmasked.analysis.html.page import Cell, absent_note, code, heat_table, join_parts, place_side_by_side
from unmasked.analysis.reports.fairness.findings import Findings, by_dataset, utility
from unmasked.analysis.reports.fairness.support import find_crossings, grid
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import NOT_ENOUGH, is_missing, share_text
from unmasked.fairness.records import AuditResults
from unmasked.fairness.verdicts import title

# The rate in the cells, the class whose videos it counts, the caption.
RATES = {
    "fpr": ("real", "Real videos called fake, by {}"),
    "fnr": ("fake", "Fakes missed, by {}"),
    "balanced_accuracy": ("", "Balanced accuracy, by {}"),
}


def intersections(findings: Findings) -> Markup:
    """A matrix of error rates for each crossed attribute, with the balanced accuracy."""
    if not any(find_crossings(audit) for audit in findings.audits.values()):
        names = list(next(iter(findings.audits.values()))["attributes"])[:2]
        example = " × ".join(names) if len(names) == 2 else "gender × skin_tone_group"
        return absent_note(
            "Combinations of attributes were not audited: a detector can fail dark-skinned women while the "
            "figures for women and for dark skin both look fine.",
            Markup("Add a crossing to the audit: {}.").format(code(f"by=[…,'{example}']")),
        )
    intro = Markup(
        '<p class="soft">Darker is worse. Hatched cells hold too few people to be compared; their figures '
        "are shown with their intervals and count in no gap.</p>"
    )
    return join_parts([intro, by_dataset(findings, lambda _, audit: _dataset(audit))])


def _dataset(audit: AuditResults) -> Markup:
    names = find_crossings(audit)
    if not names:
        return Markup("")
    matrices = [
        _matrix(audit, attribute, parts, rate) for attribute, parts in names.items() for rate in RATES
    ]
    return join_parts([utility(audit), place_side_by_side(matrices)])


def _matrix(audit: AuditResults, attribute: str, parts: tuple[str, str], rate: str) -> Markup:
    rows, columns, cells = grid(audit["attributes"][attribute]["groups"])
    label, caption = RATES[rate]
    shown = [(row, [_cell(cells.get((row, column)), rate, label) for column in columns]) for row in rows]
    return heat_table(shown, [title(parts[0]), *columns], caption.format(title(attribute)))


def _cell(entry: Measures | None, rate: str, label: str) -> Cell:
    if entry is None:
        return Cell("nobody", greyed=True)
    support = entry["support"]
    n = support[f"{label}_videos"] if label else support["real_videos"] + support["fake_videos"]
    if is_missing(entry[rate]):
        return Cell(NOT_ENOUGH, f"{n:,} videos", greyed=True)
    error = 1 - entry[rate] if rate == "balanced_accuracy" else entry[rate]
    shown = share_text(entry[rate], entry[f"{rate}_ci"])
    return Cell(shown, f"{n:,} videos", error, greyed=rate not in entry["compared"])
