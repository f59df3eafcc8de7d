"""Settings of a generator and its training; imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from unmasked.training.config import Frozen

MAX_PX = 256


class Network(Frozen):
    """The generator and the network that judges it."""

    size_px: int = Field(64, ge=8, le=MAX_PX, description="Side of the images: a power of 2, from 8 to 256")
    base: int = Field(2048, ge=8, description="Channels of maps of side s: base / s, at most `most`")
    most: int = Field(64, ge=1, description="Most channels of any layer")
    w_dim: int = Field(64, ge=1, description="Numbers of a style")
    mapping_layers: int = Field(2, ge=1, description="Layers from random numbers to a style; the papers: 8")

    @field_validator("size_px")
    @classmethod
    def _check_power_of_2(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("it is a power of 2: 8, 16, 32, 64, 128 or 256")
        return value


class Ada(Frozen):
    """Adaptive augmentation of what the judging network sees."""

    target: float = Field(
        0.6, ge=0, le=1, description="Share of reals beyond half that are called real, to be held"
    )
    images: int = Field(500_000, ge=1, description="Images in which the probability can go from 0 to 1")
    every: int = Field(4, ge=1, description="Steps between two adjustments")
    fixed: float | None = Field(None, ge=0, le=1, description="A probability that is not adjusted")


class Training(Frozen):
    """How long and how; a step is one of both networks."""

    batch: int = Field(16, ge=2, description="Images in a batch, of all processes together")
    max_steps: int = Field(20_000, ge=1, description="Ends training after this many steps")
    max_minutes: float | None = Field(None, gt=0, description="Ends training after this many minutes")
    lr: float = Field(2e-3, gt=0, description="Learning rate of Adam, before lazy regularisation")
    r1: float | None = Field(
        None, ge=0, description="Weight of R1; 0.0002 size_px² / batch (the rule of ADA's paper) if not given"
    )
    r1_every: int = Field(16, ge=1, description="Steps between two of R1")
    path: float = Field(2.0, ge=0, description="Weight of the path length; 0 leaves it out")
    path_every: int = Field(4, ge=1, description="Steps between two of the path length")
    mixing: float = Field(0.9, ge=0, le=1, description="Share of images with two styles")
    ema_images: int = Field(10_000, ge=1, description="Half-life, in images, of the averaged weights")
    ema_ramp: float = Field(
        0.05, gt=0, description="The half-life is at most this share of the images so far"
    )
    save_every_steps: int = Field(500, ge=1, description="Steps between two states to resume from")
    log_every_steps: int = Field(10, ge=1, description="Steps between two entries in the log")
    look_every_steps: int = Field(
        500, ge=1, description="Steps between two grids of samples, and two distances"
    )
    look_images: int = Field(512, ge=4, description="Samples behind a distance")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="Number format")
    devices: int | Literal["auto"] = Field(
        "auto", description="GPUs, or processes on CPUs; auto: all GPUs, or one process"
    )


class GeneratorConfig(Frozen):
    """Everything that decides how a generator is trained."""

    seed: int = Field(1024, ge=0, lt=2**31, description="Of weights, batches, styles and augmentation")
    mirror: bool = Field(True, description="Mirrors half of the reals, so the fakes too")
    cache_mb: int = Field(
        4096, ge=0, description="Crops are held in memory if they fit into so many megabytes"
    )
    network: Network = Field(Network(), description="Both networks")
    ada: Ada = Field(Ada(), description="Adaptive augmentation")
    training: Training = Field(Training(), description="How long and how")
