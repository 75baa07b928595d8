"""Node properties as one writes them with PyG and TGB: a loop over batches that stops at each day's labels.

With PyG alone, the lines marked with an arrow would take TGNMemory from torch_geometric.nn, LastNeighborLoader in place
of the sampler, and an insert() in `keep`. The loop is that of TGB's example for `tgbn-*`: a batch that goes past a day
is split there, and the labels are asked for between its parts.

    python examples/tgn_property_drop_in.py [--epochs 3]
"""

import argparse

import torch
from sklearn.metrics import ndcg_score
from torch.nn import CrossEntropyLoss
from torch_geometric.loader import TemporalDataLoader
from torch_geometric.nn import MLP, TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator

from pyg_mspipe import NeighborSampler, TemporalCSR, TGNMemory, synthetic  # <-

DAY, AHEAD, KINDS, VISITORS = 86_400, 3, 25, 300
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()

torch.manual_seed(0)
data = synthetic(20_000, num_src=VISITORS, num_dst=200)
train_data, val_data, _ = data.train_val_test_split(val_ratio=0.15, test_ratio=0.15)
csr = TemporalCSR.from_stream(data)  # <-
sampler = NeighborSampler(csr, num_neighbors=[10])  # <-

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
head = MLP([dim, dim, KINDS], norm=None)
modules = torch.nn.ModuleList([memory, conv, head])
optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3)
criterion = CrossEntropyLoss()
assoc = torch.empty(data.num_nodes, dtype=torch.long)


def labels(day):
    """The visitors of the three days from a day on, and how their visits are shared out among the kinds."""
    coming = (data.t >= day * DAY) & (data.t < (day + AHEAD) * DAY)
    kind = (data.dst[coming] - VISITORS) % KINDS
    count = torch.zeros(VISITORS, KINDS).index_put_((data.src[coming], kind), torch.ones(()), accumulate=True)
    node = count.sum(1).nonzero().view(-1)
    return node, count[node] / count[node].sum(1, keepdim=True)


def predict(node, day):
    """Logits of the nodes' kinds, from events before a day."""
    n_id, edge_index, e_id = sampler(node, csr.first_event_at(torch.tensor(day * DAY)))  # <-
    assoc[n_id] = torch.arange(n_id.size(0))
    z, last_update = memory(n_id)
    t_enc = memory.time_enc((last_update[edge_index[0]] - data.t[e_id]).to(z.dtype))
    z = conv(z, edge_index, torch.cat([t_enc, data.msg[e_id]], dim=-1))
    return head(z[assoc[node]])


def keep(batch):
    """Takes events into the memory."""
    if batch.num_events:
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        memory.detach()


def run(part, learn):
    """Goes over events, asks for the labels of each day that begins among them, and returns the mean NDCG@10."""
    day, scores, counts = int(part.t[0]) // DAY + 1, [], []
    for batch in TemporalDataLoader(part, batch_size=200):
        while int(batch.t[-1]) >= day * DAY and day * DAY <= int(data.t[-1]) - AHEAD * DAY:
            earlier = int((batch.t < day * DAY).sum())
            keep(batch[:earlier])
            batch = batch[earlier:]
            node, truth = labels(day)
            found = predict(node, day)
            if learn:
                optimizer.zero_grad()
                criterion(found, truth).backward()
                optimizer.step()
            scores.append(ndcg_score(truth, found.detach(), k=10) * len(node))
            counts.append(len(node))
            day += 1
        keep(batch)
    return sum(scores) / max(sum(counts), 1)


for epoch in range(1, args.epochs + 1):
    modules.train()
    memory.reset_state()
    train_ndcg = run(train_data, learn=True)
    modules.eval()
    with torch.no_grad():
        val_ndcg = run(val_data, learn=False)
    print(f"epoch {epoch}  train NDCG@10 {train_ndcg:.4f}  val NDCG@10 {val_ndcg:.4f}")
