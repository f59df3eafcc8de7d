"""What each group's scores mean: histograms, calibration, ranking across groups."""

from __future__ import annotations

from math import nan

from markupsafe import Markup

from unmasked.analysis.figures.calibration import CalibrationDisplay
from unmasked.analysis.figures.dots import ScoreDisplay
from unmasked.analysis.html.page import (
    Cell,
    absent_note,
    aside,
    code,
    details,
    heat_table,
    join_parts,
    place_side_by_side,
)
from unmasked.analysis.reports.fairness.findings import Findings, by_dataset, fold_away, utility
from unmasked.evaluation.wording import NOT_ENOUGH, is_missing, value_text
from unmasked.fairness.records import AgainstOthers, AuditResults, CrossAuc, GroupResults
from unmasked.fairness.verdicts import title

INTRO = (
    "Left, where each group’s scores lie: a group whose outline reaches past the dashed threshold is accused "
    "more often. Right, whether a score means the same for everybody: on the dashed diagonal, seven of ten "
    "videos with score 0.7 are fakes; below it, a score accuses more than it should."
)


def scores(findings: Findings) -> Markup:
    """Score distributions and calibration of each group; cross-group AUC to fold out."""
    found = by_dataset(findings, lambda name, audit: _dataset(name, audit, findings))
    if not found:
        return absent_note(
            "The audit holds no distributions of scores.",
            Markup("Run {} again.").format(code("unmasked fairness")),
        )
    return join_parts([aside(INTRO), found])


def _dataset(name: str, audit: AuditResults, findings: Findings) -> Markup:
    parts: list[str] = []
    for attribute, found in audit["attributes"].items():
        colours, drawn = findings.colours.get(attribute, {}), []
        if found.get("scores"):
            spread = ScoreDisplay.from_groups(found["scores"], audit["settings"]["threshold"], colours)
            alt = f"Histograms of scores by {title(attribute)}, real outlined and fake filled"
            drawn.append(findings.draw(("group_scores", attribute, name), spread, alt))
        if found.get("calibration"):
            curves = CalibrationDisplay.from_groups(found["calibration"], colours)
            alt = f"Share of fakes against mean score, by {title(attribute)}"
            drawn.append(findings.draw(("group_calibration", attribute, name), curves, alt))
        if drawn:
            few = sum(bool(entry["compared"]) for entry in found["groups"]) < 2
            figures = place_side_by_side(drawn)
            shown = fold_away(figures, few)
            parts += [findings.heading(f"By {title(attribute)}"), shown]
        if found.get("cross_auc"):
            parts.append(
                _cross(attribute, found["cross_auc"], found["groups"], found.get("against_others", []))
            )
    return join_parts([utility(audit), *parts]) if parts else Markup("")


def _cross(
    attribute: str, pairs: list[CrossAuc], groups: list[GroupResults], others: list[AgainstOthers]
) -> Markup:
    """The matrix of AUC between one group's fakes and another's reals; the diagonal is within a group."""
    names = [entry["group"] for entry in groups]
    within = {entry["group"]: (entry["auc"], entry["auc_ci"]) for entry in groups}
    across = {(one["positives_of"], one["negatives_of"]): (one["auc"], one["auc_ci"]) for one in pairs}
    named = [name for name in names if any(name in pair for pair in across)]

    def cell(fakes: str, reals: str) -> Cell:
        auc, limits = within[fakes] if fakes == reals else across.get((fakes, reals), (nan, []))
        if is_missing(auc):
            return Cell(NOT_ENOUGH, greyed=True)
        return Cell(value_text(auc, limits), share=2 * (1 - auc))

    text = (
        "How often a fake of one group scores above a real video of another. One threshold for all needs "
        "every cell to be high, not only those within a group (on the diagonal)."
    )
    beside = {
        one["group"]: Cell(value_text(one["auc"], one["auc_ci"]), share=2 * (1 - one["auc"]))
        for one in others
    }
    matrix = heat_table(
        [
            (
                f"fakes of {fakes}",
                [*(cell(fakes, reals) for reals in named), *([beside[fakes]] if beside else [])],
            )
            for fakes in named
        ],
        ["AUC [95 %]", *(f"reals of {name}" for name in named), *(["reals of all others"] if beside else [])],
        f"Ranking across groups of {title(attribute)}; darker is worse",
    )
    return details(f"Ranking across groups of {title(attribute)}", join_parts([aside(text), matrix]))
