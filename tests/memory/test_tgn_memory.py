import copy

import pytest
import torch
from random_training import ALL, MEMORY_DIM, NUM_NODES, assert_same, memory_of, random_stream, run, trained
from torch_geometric.nn.models.tgn import IdentityMessage, MeanAggregator

from pyg_mspipe.memory import LastAggregator, TGNMemory
from pyg_mspipe.memory.message_state import MessageState

AGGREGATORS = [LastAggregator, MeanAggregator]


# A small stream by hand


def test_a_small_stream_goes_through_training_evaluation_and_reset():
    def batch(*events):
        src, dst, t = torch.tensor(events).unbind(1)
        return src, dst, t, torch.randn(len(events), 2)

    memory = memory_of(TGNMemory, 2, LastAggregator())
    assert memory.memory.shape == (NUM_NODES, MEMORY_DIM)
    assert memory.last_update.shape == (NUM_NODES,)
    z, last_update = memory(torch.tensor([0, 2, 3]))
    assert z.shape == (3, MEMORY_DIM)
    assert last_update.tolist() == [0, 0, 0]

    memory.update_state(*batch((0, 1, 3), (2, 1, 5)))
    assert not memory.last_update.any(), "messages wait until their nodes are met again"
    assert memory(torch.tensor([0, 1, 4]))[1].tolist() == [3, 5, 0]
    memory.update_state(*batch((1, 4, 8)))
    assert memory.last_update.tolist() == [0, 5, 0, 0, 0, 0, 0]
    assert memory(ALL)[1].tolist() == [3, 8, 5, 0, 8, 0, 0]
    memory.detach()

    memory.eval()
    z, last_update = memory(ALL)
    assert torch.equal(z, memory.memory)
    assert last_update.tolist() == [3, 8, 5, 0, 8, 0, 0]
    memory.update_state(*batch((3, 0, 9)))
    after, last_update = memory(ALL)
    assert last_update.tolist() == [9, 8, 5, 9, 8, 0, 0]
    assert torch.equal(after[[1, 2, 4]], z[[1, 2, 4]])
    assert not torch.isclose(after[[0, 3]], z[[0, 3]]).any()

    memory.reset_state()
    assert not memory.memory.any()
    assert not memory.last_update.any()
    memory.train()
    assert memory(ALL)[1].tolist() == [0] * NUM_NODES


# Modes


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_leaving_training_mode_applies_all_messages_and_forgets_them(aggregator):
    memory, batch = trained(aggregator)
    memory.update_state(*batch)
    memory.detach()
    expected = [x.detach() for x in memory(ALL)]
    assert memory.eval() is memory
    assert not memory.memory.requires_grad
    assert_same([memory.memory, memory.last_update], expected, atol=0, rtol=0)
    assert not memory.train()(ALL)[1].any(), "no message is left"


def test_evaluating_twice_applies_messages_once():
    memory, batch = trained()
    memory.update_state(*batch)
    expected = [x.clone() for x in memory.eval()(ALL)]
    assert_same(memory.eval()(ALL), expected, atol=0, rtol=0)


def test_reset_makes_a_trained_memory_as_good_as_new():
    memory, batch = trained()
    fresh = memory_of(TGNMemory, 2, LastAggregator(), seed=5)
    fresh.load_state_dict({name: x for name, x in memory.state_dict().items() if "." in name}, strict=False)
    memory.reset_state()
    assert run(memory, [batch] * 3) == run(fresh, [batch] * 3)


def test_an_empty_batch_changes_nothing():
    for mode in (True, False):
        memory, batch = trained()
        memory.train(mode)
        before = memory.memory_state()
        memory.update_state(*(x[:0] for x in batch))
        assert all(torch.equal(x, before[name]) for name, x in memory.memory_state().items())
        assert memory(ALL[:0])[0].shape == (0, MEMORY_DIM)


