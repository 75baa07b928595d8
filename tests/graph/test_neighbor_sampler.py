from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_events import NUM_NODES, as_ids, history, recent, streams
from torch_geometric.data import TemporalData
from torch_geometric.loader import TemporalDataLoader
from torch_geometric.nn.models.tgn import LastNeighborLoader

from pyg_mspipe.data.tensor_tree import tensors_of
from pyg_mspipe.graph import NeighborSampler, TemporalCSR

HOPS = st.lists(st.integers(1, 4), min_size=1, max_size=2)
NODES = st.lists(st.integers(0, NUM_NODES - 1), max_size=8)
STRATEGIES = st.sampled_from(["recent", "uniform"])


def sampler_of(data, num_neighbors, strategy="recent", seed=0):
    return NeighborSampler(TemporalCSR.from_stream(data, NUM_NODES), num_neighbors, strategy, seed)


def edges_of(sampled):
    """The ``(node, neighbour, e_id)`` of what ``__call__`` gave, in its order."""
    n_id, edge_index, e_id = sampled
    neighbor, node = n_id[edge_index]
    return list(zip(node.tolist(), neighbor.tolist(), e_id.tolist(), strict=True))


def nodes_of_rows(sample):
    """For each hop the nodes of its target rows and those of its source rows."""
    source, found = sample.n_id, []
    for hop in reversed(sample.hops):
        target = source[hop.target]
        found.append((target, source))
        source = target
    return found[::-1]


@dataclass(frozen=True)
class Seen:
    """What a row sees of one hop, and, through itself and its neighbours, of the next."""

    node: int
    itself: "Seen | None" = None
    neighbors: tuple[tuple[int, "Seen"], ...] = ()

    @property
    def edges(self):
        """The ``(e_id, neighbour)`` of this hop."""
        return [(e_id, neighbor.node) for e_id, neighbor in self.neighbors]

    @property
    def all(self):
        """All that is seen from here, as pairs of a hop's number and what a row sees of it."""
        below = [neighbor for _, neighbor in self.neighbors] + [self.itself] * (self.itself is not None)
        return [(0, self)] + [(depth + 1, seen) for each in below for depth, seen in each.all]


def seen_by(sample):
    """What each query sees."""
    rows = nodes_of_rows(sample)

    def look(row, depth):
        if depth == len(sample.hops):
            return Seen(int(sample.n_id[row]))
        hop = sample.hops[depth]
        neighbors = zip(hop.e_id[row].tolist(), hop.neighbor[row].tolist(), hop.mask[row].tolist(), strict=True)
        return Seen(
            int(rows[depth][0][row]),
            look(int(hop.target[row]), depth + 1),
            tuple((e_id, look(neighbor, depth + 1)) for e_id, neighbor, there in neighbors if there),
        )

    return [look(row, 0) for row in sample.seed.tolist()]


def recent_seen(data, node, bound, num_neighbors):
    """What a query must see with the strategy ``recent``."""
    if not num_neighbors:
        return Seen(node)
    k, *deeper = num_neighbors
    neighbors = ((e_id, recent_seen(data, other, bound, deeper)) for e_id, other in recent(data, node, bound, k))
    return Seen(node, recent_seen(data, node, bound, deeper), tuple(neighbors))


# What is sampled


@settings(deadline=None)
@given(data=streams(), nodes=NODES, num_neighbors=HOPS, choice=st.data())
def test_the_most_recent_neighbours_are_those_of_a_loop_in_the_same_order(data, nodes, num_neighbors, choice):
    bound = choice.draw(st.integers(0, data.num_events))
    n_id, edge_index, e_id = sampler_of(data, num_neighbors)(as_ids(nodes), bound)

    seen, frontier, expected = set(nodes), set(nodes), []
    for k in num_neighbors:
        found = [(node, other, e) for node in sorted(frontier) for e, other in recent(data, node, bound, k)]
        expected += found
        frontier = {other for _, other, _ in found} - seen
        seen |= frontier
    assert n_id.tolist() == sorted(seen)
    assert edges_of((n_id, edge_index, e_id)) == sorted(expected, key=lambda edge: edge[0])


