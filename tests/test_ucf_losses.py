"""The four losses against plain loops, and the permutations they draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unmasked.ucf.config import LossConfig
from unmasked.ucf.losses import (
    Orders,
    contrastive_loss,
    draw_orders,
    permutation_within,
    reconstruction_loss,
    ucf_losses,
)
from unmasked.ucf.model import PairOutput


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def output_of(images: torch.Tensor, **changes: torch.Tensor) -> PairOutput:
    rows = len(images)
    real, fake = images.chunk(2)
    values = {
        "common_logits": torch.randn(rows, 2, generator=seeded(1)),
        "method_logits": torch.randn(rows, 3, generator=seeded(2)),
        "common_features": torch.randn(rows, 5, generator=seeded(3)),
        "specific_features": torch.randn(rows, 5, generator=seeded(4)),
        "self_real": real,
        "self_fake": fake,
        "cross_real": real,
        "cross_fake": fake,
    }
    return PairOutput(**{**values, **changes})


def cross_entropy_by_hand(logits: torch.Tensor, labels: list[int]) -> float:
    rows = logits.double().numpy()
    return float(
        np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(rows, labels, strict=True)])
    )


def contrastive_by_hand(features: np.ndarray, anchors: list[int], margin: float) -> float:
    pairs = len(features) // 2
    total = 0.0
    for row in range(2 * pairs):
        positive, negative = features[anchors[row]], features[anchors[(row + pairs) % (2 * pairs)]]
        near = np.sqrt(((features[row] - positive + 1e-6) ** 2).sum())
        far = np.sqrt(((features[row] - negative + 1e-6) ** 2).sum())
        total += max(0.0, near - far + margin) / pairs
    return total


def test_contrastive_loss_equals_a_plain_loop():
    features = torch.randn(6, 4, generator=seeded())
    anchors = [2, 0, 1, 4, 5, 3]
    expected = contrastive_by_hand(features.double().numpy(), anchors, 3.0)
    assert contrastive_loss(features, torch.tensor(anchors), 3.0).item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_loss_is_zero_for_halves_farther_apart_than_the_margin():
    features = torch.tensor([[0.0, 0], [0.1, 0], [9, 0], [9.1, 0]])
    assert contrastive_loss(features, torch.tensor([1, 0, 3, 2]), 3.0) == 0
    assert contrastive_loss(features, torch.tensor([1, 0, 3, 2]), 30.0) > 0


def test_content_decides_which_image_a_reconstruction_is_held_against():
    images = torch.rand(4, 3, 8, 8, generator=seeded())
    real, fake = images.chunk(2)
    assert reconstruction_loss(output_of(images), images) == 0
    wrong = output_of(images, cross_fake=real)
    assert reconstruction_loss(wrong, images).item() == pytest.approx((real - fake).abs().mean().item())


def test_overall_is_the_weighted_sum_and_parts_equal_their_formulas():
    images = torch.rand(4, 3, 8, 8, generator=seeded())
    output = output_of(images, self_real=torch.zeros(2, 3, 8, 8))
    anchors = [1, 0, 3, 2]
    orders = Orders(torch.arange(4), torch.tensor(anchors), torch.tensor(anchors))
    labels, methods = [0, 0, 1, 1], [0, 0, 1, 2]
    config = LossConfig(common=1.0, specific=0.2, reconstruction=0.4, contrastive=0.01, margin=2.0)
    losses = ucf_losses(
        output, images, torch.tensor(labels), torch.tensor(methods), orders=orders, config=config
    )
    common = cross_entropy_by_hand(output.common_logits, labels)
    specific = cross_entropy_by_hand(output.method_logits, methods)
    reconstruction = images[:2].mean().item()
    contrastive = sum(
        contrastive_by_hand(features.double().numpy(), anchors, 2.0)
        for features in (output.common_features, output.specific_features)
    )
    assert losses.common.item() == pytest.approx(common, rel=1e-5)
    assert losses.specific.item() == pytest.approx(specific, rel=1e-5)
    assert losses.reconstruction.item() == pytest.approx(reconstruction, rel=1e-5)
    assert losses.contrastive.item() == pytest.approx(contrastive, rel=1e-5)
    expected = common + 0.2 * specific + 0.4 * reconstruction + 0.01 * contrastive
    assert losses.overall.item() == pytest.approx(expected, rel=1e-5)


def test_permutation_stays_within_groups_and_moves_rows_inside_them():
    groups = torch.tensor([0, 0, 0, 0, 1, 2, 1, 2, 1, 1])
    seen = torch.stack([permutation_within(groups, seeded(seed)) for seed in range(200)])
    assert (groups[seen] == groups).all()
    assert (seen.sort(dim=1).values == torch.arange(10)).all()
    # Each of the four rows of group 0 comes to the first place about a quarter of the time.
    counts = torch.bincount(seen[:, 0], minlength=4).float() / 200
    assert (counts - 0.25).abs().max() < 0.12


def test_orders_depend_on_the_generator_only():
    methods = torch.tensor([0, 0, 0, 1, 2, 1])
    one, same, other = (draw_orders(methods, 0.7, seeded(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(getattr(one, name), getattr(same, name)) for name in vars(one))
    assert not all(torch.equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_common_features_are_mixed_within_halves_as_often_as_asked():
    methods = torch.tensor([0] * 8 + [1] * 8)
    still = torch.arange(16)
    generator = seeded()
    drawn = [draw_orders(methods, 0.7, generator).mixing for _ in range(300)]
    moved = np.mean([not torch.equal(order, still) for order in drawn])
    assert moved == pytest.approx(0.7, abs=0.08)
    assert all(((order < 8) == (still < 8)).all() for order in drawn)
    assert all(torch.equal(draw_orders(methods, 0.0, generator).mixing, still) for _ in range(5))


def test_specific_anchors_stay_within_a_method():
    methods = torch.tensor([0, 0, 0, 0, 1, 2, 2, 1])
    for seed in range(20):
        assert (methods[draw_orders(methods, 0.7, seeded(seed)).specific_anchors] == methods).all()
