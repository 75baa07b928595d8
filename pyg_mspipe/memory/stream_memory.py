"""The memory of a model that is trained on a stream's own events: rows of nodes, and what computes new ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Module

from pyg_mspipe.graph.pending_events import PendingEvents
from pyg_mspipe.memory.aggregators import LastAggregator
from pyg_mspipe.memory.memory_updater import Cell, MemoryUpdater
from pyg_mspipe.memory.messages import LatestMessages
from pyg_mspipe.memory.mitigation import Mitigation
from pyg_mspipe.memory.node_memory import MemoryBatch, MessageSource, NodeMemory
from pyg_mspipe.memory.plan import plan_last_message
from pyg_mspipe.memory.row_state import RowState
from pyg_mspipe.memory.rows import Commit
from pyg_mspipe.memory.time_encoder import TimeInit

if TYPE_CHECKING:
    pass

# Nodes whose messages are applied at once; bounds the messages that exist at a time.
_SETTLE_CHUNK = 1 << 14


class StreamMemory(MemoryUpdater, NodeMemory):
    """The memory of the Temporal Graph Network (Rossi et al. 2020, arXiv 2006.10637), for batches of a stream.

    A node keeps its last message. That is looked up in the stream, so the state is rows and nothing else: the batch
    brings the messages, see :class:`~pyg_mspipe.memory.MemoryPlan`. The parameters are those of PyG's ``TGNMemory``.

    Args:
        num_nodes: Number of nodes ``N``.
        memory_dim: Width of the memory.
        time_dim: Width of the time encoding.
        message_module: Makes messages, see :class:`~pyg_mspipe.TGNMemory`.
        memory_device: Where the rows are kept, by default with the weights.
        time_init: Where the time encoder starts, see :class:`TimeEncoder`.
        mitigation: What is done about rows that a pipeline fetched too early.
        cell: What computes new rows.

    Attributes:
        state: The rows.
    """

    make_plan = staticmethod(plan_last_message)

    def __init__(
        self,
        num_nodes: int,
        memory_dim: int,
        time_dim: int,
        message_module: Module,
        *,
        memory_device: torch.device | str | None = None,
        time_init: TimeInit = "random",
        mitigation: Mitigation | None = None,
        cell: Cell = "gru",
    ) -> None:
        super().__init__(memory_dim, time_dim, message_module, LastAggregator(), time_init, mitigation, cell)
        super().reset_parameters()
        self.memory_device = None if memory_device is None else torch.device(memory_device)
        self.state = RowState(node_tables(num_nodes, memory_dim, self.memory_device), mitigation)

    def reset_parameters(self) -> None:
        """Resets all learnable parameters, and the state."""
        super().reset_parameters()
        self.state.clear(self.state.span.begin)

    def forward(self, batch: MemoryBatch) -> tuple[Tensor, Tensor]:
        """Returns the memory of a batch's nodes, [U, memory_dim], and the time of their last event: Int64[U].

        In training mode the messages that wait for the nodes are applied; the state stays as it is.

        Args:
            batch: Gathered. In training mode it may have its rows; else they are read.

        Raises:
            RuntimeError: In evaluation mode, if messages wait that :meth:`settle` has not applied.
        """
        plan = batch.plan
        assert plan is not None
        if not self.training:
            if self.state.span.settled < self.state.span.end:
                raise RuntimeError("messages wait to be applied; call settle(batches) before evaluation")
            return self.state.read("memory", plan.n_id), self.state.read("last_update", plan.n_id)
        rows, before = self._read(batch)
        since, other = rows.values["last_update"], rows.values["other"]
        memory = self._new_rows(before, since, plan.pending, plan.raw_msg, other)
        self._updated = batch, before, memory
        return memory, plan.pending.t

    @torch.no_grad()
    def commit(self, batch: MemoryBatch) -> Commit:
        """Returns the memory update of a batch, to be applied to the state.

        In training mode it applies the messages that waited for the nodes of the batch's events, and takes over what
        ``forward`` has computed for the same batch. In evaluation mode it applies the batch's own events.

        Args:
            batch: Gathered.
        """
        plan = batch.plan
        assert plan is not None
        n_id = plan.n_id.index_select(0, plan.committed)
        if not self.training:
            return Commit(n_id, self._settled_rows(batch, n_id), batch.events.stop)
        before, memory = self._computed(batch)
        rows = {"memory": memory, "last_update": plan.pending.t}
        kept = None if self.mitigation is None else before.index_select(0, plan.committed)
        rows = {name: row.index_select(0, plan.committed) for name, row in rows.items()}
        return Commit(n_id, rows, batch.events.stop, kept)

    @torch.no_grad()
    def settle(self, source: MessageSource) -> None:
        """Applies all messages that wait, as evaluation wants it.

        Args:
            source: The events that the memory has seen, such as its :class:`~pyg_mspipe.Batches`.
        """
        span = self.state.span
        if span.settled == span.end:
            return

        def rows() -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
            for n_id in torch.arange(self.state.num_nodes, device=source.device).split(_SETTLE_CHUNK):
                pending, raw_msg = source.pending(n_id, span.end, span.begin)
                yield n_id, self._applied(n_id, pending, raw_msg)

        self.state.settle(rows())

    def _settled_rows(self, batch: MemoryBatch, n_id: Tensor) -> dict[str, Tensor]:
        """Returns rows of the ``C`` nodes of a batch's events, with the last of these applied to each."""
        ends = torch.cat([batch.src, batch.dst])
        number = torch.arange(batch.src.numel(), device=ends.device).repeat(2)
        last = torch.zeros_like(n_id).scatter_reduce_(0, torch.searchsorted(n_id, ends), number, "amax")
        src, dst = batch.src.index_select(0, last), batch.dst.index_select(0, last)
        pending = PendingEvents(
            valid=torch.ones_like(n_id, dtype=torch.bool),
            e_id=last + batch.events.start,
            is_source=(src == n_id) & (dst != n_id),
            other=torch.where(src == n_id, dst, src),
            t=batch.t.index_select(0, last),
        )
        return self._applied(n_id, pending, batch.msg.index_select(0, last))

    def _applied(self, n_id: Tensor, pending: PendingEvents, raw_msg: Tensor) -> dict[str, Tensor]:
        """Returns rows of nodes, Int64[M], as the state has them, with an event applied to each."""
        memory, since, other = (
            self.state.read(table, nodes)
            for table, nodes in (("memory", n_id), ("last_update", n_id), ("memory", pending.other))
        )
        return {"memory": self._new_rows(memory, since, pending, raw_msg, other), "last_update": pending.t}

    def _new_rows(
        self,
        memory: Tensor,
        since: Tensor,
        pending: PendingEvents,
        raw_msg: Tensor,
        other: Tensor,
    ) -> Tensor:
        """Returns new rows: [U, memory_dim]."""
        messages = LatestMessages(pending.valid, pending.is_source, pending.other, pending.t, raw_msg.to(memory.dtype))
        return self.compute(memory, since, messages, other)[0]


def node_tables(num_nodes: int, memory_dim: int, device: torch.device | str | None = None) -> dict[str, Tensor]:
    """Returns what is kept of each node, at the start; on the device ``"meta"`` to see its size alone."""
    last_update = torch.zeros(num_nodes, dtype=torch.long, device=device)
    return {"memory": torch.zeros(num_nodes, memory_dim, device=device), "last_update": last_update}
