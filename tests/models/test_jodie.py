import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.comparison import NUM_NODES, Case, compare, randomized, renamed, streams
from oracles.jodie import JODIEOracle
from torch.nn import RNNCell
from torch_geometric.data import TemporalData
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, TGNMemory

from pyg_mspipe import Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.models import JODIE

DIM, TIME = 5, 4
NAMES = {"memory.gru.": "memory.rnn.", "slope": "projection.scale", "shift": "projection.shift"}


@settings(deadline=None, max_examples=40)
@given(
    data=streams(),
    batch_size=st.integers(1, 7),
    begin=st.sampled_from([0, 0, 3]),
    training_share=st.sampled_from([0.5, 0.7, 1.0]),
    seed=st.integers(0, 100),
)
def test_outputs_gradients_and_state_are_those_of_a_loop_over_events_and_nodes(
    data, batch_size, begin, training_share, seed
):
    case = Case(data, NUM_NODES, batch_size, [], begin=begin, training_share=training_share, seed=seed)
    model = JODIE(NUM_NODES, case.stream.msg_dim, memory_dim=DIM, time_dim=TIME)
    params = randomized(model, seed)
    compare(model, params, JODIEOracle(renamed(params, NAMES), case.stream, begin=begin), case)


def test_the_memory_is_pygs_with_a_recurrent_cell():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(0, NUM_NODES, (40, 2), generator=generator).tolist()
    src, dst = torch.tensor([(a, (a + 1 + b % (NUM_NODES - 1)) % NUM_NODES) for a, b in ends]).t().contiguous()
    data = TemporalData(src=src, dst=dst, t=torch.arange(40), msg=torch.randn(40, 3, generator=generator))
    model = JODIE(NUM_NODES, 3, memory_dim=DIM, time_dim=TIME)
    pyg = TGNMemory(NUM_NODES, 3, DIM, TIME, IdentityMessage(3, DIM, TIME), LastAggregator())
    pyg.gru = RNNCell(pyg.gru.input_size, DIM)
    own = model.memory.state_dict()
    pyg.load_state_dict({name: own.get(name, x) for name, x in pyg.state_dict().items()})
    batches = Batches(data, range(40), 7, NeighborSampler(TemporalCSR.from_stream(data, NUM_NODES), []))
    for index in range(len(batches)):
        batch = batches.read(0, index)
        (row, since), (theirs, last) = model.memory(batch), pyg(batch.n_id)
        assert torch.allclose(row, theirs, atol=1e-6)
        assert since.equal(last)
        model.update(batch)
        pyg.update_state(batch.src, batch.dst, batch.t, batch.msg)
        pyg.detach()
