"""What a detector's card may say, checked where it is read: whoever wrote or damaged it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unmasked.datasets.errors import InputError
from unmasked.datasets.vocabulary import canonical_dataset

if TYPE_CHECKING:
    import pandas as pd

_COMPRESSION = re.compile(r"c\d+|raw")


class _Stated(BaseModel):
    """Entries that are read; any other stands beside them unread, and any may be absent."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Split(_Stated):
    videos_by_method: dict[str, int] | None = None
    video_digests: list[str] | None = None
    identity_digests: list[str] | None = None
    frames_of_digests: list[str] | None = None  # of videos that pictures look like frames of, by their names


class _TrainingData(_Stated):
    datasets: list[str] | None = None
    compression: list[str] | None = None
    recipe: list[str] | None = None
    train: _Split | None = None
    val: _Split | None = None


class _Selection(_Stated):
    rule: str | None = None


class _Card(_Stated):
    sha256: str | None = None  # of the weights: a card without it describes nothing
    architecture: str | None = None
    detector: str = ""
    size_px: int | None = Field(None, ge=1, le=8192)
    width: float | None = Field(None, gt=0, allow_inf_nan=False)
    method_classes: list[str] | None = None
    licence: str | None = None
    training_data: _TrainingData | None = None
    crops: dict[str, Any] | None = None  # the recipe of those that it learned from
    selection: _Selection | None = None


def card_path(path: Path) -> Path:
    """Where a checkpoint's card is, given the card, the file of weights or their folder."""
    return path / "detector.json" if path.is_dir() or not path.suffix else path.with_suffix(".json")


def absent_checkpoint(path: Path) -> str:
    """What to give in place of a checkpoint that is not there: what lies in its folder."""
    folder = path if path.is_dir() or not path.suffix else path.parent
    found = sorted(file.name for file in folder.glob("detector.*") if file.suffix != ".json")
    if found:
        return f"{folder} holds {', '.join(found)}: give that with its detector.json beside it, or the folder"
    return "give the folder that `unmasked train` wrote, or the detector.safetensors or detector.skops in it"


def check_card(card: Mapping[str, Any], file: object) -> dict[str, Any]:
    """The card, if every entry that is read has the type that it must have.

    Raises:
        InputError: one has not; it says which, and of which file.
    """
    try:
        _Card.model_validate(card)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"card {file} is damaged ({where}: {first['msg']}); copy the one that training wrote"
        ) from error
    return dict(card)


def name_digests(rows: pd.DataFrame, what: Literal["video", "identity"]) -> set[str]:
    """Short SHA-256 of the names of videos or people, each within its dataset.

    A compression in a video's path is left out: the same video at another one has the same digest.

    Args:
        rows: with dataset and the column ``what``; missing names have no digest.
        what: the column.
    """
    if what not in rows:
        return set()
    known = rows.loc[rows[what].notna(), ["dataset", what]].drop_duplicates()
    return {
        hashlib.sha256(f"{canonical_dataset(str(dataset))}\n{_plain_name(str(name))}".encode()).hexdigest()[
            :12
        ]
        for dataset, name in known.itertuples(index=False, name=None)
    }


def _plain_name(name: str) -> str:
    return "/".join(part for part in name.split("/") if not _COMPRESSION.fullmatch(part))
