import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import RNNCell
from torch_geometric.data import TemporalData
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, TGNMemory

from pyg_mspipe import Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.models import JODIE

NODES, DIM, TIME = 6, 5, 4


def stream(ends, gaps, msg_dim, generator):
    src, dst = torch.tensor(ends).t().contiguous()
    t = torch.tensor(gaps).cumsum(0) + 100
    return TemporalData(src=src, dst=dst, t=t, msg=torch.randn(len(ends), msg_dim, generator=generator))


class ByHand:
    """JODIE one event and one node at a time; a cell, a time encoder and a norm are those of the model."""

    def __init__(self, model, data):
        self.model, self.data = model, data
        self.row, self.since = {}, {}

    def stored(self, node):
        return self.row.get(node, torch.zeros(DIM)), self.since.get(node, 0)

    def waiting(self, node, bound):
        """The node's last event before ``bound``."""
        return next(
            (e for e in range(bound - 1, -1, -1) if node in (int(self.data.src[e]), int(self.data.dst[e]))), None
        )

    def applied(self, node, event):
        """The node's new row and time once an event is applied to it."""
        row, since = self.stored(node)
        cell = self.model.memory.gru
        if event is None:
            return cell(torch.zeros(1, cell.input_size), row.view(1, -1))[0], 0
        src, dst, t = (int(x[event]) for x in (self.data.src, self.data.dst, self.data.t))
        other = dst if node == src else src
        passed = self.model.memory.time_enc(torch.tensor([float(t - since)]))[0]
        message = torch.cat([row, self.stored(other)[0], self.data.msg[event], passed])
        return cell(message.view(1, -1), row.view(1, -1))[0], t

    def embedding(self, row, since, t):
        moved = (t - since) / (t + 1)
        normed = torch.nn.functional.layer_norm(row, (DIM,), self.model.norm.weight, self.model.norm.bias)
        return normed * (1 + self.model.slope * moved + self.model.shift)

    def queries(self, events):
        return [(int(x[e]), int(self.data.t[e])) for x in (self.data.src, self.data.dst) for e in events]

    def train(self, events):
        new = {node: self.applied(node, self.waiting(node, events.start)) for node, _ in self.queries(events)}
        z = torch.stack([self.embedding(*new[node], t) for node, t in self.queries(events)])
        for node, (row, since) in new.items():
            self.row[node], self.since[node] = row.detach(), since
        return z

    def settle(self, bound):
        new = {node: self.applied(node, self.waiting(node, bound)) for node in range(NODES)}
        self.row, self.since = (
            {node: each[k].detach() if k == 0 else each[k] for node, each in new.items()} for k in (0, 1)
        )

    def evaluate(self, events):
        z = torch.stack([self.embedding(*self.stored(node), t) for node, t in self.queries(events)])
        last = {node: e for e in events for node in (int(self.data.src[e]), int(self.data.dst[e]))}
        new = {node: self.applied(node, e) for node, e in last.items()}
        for node, (row, since) in new.items():
            self.row[node], self.since[node] = row.detach(), since
        return z


def assert_same_state(model, by_hand):
    tables = model.state.tables
    for node in range(NODES):
        row, since = by_hand.stored(node)
        assert torch.allclose(tables["memory"][node], row, atol=1e-5)
        assert int(tables["last_update"][node]) == since


# Self-loops, repeats, ties and nodes that never occur among them.
ends = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), min_size=3, max_size=24)


@settings(max_examples=60, deadline=None)
@given(ends=ends, size=st.integers(1, 7), msg_dim=st.sampled_from([0, 3]), seed=st.integers(0, 2**20), data=st.data())
def test_jodie_equals_a_loop_over_events_and_nodes(ends, size, msg_dim, seed, data):
    gaps = data.draw(st.lists(st.integers(0, 9), min_size=len(ends), max_size=len(ends)))
    torch.manual_seed(seed)
    events = stream(ends, gaps, msg_dim, torch.Generator().manual_seed(seed))
    model = JODIE(NODES, msg_dim, memory_dim=DIM, time_dim=TIME)
    batches = Batches(events, range(len(ends)), size, NeighborSampler(TemporalCSR.from_stream(events, NODES), []))
    by_hand = ByHand(model, events)
    model.train()
    half = (len(batches) + 1) // 2
    for index in range(half):
        batch = batches.read(0, index)
        z, expected = model(batch), by_hand.train(batch.events)
        assert torch.allclose(z, expected, atol=1e-5)
        weight = torch.randn(z.shape)
        grads = torch.autograd.grad((z * weight).sum(), list(model.parameters()), allow_unused=True, retain_graph=True)
        others = torch.autograd.grad((expected * weight).sum(), list(model.parameters()), allow_unused=True)
        for (name, parameter), one, other in zip(model.named_parameters(), grads, others, strict=True):
            one, other = (torch.zeros_like(parameter) if each is None else each for each in (one, other))
            assert torch.allclose(one, other, atol=1e-4, rtol=1e-4), name
        model.update(batch)
        assert_same_state(model, by_hand)
    model.eval()
    model.settle(batches)
    by_hand.settle(batches.read(0, half - 1).events.stop)
    assert_same_state(model, by_hand)
    with torch.no_grad():
        for index in range(half, len(batches)):
            batch = batches.read(0, index)
            assert torch.allclose(model(batch), by_hand.evaluate(batch.events), atol=1e-5)
            model.update(batch)
            assert_same_state(model, by_hand)


def test_the_memory_is_pygs_with_a_recurrent_cell():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(0, NODES, (40, 2), generator=generator).tolist()
    data = stream([(a, (a + 1 + b % (NODES - 1)) % NODES) for a, b in ends], list(range(1, 41)), 3, generator)
    model = JODIE(NODES, 3, memory_dim=DIM, time_dim=TIME)
    pyg = TGNMemory(NODES, 3, DIM, TIME, IdentityMessage(3, DIM, TIME), LastAggregator())
    pyg.gru = RNNCell(pyg.gru.input_size, DIM)
    own = model.memory.state_dict()
    pyg.load_state_dict({name: own.get(name, x) for name, x in pyg.state_dict().items()})
    batches = Batches(data, range(40), 7, NeighborSampler(TemporalCSR.from_stream(data, NODES), []))
    for index in range(len(batches)):
        batch = batches.read(0, index)
        (row, since), (theirs, last) = model.memory(batch), pyg(batch.n_id)
        assert torch.allclose(row, theirs, atol=1e-6)
        assert since.equal(last)
        model.update(batch)
        pyg.update_state(batch.src, batch.dst, batch.t, batch.msg)
        pyg.detach()
