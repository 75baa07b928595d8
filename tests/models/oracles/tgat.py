"""TGAT (Xu et al. 2020): temporal attention over the features of nodes, without a memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from oracles.events import Query, Stream
from oracles.memory import Oracle
from oracles.parts import Params, Shapes, attention_shapes, linear_shapes, temporal_embedding


def tgat_shapes(msg_dim: int, node_dim: int, time_dim: int, embedding_dim: int, num_layers: int) -> Shapes:
    """Returns the shapes of TGAT's parameters; ``node_dim`` is the width of the rows of zeros if there is no ``x``."""
    return linear_shapes("time_enc.lin", 1, time_dim) | attention_shapes(
        node_dim, embedding_dim, time_dim + msg_dim, num_layers
    )


class TGATOracle(Oracle):
    """TGAT.

    The rows of nodes are their features, or zeros. The time encoded for an edge at time ``t`` is ``t_q - t``, with
    ``t_q`` the time of the query's event, in every hop: Xu et al. take in further hops the time of the edge that led
    there. Neighbours in every hop are those before the batch's first event. So queries of one node at different times
    have the same neighbours and different embeddings. It has no state: a commit does nothing.

    Args:
        params: See :func:`tgat_shapes`.
        stream: The stream.
        num_neighbors: How many neighbours are taken in each hop; one layer for each.
        heads: Attention heads.
        x: The features of nodes, [N, node_dim], or none.
    """

    def __init__(
        self, params: Params, stream: Stream, num_neighbors: Sequence[int], *, heads: int = 2, x: Tensor | None = None
    ) -> None:
        super().__init__(params, stream)
        self.num_neighbors = num_neighbors
        self.heads = heads
        skip = params["layers.0.lin_skip.weight"]
        self.x = skip.new_zeros(stream.num_nodes, skip.size(1)) if x is None else x

    def batch(self, events: range, queries: Sequence[Query]) -> Tensor:
        return torch.stack([self.embed(query, events) for query in queries])

    def embed(self, query: Query, events: range) -> Tensor:
        """Returns the embedding of one query."""
        t = self.stream.events[query.e_id].t
        return temporal_embedding(
            self.params,
            self.stream,
            query.node,
            events.start,
            num_neighbors=self.num_neighbors,
            heads=self.heads,
            time_enc="time_enc",
            row=lambda node: self.x[node],
            elapsed=lambda event, other: t - event.t,
        )

    def commit(self, events: range) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {}
