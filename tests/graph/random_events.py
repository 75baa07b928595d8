"""Random streams and their histories, the slow way."""

import torch
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

NUM_NODES = 6


@st.composite
def streams(draw, min_events=0, max_events=24):
    """A stream on a few nodes: self-loops, repeats, ties and nodes without any event all occur."""
    size = draw(st.integers(min_events, max_events))
    ends = st.lists(st.integers(0, NUM_NODES - 2), min_size=size, max_size=size)
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 7]), min_size=size, max_size=size))
    t = torch.tensor(gaps, dtype=torch.long).cumsum(0)
    return TemporalData(src=as_ids(draw(ends)), dst=as_ids(draw(ends)), t=t)


def as_ids(values):
    return torch.tensor(values, dtype=torch.long)


def history(data, node, bound):
    """All ``(e_id, neighbour)`` of a node with ``e_id`` below the bound, oldest first."""
    found = []
    for e_id, (src, dst) in enumerate(zip(data.src.tolist(), data.dst.tolist(), strict=True)):
        if e_id < bound:
            found += [(e_id, dst)] * (src == node) + [(e_id, src)] * (dst == node)
    return found


def recent(data, node, bound, k):
    """The last ``k`` of a node's history, most recent first."""
    return history(data, node, bound)[::-1][:k]
