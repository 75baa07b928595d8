import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe.data import NegativeSampler
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.pipeline import Batch, Batches, ask_pairs, ask_sources


def random_stream(num_events: int = 100, num_nodes: int = 12, *, msg_dim: int = 3, seed: int = 0) -> TemporalData:
    """A stream full of ties, self-loops and repeated edges."""
    generator = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(num_nodes, (2, num_events), generator=generator)
    t = torch.randint(max(num_events // 4, 1), (num_events,), generator=generator).sort().values
    return TemporalData(src=src, dst=dst, t=t, msg=torch.randn(num_events, msg_dim, generator=generator))


def make(data, batch_size=16, *, events=None, neighbors=(4,), strategy="recent", num_negatives=1, **options) -> Batches:
    sampler = NeighborSampler(TemporalCSR.from_stream(data), neighbors, strategy)
    events = range(data.num_events) if events is None else events
    negatives = NegativeSampler.from_destinations(data.dst, num=num_negatives, seed=7)
    return Batches(data, events, batch_size, sampler, negatives, **options)


def tensors_of(batch: Batch) -> list[Tensor]:
    hops = [x for hop in batch.sample.hops for x in (hop.target, hop.neighbor, hop.e_id, hop.mask)]
    own = [batch.src, batch.dst, batch.t, batch.msg, batch.negatives.dst, batch.sample.n_id, batch.sample.seed]
    return own + hops + list(batch.edge_time) + list(batch.edge_msg)


def same(one: Batch, other: Batch) -> bool:
    pairs = zip(tensors_of(one), tensors_of(other), strict=True)
    return one.events == other.events and all(torch.equal(a, b) for a, b in pairs)


@settings(deadline=None)
@given(
    num_events=st.integers(1, 60), batch_size=st.integers(1, 70), start=st.integers(0, 59), length=st.integers(1, 60)
)
def test_batches_cut_a_range_of_events_into_slices(num_events, batch_size, start, length):
    data = random_stream(num_events)
    events = range(min(start, num_events - 1), min(start + length, num_events))
    batches = make(data, batch_size, events=events)
    ids = []
    for index in range(len(batches)):
        batch = batches.read(0, index)
        part = slice(batch.events.start, batch.events.stop)
        assert len(batch.events) == batch_size or index == len(batches) - 1
        for name in ("src", "dst", "t", "msg"):
            assert torch.equal(getattr(batch, name), data[name][part])
        ids += batch.events
    assert ids == list(events)


def test_the_last_batch_may_be_short():
    batches = make(random_stream(100), 16)
    assert [len(batches.read(0, index).events) for index in range(len(batches))] == [16] * 6 + [4]


def test_a_batch_larger_than_the_range_is_the_range():
    batches = make(random_stream(10), 16)
    assert (len(batches), batches.read(0, 0).events) == (1, range(10))


@pytest.mark.parametrize("index", [-1, 7, 10**9])
def test_there_are_no_batches_before_the_first_or_after_the_last(index):
    with pytest.raises(IndexError, match=f"batch {index} of 7"):
        make(random_stream(100), 16).read(0, index)


@pytest.mark.parametrize("cut_off", ["batch", "event"])
def test_a_batch_depends_on_its_epoch_and_number_alone(cut_off):
    data = random_stream(200)
    options = {"neighbors": (3, 2), "strategy": "uniform", "num_negatives": 2, "cut_off": cut_off}
    batches = make(data, **options)
    places = [(epoch, index) for epoch in range(3) for index in range(len(batches))]
    expected = {place: batches.read(*place) for place in places}

    random.Random(0).shuffle(places)
    fresh = make(data, **options)
    assert all(same(fresh.read(*place), expected[place]) for place in places)

    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda place: batches.read(*place), places * 2))
    assert all(same(batch, expected[place]) for place, batch in zip(places * 2, read, strict=True))


def test_epochs_and_batches_have_negatives_of_their_own():
    batches = make(random_stream(96))
    drawn = [
        tuple(batches.read(epoch, index).negatives.dst.view(-1).tolist()) for epoch in range(3) for index in range(6)
    ]
    assert len(set(drawn)) == len(drawn)


def test_uniform_neighbors_differ_between_epochs():
    batches = make(random_stream(200), strategy="uniform")
    last = len(batches) - 1
    assert not torch.equal(batches.read(0, last).sample.hops[0].e_id, batches.read(1, last).sample.hops[0].e_id)


