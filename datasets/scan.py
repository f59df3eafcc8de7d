"""From a folder on disk to a manifest.

Which dataset it is, what was found, and what is missing.
Each file of ``datasets/sources`` reads one layout; the folder is the registry.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from unmasked.datasets.errors import InputError, nearest_name, printable
from unmasked.datasets.frame_names import frames_as_videos
from unmasked.datasets.listing import UNSPLIT, Count, first_names, walk
from unmasked.datasets.manifest import MANIFEST, SPLITS
from unmasked.datasets.sources import folder as folder_source
from unmasked.datasets.splits import SplitPlan, frozen_split, read
from unmasked.datasets.tables import READ, is_table
from unmasked.datasets.unused import COLUMNS, Unused, unused_files
from unmasked.datasets.vocabulary import Reading, label_of, split_of

FOLDER = Path(__file__).parent / "sources"
# Layouts so general that they are looked for last, in this order.
GENERAL = ("table", "folder")
TEST_FILES = 36  # of a class: with no error on them the 95 % interval ends below 10 of 100
NAME_LETTERS_MAX = 200
PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
VAL_OF_TRAIN = ": val of train"  # behind a dataset's name, under which such a split is frozen


@dataclass(frozen=True)
class ScanResult:
    """A manifest, where it came from, and what to tell the user about it."""

    source: str  # the source's name, e.g. "faceforensics"
    root: Path  # the dataset's folder, which may be one below the folder that was given
    manifest: pd.DataFrame
    counts: list[Count]  # found against official
    messages: list[str]  # sentences: what was found, what is missing and where to get it
    unused: Unused  # what lies below the root and is in no row
    readings: list[Reading]  # what was taken for granted in a table
    absent: list[str]  # what a list names and is not there


@dataclass(frozen=True)
class Splitting:
    """Which rows are training and which test, where the dataset does not decide it."""

    plan: SplitPlan | None = None  # by shares, for what has no official split
    file: Path | None = None  # where such splits are frozen and found again
    official: bool = True  # False: the dataset's own split is left aside
    val_from_train: float = 0.0  # share of train that becomes val, where there is none


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
    splitting: Splitting | None = None,
    **options: Any,
) -> ScanResult:
    """The manifest of a dataset folder, with found-against-official counts.

    Args:
        root: the dataset's folder, a folder that holds exactly one dataset's folder, a table, or one file.
        source: the name of a source, or ``auto`` to go by the layout.
        plan: how to split what has no official split; None leaves it to the source, which calls it test,
            unless ``splits_file`` has a split of this dataset.
        splits_file: where splits are frozen, so that a later scan gives the same one.
        splitting: plan and file and what else decides about splits, in place of these two.
        options: passed on to the source, as ``compression=("c23",)`` for FaceForensics++.

    Raises:
        InputError: the root is absent, empty or of no known layout; the source or an option is unknown; the
            source cannot read what is there, or nothing of it; or it is no longer what the frozen split was
            made of.
    """
    root = Path(root)
    splitting = splitting or Splitting(plan, splits_file)
    module, folder = _source_of(root, source)
    name = module.__name__.rpartition(".")[2]
    default = options.pop("split", None) if "split" not in _options(module) else options.get("split")
    _check_options(name, module, options)
    notes: list[str] = []
    readings: list[Reading] = []
    absent: list[str] = []
    for aside, collected in (("readings", readings), ("absent", absent)):
        if aside in inspect.signature(module.scan).parameters:
            options[aside] = collected
    if "split" in _options(module):
        has_plan = splitting.plan or _frozen_names(splitting.file)
        if has_plan and "split" not in options:
            options["split"] = None
        elif "split" not in options and (said := split_of(folder.name)):
            options["split"] = said
            notes.append(f"the folder is called {folder.name}: what nothing else says is {said}")
    try:
        manifest = module.scan(folder, notes=notes, **options)
    except UnicodeEncodeError as error:
        raise InputError(
            f"a list in {folder} holds a name that is no text ({printable(error.object)[:80]}); correct it"
        ) from error
    if manifest.empty:
        reasons = f": {'; '.join(notes)}" if notes else ""
        raise InputError(f"{module.NAME} in {folder}: not one row could be made of it{reasons}")
    _check_names(manifest)
    unused = (
        unused_files(folder, manifest)
        if folder.is_dir() and name != "table"
        else Unused(len(manifest), len(manifest), pd.DataFrame(columns=list(COLUMNS)))
    )
    manifest = _add_splits(manifest, splitting, str(default or "test"), notes)
    counts = module.counts(manifest)
    messages = [
        _summary(module.NAME, folder, manifest),
        *_one_class(manifest),
        *_classes_by_split(manifest),
        *_count_messages(counts, module),
        *notes,
        *_siblings(root, folder),
        *unused.sentences(),
        *_frames(manifest),
        *_empty_files(manifest),
    ]
    return ScanResult(name, folder, manifest, counts, messages, unused, readings, absent)


def options_of(root: Path, source: str = "auto") -> set[str]:
    """The names of the options that the source of a root takes.

    Raises:
        InputError: as `scan`.
    """
    module, _ = _source_of(root, source)
    return set(_options(module))


def table_read(root: Path, source: str = "auto") -> Path | None:
    """The table that a scan of the root reads, or None where it looks at files.

    A folder may hold one.

    Raises:
        InputError: as `scan`.
    """
    module, folder = _source_of(root, source)
    return module.table_in(folder) if hasattr(module, "table_in") else None


def _source_of(root: Path, source: str) -> tuple[ModuleType, Path]:
    """The source that reads the root, and the folder in which it does."""
    _check_root(root)
    candidates = sources() if source == "auto" else _source_by_name(source)
    name, folder = _locate_source(root, candidates, named_one=source != "auto")
    return candidates[name], folder


def _options(module: ModuleType) -> list[str]:
    known = inspect.signature(module.scan).parameters
    return [name for name in known if name not in ("root", "notes", "readings", "absent")]


def _frozen_names(splits_file: Path | None) -> set[str]:
    return set(read(splits_file)) if splits_file else set()


def _add_splits(manifest: pd.DataFrame, splitting: Splitting, default: str, notes: list[str]) -> pd.DataFrame:
    """The manifest with missing splits filled in; rows that belong in none are left out."""
    plan = splitting.plan
    if not splitting.official:
        if manifest["split"].notna().any():
            counts = _split_counts(manifest)
            notes.append(f"its own split is left aside, as asked ({counts})")
        manifest = UNSPLIT.validate(manifest.assign(split=pd.NA))
    elif plan and not manifest["split"].isna().any():
        notes.append("has a split of its own, which is kept")
    names = _frozen_names(splitting.file)
    for dataset in manifest.loc[manifest["split"].isna(), "dataset"].unique():
        rows = manifest.index[(manifest["dataset"] == dataset) & manifest["split"].isna()]
        if plan or dataset in names:
            manifest.loc[rows, "split"] = frozen_split(
                manifest.loc[rows], dataset, plan, splitting.file, notes
            )
            manifest = manifest.drop(rows[manifest.loc[rows, "split"].isna()])
        else:
            manifest.loc[rows, "split"] = default
    for dataset in manifest["dataset"].unique():
        if splitting.val_from_train or f"{dataset}{VAL_OF_TRAIN}" in names:
            manifest = _with_val(manifest, str(dataset), splitting, notes)
    return MANIFEST.validate(manifest)


def _with_val(manifest: pd.DataFrame, dataset: str, splitting: Splitting, notes: list[str]) -> pd.DataFrame:
    """The manifest with part of a dataset's train as val, where it has no val of its own; frozen."""
    share = splitting.val_from_train
    if not 0 <= share < 1:
        raise InputError(f"val_from_train={share:g} cannot be used; give a share between 0 and 1, as 0.1")
    here = manifest["dataset"] == dataset
    if (manifest.loc[here, "split"] == "val").any():
        notes.append(f"{dataset} has a val split, which is kept")
        return manifest
    rows = manifest.index[here & (manifest["split"] == "train")]
    if not len(rows):
        notes.append(f"{dataset} has no train split to take val from")
        return manifest
    chosen = splitting.plan or SplitPlan()
    plan = replace(chosen, fractions=(1 - share, share, 0.0)) if share else None
    said: list[str] = []
    splits = frozen_split(manifest.loc[rows], f"{dataset}{VAL_OF_TRAIN}", plan, splitting.file, said)
    notes += [f"{dataset}, val from train: {line}" for line in said]
    manifest.loc[rows, "split"] = splits
    return manifest.drop(rows[splits.isna()])


