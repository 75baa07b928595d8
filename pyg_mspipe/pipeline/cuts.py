"""Where the batches of a range of events begin and end."""

from __future__ import annotations

from itertools import pairwise

from pyg_mspipe.data.labels import Labels


class Cuts:
    """Cuts ranges of events into batches, none of which goes past an event at which labels are asked for.

    Args:
        labels: The labels; none if batches are as large as they may be wherever labels stand.
    """

    def __init__(self, labels: Labels | None) -> None:
        self._labels = labels
        self._last: tuple[tuple[range, int], list[int]] | None = None

    def count(self, events: range, batch_size: int) -> int:
        """Returns how many batches a range has.

        Args:
            events: The event ids.
            batch_size: The most events in a batch.
        """
        if self._labels is None:
            return -(-len(events) // batch_size)
        return len(self._edges(self._labels, events, batch_size)) - 1

    def batch(self, events: range, batch_size: int, index: int) -> range:
        """Returns the event ids of one batch of a range.

        Args:
            events: The event ids of all.
            batch_size: The most events in a batch.
            index: Its number.

        Raises:
            IndexError: If there is no such batch.
        """
        count = self.count(events, batch_size)
        if not 0 <= index < count:
            raise IndexError(f"batch {index} of {count}")
        if self._labels is None:
            start = events.start + index * batch_size
            return range(start, min(start + batch_size, events.stop))
        return range(*self._edges(self._labels, events, batch_size)[index : index + 2])

    def _edges(self, labels: Labels, events: range, batch_size: int) -> list[int]:
        """Returns where the batches begin, and where the last ends."""
        key = events, batch_size
        if self._last is None or self._last[0] != key:
            at = labels.event[labels.rows(events)].unique().tolist()
            edges = sorted({events.start, *at, events.stop})
            begins = [begin for edge, end in pairwise(edges) for begin in range(edge, end, batch_size)]
            self._last = key, [*begins, events.stop]
        return self._last[1]
