"""Batches of evaluation: read ahead whole, or in parts of bounded size where many queries are asked."""

from __future__ import annotations

from collections.abc import Iterator

from pyg_mspipe.data.negatives import Negatives
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.pipeline.batches import Batches

MOST_QUERIES = 2**15
"""Queries that are embedded at once; features of their neighbours are what takes memory."""

MOST_PAIRS = 2**18
"""Pairs of which more than their nodes' embeddings is read at once."""


class EvaluationBatches:
    """A source of batches that are scored in order, each once.

    A batch that asks for too many nodes comes without queries from the pipeline, and :meth:`parts` reads its queries
    when it is its turn.

    Args:
        batches: The batches of the events; read as epoch 0.
        which: The batches to score; of the others only the memory's update is wanted.
        most: How many queries are embedded at once, where a part has more than one event.
    """

    def __init__(self, batches: Batches, which: range, most: int = MOST_QUERIES) -> None:
        self.batches = batches
        self.which = which
        self.most = most

    def __len__(self) -> int:
        """Returns the number of batches."""
        return len(self.batches)

    def events_of(self, index: int) -> range:
        """Returns the event ids of a batch."""
        return self.batches.events_of(index)

    def draw(self, events: range, epoch: int, index: int) -> Batch:
        """Returns the batch, with its queries if it is to be scored and does not ask too much (stage 1)."""
        if index in self.which:
            negatives = self.batches.negatives_of(events, epoch, index)
            if self._events_at_once(events, negatives) >= len(events):
                return self.batches.draw(events, epoch, index, negatives=negatives)
        return self.batches.without_queries(events)

    def gather(self, batch: Batch) -> Batch:
        """Returns the batch with the features of what was drawn (stage 2)."""
        return self.batches.gather(batch)

    def as_of(self, batch: Batch, index: int, version: int) -> Batch:
        """Returns the batch: its rows are read when it is scored, of the version that all commits before it made."""
        return batch

    def parts(self, index: int, batch: Batch) -> Iterator[Batch]:
        """Yields what is to be scored of a batch: the batch, or gathered parts with the queries of some of its events.

        Together the parts ask what the batch asks, see what it sees and have its negatives.

        Args:
            index: The batch's number.
            batch: What the pipeline has read of it.
        """
        if index not in self.which:
            return
        if batch.query_t.numel():
            yield batch
            return
        events = self.events_of(index)
        negatives = self.batches.negatives_of(events, 0, index)
        step = self._events_at_once(events, negatives)
        for first in range(events.start, events.stop, step):
            part = range(first, min(first + step, events.stop))
            yield self.batches.gather(self.batches.draw(part, 0, index, events, negatives=negatives))

    def _events_at_once(self, events: range, negatives: Negatives) -> int:
        """Returns how many of a batch's events may have their queries embedded together."""
        batches = self.batches
        each = negatives.dst.size(0) * (1 if negatives.src is None else 2) + 2
        asked = each * len(events)
        if batches.embed_once and not batches.reads_moment and batches.cut_off == "batch":
            asked = min(asked, batches.sampler.csr.num_nodes)
        step = max(len(events), 1) if asked <= self.most else max(self.most // each, 1)
        return step if batches.pairs is None else min(step, max(MOST_PAIRS // (negatives.dst.size(0) + 1), 1))
