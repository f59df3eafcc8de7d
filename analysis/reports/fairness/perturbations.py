"""How each group is affected when videos are compressed, blurred or otherwise made worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from unmasked.analysis.figures.robustness import RobustnessDisplay
from unmasked.analysis.html.page import (
    absent_note,
    aside,
    code,
    details,
    heading,
    join_parts,
    place_side_by_side,
    record_table,
    swatch,
)
from unmasked.analysis.reports.fairness.findings import Findings, fold_away, utility
from unmasked.analysis.reports.fairness.groups import COMPARED
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import change_text, points_only, share_text
from unmasked.fairness.records import PerturbedGap, PerturbedRate
from unmasked.fairness.statistics.comparisons import ALPHA
from unmasked.fairness.verdicts import title

RATES = {"fpr": "real called fake (FPR)", "tpr": "fakes found (TPR)", "fnr": "fakes missed (FNR)"}
CLASSES = {"fpr": "real", "tpr": "fake", "fnr": "fake"}
INTRO = (
    "Each line is a group, from the videos as they are to the worst severity; lines that part say that "
    "damage to the video hits one group harder. Upright bars are 95 % intervals; dotted groups are too "
    "small to be compared."
)


def perturbations(findings: Findings) -> Markup:
    """A panel for each perturbation and rate, a line for each group, and the numbers."""
    entries = findings.whole.get("perturbations", [])
    if not entries:
        return absent_note(
            "No perturbed videos were scored.",
            Markup("Predictions with the columns {} and {} fill this part.").format(
                code("perturbation"), code("severity")
            ),
        )
    parts: list[str] = [aside(INTRO)]
    for dataset in dict.fromkeys(one["dataset"] for one in entries):
        here = [one for one in entries if one["dataset"] == dataset]
        parts.append(heading(3, dataset) if findings.has_several else "")
        if dataset in findings.audits:
            parts.append(utility(findings.audits[dataset]))
        for attribute in dict.fromkeys(one["attribute"] for one in here):
            found = [one for one in here if one["attribute"] == attribute]
            panels = place_side_by_side(list(_panels(found, findings, dataset, attribute)))
            few = len({one["group"] for one in found if one.get("compared", True)}) < 2
            shown = fold_away(panels, few)
            parts += [findings.heading(f"By {title(attribute)}"), shown]
            parts.append(_gaps(findings, dataset, attribute))
            parts.append(details("The same in numbers", _table(found, findings, attribute)))
    return join_parts(parts)


def _panels(
    entries: Sequence[PerturbedRate], findings: Findings, dataset: str, attribute: str
) -> Iterator[Markup]:
    keys = dict.fromkeys((one["perturbation"], one["metric"]) for one in entries)
    for perturbation, metric in keys:
        if metric not in RATES:
            continue
        drawn = [one for one in entries if (one["perturbation"], one["metric"]) == (perturbation, metric)]
        sizes = _sizes(findings, dataset, attribute, CLASSES[metric])
        sizes |= {one["group"]: one["videos"] for one in drawn if one.get("videos") is not None}
        name = f"{str(perturbation).replace('_', ' ')}: {RATES[metric]}"
        display = RobustnessDisplay.from_entries(drawn, name, sizes, findings.colours.get(attribute, {}))
        alt = f"{name} by {title(attribute)} and severity; numbers in the table below"
        names = ("group_robustness", str(perturbation), str(metric), attribute, dataset)
        yield findings.draw(names, display, alt)


def _gaps(findings: Findings, dataset: str, attribute: str) -> Markup:
    """How the gap between the groups moves with each perturbation, the same videos before and after."""
    rows = [
        {
            "perturbation": f"{str(one['perturbation']).replace('_', ' ')} {one['severity']:g}",
            "what was compared": COMPARED.get(one["metric"], one["metric"]),
            "gap without it, points": points_only(one["gap_clean"]),
            "gap with it, points": points_only(one["gap"]),
            "change [95\u00a0%]": change_text(one["change"], one["change_ci"]),
            "hit harder": _hit_harder(one),
        }
        for one in findings.whole.get("perturbation_gaps", [])
        if (one["dataset"], one["attribute"]) == (dataset, attribute)
    ]
    if not rows:
        return Markup("")
    caption = f"Gaps between groups of {title(attribute)}"
    return details(
        f"How the gaps between groups of {title(attribute)} change", record_table(rows, caption=caption)
    )


def _hit_harder(one: PerturbedGap) -> str:
    """Which group's rate got worse by more than another's, if that was shown."""
    if not one.get("p_adjusted", 1.0) < ALPHA or one["worst_group"] is None:
        return "not shown"
    more = change_text(one["difference"], one["difference_ci"])
    return f"{one['worst_group']}, than {one['best_group']}: {more}"


def _sizes(findings: Findings, dataset: str, attribute: str, label: str) -> dict[str, float]:
    if dataset not in findings.audits or attribute not in findings.audits[dataset]["attributes"]:
        return {}
    supports: dict[str, Measures] = {
        entry["group"]: entry["support"]
        for entry in findings.audits[dataset]["attributes"][attribute]["groups"]
    }
    return {group: support[f"{label}_videos"] for group, support in supports.items()}


def _table(entries: Sequence[PerturbedRate], findings: Findings, attribute: str) -> Markup:
    rows = [
        {
            "perturbation": str(one["perturbation"]).replace("_", " "),
            "severity": f"{one['severity']:g}",
            "rate": RATES.get(one["metric"], one["metric"]),
            "group": swatch(findings.colour(attribute, one["group"]), one["group"]),
            "value [95\u00a0%]": share_text(one["value"], one["ci"]),
            "change in points [95\u00a0%]": change_text(one["change"], one["change_ci"]),
        }
        for one in entries
    ]
    return record_table(rows, caption=f"By {title(attribute)}")
