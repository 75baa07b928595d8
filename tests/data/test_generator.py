import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pyg_mspipe.data import (
    NegativeSampler,
    StreamError,
    check_stream,
    find_problems,
    split_stream,
    summarize,
    synthetic,
)
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.tasks import Baselines, evaluate_baselines


def test_the_arguments_decide_the_stream():
    first, again, other = synthetic(500, seed=1), synthetic(500, seed=1), synthetic(500, seed=2)
    assert all(torch.equal(first[name], again[name]) for name in ("src", "dst", "t", "msg"))
    assert not torch.equal(first.dst, other.dst)


def test_it_is_in_the_form_that_the_check_gives():
    data = synthetic(2000)
    checked = check_stream(data)
    assert all(checked[name] is data[name] for name in ("src", "dst", "t", "msg"))
    assert data.msg.shape == (2000, 32)
    assert "y" not in data


@pytest.mark.parametrize(("num_events", "num_src", "num_dst"), [(1, 1, 1), (7, 1, 100), (300, 50, 1), (300, 3, 41)])
def test_every_size_works_and_ids_stay_in_their_ranges(num_events, num_src, num_dst):
    data = synthetic(num_events, num_src=num_src, num_dst=num_dst, msg_dim=0, labels=True)
    assert find_problems(data) == []
    assert data.num_events == num_events
    assert data.msg.shape == (num_events, 0)
    assert 0 <= int(data.src.min()) <= int(data.src.max()) < num_src
    assert num_src <= int(data.dst.min()) <= int(data.dst.max()) < num_src + num_dst


def test_without_bipartite_nodes_have_both_roles():
    data = synthetic(20_000, num_src=100, num_dst=100, bipartite=False)
    summary = summarize(data)
    assert not summary.bipartite
    assert summary.num_nodes == 100
    assert summary.num_self_loops > 0


def test_activity_of_sources_follows_a_power_law_and_that_of_destinations_does_not():
    data = synthetic()
    sources, destinations = (torch.bincount(ids)[ids.min() :].sort().values for ids in (data.src, data.dst))
    busiest_share = [float(counts[-10:].sum() / counts.sum()) for counts in (sources, destinations)]
    assert busiest_share[0] > 0.15
    assert busiest_share[1] < 0.04


def test_sources_return_to_what_they_used_last():
    data = synthetic()
    last: dict[int, list[int]] = {}
    returns = 0
    for src, dst in zip(data.src.tolist(), data.dst.tolist(), strict=True):
        returns += dst in last.setdefault(src, [])[-8:]
        last[src].append(dst)
    assert 0.5 < returns / data.num_events < 0.8


def test_interests_drift():
    data = synthetic(20_000, num_src=20, num_dst=1000)
    busiest = int(torch.bincount(data.src).argmax())
    used = data.dst[data.src == busiest]
    early, late = set(used[: len(used) // 10].tolist()), set(used[-len(used) // 10 :].tolist())
    assert len(early & late) < 0.5 * min(len(early), len(late))


def test_the_destinations_of_one_interest_are_those_of_one_community():
    data = synthetic(50_000, labels=True)
    turns: dict[int, int] = {}
    interests = []
    for src, turned in zip(data.src.tolist(), data.y.tolist(), strict=True):
        turns[src] = turns.get(src, 0) + turned
        interests.append(src * 1000 + turns[src])
    # destinations that meet in an interest are linked; what hangs together are the communities
    ends = (interests, (data.dst - 1000).tolist())
    links = coo_array((np.ones(data.num_events), ends), shape=(10**6, 1000)).tocsr()
    _, community = connected_components(links.T @ links, directed=False)
    assert np.bincount(community).tolist() == [40] * 25


def test_labels_mark_the_turn_to_another_interest():
    data = synthetic(20_000, num_src=50, labels=True)
    assert 0.01 < float(data.y.float().mean()) < 0.05
    # features tell the community: at a turn they lie far from those of the source's event before
    jumps = torch.zeros(data.num_events)
    for src in range(50):
        events = (data.src == src).nonzero().flatten()
        jumps[events[1:]] = (data.msg[events[1:]] - data.msg[events[:-1]]).norm(dim=1)
    assert float(jumps[data.y == 1].median()) > 1.5 * float(jumps[(data.y == 0) & (jumps > 0)].median())


@pytest.mark.parametrize("seed", range(3))
def test_popularity_tells_little_about_the_next_destination_but_the_past_of_the_source_much(seed):
    data = synthetic(seed=seed)
    events = split_stream(data).val
    negatives = NegativeSampler.from_destinations(data.dst, seed=seed)
    batches = Batches(data, events, 200, NeighborSampler(TemporalCSR.from_stream(data), []), negatives)
    found = evaluate_baselines(Baselines.of(data, split_stream(data).train), batches)
    assert 0.48 < found["popularity"].ap_micro < 0.6
    drawn = negatives.draw(len(events), epoch=0, batch=0)
    pairs = set(zip(data.src[: events.start].tolist(), data.dst[: events.start].tolist(), strict=True))
    sources = data.src[events.start : events.stop].tolist()
    known = [
        np.mean([pair in pairs for pair in zip(sources, dst.tolist(), strict=True)])
        for dst in (data.dst[events.start : events.stop], drawn)
    ]
    assert known[0] > 0.2
    assert known[1] < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_events": 0}, "num_events is 0; give at least 1"),
        ({"num_dst": -3}, "num_dst is -3; give at least 1"),
        ({"msg_dim": -1}, "msg_dim is -1; give at least 0"),
        ({"seed": -1}, "seed is -1; give at least 0"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(StreamError, match=message):
        synthetic(**options)
