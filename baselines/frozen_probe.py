"""A linear probe on the features of a frozen network, the floor for every detector.

In two audits of 2026 a probe on a self-supervised network came near detectors that were made for the task
(arxiv.org/abs/2606.26384, arxiv.org/abs/2603.26387): what does not beat it has learned nothing of its own.
"""

from __future__ import annotations

from pydantic import Field
from torch import nn

from unmasked.baselines import backbone
from unmasked.baselines.backbone import Trunk, TrunkConfig
from unmasked.training.config import OptimiserConfig
from unmasked.training.detector import About, Phase

NAME = "Frozen probe"
ABOUT = About(
    paper="Alain & Bengio, arxiv.org/abs/1610.01644",
    licence="code MIT; weights under their own terms",
    weights="model.weights=FILE in timm's or torchvision's naming, or CLIP's in transformers'",
)


class Model(Trunk):
    """The frozen network."""

    dropout: float = Field(0.0, ge=0, lt=1, description="Share of the features zeroed in training")


class Optimiser(OptimiserConfig):
    """Adam and its rate, for one linear layer."""

    lr: float = Field(1e-3, gt=0, description="Highest learning rate")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty that Adam adds to the gradient")


class Config(TrunkConfig):
    """Everything that decides how the linear layer is trained."""

    model: Model = Field(Model(), description="The frozen network")
    optimiser: Optimiser = Field(Optimiser(), description="Adam and its rate")


build, initialise = backbone.build, backbone.initialise


def start(config: Config) -> str:
    """What training starts from, in a sentence."""
    if config.model.weights:
        return f"{backbone.start(config)}; nothing but the head learns"
    return (
        f"{config.model.backbone} is frozen at random weights, a control and no floor; give a file as "
        "model.weights"
    )


def phases(model: nn.Module, config: Config) -> list[Phase]:
    """The head alone, from the first step to the last."""
    return [Phase(1.0, {"head.": 1.0})]
