"""How reliable the groups are: conflicts, agreement of sources, effect of mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from unmasked.analysis.html.page import absent_note, aside, code, heading, join_parts, record_table
from unmasked.analysis.reports.fairness.findings import Findings
from unmasked.analysis.reports.fairness.groups import COMPARED
from unmasked.evaluation.wording import gap_text, is_missing, metric_text, percent, points_only, share_text
from unmasked.fairness.records import Agreement, AnnotationQuality, Conflicts, NoisyGap
from unmasked.fairness.verdicts import title

INTRO = (
    "Groups are what the table or its annotation says. A mistaken annotation mixes groups, so it mostly "
    "hides differences."
)
NOISE = (
    "What each gap would look like with more mistakes: labels were exchanged at random at the rate given, "
    "many times over. A gap that falls quickly was resting on the annotation; the true gap is likely wider "
    "than the one measured."
)

_SECOND_SOURCE = Markup("Give another source’s annotations of the same videos: {}.").format(
    code("second_annotations=FILE")
)


def annotation(findings: Findings) -> Markup:
    """Conflicts within videos, agreement of sources, and gaps under label noise, by dataset."""
    found = findings.whole.get("annotation", {})
    if not any(any(part.values()) for part in found.values()):
        if not found:
            return absent_note(
                "The quality of the annotation was not measured.", "Run the audit again to have it measured."
            )
        why = "no two groups are large enough to be compared, so there is no gap that mistakes could change"
        return absent_note(f"The quality of the annotation was not measured: {why}.", _SECOND_SOURCE)
    parts: list[str] = [aside(INTRO)]
    if any(part.get("sensitivity") for part in found.values()):
        parts.append(aside(NOISE))
    for dataset, part in found.items():
        body = _dataset(part)
        parts += [heading(3, dataset) if findings.has_several else "", body] if body else []
    if not any(part.get("agreement") for part in found.values()):
        parts.append(absent_note("Two sources of annotation were not compared.", _SECOND_SOURCE))
    return join_parts(parts)


def _dataset(part: AnnotationQuality) -> Markup:
    parts: list[str] = []
    if part.get("conflicts"):
        parts.append(
            record_table(list(map(_conflict, part["conflicts"])), caption="Videos whose frames disagree")
        )
    if part.get("agreement"):
        caption = "Two sources of annotation on the same videos; kappa is 1 for agreement and 0 for chance"
        parts.append(record_table(list(map(_agreement, part["agreement"])), caption=caption))
    if part.get("measured_sensitivity"):
        caption = "Gaps in points if annotations were as wrong as the two sources disagree"
        parts.append(
            record_table(list(map(_disagreement_row, part["measured_sensitivity"])), caption=caption)
        )
    if part.get("sensitivity"):
        parts.append(_sensitivity(part["sensitivity"]))
    return join_parts(parts)


def _conflict(one: Conflicts) -> dict[str, object]:
    pairs = ", ".join(f"{pair} ({count:,})" for pair, count in one.get("pairs", {}).items())
    return {
        "groups of": title(one["attribute"]),
        "videos": one["videos"],
        "of these, frames disagree": one["conflicting"],
        "share": percent(one.get("share")),
        "between": pairs or "–",
    }


def _agreement(one: Agreement) -> dict[str, object]:
    return {
        "groups of": title(one["attribute"]),
        "videos in both": one["videos"],
        "agree [95\u00a0%]": share_text(one["share"], one.get("share_ci")),
        "kappa [95\u00a0%]": "–" if is_missing(one.get("kappa")) else metric_text(one, "kappa"),
        "most often confused": _most_confused_pair(one.get("confusion", {})),
    }


def _most_confused_pair(confusion: Mapping[str, Mapping[str, int]]) -> str:
    """The pair of groups that the sources take for one another most often."""
    wrong = [
        (count, f"{ours} / {theirs} ({count:,})")
        for ours, row in confusion.items()
        for theirs, count in row.items()
        if ours != theirs and count
    ]
    return max(wrong)[1] if wrong else "–"


def _disagreement_row(one: NoisyGap) -> dict[str, object]:
    return {
        "groups of": title(one["attribute"]),
        "what was compared": COMPARED.get(one["metric"], one["metric"]),
        "as given": points_only(one["gap"]),
        "people under another group": percent(one["noise"]),
        "then": _spread(one),
    }


def _sensitivity(entries: Sequence[NoisyGap]) -> Markup:
    """Rows are gaps, columns rates of mistakes."""
    noises = sorted({one["noise"] for one in entries})
    rows = []
    for attribute, metric in dict.fromkeys((one["attribute"], one["metric"]) for one in entries):
        found = {
            one["noise"]: one for one in entries if (one["attribute"], one["metric"]) == (attribute, metric)
        }
        row = {"groups of": title(attribute), "what was compared": COMPARED.get(metric, metric)}
        if "gap" in next(iter(found.values())):
            row["as given"] = points_only(next(iter(found.values()))["gap"])
        rows.append(row | {f"{percent(noise)} mistaken": _spread(found.get(noise)) for noise in noises})
    return record_table(
        rows,
        caption="Gap in points with more mistakes: mean, in brackets the range of 95 % of the repetitions",
    )


def _spread(entry: NoisyGap | None) -> str:
    if entry is None or is_missing(entry["gap_mean"]):
        return "–"
    return gap_text(entry["gap_mean"], [max(entry["gap_low"], 0), max(entry["gap_high"], 0)])
