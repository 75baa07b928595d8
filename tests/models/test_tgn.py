from dataclasses import replace

import numpy as np
import pytest
import torch
from pyg_example import PyGTGN, losses_of
from torch_geometric.data import TemporalData
from torch_geometric.nn import TransformerConv

from pyg_mspipe.data import synthetic
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.memory import LastAggregator
from pyg_mspipe.models import TGN
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.tasks import LinkPrediction, Objective, train_step


def batches_of(model, data, num_neighbors, batch_size=6, negatives=None, cut_off="batch"):
    sampler = NeighborSampler(TemporalCSR.from_stream(data, model.memory.state.num_nodes), num_neighbors)

    def drawn(positives):
        return negatives[positives.batch][: len(positives)].unsqueeze(0)

    return Batches(data, range(data.num_events), batch_size, sampler, drawn, cut_off=cut_off)


def losses(objective, data, negatives, batch_size, num_neighbors, lr):
    """Trains over ``len(negatives)`` batches and yields the loss of each."""
    model = objective.model
    optimizer = torch.optim.Adam(objective.parameters(), lr=lr)
    batches = batches_of(model, data, num_neighbors, batch_size, negatives)
    for number in range(len(negatives)):
        yield train_step(objective, batches.read(0, number), [optimizer], commit=model.update).item()


def train(*args, **options):
    return list(losses(*args, **options))


def take_over(ours, pyg):
    """Gives our model and task PyG's weights and memory."""
    weights = pyg.weights()
    for name in ("memory", "last_update"):
        ours.model.memory.state.tables[name].copy_(weights.pop(f"model.memory.{name}"))
    del weights["model.memory._assoc"]
    ours.load_state_dict(weights)


def pair_of(data, width, heads):
    torch.manual_seed(0)
    # Of messages at the same time it keeps the one listed last, which in one role is the last event's.
    pyg = PyGTGN(data.num_nodes, data.msg.size(1), width, heads, LastAggregator)
    ours = TGN(
        data.num_nodes,
        data.msg.size(1),
        memory_dim=width,
        time_dim=width,
        embedding_dim=width,
        heads=heads,
        dropout=0.0,
    )
    ours = Objective(ours, LinkPrediction(width))
    take_over(ours, pyg)
    return pyg, ours


def assert_same_losses(pyg, ours, data, num_batches, batch_size, num_neighbors, lr, in_step=False):
    """Trains both; ``in_step``, ours begins each batch with PyG's weights and memory."""
    low, high = int(data.dst.min()), int(data.dst.max())
    negatives = torch.randint(low, high + 1, (num_batches, batch_size), generator=torch.Generator().manual_seed(0))
    expected = []
    theirs = losses_of(pyg, data, negatives, batch_size, num_neighbors, lr)
    mine = losses(ours, data, negatives, batch_size, [num_neighbors], lr)
    for batch, (found, loss) in enumerate(zip(mine, theirs, strict=True)):
        assert abs(found - loss) < 1e-4, f"batch {batch}: {found} is not PyG's {loss}"
        expected.append(loss)
        if in_step:
            take_over(ours, pyg)
    assert len(expected) == num_batches
    assert sum(expected[-5:]) < sum(expected[:5]), "the model learns, so that the weights matter"


@pytest.mark.parametrize("bipartite", [True, False])
def test_training_gives_the_losses_of_pygs_example(bipartite):
    data = synthetic(600, num_src=30, num_dst=30, msg_dim=6, seed=1, bipartite=bipartite)
    # Small, for the reason given below; and without ties, of which PyG's memory does not know which event is the last.
    data.t = torch.arange(600)
    assert_same_losses(*pair_of(data, 12, 2), data, num_batches=30, batch_size=20, num_neighbors=40, lr=1e-3)


