"""JODIE: a recurrent memory whose rows are projected in time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import LayerNorm, Parameter
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.memory import Mitigation, StreamMemory, TimeInit
from pyg_mspipe.models.memory_model import MemoryModel
from pyg_mspipe.pipeline.batch import Batch


class JODIE(MemoryModel):
    """JODIE (Kumar et al. 2019, arXiv 1908.01207), as TGL and MSPipe build it.

    A plain recurrent cell updates the memory, no neighbours are sampled, and a row is moved on to the moment that is
    asked for, in proportion to the time that has passed since the node's last event::

        s_u <- tanh(W [s_u, s_v, e, phi(t - t_u)] + U s_u + b)
        z_u  = LayerNorm(s_u) * (1 + a x + c),   x = (t_q - t_u) / (t_q + 1)

    ``a`` and ``c`` are learned and drawn from a standard normal distribution. ``x`` counts times from the start of the
    stream's own scale, so that for times since 1970 it is next to zero everywhere.

    Args:
        num_nodes: Number of nodes.
        msg_dim: Width of the events' messages; may be 0.
        node_dim: Width of the nodes' features, which a projection brings to the memory's width, to be added to its
            rows; 0 without any.
        memory_dim: Width of the memory and of the embeddings.
        time_dim: Width of the time encoding.
        time_init: Where the time encoder starts, see :class:`~pyg_mspipe.memory.TimeEncoder`.
        memory_device: Where node memory is kept, by default with the weights.
        mitigation: Repairs stale rows of the memory; by default there is none.
    """

    memory: StreamMemory
    num_hops = 0

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int,
        *,
        node_dim: int = 0,
        memory_dim: int = 100,
        time_dim: int = 100,
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
        self.norm = LayerNorm(memory_dim)
        self.slope = Parameter(torch.randn(memory_dim))
        self.shift = Parameter(torch.randn(memory_dim))
        self.embedding_dim = memory_dim
        self.take_features(node_dim, memory_dim)

    def forward(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query: [Q, memory_dim].

        Args:
            batch: Its queries and the moments that they ask for.
        """
        z, last_update = self.rows(batch)
        asked = batch.sample.seed
        idle = (batch.query_t - last_update.index_select(0, asked)).to(z.dtype)
        moved = idle / (batch.query_t + 1).to(z.dtype)
        out: Tensor = self.norm(z).index_select(0, asked) * (1 + moved.unsqueeze(1) * self.slope + self.shift)
        return out
