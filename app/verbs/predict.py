"""``unmasked predict``: checkpoint × faces -> predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import Reporter, print_result


class Config(BaseModel):
    """Which detector scores which faces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: Path = Field(
        description="what `unmasked train` wrote: a .safetensors file with its .json beside it"
    )
    faces: Path = Field(Path("faces/faces.parquet"), description="what `unmasked preprocess` wrote")
    out: Path = Field(Path("predictions.parquet"), description="the predictions, .parquet or .csv")
    splits: tuple[str, ...] = Field(("val", "test"), description="splits to score")
    batch_size: int = Field(64, ge=1, description="images at a time")
    device: str = Field("auto", description="auto, cpu, cuda, …")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 is several times as fast on hardware that has it; scores differ a little"
    )


def run(config: Config) -> None:
    """Scores the crops and writes the table."""
    from unmasked.datasets.errors import InputError
    from unmasked.evaluation.predict import predict
    from unmasked.evaluation.predictions import PREDICTIONS
    from unmasked.preprocessing.faces import FACES
    from unmasked.ucf.checkpoint import load

    model, card = load(config.checkpoint)
    faces = FACES.read(config.faces)
    chosen = faces[faces["split"].isin(config.splits)]
    if chosen.empty:
        found = ", ".join(sorted(faces["split"].unique()))
        raise InputError(
            f"splits {', '.join(config.splits)} have no rows in {config.faces}; it has {found}. "
            "Choose with splits=[…]"
        )
    with Reporter() as reporter:
        predictions = predict(
            model,
            chosen,
            config.faces.parent,
            size_px=card["size_px"],
            batch_size=config.batch_size,
            device=config.device,
            precision=config.precision,
            detector=card["detector"],
            checkpoint=card["sha256"],
            progress=reporter,
        )
    PREDICTIONS.write(predictions, config.out)
    print_result(f"{len(predictions)} scores written to {config.out}")
