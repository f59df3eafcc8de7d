"""A trained UCF as two files: ``detector.safetensors`` (weights) and ``detector.json`` (its card).

The card says what the weights are: architecture, width, method classes, preprocessing recipe, training
data, selection rule, thresholds, SHA-256 of the weights, licence. Nothing is ever unpickled.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        complete = {
            "detector": "UCF",
            "architecture": ARCHITECTURE,
            "width": model.width,
            "preprocessing": {**PREPROCESSING, "size_px": card["size_px"]},
            "thresholds": {},
            "licence": LICENCE,
            **card,
            "sha256": sha256_of_file(temporary),
        }
        # Before the weights take their place: if the disk is full by now, the old two stay together.
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
    weights = read_safetensors(path)
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


@dataclass(frozen=True)
class Misfit:
    """A weight that a model and a file do not share.

    Attributes:
        name: in the state dict.
        wanted: shape in the model, None if it has no such weight.
        given: shape in the file, None if it is absent there.
    """

    name: str
    wanted: tuple[int, ...] | None
    given: tuple[int, ...] | None

    def __str__(self) -> str:
        if self.given is None:
            return f"{self.name}: absent, wanted {self.wanted}"
        if self.wanted is None:
            return f"{self.name}: unknown, given {self.given}"
        return f"{self.name}: given {self.given}, wanted {self.wanted}"


def misfits(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[Misfit]:
    """Every weight that is absent, unknown or of another shape; wanted ones first, each in its own order."""
    pairs = [(name, tuple(value.shape), _shape(given.get(name))) for name, value in wanted.items()]
    unknown = [Misfit(name, None, _shape(value)) for name, value in given.items() if name not in wanted]
    return [Misfit(name, shape, other) for name, shape, other in pairs if shape != other] + unknown


def describe(found: Sequence[Misfit], of: int) -> str:
    """Misfits in one clause: how many of each kind, and the first few by name.

    Args:
        found: at least one.
        of: number of weights that the model has.
    """
    absent = [misfit.name for misfit in found if misfit.given is None]
    unknown = [misfit.name for misfit in found if misfit.wanted is None]
    differing = [misfit for misfit in found if misfit.given is not None and misfit.wanted is not None]
    parts = []
    if absent:
        parts.append(f"{len(absent)} of {of} weights are absent ({_some(absent)})")
    if unknown:
        near = difflib.get_close_matches(unknown[0], absent, n=1)
        meant = f"; is {near[0]} meant?" if near else ""
        parts.append(f"{len(unknown)} are not its own ({_some(unknown)}{meant})")
    if differing:
        shapes = [f"{misfit.name} is {misfit.given}, not {misfit.wanted}" for misfit in differing[:3]]
        parts.append(f"{len(differing)} have another shape ({', '.join(shapes)})")
    return "; ".join(parts)


def check_weights(
    model: UCF,
    weights: Mapping[str, torch.Tensor],
    origin: str,
    advice: str = "give a checkpoint that `unmasked train` wrote for UCF",
) -> None:
    """Raises InputError that names what does not fit unless names and shapes are those of the model."""
    wanted = model.state_dict()
    found = misfits(wanted, weights)
    if found:
        raise InputError(
            f"checkpoint {origin} does not fit a UCF of width {model.width:g} with {model.method_classes} "
            f"method classes: {describe(found, len(wanted))}; {advice}"
        )


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, on the CPU; InputError if it is not an intact safetensors file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"checkpoint {path} is not an intact safetensors file ({reason}); copy it again or train again"
        ) from error


def _shape(value: torch.Tensor | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)


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
