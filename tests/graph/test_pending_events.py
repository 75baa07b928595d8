import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe.graph import TemporalCSR, pending_events

NUM_NODES = 6


@st.composite
def streams(draw):
    """A stream with self-loops, repeats and ties, nodes in both roles, and one node without events."""
    nodes = st.integers(0, NUM_NODES - 2)
    ends = draw(st.lists(st.tuples(nodes, nodes, st.integers(0, 2)), min_size=1, max_size=30))
    src, dst, gaps = torch.tensor(ends).unbind(1)
    return TemporalData(src=src, dst=dst, t=gaps.cumsum(0))


@settings(deadline=None)
@given(streams(), st.data())
def test_what_waits_is_the_last_event_of_a_node_between_the_memorys_begin_and_the_bound(data, draw):
    begin = draw.draw(st.integers(0, data.num_events))
    bound = draw.draw(st.integers(begin, data.num_events))
    csr = TemporalCSR.from_stream(data, NUM_NODES)
    n_id = torch.randperm(NUM_NODES + 1)  # the last one is past the history's nodes
    found = pending_events(csr, data.src, n_id, bound, begin=begin)
    src, dst, t = (data[name].tolist() for name in ("src", "dst", "t"))
    for row, node in enumerate(n_id.tolist()):
        own = [event for event in range(begin, bound) if node in (src[event], dst[event])]
        assert bool(found.valid[row]) == bool(own)
        if not own:
            assert (int(found.e_id[row]), int(found.t[row])) == (0, 0)
            continue
        last = own[-1]
        is_source = src[last] == node and dst[last] != node
        other = dst[last] if src[last] == node else src[last]
        fields = (found.e_id, found.is_source, found.other, found.t)
        assert tuple(field[row].item() for field in fields) == (last, is_source, other, t[last])