@settings(deadline=None)
@given(data=streams(), nodes=NODES, num_neighbors=HOPS, choice=st.data())
def test_every_query_sees_the_recent_neighbours_of_its_own_bound_over_all_hops(data, nodes, num_neighbors, choice):
    bounds = choice.draw(st.lists(st.integers(0, data.num_events), min_size=len(nodes), max_size=len(nodes)))
    sample = sampler_of(data, num_neighbors).sample(as_ids(nodes), as_ids(bounds))
    queries = list(zip(nodes, bounds, strict=True))
    expected = [recent_seen(data, node, bound, num_neighbors) for node, bound in queries]
    assert seen_by(sample) == expected
    assert sample.n_id.tolist() == sorted({seen.node for query in expected for _, seen in query.all})
    assert sample.hops[0].target.numel() == len(set(queries))


@settings(deadline=None)
@given(data=streams(), nodes=NODES, num_neighbors=HOPS, strategy=STRATEGIES, choice=st.data())
def test_one_bound_for_all_is_the_same_as_that_bound_for_each(data, nodes, num_neighbors, strategy, choice):
    bound = choice.draw(st.integers(0, data.num_events))
    sampler = sampler_of(data, num_neighbors, strategy)
    together = sampler.sample(as_ids(nodes), bound)
    apart = sampler.sample(as_ids(nodes), torch.full((len(nodes),), bound))
    assert seen_by(together) == seen_by(apart)
    assert torch.equal(together.n_id, apart.n_id)


@settings(deadline=None)
@given(data=streams(), nodes=NODES, num_neighbors=HOPS, strategy=STRATEGIES)
def test_an_absent_neighbour_repeats_its_target_and_event_0(data, nodes, num_neighbors, strategy):
    sample = sampler_of(data, num_neighbors, strategy).sample(as_ids(nodes), data.num_events)
    for hop, (target, source) in zip(sample.hops, nodes_of_rows(sample), strict=True):
        absent = ~hop.mask
        assert torch.equal(source[hop.neighbor][absent], target.unsqueeze(1).expand_as(absent)[absent])
        assert not hop.e_id[absent].any()


# Cut-offs


@settings(deadline=None)
@given(data=streams(min_events=1), num_neighbors=HOPS, strategy=STRATEGIES, choice=st.data())
def test_neighbors_never_include_the_batch_itself_nor_anything_later(data, num_neighbors, strategy, choice):
    first = choice.draw(st.integers(0, data.num_events - 1))
    stop = choice.draw(st.integers(first + 1, data.num_events))
    node = torch.cat([data.src[first:stop], data.dst[first:stop]])
    sampler = sampler_of(data, num_neighbors, strategy)
    assert bool((sampler(node, first)[2] < first).all())
    assert all(bool((hop.edge_id < first).all()) for hop in sampler.sample(node, first).hops)


@settings(deadline=None)
@given(data=streams(min_events=1), num_neighbors=HOPS, strategy=STRATEGIES)
def test_with_the_event_cut_off_all_is_strictly_before_the_querys_own_time(data, num_neighbors, strategy):
    csr = TemporalCSR.from_stream(data, NUM_NODES)
    node, t = torch.cat([data.src, data.dst]), data.t.repeat(2)
    sample = NeighborSampler(csr, num_neighbors, strategy).sample(node, csr.first_event_at(t))
    for own_time, query in zip(t.tolist(), seen_by(sample), strict=True):
        assert all(data.t[e_id] < own_time for _, seen in query.all for e_id, _ in seen.edges)


@settings(deadline=None)
@given(data=streams(min_events=1), choice=st.data())
def test_with_the_event_cut_off_nothing_that_is_earlier_is_missed(data, choice):
    csr = TemporalCSR.from_stream(data, NUM_NODES)
    sample = NeighborSampler(csr, [2 * data.num_events]).sample(data.src, csr.first_event_at(data.t))
    for t, query in zip(data.t.tolist(), seen_by(sample), strict=True):
        earlier = [entry for entry in history(data, query.node, data.num_events) if data.t[entry[0]] < t]
        assert query.edges == earlier[::-1]


# Edges


@settings(deadline=None)
@given(data=streams(), nodes=NODES, num_neighbors=HOPS, strategy=STRATEGIES, choice=st.data())
def test_an_event_id_always_joins_the_two_nodes_of_its_edge(data, nodes, num_neighbors, strategy, choice):
    bound = choice.draw(st.integers(0, data.num_events))
    sampler = sampler_of(data, num_neighbors, strategy)
    edges = edges_of(sampler(as_ids(nodes), bound))
    sample = sampler.sample(as_ids(nodes), torch.full((len(nodes),), bound))
    for hop, (target, source) in zip(sample.hops, nodes_of_rows(sample), strict=True):
        neighbor, node = hop.edge_index
        edges += zip(target[node].tolist(), source[neighbor].tolist(), hop.edge_id.tolist(), strict=True)
    for node, neighbor, e_id in edges:
        assert sorted((node, neighbor)) == sorted((int(data.src[e_id]), int(data.dst[e_id])))


