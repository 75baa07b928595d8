"""The Temporal Graph Network, whole: memory, temporal attention and link predictor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.graph.neighbor_sampler import NeighborSample
from pyg_mspipe.memory import LastAggregator, Mitigation, StaticMemory, TGNMemory, TimeInit
from pyg_mspipe.models.embedding import attention_layers, temporal_embedding
from pyg_mspipe.models.link_predictor import LinkPredictor


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
        aggregator_module: Of the memory, by default :class:`~pyg_mspipe.memory.LastAggregator`.
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
        aggregator_module: Module | None = None,
        memory_device: torch.device | str | None = None,
        mitigation: Mitigation | None = None,
        static_dim: int = 0,
        static_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.memory = TGNMemory(
            num_nodes,
            msg_dim,
            memory_dim,
            time_dim,
            message_module or IdentityMessage(msg_dim, memory_dim, time_dim),
            aggregator_module or LastAggregator(),
            memory_device=memory_device,
            time_init=time_init,
            mitigation=mitigation,
        )
        self.layers = attention_layers(memory_dim, embedding_dim, time_dim, msg_dim, num_layers, heads, dropout)
        self.link_pred = LinkPredictor(embedding_dim)
        # Last, so that the other weights start where they do without it.
        self.static_memory = (
            StaticMemory(num_nodes, static_dim, memory_dim, dropout=static_dropout) if static_dim else None
        )

    def reset_parameters(self) -> None:
        """Resets all learnable parameters, and the memory."""
        self.memory.reset_parameters()
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]
        self.link_pred.reset_parameters()
        if self.static_memory is not None:
            self.static_memory.reset_parameters()

    def forward(self, sample: NeighborSample, edge_time: Sequence[Tensor], edge_msg: Sequence[Tensor]) -> Tensor:
        """Returns the embedding of each query: [Q, embedding_dim].

        Args:
            sample: The queries' neighbourhoods, one hop for each layer.
            edge_time: For each hop Int64[R, k], the times of its edges, in the stream's unit.
            edge_msg: For each hop [R, k, msg_dim], the messages of its edges.
        """
        z, last_update = self.memory(sample.n_id)
        if self.static_memory is not None:
            z = z + self.static_memory(sample.n_id)
        return temporal_embedding(self.layers, self.memory.time_enc, z, last_update, sample, edge_time, edge_msg)
