"""The audit of a manifest: leaks between splits, near-duplicates, shortcuts to the label."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unmasked.datasets.audit import findings as words
from unmasked.datasets.audit.duplicates import Duplicates, near_duplicates
from unmasked.datasets.audit.findings import Finding
from unmasked.datasets.audit.headers import read_headers
from unmasked.datasets.audit.overlaps import Overlaps, overlaps, repeated_files
from unmasked.datasets.audit.pixels import picture_of, read_pixel_facts
from unmasked.datasets.audit.settings import AuditSettings
from unmasked.datasets.audit.shortcuts import FEATURES, NOT_ENOUGH, shortcuts
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import first_names
from unmasked.datasets.manifest import SPLITS

_KEY = ["dataset", "video", "compression"]
PICTURES_MAX = 2000  # of a dataset, at random, whose pixels are looked at

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Audit:
    """What was found, the worst first, and what could not be looked at."""

    findings: list[Finding]
    checked: list[str]  # sentences
    not_checked: list[str]
    overlaps: Overlaps
    duplicates: Duplicates | None
    shortcuts: pd.DataFrame | None
    settings: AuditSettings
    rows: dict[str, int]  # labelled ones by dataset; all of them where no row has a label

    @property
    def is_clean(self) -> bool:
        """True if nothing was found; a note is no finding."""
        return all(finding.severity == "note" for finding in self.findings)

    @property
    def clean_words(self) -> str:
        """What is said where nothing was found: no more than was looked at."""
        return f"nothing found{' in what could be looked at' if self.not_checked else ''}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        tested = None if self.shortcuts is None else self.shortcuts.to_dict("records")
        return {
            "clean": self.is_clean,
            "findings": [finding.to_dict() for finding in self.findings],
            "checked": self.checked,
            "not_checked": self.not_checked,
            "overlaps": self.overlaps.summary.to_dict("records"),
            "shortcuts": tested,
            "settings": self.settings.model_dump(),
        }


def audit(
    manifest: pd.DataFrame,
    faces: Sequence[tuple[pd.DataFrame, Path]] = (),
    against: pd.DataFrame | None = None,
    settings: AuditSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Audit:
    """Everything that can be found without a model.

    Args:
        manifest: a manifest, valid under MANIFEST.
        faces: faces tables made of it, each with the folder that its ``crop`` is relative to.
        against: the manifest of other data to test on; it is compared with the first, not audited itself.
        settings: what is looked at.
        progress: called with a stage, how many steps are done, and of how many.

    Raises:
        InputError: the manifest is empty, or face crops are given and none belongs to a row.
    """
    settings = settings or AuditSettings()
    if manifest.empty:
        raise InputError("the manifest has no row; give the one that `unmasked scan` wrote")
    shared = overlaps(manifest, against, shared_names=settings.shared_names)
    found = [*words.overlap_findings(shared)]
    everything = manifest if against is None else pd.concat([manifest, against], ignore_index=True)
    unlabelled = manifest["label"].isna()
    # Whatever else is looked at compares labels.
    manifest = manifest[~unlabelled].reset_index(drop=True)
    against = None if against is None else against[against["label"].notna()].reset_index(drop=True)
    if manifest.empty:
        not_checked = [f"all {len(unlabelled)} rows have no label: files and shortcuts were not looked at"]
        checked = list(_what_was_checked(everything, None, None, None, None))
        findings = words.sort_findings(iter(found))
        return Audit(findings, checked, not_checked, shared, None, None, settings, _rows(everything))
    found += words.file_findings(repeated_files(manifest))
    duplicates = table = tested = None
    if settings.duplicates:
        duplicates = near_duplicates(manifest, faces, against, progress=progress)
        found += words.duplicate_findings(duplicates.pairs)
    if settings.shortcuts:
        table = file_facts(manifest, faces, settings, progress)
        tested = shortcuts(table, n_boot=settings.n_boot, seed=settings.seed)
        found += words.shortcut_findings(tested)
    not_checked = [
        *_unknown_people(everything),
        *_unread_pictures(duplicates, everything),
        *_untested_files(table, tested, manifest),
    ]
    if unlabelled.any():
        not_checked.append(
            f"{int(unlabelled.sum())} of {len(unlabelled)} rows have no label and were left out"
        )
    checked = list(_what_was_checked(manifest, against, duplicates, tested, table))
    findings = words.sort_findings(iter(found))
    return Audit(findings, checked, not_checked, shared, duplicates, tested, settings, _rows(manifest))


def _rows(manifest: pd.DataFrame) -> dict[str, int]:
    """How many rows each dataset has, by name."""
    return manifest["dataset"].value_counts().sort_index().to_dict()


def file_facts(
    manifest: pd.DataFrame,
    faces: Sequence[tuple[pd.DataFrame, Path]],
    settings: AuditSettings,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """At most ``max_files`` manifest rows of each dataset, with what `shortcuts` tests.

    Pixels are looked at in at most 2,000 pictures of each.

    ``header`` says whether the file could be read.
    """
    generator = np.random.default_rng(settings.seed)
    order = generator.random(len(manifest))
    place = pd.Series(order, index=manifest.index).groupby(manifest["dataset"]).rank()
    rows = manifest[place <= settings.max_files]
    report = progress or (lambda stage, done, total: None)
    headers = read_headers(rows, progress=lambda done, total: report("headers read", done, total))
    table = rows.join(headers.rename(columns={"status": "header"}))
    measured = ["size_px", "face_in_crop_px", "padded"]
    sizes = [_sizes(crops[crops["status"] == "ok"])[[*_KEY, *measured]] for crops, _ in faces]
    if sizes:
        median = pd.concat(sizes).groupby(_KEY, dropna=False)[measured].median()
        median["padded"] = (100 * median["padded"]).round()
        table = table.merge(
            median.rename(columns={"size_px": "face_size_px"}).reset_index(), on=_KEY, how="left"
        )
    pictures = _pictures(table, faces)
    some = pictures[pictures.notna() & (place[rows.index].to_numpy() <= PICTURES_MAX)]
    pixels = read_pixel_facts(some, progress=lambda done, total: report("pixels looked at", done, total))
    return table.join(pixels)


def _pictures(table: pd.DataFrame, faces: Sequence[tuple[pd.DataFrame, Path]]) -> pd.Series:
    """A picture of each row: its file, or the first crop of a video or archive; missing where none is."""
    parts = []
    for crops, folder in faces:
        cut = crops[(crops["status"] == "ok") & crops["crop"].notna()].reindex(columns=[*_KEY, "crop"])
        cut = cut.drop_duplicates(_KEY)
        parts.append(cut.assign(crop=list(map(str, crop_paths(cut["crop"], folder)))))
    files = [
        picture_of(root, name, kind)
        for root, name, kind in zip(table["root"], table["path"], table["kind"], strict=True)
    ]
    pictures = pd.Series(files, index=table.index, dtype=object)
    if not parts:
        return pictures
    first = pd.concat(parts).drop_duplicates(_KEY)
    return pictures.fillna(table[_KEY].merge(first, on=_KEY, how="left")["crop"].set_axis(table.index))


def _sizes(crops: pd.DataFrame) -> pd.DataFrame:
    """The crops with the face's size in pixels of the crop, where box and matrix are known."""
    crops = crops.reindex(columns=[*_KEY, "size_px", "padded", "m00", "m10"])
    return crops.assign(face_in_crop_px=crops["size_px"] * np.hypot(crops["m00"], crops["m10"]))


