"""What a run's folder holds, read once: metrics, predictions, audit and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from unmasked.analysis.explain.explanation import Explanation, read_explanation
from unmasked.datasets.documents import parse_json, read_json, read_record, restore_nan
from unmasked.datasets.errors import InputError
from unmasked.evaluation.predictions import read_predictions
from unmasked.evaluation.published import Published, read_published
from unmasked.evaluation.records import CollectionResults, Results, Robustness, StoredThreshold
from unmasked.fairness import records as fairness
from unmasked.fairness.records import FairnessResults

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

    @property
    def source(self) -> str | None:
        """The dataset that the detector was trained on, if the metrics name it and it was tested."""
        source = self.metrics["settings"].get("source")
        return source if source in self.metrics["datasets"] else None

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


def read_run(folder: Path, *, predictions: Path | None = None, truth: Path | None = None) -> Run:
    """Everything that a report needs from a run's folder.

    Args:
        folder: with at least ``metrics.json``.
        predictions: the predictions table, if it is not the folder's own ``predictions.parquet``.
        truth: ``truth.json`` of a synthetic corpus, if it is not in the folder.

    Raises:
        InputError: the folder or its metrics.json is absent, or a file in it is damaged.
    """
    metrics = read_record(_find(folder), TypeAdapter(Results), AGAIN)
    if truth is not None and not truth.is_file():
        raise InputError(
            f"truth {truth} does not exist; give the truth.json of the synthetic corpus, or leave it out"
        )
    table = predictions or folder / "predictions.parquet"
    lines = folder / "metrics.jsonl"
    return Run(
        folder=folder,
        metrics=metrics,
        published=read_published(folder),
        predictions=read_predictions(table) if predictions or table.is_file() else None,
        thresholds=restore_nan(_json(folder / "thresholds.json") or {}).get("thresholds", {}),
        records=[parse_json(line, lines, ADVICE) for line in _text(lines).splitlines() if line.strip()],
        fairness=fairness.read(audit) if (audit := folder / fairness.FILE).is_file() else None,
        explanation=read_explanation(folder),
        card=_json(folder / "detector.json") or {},
        config=_text(folder / "config.yaml"),
        environment=_json(folder / "environment.json") or {},
        truth=_json(truth or folder / "truth.json"),
    )


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
            f"run folder {folder} has no metrics.json; run `unmasked evaluate … out={folder}` first"
        )
    return path


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _json(path: Path) -> dict[str, Any] | None:
    return read_json(path, ADVICE) if path.is_file() else None
