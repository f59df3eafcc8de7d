"""``unmasked detectors``: what can be trained here, and what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result

if TYPE_CHECKING:
    from unmasked.training.handle import Detector


class Config(BaseModel):
    """Which detectors are shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: str = Field(
        "",
        description="one of them, or your own module or .py file: also lists its settings; all if not given",
    )


def run(config: Config) -> None:
    """Says of each its paper, licence, input, numbers that train, and where weights come from."""
    from unmasked.app.config import keys
    from unmasked.app.detectors import find, registry

    for name in [config.detector] if config.detector else registry():
        detector = find(name)
        print_result(f"{name}: {detector.title}")
        for what, value in _facts(detector):
            print_result(f"  {what:9} {value}")
    if config.detector:
        for key, kind, default, meaning in keys(find(config.detector).config):
            print_result(f"  {key} ({kind}, default {default}): {meaning}")


def _facts(detector: Detector) -> list[tuple[str, str]]:
    about = detector.part("ABOUT")
    stated = [("paper", about.paper), ("licence", about.licence)] if about else []
    side = detector.config().model.size_px
    return [
        *stated,
        ("input", f"face crops of {side} × {side} pixels"),
        ("trains", _numbers(detector)),
        *([("weights", about.weights)] if about else []),
    ]


def _numbers(detector: Detector) -> str:
    """How many numbers move in training, of how many, with the default settings and two classes."""
    if not detector.has_gradients:
        return "no network: fitted in one go"
    import torch

    from unmasked.training.phases import count_moving

    config = detector.config()
    with torch.device("meta"):  # only counted
        model = detector.module.build(config, ["real", "fake"])
    moving = count_moving(model, detector.phases(model, config))
    total = sum(value.numel() for value in model.parameters())
    return f"{moving:,} numbers" + (f" of {total:,}" if moving < total else "")
