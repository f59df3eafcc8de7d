"""Freezing: which weights move when, at which rate, and normalisation that rests.

The optimiser holds all weights from the beginning; those without a gradient are left alone by it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from unmasked.datasets.errors import InputError
from unmasked.training.detector import Phase

Rates = tuple[float, ...]


def rate_of(name: str, phase: Phase) -> float:
    """The rate of a weight in a phase, in multiples of the configured one; 0 is frozen.

    >>> phase = Phase(1.0, {"head.": 1.0, "trunk.": 0.1, "trunk.stem.": 0.0})
    >>> [rate_of(name, phase) for name in ("head.bias", "trunk.conv.weight", "trunk.stem.weight", "other")]
    [1.0, 0.1, 0.0, 0.0]
    """
    begins = [begin for begin in phase.rates if name.startswith(begin)]
    return float(phase.rates[max(begins, key=len)]) if begins else 0.0


def checked(phases: Sequence[Phase], model: nn.Module, detector: str) -> list[Phase]:
    """The phases, their shares adding up to 1.

    Raises:
        InputError: a share or rate is none, a name fits no weight, or a phase trains nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    if not (isinstance(phases, (list, tuple)) and all(isinstance(phase, Phase) for phase in phases)):
        raise InputError(f"detector {detector}: phases returned {phases!r}; it must return a list of Phase")
    for phase in phases:
        unknown = [begin for begin in phase.rates if not any(name.startswith(begin) for name in names)]
        if phase.share <= 0 or min(phase.rates.values(), default=0) < 0 or unknown:
            what = f"no weight's name begins with {unknown[0]!r}" if unknown else "a share or rate is no such"
            raise InputError(
                f"detector {detector}: phases cannot be used, {what}; give shares above 0, rates of 0 or "
                f"more, and beginnings of names such as {names[0]!r}"
            )
        if not any(rate_of(name, phase) for name in names):
            raise InputError(f"detector {detector}: a phase trains no weight; give some a rate above 0")
    total = sum(phase.share for phase in phases)
    return [Phase(phase.share / total, phase.rates) for phase in phases]


def phase_at(progress: float, phases: Sequence[Phase]) -> int:
    """The number of the phase at a share of training in [0, 1]."""
    end = 0.0
    for number, phase in enumerate(phases):
        end += phase.share
        if progress < end - 1e-9:
            return number
    return len(phases) - 1


def parameter_groups(model: nn.Module, phases: Sequence[Phase]) -> list[tuple[list[nn.Parameter], Rates]]:
    """All weights in the model's order, grouped by those with equal rates in every phase."""
    found: dict[Rates, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        found.setdefault(tuple(rate_of(name, phase) for phase in phases), []).append(parameter)
    return [(parameters, rates) for rates, parameters in found.items()]


def count_moving(model: nn.Module, phases: Sequence[Phase]) -> int:
    """How many numbers move in some phase; in every one where there are no phases."""
    return sum(
        value.numel()
        for name, value in model.named_parameters()
        if value.requires_grad and (not phases or any(rate_of(name, phase) for phase in phases))
    )


def freeze(model: nn.Module, phase: Phase) -> None:
    """Lets gradients flow into the weights that the phase trains, and into no others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(rate_of(name, phase) > 0)


def hold_frozen(model: nn.Module, frozen: set[int]) -> None:
    """Puts the parts whose weights are all frozen into evaluation mode.

    Normalisation there must not drift.

    Args:
        model: in training mode.
        frozen: ``id`` of each weight that is frozen.
    """
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and all(id(parameter) in frozen for parameter in parameters):
            module.eval()
