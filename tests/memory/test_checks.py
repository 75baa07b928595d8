"""What a loop hands over by mistake is refused by the argument's name, and the state stays as it was."""

import math

import pytest
import torch
from torch_geometric.data import TemporalData
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe import LastAggregator, PipelineLoader, TGNMemory, check_stream, synthetic
from pyg_mspipe.data import StreamError

GOOD = {"src": [0, 1], "dst": [2, 3], "t": [5, 6]}


@pytest.fixture
def memory():
    memory = TGNMemory(4, 1, 3, 3, IdentityMessage(1, 3, 3), LastAggregator())
    memory.update_state(*(torch.tensor(x) for x in GOOD.values()), torch.ones(2, 1))
    return memory


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"src": [0]}, r"dst has shape \(2,\), not \(1,\); give one for each event"),
        ({"dst": [2, 3, 3]}, r"dst has shape \(3,\), not \(2,\)"),
        ({"t": [5]}, r"t has shape \(1,\), not \(2,\)"),
        ({"src": [[0, 1]]}, r"src has shape \(1, 2\)"),
        ({"src": [0, -1]}, "src holds -1; node ids go from 0 to 3"),
        ({"dst": [2, 4]}, "dst holds 4; node ids go from 0 to 3"),
        ({"src": [0.0, 1.0]}, "src has dtype torch.float32; give node ids as int64"),
        ({"dst": [True, False]}, "dst has dtype torch.bool; give node ids as int64"),
        ({"t": [5.0, 6.0]}, "t has dtype torch.float32; give whole times as int64"),
    ],
)
def test_events_that_are_none(memory, change, said, training):
    memory.train(training)
    before = memory.memory_state()
    given = [torch.tensor(x) for x in (GOOD | change).values()]
    with pytest.raises(ValueError, match=said):
        memory.update_state(*given, torch.ones(2, 1))
    assert all(torch.equal(x, before[name]) for name, x in memory.memory_state().items())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("n_id", "said"),
    [
        ([0.0, 1.0], "n_id has dtype torch.float32"),
        ([0, -2], "n_id holds -2; node ids go from 0 to 3"),
        ([0, 9], "n_id holds 9; node ids go from 0 to 3"),
    ],
)
def test_nodes_that_are_none(memory, n_id, said, training):
    memory.train(training)
    with pytest.raises(ValueError, match=said):
        memory(torch.tensor(n_id))


@pytest.mark.parametrize("ratio", [-1.0, math.inf, math.nan])
def test_a_ratio_that_is_none(ratio):
    data = synthetic(100, num_src=10, num_dst=10, msg_dim=1)
    memory = TGNMemory(data.num_nodes, 1, 3, 3, IdentityMessage(1, 3, 3), LastAggregator())
    with pytest.raises(ValueError, match=r"neg_sampling_ratio=.*; give a number from 0"):
        PipelineLoader(data, memory, batch_size=10, num_neighbors=[2], neg_sampling_ratio=ratio)


def test_streams_that_are_none():
    with pytest.raises(StreamError, match="the stream is a NoneType; give a TemporalData"):
        check_stream(None)
    with pytest.raises(StreamError, match=r"src is a sparse tensor; pass src\.to_dense\(\)"):
        check_stream(TemporalData(src=torch.tensor([0, 1]).to_sparse(), dst=torch.tensor([1, 0]), t=torch.arange(2)))


def test_a_subclass_with_methods_of_pygs_is_refused():
    class Own(TGNMemory):
        def _get_updated_memory(self, n_id):
            return super()._get_updated_memory(n_id)

        def _compute_msg(self, n_id, msg_store, msg_module):
            return super()._compute_msg(n_id, msg_store, msg_module)

    said = "Own defines _get_updated_memory, _compute_msg, which PyG's TGNMemory calls and this one does not"
    with pytest.raises(TypeError, match=said):
        Own(4, 1, 3, 3, IdentityMessage(1, 3, 3), LastAggregator())


def namesake(name, base):
    """A class of that name that is not PyG's, as TGB's examples bring along."""
    return type(name, (torch.nn.Module,), {"out_channels": 10, "forward": base.forward})


def test_modules_that_only_bear_the_names_of_pygs_are_noted(recwarn):
    message, aggregator = (namesake(x.__name__, x)() for x in (IdentityMessage, LastAggregator))
    said = r"test_checks.IdentityMessage is another class than PyG's of that name, so it is called for every message"
    with pytest.warns(UserWarning, match=said) as seen:
        memory = TGNMemory(4, 1, 3, 3, message, LastAggregator())
    assert seen[0].filename == __file__
    with pytest.warns(UserWarning, match="import LastAggregator"):
        TGNMemory(4, 1, 3, 3, IdentityMessage(1, 3, 3), aggregator)
    memory.update_state(*(torch.tensor(x) for x in GOOD.values()), torch.ones(2, 1))
    recwarn.clear()
    TGNMemory(4, 1, 3, 3, IdentityMessage(1, 3, 3), LastAggregator())
    assert not recwarn.list
