import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.comparison import NUM_NODES, Case, compare, randomized, renamed, streams
from oracles.jodie import Gaps, JODIEOracle
from torch.nn import RNNCell
from torch_geometric.data import TemporalData
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, TGNMemory

from pyg_mspipe import Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.models import JODIE, gap_statistics

DIM, TIME = 5, 4
NAMES = {"memory.gru.": "memory.rnn.", "slope": "projection.scale", "shift": "projection.shift"}


@settings(deadline=None, max_examples=20)
@given(
    data=streams(),
    batch_size=st.integers(1, 7),
    begin=st.sampled_from([0, 0, 3]),
    training_share=st.sampled_from([0.5, 0.7, 1.0]),
    of_gaps=st.booleans(),
    seed=st.integers(0, 100),
)
def test_outputs_gradients_and_state_are_those_of_a_loop_over_events_and_nodes(
    data, batch_size, begin, training_share, of_gaps, seed
):
    case = Case(data, NUM_NODES, batch_size, [], begin=begin, training_share=training_share, seed=seed)
    gaps = gap_statistics(data.src, data.dst, data.t, NUM_NODES) if of_gaps else None
    model = JODIE(NUM_NODES, case.stream.msg_dim, memory_dim=DIM, time_dim=TIME, gaps=gaps)
    params = randomized(model, seed)
    known = None if gaps is None else [Gaps(*pair) for pair in gaps.tolist()]
    compare(model, params, JODIEOracle(renamed(params, NAMES), case.stream, gaps=known, begin=begin), case)


def test_gaps_are_those_of_sources_and_of_destinations():
    src, dst = torch.tensor([0, 1, 0, 0, 1]), torch.tensor([2, 2, 3, 2, 3])
    t = torch.tensor([0, 10, 10, 40, 70])
    found = gap_statistics(src, dst, t, 5)
    sources, destinations = torch.tensor([10.0, 30, 60]), torch.tensor([10.0, 30, 60])
    assert found[0].equal(found[1])
    assert torch.allclose(found[0], torch.stack([sources.mean(), sources.std()]))
    assert torch.allclose(found[2], torch.stack([destinations.mean(), destinations.std()]))
    assert found[4].equal(found[2])
    assert gap_statistics(src[:1], dst[:1], t[:1], 3).tolist() == [[0.0, 1.0]] * 3


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
