"""Prediction files put together by detector, each with what is known of its training.

What a detector was trained on is taken from, in this order: what the caller states; the columns
``trained_on`` and ``held_out`` of the file; the card (``detector.json``) whose hash of the weights is the
file's ``checkpoint``. Where none of them says it, it is not known, and never guessed from a name.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from unmasked.datasets.cards import check_card
from unmasked.datasets.errors import InputError
from unmasked.datasets.table_reading import has_scores
from unmasked.datasets.tables import READ, column_names
from unmasked.datasets.vocabulary import canonical_dataset
from unmasked.evaluation.origin import NOT_STATED
from unmasked.evaluation.predictions import NEEDED, read_predictions

STATED = ("trained_on", "held_out")
MAX_CARD_BYTES = 1 << 20
EXPLAINED = "explain.json"  # `unmasked explain` leaves it beside its own tables
LOST_FILE = "unused.csv"  # what a table leaves out, beside it: read with it, and no table of scores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What is known of how a detector came about; empty is unknown."""

    datasets: tuple[str, ...] = ()
    compression: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()  # of the fakes that it was trained on
    held_out: tuple[str, ...] = ()  # methods of the dataset that were kept from it
    selection_rule: str = NOT_STATED

    @property
    def source(self) -> str | None:
        """The dataset that it was trained on; None if that is unknown or there were several."""
        return self.datasets[0] if len(self.datasets) == 1 else None

    @property
    def name(self) -> str:
        """The training data in words."""
        return " + ".join(self.datasets) or NOT_STATED


@dataclass(frozen=True)
class Scored:
    """One detector's predictions."""

    name: str  # unlike that of any other in the collection
    detector: str
    predictions: pd.DataFrame
    files: tuple[str, ...]
    training: Training
    card: Mapping[str, Any] = field(default_factory=dict)  # of these weights; empty if there is none


@dataclass(frozen=True)
class Stated:
    """What the caller says of detectors: for all, or by file, stem, folder or detector."""

    source: str | Mapping[str, str] = ""
    held_out: str | Mapping[str, str] = ""
    selection: str | Mapping[str, str] = ""
    used: set[str] = field(default_factory=set)

    def of(self, what: str, names: Iterable[str]) -> str:
        """The ``source``, ``held_out`` or ``selection`` of a file with these names, else ""."""
        value = getattr(self, what)
        if isinstance(value, str):
            return value
        for name in names:
            if name in value:
                self.used.add(name)
                return value[name]
        return ""

    def check(self, known: Iterable[str]) -> None:
        """InputError if something was said of a file that is not there."""
        for what in ("source", "held_out", "selection"):
            value = getattr(self, what)
            if isinstance(value, Mapping) and (unused := [name for name in value if name not in self.used]):
                raise InputError(
                    f"{what} names {unused[0]!r}, which is none of the predictions; name a file, its folder "
                    f"or a detector of {', '.join(sorted(set(known)))}"
                )


def collect(
    path: str | os.PathLike[str],
    stated: Stated | None = None,
    *,
    cards: Path | None = None,
    read: Callable[[Path], pd.DataFrame] = read_predictions,
) -> tuple[list[Scored], list[str]]:
    """The detectors with predictions in a file or folder, and in words what was not read.

    Files of one detector (equal name, weights and training) are put together, so that each dataset may have
    its own. A file that states no detector is one by itself, named after the file.

    Args:
        path: a ``.parquet`` or ``.csv`` file, or a folder. In a folder, tables without the four columns of
            predictions are other tables, and are passed over.
        stated: what the caller knows of the training.
        cards: a further folder whose ``detector.json`` may be the card of these predictions.
        read: gives the predictions in a file.

    Raises:
        InputError: there are no predictions, a file of them is not valid, or two files of one detector
            overlap.
    """
    path, stated = Path(path), stated or Stated()
    files, notes = _prediction_files(path)
    known = _cards(path, cards)
    tables = join_default_datasets(files, [read(file) for file in files], path.name)
    parts = [_part(file, table, path, stated, known) for file, table in zip(files, tables, strict=True)]
    stated.check(
        name for file, part in zip(files, parts, strict=True) for name in (*_names(file, path), part.detector)
    )
    found = [_merge_parts(group) for group in _by_detector(parts)]
    return _name_distinctly(found), notes


