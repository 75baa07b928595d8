from bisect import bisect_left

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_events import NUM_NODES, as_ids, history, streams
from torch_geometric.data import TemporalData

from pyg_mspipe.graph import TemporalCSR


@settings(deadline=None)
@given(data=streams())
def test_the_history_of_every_node_before_every_event_is_that_of_a_scan(data):
    csr = TemporalCSR.from_stream(data, NUM_NODES)
    for bound in range(data.num_events + 1):
        begin, end = csr.history(torch.arange(NUM_NODES), bound)
        for node in range(NUM_NODES):
            entries = slice(int(begin[node]), int(end[node]))
            e_id = csr.key[entries] - node * csr.num_events
            found = list(zip(e_id.tolist(), csr.neighbor[entries].tolist(), strict=True))
            assert found == history(data, node, bound)


@settings(deadline=None)
@given(data=streams(min_events=1), choices=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 24)), min_size=1))
def test_every_query_may_have_a_bound_of_its_own(data, choices):
    csr = TemporalCSR.from_stream(data, NUM_NODES)
    node = as_ids([node for node, _ in choices])
    bound = as_ids([bound for _, bound in choices]).clamp(max=data.num_events)
    begin, end = csr.history(node, bound)
    expected = [len(history(data, *query)) for query in zip(node.tolist(), bound.tolist(), strict=True)]
    assert (end - begin).tolist() == expected


@settings(deadline=None)
@given(data=streams(), queries=st.lists(st.integers(-2, 100), max_size=8))
def test_events_below_the_first_at_a_time_are_strictly_before_it(data, queries):
    csr = TemporalCSR.from_stream(data, NUM_NODES)
    assert csr.first_event_at(as_ids(queries)).tolist() == [bisect_left(data.t.tolist(), t) for t in queries]


@pytest.mark.parametrize(("num_events", "num_nodes"), [(0, 4), (1, 2), (1000, 50)])
def test_an_event_takes_32_bytes_and_a_node_8(num_events, num_nodes):
    ends = torch.arange(num_events) % num_nodes
    csr = TemporalCSR.from_stream(TemporalData(src=ends, dst=ends, t=torch.arange(num_events)), num_nodes)
    assert csr.nbytes == 32 * num_events + 8 * (num_nodes + 1)
    assert (csr.num_events, csr.num_nodes) == (num_events, num_nodes)


def test_the_number_of_nodes_is_the_largest_id_plus_one_unless_it_is_given():
    data = TemporalData(src=as_ids([0, 7]), dst=as_ids([3, 1]), t=as_ids([0, 0]))
    assert TemporalCSR.from_stream(data).num_nodes == 8
    assert TemporalCSR.from_stream(data, 11).num_nodes == 11


def test_ids_of_32_bits_do_not_overflow():
    src = torch.arange(60_000, dtype=torch.int32)
    narrow = TemporalData(src=src, dst=src.flip(0), t=torch.arange(60_000))
    wide = TemporalData(src=src.long(), dst=src.long().flip(0), t=torch.arange(60_000))
    expected = TemporalCSR.from_stream(wide)
    assert bool((expected.key.diff() > 0).all())
    assert torch.equal(TemporalCSR.from_stream(narrow).key, expected.key)


def test_a_copy_on_another_device_holds_the_same_history():
    data = TemporalData(src=as_ids([0, 2, 2]), dst=as_ids([1, 1, 2]), t=as_ids([4, 4, 9]))
    csr = TemporalCSR.from_stream(data)
    copy = csr.to("cpu")
    assert copy.device == csr.device == torch.device("cpu")
    assert all(torch.equal(x, y) for x, y in zip(vars(copy).values(), vars(csr).values(), strict=True))
    assert csr.to("meta").device.type == "meta"


@pytest.mark.parametrize(
    ("t", "message"),
    [
        ([5, 9, 4, 3], "event 2: t decreases from 9 to 4; sort the stream or load it with sort=True"),
        ([0.5, 1.75, 1.5, 1.5], r"event 2: t decreases from 1\.75 to 1\.5; sort"),
    ],
)
def test_decreasing_times_are_refused(t, message):
    ends = as_ids([0, 1, 2, 3])
    with pytest.raises(ValueError, match=message):
        TemporalCSR.from_stream(TemporalData(src=ends, dst=ends, t=torch.tensor(t)))


@pytest.mark.parametrize("end", ["src", "dst"])
def test_ids_beyond_the_number_of_nodes_are_refused(end):
    ends = {"src": as_ids([0, 1]), "dst": as_ids([0, 1])} | {end: as_ids([0, 5])}
    with pytest.raises(ValueError, match="node 5 is not below num_nodes=5; pass a larger num_nodes"):
        TemporalCSR.from_stream(TemporalData(**ends, t=as_ids([0, 1])), num_nodes=5)
