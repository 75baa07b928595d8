"""Random streams in batches, and PyG's memory as the oracle beside ours."""

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import TGNMemory as PyGMemory
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.memory import LastAggregator, TGNMemory

NUM_NODES = 7
MEMORY_DIM = 5
TIME_DIM = 4
ALL = torch.arange(NUM_NODES)


@st.composite
def batches(draw, min_batches=1, max_batches=5, max_size=6, raw_msg_dim=None):
    """Batches ``(src, dst, t, raw_msg)`` in order of time: self-loops, repeats and ties, nodes in both roles."""
    width = draw(st.sampled_from([0, 3])) if raw_msg_dim is None else raw_msg_dim
    sizes = draw(st.lists(st.integers(1, max_size), min_size=min_batches, max_size=max_batches))
    ids = st.lists(st.integers(0, NUM_NODES - 2), min_size=sum(sizes), max_size=sum(sizes))
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 4]), min_size=sum(sizes), max_size=sum(sizes)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    columns = [
        torch.tensor(draw(ids)),
        torch.tensor(draw(ids)),
        torch.tensor(gaps).cumsum(0) + draw(st.sampled_from([0, 9])),
        torch.randn(sum(sizes), width, generator=generator),
    ]
    return list(zip(*(column.split(sizes) for column in columns), strict=True))


class MLPMessage(nn.Module):
    """A message module with parameters."""

    def __init__(self, raw_msg_dim, memory_dim, time_dim):
        super().__init__()
        self.out_channels = 6
        self.lin = nn.Linear(raw_msg_dim + 2 * memory_dim + time_dim, self.out_channels)

    def reset_parameters(self):
        self.lin.reset_parameters()

    def forward(self, z_src, z_dst, raw_msg, t_enc):
        return self.lin(torch.cat([z_src, z_dst, raw_msg, t_enc], dim=-1)).tanh()


class DecayingSum(nn.Module):
    """An aggregator with a parameter that reads messages, index and times."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.3))

    def forward(self, msg, index, t, dim_size):
        latest = t.new_zeros(dim_size).scatter_reduce(0, index, t, "amax")
        weight = (-self.rate * (latest[index] - t)).exp().unsqueeze(1)
        return msg.new_zeros(dim_size, msg.size(-1)).index_add(0, index, msg * weight)


class LoopLast(nn.Module):
    """The latest message of each node by a loop; of a tie the first or the last."""

    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def forward(self, msg, index, t, dim_size):
        rows = []
        for node in range(dim_size):
            own = [i for i, each in enumerate(index.tolist()) if each == node]
            latest = [i for i in own if t[i] == max(t[own])]
            rows.append(msg[latest[0 if self.keep == "first" else -1]] if latest else msg.new_zeros(msg.size(-1)))
        return torch.stack(rows) if rows else msg.new_zeros(0, msg.size(-1))


class PyGMemoryOfWidth0(PyGMemory):
    """PyG's memory loses track of raw messages of width 0, so here they have a column that no message module sees."""

    def __init__(self, num_nodes, raw_msg_dim, *args):
        super().__init__(num_nodes, raw_msg_dim + 1, *args)

    def update_state(self, src, dst, t, raw_msg):
        super().update_state(src, dst, t, raw_msg.new_zeros(raw_msg.size(0), 1))

    def _compute_msg(self, n_id, msg_store, msg_module):
        def blind(z_src, z_dst, raw_msg, t_enc):
            return msg_module(z_src, z_dst, raw_msg[:, :0], t_enc)

        return super()._compute_msg(n_id, msg_store, blind)


def memory_of(cls, raw_msg_dim, aggregator, message=IdentityMessage, seed=0, **options):
    """A memory whose weights depend on ``seed`` alone."""
    torch.manual_seed(seed)
    module = message(raw_msg_dim, MEMORY_DIM, TIME_DIM)
    return cls(NUM_NODES, raw_msg_dim, MEMORY_DIM, TIME_DIM, module, aggregator, **options)


def pair_of(raw_msg_dim, aggregator, message=IdentityMessage, theirs=None):
    """PyG's memory and ours with the same weights; ``theirs``, if given, is the aggregator for PyG's."""
    pyg = memory_of(PyGMemory if raw_msg_dim else PyGMemoryOfWidth0, raw_msg_dim, (theirs or aggregator)(), message)
    ours = memory_of(TGNMemory, raw_msg_dim, aggregator(), message)
    ours.load_state_dict(pyg.state_dict())
    return pyg, ours


def loss_of(memory, batch, n_id):
    """What ``forward`` gave, and a link prediction loss with every event's source against a shifted destination."""
    src, dst, t, _ = batch
    z, last_update = memory(n_id)
    row = torch.empty(NUM_NODES, dtype=torch.long)
    row[n_id] = torch.arange(n_id.numel())
    age = (t - last_update[row[src]]).to(z.dtype).unsqueeze(1)
    score = (z[row[src]] * z[row[dst]]).sum(1) + (z[row[src]] * age).mean(1) * 0.01
    other = (z[row[src]] * z[row[dst.roll(1)]]).sum(1)
    loss = F.binary_cross_entropy_with_logits(score, torch.ones_like(score))
    return (z, last_update), loss + F.binary_cross_entropy_with_logits(other, torch.zeros_like(other))


def nodes_of(batch, *more):
    return torch.cat([batch[0], batch[1], torch.tensor(more, dtype=torch.long)]).unique()


def assert_same(ours, theirs, **tolerance):
    torch.testing.assert_close(ours, theirs, **({"atol": 1e-5, "rtol": 1e-5} | tolerance))


def assert_same_gradients(ours, theirs, **tolerance):
    theirs = dict(theirs.named_parameters())
    assert [name for name, _ in ours.named_parameters()] == list(theirs)
    for name, parameter in ours.named_parameters():
        # A parameter that took no part has no gradient in one and zeros in the other.
        own, other = (torch.zeros_like(x) if x.grad is None else x.grad for x in (parameter, theirs[name]))
        assert_same(own, other, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def random_stream(num_batches, size=5, width=2, num_nodes=NUM_NODES - 1):
    generator = torch.Generator().manual_seed(1)
    for first in range(0, 10 * num_batches, 10):
        ends = torch.randint(0, num_nodes, (2, size), generator=generator)
        t = first + torch.randint(0, 3, (size,), generator=generator).cumsum(0)
        yield *ends, t, torch.randn(size, width, generator=generator)


def trained(aggregator=LastAggregator, message=IdentityMessage, cls=TGNMemory, steps=3, **options):
    """A memory after some steps of training, and the stream's next batch."""
    memory = memory_of(cls, 2, aggregator(), message, **options)
    *past, batch = random_stream(steps + 1)
    run(memory, past)
    memory.zero_grad()
    return memory, batch


def run(memory, stream):
    """Trains and returns the losses."""
    optimizer = torch.optim.Adam(memory.parameters(), lr=0.01)
    losses = []
    for batch in stream:
        optimizer.zero_grad()
        _, loss = loss_of(memory, batch, ALL)
        memory.update_state(*batch)
        loss.backward()
        optimizer.step()
        memory.detach()
        losses.append(loss.item())
    return losses
