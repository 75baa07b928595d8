"""Messages and an aggregator of your own, written as for PyG, in the memory of pyg_mspipe and its pipeline.

A message module has ``out_channels`` and maps what two nodes, the event and the time since the last update say to a
message; an aggregator reduces the messages of each node to one. Here: an MLP, and a mean in which older messages weigh
less, by a rate that is learned.

    python examples/custom_message.py [STREAM] [--epochs 3]
"""

import argparse

import torch
from sklearn.metrics import average_precision_score
from torch.nn import Linear, ReLU, Sequential
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torch_geometric.nn import TransformerConv
from torch_geometric.utils import scatter, softmax

from pyg_mspipe import LinkPredictor, PipelineLoader, TGNMemory, load_stream


class MLPMessage(torch.nn.Module):
    def __init__(self, raw_msg_dim, memory_dim, time_dim, out_channels):
        super().__init__()
        self.out_channels = out_channels
        in_channels = 2 * memory_dim + raw_msg_dim + time_dim
        self.mlp = Sequential(Linear(in_channels, out_channels), ReLU(), Linear(out_channels, out_channels))

    def forward(self, z_src, z_dst, raw_msg, t_enc):
        return self.mlp(torch.cat([z_src, z_dst, raw_msg, t_enc], dim=-1))


class DecayingMean(torch.nn.Module):
    def __init__(self, unit):
        super().__init__()
        self.unit = unit
        self.rate = torch.nn.Parameter(torch.zeros(()))

    def forward(self, msg, index, t, dim_size):
        age = (scatter(t, index, 0, dim_size, reduce="max")[index] - t) / self.unit
        weight = softmax(-softplus(self.rate) * age, index, num_nodes=dim_size)
        return scatter(weight.view(-1, 1) * msg, index, 0, dim_size, reduce="sum")


parser = argparse.ArgumentParser()
parser.add_argument("stream", nargs="?", default="synthetic")
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()

torch.manual_seed(0)
data = load_stream(args.stream)
train_data, val_data, _ = data.train_val_test_split(val_ratio=0.15, test_ratio=0.15)
val_events = range(train_data.num_events, train_data.num_events + val_data.num_events)

dim, msg_dim = 100, data.msg.size(-1)
memory = TGNMemory(
    data.num_nodes,
    msg_dim,
    dim,
    dim,
    message_module=MLPMessage(msg_dim, dim, dim, out_channels=dim),
    aggregator_module=DecayingMean(unit=3600),  # of the stream's times: an hour of seconds
)
conv = TransformerConv(dim, dim // 2, heads=2, dropout=0.1, edge_dim=msg_dim + dim)
link_pred = LinkPredictor(dim)
modules = torch.nn.ModuleList([memory, conv, link_pred])
optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3)

options = {"batch_size": 200, "neg_sampling_ratio": 1.0, "num_neighbors": [10]}
train_loader = PipelineLoader(train_data, memory, **options)
val_loader = PipelineLoader(data, memory, events=val_events, seed=1, **options)


def predict(batch):
    """Logits of the batch's events and then of their negatives."""
    z, last_update = memory(batch.n_id)
    t_enc = memory.time_enc((last_update[batch.edge_index[0]] - batch.edge_time).to(z.dtype))
    z = conv(z, batch.edge_index, torch.cat([t_enc, batch.edge_attr], dim=-1))
    src, dst = torch.cat([batch.src, batch.src]), torch.cat([batch.dst, batch.neg_dst])
    return link_pred(*(z[torch.searchsorted(batch.n_id, node)] for node in (src, dst))).view(-1)


def run(loader, training):
    """Mean AP over the batches of a pass."""
    modules.train(training)
    aps = []
    for batch in loader:
        logits = predict(batch)
        label = torch.ones_like(logits)
        label[batch.num_events :] = 0
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        if training:
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(logits, label).backward()
            optimizer.step()
            memory.detach()
        aps.append(average_precision_score(label, logits.detach()))
    return sum(aps) / len(aps)


for epoch in range(1, args.epochs + 1):
    memory.reset_state()
    train_ap = run(train_loader, training=True)
    val_loader.epoch = 0  # the same negatives in each epoch
    with torch.no_grad():
        val_ap = run(val_loader, training=False)
    print(f"epoch {epoch}  train AP {train_ap:.4f}  val AP {val_ap:.4f}")