# A step moves a frequency by about lr, and a phase by lr * t. Where that is far above 1, training is chaotic: rounding
# errors grow to 1e-2 within some 25 batches, also between two runs of PyG. So training runs freely with times in hours,
# and in seconds from PyG's weights and memory in every batch.
@pytest.mark.parametrize(("unit", "in_step"), [(3600, False), (1, True)], ids=["hours", "seconds-in-step"])
def test_training_on_wikipedia_gives_the_losses_of_pygs_example(shared_data, unit, in_step):
    stream = np.load(shared_data / "wikipedia.npz")
    src, dst, t = (torch.from_numpy(stream[name][:10_000]).long() for name in ("src", "dst", "t"))
    msg = torch.randn(10_000, 172, generator=torch.Generator().manual_seed(0))
    data = TemporalData(src=src, dst=dst, t=t // unit, msg=msg)
    assert_same_losses(
        *pair_of(data, 100, 2), data, num_batches=50, batch_size=200, num_neighbors=10, lr=1e-4, in_step=in_step
    )


def tiny(seed=0, num_events=30):
    """A stream on six nodes with self-loops, repeats and ties."""
    generator = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(0, 6, (2, num_events), generator=generator)
    t = torch.randint(0, 2, (num_events,), generator=generator).cumsum(0)
    return TemporalData(src=src, dst=dst, t=t, msg=torch.randn(num_events, 3, generator=generator))


def tiny_model(**options):
    torch.manual_seed(0)
    sizes = {"memory_dim": 6, "time_dim": 4, "embedding_dim": 8, "heads": 2, "dropout": 0.0, "time_init": "random"}
    return TGN(7, 3, **(sizes | options))


def brute_embedding(model, memory, data, node, bound, num_neighbors):
    """One query's embedding by recursion, a graph of one target at a time."""
    z, last_update = memory
    events = list(enumerate(zip(data.src.tolist(), data.dst.tolist(), strict=True)))

    def look(node, depth):
        if depth == len(num_neighbors):
            return z[node]
        found = []
        for e_id, (src, dst) in events[:bound][::-1]:
            found += [(e_id, dst)] * (src == node) + [(e_id, src)] * (dst == node)
        found = found[: num_neighbors[depth]]
        e_id, others = [e for e, _ in found], [other for _, other in found]
        below = torch.stack([look(each, depth + 1) for each in (*others, node)])
        if depth + 1 < len(num_neighbors):
            below = below.relu()
        layer = model.layers[len(num_neighbors) - 1 - depth]
        t_enc = model.memory.time_enc((last_update[others] - data.t[e_id]).float())
        conv = TransformerConv(below.size(1), 4, heads=2, edge_dim=7)
        conv.load_state_dict(layer.state_dict())
        edge_index = torch.stack([torch.arange(len(found)), torch.zeros(len(found), dtype=torch.long)])
        return conv((below, below[-1:]), edge_index, torch.cat([t_enc, data.msg[e_id]], dim=-1))[0]

    return look(node, 0)


@torch.no_grad()
@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("num_neighbors", [[3], [2, 3], [3, 1], [2, 1, 2]])
def test_embeddings_are_those_of_a_recursion_over_the_events_before_the_cut_off(num_neighbors, cut_off):
    data = tiny()
    model = tiny_model(num_layers=len(num_neighbors))
    negatives = torch.tensor([6, 0, 1, 6, 3, 2]).expand(5, 6)
    batches = batches_of(model, data, num_neighbors, negatives=negatives, cut_off=cut_off)
    for number in range(5):
        batch = batches.read(0, number)
        node = torch.cat([batch.src, batch.dst, batch.negatives.dst[0]])
        start = batch.events.start
        bound = (
            torch.full((18,), start) if cut_off == "batch" else batches.sampler.csr.first_event_at(batch.t.repeat(3))
        )
        memory = model.memory(batches.ask(torch.arange(7), start))
        expected = [
            brute_embedding(model, memory, data, *query, num_neighbors)
            for query in zip(node.tolist(), bound.tolist(), strict=True)
        ]
        torch.testing.assert_close(model(batch), torch.stack(expected), atol=1e-5, rtol=1e-5)
        model.update(batch)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_gradient_reaches_every_parameter(num_layers):
    data, model = tiny(), tiny_model(num_layers=num_layers)
    objective = Objective(model, LinkPrediction(8))
    train(objective, data, torch.arange(24).view(4, 6) % 6, 6, [3] * num_layers, lr=1e-3)
    for name, parameter in objective.named_parameters():
        # The bias of the keys adds the same to all scores of a row, so the softmax takes it out again.
        if not name.endswith("lin_key.bias"):
            assert bool(parameter.grad.any()), name


@pytest.mark.parametrize("num_layers", [1, 2])
def test_messages_of_width_0_and_epoch_milliseconds_train(num_layers):
    data = tiny()
    data.msg, data.t = data.msg[:, :0], data.t + 1_753_000_000_123
    torch.manual_seed(0)
    model = TGN(7, 0, memory_dim=6, time_dim=4, embedding_dim=8, num_layers=num_layers, dropout=0.0)
    negatives = torch.arange(30).view(5, 6) % 6
    assert np.isfinite(train(Objective(model, LinkPrediction(8)), data, negatives, 6, [3] * num_layers, lr=1e-3)).all()


@torch.no_grad()
@pytest.mark.parametrize("num_layers", [1, 2])
def test_lower_precision_stays_close_and_does_not_round_times(num_layers):
    data, model = tiny(), tiny_model(num_layers=num_layers)
    data.t = data.t * 1_000_003
    batches = batches_of(model, data, [3] * num_layers)
    model.memory.state.apply(model.commit(batches.gather(batches.without_queries(range(30)))))
    queries = batches.ask(torch.arange(7), 30)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(queries)
    torch.testing.assert_close(low.float(), model(queries), atol=3e-2, rtol=0)


def test_resetting_draws_all_weights_anew_and_empties_the_memory():
    data, model = tiny(), tiny_model(num_layers=2)
    train(Objective(model, LinkPrediction(8)), data, torch.arange(24).view(4, 6) % 6, 6, [3, 3], lr=1e-3)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    model.reset_parameters()
    assert not model.memory.state.tables["memory"].any()
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_node_memory_may_be_kept_elsewhere():
    model = tiny_model(memory_device="cpu").to("meta")
    assert model.memory.state.device == torch.device("cpu")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@torch.no_grad()
def test_features_of_nodes_are_projected_and_added_to_the_rows():
    data, plain, model = tiny(), tiny_model(), tiny_model(node_dim=2)
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in plain.state_dict().items())
    x = torch.randn(7, 2)
    queries = replace(batches_of(plain, data, [3]).ask(torch.arange(7), 0), x=x)
    plain.memory.state.tables["memory"] += x @ model.node_lin.weight.T
    torch.testing.assert_close(model.eval()(queries), plain.eval()(queries))
    before = model.node_lin.weight.clone()
    model.reset_parameters()
    assert not torch.equal(model.node_lin.weight, before)
