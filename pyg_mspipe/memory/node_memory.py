"""What a model's memory is to everything that trains it, whatever it keeps of a node."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import Module

from pyg_mspipe.data.tensor_tree import ship
from pyg_mspipe.graph.pending_events import PendingEvents
from pyg_mspipe.memory.mitigation import Mitigation
from pyg_mspipe.memory.plan import MakePlan, MemoryPlan
from pyg_mspipe.memory.row_state import RowState
from pyg_mspipe.memory.rows import Commit, MemoryRows

if TYPE_CHECKING:
    from typing_extensions import Self


class MemoryBatch(Protocol):
    """What a memory needs to know of a batch."""

    @property
    def events(self) -> range:
        """The event ids."""
        ...

    @property
    def src(self) -> Tensor:
        """Int64[B]."""
        ...

    @property
    def dst(self) -> Tensor:
        """Int64[B]."""
        ...

    @property
    def t(self) -> Tensor:
        """Int64[B], in the stream's unit."""
        ...

    @property
    def msg(self) -> Tensor:
        """Float32[B, msg_dim]."""
        ...

    @property
    def plan(self) -> MemoryPlan | None:
        """What the batch reads and writes."""
        ...

    @property
    def rows(self) -> MemoryRows | None:
        """What was read for it; none where it is to be read."""
        ...


class MessageSource(Protocol):
    """Knows the stream's events and their messages."""

    @property
    def device(self) -> torch.device:
        """Where they are given."""
        ...

    def pending(self, n_id: Tensor, bound: int, begin: int) -> tuple[PendingEvents, Tensor]:
        """Returns what waits for nodes before a bound, and its messages: [M, msg_dim]."""
        ...


class NodeMemory(Module, ABC):
    """The memory of a model: rows of nodes, which a batch reads and updates as its plan says.

    Attributes:
        state: The rows.
        memory_device: Where the rows are kept; with the weights, if none.
        mitigation: What is done about rows that a pipeline fetched too early.
        make_plan: Plans what a batch reads and writes.
    """

    state: RowState
    memory_device: torch.device | None
    mitigation: Mitigation | None
    make_plan: MakePlan
    # What forward has computed last: of which batch, from which rows, and the new rows, [U, memory_dim] each.
    _updated: tuple[MemoryBatch, Tensor, Tensor] | None = None

    @abstractmethod
    def forward(self, batch: MemoryBatch) -> tuple[Tensor, Tensor]:
        """Returns the memory of a batch's nodes, [U, memory_dim], and the time of their last event: Int64[U].

        Args:
            batch: Gathered. Where it has no rows, they are read.
        """

    @abstractmethod
    def commit(self, batch: MemoryBatch) -> Commit:
        """Returns the memory update of a batch, to be applied to the state.

        Args:
            batch: Gathered.
        """

    def settle(self, source: MessageSource) -> None:
        """Applies all messages that wait, as evaluation wants it.

        Args:
            source: The events that the memory has seen, such as their :class:`~pyg_mspipe.Batches`.
        """

    def with_state(self, state: RowState) -> Self:
        """Returns a memory with the same parameters, not copies of them, and another state.

        Args:
            state: The other state, of as many nodes and the same width.
        """
        twin = copy.copy(self)
        twin.state, twin._updated = state, None
        return twin

    def _stored(self, plan: MemoryPlan) -> tuple[Tensor, Tensor]:
        """Returns the rows of the nodes that a plan reads, [U, memory_dim], and their last updates: Int64[U]."""
        n_id = plan.at(self.state.device).n_id
        rows = tuple(self.state.tables[name].index_select(0, n_id) for name in ("memory", "last_update"))
        memory, last_update = ship(rows, plan.n_id.device)
        return memory, last_update

    def _read(self, batch: MemoryBatch) -> tuple[MemoryRows, Tensor]:
        """Returns the rows of a batch, and those of ``"memory"`` to compute from: [U, memory_dim]."""
        rows = self._rows(batch)
        before = rows.values["memory"]
        if self.mitigation is not None and rows.missed is not None:
            before = self.mitigation.repair(before, rows.repair, rows.missed)
        return rows, before

    def _rows(self, batch: MemoryBatch) -> MemoryRows:
        """Returns the rows of a batch, as they were read."""
        if batch.rows is not None:
            return batch.rows
        self.state.drain()
        return self.state.fetch(batch)

    def _computed(self, batch: MemoryBatch) -> tuple[Tensor, Tensor]:
        """Returns the rows that a batch's new ones were computed from, and the new ones: [U, memory_dim] each."""
        if self._updated is None or self._updated[0] is not batch:
            self.forward(batch)
            assert self._updated is not None
        _, before, memory = self._updated
        self._updated = None
        return before, memory.detach()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.state.move(fn, keep_device=self.memory_device is not None)
        self._updated = None
        return self
