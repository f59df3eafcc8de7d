"""What every part of the fairness report uses: the findings with their colours, headings, shaded tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from unmasked.analysis.html.page import group_colours, table
from unmasked.evaluation.wording import number, percent

# Figures stand side by side on a screen and below one another on a phone.
SIDE_BY_SIDE = "display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 26rem))"


@dataclass(frozen=True)
class Findings:
    """What ``fairness.json`` holds, and one colour for each group of an attribute on the whole page.

    Attributes:
        whole: everything; the parts that span datasets are read from here.
        audits: dataset -> `Audit.to_dict` with what was added to it.
        colours: attribute -> group -> ``#rrggbb``.
    """

    whole: Mapping[str, Any]
    audits: dict[str, Mapping[str, Any]]
    colours: dict[str, dict[str, str]]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Findings:
        """Read from ``{"datasets": …}`` or from one `Audit.to_dict`."""
        if "datasets" in found:
            audits = dict(found["datasets"])
        else:
            audits = {found["settings"].get("dataset", "these predictions"): found}
        groups: dict[str, list[str]] = {}
        for audit in audits.values():
            for attribute, part in audit["attributes"].items():
                groups.setdefault(attribute, []).extend(entry["group"] for entry in part["groups"])
        return cls(found, audits, {name: group_colours(members) for name, members in groups.items()})

    @property
    def several(self) -> bool:
        """Whether more than one dataset was audited, so that each needs a heading."""
        return len(self.audits) > 1

    def heading(self, text: str) -> Markup:
        """A heading within a dataset's part: h3, or h4 below the name of one of several."""
        return heading(4 if self.several else 3, text)

    def colour(self, attribute: str, group: str) -> str:
        """The colour of a group wherever it is drawn; black for one that no audit lists."""
        return self.colours.get(attribute, {}).get(group, "#000000")


def joined(parts: Sequence[str]) -> Markup:
    """Finished fragments below one another; empty ones leave no trace."""
    return Markup("\n").join(Markup(part) for part in parts if part)


def by_dataset(findings: Findings, body: Callable[[str, Mapping[str, Any]], Markup]) -> Markup:
    """``body(name, audit)`` for each dataset under its name; datasets that have nothing are left out."""
    parts = []
    for name, audit in findings.audits.items():
        found = body(name, audit)
        if found:
            parts += [heading(3, name) if findings.several else "", found]
    return joined(parts)


def heading(level: int, text: str) -> Markup:
    """A heading of that level."""
    return Markup("<h{0}>{1}</h{0}>").format(level, text)


def paragraph(text: str | Markup) -> Markup:
    """A paragraph."""
    return Markup("<p>{}</p>").format(text)


def aside(text: str | Markup) -> Markup:
    """A paragraph that explains, in a lighter colour; nothing for no text."""
    return Markup('<p class="soft">{}</p>').format(text) if text else Markup("")


def absent(what: str, how: str | Markup) -> Markup:
    """The line that stands where a part was not measured: what is missing, how to make it."""
    return Markup('<p class="soft">{} {}</p>').format(what, how)


def code(text: str) -> Markup:
    """Something to type."""
    return Markup("<code>{}</code>").format(text)


def bullets(items: Sequence[str | Markup]) -> Markup:
    """A list, or a paragraph where there is one item."""
    if len(items) == 1:
        return paragraph(items[0])
    return Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(item) for item in items))


def details(summary: str, body: Markup) -> Markup:
    """Something to fold out, which needs no script."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, body) if body else Markup("")


def folded(figures: Markup, too_small: bool) -> Markup:
    """The figures, folded away where all that they show is chance."""
    return details("The groups are too small to be compared; look anyway", figures) if too_small else figures


def with_own_ids(html: str) -> str:
    """The page with every figure's ids its own, where two figures are alike to the last stroke."""
    seen: dict[str, int] = {}

    def renamed(figure: re.Match[str]) -> str:
        mark = figure.group(1)
        seen[mark] = seen.get(mark, 0) + 1
        text = figure.group(0)
        return text if seen[mark] == 1 else text.replace(mark, f"{mark}n{seen[mark]}")

    return re.sub(
        r'<svg class="plot"[^>]*aria-labelledby="(s\w+)-alt".*?</svg>', renamed, html, flags=re.DOTALL
    )


def side_by_side(figures: Sequence[Markup]) -> Markup:
    """Figures in as many columns as fit."""
    return Markup('<div style="{}">{}</div>').format(SIDE_BY_SIDE, Markup("").join(figures))


def utility(audit: Mapping[str, Any]) -> Markup:
    """How good the detector is at all, the line that stands beside every fairness figure."""
    overall, constant = audit["overall"], audit["constant_detector"]["overall"]
    return Markup(
        '<p class="soft">How good it is at all here: AUC {:.2f}, balanced accuracy {} '
        "(calling everything fake: {}).</p>"
    ).format(
        number(overall["auc"]),
        percent(overall["balanced_accuracy"]),
        percent(constant["balanced_accuracy"]),
    )


def record_table(
    rows: Sequence[Mapping[str, Any]],
    *,
    caption: str,
    formats: Mapping[str, str] | None = None,
    marked: Sequence[bool] = (),
) -> Markup:
    """A table of records with the same keys; whole numbers get their thousands apart, Markup stays as it is.

    Args:
        rows: heading -> value, at least one.
        caption: what the table says.
        formats: heading -> format of numbers that are not whole.
        marked: which rows are highlighted.
    """
    frame = pd.DataFrame(list(rows), dtype=object)  # objects keep Markup and whole numbers as they are
    whole = {
        name: "," for name in frame if all(isinstance(value, (int, np.integer)) for value in frame[name])
    }
    highlight = pd.Series(list(marked), dtype=bool) if len(marked) else None
    return table(frame, caption=caption, formats=whole | dict(formats or {}), highlight=highlight)


def in_a_row(parts: Sequence[Markup]) -> Markup:
    """Small tables beside one another where there is room."""
    return Markup('<div class="row">{}</div>').format(Markup("").join(parts)) if parts else Markup("")


def swatch(colour: str, text: str | Markup) -> Markup:
    """A group's name behind a square in its colour."""
    square = Markup(
        '<span aria-hidden="true" style="display: inline-block; width: .7em; height: .7em; '
        'margin-right: .4em; background: {}"></span>'
    ).format(colour)
    return Markup('<span style="white-space: nowrap">{}{}</span>').format(square, text)
