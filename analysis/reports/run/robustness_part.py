"""The part of a report about videos that were changed on their way."""

from __future__ import annotations

from math import isnan

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.figures.robustness import clean_rate
from unmasked.analysis.html.page import Absent, fill_template, place_side_by_side, table
from unmasked.analysis.reports.gallery import Gallery
from unmasked.analysis.reports.run.folder import Run
from unmasked.analysis.reports.run.robustness import (
    Record,
    changes,
    drift_words,
    find_hidden_drift,
    setting,
    tell_understated,
    worst_words,
)
from unmasked.evaluation.perturbing.drift import AUC_STILL, RATE_DRIFTS
from unmasked.evaluation.wording import IN_BRACKETS, NOT_ENOUGH, change_text

COLUMNS = {"auc": "AUC", "fpr": "reals called fake (FPR)", "tpr": "fakes found (TPR)"}
TOLD = 3  # sentences about a drift that the AUC hides


def robustness_part(run: Run, figures: Gallery) -> Markup:
    """What changes to a video do: hidden drift, the curves, and the strongest of each kind."""
    records = run.robustness
    if not records:
        return Absent(fill_template("robustness.html", records=None, is_ours=run.is_ours))
    found = find_hidden_drift(records)
    strongest = [record for change in changes(run) for record in change.strongest_records]
    caption = (
        "Untouched → changed, at the strongest severity tested, and the change in points of 100 on the same "
        f"videos. {IN_BRACKETS} Marked: the AUC stays and the rate moves."
    )
    everything = [record for change in changes(run) for record in change.records]
    return fill_template(
        "robustness.html",
        records=records,
        n=len(records),
        worst=[text for rate in ("fpr", "tpr") if (text := worst_words(records, rate))],
        hidden=[drift_words(record, rate) for record, rate in _worst_of_each_change(found)[:TOLD]],
        n_hidden=len({id(record) for record, _ in found}),
        understated=tell_understated(records),
        auc_still=AUC_STILL,
        rate_drifts=100 * RATE_DRIFTS,
        curves=place_side_by_side(figures.of_kind("robustness")),
        strongest=_table(strongest, caption),
        everything=_table(everything, "All severities.") if len(everything) > len(strongest) else None,
    )


def _worst_of_each_change(found: list[tuple[Record, str]]) -> list[tuple[Record, str]]:
    """The worst severity of each kind of change on each dataset."""
    chosen: dict[tuple[str, ...], tuple[Record, str]] = {}
    for record, rate in found:
        chosen.setdefault((record["dataset"], record["perturbation"], record["where"], rate), (record, rate))
    return list(chosen.values())


def _table(records: list[Record], caption: str) -> Markup:
    marked = {(id(record), rate) for record, rate in find_hidden_drift(records)}
    rows, highlight = [], []
    for record in records:
        rows.append(
            {
                "change": setting(record),
                "dataset": record["dataset"],
                "videos": str(record["videos"]),
                **{title: _change_cell(record, rate) for rate, title in COLUMNS.items()},
            }
        )
        highlight.append(
            dict.fromkeys(rows[-1], False)
            | {title: (id(record), rate) in marked for rate, title in COLUMNS.items()}
        )
    return table(pd.DataFrame(rows, dtype=object), caption=caption, highlight=pd.DataFrame(highlight))


def _change_cell(record: Record, rate: str) -> str:
    """The untouched and the changed value, and the change with its interval."""
    if isnan(record[rate]):
        return NOT_ENOUGH
    moved = change_text(record[f"{rate}_change"], record[f"{rate}_change_ci"])
    before, after = clean_rate(record, rate), record[rate]
    return f"{before:.2f}\N{NO-BREAK SPACE}→\N{NO-BREAK SPACE}{after:.2f}, {moved}"
