import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import TemporalData
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe.data import NegativeSampler
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.memory import Commit, LastAggregator, MemoryRows, RowState, TGNMemory
from pyg_mspipe.memory.rows import Read
from pyg_mspipe.models import TGN
from pyg_mspipe.pipeline import Batches

NODES, WIDTH, SIZE = 7, 4, 6


@st.composite
def streams(draw):
    """Events on a few nodes with self-loops, repeats, ties, and nodes in both roles."""
    nodes = st.integers(0, NODES - 2)
    ends = draw(st.lists(st.tuples(nodes, nodes, st.integers(0, 2)), min_size=1, max_size=40))
    src, dst, gaps = torch.tensor(ends).unbind(1)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    return TemporalData(src=src, dst=dst, t=gaps.cumsum(0), msg=torch.randn(len(ends), 2, generator=generator))


def batches_of(data):
    sampler = NeighborSampler(TemporalCSR.from_stream(data, NODES), [3])
    return Batches(data, range(data.num_events), SIZE, sampler, NegativeSampler.from_nodes(NODES))


def pair_of():
    """A TGN, and a memory of the same weights that stores its messages."""
    torch.manual_seed(0)
    tgn = TGN(NODES, 2, memory_dim=WIDTH, time_dim=WIDTH, embedding_dim=WIDTH, dropout=0.0)
    stored = TGNMemory(NODES, 2, WIDTH, WIDTH, IdentityMessage(2, WIDTH, WIDTH), LastAggregator())
    stored.load_state_dict(tgn.memory.state_dict(), strict=False)
    return tgn, stored


def assert_same_state(tgn, stored):
    assert torch.equal(tgn.memory.state.tables["memory"], stored.memory)
    assert torch.equal(tgn.memory.state.tables["last_update"], stored.last_update)


@torch.no_grad()
@settings(deadline=None, max_examples=60)
@given(streams())
def test_messages_that_are_looked_up_are_those_that_are_stored(data):
    tgn, stored = pair_of()
    batches = batches_of(data)
    nodes = torch.arange(NODES)
    for index in range(len(batches)):
        events = batches.events_of(index)
        before = tgn.memory(batches.ask(nodes, events.start))
        assert all(torch.equal(one, other) for one, other in zip(before, stored(nodes), strict=True))
        batch = batches.read(0, index)
        tgn.memory.state.apply(tgn.commit(batch))
        stored.update_state(batch.src, batch.dst, batch.t, batch.msg)
        torch.testing.assert_close(tgn.memory.state.tables["memory"], stored.memory, atol=1e-6, rtol=1e-6)
        assert torch.equal(tgn.memory.state.tables["last_update"], stored.last_update)
        stored.memory.copy_(tgn.memory.state.tables["memory"])  # products of other sizes may round otherwise
    # Evaluation over the same events again.
    tgn.eval().settle(batches)
    stored.eval()
    torch.testing.assert_close(tgn.memory.state.tables["memory"], stored.memory, atol=1e-6, rtol=1e-6)
    assert torch.equal(tgn.memory.state.tables["last_update"], stored.last_update)


@torch.no_grad()
def test_which_times_stale_rows_have_taken_in_does_not_follow_from_the_stream():
    # Events of one pair, in batches of one. A batch that misses a commit applies an older message, so the time that its
    # row has taken in depends on the staleness that the batch had; for that reason last updates are stored.
    data = TemporalData(
        src=torch.zeros(4, dtype=torch.long),
        dst=torch.ones(4, dtype=torch.long),
        t=torch.tensor([10, 20, 30, 40]),
        msg=torch.zeros(4, 2),
    )
    batches = batches_of(data)
    batches.batch_size = 1
    found = {}
    for staleness in (0, 1):
        tgn, _ = pair_of()
        waiting = []
        for index in range(4):
            batch = batches.read(0, index)
            if index - staleness > 0:
                tgn.memory.state.apply(waiting.pop(0))
            if staleness and index:
                batch = batches.as_of(batch, index, index - 1)
            waiting.append(tgn.commit(batch))
        for commit in waiting:
            tgn.memory.state.apply(commit)
        found[staleness] = tgn.memory.state.tables["last_update"][:2].tolist()
    assert found == {0: [30, 30], 1: [20, 20]}


