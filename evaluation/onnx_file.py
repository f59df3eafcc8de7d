"""A detector as an ONNX file: pixels in, scores out, equal to what `predict` gives."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path
from unmasked.datasets.transforms import normalise

TOLERANCE = 1e-4  # of a score between the file and the network, in float32
CHECKED = (1, 8)  # numbers of images at which they are compared: the graph must not hold one of them


class Comparison(NamedTuple):
    """A file beside the network that it is of."""

    difference: float  # the largest, of a score
    lowest: float  # score of the network's on what they were compared on
    highest: float


class _FromPixels(nn.Module):
    """Pixels to scores, so that who runs the file needs to know nothing of the detector."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 RGB -> (N,) score, 1 = fake."""
        return self.model(normalise(images)).softmax(1)[:, 1]


def write_onnx(model: object, card: Mapping[str, Any], path: Path) -> Comparison:
    """Writes the file, and returns how far its scores are from the network's.

    Its input ``images`` is (N, 3, S, S) uint8, RGB crops as `preprocess` writes them, its output ``score`` is
    (N,) float32 in [0, 1], 1 = fake. Name, weights' hash, threshold and licence of the card are in its
    metadata.

    Args:
        model: a network.
        card: of the detector.
        path: of the ``.onnx`` file; nothing is left there if the scores differ.

    Raises:
        InputError: the detector is no network, packages are not installed, or the network cannot be written
            as such a file or not with equal scores.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"detector {card['architecture']} is no network, and ONNX files are written of networks alone; "
            "`unmasked export-checkpoint` copies what was fitted"
        )
    try:
        onnx = import_module("onnx")
        runtime = import_module("onnxruntime")
        import_module("onnxscript")  # the exporter needs it
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install unmasked[onnx]") from error
    whole, size = _FromPixels(model).eval(), card["size_px"]
    with atomic_path(path) as temporary:
        _export(whole, size, temporary)
        _describe(onnx, temporary, card)
        session = runtime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        if isinstance(session.get_inputs()[0].shape[0], int):
            raise InputError(
                "the network cannot be written as an ONNX file: it takes the number of images for a "
                "constant; nothing was written"
            )
        compared = _compare(session, whole, size)
        if not compared.difference <= TOLERANCE:
            raise InputError(
                f"the ONNX file's scores differ from the network's by {compared.difference:.1g}, more than "
                f"{TOLERANCE:g}; nothing was written. A layer of it is not exported as it computes"
            )
    return compared


def _export(whole: nn.Module, size: int, path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own, on things that nobody can change
            program = torch.onnx.export(
                whole,
                (torch.zeros(2, 3, size, size, dtype=torch.uint8),),
                input_names=["images"],
                output_names=["score"],
                dynamic_shapes=({0: torch.export.Dim("images")},),
                verbose=False,
            )
            assert program is not None
            program.save(path, external_data=False)
    except (torch.onnx.OnnxExporterError, ValueError) as error:
        said = str(error).strip().split("\n")[0]
        raise InputError(f"the network cannot be written as an ONNX file: {said}") from error


def _describe(onnx: Any, path: Path, card: Mapping[str, Any]) -> None:
    """Writes the card's facts into the file's metadata, and checks that the file is sound."""
    file = onnx.load(path)
    facts = {name: card.get(name) for name in ("architecture", "detector", "sha256", "threshold", "licence")}
    onnx.helper.set_model_props(file, {name: json.dumps(fact) for name, fact in facts.items()})
    onnx.checker.check_model(file)
    onnx.save(file, path)


def _compare(session: Any, whole: nn.Module, size: int) -> Comparison:
    generator = torch.Generator().manual_seed(0)
    found, expected = [], []
    for count in CHECKED:
        images = _random_images(count, size, generator)
        found.append(session.run(None, {"images": images.numpy()})[0])
        with torch.inference_mode():
            expected.append(whole(images).numpy())
    scores = np.concatenate(expected)
    difference = np.abs(np.concatenate(found) - scores).max()
    return Comparison(float(difference), float(scores.min()), float(scores.max()))


def _random_images(count: int, size: int, generator: torch.Generator) -> Tensor:
    """(N, 3, S, S) uint8: noise of little or much contrast upon a random colour.

    Of strong noise alone a network may say 1.0 throughout, whatever its layers compute.
    """
    colour = torch.rand(count, 3, 1, 1, generator=generator)
    contrast = torch.rand(count, 1, 1, 1, generator=generator) ** 3
    noise = torch.rand(count, 3, size, size, generator=generator)
    return (255 * (colour + contrast * (noise - colour))).round().to(torch.uint8)
