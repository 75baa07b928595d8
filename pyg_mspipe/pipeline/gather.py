"""Stage 2: the features of what was drawn, brought to the device."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pyg_mspipe.data.feature_store import FeatureStore, read_to
from pyg_mspipe.data.tensor_tree import Fixed, ship, with_index
from pyg_mspipe.graph.pending_events import PendingEvents
from pyg_mspipe.memory.plan import MemoryPlan
from pyg_mspipe.pipeline.batch import Batch


class Gather:
    """Reads the features of a batch's events, edges and nodes.

    Args:
        t: Int64[E], the times of the stream's events, on its device.
        msg: The messages, a row for each event or more.
        node_features: The features of the nodes, a row for each, if there are any.
        device: Where batches are brought to.

    Raises:
        ValueError: If the number of messages is below that of events.
    """

    def __init__(self, t: Tensor, msg: FeatureStore, node_features: FeatureStore | None, device: torch.device) -> None:
        if msg.num_rows < t.numel():
            raise ValueError(f"msg has {msg.num_rows} rows and the stream {t.numel()} events; give one row for each")
        self.t = t
        self.msg = msg
        self.node_features = node_features
        self.device = with_index(device)

    def __call__(self, batch: Batch) -> Batch:
        """Returns ``batch`` with messages, of edges and pending events too, edge times and node features.

        Args:
            batch: Drawn.
        """
        hops, plan = batch.sample.hops, batch.plan
        events = torch.arange(batch.events.start, batch.events.stop, device=batch.src.device)
        pending = events[:0] if plan is None else plan.pending.e_id
        # All at once: a store on a disk has more requests to work on, and a GPU one copy to wait for.
        e_id = torch.cat([*(hop.e_id.view(-1) for hop in hops), events, pending])
        edge_time = tuple(self.t.index_select(0, hop.e_id.view(-1)).view_as(hop.e_id) for hop in hops)
        plan = None if plan is None else self._keeping(plan)
        batch = replace(batch, edge_time=edge_time, plan=plan)
        drawn = there = e_id, batch.n_id
        if self.device != e_id.device:
            batch, there = ship((batch, drawn), self.device)
        rows = self._read(self.msg, drawn[0], there[0])
        *edge_msg, msg, raw_msg = rows.split([*(hop.e_id.numel() for hop in hops), len(events), pending.numel()])
        return replace(
            batch,
            msg=msg,
            edge_msg=tuple(x.view(*hop.e_id.shape, self.msg.width) for x, hop in zip(edge_msg, hops, strict=True)),
            plan=None if batch.plan is None else batch.plan.with_raw_msg(raw_msg),
            x=None if self.node_features is None else self._read(self.node_features, drawn[1], there[1]),
        )

    def plan(self, plan: MemoryPlan) -> MemoryPlan:
        """Returns a plan on the device, with the messages of its pending events.

        Args:
            plan: Drawn.
        """
        there = ship(self._keeping(plan), self.device)
        return there.with_raw_msg(self._read(self.msg, plan.pending.e_id, there.pending.e_id))

    def messages_of(self, pending: PendingEvents) -> tuple[PendingEvents, Tensor]:
        """Returns events on the device, and their messages: Float32[M, msg_dim].

        Args:
            pending: ``M`` of them, beside the stream.
        """
        there = ship(pending, self.device)
        return there, self._read(self.msg, pending.e_id, there.e_id)

    def _keeping(self, plan: MemoryPlan) -> MemoryPlan:
        """Returns a plan that will know on another device what it was beside the stream."""
        return plan if plan.n_id.device == self.device else replace(plan, drawn=Fixed(plan))

    def _read(self, features: FeatureStore, ids: Tensor, there: Tensor) -> Tensor:
        return read_to(self.device, features, ids, there)
