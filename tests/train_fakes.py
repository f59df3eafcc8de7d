"""A small detector of single crops, as a module that tests train with the engine itself."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from unmasked.training.config import CropConfig, ModelConfig
from unmasked.training.detector import Phase
from unmasked.training.handle import Detector

NAME = "Small"
PHASES: list[Phase] = []  # tests fill it


class Config(CropConfig):
    """Small images."""

    model: ModelConfig = Field(ModelConfig(size_px=32), description="The network")


class Network(nn.Module):
    """A trunk with normalisation, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)
        )
        self.head = nn.Linear(8, 2)

    @property
    def cam_layer(self) -> nn.Module:
        return self.trunk[3]

    def features(self, images: Tensor) -> Tensor:
        return self.trunk(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def build(config: Config, classes: list[str]) -> nn.Module:
    return Network()


def phases(model: nn.Module, config: Config) -> list[Phase]:
    return PHASES


SMALL = Detector("train_fakes", "train_fakes")


def small_config(**changes: object) -> Config:
    """Changes are written section__key."""
    values: dict = {
        "training": {"batch_images": 8, "epochs": 1, "log_every_steps": 1},
        "optimiser": {"lr": 0.01},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            values.setdefault(section, {})[name] = value
        else:
            values[section] = value
    return Config.model_validate(values)
