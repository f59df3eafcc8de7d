"""Losses that look at the worst: CVaR, nested group CVaR, GroupDRO, and balanced weights.

Each makes one number of the real-or-fake losses of a batch's images, in place of their mean. What is
sorted or updated is taken as a constant, which gives the exact subgradient. Several processes each take
the worst of their own batch; GroupDRO's weights are shared by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unmasked.fairness.mitigation.reweighting import equal_weights
from unmasked.training.config import LossConfig

# (G,) sums of losses and numbers of images by cell -> the same over all processes.
Shared = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TrainingGroups:
    """Whose face each training row shows.

    Attributes:
        attribute: the column, or columns crossed.
        names: of the groups, "unknown" among them where some rows are.
        codes: (N,) which of them each row belongs to.
        labels: (N,) 0 = real, 1 = fake.
    """

    attribute: str
    names: Sequence[str]
    codes: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def cells(self) -> NDArray[np.int64]:
        """(N,) group and class in one code: 2 x group + label."""
        return 2 * self.codes + self.labels


def build(config: LossConfig, groups: TrainingGroups | None) -> nn.Module | None:
    """The configured loss, called with ``(losses (B,), rows (B,))``; None for the mean.

    ``rows`` are positions in the training table.
    """
    if config.robust == "none":
        return None
    if config.robust == "cvar":
        return CVaR(config.cvar_share)
    assert groups is not None
    if config.robust == "nested_cvar":
        return NestedCVaR(groups, within=config.cvar_within, between=config.cvar_share)
    if config.robust == "group_dro":
        return GroupDRO(groups, step_size=config.group_dro_step)
    return Reweighted(groups)


def cvar(losses: Tensor, share: float) -> Tensor:
    """Mean of the worst ``share`` of the losses: the conditional value at risk.

    Equals min over c of c + mean(max(0, loss - c)) / share (Rockafellar and Uryasev 2000), the loss of
    DAG-FDD (Ju et al. 2024), which needs no groups. The loss at the boundary counts in part.

    Args:
        losses: (B,).
        share: in (0, 1]; 1 is the mean, and less than one loss is the largest.

    >>> float(cvar(torch.tensor([4.0, 1.0, 2.0, 3.0]), 0.375))
    3.6666667461395264
    """
    cells = torch.zeros(len(losses), dtype=torch.int64, device=losses.device)
    return cvar_by_cell(losses, cells, 1, share)[0]


def cvar_by_cell(losses: Tensor, cells: Tensor, count: int, share: float) -> Tensor:
    """(count,) the CVaR of each cell's losses; 0 where a cell has none. Never waits for a GPU."""
    detached = losses.detach()
    # By cell, and within it from the largest loss to the smallest.
    order = torch.argsort(detached, descending=True, stable=True)
    order = order[torch.argsort(cells[order], stable=True)]
    sorted_cells = cells[order]
    size = torch.zeros(count, dtype=losses.dtype, device=losses.device).index_add(
        0, cells, torch.ones_like(detached)
    )
    first = torch.cumsum(size, 0) - size
    rank = torch.arange(len(losses), dtype=losses.dtype, device=losses.device) - first[sorted_cells]
    worst = share * size[sorted_cells]
    weight = (worst - rank).clamp(0, 1) / worst
    return torch.zeros_like(size).index_add(0, sorted_cells, weight * losses[order])


def cell_sums(losses: Tensor, cells: Tensor, count: int) -> Tensor:
    """(2, count): sum of the losses of each cell, and how many there are."""
    both = torch.stack([losses, torch.ones_like(losses)])
    return torch.zeros(2, count, dtype=losses.dtype, device=losses.device).index_add(1, cells, both)


class CVaR(nn.Module):
    """`cvar` of a batch."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, losses: Tensor, rows: Tensor) -> Tensor:
        """The mean of the worst share of the batch."""
        return cvar(losses, self.share)


class NestedCVaR(nn.Module):
    """CVaR over groups of the CVaR within each: the loss of DAW-FDD (Ju et al. 2024).

    Groups that a batch lacks take no part in it; all others count alike, whatever their size.
    """

    cells: Tensor

    def __init__(self, groups: TrainingGroups, *, within: float, between: float) -> None:
        super().__init__()
        self.within, self.between, self.count = within, between, len(groups.names)
        self.register_buffer("cells", torch.from_numpy(groups.codes), persistent=False)

    def forward(self, losses: Tensor, rows: Tensor) -> Tensor:
        """The mean of the worst groups, each by its worst images."""
        cells = self.cells[rows]
        inner = cvar_by_cell(losses, cells, self.count, self.within)
        present = cell_sums(losses.detach(), cells, self.count)[1] > 0
        # Groups that are absent form a cell of their own, which is left out.
        return cvar_by_cell(inner, (~present).to(torch.int64), 2, self.between)[0]


class GroupDRO(nn.Module):
    """Losses weighted by how badly each group and class fares (Sagawa et al. 2020, alg. 1).

    q_g <- q_g exp(eta loss_g), normalised; the loss is the sum of q_g loss_g. A group is an attribute's
    value among reals or among fakes. Those that a batch lacks keep their weight, but for the
    normalisation. The weights are kept as logarithms, so that no loss is too large for them, and belong to
    the state of a training.

    Args:
        groups: of the training rows.
        step_size: eta; 0 keeps all groups equal.
        shared: sums a tensor over processes, so that all have the same weights.
    """

    cells: Tensor
    log_q: Tensor

    def __init__(
        self, groups: TrainingGroups, *, step_size: float, shared: Shared = lambda sums: sums
    ) -> None:
        super().__init__()
        self.step_size, self.shared, self.count = step_size, shared, 2 * len(groups.names)
        self.register_buffer("cells", torch.from_numpy(groups.cells), persistent=False)
        # A cell without a row can never be seen: it has no weight.
        seen = torch.from_numpy(np.bincount(groups.cells, minlength=self.count) > 0)
        log_q = torch.zeros(self.count).masked_fill(~seen, -torch.inf)
        self.register_buffer("log_q", torch.log_softmax(log_q, 0))

    @property
    def q(self) -> Tensor:
        """(2 G,) the weights, which sum to 1."""
        return self.log_q.exp()

    def forward(self, losses: Tensor, rows: Tensor) -> Tensor:
        """Updates the weights and returns the weighted sum of the groups' mean losses."""
        cells = self.cells[rows]
        with torch.no_grad():
            total, size = self.shared(cell_sums(losses.detach(), cells, self.count))
            step = self.step_size * total / size.clamp(min=1)
            self.log_q.copy_(torch.log_softmax(self.log_q + step, 0))
        total, size = cell_sums(losses, cells, self.count)
        return (self.q * total / size.clamp(min=1)).sum()


class Reweighted(nn.Module):
    """The mean loss with every group of a class weighing the same.

    Batches of pairs hold as many reals as fakes whatever the table holds, so the weights n / (K n_gy) are
    taken within each class: n_y / (G_y n_gy). They average 1.
    """

    weights: Tensor

    def __init__(self, groups: TrainingGroups) -> None:
        super().__init__()
        weights = np.ones(len(groups.codes))
        for label in (0, 1):
            member = groups.labels == label
            weights[member] = equal_weights(groups.codes[member])
        self.register_buffer("weights", torch.from_numpy(weights).float(), persistent=False)

    def forward(self, losses: Tensor, rows: Tensor) -> Tensor:
        """The weighted mean."""
        return (self.weights[rows] * losses).mean()
