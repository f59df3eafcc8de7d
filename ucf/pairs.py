"""Pairs of a real and a fake.

What UCF can learn from, and what its decoder paints of them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import method_classes
from unmasked.datasets.samplers import PairSampler
from unmasked.datasets.transforms import normalise
from unmasked.ucf.config import UCFConfig
from unmasked.ucf.model import UCF, PairOutput

PAIRS_SHOWN = 4
# An image's content under its own fingerprint, and under the one of the other column's image.
COLUMNS = ("real", "self", "by fake's print", "fake", "self", "by real's print")


def check_methods(rows: pd.DataFrame, config: UCFConfig) -> None:
    """Raises InputError if all fakes are of one method.

    The specific head would learn what the common one does: nothing is told apart. Not checked where
    self-blended fakes alone were asked for, or where the specific loss is off.
    """
    methods = method_classes(rows)[1:]
    if len(methods) == 1 and config.loss.specific and config.data.fakes != "self_blended":
        raise InputError(
            f"all fakes of the split 'train' are of one method, {methods[0]}; UCF tells what methods have in "
            "common from what is specific to each, and needs two or more: add fakes of another method, or "
            "self-blended ones with data.fakes=both, or train without that head by loss.specific=0"
        )


def pairs_to_show(faces: pd.DataFrame, count: int = PAIRS_SHOWN) -> list[tuple[int, int]]:
    """Rows (real, fake), the real one of the fake's source video if it is known.

    First one of each method.

    Args:
        faces: reals and fakes.
        count: how many at most.
    """
    try:
        pairs = list(PairSampler(faces, 1, pairing="source", seed=0))
    except InputError:  # nobody says what a fake was made of: some real crop is shown beside it
        pairs = list(PairSampler(faces, 1, seed=0))
    methods = faces["method"].to_numpy()
    first = {methods[fake]: (real, fake) for real, fake in reversed(pairs)}
    chosen = [first[method] for method in sorted(first)]
    return (chosen + [pair for pair in pairs if pair not in chosen])[:count]


@torch.no_grad()
def paint(model: UCF, images: Tensor) -> PairOutput:
    """What the decoder makes of (2P, 3, H, W) uint8 images: P reals, then P fakes."""
    was_training = model.training
    try:
        return model.eval().forward_pairs(normalise(images))
    finally:
        model.train(was_training)


def grid(images: Tensor, output: PairOutput) -> NDArray[np.uint8]:
    """(P, 6, H, W, 3) uint8 in the order of COLUMNS."""
    real, fake = images.chunk(2)
    painted = (output.self_real, output.cross_real, output.self_fake, output.cross_fake)
    self_real, cross_real, self_fake, cross_fake = (
        ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8) for image in painted
    )
    rows = torch.stack([real, self_real, cross_real, fake, self_fake, cross_fake], dim=1)
    return rows.permute(0, 1, 3, 4, 2).cpu().numpy()  # (P, 6, 3, H, W) -> (P, 6, H, W, 3)
