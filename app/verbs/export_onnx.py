"""``unmasked export-onnx``: detector -> an ONNX file that takes pixels and gives scores."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.inputs import CHECKPOINT
from unmasked.app.progress import print_result


class Config(BaseModel):
    """Which detector, and where to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: Path = Field(description=CHECKPOINT)
    detector: str = Field(
        "", description="your own module or .py file, where the checkpoint is of one; ours are found by name"
    )
    out: Path | None = Field(None, description="the file; if not given, the architecture's name and .onnx")


def run(config: Config) -> None:
    """Writes the file, and says how close its scores are."""
    from unmasked.app.detectors import folder_name, load
    from unmasked.evaluation.onnx_file import write_onnx

    model, card = load(config.checkpoint, config.detector)
    path = config.out or Path(f"{folder_name(card['architecture'])}.onnx")
    compared = write_onnx(model, card, path)
    size = card["size_px"]
    print_result(
        f"{path}: images (N, 3, {size}, {size}) uint8 RGB -> score (N,), 1 = fake; scores of random images "
        f"differ from the network's, {compared.lowest:.2g} to {compared.highest:.2g}, by at most "
        f"{compared.difference:.1g}"
    )
    print_result(
        f"crops of another size: brought to {size} px by area averaging where they are larger (OpenCV's "
        "INTER_AREA), cubic where smaller (INTER_CUBIC); no other preparation"
    )
    print_result(f"licence: {card['licence']}")
