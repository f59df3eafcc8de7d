"""The published layout.

A flat PyTorch state dict at full width, read without running any of its code.
What a published detector is, beyond its weights, is in no file: `published_card` holds what its publishers
state.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unmasked.datasets.errors import InputError
from unmasked.training.checkpoint import PREPROCESSING, fill, read_state_dict
from unmasked.ucf.model import UCF

# The order of the published method head.
CLASSES = ("real", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
ADVICE = "give a UCF checkpoint of the published layout"
LICENCE = (
    "Weights: non-commercial use only (CC BY-NC 4.0, as DeepfakeBench publishes them), and the terms of the "
    "data they were trained on. Code: MIT."
)


def read_published(path: str | os.PathLike[str]) -> UCF:
    """The detector in a ``.pth`` file of the published layout, in evaluation mode.

    Raises:
        InputError: the file is absent, holds anything but tensors, or its names or shapes do not fit.
    """
    return published_model(read_state_dict(path), str(path))


def published_model(weights: Mapping[str, Tensor], origin: str) -> UCF:
    """The detector that the weights are of.

    Their shapes say its width and number of method classes.

    Raises:
        InputError: names or shapes do not fit, or a value is not finite.
    """
    model = empty_model(weights)
    what = f"a UCF of width {model.width:g} with {model.method_classes} method classes"
    fill(model, weights, origin, what=what, advice=ADVICE)
    return model


def empty_model(weights: Mapping[str, Tensor]) -> UCF:
    """A UCF without memory (device ``meta``) of the width and classes in the weights' shapes."""
    last, head = weights.get("encoder_f.bn4.weight"), weights.get("head_spe.mlp.2.bias")
    width = 1.0 if last is None or last.ndim != 1 else len(last) / 2048
    classes = len(CLASSES) if head is None or head.ndim != 1 else len(head)
    with torch.device("meta"):
        return UCF(width if 0 < width <= 2 else 1.0, max(classes, 1))


def class_names(names: Sequence[str], number: int) -> list[str]:
    """The names of a method head's classes.

    The published ones where none are given and there are as many.

    Raises:
        InputError: there are more or fewer names than classes, or "real" is not the first.
    """
    names = tuple(names) or (CLASSES if number == len(CLASSES) else ())
    if len(names) != number or len(set(names)) != number or names[:1] != CLASSES[:1]:
        raise InputError(
            f"the checkpoint tells {number} method classes apart, and {', '.join(names) or 'none'} were "
            f"named; give {number} different names, real first, with classes=[real,…]"
        )
    return list(names)


def published_card(classes: Sequence[str], *, size_px: int = 256) -> dict[str, Any]:
    """The card of an imported checkpoint: what is known of it, and whose statement that is.

    Args:
        classes: names of the method head's classes, "real" first.
        size_px: side of the input that it was trained at.
    """
    return {
        "method_classes": list(classes),
        "preprocessing": {
            **PREPROCESSING,
            "size_px": size_px,
            "crop": "aligned by five points, 256 px, scale 1.3 (what `unmasked preprocess` does by itself)",
        },
        "selection": {"rule": "not stated in the file; DeepfakeBench chooses checkpoints on the test set"},
        "licence": LICENCE,
    }
