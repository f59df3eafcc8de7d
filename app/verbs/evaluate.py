"""``unmasked evaluate``: predictions -> metrics with intervals, cross-dataset matrix, thresholds."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result


class Config(BaseModel):
    """Which predictions are evaluated, and at which threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions: Path = Field(description="a .parquet or .csv with dataset, video, label (1 = fake), score = P(fake)")
    out: Path = Field(Path("runs/ucf"), description="folder for metrics.json, metrics.md and thresholds.json")
    source: str = Field("", description="the dataset that the detector was trained on")
    rule: str = Field("eer", description="how the threshold is fitted on the source's val rows: eer, youden, fpr:0.05")
    thresholds: Path | None = Field(None, description="a stored thresholds.json to apply instead of fitting one")
    n_boot: int = Field(2000, ge=0, description="bootstrap resamples behind each interval")
    seed: int = Field(0, description="seed of the resampling")


def run(config: Config) -> None:
    """Evaluates every dataset in the table and prints the matrix."""
    from unmasked.evaluation.evaluate import evaluate, fit_threshold, markdown_table
    from unmasked.evaluation.predictions import read_predictions
    from unmasked.datasets.files import write_json, write_text
    from unmasked.evaluation.thresholds import Threshold

    predictions = read_predictions(config.predictions)
