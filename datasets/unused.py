"""What lies below a dataset's root and is in no row of its manifest.

Every file, with the reason.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from unmasked.datasets.archives import IMAGE_SUFFIXES, archive_file, is_image, split_sequence_path
from unmasked.datasets.errors import printable
from unmasked.datasets.file_kinds import kind_of_file
from unmasked.datasets.listing import VIDEO_SUFFIXES, first_names, walk
from unmasked.datasets.vocabulary import label_of

# Suffixes of pictures and videos that no source reads; anything else with a suffix may be anything.
LISTS = (
    *(".json", ".csv", ".tsv", ".txt", ".md", ".rst", ".pdf", ".xml", ".yaml", ".yml", ".html", ".log"),
    *(".parquet", ".xlsx", ".doc", ".docx", ".bib", ".cfg", ".ini", ".sh", ".py", ".url", ".sha256", ".md5"),
)
NO_PLACE = "in no place that this source reads"
LIST = "a list or note"
HIDDEN = "hidden"
COLUMNS = ("path", "reason")


@dataclass(frozen=True)
class Unused:
    """How many files lie below a root, how many are used, and the others with a reason."""

    given: int
    used: int
    rows: pd.DataFrame  # COLUMNS; given = used + len(rows)

    def sentences(self) -> list[str]:
        """What a user should know of it.

        Nothing where all that is unused are lists and hidden files.
        """
        quiet = self.rows["reason"].isin([LIST, HIDDEN])
        loud = self.rows[~quiet]
        if loud.empty:
            return []
        reasons = Counter(loud["reason"]).most_common()
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons[:12])
        more = ", …" if len(reasons) > 12 else ""
        labels = Counter(filter(None, map(label_word, loud["path"])))
        by_class = " and ".join(f"{labels[word]} in {word}" for word in sorted(labels))
        classes = f"; {by_class}" if labels else ""
        aside = f" Lists, notes and hidden files: {int(quiet.sum())}." if quiet.any() else ""
        return [
            f"of {self.given} files and the like, {self.used} are used and {len(loud)} are not: {listed}"
            f"{more}{classes} ({first_names(loud['path'])}).{aside}"
        ]


def unused_files(root: Path, manifest: pd.DataFrame) -> Unused:
    """Everything below the root that the manifest does not use.

    A folder that cannot be listed, a hidden one and a link to a folder that is reached anyway count as one
    each, as a file does.

    Args:
        root: the folder that was scanned.
        manifest: its rows; those of another root (`crops=…`, `targets=…`) use nothing here.
    """
    found = walk(root)
    here = manifest[manifest["root"] == str(root.resolve())]
    is_folder = (here["kind"] == "sequence").to_numpy()
    paths = here["path"].astype(object)
    files = {os.path.normpath(path) for path in [*paths[~is_folder], *here["mask"].dropna()]}
    sequences = [split_sequence_path(path) for path in paths[is_folder]]
    files |= {archive_file(archive).as_posix() for archive, inside in sequences if inside is not None}
    folders = {folder.rstrip("/") or "." for folder, inside in sequences if inside is None}
    rows = [(path, HIDDEN) for path in found.hidden]
    rows += list(found.refused.items())
    used = 0
    for path in found.files:
        if path in files or (is_image(path) and (path.rpartition("/")[0] or ".") in folders):
            used += 1
        else:
            rows.append((path, _reason(path, root)))
    given = len(found.files) + len(found.hidden) + len(found.refused)
    # A name that is not UTF-8 can be shown, and not be put into a table as it is.
    shown = [(printable(path), reason) for path, reason in rows]
    return Unused(given, used, pd.DataFrame(shown, columns=list(COLUMNS)))


def _reason(path: str, root: Path) -> str:
    name = path.rpartition("/")[2].lower()
    suffix = os.path.splitext(name)[1]
    if name.endswith((*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)):
        return NO_PLACE
    if not suffix and (kind := _media_kind(root / path)):
        return f"{kind} without a suffix (not read)"
    if suffix in LISTS or not suffix or name == "lock.mdb":  # LMDB's list of readers
        return LIST
    return f"{suffix} (not read)" if len(suffix) <= 12 else "of an unknown suffix"


def _media_kind(file: Path) -> str:
    """What a file without a suffix is, where that is a picture or video; else ""."""
    try:
        kind = kind_of_file(file) if file.is_file() else ""
    except OSError:  # it may not be read; that it is not used is what counts here
        return ""
    return kind if kind.rpartition(" ")[2] in ("picture", "video") else ""


def label_word(path: str) -> str | None:
    """real or fake, as the folder nearest a file says; None if no folder says it."""
    for part in reversed(path.split("/")[:-1]):
        if (label := label_of(part)) is not None:
            return ("real", "fake")[label]
    return None
