"""The answer in words, each sentence computed from the run's numbers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, cast

from unmasked.analysis.html.page import Kind
from unmasked.analysis.reports.run.folder import Run
from unmasked.evaluation.records import MatrixRow, Sizes
from unmasked.evaluation.wording import count_in_100, ends, interval_in_100, list_names, metric_text
from unmasked.fairness.records import AuditResults, Test
from unmasked.fairness.verdicts import people

SMALL_LOSS = 0.05  # AUC; a loss shown to be smaller is called none
CHANCE = 0.5
NO_BETTER = 0.65  # AUC; a detector that is shown to be below is said to guess
MISSED = {"fpr": "real videos of {} are called fake more often", "tpr": "fakes of {} are missed more often"}

TOO_FEW = "Too few videos to tell"
DECISIONS = {  # title of the verdict -> what follows from it
    "Not known whether it holds up": "ask what it was trained on, and test it on videos that are surely new.",
    "One half of the question": "test it on {absent}, too, before anything is decided with it.",
    "It has not learnt to tell fakes": "do not use it.",
    TOO_FEW: "test it on more videos before anything is decided with it.",
    "Not tested on new data": "test it on videos of another origin before it is used on any.",
    "It does not hold up": "use it, if at all, on videos like those of {source}; test it on yours first.",
    "It holds up here": "worth a trial on your own videos, with a person who checks what it calls fake.",
    "It cannot be told": "test it on more videos of the kind you have before you rely on it.",
}


@dataclass(frozen=True)
class Answer:
    """What a reader who stops after the first screen should know.

    Attributes:
        kind: colour of the verdict.
        title, verdict: does it hold up; a few words, and a sentence.
        decision: what follows for somebody who has to decide.
        ranking: a sentence for each dataset: how well fakes are told from reals.
        decisions: a sentence for each dataset: what the threshold does to people.
        groups: for whom it fails, a sentence for each disparity that was shown.
        no_groups: why there are none, where there are none.
        advice: what not to do with the detector.
    """

    kind: Kind
    title: str
    verdict: str
    decision: str
    ranking: list[str]
    decisions: list[str]
    groups: list[str]
    no_groups: str
    advice: list[str]


def answer(run: Run) -> Answer:
    """The answer to "does it hold up on videos it never saw, and for whom does it fail?"."""
    kind, title, verdict = _verdict(run)
    groups, no_groups = _groups(run)
    return Answer(
        kind=kind,
        title=title,
        verdict=verdict,
        decision=DECISIONS[title].format(source=run.source, absent=absent_class(run)),
        ranking=[_ranking(run, row) for row in run.metrics["matrix"]],
        decisions=[line for name in run.datasets if (line := _decisions(run, name))],
        groups=groups,
        no_groups=no_groups,
        advice=list(_advice(run)),
    )


def disparities(run: Run) -> Iterator[tuple[str, str, Test]]:
    """Dataset, attribute and test of each gap between groups that was shown."""
    for dataset, audit in audits(run).items():
        for attribute, found in audit["attributes"].items():
            for test in found["tests"]:
                if test["verdict"] == "disparity" and test["metric"] in MISSED:
                    yield dataset, attribute, test


def datasets_with_loss(run: Run) -> list[str]:
    """The datasets on which the detector is shown to be worse than on its training dataset."""
    return [
        row["test"] for row in run.metrics["matrix"] if row["test"] != run.source and row["gap_ci"][0] > 0
    ]


def is_undecided(low: float, high: float) -> bool:
    """True if an AUC with this interval may be skill, or hardly any."""
    return not low > CHANCE and not high < NO_BETTER


def shown_against(run: Run) -> list[str]:
    """Who is shown to be treated worse, and how, in a few words each; the clearest first."""
    events = (
        MISSED[test["metric"]].format(people(attribute, str(test["worst_group"])))
        for _, attribute, test in disparities(run)
    )
    return list(dict.fromkeys(events))


def _verdict(run: Run) -> tuple[Kind, str, str]:
    rows = {row["test"]: row for row in run.metrics["matrix"]}
    if absent := absent_class(run):
        return (
            "note",
            "One half of the question",
            f"No {absent} were scored, so whether the detector tells fakes from reals is not known.",
        )
    limits = [ends(row["ci"]) for row in rows.values()]
    if run.source is None and all(is_undecided(*one) for one in limits):
        return (
            "warning",
            TOO_FEW,
            "The videos are too few to tell the detector from guessing.",
        )
    if run.source is None:
        return (
            "note",
            "Not known whether it holds up",
            "What the detector was trained on is not stated, or was not tested; so it is not known which of "
            "these videos are new to it.",
        )
    low, high = ends(rows[run.source]["ci"])
    if not low > CHANCE and high < NO_BETTER:
        return (
            "bad",
            "It has not learnt to tell fakes",
            f"Even on videos like those it was trained on ({run.source}) the detector does no better than "
            "guessing.",
        )
    if not low > CHANCE:
        return (
            "warning",
            TOO_FEW,
            f"The videos of {run.source}, where it was trained, are too few to tell the detector from "
            "guessing: that it has learnt anything is neither shown nor ruled out.",
        )
    unseen = [row for name, row in rows.items() if name != run.source and not isnan(row["auc"])]
    if not unseen:
        return (
            "note",
            "Not tested on new data",
            f"The detector was tested on {run.source} only, where it was trained.{_left_out(run)}",
        )
    if worse := datasets_with_loss(run):
        return (
            "bad",
            "It does not hold up",
            f"On {list_names(worse)}, which it never saw, the detector tells fakes from reals less well "
            f"than on "
            f"{run.source}, where it was trained.",
        )
    names = list_names([row["test"] for row in unseen])
    if all(row["gap_ci"][1] < SMALL_LOSS for row in unseen):
        return (
            "good",
            "It holds up here",
            f"On {names}, which it never saw, the detector tells fakes from reals about as well as on "
            f"{run.source}.",
        )
    return (
        "warning",
        "It cannot be told",
        f"No loss was shown on {names}, which it never saw; but the videos are too few to rule one out.",
    )


def _left_out(run: Run) -> str:
    """What it does on fakes of a method that training left out: half of a test on new data."""
    rows = [
        row
        for row in run.metrics.get("protocols", [])
        if row["protocol"] == "leave_one_method_out" and not row["is_reference"] and not isnan(row["auc"])
    ]
    if not rows:
        return ""
    row = min(rows, key=lambda row: row["auc"])
    worst = ", the worst of them" if len(rows) > 1 else ""
    return (
        f" Of fakes alone there are new ones: {list_names([row['test'] for row in rows])}. Its AUC on "
        f"{row['test']}{worst}: {metric_text(row, 'auc')}."
    )


def absent_class(run: Run) -> str:
    """The class of which no video was scored, in words; "" where both were."""
    sizes = [run.metrics["datasets"][name]["n"] for name in run.datasets]
    if not any(n["real_videos"] for n in sizes):
        return "real videos"
    return "" if any(n["fake_videos"] for n in sizes) else "fakes"


def _ranking(run: Run, row: MatrixRow) -> str:
    name = row["test"]
    if isnan(row["auc"]):
        reason = run.metrics["datasets"][name].get("reason") or "a class is absent"
        return f"{name}: there is not enough data. It {reason}."
    where = f"On {name}"
    if name == run.source:
        held_out = ", test split" if run.is_held_out else ""
        where = f"On videos like those it was trained on ({name}{held_out})"
    elif run.source is not None:
        where = f"On {name}, which it never saw,"
    n = run.metrics["datasets"][name]["n"]
    text = f"{where} it ranks a fake above a real video in {_pairs(row['auc'], n)}"
    text += interval_and_chance(row["ci"])
    if name != run.source and run.source is not None and not isnan(row["gap_ci"][0]):
        text += f": {_loss(row, run.source)}"
    return text + "."


def interval_and_chance(interval: Sequence[float]) -> str:
    """The interval of an AUC in brackets, as a count of 100, and whether it holds guessing."""
    low, high = ends(interval)
    if isnan(low):
        return ""
    chance = ", which cannot be told from guessing" if low <= CHANCE <= high else ""
    chance = ", which is worse than guessing" if high < CHANCE else chance
    return f" ({interval_in_100(interval)}){chance}"


def _loss(row: MatrixRow, source: str) -> str:
    low, high = row["gap_ci"]
    lost = 100 * row["gap_to_source"]
    if low > 0:
        return f"{lost:.0f} fewer than on {source} ({interval_in_100([low, high])})"
    if high < 0:
        return f"{-lost:.0f} more than on {source} ({interval_in_100([-high, -low])})"
    return f"a difference from {source} is not shown (of what is lost, {interval_in_100([low, high])})"


def _decisions(run: Run, name: str) -> str:
    block = run.metrics["datasets"][name]
    video, n = cast(Mapping[str, Any], block["video"]), block["n"]
    parts = []
    if not isnan(video["fpr"]):
        parts.append(_called(video["fpr"], video["fpr_ci"], n["real_videos"], "real video", "called fake"))
    if not isnan(video["tpr"]):
        limits = [1 - end for end in reversed(video["tpr_ci"])]
        parts.append(_called(1 - video["tpr"], limits, n["fake_videos"], "fake", "missed"))
    return f"{name}: {' and '.join(parts)}." if parts else ""


def _called(share: float, interval: Sequence[float], count: int, noun: str, what: str) -> str:
    """A rate with what it was measured on: none of three is not 0 of 100."""
    counted = f"{count:,} {noun}{'s' * (count > 1)}"
    bounds = "" if isnan(interval[0]) else interval_in_100(interval)
    if share == 0:
        said = f"none of {counted} is {what}"
    elif share == 1:
        said = f"all {counted} are {what}" if count > 1 else f"the {counted} is {what}"
    else:
        said = f"{count_in_100(share)} of 100 {noun}s are {what}"
        bounds = ", ".join(filter(None, (f"measured on {count:,}", bounds)))
    return said + (f" ({bounds})" if bounds else "")


def _pairs(auc: float, n: Sizes) -> str:
    """How many pairs of a real and a fake an AUC says are in order."""
    count = n["real_videos"] * n["fake_videos"]
    if auc in (0.0, 1.0):
        return f"{'all' if auc else 'none'} of {count:,} pair{'s' * (count > 1)}"
    return f"{count_in_100(auc)} of 100 pairs"


def _groups(run: Run) -> tuple[list[str], str]:
    if "fairness.json" in run.left_out:
        return [], f"The audit in the run's folder is not shown: {run.left_out['fairness.json']}."
    if run.fairness is None:
        return (
            [],
            "This was not audited; unmasked fairness does so where a column or annotation says who is shown.",
        )
    sentences = []
    several = len(audits(run)) > 1
    for dataset, audit in audits(run).items():
        shown = sum(one == dataset for one, _, _ in disparities(run))
        # The audit tells its disparities first.
        for sentence in audit["verdicts"][:shown]:
            sentences.append(f"{dataset}: {sentence}" if several else sentence)
    tests = [
        test
        for audit in audits(run).values()
        for part in audit["attributes"].values()
        for test in part["tests"]
    ]
    tested = [test["verdict"] for test in tests if test["metric"] in MISSED]
    open_ones = tested.count("inconclusive") + tested.count("not enough data")
    text = "No group was shown to be treated worse than another."
    if open_ones:
        text += f" That is not proof that all are treated alike: {open_ones} of {len(tested)} comparisons "
        text += "had too little data to tell."
    return sentences, text


def _advice(run: Run) -> Iterator[str]:
    if run.truth is not None:
        yield (
            "Do not quote these numbers as the quality of a detector: every person and every fake here is "
            "synthetic. They say that the pipeline works, nothing about real videos."
        )
    if worse := datasets_with_loss(run):
        yield (
            f"Do not rely on it for videos that differ from {run.source}, as {list_names(worse)} do; what "
            "reaches a user differs in more ways than these."
        )
    rates = {name: run.metrics["datasets"][name]["video"]["fpr"] for name in run.datasets}
    known = {name: rate for name, rate in rates.items() if not isnan(rate)}
    if known and (worst := max(known, key=lambda name: known[name])) and known[worst] > 0:
        yield (
            "Do not treat “fake” as proof against anyone: of 100 real videos like those of "
            f"{worst}, {count_in_100(known[worst])} are called fake."
        )
    for dataset, attribute, test in disparities(run):
        event = MISSED[test["metric"]].format(people(attribute, str(test["worst_group"])))
        yield f"Do not use it as if it worked equally for everyone: {event} ({dataset})."


def audits(run: Run) -> dict[str, AuditResults]:
    """Each dataset's audit by group; none where the run was not audited."""
    return {} if run.fairness is None else run.fairness["datasets"]
