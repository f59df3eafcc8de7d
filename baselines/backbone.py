"""Transfer learning: any network of timm below a new head for real or fake.

The head learns first, then all layers at a lower rate. Weights come from a local file in timm's or
torchvision's naming, and are checked by name and shape: timm itself loads nothing of some files, silently.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, cast

import timm
import torch
from pydantic import Field
from torch import Tensor, nn

from unmasked.baselines.clip_names import clip_by_timm_names, is_huggingface_clip
from unmasked.datasets.errors import InputError, nearest_name
from unmasked.training.checkpoint import describe, misfits, read_weights
from unmasked.training.config import CropConfig, StartConfig, TransferConfig
from unmasked.training.detector import About, Phase, head_first

NAME = "Backbone"
ABOUT = About(
    paper="Wightman, PyTorch Image Models, github.com/huggingface/pytorch-image-models",
    licence="code MIT; weights under their own terms",
    weights="model.weights=FILE in timm's or torchvision's naming",
)
# Where Grad-CAM looks, by the beginning of timm's name; elsewhere the last stage that timm names.
CAM_LAYERS = {
    "densenet": "features.norm5",
    "legacy_xception": "act4",
    "mobilenetv2": "bn2",
    "efficientnet": "bn2",
    "tf_efficientnet": "bn2",
}
# torchvision's weights of these have timm's order, and other names.
SAME_ORDER = ("mobilenetv2_", "efficientnet_b")
CLASSIFIERS = ("classifier.", "fc.", "head.", "heads.", "last_linear.", "head.fc.", "pre_logits.")
# What timm calls the functions that read files in other namings.
CONVERTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
OPTIONAL = ".num_batches_tracked"


class Trunk(StartConfig):
    """A network of timm's and what it starts from."""

    backbone: str = Field("mobilenetv2_100", description="A name of timm's, such as resnet50")
    size_px: int = Field(224, ge=32, le=1024, description="Side of the input; take the one of the weights")
    mean: tuple[float, float, float] | None = Field(
        None, description="Mean that the weights want, of 0..1; timm's for the backbone if not given"
    )
    std: tuple[float, float, float] | None = Field(
        None, description="Standard deviation that the weights want; timm's if not given"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="Share of the features zeroed in training")


class TrunkConfig(CropConfig):
    """Settings of any detector on a network of timm's."""

    model: Trunk = Field(Trunk(), description="The network")


class Model(Trunk, TransferConfig):
    """The network, and how its head and trunk learn."""


class Config(TrunkConfig):
    """Everything that decides how the network is trained."""

    model: Model = Field(Model(), description="The network")


class Network(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> (N, 2) logits; whitens by itself.

    Attributes:
        trunk: timm's network without a classifier.
        head: on its pooled features.
        mean, std: (3, 1, 1), of 0..1.

    Args:
        settings: which network.
        is_any_size: keep the position embeddings of the weights' own size, and resample them for each image.
        options: what timm is told besides.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Trunk, *, is_any_size: bool = False, **options: Any) -> None:
        super().__init__()
        name, size_px = settings.backbone, settings.size_px
        facts = timm.get_pretrained_cfg(name)
        if facts is None:
            raise ValueError("timm does not say what its weights want")
        # Such a network, of position embeddings or windows, is built for one size.
        if facts.fixed_input_size:
            options |= {"dynamic_img_size": True} if is_any_size else {"img_size": size_px}
        self.trunk: Any = timm.create_model(name, pretrained=False, num_classes=0, **options)
        self.is_vgg = name.startswith("vgg")
        if self.is_vgg:  # its own pooling is two layers of 4096 for 224 px; the mean of its maps is 512 wide
            self.trunk.pre_logits = nn.Identity()
        width = 512 if self.is_vgg else cast(int, self.trunk.head_hidden_size)
        self.head = nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(width, 2))
        for what, own in (("mean", settings.mean), ("std", settings.std)):
            values = torch.tensor(own or getattr(facts, what)).view(3, 1, 1)
            self.register_buffer(what, values)  # kept with the weights: timm's values may change
        self.cam_prefix_tokens = getattr(self.trunk, "num_prefix_tokens", 0)

    @property
    def cam_layer(self) -> nn.Module | None:
        """Where Grad-CAM looks; None where timm names no stage."""
        layer = _cam_layer(self.trunk)
        return self.trunk.get_submodule(layer) if layer else None

    def features(self, images: Tensor) -> Tensor:
        """(N, D) what the head sees."""
        maps = self.trunk.forward_features(((images + 1) / 2 - self.mean) / self.std)
        return maps.mean((2, 3)) if self.is_vgg else self.trunk.forward_head(maps, pre_logits=True)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 2) logits of real and fake."""
        return self.forward_with_features(images)[0]

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` and `features` of the same images at the price of one."""
        features = self.features(images)
        return self.head(features), features


