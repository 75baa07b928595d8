"""TGAT: temporal attention over features, without any memory."""

from __future__ import annotations

from torch import Tensor
from torch.nn import Linear

from pyg_mspipe.memory import TimeEncoder, TimeInit
from pyg_mspipe.models.embedding import attention_layers, since_asked, temporal_embedding
from pyg_mspipe.models.temporal_model import TemporalModel
from pyg_mspipe.pipeline.batch import Batch


class TGAT(TemporalModel):
    """Temporal graph attention (Xu et al. 2020, arXiv 2002.07962) over nodes' features, or zeros where there are none.

    An edge's time counts back from the moment that its target row is as of: with the ``event`` cut-off that of the
    query itself, with the ``batch`` cut-off that of the batch's first event. The attention is PyG's
    ``TransformerConv``, as in :class:`~pyg_mspipe.models.TGN`.

    Args:
        num_nodes: Number of nodes; taken for the sake of the other models, and not used.
        msg_dim: Width of the events' messages; may be 0.
        node_dim: Width of the nodes' features; 0 without any.
        time_dim: Width of the time encoding.
        embedding_dim: Width of the embeddings, and of the projected features.
        num_layers: Attention layers; as many hops are sampled.
        heads: Attention heads.
        dropout: Dropout of the attention weights.
        time_init: Where the time encoder starts, see :class:`~pyg_mspipe.memory.TimeEncoder`.
    """

    reads_moment = False
    paddable = True

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int,
        *,
        node_dim: int = 0,
        time_dim: int = 100,
        embedding_dim: int = 100,
        num_layers: int = 2,
        heads: int = 2,
        dropout: float = 0.1,
        time_init: TimeInit = "random",
    ) -> None:
        super().__init__()
        self.time_enc = TimeEncoder(time_dim, time_init)
        self.layers = attention_layers(embedding_dim, embedding_dim, time_dim, msg_dim, num_layers, heads, dropout)
        self.num_hops = num_layers
        self.embedding_dim = self.row_dim = embedding_dim
        self.node_lin = Linear(node_dim, embedding_dim) if node_dim else None

    def forward(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query: [Q, embedding_dim].

        Args:
            batch: Its queries and their neighbourhoods, one hop for each layer.
        """
        return self.embed_with_rows(batch)[0]

    def embed_with_rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the embedding of each query, [Q, embedding_dim], and the nodes' projected features, as wide.

        Args:
            batch: As :meth:`forward` takes it.
        """
        if self.node_lin is not None:
            rows = self.node_lin(batch.x)
        else:
            rows = self.time_enc.lin.weight.new_zeros(batch.n_id.numel(), self.embedding_dim)
        elapsed = since_asked(batch.row_t, batch.edge_time)
        return temporal_embedding(self.layers, self.time_enc, rows, batch.sample, elapsed, batch.edge_msg), rows
