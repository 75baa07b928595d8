import torch
from hypothesis import given
from hypothesis import strategies as st
from random_events import NUM_NODES, streams

from pyg_mspipe.graph import PairHistory


def met_before(data, u, v, bound):
    """The events from u to v below the bound, the slow way."""
    pairs = zip(data.src.tolist(), data.dst.tolist(), strict=True)
    return [e_id for e_id, pair in enumerate(pairs) if pair == (u, v) and e_id < bound]


@given(streams(), st.data())
def test_counts_and_last_events_are_those_of_a_search_through_all_events(data, drawn):
    history = PairHistory.from_events(data.src, data.dst, NUM_NODES)
    node = st.integers(0, NUM_NODES - 1)
    asked = drawn.draw(st.lists(st.tuples(node, node, st.integers(0, data.num_events)), min_size=1, max_size=20))
    src, dst, bound = torch.tensor(asked).unbind(1)
    expected = [met_before(data, *each) for each in asked]
    assert history.count(src, dst, bound).tolist() == [len(found) for found in expected]
    assert history.last(src, dst, bound).tolist() == [found[-1] if found else -1 for found in expected]


@given(streams(min_events=1))
def test_one_source_goes_with_many_destinations_and_one_bound(data):
    history = PairHistory.from_events(data.src, data.dst, NUM_NODES)
    every = torch.arange(NUM_NODES)
    table = history.count(every.unsqueeze(1), every, bound=data.num_events)
    assert table.shape == (NUM_NODES, NUM_NODES)
    assert int(table.sum()) == data.num_events
    assert torch.equal(history.to("cpu").last(every.unsqueeze(1), every, data.num_events) >= 0, table > 0)
