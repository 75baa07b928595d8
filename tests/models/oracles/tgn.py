"""TGN (Rossi et al. 2020): a GRU, and temporal attention over the most recent neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from oracles.events import Event, Query, Stream
from oracles.memory import LastMessageOracle
from oracles.parts import Params, Shapes, attention_shapes, cell_shapes, gru, linear_shapes, phi, temporal_embedding


def tgn_shapes(msg_dim: int, memory_dim: int, time_dim: int, embedding_dim: int, num_layers: int) -> Shapes:
    """Returns the shapes of TGN's parameters, which have the names that they have in the package."""
    return (
        cell_shapes("memory.gru", 2 * memory_dim + msg_dim + time_dim, memory_dim, gates=3)
        | linear_shapes("memory.time_enc.lin", 1, time_dim)
        | attention_shapes(memory_dim, embedding_dim, time_dim + msg_dim, num_layers)
    )


class TGNOracle(LastMessageOracle):
    """TGN.

    * Message to ``u`` from an event ``(u, v, t, e)`` or ``(v, u, t, e)``: ``[s_u, s_v, e, phi(t - t_u)]``, the own row
      first; of a self-loop both are ``s_u``.
    * Row: ``GRUCell(message, s_u)``, and ``GRUCell(0, s_u)`` for a node without a message.
    * Embedding: attention layers; the time encoded for an edge is the neighbour's time, as read, less the edge's.

    Args:
        params: See :func:`tgn_shapes`.
        stream: The stream.
        num_neighbors: How many neighbours are taken in each hop; one layer for each.
        heads: Attention heads.
        begin: The first event that the memory sees.
    """

    def __init__(
        self, params: Params, stream: Stream, num_neighbors: Sequence[int], *, heads: int = 2, begin: int = 0
    ) -> None:
        super().__init__(params, stream, params["memory.gru.weight_hh"].size(1), begin=begin)
        self.num_neighbors = num_neighbors
        self.heads = heads

    def message(self, node: int, event: Event, bound: int) -> Tensor:
        own, other = self.rows[node], self.rows[event.other_end(node)]
        return torch.cat([own, other, event.msg, phi(self.params, "memory.time_enc", event.t - self.times[node])])

    def cell(self, message: Tensor | None, row: Tensor) -> Tensor:
        if message is None:
            message = row.new_zeros(self.params["memory.gru.weight_ih"].size(1))
        return gru(self.params, "memory.gru", message, row)

    def embed(self, query: Query, events: range) -> Tensor:
        return temporal_embedding(
            self.params,
            self.stream,
            query.node,
            events.start,
            num_neighbors=self.num_neighbors,
            heads=self.heads,
            time_enc="memory.time_enc",
            row=lambda node: self.seen(node, events)[0],
            elapsed=lambda event, other: self.seen(other, events)[1] - event.t,
        )
