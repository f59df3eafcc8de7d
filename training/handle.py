"""A detector's module by its name, and checks of what the module gives."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from unmasked.datasets.errors import InputError
from unmasked.training.config import DetectorConfig, TrainedConfig
from unmasked.training.detector import Losses, Phase, Step, cross_entropy
from unmasked.training.phases import checked


@dataclass(frozen=True)
class Detector:
    """A detector's module; by its name, so that other processes find it too.

    Attributes:
        name: what ``detector=`` takes, and the card's ``architecture``.
        path: the module's import path.
    """

    name: str
    path: str

    @property
    def module(self) -> ModuleType:
        """The module itself."""
        return importlib.import_module(self.path)

    @property
    def title(self) -> str:
        """What tables and pages call it."""
        return str(self.module.NAME)

    @property
    def config(self) -> type[DetectorConfig]:
        """The class of its settings."""
        return self.module.Config

    @property
    def has_gradients(self) -> bool:
        """True if it is a network that the engine trains."""
        return hasattr(self.module, "build")

    def part(self, name: str, default: Any = None) -> Any:
        """What the module gives under a name of the contract, or what is taken in its place."""
        return getattr(self.module, name, default)

    def build(self, config: DetectorConfig, classes: list[str]) -> nn.Module:
        """The network, after one look at what it makes of two images.

        Raises:
            InputError: it gives something else than two logits an image.
        """
        self._check_takes("build", self.module.build, config, classes)
        model = self.module.build(config, classes)
        if not isinstance(model, nn.Module):
            raise InputError(
                f"detector {self.name}: build returned {type(model).__name__}; it must return a network "
                "(torch.nn.Module)"
            )
        if any(value.is_meta for value in model.parameters()):
            return model  # only its shapes were asked for
        if not any(True for _ in model.parameters()):
            raise InputError(
                f"detector {self.name}: the network that build returned has no weights to train; a detector "
                "without gradients gives fit and read in place of build"
            )
        layer = getattr(model, "cam_layer", None)
        if not (layer is None or isinstance(layer, nn.Module)):
            raise InputError(
                f"detector {self.name}: cam_layer is {_short(layer)}; it is the layer that Grad-CAM looks "
                "at, a module of the network"
            )
        was_training = model.training
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            logits = model.eval()(torch.zeros(2, 3, config.model.size_px, config.model.size_px))
        model.train(was_training)
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if shape != (2, 2):
            raise InputError(
                f"detector {self.name}: forward returned {shape} for 2 images; it must return (N, 2), logits "
                "of real and fake"
            )
        return model

    def phases(self, model: nn.Module, config: DetectorConfig) -> list[Phase]:
        """What trains when; nothing where all weights do, all the time."""
        given = self.part("phases")
        return checked(given(model, config), model, self.name) if given else []

    def _check_takes(self, name: str, function: Any, *arguments: Any) -> None:
        """Raises InputError where a function of the module cannot be called as the contract says.

        What the function itself raises is the module's own, and keeps its traceback.
        """
        try:
            inspect.signature(function).bind(*arguments)
        except TypeError as error:
            raise InputError(
                f"detector {self.name}: {name}{_signature(function)} cannot be called with the "
                f"{len(arguments)} arguments of the contract ({error}); docs/own_detector.md shows how it is "
                "written"
            ) from error
        except ValueError:  # written in C: it shows no signature
            return

    def objective(self, step: Step, config: TrainedConfig) -> Losses:
        """The losses of a batch.

        Raises:
            InputError: they are not numbers by name, "overall" first.
        """
        objective = self.part("objective", cross_entropy)
        self._check_takes("objective", objective, step, config)
        losses = objective(step, config)
        if not isinstance(losses, dict) or next(iter(losses), None) != "overall":
            raise InputError(
                f"detector {self.name}: objective returned {_short(losses)}; it must return losses by name, "
                "the one to train on as 'overall' first"
            )
        for name, loss in losses.items():
            if not isinstance(loss, Tensor) or loss.ndim:
                raise InputError(
                    f"detector {self.name}: the loss {name!r} is {_short(loss)}; a loss is one number, such "
                    "as the mean over the batch"
                )
        if torch.is_grad_enabled() and not losses["overall"].requires_grad:
            raise InputError(
                f"detector {self.name}: the loss 'overall' does not depend on the network's weights, so "
                "there is nothing to learn from it; compute it from what step.forward returns"
            )
        return losses


def _signature(function: Any) -> str:
    return str(inspect.signature(function)) if callable(function) else f" = {_short(function)}"


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a dict of {', '.join(map(str, value)) or 'nothing'}" if isinstance(value, dict) else repr(value)
