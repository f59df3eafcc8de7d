"""A trained detector as two files.

``detector.safetensors`` (weights) and ``detector.json`` (its card).
The card says what the weights are: which detector, its settings, method classes, what its input is, training
data, selection rule, thresholds, SHA-256 of the weights, licence. Nothing is ever unpickled. A detector
without gradients keeps its own file, of another suffix, in place of the weights.
"""

from __future__ import annotations

import os
import pickle  # for the name of the error with which torch refuses code  # nosec B403
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unmasked.datasets.archives import check_zip
from unmasked.datasets.cards import absent_checkpoint, card_path, check_card
from unmasked.datasets.documents import read_json, write_json
from unmasked.datasets.errors import InputError, nearest_name
from unmasked.datasets.file_kinds import kind_of_file
from unmasked.datasets.files import atomic_path, sha256_of_file, sync_file
from unmasked.training.detector import Scorer
from unmasked.training.handle import Detector

NAME = "detector.safetensors"
WEIGHTS = ".safetensors"
PREPROCESSING = {
    "colour": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "value_range": [-1.0, 1.0],
}
LICENCE = "Code: MIT. The weights are also bound by the terms of the data they were trained on."
PICKLES = (b"PK\x03\x04", b"\x80")  # torch's archive, and a bare pickle
REQUIRED = ("architecture", "method_classes", "size_px", "sha256")
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIX = "module."

Card = dict[str, Any]


def save(detector: Detector, model: nn.Module, path: str | os.PathLike[str], card: Mapping[str, Any]) -> Path:
    """Writes weights and card, each whole or not at all, and returns the path of the weights.

    Args:
        detector: whose network it is.
        model: its weights are stored as they are, whatever their device.
        path: a folder, or a path that ends in ``.safetensors``.
        card: at least ``method_classes`` (names, "real" first) and ``size_px``; what else is known of
            training. Architecture, normalisation, hash and licence are added.
    """
    path = weights_path(path)
    with atomic_path(path) as temporary:
        save_file(_separate(model.state_dict()), temporary, metadata={"architecture": detector.name})
        complete = {**_facts(detector, card, model), "sha256": sha256_of_file(temporary)}
        # Before the weights take their place: if the disk is full by now, the old two stay together.
        write_json(path.with_suffix(".json"), complete)
    return path


def save_fitted(detector: Detector, file: Path, folder: Path, card: Mapping[str, Any]) -> Path:
    """Moves what a detector without gradients wrote to its place, with its card beside it.

    Returns its path.

    Args:
        detector: whose file it is.
        file: what its `fit` wrote, on the same disk.
        folder: gets ``detector.json`` and ``detector`` with the file's suffix.
        card: as of `save`.
    """
    path = folder / f"detector{file.suffix}"
    complete = {**_facts(detector, card), "file": path.name, "sha256": sha256_of_file(file)}
    sync_file(file)
    write_json(path.with_suffix(".json"), complete)
    os.replace(file, path)
    return path


def load(detector: Detector, path: str | os.PathLike[str]) -> tuple[Scorer, Card]:
    """The detector, on the CPU, and its card; a network is in evaluation mode.

    Args:
        detector: whose checkpoint it is.
        path: the file of weights with its ``.json`` beside it, or the folder of both.

    Raises:
        InputError: a file is absent, is a pickle or no safetensors file, belongs to another
            architecture, or weights and card do not belong together.
    """
    card = read_card(path)
    path = stored_file(path)
    if card["architecture"] != detector.name:
        raise InputError(
            f"checkpoint {path} holds the architecture {card['architecture']!r}; only {detector.name!r} "
            "fits: give one that `unmasked train` wrote for it"
        )
    if not detector.has_gradients:
        _check_hash(path, card)
        return read_fitted(detector, path, card), card
    weights = read_safetensors(path)
    _check_shapes(detector, card, weights, path)
    model = from_card(detector, card)
    check_weights(model, weights, str(path), what=described(detector, card))
    is_empty = any(value.is_meta for value in model.state_dict().values())
    model.load_state_dict(weights, assign=is_empty)
    _check_hash(path, card)
    return model.eval().requires_grad_(True), card


def _check_shapes(detector: Detector, card: Card, weights: Mapping[str, Tensor], path: Path) -> None:
    """Raises InputError where weights do not fit a card, before a network is made.

    A stranger's card may name the largest network that there is, which would fill the memory.
    """
    try:
        with torch.device("meta"):
            model = from_card(detector, card)
    except Exception:  # not every network can be made without memory: whatever it raises, `load` will see
        return
    check_weights(model, weights, str(path), what=described(detector, card))


def read_fitted(detector: Detector, path: Path, card: Card) -> Scorer:
    """What a detector without gradients reads from its file.

    Raises:
        InputError: it cannot, whatever it raises: the file may be damaged or hostile.
    """
    try:
        found = detector.module.read(path, card)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"detector {detector.name} cannot read {path} ({type(error).__name__}: {reason}); give the file "
            "that it wrote"
        ) from error
    if not callable(found):
        raise InputError(
            f"detector {detector.name}: read returned {type(found).__name__}; it must return a callable from "
            "images to logits"
        )
    return found


