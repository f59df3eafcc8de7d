"""The first screen of a run's report: three numbers, one picture, two sentences."""

from __future__ import annotations

from math import isnan

from markupsafe import Markup

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.dots import Dot, DotDisplay
from unmasked.analysis.html.page import KeyNumber, callout, first_screen
from unmasked.analysis.reports.gallery import Gallery
from unmasked.analysis.reports.run.answer import Answer, shown_against
from unmasked.analysis.reports.run.folder import Run
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import (
    count_in_100,
    ends,
    interval_in_100,
    interval_in_words,
    list_names,
    percent,
    threshold_text,
)

GUESSING = 0.5  # AUC
PICTURE = "at_a_glance"


def first_part(run: Run, found: Answer, figures: Gallery, notes: Markup) -> Markup:
    """The first screen.

    ``notes`` are boxes that a reader must see with it.
    """
    return first_screen(
        tested=_tested(run),
        verdict=callout(found.kind, found.verdict, title=found.title),
        numbers=[_rate(run, "fpr"), _rate(run, "fnr"), _ranking(run)],
        picture=_picture(run, figures),
        decision=f"{found.decision}{_before_that(run)}",
        caution=_caution(run),
        notes=notes,
    )


def _before_that(run: Run) -> str:
    """For whom it fails, as it stands in the way of a decision; "" where nothing was shown."""
    events = shown_against(run)
    more = f" ({len(events) - 1} more below)" if len(events) > 1 else ""
    return f" Look at this first: {events[0]}{more}." if events else ""


def _tested(run: Run) -> str:
    trained = f", trained on {run.source}," if run.source else ""
    videos = sum(block["n"]["videos"] for block in run.metrics["datasets"].values())
    corpus = " of a synthetic corpus" if run.truth is not None else ""
    return (
        f"{run.detector}{trained} was tested on {videos:,} {'video' if videos == 1 else 'videos'} of "
        f"{list_names(run.datasets)}{corpus}. Called fake is what scores above "
        f"{threshold_text(run.metrics['settings']['threshold'])}."
    )


def error_rate(run: Run, name: str, rate: str) -> tuple[float, float, float, int]:
    """Value, ends of its interval and videos: reals called fake, or fakes missed."""
    block = run.metrics["datasets"][name]
    video: Measures = block["video"]
    if rate == "fpr":
        return (video["fpr"], *ends(video.get("fpr_ci")), block["n"]["real_videos"])
    low, high = ends(video.get("tpr_ci"))
    return 1 - video["tpr"], 1 - high, 1 - low, block["n"]["fake_videos"]


def _candidates(run: Run) -> list[str]:
    """The datasets that numbers of the first screen are of: unseen ones, if any."""
    unseen = [name for name in run.datasets if name != run.source]
    return unseen if run.source and unseen else run.datasets


def _rate(run: Run, rate: str) -> KeyNumber:
    """The error rate on the dataset where it is highest."""
    what, kind = ("real videos called fake", "real") if rate == "fpr" else ("fakes missed", "fake")
    rates = {name: error_rate(run, name, rate) for name in _candidates(run)}
    known = {name: one for name, one in rates.items() if not isnan(one[0])}
    if not known:
        return KeyNumber("–", f"{what}: not enough data", f"no {kind} video was scored")
    name = max(known, key=lambda one: known[one][0])
    value, low, high, n = known[name]
    count = f"{n:,} {kind} {'video' if n == 1 else 'videos'}"
    support = ", ".join(filter(None, [interval_in_100([low, high]), count]))
    if run.source and name != run.source:
        before = error_rate(run, run.source, rate)[0]
        support += "" if isnan(before) else f"; {percent(before)} on {run.source}, where it was trained"
    unseen = " of all unseen datasets" if len(known) > 1 and run.source else ""
    most = f", the most{unseen}" if len(known) > 1 else ""
    return KeyNumber(percent(value), f"{what} on {name}{most}", support)


def _ranking(run: Run) -> KeyNumber:
    """The AUC on the dataset where it is lowest."""
    rows = {row["test"]: row for row in run.metrics["matrix"]}
    known = [rows[name] for name in _candidates(run) if not isnan(rows[name]["auc"])]
    if not known:
        return KeyNumber("–", "AUC: not enough data", "real videos and fakes are needed")
    worst = min(known, key=lambda row: row["auc"])
    n = run.metrics["datasets"][worst["test"]]["n"]
    videos = f"{n['real_videos']:,} real + {n['fake_videos']:,} fake videos; guessing 0.50"
    support = ", ".join(filter(None, [interval_in_words(worst["ci"]), videos]))
    is_unseen = run.source is not None and worst["test"] != run.source
    if is_unseen and run.source and not isnan(rows[run.source]["auc"]):
        support += f", on {run.source} {rows[run.source]['auc']:.2f}"
    which = "unseen dataset" if is_unseen else "dataset"
    where = f"{worst['test']}, the worst {which}" if len(known) > 1 else worst["test"]
    return KeyNumber(f"{worst['auc']:.2f}", f"AUC on {where}", support)


def _picture(run: Run, figures: Gallery) -> Markup:
    """Ranking and both errors on each dataset, beside guessing and the source."""
    colours = group_colours(run.datasets)
    ranking, called, missed = "Fake above real (AUC)", "Reals called fake", "Fakes missed"
    dots = [
        Dot(
            row["test"],
            row["auc"],
            *ends(row["ci"]),
            f"{n['videos']:,}",
            colours[row["test"]],
            row["test"] == run.source,
            block=ranking,
        )
        for row in run.metrics["matrix"]
        for n in [run.metrics["datasets"][row["test"]]["n"]]
    ]
    for rate, block in (("fpr", called), ("fnr", missed)):
        for name in run.datasets:
            value, low, high, n = error_rate(run, name, rate)
            dots.append(Dot(name, value, low, high, f"{n:,}", colours[name], name == run.source, block=block))
    display = DotDisplay(
        dots,
        "share of pairs, of reals, of fakes",
        expected={ranking: GUESSING},
        n_of="videos",
    )
    where = f" Diamond: {run.source}, where it was trained." if run.source else ""
    return figures.draw(
        PICTURE,
        display,
        f"Ranking and errors at the threshold, by dataset. {'; '.join(dot.text for dot in dots)}",
        f"Dotted: guessing.{where} Line: 95\u00a0% interval.",
    )


def _caution(run: Run) -> str:
    if run.truth is not None:
        return "that a detector is good or bad on real videos: every person and every fake here is synthetic."
    rates = {name: error_rate(run, name, "fpr") for name in run.datasets}
    known = {name: one for name, one in rates.items() if not isnan(one[0])}
    if not known:
        return "that it accuses nobody wrongly: no real video was scored."
    name = max(known, key=lambda one: known[one][0])
    value, _, high, n = known[name]
    if value > 0:
        return (
            f"that what it calls fake is fake: of 100 real videos like those of {name}, "
            f"{count_in_100(value)} are called fake."
        )
    most = "" if isnan(high) else f", which is what up to {count_in_100(high)} of 100 would look like"
    return f"that it accuses nobody wrongly: none of {n:,} real videos was called fake{most}."
