"""JODIE (Kumar et al. 2019): an RNN, and a projection of the row to the time of the query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from oracles.events import Event, Query, Stream
from oracles.memory import LastMessageOracle, NoMessage
from oracles.parts import Params, Shapes, cell_shapes, layer_norm, linear_shapes, norm_shapes, phi, rnn


class Gaps(NamedTuple):
    """Mean and standard deviation of the time since a node's last event."""

    mean: float
    std: float


def jodie_shapes(msg_dim: int, memory_dim: int, time_dim: int) -> Shapes:
    """Returns the shapes of JODIE's parameters: ``projection.scale`` is ``a``, ``projection.shift`` is ``c``."""
    return (
        cell_shapes("memory.rnn", 2 * memory_dim + msg_dim + time_dim, memory_dim, gates=1)
        | linear_shapes("memory.time_enc.lin", 1, time_dim)
        | norm_shapes("norm", memory_dim)
        | {"projection.scale": (memory_dim,), "projection.shift": (memory_dim,)}
    )


class JODIEOracle(LastMessageOracle):
    """JODIE.

    * Message: as TGN's, ``[s_u, s_v, e, phi(t - t_u)]``. Row: ``RNNCell(message, s_u)`` with tanh.
    * Embedding: ``LN(s'_u) * (1 + a x + c)``. Of a query at time ``t_q`` of its event, with the node's time ``t_u`` as
      the batch reads it, ``x = (t_q - t_u) / (t_q + 1)``; with ``gaps``, ``x = (t_q - t_u - mean) / std``. No neighbour
      is read.

    Args:
        params: See :func:`jodie_shapes`.
        stream: The stream.
        gaps: Those of each node.
        begin: The first event that the memory sees.
        no_message: What becomes of the row of a node for which no message waits.
    """

    def __init__(
        self,
        params: Params,
        stream: Stream,
        *,
        gaps: Sequence[Gaps] | None = None,
        begin: int = 0,
        no_message: NoMessage = "cell",
    ) -> None:
        super().__init__(params, stream, params["memory.rnn.weight_hh"].size(1), begin=begin, no_message=no_message)
        self.gaps = gaps

    def message(self, node: int, event: Event, bound: int) -> Tensor:
        own, other = self.rows[node], self.rows[event.other_end(node)]
        return torch.cat([own, other, event.msg, phi(self.params, "memory.time_enc", event.t - self.times[node])])

    def cell(self, message: Tensor | None, row: Tensor) -> Tensor:
        if message is None:
            message = row.new_zeros(self.params["memory.rnn.weight_ih"].size(1))
        return rnn(self.params, "memory.rnn", message, row)

    def embed(self, query: Query, events: range) -> Tensor:
        row, since = self.seen(query.node, events)
        t = self.stream.events[query.e_id].t
        if self.gaps is None:
            x = (t - since) / (t + 1)
        else:
            mean, std = self.gaps[query.node]
            x = (t - since - mean) / std
        scale = 1 + self.params["projection.scale"] * x + self.params["projection.shift"]
        return layer_norm(self.params, "norm", row) * scale
