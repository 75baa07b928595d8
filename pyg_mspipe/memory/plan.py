"""What a batch reads and writes of node memory, decided ahead, from ids and times alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe.data.tensor_tree import Fixed, ship
from pyg_mspipe.graph.neighbor_sampler import NeighborSampler
from pyg_mspipe.graph.pending_events import PendingEvents, pending_events
from pyg_mspipe.graph.temporal_csr import TemporalCSR
from pyg_mspipe.memory.mailbox import MAIL, MAIL_TIME, RECEIVED
from pyg_mspipe.memory.rows import Read


@dataclass(frozen=True)
class Deliveries:
    """Which mail each of ``R`` nodes gets from a batch.

    Attributes:
        n_id: Int64[R], unique, sorted: who gets one.
        event: Int64[R], the mail's event, a position in the batch.
        own: Int64[R], the end of the event through which the mail comes, a position in ``MemoryPlan.n_id``.
        other: Int64[R], the other end of the event, likewise.
        now: Int64[1], the moment from which the batch looks back at mails, in the stream's unit.
    """

    n_id: Tensor
    event: Tensor
    own: Tensor
    other: Tensor
    now: Tensor


@dataclass(frozen=True)
class MemoryPlan:
    """The part of a batch that node memory takes, a pure function of the stream, the batch and where memory began.

    Attributes:
        n_id: Int64[U], unique, sorted: the nodes that the batch reads.
        pending: What waits for each of them.
        reads: Which rows are read, by the name that they get.
        committed: Int64[C], positions in ``n_id`` of the nodes that the batch's events touch.
        raw_msg: [U, msg_dim], the messages of the pending events; empty until they are gathered.
        deliveries: Which mails the batch delivers; none where nodes have no mailboxes.
        met: The batches before it with nodes that it reads too, by the event that each stops before: which rows of each
            read those are, and where they stand among the nodes of the other's commit, both Int64[H].
        t: The time of the batch's first event, or the stream's last one after that, in the stream's unit.
        drawn: The plan as it was drawn, beside the stream, where this one is on another device.
    """

    n_id: Tensor
    pending: PendingEvents
    reads: Mapping[str, Read]
    committed: Tensor
    raw_msg: Tensor
    deliveries: Deliveries | None = None
    met: Mapping[int, Mapping[str, tuple[Tensor, Tensor]]] = field(default_factory=dict)
    t: int = 0
    drawn: Fixed[MemoryPlan] | None = None

    def at(self, device: torch.device) -> MemoryPlan:
        """Returns the plan on a device; nothing is copied to where it was drawn.

        Args:
            device: The device.
        """
        if self.drawn is not None and self.drawn.value.n_id.device == device:
            return self.drawn.value
        return self if self.n_id.device == device else ship(self, device)

    def with_raw_msg(self, raw_msg: Tensor) -> MemoryPlan:
        """Returns the plan with the messages of its pending events.

        Args:
            raw_msg: [U, msg_dim].
        """
        return replace(self, raw_msg=raw_msg)


MakePlan = Callable[..., MemoryPlan]
"""Plans a batch, with the arguments of :func:`plan_last_message`."""


def plan_last_message(
    csr: TemporalCSR, data: TemporalData, events: range, n_id: Tensor, *, start: int, bound: int, begin: int
) -> MemoryPlan:
    """Returns the plan of a memory whose nodes keep their last message, which reads the rows at both its ends.

    Args:
        csr: The stream's history.
        data: The stream.
        events: The batch's events.
        n_id: Int64[U], unique, sorted: the nodes that the batch reads.
        start: The first event of the batch, or of the one that it is a part of.
        bound: The first event that is not committed when the rows are read.
        begin: The first event that the memory has seen.
    """
    pending = pending_events(csr, data.src, n_id, bound, begin=begin)
    return MemoryPlan(
        n_id=n_id,
        pending=pending,
        reads={
            "memory": Read("memory", n_id),
            "last_update": Read("last_update", n_id),
            "other": Read("memory", pending.other),
        },
        committed=_touched(n_id, data, events),
        raw_msg=torch.empty(0, 0),
    )


def plan_mails(
    csr: TemporalCSR,
    data: TemporalData,
    events: range,
    n_id: Tensor,
    *,
    start: int,
    bound: int,
    begin: int,
    fan_out: int,
) -> MemoryPlan:
    """Returns the plan of a memory whose events are mailed to both ends and to the recent neighbours of each.

    Of several mails for one node the last event's counts, and of one event the first of these roles: its source, its
    destination, a neighbour of its source, a neighbour of its destination.

    Args:
        csr: The stream's history.
        data: The stream.
        events: The batch's events.
        n_id: Int64[U], unique, sorted: the nodes that the batch reads, both ends of its events among them.
        start: The first event of the batch, or of the one that it is a part of; neighbours are those before it.
        bound: Not used: all that was committed is in the rows.
        begin: Not used.
        fan_out: How many neighbours of an end get a mail.
    """
    part = slice(events.start, events.stop)
    src, dst = data.src[part], data.dst[part]
    near = NeighborSampler(csr, [fan_out]).sample(torch.cat([src, dst]), start)
    hop = near.hops[0]
    neighbor = near.n_id[hop.neighbor].index_select(0, near.seed)
    # Roles from the least to the most; a place without a neighbour stands for the end itself, which the end outdoes.
    number = torch.arange(src.numel(), device=src.device) * 4
    role = [(neighbor[src.numel() :], 0), (neighbor[: src.numel()], 1), (dst.unsqueeze(1), 2), (src.unsqueeze(1), 3)]
    node = torch.cat([nodes.reshape(-1) for nodes, _ in role])
    rank = torch.cat([(number + k).unsqueeze(1).expand_as(nodes).reshape(-1) for nodes, k in role])
    recipient, place = node.unique(return_inverse=True)
    best = torch.zeros_like(recipient).scatter_reduce_(0, place, rank, "amax")
    event, to_source = best // 4, best % 2 == 1
    source, destination = (torch.searchsorted(n_id, x).index_select(0, event) for x in (src, dst))
    none = n_id[:0]
    last = data.num_events - 1
    return MemoryPlan(
        n_id=n_id,
        pending=PendingEvents(none.bool(), none, none.bool(), none, none),
        reads={name: Read(name, n_id) for name in ("memory", "last_update", MAIL, MAIL_TIME, RECEIVED)},
        committed=_touched(n_id, data, events),
        raw_msg=torch.empty(0, 0),
        deliveries=Deliveries(
            n_id=recipient,
            event=event,
            own=torch.where(to_source, source, destination),
            other=torch.where(to_source, destination, source),
            now=data.t[min(start, last) : min(start, last) + 1],
        ),
    )


def with_meetings(plan: MemoryPlan, data: TemporalData, before: Iterable[range]) -> MemoryPlan:
    """Returns a plan that knows what it reads of the nodes that batches before it write, see :attr:`MemoryPlan.met`.

    All is on the CPU.

    Args:
        plan: The plan.
        data: The stream.
        before: The events of these batches.
    """
    distinct = {id(read.n_id): read.n_id.numpy() for read in plan.reads.values()}
    src, dst = data.src.numpy(), data.dst.numpy()
    met = {}
    for events in before:
        part = slice(events.start, events.stop)
        n_id = np.unique(np.concatenate([src[part], dst[part]]))
        found = {which: _found(ids, n_id) for which, ids in distinct.items()}
        met[events.stop] = {name: found[id(read.n_id)] for name, read in plan.reads.items()}
    return replace(plan, met=met)


def _found(nodes: NDArray[np.int64], n_id: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Returns the same as :func:`~pyg_mspipe.memory.rows.find`, of small arrays, which numpy is quicker with."""
    position = np.minimum(n_id.searchsorted(nodes), n_id.size - 1)
    (which,) = (n_id.take(position) == nodes).nonzero()
    return torch.from_numpy(which), torch.from_numpy(position.take(which))


def _touched(n_id: Tensor, data: TemporalData, events: range) -> Tensor:
    """Returns the positions in ``n_id`` of the ends of events: Int64[C]."""
    part = slice(events.start, events.stop)
    touched = torch.zeros_like(n_id, dtype=torch.bool)
    touched.index_fill_(0, torch.searchsorted(n_id, torch.cat([data.src[part], data.dst[part]])), True)
    return touched.nonzero().view(-1)
