"""Gaps within parts of the data: by method, compression, face size, blur; by dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from unmasked.analysis.html.page import (
    Cell,
    absent_note,
    aside,
    callout,
    code,
    heading,
    heat_table,
    join_parts,
    paragraph,
    record_table,
)
from unmasked.analysis.reports.fairness.findings import Findings, by_dataset, utility
from unmasked.analysis.reports.fairness.groups import COMPARED
from unmasked.evaluation.wording import change_text, gap_text, is_missing, p_text, points, points_only
from unmasked.fairness.records import AuditResults, GapChange, Stratified, StratumLevel
from unmasked.fairness.verdicts import title

WORDS = {
    "method": "method of manipulation",
    "compression": "compression",
    "face_size": "size of the face",
    "blur": "sharpness of the face",
}
# A gap this wide is as dark as a cell gets.
WIDEST = 0.6


def breakdowns(findings: Findings) -> Markup:
    """Gaps by stratum, with what pooling hides, and the change of each gap across datasets."""
    if not any(audit.get("strata") for audit in findings.audits.values()):
        within: Markup = absent_note(
            "Gaps were not broken down by method of manipulation, compression, face size or blur.",
            Markup("Predictions with columns {} and {}, and {} for the others, fill this part.").format(
                *map(code, ("method", "compression", "faces=FILE"))
            ),
        )
    else:
        within = join_parts([aside(INTRO), by_dataset(findings, lambda _, audit: _dataset(audit, findings))])
    return join_parts([within, _changes(findings)])


INTRO = (
    "One method of manipulation may fail one group and the next method another: pooled, the two cancel and "
    "the detector looks fair. Each row is the gap within one level; “pooled” takes all together, “mean of "
    "the levels” is the gap met on average. A darker cell is a wider gap. This is a search and "
    "not among the comparisons declared above; p is corrected over everything looked at here."
)


def _dataset(audit: AuditResults, findings: Findings) -> Markup:
    strata = audit.get("strata", [])
    if not strata:
        return Markup("")
    parts: list[str] = [utility(audit)]
    warnings = [_simpson(one) for one in strata if one["simpson"]]
    if warnings:
        parts.append(
            callout("warning", Markup("").join(map(paragraph, warnings)), title="Pooling hides a difference")
        )
    for by in dict.fromkeys(one["by"] for one in strata):
        parts.append(_matrix(by, [one for one in strata if one["by"] == by]))
    return join_parts(parts)


def _matrix(by: str, strata: Sequence[Stratified]) -> Markup:
    """Rows are levels, columns what was compared between groups of what."""
    undefined = [one for one in strata if all(is_missing(entry["gap"]) for entry in one["levels"])]
    strata = [one for one in strata if one not in undefined]
    name = WORDS.get(by, by.replace("_", " "))
    below = ", ".join(f"{title(one['attribute'])} ({_what(one)})" for one in undefined)
    note = aside(f"Too few people within each {name}: {below}.") if undefined else Markup("")
    if not strata:
        return note
    levels = list(dict.fromkeys(entry["level"] for one in strata for entry in one["levels"]))
    columns = [f"{title(one['attribute'])}: {_what(one)}" for one in strata]
    rows = []
    for level in levels:
        found = [{entry["level"]: entry for entry in one["levels"]}.get(level) for one in strata]
        rows.append((str(level), [_level(entry) for entry in found]))
    rows.append(
        ("pooled", [_pooled_cell(one["pooled"]["gap"], one["pooled"]["worst_group"]) for one in strata])
    )
    rows.append(("mean of the levels", [_pooled_cell(one["averaged"], None) for one in strata]))
    if any("standardised" in one for one in strata):
        rows.append(
            ("every level weighed alike", [_pooled_cell(one.get("standardised"), None) for one in strata])
        )
    caption = f"Gaps in points by {name}, with 95 % intervals"
    return join_parts([heat_table(rows, [name, *columns], caption), note])


def _level(entry: StratumLevel | None) -> Cell:
    if entry is None:
        return Cell("–")
    n = f"{entry['n']:,} videos"
    if is_missing(entry["gap"]):
        return Cell("not enough data", n, greyed=True)
    p_value = entry.get("p_adjusted", entry["p_value"])
    p = "" if is_missing(p_value) else f", p {p_text(p_value)}"
    worst = f"worst: {entry['worst_group']}\n" if entry["worst_group"] else ""
    return Cell(gap_text(entry["gap"], entry["gap_ci"]), f"{worst}{n}{p}", entry["gap"] / WIDEST)


def _pooled_cell(gap: Any, worst: str | None) -> Cell:
    if is_missing(gap):
        return Cell("not enough data")
    return Cell(points_only(gap), f"worst: {worst}" if worst else "", gap / WIDEST)


def _simpson(one: Stratified) -> str:
    what = _what(one)
    text = (
        f"By {WORDS.get(one['by'], one['by'])}, {what} between groups of {title(one['attribute'])}: pooled, "
        f"the gap is {points(one['pooled']['gap'])}; the mean of the gaps within levels is "
        f"{points(one['averaged'])}."
    )
    return f"{text} {one['note']}".strip()


def _changes(findings: Findings) -> Markup:
    """How each gap moves from the source to each target, and from another detector to this one."""
    changes = findings.whole.get("changes", [])
    between = [one for one in changes if one.get("kind", "dataset") == "dataset"]
    detectors = [one for one in changes if one.get("kind") == "detector"]
    parts: list[str] = []
    if between:
        text = (
            "The threshold was fitted on the source and carried over as it is; different people are in the "
            "two. A marked change is one whose interval leaves out zero. What the detector is worth on each "
            "dataset stands under the answer."
        )
        parts += [heading(3, "From dataset to dataset"), aside(text), _table_changes(between)]
    elif findings.has_several:
        how = Markup("Name the dataset the detector was made on: {}.").format(code("source=NAME"))
        parts += [
            heading(3, "From dataset to dataset"),
            absent_note("Changes of gaps were not measured.", how),
        ]
    if detectors:
        text = "Both detectors judged the same videos. A marked change is one whose interval leaves out zero."
        parts += [heading(3, "From one detector to another"), aside(text), _table_changes(detectors)]
    return join_parts(parts)


def _table_changes(changes: Sequence[GapChange]) -> Markup:
    """A table for each pair, and what could not be compared in both."""
    parts: list[str] = []
    for source, target in dict.fromkeys((one["source"], one["target"]) for one in changes):
        pair = [one for one in changes if (one["source"], one["target"]) == (source, target)]
        known = [one for one in pair if not is_missing(one["change"])]
        if known:
            marked = [_is_clear(one) for one in known]
            parts.append(
                record_table(list(map(_change, known)), caption=f"{source} → {target}", marked=marked)
            )
        missing = [f"{title(one['attribute'])} ({_what(one)})" for one in pair if one not in known]
        if missing:
            text = f"{source} → {target}: too few people in one of the two for {', '.join(missing)}."
            parts.append(aside(text))
    return join_parts(parts)


def _change(one: GapChange) -> dict[str, str]:
    row = {
        "compared": f"{title(one['attribute'])}: {_what(one)}",
        "gap before, points": points_only(one["gap_source"]),
        "gap after, points": points_only(one["gap_target"]),
        "change [95\u00a0%]": change_text(one["change"], one["change_ci"]),
    }
    return row | {"note": one.get("note") or "–"}


def _what(one: Stratified | GapChange) -> str:
    return COMPARED.get(one["metric"], one["metric"])


def _is_clear(one: GapChange) -> bool:
    low, high = one["change_ci"]
    return not is_missing(low) and (low > 0 or high < 0)
