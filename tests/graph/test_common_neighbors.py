from collections import Counter
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_events import NUM_NODES, recent, streams
from torch_geometric.data import TemporalData

from pyg_mspipe.graph import CommonNeighborFinder, TemporalCSR
from pyg_mspipe.graph import common_neighbors as module

NODE = st.integers(0, NUM_NODES - 1)


def by_search(data, u, v, bound, k):
    """The common neighbours of a pair with their orders, each as often as it counts, the slow way."""

    def near(node):
        return [other for _, other in recent(data, node, bound, k)]

    def far(node):
        return {other for each in near(node) for other in near(each)} - {node}

    found = Counter((0, w) for w in near(u) if w == v) + Counter((0, w) for w in near(v) if w == u)
    found += Counter((1, w) for w in near(u) if w in near(v))
    return found + Counter((2, w) for w in near(u) if w in far(v)) + Counter((2, w) for w in near(v) if w in far(u))


def by_pair(common, num_pairs):
    """What was found for each pair, in the same form."""
    found = [Counter() for _ in range(num_pairs)]
    for slot, node in zip(common.slot.tolist(), common.node.tolist(), strict=True):
        found[common.pair[slot // 3]][slot % 3, node] += 1
    assert [n for n, each in enumerate(found) if each] == common.pair.tolist()
    assert torch.equal(common.slot.sort().values, common.slot)
    return found


@settings(deadline=None)
@given(streams(min_events=1), st.integers(1, 4), st.sampled_from([1, 200, 2**24]), st.data())
def test_common_neighbors_are_those_of_a_search_through_all_lists(data, k, cells, drawn):
    finder = CommonNeighborFinder(TemporalCSR.from_stream(data, NUM_NODES), k)
    bounds = st.integers(0, data.num_events)
    asked = torch.tensor(drawn.draw(st.lists(st.tuples(NODE, NODE, NODE, bounds), min_size=1, max_size=8)))
    src, first, second, bound = asked.unbind(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST_CELLS", cells)
        common = finder(src, torch.stack([first, second]), bound)
    expected = [by_search(data, u, v, below, k) for u, *others, below in asked.tolist() for v in others]
    assert by_pair(common, 2 * len(asked)) == expected


@settings(deadline=None)
@given(streams(min_events=1), st.data())
def test_pairs_may_have_sources_of_their_own_and_one_bound(data, drawn):
    finder = CommonNeighborFinder(TemporalCSR.from_stream(data, NUM_NODES), 3)
    pairs = drawn.draw(st.lists(st.tuples(NODE, NODE), min_size=6, max_size=6))
    bound = drawn.draw(st.integers(0, data.num_events))
    src, dst = torch.tensor(pairs).view(3, 2, 2).transpose(0, 1).unbind(2)
    found = by_pair(finder(src, dst, bound), 6)
    assert found == [by_search(data, u, v, bound, 3) for u, v in pairs]


@given(streams(min_events=1), st.integers(1, 5))
def test_blocks_of_pairs_together_hold_what_the_whole_holds(data, size):
    finder = CommonNeighborFinder(TemporalCSR.from_stream(data, NUM_NODES), 4)
    every = torch.arange(NUM_NODES)
    common = finder(every, every.view(-1, 1).expand(-1, NUM_NODES), data.num_events)
    whole = by_pair(common, NUM_NODES**2)
    count = -(-len(whole) // size)
    parts = [by_pair(part, size) for part in common.blocks(size, count)]
    assert list(chain.from_iterable(parts))[: len(whole)] == whole


def test_users_and_items_share_neighbors_of_two_hops_and_none_of_one():
    # Users 0 and 1 have both met item 3; user 1 also item 4, which user 0 has not.
    data = TemporalData(src=torch.tensor([0, 1, 1]), dst=torch.tensor([3, 3, 4]), t=torch.arange(3))
    common = CommonNeighborFinder(TemporalCSR.from_stream(data), 5)(torch.tensor([0]), torch.tensor([[4]]), 3)
    assert by_pair(common, 1) == [Counter({(2, 3): 1, (2, 1): 1})]


def test_nodes_become_positions_among_those_of_a_batch():
    data = TemporalData(src=torch.tensor([0, 1]), dst=torch.tensor([7, 7]), t=torch.arange(2))
    common = CommonNeighborFinder(TemporalCSR.from_stream(data), 5)(torch.tensor([0]), torch.tensor([[1]]), 2)
    assert common.node.tolist() == [7]
    assert common.within(torch.tensor([1, 3, 7])).node.tolist() == [2]
