"""A model and a loop of one's own in several processes: PyG's TGN in DistributedDataParallel.

    torchrun --nproc-per-node 2 examples/tgn_ddp.py [STREAM] [--epochs 4]

Each process has a node memory of its own and goes through the stream part by part, each from another part on (memory
parallelism); DistributedDataParallel makes the mean of their gradients. The memory is no buffer of the module, so DDP
leaves each process its own.
"""

import argparse

import torch
import torch.distributed as dist
from sklearn.metrics import average_precision_score
from torch.nn import BCEWithLogitsLoss
from torch.nn.parallel import DistributedDataParallel
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator

from pyg_mspipe import LinkPredictor, PipelineLoader, TGNMemory, load_stream

parser = argparse.ArgumentParser()
parser.add_argument("stream", nargs="?", default="synthetic")
parser.add_argument("--epochs", type=int, default=4)
args = parser.parse_args()


class Model(torch.nn.Module):
    def __init__(self, num_nodes, msg_dim, dim=100):
        super().__init__()
        message = IdentityMessage(msg_dim, dim, dim)
        self.memory = TGNMemory(num_nodes, msg_dim, dim, dim, message, LastAggregator())
        self.conv = TransformerConv(dim, dim // 2, heads=2, dropout=0.1, edge_dim=msg_dim + dim)
        self.link_pred = LinkPredictor(dim)

    def forward(self, batch):
        z, last_update = self.memory(batch.n_id)
        t_enc = self.memory.time_enc((last_update[batch.edge_index[0]] - batch.edge_time).to(z.dtype))
        z = self.conv(z, batch.edge_index, torch.cat([t_enc, batch.edge_attr], dim=-1))
        src, dst, neg = (z[torch.searchsorted(batch.n_id, x)] for x in (batch.src, batch.dst, batch.neg_dst))
        return self.link_pred(src, dst), self.link_pred(src, neg)


dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
data = load_stream(args.stream)
train_data, val_data, _ = data.train_val_test_split(val_ratio=0.15, test_ratio=0.15)
val_events = range(train_data.num_events, train_data.num_events + val_data.num_events)

model = Model(data.num_nodes, data.msg.size(-1))
together = DistributedDataParallel(model)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = BCEWithLogitsLoss()

# Parts of as many batches each, as each batch is a step of all processes.
batch_size = 200
size = train_data.num_events // (world * batch_size) * batch_size
options = {"batch_size": batch_size, "neg_sampling_ratio": 1.0, "num_neighbors": [10]}
parts = [range(n * size, (n + 1) * size) for n in range(world)]
loaders = [PipelineLoader(train_data, model.memory, events=part, **options) for part in parts]
val_loader = PipelineLoader(data, model.memory, events=val_events, seed=1, **options)


def train():
    """A pass over all parts, from this process's own on; where the stream begins anew, so does the memory."""
    model.train()
    model.memory.reset_state()
    for n in range(world):
        part = (rank + n) % world
        if part == 0:
            model.memory.reset_state()
        for batch in loaders[part]:
            optimizer.zero_grad()
            pos, neg = together(batch)
            loss = criterion(pos, torch.ones_like(pos)) + criterion(neg, torch.zeros_like(neg))
            model.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
            loss.backward()
            optimizer.step()
            model.memory.detach()


@torch.no_grad()
def test():
    """Returns the AP of the validation events; the first process's memory is at their beginning."""
    model.eval()
    val_loader.epoch = 0  # the same negatives in each epoch
    aps = []
    for batch in val_loader:
        pos, neg = model(batch)
        label = torch.cat([torch.ones_like(pos), torch.zeros_like(neg)])
        aps.append(average_precision_score(label, torch.cat([pos, neg])))
        model.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
    return sum(aps) / len(aps)


for epoch in range(1, args.epochs + 1):
    train()
    if rank == 0:
        print(f"epoch {epoch}  val AP {test():.4f}")
dist.destroy_process_group()