@settings(deadline=None)
@given(data=streams(), nodes=NODES, num_neighbors=HOPS, strategy=STRATEGIES)
def test_edges_are_sorted_by_their_target(data, nodes, num_neighbors, strategy):
    sampler = sampler_of(data, num_neighbors, strategy)
    targets = [sampler(as_ids(nodes), data.num_events)[1][1]]
    targets += [hop.edge_index[1] for hop in sampler.sample(as_ids(nodes), data.num_events).hops]
    assert all(bool((target.diff() >= 0).all()) for target in targets)


@settings(deadline=None)
@given(data=streams(), batch_size=st.integers(1, 3), more=st.integers(0, 3), nodes=NODES.filter(len))
def test_the_edges_are_those_of_pygs_loader(data, batch_size, more, nodes):
    size = 2 * batch_size + more  # enough for all that a batch can add to one node, self-loops included
    loader, sampler = LastNeighborLoader(NUM_NODES, size), sampler_of(data, [size])
    n_id = as_ids(sorted(set(nodes)))
    for first in range(0, data.num_events + 1, batch_size):
        theirs, ours = loader(n_id), sampler(n_id, first)
        assert torch.equal(ours[0], theirs[0])
        assert Counter(edges_of(ours)) == Counter(edges_of(theirs))
        loader.insert(data.src[first : first + batch_size], data.dst[first : first + batch_size])


@pytest.mark.parametrize("num_neighbors", [1, 3])
@pytest.mark.parametrize("num_queries", [0, 1, 40, 400])
@pytest.mark.parametrize("num_nodes", [50, 900, 200_000])
def test_one_hop_gives_what_is_read_from_the_padded_grid_however_few_the_queries_are(
    num_nodes, num_queries, num_neighbors
):
    generator = torch.Generator().manual_seed(num_queries)
    src, dst = torch.randint(num_nodes, (2, 3_000), generator=generator)
    csr = TemporalCSR.from_stream(TemporalData(src=src, dst=dst, t=torch.arange(3_000)), num_nodes)
    sampler = NeighborSampler(csr, [num_neighbors])
    nodes = torch.cat([src, dst])[torch.randint(6_000, (num_queries,), generator=generator)]
    n_id, edge_index, e_id = sampler(nodes, 2_000)
    queried = nodes.unique()
    sample = sampler.sample(queried, 2_000)
    (hop,) = sample.hops
    assert torch.equal(n_id, sample.n_id)
    assert torch.equal(edge_index[0], hop.edge_index[0])
    assert torch.equal(n_id[edge_index[1]], queried[hop.edge_index[1]])
    assert torch.equal(e_id, hop.edge_id)


# The uniform strategy


@settings(deadline=None)
@given(data=streams(), nodes=NODES, num_neighbors=HOPS, seed=st.integers(-5, 2**63), choice=st.data())
def test_uniform_neighbours_are_as_many_as_there_are_and_none_is_drawn_twice(data, nodes, num_neighbors, seed, choice):
    bounds = choice.draw(st.lists(st.integers(0, data.num_events), min_size=len(nodes), max_size=len(nodes)))
    sample = sampler_of(data, num_neighbors, "uniform", seed).sample(as_ids(nodes), as_ids(bounds), epoch=3)
    queries = seen_by(sample)
    assert [query.node for query in queries] == nodes
    for bound, query in zip(bounds, queries, strict=True):
        for depth, seen in query.all:
            there = Counter(history(data, seen.node, bound))
            k = [*num_neighbors, 0][depth]
            assert len(seen.edges) == min(k, there.total())
            assert not Counter(seen.edges) - there
            assert [e_id for e_id, _ in seen.edges] == sorted((e_id for e_id, _ in seen.edges), reverse=True)


def subsets_of_many_nodes():
    """The draws of 4000 nodes with five events each."""
    node = torch.arange(4000)
    data = TemporalData(src=node.repeat(5), dst=torch.full((20_000,), 4000), t=torch.arange(20_000))
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [2], "uniform", seed=1)
    hop = sampler.sample(node, 20_000).hops[0]
    return (hop.e_id // 4000).tolist()


def subsets_of_many_epochs():
    """The draws of one node with five events in 1500 epochs."""
    data = TemporalData(src=as_ids([0] * 5), dst=as_ids([1, 2, 3, 4, 5]), t=torch.arange(5))
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [2], "uniform", seed=1)
    return [sampler(as_ids([0]), 5, epoch=epoch)[2].tolist() for epoch in range(1500)]