def _prediction_files(path: Path) -> tuple[list[Path], list[str]]:
    if not path.is_dir():
        return [path], []
    # Texts are as often notes as tables: those have to be named.
    suffixes = {*READ} - {".txt"}
    found = (file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    # A hidden one is what a process left that was killed while it wrote; Excel's own begin with ~.
    tables = sorted(file for file in found if not file.name.startswith((".", "~")))
    notes, names = [], {}
    for file in tables:
        if _is_beside_scores(file):
            continue
        try:
            names[file] = column_names(file)
        except InputError as error:
            if file.stem == "predictions":  # one of ours, which must not be left out
                raise
            notes.append(f"{file.relative_to(path)}: {error}")
    absent = {file: [name for name in NEEDED if name not in names[file]] for file in names}
    # Where no table is called as ours are, those of strangers are read.
    files = [file for file in names if not absent[file]] or [
        file for file in names if has_scores(names[file])
    ]
    notes += [
        f"{file.relative_to(path)}: no column {', '.join(absent[file])}"
        for file in names
        if file not in files
    ]
    if files:
        return files, notes
    if not tables:
        raise InputError(
            f"folder {path} holds no .parquet or .csv file; give a folder with predictions: tables with "
            f"{', '.join(NEEDED)}"
        )
    raise InputError(
        f"none of the {len(tables)} tables in folder {path} holds predictions, which have the columns "
        f"{', '.join(NEEDED)} ({'; '.join(notes[:3])}{'; …' if len(notes) > 3 else ''}); rename their "
        "columns or give another folder"
    )


def _is_beside_scores(file: Path) -> bool:
    """True if a table lies in a run's folder and is never a detector's scores, whatever it holds.

    What `explain` has drawn has a score a crop, and nearly all columns of predictions.
    """
    is_lost = file.name == LOST_FILE or file.name.endswith((f".{LOST_FILE}", ".made.parquet"))
    return is_lost or (file.parent / EXPLAINED).is_file()


def _part(
    file: Path, predictions: pd.DataFrame, root: Path, stated: Stated, cards: Mapping[str, dict[str, Any]]
) -> Scored:
    detector = only_value(predictions, "detector", file)
    checkpoint = only_value(predictions, "checkpoint", file)
    names = [*_names(file, root), *([detector] if detector else [])]
    card = cards.get(checkpoint, {})
    training = _training(card)
    values = {name: only_value(predictions, name, file) for name in STATED}
    source = _known_names(stated.of("source", names) or values["trained_on"], predictions)
    held_out = stated.of("held_out", names) or values["held_out"]
    training = Training(
        datasets=_split_names(source) or training.datasets,
        # A card speaks of the dataset that it names, and of no other.
        compression=training.compression if _split_names(source) in ((), training.datasets) else (),
        methods=training.methods if _split_names(source) in ((), training.datasets) else (),
        held_out=_split_names(held_out),
        selection_rule=stated.of("selection", names) or training.selection_rule,
    )
    name = detector or (file.stem if file.stem != "predictions" else file.resolve().parent.name)
    return Scored(name, detector or name, predictions, (_relative_name(file, root),), training, card)


def join_default_datasets(
    paths: Sequence[Path], tables: Sequence[pd.DataFrame], name: str, *, are_of_same_videos: bool = False
) -> list[pd.DataFrame]:
    """The tables as one dataset of that name, where each has none but the name of its file.

    Tables that are said to be of the same videos take the only dataset that others name.
    """
    is_default = [set(table["dataset"]) == {path.name} for path, table in zip(paths, tables, strict=True)]
    named = {
        one
        for table, default in zip(tables, is_default, strict=True)
        if not default
        for one in table["dataset"].unique()
    }
    if len(tables) < 2 or len(named) > are_of_same_videos:
        return list(tables)
    name = named.pop() if named else name
    return [table.assign(dataset=name) for table in tables]


def _known_names(source: str, predictions: pd.DataFrame) -> str:
    """The datasets trained on as the predictions call them: FF++ is FaceForensics++."""
    tested = set(predictions["dataset"].unique())
    called = {canonical_dataset(str(name)): str(name) for name in tested}
    names = [
        name if name in tested else called.get(canonical_dataset(name), name) for name in _split_names(source)
    ]
    return " + ".join(names)


def _names(file: Path, root: Path) -> list[str]:
    """What a file may be called by, the most exact first."""
    return [_relative_name(file, root), file.name, file.stem, file.resolve().parent.name]


def _relative_name(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if root.is_dir() else file.name


def _by_detector(parts: Sequence[Scored]) -> list[list[Scored]]:
    groups: dict[tuple[Any, ...], list[Scored]] = {}
    for part in parts:
        checkpoint = only_value(part.predictions, "checkpoint")
        states = checkpoint or only_value(part.predictions, "detector")
        key = (part.detector, checkpoint, part.training) if states else part.files
        groups.setdefault(key, []).append(part)
    return list(groups.values())


def _merge_parts(parts: Sequence[Scored]) -> Scored:
    first = parts[0]
    if len(parts) == 1:
        return first
    files = tuple(file for part in parts for file in part.files)
    every = pd.concat([part.predictions for part in parts], ignore_index=True)
    for position, part in enumerate(parts):
        others = pd.concat([other.predictions for other in (*parts[:position], *parts[position + 1 :])])
        shared = _crops(part.predictions) & _crops(others)
        if shared:
            raise InputError(
                f"{' and '.join(files)} are of one detector ({first.detector}) and both score "
                f"{'/'.join(sorted(shared)[0][:2])}; keep one of them, or name the detectors apart in a "
                "column detector"
            )
    return replace(first, predictions=every, files=files)


def _crops(predictions: pd.DataFrame) -> set[tuple[str, ...]]:
    """What tells the scored videos apart, conditions included."""
    keys = [name for name in ("compression", "perturbation", "severity") if name in predictions]
    distinct = predictions[["dataset", "video", *keys]].drop_duplicates().astype(str)
    return set(distinct.itertuples(index=False, name=None))


def _name_distinctly(found: Sequence[Scored]) -> list[Scored]:
    names = [scored.name for scored in found]
    result = []
    for scored in found:
        name = scored.name
        if names.count(name) > 1:
            folder = Path(scored.files[0]).parent.as_posix()
            name = f"{name} ({folder if folder != '.' else Path(scored.files[0]).stem})"
        result.append(replace(scored, name=name))
    return result


def _cards(path: Path, further: Path | None) -> dict[str, dict[str, Any]]:
    """The cards beside a file, or anywhere in a folder, by the hash of their weights."""
    # Around a single file only its own folder is looked at: it may be a home directory.
    files = sorted(path.rglob("*.json")) if path.is_dir() else sorted(path.parent.glob("*.json"))
    if further is not None:
        files.append(further / "detector.json")
    cards = {}
    for file in files:
        if not file.is_file() or file.stat().st_size > MAX_CARD_BYTES:
            continue
        try:
            card = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # not every JSON file is ours
        if not isinstance(card, dict) or not {"sha256", "architecture"} <= set(card):
            continue
        try:
            cards[str(card["sha256"])] = check_card(card, file)
        except InputError as error:
            logger.warning("%s; it is not used", error)
    return cards


def _training(card: Mapping[str, Any]) -> Training:
    data = card.get("training_data") or {}
    methods = (data.get("train") or {}).get("videos_by_method") or {}
    return Training(
        datasets=tuple(data.get("datasets") or ()),
        compression=tuple(data.get("compression") or ()),
        methods=tuple(sorted(name for name in methods if name != "real")),
        selection_rule=(card.get("selection") or {}).get("rule") or NOT_STATED,
    )


def only_value(predictions: pd.DataFrame, name: str, file: Path | None = None) -> str:
    """The one value of a column, "" where there is none.

    Raises:
        InputError: there are several.
    """
    found = sorted(predictions[name].dropna().astype(str).unique()) if name in predictions else []
    if len(found) > 1:
        where = f"predictions table {file}" if file else "the predictions table"
        raise InputError(
            f"{where} has {len(found)} values in the column {name!r} ({', '.join(found[:5])}); keep the rows "
            f"of one, and write those of another {name} to a file of their own in the same folder"
        )
    return found[0] if found else ""


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(part for name in text.split(" + ") if (part := name.strip()))
