"""PyG's own convolutions as the embedding of a temporal model: a stack of `GATv2Conv`, one for each hop.

    mspipe train synthetic --model examples/conv_model.py:ConvTGN --layers 2

Any convolution will do that takes a pair of node features, sources and targets, as those for bipartite graphs do.
"""

import torch
from torch.nn import Linear, ModuleList
from torch_geometric.nn import GATv2Conv
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.memory import StreamMemory
from pyg_mspipe.models import MemoryModel


class ConvTGN(MemoryModel):
    def __init__(
        self,
        num_nodes,
        msg_dim,
        *,
        node_dim=0,
        memory_dim,
        time_dim,
        embedding_dim,
        num_layers,
        heads,
        dropout,
        memory_device=None,
        mitigation=None,
    ):
        message = IdentityMessage(msg_dim, memory_dim, time_dim)
        options = {"memory_device": memory_device, "mitigation": mitigation}
        super().__init__(StreamMemory(num_nodes, memory_dim, time_dim, message, **options))
        widths = [memory_dim] + [embedding_dim] * (num_layers - 1)
        # Sources and targets are different rows, so that a loop on either means nothing; a target's own row is added.
        options = {"dropout": dropout, "edge_dim": time_dim + msg_dim, "add_self_loops": False}
        self.convs = ModuleList(GATv2Conv(width, embedding_dim // heads, heads, **options) for width in widths)
        self.lins = ModuleList(Linear(width, embedding_dim) for width in widths)
        self.num_hops = num_layers
        self.embedding_dim = embedding_dim
        self.take_features(node_dim, memory_dim)

    def forward(self, batch):
        z, last_update = self.rows(batch)  # [U, memory_dim], with features of nodes if there are any, and Int64[U]
        # From the last hop to the queries' own: rows of the one are the sources of the other.
        hops = zip(batch.sample.hops[::-1], batch.edge_time[::-1], batch.edge_msg[::-1], strict=True)
        for (hop, t, msg), conv, lin in zip(hops, self.convs, self.lins, strict=True):
            age = (last_update[hop.edge_index[0]] - t[hop.mask]).to(z.dtype)
            edge_attr = torch.cat([self.memory.time_enc(age), msg[hop.mask]], dim=-1)
            own = z[hop.target]
            z = (conv((z, own), hop.edge_index, edge_attr) + lin(own)).relu()
            last_update = last_update[hop.target]
        return z[batch.sample.seed]  # [Q, embedding_dim]
