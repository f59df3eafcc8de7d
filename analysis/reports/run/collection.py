"""The page about several detectors: who was trained on what, how each does elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from math import isnan
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.figures.matrix import cross_dataset
from unmasked.analysis.html.page import Section, fill_template, render_page, table
from unmasked.analysis.reports.gallery import Gallery
from unmasked.analysis.reports.run.answer import interval_and_chance
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
from unmasked.evaluation.wording import count_in_100, list_names, name_files, threshold_text

PAGE = "report.html"


def write_collection_report(folder: Path) -> Path:
    """Writes ``report.html`` and ``figures/`` into the folder of several detectors' results.

    Raises:
        InputError: the folder or its metrics.json is absent, or the file is damaged.
    """
    metrics = read_collection(folder)
    figures = Gallery()
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
    sections = [
        Section("answer", "Which holds up best on data it never saw?", _answer(pairs, metrics, figures)),
        Section("protocols", "Other questions", _others(metrics, published)),
        Section("detectors", "The detectors", _detectors(metrics, pages)),
        Section("glossary", "Words", fill_template("glossary.html", noun=noun, is_ours=False)),
    ]
    text = render_page(
        f"{len(names)} detectors: which holds up on data it never saw?",
        [section for section in sections if section.html],
        subtitle=f"Report on {list_names(names)}",
    )
    datasets = [name for row in metrics["protocols"] for name in (row["train"], row["test"])]
    return name_files(text, noun, [*names, *dict.fromkeys(datasets)])


def _answer(pairs: Sequence[ProtocolRow], metrics: CollectionResults, figures: Gallery) -> Markup:
    if not pairs:
        return Markup("<p>No detector was tested on a dataset that has both real videos and fakes.</p>")
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
