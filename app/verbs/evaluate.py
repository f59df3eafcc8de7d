"""``unmasked evaluate``: predictions -> metrics with intervals, cross-dataset matrix, thresholds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.scan import Names

if TYPE_CHECKING:
    import pandas as pd

    from unmasked.evaluation.thresholds import Threshold


class Config(BaseModel):
    """Which predictions are evaluated, and at which threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions: Path = Field(
        description="a .parquet or .csv with dataset, video, label (1 = fake), score = P(fake)"
    )
    out: Path = Field(Path("runs/ucf"), description="folder for metrics.json, metrics.md and thresholds.json")
    source: str = Field("", description="the dataset that the detector was trained on, if any of the table's")
    rules: Names = Field(
        ("eer", "fpr:0.10"),
        description="thresholds fitted on the source's val rows, the first for tables: eer, youden, fpr:x",
    )
    thresholds: Path | None = Field(None, description="a stored thresholds.json to apply instead of fitting")
    n_boot: int = Field(2000, ge=0, description="bootstrap resamples behind each interval")
    seed: int = Field(0, ge=0, description="seed of the resampling")


def run(config: Config) -> None:
    """Evaluates every dataset in the table, writes the results and prints the matrix."""
    from unmasked.datasets.files import write_json, write_text
    from unmasked.evaluation.evaluate import evaluate, markdown_table
    from unmasked.evaluation.predictions import read_predictions

    predictions = read_predictions(config.predictions)
    thresholds = _thresholds(config, predictions)
    first, others = (thresholds[0], thresholds[1:]) if thresholds else (None, [])
    results = evaluate(
        predictions,
        threshold=first,
        thresholds={threshold.rule: threshold for threshold in others},
        n_boot=config.n_boot,
        seed=config.seed,
        source=config.source or None,
        selection_rule=_selection_rule(config.out, predictions),
    )
    table = markdown_table(results)
    write_json(config.out / "metrics.json", results)
    write_text(config.out / "metrics.md", table)
    if first is not None:
        fitted = {threshold.rule: threshold.to_dict() for threshold in thresholds}
        write_json(config.out / "thresholds.json", {"threshold": first.to_dict(), "thresholds": fitted})
    _print_matrix(results)
    print_result(
        f"all metrics with intervals: {config.out / 'metrics.json'}; as a table: {config.out / 'metrics.md'}"
    )


def stored_threshold(path: Path) -> Threshold:
    """The threshold in a ``thresholds.json``.

    Raises:
        InputError: the file is absent or holds no threshold.
    """
    import json

    from unmasked.datasets.errors import InputError
    from unmasked.evaluation.thresholds import Threshold

    try:
        return Threshold.from_dict(json.loads(path.read_text(encoding="utf-8"))["threshold"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"thresholds file {path} cannot be used ({type(error).__name__}: {error}); "
            "give the thresholds.json that `unmasked evaluate` wrote"
        ) from error


def _thresholds(config: Config, predictions: pd.DataFrame) -> list[Threshold]:
    """The stored threshold, else those fitted on the source's validation rows, else none: 0.5 is used."""
    from unmasked.evaluation.evaluate import fit_threshold

    if config.thresholds is not None:
        return [stored_threshold(config.thresholds)]
    has_val = "split" in predictions and (predictions["split"] == "val").any()
    if not (config.source and has_val):
        return []
    return [fit_threshold(predictions, rule, dataset=config.source) for rule in config.rules or ()]


def _selection_rule(out: Path, predictions: pd.DataFrame) -> str | None:
    """How the checkpoint was chosen, where the card in ``out`` is of the weights that made the scores."""
    import json

    card = out / "detector.json"
    if not card.is_file() or "checkpoint" not in predictions:
        return None
    stated = json.loads(card.read_text(encoding="utf-8"))
    if set(predictions["checkpoint"].dropna()) != {stated.get("sha256")}:
        return None
    return stated.get("selection", {}).get("rule")


def _print_matrix(results: dict[str, Any]) -> None:
    print_result("video AUC with 95 % interval:")
    width = max(len(row["test"]) for row in results["matrix"])
    for row in results["matrix"]:
        low, high = row["ci"]
        n = results["datasets"][row["test"]]["n"]
        interval = "" if math.isnan(low) else f"[{low:.3f}, {high:.3f}]"
        value = "undefined" if math.isnan(row["auc"]) else f"{row['auc']:.3f} {interval}"
        print_result(
            f"  {row['test']:<{width}}  {value:<20} "
            f"({n['real_videos']} real and {n['fake_videos']} fake videos)"
        )
