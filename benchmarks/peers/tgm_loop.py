"""TGM's TGN: its data, loader, hooks, memory, attention and decoder, put together as in its examples.

Needs the extra ``peers``. Sizes, optimizer, negatives and split are those of the other loops; the time encoder starts
as TGM's does, and neighbours must be earlier than the event itself and in an earlier batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any, Literal

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from tgm import DGBatch, DGraph
from tgm.constants import PADDED_NODE_ID
from tgm.data import DGData, DGDataLoader
from tgm.hooks import DeduplicationHook, HookManager, RecencyNeighborHook, StatefulHook
from tgm.nn import LinkPredictor, TGNMemory
from tgm.nn.encoder.tgn import GraphAttentionEmbedding, IdentityMessage, LastAggregator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from benchmarks.harness.measure import Scores
from benchmarks.harness.stages import Stage, untimed
from benchmarks.harness.workload import Workload
from benchmarks.peers.pyg_loop import DIM, LEARNING_RATE, NUM_NEIGHBORS
from pyg_mspipe import NegativeSampler

Part = Literal["train", "val"]


class Negatives(StatefulHook):
    """Gives each batch the negatives that all variants see."""

    requires = {"edge_src", "edge_dst", "edge_time"}  # noqa: RUF012 - as TGM's own hooks say it
    produces = {"neg", "neg_time"}  # noqa: RUF012

    def start(self, negatives: NegativeSampler, epoch: int) -> None:
        """Begins a pass."""
        self.negatives, self.epoch, self.batch = negatives, epoch, 0

    def __call__(self, dg: DGraph, batch: DGBatch) -> DGBatch:
        """Adds ``neg`` and ``neg_time``."""
        drawn = self.negatives(len(batch.edge_src), epoch=self.epoch, batch=self.batch)
        batch.neg, batch.neg_time = drawn.to(batch.edge_src.dtype), batch.edge_time.clone()
        self.batch += 1
        return batch

    def reset_state(self) -> None:
        """Does nothing: each pass says where it begins."""


class TGMLoop:
    """The training loop."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        sizes = (workload.msg_dim, DIM, DIM)
        message = IdentityMessage(*sizes)
        self.memory = TGNMemory(workload.num_nodes, *sizes, message_module=message, aggregator_module=LastAggregator())
        self.encoder = GraphAttentionEmbedding(DIM, DIM, workload.msg_dim, self.memory.time_enc)
        self.decoder = LinkPredictor(DIM, hidden_dim=DIM)
        self.modules = (self.memory, self.encoder, self.decoder)
        parameters = dict.fromkeys(p for module in self.modules for p in module.parameters())
        self.optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
        self.negatives = Negatives()
        self.hooks = HookManager(keys=["train", "val"])
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
        self.loaders = {"train": self._loader(workload.train), "val": self._loader(workload.val)}

    def train(self, epoch: int, stage: Stage = untimed) -> Iterator[float]:
        """Trains one pass over the training events from an empty memory, and yields the loss of each batch."""
        self._set_training(True)
        self.memory.reset_state()
        self.hooks.reset_state()
        for batch in self._batches("train", self.workload.negatives, epoch, stage):
            with stage("optimizer"):
                self.optimizer.zero_grad()
            pos, neg = self._predict(batch, stage)
            with stage("embedding"):
                loss = bce(pos, torch.ones_like(pos)) + bce(neg, torch.zeros_like(neg))
            self._take_in(batch, stage)
            with stage("backward"):
                loss.backward()
            with stage("optimizer"):
                self.optimizer.step()
                self.memory.detach()
            yield loss.item()

    @torch.no_grad()
    def evaluate(self) -> Scores:
        """Scores the validation events, going on from the memory that the last pass left behind."""
        self._set_training(False)
        aps, aucs = [], []
        for batch in self._batches("val", self.workload.val_negatives, 0, untimed):
            pos, neg = self._predict(batch, untimed)
            y_true = torch.cat([torch.ones(len(pos)), torch.zeros(len(neg))])
            y_pred = torch.cat([pos, neg]).sigmoid()
            aps.append(average_precision_score(y_true, y_pred))
            aucs.append(roc_auc_score(y_true, y_pred))
            self._take_in(batch, untimed)
        return Scores(ap=fmean(aps), auc=fmean(aucs))

    def _loader(self, events: range) -> Any:
        data = self.workload.data[events.start : events.stop]
        graph = DGData.from_raw(
            edge_time=data.t, edge_index=torch.stack([data.src, data.dst], dim=1).int(), edge_x=data.msg, time_delta="s"
        )
        return DGDataLoader(DGraph(graph), self.workload.batch_size, hook_manager=self.hooks)

    def _batches(self, part: Part, negatives: NegativeSampler, epoch: int, stage: Stage) -> Iterator[DGBatch]:
        self.negatives.start(negatives, epoch)
        batches = iter(self.loaders[part])
        while True:
            # A pass may be left and another one go on in between.
            self.hooks.set_active_hooks(part)
            with stage("sample"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _predict(self, batch: DGBatch, stage: Stage) -> tuple[Tensor, Tensor]:
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

    def _take_in(self, batch: DGBatch, stage: Stage) -> None:
        with stage("update"):
            self.memory.update_state(batch.edge_src, batch.edge_dst, batch.edge_time, batch.edge_x)

    def _set_training(self, mode: bool) -> None:
        for module in self.modules:
            module.train(mode)


def start(workload: Workload, seed: int) -> TGMLoop:
    """Returns the loop with TGM's own classes."""
    torch.manual_seed(seed)
    return TGMLoop(workload)
