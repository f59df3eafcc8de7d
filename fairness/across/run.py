"""What goes across an audit.

Other thresholds, strata, other datasets and detectors, damage, annotations.
`compare_across` gives what `unmasked.fairness.run.write` adds to ``fairness.json``:

- in each dataset ``operating_points`` and ``strata``;
- ``changes``: of each gap from the source to every other dataset (kind "dataset", different people) and
  from another detector on the same videos (kind "detector", paired);
- ``perturbations`` (rates of groups) and ``perturbation_gaps``;
- ``annotation``: dataset -> conflicts, agreement, sensitivity (symmetric noise) and measured_sensitivity.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.thresholds import Threshold
from unmasked.fairness.across.annotation_quality import (
    NOISES,
    agreement,
    conflicts,
    measured_confusion,
    noisy_gaps,
    sensitivity,
)
from unmasked.fairness.across.changes import compare
from unmasked.fairness.across.operating_points import add_half, operating_points
from unmasked.fairness.across.perturbed import perturbations
from unmasked.fairness.across.strata import strata
from unmasked.fairness.groups import SKIN_TONE, SKIN_TONE_GROUP, UNKNOWN, group_columns, skin_tone_groups
from unmasked.fairness.records import Across, AnnotationQuality, GapChange
from unmasked.fairness.result import Audit
from unmasked.fairness.selection import Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beside:
    """What an audit is set beside; every part may be absent."""

    thresholds: Sequence[Threshold] = ()  # stored operating points, besides 0.5
    source: str = ""  # the dataset that gaps of the others are compared with
    against: Mapping[str, Audit] = field(default_factory=dict)  # another detector's audits by dataset
    against_name: str = ""
    votes: pd.DataFrame | None = None  # what frames were annotated with, see `demographics.votes_by_video`
    second: pd.DataFrame | None = None  # dataset, video and another source's attributes
    noises: Sequence[float] = NOISES  # shares of wrong annotations whose effect on gaps is shown


def compare_across(
    predictions: pd.DataFrame,
    audits: Mapping[str, Audit],
    beside: Beside | None = None,
    *,
    detector: str | None = None,
) -> Across:
    """Everything that goes across the audits of a predictions table.

    Args:
        predictions: the table that the audits were made of.
        audits: by dataset.
        beside: what they are set beside.
        detector: whose rows, where the table has several.

    Raises:
        InputError: the source is no audited dataset, or the second source knows none of the videos.
    """
    beside = beside or Beside()
    found: Across = {
        "datasets": {},
        "changes": changes(audits, beside),
        "perturbations": [],
        "perturbation_gaps": [],
        "annotation": {},
    }
    for name, audit in audits.items():
        selection = audit.selection
        assert selection is not None  # the audits are of this table
        found["datasets"][name] = {
            "operating_points": operating_points(audit, add_half(beside.thresholds)),
            "strata": strata(selection, audit),
        }
        by_group, gaps = perturbations(predictions, audit, dataset=name, detector=detector)
        found["perturbations"] += by_group
        found["perturbation_gaps"] += gaps
        found["annotation"][name] = annotation(selection, audit, name, beside)
    if beside.second is not None and not any(part["agreement"] for part in found["annotation"].values()):
        raise InputError(
            "the second source of annotations knows none of the audited videos by an audited attribute; "
            "give annotations of the same videos"
        )
    return found


def changes(audits: Mapping[str, Audit], beside: Beside) -> list[GapChange]:
    """Changes of each gap from the source to the other datasets, and from another detector.

    Raises:
        InputError: the source is not among the audits.
    """
    found: list[GapChange] = []
    if beside.source:
        if beside.source not in audits:
            raise InputError(
                f"source {beside.source!r} was not audited; the audited datasets are {', '.join(audits)}"
            )
        for name, audit in audits.items():
            if name != beside.source:
                found += _rows("dataset", compare(audits[beside.source], audit), beside.source, name)
    for name, audit in audits.items():
        if name in beside.against:
            pairs = compare(beside.against[name], audit, paired=True)
            one, other = _detector_names(audit, beside)
            for row in _rows("detector", pairs, f"{other} on {name}", f"{one} on {name}"):
                found.append({**row, "dataset": name})
    return found


def source_of(thresholds: Sequence[Threshold], datasets: Sequence[str]) -> str:
    """The dataset that thresholds were fitted on; "" if it is none of these or unknown."""
    for each in thresholds:
        for name in datasets:
            if each.fitted_on == name or each.fitted_on.startswith(f"{name}, "):
                return name
    return ""


def annotation(selection: Selection, audit: Audit, dataset: str, beside: Beside) -> AnnotationQuality:
    """Conflicts within videos, agreement of both sources, and the effect of mistakes on gaps."""
    attributes = list(audit.support.index.unique(0))
    found: AnnotationQuality = {
        "conflicts": [],
        "agreement": [],
        "measured_sensitivity": [],
        "sensitivity": sensitivity(audit, beside.noises),
    }
    if beside.votes is not None:
        found["conflicts"] = conflicts(_votes_of_attributes(beside.votes, dataset, selection, attributes))
    if beside.second is not None:
        for attribute in attributes:
            both = _both_sources(selection, beside.second, dataset, attribute)
            if both is None:
                continue
            entry = agreement(*both, random_state=audit.settings.random_state)
            found["agreement"].append(entry)
            names = [name for name in audit.support.loc[attribute].index if name != UNKNOWN]
            confusion = measured_confusion(entry, names)
            found["measured_sensitivity"] += noisy_gaps(audit, attribute, [confusion], names)
    return found


def _rows(kind: str, table: pd.DataFrame, source: str, target: str) -> list[GapChange]:
    return [
        {
            "kind": kind,
            "attribute": row["attribute"],
            "metric": row["metric"],
            "source": source,
            "target": target,
            "gap_source": row["gap_source"],
            "gap_target": row["gap_target"],
            "change": row["change"],
            "change_ci": [row["low"], row["high"]],
            "groups": row["groups"],
            "note": row["note"],
        }
        for row in table.to_dict("records")
    ]


def _detector_names(audit: Audit, beside: Beside) -> tuple[str, str]:
    """What to call the audited detector and the other one; two of one name have other weights."""
    name = str(audit.origin.get("detector", "this detector"))
    if name != beside.against_name:
        return name, beside.against_name
    return f"{name} (this one)", f"{name} (the other one)"


def _votes_of_attributes(
    votes: pd.DataFrame, dataset: str, selection: Selection, attributes: Sequence[str]
) -> pd.DataFrame:
    """The votes on the audited videos of a dataset, with skin tones in groups where those were audited."""
    here = votes[(votes["dataset"] == dataset) & votes["video"].isin(selection.table["video"])]
    tone = here["attribute"] == SKIN_TONE
    if SKIN_TONE_GROUP in attributes and tone.any():
        groups = skin_tone_groups(here.loc[tone, "value"].rename(SKIN_TONE))
        tones = here[tone].assign(value=groups, attribute=SKIN_TONE_GROUP)
        keys = ["dataset", "video", "attribute", "value"]
        here = pd.concat([here[~tone], tones.groupby(keys, as_index=False)["votes"].sum()])
    return here[here["attribute"].isin(attributes)]


def _both_sources(
    selection: Selection, second: pd.DataFrame, dataset: str, attribute: str
) -> tuple[pd.Series, pd.Series] | None:
    """The group of each video in both sources, or None where the second has no such column or video."""
    ours = selection.groups[attribute].groupby(selection.table["video"].to_numpy()).first()
    there = second[second["dataset"] == dataset]
    try:
        groups = group_columns(there, [attribute]).iloc[:, 0]
    except InputError as error:
        logger.info("the second source is not compared on %s: %s", attribute, error)
        return None
    known = groups[groups != UNKNOWN]
    theirs = known.groupby(there.loc[known.index, "video"].to_numpy()).first()
    both = pd.DataFrame({"ours": ours, "theirs": theirs.reindex(ours.index).fillna(UNKNOWN)})
    if not ((both["ours"] != UNKNOWN) & (both["theirs"] != UNKNOWN)).any():
        return None
    return both["ours"].rename(attribute), both["theirs"].rename(attribute)