def state_of(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return RowState({"memory": torch.randn(NODES, 3, generator=generator), "last_update": torch.arange(NODES)})


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, NODES - 1)), max_size=5), st.data())
def test_rows_that_catch_up_are_those_of_a_fetch_after_the_commits(touched, draw):
    state, generator = state_of(), torch.Generator().manual_seed(1)
    nodes = st.lists(st.integers(0, NODES - 1), max_size=9)
    n_id = torch.tensor(sorted(set(draw.draw(nodes))), dtype=torch.long)
    other = torch.tensor(draw.draw(nodes), dtype=torch.long)
    reads = {
        "memory": Read("memory", n_id),
        "last_update": Read("last_update", n_id),
        "other": Read("memory", other),
    }

    def fetched():
        return MemoryRows(reads, {name: state.read(read.table, read.n_id) for name, read in reads.items()})

    early = fetched()
    commits = []
    for number, each in enumerate(touched):
        own = torch.tensor(sorted(each), dtype=torch.long)
        rows = {"memory": torch.randn(len(each), 3, generator=generator), "last_update": own + 10 * number}
        commits.append(Commit(own, rows, stop=number + 1))
        state.apply(commits[-1])
    early, late = state.catch_up(early, commits), fetched()
    assert all(torch.equal(early.values[name], late.values[name]) for name in reads)
    missed = state.note_missed(early, commits).missed
    assert missed.tolist() == [sum(node in each for each in touched) for node in n_id.tolist()]
    assert state.span.end == len(commits)


def test_a_state_is_saved_and_loaded_whole():
    state, other = state_of(), state_of(1)
    state.apply(Commit(torch.tensor([2]), {"memory": torch.ones(1, 3), "last_update": torch.tensor([9])}, stop=5))
    other.load(state.save())
    assert other.span == (0, 5, 0)
    assert all(torch.equal(other.tables[name], table) for name, table in state.tables.items())
    copy = state.copy()
    copy.clear(3)
    assert copy.span == (3, 3, 3)
    assert not copy.tables["memory"].any()
    assert state.tables["memory"].any()


def test_a_state_of_other_sizes_is_refused():
    state = state_of()
    with pytest.raises(ValueError, match=r"rows of \{'memory': \(7, 2\).*load it into a model of the same sizes"):
        state.load(state.save() | {"memory": torch.zeros(NODES, 2)})
    with pytest.raises(ValueError, match="'last_update': None"):
        state.load({"memory": state.tables["memory"]})


def test_states_that_are_attached_to_the_same_tensors_are_one():
    state, other = state_of(), state_of(1)
    other.attach(state.tensors())
    state.apply(Commit(torch.tensor([2]), {"memory": torch.ones(1, 3)}, stop=5))
    assert other.span.end == 5
    assert other.tables["memory"][2].tolist() == [1, 1, 1]
    assert state.nbytes == sum(x.nbytes for x in state.tensors().values())


def test_evaluation_before_waiting_messages_are_applied_is_refused():
    data = TemporalData(
        src=torch.tensor([0, 1]), dst=torch.tensor([2, 3]), t=torch.tensor([1, 2]), msg=torch.zeros(2, 2)
    )
    tgn, batches = pair_of()[0], batches_of(data)
    tgn.memory.state.apply(tgn.commit(batches.read(0, 0)))
    tgn.eval()
    with pytest.raises(RuntimeError, match=r"call settle\(batches\) before evaluation"):
        tgn(batches.ask(torch.tensor([0]), 2))
    tgn.settle(batches)
    tgn(batches.ask(torch.tensor([0]), 2))


def test_rows_that_nobody_wrote_to_are_not_zeroed_again_and_all_others_are():
    def make():
        return RowState({"memory": torch.zeros(4, 2), "last_update": torch.zeros(4, dtype=torch.long)}, blank=True)

    def written(state):
        return any(bool(table.any()) for table in state.tables.values())

    fresh = make()
    before = [table._version for table in fresh.tables.values()]
    fresh.clear(0)
    assert [table._version for table in fresh.tables.values()] == before
    rows = {"memory": torch.ones(1, 2), "last_update": torch.ones(1, dtype=torch.long)}
    changes = [
        lambda state: state.apply(Commit(torch.tensor([1]), rows, 5)),
        lambda state: state.tables["memory"].view(-1)[3:].fill_(1),
        lambda state: state.tables.update(memory=torch.ones(4, 2)),
        lambda state: state.load(
            {**rows, **{name: x.repeat_interleave(4, 0) for name, x in rows.items()}, "span": torch.zeros(3).long()}
        ),
    ]
    for change in changes:
        for state in (make(), make()):
            state.clear(0)
            change(state)
            copied = copy.deepcopy(state)
            assert written(state)
            assert written(copied)
            state.move(lambda x: x.double() if x.is_floating_point() else x, keep_device=False)
            for each in (state, copied):
                each.clear(0)
                assert not written(each)


def test_rows_shared_with_others_are_always_zeroed():
    state = RowState({"memory": torch.zeros(4, 2)}, blank=True)
    others = torch.ones(4, 2)
    state.attach({"memory": others, "span": torch.zeros(3, dtype=torch.long)})
    state.clear(0)
    assert not others.any()
    others.data.numpy()[:] = 1
    state.clear(0)
    assert not others.any()