def _cam_layer(trunk: Any) -> str:
    """The name of the layer in the trunk; empty if none is known."""
    name = str(trunk.pretrained_cfg.get("architecture", ""))
    blocks = getattr(trunk, "blocks", None)
    if blocks and hasattr(blocks[-1], "norm1"):  # behind it, nothing but the class token has a gradient
        return f"blocks.{len(blocks) - 1}.norm1"
    if name.startswith("vgg"):
        return f"features.{len(trunk.features) - 2}"  # before the last pooling
    for begin, layer in CAM_LAYERS.items():
        if name.startswith(begin):
            return layer
    stages = getattr(trunk, "feature_info", None) or [{"module": ""}]
    return str(stages[-1]["module"])


def build(config: TrunkConfig, classes: Sequence[str], make: Callable[[Trunk], Network] = Network) -> Network:
    """The network, of random weights.

    Raises:
        InputError: timm has no such backbone, or cannot build it for that size.
    """
    name = config.model.backbone
    known = timm.list_pretrained() if "." in name else timm.list_models()
    if name not in known:
        near = nearest_name(name, known, cutoff=0.4)
        raise InputError(
            f"model.backbone={name} is no network of timm's; "
            + (f"did you mean {near}?" if near else "timm.list_models() lists them")
        )
    try:
        network = make(config.model).eval()
        with torch.no_grad():  # some say only now that they take no such size
            network(torch.zeros(1, 3, config.model.size_px, config.model.size_px))
        return network.train()
    except (AssertionError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"model.backbone={name} cannot be used at {config.model.size_px} px ({reason}); give another "
            "model.size_px or backbone"
        ) from error


def start(config: TrunkConfig) -> str:
    """What training starts from, in a sentence."""
    if config.model.weights:
        return f"{config.model.backbone} starts from {Path(config.model.weights).name}, its head at random"
    return f"{config.model.backbone} starts from random weights; give a file as model.weights"


def initialise(model: Network, config: TrunkConfig) -> None:
    """Fills the trunk with the file's weights, where these were asked for.

    Raises:
        InputError: the file is absent, or not all names and shapes of the trunk are in it.
    """
    path = config.model.weights
    if not path:
        return
    given = _fitting(model.trunk, config.model.backbone, read_weights(path))
    wanted = model.trunk.state_dict()
    found = [
        one for one in misfits(wanted, given) if one.given is not None or not one.name.endswith(OPTIONAL)
    ]
    if found:
        raise InputError(
            f"model.weights={path} does not fit {config.model.backbone}: {describe(found, len(wanted))}; "
            "give a file of this backbone in timm's naming, or in torchvision's where timm knows it"
        )
    model.trunk.load_state_dict(given, strict=False)


def _fitting(trunk: nn.Module, name: str, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's weights by the trunk's names, as far as these can be found, without a classifier."""
    wanted = trunk.state_dict()
    if own := {
        key.removeprefix("trunk."): value for key, value in stored.items() if key.startswith("trunk.")
    }:
        return own  # of a detector of ours, whose head is of another training
    if is_huggingface_clip(stored):
        return clip_by_timm_names(stored, name)
    given = _without_classifier(stored, wanted)
    if not misfits(wanted, given):
        return given
    if name.startswith(SAME_ORDER) and any(key.startswith("features.") for key in given):
        names = [key for key in wanted if not key.endswith(OPTIONAL)]
        values = [value for key, value in given.items() if not key.endswith(OPTIONAL)]
        if [wanted[key].shape for key in names] == [value.shape for value in values]:
            return dict(zip(names, values, strict=True))
    module = sys.modules[type(trunk).__module__]
    convert = next((getattr(module, one) for one in CONVERTERS if hasattr(module, one)), None)
    if convert is None:
        return given
    try:
        converted = convert(*(dict(stored), trunk)[: len(signature(convert).parameters)])
    except Exception:  # timm's own converters, on whatever a user's file holds: it does not fit, then
        return given
    return _without_classifier(converted, wanted)


def _without_classifier(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in given.items() if key in wanted or not key.startswith(CLASSIFIERS)}


def phases(model: nn.Module, config: Config) -> list[Phase]:
    """First the head alone where the trunk starts from weights, then all."""
    return head_first(config.model, "head.")
