"""What the audit found: what it is, why it matters and what to do, the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from unmasked.datasets.audit.duplicates import clusters
from unmasked.datasets.audit.overlaps import Overlaps
from unmasked.datasets.audit.shortcuts import FEATURES
from unmasked.datasets.listing import first_names

Severity = Literal["bad", "warning", "note"]

# An AUC from which on a detector hardly needs to look at a face.
SHORTCUT_BAD = 0.9
SHORTCUT_CLEAR = 0.75
EXAMPLES = 5
NOUNS = {
    "identity": ("person", "people"),
    "video": ("original video", "original videos"),
    "file": ("file", "files"),
}

WHY = {
    "shortcut": "A detector can score as well without looking for traces of a fake. Results on this data, "
    "and what is learnt from it, may be about this alone.",
    "overlap": "A detector that met them in training recognises them: the result on this split is better "
    "than on people and videos it never saw.",
    "label_file": "One of the two labels is wrong, or a listing is: training and metrics both suffer.",
    "repeat_file": "It counts twice, and intervals are narrower than they should be.",
    "split": "The detector has seen these pictures, or all but: the result on this split is too good.",
    "label": "Either a label is wrong, or there are fakes beside originals that the manifest does not name.",
    "repeat": "One picture under two names counts twice: intervals are narrower than they should be, and a "
    "split drawn by video can tear it apart.",
    "names": "If they are the same people, the datasets are not independent.",
}
DO = {  # of shortcuts by feature, then by kind
    "format": "Bring both classes into one format, with one encoder and setting, before faces are cropped.",
    "codec": "Encode both classes with one codec and one setting before faces are cropped.",
    "resolution": "Bring both classes to one resolution, or sample so that each resolution has both classes.",
    "bit_rate": "Encode both classes at one quality before faces are cropped, or sample so that it agrees.",
    "size_bytes": "Look at format, codec, resolution and length, which make up the size, and even them out.",
    "frames": "Sample the same number of frames from every video; the length itself then shows no more.",
    "face_size": "Sample so that faces of each size come from both classes, and report by face size.",
    "face_in_crop": "Make the crops of both classes in one way (crops=, scale=): detectors react to the size "
    "of the face in its crop.",
    "padded": "Make the crops of both classes in one way (crops=, border=), then it tells nothing.",
    "jpeg_quality": "Encode both classes at one quality before faces are cropped.",
    "blocks": "One class was compressed more: encode both alike, before anything else is done to them.",
    "edge": "Look at pictures of both classes: a border or strip of one class alone must be cut off or given "
    "to both.",
    "corners": "Look at the corners of both classes: a logo or watermark of one class alone must be cut off.",
    "identity": "Split by person; where the split is official, say beside results that people are shared.",
    "video": "Keep all that was made of one original in one split.",
    "file": "Remove it from one of the splits.",
    "label_file": "Look at the file, correct the label and scan again.",
    "repeat_file": "Keep one of the rows.",
    "split": "Remove them from training (duplicates.csv lists them), or keep what shares them in one split.",
    "label": "Look at the pairs in duplicates.csv; correct labels, or give source_video and target_video.",
    "repeat": "Keep one of each pair in duplicates.csv, or give both the same identity.",
    "names": "Where the datasets do name the same people, set shared_names=true.",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be."""

    severity: Severity
    kind: str  # shortcut, identity, video, file, duplicate, label, names
    dataset: str
    found: str
    why: str
    advice: str
    rank: tuple[float, ...]  # the lowest is the worst

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; the order is that of the list."""
        return {name: value for name, value in vars(self).items() if name != "rank"}


def sort_findings(findings: Iterator[Finding]) -> list[Finding]:
    """The worst first."""
    return sorted(findings, key=lambda finding: (finding.rank, finding.dataset, finding.found))


def shortcut_findings(tested: pd.DataFrame) -> Iterator[Finding]:
    """A finding for each dataset with shortcuts, and another for the much weaker ones."""
    found = tested[tested["is_shortcut"]].assign(is_bad=lambda rows: rows["auc"] >= SHORTCUT_BAD)
    # Of equally good ones the cause first: a format brings its codec and its bit rate.
    found = found.assign(order=found["feature"].map(list(FEATURES).index), rounded=-found["auc"].round(2))
    found = found.sort_values(["rounded", "order"])
    for (dataset, is_bad), part in found.groupby(["dataset", "is_bad"], sort=False):
        lead, others = part.iloc[0], part.iloc[1:]
        sentence = (
            f"{dataset}: {FEATURES[lead.feature].title} alone tells real from fake with AUC {lead.auc:.3f} "
            f"[{lead.low:.3f}, {lead.high:.3f}] ({_usual(lead)})"
        )
        also = [f"{FEATURES[row.feature].title} ({row.auc:.3f})" for row in others.itertuples()]
        sentence += f"; so {'does' if len(also) == 1 else 'do'} {', '.join(also)}" if also else ""
        step = 0 if is_bad else 3 if lead.auc >= SHORTCUT_CLEAR else 5
        severity: Severity = "bad" if is_bad else "warning"
        rank = (step, lead.rounded, lead.order)
        yield Finding(severity, "shortcut", dataset, sentence, WHY["shortcut"], DO[lead.feature], rank)


def _usual(row: Any) -> str:
    """What is usual in fakes and in reals; of a pattern, where they differ."""
    is_pattern = FEATURES[row.feature].is_pattern
    return str(row.in_fakes) if is_pattern else f"fakes: {row.in_fakes}; reals: {row.in_reals}"


def overlap_findings(overlaps: Overlaps) -> Iterator[Finding]:
    """A finding for each kind of thing that two sides share."""
    sides = ["kind", "dataset", "split", "other_dataset", "other_split", "certain"]
    values = {key: part["value"] for key, part in overlaps.shared.groupby(sides, sort=False)}
    for row in overlaps.summary.itertuples():
        shared = values[tuple(getattr(row, name) for name in sides)]
        if not row.certain:
            # The people's names say it; the names of their videos would only say it again.
            if row.kind == "identity":
                yield _names(row, shared)
            continue
        who = f"{row.values} of {row.values_of} {NOUNS[row.kind][row.values_of != 1]}"
        where = f"{row.other_dataset} {row.other_split}"
        before = row.split if row.dataset == row.other_dataset else f"{row.dataset} {row.split}"
        found = (
            f"{where}: {who} {_are(row.values)} in {before} too ({first_names(shared, EXAMPLES)}); "
            f"this touches {row.rows} of {row.rows_of} rows ({_share(row.rows, row.rows_of)})"
        )
        is_test = row.other_split == "test" or row.dataset != row.other_dataset
        rank = (2, 0 if is_test else 1, ("file", "identity", "video").index(row.kind), -row.rows)
        yield Finding("bad", row.kind, row.other_dataset, found, WHY["overlap"], DO[row.kind], rank)


def file_findings(repeated: pd.DataFrame) -> Iterator[Finding]:
    """Findings for files that are listed more than once, within or across datasets."""
    if repeated.empty:
        return
    labels = repeated.groupby("file")["label"].nunique()
    datasets = ", ".join(sorted(repeated["dataset"].unique()))
    if both := list(labels.index[labels > 1]):
        listed = f"{_count(len(both), 'file')} listed both as real and as fake"
        found = f"{datasets}: {listed} ({first_names(both, EXAMPLES)})"
        yield Finding("bad", "label", datasets, found, WHY["label_file"], DO["label_file"], (1, -len(both)))
    within = repeated[repeated.duplicated(["file", "dataset", "split", "label"])]
    if len(within):
        files = within["file"].unique()
        found = (
            f"{datasets}: {_count(len(files), 'file')} listed more than once ({first_names(files, EXAMPLES)})"
        )
        yield Finding(
            "warning", "file", datasets, found, WHY["repeat_file"], DO["repeat_file"], (4, -len(files))
        )


def duplicate_findings(pairs: pd.DataFrame) -> Iterator[Finding]:
    """A finding for each kind of near-duplicate and pair of sides."""
    keys = ["finding", "dataset", "other_dataset"]
    for (kind, dataset, other), part in pairs.groupby(keys, sort=True):
        count = clusters(part)
        example = f"{part['video'].iloc[0]} and {part['other_video'].iloc[0]}"
        where = dataset if dataset == other else f"{dataset} and {other}"
        what = {
            "split": f"in {_sides(part)}",
            "label": "as real and as fake",
            "repeat": "under two names",
        }[kind]
        found = f"{where}: {_count(count, 'picture')} {what}, near-copies of each other (such as {example})"
        is_leak = kind == "split"
        severity: Severity = "bad" if is_leak else "warning"
        rank = (2, 0, 3, -count) if is_leak else (4, 0 if kind == "label" else 1, -count)
        yield Finding(severity, "duplicate", str(other), found, WHY[kind], DO[kind], rank)


def _names(row: Any, shared: pd.Series) -> Finding:
    found = (
        f"{row.dataset} and {row.other_dataset} both name {_count(row.values, 'person', 'people')} alike "
        f"({first_names(shared, EXAMPLES)}); every dataset numbers its own, so that this is not counted"
    )
    return Finding("note", "names", row.other_dataset, found, WHY["names"], DO["names"], (9, -row.values))


def _sides(part: pd.DataFrame) -> str:
    """The splits between which pictures are shared, as "train and test"."""
    pairs = (part["split"] + " and " + part["other_split"]).unique()
    return ", ".join(sorted(pairs))


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _count(count: int, noun: str, plural: str = "") -> str:
    """The number with its noun.

    >>> _count(1, "file"), _count(2, "person", "people")
    ('1 file', '2 people')
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def _share(part: int, whole: int) -> str:
    """A share in per cent; a small one is not rounded to none.

    >>> _share(31, 100), _share(1, 5000)
    ('31 %', '0.02 %')
    """
    return f"{100 * part / whole:.{0 if part >= whole / 100 else 1 if part >= whole / 1000 else 2}f} %"
