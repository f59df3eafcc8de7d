"""What is fitted on the source's calibration split and stored with the detector.

Thresholds, score calibrations, the uncertain band and the likelihood ratio: fitted once, stored in
``thresholds.json`` and in the checkpoint's card under the same keys, and applied to every other dataset as
they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from unmasked.datasets.documents import read_json, write_json
from unmasked.datasets.errors import InputError
from unmasked.evaluation.abstention import Band, fit_band
from unmasked.evaluation.calibration import KINDS, Calibration, fit_calibration
from unmasked.evaluation.levels import check_one_detector
from unmasked.evaluation.likelihood import LikelihoodRatio, fit_likelihood
from unmasked.evaluation.metrics import Aggregation, video_scores
from unmasked.evaluation.origin import Origin
from unmasked.evaluation.predictions import is_perturbed, validate_predictions
from unmasked.evaluation.thresholds import RULES, Threshold, fit


@dataclass(frozen=True)
class Fitted:
    """The operating point first, then what else was fitted on the same rows."""

    threshold: Threshold
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)  # by rule, the operating point too
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)  # by kind
    band: Band | None = None
    likelihood: LikelihoodRatio | None = None

    @property
    def other_thresholds(self) -> dict[str, Threshold]:
        """The thresholds but for the operating point."""
        return {rule: point for rule, point in self.thresholds.items() if point != self.threshold}

    def to_dict(self) -> dict[str, Any]:
        """Everything by the name that a card has it under, ready for JSON."""
        return {
            "threshold": self.threshold.to_dict(),
            "thresholds": {rule: point.to_dict() for rule, point in self.thresholds.items()},
            "calibrations": {kind: asdict(one) for kind, one in self.calibrations.items()},
            "abstention": asdict(self.band) if self.band is not None else None,
            "likelihood": asdict(self.likelihood) if self.likelihood is not None else None,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Fitted:
        """What `to_dict` gave, also among the other entries of a card.

        Raises:
            InputError: there is no ``threshold``, or something stored is not what it should be.
        """
        if not isinstance(fields.get("threshold"), Mapping):
            raise InputError(
                'no threshold is stored: give a file with at least {"threshold": {"value": 0.5}}, such as '
                "the thresholds.json that `unmasked evaluate` wrote"
            )
        band, likelihood = fields.get("abstention"), fields.get("likelihood")
        by_rule, by_kind = (fields.get(name) or {} for name in ("thresholds", "calibrations"))
        if not isinstance(by_rule, Mapping) or not isinstance(by_kind, Mapping):
            raise InputError("thresholds and calibrations are stored by name, and here they have none")
        return cls(
            Threshold.from_dict(fields["threshold"]),
            {rule: Threshold.from_dict(point) for rule, point in by_rule.items()},
            {kind: Calibration.from_dict(one) for kind, one in by_kind.items()},
            Band.from_dict(band) if band else None,
            LikelihoodRatio.from_dict(likelihood) if likelihood else None,
        )


def fit_on_source(
    predictions: pd.DataFrame,
    rules: Sequence[str] = RULES,
    *,
    dataset: str | None = None,
    split: str = "val",
    aggregation: Aggregation = "mean",
) -> Fitted:
    """Thresholds, calibrations and band of a detector, from the source's calibration videos.

    Args:
        predictions: a predictions table with a split column.
        rules: of the thresholds, the operating point first; see `thresholds.fit`.
        dataset: the source; may be left out where only one dataset has rows of the split.
        split: the calibration split; never the one that is reported.
        aggregation: how frame scores become a video score.

    Raises:
        InputError: no rule, no such rows, several datasets to choose from, or a class that a rule needs is
            absent. Calibrations, band and likelihood ratio are left out where the split has one class only.
    """
    if not rules:
        raise InputError("no rule is given for the operating point; give at least one, such as eer")
    rows, words = calibration_rows(predictions, dataset, split)
    videos = video_scores(rows, aggregation)
    label, score = videos["label"].to_numpy(), videos["score"].to_numpy()
    thresholds = {rule: fit(label, score, rule, fitted_on=words) for rule in rules}
    first = thresholds[rules[0]]
    if len(set(label)) < 2:
        return Fitted(first, thresholds)
    calibrations = {kind: fit_calibration(label, score, kind, fitted_on=words) for kind in KINDS}
    band = fit_band(label, score, first.value, fitted_on=words)
    likelihood = fit_likelihood(label, score, fitted_on=words)
    return Fitted(first, thresholds, calibrations, band, likelihood)


def calibration_rows(
    predictions: pd.DataFrame, dataset: str | None = None, split: str = "val"
) -> tuple[pd.DataFrame, str]:
    """Unperturbed rows of the source's calibration split, and in words which they are.

    Raises:
        InputError: there are none, or there are several datasets to choose from, or several detectors.
    """
    rows = validate_predictions(predictions)
    marked = rows[rows["split"] == split] if "split" in rows else rows.iloc[:0]
    marked = marked[~is_perturbed(marked)]
    found = sorted(marked["dataset"].unique())
    if dataset is None and len(found) == 1:
        dataset = found[0]
    if dataset not in found:
        given = f"dataset {dataset!r}" if dataset else "no source dataset is named; it"
        raise InputError(
            f"a threshold is fitted on rows of the {split!r} split, which {', '.join(found) or 'no dataset'} "
            f"has; {given} was given. Name one of these as the source, predict the source's {split!r} split "
            "as well, or give a stored threshold"
        )
    marked = marked[marked["dataset"] == dataset]
    check_one_detector(marked)
    return marked, f"{dataset}, {split} split"


def read_fitted(path: str | os.PathLike[str], predictions: pd.DataFrame | None = None) -> Fitted:
    """What is stored in a ``thresholds.json``, or in a checkpoint's card (``detector.json``).

    Args:
        path: of the file.
        predictions: what the thresholds are to be applied to.

    Raises:
        InputError: the file is absent, is not JSON, holds no threshold, or says that it is of other weights
            than the predictions.
    """
    advice = "give the thresholds.json that `unmasked evaluate` wrote, or a card that holds one"
    fields = read_json(path, advice, what="thresholds file")
    _check_weights(path, fields, predictions)
    try:
        return Fitted.from_dict(fields)
    except ValueError as error:
        raise InputError(f"thresholds file {path} cannot be used ({error}); {advice}") from error


def threshold_beside(folder: Path, predictions: pd.DataFrame, *, is_own: bool = False) -> Threshold | None:
    """The operating point in a folder's ``thresholds.json``; None if it is of other scores.

    Args:
        folder: of the predictions.
        predictions: what the threshold is to be applied to.
        is_own: take one that does not say of which scores it is, as nothing else lies in the folder.
    """
    path = folder / "thresholds.json"
    stored = read_json(path, "write it again, or move it away") if path.is_file() else {}
    made_from = stored.get("made_from")
    if made_from and Origin.of(predictions).difference(Origin.from_dict(made_from)):
        return None
    if not stored.get("threshold") or not (made_from or is_own):
        return None
    return Threshold.from_dict(stored["threshold"])


def _check_weights(
    path: str | os.PathLike[str], fields: Mapping[str, Any], predictions: pd.DataFrame | None
) -> None:
    made_from = Origin.from_dict(fields.get("made_from"))
    whose = made_from.checkpoint or fields.get("sha256")
    found = [] if predictions is None or "checkpoint" not in predictions else predictions["checkpoint"]
    others = sorted({str(one) for one in found if isinstance(one, str) and one != whose})
    if whose and others:
        raise InputError(
            f"thresholds file {path} is of the weights {str(whose)[:12]}…, the scores of {others[0][:12]}…; "
            "thresholds are applied only to scores of the weights that they were fitted for: predict with "
            "these weights, or give their own thresholds"
        )


def store_in_card(fitted: Fitted, card: str | os.PathLike[str], predictions: pd.DataFrame) -> None:
    """Writes what was fitted into a checkpoint's card, beside its other entries.

    Args:
        fitted: from the predictions.
        card: the ``detector.json`` beside the weights; its ``sha256`` is theirs.
        predictions: their ``checkpoint`` column says which weights made the scores.

    Raises:
        InputError: the card is absent or no card, or the scores are of other weights.
    """
    path = Path(card)
    advice = "give the detector.json that training wrote beside the weights"
    entries = read_json(path, advice, what="card")
    if "sha256" not in entries:
        raise InputError(f"card {path} does not say of which weights it is (sha256); {advice}")
    digest = entries["sha256"]
    made_by = set(predictions["checkpoint"].dropna()) if "checkpoint" in predictions else set()
    if made_by != {digest}:
        whose = ", ".join(f"{name[:12]}…" for name in sorted(map(str, made_by))) or "unknown weights"
        raise InputError(
            f"the scores are of {whose}, the card {path} of {str(digest)[:12]}…; thresholds are stored only "
            "with the weights that they were fitted for: predict with this checkpoint, then evaluate"
        )
    write_json(path, {**entries, **fitted.to_dict()})
