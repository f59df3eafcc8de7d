"""The audit as a page for someone who has to act on it and never saw the project.

`section` is the part that goes into a run's report, `page` stands alone. Both read `Audit.to_dict`, or
``{"datasets": {NAME: …}, "skipped": {…}}`` for several, straight or after a round trip through JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from unmasked.evaluation.page import Section, callout, render_page, svg, table
from unmasked.fairness.figures import PANELS, GroupRates, number
from unmasked.fairness.metrics import TITLES
from unmasked.fairness.verdicts import CLASSES, ORDER, title

SHOWN = ("fpr", "fnr", "balanced_accuracy", "auc", "eer", "brier")
HEADS = {"fpr": "real called fake (FPR)", "fnr": "fakes missed (FNR)"}
AS_PERCENT = ("fpr", "fnr", "tpr", "selection_rate", "accuracy", "balanced_accuracy", "eer")
EVENTS = {"fpr": "real videos called fake", "tpr": "fakes missed"}
NOUNS = {"identity": "people", "video": "videos", "cluster": "clusters"}
SIDE_BY_SIDE = "display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 26rem))"
QUESTION = "For whom does the detector fail, and how sure are we?"


def section(found: Mapping[str, Any]) -> str:
    """The fairness part of a run's report, an HTML fragment: verdict, figures, table by group, limits.

    Headings start at h3, or h4 under a heading for each of several datasets.
    """
    audits = _audits(found)
    level = 3 if len(audits) == 1 else 4
    parts: list[str] = []
    for name, audit in audits.items():
        if len(audits) > 1:
            parts.append(_heading(3, name))
        parts += [_answer(audit), _figures(audit), _by_group(audit)]
        parts.append(_details("How every gap was tested", _tests(audit)))
        parts.append(_details("Who was compared, and who was left out", _support(audit)))
    parts += [
        _skipped(found),
        _heading(level, "What this does not say"),
        _limits(next(iter(audits.values()))),
    ]
    return Markup("\n").join(map(Markup, parts))


def page(found: Mapping[str, Any]) -> str:
    """The whole report as one self-contained page."""
    audits = _audits(found)
    sections = []
    for number_of, (name, audit) in enumerate(audits.items(), start=1):
        several = len(audits) > 1
        mark = f"-{number_of}" if several else ""
        if several:
            sections.append(Section(f"dataset{mark}", name, _dataset(audit)))
            continue
        sections += [
            Section("answer", "The answer", _answer(audit)),
            Section("groups", "Error rates by group", Markup(_figures(audit) + _by_group(audit))),
            Section("tests", "How every gap was tested", _tests(audit)),
            Section("support", "Who was compared, and who was left out", _support(audit)),
            Section("yardsticks", "Two yardsticks", _yardsticks(audit)),
        ]
    if len(audits) > 1:
        sections.insert(0, Section("answer", "The answer", _summary(audits)))
    first = next(iter(audits.values()))
    sections.append(Section("limits", "What this does not say", Markup(_skipped(found) + _limits(first))))
    return render_page("Fairness audit", sections, subtitle=QUESTION, footer=_footer(first["settings"]))


def _audits(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    if "datasets" in found:
        return dict(found["datasets"])
    return {found["settings"].get("dataset", "these predictions"): found}


def _dataset(audit: Mapping[str, Any]) -> Markup:
    """Everything about one of several datasets."""
    parts = [
        *(_answer(audit), _figures(audit), _by_group(audit)),
        *(_heading(3, "How every gap was tested"), _tests(audit)),
        *(_heading(3, "Who was compared, and who was left out"), _support(audit)),
        *(_heading(3, "Two yardsticks"), _yardsticks(audit)),
    ]
    return Markup("\n").join(parts)


def _summary(audits: Mapping[str, Mapping[str, Any]]) -> Markup:
    """The verdicts of several datasets in one table."""
    parts, rows = [], []
    for name, audit in audits.items():
        for attribute, test in _tested(audit):
            gap = _interval_text(test["gap"], [test["ci_low"], test["ci_high"]], "points")
            rows.append((name, title(attribute), EVENTS[test["metric"]], gap, _verdict_words(test)))
        worst = [sentence for sentence, test in _told(audit) if test["verdict"] == "disparity"]
        parts += [f"{name}: {sentence}" for sentence in worst]
    if parts:
        verdict = callout("bad", _list(parts), title="A disparity was found")
    else:
        verdict = callout(
            "warning",
            "That is not proof of equality: see below how large a difference the data could have hidden.",
            title="No difference between groups was shown on any dataset",
        )
    columns = ["dataset", "attribute", "what was compared", "gap (95 % interval), points", "verdict"]
    return Markup("\n").join([verdict, table(pd.DataFrame(rows, columns=columns))])


def _answer(audit: Mapping[str, Any]) -> Markup:
    """The verdict in words, then how good the detector is at all."""
    told = _told(audit)
    parts: list[str] = []
    disparities = [sentence for sentence, test in told if test["verdict"] == "disparity"]
    if disparities:
        parts.append(callout("bad", _list(disparities), title="A disparity was found"))
    if still_open := _tested(audit, "inconclusive"):
        intro = Markup(
            "<p>That is not proof of equality: the data are too few to tell. How many videos it would "
            "take to "
            "tell a gap of {} from none is in the last column.</p>"
        ).format(_points(audit["settings"]["margin"]))
        name = "No other difference was shown" if disparities else "No difference was shown"
        parts.append(callout("warning", intro + _open(still_open), title=name))
    equal = [sentence for sentence, test in told if test["verdict"] == "equivalent"]
    if equal:
        parts.append(callout("good", _list(equal), title="Shown to be about equal"))
    rest = [sentence for sentence, test in told if test["verdict"] == "not enough data"]
    if rest:
        parts.append(callout("note", _list(rest), title="Could not be compared"))
    parts.append(_utility(audit))
    return Markup("\n").join(parts)


def _utility(audit: Mapping[str, Any]) -> Markup:
    overall, constant = audit["overall"], audit["constant_detector"]["overall"]
    text = (
        "No fairness figure means anything without this one: over everybody, AUC is {auc}, balanced "
        "accuracy {balanced}, "
        "{fpr} of real videos are called fake and {fnr} of fakes are missed, at the threshold "
        "{threshold:.3g}. "
        "A detector that calls everything fake would have no gap at all, and a balanced accuracy of "
        "{constant}."
    )
    return Markup("<p>{}</p>").format(
        text.format(
            auc=_interval_text(overall["auc"], overall["auc_ci"]),
            balanced=_percent(overall["balanced_accuracy"]),
            fpr=_percent(overall["fpr"]),
            fnr=_percent(overall["fnr"]),
            threshold=audit["settings"]["threshold"],
            constant=_percent(constant["balanced_accuracy"]),
        )
    )


def _figures(audit: Mapping[str, Any]) -> Markup:
    """The two dot plots side by side, or one under the other on a phone."""
    drawn = []
    for rate, (_, _, name) in PANELS.items():
        display = GroupRates.from_audit(audit, rate).plot()
        assert display.figure_ is not None
        drawn.append(svg(display.figure_, alt=f"{name} by group; the table below holds the numbers"))
    caption = Markup(
        '<p class="soft">A dot is a group, the line its 95 % interval. The dashed line is '
        "everybody. "
        "The grey band is as wide as the gap that chance alone stays within 19 times out of 20 on groups "
        "of these "
        "sizes: dots that fit into a band are no evidence of a difference. Hollow dots are groups too "
        "small to "
        "be compared, or people whose group nobody recorded.</p>"
    )
    return Markup('<div style="{}">{}</div>{}').format(SIDE_BY_SIDE, Markup("").join(drawn), caption)


def _by_group(audit: Mapping[str, Any]) -> Markup:
    parts = []
    for attribute, found in audit["attributes"].items():
        rows, marks = [], []
        worst = {
            test["worst_group"]: test["metric"] for test in found["tests"] if test["verdict"] == "disparity"
        }
        for entry in found["groups"]:
            rows.append([_group_cell(entry), *_support_cells(entry), *(_cell(entry, name) for name in SHOWN)])
            shown = {"fpr": "fpr", "tpr": "fnr"}.get(worst.get(entry["group"], ""))
            marks.append([False, False, False, *(name == shown for name in SHOWN)])
        rows.append(
            [
                "everybody",
                *_support_cells(audit["overall"]),
                *(_cell(audit["overall"], name) for name in SHOWN),
            ]
        )
        marks.append([False] * len(marks[0]))
        columns = ["group", "real videos", "fake videos", *(HEADS.get(name, TITLES[name]) for name in SHOWN)]
        caption = f"By {title(attribute)}: estimate and 95 % interval"
        parts.append(
            table(
                pd.DataFrame(rows, columns=columns, dtype=object),  # keeps Markup as it is
                caption=caption,
                formats={"real videos": ",", "fake videos": ","},
                highlight=pd.DataFrame(marks, columns=columns),
            )
        )
    return Markup("\n").join(parts)


def _tests(audit: Mapping[str, Any]) -> Markup:
    settings = audit["settings"]
    family = sum(not _missing(test["p_value"]) for _, test in _tested(audit))
    noun = NOUNS.get(settings["unit"], "units")
    text = (
        f"A gap is the highest minus the lowest rate among the groups that are compared. Chance: who "
        f"belongs to which "
        f"group was shuffled {settings['n_perm']:,} times among {noun} with the same mix of real and fake "
        f"material, "
        f"and the gap taken each time; the column gives the gap that 95 % of the shuffles stay within. p "
        f"is the share "
        f"of shuffles with a gap at least as large, corrected for {family} comparisons (Holm). Gaps of "
        f"the other "
        f"metrics are shown without a test."
    )
    rows = []
    for attribute, found in audit["attributes"].items():
        for test in found["tests"]:
            if _missing(test["gap"]) and test["metric"] not in EVENTS:
                continue
            gap = _interval_text(test["gap"], [test["ci_low"], test["ci_high"]], "points")
            needed = number(test["n_needed"])
            rows.append(
                {
                    "attribute": title(attribute),
                    "metric": TITLES[test["metric"]],
                    "gap (95 % interval), points": gap,
                    "chance alone": _points_only(test["null_floor"]),
                    "p, corrected": "–" if _missing(test["p_adjusted"]) else f"{test['p_adjusted']:.2g}",
                    "verdict": test["verdict"],
                    "worst": _named(test["worst_group"]),
                    "best": _named(test["best_group"]),
                    "videos needed": "–" if _missing(needed) else f"about {needed:,.0f}",
                }
            )
    return Markup("<p>{}</p>{}").format(text, table(pd.DataFrame(rows)))


def _support(audit: Mapping[str, Any]) -> Markup:
    settings = audit["settings"]
    noun = NOUNS.get(settings["unit"], "units")
    rows, left_out = [], []
    for attribute, found in audit["attributes"].items():
        for entry in found["groups"]:
            support = entry["support"]
            rows.append(
                {
                    "attribute": title(attribute),
                    "group": entry["group"],
                    noun: support["clusters"],
                    "real videos": support["real_videos"],
                    "fake videos": support["fake_videos"],
                    "real frames": support["real_frames"],
                    "fake frames": support["fake_frames"],
                }
            )
        left_out += [
            f"{title(attribute)}, {entry['group']}: left out of {entry['metrics']} ({entry['reason']})"
            for entry in found["excluded"]
        ]
    rule = (
        f"A group is compared on real videos, or on fakes, where it has at least "
        f"{settings['min_clusters']} {noun} "
        f"and {settings['min_samples']:,} frames of that class."
    )
    below = _list(left_out) if left_out else Markup("<p>No group was left out.</p>")
    return Markup("<p>{}</p>{}{}").format(rule, table(pd.DataFrame(rows)), below)


def _yardsticks(audit: Mapping[str, Any]) -> Markup:
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
        "work. Demographic "
        "parity moves with the share of fakes in a group, which is a property of the dataset and not of "
        "the detector. "
        "Beside them, the detector that calls everything fake: it scores perfectly and is useless."
    )
    formats = dict.fromkeys(list(rows[0])[1:], ".3f") if rows else {}
    return Markup("<p>{}</p>{}").format(text, table(pd.DataFrame(rows), formats=formats))


def _limits(audit: Mapping[str, Any]) -> Markup:
    settings = audit["settings"]
    decided = {
        "video": "Each video is decided once, by the mean score of its frames.",
        "frame": "Every frame is decided by itself, as published benchmarks count.",
    }.get(settings["level"], "Every row is decided by itself.")
    noun = NOUNS.get(settings["unit"], "units")
    source = f" ({settings['annotation']})" if settings.get("annotation") else ""
    items = [
        f"Groups are what the annotation says{source}; it may be wrong, and errors in it mostly hide "
        "differences.",
        f"{decided} All figures hold for the threshold {settings['threshold']:.3g}, and for the "
        f"manipulations, cameras and "
        "compression in this dataset.",
        f"Frames of one video are nearly copies, so {noun} are what was counted as evidence.",
        "No difference shown is not the same as no difference. Only “about equal” says that a gap larger "
        "than "
        f"{_points(settings['margin'])} is unlikely.",
        "A difference says that something is wrong, not why: light, resolution, age of the camera or the "
        "choice of videos "
        "may go along with a group.",
    ]
    return _list(items)


def _skipped(found: Mapping[str, Any]) -> Markup:
    skipped = found.get("skipped") or {}
    if not skipped:
        return Markup("")
    return callout(
        "note",
        _list([f"{name}: {reason}" for name, reason in skipped.items()]),
        title="Not audited",
    )


def _footer(settings: Mapping[str, Any]) -> str:
    origin = [f"{name} {settings[name]}" for name in ("detector", "checkpoint") if settings.get(name)]
    origin.append(f"{settings['n_boot']:,} bootstrap resamples, {settings['n_perm']:,} permutations, seed")
    return f"{', '.join(origin)} {settings['random_state']}. Made by unmasked."


def _tested(audit: Mapping[str, Any], verdict: str | None = None) -> list[tuple[str, Mapping[str, Any]]]:
    """(attribute, test) for the tested metrics, in order."""
    return [
        (attribute, test)
        for attribute, found in audit["attributes"].items()
        for test in found["tests"]
        if test["metric"] in EVENTS and verdict in (None, test["verdict"])
    ]


def _told(audit: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(sentence, test); sentences stand in the order of `verdicts.ORDER`, stable within."""
    ranked = sorted((test for _, test in _tested(audit)), key=lambda test: ORDER[test["verdict"]])
    return list(zip(audit["verdicts"], ranked, strict=True))


