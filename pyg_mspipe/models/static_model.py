"""The network that static node memory is trained with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Embedding, Linear

from pyg_mspipe.memory import TimeEncoder, TimeInit
from pyg_mspipe.models.embedding import attention_layers, temporal_embedding
from pyg_mspipe.models.temporal_model import TemporalModel
from pyg_mspipe.pipeline.batch import Batch


class StaticModel(TemporalModel):
    """A :class:`~pyg_mspipe.models.TGN` with a learned vector for each known node in place of its memory.

    Nothing in it is sequential: batches may be large, and taken in any order.

    Args:
        known: Bool[N], the nodes that have a vector; that of the others is zero and stays so.
        msg_dim: Width of the events' messages; may be 0.
        node_dim: Width of the nodes' features, which a projection brings to the vectors' width, to be added to them;
            0 without any.
        static_dim: Width of the vectors.
        time_dim: Width of the time encoding.
        embedding_dim: Width of the embeddings.
        num_layers: Attention layers; as many hops are sampled.
        heads: Attention heads.
        dropout: Dropout of the attention weights.
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
        node_dim: int = 0,
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
        self.num_hops = num_layers
        self.embedding_dim = embedding_dim
        # Last, so that the other weights start where they do without it.
        self.node_lin = Linear(node_dim, static_dim, bias=False) if node_dim else None

    def forward(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query: [Q, embedding_dim].

        Times count back from the latest edge of the queries' own hop.

        Args:
            batch: Its queries and their neighbourhoods, one hop for each layer.
        """
        n_id = batch.n_id
        z = self.vectors(n_id) * self.known.index_select(0, n_id).unsqueeze(1)
        if self.node_lin is not None:
            z = z + self.node_lin(batch.x)
        now = batch.edge_time[0].max()
        elapsed = [now - t for t in batch.edge_time]
        return temporal_embedding(self.layers, self.time_enc, z, batch.sample, elapsed, batch.edge_msg)
