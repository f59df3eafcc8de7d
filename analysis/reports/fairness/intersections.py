"""Combinations of attributes as a matrix, hatched where too few people are behind a cell."""

from __future__ import annotations

from markupsafe import Markup

from unmasked.analysis.html.page import (
    Cell,
    absent_note,
    callout,
    code,
    details,
    heat_table,
    join_parts,
    paragraph,
    place_side_by_side,
    record_table,
)
from unmasked.analysis.reports.fairness.findings import Findings, by_dataset, utility
from unmasked.analysis.reports.fairness.support import find_crossings, grid
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import NOT_ENOUGH, gap_text, is_missing, p_text, percent, share_text, units
from unmasked.fairness.records import AuditResults
from unmasked.fairness.statistics.subgroups import LEVEL
from unmasked.fairness.verdicts import scan_sentence, title

# The rate in the cells, the class whose videos it counts, the caption.
RATES = {
    "fpr": ("real", "Real videos called fake, by {}"),
    "fnr": ("fake", "Fakes missed, by {}"),
    "balanced_accuracy": ("", "Balanced accuracy, by {}"),
}


def intersections(findings: Findings) -> Markup:
    """The worst subgroup, and matrices of error rates for each crossed attribute."""
    audits = findings.audits.values()
    if not any(map(find_crossings, audits)):
        names = list(next(iter(findings.audits.values()))["attributes"])[:2]
        example = " × ".join(names) if len(names) == 2 else "gender × skin_tone_group"
        absent = absent_note(
            "Combinations of attributes were not compared with each other: a detector can fail dark-skinned "
            "women while the figures for women and for dark skin both look fine.",
            Markup("Add a crossing to the audit: {}.").format(code(f"by=[…,'{example}']")),
        )
        if not any(map(_search, audits)):
            return absent
        return join_parts([by_dataset(findings, lambda _, audit: _search(audit)), absent])
    intro = Markup(
        '<p class="soft">Darker is worse. Hatched cells hold too few people to be compared; their figures '
        "are shown with their intervals and count in no gap.</p>"
    )
    return join_parts([intro, by_dataset(findings, lambda _, audit: _dataset(audit))])


def _dataset(audit: AuditResults) -> Markup:
    names = find_crossings(audit)
    if not names:
        return _search(audit)
    matrices = [
        _matrix(audit, attribute, parts, rate) for attribute, parts in names.items() for rate in RATES
    ]
    shrunk = [_shrunk(audit, attribute) for attribute in names]
    return join_parts([utility(audit), _search(audit), place_side_by_side(matrices), *shrunk])


def _search(audit: AuditResults) -> Markup:
    """The worst subgroup in words, and those that come next; empty where none was searched for."""
    found, unit = audit.get("scan"), audit["settings"]["unit"]
    if found is None:
        return Markup("")
    is_found = bool(found["found"]) and found["found"][0]["p_value"] < LEVEL
    name = "The worst subgroup" if is_found else "No subgroup stands out"
    left_out = f" Not searched: {', '.join(found['left_out'])}." if found["left_out"] else ""
    said = callout(
        "bad" if is_found else "note", paragraph(scan_sentence(found, unit) + left_out), title=name
    )
    text = (
        f"Each subgroup against everybody else, among {found['units']:,} {units(unit)} of whom every "
        "attribute is known. p counts the search: the profiles of people are shuffled, and the largest "
        "difference in standard errors of all subgroups is taken. This search is a question of its own "
        "beside the tested gaps. Subgroups overlap: the second may be the first in other words."
    )
    rows = [
        {
            "subgroup": one["group"],
            "error": "real called fake" if one["metric"] == "fpr" else "fakes missed",
            units(unit): f"{one['people']:,}",
            "rate": percent(one["rate"]),
            "everybody else": percent(one["rate_of_others"]),
            "difference in points [95\u00a0%]": gap_text(one["difference"], [one["ci_low"], one["ci_high"]]),
            "p": p_text(one["p_value"]),
            f"{units(unit)} to confirm": "–"
            if is_missing(one["people_to_confirm"])
            else f"{one['people_to_confirm']:,.0f}",
        }
        for one in found["found"]
    ]
    table = details(
        "The subgroups that were got wrong most",
        join_parts(
            [
                paragraph(text),
                record_table(rows, caption="The worst first, each against everybody else") if rows else "",
            ]
        ),
    )
    return join_parts([said, table if rows else ""])


def _shrunk(audit: AuditResults, attribute: str) -> Markup:
    """Rates of crossed groups as they are, and pulled towards what their attributes say."""
    rates = audit["attributes"][attribute].get("shrunk", [])
    if not rates:
        return Markup("")
    text = (
        "A group of few people says little of itself. Its rate is pulled towards what its attributes say one "
        "by one, the more the fewer people it has; the last column says how far. Read it where a group is "
        "too small to be compared. Intervals hold for groups on average: of one that is truly unlike all "
        "others too little is left, which the raw rate and the search above do not hide."
    )
    rows = [
        {
            "group": one["group"],
            "error": "real called fake" if one["metric"] == "fpr" else "fakes missed",
            units(audit["settings"]["unit"]): f"{one['units']:,}",
            "raw": percent(_error(one["raw"], one["metric"])),
            "shrunk [95\u00a0%]": share_text(
                _error(one["shrunk"], one["metric"]),
                sorted(_error(end, one["metric"]) for end in one["shrunk_ci"]),
            ),
            "attributes alone": percent(_error(one["main_effects"], one["metric"])),
            "way to it": percent(one["shrinkage"]),
        }
        for one in rates
    ]
    parts = join_parts(
        [paragraph(text), record_table(rows, caption=f"{title(attribute)}: raw and shrunk rates")]
    )
    return details(f"Small groups of {title(attribute)}: estimates with help of the others", parts)


def _error(rate: float, metric: str) -> float:
    return 1 - rate if metric == "tpr" else rate


def _matrix(audit: AuditResults, attribute: str, parts: tuple[str, str], rate: str) -> Markup:
    rows, columns, cells = grid(audit["attributes"][attribute]["groups"])
    label, caption = RATES[rate]
    shown = [(row, [_cell(cells.get((row, column)), rate, label) for column in columns]) for row in rows]
    return heat_table(shown, [title(parts[0]), *columns], caption.format(title(attribute)))


def _cell(entry: Measures | None, rate: str, label: str) -> Cell:
    if entry is None:
        return Cell("nobody", greyed=True)
    support = entry["support"]
    n = support[f"{label}_videos"] if label else support["real_videos"] + support["fake_videos"]
    if is_missing(entry[rate]):
        return Cell(NOT_ENOUGH, f"{n:,} videos", greyed=True)
    error = 1 - entry[rate] if rate == "balanced_accuracy" else entry[rate]
    shown = share_text(entry[rate], entry[f"{rate}_ci"])
    return Cell(shown, f"{n:,} videos", error, greyed=rate not in entry["compared"])