def from_card(detector: Detector, card: Card) -> nn.Module:
    """The network that a card speaks of, its weights still to be filled in.

    Raises:
        InputError: the card's settings are not those of the detector.
    """
    try:
        if given := detector.part("from_card"):
            return given(card)
        config = detector.config.model_validate(card["config"])
        return detector.build(config, list(card["method_classes"]))
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the card of the checkpoint does not describe a network of {detector.name} ({reason}); give the "
            "card that training wrote, and the module as it was then"
        ) from error


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


def misfits(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[Misfit]:
    """Every weight that is absent, unknown or of another shape; wanted ones first, in order."""
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
        near = nearest_name(unknown[0], absent)
        meant = f"; is {near} meant?" if near else ""
        parts.append(f"{len(unknown)} are not its own ({_some(unknown)}{meant})")
    if differing:
        shapes = [f"{misfit.name} is {misfit.given}, not {misfit.wanted}" for misfit in differing[:3]]
        parts.append(f"{len(differing)} have another shape ({', '.join(shapes)})")
    return "; ".join(parts)


def check_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    origin: str,
    *,
    what: str,
    advice: str = "give a checkpoint that `unmasked train` wrote for it",
) -> None:
    """Raises InputError that names what does not fit, if names or shapes differ."""
    wanted = model.state_dict()
    found = misfits(wanted, weights)
    if found:
        raise InputError(f"checkpoint {origin} does not fit {what}: {describe(found, len(wanted))}; {advice}")


def fill(model: nn.Module, weights: Mapping[str, Tensor], origin: str, *, what: str, advice: str) -> None:
    """Puts weights from elsewhere into a network, which is in evaluation mode then.

    Args:
        model: on the CPU, or without memory.
        weights: by name; of half precision perhaps, and sharing memory.
        origin, what, advice: the file, what the network is, and what to do, for messages.

    Raises:
        InputError: names or shapes do not fit, or a value is not finite.
    """
    check_weights(model, weights, origin, what=what, advice=advice)
    broken = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InputError(
            f"checkpoint {origin} holds values that are not finite in {len(broken)} weights, {broken[0]} "
            "first; it cannot score anything: take an earlier one"
        )
    wanted = model.state_dict()
    model.load_state_dict({n: v.to(wanted[n].dtype).clone() for n, v in weights.items()}, assign=True)
    model.eval().requires_grad_(True)


def imported_card(path: Path, size_px: int) -> Card:
    """What a card says of a file from elsewhere: which one it was, and the side of its input."""
    facts = {"file": path.name, "sha256": sha256_of_file(path), "bytes": path.stat().st_size}
    return {"size_px": size_px, "imported": facts}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU; InputError if it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            _other_kind(path)
            or f"checkpoint {path} is not an intact safetensors file ({reason}); copy it again or train again"
        ) from error


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or ``.pth`` file by name; no code of it is run.

    See `read_safetensors` and `read_state_dict`.
    """
    path = Path(path)
    return read_safetensors(path) if path.suffix == ".safetensors" else read_state_dict(path)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file by name, on the CPU.

    The state dict may be wrapped in ``state_dict``, ``model_state_dict`` or ``model``, and its names may
    begin with ``module.``.

    Raises:
        InputError: the file is absent, or holds anything that would run code, or no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; give the path of a PyTorch .pth file")
    return _flatten_state(_load(path), path)


def read_training_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state of a stopped training, its tensors without their values; no code of it is run.

    Raises:
        InputError: it is damaged, would run code, unpacks to far more than its size, or is no such state.
    """
    path = Path(path)
    after = "begin again with restart=true, or in another out=…"
    try:
        state = _load(path, device="meta")
    except InputError as error:
        raise InputError(f"the training cannot go on from {path}: {error}. Or {after}") from error
    if not (isinstance(state, dict) and type(state.get("global_step")) is int):
        raise InputError(f"{path} is not the state of a training; {after}")
    return state


def _load(path: Path, *, device: str = "cpu") -> Any:
    """What `torch.save` wrote; an InputError where that may not, or cannot, be read."""
    check_zip(path)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(_other_kind(path) or _refusal(path, str(error))) from error
    except Exception as error:  # whatever damaged bytes make torch's reader raise
        reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
        said = f"checkpoint {path} is not an intact PyTorch file ({reason}); copy it again"
        raise InputError(_other_kind(path) or said) from error


