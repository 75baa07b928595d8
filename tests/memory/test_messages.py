import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_training import NUM_NODES, batches

from pyg_mspipe.memory import MessageStore

NODES = st.lists(st.integers(0, NUM_NODES - 1), unique=True)


def store_of(width, tie="last", num_nodes=NUM_NODES):
    return MessageStore(num_nodes, width, dtype=torch.float32, device=torch.device("cpu"), tie=tie)


class DictStore:
    """The same with a dictionary of lists for each role."""

    def __init__(self, tie="last"):
        self.tie = tie
        self.roles = ({}, {})
        self.num_events = 0

    def append(self, src, dst, t, raw_msg):
        numbers = range(self.num_events, self.num_events + len(src))
        self.num_events += len(src)
        for role, (own, other) in zip(self.roles, ((src, dst), (dst, src)), strict=True):
            fresh = {}
            columns = own.tolist(), other.tolist(), t.tolist(), raw_msg.tolist(), numbers
            for node, *message in zip(*columns, strict=True):
                fresh.setdefault(node, []).append(tuple(message))
            role.update(fresh)

    def pending(self, n_id):
        return [
            [(row, *message[:3]) for row, node in enumerate(n_id) for message in role.get(node, [])]
            for role in self.roles
        ]

    def latest(self, node):
        listed = [(role == 0, *message) for role in (0, 1) for message in self.roles[role].get(node, [])]
        if not listed:
            return None
        newest = [message for message in listed if message[2] == max(t for _, _, t, *_ in listed)]
        if self.tie == "event":
            newest.sort(key=lambda message: message[4])  # stable: of a self-loop the destination's comes last
        return newest[0 if self.tie == "first" else -1][:4]


def assert_same(store, brute, n_id):
    pending = store.pending(torch.tensor(n_id, dtype=torch.long))
    columns = (pending.row, pending.other, pending.t, pending.raw_msg)
    listed = list(zip(*(column.tolist() for column in columns), strict=True))
    expected = brute.pending(n_id)
    assert pending.num_source == len(expected[0])
    assert listed == expected[0] + expected[1]

    latest = store.latest(torch.tensor(n_id, dtype=torch.long))
    columns = (latest.is_source, latest.other, latest.t, latest.raw_msg)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    found = [row if valid else None for valid, row in zip(latest.valid.tolist(), rows, strict=True)]
    assert found == [brute.latest(node) for node in n_id]


def random_batch(size, num_nodes, first, generator):
    ends = torch.randint(0, num_nodes, (2, size), generator=generator)
    t = first + torch.randint(0, 3, (size,), generator=generator).cumsum(0)
    return *ends, t, torch.randn(size, 2, generator=generator)


@pytest.mark.parametrize("tie", ["first", "last", "event"])
@settings(deadline=None)
@given(stream=batches(max_batches=8, max_size=8), n_id=NODES)
def test_messages_are_those_of_a_dictionary_of_lists(tie, stream, n_id):
    store, brute = store_of(stream[0][3].size(1), tie), DictStore(tie)
    for batch in stream:
        store.append(*batch)
        brute.append(*batch)
        assert_same(store, brute, n_id)


@pytest.mark.parametrize("tie", ["first", "last", "event"])
def test_dropping_old_events_changes_nothing_over_hundreds_of_batches(tie):
    generator = torch.Generator().manual_seed(0)
    store, brute = store_of(2, tie, num_nodes=40), DictStore(tie)
    capacity = total = 0
    for step in range(300):
        # Half of the nodes are touched at the start alone, so that old messages must survive.
        size = int(torch.randint(0, 12, (1,), generator=generator))
        batch = random_batch(size, 40 if step < 5 else 20, 10 * step, generator)
        store.append(*batch)
        brute.append(*batch)
        capacity, total = max(capacity, store.capacity), total + size
        assert_same(store, brute, torch.randperm(40, generator=generator)[:15].tolist())
    assert_same(store, brute, list(range(40)))
    assert 4 * capacity < total, "events were dropped several times"


def test_the_log_does_not_grow_with_the_number_of_batches():
    generator = torch.Generator().manual_seed(0)
    store = store_of(2, num_nodes=16)
    live = capacity = 0
    for step in range(1000):
        store.append(*random_batch(10, 16, 10 * step, generator))
        live = max(live, store.state()["messages.t"].numel())
        capacity = max(capacity, store.capacity)
    assert capacity <= 2 * live + 8 * 10
    assert live <= 2 * 16 * 10


@settings(deadline=None)
@given(stream=batches(min_batches=2), n_id=NODES)
def test_a_state_taken_over_goes_on_as_the_one_it_was_taken_from(stream, n_id):
    width, half = stream[0][3].size(1), len(stream) // 2
    store, brute = store_of(width), DictStore()
    for batch in stream[:half]:
        store.append(*batch)
        brute.append(*batch)
    state = store.state()
    saved = {name: x.clone() for name, x in state.items()}
    other = store_of(width)
    for batch in stream:
        other.append(*batch)
    other.load_state(state)
    assert_same(other, brute, n_id)
    for batch in stream[half:]:
        other.append(*batch)
        brute.append(*batch)
        assert_same(other, brute, n_id)
    assert all(torch.equal(x, saved[name]) for name, x in state.items())


def test_the_state_of_a_store_without_messages_can_be_taken_over():
    store = store_of(2)
    store.append(*random_batch(5, NUM_NODES, 0, torch.Generator().manual_seed(0)))
    store.load_state(store_of(2).state())
    assert_same(store, DictStore(), list(range(NUM_NODES)))


@settings(deadline=None, max_examples=20)
@given(stream=batches())
def test_a_cleared_store_is_as_good_as_new(stream):
    store, brute = store_of(stream[0][3].size(1)), DictStore()
    for batch in stream:
        store.append(*batch)
    store.clear()
    assert_same(store, brute, list(range(NUM_NODES)))
    store.append(*stream[0])
    brute.append(*stream[0])
    assert_same(store, brute, list(range(NUM_NODES)))


def test_a_store_goes_on_in_another_dtype():
    generator = torch.Generator().manual_seed(0)
    first, second = (random_batch(6, NUM_NODES, start, generator) for start in (0, 20))
    store, brute = store_of(2), DictStore()
    store.append(*first)
    store = store.to(dtype=torch.float64)
    store.append(*second)
    brute.append(*first)
    brute.append(*second)
    n_id = torch.arange(NUM_NODES)
    assert store.pending(n_id).raw_msg.dtype == store.latest(n_id).raw_msg.dtype == torch.float64
    assert_same(store, brute, n_id.tolist())


def test_messages_are_kept_without_their_gradient():
    store = store_of(2)
    raw_msg = torch.ones(1, 2, requires_grad=True)
    store.append(torch.tensor([0]), torch.tensor([1]), torch.tensor([3]), raw_msg)
    assert not store.pending(torch.tensor([0, 1])).raw_msg.requires_grad
