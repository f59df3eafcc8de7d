"""Maps of what in a picture speaks for "fake": eight methods behind one signature.

What is explained is the margin, the logit of fake less that of real, of which P(fake) is the sigmoid: a
single logit may rise while its picture becomes more real. Where a method takes something away, a blurred copy
of the picture stands in: it keeps colour and light, and loses the detail that manipulations leave.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unmasked.analysis.explain.gradcam import CamKind, layer_map
from unmasked.analysis.explain.importance import shapley
from unmasked.analysis.explain.regions import REGIONS, face_regions, grid
from unmasked.datasets.errors import InputError, did_you_mean
from unmasked.evaluation.inference import PIECE_PIXELS, ready_to_score

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLUR_SHARE = 1 / 8  # of the picture's side, the spread of the blur
STEPS = 32  # of the path of integrated gradients
WINDOW_SHARE = 1 / 8  # of the picture's side, what occlusion covers; it moves by half of it
LIME_DRAWS = 200
BACKWARD = 3  # a pass with gradients costs about as much as three without
LIME_WIDTH = 0.25  # of the kernel, in shares of cells taken away


@dataclass(frozen=True)
class Explained:
    """A detector as the methods see it.

    Attributes:
        model: (N, 3, H, W) in [-1, 1] -> (N, 2) logits of real and fake.
        layer: of the model, for the CAMs; None has none.
        seed: of what is drawn.
        batch_size: pictures in one pass.
        scale: room around the faces, see `align.template`.
        count: called with how many pictures went through the detector, see `Method.passes`.
    """

    model: Callable[[Tensor], Tensor]
    layer: nn.Module | None = None
    seed: int = 0
    batch_size: int = 16
    scale: float = 1.3
    count: Callable[[float], None] = lambda _: None
    _ready: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def margin(self, images: Tensor) -> Tensor:
        """(N,) logit of fake less logit of real."""
        logits = self.model(images)
        return logits[:, 1] - logits[:, 0]

    def margins(self, images: Tensor) -> NDArray[np.float64]:
        """(N,) `margin` of many pictures, without gradients.

        A network's faster twin computes them, made at the first call: weights must not change after it.
        """
        model, side, at_once = self.model, images.shape[-1], self.batch_size
        was_training = isinstance(model, nn.Module) and model.training
        if isinstance(model, nn.Module):
            if side not in self._ready:
                self._ready[side] = ready_to_score(model.eval(), side, images.device.type)
            if images.device.type == "cpu":
                at_once = min(at_once, max(1, PIECE_PIXELS // side**2))
            model.eval()
        scorer = replace(self, model=self._ready.get(side, model))
        try:
            with torch.inference_mode():
                parts = [scorer.margin(part).double().cpu().numpy() for part in images.split(at_once)]
        finally:
            if isinstance(model, nn.Module):
                model.train(was_training)
        self.count(len(images))
        return np.concatenate(parts)

    def shuffled(self, share: float) -> Explained:
        """A copy whose weights are shuffled within their tensors, from the last on (a share).

        A shuffled tensor keeps its size and spread, and knows nothing (Adebayo et al., NeurIPS 2018).
        """
        assert isinstance(self.model, nn.Module)
        name = next((name for name, module in self.model.named_modules() if module is self.layer), None)
        model = copy.deepcopy(self.model)
        values = list(model.parameters())
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for value in values[-max(1, round(share * len(values))) :]:
                order = torch.randperm(value.numel(), generator=generator).to(value.device)
                value.copy_(value.flatten()[order].view_as(value))
        layer = model.get_submodule(name) if name is not None else None
        return replace(self, model=model, layer=layer)


@dataclass(frozen=True)
class Method:
    """A way to make maps.

    Attributes:
        title: in words.
        make: the maps (N, H, W) of pictures (N, 3, H, W).
        needs: what the detector must have.
        passes: what one map costs, in pictures that go through the detector without gradients.
        absent: what stands in for what is taken away, "" where nothing is.
        has_sum: the values add up to the margin less that of the blurred picture.
    """

    title: str
    make: Callable[[Explained, Tensor], Tensor]
    needs: Literal["layer", "gradients", "calls"]
    passes: int
    absent: str = ""
    has_sum: bool = False


def method_maps(explained: Explained, images: Tensor, name: str) -> NDArray[np.float32]:
    """(N, H, W) maps of a method; the model and its gradients are left as they were.

    Args:
        explained: the detector.
        images: (N, 3, H, W) in [-1, 1].
        name: one of `METHODS`.

    Raises:
        InputError: see `check_methods`.
    """
    check_methods([name], explained)
    method, model = METHODS[name], explained.model
    was_training = isinstance(model, nn.Module) and model.training
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    kept = [(value, value.grad, value.requires_grad) for value in parameters]
    if isinstance(model, nn.Module):
        model.eval()
    for value, _, _ in kept:
        value.requires_grad_(False)  # only the picture's gradient is asked for
    try:
        maps = []
        for part in images.split(explained.batch_size):
            maps.append(method.make(explained, part))
            if method.needs != "calls":  # which `margins` counts
                explained.count(method.passes * len(part))
    finally:
        if isinstance(model, nn.Module):
            model.train(was_training)
        for value, gradient, asks in kept:
            value.requires_grad_(asks)
            value.grad = gradient
    return torch.cat(maps).detach().float().cpu().numpy()


def check_methods(names: list[str] | tuple[str, ...], explained: Explained) -> None:
    """Refuses methods that there are not, and those that the detector cannot have.

    Raises:
        InputError: it names the nearest one, or those that can be made.
    """
    can = _abilities(explained)
    fitting = fitting_methods(explained)
    for name in names:
        if name not in METHODS:
            near = did_you_mean(name, METHODS)
            raise InputError(f"method {name!r} is not known{near}; choose from {', '.join(METHODS)}")
        if METHODS[name].needs not in can:
            lacks = "gradients" if "gradients" not in can else "a cam_layer"
            raise InputError(
                f"method {name} needs a detector with {lacks}, and this one has none; choose from "
                f"{', '.join(fitting)}"
            )


def fitting_methods(explained: Explained) -> list[str]:
    """The methods that a detector can have."""
    return [name for name, method in METHODS.items() if method.needs in _abilities(explained)]


def _abilities(explained: Explained) -> set[str]:
    if not isinstance(explained.model, nn.Module):
        return {"calls"}
    return {"calls", "gradients"} | ({"layer"} if explained.layer is not None else set())


def find_layer(model: Callable[[Tensor], Tensor], name: str) -> nn.Module:
    """The module of a network by its name.

    Raises:
        InputError: there is none; it names the nearest.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"layer {name!r} was asked for, and a detector without gradients has none; leave it out"
        )
    known = dict(model.named_modules())
    known.pop("", None)
    if name not in known:
        near, last = did_you_mean(name, known, 0.5), ", ".join([*known][-3:])
        raise InputError(f"layer {name!r} is no module of the detector{near}; its last ones are {last}")
    return known[name]


