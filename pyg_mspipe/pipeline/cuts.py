"""Batches that begin wherever labels stand."""

from __future__ import annotations

from itertools import pairwise

from pyg_mspipe.data.labels import Labels


class Cuts:
    """Cuts ranges of events into batches, none of which goes past an event at which labels are asked for.

    Args:
        labels: The labels.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._last: tuple[tuple[range, int], list[int]] | None = None

    def __call__(self, events: range, batch_size: int) -> list[int]:
        """Returns where the batches of a range begin, and where the last ends.

        Args:
            events: The event ids.
            batch_size: The most events in a batch.
        """
        key = events, batch_size
        if self._last is None or self._last[0] != key:
            at = self._labels.event[self._labels.rows(events)].unique().tolist()
            edges = sorted({events.start, *at, events.stop})
            begins = [begin for edge, end in pairwise(edges) for begin in range(edge, end, batch_size)]
            self._last = key, [*begins, events.stop]
        return self._last[1]
