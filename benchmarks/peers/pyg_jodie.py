"""JODIE as one builds it with PyG: a recurrent cell in PyG's ``TGNMemory``, and rows that are projected in time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import LayerNorm, Module, Parameter, RNNCell
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, TGNMemory

from benchmarks.harness.stages import Stage
from benchmarks.harness.workload import Workload
from benchmarks.peers.link_loop import DIM, LinkLoop, Memory
from benchmarks.peers.pyg_loop import Batch, LinkPredictor, slices
from pyg_mspipe.data import NegativeSampler


class Projection(Module):
    """Moves rows on to the moment that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = LayerNorm(DIM)
        self.slope = Parameter(torch.randn(DIM))
        self.shift = Parameter(torch.randn(DIM))

    def forward(self, z: Tensor, last_update: Tensor, t: Tensor) -> Tensor:
        """Returns embeddings: [B, DIM]."""
        moved = (t - last_update).float() / (t + 1).float()
        out: Tensor = self.norm(z) * (1 + moved.unsqueeze(1) * self.slope + self.shift)
        return out


class RowLoop(LinkLoop[Batch]):
    """The loop around a memory whose rows are embedded one by one, without neighbours."""

    def __init__(self, workload: Workload, memory: Memory, embed: Module) -> None:
        self.embed = embed
        self.link_pred = LinkPredictor()
        super().__init__(workload, memory, (embed, self.link_pred))
        self.local = torch.empty(workload.num_nodes, dtype=torch.long)

    def reset(self) -> None:
        """Does nothing: there are no neighbours."""

    def batches(self, events: range, negatives: NegativeSampler, epoch: int, stage: Stage) -> Iterator[Batch]:
        """Yields slices of the stream."""
        return slices(self.workload, events, negatives, epoch, stage)

    def predict(self, batch: Batch, stage: Stage) -> tuple[Tensor, Tensor]:
        """Returns the logits of a batch's events and of its negatives."""
        with stage("sample"):
            self.local[batch.n_id] = torch.arange(batch.n_id.numel())
        with stage("memory"):
            z, last_update = self.memory(batch.n_id)
        with stage("embedding"):
            events = batch.events
            rows = [self.local[each] for each in (events.src, events.dst, batch.neg_dst)]
            z_src, z_dst, z_neg = (self.embed(z[each], last_update[each], events.t) for each in rows)
            return self.link_pred(z_src, z_dst), self.link_pred(z_src, z_neg)

    def take_in(self, batch: Batch, stage: Stage) -> None:
        """Updates the memory."""
        events = batch.events
        with stage("update"):
            self.memory.update_state(events.src, events.dst, events.t, events.msg)


def start(workload: Workload, seed: int) -> RowLoop:
    """Returns the loop with PyG's own classes."""
    torch.manual_seed(seed)
    message = IdentityMessage(workload.msg_dim, DIM, DIM)
    memory = TGNMemory(workload.num_nodes, workload.msg_dim, DIM, DIM, message, LastAggregator())
    memory.gru = RNNCell(message.out_channels, DIM)
    return RowLoop(workload, memory, Projection())
