"""The network that static node memory is trained with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Embedding, Module

from pyg_mspipe.graph.neighbor_sampler import NeighborSample
from pyg_mspipe.memory import TimeEncoder, TimeInit
from pyg_mspipe.models.embedding import attention_layers, temporal_embedding
from pyg_mspipe.models.link_predictor import LinkPredictor


class StaticTGN(Module):
    """A :class:`~pyg_mspipe.models.TGN` with a learned vector for each known node in place of its memory.

    Nothing in it is sequential: batches may be large, and taken in any order.

    Args:
        known: Bool[N], the nodes that have a vector; that of the others is zero and stays so.
        msg_dim: Width of the events' messages; may be 0.
        static_dim: Width of the vectors.
        time_dim: Width of the time encoding.
        embedding_dim: Width of the embeddings.
        num_layers: Attention layers; as many hops are sampled.
        heads: Attention heads.
        dropout: Of the attention weights.
        time_init: Where the time encoder starts.

    Attributes:
        vectors: The vectors, with sparse gradients: a step costs what its nodes cost, however many there are.
    """

    known: Tensor

    def __init__(
        self,
        known: Tensor,
        msg_dim: int,
        *,
        static_dim: int = 100,
        time_dim: int = 100,
        embedding_dim: int = 100,
        num_layers: int = 1,
        heads: int = 2,
        dropout: float = 0.1,
        time_init: TimeInit = "random",
    ) -> None:
        super().__init__()
        self.register_buffer("known", known)
        # Drawn for known nodes alone, so that how many others there are changes nothing.
        start = torch.zeros(known.numel(), static_dim)
        start[known] = torch.randn(int(known.sum()), static_dim) / static_dim**0.5
        self.vectors = Embedding.from_pretrained(start, freeze=False, sparse=True)
        self.time_enc = TimeEncoder(time_dim, time_init)
        self.layers = attention_layers(static_dim, embedding_dim, time_dim, msg_dim, num_layers, heads, dropout)
        self.link_pred = LinkPredictor(embedding_dim)

    def forward(self, sample: NeighborSample, edge_time: Sequence[Tensor], edge_msg: Sequence[Tensor]) -> Tensor:
        """Returns the embedding of each query: [Q, embedding_dim].

        Times count back from the latest edge of the queries' own hop.

        Args:
            sample: The queries' neighbourhoods, one hop for each layer.
            edge_time: For each hop Int64[R, k], the times of its edges, in the stream's unit.
            edge_msg: For each hop [R, k, msg_dim], the messages of its edges.
        """
        n_id = sample.n_id
        z = self.vectors(n_id) * self.known.index_select(0, n_id).unsqueeze(1)
        return temporal_embedding(
            self.layers, self.time_enc, z, edge_time[0].max().expand(n_id.numel()), sample, edge_time, edge_msg
        )
