"""Mitigation by similar nodes: idle rows are drawn to those of similar nodes that were updated since."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from pyg_mspipe.graph import SimilarNodes
from pyg_mspipe.memory.mitigation.base import Mitigation, Repair


@dataclass(frozen=True)
class IdleRepair(Repair):
    """The mean memory of nodes that are similar to idle ones.

    Attributes:
        idle: Float32[R], how long the rows have been idle, as a multiple (above 1) of the threshold.
    """

    idle: Tensor


class SimilarityMitigation(Mitigation):
    """Draws nodes that have long been idle to the memory of similar nodes that were updated since.

    For a node ``i`` of memory ``s`` whose idle time ``t - last_update`` is above the threshold gamma::

        s~ = lam * s + (1 - lam) * mean{ s_j : j similar to i, last_update_j > last_update_i }

    A node none of whose similar nodes was updated later keeps its memory. So does a node that was never updated
    (``last_update`` is 0): its memory is not stale but empty, and its idle time, counted from the start of the time
    scale, would push the threshold beyond the reach of all others; therefore it does not count for gamma either.

    After MSPipe (Sheng et al., KDD 2024, arXiv 2402.15113).

    Args:
        similar: Similar nodes, of the training events.
        quantile: Gamma is this quantile of the batch's idle times (the lower of two, where it falls between).
        lam: The share of its own memory that a repaired row keeps.

    Raises:
        ValueError: If ``quantile`` or ``lam`` is not between 0 and 1.
    """

    def __init__(self, similar: SimilarNodes, *, quantile: float = 0.99, lam: float = 0.95) -> None:
        super().__init__()
        for name, value in (("quantile", quantile), ("lam", lam)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; give a number from 0 to 1")
        self.quantile = quantile
        self.lam = lam
        self._similar = similar.index

    @torch.no_grad()
    def fetch(self, memory: Tensor, last_update: Tensor, n_id: Tensor, t: int) -> IdleRepair | None:
        """Returns the mean memory of similar nodes for each idle node that has such, as :meth:`Mitigation.fetch`."""
        updated_at = last_update.index_select(0, n_id)
        idle = t - updated_at
        known = idle[updated_at != 0].sort().values
        if not known.numel():
            return None
        gamma = known[math.floor(self.quantile * (known.numel() - 1))]
        row = ((idle > gamma) & (updated_at != 0)).nonzero().view(-1)
        if self._similar.device != memory.device:
            self._similar = self._similar.to(memory.device)
        near = self._similar.index_select(0, n_id.index_select(0, row))
        later = (near >= 0) & (last_update[near.clamp(min=0)] > updated_at[row].unsqueeze(1))
        found = later.any(dim=1)
        row, near, later = row[found], near[found], later[found]
        if not row.numel():
            return None
        total = memory[near.clamp(min=0)].masked_fill(~later.unsqueeze(2), 0).sum(dim=1)
        mean = total / later.sum(dim=1, keepdim=True)
        return IdleRepair(row, mean, idle[row] / gamma.clamp(min=1))

    def repair(self, memory: Tensor, repair: Repair | None, missed: Tensor) -> Tensor:
        """Returns ``memory`` with idle rows drawn to those of similar nodes, as :meth:`Mitigation.repair`."""
        if repair is None:
            return memory
        assert isinstance(repair, IdleRepair)
        lam = self._lam(repair, missed)
        own = memory.index_select(0, repair.row)
        mixed = lam * own + (1 - lam) * repair.value
        return memory.index_copy(0, repair.row, mixed.to(memory.dtype))

    def _lam(self, repair: IdleRepair, missed: Tensor) -> Tensor | float:
        """Returns the share that the rows keep, [R, 1] or one for all."""
        return self.lam


class GatedMitigation(SimilarityMitigation):
    """:class:`SimilarityMitigation` with a share ``lam`` for each row that is learned from the loss.

    ``lam = sigmoid(bias + weight · (log(1 + idle / gamma), log(1 + missed)))``, where ``missed`` is the row's
    staleness. The weight starts at zero and the bias where ``lam`` is the number given.

    Args:
        similar: Similar nodes, of the training events.
        quantile: Gamma is this quantile of the batch's idle times.
        lam: Where the share starts.

    Raises:
        ValueError: If ``quantile`` is not between 0 and 1, or ``lam`` is 0, 1 or beyond.
    """

    def __init__(self, similar: SimilarNodes, *, quantile: float = 0.99, lam: float = 0.95) -> None:
        super().__init__(similar, quantile=quantile, lam=lam)
        if not 0 < lam < 1:
            raise ValueError(f"lam is {lam}, from which a gate cannot learn; give a number between 0 and 1")
        self.weight = Parameter(torch.empty(2))
        self.bias = Parameter(torch.empty(()))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Puts the gate back to where it starts."""
        self.weight.zero_()
        self.bias.fill_(math.log(self.lam / (1 - self.lam)))

    def _lam(self, repair: IdleRepair, missed: Tensor) -> Tensor:
        features = torch.stack([repair.idle, missed[repair.row].to(repair.idle)], dim=1).log1p()
        # Not a matrix product, which autocast would round.
        return (self.bias + (features * self.weight).sum(dim=1, keepdim=True)).sigmoid()
