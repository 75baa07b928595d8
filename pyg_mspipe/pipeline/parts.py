"""Batches of evaluation, read in parts of bounded size where many queries are asked."""

from __future__ import annotations

from collections.abc import Iterator

from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.pipeline.batches import Batches

MOST_QUERIES = 2**15
"""Queries that are embedded at once; features of their neighbours are what takes memory."""


def read_parts(batches: Batches, index: int, most: int = MOST_QUERIES) -> Iterator[Batch]:
    """Yields parts of a batch of evaluation, gathered, each with the queries of some of its events.

    Together they ask what the batch asks, see what it sees and have its negatives; there is one alone if that asks for
    few nodes.

    Args:
        batches: The batches, read as epoch 0.
        index: The batch's number.
        most: How many queries a part may embed, if it has more than one event.
    """
    events = batches.events_of(index)
    negatives = batches.negatives_of(events, 0, index)
    rows = negatives.dst.size(0) * (1 if negatives.src is None else 2) + 2
    asked = rows * len(events)
    if batches.embed_once and not batches.reads_moment and batches.cut_off == "batch":
        asked = min(asked, batches.sampler.csr.num_nodes)
    step = len(events) if asked <= most else max(most // rows, 1)
    for first in range(events.start, events.stop, max(step, 1)):
        part = range(first, min(first + step, events.stop))
        yield batches.gather(batches.draw(part, 0, index, events, negatives=negatives))
