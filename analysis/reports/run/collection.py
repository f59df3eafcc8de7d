"""The page about several detectors: who was trained on what, how each does elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from math import isnan
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.dots import Dot, DotDisplay
from unmasked.analysis.figures.matrix import cross_dataset
from unmasked.analysis.html.page import (
    KeyNumber,
    Kind,
    Section,
    callout,
    fill_template,
    first_screen,
    paragraph,
    render_page,
    table,
)
from unmasked.analysis.reports.gallery import Gallery
from unmasked.analysis.reports.run.answer import TOO_FEW, interval_and_chance, is_undecided
from unmasked.analysis.reports.run.figures import draw_matrix
from unmasked.analysis.reports.run.folder import read_collection
from unmasked.analysis.reports.run.protocols import (
    contamination_part,
    crossed_part,
    other_protocols,
    pair_table,
    published_part,
    stated_table,
)
from unmasked.datasets.files import write_text
from unmasked.evaluation.leaders import CHOSEN_HERE, leader_sentences
from unmasked.evaluation.published import Published, read_published
from unmasked.evaluation.records import CollectionResults, ProtocolRow
from unmasked.evaluation.seeds import seed_table
from unmasked.evaluation.wording import (
    count_in_100,
    ends,
    interval_in_words,
    list_names,
    name_files,
    threshold_text,
)

PAGE = "report.html"
GUESSING = 0.5  # AUC
NUMBERS_MAX = 3
KINDS: dict[str, Kind] = {"A first": "good", TOO_FEW: "warning"}  # title of the verdict -> its colour
GISTS = {
    "answer": "Who leads by how much, the matrix, and every number behind it.",
    "protocols": "What is new to each, one threshold for all, and what others report.",
    "detectors": "Training, threshold, and the report on each.",
    "glossary": "AUC, FPR, TPR, threshold, interval and other words.",
}


def write_collection_report(folder: Path, *, has_pdf: bool = False) -> Path:
    """Writes ``report.html`` and ``figures/`` into the folder of several detectors' results.

    Raises:
        InputError: the folder or its metrics.json is absent, or the file is damaged.
    """
    metrics = read_collection(folder)
    figures = Gallery(has_pdf=has_pdf)
    if cross_dataset(metrics):
        draw_matrix(metrics, figures)
    entries = metrics["detectors"].values()
    pages = [one["folder"] for one in entries if (folder / one["folder"] / PAGE).is_file()]
    text = collection_page(metrics, figures, read_published(folder), pages)
    figures.write(folder / "figures", PAGE)
    write_text(folder / PAGE, text)
    return folder / PAGE


def collection_page(
    metrics: CollectionResults,
    figures: Gallery,
    published: Sequence[Published] = (),
    pages: Collection[str] = (),
) -> str:
    """One page: who holds up best, the matrix, other protocols, and the detectors.

    ``pages`` are folders of detectors that have a page of their own, which is linked.
    """
    pairs = cross_dataset(metrics)
    names = list(metrics["detectors"])
    noun = metrics["settings"].get("noun", "video")
    parts = [
        ("answer", "Which holds up best, in words", _answer(pairs, metrics, figures)),
        ("protocols", "Other questions", _others(metrics, published)),
        ("detectors", "The detectors", _detectors(metrics, pages)),
        ("glossary", "Words", fill_template("glossary.html", noun=noun, is_ours=False)),
    ]
    text = render_page(
        f"{len(names)} detectors: which holds up on data it never saw?",
        [Section(name, title, body, bool(pairs), GISTS[name]) for name, title, body in parts if body],
        subtitle=f"Report on {list_names(names)}",
        first=_first(pairs, metrics, figures) if pairs else None,
    )
    datasets = [name for row in metrics["protocols"] for name in (row["train"], row["test"])]
    return name_files(text, noun, [*names, *dict.fromkeys(datasets)])


def _first(pairs: Sequence[ProtocolRow], metrics: CollectionResults, figures: Gallery) -> Markup:
    """The first screen: each detector at its worst, and all of them on every dataset."""
    unseen = list(_worst_unseen(pairs))
    known = [row for row in pairs if not isnan(row["auc"])]
    worst = sorted(unseen or known, key=lambda row: -row["auc"])
    overall, *_ = leader_sentences(metrics.get("leaders", [])) or ["No dataset is new to all of them."]
    is_too_little = bool(known) and all(is_undecided(*ends(row["auc_ci"])) for row in known)
    if is_too_little:
        overall = "The videos are too few to tell any of them from guessing."
    tested = list_names(list(dict.fromkeys(row["test"] for row in pairs)))
    trained = list_names(list(dict.fromkeys(row["train"] for row in pairs)))
    title = (
        TOO_FEW
        if is_too_little
        else (
            "A first"
            if " holds up best" in overall
            else "No clear first"
            if unseen
            else "Not tested on new data"
        )
    )
    return first_screen(
        tested=f"{list_names(list(metrics['detectors']))}, trained on {trained}, were tested on {tested}. "
        "Ranking needs no threshold; errors are at the stored threshold of each.",
        verdict=callout(KINDS.get(title, "note"), overall, title=title),
        numbers=list(map(_worst_number, [*worst[: NUMBERS_MAX - 1], *worst[NUMBERS_MAX - 1 :][-1:]])),
        picture=_picture(pairs, figures),
        decision="test them on more videos before one is taken."
        if is_too_little
        else "take one whose errors on its worst unseen dataset you can bear, and test it on yours."
        if unseen
        else "test them on data that none was trained on before one is taken.",
        caution="that the first here is the first on your videos: these datasets chose it."
        if unseen
        else "that any of them does as well on data that it never saw.",
    )


def _worst_unseen(pairs: Sequence[ProtocolRow]) -> Iterator[ProtocolRow]:
    for name, train in dict.fromkeys((row["detector"], row["train"]) for row in pairs):
        own = [
            row
            for row in pairs
            if (row["detector"], row["train"]) == (name, train)
            and not row["is_reference"]
            and not isnan(row["auc"])
        ]
        if own:
            yield min(own, key=lambda row: row["auc"])


def _worst_number(row: ProtocolRow) -> KeyNumber:
    where = "where it was trained" if row["is_reference"] else "where it is worst"
    videos = f"{row['real_videos']:,} real + {row['fake_videos']:,} fake videos; guessing 0.50"
    return KeyNumber(
        f"{row['auc']:.2f}",
        f"AUC of {row['detector']} on {row['test']}, {where}",
        ", ".join(filter(None, [interval_in_words(row["auc_ci"]), videos])),
    )


def _picture(pairs: Sequence[ProtocolRow], figures: Gallery) -> Markup:
    """A row for each detector under each dataset, beside guessing."""
    colours = group_colours(dict.fromkeys(row["detector"] for row in pairs))
    tests = list(dict.fromkeys(row["test"] for row in pairs))
    dots = [
        Dot(
            row["detector"],
            row["auc"],
            *ends(row["auc_ci"]),
            f"{row['real_videos'] + row['fake_videos']:,}",
            colours[row["detector"]],
            row["is_reference"],
            block=test,
        )
        for test in tests
        for row in pairs
        if row["test"] == test
    ]
    display = DotDisplay(
        dots, "fake above real (AUC)", expected=dict.fromkeys(tests, GUESSING), n_of="videos"
    )
    return figures.draw(
        "at_a_glance",
        display,
        f"AUC of each detector on each dataset. {'; '.join(dot.text for dot in dots)}",
        "Dotted: guessing. Diamond: where it was trained. Line: 95\u00a0% interval.",
    )


def _answer(pairs: Sequence[ProtocolRow], metrics: CollectionResults, figures: Gallery) -> Markup:
    if not pairs:
        return paragraph("No detector was tested on a dataset that has both real videos and fakes.")
    first, *leads = leader_sentences(metrics.get("leaders", [])) or [""]
    best = Markup("<p><strong>{}</strong></p>").format(first) if first else Markup("")
    best += _bullets(leads)
    if leads:
        best += Markup('<p class="soft">{}</p>').format(CHOSEN_HERE)
    caption = "Every detector on every dataset. Lost: AUC where it was trained minus AUC here."
    return (
        best
        + Markup("<h3>Each where it was trained, and where it does worst</h3>")
        + _bullets(_falls(pairs))
        + Markup('<p class="soft">Guessing would be right in 50 of 100 pairs.</p>')
        + figures.html("matrix")
        + pair_table(pairs, caption)
    )


def _bullets(lines: Iterable[str]) -> Markup:
    listed = Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
    return Markup("<ul>{}</ul>").format(listed) if listed else listed


def _falls(pairs: Sequence[ProtocolRow]) -> Iterator[str]:
    """A sentence for each detector: where it was trained, and its worst unseen dataset."""
    for name, train in dict.fromkeys((row["detector"], row["train"]) for row in pairs):
        own = [row for row in pairs if (row["detector"], row["train"]) == (name, train)]
        home = next((row for row in own if row["is_reference"]), None)
        unseen = [row for row in own if row is not home and not isnan(row["auc"])]
        text = f"{name}, trained on {train}"
        if home is not None and not isnan(home["auc"]):
            text += f": ranks a fake above a real video in {count_in_100(home['auc'])} of 100 pairs there"
        if unseen:
            worst = min(unseen, key=lambda row: row["auc"])
            text += f"; at worst, on {worst['test']}, in {count_in_100(worst['auc'])}"
            text += interval_and_chance(worst["auc_ci"])
        yield f"{text}."


def _others(metrics: CollectionResults, published: Sequence[Published]) -> Markup:
    parts = list(other_protocols(metrics["protocols"]))
    parts += contamination_part(metrics.get("contamination", {}))
    parts += crossed_part(metrics.get("cross_auc", {}), metrics["settings"])
    if metrics.get("seeds"):
        parts.append(stated_table(seed_table(metrics["seeds"], places=2)))
    return Markup("").join([*parts, published_part(published, metrics["settings"])])


def _detectors(metrics: CollectionResults, pages: Collection[str]) -> Markup:
    rows = [
        {
            "detector": name,
            "trained on": list_names(list(map(str, one["trained_on"]))) or "not stated",
            "checkpoint chosen by": one["selection_rule"],
            "threshold": threshold_text(one["threshold"]),
            "its results": (
                Markup('<a href="{}/{}">its report</a>').format(one["folder"], PAGE)
                if one["folder"] in pages
                else one["folder"]
            ),
        }
        for name, one in metrics["detectors"].items()
    ]
    shown = table(
        pd.DataFrame(rows, dtype=object), caption="What is known of each, and where its results lie."
    )
    return shown + Markup(
        "<p>For the whole report on one of them: <code>unmasked report run=</code> with its folder.</p>"
    )
