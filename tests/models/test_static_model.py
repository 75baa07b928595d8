import pytest
import torch
from torch_geometric.data import TemporalData

from pyg_mspipe.data import TensorFeatures
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.models import TGN, StaticModel
from pyg_mspipe.pipeline import Batches

NUM_NODES = 8
SIZES = {"time_dim": 4, "embedding_dim": 6, "dropout": 0.0}


def tiny():
    """A stream on six of the eight nodes."""
    generator = torch.Generator().manual_seed(0)
    src, dst = torch.randint(0, 6, (2, 30), generator=generator)
    return TemporalData(src=src, dst=dst, t=torch.arange(30) * 10, msg=torch.randn(30, 3, generator=generator))


def static_model(num_layers=1, known=range(6), **options):
    torch.manual_seed(0)
    is_known = torch.zeros(NUM_NODES, dtype=torch.bool)
    is_known[list(known)] = True
    return StaticModel(is_known, 3, static_dim=5, num_layers=num_layers, **SIZES, **options)


def embed(model, data, node, bound, num_layers=1):
    sampler = NeighborSampler(TemporalCSR.from_stream(data, NUM_NODES), [3] * num_layers)
    batch = Batches(data, range(30), 10, sampler).ask(node, bound)
    return batch.sample, model(batch)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_it_is_a_tgn_whose_memory_are_the_vectors_as_of_the_latest_event(num_layers):
    data, model = tiny(), static_model(num_layers)
    tgn = TGN(NUM_NODES, 3, memory_dim=5, num_layers=num_layers, **SIZES).eval()
    tgn.layers.load_state_dict(model.layers.state_dict())
    tgn.memory.time_enc.load_state_dict(model.time_enc.state_dict())
    tgn.memory.state.tables["memory"].copy_(model.vectors.weight.detach())
    node = torch.arange(6)
    sample, found = embed(model, data, node, 20, num_layers)
    tgn.memory.state.tables["last_update"].fill_(int(data.t[sample.hops[0].e_id].max()))
    torch.testing.assert_close(found, embed(tgn, data, node, 20, num_layers)[1])


def test_features_of_nodes_are_projected_and_added_to_the_vectors():
    data, plain, model = tiny(), static_model(), static_model(node_dim=2)
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in plain.state_dict().items())
    x = torch.randn(NUM_NODES, 2)
    sampler = NeighborSampler(TemporalCSR.from_stream(data, NUM_NODES), [3])
    batch = Batches(data, range(30), 10, sampler, node_features=TensorFeatures(x)).ask(torch.arange(6), 20)
    plain.vectors.weight.data += x @ model.node_lin.weight.T
    plain.known[:] = True
    torch.testing.assert_close(model(batch), plain(batch))


def test_nodes_that_are_not_known_keep_a_vector_of_zeros():
    data, model = tiny(), static_model()
    optimizer = torch.optim.SparseAdam([model.vectors.weight], lr=0.1)
    before = model.vectors.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        embed(model, data, torch.arange(NUM_NODES), 20)[1].sum().backward()
        optimizer.step()
    assert not model.vectors.weight[6:].any()
    assert bool((model.vectors.weight != before)[:6].all())


def test_known_nodes_start_alike_however_many_others_there_are():
    one, other = static_model(), static_model(known=[0, 1, 2, 3, 4, 7])
    assert torch.equal(one.vectors.weight[:6], other.vectors.weight[[0, 1, 2, 3, 4, 7]])


def test_a_step_costs_what_its_nodes_cost():
    data, model = tiny(), static_model()
    sample, out = embed(model, data, torch.tensor([0, 1]), 5)
    out.sum().backward()
    grad = model.vectors.weight.grad
    assert grad.is_sparse
    assert torch.equal(grad.coalesce().indices().view(-1), sample.n_id)
    assert sample.n_id.numel() < NUM_NODES


def test_events_at_or_after_the_bound_change_nothing():
    data, model = tiny(), static_model()
    before = embed(model, data, torch.arange(6), 20)[1]
    data.msg[20:], data.t[20:] = 9.0, data.t[20:] + 1000
    assert torch.equal(embed(model, data, torch.arange(6), 20)[1], before)
