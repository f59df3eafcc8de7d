"""What remedies do, in words; imports nothing of what fits them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unmasked.evaluation.wording import gap_text, is_missing, list_names, points, signed_points
from unmasked.fairness.records import Remedy
from unmasked.fairness.verdicts import title


def advice(methods: Sequence[Remedy], name: Callable[[Remedy], str] = lambda one: one["name"]) -> str:
    """Whether there is a gap to mend, which remedies surely widen it, and which narrow it.

    Empty where no gap is defined.

    Args:
        methods: of one attribute on one dataset, see `records.by_question`.
        name: how a remedy is called.
    """
    first = methods[0]
    gap, interval = first["before"]["gap"], first.get("gap_before_ci")
    if is_missing(gap) or interval is None or is_missing(interval[0]):
        return ""
    about = f"{title(first['attribute'])}, {first['applied_to']}"
    text = f"{about}: the gap before is {gap_text(gap, [max(0.0, interval[0]), interval[1]])} points"
    text += "" if interval[0] > 0 else ", which is not told from none: there may be nothing to mend"
    sides = {
        "surely wider": [one for one in methods if one["gap_change_ci"][0] > 0],
        "surely narrower": [one for one in methods if one["gap_change_ci"][1] < 0],
    }
    for side, found in sides.items():
        if found:
            verb = "makes" if len(found) == 1 else "make"
            text += f"; {list_names([name(one) for one in found])} {verb} it {side}"
    return text + ("." if sides["surely narrower"] else "; no remedy is shown to narrow it.")


def joined_warnings(
    methods: Sequence[Remedy], name: Callable[[Remedy], str] = lambda one: one["name"]
) -> list[str]:
    """Every warning once, behind the remedies that it is about."""
    about: dict[str, list[str]] = {}
    for one in methods:
        warnings = [warning for warning in (one["warning"] or "").split("; ") if warning]
        if one.get("randomised") and not any("randomised" in warning for warning in warnings):
            warnings.append("it draws lots, so the same video can get two answers")
        for warning in warnings:
            about.setdefault(warning.rstrip("."), []).append(name(one))
    return [f"{list_names(list(dict.fromkeys(names)))}: {warning}." for warning, names in about.items()]


def worst_off_text(one: Remedy) -> str:
    """Who was worst off, and how many points better or worse the remedy makes it."""
    group, gain = one["before"].get("worst_group"), one.get("worst_group_gain")
    if group is None or gain is None or is_missing(gain):
        return "–"
    if signed_points(gain) == "0":
        return f"{group}: as before"
    return f"{group}: {points(abs(gain))} {'better' if gain > 0 else 'worse'}"