def _split_counts(manifest: pd.DataFrame) -> str:
    of_split = manifest["split"].value_counts()
    return ", ".join(f"{split} {of_split[split]}" for split in SPLITS if split in of_split)


def _one_class(manifest: pd.DataFrame) -> list[str]:
    """A line where all rows that have a label have the same."""
    known = manifest["label"].dropna().unique()
    if len(known) != 1:
        return []
    here, other = ("real", "fake") if known[0] == 0 else ("fake", "real")
    rate = "how often reals are called fake" if here == "real" else "how often fakes are missed"
    return [f"NOTE: all labels are {here}, there is no {other}: this set can tell {rate}, and no more"]


def _classes_by_split(manifest: pd.DataFrame) -> list[str]:
    """A line on the classes of each split, and one on each split that has one class of two."""
    known = manifest.dropna(subset=["label"])
    if known["label"].nunique() < 2 or known["split"].nunique() < 2:
        return []
    counts = known.groupby(["split", "label"], observed=True).size().unstack(fill_value=0)
    counts = counts.loc[[split for split in SPLITS if split in counts.index]]
    listed = "; ".join(f"{split} {row[0]} real and {row[1]} fake" for split, row in counts.iterrows())
    return [
        f"by split: {listed}",
        *(
            f"NOTE: {split} has no {word}: what takes both classes cannot be done on it; "
            "more people of that class, another split_seed or other split_fractions can give it some"
            for split, row in counts.iterrows()
            for value, word in ((0, "real"), (1, "fake"))
            if row[value] == 0
        ),
        *_small_test(counts),
    ]