def test_negatives_lie_in_the_range_of_the_destinations():
    data = random_stream(500)
    data.dst = data.dst % 5 + 4
    negatives = torch.cat([make(data, num_negatives=3).read(0, index).negatives.dst.view(-1) for index in range(31)])
    assert negatives.unique().tolist() == [4, 5, 6, 7, 8]


def test_queries_are_sources_destinations_and_negatives_in_this_order():
    batch = make(random_stream(100), num_negatives=3, neighbors=(2, 3)).read(0, 6)
    assert batch.negatives.dst.shape == (3, 4)
    # A query's row leads, through each hop's own target, to its node.
    row = batch.sample.seed
    for hop in batch.sample.hops:
        row = hop.target[row]
    assert torch.equal(batch.sample.n_id[row], torch.cat([batch.src, batch.dst, *batch.negatives.dst]))


@pytest.mark.parametrize("neighbors", [(4,), (3, 2)])
@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("msg_dim", [0, 3])
def test_edge_times_and_messages_are_those_of_the_edges_events(neighbors, cut_off, msg_dim):
    data = random_stream(msg_dim=msg_dim)
    batches = make(data, neighbors=neighbors, cut_off=cut_off)
    for index in range(len(batches)):
        batch = batches.read(0, index)
        assert len(batch.edge_time) == len(batch.edge_msg) == len(neighbors)
        for hop, time, msg in zip(batch.sample.hops, batch.edge_time, batch.edge_msg, strict=True):
            assert torch.equal(time, data.t[hop.e_id])
            assert torch.equal(msg, data.msg[hop.e_id])
            assert msg.shape == (*hop.e_id.shape, msg_dim)


def edges_by_query(batch: Batch) -> list[list[list[int]]]:
    """For each query and hop the events that it sees."""
    found = []
    for seed in batch.sample.seed.tolist():
        rows, of_query = [seed], []
        for hop in batch.sample.hops:
            of_query.append([e for row in rows for e in hop.e_id[row][hop.mask[row]].tolist()])
            rows = [r for row in rows for r in (int(hop.target[row]), *hop.neighbor[row][hop.mask[row]].tolist())]
        found.append(of_query)
    return found


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), hops=st.integers(1, 2), strategy=st.sampled_from(["recent", "uniform"]))
def test_with_cut_off_batch_nothing_of_the_batch_or_later_is_visible_and_all_before_is(seed, hops, strategy):
    data = random_stream(20, 4, seed=seed)
    batches = make(data, 4, neighbors=[40] * hops, strategy=strategy, cut_off="batch")
    for index in range(len(batches)):
        batch = batches.read(1, index)
        queries = torch.cat([batch.src, batch.dst, *batch.negatives.dst]).tolist()
        for node, (first, *further) in zip(queries, edges_by_query(batch), strict=True):
            ends = [(e, end) for e in range(batch.events.start) for end in (int(data.src[e]), int(data.dst[e]))]
            assert sorted(first) == [e for e, end in ends if end == node]
            assert all(e < batch.events.start for hop in further for e in hop)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), hops=st.integers(1, 2), strategy=st.sampled_from(["recent", "uniform"]))
def test_with_cut_off_event_a_query_sees_all_events_before_its_own_time_and_no_tie(seed, hops, strategy):
    data = random_stream(20, 4, seed=seed)
    batches = make(data, 4, neighbors=[40] * hops, strategy=strategy, cut_off="event", num_negatives=2)
    for index in range(len(batches)):
        batch = batches.read(1, index)
        queries = torch.cat([batch.src, batch.dst, *batch.negatives.dst]).tolist()
        for query, (node, (first, *further)) in enumerate(zip(queries, edges_by_query(batch), strict=True)):
            t = int(batch.t[query % len(batch.events)])
            ends = [(e, end) for e in range(20) for end in (int(data.src[e]), int(data.dst[e])) if int(data.t[e]) < t]
            assert sorted(first) == [e for e, end in ends if end == node]
            assert all(int(data.t[e]) < t for hop in further for e in hop)


