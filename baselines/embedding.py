"""Features of frozen networks of timm's, for classifiers without gradients."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unmasked.baselines.backbone import Network, Trunk, TrunkConfig, build, initialise
from unmasked.datasets.errors import InputError
from unmasked.datasets.transforms import normalise


class Embedding:
    """(N, H, W, 3) uint8 RGB -> (N, D) float32, by networks that do not learn.

    Pictures may have any size; the features of several networks lie side by side.

    Attributes:
        width: D.

    Args:
        backbones: timm's names.
        weights: a file of each; random weights if there are none.

    Raises:
        InputError: timm has no such network, or a file does not fit.
    """

    def __init__(self, backbones: Sequence[str], weights: Sequence[str] = ()) -> None:
        self._networks: dict[str, Network] = {}
        for place, name in enumerate(backbones):
            facts = timm.get_pretrained_cfg(name)
            side = facts.input_size[-1] if facts else Trunk().size_px  # build says what is wrong with it
            file = weights[place] if weights else ""
            config = TrunkConfig(model=Trunk(backbone=name, weights=file, size_px=side, dropout=0.0))
            network = build(config, ()).eval()
            initialise(network, config)
            self._networks[f"{place} {side} {name}"] = network
        self.width = sum(cast(nn.Linear, one.head[-1]).in_features for one in self._networks.values())

    @property
    def digest(self) -> str:
        """Hex SHA-256 of what decides the features."""
        found = hashlib.sha256()
        for name, network in self._networks.items():
            found.update(name.encode())
            for value in network.state_dict().values():
                found.update(value.numpy().tobytes())
        return found.hexdigest()

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The features of a batch; pictures are scaled to the side that the weights want."""
        pixels = normalise(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2))
        found = []
        for name, network in self._networks.items():
            side = int(name.split()[1])
            with torch.inference_mode():
                found.append(network.features(_scaled(pixels, side)).numpy())
        return np.hstack(found)

    def stored(self) -> list[dict[str, Any]]:
        """Names and weights as arrays, for a file that runs no code."""
        return [
            {
                "backbone": name.split()[2],
                "weights": {key: value.numpy() for key, value in network.state_dict().items()},
            }
            for name, network in self._networks.items()
        ]

    @classmethod
    def from_stored(cls, stored: Sequence[Mapping[str, Any]]) -> Embedding:
        """What `stored` gave.

        Raises:
            InputError: it is something else, or weights are absent or of other shapes.
        """
        try:
            made = cls([one["backbone"] for one in stored])
            for network, one in zip(made._networks.values(), stored, strict=True):
                given = {key: torch.from_numpy(value) for key, value in one["weights"].items()}
                network.load_state_dict(given)
        except (AttributeError, KeyError, TypeError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"its network is not whole ({reason})") from error
        return made


def _scaled(pixels: Tensor, side: int) -> Tensor:
    if pixels.shape[-2:] == (side, side):
        return pixels
    return functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True, align_corners=False)
