"""What a detector's card may say, checked where it is read: whoever wrote or damaged it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unmasked.datasets.errors import InputError


class _Stated(BaseModel):
    """Entries that are read; any other stands beside them unread, and any may be absent."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Split(_Stated):
    videos_by_method: dict[str, int] | None = None


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
    detector: str | None = None
    size_px: int | None = Field(None, ge=1, le=8192)
    width: float | None = Field(None, gt=0, allow_inf_nan=False)
    method_classes: list[str] | None = None
    licence: str | None = None
    training_data: _TrainingData | None = None
    selection: _Selection | None = None


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
