import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.comparison import NUM_NODES, Case, compare, random_stream, randomized, renamed, streams
from oracles.dyrep import DyRepOracle, dyrep_shapes
from torch.nn import RNNCell
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, TGNMemory

from pyg_mspipe import Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.models import DyRep
from pyg_mspipe.models.embedding import since_update, temporal_embedding

DIM, TIME = 4, 3
NAMES = {"memory.gru.": "memory.rnn."}


def pair_of(case, num_neighbors, seed=0):
    model = DyRep(
        NUM_NODES, case.stream.msg_dim, memory_dim=DIM, time_dim=TIME, num_layers=len(num_neighbors), dropout=0.0
    )
    params = randomized(model, seed)
    oracle = DyRepOracle(renamed(params, NAMES), case.stream, num_neighbors, other_end="tgb", begin=case.begin)
    return model, params, oracle


@settings(deadline=None, max_examples=20)
@given(
    data=streams(),
    batch_size=st.integers(1, 7),
    num_neighbors=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    begin=st.sampled_from([0, 0, 3]),
    training_share=st.sampled_from([0.5, 0.7, 1.0]),
    seed=st.integers(0, 100),
)
def test_outputs_gradients_and_state_are_those_of_a_loop_over_events_and_nodes(
    data, batch_size, num_neighbors, begin, training_share, seed
):
    case = Case(data, NUM_NODES, batch_size, num_neighbors, begin=begin, training_share=training_share, seed=seed)
    compare(*pair_of(case, num_neighbors, seed), case)


def test_the_parameters_are_the_oracles():
    model = DyRep(NUM_NODES, 3, memory_dim=DIM, time_dim=TIME, num_layers=2)
    shapes = renamed({name: tuple(x.shape) for name, x in model.named_parameters()}, NAMES)
    assert shapes == dyrep_shapes(3, DIM, TIME, DIM, 2)


class TGBMemory(TGNMemory):
    """PyG's memory, in whose updates embeddings stand for the other ends of messages where they are known."""

    def __init__(self, *args):
        super().__init__(*args)
        self.gru = RNNCell(self.gru.input_size, self.memory_dim)
        self.embeddings = {}

    def _compute_msg(self, n_id, msg_store, msg_module):
        src, dst, t, raw_msg = map(torch.cat, zip(*(msg_store[i] for i in n_id.tolist()), strict=True))
        other = [self.embeddings.get(node, self.memory[node]) for node in dst.tolist()]
        other = torch.stack(other) if other else self.memory[dst]
        t_enc = self.time_enc((t - self.last_update[src]).to(raw_msg.dtype))
        return msg_module(self.memory[src], other, raw_msg, t_enc), t, src, dst


def test_it_is_tgbs_construction_around_pygs_memory():
    data = random_stream(60)
    data.dst = torch.where(data.dst == data.src, (data.dst + 1) % (NUM_NODES - 1), data.dst)
    data.t = torch.arange(60)  # PyG's aggregator breaks ties by chance
    model = DyRep(NUM_NODES, 3, memory_dim=DIM, time_dim=TIME, dropout=0.0)
    pyg = TGBMemory(NUM_NODES, 3, DIM, TIME, IdentityMessage(3, DIM, TIME), LastAggregator())
    own = model.memory.state_dict()
    pyg.load_state_dict({name: own.get(name, x) for name, x in pyg.state_dict().items()})
    batches = Batches(
        data, range(60), 7, NeighborSampler(TemporalCSR.from_stream(data, NUM_NODES), [3]), with_ends=True
    )
    for index in range(len(batches)):
        if index == 6:  # evaluation
            model.settle(batches)
            model.eval()
            pyg.eval()
        batch = batches.read(0, index)
        z, last_update = pyg(batch.n_id)
        assert torch.allclose(model(batch), z[batch.sample.seed_node[: batch.query_t.numel()]], atol=1e-6)
        elapsed = since_update(last_update, batch.sample, batch.edge_time)
        embedded = temporal_embedding(model.layers, pyg.time_enc, z, batch.sample, elapsed, batch.edge_msg).detach()
        nodes = batch.n_id[batch.sample.seed_node].tolist()
        pyg.embeddings = dict(zip(nodes, embedded, strict=True))
        pyg.embeddings = {node: pyg.embeddings[node] for node in torch.cat([batch.src, batch.dst]).tolist()}
        model.update(batch)
        pyg.update_state(batch.src, batch.dst, batch.t, batch.msg)
        pyg.embeddings = {}
        pyg.detach()
        assert torch.allclose(model.memory.state.tables["memory"], pyg.memory, atol=1e-6)
        assert model.memory.state.tables["last_update"].equal(pyg.last_update)
