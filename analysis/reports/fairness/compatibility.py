"""The numbers other work prints: AI-Face's and Fairness-Generalization's, and fairlearn's."""

from __future__ import annotations

from math import nan

from markupsafe import Markup

from unmasked.analysis.html.page import absent_note, aside, bullets, code, details, join_parts, record_table
from unmasked.analysis.reports.fairness.findings import Findings, by_dataset, utility
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import is_missing, list_names
from unmasked.fairness.records import AuditResults, Bench
from unmasked.fairness.verdicts import title

BENCH = ("F_DP", "F_MEO", "F_OAE", "F_EO", "F_FPR")
FAIRLEARN = (
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equalized_odds_ratio",
    "equal_opportunity_difference",
)
INTRO = (
    "For comparison with published tables only. These formulas call a score of 0.5 or more fake, whatever "
    "the threshold here; they have no intervals, count a group of three videos like one of three thousand, "
    "grow with the number of groups (F_EO, F_FPR), and are perfect for a detector that calls everything "
    "fake, whose figures are beside them. Decide by the verdicts above."
)
PARITY = (
    "fairlearn’s measures are taken among the groups large enough in both classes. Demographic parity moves "
    "with the share of fakes in a group, which is a property of the dataset and not of the detector."
)


def compatibility(findings: Findings) -> Markup:
    """Bench metrics with dropped groups and the constant detector, then fairlearn's measures."""
    return join_parts([aside(INTRO), aside(PARITY), by_dataset(findings, lambda _, audit: _dataset(audit))])


def _dataset(audit: AuditResults) -> Markup:
    bench = audit.get("bench")
    if bench:
        benches = join_parts([_bench(bench), _list_dropped_groups(bench), _log_table(bench)])
    else:
        how = Markup("{} does it.").format(code("Audit.bench()"))
        benches = absent_note("The benches’ metrics were not computed.", how)
    return join_parts([utility(audit), benches, _fairlearn(audit)])


def _bench(bench: Bench) -> Markup:
    rows = []
    for attribute, found in bench["attributes"].items():
        rows.append(_bench_row(f"{title(attribute)} ({len(found['groups'])} groups)", found))
        if constant := bench["constant"].get(attribute):
            rows.append(_bench_row("everything called fake", constant))
    caption = "As AI-Face and Fairness-Generalization tabulate them, in per cent"
    return record_table(rows, caption=caption, formats=dict.fromkeys((*BENCH, "AUC"), ".3f"))


def _log_table(bench: Bench) -> Markup:
    """The same under the names and in the units of the benches' own output, to compare with a log."""
    rows = [
        {"groups of": title(attribute), **found["printed"]}
        for attribute, found in bench["attributes"].items()
        if found.get("printed")
    ]
    if not rows:
        return Markup("")
    formats = dict.fromkeys([name for row in rows for name in row if name != "groups of"], ".4f")
    text = "Sums (F_EFPR, F_EO) and F_G, F_S, F_A are fractions there, the others per cent."
    caption = "As a log of theirs prints them"
    return details(
        "As a log of theirs prints them",
        join_parts([aside(text), record_table(rows, caption=caption, formats=formats)]),
    )


def _bench_row(name: str, found: Measures) -> dict[str, object]:
    shown = {metric: found[metric] for metric in BENCH} | ({"AUC": found["auc"]} if "auc" in found else {})
    return {"groups of": name, **shown}


def _list_dropped_groups(bench: Bench) -> Markup:
    items = [
        f"{title(attribute)}, {group}: dropped by these formulas ({reason})"
        for attribute, found in bench["attributes"].items()
        for group, reason in found.get("dropped", {}).items()
    ]
    return bullets(items) if items else aside("No group was dropped.")


def _fairlearn(audit: AuditResults) -> Markup:
    constant = audit["constant_detector"].get("fairlearn", {})
    rows, undefined = [], []
    for attribute, measures in audit["fairlearn"].items():
        if all(is_missing(measures[name]) for name in FAIRLEARN):
            undefined.append(title(attribute))
            continue
        rows += [
            {
                "groups of": title(attribute),
                "measure": _words(name),
                "this detector": measures[name],
                "everything called fake": constant.get(attribute, {}).get(name, nan),
            }
            for name in FAIRLEARN
        ]
    formats = dict.fromkeys(("this detector", "everything called fake"), ".3f")
    found = record_table(rows, caption="fairlearn, as fractions", formats=formats) if rows else ""
    text = (
        f"fairlearn’s measures need two groups large enough in both classes; not so for "
        f"{list_names(undefined)}."
    )
    return join_parts([found, aside(text) if undefined else ""])


def _words(name: str) -> str:
    return name.replace("_", " ")
