"""One training in several processes: each has a share of every batch.

All hold the same networks. DistributedDataParallel cannot carry gradients of gradients, which R1 and the path
length need, nor several backward passes in a step; here each process takes its own, and their mean is the
batch's. Random numbers are drawn for the whole batch, so what is learned does not depend on how many
processes there are (where each has a multiple of four images, the group whose spread is looked at).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed


def processes() -> int:
    """How many train together."""
    is_shared = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if is_shared else 1


def share() -> slice:
    """Which images of a batch are this process's: of two, every second one.

    The groups whose spread the judging network looks at are then groups of the whole batch.
    """
    return slice(distributed.get_rank(), None, processes()) if processes() > 1 else slice(None)


def draw(how: Callable[..., Tensor], count: int, *shape: int, **options: Any) -> Tensor:
    """(count, …) random numbers for this process's images, of those of the whole batch.

    Args:
        how: ``torch.randn`` or ``torch.rand``.
        count: images of this process.
        shape: of one image's numbers.
        options: of ``how``.
    """
    return how(count * processes(), *shape, **options)[share()]


def of_all(values: Tensor) -> Tensor:
    """(N,) values of all processes, given this one's share."""
    if processes() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(processes())]
    distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts)


@torch.no_grad()
def take_mean(tensors: Sequence[Tensor]) -> None:
    """Replaces tensors of one type by their means over all processes."""
    if processes() == 1:
        return
    flat = torch.cat([one.flatten() for one in tensors])
    distributed.all_reduce(flat)
    flat /= processes()
    for one, part in zip(tensors, flat.split([one.numel() for one in tensors]), strict=True):
        one.copy_(part.view_as(one))
