"""StyleGAN2's discriminator as a detector.

Trained alone, on reals and fakes like any other, or taken from `unmasked generate train`, where it was
trained against its generator: then its verdict is on fakes of that generator, and of one moment of training.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from unmasked.training.config import CropConfig, ModelConfig
from unmasked.training.detector import About
from unmasked.training.residual import Critic

NAME = "StyleGAN2 discriminator"
ABOUT = About(
    paper="Karras et al., arxiv.org/abs/1912.04958",
    licence="code MIT, written from the paper",
    weights="none, or the folder discriminator that `unmasked generate train` writes",
)


class Model(ModelConfig):
    """The network."""

    size_px: int = Field(64, ge=8, le=1024, description="Side of the input, a power of 2")
    base: int = Field(2048, ge=8, description="Channels of maps of side s: base / s, at most `most`")
    most: int = Field(64, ge=1, description="Most channels of any layer")

    @field_validator("size_px")
    @classmethod
    def _check_power_of_2(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("it is a power of 2: 8, 16, 32, 64, 128, …")
        return value


class Config(CropConfig):
    """Everything that decides how the network is trained."""

    model: Model = Field(Model(), description="The network")


def build(config: Config, classes: Sequence[str]) -> Critic:
    """The network, of random weights."""
    return Critic(config.model.size_px, config.model.base, config.model.most)
