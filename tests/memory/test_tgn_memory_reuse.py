"""What update takes over from forward, and what it must not."""

import copy

import pytest
import torch
from random_training import ALL, DecayingSum, MLPMessage, assert_same, trained
from torch.optim import SGD
from torch_geometric.nn.models.tgn import IdentityMessage, MeanAggregator

from pyg_mspipe.memory import LastAggregator, TGNMemory

AGGREGATORS = [LastAggregator, MeanAggregator]


class CountingMemory(TGNMemory):
    """Counts how often rows are computed."""

    computed = 0

    def compute(self, *args):
        self.computed += 1
        return super().compute(*args)


@pytest.mark.parametrize("message", [IdentityMessage, MLPMessage])
@pytest.mark.parametrize("aggregator", [*AGGREGATORS, DecayingSum])
def test_update_takes_over_what_forward_computed(aggregator, message):
    memory, batch = trained(aggregator, message, CountingMemory)
    twin = copy.deepcopy(memory)
    memory.computed = 0
    z, last_update = memory(ALL.flip(0))
    memory.update_state(*batch)
    assert memory.computed == 1
    nodes = torch.cat(batch[:2]).unique()
    assert torch.equal(memory.memory[nodes], z.flip(0)[nodes])
    assert torch.equal(memory.last_update[nodes], last_update.flip(0)[nodes])
    twin.update_state(*batch)
    assert_same(memory.memory, twin.memory, atol=1e-6)


def fused_step(memory, _):
    """Unlike others, fused optimizers leave the version counters of the weights as they are."""
    optimizer = SGD(memory.parameters(), lr=0.5, fused=True)
    memory.rows.sum().backward()
    optimizer.step()


def step(memory, _):
    memory.rows.sum().backward()
    SGD(memory.parameters(), lr=0.5).step()


def write(memory, _):
    with torch.no_grad():
        memory.memory += 1


def load_buffers(memory, _):
    memory.load_state_dict({"last_update": memory.last_update - 3}, strict=False)


def load_weights(memory, _):
    memory.load_state_dict({name: x * 1.5 for name, x in memory.state_dict().items() if "gru" in name}, strict=False)


def load_memory(memory, _):
    state = memory.memory_state()
    memory.load_memory_state(state | {"memory": state["memory"] + 1})


def update(memory, batch):
    memory.update_state(batch[1], batch[0], batch[2] - 1, batch[3] + 1)


def evaluate(memory, _):
    memory.eval()
    memory.train()


def reset(memory, _):
    memory.reset_state()


def widen(memory, _):
    memory.double()


CHANGES = [fused_step, step, write, load_buffers, load_weights, load_memory, update, evaluate, reset, widen]


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("change", CHANGES)
def test_update_computes_anew_what_no_longer_holds(change, aggregator):
    memory, batch = trained(aggregator)
    memories = memory, copy.deepcopy(memory)
    for each, forward_is_last in zip(memories, (False, True), strict=True):
        # The second has nothing to take over that was computed before the change.
        each.rows = each(ALL)[0]
        change(each, batch)
        if forward_is_last:
            each(ALL)
        each.update_state(*batch)
    assert_same(*(each.memory for each in memories), atol=1e-6)
    assert torch.equal(*(each.last_update for each in memories))


@pytest.mark.parametrize("change", CHANGES[:-2])
def test_each_of_these_changes_matters(change):
    memory, batch = trained()
    memories = memory, copy.deepcopy(memory)
    memory.rows = memory(ALL)[0]
    change(memory, batch)
    for each in memories:
        each.update_state(*batch)
    touched = torch.cat(batch[:2]).unique()
    assert not torch.allclose(*(each.memory[touched].double() for each in memories), atol=1e-3)


def test_update_computes_anew_when_forward_has_not_seen_all_nodes():
    memory, batch = trained(cls=CountingMemory)
    twin = copy.deepcopy(memory)
    nodes = torch.cat(batch[:2]).unique()
    memory(nodes[1:])
    memory.computed = 0
    memory.update_state(*batch)
    twin.update_state(*batch)
    assert memory.computed == 1
    assert torch.equal(memory.memory, twin.memory)


def test_what_was_computed_without_gradient_is_not_taken_over_where_one_is_wanted():
    memory, batch = trained()
    with torch.no_grad():
        memory(ALL)
    memory.update_state(*batch)
    assert memory.memory.requires_grad


def test_an_update_without_gradient_keeps_the_memory_out_of_the_graph():
    memory, batch = trained()
    z, _ = memory(ALL)
    with torch.no_grad():
        memory.update_state(*batch)
    assert not memory.memory.requires_grad
    z.sum().backward()
    assert memory.gru.weight_ih.grad.abs().sum() > 0
