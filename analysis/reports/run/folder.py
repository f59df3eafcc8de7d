"""What a run's folder holds, read once: metrics, predictions, audit and the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from unmasked.analysis.explain.explanation import Explanation, read_explanation
from unmasked.datasets.cards import check_card
from unmasked.datasets.documents import parse_json, read_json, read_record, restore_nan
from unmasked.datasets.errors import InputError
from unmasked.evaluation.origin import NOT_STATED, Origin
from unmasked.evaluation.predictions import read_predictions
from unmasked.evaluation.published import Published, read_published
from unmasked.evaluation.records import CollectionResults, Results, Robustness, StoredThreshold
from unmasked.fairness import records as fairness
from unmasked.fairness.records import FairnessResults

logger = logging.getLogger(__name__)

ADVICE = "run the command that wrote it again"
AGAIN = "run `unmasked evaluate` again"


@dataclass(frozen=True)
class Run:
    """A run's folder in memory; what is absent is None or empty.

    Attributes:
        folder: where it was read.
        metrics: what `evaluate` gave, NaN where it was undefined.
        published: what others report, to be shown beside it.
        predictions: the scores behind it.
        thresholds: each stored threshold under its rule, as ``thresholds.json`` has it.
        records: a dict for each validation during training.
        fairness: what ``fairness.json`` holds.
        explanation: Grad-CAM pictures and t-SNE.
        card: the detector's own description.
        config: the resolved configuration as text.
        environment: versions and machine.
        truth: how the corpus was made, if it is a synthetic one.
        left_out: what lies in the folder and is not shown, since it is not of the scores behind the
            metrics: the name of a file, and why, in words.
    """

    folder: Path
    metrics: Results
    published: list[Published]
    predictions: pd.DataFrame | None
    thresholds: dict[str, StoredThreshold]
    records: list[dict[str, Any]]
    fairness: FairnessResults | None
    explanation: Explanation | None
    card: dict[str, Any]
    config: str
    environment: dict[str, Any]
    truth: dict[str, Any] | None
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str | None:
        """The dataset that the detector was trained on, if the metrics name it and it was tested."""
        source = self.metrics["settings"].get("source")
        return source if source in self.metrics["datasets"] else None

    @property
    def is_ours(self) -> bool:
        """True if the scores are of our own `predict`, which cuts faces out; not made elsewhere."""
        return bool(self.card) or self.metrics["settings"].get("checkpoint", NOT_STATED) != NOT_STATED

    @property
    def is_held_out(self) -> bool:
        """True if only rows of a test split were evaluated."""
        notes = self.metrics["settings"].get("rows", [])
        return any(note.startswith("rows of the test split") for note in notes)

    @property
    def datasets(self) -> list[str]:
        """The tested datasets, the source first."""
        return [row["test"] for row in self.metrics["matrix"]]

    @property
    def robustness(self) -> list[Robustness]:
        """What perturbations did, a record for each dataset, perturbation and severity."""
        return self.metrics.get("robustness", [])

    @property
    def detector(self) -> str:
        """The detector's name, as the predictions give it, else its card."""
        name = self.metrics["settings"].get("detector")
        return name if name not in (None, "not stated") else self.card.get("detector", "The detector")


