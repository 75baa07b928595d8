"""TGN as PyG users train it: PyG's memory, neighbour loader and attention, one batch after the other.

The procedure of PyG's ``examples/tgn.py``. It draws no negatives of its own, so that every variant sees the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Linear, Module
from torch_geometric.data import TemporalData
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader, TGNMemory

from benchmarks.harness.stages import Stage
from benchmarks.harness.workload import Workload
from benchmarks.peers.link_loop import DIM, DROPOUT, HEADS, NUM_NEIGHBORS, LinkLoop, Memory
from pyg_mspipe.data import NegativeSampler


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


@dataclass(frozen=True)
class Batch:
    """A batch of events.

    Attributes:
        events: The events themselves.
        first: The id of the first of them.
        neg_dst: Int64[B], a negative for each.
        n_id: Int64[U], the nodes of events and negatives.
    """

    events: TemporalData
    first: int
    neg_dst: Tensor
    n_id: Tensor


def slices(workload: Workload, events: range, negatives: NegativeSampler, epoch: int, stage: Stage) -> Iterator[Batch]:
    """Yields batches of some events, with negatives."""
    for i, each in enumerate(workload.batches(events)):
        with stage("load"):
            batch = workload.data[each.start : each.stop]
            neg_dst = negatives.draw(len(each), epoch=epoch, batch=i).to(batch.src.device)
            n_id = torch.cat([batch.src, batch.dst, neg_dst]).unique()
        yield Batch(batch, each.start, neg_dst, n_id)


class TGNLoop(LinkLoop[Batch]):
    """The loop around any memory and sampler that look like PyG's."""

    def __init__(self, workload: Workload, memory: Memory, neighbors: Neighbors, dropout: float = DROPOUT) -> None:
        self.neighbors = neighbors
        self.gnn = GraphAttention(workload.msg_dim, memory.time_enc, dropout)
        self.link_pred = LinkPredictor()
        super().__init__(workload, memory, (self.gnn, self.link_pred))
        self.local = torch.empty(workload.num_nodes, dtype=torch.long)

    def to(self, device: torch.device) -> None:
        """Moves the modules to a device, before they are trained; the sampler stays where it is."""
        super().to(device)
        self.local = self.local.to(device)

    def reset(self) -> None:
        """Forgets all neighbours."""
        self.neighbors.reset_state()

    def batches(self, events: range, negatives: NegativeSampler, epoch: int, stage: Stage) -> Iterator[Batch]:
        """Yields slices of the stream."""
        return slices(self.workload, events, negatives, epoch, stage)

    def predict(self, batch: Batch, stage: Stage) -> tuple[Tensor, Tensor]:
        """Returns the logits of a batch's events and of its negatives."""
        data, local = self.workload.data, self.local
        with stage("sample"):
            n_id, edge_index, e_id = self.neighbors.sample(batch.n_id, batch.first)
            local[n_id] = torch.arange(n_id.numel(), device=n_id.device)
        with stage("gather"):
            t, msg = data.t[e_id], data.msg[e_id]
        with stage("memory"):
            z, last_update = self.memory(n_id)
        with stage("embedding"):
            z = self.gnn(z, last_update, edge_index, t, msg)
            z_src, z_dst, z_neg = (z[local[each]] for each in (batch.events.src, batch.events.dst, batch.neg_dst))
            return self.link_pred(z_src, z_dst), self.link_pred(z_src, z_neg)

    def take_in(self, batch: Batch, stage: Stage) -> None:
        """Updates memory and neighbours."""
        events = batch.events
        with stage("update"):
            self.memory.update_state(events.src, events.dst, events.t, events.msg)
        with stage("sample"):
            self.neighbors.insert(events.src, events.dst)


def start(workload: Workload, seed: int, dropout: float = DROPOUT) -> TGNLoop:
    """Returns the loop with PyG's own classes."""
    torch.manual_seed(seed)
    message = IdentityMessage(workload.msg_dim, DIM, DIM)
    memory = TGNMemory(workload.num_nodes, workload.msg_dim, DIM, DIM, message, LastAggregator())
    return TGNLoop(workload, memory, LastNeighbors(workload.num_nodes, NUM_NEIGHBORS), dropout)
