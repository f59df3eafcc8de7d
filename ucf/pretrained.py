"""Xception's start from ImageNet, for both encoders of a UCF of full width.

Two files are known: the one in Cadene's naming (``xception-b5690688.pth``: pointwise weights have two
dimensions, batch norms no counter), which the published detector started from, and timm's
``legacy_xception``. Both were trained on images in [-1, 1], as UCF sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from unmasked.datasets.errors import InputError
from unmasked.training.checkpoint import describe, misfits, read_safetensors, read_state_dict
from unmasked.ucf.model import UCF

TIMM = "timm"
TIMM_MODEL = "legacy_xception"
CLASSIFIERS = ("fc.", "last_linear.")  # of ImageNet's 1000 classes
OURS_ALONE = ("adjust_channel.", "last_linear.")  # no ImageNet weights exist for these: they start random
OPTIONAL = ".num_batches_tracked"
WITHOUT = (
    "both encoders start from random weights, not from ImageNet's as the published detector's do: expect to "
    "need more epochs, and do not expect its published AUCs"
)


def start_from_imagenet(model: UCF, source: str) -> None:
    """Fills both encoders but their last 1x1 convolution, which starts random as published.

    Args:
        model: of width 1.
        source: a ``.pth`` or ``.safetensors`` file, or ``timm``, which may download its weights.

    Raises:
        InputError: the model is narrower, or the weights cannot be downloaded or are not Xception's.
    """
    if model.width != 1:
        raise InputError(
            f"model.imagenet={source} fits model.width=1 only, not {model.width:g}: there are no ImageNet "
            "weights for other widths; leave out one of the two"
        )
    weights = _convert_layout(_from_timm() if source == TIMM else _from_file(Path(source)))
    for encoder in (model.encoder_f, model.encoder_c):
        wanted = {
            name: value for name, value in encoder.state_dict().items() if not name.startswith(OURS_ALONE)
        }
        problems = [
            misfit
            for misfit in misfits(wanted, weights)
            if misfit.given is not None or not misfit.name.endswith(OPTIONAL)
        ]
        if problems:
            raise InputError(
                f"model.imagenet={source} does not hold Xception's weights: "
                f"{describe(problems, len(wanted))}; give xception-b5690688.pth in Cadene's naming, or {TIMM}"
            )
        encoder.load_state_dict(weights, strict=False)


def start(source: str | None) -> str:
    """What training starts from, in a sentence, and what is lost without ImageNet's weights."""
    return f"encoders start from ImageNet's weights ({source})" if source else WITHOUT


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(
            f"model.imagenet={path} does not exist; give xception-b5690688.pth or a file of timm's "
            f"{TIMM_MODEL}, or model.imagenet={TIMM} to let timm fetch it. Without it {WITHOUT}"
        )
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return read_state_dict(path)


def _from_timm() -> Mapping[str, Tensor]:
    import timm

    try:
        return timm.create_model(TIMM_MODEL, pretrained=True).state_dict()
    except (OSError, RuntimeError, ValueError) as error:  # what timm and its hub raise without a network
        lines = str(error).strip().splitlines()
        raise InputError(
            f"model.imagenet={TIMM}: timm could not get {TIMM_MODEL} ({lines[0] if lines else type(error)}); "
            f"connect once, or give the file with model.imagenet=FILE. Without it {WITHOUT}"
        ) from error


def _convert_layout(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the classifier; pointwise weights (O, I) -> (O, I, 1, 1)."""
    kept = {name: value for name, value in weights.items() if not name.startswith(CLASSIFIERS)}
    return {
        name: value[:, :, None, None] if name.endswith("pointwise.weight") and value.ndim == 2 else value
        for name, value in kept.items()
    }
