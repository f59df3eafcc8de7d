"""What if: how far each remedy narrows a gap, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from unmasked.evaluation.page import callout, svg
from unmasked.fairness.figures_changes import FairnessUtility
from unmasked.fairness.report_shared import Findings, absent, aside, bullets, code, joined, record_table
from unmasked.fairness.verdicts import title
from unmasked.fairness.wording import change_text, is_missing, number, percent, points_only

NAMES = {
    "group_thresholds": "a threshold for each group",
    "threshold_optimizer": "fairlearn’s ThresholdOptimizer",
    "group_calibration": "scores calibrated for each group",
    "reweighting": "training with reweighted groups",
    "balanced_sampling": "training with groups drawn equally often",
    "cvar": "training on the worst losses (CVaR)",
    "nested_cvar": "training on the worst losses within groups (nested CVaR)",
    "group_dro": "training for the worst group (GroupDRO)",
}
GAPS = ("gap", "fpr_gap", "equalized_odds_difference")
UTILITIES = ("balanced_accuracy", "accuracy", "auc")
INTRO = (
    "Each remedy was fitted on data other than what it is judged on. Up is more useful, left is fairer; a "
    "remedy is worth having if it goes left without going down. Hollow: it narrows the gap by making "
    "everybody worse off (levelling down)."
)


def mitigation(findings: Findings) -> Markup:
    """Before and after of each remedy, as a figure, a table and warnings."""
    methods = (findings.whole.get("mitigation") or {}).get("methods") or []
    if not methods:
        how = Markup(
            "{} tries remedies on this run and writes what they change; then repeat the audit."
        ).format(code("unmasked mitigate"))
        return absent("No remedy was tried.", how)
    parts: list[str] = [aside(INTRO)]
    warnings = [f"{_name(one)}: {one['warning']}" for one in methods if one.get("warning")]
    for one in methods:
        if one.get("randomised"):
            warnings.append(f"{_name(one)}: draws lots, so the same video can get two answers.")
    groups = dict.fromkeys((one["applied_to"], one["attribute"]) for one in methods)
    for applied_to, attribute in groups:
        found = [one for one in methods if (one["applied_to"], one["attribute"]) == (applied_to, attribute)]
        parts.append(_figure(found))
        parts.append(_table(found, f"{applied_to}, groups of {title(attribute)}"))
    if warnings:
        parts.append(
            callout("note", bullets(list(dict.fromkeys(warnings))), title="Before you use one of these")
        )
    return joined(parts)


def _figure(methods: Sequence[Mapping[str, Any]]) -> Markup:
    gap, useful = _pick(methods, GAPS), _pick(methods, UTILITIES)
    if not gap or not useful:
        return Markup("")
    display = FairnessUtility(
        gap=_words(gap),
        utility=_words(useful),
        methods={
            f"{place} {_name(one)}": {
                "gap": number(one["after"][gap]),
                "utility": number(one["after"][useful]),
            }
            for place, one in enumerate(methods)
        },
        before={"gap": number(methods[0]["before"][gap]), "utility": number(methods[0]["before"][useful])},
        bad={f"{place} {_name(one)}" for place, one in enumerate(methods) if one["levelling_down"]},
    ).plot()
    assert display.figure_ is not None
    return svg(display.figure_, alt=f"{_words(gap)} against {_words(useful)}, before and after each remedy")


def _table(methods: Sequence[Mapping[str, Any]], caption: str) -> Markup:
    gap, useful = _pick(methods, GAPS), _pick(methods, UTILITIES)
    rows = [
        {
            "": str(place),
            "remedy": _name(one),
            "fitted on": one["fitted_on"],
            "gap before → after, points": _arrow(one, gap, points_only),
            "change of the gap (95\u00a0%)": change_text(one["gap_change"], one["gap_change_ci"]),
            f"{_words(useful)} before → after": _arrow(one, useful, percent),
            "its change in points (95\u00a0%)": change_text(one["utility_change"], one["utility_change_ci"]),
            "levelling down": "yes: everybody is worse off" if one["levelling_down"] else "no",
        }
        for place, one in enumerate(methods, start=1)
    ]
    return record_table(rows, caption=caption)


def _arrow(one: Mapping[str, Any], metric: str, shown: Any) -> str:
    if not metric or is_missing(one["after"].get(metric)):
        return "–"
    return f"{shown(one['before'][metric])} → {shown(one['after'][metric])}"


def _pick(methods: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> str:
    """The first of the metrics that every method has before and after; "" if none."""
    for name in wanted:
        if all(name in one["before"] and name in one["after"] for one in methods):
            return name
    return ""


def _words(metric: str) -> str:
    return {"fpr_gap": "FPR gap", "tpr_gap": "TPR gap", "auc": "AUC"}.get(metric, metric.replace("_", " "))


def _name(one: Mapping[str, Any]) -> str:
    return NAMES.get(one["name"], str(one["name"]).replace("_", " "))