def _what_was_checked(
    manifest: pd.DataFrame,
    against: pd.DataFrame | None,
    duplicates: Duplicates | None,
    tested: pd.DataFrame | None,
    table: pd.DataFrame | None,
) -> Iterator[str]:
    for name, rows in manifest.groupby("dataset", sort=True):
        counts = rows["split"].value_counts()
        splits = ", ".join(f"{split} {counts[split]}" for split in SPLITS if split in counts)
        yield f"{name}: {len(rows)} rows ({splits}) of {rows['identity'].nunique()} known people"
    if against is not None:
        yield f"held against {len(against)} rows of {', '.join(sorted(against['dataset'].unique()))}"
    if duplicates is not None:
        yield f"{duplicates.pictures} pictures were compared with each other"
    if tested is not None and len(tested):
        measured = tested[tested["reason"] == ""]
        tests = f"{len(measured)} test{'' if len(measured) == 1 else 's'}"
        yield f"{tests} of whether a fact about files predicts the label"
    if table is not None and (looked := int(table["edge"].notna().sum())):
        yield f"{looked} pictures were looked at for borders and marks in corners"
    if table is not None and "face_in_crop_px" in table:
        for name, rows in table.groupby("dataset", sort=True):
            if rows["face_in_crop_px"].notna().any():
                yield (
                    f"{name}: faces take {rows['face_in_crop_px'].median():.0f} px of their crops, "
                    f"{rows['padded'].mean():.0f} % of which lies outside the picture"
                )


