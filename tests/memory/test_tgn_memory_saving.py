"""States, copies and files of a memory."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from random_training import ALL, MEMORY_DIM, NUM_NODES, assert_same, batches, memory_of, random_stream, run, trained
from torch_geometric.nn.models.tgn import MeanAggregator

from pyg_mspipe.memory import LastAggregator, TGNMemory


@pytest.mark.parametrize("aggregator", [LastAggregator, MeanAggregator])
@pytest.mark.parametrize("num_batches", [1, 40])
def test_training_goes_on_from_a_saved_state_bit_for_bit(aggregator, num_batches):
    memory, _ = trained(aggregator, steps=num_batches)
    file = io.BytesIO()
    torch.save({"weights": memory.state_dict(), "state": memory.memory_state()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    other, _ = trained(aggregator, steps=7)
    other.load_state_dict(saved["weights"])
    other.load_memory_state(saved["state"])
    stream = list(random_stream(50))[-6:]
    assert run(other, stream) == run(memory, stream)
    assert torch.equal(other.eval().memory, memory.eval().memory)


@settings(deadline=None, max_examples=25)
@given(stream=batches(min_batches=2))
def test_a_state_holds_the_pending_messages_and_does_not_change_afterwards(stream):
    memory = memory_of(TGNMemory, stream[0][3].size(1), MeanAggregator())
    for batch in stream[:-1]:
        memory.update_state(*batch)
    memory.detach()
    state = memory.memory_state()
    assert not any(x.requires_grad for x in state.values())
    expected = [x.detach() for x in memory(ALL)]
    memory.update_state(*stream[-1])
    memory.reset_state()
    memory.load_memory_state(state)
    assert_same(memory(ALL), tuple(expected), atol=0, rtol=0)


def test_the_state_of_another_size_is_refused():
    memory, _ = trained()
    state = memory.memory_state()
    before = memory.memory.clone()
    wrong = [
        {"memory": torch.ones(NUM_NODES + 1, MEMORY_DIM)},
        {"memory": torch.ones(NUM_NODES, MEMORY_DIM + 1)},
        {"messages.raw_msg": torch.ones(3, 4)},
    ]
    for change in wrong:
        with pytest.raises(ValueError, match="load it into a module of the same sizes"):
            memory.load_memory_state(state | change)
    assert torch.equal(memory.memory, before)


@pytest.mark.parametrize("forward_first", [False, True])
@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), "torch.save"])
def test_a_copy_trains_on_as_the_original(copy_of, forward_first):
    memory, batch = trained()
    if forward_first:
        memory(ALL)
    if copy_of == "torch.save":
        file = io.BytesIO()
        torch.save(memory, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    else:
        other = copy_of(memory)
    assert run(other, [batch] * 3) == run(memory, [batch] * 3)


def test_a_copy_shares_nothing_with_the_original():
    memory, batch = trained()
    before = memory.memory_state()
    other = copy.deepcopy(memory)
    run(other, [batch] * 3)
    assert all(torch.equal(x, before[name]) for name, x in memory.memory_state().items())


@pytest.mark.parametrize("training", [True, False])
def test_a_state_brings_the_mode_that_it_belongs_to(training):
    memory, _ = trained()
    memory.train(training)
    other, _ = trained(steps=3)
    other.load_state_dict(memory.state_dict())
    other.train(not training)
    other.load_memory_state(memory.memory_state())
    assert other.training is training
    assert torch.equal(other.eval().memory, memory.eval().memory)


def test_the_state_is_saved_where_pyg_has_it_and_is_no_buffer():
    memory, _ = trained()
    assert list(memory.buffers()) == []
    state = memory.state_dict()
    other = memory_of(TGNMemory, memory.raw_msg_dim, LastAggregator())
    assert other.load_state_dict(state) is not None
    assert all(torch.equal(x, y) for x, y in zip(other.kept_tensors(), memory.kept_tensors(), strict=True))
    within = torch.nn.Sequential(other)
    assert {f"0.{name}" for name in state} == set(within.state_dict())
    within.load_state_dict({f"0.{name}": x for name, x in state.items()}, assign=True)
    assert other.memory is state["memory"]

    del state["last_update"]
    assert other.load_state_dict(state, strict=False).missing_keys == ["last_update"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "last_update"'):
        other.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"_assoc has shape \(3,\), the module's is \(\d+,\)"):
        other.load_state_dict(state | {"_assoc": torch.zeros(3)}, strict=False)
