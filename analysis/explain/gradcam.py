"""Where in a picture a detector found evidence: Grad-CAM maps and their overlays.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization"
(ICCV 2017): the channels of a layer, weighted with the mean gradient of the class's logit and
summed; what is left above zero is evidence for the class.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import cv2
import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from unmasked.datasets.errors import InputError

logger = logging.getLogger(__name__)

FAKE = 1  # the logit that means "fake"
CamKind = Literal["cam", "cam++", "signed"]
SMOOTH_SHARE = 1 / 48  # of the picture's side, the spread of the blur of a map that is drawn
MAP_SHARE = 0.45  # how much of an overlay is map, the rest is picture


@dataclass(frozen=True)
class CamResult:
    """The maps of N pictures.

    Attributes:
        maps: (N, H, W) float32 in [0, 1], each scaled to its own maximum: 1 is where most of the
            evidence for the class lies, and two pictures' maps cannot be compared in strength. In [-1, 1]
            of a model that says ``cam_signed``: below 0 is evidence against the class.
        overlays: (N, H, W, 3) uint8 RGB, the map in colours over the picture.
        pictures: (N, H, W, 3) uint8 RGB, the picture alone.
        blank: (N,) bool; nothing in the layer is evidence for the class, so the map is zero everywhere and
            must not be read as "the detector looked nowhere".
    """

    maps: np.ndarray
    overlays: np.ndarray
    pictures: np.ndarray
    blank: np.ndarray


def overlays(
    model: nn.Module, images: Tensor, layer: nn.Module, *, target_class: int = FAKE, batch_size: int = 16
) -> CamResult:
    """Grad-CAM of each picture, over the picture.

    The model is left as it was: hooks removed, mode and parameters' gradients restored.

    Args:
        model: (N, 3, H, W) -> (N, classes) logits.
        images: (N, 3, H, W) float in [-1, 1], RGB.
        layer: a module of the model that runs once per forward pass and gives (N, C, h, w),
            or tokens (N, T, D).
        target_class: the logit whose evidence is shown.
        batch_size: pictures per pass.

    Raises:
        InputError: no pictures, a wrong shape, or a layer that the logits do not depend on or that runs
            more than once.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise InputError(
            f"images have the shape {tuple(images.shape)}; give (N, 3, H, W) with N of at least 1"
        )
    target = ClassifierOutputTarget(target_class)
    is_signed = bool(getattr(model, "cam_signed", False))
    maps = np.concatenate(
        [_maps(model, batch, layer, target, is_signed=is_signed) for batch in images.split(batch_size)]
    )
    blank = np.abs(maps).reshape(len(maps), -1).max(axis=1) <= 0
    if blank.any():
        logger.warning("%d of %d Grad-CAM maps are blank: no evidence for the class", blank.sum(), len(maps))
    pictures = to_pixels(images)
    return CamResult(
        maps, np.stack([overlay(*pair) for pair in zip(pictures, maps, strict=True)]), pictures, blank
    )


def to_pixels(images: Tensor) -> np.ndarray:
    """(N, 3, H, W) float in [-1, 1] -> (N, H, W, 3) uint8; values outside are clipped."""
    pixels = (images.detach().cpu().float().clamp(-1, 1) + 1) * 127.5
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()  # (N, 3, H, W) -> (N, H, W, 3)


def layer_map(model: nn.Module, images: Tensor, layer: nn.Module, kind: CamKind) -> Tensor:
    """(N, H, W) the map of a layer for the logit of fake less that of real.

    Args:
        model, images, layer: as of `overlays`.
        kind: Grad-CAM or Grad-CAM++ (Chattopadhyay et al., WACV 2018), or the sum over channels that Grad-CAM
            is before it is cut at 0: what is below 0 speaks for real. Each is scaled to
            its maximum.
    """
    library = GradCAMPlusPlus if kind == "cam++" else GradCAM
    maps = _maps(model, images, layer, _margin, library, is_signed=kind == "signed")
    return torch.from_numpy(maps)


def _margin(logits: Tensor) -> Tensor:
    return logits[FAKE] - logits[1 - FAKE]


