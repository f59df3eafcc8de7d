"""UCF as a detector that the engine trains.

Its network, losses, pairs, pictures and published weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from unmasked.training.detector import About, Losses, Pictures, Step
from unmasked.ucf import pairs, published
from unmasked.ucf.config import UCFConfig
from unmasked.ucf.losses import Orders, draw_orders, ucf_losses
from unmasked.ucf.model import UCF
from unmasked.ucf.pretrained import start as start_sentence
from unmasked.ucf.pretrained import start_from_imagenet

NAME = "UCF"
Config = UCFConfig
TRAINED = "forward_pairs"
ABOUT = About(
    paper="Yan et al., UCF: Uncovering Common Features for Generalizable Deepfake Detection (ICCV 2023), "
    "arxiv.org/abs/2304.13949",
    licence="code MIT; published weights non-commercial (CC BY-NC 4.0)",
    weights="DeepfakeBench publishes ucf_best.pth: unmasked import-checkpoint file=ucf_best.pth; Xception's "
    "ImageNet weights to start from: model.imagenet",
)


def build(config: UCFConfig, classes: Sequence[str]) -> UCF:
    """The network, of random weights."""
    settings = config.model
    return UCF(
        settings.width,
        len(classes),
        head_dropout=settings.head_dropout,
        decoder_dropout=settings.decoder_dropout,
    )


def check(faces: pd.DataFrame, config: UCFConfig) -> None:
    """Raises InputError if all fakes are of one method."""
    pairs.check_methods(faces, config)


def start(config: UCFConfig) -> str:
    """What training starts from, in a sentence."""
    return start_sentence(config.model.imagenet)


def initialise(model: UCF, config: UCFConfig) -> None:
    """Fills the encoders with ImageNet's weights, where these were asked for."""
    if config.model.imagenet:
        start_from_imagenet(model, config.model.imagenet)


def draw(batch: Mapping[str, Tensor], config: UCFConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """The batch's permutations."""
    return dict(vars(draw_orders(batch["method_index"], config.loss.mixing_probability, generator)))


def objective(step: Step, config: UCFConfig) -> Losses:
    """The four losses of a batch of pairs and their weighted sum."""
    orders = Orders(**step.drawn)
    losses = ucf_losses(
        step.forward(step.images, orders.mixing),
        step.images,
        step.labels,
        step.methods,
        orders=orders,
        config=config.loss,
        # Each logit is of the image that its common features came from, not of the one in its place.
        aggregate=step.robust and partial(step.robust, rows=step.rows[orders.mixing]),
    )
    return dict(vars(losses))


def pictured(faces: pd.DataFrame) -> list[int]:
    """Rows of some reals, then of fakes made of them."""
    shown = pairs.pairs_to_show(faces)
    return [real for real, _ in shown] + [fake for _, fake in shown]


def pictures(model: UCF, images: Tensor) -> Pictures:
    """What the decoder paints of (2P, 3, H, W) uint8 images: P reals, then P fakes."""
    return Pictures("reconstructions", pairs.COLUMNS, pairs.grid(images, pairs.paint(model, images)))


def card(model: UCF) -> dict[str, Any]:
    """What a card says of the network beside its configuration."""
    return {"width": model.width}


def from_card(card: Mapping[str, Any]) -> UCF:
    """The network of a card, without memory: imported checkpoints have no configuration."""
    with torch.device("meta"):
        return UCF(card["width"], len(card["method_classes"]))


def from_weights(weights: Mapping[str, Tensor], config: UCFConfig) -> UCF:
    """A network without memory for published weights, as wide as their shapes say."""
    return published.empty_model(weights)


def weights_card(model: UCF, classes: Sequence[str], config: UCFConfig) -> dict[str, Any]:
    """What the publishers of weights state.

    Raises:
        InputError: there are more or fewer classes than names.
    """
    names = published.class_names(classes, model.method_classes)
    return published.published_card(names, size_px=config.model.size_px)
