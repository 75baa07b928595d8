"""The Temporal Graph Network: memory and temporal attention."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.memory import Mitigation, StreamMemory, TimeInit
from pyg_mspipe.models.embedding import attention_layers, since_update, temporal_embedding
from pyg_mspipe.models.memory_model import MemoryModel
from pyg_mspipe.pipeline.batch import Batch


class TGN(MemoryModel):
    """The Temporal Graph Network (Rossi et al. 2020, arXiv 2006.10637) with attention embedding, TGN-attn.

    With one layer it is the model of PyG's ``examples/tgn.py``: same parameters, same numbers.

    Args:
        num_nodes: Number of nodes.
        msg_dim: Width of the events' messages; may be 0.
        node_dim: Width of the nodes' features, which a projection brings to the memory's width, to be added to its
            rows; 0 without any.
        memory_dim: Width of the memory.
        time_dim: Width of the time encoding.
        embedding_dim: Width of the embeddings.
        num_layers: Attention layers; as many hops are sampled.
        heads: Attention heads.
        dropout: Dropout of the attention weights.
        time_init: Where the time encoder starts, see :class:`~pyg_mspipe.memory.TimeEncoder`.
        message_module: Makes the memory's messages, by default PyG's ``IdentityMessage``.
        memory_device: Where node memory is kept, by default with the weights.
        mitigation: Repairs stale rows of the memory; by default there is none.
    """

    memory: StreamMemory
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
        embedding_dim: int = 100,
        num_layers: int = 1,
        heads: int = 2,
        dropout: float = 0.1,
        time_init: TimeInit = "random",
        message_module: Module | None = None,
        memory_device: torch.device | str | None = None,
        mitigation: Mitigation | None = None,
    ) -> None:
        memory = StreamMemory(
            num_nodes,
            memory_dim,
            time_dim,
            message_module or IdentityMessage(msg_dim, memory_dim, time_dim),
            memory_device=memory_device,
            time_init=time_init,
            mitigation=mitigation,
        )
        super().__init__(memory)
        self.layers = attention_layers(memory_dim, embedding_dim, time_dim, msg_dim, num_layers, heads, dropout)
        self.num_hops = num_layers
        self.embedding_dim = embedding_dim
        self.row_dim = memory_dim
        self.take_features(node_dim, memory_dim)

    def reset_parameters(self) -> None:
        """Resets all learnable parameters, and the memory."""
        self.memory.reset_parameters()
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]
        if self.node_lin is not None:
            self.node_lin.reset_parameters()
        if self.static_memory is not None:
            self.static_memory.reset_parameters()

    def forward(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query: [Q, embedding_dim].

        Args:
            batch: Its queries and their neighbourhoods, one hop for each layer.
        """
        return self.embed_with_rows(batch)[0]

    def embed_with_rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the embedding of each query, [Q, embedding_dim], and the nodes' rows: [U, memory_dim].

        Args:
            batch: As :meth:`forward` takes it.
        """
        rows, last_update = self.rows(batch)
        elapsed = since_update(last_update, batch.sample, batch.edge_time)
        z = temporal_embedding(self.layers, self.memory.time_enc, rows, batch.sample, elapsed, batch.edge_msg)
        return z, rows
