"""Mitigation by prediction: stale rows are moved on as their nodes' past updates were."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_mspipe.memory.mitigation.base import Mitigation, Repair


class PredictiveMitigation(Mitigation):
    """Moves a stale row on by the mean of its node's past updates, once for each commit that it missed.

    ``s~ = s + missed * mean_delta``, after PRES (Su et al., ICLR 2024, arXiv 2402.04284). The mean is exponential, with
    the bias of its start corrected: a mean over all updates would tend to zero, since they add up to the difference of
    the last row and the first. A node that was never updated is left as it is.

    Args:
        num_nodes: Number of nodes ``N``.
        memory_dim: Width of the memory.
        decay: What an update's weight in the mean is multiplied by at each later one.

    Raises:
        ValueError: If ``decay`` is not from 0 to below 1.
    """

    def __init__(self, num_nodes: int, memory_dim: int, *, decay: float = 0.9) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; give a number from 0 to below 1")
        self.decay = decay
        self._mean = torch.zeros(num_nodes, memory_dim)
        self._count = torch.zeros(num_nodes, dtype=torch.long)

    @torch.no_grad()
    def fetch(self, memory: Tensor, last_update: Tensor, n_id: Tensor, t: int) -> Repair | None:
        """Returns the mean update of each node that has had one, as :meth:`Mitigation.fetch`."""
        self._follow(memory)
        count = self._count.index_select(0, n_id)
        row = count.nonzero().view(-1)
        if not row.numel():
            return None
        weight = 1 - self.decay ** count[row].to(memory.dtype)
        return Repair(row, self._mean.index_select(0, n_id.index_select(0, row)) / weight.unsqueeze(1))

    def repair(self, memory: Tensor, repair: Repair | None, missed: Tensor) -> Tensor:
        """Returns ``memory`` with stale rows moved on, as :meth:`Mitigation.repair`."""
        if repair is None:
            return memory
        own = memory.index_select(0, repair.row)
        steps = missed.index_select(0, repair.row).unsqueeze(1)
        moved = torch.where(steps > 0, own + steps * repair.value, own)
        return memory.index_copy(0, repair.row, moved)

    @torch.no_grad()
    def observe(self, n_id: Tensor, before: Tensor, after: Tensor) -> None:
        """Takes a commit's updates into the means, as :meth:`Mitigation.observe`."""
        self._follow(before)
        delta = (after - before).to(self._mean)
        old = self._mean.index_select(0, n_id)
        self._mean.index_copy_(0, n_id, torch.lerp(delta, old, self.decay))
        self._count.index_add_(0, n_id, torch.ones_like(n_id))

    def reset_state(self) -> None:
        """Forgets all commits."""
        self._mean.zero_()
        self._count.zero_()

    def mitigation_state(self) -> dict[str, Tensor]:
        """Returns copies of means and counts, as :meth:`Mitigation.mitigation_state`."""
        return {"mitigation.mean": self._mean.clone(), "mitigation.count": self._count.clone()}

    def load_mitigation_state(self, state: dict[str, Tensor]) -> None:
        """Takes over means and counts, as :meth:`Mitigation.load_mitigation_state`."""
        if "mitigation.mean" not in state:
            raise ValueError("state without mitigation.mean, so not of predictive; load it with the mitigation it had")
        found, own = tuple(state["mitigation.mean"].shape), tuple(self._mean.shape)
        if found != own:
            raise ValueError(f"mitigation state has (num_nodes, memory_dim) = {found}, the module {own}")
        self._mean.copy_(state["mitigation.mean"])
        self._count.copy_(state["mitigation.count"])

    @torch.inference_mode(False)
    def _follow(self, memory: Tensor) -> None:
        """Moves means and counts to where the memory is, in its dtype."""
        if self._mean.device != memory.device or self._mean.dtype is not memory.dtype:
            self._mean = self._mean.to(memory.device, memory.dtype)
            self._count = self._count.to(memory.device)
