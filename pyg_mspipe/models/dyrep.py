"""DyRep: a recurrent memory whose messages hold the other end's embedding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.memory import Commit, Mitigation, StreamMemory, TimeInit
from pyg_mspipe.models.embedding import attention_layers, rows_of_queries, since_update, temporal_embedding
from pyg_mspipe.models.memory_model import MemoryModel
from pyg_mspipe.pipeline.batch import Batch


class DyRep(MemoryModel):
    """DyRep (Trivedi et al. 2019, ICLR), as TGB builds it.

    A query's embedding is its node's row of the memory. Temporal attention over a node's neighbours, ``z_v``, goes into
    the messages alone: a batch updates the rows of its events' ends by a plain recurrent cell ::

        s_u <- tanh(W [s_u, z_v, e, phi(t - t_u)] + U s_u + b)

    with ``z_v`` as of that batch where ``v`` is an end of one of its events, and ``s_v`` in its place elsewhere; rows
    that are only read are computed with ``s_v``. As in TGB, no gradient reaches the attention layers, which keep the
    weights that they are drawn with.

    Args:
        num_nodes: Number of nodes.
        msg_dim: Width of the events' messages; may be 0.
        node_dim: Width of the nodes' features, which a projection brings to the memory's width, to be added to its
            rows; 0 without any.
        memory_dim: Width of the memory and of the embeddings.
        time_dim: Width of the time encoding.
        num_layers: Attention layers; as many hops are sampled.
        heads: Attention heads.
        dropout: Dropout of the attention weights.
        time_init: Where the time encoder starts, see :class:`~pyg_mspipe.memory.TimeEncoder`.
        memory_device: Where node memory is kept, by default with the weights.
        mitigation: Repairs stale rows of the memory; by default there is none.
    """

    memory: StreamMemory
    embeds_ends = True
    reads_moment = False
    paddable = True

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int,
        *,
        node_dim: int = 0,
        memory_dim: int = 100,
        time_dim: int = 100,
        num_layers: int = 1,
        heads: int = 2,
        dropout: float = 0.1,
        time_init: TimeInit = "random",
        memory_device: torch.device | str | None = None,
        mitigation: Mitigation | None = None,
    ) -> None:
        memory = StreamMemory(
            num_nodes,
            memory_dim,
            time_dim,
            IdentityMessage(msg_dim, memory_dim, time_dim),
            memory_device=memory_device,
            time_init=time_init,
            mitigation=mitigation,
            cell="rnn",
        )
        super().__init__(memory)
        self.layers = attention_layers(memory_dim, memory_dim, time_dim, msg_dim, num_layers, heads, dropout)
        self.layers.requires_grad_(False)
        self.num_hops = num_layers
        self.embedding_dim = self.row_dim = memory_dim
        self.take_features(node_dim, memory_dim)
        # What forward has read last, which the commit of the same batch needs again.
        self._read: tuple[Batch, Tensor, Tensor] | None = None

    def forward(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query: [Q, memory_dim].

        Args:
            batch: Its queries, and both ends of its events with their neighbourhoods, one hop for each layer.
        """
        return self.embed_with_rows(batch)[0]

    def embed_with_rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the embedding of each query, [Q, memory_dim], and the nodes' rows: [U, memory_dim].

        Args:
            batch: As :meth:`forward` takes it.
        """
        z, last_update = self.rows(batch)
        self._read = batch, z.detach(), last_update
        return rows_of_queries(z, batch.sample)[: batch.query_t.numel()], z

    @torch.no_grad()
    def commit(self, batch: Batch) -> Commit:
        """Returns the memory update of a batch, after the batch's queries were embedded.

        Args:
            batch: As :meth:`forward` takes it.
        """
        if self._read is None or self._read[0] is not batch:
            self.forward(batch)
            assert self._read is not None
        (_, z, last_update), self._read = self._read, None
        elapsed = since_update(last_update, batch.sample, batch.edge_time)
        z = temporal_embedding(self.layers, self.memory.time_enc, z, batch.sample, elapsed, batch.edge_msg)
        return self.memory.commit(batch, z[batch.query_t.numel() :])