def _unknown_people(rows: pd.DataFrame) -> Iterator[str]:
    """Datasets of which the manifest does not say who is shown, or that have one split."""
    for name, part in rows.groupby("dataset", sort=True):
        unknown = int(part["identity"].isna().sum())
        if unknown:
            whose = f"who is shown is not known in {unknown} of {len(part)} rows"
            yield f"{name}: {whose}; people shared by splits stay unseen"
        if part["split"].nunique() == 1 and rows["dataset"].nunique() == 1:
            split = part["split"].iloc[0]
            yield f"{name}: there is one split only ({split}), so that nothing can leak between splits"


def _unread_pictures(duplicates: Duplicates | None, rows: pd.DataFrame) -> Iterator[str]:
    if duplicates is None:
        yield "near-duplicate pictures were not looked for (duplicates=false)"
        return
    if not duplicates.pictures and (rows["kind"] == "video").any():
        yield "no picture was compared: videos are compared by their face crops; give faces=…"
    if duplicates.flat:
        yield f"{duplicates.flat} pictures have too little detail (dark, flat) to be compared"
    if duplicates.unreadable:
        yield f"{duplicates.unreadable} pictures cannot be read (absent or damaged) and were not compared"
    if duplicates.unknown:
        yield f"{duplicates.unknown} face crops belong to no row of the manifest and were left out"


def _untested_files(
    table: pd.DataFrame | None, tested: pd.DataFrame | None, rows: pd.DataFrame
) -> Iterator[str]:
    if table is None or tested is None:
        yield "shortcuts were not looked for (shortcuts=false)"
        return
    for status, said in (
        ("missing", "are not where the manifest says"),
        ("unreadable", "are damaged: their headers cannot be read"),
        ("archived", "lie in archives, which are not unpacked for their headers"),
    ):
        if len(files := table.loc[table["header"] == status, "path"]):
            yield f"{len(files)} of {len(table)} files {said} ({first_names(files)})"
    if table["edge"].isna().all():
        yield "edges and corners of pictures were not looked at: videos are shown by their crops, faces=…"
    if "face_size_px" not in table:
        yield "face size was not tested: it needs faces=…"
    untested = tested[tested["reason"] == NOT_ENOUGH]
    for dataset, part in untested.groupby("dataset", sort=True):
        if (classes := rows.loc[rows["dataset"] == dataset, "label"].unique()).size == 1:
            only = ("real", "fake")[int(classes[0])]
            yield f"{dataset}: all rows are {only}, so that no fact can tell the label; nothing was tested"
            continue
        is_all = len(part) == (tested["dataset"] == dataset).sum()
        facts = "shortcuts" if is_all else ", ".join(FEATURES[name].title for name in part["feature"])
        yield f"{dataset}: {facts} not tested: {NOT_ENOUGH}"
