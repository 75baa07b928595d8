"""The event that waits as each node's message, looked up in the stream's history, without any state."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pyg_mspipe.graph.temporal_csr import TemporalCSR


@dataclass(frozen=True)
class PendingEvents:
    """The latest event of each of ``U`` nodes before a bound: the message that waits for the node.

    Attributes:
        valid: Bool[U], whether a node has such an event; the other fields mean nothing where it is false.
        e_id: Int64[U], the event; 0 where there is none.
        is_source: Bool[U], whether the node is the event's source; false for a self-loop, which counts as received.
        other: Int64[U], the node at the event's other end; any node where there is no event.
        t: Int64[U], time of the event; 0 where there is none.
    """

    valid: Tensor
    e_id: Tensor
    is_source: Tensor
    other: Tensor
    t: Tensor

    def select(self, position: Tensor) -> PendingEvents:
        """Returns the events of some of the nodes.

        Args:
            position: Int64[M], positions among the ``U`` nodes.
        """
        return PendingEvents(*(x.index_select(0, position) for x in vars(self).values()))


def pending_events(csr: TemporalCSR, src: Tensor, n_id: Tensor, bound: int, *, begin: int = 0) -> PendingEvents:
    """Returns the events that wait for nodes once all events below a bound are committed.

    A batch that touches a node applies the message that waits for the node, and leaves that of the node's last event.
    Ties in time are broken by the event id.

    Args:
        csr: The stream's history.
        src: Int64[E], the stream's sources.
        n_id: Int64[U]; nodes unknown to the history have no events.
        bound: The first event that is not committed.
        begin: The first event that the memory has seen.
    """
    n_id = n_id.clamp(max=csr.num_nodes)
    first, end = csr.history(n_id, bound)
    entry = (end - 1).clamp_(min=0)
    e_id = csr.key.index_select(0, entry) - n_id * csr.num_events
    valid = (end > first) & (e_id >= begin)
    e_id = e_id.masked_fill_(~valid, 0)
    other = csr.neighbor.index_select(0, entry)
    return PendingEvents(
        valid=valid,
        e_id=e_id,
        is_source=(src.index_select(0, e_id) == n_id) & (other != n_id),
        other=other,
        t=csr.t.index_select(0, e_id).masked_fill_(~valid, 0),
    )
