"""The tables of the audit's page: rates by group, tests, support, yardsticks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from unmasked.evaluation.page import table
from unmasked.fairness.metrics import TITLES
from unmasked.fairness.verdicts import title
from unmasked.fairness.wording import gap_text, is_missing, named, number, percent, points_only, units

SHOWN = ("fpr", "fnr", "balanced_accuracy", "auc", "eer", "brier")
HEADS = {"fpr": "real called fake (FPR)", "fnr": "fakes missed (FNR)"}
AS_PERCENT = ("fpr", "fnr", "balanced_accuracy", "eer")
COMPARED = {"fpr": "real videos called fake", "tpr": "fakes missed"}
# The rate that stands in the table for a tested metric.
SHOWN_FOR = {"fpr": "fpr", "tpr": "fnr"}


def gaps_tested(audit: Mapping[str, Any], verdict: str | None = None) -> list[tuple[str, Mapping[str, Any]]]:
    """(attribute, test) of the metrics that are tested, in order; of one verdict if given."""
    return [
        (attribute, test)
        for attribute, found in audit["attributes"].items()
        for test in found["tests"]
        if test["metric"] in COMPARED and verdict in (None, test["verdict"])
    ]


def bullets(items: list[str]) -> Markup:
    """A list, or a paragraph where there is one item."""
    if len(items) == 1:
        return Markup("<p>{}</p>").format(items[0])
    return Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(item) for item in items))


def by_group(audit: Mapping[str, Any]) -> Markup:
    """For each attribute a table of its groups' rates with intervals; the worst of a disparity is marked."""
    columns = ["group", "real videos", "fake videos", *(HEADS.get(name, TITLES[name]) for name in SHOWN)]
    parts = []
    for attribute, found in audit["attributes"].items():
        worst = {
            (test["worst_group"], SHOWN_FOR[test["metric"]])
            for test in found["tests"]
            if test["verdict"] == "disparity"
        }
        rows = [_row(_group_cell(entry), entry) for entry in found["groups"]]
        rows.append(_row("everybody", audit["overall"]))
        marks = [[(entry["group"], name) in worst for name in SHOWN] for entry in found["groups"]]
        parts.append(
            table(
                pd.DataFrame(rows, columns=columns, dtype=object),  # keeps Markup as it is
                caption=f"By {title(attribute)}: estimate and 95 % interval",
                formats={"real videos": ",", "fake videos": ","},
                highlight=pd.DataFrame([*marks, [False] * len(SHOWN)], columns=columns[3:]),
            )
        )
    return Markup("\n").join(parts)


def gaps(audit: Mapping[str, Any]) -> Markup:
    """Every gap with its interval, what chance shows, and the verdict."""
    settings = audit["settings"]
    family = sum(not is_missing(test["p_value"]) for _, test in gaps_tested(audit))
    noun = units(settings["unit"])
    text = (
        "A gap is the highest minus the lowest rate among the groups that are compared. Chance: who "
        f"belongs to which group was shuffled {settings['n_perm']:,} times among {noun} with the same mix "
        "of real and fake material, and the gap taken each time; the column gives the gap that 95 % of the "
        "shuffles stay within. p is the share of shuffles with a gap at least as large, corrected for "
        f"{family} comparisons (Holm). Gaps of the other metrics are shown without a test."
    )
    rows = []
    for attribute, found in audit["attributes"].items():
        for test in found["tests"]:
            if is_missing(test["gap"]) and test["metric"] not in COMPARED:
                continue
            gap = gap_text(test["gap"], [test["ci_low"], test["ci_high"]])
            needed = number(test["n_needed"])
            rows.append(
                {
                    "attribute": title(attribute),
                    "metric": TITLES[test["metric"]],
                    "gap (95 % interval), points": gap,
                    "chance alone": points_only(test["null_floor"]),
                    "p, corrected": "–" if is_missing(test["p_adjusted"]) else f"{test['p_adjusted']:.2g}",
                    "verdict": test["verdict"],
                    "worst": named(test["worst_group"]),
                    "best": named(test["best_group"]),
                    "videos needed": "–" if is_missing(needed) else f"about {needed:,.0f}",
                }
            )
    return Markup("<p>{}</p>{}").format(text, table(pd.DataFrame(rows)))


