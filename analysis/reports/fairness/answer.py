"""The answer: verdicts in words, a table of all of them, and how good the detector is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from unmasked.analysis.html.page import aside, bullets, callout, details, join_parts, paragraph, record_table
from unmasked.analysis.reports.fairness import groups as tables
from unmasked.analysis.reports.fairness.findings import Findings
from unmasked.analysis.reports.fairness.groups import COMPARED, gaps_tested
from unmasked.analysis.reports.fairness.surprises import surprises
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import (
    capitalise,
    is_missing,
    list_names,
    metric_text,
    name_or_dash,
    number,
    p_text,
    percent,
    points,
    share_text,
    support_text,
)
from unmasked.fairness.across.attrition import LossAudit
from unmasked.fairness.across.monitoring import sentences
from unmasked.fairness.records import AuditResults, AuditSettings, Monitor, Test
from unmasked.fairness.verdicts import CLASSES, ORDER, sole_decision, title


def verdicts(findings: Findings) -> Markup:
    """Verdicts of every dataset: in words, in a table, beside the detector's worth."""
    told = {
        kind: [
            f"{name}: {sentence}" if findings.has_several else sentence
            for name, audit in findings.audits.items()
            for sentence, test in _sentences_with_tests(audit)
            if test["verdict"] == kind
        ]
        for kind in ORDER
    }
    tests = [
        details(f"How every gap was tested{_dataset_suffix(findings, name)}", tables.gaps(audit))
        for name, audit in findings.audits.items()
    ]
    parts = [_callouts(told, findings), surprises(findings), _table(findings)]
    return join_parts([*parts, worth(findings), *tests])


def warnings(findings: Findings) -> Markup:
    """What a reader must see with the answer: alarms, a useless threshold, lost videos."""
    lost = {
        f"{name}: " if findings.has_several else "": losses
        for name, audit in findings.audits.items()
        if (losses := _losses(audit)) is not None
    }
    watched = findings.whole.get("monitor")
    parts = [
        _watched_callout(watched) if watched else "",
        *map(_useless_threshold, findings.audits.values()),
        _lost_callout(lost),
    ]
    return join_parts(parts)


def _losses(audit: AuditResults) -> LossAudit | None:
    return LossAudit.model_validate(audit["attrition"]) if "attrition" in audit else None


def _lost_callout(losses: Mapping[str, LossAudit]) -> Markup:
    """Which groups or classes surely have fewer of their videos scored than others, by what goes before."""
    between = {kind for found in losses.values() for kind in found.shown_between}
    if not between:
        return Markup("")
    name = {
        ("groups",): "Some groups are scored less often than others",
        ("classes",): "One class is scored less often than the other",
        ("classes", "groups"): "Some groups, and one of the classes, are scored less often than others",
    }[tuple(sorted(between))]
    lines = [f"{prefix}{sentence}" for prefix, found in losses.items() for sentence in found.disparities]
    return callout("bad", bullets(lines), title=name)


def _useless_threshold(audit: AuditResults) -> Markup:
    """That all decisions are the same, where they are: no gap can be seen then."""
    overall = audit["overall"]
    what = sole_decision(number(overall["fpr"]), 1 - number(overall["fnr"]))
    if not what:
        return Markup("")
    dataset = audit["settings"].get("dataset", "")
    where = f" of {dataset}" if dataset else ""
    return callout(
        "warning",
        f"Of the videos{where} {what} is called fake at {audit['settings']['threshold']:g}, so that nobody "
        "can be treated unlike anybody else. What follows says nothing of other thresholds.",
        title=f"{capitalise(what)} is called fake at this threshold",
    )


def _watched_callout(watched: Monitor) -> Markup:
    is_found = any(pair["found_at"] for pair in watched["pairs"])
    note = (
        "The verdicts below are of these scores alone, at 5 % each time: of twenty weeks one shows a "
        "difference by chance. This one counts all weeks."
    )
    body = join_parts([bullets(sentences(watched)), paragraph(note)])
    return callout("bad" if is_found else "note", body, title="Watched since an earlier audit")