def _maps(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    target: Callable[[Tensor], Tensor],
    library: type[GradCAM] = GradCAM,
    *,
    is_signed: bool = False,
) -> np.ndarray:
    was_training = model.training
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None  # or the library's zero_grad and backward would write into the caller's
    cam = library(model=model, target_layers=[layer], reshape_transform=partial(_as_map, model))
    try:
        # A frozen model has gradients only if the pictures ask for them.
        asking = images.detach().clone().requires_grad_(True)
        # The library's `with` block prints and swallows an IndexError; calling it does not.
        with torch.enable_grad():
            maps = cam.forward(asking, [target] * len(images))
        _check_ran_once(cam, layer)
        if is_signed:
            maps = _with_signs(cam, (images.shape[3], images.shape[2]))
    except (AttributeError, TypeError, ValueError):
        _check_ran_once(cam, layer)  # the usual cause, in words
        raise
    finally:
        cam.activations_and_grads.release()
        model.train(was_training)
        for parameter, gradient in gradients:
            parameter.grad = gradient
    return np.nan_to_num(maps).astype(np.float32)


def _with_signs(cam: GradCAM, size: tuple[int, int]) -> np.ndarray:
    """(N, H, W) in [-1, 1]: what the library's map is before it drops all that is negative."""
    kept = cam.activations_and_grads
    values, gradients = (found[0].detach().cpu().numpy() for found in (kept.activations, kept.gradients))
    cells = (values * gradients.mean(axis=(2, 3), keepdims=True)).sum(axis=1)
    maps = np.stack([cv2.resize(one, size) for one in cells])
    most = np.abs(maps).max(axis=(1, 2), keepdims=True)
    return np.divide(maps, most, out=np.zeros_like(maps), where=most > 0)


def _as_map(model: nn.Module, values: Tensor) -> Tensor:
    """(N, C, h, w) of a layer's output: itself, channels last, or tokens in rows after others.

    Tokens (N, T, D) of a transformer are those of a square of patches, behind ``cam_prefix_tokens`` others
    (an attribute of the model; as many as are over from the largest square if it has none).
    """
    if values.ndim == 3:
        side = math.isqrt(values.shape[1] - getattr(model, "cam_prefix_tokens", 0))
        patches = values[:, values.shape[1] - side * side :]
        return patches.unflatten(1, (side, side)).permute(0, 3, 1, 2).clone()
    if values.ndim == 4 and values.shape[1] == values.shape[2] != values.shape[3]:
        return values.permute(0, 3, 1, 2).clone()  # (N, h, w, C)
    # The copy matters: a ReLU in place right after the layer would overwrite the kept activations.
    return values.clone()


def _check_ran_once(cam: GradCAM, layer: nn.Module) -> None:
    runs, flows = len(cam.activations_and_grads.activations), len(cam.activations_and_grads.gradients)
    if (runs, flows) != (1, 1):
        raise InputError(_runs_sentence(layer, runs, flows))


def _runs_sentence(layer: nn.Module, runs: int, flows: int) -> str:
    return (
        f"the layer {type(layer).__name__} ran {runs} times in one pass and got {flows} gradients; "
        "Grad-CAM needs a layer that runs once and that the logits depend on"
    )


def in_grey(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 the picture without colours."""
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def smooth_map(values: np.ndarray) -> np.ndarray:
    """(H, W) in [-1, 1] a map (H, W) to be drawn: smoothed, and its highest hundredth alike.

    Maps of single pixels, such as integrated gradients, would show as faint speckles.
    """
    smoothed = cv2.GaussianBlur(values.astype(np.float32), (0, 0), max(0.5, len(values) * SMOOTH_SHARE))
    most = np.quantile(np.abs(smoothed), 0.99) or np.abs(smoothed).max()
    return np.clip(smoothed / (most or 1), -1, 1)


def overlay(picture: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: a map (H, W) in [-1, 1] in colours over the picture."""
    # Inferno rises in lightness, so it reads without colour; the usual rainbow does not. With red and blue
    # swapped it rises as well, from black to light blue: what is negative.
    heat = cv2.applyColorMap((np.abs(cam) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    heat = np.where(cam[..., None] < 0, heat, heat[..., ::-1])
    mixed = MAP_SHARE * heat + (1 - MAP_SHARE) * picture
    return (255 * mixed / max(mixed.max(), 1e-9)).astype(np.uint8)
