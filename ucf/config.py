"""Settings of UCF and its training.

Imports nothing heavy, so that the command line can show them at once.
"""

from __future__ import annotations

from pydantic import Field

from unmasked.training import config as training


class ModelConfig(training.ModelConfig):
    """The network."""

    width: float = Field(
        1.0, gt=0, le=2, description="Multiplier of all channels; 1 is the published network"
    )
    size_px: int = Field(
        256, ge=64, le=1024, description="Side of the input in pixels; crops are resized to it"
    )
    imagenet: str | None = Field(
        None,
        description="Xception's ImageNet weights to start both encoders from: a .pth or .safetensors file, "
        "or timm (may download); random weights if not given",
    )
    head_dropout: float = Field(0.2, ge=0, lt=1, description="Share of the heads' logits zeroed in training")
    decoder_dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of the decoder's values zeroed in training"
    )


class LossConfig(training.LossConfig):
    """Weights of the four losses, the contrastive margin, how often features are exchanged."""

    common: float = Field(1.0, ge=0, description="Weight of real or fake from the common features")
    specific: float = Field(0.1, ge=0, description="Weight of the method from the specific features")
    reconstruction: float = Field(0.3, ge=0, description="Weight of the four reconstructions (L1)")
    contrastive: float = Field(0.05, ge=0, description="Weight of the contrastive loss")
    margin: float = Field(3.0, gt=0, description="Margin of the contrastive loss, in Euclidean distance")
    mixing_probability: float = Field(
        0.7,
        ge=0,
        le=1,
        description="How often a batch's common features are exchanged within reals and fakes",
    )


class UCFConfig(training.PairConfig):
    """Everything that decides how a UCF detector is trained."""

    model: ModelConfig = Field(ModelConfig(), description="The network")
    loss: LossConfig = Field(LossConfig(), description="Weights of the losses")


Config = UCFConfig
