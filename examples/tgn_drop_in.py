"""TGN as one writes it with PyG; memory and neighbours from pyg_mspipe make it faster.

With PyG alone, the lines marked with an arrow would take TGNMemory from torch_geometric.nn, LastNeighborLoader in place
of the sampler, and an insert() at the end of each batch.

    python examples/tgn_drop_in.py [STREAM] [--epochs 3]
"""

import argparse

import torch
from sklearn.metrics import average_precision_score
from torch.nn import BCEWithLogitsLoss
from torch_geometric.loader import TemporalDataLoader
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator

from pyg_mspipe import LinkPredictor, NeighborSampler, TemporalCSR, TGNMemory, load_stream  # <-

parser = argparse.ArgumentParser()
parser.add_argument("stream", nargs="?", default="synthetic")
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()

torch.manual_seed(0)
data = load_stream(args.stream)
data.event_id = torch.arange(data.num_events)  # <-
train_data, val_data, _ = data.train_val_test_split(val_ratio=0.15, test_ratio=0.15)
train_loader = TemporalDataLoader(train_data, batch_size=200, neg_sampling_ratio=1.0)
val_loader = TemporalDataLoader(val_data, batch_size=200, neg_sampling_ratio=1.0)
sampler = NeighborSampler(TemporalCSR.from_stream(data), num_neighbors=[10])  # <-

dim, msg_dim = 100, data.msg.size(-1)
memory = TGNMemory(  # <-
    data.num_nodes,
    msg_dim,
    dim,
    dim,
    message_module=IdentityMessage(msg_dim, dim, dim),
    aggregator_module=LastAggregator(),
)
conv = TransformerConv(dim, dim // 2, heads=2, dropout=0.1, edge_dim=msg_dim + dim)
link_pred = LinkPredictor(dim)
modules = torch.nn.ModuleList([memory, conv, link_pred])
optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3)
criterion = BCEWithLogitsLoss()
assoc = torch.empty(data.num_nodes, dtype=torch.long)


def predict(batch):
    """Logits of the batch's events and of their negatives, from the events before the batch."""
    n_id, edge_index, e_id = sampler(batch.n_id, batch.event_id[0])  # <-
    assoc[n_id] = torch.arange(n_id.size(0))
    z, last_update = memory(n_id)
    t_enc = memory.time_enc((last_update[edge_index[0]] - data.t[e_id]).to(z.dtype))
    z = conv(z, edge_index, torch.cat([t_enc, data.msg[e_id]], dim=-1))
    return link_pred(z[assoc[batch.src]], z[assoc[batch.dst]]), link_pred(z[assoc[batch.src]], z[assoc[batch.neg_dst]])


def train():
    modules.train()
    memory.reset_state()
    total = 0.0
    for batch in train_loader:
        optimizer.zero_grad()
        pos, neg = predict(batch)
        loss = criterion(pos, torch.ones_like(pos)) + criterion(neg, torch.zeros_like(neg))
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        loss.backward()
        optimizer.step()
        memory.detach()
        total += float(loss.detach()) * batch.num_events
    return total / train_data.num_events


@torch.no_grad()
def test():
    modules.eval()
    torch.manual_seed(12345)
    aps = []
    for batch in val_loader:
        pos, neg = predict(batch)
        label = torch.cat([torch.ones_like(pos), torch.zeros_like(neg)])
        aps.append(average_precision_score(label, torch.cat([pos, neg])))
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
    return sum(aps) / len(aps)


for epoch in range(1, args.epochs + 1):
    print(f"epoch {epoch}  loss {train():.4f}  val AP {test():.4f}")
