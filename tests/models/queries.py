"""Batches made by hand."""

from pyg_mspipe.pipeline import Batch


def batch_of(data, sample, events=range(0), neg_dst=None):
    """A batch with the neighbourhoods of ``sample``; by default of queries alone."""
    part = slice(events.start, events.stop)
    e_id = [hop.e_id for hop in sample.hops]
    edges = [tuple(data[name][each] for each in e_id) for name in ("t", "msg")]
    own = (data[name][part] for name in ("src", "dst", "t", "msg"))
    return Batch(events, *own, data.dst[:0].view(0, 0) if neg_dst is None else neg_dst.view(1, -1), sample, *edges)