def _small_test(counts: pd.DataFrame) -> Iterator[str]:
    """A line on what the rarer class of the test split leaves open; none where it has enough.

    The exact 95 % interval of no error in n files ends at 1 - 0.025^(1/n) (Clopper and Pearson, 1934).

    Args:
        counts: split x label -> files.
    """
    least = int(counts.loc["test"].min()) if "test" in counts.index else 0
    if 0 < least < TEST_FILES:
        word = "real" if counts.loc["test", 0] == least else "fake"
        errors = 100 * (1 - 0.025 ** (1 / least))
        yield (
            f"NOTE: test has {least} {word}: a detector that makes no error there may still err on "
            f"{errors:.0f} of 100 (95 % interval), so that little can be decided; {TEST_FILES} of each class "
            "bring that below 10"
        )


def _frames(manifest: pd.DataFrame) -> list[str]:
    """A line where images look like frames of videos: each would count as a video of its own."""
    images = manifest[manifest["kind"] == "image"]
    if images.empty or not (sentence := frames_as_videos(images["path"], images["label"])):
        return []
    return [
        f"NOTE: {sentence}, and each is an image of its own here: numbers of videos and intervals would "
        "count frames; a table with a row for each folder of frames (source=table) makes them sequences"
    ]


def _check_names(manifest: pd.DataFrame) -> None:
    """Refuses names of datasets that can be neither a folder's name nor a line on a page.

    Raises:
        InputError: a name is longer than NAME_LETTERS_MAX, or empty.
    """
    for name in manifest["dataset"].unique():
        if not 0 < len(name) <= NAME_LETTERS_MAX:
            raise InputError(
                f"a dataset has a name of {len(name)} letters ({name[:20]}…), allowed are "
                f"1 to {NAME_LETTERS_MAX}: "
                "give another by dataset=, or in the table's column dataset"
            )


def _siblings(root: Path, folder: Path) -> list[str]:
    """A line on the folders beside the one that was read."""
    if root == folder or not root.is_dir() or not folder.is_relative_to(root):
        return []
    child = root / folder.relative_to(root).parts[0]
    try:
        others = sorted(path.name for path in root.iterdir() if path.is_dir() and path != child)
    except OSError:
        return []
    others = [name for name in others if not name.startswith(".")]
    return (
        [f"folders beside {child.name} that are not read: {len(others)} ({first_names(others)})"]
        if others
        else []
    )


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
    return [f"files of zero bytes: {len(empty)} ({first_names(empty)})"] if empty else []


def _check_root(root: Path) -> None:
    try:
        if not root.exists():
            raise InputError(f"root {root} does not exist; give the folder of a dataset")
        is_file, is_folder = root.is_file(), root.is_dir()
        is_empty = is_folder and not any(root.iterdir())
    except OSError as error:
        raise InputError(f"root {root} cannot be read ({error.strerror}); give a folder that can") from error
    if not is_file and not is_folder:
        raise InputError(f"root {root} is neither a file nor a folder; give the folder of a dataset")
    if is_file and not is_table(root) and not folder_source.has_media(root):
        raise InputError(
            f"root {root} is a file; give the folder of a dataset, or a .csv or .parquet table, or one video "
            "or image"
        )
    if is_empty:
        raise InputError(f"root {root} is empty; give a folder with {' or '.join(_names())}")


