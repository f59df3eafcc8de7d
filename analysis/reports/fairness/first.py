"""The first screen of the fairness report: the largest gap, for whom, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from unmasked.analysis.figures.dots import GROUP_RATES, DotDisplay
from unmasked.analysis.html.page import KeyNumber, callout, first_screen
from unmasked.analysis.reports.fairness.findings import Findings
from unmasked.analysis.reports.fairness.groups import SHOWN_FOR, gaps_tested
from unmasked.analysis.reports.fairness.header import origin_text
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import (
    capitalise,
    interval_in_100,
    interval_text,
    is_missing,
    list_names,
    metric_text,
    percent,
    points,
    points_only,
    signed_text,
    value_text,
)
from unmasked.fairness.records import AuditResults, Test
from unmasked.fairness.verdicts import CLASSES, EVENTS, ORDER, people, title

ERRORS = {"fpr": "real videos{} called fake", "tpr": "fakes{} missed"}
Found = tuple[str, str, Test]  # dataset, attribute, test


def first_part(findings: Findings, notes: Markup) -> Markup:
    """The first screen.

    ``notes`` are boxes that a reader must see with it.
    """
    worst = largest_gap(findings)
    kind, name, said, decision = _verdict(findings, worst)
    return first_screen(
        tested=_tested(findings),
        verdict=callout(kind, said, title=name),  # type: ignore[arg-type]
        numbers=list(_numbers(findings, worst)),
        picture=_picture(findings, worst),
        decision=decision,
        caution=_caution(findings, worst),
        notes=notes,
    )


def _all_tests(findings: Findings) -> Iterator[Found]:
    for dataset, audit in findings.audits.items():
        for attribute, test in gaps_tested(audit):
            yield dataset, attribute, test


def largest_gap(findings: Findings) -> Found | None:
    """The widest difference of the best verdict: of those shown, else of those that are open."""
    known = [
        one
        for one in _all_tests(findings)
        if not is_missing(_difference(one[2])) and not is_missing(one[2]["worst_group"])
    ]
    if not known:
        return None
    return min(known, key=lambda one: (ORDER[one[2]["verdict"]], -_difference(one[2])))


def _difference(test: Test) -> float:
    return test.get("difference", test["gap"])


def _tested(findings: Findings) -> str:
    audits = findings.audits
    settings = next(iter(audits.values()))["settings"]
    videos = sum(
        audit["overall"]["support"]["real_videos"] + audit["overall"]["support"]["fake_videos"]
        for audit in audits.values()
    )
    where = list_names([name for name in audits if name]) or "one table"
    groups = list_names(
        list(dict.fromkeys(title(name) for audit in audits.values() for name in audit["attributes"]))
    )
    thresholds = list(dict.fromkeys(f"{audit['settings']['threshold']:.3f}" for audit in audits.values()))
    chosen = f" ({origin_text(next(iter(audits.values())))})" if len(thresholds) == 1 else ""
    return (
        f"{settings.get('detector') or 'The detector'} was audited on {videos:,} "
        f"{'video' if videos == 1 else 'videos'} of {where}, by {groups}. Called fake is what scores above "
        f"{list_names(thresholds)}{chosen}."
    )


def _verdict(findings: Findings, worst: Found | None) -> tuple[str, str, str, str]:
    """Colour, title, sentence, and what follows for a decision."""
    tests = list(_all_tests(findings))
    n_open = sum(test["verdict"] in ("inconclusive", "not enough data") for _, _, test in tests)
    if worst is None:
        few = "In no comparison are two groups large enough."
        return "note", "Could not be compared", few, "collect more people of each group first."
    dataset, attribute, test = worst
    event = EVENTS[test["metric"]].format(f" of {people(attribute, str(test['worst_group']))}")
    other = people(attribute, str(test["best_group"]))
    where = f" on {dataset}" if findings.has_several else ""
    if test["verdict"] == "disparity":
        shown = sum(one["verdict"] == "disparity" for _, _, one in tests)
        return (
            "bad",
            "A difference was shown",
            f"{capitalise(event)} more often than those of {other}{where}. It is "
            f"{'the only one shown' if shown == 1 else f'the largest of {shown} shown'} in "
            f"{len(tests)} comparisons; in {n_open} the data are too few to tell.",
            f"give decisions about {people(attribute, str(test['worst_group']))} a second look, or do not "
            "use it for them.",
        )
    if test["verdict"] == "equivalent":
        margin = points(next(iter(findings.audits.values()))["settings"]["margin"])
        return (
            "good",
            "Shown to be about equal",
            f"In every comparison a gap of {margin} or more was ruled out.",
            "groups are treated alike here; test again on your own videos.",
        )
    needed = test["n_needed"]
    decision = "treat it as unknown for whom it fails"
    if not is_missing(needed):
        decision += (
            f"; about {needed:,.0f} {CLASSES[test['metric']]} videos would settle the largest difference"
        )
    return (
        "warning",
        "No difference was shown",
        f"In {n_open} of {len(tests)} comparisons the data are too few to tell: no proof of equality.",
        f"{decision}.",
    )


def _numbers(findings: Findings, worst: Found | None) -> Iterator[KeyNumber]:
    if worst is None:
        yield from _overall_numbers(next(iter(findings.audits.items())))
        return
    dataset, attribute, test = worst
    groups = {one["group"]: one for one in findings.audits[dataset]["attributes"][attribute]["groups"]}
    for group in (str(test["worst_group"]), str(test["best_group"])):
        yield _group_number(groups[group], attribute, test, dataset if findings.has_several else "")
    interval = interval_text(
        [test["ci_low"], test["ci_high"]], _signless, lambda end: signed_text(100 * end, 2)
    )
    which = "shown" if test["verdict"] == "disparity" else "measured"
    yield KeyNumber(
        points(_difference(test)),
        f"between them, the largest difference {which}",
        f"95\u00a0% interval {interval}, corrected for {_family(findings, dataset)} comparisons; chance "
        f"alone up to {points_only(_chance(test))}",
    )


def _signless(end: float) -> str:
    return f"{'−' if end < -0.0005 else ''}{points_only(abs(end))}"


def _chance(test: Test) -> float:
    chance = test.get("chance")
    return test["null_floor"] if chance is None or is_missing(chance) else chance


def _family(findings: Findings, dataset: str) -> int:
    return sum(not is_missing(test["p_value"]) for _, test in gaps_tested(findings.audits[dataset]))


def _group_number(entry: Measures, attribute: str, test: Test, dataset: str) -> KeyNumber:
    whose = f" of {people(attribute, entry['group'])}"
    what = ERRORS[test["metric"]].format(whose) + (f" on {dataset}" if dataset else "")
    return _rate_number(entry, SHOWN_FOR[test["metric"]], CLASSES[test["metric"]], what)


def _rate_number(block: Measures, rate: str, kind: str, what: str) -> KeyNumber:
    interval, n = interval_in_100(block.get(f"{rate}_ci")), block["support"][f"{kind}_videos"]
    count = f"{n:,} {kind} {'video' if n == 1 else 'videos'}"
    return KeyNumber(percent(block[rate]), what, f"{interval}, {count}" if interval else count)


def _overall_numbers(of: tuple[str, AuditResults]) -> Iterator[KeyNumber]:
    dataset, audit = of
    overall: Measures = audit["overall"]
    where = f" on {dataset}" if dataset else ""
    for rate, kind, what in (("fpr", "real", ERRORS["fpr"]), ("fnr", "fake", ERRORS["tpr"])):
        yield _rate_number(overall, rate, kind, what.format("") + where)
    yield KeyNumber(
        value_text(overall["auc"]), f"AUC{where}", f"{metric_text(overall, 'auc')}; guessing 0.50"
    )


def _picture(findings: Findings, worst: Found | None) -> Markup:
    """The rate with the largest gap, of every group of every attribute there."""
    dataset, metric = next(iter(findings.audits)), "fpr"
    if worst is not None:
        dataset, metric = worst[0], worst[2]["metric"]
    rate = SHOWN_FOR[metric]
    display = DotDisplay.from_audit(findings.audits[dataset], rate, findings.colours)
    name = GROUP_RATES[rate][2] + (f" on {dataset}" if dataset else "")
    return findings.gallery.draw(
        "at_a_glance",
        display,
        f"{name}, by group. {'; '.join(dot.text for dot in display.dots)}",
        f"{name}. Grey: as far as chance alone spreads groups. Dashed: everybody. Hollow: too few to be "
        "compared.",
    )


def _caution(findings: Findings, worst: Found | None) -> str:
    if worst is not None and worst[2]["verdict"] == "disparity":
        return "why they differ: light, resolution or the choice of videos may go along with a group."
    return "that all groups are treated alike: no difference shown is not the same as no difference."
