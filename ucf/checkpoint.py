"""A trained UCF as two files: ``detector.safetensors`` (weights) and ``detector.json`` (its card).

The card says what the weights are: architecture, width, method classes, preprocessing recipe, training
data, selection rule, thresholds, SHA-256 of the weights, licence. Nothing is ever unpickled.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path, sha256_of_file, write_json
from unmasked.ucf.model import UCF

ARCHITECTURE = "ucf"
NAME = "detector.safetensors"
PREPROCESSING = {
    "colour": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "value_range": [-1.0, 1.0],
}
LICENCE = "Code: MIT. The weights are also bound by the terms of the data they were trained on."
PICKLES = (b"PK\x03\x04", b"\x80")  # torch's archive, and a bare pickle
REQUIRED = ("architecture", "width", "method_classes", "size_px", "sha256")


def save(model: UCF, path: str | os.PathLike[str], card: Mapping[str, Any]) -> Path:
    """Writes weights and card, each whole or not at all, and returns the path of the weights.

    Args:
        model: its weights are stored as they are, whatever their device.
        path: a folder, or a path that ends in ``.safetensors``.
        card: at least ``method_classes`` (names, "real" first) and ``size_px``; what else is known of
            training. Architecture, width, normalisation, hash and licence are added.
    """
    path = _weights_path(path)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata={"architecture": ARCHITECTURE})
        digest = sha256_of_file(temporary)
    complete = {
        "detector": "UCF",
        "architecture": ARCHITECTURE,
        "width": model.width,
        "preprocessing": {**PREPROCESSING, "size_px": card["size_px"]},
        "thresholds": {},
        "licence": LICENCE,
        **card,
        "sha256": digest,
    }
    write_json(path.with_suffix(".json"), complete)
    return path


def load(path: str | os.PathLike[str]) -> tuple[UCF, dict[str, Any]]:
    """The detector in evaluation mode, on the CPU, and its card.

    Args:
        path: a ``.safetensors`` file with its ``.json`` beside it, or the folder of ``detector.safetensors``.

    Raises:
        InputError: a file is absent, is a pickle or no safetensors file, belongs to another
            architecture, or weights and card do not belong together.
    """
    path = _weights_path(path)
    _check_file(path)
    card = _read_card(path)
    weights = _read_weights(path)
    with torch.device("meta"):
        model = UCF(card["width"], len(card["method_classes"]))
    check_weights(model, weights, str(path))
    model.load_state_dict(weights, assign=True)
    digest = sha256_of_file(path)
    if digest != card["sha256"]:
        raise InputError(
            f"checkpoint {path} has the SHA-256 {digest[:12]}…, its card says {str(card['sha256'])[:12]}…; "
            "give the two files that training wrote together"
        )
    return model.eval().requires_grad_(True), card


def update_card(path: str | os.PathLike[str], **changes: Any) -> dict[str, Any]:
    """Replaces entries of a stored card, thresholds for instance, and returns it."""
    path = _weights_path(path)
    card = {**_read_card(path), **changes}
    write_json(path.with_suffix(".json"), card)
    return card


def check_weights(model: UCF, weights: Mapping[str, torch.Tensor], origin: str) -> None:
    """Raises InputError that names what does not fit unless names and shapes are those of the model."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    absent = [name for name in wanted if name not in given]
    foreign = [name for name in given if name not in wanted]
    differing = [name for name in wanted if name in given and given[name] != wanted[name]]
    if not (absent or foreign or differing):
        return
    parts = []
    if absent:
        parts.append(f"{len(absent)} of {len(wanted)} weights are absent ({_some(absent)})")
    if foreign:
        near = difflib.get_close_matches(foreign[0], absent, n=1)
        parts.append(
            f"{len(foreign)} are not UCF's ({_some(foreign)}{f'; is {near[0]} meant?' if near else ''})"
        )
    if differing:
        shapes = [f"{name} is {given[name]}, not {wanted[name]}" for name in differing[:3]]
        parts.append(f"{len(differing)} have another shape ({', '.join(shapes)})")
    raise InputError(
        f"checkpoint {origin} does not fit a UCF of width {model.width:g} with {model.method_classes} method "
        f"classes: {'; '.join(parts)}; give a checkpoint that `unmasked train` wrote for UCF"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _weights_path(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix == ".json":
        return path.with_suffix(".safetensors")
    return path / NAME if path.is_dir() or not path.suffix else path


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; give the {NAME} that `unmasked train` wrote")
    with open(path, "rb") as stream:
        start = stream.read(4)
    if start.startswith(PICKLES):
        raise InputError(
            f"checkpoint {path} is a pickle, which can run code when it is opened, and was not opened; "
            "give a .safetensors file"
        )


def _read_card(path: Path) -> dict[str, Any]:
    file = path.with_suffix(".json")
    if not file.is_file():
        raise InputError(
            f"checkpoint {path} has no card {file.name} beside it; training writes both, copy both"
        )
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"card {file} is not valid JSON ({error}); copy the one that training wrote"
        ) from error
    absent = [name for name in REQUIRED if name not in card] if isinstance(card, dict) else list(REQUIRED)
    if absent:
        raise InputError(f"card {file} lacks {', '.join(absent)}; copy the one that training wrote")
    if card["architecture"] != ARCHITECTURE:
        raise InputError(
            f"checkpoint {path} holds the architecture {card['architecture']!r}; only {ARCHITECTURE!r} fits: "
            "give one that `unmasked train` wrote"
        )
    return card


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"checkpoint {path} is not an intact safetensors file ({reason}); copy it again or train again"
        ) from error
