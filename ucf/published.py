"""Published UCF weights: a flat PyTorch state dict at full width, read without running any of its code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from unmasked.datasets.errors import InputError
from unmasked.ucf.checkpoint import check_weights
from unmasked.ucf.model import UCF


def read_published(path: str | os.PathLike[str]) -> UCF:
    """The detector in a ``.pth`` file of the published layout, in evaluation mode.

    The state dict may be wrapped in ``state_dict`` or ``model``, and its names may begin with ``module.``.
    The number of method classes is read from the file.

    Raises:
        InputError: the file is absent, holds anything but tensors, or its names or shapes do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; give the path of a published UCF .pth file")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()
        raise InputError(
            f"checkpoint {path} is not a file of tensors alone ({reason[0] if reason else 'empty'}); "
            "it was refused without running it"
        ) from error
    weights = _flat(stored, path)
    classes = weights.get("head_spe.mlp.2.bias")
    with torch.device("meta"):
        model = UCF(method_classes=5 if classes is None else len(classes))
    check_weights(model, weights, str(path))
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _flat(stored: Any, path: Path) -> dict[str, torch.Tensor]:
    for wrapper in ("state_dict", "model"):
        if isinstance(stored, dict) and isinstance(stored.get(wrapper), dict):
            stored = stored[wrapper]
    if not isinstance(stored, dict) or not all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise InputError(f"checkpoint {path} holds no state dict; give a published UCF .pth file")
    return {str(name).removeprefix("module."): value for name, value in stored.items()}
