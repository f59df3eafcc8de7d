"""What verbs that take scores made elsewhere share: keys that say how the file is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unmasked.app.verbs.scan import AgeGroups, print_readings

if TYPE_CHECKING:
    import pandas as pd

    from unmasked.datasets.vocabulary import Reading


class ReadAs(BaseModel):
    """How a table of scores is read where its own words do not say it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, str] | None = Field(
        None, description="the file's own names of columns, as columns={video: file, score: p}"
    )
    one_means: Literal["fake", "real"] | None = Field(
        None, description="what the label 1 means, where paths or words contradict it"
    )
    score_as: Literal["auto", "share", "percent"] = Field(
        "auto", description="whether scores are shares of 1 or percent"
    )
    score_of: Literal["fake", "real"] | None = Field(
        None, description="whether a score is P(fake), or P(real), which is turned round"
    )
    age_groups: AgeGroups = ()


class Beside(BaseModel):
    """Results lie beside the predictions that they are made of, unless `out` is given."""

    @model_validator(mode="before")
    @classmethod
    def _place_results(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("out") is not None:
            return values
        if not isinstance(given := values.get("predictions"), (str, Path)):
            return values
        return values | {"out": Path(given) if Path(given).is_dir() else Path(given).parent}


def read_scores(config: ReadAs, path: Path) -> pd.DataFrame:
    """The predictions in a file, read as the keys say; prints what was taken for granted."""
    from unmasked.evaluation.predictions import read_predictions

    readings: list[Reading] = []
    told = {} if config.score_as == "auto" else {"score_as": config.score_as}
    predictions = read_predictions(
        path,
        readings,
        columns=config.columns,
        one_means=config.one_means,
        score_of=config.score_of,
        age_groups=config.age_groups,
        **told,
    )
    print_readings(readings)
    return predictions