@pytest.mark.parametrize("draw", [subsets_of_many_nodes, subsets_of_many_epochs])
def test_all_subsets_are_equally_likely(draw):
    counts = Counter(frozenset(subset) for subset in draw())
    expected = counts.total() / 10
    subsets = [frozenset(pair) for pair in combinations(range(5), 2)]
    assert set(counts) <= set(subsets)
    # Nine degrees of freedom: passed by chance alone in 1 of 1000 draws.
    assert sum((counts[subset] - expected) ** 2 / expected for subset in subsets) < 27.9


def test_a_draw_depends_on_seed_and_epoch():
    data = TemporalData(src=torch.zeros(400, dtype=torch.long), dst=torch.arange(400), t=torch.arange(400))
    csr = TemporalCSR.from_stream(data)
    draws = {
        tuple(NeighborSampler(csr, [5], "uniform", seed)(as_ids([0]), 400, epoch=epoch)[2].tolist())
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
    }
    assert len(draws) == 9


@settings(deadline=None)
@given(data=streams(min_events=4), num_neighbors=HOPS, strategy=STRATEGIES, order=st.permutations(range(NUM_NODES)))
def test_a_draw_depends_neither_on_the_rest_of_the_batch_nor_on_the_order_of_calls(
    data, num_neighbors, strategy, order
):
    sampler = sampler_of(data, num_neighbors, strategy)
    alone = {node: seen_by(sampler.sample(as_ids([node]), data.num_events, epoch=1))[0] for node in order}
    together = seen_by(sampler.sample(as_ids(order), data.num_events, epoch=1))
    assert together == [alone[node] for node in order]


@settings(deadline=None)
@given(data=streams(), nodes=NODES, k=st.integers(1, 3), strategy=STRATEGIES, choice=st.data())
def test_both_ways_to_sample_find_the_same_edges_in_the_same_order(data, nodes, k, strategy, choice):
    bound = choice.draw(st.integers(0, data.num_events))
    sampler = sampler_of(data, [k], strategy)
    sample = sampler.sample(as_ids(nodes), bound, epoch=2)
    ((target, source),) = nodes_of_rows(sample)
    (hop,) = sample.hops
    neighbor, row = hop.edge_index
    n_id, edge_index, e_id = sampler(as_ids(nodes), bound, epoch=2)
    assert torch.equal(n_id, sample.n_id)
    assert torch.equal(n_id[edge_index], torch.stack([source[neighbor], target[row]]))
    assert torch.equal(e_id, hop.edge_id)


@settings(deadline=None)
@given(data=streams(), nodes=NODES, k=st.integers(1, 3), choice=st.data())
def test_other_numbers_for_the_nodes_in_the_same_order_change_nothing_else(data, nodes, k, choice):
    bound = choice.draw(st.integers(0, data.num_events))
    n_id, edge_index, e_id = sampler_of(data, [k])(as_ids(nodes), bound)
    other = torch.tensor([3, 65_536, 65_538, 131_073, 131_075, 196_608])  # in another order by their low 16 bits
    moved = TemporalData(src=other[data.src], dst=other[data.dst], t=data.t)
    sampler = NeighborSampler(TemporalCSR.from_stream(moved, 196_609), [k])
    found = sampler(other[as_ids(nodes)], bound)
    assert all(map(torch.equal, found, (other[n_id], edge_index, e_id)))


# Statelessness


@pytest.mark.parametrize("strategy", ["recent", "uniform"])
def test_many_threads_sample_what_one_does(strategy):
    generator = torch.Generator().manual_seed(0)
    src, dst = torch.randint(0, 50, (2, 3000), generator=generator)
    data = TemporalData(src=src, dst=dst, t=torch.arange(3000))
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [5, 5], strategy)

    def one(first):
        node = torch.cat([src[first : first + 20], dst[first : first + 20]])
        sample = sampler.sample(node, torch.arange(first, first + 20).repeat(2))
        return [*tensors_of(sample), *sampler(node, first)]

    batches = range(0, 2980, 60)
    expected = [one(first) for first in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(one, reversed(batches)))[::-1]
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


def test_the_global_generator_is_left_alone():
    data = TemporalData(src=as_ids([0] * 9), dst=torch.arange(9), t=torch.arange(9))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    NeighborSampler(TemporalCSR.from_stream(data), [2], "uniform").sample(as_ids([0]), 9)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("num_neighbors", [[0], [3, -1]])
