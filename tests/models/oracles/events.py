"""A stream as a list of events, and what loops over it find: histories, neighbours and events that wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import TemporalData


class Event(NamedTuple):
    """One event: its number in the stream, both ends, its time and its message, [F]."""

    e_id: int
    src: int
    dst: int
    t: int
    msg: Tensor

    def other_end(self, node: int) -> int:
        """Returns the end that is not ``node``; of a self-loop, ``node``."""
        return self.dst if node == self.src else self.src


class Query(NamedTuple):
    """A node that is to be embedded at the time of an event.

    Attributes:
        node: The node.
        e_id: The event, by its number in the stream.
        is_source: Whether the node is asked for as a source; negatives are asked for as destinations.
    """

    node: int
    e_id: int
    is_source: bool = True


class Stream:
    """The events of a stream.

    Args:
        data: ``src``, ``dst``, ``t`` and ``msg``, with ``t`` non-decreasing.
        num_nodes: Number of nodes.
        dtype: Of the messages, that of the parameters.
    """

    def __init__(self, data: TemporalData, num_nodes: int, dtype: torch.dtype = torch.float64) -> None:
        columns = (range(data.num_events), data.src.tolist(), data.dst.tolist(), data.t.tolist(), data.msg.to(dtype))
        self.events = [Event(*each) for each in zip(*columns, strict=True)]
        self.num_nodes = num_nodes
        self.msg_dim = data.msg.size(1)

    def history(self, node: int, bound: int) -> list[tuple[Event, int]]:
        """Returns a node's events with a number below the bound and their other ends, oldest first.

        A self-loop is there twice, as it is in ``TemporalCSR`` and in PyG's ``LastNeighborLoader``.
        """
        found = []
        for event in self.events[:bound]:
            if event.src == node:
                found.append((event, event.dst))
            if event.dst == node:
                found.append((event, event.src))
        return found

    def recent(self, node: int, bound: int, k: int) -> list[tuple[Event, int]]:
        """Returns the last ``k`` of a node's history before the bound, most recent first."""
        return self.history(node, bound)[::-1][:k]

    def last_event(self, node: int, begin: int, bound: int) -> Event | None:
        """Returns a node's event with the largest number in ``[begin, bound)``, or none.

        The number also decides between events of the same time.
        """
        found = None
        for event in self.events[begin:bound]:
            if node in (event.src, event.dst):
                found = event
        return found

    def touched(self, events: range) -> list[int]:
        """Returns the nodes of some events, each once, sorted."""
        found = set()
        for e_id in events:
            found |= {self.events[e_id].src, self.events[e_id].dst}
        return sorted(found)


def ask_pairs(stream: Stream, events: range, negatives: Sequence[Sequence[int]]) -> list[Query]:
    """Returns the queries of pairs in the package's order: all sources, all destinations, set after set of negatives.

    Args:
        stream: The stream.
        events: The batch's events.
        negatives: A list for each set, with a node for each event.
    """
    queries = [Query(stream.events[e_id].src, e_id) for e_id in events]
    queries += [Query(stream.events[e_id].dst, e_id, is_source=False) for e_id in events]
    for nodes in negatives:
        queries += [Query(node, e_id, is_source=False) for node, e_id in zip(nodes, events, strict=True)]
    return queries
