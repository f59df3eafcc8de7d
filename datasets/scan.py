"""From a folder on disk to a manifest: which dataset it is, what was found, and what is missing.

Each file of ``datasets/sources`` reads one layout; the folder is the registry.
"""

from __future__ import annotations

import importlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from unmasked.datasets.errors import InputError, nearest_name
from unmasked.datasets.listing import Count, named
from unmasked.datasets.manifest import MANIFEST, SPLITS
from unmasked.datasets.splits import SplitPlan, frozen, read

FOLDER = Path(__file__).parent / "sources"
# Layouts so general that they are looked for last, in this order.
GENERAL = ("table", "folder")


@dataclass(frozen=True)
class ScanResult:
    """A manifest, where it came from, and what to tell the user about it."""

    source: str  # the source's name, e.g. "faceforensics"
    root: Path  # the dataset's folder, which may be one below the folder that was given
    manifest: pd.DataFrame
    counts: list[Count]  # found against official
    messages: list[str]  # sentences: what was found, what is missing and where to get it


def sources() -> dict[str, ModuleType]:
    """Every source by name, general layouts last. A file in ``datasets/sources`` is a source."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    ordered = [name for name in names if name not in GENERAL] + [name for name in GENERAL if name in names]
    return {name: importlib.import_module(f"unmasked.datasets.sources.{name}") for name in ordered}


def scan(
    root: str | os.PathLike[str],
    source: str = "auto",
    *,
    plan: SplitPlan | None = None,
    splits_file: Path | None = None,
    **options: Any,
) -> ScanResult:
    """The manifest of a dataset folder, with found-against-official counts.

    Args:
        root: the dataset's folder, a folder that holds exactly one dataset's folder, or a table.
        source: the name of a source, or ``auto`` to go by the layout.
        plan: how to split what has no official split, by person; None leaves it to the source, which
            calls it test, unless ``splits_file`` has a split of this dataset.
        splits_file: where splits are frozen, so that a later scan gives the same one.
        options: passed on to the source, as ``compression=("c23",)`` for FaceForensics++.

    Raises:
        InputError: the root is absent, empty or of no known layout; the source or an option is unknown; the
            source cannot read what is there; or it is no longer what the frozen split was made of.
    """
    root = Path(root)
    _check_root(root)
    candidates = sources() if source == "auto" else _named_source(source)
    name, folder = _located(root, candidates, named_one=source != "auto")
    module = candidates[name]
    _check_options(name, module, options)
    notes: list[str] = []
    if "split" in _options(module) and "split" not in options and (plan or _frozen_names(splits_file)):
        options["split"] = None
    manifest = module.scan(folder, notes=notes, **options)
    manifest = _with_splits(manifest, plan, splits_file, notes)
    counts = module.counts(manifest)
    messages = [_summary(module.NAME, folder, manifest), *_count_messages(counts, module), *notes]
    return ScanResult(name, folder, manifest, counts, [*messages, *_empty_files(manifest)])


def options_of(root: Path, source: str = "auto") -> set[str]:
    """The names of the options that the source of a root takes.

    Raises:
        InputError: as `scan`.
    """
    _check_root(root)
    candidates = sources() if source == "auto" else _named_source(source)
    name, _ = _located(root, candidates, named_one=source != "auto")
    return set(_options(sources()[name]))


def _options(module: ModuleType) -> list[str]:
    return [name for name in inspect.signature(module.scan).parameters if name not in ("root", "notes")]


def _frozen_names(splits_file: Path | None) -> set[str]:
    return set(read(splits_file)) if splits_file else set()


def _with_splits(
    manifest: pd.DataFrame, plan: SplitPlan | None, splits_file: Path | None, notes: list[str]
) -> pd.DataFrame:
    """The manifest with missing splits filled in; rows that belong in none are left out."""
    if plan and not manifest["split"].isna().any():
        notes.append("has a split of its own, which is kept")
    names = _frozen_names(splits_file)
    for dataset in manifest.loc[manifest["split"].isna(), "dataset"].unique():
        rows = manifest.index[(manifest["dataset"] == dataset) & manifest["split"].isna()]
        if plan or dataset in names:
            manifest.loc[rows, "split"] = frozen(manifest.loc[rows], dataset, plan, splits_file, notes)
            manifest = manifest.drop(rows[manifest.loc[rows, "split"].isna()])
        else:
            manifest.loc[rows, "split"] = "test"
    return MANIFEST.validate(manifest)


def _empty_files(manifest: pd.DataFrame) -> list[str]:
    """A note on the videos and images of zero bytes, which stay in the manifest: preprocessing says why."""
    files = manifest[manifest["kind"] != "sequence"]
    roots = files["root"].fillna("")
    empty = []
    for folder, path in zip(roots, files["path"], strict=True):
        try:
            if os.stat(os.path.join(folder, path)).st_size == 0:
                empty.append(path)
        except OSError:
            continue  # absent, which the source has said
    return [f"files of zero bytes: {len(empty)} ({named(empty)})"] if empty else []


def _check_root(root: Path) -> None:
    if not root.exists():
        raise InputError(f"root {root} does not exist; give the folder of a dataset")
    if root.is_file() and root.suffix not in (".csv", ".parquet"):
        raise InputError(f"root {root} is a file; give the folder of a dataset, or a .csv or .parquet table")
    if root.is_dir() and not any(root.iterdir()):
        raise InputError(f"root {root} is empty; give a folder with {' or '.join(_names())}")


def _names() -> list[str]:
    return [f"{module.NAME} ({module.LAYOUT})" for module in sources().values()]


def _named_source(source: str) -> dict[str, ModuleType]:
    known = sources()
    spelled = {name.lower(): name for name in known} | {m.NAME.lower(): name for name, m in known.items()}
    if source.lower() in spelled:
        name = spelled[source.lower()]
        return {name: known[name]}
    near = nearest_name(source.lower(), spelled, cutoff=0.4)
    meant = f" (is {spelled[near]!r} meant?)" if near else ""
    raise InputError(f"source {source!r} is unknown{meant}; it is one of auto, {', '.join(known)}")


def _located(root: Path, candidates: dict[str, ModuleType], *, named_one: bool = False) -> tuple[str, Path]:
    """The source that recognises the root itself, else the only folder below it that one recognises.

    A folder that holds one folder and nothing known is looked into further: archives unpack to such chains.
    """
    if root.is_file():
        if "table" not in candidates:
            raise InputError(f"root {root} is a file, which source table alone can read; give a folder")
        return "table", root
    # DeepFakeDetection lies in FaceForensics++'s tree: there, it is read only where it is asked for.
    recognised = {
        name: getattr(module, "holds", module.matches) if named_one else module.matches
        for name, module in candidates.items()
    }
    for name, recognises in recognised.items():
        if recognises(root):
            return name, root
    below, folders = [], sorted(path for path in root.iterdir() if path.is_dir())
    for folder in folders:
        names = [name for name, recognises in recognised.items() if recognises(folder)]
        below += [(name, folder) for name in names[:1]]
    if len(below) > 1:
        listed = ", ".join(str(folder) for _, folder in below)
        raise InputError(f"root {root} holds several datasets; give one of them, or a list: {listed}")
    if not below and len(folders) == 1 and not folders[0].is_symlink():
        return _located(folders[0], candidates, named_one=named_one)
    if not below:
        layouts = "; ".join(f"{module.NAME}: {module.LAYOUT}" for module in candidates.values())
        raise InputError(f"root {root} is not laid out like a known dataset. Known are {layouts}")
    return below[0]


def _check_options(name: str, module: ModuleType, options: dict[str, Any]) -> None:
    known = _options(module)
    for option in options:
        if option not in known:
            allowed = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"source {name} has no option {option!r}; {allowed}")


def _summary(name: str, root: Path, manifest: pd.DataFrame) -> str:
    kinds = manifest["kind"].value_counts()
    listed = " and ".join(f"{count} {kind}s" for kind, count in kinds.items())
    labels = manifest["label"].value_counts()
    of_split = manifest["split"].value_counts()
    splits = ", ".join(f"{split} {of_split[split]}" for split in SPLITS if split in of_split)
    real, fake = int(labels.get(0, 0)), int(labels.get(1, 0))
    return f"{name} in {root}: {listed}; {real} real and {fake} fake; {splits}"


def _count_messages(counts: list[Count], module: ModuleType) -> list[str]:
    lines = []
    missing = 0
    for part, found, official in counts:
        if official is None:
            lines.append(f"{part}: {found}")
            continue
        missing += max(0, official - found)
        extra = f", {found - official} more than there should be" if found > official else ""
        lines.append(f"{part}: {found} of {official}{extra}")
    if missing:
        lines.append(f"{missing} are missing from the official set, which is to be had from {module.REQUEST}")
    return lines