def read_run(folder: Path, *, predictions: pd.DataFrame | None = None, truth: Path | None = None) -> Run:
    """Everything that a report needs from a run's folder.

    Args:
        folder: with at least ``metrics.json``.
        predictions: the predictions, if they are not in the folder's own ``predictions.parquet``.
        truth: ``truth.json`` of a synthetic corpus, if it is not in the folder.

    Raises:
        InputError: the folder or its metrics.json is absent, a file in it is damaged, or the metrics are of
            other scores than the predictions.
    """
    metrics = read_record(_find(folder), TypeAdapter(Results), AGAIN)
    if truth is not None and not truth.is_file():
        raise InputError(
            f"truth {truth} does not exist; give the truth.json of the synthetic corpus, or leave it out"
        )
    table, scored = folder / "predictions.parquet", predictions
    if scored is None and table.is_file():
        scored = read_predictions(table)
    origin = Origin.from_dict(metrics["settings"])
    if scored is not None and (unlike := origin.difference(Origin.of(scored))):
        raise InputError(
            f"{folder / 'metrics.json'} was not computed from {table} as it is now ({unlike}); run "
            "`unmasked evaluate` again"
        )
    found, left_out = _beside(folder, origin)
    lines = folder / "metrics.jsonl"
    logged = [] if lines.name in left_out else _text(lines).splitlines()
    return Run(
        folder=folder,
        metrics=metrics,
        published=read_published(folder),
        predictions=scored,
        thresholds=restore_nan(found["thresholds.json"] or {}).get("thresholds", {}),
        records=[parse_json(line, lines, ADVICE) for line in logged if line.strip()],
        fairness=fairness.read(folder / fairness.FILE) if found[fairness.FILE] else None,
        explanation=read_explanation(folder) if found["explain/explain.json"] else None,
        card=check_card(found["detector.json"] or {}, folder / "detector.json"),
        config="" if "config.yaml" in left_out else _text(folder / "config.yaml"),
        environment=_json(folder / "environment.json") or {},
        truth=_json(truth or folder / "truth.json"),
        left_out=left_out,
    )


def _beside(folder: Path, origin: Origin) -> tuple[dict[str, dict[str, Any] | None], dict[str, str]]:
    """What lies beside the metrics and is of their weights and scores; what is not, and why not."""
    found: dict[str, dict[str, Any] | None] = {}
    left_out = {}
    for name, (origin_of, verb) in ORIGINS.items():
        found[name] = content = _json(folder / name)
        if content is not None and (unlike := origin.difference(origin_of(content))):
            found[name] = None
            left_out[name] = f"{unlike}; run `unmasked {verb}` again"
            logger.warning("%s is left out of the report: %s", folder / name, left_out[name])
    if "detector.json" in left_out:  # training wrote them with the card
        for name in ("metrics.jsonl", "config.yaml"):
            if (folder / name).is_file():
                left_out[name] = "it belongs to detector.json"
    return found, left_out


def origin_of_audits(content: Mapping[str, Any]) -> Origin:
    """Of which weights and scores the audits in a ``fairness.json`` are."""
    audits = content.get("datasets")
    settings = {
        name: audit.get("settings") or {}
        for name, audit in (audits.items() if isinstance(audits, Mapping) else ())
        if isinstance(audit, Mapping)
    }
    of = {audit.get("checkpoint") for audit in settings.values()}
    scores = {name: audit.get("scores") for name, audit in settings.items()}
    return Origin.from_dict({"checkpoint": of.pop() if len(of) == 1 else None, "scores": scores})


def _origin_of_weights(content: Mapping[str, Any]) -> Origin:
    """The weights that a checkpoint's card describes: one without a hash describes none."""
    return Origin.from_dict({"checkpoint": content.get("sha256")})


# What of it is whose, and the command that makes it again.
ORIGINS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Origin], str]] = {
    "fairness.json": (origin_of_audits, "fairness"),
    "thresholds.json": (lambda content: Origin.from_dict(content.get("made_from")), "evaluate"),
    "explain/explain.json": (lambda content: Origin.from_dict(content.get("made_from")), "explain"),
    "detector.json": (_origin_of_weights, "predict` with these weights, then `unmasked evaluate"),
}


def is_collection(folder: Path) -> bool:
    """True if a folder holds the results of several detectors, and not those of one run."""
    return "detectors" in read_json(_find(folder), AGAIN)


def read_collection(folder: Path) -> CollectionResults:
    """The ``metrics.json`` of a folder of several detectors' predictions.

    Raises:
        InputError: the folder or its metrics.json is absent, or the file is damaged.
    """
    return read_record(_find(folder), TypeAdapter(CollectionResults), AGAIN)


def _find(folder: Path) -> Path:
    path = folder / "metrics.json"
    if not folder.is_dir():
        raise InputError(
            f"run folder {folder} does not exist; give the folder that `unmasked evaluate` wrote to"
        )
    if not path.is_file():
        raise InputError(
            f"run folder {folder} has no metrics.json; run `unmasked evaluate … out={folder}` first. "
            "Files that nobody labelled have no report: the scores that `unmasked predict` wrote are all"
        )
    return path


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _json(path: Path) -> dict[str, Any] | None:
    return read_json(path, ADVICE) if path.is_file() else None