def test_evaluation_in_inference_mode_leaves_a_memory_that_trains():
    memory, _ = trained()
    twin = copy.deepcopy(memory)
    stream = list(random_stream(30))
    for each, context in ((memory, torch.inference_mode), (twin, torch.no_grad)):
        with context():
            each.eval()
            for batch in stream:
                each.update_state(*(x.clone() for x in batch))
        each.train()
    assert run(memory, stream[:5]) == run(twin, stream[:5])
    memory.reset_state()
    twin.reset_state()
    assert run(memory, stream[:5]) == run(twin, stream[:5])


# Devices and dtypes


def test_node_memory_stays_on_its_own_device():
    memory, _ = trained(memory_device="cpu")
    memory.to("meta")
    assert memory.device == torch.device("meta")
    assert {x.device.type for x in memory.memory_state().values()} == {"cpu"}
    follower, _ = trained()
    follower.to("meta")
    assert follower.memory.device == torch.device("meta")


def test_results_are_given_on_the_device_of_the_weights():
    memory, batch = trained(memory_device="cpu")
    memory.eval()
    memory.update_state(*batch)
    memory.to("meta")
    z, last_update = memory(ALL)
    assert z.device == last_update.device == torch.device("meta")
    rows = memory._read(ALL)
    assert rows.memory.device == rows.other.device == rows.messages.t.device == torch.device("meta")


@pytest.mark.parametrize("memory_device", [None, "cpu"])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_node_memory_and_messages_take_the_modules_dtype(aggregator, memory_device):
    memory, _ = trained(aggregator, memory_device=memory_device)
    exact = [x.double() for x in memory(ALL)[0].detach()]
    memory.double()
    state = memory.memory_state()
    assert state["memory"].dtype == state["messages.raw_msg"].dtype == torch.float64
    assert state["last_update"].dtype == torch.int64
    torch.testing.assert_close(memory(ALL)[0], torch.stack(exact), atol=1e-5, rtol=1e-5)
    stream = [(*batch[:3], batch[3].double()) for batch in random_stream(3)]
    assert all(torch.isfinite(torch.tensor(run(memory, stream))))


def test_where_node_memory_is_kept_does_not_change_a_number():
    memories = [trained(memory_device=device)[0] for device in (None, "cpu")]
    stream = list(random_stream(5))
    assert run(memories[0], stream) == run(memories[1], stream)
    assert list(memories[0].state_dict()) == list(memories[1].state_dict())


def test_lower_precision_products_stay_close():
    memory, batch = trained()
    twin = copy.deepcopy(memory)
    with torch.autocast("cpu", torch.bfloat16):
        z, _ = memory(ALL)
        memory.update_state(*batch)
    assert z.dtype == memory.memory.dtype == torch.float32
    torch.testing.assert_close(z, twin(ALL)[0], atol=2e-2, rtol=0)


def test_fractional_times_and_messages_of_another_width_are_refused():
    memory = TGNMemory(3, 2, 4, 4, IdentityMessage(2, 4, 4), LastAggregator())
    ends = torch.tensor([0]), torch.tensor([1])
    with pytest.raises(ValueError, match=r"t has dtype torch.float32; give whole times as int64"):
        memory.update_state(*ends, torch.tensor([0.5]), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"raw_msg has shape \(1, 1\), not \(1, 2\); give a row for each event"):
        memory.update_state(*ends, torch.tensor([5]), torch.zeros(1, 1))


def test_rows_computed_on_another_device_are_recalled_on_that_of_the_memory(monkeypatch):
    memory = TGNMemory(3, 2, 4, 4, IdentityMessage(2, 4, 4), LastAggregator(), memory_device="cpu").to("meta")
    rows = [torch.zeros(2, 4, device="meta"), torch.zeros(2, dtype=torch.long, device="meta")]
    monkeypatch.setattr(TGNMemory, "compute", lambda self, *fetched: tuple(rows))
    written = []
    monkeypatch.setattr(MessageState, "write", lambda self, n_id, *rows: written.append((n_id, rows)))
    memory(torch.tensor([0, 1]))
    memory.update_state(torch.tensor([0]), torch.tensor([1]), torch.tensor([5]), torch.zeros(1, 2))
    ((n_id, recalled),) = written
    assert n_id.tolist() == [0, 1]
    assert [row.device.type for row in recalled] == ["meta", "meta"]
