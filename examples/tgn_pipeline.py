"""TGN as one writes it with PyG, its batches prepared beside training by pyg_mspipe's PipelineLoader.

The lines marked with an arrow are other than in PyG's loop. A batch of the loader brings its neighbours along, with the
features of their edges, so that the LastNeighborLoader is gone, and with it reset_state() and insert().

    python examples/tgn_pipeline.py [STREAM] [--staleness exact] [--epochs 3]
"""

import argparse

import torch
from sklearn.metrics import average_precision_score
from torch.nn import BCEWithLogitsLoss
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator

from pyg_mspipe import LinkPredictor, PipelineLoader, TGNMemory, load_stream  # <-

parser = argparse.ArgumentParser()
parser.add_argument("stream", nargs="?", default="synthetic")
parser.add_argument("--staleness", default="exact", help="sequential, exact, minimal or a whole number")
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()

torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
data = load_stream(args.stream)
train_data, val_data, _ = data.train_val_test_split(val_ratio=0.15, test_ratio=0.15)
val_events = range(train_data.num_events, train_data.num_events + val_data.num_events)  # <-

dim, msg_dim = 100, data.msg.size(-1)
memory = TGNMemory(
    data.num_nodes,
    msg_dim,
    dim,
    dim,
    message_module=IdentityMessage(msg_dim, dim, dim),
    aggregator_module=LastAggregator(),
).to(device)
conv = TransformerConv(dim, dim // 2, heads=2, dropout=0.1, edge_dim=msg_dim + dim).to(device)
link_pred = LinkPredictor(dim).to(device)
modules = torch.nn.ModuleList([memory, conv, link_pred])
optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3)
criterion = BCEWithLogitsLoss()
assoc = torch.empty(data.num_nodes, dtype=torch.long, device=device)

options = {"batch_size": 200, "neg_sampling_ratio": 1.0, "num_neighbors": [10]}  # <-
train_loader = PipelineLoader(train_data, memory, staleness=args.staleness, **options)  # <-
val_loader = PipelineLoader(data, memory, events=val_events, seed=1, **options)  # <-


def predict(batch):
    """Logits of the batch's events and of their negatives."""
    assoc[batch.n_id] = torch.arange(batch.n_id.size(0), device=device)  # <-
    z, last_update = memory(batch.n_id)  # <-
    t_enc = memory.time_enc((last_update[batch.edge_index[0]] - batch.edge_time).to(z.dtype))  # <-
    z = conv(z, batch.edge_index, torch.cat([t_enc, batch.edge_attr], dim=-1))  # <-
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
    val_loader.epoch = 0  # the same negatives in each epoch  # <-
    aps = []
    for batch in val_loader:
        pos, neg = predict(batch)
        label = torch.cat([torch.ones_like(pos), torch.zeros_like(neg)])
        aps.append(average_precision_score(label.cpu(), torch.cat([pos, neg]).cpu()))
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
    return sum(aps) / len(aps)


for epoch in range(1, args.epochs + 1):
    print(f"epoch {epoch}  loss {train():.4f}  val AP {test():.4f}")