def test_numbers_of_neighbours_below_one_are_refused(num_neighbors):
    data = TemporalData(src=as_ids([0]), dst=as_ids([1]), t=as_ids([0]))
    with pytest.raises(ValueError, match="give a number of at least 1 for each hop"):
        sampler_of(data, num_neighbors)


@pytest.mark.parametrize("bound", [2, as_ids([2, 1, 0, 2])])
def test_without_hops_the_queries_nodes_alone_are_read(bound):
    data = TemporalData(src=as_ids([0, 1]), dst=as_ids([1, 3]), t=as_ids([0, 5]))
    sampler = sampler_of(data, [])
    sample = sampler.sample(as_ids([3, 0, 3, 1]), bound)
    assert sample.hops == ()
    assert sample.n_id.tolist() == [0, 1, 3]
    assert sample.n_id[sample.seed].tolist() == [3, 0, 3, 1]
    n_id, edge_index, e_id = sampler(as_ids([3, 0, 3]), 2)
    assert (n_id.tolist(), edge_index.shape, e_id.numel()) == ([0, 3], (2, 0), 0)


def test_an_unknown_strategy_is_refused_with_the_known_ones():
    data = TemporalData(src=as_ids([0]), dst=as_ids([1]), t=as_ids([0]))
    with pytest.raises(ValueError, match="strategy='latest' is unknown; choose one of recent, uniform"):
        sampler_of(data, [1], "latest")


@pytest.mark.parametrize("num_neighbors", [10, torch.tensor([10]), [2.5], ["10"]])
def test_what_is_no_list_of_numbers_of_neighbours_is_refused(num_neighbors):
    data = TemporalData(src=as_ids([0]), dst=as_ids([1]), t=as_ids([0]))
    with pytest.raises(TypeError, match="give a list, one number for each hop"):
        sampler_of(data, num_neighbors)


def test_a_stream_in_place_of_its_history_is_refused_with_the_way_to_make_one():
    data = TemporalData(src=as_ids([0]), dst=as_ids([1]), t=as_ids([0]))
    with pytest.raises(TypeError, match=r"csr is a TemporalData; give a history, TemporalCSR\.from_stream\(data\)"):
        NeighborSampler(data, [10])


@pytest.mark.parametrize("bound", [3, torch.tensor(3), torch.tensor([0, 3, 1])])
def test_a_bound_past_the_last_event_is_refused_for_it_may_be_a_time(bound):
    data = TemporalData(src=as_ids([0, 1]), dst=as_ids([1, 2]), t=as_ids([5, 6]))
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [3])
    for sample in (sampler, sampler.sample):
        with pytest.raises(ValueError, match=r"bound 3 is past the 2 events .* event id from 0 to 2, not a time"):
            sample(as_ids([0, 1, 2]), bound)


def test_several_bounds_for_one_call_are_refused_with_the_way_to_give_one():
    data = TemporalData(src=as_ids([0, 1]), dst=as_ids([1, 2]), t=as_ids([5, 6]))
    with pytest.raises(ValueError, match=r"2 bounds; give one, the batch's first event, e\.g\. batch\.event_id\[0\]"):
        sampler_of(data, [3])(as_ids([0, 1]), as_ids([0, 1]))


@settings(deadline=None)
@given(data=streams(min_events=1), batch_size=st.integers(1, 3), num_neighbors=HOPS, split=st.integers(0, 24))
def test_batches_of_numbered_events_see_what_a_counter_would_show_them(data, batch_size, num_neighbors, split):
    sampler = sampler_of(data, num_neighbors)
    data.event_id = torch.arange(data.num_events)
    first = 0
    for part in (data[:split], data[split:]):
        for batch in TemporalDataLoader(part, batch_size=batch_size):
            own, counted = sampler(batch.n_id, batch.event_id[0]), sampler(batch.n_id, first)
            assert all(map(torch.equal, own, counted))
            first += batch.num_events


def test_the_number_of_events_as_bound_means_all_events_and_one_below_zero_none():
    data = TemporalData(src=torch.tensor([0, 1]), dst=torch.tensor([1, 2]), t=torch.tensor([5, 6]))
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [3])
    node = torch.tensor([0, 1, 2])
    assert sampler(node, 2)[2].tolist() == [0, 1, 0, 1]
    assert sampler.sample(node, 2).hops[0].edge_id.tolist() == [0, 1, 0, 1]
    assert not sampler.sample(node, -1).hops[0].mask.any()
