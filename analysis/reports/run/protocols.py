"""Which detector does how well on what: protocols and published numbers, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.html.page import table
from unmasked.evaluation.contamination import contamination_table
from unmasked.evaluation.cross_auc import cross_auc_tables
from unmasked.evaluation.published import HEADING, Published, published_table
from unmasked.evaluation.records import ContaminationRow, CrossAucRow, ProtocolRow, Settings, Sizes
from unmasked.evaluation.tables import Table
from unmasked.evaluation.wording import IN_BRACKETS, metric_text

PROTOCOLS = {
    "leave_one_method_out": "A method that training left out",
    "compression_shift": "Other compression than in training",
}


def pair_table(rows: Sequence[ProtocolRow], caption: str) -> Markup:
    """Rows of a protocol: trained on, tested on, AUC, loss, decisions, and the selection."""
    several = len({row["detector"] for row in rows}) > 1
    shown = []
    for row in rows:
        cells = {"detector": row["detector"]} if several else {}
        cells |= {
            "trained on": row["train"],
            "tested on": row["test"],
            "videos, real + fake": sizes(row),
            f"{row['level']} AUC": metric_text(row, "auc"),
            "lost": "–" if row["is_reference"] else metric_text(row, "gap"),
        }
        for name, key in {"FPR": "fpr", "TPR": "tpr"}.items():
            cells[name] = "–" if isnan(row["fpr"]) else metric_text(row, key)
        # Of several it is in the table of detectors, once each.
        shown.append(cells if several else cells | {"checkpoint chosen by": row["selection_rule"]})
    note = " FPR and TPR: at the detector’s stored threshold."
    return table(pd.DataFrame(shown, dtype=object), caption=f"{caption} {IN_BRACKETS}{note}")


def sizes(n: Sizes | ProtocolRow) -> str:
    """How many real and fake videos, on one line."""
    return f"{n['real_videos']}\N{NO-BREAK SPACE}+\N{NO-BREAK SPACE}{n['fake_videos']}"


def other_protocols(rows: Sequence[ProtocolRow]) -> Iterator[Markup]:
    """A heading and a table for each protocol that is not the cross-dataset matrix."""
    for protocol, title in PROTOCOLS.items():
        if chosen := [row for row in rows if row["protocol"] == protocol]:
            yield Markup("<h3>{}</h3>").format(title)
            yield pair_table(chosen, f"Lost: {chosen[0]['gap_is']}.")


def crossed_part(rows: Mapping[str, Sequence[CrossAucRow]], settings: Settings) -> Iterator[Markup]:
    """A heading and the matrix of reals against fakes of each dataset, by detector."""
    for stated in cross_auc_tables(rows, settings["n_boot"], places=2):
        yield Markup("<h3>Reals of one dataset against fakes of another</h3>")
        yield stated_table(stated)


def contamination_part(rows: Mapping[str, Sequence[ContaminationRow]]) -> Iterator[Markup]:
    """A heading and what of each test set the detectors have seen; nothing in older results."""
    if any(rows.values()):
        yield Markup("<h3>Are these videos new to it?</h3>")
        yield stated_table(contamination_table(rows))


def published_part(published: Sequence[Published], settings: Settings) -> Markup:
    """What others report, in tables of its own, apart from what was measured here."""
    parts = [stated_table(published_table(one, settings)) for one in published]
    return Markup("<h3>{}</h3>").format(HEADING) + Markup("").join(parts) if parts else Markup("")


def stated_table(stated: Table) -> Markup:
    """A table of `evaluation.tables` with its notes below."""
    shown = table(pd.DataFrame(stated.rows, columns=list(stated.head), dtype=object), caption=stated.title)
    notes = Markup("").join(Markup("<li>{}</li>").format(note) for note in stated.notes)
    return shown + Markup('<ul class="soft">{}</ul>').format(notes)
