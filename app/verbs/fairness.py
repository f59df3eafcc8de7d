"""``unmasked fairness``: predictions -> error rates by group, with tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.scan import as_list


class Config(BaseModel):
    """Whose error rates are compared, at which threshold, and how surely."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions: Path = Field(
        description="a .parquet or .csv with dataset, video, label, score and group columns"
    )
    by: Annotated[tuple[str, ...], BeforeValidator(as_list)] = Field(
        description="attributes, alone or crossed: [gender,skin_tone_group,'gender × skin_tone_group']"
    )
    out: Path = Field(
        Path("runs/ucf"), description="folder for fairness.json, by_group.csv and fairness.html"
    )
    threshold: float = Field(0.5, ge=0, le=1, description="a score above it is called fake")
    thresholds: Path | None = Field(None, description="a stored thresholds.json; wins over `threshold`")
    level: Literal["video", "frame"] = Field(
        "video", description="what is counted: videos by mean score, or frames"
    )
    n_boot: int = Field(2000, ge=100, description="bootstrap resamples behind each interval")
    n_perm: int = Field(2000, ge=100, description="permutations behind each p-value")
    margin: float = Field(0.03, gt=0, lt=1, description="gaps surely below it are called equivalent")
    min_clusters: int = Field(
        10, ge=1, description="people (or videos) of a class that a group needs to be compared"
    )
    min_samples: int | None = Field(
        None, ge=1, description="frames of a class that a group needs; 100, or 1 where each video has one row"
    )
    seed: int = Field(0, ge=0, description="seed of resampling and permutation")


def run(config: Config) -> None:
    """Audits every dataset that can be audited, writes the results and prints the verdicts."""
    from unmasked.app.verbs.evaluate import stored_threshold
    from unmasked.evaluation.predictions import read_predictions
    from unmasked.fairness.run import audit_datasets, write

    predictions = read_predictions(config.predictions)
    optional = {} if config.min_samples is None else {"min_samples": config.min_samples}
    audits, skipped = audit_datasets(
        predictions,
        config.by,
        thresholds=config.threshold
        if config.thresholds is None
        else stored_threshold(config.thresholds).value,
        level=config.level,
        n_boot=config.n_boot,
        n_perm=config.n_perm,
        margin=config.margin,
        min_clusters=config.min_clusters,
        random_state=config.seed,
        **optional,
    )
    page = write(audits, skipped, config.out)
    for name, audit in audits.items():
        print_result(f"{name}:")
        for sentence in audit.verdicts:
            print_result(f"  {sentence}")
    for name, reason in skipped.items():
        print_result(f"not audited: {name}: {reason}")
    print_result(f"fairness report: {page}")
