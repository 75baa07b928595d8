"""Batches as PyG's examples use them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe.data import DrawNegatives, FeatureStore, NegativeSampler, Positives, TensorFeatures
from pyg_mspipe.data.feature_store import read_to
from pyg_mspipe.data.negatives import negatives_for
from pyg_mspipe.data.tensor_tree import ship, with_index
from pyg_mspipe.graph import NeighborSampler


class TemporalBatches:
    """Batches as PyG's examples use them. A batch is a function of its epoch and number alone.

    Args:
        data: The stream, validated; on the CPU all of it but its messages, which may be elsewhere.
        events: The event ids that are cut into batches.
        batch_size: Events in a batch.
        sampler: Samples neighbours, over the same stream.
        negatives: Gives the negatives of each batch; a :class:`~pyg_mspipe.NegativeSampler` draws them for all events
            together. Without it there are none.
        neg_sampling_ratio: Negatives for each event, which a :class:`~pyg_mspipe.NegativeSampler` draws.
        device: Where batches are brought to.
        features: The features of the events; by default the stream's ``msg``.
        node_features: The features of the nodes, if there are any.
    """

    def __init__(
        self,
        data: TemporalData,
        events: range,
        batch_size: int,
        sampler: NeighborSampler,
        negatives: DrawNegatives | None,
        neg_sampling_ratio: float,
        device: torch.device,
        features: FeatureStore | None = None,
        node_features: FeatureStore | None = None,
    ) -> None:
        self.data = data
        self.events = events
        self.batch_size = batch_size
        self.sampler = sampler
        self.negatives = negatives
        self.neg_sampling_ratio = neg_sampling_ratio
        self.device = with_index(device)
        self.features = TensorFeatures(data.msg) if features is None else features
        self.node_features = node_features

    def __len__(self) -> int:
        """Returns the number of batches."""
        return -(-len(self.events) // self.batch_size)

    def events_of(self, index: int) -> range:
        """Returns the event ids of batch ``index``."""
        return self.events[index * self.batch_size : (index + 1) * self.batch_size]

    def draw(self, events: range, epoch: int, index: int) -> TemporalData:
        """Returns the events with ``neg_dst``, ``n_id``, ``edge_index`` and ``e_id`` (stage 1)."""
        batch = self.data[events.start : events.stop]
        batch.msg = torch.arange(events.start, events.stop, device=batch.src.device)  # until the rows are gathered
        nodes = [batch.src, batch.dst]
        if self.negatives is not None:
            nodes += self._add_negatives(
                batch, self.negatives, Positives.of(self.data, events, epoch=epoch, batch=index)
            )
        batch.n_id, batch.edge_index, batch.e_id = self.sampler(torch.cat(nodes), events.start, epoch=epoch)
        return batch

    def _add_negatives(self, batch: TemporalData, draw: DrawNegatives, positives: Positives) -> list[Tensor]:
        """Gives a batch its negatives, and returns their nodes."""
        device = batch.src.device
        if isinstance(draw, NegativeSampler):
            size = round(self.neg_sampling_ratio * len(positives))
            batch.neg_dst = draw.draw(size, epoch=positives.epoch, batch=positives.batch).to(device)
            return [batch.neg_dst]
        found = negatives_for(draw, positives, self.sampler.csr.num_nodes).to(device)
        # Event after event, without what is missing of some.
        each = found.dst.t()
        kept = (each >= 0).reshape(-1).nonzero().view(-1) if found.padded else torch.arange(each.numel(), device=device)
        batch.neg_event = kept.div(max(each.size(1), 1), rounding_mode="floor")
        batch.neg_dst = each.reshape(-1).index_select(0, kept)
        if found.src is None:
            return [batch.neg_dst]
        batch.neg_src = found.src.t().reshape(-1).index_select(0, kept)
        return [batch.neg_dst, batch.neg_src]

    def gather(self, batch: TemporalData) -> TemporalData:
        """Returns the batch with ``msg``, ``edge_time``, ``edge_attr`` and ``x``, on the device (stage 2)."""
        batch.edge_time = self.data.t.index_select(0, batch.e_id)
        ids, n_id = torch.cat([batch.msg, batch.e_id]), batch.n_id
        there = ids
        if self.device != ids.device:
            content, there = ship((batch.to_dict(), ids), self.device)
            for name, value in content.items():
                batch[name] = value
        rows = read_to(self.device, self.features, ids, there)
        batch.msg, batch.edge_attr = rows.split([batch.num_events, batch.e_id.numel()])
        if self.node_features is not None:
            batch.x = read_to(self.device, self.node_features, n_id, batch.n_id)
        return batch

    def as_of(self, batch: TemporalData, index: int, version: int) -> TemporalData:
        """Returns the batch: what waits for its nodes is stored with their memory, of whatever version."""
        return batch
