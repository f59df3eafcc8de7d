"""What each group meets at thresholds that were fitted elsewhere and carried over."""

from __future__ import annotations

from markupsafe import Markup

from unmasked.analysis.figures.curves import RocDisplay
from unmasked.analysis.figures.dots import GROUP_RATES, DotDisplay
from unmasked.analysis.html.page import (
    absent_note,
    aside,
    code,
    details,
    join_parts,
    place_side_by_side,
    record_table,
    swatch,
)
from unmasked.analysis.reports.fairness.findings import Findings, by_dataset, fold_away, utility
from unmasked.evaluation.wording import share_text, threshold_text
from unmasked.fairness.records import AuditResults, OperatingPoint
from unmasked.fairness.verdicts import title

INTRO = (
    "A threshold is fitted once, on data the detector’s makers had, and then meets everybody. Each row shows "
    "what a group gets at it: reals called fake, and beside them the fakes found, which is what the "
    "threshold is for. The dotted line is the rate that a threshold was meant to give."
)


def thresholds(findings: Findings) -> Markup:
    """Realised FPR and TPR of each group at each stored threshold, and the ROC curves."""
    if not any(audit.get("operating_points") for audit in findings.audits.values()):
        how = Markup("Give the thresholds that {} or {} stored: {}.").format(
            code("unmasked evaluate"),
            code("unmasked train"),
            code("unmasked fairness … thresholds=thresholds.json"),
        )
        return join_parts(
            [
                absent_note("Only one threshold was audited.", how),
                by_dataset(findings, lambda name, audit: _rocs(name, audit, findings)),
            ]
        )
    return join_parts(
        [aside(INTRO), by_dataset(findings, lambda name, audit: _dataset(name, audit, findings))]
    )


def _dataset(name: str, audit: AuditResults, findings: Findings) -> Markup:
    points = audit.get("operating_points", [])
    if not points:
        return Markup("")
    parts: list[str] = [utility(audit)]
    for attribute in points[0]["attributes"]:
        colours = findings.colours.get(attribute, {})
        drawn = []
        for rate in ("fpr", "tpr"):
            display = DotDisplay.from_points(points, attribute, rate, colours)
            alt = f"{GROUP_RATES[rate][2]} by {title(attribute)} at each threshold, as in the table below"
            drawn.append(findings.draw((f"group_thresholds_{rate}", attribute, name), display, alt))
        entries = points[0]["attributes"][attribute]
        few = sum(bool(one.get("compared", GROUP_RATES)) for one in entries) < 2
        figures = place_side_by_side(drawn)
        shown = fold_away(figures, few)
        parts += [findings.heading(f"By {title(attribute)}"), shown]
        parts.append(details("The same in numbers", _table(points, attribute, findings)))
    return join_parts([*parts, _rocs(name, audit, findings)])


def _table(points: list[OperatingPoint], attribute: str, findings: Findings) -> Markup:
    rows = []
    for point in points:
        for entry in point["attributes"][attribute]:
            rows.append(
                {
                    "threshold": threshold_text(point),
                    "group": swatch(findings.colour(attribute, entry["group"]), entry["group"]),
                    "real videos": entry["real_videos"],
                    "real called fake (FPR)": share_text(entry["fpr"], entry["fpr_ci"]),
                    "fake videos": entry["fake_videos"],
                    "fakes found (TPR)": share_text(entry["tpr"], entry["tpr_ci"]),
                }
            )
    return record_table(rows, caption=f"By {title(attribute)}, 95 % intervals")


def _rocs(name: str, audit: AuditResults, findings: Findings) -> Markup:
    drawn = []
    for attribute, found in audit["attributes"].items():
        if not found.get("scores"):
            continue
        colours = findings.colours.get(attribute, {})
        display = RocDisplay.from_groups(found["scores"], found["groups"], colours)
        if display.curves:
            alt = f"ROC curve of each group of {title(attribute)} with its AUC"
            drawn.append(findings.draw(("group_roc", attribute, name), display, alt))
    if not drawn:
        return Markup("")
    return details("Every threshold at once: ROC curves by group", place_side_by_side(drawn))
