"""What a batch reads and writes of node memory, decided ahead, from ids and times alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe.graph.pending_events import PendingEvents, pending_events
from pyg_mspipe.graph.temporal_csr import TemporalCSR
from pyg_mspipe.memory.rows import Read


@dataclass(frozen=True)
class MemoryPlan:
    """The part of a batch that node memory takes, a pure function of the stream, the batch and where memory began.

    Attributes:
        n_id: Int64[U], unique, sorted: the nodes that the batch reads.
        pending: What waits for each of them.
        reads: Which rows are read, by the name that they get.
        committed: Int64[C], positions in ``n_id`` of the nodes that the batch's events touch.
        raw_msg: [U, msg_dim], the messages of the pending events; empty until they are gathered.
    """

    n_id: Tensor
    pending: PendingEvents
    reads: Mapping[str, Read]
    committed: Tensor
    raw_msg: Tensor

    def to(self, device: torch.device, *, non_blocking: bool = False) -> MemoryPlan:
        """Returns the same on ``device``; with ``non_blocking`` it need not be there yet (see ``torch.Tensor.to``)."""

        def moved(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=non_blocking)

        return MemoryPlan(
            n_id=moved(self.n_id),
            pending=self.pending.to(device, non_blocking=non_blocking),
            reads={name: read._replace(n_id=moved(read.n_id)) for name, read in self.reads.items()},
            committed=moved(self.committed),
            raw_msg=moved(self.raw_msg),
        )

    def with_raw_msg(self, raw_msg: Tensor) -> MemoryPlan:
        """Returns the plan with the messages of its pending events.

        Args:
            raw_msg: [U, msg_dim].
        """
        return replace(self, raw_msg=raw_msg)


def plan_last_message(
    csr: TemporalCSR, data: TemporalData, events: range, n_id: Tensor, *, bound: int, begin: int
) -> MemoryPlan:
    """Returns the plan of a memory whose nodes keep their last message, which reads the rows at both its ends.

    Args:
        csr: The stream's history.
        data: The stream.
        events: The batch's events.
        n_id: Int64[U], unique, sorted: the nodes that the batch reads.
        bound: The first event that is not committed when the rows are read.
        begin: The first event that the memory has seen.
    """
    pending = pending_events(csr, data.src, n_id, bound, begin=begin)
    part = slice(events.start, events.stop)
    touched = torch.zeros_like(n_id, dtype=torch.bool)
    touched.index_fill_(0, torch.searchsorted(n_id, torch.cat([data.src[part], data.dst[part]])), True)
    return MemoryPlan(
        n_id=n_id,
        pending=pending,
        reads={
            "memory": Read("memory", n_id),
            "last_update": Read("last_update", n_id),
            "other": Read("memory", pending.other),
        },
        committed=touched.nonzero().view(-1),
        raw_msg=torch.empty(0, 0),
    )
