"""A detector without gradients, fitted in one go and judged on the split that selects."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_text
from unmasked.evaluation.predict import predict
from unmasked.preprocessing.parts import card_of_crops
from unmasked.training.callbacks import selection_of
from unmasked.training.checkpoint import read_fitted, save_fitted
from unmasked.training.config import DetectorConfig
from unmasked.training.handle import Detector
from unmasked.training.module import validation_metrics
from unmasked.training.tables import training_tables
from unmasked.training.train import TrainResult, training_card


def fit(
    faces: pd.DataFrame, crops_root: Path, config: DetectorConfig, out: Path, *, detector: Detector
) -> TrainResult:
    """Fits a detector on the split train, scores val, and keeps its file with a card.

    Writes into ``out``: ``detector.json`` and ``detector`` with the suffix of the detector's own file, and
    ``metrics.jsonl``.

    Args:
        faces: see `preprocessing.faces`; rows of other splits and rows without a crop are left out.
        crops_root: folder that the crops' paths are relative to.
        config: how.
        out: the run's folder.
        detector: what is fitted.

    Raises:
        InputError: a split lacks crops, reals or fakes; a crop cannot be read; the detector's module breaks
            the contract.
    """
    tables = training_tables(faces, config)
    if check := detector.part("check"):
        check(tables.train, config)
    out.mkdir(parents=True, exist_ok=True)
    # In a folder of its own: what fails before it is judged leaves nothing that looks like a detector.
    working = Path(tempfile.mkdtemp(prefix=".fit-", dir=out))
    try:
        file = detector.module.fit(tables.train, Path(crops_root), config, working)
        if not isinstance(file, Path) or file.parent != working or not file.is_file():
            raise InputError(
                f"detector {detector.name}: fit returned {file!r}; it must write one file into the folder it "
                "is given, and return its path"
            )
        card = training_card(detector, tables, config, card_of_crops(tables.train, Path(crops_root)))
        scorer = read_fitted(detector, file, {**card, "architecture": detector.name})
        scored = predict(
            scorer, tables.val, Path(crops_root), size_px=config.model.size_px, detector=detector.title
        )
        record = {"epoch": 1, "step": 1, **validation_metrics(scored, "source")}
        selection = {
            **selection_of(record, "source"),
            "rule": "fitted once on the training split; nothing was selected",
        }
        path = save_fitted(detector, file, out, {**card, "selection": selection})
    finally:
        shutil.rmtree(working, ignore_errors=True)
    write_text(out / "metrics.jsonl", json.dumps(record) + "\n")
    return TrainResult(path, path, [record], selection)
