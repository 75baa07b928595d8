"""A model of your own for ``mspipe train``: a node's memory beside the mean of its neighbours'.

    mspipe train synthetic --model examples/own_model.py:NeighbourMean

A trainer calls the class with the number of nodes, the width of the messages and those settings that it names. The seed
decides its first weights; checkpoints, staleness modes and plans of many trainers are the same for all models.
"""

import torch
from torch.nn import Linear
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.memory import StreamMemory
from pyg_mspipe.models import TemporalModel


class NeighbourMean(TemporalModel):
    def __init__(self, num_nodes, msg_dim, *, memory_dim, time_dim, embedding_dim, memory_device=None, mitigation=None):
        super().__init__()
        self.memory = StreamMemory(
            num_nodes,
            memory_dim,
            time_dim,
            IdentityMessage(msg_dim, memory_dim, time_dim),
            memory_device=memory_device,
            mitigation=mitigation,
        )
        self.lin = Linear(2 * memory_dim, embedding_dim)
        self.num_hops = 1
        self.embedding_dim = embedding_dim

    def forward(self, batch):
        z, _ = self.memory(batch)  # [U, memory_dim]; beside it when each node was updated last
        (hop,) = batch.sample.hops  # a row for each query's node, k places for its neighbours
        known = hop.mask.unsqueeze(-1)  # [R, k, 1]
        mean = (z[hop.neighbor] * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
        out = self.lin(torch.cat([z[hop.target], mean], dim=-1)).relu()
        return out[batch.sample.seed]  # [Q, embedding_dim]
