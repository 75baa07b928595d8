"""The memory of a model that is trained on a stream's own events: rows of nodes, and what computes new ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import Module

from pyg_mspipe._choices import TimeInit
from pyg_mspipe.graph.pending_events import PendingEvents
from pyg_mspipe.memory.aggregators import LastAggregator
from pyg_mspipe.memory.blank import zero_rows
from pyg_mspipe.memory.memory_updater import Cell, MemoryUpdater
from pyg_mspipe.memory.messages import LatestMessages
from pyg_mspipe.memory.mitigation import Mitigation
from pyg_mspipe.memory.node_memory import MemoryBatch, MessageSource, NodeMemory
from pyg_mspipe.memory.plan import plan_last_message
from pyg_mspipe.memory.row_state import RowState
from pyg_mspipe.memory.rows import Commit

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
        self.state = RowState(node_tables(num_nodes, memory_dim, self.memory_device), mitigation, blank=True)

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
            return self._stored(plan)
        rows, before = self._read(batch)
        since, other = rows.values["last_update"], rows.values["other"]
        memory = self._new_rows(before, since, plan.pending, plan.raw_msg, other)
        self._updated = batch, before, memory
        return memory, plan.pending.t

    @torch.no_grad()
    def commit(self, batch: MemoryBatch, ends: Tensor | None = None) -> Commit:
        """Returns the memory update of a batch, to be applied to the state.

        In training mode it applies the messages that waited for the nodes of the batch's events, and takes over what
        ``forward`` has computed for the same batch. In evaluation mode it applies the batch's own events.

        Args:
            batch: Gathered.
            ends: [2 * B, memory_dim], for all sources and then all destinations of the batch what stands for their
                rows in the messages of others; of several for a node that of its last event. By default the rows do.
        """
        plan = batch.plan
        assert plan is not None
        n_id = plan.n_id.index_select(0, plan.committed)
        if not self.training:
            return Commit(n_id, self._settled_rows(batch, n_id, ends), batch.events.stop, ends=n_id)
        before, memory = self._computed(batch)
        before, memory, since, told = (
            x.index_select(0, plan.committed) for x in (before, memory, plan.pending.t, plan.raw_msg)
        )
        if ends is not None:
            pending, rows = plan.pending.select(plan.committed), self._rows(batch).values
            last_update, other = (rows[name].index_select(0, plan.committed) for name in ("last_update", "other"))
            place = torch.searchsorted(n_id, pending.other).clamp_(max=n_id.numel() - 1)
            touched = (n_id.index_select(0, place) == pending.other).unsqueeze(1)
            other = torch.where(touched, ends.index_select(0, _last_end(batch, n_id)).index_select(0, place), other)
            memory = self._new_rows(before, last_update, pending, told, other)
        kept = None if self.mitigation is None else before
        return Commit(n_id, {"memory": memory, "last_update": since}, batch.events.stop, kept, ends=n_id)

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

    def _settled_rows(self, batch: MemoryBatch, n_id: Tensor, ends: Tensor | None) -> dict[str, Tensor]:
        """Returns rows of the ``C`` nodes of a batch's events, with the last of these applied to each."""
        end = _last_end(batch, n_id)
        last = end % batch.src.numel()
        src, dst = batch.src.index_select(0, last), batch.dst.index_select(0, last)
        pending = PendingEvents(
            valid=torch.ones_like(n_id, dtype=torch.bool),
            e_id=last + batch.events.start,
            is_source=(src == n_id) & (dst != n_id),
            other=torch.where(src == n_id, dst, src),
            t=batch.t.index_select(0, last),
        )
        other = None
        if ends is not None:
            other = ends.index_select(0, end).index_select(0, torch.searchsorted(n_id, pending.other))
        return self._applied(n_id, pending, batch.msg.index_select(0, last), other)

    def _applied(
        self, n_id: Tensor, pending: PendingEvents, raw_msg: Tensor, other: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Returns rows of nodes, Int64[M], as the state has them, with an event applied to each.

        What stands for the rows of the other ends, [M, memory_dim], is by default these rows.
        """
        memory, since = (self.state.read(table, n_id) for table in ("memory", "last_update"))
        if other is None:
            other = self.state.read("memory", pending.other)
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


def _last_end(batch: MemoryBatch, n_id: Tensor) -> Tensor:
    """Returns which end each node of a batch's events is last, of a self-loop the source: Int64[C].

    They are positions among all sources and then all destinations.
    """
    size = batch.src.numel()
    number = torch.arange(size, device=n_id.device) * 2
    ends, rank = torch.cat([batch.src, batch.dst]), torch.cat([number + 1, number])
    last = torch.zeros_like(n_id).scatter_reduce_(0, torch.searchsorted(n_id, ends), rank, "amax")
    return last // 2 + size * (1 - last % 2)


def node_tables(num_nodes: int, memory_dim: int, device: torch.device | str | None = None) -> dict[str, Tensor]:
    """Returns what is kept of each node, at the start; on the device ``"meta"`` to see its size alone."""
    last_update = zero_rows(num_nodes, dtype=torch.long, device=device)
    return {"memory": zero_rows(num_nodes, memory_dim, device=device), "last_update": last_update}
