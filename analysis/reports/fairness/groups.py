"""Tables of both the page and the run's report: rates by group, gaps with tests."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.html.page import details, record_table, swatch, table
from unmasked.analysis.reports.fairness.findings import Findings
from unmasked.evaluation.metrics import METRICS, group_metrics
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import (
    gap_text,
    is_missing,
    name_or_dash,
    p_text,
    percent,
    points_only,
    share_text,
    units,
    value_text,
)
from unmasked.fairness.records import AuditResults, Everybody, GroupResults, Spread, Test
from unmasked.fairness.verdicts import title

ELSEWHERE = ("tpr", "accuracy", "selection_rate")  # of the gaps table
SHOWN = ("fpr", "fnr", "balanced_accuracy", "auc", "eer", "brier", "ece")
HEADS = {"fpr": "real called fake (FPR)", "fnr": "fakes missed (FNR)", "ece": "calibration error (ECE)"}
AS_PERCENT = ("fpr", "fnr", "balanced_accuracy", "eer")
COMPARED = {"fpr": "real videos called fake", "tpr": "fakes missed"}
# The rate that stands in the table for a tested metric.
SHOWN_FOR = {"fpr": "fpr", "tpr": "fnr"}


def gaps_tested(audit: AuditResults, verdict: str | None = None) -> list[tuple[str, Test]]:
    """(attribute, test) of the metrics that are tested, in order; of one verdict if given."""
    return [
        (attribute, test)
        for attribute, found in audit["attributes"].items()
        for test in found["tests"]
        if test["metric"] in COMPARED and verdict in (None, test["verdict"])
    ]


def difference_text(test: Test) -> str:
    """The tested difference in points with its interval; files of 0.1 hold that of the gap.

    A dash where nothing was tested: the verdict beside it says why.
    """
    difference = test.get("difference", test["gap"])
    return "–" if is_missing(difference) else gap_text(difference, [test["ci_low"], test["ci_high"]])


def largest_gap_text(test: Test) -> str:
    """The gap in points with the groups that it is between, the worse one first."""
    ends = [test.get("gap_worst"), test.get("gap_best")]
    between = "" if any(map(is_missing, ends)) else f" ({ends[0]}, {ends[1]})"
    return f"{points_only(test['gap'])}{between}"


def chance_text(test: Test) -> str:
    """What chance alone does not go beyond, in points, of the same difference."""
    chance = test.get("chance")
    return points_only(test["null_floor"] if is_missing(chance) else chance)


def by_group(audit: AuditResults, findings: Findings, *, short: bool = False) -> Markup:
    """For each attribute a table of its groups' rates with intervals.

    The worst of a disparity is marked.

    Args:
        audit: of one dataset.
        findings: for the groups' colours.
        short: leave out attributes none of whose groups are large enough to be compared.
    """
    others = (name for name in group_metrics() if name not in (*SHOWN, *ELSEWHERE))
    shown = [name for name in (*SHOWN, *others) if name in audit["overall"]]
    columns = ["group", "videos: real + fake", *(_head(name) for name in shown)]
    parts = []
    for attribute, found in audit["attributes"].items():
        if short and not any(entry["compared"] for entry in found["groups"]):
            continue
        worst = {
            (test["worst_group"], SHOWN_FOR[test["metric"]])
            for test in found["tests"]
            if test["verdict"] == "disparity" and test["metric"] in SHOWN_FOR
        }
        rows = [
            _row(_group_cell(entry, findings.colour(attribute, entry["group"])), entry, shown)
            for entry in found["groups"]
        ]
        rows.append(_row("everybody", audit["overall"], shown))
        marks = [[(entry["group"], name) in worst for name in shown] for entry in found["groups"]]
        parts.append(
            table(
                pd.DataFrame(rows, columns=columns, dtype=object),  # keeps Markup as it is
                caption=f"By {title(attribute)}: estimate and 95 % interval",
                highlight=pd.DataFrame([*marks, [False] * len(shown)], columns=columns[2:]),
            )
        )
    return Markup("\n").join(parts)


def called_fake(audit: AuditResults) -> Markup:
    """How often each group is called fake, beside its share of fakes."""
    text = (
        "How often a group is called fake (the selection rate, behind demographic parity) also says how many "
        "of its videos are fakes. If all were treated alike: what a detector would show that errs as often "
        "on every group. With everybody’s fakes: the group’s own errors, at the share of fakes of everybody. "
        "Only what is left between groups in the last column is the detector’s."
    )
    rows = [
        {
            "groups of": title(attribute),
            "group": one["group"],
            "share of fakes": percent(one["share_fake"]),
            "called fake [95\u00a0%]": share_text(one["selection_rate"], one["selection_rate_ci"]),
            "if all were treated alike": percent(one["expected"]),
            "with everybody’s fakes": percent(one["as_everybody"]),
        }
        for attribute, found in audit["attributes"].items()
        for one in found.get("base_rates", [])
    ]
    if not rows:
        return Markup("")
    return details(
        "Called fake, and how many are fakes",
        Markup("<p>{}</p>{}").format(
            text, record_table(rows, caption="Share called fake, and share of fakes")
        ),
    )


def gaps(audit: AuditResults) -> Markup:
    """Every gap with its interval, what chance shows, and the verdict."""
    settings = audit["settings"]
    family = sum(not is_missing(test["p_value"]) for _, test in gaps_tested(audit))
    noun = units(settings["unit"])
    text = (
        "A gap is the highest minus the lowest value among the groups that are compared. Of FPR and TPR "
        "every pair of groups is tested; shown is the pair that differs most for its size, each of its "
        f"{noun} weighed by what it says. Chance: who belongs to which group was shuffled "
        f"{settings['n_perm']:,} times among {noun} with the same mix of real and fake material; the column "
        "gives the difference of the pair that the shuffles, over all pairs, go beyond in as many cases as "
        f"the corrected test allows. p is corrected for the search over pairs and for {family} comparisons "
        "(Holm); it is below 0.05 exactly where the interval is above 0. Of other metrics the difference is "
        "the gap, without a test."
    )
    has_spread = any(found.get("spread") for found in audit["attributes"].values())
    if has_spread:
        text += (
            " Spread is the standard deviation between groups after what chance adds was taken off, which "
            "a gap never has taken off."
        )
    rows = [
        _gap_row(attribute, test, found.get("spread", {}), has_spread)
        for attribute, found in audit["attributes"].items()
        for test in found["tests"]
        if not is_missing(test["gap"]) or test["metric"] in COMPARED
    ]
    return Markup("<p>{}</p>{}").format(text, record_table(rows, caption=""))


def _gap_row(attribute: str, test: Test, spread: Mapping[str, Spread], has_spread: bool) -> dict[str, str]:
    needed = test["n_needed"]
    row = {
        "attribute": title(attribute),
        "metric": _title(test["metric"]),
        "gap in points": points_only(test["gap"]),
        "difference in points [95\u00a0%]": difference_text(test),
        "chance alone": chance_text(test),
    }
    if has_spread:
        found = spread.get(test["metric"])
        known = found is not None and not is_missing(found["corrected"])
        text = gap_text(found["corrected"], found["corrected_ci"]) if found is not None and known else "–"
        row["spread in points [95\u00a0%]"] = text
    return row | {
        "p, corrected": p_text(test["p_adjusted"]),
        "verdict": test["verdict"],
        "worst": name_or_dash(test["worst_group"]),
        "best": name_or_dash(test["best_group"]),
        "videos needed": "–" if is_missing(needed) else f"about {needed:,.0f}",
    }


def cell(entry: Measures, metric: str) -> str:
    """A value with its interval, rates in per cent."""
    text = share_text if metric in AS_PERCENT else value_text
    return text(entry[metric], entry[f"{metric}_ci"])


def _head(metric: str) -> str:
    return HEADS.get(metric) or _title(metric)


def _title(metric: str) -> str:
    return METRICS[metric].title if metric in METRICS else metric.upper()


def _group_cell(entry: GroupResults, colour: str) -> Markup:
    compared = {"fpr", "tpr"} & set(entry["compared"])
    name = swatch(colour, entry["group"])
    return (
        name
        if compared
        else Markup('{}<br><span class="soft" style="white-space: nowrap">not compared</span>').format(name)
    )


def _row(name: str | Markup, entry: GroupResults | Everybody, shown: list[str]) -> list[str]:
    support = entry["support"]
    videos = f"{support['real_videos']:,}\u00a0+\u00a0{support['fake_videos']:,}"
    return [name, videos, *(cell(entry, metric) for metric in shown)]
