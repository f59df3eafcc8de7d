"""What if: how far each remedy narrows a gap, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from unmasked.analysis.figures.decisions import TradeOffDisplay
from unmasked.analysis.html.page import (
    absent_note,
    aside,
    bullets,
    callout,
    code,
    details,
    heading,
    join_parts,
    paragraph,
    record_table,
)
from unmasked.analysis.reports.fairness.findings import Findings
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import (
    change_text,
    is_missing,
    percent,
    points_only,
)
from unmasked.fairness.mitigation.words import advice, joined_warnings, worst_off_text
from unmasked.fairness.records import Outcome, Remedy, by_question
from unmasked.fairness.verdicts import title

NAMES = {
    "group_thresholds": "a threshold for each group",
    "capped_group_thresholds": "a threshold for each group, none below the one for all",
    "threshold_optimizer": "fairlearn’s ThresholdOptimizer",
    "group_platt": "scores calibrated for each group (Platt)",
    "group_isotonic": "scores calibrated for each group (isotonic)",
}
INTRO = (
    "Each remedy was fitted on data other than what it is judged on. In a figure, up is more useful and left "
    "fairer; a remedy is worth having if it goes left without going down. Hollow: it narrows the gap "
    "without anybody gaining (levelling down). The line is the Pareto front: what no other remedy beats in "
    "both. Bars are 95 % intervals of the change."
)


def mitigation(findings: Findings) -> Markup:
    """Before and after of each remedy, as a figure, a table and warnings."""
    tried = findings.whole.get("mitigation")
    if not tried or not tried["methods"]:
        how = Markup(
            "{} tries remedies on this run and writes what they change; then repeat the audit."
        ).format(code("unmasked mitigate"))
        return absent_note("No remedy was tried.", how)
    parts: list[str] = [aside(INTRO)]
    kind = "frames" if tried.get("settings", {}).get("level") == "frame" else "videos"
    for (attribute, applied_to), found in by_question(tried).items():
        parts.append(heading(3, f"{applied_to}, groups of {title(attribute)}"))
        parts += [paragraph(advice(found, _name)) if advice(found, _name) else ""]
        parts += [_figure(found, findings), _table(found, kind)]
        parts.append(_doubts(found))
    if warnings := [
        *joined_warnings(tried["methods"], _name),
        *(f"{note}." for note in tried.get("notes", [])),
    ]:
        parts.append(callout("note", bullets(warnings), title="Before you use one of these"))
    return join_parts(parts)


def _figure(methods: Sequence[Remedy], findings: Findings) -> Markup:
    gap, useful = _gap(methods[0]), methods[0]["utility"]
    utility = _words(useful)
    names = [f"{place} {_name(one)}" for place, one in enumerate(methods, start=1)]
    before, *after = map(_as_measures, [methods[0]["before"], *(one["after"] for one in methods)])
    if is_missing(before["gap"]) or is_missing(before[useful]):
        return aside("Fewer than two groups are large enough to be compared: no figure of gap against use.")
    display = TradeOffDisplay(
        gap=gap,
        utility=utility,
        methods={
            name: {"gap": one["gap"], "utility": one[useful]} for name, one in zip(names, after, strict=True)
        },
        before={"gap": before["gap"], "utility": before[useful]},
        bad={name for name, one in zip(names, methods, strict=True) if one["levelling_down"]},
        changes={
            name: {"gap": one["gap_change_ci"], "utility": one["utility_change_ci"]}
            for name, one in zip(names, methods, strict=True)
        },
    )
    alt = f"{gap} against {utility}, before and after each remedy, as in the table"
    return findings.draw(("mitigation", methods[0]["attribute"], methods[0]["applied_to"]), display, alt)


def _table(methods: Sequence[Remedy], kind: str) -> Markup:
    useful = methods[0]["utility"]
    rows = [
        {
            "": str(place),
            "remedy": _name(one),
            f"{_gap(one)}, points": _arrow(one, "gap", points_only),
            "change [95\u00a0%]": change_text(one["gap_change"], one["gap_change_ci"]),
            _words(useful): _arrow(one, useful, percent),
            "its change, points [95\u00a0%]": change_text(one["utility_change"], one["utility_change_ci"]),
            **_price(one),
            "worst-off group": _worst_off(one),
        }
        for place, one in enumerate(methods, start=1)
    ]
    groups = methods[0]["before"].get("groups") or []
    n = [f"{sum(one[label] for one in groups):,} {label}" for label in ("real", "fake")]
    caption = f"Fitted on {methods[0]['fitted_on']}" + (
        f", judged on {' and '.join(n)} {kind}" if groups else ""
    )
    return record_table(rows, caption=caption)


def _doubts(methods: Sequence[Remedy]) -> Markup:
    """What is left where the group of a person is not known, or wrong, when the decision is made."""
    rows = [
        {
            "remedy": _name(one),
            "gap as it is, points": points_only(one["before"]["gap"]),
            "with the group known": points_only(one["after"]["gap"]),
            "with no group known": points_only(one["group_unknown"]["gap"]),
            f"with {percent(one['group_wrong']['share'])} wrong": points_only(one["group_wrong"]["gap_mean"]),
        }
        for one in methods
        if one.get("group_unknown") and one.get("group_wrong")
    ]
    if not rows:
        return Markup("")
    text = "These remedies must know who is shown at the moment of the decision."
    table = record_table(rows, caption="The gap where the group is not known or wrong")
    return details("What if the group is not known, or wrong?", join_parts([aside(text), table]))


def _price(one: Remedy) -> dict[str, str]:
    if "tpr_change_at_same_fpr" not in one:
        return {}
    limits = one["tpr_change_at_same_fpr_ci"]
    return {
        "fakes found at the same FPR, points [95\u00a0%]": change_text(one["tpr_change_at_same_fpr"], limits)
    }


def _worst_off(one: Remedy) -> str:
    if one["levelling_down"]:
        return f"{one['before']['worst_group']}: no gain, only others lose (levelling down)"
    return worst_off_text(one)


def _arrow(one: Remedy, metric: str, shown: Callable[[Any], str]) -> str:
    before, after = _as_measures(one["before"]), _as_measures(one["after"])
    return "–" if is_missing(after[metric]) else f"{shown(before[metric])} → {shown(after[metric])}"


def _as_measures(one: Outcome) -> Measures:
    """The outcome, to be read by the name of a metric."""
    return one


def _gap(one: Remedy) -> str:
    return f"{one['metric'].upper()} gap"


def _words(metric: str) -> str:
    return {"auc": "AUC"}.get(metric, metric.replace("_", " "))


def _name(one: Remedy) -> str:
    return NAMES.get(one["name"], str(one["name"]).replace("_", " "))
