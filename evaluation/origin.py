"""What numbers were computed from: which weights, which scores.

Every file of results carries it, and whoever puts two of them on one page compares: `Origin.difference`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from unmasked.datasets.tables import rows_digest
from unmasked.evaluation.predictions import evaluated_rows

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
        return cls.of_rows(evaluated_rows(predictions)[0])

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
