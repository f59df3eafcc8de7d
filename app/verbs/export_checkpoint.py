"""``unmasked export-checkpoint``: detector -> .pth file in the layout of the published UCF weights."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result


class Config(BaseModel):
    """Which detector, and where to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: Path = Field(
        description="what `unmasked train` wrote: a .safetensors file with its .json beside it"
    )
    out: Path = Field(Path("ucf.pth"), description="the .pth file: a flat state dict of tensors")


def run(config: Config) -> None:
    """Writes the file, and says what other tools must know to use it."""
    from unmasked.training.checkpoint import load
    from unmasked.ucf.published import write_published

    model, card = load(config.checkpoint)
    path = write_published(model, config.out)
    print_result(
        f"{len(model.state_dict())} weights written to {path}: width {card['width']:g}, "
        f"{card['size_px']} px, images in [-1, 1], method classes {', '.join(card['method_classes'])}"
    )
    print_result(f"licence: {card['licence']}")
