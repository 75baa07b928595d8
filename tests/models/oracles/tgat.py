"""TGAT (Xu et al. 2020): temporal attention over the features of nodes, without a memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from oracles.events import Query, Stream
from oracles.memory import Oracle
from oracles.parts import Params, Shapes, attention_shapes, linear, linear_shapes, temporal_embedding

CutOff = Literal["batch", "event"]
"""What a query sees: the events before its batch, or all events strictly before its own time."""

Since = Literal["query", "unseen"]
"""From where an edge's time counts back: the query's own time, or that of the first event that the query does not see.

With the ``event`` cut-off both are the same time, with the ``batch`` cut-off the latter is that of the batch's first
event.
"""


def tgat_shapes(msg_dim: int, node_dim: int, time_dim: int, embedding_dim: int, num_layers: int) -> Shapes:
    """Returns the shapes of TGAT's parameters, which have the names that they have in the package."""
    return (
        linear_shapes("time_enc.lin", 1, time_dim)
        | attention_shapes(embedding_dim, embedding_dim, time_dim + msg_dim, num_layers)
        | (linear_shapes("node_lin", node_dim, embedding_dim) if node_dim else {})
    )


class TGATOracle(Oracle):
    """TGAT.

    The rows of nodes are their projected features, or zeros. An edge at time ``t`` has the encoding ``phi(t_q - t)``,
    with the same ``t_q`` and the same neighbours' bound in every hop: Xu et al. take in further hops the time of the
    edge that led there. So queries of one node at different times differ. There is no state: a commit does nothing.

    Args:
        params: See :func:`tgat_shapes`.
        stream: The stream.
        num_neighbors: How many neighbours are taken in each hop; one layer for each.
        heads: Attention heads.
        x: The features of nodes, [N, node_dim], or none.
        cut_off: What a query sees.
        since: What ``t_q`` is.
    """

    def __init__(
        self,
        params: Params,
        stream: Stream,
        num_neighbors: Sequence[int],
        *,
        heads: int = 2,
        x: Tensor | None = None,
        cut_off: CutOff = "batch",
        since: Since = "query",
    ) -> None:
        super().__init__(params, stream)
        self.num_neighbors, self.heads, self.x = num_neighbors, heads, x
        self.cut_off, self.since = cut_off, since

    def row(self, node: int) -> Tensor:
        """Returns what the first layer gets of a node."""
        skip = self.params["layers.0.lin_skip.weight"]
        return skip.new_zeros(skip.size(1)) if self.x is None else linear(self.params, "node_lin", self.x[node])

    def bound(self, query: Query, events: range) -> int:
        """Returns the first event that a query does not see."""
        if self.cut_off == "batch":
            return events.start
        t = self.stream.events[query.e_id].t
        return next(event.e_id for event in self.stream.events if event.t >= t)

    def embed(self, query: Query, events: range) -> Tensor:
        """Returns the embedding of one query."""
        bound = self.bound(query, events)
        t = self.stream.events[query.e_id if self.since == "query" else bound].t
        return temporal_embedding(
            self.params,
            self.stream,
            query.node,
            bound,
            num_neighbors=self.num_neighbors,
            heads=self.heads,
            time_enc="time_enc",
            row=self.row,
            elapsed=lambda event, other: t - event.t,
        )

    def batch(self, events: range, queries: Sequence[Query]) -> Tensor:
        return torch.stack([self.embed(query, events) for query in queries])

    def commit(self, events: range) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {}
