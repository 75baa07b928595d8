"""JODIE: a recurrent memory whose rows are projected in time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import LayerNorm, Parameter
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.graph.row_sums import gather_rows
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
    stream's own scale, so that for times since 1970 it is next to zero everywhere; with ``gaps`` it is free of the
    scale, as in the code of TGN and in DyGLib: ``x = (t_q - t_u - mean) / std``.

    Args:
        num_nodes: Number of nodes.
        msg_dim: Width of the events' messages; may be 0.
        node_dim: Width of the nodes' features, which a projection brings to the memory's width, to be added to its
            rows; 0 without any.
        memory_dim: Width of the memory and of the embeddings.
        time_dim: Width of the time encoding.
        time_init: Where the time encoder starts, see :class:`~pyg_mspipe.memory.TimeEncoder`.
        gaps: Float32[N, 2], mean and standard deviation of the times between a node's events, see
            :func:`gap_statistics`.
        memory_device: Where node memory is kept, by default with the weights.
        mitigation: Repairs stale rows of the memory; by default there is none.
    """

    memory: StreamMemory
    gaps: Tensor | None
    num_hops = 0
    paddable = True

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int,
        *,
        node_dim: int = 0,
        memory_dim: int = 100,
        time_dim: int = 100,
        time_init: TimeInit = "random",
        gaps: Tensor | None = None,
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
        self.embedding_dim = self.row_dim = memory_dim
        self.register_buffer("gaps", gaps)
        self.take_features(node_dim, memory_dim)

    def forward(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query: [Q, memory_dim].

        Args:
            batch: Its queries and the moments that they ask for.
        """
        return self.embed_with_rows(batch)[0]

    def embed_with_rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the embedding of each query, [Q, memory_dim], and the nodes' normalised rows: [U, memory_dim].

        Args:
            batch: As :meth:`forward` takes it.
        """
        z, last_update = self.rows(batch)
        asked = batch.sample.seed
        idle = (batch.query_t - last_update.index_select(0, asked)).to(z.dtype)
        if self.gaps is None:
            moved = idle / (batch.query_t + 1).to(z.dtype)
        else:
            mean, std = self.gaps.index_select(0, batch.n_id).index_select(0, asked).unbind(1)
            moved = (idle - mean) / std
        rows = self.norm(z)
        asked_rows = gather_rows(rows, asked, batch.sample.seed_sums)
        return asked_rows * (1 + moved.unsqueeze(1) * self.slope + self.shift), rows


def gap_statistics(src: Tensor, dst: Tensor, t: Tensor, num_nodes: int) -> Tensor:
    """Returns mean and standard deviation of the times between two events of a node: Float32[N, 2].

    There is one pair for all nodes that are sources of some event, of the times between a source's events, and one for
    the others, of those between a destination's. A deviation of zero, or of too few events, becomes 1.

    Args:
        src: Int64[E], of the training events, in order.
        dst: Int64[E].
        t: Int64[E], in the stream's unit.
        num_nodes: Number of nodes ``N``.
    """
    pairs = []
    for node in (src, dst):
        order = node.argsort(stable=True)
        same = node[order][1:] == node[order][:-1]
        gap = (t[order][1:] - t[order][:-1])[same].double()
        mean, std = (gap.mean(), gap.std()) if gap.numel() > 1 else (gap.sum(), gap.new_zeros(()))
        pairs.append(torch.stack([mean, torch.where(std > 0, std, torch.ones_like(std))]))
    out = pairs[1].expand(num_nodes, 2).clone()
    out[src] = pairs[0]
    return out.float()