def write_state_dict(model: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Writes the flat state dict as a ``.pth`` file, whole or not at all; returns its path."""
    state = OrderedDict(
        (name, value.detach().cpu().contiguous()) for name, value in model.state_dict().items()
    )
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
    return Path(path)


def _shape(value: Tensor | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def weights_path(path: str | os.PathLike[str]) -> Path:
    """The file of weights of a folder, of a card, or of itself."""
    path = Path(path)
    if path.suffix == ".json":
        return path.with_suffix(WEIGHTS)
    return path / NAME if path.is_dir() or not path.suffix else path


def stored_file(path: str | os.PathLike[str]) -> Path:
    """The file that a card speaks of, given it, the card or their folder.

    Raises:
        InputError: it is absent, or a pickle.
    """
    path = weights_path(path)
    if not path.is_file() and path.with_suffix(".json").is_file():
        named = Path(str(read_card(path).get("file", path.name))).name  # never a path that leads elsewhere
        path = path.with_name(named)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; {absent_checkpoint(path)}")
    if path.suffix == WEIGHTS:
        with open(path, "rb") as stream:
            start = stream.read(9)
        # A safetensors file begins with the length of its JSON, whose lowest byte may be a pickle's first.
        if start.startswith(PICKLES) and start[8:] != b"{":
            raise InputError(
                f"checkpoint {path} is a pickle, which can run code when it is opened, and was not opened; "
                "give a .safetensors file"
            )
    return path


def read_card(path: str | os.PathLike[str]) -> Card:
    """The card of a checkpoint, given its file of weights, itself, or their folder.

    Raises:
        InputError: it is absent or damaged.
    """
    file = card_path(Path(path))
    path = weights_path(path)
    if not file.is_file():
        if not path.is_file():
            raise InputError(f"checkpoint {path} does not exist; {absent_checkpoint(path)}")
        raise InputError(
            _other_kind(path)
            or f"checkpoint {path} has no card {file.name} beside it; training writes both, copy both. "
            "Weights from elsewhere get one by `unmasked import-checkpoint file=…`"
        )
    card = read_json(file, "copy the one that training wrote", what="card")
    absent = [name for name in REQUIRED if name not in card]
    if absent:
        raise InputError(f"card {file} lacks {', '.join(absent)}; copy the one that training wrote")
    return {"detector": str(card["architecture"]), **check_card(card, file)}


def _facts(detector: Detector, card: Mapping[str, Any], model: nn.Module | None = None) -> Card:
    given = detector.part("card") if model is not None else None
    return {
        "detector": detector.title,
        "architecture": detector.name,
        "preprocessing": {**PREPROCESSING, "size_px": card["size_px"]},
        "thresholds": {},
        "licence": LICENCE,
        **(given(model) if given else {}),
        **card,
    }


def _separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU that share no memory: weights that are tied are stored twice."""
    seen: set[int] = set()
    found = {}
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def described(detector: Detector, card: Mapping[str, Any]) -> str:
    """A network in words: whose, how wide, for how many classes."""
    classes = len(card["method_classes"])
    width = f" of width {card['width']:g}" if "width" in card else ""
    return f"a {detector.title}{width} with {classes} method classes"


def _check_hash(path: Path, card: Card) -> None:
    digest = sha256_of_file(path)
    if digest != card["sha256"]:
        raise InputError(
            f"checkpoint {path} has the SHA-256 {digest[:12]}…, its card says {str(card['sha256'])[:12]}…; "
            "give the two files that training wrote together"
        )


def _other_kind(path: Path) -> str:
    """What a file is that is no checkpoint at all, and what to give; "" where it may be a damaged one."""
    kind = kind_of_file(path) if path.is_file() else ""
    if not kind or (kind == "a ZIP archive" and _is_torchs(path)):
        return ""
    return (
        f"checkpoint {path} is no checkpoint: it is {kind}. Give the {NAME} that `unmasked train` or "
        "`unmasked import-checkpoint` wrote, or to the latter a .pth file of weights"
    )


def _is_torchs(path: Path) -> bool:
    """True if a ZIP archive is one that `torch.save` writes, or too damaged to tell."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    # What zipfile raises of a list that is damaged, has impossible places, or is of a later version.
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return True


def _refusal(path: Path, reason: str) -> str:
    with open(path, "rb") as stream:
        if not stream.read(9).startswith((*PICKLES, b"PK")):
            return f"checkpoint {path} is no PyTorch file, or a damaged one; give a .pth file"
    named = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", reason)
    what = f"calls {named[1]}" if named else "holds more than tensors"
    return (
        f"checkpoint {path} is a pickle that {what} when it is opened; it was refused without running it: "
        "give a file that holds nothing but a state dict of tensors"
    )


def _flatten_state(stored: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(stored, dict) and isinstance(stored.get(wrapper), dict):
            stored = stored[wrapper]
    if (
        not isinstance(stored, dict)
        or not stored
        or not all(isinstance(value, Tensor) for value in stored.values())
    ):
        keys = f"; it has {', '.join(map(str, list(stored)[:8]))}" if isinstance(stored, dict) else ""
        raise InputError(f"checkpoint {path} holds no state dict{keys}. Give a .pth file of named tensors")
    return {str(name).removeprefix(PREFIX): value for name, value in stored.items()}
