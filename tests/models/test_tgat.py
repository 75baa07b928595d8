import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe import Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.data import TensorFeatures
from pyg_mspipe.models import TGAT

NODES, DIM, TIME, HEADS = 6, 4, 3, 2


class ByHand:
    """TGAT one node, one edge and one head at a time."""

    def __init__(self, model, data, x, k):
        self.model, self.data, self.x, self.k = model, data, x, k

    def start(self, node):
        return torch.zeros(DIM) if self.x is None else self.model.node_lin(self.x[node].view(1, -1))[0]

    def edges(self, node, bound):
        """The node's last events before ``bound``, each with its other end; a self-loop stands there twice."""
        found = []
        for event in range(bound):
            ends = int(self.data.src[event]), int(self.data.dst[event])
            found += [(event, ends[1 - side]) for side in (0, 1) if ends[side] == node]
        return found[-self.k :]

    def embedding(self, node, bound, depth):
        if depth == 0:
            return self.start(node)
        layer = self.model.layers[depth - 1]
        own = self.embedding(node, bound, depth - 1)
        now = int(self.data.t[min(bound, self.data.num_events - 1)])
        keys, values = [], []
        for event, other in self.edges(node, bound):
            z = self.embedding(other, bound, depth - 1)
            passed = self.model.time_enc(torch.tensor([float(now - int(self.data.t[event]))]))[0]
            edge = layer.lin_edge(torch.cat([passed, self.data.msg[event]]))
            keys.append((layer.lin_key(z) + edge).view(HEADS, -1))
            values.append((layer.lin_value(z) + edge).view(HEADS, -1))
        query, out = layer.lin_query(own).view(HEADS, -1), []
        for head in range(HEADS):
            if not keys:
                out.append(torch.zeros(DIM // HEADS))
                continue
            score = torch.stack([key[head] @ query[head] for key in keys]) / math.sqrt(DIM // HEADS)
            out.append(sum(a * value[head] for a, value in zip(score.softmax(0), values, strict=True)))
        z = torch.cat(out) + layer.lin_skip(own)
        return z.relu() if depth < len(self.model.layers) else z


# Self-loops, repeats, ties and nodes that never occur among them.
ends = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), min_size=2, max_size=14)


@pytest.mark.parametrize("cut_off", ["batch", "event"])
@settings(max_examples=25, deadline=None)
@given(
    ends=ends,
    size=st.integers(1, 6),
    hops=st.integers(1, 2),
    msg_dim=st.sampled_from([0, 2]),
    features=st.booleans(),
    data=st.data(),
)
def test_tgat_equals_a_loop_over_nodes_and_edges(cut_off, ends, size, hops, msg_dim, features, data):
    gaps = data.draw(st.lists(st.integers(0, 5), min_size=len(ends), max_size=len(ends)))
    generator = torch.Generator().manual_seed(len(ends))
    src, dst = torch.tensor(ends).t().contiguous()
    t, msg = torch.tensor(gaps).cumsum(0), torch.randn(len(ends), msg_dim, generator=generator)
    stream = TemporalData(src=src, dst=dst, t=t, msg=msg)
    x = torch.randn(NODES, 3, generator=generator) if features else None
    torch.manual_seed(0)
    sizes = {"time_dim": TIME, "embedding_dim": DIM, "num_layers": hops, "heads": HEADS, "dropout": 0.0}
    model = TGAT(NODES, msg_dim, node_dim=3 if features else 0, **sizes)
    sampler = NeighborSampler(TemporalCSR.from_stream(stream, NODES), [3] * hops)
    store = None if x is None else TensorFeatures(x)
    batches = Batches(stream, range(len(ends)), size, sampler, cut_off=cut_off, node_features=store, make_plan=None)
    by_hand = ByHand(model, stream, x, 3)
    for index in range(len(batches)):
        batch = batches.read(0, index)
        begin = batch.events.start
        earlier = [begin if cut_off == "batch" else int((t < t[event]).sum()) for event in batch.events]
        asked = [
            (int(node), bound) for nodes in (batch.src, batch.dst) for node, bound in zip(nodes, earlier, strict=True)
        ]
        z, expected = model(batch), torch.stack([by_hand.embedding(node, bound, hops) for node, bound in asked])
        assert torch.allclose(z, expected, atol=1e-5)
        weight = torch.randn(z.shape, generator=generator)
        own, others = (
            torch.autograd.grad((each * weight).sum(), list(model.parameters()), allow_unused=True)
            for each in (z, expected)
        )
        for (name, parameter), one, other in zip(model.named_parameters(), own, others, strict=True):
            one, other = (torch.zeros_like(parameter) if each is None else each for each in (one, other))
            assert torch.allclose(one, other, atol=1e-4, rtol=1e-4), name