def _open(tests: Sequence[tuple[str, Mapping[str, Any]]]) -> Markup:
    """The comparisons that the data cannot settle."""
    rows = [
        {
            "groups of": title(attribute),
            "compared": EVENTS[test["metric"]],
            "gap (95 % interval), points": _interval_text(
                test["gap"], [test["ci_low"], test["ci_high"]], "points"
            ),
            "chance alone up to": _points_only(test["null_floor"]),
            "videos needed": f"about {number(test['n_needed']):,.0f} {CLASSES[test['metric']]}",
        }
        for attribute, test in tests
    ]
    return table(pd.DataFrame(rows))


def _verdict_words(test: Mapping[str, Any]) -> str:
    if test["verdict"] == "disparity":
        return f"disparity: worst for {test['worst_group']}"
    if test["verdict"] == "inconclusive":
        return f"inconclusive, needs about {number(test['n_needed']):,.0f} videos"
    return str(test["verdict"])


def _group_cell(entry: Mapping[str, Any]) -> str:
    return entry["group"] if {"fpr", "tpr"} & set(entry["compared"]) else f"{entry['group']} (not compared)"


def _support_cells(entry: Mapping[str, Any]) -> list[int]:
    return [entry["support"][name] for name in ("real_videos", "fake_videos")]


