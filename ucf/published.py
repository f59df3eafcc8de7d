"""The published layout: a flat PyTorch state dict at full width, read without running any of its code.

`read_published` and `write_published` are each other's inverse. What a published detector is, beyond its
weights, is in no file: `published_card` holds what its publishers state.
"""

from __future__ import annotations

import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path, sha256_of_file
from unmasked.training.checkpoint import PREPROCESSING, check_weights
from unmasked.ucf.model import UCF

WRAPPERS = ("state_dict", "model")
PREFIX = "module."
# The order of the published method head.
CLASSES = ("real", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
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


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file by name, on the CPU.

    The state dict may be wrapped in ``state_dict`` or ``model``, and its names may begin with ``module.``.

    Raises:
        InputError: the file is absent, or holds anything that would run code, or no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; give the path of a PyTorch .pth file")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(_refusal(path, str(error))) from error
    except Exception as error:  # whatever damaged bytes make torch's reader raise
        reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
        raise InputError(
            f"checkpoint {path} is not an intact PyTorch file ({reason}); copy it again"
        ) from error
    return _flat(stored, path)


def published_model(weights: Mapping[str, Tensor], origin: str) -> UCF:
    """The detector that the weights are of; their shapes say its width and number of method classes.

    Raises:
        InputError: names or shapes do not fit, or a value is not finite.
    """
    model = empty_model(weights)
    check_weights(model, weights, origin, "give a UCF checkpoint of the published layout")
    broken = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InputError(
            f"checkpoint {origin} holds values that are not finite in {len(broken)} weights, {broken[0]} "
            "first; it cannot score anything: take an earlier one"
        )
    # Cloned: tensors of a .pth file may share memory, and may be of half precision.
    wanted = model.state_dict()
    model.load_state_dict({n: v.to(wanted[n].dtype).clone() for n, v in weights.items()}, assign=True)
    return model.eval().requires_grad_(True)


def empty_model(weights: Mapping[str, Tensor]) -> UCF:
    """A UCF without memory (device ``meta``) of the width and classes that the weights' shapes speak of."""
    last, head = weights.get("encoder_f.bn4.weight"), weights.get("head_spe.mlp.2.bias")
    width = 1.0 if last is None or last.ndim != 1 else len(last) / 2048
    classes = len(CLASSES) if head is None or head.ndim != 1 else len(head)
    with torch.device("meta"):
        return UCF(width if 0 < width <= 2 else 1.0, max(classes, 1))


def named_classes(names: Sequence[str], number: int) -> list[str]:
    """The names of a method head's classes; the published ones where none are given and there are as many.

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


def write_published(model: UCF, path: str | os.PathLike[str]) -> Path:
    """Writes the flat state dict of the published layout, whole or not at all, and returns its path."""
    state = OrderedDict(
        (name, value.detach().cpu().contiguous()) for name, value in model.state_dict().items()
    )
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
    return Path(path)


def published_card(
    path: str | os.PathLike[str], classes: Sequence[str], *, size_px: int = 256, licence: str = LICENCE
) -> dict[str, Any]:
    """The card of an imported checkpoint: what is known of it, and whose statement that is.

    Args:
        path: the imported file; its SHA-256 goes into the card.
        classes: names of the method head's classes, "real" first.
        size_px: side of the input that it was trained at.
        licence: of the weights.
    """
    return {
        "method_classes": list(classes),
        "size_px": size_px,
        "preprocessing": {
            **PREPROCESSING,
            "size_px": size_px,
            "crop": "aligned by five points, 256 px, scale 1.3 (what `unmasked preprocess` does by itself)",
        },
        "imported": {
            "file": Path(path).name,
            "sha256": sha256_of_file(path),
            "bytes": Path(path).stat().st_size,
        },
        "selection": {"rule": "not stated in the file; DeepfakeBench chooses checkpoints on the test set"},
        "licence": licence,
    }


def _refusal(path: Path, reason: str) -> str:
    named = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", reason)
    what = f"calls {named[1]}" if named else "holds more than tensors"
    return (
        f"checkpoint {path} is a pickle that {what} when it is opened; it was refused without running it: "
        "give a file that holds nothing but a state dict of tensors"
    )


def _flat(stored: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(stored, dict) and isinstance(stored.get(wrapper), dict):
            stored = stored[wrapper]
    if (
        not isinstance(stored, dict)
        or not stored
        or not all(isinstance(value, Tensor) for value in stored.values())
    ):
        raise InputError(f"checkpoint {path} holds no state dict; give a .pth file of named tensors")
    return {str(name).removeprefix(PREFIX): value for name, value in stored.items()}
