"""The Temporal Graph Network, whole: memory, temporal attention and link predictor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.graph import PendingEvents
from pyg_mspipe.memory import (
    Commit,
    LastAggregator,
    LatestMessages,
    Mitigation,
    RowState,
    StaticMemory,
    TimeInit,
)
from pyg_mspipe.memory.memory_updater import MemoryUpdater
from pyg_mspipe.models.embedding import attention_layers, temporal_embedding
from pyg_mspipe.models.link_predictor import LinkPredictor
from pyg_mspipe.pipeline.batches import Batch, Batches

if TYPE_CHECKING:
    from typing_extensions import Self

# Nodes whose messages are applied at once; bounds the messages that exist at a time.
_SETTLE_CHUNK = 1 << 14


class TGN(Module):
    """The Temporal Graph Network (Rossi et al. 2020, arXiv 2006.10637) with attention embedding, TGN-attn.

    With one layer it is the model of PyG's ``examples/tgn.py``: same parameters, same numbers.

    Args:
        num_nodes: Number of nodes.
        msg_dim: Width of the events' messages; may be 0.
        memory_dim: Width of the memory.
        time_dim: Width of the time encoding.
        embedding_dim: Width of the embeddings.
        num_layers: Attention layers; as many hops are sampled.
        heads: Attention heads.
        dropout: Of the attention weights.
        time_init: Where the time encoder starts, see :class:`~pyg_mspipe.memory.TimeEncoder`.
        message_module: Of the memory, by default PyG's ``IdentityMessage``.
        memory_device: Where node memory is kept, by default with the weights.
        mitigation: Of the memory, by default none.
        static_dim: Width of the static node memory, see :class:`~pyg_mspipe.memory.StaticMemory`; 0 for none.
        static_dropout: Share of its vectors that are taken to be zero in training.
    """

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int,
        *,
        memory_dim: int = 100,
        time_dim: int = 100,
        embedding_dim: int = 100,
        num_layers: int = 1,
        heads: int = 2,
        dropout: float = 0.1,
        time_init: TimeInit = "random",
        message_module: Module | None = None,
        memory_device: torch.device | str | None = None,
        mitigation: Mitigation | None = None,
        static_dim: int = 0,
        static_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.memory = MemoryUpdater(
            memory_dim,
            time_dim,
            message_module or IdentityMessage(msg_dim, memory_dim, time_dim),
            LastAggregator(),
            time_init,
            mitigation,
        )
        self.memory.reset_parameters()
        self.memory_device = None if memory_device is None else torch.device(memory_device)
        self.state = RowState(node_tables(num_nodes, memory_dim, self.memory_device), mitigation)
        self._updated: tuple[Batch, Tensor, Tensor] | None = None
        self.layers = attention_layers(memory_dim, embedding_dim, time_dim, msg_dim, num_layers, heads, dropout)
        self.link_pred = LinkPredictor(embedding_dim)
        # Last, so that the other weights start where they do without it.
        self.static_memory = (
            StaticMemory(num_nodes, static_dim, memory_dim, dropout=static_dropout) if static_dim else None
        )

    def reset_parameters(self) -> None:
        """Resets all learnable parameters, and the memory."""
        self.memory.reset_parameters()
        self.state.clear(self.state.span.begin)
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]
        self.link_pred.reset_parameters()
        if self.static_memory is not None:
            self.static_memory.reset_parameters()

    def forward(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query: [Q, embedding_dim].

        Args:
            batch: Gathered, with one hop for each layer. In training mode it may have its rows; else they are read.

        Raises:
            RuntimeError: In evaluation mode, if messages wait that :meth:`settle` has not applied.
        """
        z, last_update = self._memory_of(batch)
        if self.static_memory is not None:
            z = z + self.static_memory(batch.n_id)
        return temporal_embedding(
            self.layers, self.memory.time_enc, z, last_update, batch.sample, batch.edge_time, batch.edge_msg
        )

    @torch.no_grad()
    def commit(self, batch: Batch) -> Commit:
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
        if self._updated is None or self._updated[0] is not batch:
            self._memory_of(batch)
            assert self._updated is not None
        _, before, memory = self._updated
        self._updated = None
        rows = {"memory": memory.detach(), "last_update": plan.pending.t}
        kept = None if self.memory.mitigation is None else before.index_select(0, plan.committed)
        rows = {name: row.index_select(0, plan.committed) for name, row in rows.items()}
        return Commit(n_id, rows, batch.events.stop, kept)

    @torch.no_grad()
    def settle(self, batches: Batches) -> None:
        """Applies all messages that wait, as evaluation wants it.

        Args:
            batches: Of the stream that the memory has seen.
        """
        state = self.state
        if state.span.settled == state.span.end:
            return

        def rows() -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
            for n_id in torch.arange(state.num_nodes, device=batches.device).split(_SETTLE_CHUNK):
                pending, raw_msg = batches.pending(n_id, state.span.end, state.span.begin)
                yield n_id, self._applied(n_id, pending, raw_msg)

        state.settle(rows())

    def with_state(self, state: RowState) -> TGN:
        """Returns a model with the same parameters, not copies of them, and another state.

        Args:
            state: Of as many nodes and the same width.
        """
        twin = copy.copy(self)
        twin.state, twin._updated = state, None
        return twin

    def _memory_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns memory, [U, memory_dim], and last update, Int64[U], of a batch's nodes."""
        plan = batch.plan
        assert plan is not None
        if not self.training:
            if self.state.span.settled < self.state.span.end:
                raise RuntimeError("messages wait to be applied; call model.settle(batches) before evaluation")
            return self.state.read("memory", plan.n_id), self.state.read("last_update", plan.n_id)
        rows = batch.rows
        if rows is None:
            self.state.drain()
            rows = self.state.fetch(batch)
        before, mitigation = rows.values["memory"], self.memory.mitigation
        if mitigation is not None and rows.missed is not None:
            before = mitigation.repair(before, rows.repair, rows.missed)
        since, other = rows.values["last_update"], rows.values["other"]
        memory = self._compute(before, since, plan.pending, plan.raw_msg, other, rows.missed)
        self._updated = batch, before, memory
        return memory, plan.pending.t

    def _settled_rows(self, batch: Batch, n_id: Tensor) -> dict[str, Tensor]:
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
        return {"memory": self._compute(memory, since, pending, raw_msg, other), "last_update": pending.t}

    def _compute(
        self,
        memory: Tensor,
        since: Tensor,
        pending: PendingEvents,
        raw_msg: Tensor,
        other: Tensor,
        missed: Tensor | None = None,
    ) -> Tensor:
        """Returns new rows: [U, memory_dim]."""
        messages = LatestMessages(pending.valid, pending.is_source, pending.other, pending.t, raw_msg.to(memory.dtype))
        return self.memory.compute(memory, since, messages, other, missed)[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.state.move(fn, keep_device=self.memory_device is not None)
        self._updated = None
        return self


def node_tables(num_nodes: int, memory_dim: int, device: torch.device | str | None = None) -> dict[str, Tensor]:
    """Returns what a TGN keeps of each node at the start; on the device ``"meta"`` to see its size alone."""
    last_update = torch.zeros(num_nodes, dtype=torch.long, device=device)
    return {"memory": torch.zeros(num_nodes, memory_dim, device=device), "last_update": last_update}
