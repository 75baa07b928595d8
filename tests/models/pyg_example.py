"""TGN from PyG's own classes alone: the model and the training loop that ours is held against."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch_geometric.nn import TGNMemory, TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader


class PyGTGN(nn.Module):
    """A memory, one layer of attention over a node's last events, and a link predictor."""

    def __init__(self, num_nodes, msg_dim, width, heads, aggregator=LastAggregator):
        super().__init__()
        message = IdentityMessage(msg_dim, width, width)
        self.memory = TGNMemory(num_nodes, msg_dim, width, width, message, aggregator())
        self.conv = TransformerConv(width, width // heads, heads=heads, edge_dim=width + msg_dim)
        self.lin_src = nn.Linear(width, width)
        self.lin_dst = nn.Linear(width, width)
        self.lin_final = nn.Linear(width, 1)

    def weights(self):
        """All weights under the names of our model and task."""
        names = {"conv": "model.layers.0.", "lin_src": "task.head.lin_src.", "lin_dst": "task.head.lin_dst."}
        names["lin_final"] = "task.head.lin_final."
        out = {f"model.memory.{name}": x for name, x in self.memory.state_dict().items()}
        for module, prefix in names.items():
            out |= {prefix + name: x for name, x in getattr(self, module).state_dict().items()}
        return {name: x.clone() for name, x in out.items()}

    def forward(self, n_id, edge_index, t, msg):
        x, last_update = self.memory(n_id)
        age = (last_update[edge_index[0]] - t).to(x.dtype)
        return self.conv(x, edge_index, torch.cat([self.memory.time_enc(age), msg], dim=-1))

    def score(self, z_src, z_dst):
        return self.lin_final((self.lin_src(z_src) + self.lin_dst(z_dst)).relu())


@contextmanager
def stable_sort():
    """Makes PyG definite.

    It sorts a batch's messages and neighbours without asking for a stable order. With more than 16 of them torch gives
    another one, and PyG then takes any of a node's messages of equal time for the last, and of a node with more
    events in a batch than it has places for neighbours any for the last ones.
    """
    sort = torch.Tensor.sort
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "sort", lambda self: sort(self, stable=True))
        yield


def losses_of(model, data, negatives, batch_size, num_neighbors, lr):
    """Trains over ``len(negatives)`` batches and yields the loss of each."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loader = LastNeighborLoader(model.memory.num_nodes, num_neighbors)
    place = torch.empty(model.memory.num_nodes, dtype=torch.long)
    criterion = nn.BCEWithLogitsLoss()
    for number, negative in enumerate(negatives):
        batch = data[number * batch_size : (number + 1) * batch_size]
        optimizer.zero_grad()
        n_id, edge_index, e_id = loader(torch.cat([batch.src, batch.dst, negative]).unique())
        place[n_id] = torch.arange(n_id.numel())
        z = model(n_id, edge_index, data.t[e_id], data.msg[e_id])
        hit = model.score(z[place[batch.src]], z[place[batch.dst]])
        miss = model.score(z[place[batch.src]], z[place[negative]])
        loss = criterion(hit, torch.ones_like(hit)) + criterion(miss, torch.zeros_like(miss))
        with stable_sort():
            model.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
            loader.insert(batch.src, batch.dst)
        loss.backward()
        optimizer.step()
        model.memory.detach()
        yield loss.item()
