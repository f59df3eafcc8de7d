"""GenD: a large network whose LayerNorms learn, below a linear layer on unit features.

Yermakov et al., arxiv.org/abs/2508.06248. What differs from the paper is in docs/detectors.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from unmasked.baselines import backbone
from unmasked.baselines.backbone import Trunk, TrunkConfig
from unmasked.baselines.clip_names import clip_by_timm_names, is_huggingface_clip
from unmasked.datasets.errors import InputError
from unmasked.training.config import CropDataConfig, LossConfig, OptimiserConfig
from unmasked.training.detector import About, Losses, Phase, Step

NAME = "GenD"
ABOUT = About(
    paper="Yermakov et al., arxiv.org/abs/2508.06248",
    licence="code MIT; GenD's weights MIT, those of DINOv3 under its own licence",
    weights="import-checkpoint source=gend_clip_l_14, or model.weights=FILE of the network below",
)
TRAINED = "forward_with_features"
SMALLEST = 1e-6  # of the mean whose logarithm is the uniformity
EXTRACTOR = "feature_extractor."  # begins the network's names in GenD's own files
HEAD = {"model.linear.weight": "head.1.weight", "model.linear.bias": "head.1.bias"}


class Model(Trunk):
    """The network and what it starts from."""

    backbone: str = Field(
        "vit_pe_core_tiny_patch16_384",
        description="A transformer of timm's. Published: vit_large_patch14_clip_quickgelu_224, "
        "vit_pe_core_large_patch14_336, vit_large_patch16_dinov3",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of the features zeroed in training")


class Loss(LossConfig):
    """Cross entropy, and how the features of a batch lie on the sphere."""

    alignment: float = Field(0.1, ge=0, description="Weight of the distance between features of one class")
    uniformity: float = Field(0.5, ge=0, description="Weight of how unevenly all features are spread")


class Optimiser(OptimiserConfig):
    """As published, for 30 epochs: one of warm-up, then three restarts of cosine in ten each."""

    lr: float = Field(3e-4, gt=0, description="Highest learning rate")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty that Adam adds to the gradient")
    schedule: Literal["none", "cosine", "one_cycle"] = Field(
        "cosine", description="Course of the learning rate over all steps; one_cycle starts at 1/25 of lr"
    )
    warmup: float = Field(1 / 30, ge=0, lt=1, description="Share of all steps in which the rate rises to lr")
    cycle: float = Field(
        1 / 3,
        ge=0,
        lt=1,
        description="Share of all steps after which cosine starts again at lr; 0 never does",
    )
    floor: float = Field(
        1 / 30, ge=0, lt=1, description="Where the warm-up starts and cosine ends, as a share of lr"
    )


class Data(CropDataConfig):
    """Which crops are used, how often each, and how they are held."""

    balance: Literal["none", "class", "group_class"] = Field(
        "none",
        description="none draws each crop once an epoch; class draws reals and fakes equally often; "
        "group_class also every group of data.groups",
    )


class Config(TrunkConfig):
    """Everything that decides how the network is trained."""

    model: Model = Field(Model(), description="The network")
    loss: Loss = Field(Loss(), description="The losses")
    optimiser: Optimiser = Field(Optimiser(), description="Adam and its rate")
    data: Data = Field(Data(), description="Crops")


class Network(backbone.Network):
    """(N, 3, H, W) in [-1, 1] -> (N, 2) logits; whitens by itself.

    Images of other sizes than the weights' own change how positions are encoded, never the weights.
    """

    def __init__(self, settings: Trunk) -> None:
        # DINOv3's class token; timm would take the mean of all.
        token = {"global_pool": "token"} if "dinov3" in settings.backbone else {}
        super().__init__(settings, is_any_size=True, **token)

    def features(self, images: Tensor) -> Tensor:
        """(N, D) of length 1: what the head sees."""
        return functional.normalize(super().features(images), dim=1)


def build(config: Config, classes: Sequence[str]) -> Network:
    """The network, of random weights.

    Raises:
        InputError: timm has no such network, it cannot be built for that size, or has no LayerNorm.
    """
    network = backbone.build(config, classes, Network)
    assert isinstance(network, Network)
    if not _norms(network):
        raise InputError(
            f"model.backbone={config.model.backbone} has no LayerNorm, and nothing else of it would learn; "
            "give a transformer such as vit_large_patch14_clip_quickgelu_224"
        )
    return network


start, initialise = backbone.start, backbone.initialise


def _norms(model: nn.Module) -> list[str]:
    """Beginnings of the names of all LayerNorms' weights."""
    return [f"{name}." for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)]


def phases(model: nn.Module, config: Config) -> list[Phase]:
    """LayerNorms and head, from the first step to the last."""
    return [Phase(1.0, dict.fromkeys(["head.", *_norms(model)], 1.0))]


def objective(step: Step, config: Config) -> Losses:
    """Cross entropy, alignment and uniformity; the sum may be negative."""
    logits, features = step.forward(step.images)
    losses = functional.cross_entropy(logits.float(), step.labels, reduction="none")
    entropy = losses.mean() if step.robust is None else step.robust(losses, step.rows)
    near, even = alignment(features.float(), step.labels), uniformity(features.float())
    overall = entropy + config.loss.uniformity * even + config.loss.alignment * near
    return {"overall": overall, "cross_entropy": entropy, "alignment": near, "uniformity": even}


def alignment(features: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance of two features of one class, in [0, 4]; 0 where no class has two.

    Args:
        features: (N, D) of length 1.
        labels: (N,).
    """
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    same = labels[first] == labels[second]
    distances = _squared_distances(features)[same]
    return distances.sum() / max(len(distances), 1)


def uniformity(features: Tensor) -> Tensor:
    """Logarithm of the mean of exp(-2 d²) over all pairs, in [-8, 0]; lower is more even.

    Wang & Isola, arxiv.org/abs/2005.10242, equation 5 with t = 2.

    Args:
        features: (N, D) of length 1, N of 2 or more.
    """
    return torch.exp(-2 * _squared_distances(features)).mean().clamp(min=SMALLEST).log()


def _squared_distances(features: Tensor) -> Tensor:
    """(N (N - 1) / 2,) of all pairs, in the order of `torch.triu_indices`."""
    return torch.pdist(features).square()


def translate(weights: Mapping[str, Tensor], model: Network) -> dict[str, Tensor]:
    """Weights of GenD's own files by our names; others as they are.

    Its files hold no mean and standard deviation: these are the network's.

    Raises:
        InputError: CLIP's weights are for a network with another activation.
    """
    if not any(name.startswith(EXTRACTOR) for name in weights):
        return dict(weights)
    inner = {
        name.removeprefix(EXTRACTOR): value for name, value in weights.items() if name.startswith(EXTRACTOR)
    }
    if is_huggingface_clip(inner):
        trunk = clip_by_timm_names(inner, model.trunk.pretrained_cfg["architecture"])
    else:
        trunk = {name.removeprefix("backbone."): value for name, value in inner.items()}
    rest = {HEAD.get(name, name): value for name, value in weights.items() if not name.startswith(EXTRACTOR)}
    return (
        {f"trunk.{name}": value for name, value in trunk.items()}
        | {"mean": model.mean, "std": model.std}
        | rest
    )