@pytest.mark.parametrize("cut_off", ["batch", "event"])
def test_a_stream_whose_events_share_one_time_has_batches(cut_off):
    data = random_stream(50)
    data.t = torch.full_like(data.t, 1_700_000_000_000)
    seen = [int(batch.sample.hops[0].mask.sum()) for batch in map(make(data, cut_off=cut_off).read, [0] * 4, range(4))]
    assert seen[0] == 0
    assert all(seen[1:]) if cut_off == "batch" else not any(seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut_off": "Batch"}, "cut_off='Batch' is unknown; choose one of batch, event"),
        ({"batch_size": 0}, "batch_size=0; give at least 1"),
        ({"num_negatives": 0}, "num=0 negatives for each event; give at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(random_stream(), **options)


@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("num_negatives", [1, 3])
@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, 16), max_size=3), index=st.integers(0, 6), epoch=st.integers(0, 3))
def test_parts_of_a_batch_together_have_its_negatives_and_see_what_it_sees(cut_off, num_negatives, cuts, index, epoch):
    batches = make(random_stream(100), cut_off=cut_off, num_negatives=num_negatives)
    events = batches.events_of(index)
    whole = batches.read(epoch, index)
    edges = [events.start, *sorted(min(events.start + cut, events.stop) for cut in cuts), events.stop]
    parts = [batches.gather(batches.draw(range(start, stop), epoch, index, events)) for start, stop in pairwise(edges)]
    assert torch.equal(torch.cat([part.negatives.dst for part in parts], dim=1), whole.negatives.dst)
    for name in ("src", "dst", "t", "msg"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))

    def neighbours(batch):
        """Of each query in order, by kind of query and event: the events that it sees."""
        hop = batch.sample.hops[0]
        row = batch.sample.seed
        seen = [hop.e_id[r][hop.mask[r]].tolist() for r in row.tolist()]
        size = len(batch.events)
        return [seen[kind * size : (kind + 1) * size] for kind in range(2 + num_negatives)]

    together = [[seen for part in kind for seen in part] for kind in zip(*map(neighbours, parts), strict=True)]
    assert together == neighbours(whole)
    if cut_off == "batch":
        assert all(e_id < events.start for kind in together for seen in kind for e_id in seen)


@pytest.mark.parametrize("cut_off", ["batch", "event"])
def test_what_is_asked_is_up_to_the_caller_and_negatives_are_drawn_where_wanted(cut_off):
    data = random_stream(100)
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [3])
    batch = Batches(data, range(100), 16, sampler, ask=ask_sources, cut_off=cut_off).read(0, 3)
    assert batch.negatives.dst.shape == (0, 16)
    assert torch.equal(batch.sample.n_id[asked(batch)], batch.src)
    both = Batches(data, range(100), 16, sampler, cut_off=cut_off).read(0, 3)
    assert torch.equal(both.sample.n_id[asked(both)], torch.cat([batch.src, batch.dst]))


def asked(batch):
    """Positions in ``n_id`` of the nodes that were asked for."""
    return batch.sample.hops[0].target[batch.sample.seed]


@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("neighbors", [(), (3,), (3, 2)])
def test_a_batch_updates_both_ends_of_its_events_whatever_is_asked(neighbors, cut_off):
    data = random_stream(200, num_nodes=60)
    sampler = NeighborSampler(TemporalCSR.from_stream(data), neighbors)
    few, all_ = (Batches(data, range(200), 16, sampler, ask=ask, cut_off=cut_off) for ask in (ask_sources, ask_pairs))
    for index in range(len(few)):
        batch, both = few.read(0, index), all_.read(0, index)
        ends = torch.cat([batch.src, batch.dst]).unique()
        assert batch.n_id[batch.plan.committed].equal(ends)
        assert both.n_id[both.plan.committed].equal(ends)
        node = batch.sample.seed
        for hop in batch.sample.hops:
            node = hop.target[node]
        assert batch.n_id[node].equal(batch.src)
        # What a query sees is the same, whoever else is read.
        for one, other in zip(batch.sample.hops[-1:], both.sample.hops[-1:], strict=True):
            seen = {
                int(n): set(batch.n_id[row].tolist())
                for n, row in zip(batch.n_id[one.target], one.neighbor, strict=True)
            }
            whole = {
                int(n): set(both.n_id[row].tolist())
                for n, row in zip(both.n_id[other.target], other.neighbor, strict=True)
            }
            assert cut_off == "event" or all(whole[n] == neighbours for n, neighbours in seen.items())
