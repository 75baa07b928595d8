"""Stage 2: the features of what was drawn, brought to the device."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pyg_mspipe.data.feature_store import FeatureStore
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
        self.device = device

    def __call__(self, batch: Batch) -> Batch:
        """Returns ``batch`` with messages, of edges and pending events too, edge times and node features.

        Args:
            batch: Drawn.
        """
        hops = batch.sample.hops
        events = torch.arange(batch.events.start, batch.events.stop, device=batch.src.device)
        pending = events[:0] if batch.plan is None else batch.plan.pending.e_id
        e_id = torch.cat([*(hop.e_id.view(-1) for hop in hops), events, pending])
        # All at once: a store on a disk has more requests to work on, and a GPU one copy to wait for.
        rows = self.raw_msg(e_id)
        *edge_msg, msg, raw_msg = rows.split([*(hop.e_id.numel() for hop in hops), len(events), pending.numel()])
        batch = replace(
            batch,
            msg=msg,
            edge_time=tuple(self.t.index_select(0, hop.e_id.view(-1)).view_as(hop.e_id) for hop in hops),
            edge_msg=tuple(x.view(*hop.e_id.shape, self.msg.width) for x, hop in zip(edge_msg, hops, strict=True)),
            plan=None if batch.plan is None else batch.plan.with_raw_msg(raw_msg),
            x=None if self.node_features is None else self._read(self.node_features, batch.n_id),
        )
        return batch if self.device == batch.src.device else batch.to(self.device, non_blocking=True)

    def raw_msg(self, e_id: Tensor) -> Tensor:
        """Returns the messages of events, Float32[M, msg_dim], on the device.

        Args:
            e_id: Int64[M].
        """
        return self._read(self.msg, e_id)

    def _read(self, features: FeatureStore, ids: Tensor) -> Tensor:
        return features.read(ids).to(self.device, non_blocking=True).float()
