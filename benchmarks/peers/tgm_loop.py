"""TGM's TGN: its data, loader, hooks, memory, attention and decoder, put together as in its examples.

Needs the extra ``peers``. Sizes, optimizer, negatives and split are those of the other loops; the time encoder starts
as TGM's does, and neighbours must be earlier than the event itself and in an earlier batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from tgm import DGBatch, DGraph
from tgm.constants import PADDED_NODE_ID
from tgm.data import DGData, DGDataLoader
from tgm.hooks import DeduplicationHook, HookManager, RecencyNeighborHook, StatefulHook
from tgm.nn import LinkPredictor, TGNMemory
from tgm.nn.encoder.tgn import GraphAttentionEmbedding, IdentityMessage, LastAggregator
from torch import Tensor

from benchmarks.harness.stages import Stage
from benchmarks.harness.workload import Workload
from benchmarks.peers.link_loop import DIM, NUM_NEIGHBORS, LinkLoop
from pyg_mspipe.data import NegativeSampler


class Negatives(StatefulHook):
    """Gives each batch the negatives that all variants see."""

    requires = {"edge_src", "edge_dst", "edge_time"}  # noqa: RUF012 - as TGM's own hooks say it
    produces = {"neg", "neg_time"}  # noqa: RUF012

    def start(self, negatives: NegativeSampler, epoch: int) -> None:
        """Begins a pass."""
        self.negatives, self.epoch, self.batch = negatives, epoch, 0

    def __call__(self, dg: DGraph, batch: DGBatch) -> DGBatch:
        """Adds ``neg`` and ``neg_time``."""
        drawn = self.negatives.draw(len(batch.edge_src), epoch=self.epoch, batch=self.batch)
        batch.neg, batch.neg_time = drawn.to(batch.edge_src.dtype), batch.edge_time.clone()
        self.batch += 1
        return batch

    def reset_state(self) -> None:
        """Does nothing: each pass says where it begins."""


class TGMLoop(LinkLoop[DGBatch]):
    """The loop around TGM's classes."""

    def __init__(self, workload: Workload) -> None:
        sizes = (workload.msg_dim, DIM, DIM)
        message = IdentityMessage(*sizes)
        memory = TGNMemory(workload.num_nodes, *sizes, message_module=message, aggregator_module=LastAggregator())
        self.encoder = GraphAttentionEmbedding(DIM, DIM, workload.msg_dim, memory.time_enc)
        self.decoder = LinkPredictor(DIM, hidden_dim=DIM)
        super().__init__(workload, memory, (self.encoder, self.decoder))
        self.negatives = Negatives()
        self.hooks = HookManager(keys=["all"])
        self.hooks.register_shared(self.negatives)
        self.hooks.register_shared(
            RecencyNeighborHook(
                num_nodes=workload.num_nodes,
                num_nbrs=[NUM_NEIGHBORS],
                seed_nodes_keys=["edge_src", "edge_dst", "neg"],
                seed_times_keys=["edge_time", "edge_time", "neg_time"],
            )
        )
        self.hooks.register_shared(DeduplicationHook())
        self.hooks.set_active_hooks("all")
        self.loaders = {events: self._loader(events) for events in (workload.train, workload.val)}

    def reset(self) -> None:
        """Forgets all neighbours."""
        self.hooks.reset_state()

    def batches(self, events: range, negatives: NegativeSampler, epoch: int, stage: Stage) -> Iterator[DGBatch]:
        """Yields what TGM's loader gives, its hooks applied."""
        self.negatives.start(negatives, epoch)
        batches = iter(self.loaders[events])
        while True:
            with stage("sample"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def predict(self, batch: DGBatch, stage: Stage) -> tuple[Tensor, Tensor]:
        """Returns the logits of a batch's events and of its negatives."""
        with stage("gather"):
            neighbors = batch.nbr_nids[0]
            valid = neighbors != PADDED_NODE_ID
            nodes = batch.seed_nids[0][:, None].expand_as(neighbors)
            local = batch.global_to_local
            edge_index = torch.stack([local(neighbors[valid]), local(nodes[valid])]).long()
            t, msg = batch.nbr_edge_time[0][valid], batch.nbr_edge_x[0][valid]
        with stage("memory"):
            z, last_update = self.memory(batch.unique_nids)
        with stage("embedding"):
            z = self.encoder(z, last_update, edge_index, t, msg)
            z_src, z_dst, z_neg = (z[local(each)] for each in (batch.edge_src, batch.edge_dst, batch.neg))
            return self.decoder(z_src, z_dst), self.decoder(z_src, z_neg)

    def take_in(self, batch: DGBatch, stage: Stage) -> None:
        """Updates memory; the loader's hooks have taken in the neighbours."""
        with stage("update"):
            self.memory.update_state(batch.edge_src, batch.edge_dst, batch.edge_time, batch.edge_x)

    def _loader(self, events: range) -> Any:
        device = self.workload.data.t.device
        data = self.workload.data[events.start : events.stop].cpu()
        edge_index = torch.stack([data.src, data.dst], dim=1).int()
        events_of = DGData.from_raw(edge_time=data.t, edge_index=edge_index, edge_x=data.msg, time_delta="s")
        graph = DGraph(events_of, device=device)
        return DGDataLoader(graph, self.workload.batch_size, hook_manager=self.hooks)


def start(workload: Workload, seed: int) -> TGMLoop:
    """Returns the loop with TGM's own classes."""
    torch.manual_seed(seed)
    return TGMLoop(workload)