def support(audit: Mapping[str, Any]) -> Markup:
    """How many people, videos and frames are behind each group, and which groups are left out."""
    settings = audit["settings"]
    noun = units(settings["unit"])
    rows, left_out = [], []
    for attribute, found in audit["attributes"].items():
        for entry in found["groups"]:
            behind = entry["support"]
            rows.append(
                {
                    "attribute": title(attribute),
                    "group": entry["group"],
                    noun: behind["clusters"],
                    "real videos": behind["real_videos"],
                    "fake videos": behind["fake_videos"],
                    "real frames": behind["real_frames"],
                    "fake frames": behind["fake_frames"],
                }
            )
        left_out += [
            f"{title(attribute)}, {entry['group']}: left out of {entry['metrics']} ({entry['reason']})"
            for entry in found["excluded"]
        ]
    rule = (
        f"A group is compared on real videos, or on fakes, where it has at least {settings['min_clusters']} "
        f"{noun} and {settings['min_samples']:,} frames of that class."
    )
    below = bullets(left_out) if left_out else Markup("<p>No group was left out.</p>")
    return Markup("<p>{}</p>{}{}").format(rule, table(pd.DataFrame(rows)), below)


def yardsticks(audit: Mapping[str, Any]) -> Markup:
    """fairlearn's measures and the detector that calls everything fake."""
    rows = []
    for attribute, measures in audit["fairlearn"].items():
        constant = audit["constant_detector"]["gaps"][attribute]
        rows.append(
            {
                "attribute": title(attribute),
                "demographic parity difference": number(measures["demographic_parity_difference"]),
                "equalized odds difference": number(measures["equalized_odds_difference"]),
                "equalized odds ratio": number(measures["equalized_odds_ratio"]),
                "everything called fake: equalized odds difference": max(
                    number(constant["fpr"]), number(constant["tpr"])
                ),
                "everything called fake: accuracy gap": number(constant["accuracy"]),
            }
        )
    text = (
        "fairlearn's measures, among the groups large enough in both classes, for comparison with other "
        "work. Demographic parity moves with the share of fakes in a group, which is a property of the "
        "dataset and not of the detector. Beside them, the detector that calls everything fake: it scores "
        "perfectly and is useless."
    )
    formats = dict.fromkeys(list(rows[0])[1:], ".3f") if rows else {}
    return Markup("<p>{}</p>{}").format(text, table(pd.DataFrame(rows), formats=formats))


def _group_cell(entry: Mapping[str, Any]) -> str:
    return entry["group"] if {"fpr", "tpr"} & set(entry["compared"]) else f"{entry['group']} (not compared)"


def _row(name: str, entry: Mapping[str, Any]) -> list[Any]:
    support = entry["support"]
    return [name, support["real_videos"], support["fake_videos"], *(_cell(entry, metric) for metric in SHOWN)]


def _cell(entry: Mapping[str, Any], metric: str) -> Markup:
    """A value over its interval."""
    value, (low, high) = entry[metric], entry[f"{metric}_ci"]
    if is_missing(value):
        return Markup('<span class="soft">not enough data</span>')
    if metric in AS_PERCENT:
        shown, limits = percent(value), f"{100 * number(low):.0f}–{100 * number(high):.0f}"
    else:
        shown, limits = f"{value:.3f}", f"{number(low):.2f}–{number(high):.2f}"
    if is_missing(low):
        return Markup("{}").format(shown)
    return Markup('{}<br><span class="soft" style="white-space: nowrap">{}</span>').format(shown, limits)
