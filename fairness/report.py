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
from unmasked.fairness import tables
from unmasked.fairness.figures import PANELS, GroupRates
from unmasked.fairness.tables import COMPARED, bullets, gaps_tested
from unmasked.fairness.verdicts import CLASSES, ORDER, title
from unmasked.fairness.wording import gap_text, number, percent, points, points_only, units

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
        parts += [_answer(audit), _figures(audit), tables.by_group(audit)]
        parts.append(_details("How every gap was tested", tables.gaps(audit)))
        parts.append(_details("Who was compared, and who was left out", tables.support(audit)))
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
            Section("groups", "Error rates by group", Markup(_figures(audit) + tables.by_group(audit))),
            Section("tests", "How every gap was tested", tables.gaps(audit)),
            Section("support", "Who was compared, and who was left out", tables.support(audit)),
            Section("yardsticks", "Two yardsticks", tables.yardsticks(audit)),
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
        *(_answer(audit), _figures(audit), tables.by_group(audit)),
        *(_heading(3, "How every gap was tested"), tables.gaps(audit)),
        *(_heading(3, "Who was compared, and who was left out"), tables.support(audit)),
        *(_heading(3, "Two yardsticks"), tables.yardsticks(audit)),
    ]
    return Markup("\n").join(parts)


def _summary(audits: Mapping[str, Mapping[str, Any]]) -> Markup:
    """The verdicts of several datasets in one table."""
    parts, rows = [], []
    for name, audit in audits.items():
        for attribute, test in gaps_tested(audit):
            gap = gap_text(test["gap"], [test["ci_low"], test["ci_high"]])
            rows.append((name, title(attribute), COMPARED[test["metric"]], gap, _verdict_words(test)))
        worst = [sentence for sentence, test in _told(audit) if test["verdict"] == "disparity"]
        parts += [f"{name}: {sentence}" for sentence in worst]
    if parts:
        verdict = callout("bad", bullets(parts), title="A disparity was found")
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
        parts.append(callout("bad", bullets(disparities), title="A disparity was found"))
    if still_open := gaps_tested(audit, "inconclusive"):
        intro = Markup(
            "<p>That is not proof of equality: the data are too few to tell. How many videos it would take "
            "to tell a gap of {} from none is in the last column.</p>"
        ).format(points(audit["settings"]["margin"]))
        name = "No other difference was shown" if disparities else "No difference was shown"
        parts.append(callout("warning", intro + _open(still_open), title=name))
    equal = [sentence for sentence, test in told if test["verdict"] == "equivalent"]
    if equal:
        parts.append(callout("good", bullets(equal), title="Shown to be about equal"))
    rest = [sentence for sentence, test in told if test["verdict"] == "not enough data"]
    if rest:
        parts.append(callout("note", bullets(rest), title="Could not be compared"))
    parts.append(_utility(audit))
    return Markup("\n").join(parts)


def _utility(audit: Mapping[str, Any]) -> Markup:
    overall, constant = audit["overall"], audit["constant_detector"]["overall"]
    text = (
        "No fairness figure means anything without this one: over everybody, AUC is {auc}, balanced "
        "accuracy {balanced}, {fpr} of real videos are called fake and {fnr} of fakes are missed, at the "
        "threshold {threshold:.3g}. A detector that calls everything fake would have no gap at all, and a "
        "balanced accuracy of {constant}."
    )
    return Markup("<p>{}</p>").format(
        text.format(
            auc=f"{number(overall['auc']):.3f}",
            balanced=percent(overall["balanced_accuracy"]),
            fpr=percent(overall["fpr"]),
            fnr=percent(overall["fnr"]),
            threshold=audit["settings"]["threshold"],
            constant=percent(constant["balanced_accuracy"]),
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
        "everybody. The grey band is as wide as the gap that chance alone stays within 19 times out of 20 "
        "on groups of these sizes: dots that fit into a band are no evidence of a difference. Hollow dots "
        "are groups too small to be compared, or people whose group nobody recorded.</p>"
    )
    return Markup('<div style="{}">{}</div>{}').format(SIDE_BY_SIDE, Markup("").join(drawn), caption)


def _limits(audit: Mapping[str, Any]) -> Markup:
    settings = audit["settings"]
    decided = {
        "video": "Each video is decided once, by the mean score of its frames.",
        "frame": "Every frame is decided by itself, as published benchmarks count.",
    }.get(settings["level"], "Every row is decided by itself.")
    noun = units(settings["unit"])
    source = f" ({settings['annotation']})" if settings.get("annotation") else ""
    items = [
        f"Groups are what the annotation says{source}; it may be wrong, and errors in it mostly hide "
        "differences.",
        f"{decided} All figures hold for the threshold {settings['threshold']:.3g}, and for the "
        "manipulations, cameras and compression in this dataset.",
        f"Frames of one video are nearly copies, so {noun} are what was counted as evidence.",
        "No difference shown is not the same as no difference. Only “about equal” says that a gap larger "
        f"than {points(settings['margin'])} is unlikely.",
        "A difference says that something is wrong, not why: light, resolution, age of the camera or the "
        "choice of videos may go along with a group.",
    ]
    return bullets(items)


def _skipped(found: Mapping[str, Any]) -> Markup:
    skipped = found.get("skipped") or {}
    if not skipped:
        return Markup("")
    return callout(
        "note",
        bullets([f"{name}: {reason}" for name, reason in skipped.items()]),
        title="Not audited",
    )


def _footer(settings: Mapping[str, Any]) -> str:
    origin = [f"{name} {settings[name]}" for name in ("detector", "checkpoint") if settings.get(name)]
    origin.append(f"{settings['n_boot']:,} bootstrap resamples, {settings['n_perm']:,} permutations, seed")
    return f"{', '.join(origin)} {settings['random_state']}. Made by unmasked."


def _told(audit: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(sentence, test); sentences stand in the order of `verdicts.ORDER`, stable within."""
    ranked = sorted((test for _, test in gaps_tested(audit)), key=lambda test: ORDER[test["verdict"]])
    return list(zip(audit["verdicts"], ranked, strict=True))


def _open(tests: Sequence[tuple[str, Mapping[str, Any]]]) -> Markup:
    """The comparisons that the data cannot settle."""
    rows = [
        {
            "groups of": title(attribute),
            "compared": COMPARED[test["metric"]],
            "gap (95 % interval), points": gap_text(test["gap"], [test["ci_low"], test["ci_high"]]),
            "chance alone up to": points_only(test["null_floor"]),
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


def _heading(level: int, text: str) -> Markup:
    return Markup("<h{0}>{1}</h{0}>").format(level, text)


def _details(summary: str, body: Markup) -> Markup:
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, body)
