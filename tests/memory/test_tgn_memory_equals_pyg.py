"""PyG's own memory is the oracle."""

import pytest
import torch
import torch_geometric.typing
from hypothesis import given, settings
from hypothesis import strategies as st
from random_training import (
    ALL,
    NUM_NODES,
    DecayingSum,
    LoopLast,
    MLPMessage,
    assert_same,
    assert_same_gradients,
    batches,
    loss_of,
    memory_of,
    nodes_of,
    pair_of,
)
from torch.optim import SGD
from torch_geometric.nn import TGNMemory as PyGMemory
from torch_geometric.nn.models.tgn import IdentityMessage, MeanAggregator
from torch_geometric.nn.models.tgn import LastAggregator as PyGLastAggregator

from pyg_mspipe.memory import LastAggregator, TGNMemory

# Where torch_scatter is missing, PyG's gives a node without messages another node's.
WITH_SCATTER = pytest.mark.skipif(
    not torch_geometric.typing.WITH_TORCH_SCATTER, reason="PyG's LastAggregator is right with torch_scatter alone"
)
AGGREGATORS = [
    pytest.param(PyGLastAggregator, marks=WITH_SCATTER),
    LastAggregator,
    MeanAggregator,
    DecayingSum,
]


def agree(pyg, ours):
    """Holds ours against PyG's, then takes over its numbers: over many steps rounding errors grow without bound."""
    assert_same(ours.memory, pyg.memory)
    assert torch.equal(ours.last_update, pyg.last_update)
    assert_same(dict(ours.named_parameters()), dict(pyg.named_parameters()))
    ours.load_state_dict(pyg.state_dict())


def untied(stream, aggregator):
    """The stream without ties where ours breaks them by the event, which PyG's memory does not know."""
    if aggregator is not LastAggregator:
        return stream
    sizes = [batch[2].numel() for batch in stream]
    times = torch.arange(sum(sizes)).split(sizes)
    return [(src, dst, t, raw_msg) for (src, dst, _, raw_msg), t in zip(stream, times, strict=True)]


def train(memories, optimizers, batch, n_id, update_first):
    """Takes one step with each of two memories and holds them against each other."""
    results = []
    for memory, optimizer in zip(memories, optimizers, strict=True):
        optimizer.zero_grad()
        out, loss = loss_of(memory, batch, n_id)
        if update_first:
            memory.update_state(*batch)
        loss.backward()
        results.append((*out, loss))
    assert_same(results[1], results[0])
    assert_same_gradients(memories[1], memories[0])
    for memory, optimizer in zip(memories, optimizers, strict=True):
        optimizer.step()
        if not update_first:
            memory.update_state(*batch)
        memory.detach()
    agree(*memories)


@torch.no_grad()
def evaluate(memories, stream):
    """Evaluates two memories on a stream and holds them against each other."""
    for memory in memories:
        memory.eval()
    for batch in (None, *stream):
        if batch is not None:
            for memory in memories:
                memory.update_state(*batch)
        agree(*memories)
        assert_same(memories[1](ALL), memories[0](ALL))
    for memory in memories:
        memory.train()


@pytest.mark.parametrize("message", [IdentityMessage, MLPMessage])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
@settings(deadline=None, max_examples=12)
@given(
    stream=batches(),
    more=st.sets(st.integers(0, NUM_NODES - 1)),
    epochs=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=3),
)
def test_outputs_last_updates_and_gradients_are_pygs(message, aggregator, stream, more, epochs):
    stream = untied(stream, aggregator)
    memories = pair_of(stream[0][3].size(1), aggregator, message)
    optimizers = [SGD(memory.parameters(), lr=0.01) for memory in memories]
    for reset, update_first, then_evaluate in epochs:
        for batch in stream:
            train(memories, optimizers, batch, nodes_of(batch, *more), update_first)
        if then_evaluate:
            evaluate(memories, stream)
        if reset:
            for memory in memories:
                memory.reset_state()


@pytest.mark.parametrize(
    ("aggregator", "scatter", "keep"),
    [
        pytest.param(PyGLastAggregator, True, "first", marks=WITH_SCATTER),
        (PyGLastAggregator, False, "last"),
    ],
)
@pytest.mark.parametrize("message", [IdentityMessage, MLPMessage])
@settings(deadline=None, max_examples=12)
@given(stream=batches(max_size=10))
def test_of_messages_at_the_same_time_the_one_that_pyg_keeps_is_kept(aggregator, scatter, keep, message, stream):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_geometric.typing, "WITH_TORCH_SCATTER", scatter)
        memories = pair_of(stream[0][3].size(1), aggregator, message, theirs=lambda: LoopLast(keep))
        optimizers = [SGD(memory.parameters(), lr=0.01) for memory in memories]
        for batch in stream:
            train(memories, optimizers, batch, ALL, update_first=True)
        evaluate(memories, stream)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@settings(deadline=None, max_examples=12)
