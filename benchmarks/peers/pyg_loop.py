"""TGN as PyG users train it: PyG's memory, neighbour loader and attention, one batch after the other.

The procedure of PyG's ``examples/tgn.py``. It draws no negatives of its own, so that every variant sees the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Protocol

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torch.nn import Linear, Module, Parameter
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch_geometric.data import TemporalData
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader, TGNMemory

from benchmarks.harness.measure import Scores
from benchmarks.harness.stages import Stage, untimed
from benchmarks.harness.workload import Workload

DIM = 100  # of memory, time encoding and embedding
NUM_NEIGHBORS = 10
HEADS = 2
DROPOUT = 0.1
LEARNING_RATE = 1e-4


class GraphAttention(Module):
    """One layer of attention over sampled neighbours, with time and message as edge features."""

    def __init__(self, msg_dim: int, time_enc: Module, dropout: float) -> None:
        super().__init__()
        self.time_enc = time_enc
        self.conv = TransformerConv(DIM, DIM // HEADS, heads=HEADS, dropout=dropout, edge_dim=msg_dim + DIM)

    def forward(self, z: Tensor, last_update: Tensor, edge_index: Tensor, t: Tensor, msg: Tensor) -> Tensor:
        """Returns the embedding of each of the nodes whose memory is ``z``: [U, DIM]."""
        elapsed = last_update[edge_index[0]] - t
        edge_attr = torch.cat([self.time_enc(elapsed.to(z.dtype)), msg], dim=-1)
        out: Tensor = self.conv(z, edge_index, edge_attr)
        return out


class LinkPredictor(Module):
    """Scores pairs of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.lin_src = Linear(DIM, DIM)
        self.lin_dst = Linear(DIM, DIM)
        self.lin_final = Linear(DIM, 1)

    def forward(self, z_src: Tensor, z_dst: Tensor) -> Tensor:
        """Returns the logit of each pair: [B, 1]."""
        out: Tensor = self.lin_final((self.lin_src(z_src) + self.lin_dst(z_dst)).relu())
        return out


class Memory(Protocol):
    """What the loop asks of a node memory; PyG's ``TGNMemory`` has it."""

    @property
    def time_enc(self) -> Module: ...
    def __call__(self, n_id: Tensor) -> tuple[Tensor, Tensor]: ...
    def update_state(self, src: Tensor, dst: Tensor, t: Tensor, raw_msg: Tensor) -> None: ...
    def reset_state(self) -> None: ...
    def detach(self) -> None: ...
    def train(self, mode: bool = True) -> object: ...
    def parameters(self) -> Iterator[Parameter]: ...
    def named_parameters(self) -> Iterator[tuple[str, Parameter]]: ...


class Neighbors(Protocol):
    """What the loop asks of a neighbour sampler; PyG's ``LastNeighborLoader`` is fed batch by batch."""

    def sample(self, n_id: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns ``n_id: Int64[U]``, ``edge_index: Int64[2, M]`` and ``e_id: Int64[M]``, of events below ``first``."""
        ...

    def insert(self, src: Tensor, dst: Tensor) -> None:
        """Takes the batch's events in."""
        ...

    def reset_state(self) -> None:
        """Forgets all events."""
        ...


class LastNeighbors(LastNeighborLoader):
    """PyG's sampler; the events that it was fed are those below ``first``."""

    def sample(self, n_id: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what PyG's sampler returns."""
        out: tuple[Tensor, Tensor, Tensor] = self(n_id)
        return out


class TGNLoop:
    """The training loop, around any memory and sampler that look like PyG's."""

    def __init__(self, workload: Workload, memory: Memory, neighbors: Neighbors, dropout: float = DROPOUT) -> None:
        self.workload = workload
        self.memory = memory
        self.neighbors = neighbors
        self.gnn = GraphAttention(workload.msg_dim, memory.time_enc, dropout)
        self.link_pred = LinkPredictor()
        modules = (memory, self.gnn, self.link_pred)
        # The time encoder belongs to two of them.
        parameters = dict.fromkeys(p for module in modules for p in module.parameters())
        self.optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
        self.local = torch.empty(workload.num_nodes, dtype=torch.long)

    def train(self, epoch: int, stage: Stage = untimed) -> Iterator[float]:
        """Trains one pass over the training events from an empty memory, and yields the loss of each batch."""
        work = self.workload
        self._set_training(True)
        self.memory.reset_state()
        self.neighbors.reset_state()
        for i, events in enumerate(work.batches(work.train)):
            with stage("load"):
                batch = work.data[events.start : events.stop]
                neg_dst = work.negatives(len(events), epoch=epoch, batch=i)
                n_id = torch.cat([batch.src, batch.dst, neg_dst]).unique()
            with stage("optimizer"):
                self.optimizer.zero_grad()
            pos, neg = self._predict(batch, neg_dst, n_id, events.start, stage)
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
        work = self.workload
        self._set_training(False)
        aps, aucs = [], []
        for i, events in enumerate(work.batches(work.val)):
            batch = work.data[events.start : events.stop]
            neg_dst = work.val_negatives(len(events), epoch=0, batch=i)
            n_id = torch.cat([batch.src, batch.dst, neg_dst]).unique()
            pos, neg = self._predict(batch, neg_dst, n_id, events.start, untimed)
            y_true = torch.cat([torch.ones(len(pos)), torch.zeros(len(neg))])
            y_pred = torch.cat([pos, neg]).sigmoid()
            aps.append(average_precision_score(y_true, y_pred))
            aucs.append(roc_auc_score(y_true, y_pred))
            self._take_in(batch, untimed)
        return Scores(ap=fmean(aps), auc=fmean(aucs))

    def _predict(
        self, batch: TemporalData, neg_dst: Tensor, n_id: Tensor, first: int, stage: Stage
    ) -> tuple[Tensor, Tensor]:
        data = self.workload.data
        with stage("sample"):
            n_id, edge_index, e_id = self.neighbors.sample(n_id, first)
            self.local[n_id] = torch.arange(n_id.numel())
        with stage("gather"):
            t, msg = data.t[e_id], data.msg[e_id]
        with stage("memory"):
            z, last_update = self.memory(n_id)
        with stage("embedding"):
            z = self.gnn(z, last_update, edge_index, t, msg)
            z_src, z_dst, z_neg = z[self.local[batch.src]], z[self.local[batch.dst]], z[self.local[neg_dst]]
            return self.link_pred(z_src, z_dst), self.link_pred(z_src, z_neg)

    def _take_in(self, batch: TemporalData, stage: Stage) -> None:
        with stage("update"):
            self.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        with stage("sample"):
            self.neighbors.insert(batch.src, batch.dst)

    def _set_training(self, mode: bool) -> None:
        for module in (self.memory, self.gnn, self.link_pred):
            module.train(mode)


def start(workload: Workload, seed: int, dropout: float = DROPOUT) -> TGNLoop:
    """Returns the loop with PyG's own classes."""
    torch.manual_seed(seed)
    message = IdentityMessage(workload.msg_dim, DIM, DIM)
    memory = TGNMemory(workload.num_nodes, workload.msg_dim, DIM, DIM, message, LastAggregator())
    return TGNLoop(workload, memory, LastNeighbors(workload.num_nodes, NUM_NEIGHBORS), dropout)
