"""``unmasked export-checkpoint``: detector -> a flat file of weights, for other tools."""

from __future__ import annotations

import shutil
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
    out: Path | None = Field(
        None,
        description="the file, a flat state dict of tensors; if not given, the architecture's name and .pth",
    )


def run(config: Config) -> None:
    """Writes the file, and says what other tools must know to use it."""
    from torch import nn

    from unmasked.app.detectors import folder_name, load
    from unmasked.datasets.files import atomic_path
    from unmasked.training.checkpoint import stored_file, write_state_dict

    model, card = load(config.checkpoint, config.detector)
    name = folder_name(card["architecture"])
    if isinstance(model, nn.Module):
        path = write_state_dict(model, config.out or Path(f"{name}.pth"))
        written = f"{len(model.state_dict())} weights"
    else:
        stored = stored_file(config.checkpoint)
        path = config.out or Path(f"{name}{stored.suffix}")
        with atomic_path(path) as temporary:
            shutil.copyfile(stored, temporary)
        written = "what was fitted"
    width = f"width {card['width']:g}, " if "width" in card else ""
    print_result(
        f"{written} written to {path}: {width}"
        f"{card['size_px']} px, images in [-1, 1], method classes {', '.join(card['method_classes'])}"
    )
    print_result(f"licence: {card['licence']}")
