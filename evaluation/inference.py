"""A network made ready to score: norms folded away, batches that fit the cache."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from unmasked.datasets.transforms import normalise

Precision = Literal["fp32", "bf16"]

PIECE_PIXELS = 4 * 256**2  # the maps of four such images stay in a core's second-level cache
GAIN = 1.2  # times as fast, from which on other scores are worth it
TOLERANCE = 1e-4  # of folded logits and features, relative to the largest one
_twins: WeakSet[nn.Module] = WeakSet()


def place_of(device: str) -> torch.device:
    """The device of a name; ``auto`` takes a GPU where there is one."""
    return torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(model: object, size_px: int, device: str) -> Precision:
    """What ``auto`` stands for: bf16 where hardware has it and this network gains by it.

    Args are those of `ready_to_score`.
    """
    place = place_of(device)
    if not isinstance(model, nn.Module):
        return "fp32"
    if place.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    if place.type != "cpu" or not any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")):
        return "fp32"
    # Some networks lose more by conversions than they gain (EfficientNets do).
    ready: Any = ready_to_score(model, size_px, device)
    images = torch.zeros(4, 3, size_px, size_px, dtype=torch.uint8)
    return "bf16" if _seconds(ready, images, "bf16") * GAIN < _seconds(ready, images, "fp32") else "fp32"


def _seconds(model: nn.Module, images: Tensor, precision: Precision) -> float:
    """Processor time of the fastest of three."""
    times = []
    for _ in range(3):
        since = time.process_time()
        compute(model, images, "cpu", precision)
        times.append(time.process_time() - since)
    return min(times)


def ready_to_score(model: object, size_px: int, device: str) -> object:
    """The model in evaluation mode on its device; of a network on a processor, a faster twin.

    In the twin each batch norm is folded into the convolution whose output it alone is given, and weights lie
    in memory as convolutions there read them (channels last). It is taken only where it computes the same as
    the network to `TOLERANCE`; the network itself keeps its weights. A twin is its own: who
    scores often makes it once.

    Args:
        model: a module, or any callable, which is returned as it is.
        size_px: side of the images.
        device: as of `place_of`.
    """
    if not isinstance(model, nn.Module):
        return model
    place = place_of(device)
    model.eval().to(place)
    if place.type != "cpu" or model in _twins or not _has_convolutions(model):
        return model
    images = torch.rand(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(0)) * 2 - 1
    twin = copy.deepcopy(model)
    before = _answers(model, images)
    for norm, convolution in _foldable(twin, images):
        _fold(twin, norm, convolution)
    twin.to(memory_format=torch.channels_last)
    try:
        if not _is_same(before, _answers(twin, images)):
            return model
    except AttributeError:  # the network itself reads what its norms held
        return model
    _twins.add(twin)
    return twin


@torch.inference_mode()
def compute(
    function: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    images: Tensor,
    device: str,
    precision: Precision = "fp32",
) -> Any:
    """What a network, or a method of one, answers to (N, 3, H, W) uint8 images.

    On a processor a network that convolves is given few images at a time.
    """
    place = place_of(device)
    owner = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    pieces = [images]
    if isinstance(owner, nn.Module):
        owner.eval().to(place)
        if place.type == "cpu" and _has_convolutions(owner):
            pieces = list(images.split(max(1, PIECE_PIXELS // (images.shape[-1] * images.shape[-2]))))
    with torch.autocast(place.type, torch.bfloat16, enabled=precision == "bf16"):
        answers = [function(normalise(piece.to(place, non_blocking=True))) for piece in pieces]
    first = answers[0]
    if len(answers) == 1:
        return first
    if isinstance(first, tuple):
        return tuple(torch.cat(parts) for parts in zip(*answers, strict=True))
    return torch.cat(answers)  # type: ignore[arg-type]


def _has_convolutions(model: nn.Module) -> bool:
    return any(
        isinstance(module, nn.Conv2d) and module.kernel_size != module.stride for module in model.modules()
    )


@torch.inference_mode()
def _answers(model: nn.Module, images: Tensor) -> list[Tensor]:
    features = getattr(model, "features", None)
    return [model(images), *([features(images)] if features is not None else [])]


def _is_same(before: list[Tensor], after: list[Tensor]) -> bool:
    return all(
        bool((one - other).abs().max() <= TOLERANCE * one.abs().max())
        for one, other in zip(before, after, strict=True)
    )


def _foldable(model: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Names of batch norms, each with the convolution that computes its input, both called once."""
    made: dict[int, str] = {}  # by the identity of the maps, which `kept` keeps from being used again
    kept: list[Tensor] = []
    calls: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []

    def look(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            if isinstance(module, nn.Conv2d):
                made[id(output)] = name
                kept.append(output)
            elif id(inputs[0]) in made and module.running_mean is not None:
                pairs.append((name, made[id(inputs[0])]))

        return hook

    with _hooks(model, look), torch.inference_mode():
        model(images[:1])
    taken = [convolution for _, convolution in pairs]
    return [
        (norm, convolution)
        for norm, convolution in pairs
        if calls[norm] == calls[convolution] == taken.count(convolution) == 1
    ]


@contextmanager
def _hooks(model: nn.Module, look: Callable[[str], Callable[..., None]]) -> Iterator[None]:
    handles = [
        module.register_forward_hook(look(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _fold(model: nn.Module, norm: str, convolution: str) -> None:
    batch_norm = cast(nn.BatchNorm2d, model.get_submodule(norm))
    before = cast(nn.Conv2d, model.get_submodule(convolution))
    model.set_submodule(convolution, fuse_conv_bn_eval(before, batch_norm))
    # timm's batch norms rectify as well.
    rest = [part for name in ("drop", "act") if (part := getattr(batch_norm, name, None)) is not None]
    model.set_submodule(norm, nn.Sequential(*rest))
