"""Streams for tests of protocols, and what is true in them, by plain loops."""

import torch
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe.data import Positives


def stream_of(src, dst, t):
    src, dst, t = (torch.tensor(each, dtype=torch.long) for each in (src, dst, t))
    return TemporalData(src=src, dst=dst, t=t, msg=torch.zeros(len(t), 1))


@st.composite
def tied_streams(draw, *, most_nodes=8, least_events=6, most_events=40):
    """Streams full of ties and of events that happen twice; sources and destinations may be the same nodes or not."""
    num_events, num_nodes = draw(st.integers(least_events, most_events)), draw(st.integers(2, most_nodes))
    node = st.lists(st.integers(0, num_nodes - 1), min_size=num_events, max_size=num_events)
    src, dst = draw(node), draw(node)
    steps = draw(st.lists(st.integers(0, 2), min_size=num_events, max_size=num_events))
    offset = draw(st.sampled_from([0, num_nodes]))
    t = torch.tensor(steps).cumsum(0).tolist()
    return stream_of(src, [v + offset for v in dst], t)


@st.composite
def cuts(draw, data):
    """The first event after training, and the range of a batch after it."""
    num = data.num_events
    end_of_training = draw(st.integers(1, num - 3))
    start = draw(st.integers(end_of_training, num - 2))
    return end_of_training, range(start, draw(st.integers(start + 1, num)))


def positives_of(data, events, batch=0, epoch=0):
    return Positives.of(data, events, batch=batch, epoch=epoch)


def bipartite(num_events=600, num_src=25, num_dst=60, seed=0):
    """A stream with users who come back to items, ties, and items that are first seen after training."""
    generator = torch.Generator().manual_seed(seed)
    src = torch.randint(num_src, (num_events,), generator=generator)
    step = torch.randint(1, 9, (num_events,), generator=generator)
    late = torch.arange(num_events) * num_dst // num_events
    dst = num_src + torch.where(step > 3, (src * 7 + step) % num_dst, (late * step) % num_dst)
    t = torch.randint(num_events // 3, (num_events,), generator=generator).sort().values
    return TemporalData(src=src, dst=dst, t=t, msg=torch.zeros(num_events, 1))


def columns(negatives):
    """The negatives of each event as lists, without what is missing, which must stand at the end."""
    lists = []
    for column in negatives.dst.t().tolist():
        there = [x for x in column if x >= 0]
        assert column == there + [-1] * (len(column) - len(there))
        lists.append(there)
    assert negatives.padded or all(len(each) == negatives.dst.size(0) for each in lists)
    return lists


def pair_columns(negatives):
    """The pairs of each event as lists, without those that are missing."""
    lists = columns(negatives)
    sources = negatives.src.t().tolist()
    return [list(zip(src, dst, strict=False)) for src, dst in zip(sources, lists, strict=True)]


def true_of(data, u, t):
    """The destinations that a node truly meets at a time."""
    events = zip(data.src.tolist(), data.dst.tolist(), data.t.tolist(), strict=True)
    return {v for src, v, moment in events if (src, moment) == (u, t)}