def answer(audit: AuditResults) -> Markup:
    """The short form for one dataset: the verdict in words, then the detector's quality."""
    told = _sentences_with_tests(audit)
    losses = _losses(audit)
    parts: list[str] = [_useless_threshold(audit), _lost_callout({} if losses is None else {"": losses})]
    disparities = [sentence for sentence, test in told if test["verdict"] == "disparity"]
    if disparities:
        parts.append(callout("bad", bullets(disparities), title="A disparity was found"))
    if still_open := gaps_tested(audit, "inconclusive"):
        intro = Markup(
            "<p>That is not proof of equality: the data are too few to tell. How many videos it would take "
            "to show that no two groups are {} apart is in the last column.</p>"
        ).format(points(audit["settings"]["margin"]))
        name = "No other difference was shown" if disparities else "No difference was shown"
        parts.append(callout("warning", intro + _open_comparisons(still_open), title=name))
    equal = [sentence for sentence, test in told if test["verdict"] == "equivalent"]
    if equal:
        parts.append(callout("good", bullets(equal), title="Shown to be about equal"))
    if rest := gaps_tested(audit, "not enough data"):
        parts.append(callout("note", _too_few(rest, audit["settings"]), title="Could not be compared"))
    return join_parts([*parts, _worth_in_words(audit)])


def worth(findings: Findings) -> Markup:
    """How good the detector is, overall and for the worst group, beside the constant detector."""
    rows = []
    for name, audit in findings.audits.items():
        constant = percent(audit["constant_detector"]["overall"]["balanced_accuracy"])
        everybody = audit["overall"]
        for attribute, found in audit["attributes"].items():
            rows.append(
                {
                    "dataset": name,
                    "AUC, everybody": metric_text(everybody, "auc"),
                    "balanced accuracy, everybody": _value_with_interval(everybody, "balanced_accuracy"),
                    "groups of": title(attribute),
                    "balanced accuracy, worst group": _worst(found["groups"], "balanced_accuracy"),
                    "if everything were called fake": constant,
                }
            )
    text = (
        "No fairness figure means anything without these: a detector that calls everything fake has no gap "
        "at all and is useless. Balanced accuracy is the mean of the shares of reals and of fakes called "
        "right, so 50 % is no better than that."
    )
    caption = "How good the detector is at all (95 % intervals)"
    return join_parts([paragraph(text), record_table(rows, caption=caption)])


def _callouts(told: Mapping[str, Sequence[str]], findings: Findings) -> Markup:
    parts: list[str] = []
    margin = next(iter(findings.audits.values()))["settings"]["margin"]
    n_open = len(told["inconclusive"])
    total = sum(map(len, told.values()))
    if told["disparity"]:
        parts.append(callout("bad", bullets(told["disparity"]), title="A disparity was found"))
    if n_open:
        some = "no other" if told["disparity"] else "no"
        name = f"{capitalise(some)} difference was shown" + (
            " on any dataset" if findings.has_several else ""
        )
        text = (
            f"In {n_open} of {total} comparisons the data are too few to tell. That is not proof of "
            "equality: the table says how many videos it would take to show that no two groups are "
            f"{points(margin)} apart."
        )
        parts.append(callout("warning", text, title=name))
    if told["equivalent"]:
        parts.append(callout("good", bullets(told["equivalent"]), title="Shown to be about equal"))
    if n_left := len(told["not enough data"]):
        text = Markup(
            "<p>In {} of {} comparisons fewer than two groups are large enough: see "
            '<a href="#support">who was compared</a>.</p>'
        ).format(n_left, total)
        parts.append(callout("note", text, title="Could not be compared"))
    return join_parts(parts)


