"""UCF's four losses (Yan et al. 2023, equations 3 to 7) and the orders that they draw.

Rows are P reals, then P fakes, throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unmasked.ucf.config import LossConfig
from unmasked.ucf.model import PairOutput


@dataclass(frozen=True)
class Losses:
    """Scalars of one batch; ``overall`` is the weighted sum of the others."""

    overall: Tensor
    common: Tensor
    specific: Tensor
    reconstruction: Tensor
    contrastive: Tensor


@dataclass(frozen=True)
class Orders:
    """The permutations that one batch draws; each (2P,), rows of a batch.

    Attributes:
        mixing: how common features are exchanged before decoder and head, within each half.
        common_anchors: who is compared with whom among common features, within each half.
        specific_anchors: the same among specific features, within each method.
    """

    mixing: Tensor
    common_anchors: Tensor
    specific_anchors: Tensor


def draw_orders(methods: Tensor, mixing_probability: float, generator: torch.Generator) -> Orders:
    """The permutations for one batch.

    Args:
        methods: (2P,) class of each row; the first half are reals.
        mixing_probability: how often the common features of a batch are exchanged (0.7 as published).
        generator: on the CPU; the same state gives the same orders.
    """
    methods = methods.cpu()
    halves = torch.arange(len(methods)) >= len(methods) // 2
    mixes = bool(torch.rand((), generator=generator) < mixing_probability)
    return Orders(
        mixing=permutation_within(halves, generator) if mixes else torch.arange(len(methods)),
        common_anchors=permutation_within(halves, generator),
        specific_anchors=permutation_within(methods, generator),
    )


def permutation_within(groups: Tensor, generator: torch.Generator) -> Tensor:
    """(N,) a random permutation of row numbers that keeps every row inside its group.

    >>> order = permutation_within(torch.tensor([0, 1, 0, 1]), torch.Generator().manual_seed(0))
    >>> sorted(order[[0, 2]].tolist()), sorted(order[[1, 3]].tolist())
    ([0, 2], [1, 3])
    """
    order = torch.empty(len(groups), dtype=torch.int64)
    for group in groups.unique():
        rows = torch.nonzero(groups == group).flatten()
        order[rows] = rows[torch.randperm(len(rows), generator=generator)]
    return order


def ucf_losses(
    output: PairOutput,
    images: Tensor,
    labels: Tensor,
    methods: Tensor,
    *,
    orders: Orders,
    config: LossConfig,
    aggregate: Callable[[Tensor], Tensor] | None = None,
) -> Losses:
    """The four losses of a batch and their weighted sum.

    Args:
        output: of `UCF.forward_pairs` on the images, with ``orders.mixing``.
        images: (2P, 3, H, W) in [-1, 1], the targets of the decoder.
        labels: (2P,) 0 = real, 1 = fake.
        methods: (2P,) class of the manipulation, 0 = real.
        orders: who is compared with whom.
        config: weights and margin.
        aggregate: what makes one number of the common losses (2P,) of the images; None is their mean.
    """
    logits = output.common_logits.float()
    if aggregate is None:
        common = functional.cross_entropy(logits, labels)
    else:
        common = aggregate(functional.cross_entropy(logits, labels, reduction="none"))
    specific = functional.cross_entropy(output.method_logits.float(), methods)
    reconstruction = reconstruction_loss(output, images)
    contrastive = contrastive_loss(
        output.common_features.float(), orders.common_anchors, config.margin
    ) + contrastive_loss(output.specific_features.float(), orders.specific_anchors, config.margin)
    overall = (
        config.common * common
        + config.specific * specific
        + config.reconstruction * reconstruction
        + config.contrastive * contrastive
    )
    return Losses(overall, common, specific, reconstruction, contrastive)


def reconstruction_loss(output: PairOutput, images: Tensor) -> Tensor:
    """Sum of four mean absolute differences to the image whose content was used.

    Each image is decoded with either fingerprint.
    """
    real, fake = images.chunk(2)
    return (
        functional.l1_loss(output.self_fake.float(), fake)
        + functional.l1_loss(output.self_real.float(), real)
        + functional.l1_loss(output.cross_fake.float(), fake)
        + functional.l1_loss(output.cross_real.float(), real)
    )


def contrastive_loss(features: Tensor, anchors: Tensor, margin: float) -> Tensor:
    """Triplet losses of both halves.

    Nearer to a row of one's own half than to one of the other, by a margin.
    T(a, p, n) = mean(max(0, |a - p| - |a - n| + margin)), with p and n out of the same permuted rows.

    Args:
        features: (2P, F).
        anchors: (2P,) a permutation that stays within each half.
        margin: in units of the features' Euclidean distance.
    """
    real, fake = features.chunk(2)
    other_real, other_fake = features[anchors].chunk(2)
    return functional.triplet_margin_loss(
        real, other_real, other_fake, margin=margin
    ) + functional.triplet_margin_loss(fake, other_fake, other_real, margin=margin)