def _names() -> list[str]:
    return [f"{module.NAME} ({module.LAYOUT})" for module in sources().values()]


def _source_by_name(source: str) -> dict[str, ModuleType]:
    known = sources()
    spelled = {name.lower(): name for name in known} | {m.NAME.lower(): name for name, m in known.items()}
    if source.lower() in spelled:
        name = spelled[source.lower()]
        return {name: known[name]}
    near = nearest_name(source.lower(), spelled, cutoff=0.4)
    meant = f" (is {spelled[near]!r} meant?)" if near else ""
    raise InputError(f"source {source!r} is unknown{meant}; it is one of auto, {', '.join(known)}")


def _locate_source(
    root: Path, candidates: dict[str, ModuleType], *, named_one: bool = False, given: Path | None = None
) -> tuple[str, Path]:
    """The source that recognises the root itself, else the only folder below it that one recognises.

    A folder that holds one folder and nothing known is looked into further: archives unpack to such chains.
    Where several folders are sorted into real and fake (a folder for each generator), the root is read whole.
    """
    given = given or root  # the root that was given, where this is a folder below it
    if root.is_file():
        return _source_of_file(root, candidates), root
    if found := _recognised(root, candidates, named_one):
        return found, root
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    below = [(name, folder) for folder in folders if (name := _recognised(folder, candidates, named_one))]
    # A lone folder real/ is a class, and not the dataset.
    is_chain = len(folders) == 1 and not below and not folders[0].is_symlink()
    if is_chain and label_of(folders[0].name) is None:
        name, place = _locate_source(folders[0], candidates, named_one=named_one, given=given)
        # The name of the only folder may be that of the split.
        is_split = name == "folder" and place == folders[0] and split_of(place.name)
        return (name, root) if is_split else (name, place)
    if "folder" in candidates and all(name == "folder" for name, _ in below):
        others = [each for each in folders if each not in [folder for _, folder in below]]
        is_one = len(below) == 1 and not any(map(folder_source.is_nested, others))
        if is_one and not split_of(below[0][1].name):
            return below[0]
        if folder_source.is_nested(root):
            return "folder", root
    if len(below) > 1:
        listed = ", ".join(str(folder) for _, folder in below)
        raise InputError(f"root {root} holds several datasets; give one of them, or a list: {listed}")
    if below:
        return below[0]
    if "folder" in candidates and folder_source.has_media(root):
        return "folder", root
    if packed := [name for name in walk(root).files if name.lower().endswith(PACKED)]:
        raise InputError(
            f"root {given} holds no video or image but archives ({first_names(packed)}); unpack them and "
            "give the folder that comes out"
        )
    if len(candidates) == 1:
        (module,) = candidates.values()
        raise InputError(f"root {given} is not laid out like {module.NAME}: {module.LAYOUT}")
    tables = [name for name in walk(given).files if name.lower().endswith(READ)]
    held = f", and one of its tables ({first_names(tables)}) may be a root of its own" if tables else ""
    names = ", ".join(module.NAME for module in candidates.values())
    raise InputError(
        f"root {given} is not laid out like a known dataset, and holds no video or image; give a folder with "
        f"real/ and fake/, or a table with the columns path and label{held}. Known are {names}: source=NAME "
        "says how one is laid out"
    )


def _source_of_file(root: Path, candidates: dict[str, ModuleType]) -> str:
    wanted = "folder" if folder_source.has_media(root) else "table"
    if wanted not in candidates:
        raise InputError(f"root {root} is a file, which source {wanted} alone can read; give a folder")
    return wanted


def _recognised(folder: Path, candidates: dict[str, ModuleType], named_one: bool) -> str | None:
    """The first source that recognises the folder."""
    for name, module in candidates.items():
        # DeepFakeDetection lies in FaceForensics++'s tree: there, it is read only where it is asked for.
        recognises = getattr(module, "holds", module.matches) if named_one else module.matches
        try:
            if recognises(folder):
                return name
        except OSError:
            continue  # a folder that cannot be listed is said with all that is not used
    return None


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
    real, fake = int(labels.get(0, 0)), int(labels.get(1, 0))
    unknown = int(manifest["label"].isna().sum())
    without = f", {unknown} without a label" if unknown else ""
    return f"{name} in {root}: {listed}; {real} real and {fake} fake{without}; {_split_counts(manifest)}"


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
        lines.append(f"{missing} are missing from the official set, which is available from {module.REQUEST}")
    return lines