@given(stream=batches(min_batches=4, max_batches=6))
def test_the_gradient_of_two_steps_without_detach_in_between_is_pygs(aggregator, stream):
    stream = untied(stream, aggregator)
    memories = pair_of(stream[0][3].size(1), aggregator)
    for first in range(0, len(stream) - 1, 2):
        for memory in memories:
            memory.zero_grad()
            total = 0
            for batch in stream[first : first + 2]:
                _, loss = loss_of(memory, batch, nodes_of(batch))
                memory.update_state(*batch)
                total = total + loss
            total.backward()
            memory.detach()
        assert_same_gradients(memories[1], memories[0])
        agree(*memories)


def test_an_earlier_step_gets_a_gradient_through_the_memory():
    batch = [torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([5, 6]), torch.ones(2, 3)]
    memory = memory_of(TGNMemory, 3, LastAggregator())
    memory.update_state(*batch)
    memory(ALL)
    memory.update_state(*batch)
    memory.memory.sum().backward()
    assert memory.gru.weight_ih.grad.abs().sum() > 0
    memory.detach()
    assert not memory.memory.requires_grad


@pytest.mark.parametrize("message", [IdentityMessage, MLPMessage])
def test_a_seed_gives_pygs_initial_weights(message):
    pyg, ours = (memory_of(cls, 3, MeanAggregator(), message, seed=4) for cls in (PyGMemory, TGNMemory))
    for (name, x), (pyg_name, y) in zip(ours.named_parameters(), pyg.named_parameters(), strict=True):
        assert name == pyg_name
        assert torch.equal(x, y)


@pytest.mark.parametrize("message", [IdentityMessage, MLPMessage])
def test_the_state_dict_goes_to_pyg_and_back(message):
    stream = [torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([5, 6]), torch.ones(2, 3)]
    pyg = memory_of(PyGMemory, 3, LastAggregator(), message)
    ours = memory_of(TGNMemory, 3, LastAggregator(), message, seed=1)
    assert list(ours.state_dict()) == list(pyg.state_dict())
    assert {name: x.shape for name, x in ours.state_dict().items()} == {
        name: x.shape for name, x in pyg.state_dict().items()
    }
    for source, target in ((ours, pyg), (pyg, ours)):
        source.update_state(*stream)
        source.eval()
        target.load_state_dict(source.state_dict())
        target.eval()
        target.load_state_dict(source.state_dict())
        assert_same(target(ALL), source(ALL), atol=0, rtol=0)
        source.train()
        target.train()


def test_times_in_epoch_milliseconds_survive():
    now = 1_753_000_000_123
    stream = [
        (torch.tensor([0, 1, 0]), torch.tensor([2, 3, 3]), torch.tensor([now, now + 1, now + 2]), torch.ones(3, 2)),
        (
            torch.tensor([0, 3, 4]),
            torch.tensor([2, 1, 5]),
            torch.tensor([now + 3, now + 9, now + 10]),
            torch.ones(3, 2),
        ),
    ]
    pyg, ours = pair_of(2, LastAggregator)
    for batch in stream * 2:
        for memory in (pyg, ours):
            memory(ALL)
            memory.update_state(*batch)
            memory.detach()
    z, last_update = ours(ALL)
    assert last_update.tolist() == [now + 3, now + 9, now + 3, now + 9, now + 10, now + 10, 0]
    assert torch.equal(last_update, pyg(ALL)[1])
    # The first time that a node is met its age is all of the time since 1970, of which a float32 knows little.
    assert_same(z, pyg(ALL)[0], atol=1e-4)


def test_one_millisecond_more_or_less_makes_a_difference():
    now = 1_753_000_000_123
    ends = torch.tensor([0]), torch.tensor([1])
    out = []
    for gap in (1, 2):
        memory = memory_of(TGNMemory, 0, LastAggregator()).eval()
        memory.update_state(*ends, torch.tensor([now]), torch.empty(1, 0))
        memory.update_state(*ends, torch.tensor([now + gap]), torch.empty(1, 0))
        out.append(memory(ALL[:2])[0])
    assert (out[0] - out[1]).abs().max() > 1e-3
