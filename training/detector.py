"""The contract: what a module gives to be a detector, and the defaults for the rest.

A module that is trained by gradients has

- ``NAME``: what tables and pages call it;
- ``Config``: derived from `config.CropConfig` or `config.PairConfig`, with the network's settings as
  ``model``;
- ``build(config, classes)``: the network, from (N, 3, H, W) in [-1, 1] to (N, 2) logits of real and fake;
  no file is read in it. `classes` are names of the methods, "real" first. With ``features(images)``, (N, D),
  and ``cam_layer``, a module of its own, it can be explained; ``cam_signed = True`` says that all behind
  that layer is affine, so that the map is drawn with its sign. ``forward_with_features(images)``, both at
  the price of one, makes `unmasked inspect` faster.

It may also have ``objective(step, config)``: losses by name, "overall" first (cross entropy if not given);
``draw(batch, config, generator)``: random numbers of a batch, drawn before it goes to a GPU; ``TRAINED``: the
method that training calls; ``sampler(faces, config, groups, replicas)``; ``check(faces, config)``: InputError
for crops that it cannot learn from; ``phases(model, config)``: see `Phase`; ``initialise(model, config)`` and
``start(config)``: weights to begin with, and a sentence on them; ``pictured(faces)`` and
``pictures(model, images)``: what TensorBoard shows; ``card(model)`` and ``from_card(card)``: what a card says
beside the configuration, and the network again; ``from_weights(weights,
config)``, ``translate(weights, model)`` and ``weights_card(model, classes, config)``: the network that
weights from elsewhere are of, these by its names, and what their card says; ``ABOUT``: an `About`.

A module without gradients has ``NAME``, a ``Config`` derived from `config.DetectorConfig`,
``fit(faces, root, config, out)``, which learns from the training crops and returns the file that it wrote
into the folder ``out``, and ``read(path, card)``, which gives a callable from images to logits as above.
Reading must run no code of the file: no pickle. With ``features(images)``, ``blocks``, columns of these by
kind, and ``probability(vectors)``, (N,) P(fake), the callable's blocks are explained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unmasked.datasets.errors import InputError
from unmasked.training.config import TrainedConfig, TransferConfig

Losses = dict[str, Tensor]
Scorer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class About:
    """What `unmasked detectors` says of a detector."""

    paper: str
    licence: str
    weights: str


@dataclass(frozen=True)
class Pictures:
    """What a detector makes of validation crops, for TensorBoard.

    Attributes:
        name: of the entry.
        titles: C short texts, of the columns.
        rows: (R, C, H, W, 3) uint8 RGB.
    """

    name: str
    titles: Sequence[str]
    rows: NDArray[np.uint8]


@dataclass(frozen=True)
class Phase:
    """A part of a training.

    Attributes:
        share: of all steps.
        rates: learning rate by the beginning of weights' names, in multiples of ``optimiser.lr``; the
            longest beginning counts, and weights that none names are frozen. "" is the beginning of all.
    """

    share: float
    rates: Mapping[str, float]


def head_first(settings: TransferConfig, head: str) -> list[Phase]:
    """First the head alone where the trunk starts from weights, then all.

    ``head`` is the beginning of the names of the head's weights.
    """
    if not settings.weights:
        return [Phase(1.0, {"": 1.0})]
    tuned = Phase(1 - settings.head_share, {"": settings.trunk_rate, head: 1.0})
    return [Phase(settings.head_share, {head: 1.0}), tuned] if settings.head_share else [tuned]


@dataclass(frozen=True)
class Step:
    """One batch, as an objective sees it; B images.

    Attributes:
        images: (B, 3, H, W) in [-1, 1], augmented; of pairs, first the reals, then their fakes.
        labels: (B,) 0 = real, 1 = fake.
        methods: (B,) position among the classes.
        rows: (B,) positions in the training table.
        drawn: what `draw` gave.
        model: the network.
        forward: its training pass, compiled where that was asked for.
        robust: what makes one number of (B,) losses and their rows; None is the mean.
    """

    images: Tensor
    labels: Tensor
    methods: Tensor
    rows: Tensor
    drawn: Mapping[str, Tensor]
    model: nn.Module
    forward: Callable[..., Any]
    robust: nn.Module | None


def cross_entropy(step: Step, config: TrainedConfig) -> Losses:
    """The objective of a detector that gives none: real or fake, and nothing else."""
    logits = step.forward(step.images)
    if logits.shape != (len(step.labels), 2):
        raise InputError(
            f"forward returned {tuple(logits.shape)} for {len(step.labels)} images of training; it must "
            "return (N, 2), logits of real and fake"
        )
    losses = functional.cross_entropy(logits.float(), step.labels, reduction="none")
    return {"overall": losses.mean() if step.robust is None else step.robust(losses, step.rows)}