def _cell(entry: Mapping[str, Any], metric: str) -> Markup:
    value, (low, high) = entry[metric], entry[f"{metric}_ci"]
    if _missing(value):
        return Markup('<span class="soft">not enough data</span>')
    percent = metric in AS_PERCENT
    if _missing(low):
        return Markup("{}").format(_percent(value) if percent else f"{value:.3f}")
    limits = f"{100 * low:.0f}–{100 * high:.0f}" if percent else f"{low:.2f}–{high:.2f}"
    shown = _percent(value) if percent else f"{value:.3f}"
    return Markup('{}<br><span class="soft" style="white-space: nowrap">{}</span>').format(shown, limits)


def _interval_text(value: Any, limits: Sequence[Any], unit: str = "") -> str:
    """A value and its interval; in points where ``unit`` says so."""
    if _missing(value):
        return "not enough data"
    low, high = number(limits[0]), number(limits[1])
    if unit == "points":
        return f"{_points_only(value)} ({100 * low:.0f}–{100 * high:.0f})"
    return f"{value:.3f} ({low:.3f}–{high:.3f})"


def _points(value: float) -> str:
    text = _points_only(value)
    return f"{text} point{'' if text == '1' else 's'}"


def _points_only(value: Any) -> str:
    if _missing(value):
        return "–"
    return f"{100 * value:.{0 if value >= 0.0995 else 1}f}".removesuffix(".0")


def _percent(value: Any) -> str:
    return "undefined" if _missing(value) else f"{100 * value:.0f}\u00a0%"


def _named(group: Any) -> str:
    return "–" if _missing(group) else str(group)


def _missing(value: Any) -> bool:
    return value is None or value != value


def _heading(level: int, text: str) -> Markup:
    return Markup("<h{0}>{1}</h{0}>").format(level, text)


def _details(summary: str, body: Markup) -> Markup:
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, body)


def _list(items: Sequence[str]) -> Markup:
    if len(items) == 1:
        return Markup("<p>{}</p>").format(items[0])
    return Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(item) for item in items))
