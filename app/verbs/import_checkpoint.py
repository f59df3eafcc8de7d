"""``unmasked import-checkpoint``: published UCF weights (.pth) -> detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.scan import as_list


class Config(BaseModel):
    """Which file to read, and what it does not say about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path = Field(description="a .pth file in the layout of ucf_best.pth; no code in it is ever run")
    out: Path = Field(Path("runs/imported"), description="folder for detector.safetensors and detector.json")
    classes: Annotated[tuple[str, ...], BeforeValidator(as_list)] = Field(
        (), description="names of the method classes, real first; for five, those of FaceForensics++"
    )
    size_px: int = Field(256, ge=64, le=1024, description="side of the images that it was trained on")
    licence: str = Field("", description="of the weights; non-commercial, as the published ones are")


def run(config: Config) -> None:
    """Prints key by key what does not fit; if everything does, writes weights and card."""
    from unmasked.training.checkpoint import misfits, save
    from unmasked.ucf.published import (
        LICENCE,
        empty_model,
        named_classes,
        published_card,
        published_model,
        read_state_dict,
    )

    weights = read_state_dict(config.file)
    for misfit in misfits(empty_model(weights).state_dict(), weights):
        print_result(f"  {misfit}")
    model = published_model(weights, str(config.file))
    classes = named_classes(config.classes, model.method_classes)
    licence = config.licence or LICENCE
    card = published_card(config.file, classes, size_px=config.size_px, licence=licence)
    path = save(model, config.out, card)
    print_result(f"all {len(weights)} weights fit a UCF of width {model.width:g}")
    print_result(f"method classes: {', '.join(classes)}")
    print_result(f"licence: {licence}")
    print_result(f"detector written to {path}")