def _table(findings: Findings) -> Markup:
    """Every comparison, a table for each dataset."""
    text = (
        "The difference is that of the two groups that differ most for their size, which worst and best "
        "name; rarer groups may be further apart by chance, as the largest gap shows. Chance alone is what "
        "an unbiased detector stays within 19 times out of 20, in all comparisons together. p is corrected "
        "for the number of pairs and comparisons."
    )
    parts: list[str] = [aside(text)]
    for name, audit in findings.audits.items():
        tests = gaps_tested(audit)
        rows = [
            {
                "compared": f"{title(attribute)}: {COMPARED[test['metric']]}",
                "verdict": _verdict_words(test),
                "clearest: worst for": name_or_dash(test["worst_group"]),
                "best for": name_or_dash(test["best_group"]),
                "difference in points [95\u00a0%]": tables.difference_text(test),
                "chance alone up to": tables.chance_text(test),
                "p, corrected": p_text(test["p_adjusted"]),
                "largest gap in points": tables.largest_gap_text(test),
            }
            for attribute, test in tests
        ]
        caption = f"Every comparison{_dataset_suffix(findings, name)}"
        marked = [test["verdict"] == "disparity" for _, test in tests]
        parts.append(record_table(rows, caption=caption, marked=marked))
    return join_parts(parts)


def _worth_in_words(audit: AuditResults) -> Markup:
    overall, constant = audit["overall"], audit["constant_detector"]["overall"]
    return paragraph(
        "No fairness figure means anything without this one: over everybody, AUC is "
        f"{metric_text(overall, 'auc')}, balanced accuracy "
        f"{_value_with_interval(overall, 'balanced_accuracy')}, "
        f"{percent(overall['fpr'])} of real videos are called fake and {percent(overall['fnr'])} of fakes "
        f"are missed, at the threshold {audit['settings']['threshold']:.3f}. A detector that calls "
        "everything fake would have no gap at all, and a balanced accuracy of "
        f"{percent(constant['balanced_accuracy'])}."
    )


def _worst(groups: Sequence[Measures], metric: str) -> str:
    """The compared group with the lowest value, with its name, interval and size."""
    compared = [entry for entry in groups if metric in entry["compared"] and not is_missing(entry[metric])]
    if len(compared) < 2:
        return "not enough data"
    worst = min(compared, key=lambda entry: entry[metric])
    return f"{worst['group']}: {_value_with_interval(worst, metric)}"


def _value_with_interval(entry: Measures, metric: str) -> str:
    return share_text(entry[metric], entry[f"{metric}_ci"])


def _sentences_with_tests(audit: AuditResults) -> list[tuple[str, Test]]:
    """(sentence, test); sentences are in the order of `verdicts.ORDER`, stable within."""
    ranked = sorted((test for _, test in gaps_tested(audit)), key=lambda test: ORDER[test["verdict"]])
    return list(zip(audit["verdicts"], ranked, strict=True))


def _open_comparisons(tests: Sequence[tuple[str, Test]]) -> Markup:
    """The comparisons that the data cannot settle."""
    rows = [
        {
            "groups of": title(attribute),
            "compared": COMPARED[test["metric"]],
            "between": f"{name_or_dash(test['worst_group'])} and {name_or_dash(test['best_group'])}",
            "difference (95 % interval), points": tables.difference_text(test),
            "chance alone up to": tables.chance_text(test),
            "videos needed": f"about {test['n_needed']:,.0f} {CLASSES[test['metric']]}",
        }
        for attribute, test in tests
    ]
    return record_table(rows, caption="")


def _too_few(tests: Sequence[tuple[str, Test]], settings: AuditSettings) -> Markup:
    """Which comparisons lack groups of sufficient size."""
    lines = [
        f"{capitalise(COMPARED[metric])}, between groups of "
        f"{list_names([title(attribute) for attribute, test in tests if test['metric'] == metric])}: "
        f"fewer than two have at least "
        f"{support_text(settings['min_clusters'], settings['min_samples'], settings['unit'])}."
        for metric in dict.fromkeys(test["metric"] for _, test in tests)
    ]
    return bullets(lines)


def _verdict_words(test: Test) -> str:
    if test["verdict"] == "inconclusive":
        return f"inconclusive, needs about {test['n_needed']:,.0f} {CLASSES[test['metric']]} videos"
    return {"equivalent": "about equal"}.get(test["verdict"], str(test["verdict"]))


def _dataset_suffix(findings: Findings, name: str) -> str:
    return f": {name}" if findings.has_several else ""
