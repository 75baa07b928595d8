"""What a memory's ``forward`` computed last, taken over by the update that follows while it still holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_mspipe.memory.kept_tensors import KeptTensors


@dataclass(frozen=True)
class _Computed:
    n_id: Tensor
    before: Tensor
    memory: Tensor
    last_update: Tensor
    made_from: tuple[int, ...]


class Recall:
    """Keeps rows of one ``forward``, and knows when they hold no longer.

    Args:
        module: That computes them.
    """

    def __init__(self, module: KeptTensors) -> None:
        self._module = module
        self._computed: _Computed | None = None

    def keep(
        self, n_id: Tensor, before: Tensor, memory: Tensor, last_update: Tensor, *, place: Tensor, alone: bool
    ) -> None:
        """Takes note of computed rows.

        Args:
            n_id: Int64[U], where ``place`` is.
            before: [U, memory_dim], the rows that they were computed from.
            memory: [U, memory_dim].
            last_update: Int64[U].
            place: Int64[N], gets the position of each node in ``n_id``.
            alone: Whether nobody else writes the module's state, so that a change of it counts.
        """
        place[n_id] = torch.arange(n_id.numel(), device=place.device)
        self._computed = _Computed(n_id, before, memory, last_update, self._made_from(alone))
        if memory.requires_grad:
            # After a backward pass the graph is gone, and a fused optimizer changes weights without raising their
            # version.
            memory.register_hook(self._forget)

    def find(self, n_id: Tensor, *, place: Tensor, alone: bool) -> tuple[Tensor, Tensor, Tensor] | None:
        """Returns rows before and after, [C, memory_dim], and last updates, Int64[C], if they are known and hold.

        Args:
            n_id: Int64[C].
            place: The positions that :meth:`keep` wrote.
            alone: Whether nobody else writes the module's state.
        """
        known = self._computed
        if known is None or known.made_from != self._made_from(alone) or not known.n_id.numel():
            return None
        learns = any(x.requires_grad for x in self._module.parameters())
        if torch.is_grad_enabled() and not known.memory.requires_grad and learns:
            return None
        n_id = n_id.to(place.device)
        position = place[n_id].clamp(0, known.n_id.numel() - 1)
        if not torch.equal(known.n_id[position], n_id):
            return None
        position = position.to(known.memory.device)
        before, memory = (x.index_select(0, position) for x in (known.before, known.memory))
        return before, memory, known.last_update[position]

    def clear(self) -> None:
        """Forgets the rows."""
        self._computed = None

    def _made_from(self, alone: bool) -> tuple[int, ...]:
        """Returns what changes whenever weights, or the state, are written in place."""
        read = (*self._module.parameters(), *(self._module.kept_tensors() if alone else ()))
        return tuple(x._version for x in read)

    def _forget(self, _: Tensor) -> None:
        self._computed = None

    def __getstate__(self) -> dict[str, object]:
        # What forward computed is part of a graph, which can be neither copied nor stored.
        return self.__dict__ | {"_computed": None}
