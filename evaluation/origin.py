"""What numbers were computed from: which weights, which scores.

Every file of results carries it, and whoever puts two of them on one page compares: `Origin.difference`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import column_names, rows_digest
from unmasked.evaluation.predictions import FACES_TABLE, evaluated_rows
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.provenance import FACES_DIGEST, changes_since, faces_digests

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Origin:
    """The weights and the scores behind some results; what is not known is empty.

    Attributes:
        checkpoint: SHA-256 of the weights.
        scores: of each dataset, `scores_digest` of its evaluated rows.
    """

    checkpoint: str = ""
    scores: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, predictions: pd.DataFrame) -> Origin:
        """The origin of whatever is computed from a predictions table of one detector."""
        return cls.of_rows(evaluated_rows(predictions))

    @classmethod
    def of_rows(cls, rows: pd.DataFrame) -> Origin:
        """The origin of numbers of these very rows."""
        made_by = rows["checkpoint"].dropna().unique() if "checkpoint" in rows else []
        digests = {
            str(name): scores_digest(part) for name, part in rows.groupby("dataset", sort=True, observed=True)
        }
        return cls(str(made_by[0]) if len(made_by) == 1 else "", digests)

    @classmethod
    def from_dict(cls, fields: object) -> Origin:
        """What `to_dict` gave, also among other entries; whatever else stands there is not known."""
        fields = fields if isinstance(fields, Mapping) else {}
        checkpoint, scores = fields.get("checkpoint"), fields.get("scores")
        is_known = isinstance(checkpoint, str) and checkpoint != NOT_STATED
        known = scores.items() if isinstance(scores, Mapping) else ()
        digests = {name: digest for name, digest in known if isinstance(digest, str) and digest}
        return cls(str(checkpoint) if is_known else "", digests)

    def to_dict(self) -> dict[str, Any]:
        """``{"checkpoint", "scores"}``, ready for JSON."""
        return {"checkpoint": self.checkpoint or NOT_STATED, "scores": dict(self.scores)}

    def difference(self, other: Origin) -> str:
        """Why results of the other do not belong beside these, in words; "" if they do.

        >>> Origin("1" * 64).difference(Origin("2" * 64))
        'it is of the weights 22222222…, not of 11111111…'
        """
        if self.checkpoint and other.checkpoint and self.checkpoint != other.checkpoint:
            return f"it is of the weights {other.checkpoint[:8]}…, not of {self.checkpoint[:8]}…"
        shared = [name for name in self.scores if name in other.scores]
        if changed := [name for name in shared if self.scores[name] != other.scores[name]]:
            return f"it is of other scores of {', '.join(changed)}"
        if shared or (self.checkpoint and other.checkpoint):
            return ""
        return "it does not say of which weights and scores it is"


def scores_digest(rows: pd.DataFrame) -> str:
    """Hex SHA-256 of the labels and scores of a dataset's rows, in whatever order.

    Columns of groups are left out: scores with and without annotations are the same scores.
    """
    return rows_digest(rows, text=("video", "compression"), numbers=("frame", "face", "label", "score"))


def place_of_faces(faces: Path, out: Path) -> str:
    """Where a faces table lies, seen from the folder of the predictions ``out``."""
    return Path(os.path.relpath(faces.resolve(), out.resolve().parent)).as_posix()


def faces_changes(path: Path, predictions: pd.DataFrame, faces: Path | None = None) -> str:
    """What has changed in the faces table since it was scored; "" if nothing known.

    Args:
        path: of the predictions.
        predictions: what it holds.
        faces: the faces table; None takes the one that the predictions name, if it is still there.

    Raises:
        InputError: ``faces`` cannot be read.
    """
    table = faces or _named_faces(path, predictions)
    if table is None or FACES_DIGEST not in predictions:
        return ""
    now = FACES.read(table)
    found = changes_since(predictions, FACES_DIGEST, now, faces_digests(now))
    return found and (
        f"the scores in {path} are of crops that {table} no longer holds: {found}; run `unmasked predict` "
        "again"
    )


def _named_faces(path: Path, predictions: pd.DataFrame) -> Path | None:
    """The faces table that predictions name, if it is one: a stranger's table may name anything."""
    named = predictions[FACES_TABLE].dropna().unique() if FACES_TABLE in predictions else []
    if len(named) != 1 or Path(named[0]).is_absolute() or "\0" in named[0]:
        return None
    try:
        table = path.parent / named[0]
        return table if {"status", "crop", "frame"} <= {*column_names(table)} else None
    except (InputError, OSError):
        return None
