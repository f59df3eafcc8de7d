"""How far the groups themselves can be trusted: conflicts, agreement of sources, sensitivity to mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from unmasked.fairness.report_shared import Findings, absent, aside, bullets, heading, joined, record_table
from unmasked.fairness.tables import COMPARED
from unmasked.fairness.verdicts import title
from unmasked.fairness.wording import is_missing, percent, points_only

INTRO = (
    "Groups come from annotations, most of them made by a machine. A mistaken annotation mixes groups, so it "
    "mostly hides differences."
)
NOISE = (
    "What each gap would look like with more mistakes: labels were exchanged at random at the rate given, "
    "many times over. A gap that falls quickly was resting on the annotation; the true gap is likely wider "
    "than the one measured."
)


def annotation(findings: Findings) -> Markup:
    """Conflicts within videos, agreement between sources, and gaps under label noise, by dataset."""
    found = findings.whole.get("annotation") or {}
    if not any(any(part.values()) for part in found.values()):
        return absent(
            "The quality of the annotation was not measured.", "Run the audit again to have it measured."
        )
    parts: list[str] = [aside(INTRO)]
    for dataset, part in found.items():
        body = _dataset(part)
        parts += [heading(3, dataset) if findings.several else "", body] if body else []
    return joined(parts)


def _dataset(part: Mapping[str, Any]) -> Markup:
    parts: list[str] = []
    if part.get("conflicts"):
        parts.append(_records(part["conflicts"], "Videos whose frames disagree on a group"))
    if part.get("agreement"):
        parts.append(_records(part["agreement"], "Two sources of annotation compared"))
    if part.get("sensitivity"):
        parts += [aside(NOISE), _sensitivity(part["sensitivity"])]
    return joined(parts)


def _sensitivity(entries: Sequence[Mapping[str, Any]]) -> Markup:
    """Rows are gaps, columns rates of mistakes."""
    noises = sorted({one["noise"] for one in entries})
    rows = []
    for attribute, metric in dict.fromkeys((one["attribute"], one["metric"]) for one in entries):
        found = {
            one["noise"]: one for one in entries if (one["attribute"], one["metric"]) == (attribute, metric)
        }
        row = {"groups of": title(attribute), "what was compared": COMPARED.get(metric, metric)}
        rows.append(row | {f"{percent(noise)} mistaken": _spread(found.get(noise)) for noise in noises})
    return record_table(rows, caption="Mean gap in points, and the range of 95 % of the repetitions")


def _spread(entry: Mapping[str, Any] | None) -> str:
    if entry is None or is_missing(entry["gap_mean"]):
        return "–"
    low, high = points_only(max(entry["gap_low"], 0)), points_only(max(entry["gap_high"], 0))
    return f"{points_only(entry['gap_mean'])} ({low}–{high})"


def _records(entries: Sequence[Any], caption: str) -> Markup:
    """Records as they come: their keys head the columns, shares become per cent."""
    if not all(isinstance(one, Mapping) for one in entries):
        return joined([aside(caption), bullets([str(one) for one in entries])])
    names = list(dict.fromkeys(name for one in entries for name in one))
    rows = [{_head(name): _plain(name, one.get(name)) for name in names} for one in entries]
    return record_table(rows, caption=caption)


def _head(name: str) -> str:
    return {"attribute": "groups of", "n": "compared"}.get(name, name.replace("_", " "))


def _plain(name: str, value: Any) -> Any:
    if name == "attribute":
        return title(str(value))
    if isinstance(value, float) and not is_missing(value):
        return percent(value) if 0 <= value <= 1 and name != "kappa" else f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return "–".join(percent(one) if isinstance(one, float) else str(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(str(key), one)}" for key, one in value.items())
    return "–" if is_missing(value) else value