def blurred(images: Tensor) -> Tensor:
    """(N, 3, H, W) the pictures without their detail, what stands in for what is taken away."""
    from torchvision.transforms.v2.functional import gaussian_blur

    spread = max(1.0, images.shape[-1] * BLUR_SHARE)
    reach = min(2 * int(2 * spread) + 1, 2 * ((images.shape[-1] - 1) // 2) + 1)
    return gaussian_blur(images, [reach, reach], [spread, spread])


def _cam(kind: CamKind) -> Callable[[Explained, Tensor], Tensor]:
    def make(explained: Explained, images: Tensor) -> Tensor:
        assert isinstance(explained.model, nn.Module)
        assert explained.layer is not None
        return layer_map(explained.model, images, explained.layer, kind)

    return make


def _saliency(explained: Explained, images: Tensor) -> Tensor:
    """The largest of the three colours' gradients (Simonyan et al., 2014)."""
    from captum.attr import Saliency

    asking = images.detach().clone().requires_grad_(True)
    return Saliency(explained.margin).attribute(asking, abs=True).amax(dim=1)


def _integrated_gradients(explained: Explained, images: Tensor) -> Tensor:
    from captum.attr import IntegratedGradients

    found = IntegratedGradients(explained.margin).attribute(
        images, blurred(images), n_steps=STEPS, internal_batch_size=explained.batch_size
    )
    return found.sum(dim=1)


def _occlusion(explained: Explained, images: Tensor) -> Tensor:
    """How much the margin falls, on average, under the windows that hide a pixel."""
    side = images.shape[-1]
    windows = _windows(side)
    pixels = np.arange(side * side).reshape(side, side)
    found = []
    for picture in images:
        kept = np.vstack([np.ones_like(windows[:1]), ~windows])
        margins = margins_without(explained, picture, kept, pixels)
        found.append((margins[0] - margins[1:]) @ windows / windows.sum(axis=0))
    return torch.from_numpy(np.stack(found).reshape(-1, side, side))


def _windows(side: int) -> NDArray[np.bool_]:
    """(K, side²) what each window of occlusion covers; they overlap by half, the last ones are cut off."""
    window = max(2, round(side * WINDOW_SHARE))
    step = max(1, window // 2)
    starts = step * np.arange(math.ceil((side - window) / step) + 1)
    line = (np.arange(side) >= starts[:, None]) & (np.arange(side) < starts[:, None] + window)
    return (line[:, None, :, None] & line[None, :, None, :]).reshape(len(starts) ** 2, -1)


def _lime(explained: Explained, images: Tensor) -> Tensor:
    """A ridge regression on which cells of a grid are there (Ribeiro et al., KDD 2016).

    The library's own Lasso gives zero everywhere where margins are small.
    """
    from sklearn.linear_model import Ridge

    cells = grid(images.shape[-1])
    number = int(cells.max()) + 1
    generator = np.random.default_rng(explained.seed)
    kept = generator.random((LIME_DRAWS, number)) < generator.random((LIME_DRAWS, 1))
    kept[0] = True
    weight = np.exp(-((1 - kept.mean(axis=1)) ** 2) / LIME_WIDTH**2)
    found = []
    for picture in images:
        margin = margins_without(explained, picture, kept, cells)
        slope = Ridge(alpha=1e-3).fit(kept, margin, sample_weight=weight).coef_
        found.append(slope[cells])
    return torch.from_numpy(np.stack(found))


def _shapley(explained: Explained, images: Tensor) -> Tensor:
    """What each region of the face adds, exactly: all of them are present or absent in every way.

    KernelSHAP draws some of these 256 coalitions and estimates the same values.
    """
    regions = face_regions(images.shape[-1], explained.scale)
    number = len(REGIONS)
    present = (np.arange(1 << number)[:, None] >> np.arange(number) & 1).astype(bool)
    size = np.bincount(regions.ravel(), minlength=number)
    # A region's worth is spread over its pixels, so that a map adds up to what it explains.
    found = [
        (shapley(margins_without(explained, picture, present, regions)) / size)[regions] for picture in images
    ]
    return torch.from_numpy(np.stack(found))


def margins_without(
    explained: Explained, picture: Tensor, kept: NDArray[np.bool_], parts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(K,) margins of a picture (3, H, W) with some of its parts blurred.

    Args:
        explained: the detector.
        picture: in [-1, 1].
        kept: (K, parts) which parts are there each time.
        parts: (H, W) which part a pixel belongs to.
    """
    blur, found = blurred(picture[None]), []
    for rows in np.array_split(kept, math.ceil(len(kept) / explained.batch_size)):
        mask = torch.from_numpy(rows[:, parts])[:, None].to(picture.device)  # (k, 1, H, W)
        found.append(explained.margins(torch.where(mask, picture, blur)))
    return np.concatenate(found)


BLUR = "a blurred copy"
METHODS: Mapping[str, Method] = {
    "grad_cam": Method("Grad-CAM", _cam("cam"), "layer", BACKWARD),
    "grad_cam_pp": Method("Grad-CAM++", _cam("cam++"), "layer", BACKWARD),
    "signed_cam": Method("Signed CAM", _cam("signed"), "layer", BACKWARD),
    "saliency": Method("Saliency", _saliency, "gradients", BACKWARD),
    "integrated_gradients": Method(
        "Integrated gradients", _integrated_gradients, "gradients", STEPS * BACKWARD, BLUR, has_sum=True
    ),
    "occlusion": Method("Occlusion", _occlusion, "calls", 226, BLUR),
    "lime": Method("LIME, 8 × 8 cells", _lime, "calls", LIME_DRAWS, BLUR),
    "shapley": Method(
        "Shapley, regions of the face", _shapley, "calls", 1 << len(REGIONS), BLUR, has_sum=True
    ),
}
